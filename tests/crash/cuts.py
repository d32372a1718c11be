"""Power cuts: what a disk may hold when the current goes, at each moment of a run, and whether the real store goes on from it.

A run of the shop is recorded once on a `Disk`: every write, truncation, sync, creation and deletion of the database's files, and between them
marks: a fact was acknowledged, a message was handed to a provider. For each cut point and many seeds an image is made of it: what was synced
is there; of everything since, each sector of 512 bytes is there or not, or is rubbish, in any order; a file whose folder was not synced may
be missing, and a deleted one back. The real store opens the image in a fresh folder. Then

  * the store's own check finds nothing; each acknowledged fact is there
  * nothing that was handed over to a provider without keys is ready to be handed over (again): its claim was durable before
  * the clients tell again what was not acknowledged, the service goes on to the end, and every invariant holds with the journal, the
    states and the outbox of a run without a cut

Images that hold the same rows at the same moment go on in the same way: that part is done once for each.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rules_engine.clock import VirtualClock
from rules_engine.facts import ContactChange, Event
from rules_engine.service.loop import run_once
from rules_engine.store import database
from rules_engine.store.port import StoreError
from rules_engine.store.sqlite import SqliteStore
from tests.crash import world
from tests.crash.disk import Disk, Op
from tests.crash.invariants import Handed, Picture, Truth, broken, look
from tests.crash.world import DAY, START, chance

SECTOR = 512
WAL_PAGES = 40  # instead of 4,000: the log is folded into the file many times in a short run
NORMAL = {"PRAGMA synchronous = FULL": "PRAGMA synchronous = NORMAL"}
FACTS, CONTACTS = 36, 4

# ---------------------------------------------------------------- the run


class Step(NamedTuple):
    """What happens at one moment: these facts arrive, then the service does all that is to be done."""

    now: int
    facts: list[Event | ContactChange]


def script(seed: int = 1) -> list[Step]:
    """Facts in small batches as they happen, then some weeks without any."""
    told = world.facts(FACTS, CONTACTS, seed)
    changes, events = told[:CONTACTS], sorted(told[CONTACTS:], key=lambda fact: fact.at)
    steps = [Step(START, changes)]
    steps += [Step(events[n : n + 4][-1].at, events[n : n + 4]) for n in range(0, len(events), 4)]
    return steps + [Step(steps[-1].now + days * DAY, []) for days in (1, 3, 7, 20)]


def play(folder: Path, steps: list[Step], begin: int, tell: Callable[[str, Any], None], remote: bool = True) -> SqliteStore:
    """The steps from `begin` on; the store, still open. tell(what, of whom): step, acknowledged, handed. remote: see `world.host`."""
    store = None
    for number, step in enumerate(steps[begin:], begin):
        tell("step", number)
        clock = VirtualClock(step.now)
        if store is None or number % 3 == 0:  # as commands and restarts do: open, work, close
            if store is not None:
                store.close()
            store = SqliteStore(folder / "camp.db", clock)
        store._clock = clock
        if step.facts:
            store.record_events(world.arrivals(step.facts))
            tell("acknowledged", step.facts)
        host = world.host(lambda call: tell("handed", (call.key, call.action)), remote)
        run_once(store, world.program(), host, clock, **{**world.options(folder), "live_block": 3})
        if number % 4 == 1:
            store.maintain()
    assert store is not None
    return store


@dataclass
class Recording:
    """A run on a recording disk, and what it left."""

    steps: list[Step]
    log: list[Op]
    oracle: Picture


def record(folder: Path, instead: dict[str, str] | None = None, seed: int = 1) -> Recording:
    """Plays the script once, whole."""
    folder.mkdir(parents=True, exist_ok=True)
    steps = script(seed)
    usual, database.WAL_PAGES = database.WAL_PAGES, WAL_PAGES
    try:
        with Disk(instead=instead) as disk:
            store = play(folder, steps, 0, lambda what, whom: disk.mark((what, whom)))
            oracle = look(store)
            store.close()
    finally:
        database.WAL_PAGES = usual
    return Recording(steps, disk.log, oracle)


# ---------------------------------------------------------------- what may be on the disk


class _Surface:
    """The files of the folder up to some operation: what is surely there, and what happened since."""

    def __init__(self) -> None:
        self.files: dict[str, bytearray] = {}  # synced content
        self.since: dict[str, list[Op]] = {}  # writes and truncations of each file since its sync
        self.made: set[str] = set()  # created, and the folder not yet synced
        self.gone: dict[str, tuple[bytearray, list[Op]]] = {}  # deleted, and the folder not yet synced
        self.fresh: set[str] = set()  # journals whose next sync syncs the folder too (SQLite's unix VFS)

    def apply(self, op: Op) -> None:
        if op.kind == "open":
            if op.at:
                self.files[op.file], self.since[op.file] = bytearray(), []
                self.made.add(op.file)
            if op.file.endswith(("-wal", "-journal")):
                self.fresh.add(op.file)
        elif op.kind in ("write", "truncate"):
            self.since[op.file].append(op)
        elif op.kind == "sync":
            self.files[op.file] = _replay(self.files[op.file], self.since[op.file], lambda op, sector: True)
            self.since[op.file] = []
            if op.file in self.fresh:
                self.fresh.discard(op.file)
                self.made, self.gone = set(), {}
        elif op.kind == "delete" and op.file in self.files:
            self.gone[op.file] = self.files.pop(op.file), self.since.pop(op.file)
            if op.at:
                self.made, self.gone = set(), {}

    @property
    def settled(self) -> bool:
        """Whether a cut can leave one thing only."""
        return not (any(self.since.values()) or self.made or self.gone)

    def image(self, seed: int) -> dict[str, bytes]:
        """One thing that a cut can leave. Seed 0: only what was synced; 1: everything; 2: all up to a moment within a write; then by
        chance."""
        present = {name: (data, self.since[name]) for name, data in self.files.items()
                   if name not in self.made or _keeps(seed, "entry", name)}
        for name, (data, since) in self.gone.items():
            if name not in self.files and not _keeps(seed, "gone", name):
                present[name] = data, since
        return {name: bytes(_replay(data, since, _keeper(seed, name, since), _rubbish(seed, name))) for name, (data, since) in present.items()}


def _keeps(seed: int, *what: object) -> bool:
    return seed == 1 or seed > 1 and chance(seed, *what) < 0.5


def _keeper(seed: int, name: str, since: list[Op]) -> Callable[[Op, int], bool]:
    """(operation, sector) -> whether it reached the disk."""
    if seed < 2:
        return lambda op, sector: seed == 1
    if seed % 3 == 2:
        last = int(chance(seed, "until", name) * (len(since) + 1))
        until = {id(op): number for number, op in enumerate(since)}
        return lambda op, sector: until[id(op)] < last or until[id(op)] == last and sector < 8 * chance(seed, "torn", name)
    share = chance(seed, "share", name)
    order = {id(op): number for number, op in enumerate(since)}
    return lambda op, sector: chance(seed, name, order[id(op)], sector) < share


def _rubbish(seed: int, name: str) -> bool:
    """Whether sectors that were being written hold rubbish instead of their old content."""
    return seed > 2 and seed % 5 == 4


def _replay(data: bytes, since: list[Op], keep: Callable[[Op, int], bool], rubbish: bool = False) -> bytearray:
    found = bytearray(data)
    for op in since:
        if op.kind == "truncate":
            if keep(op, 0):
                del found[op.at :]
                found.extend(bytes(op.at - len(found)))
            continue
        for sector, begin in enumerate(_sectors(op.at, len(op.data))):
            end = min(op.at + len(op.data), begin - begin % SECTOR + SECTOR)
            if keep(op, sector):
                piece = op.data[begin - op.at : end - op.at]
            elif rubbish and len(found) < end:  # a file that grew, and the blocks not yet written
                piece = b"\xa5" * (end - begin)
            else:
                continue
            if len(found) < end:
                found.extend(bytes(end - len(found)))
            found[begin:end] = piece
    return found


def _sectors(at: int, size: int) -> Iterator[int]:
    yield at
    yield from range(at - at % SECTOR + SECTOR, at + size, SECTOR)


# ---------------------------------------------------------------- the judge


@dataclass
class Report:
    """What was tried. `lost`: what was found broken, each with its cut point and seed."""

    cuts: int = 0
    images: int = 0
    continued: int = 0
    points: int = 0
    lost: list[str] = field(default_factory=list)


class Judge:
    """Follows a run mark by mark, and says of an image of its files whether all is well with it. Also for `statements`."""

    def __init__(self, steps: list[Step], oracle: Picture, folder: Path, remote: bool = True) -> None:
        self._steps, self._oracle, self._folder, self._remote = steps, oracle, folder, remote
        self._seen: set[bytes] = set()
        self._went_on: set[bytes] = set()
        self.report = Report()
        self._step = 0
        self._acknowledged: list[Event | ContactChange] = []
        self._handed: list[tuple[str, str]] = []

    def remember(self, what: str, whom: Any) -> None:
        """A mark."""
        if what == "step":
            self._step = whom
        elif what == "acknowledged":
            self._acknowledged += whom
        elif what == "handed":
            self._handed.append(whom)

    def judge(self, label: str, image: dict[str, bytes]) -> None:
        """Opens an image (name -> content) in a fresh folder, looks, goes on from it to the end."""
        self.report.cuts += 1
        key = self._key(*(part for name in sorted(image) for part in (name.encode(), image[name])))
        if key in self._seen:
            return
        self._seen.add(key)
        self.report.images += 1
        shutil.rmtree(self._folder, ignore_errors=True)
        world.write_templates(self._folder)
        for name, data in image.items():
            (self._folder / name).parent.mkdir(exist_ok=True)
            (self._folder / name).write_bytes(data)
        self.report.lost += [f"{label}: {problem}" for problem in self._problems([image[name] for name in sorted(image) if "/" in name])]

    def _key(self, *parts: bytes) -> bytes:
        """Names content together with what was known at the moment."""
        digest = hashlib.blake2b(repr((self._step, len(self._acknowledged), len(self._handed))).encode(), digest_size=16)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.digest()

    def _problems(self, others: list[bytes]) -> list[str]:
        try:
            store = SqliteStore(self._folder / "camp.db", VirtualClock(START))
        except StoreError as error:
            return [f"the database can't be opened: {error.message}"]
        try:
            if said := store.check():
                return said
            # A database that was new has a name and a secret of its own, by chance.
            rows = [repr([row for row in store._db.rows(f"SELECT * FROM {table}") if row[0] not in ("instance", "secret")]).encode()
                    for (table,) in store._db.rows("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_stat%' ORDER BY name")]
            if (key := self._key(*rows, *others)) in self._went_on:
                return []
            said = self._at_once(store)
        finally:
            store.close()
        if not said:
            self._went_on.add(key)
            self.report.continued += 1
            said = self._go_on()
        return said

    def _at_once(self, store: SqliteStore) -> list[str]:
        """What the image itself must show."""
        kept = set(store._db.rows("SELECT contact, event_id FROM event"))
        said = [f"{fact.id} of {fact.contact} was acknowledged and is gone" for fact in self._acknowledged if (fact.contact, fact.id) not in kept]
        states = dict(store._db.rows("SELECT id, state FROM effect"))
        said += [f"{key} was handed over and is {states.get(key, 'not known')}" for key, action in self._handed
                 if action != "email.send" and states.get(key) not in ("claimed", "accepted", "unknown")]
        return said

    def _go_on(self) -> list[str]:
        handed, steps = list(self._handed), self._steps
        store = play(self._folder, steps, self._step, lambda what, whom: handed.append(whom) if what == "handed" else None, self._remote)
        keyed = {key for key, action in handed if action == "email.send"}
        took = [Handed(key) for key, _ in handed]
        if not self._remote:
            took += world.in_folder(self._folder, store._db.rows("SELECT id, contact FROM effect"))
        truth = Truth([fact for step in steps for fact in step.facts], took, lambda key: key not in keyed, self._oracle, live=True,
                      now=steps[-1].now, deaths=1)
        said = broken(store, truth)
        store.close()
        return said


# ---------------------------------------------------------------- cuts


def cut(recording: Recording, folder: Path, seeds: int, every: int = 1, limit: int | None = None, enough: Callable[[], bool] = lambda: False) -> Report:
    """`seeds` cuts after each `every`-th operation, up to a limit or until it is enough."""
    judge, surface = Judge(recording.steps, recording.oracle, folder), _Surface()
    report = judge.report
    for number, op in enumerate(recording.log):
        if op.kind == "mark":
            judge.remember(*op.data)
        else:
            surface.apply(op)
        if number % every:
            continue
        report.points += 1
        for seed in range(1 if surface.settled else seeds):
            if limit is not None and report.cuts >= limit or enough():
                return report
            seed += 1_000 * number if seed > 1 else 0
            judge.judge(f"cut {number}, seed {seed}", surface.image(seed))
    return report


def memory() -> Path:
    """A folder for images; where nothing has to be written to a disk, if there is such a place."""
    shm = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="camp-cuts-", dir=shm if shm.is_dir() else None))


def campaign(seeds: int, every: int = 1, limit: int | None = None, instead: dict[str, str] | None = None, seed: int = 1,
             enough: Callable[[], bool] = lambda: False) -> Report:
    """Records a run, cuts it."""
    logging.getLogger("camp").setLevel(logging.CRITICAL)
    root = memory()
    try:
        return cut(record(root / "run", instead, seed), root / "image", seeds, every, limit, enough)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def until(count: int, say: Callable[[str], None], instead: dict[str, str] | None = None, every: int = 1,
          enough: Callable[[], bool] = lambda: False) -> Report:
    """Recordings of other histories until there were so many cuts, or it is enough."""
    total, history = Report(), 0
    begun = time.monotonic()
    while total.cuts < count and not enough():
        history += 1
        part = campaign(15, every, count - total.cuts, instead, seed=history, enough=enough)
        total.cuts, total.images, total.continued = total.cuts + part.cuts, total.images + part.images, total.continued + part.continued
        total.points += part.points
        total.lost += [f"history {history}, {text}" for text in part.lost]
        say(f"{total.cuts} cuts, {total.images} different images, {total.continued} ways to go on, {len(total.lost)} broken, "
            f"{total.cuts / (time.monotonic() - begun):.0f} a second")
    return total
