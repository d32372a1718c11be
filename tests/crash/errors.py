"""A full disk and I/O errors, at each operation on the database's files: once, and until somebody makes room.

The shop is served by `run_forever` while a client tells it facts through a connection of its own. At the n-th write, sync, truncation, opening
or deletion the disk says SQLITE_FULL or SQLITE_IOERR, at the n-th read SQLITE_IOERR. Whoever meets it must be told so in one sentence; the client tells again what was not
acknowledged; the service waits, and goes on when the disk works again, or is started again where it ended. The clock stands still meanwhile:
in the end every invariant holds with the journal, the states and the outbox of a run without errors.
"""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from rules_engine.service.loop import Stop, run_forever
from rules_engine.store import database
from rules_engine.store.port import StoreError
from rules_engine.store.sqlite import SqliteStore
from tests.crash import world
from tests.crash.cuts import WAL_PAGES, Step, memory, script
from tests.crash.disk import Disk
from tests.crash.invariants import Handed, Picture, Truth, broken, look

SAYS = {"full": "the disk is full; nothing of this step was saved", "io": "gives errors", "missing": "can't be opened", "locked": "is locked"}
PATIENCE = 3  # how often somebody meets an error that lasts, until it is healed


def full() -> BaseException:
    error = apsw.FullError("database or disk is full")
    error.extendedresult = 13
    return error


def broken_disk() -> BaseException:
    error = apsw.IOError("disk I/O error")
    error.extendedresult = 10
    return error


class Weak:
    """A disk's fault at the n-th operation, or the n-th read: once, or until it is healed. counts: of reads (True) and of other
    operations."""

    def __init__(self, at: int, error: Callable[[], BaseException], lasting: bool, reads: bool = False) -> None:
        self.at, self._error, self._lasting, self._reads = at, error, lasting, reads
        self.counts, self.healed, self.where = {True: 0, False: 0}, False, ""

    def __call__(self, kind: str, file: str) -> BaseException | None:
        read = kind == "read"
        self.counts[read] += 1
        if self.healed or read is not self._reads or self.counts[read] < self.at:
            return None
        if self._error is full and kind not in ("write", "open"):  # what needs no room
            return None
        self.where = self.where or f"{kind} of {file}"
        self.healed = not self._lasting
        return self._error()


@dataclass
class Outcome:
    """What one run with a fault gave."""

    errors: list[StoreError] = field(default_factory=list)
    handed: list[tuple[str, str]] = field(default_factory=list)
    told: list[Any] = field(default_factory=list)
    starts: int = 0


class Client:
    """The clock of the service and the teller of facts: when the service sleeps, the next step comes. While the disk fails time stands still."""

    def __init__(self, folder: Path, steps: list[Step], weak: Weak | None, outcome: Outcome, stop: Stop) -> None:
        self._folder, self._steps, self._weak, self._outcome, self.stop = folder, steps, weak, outcome, stop
        self._step, self._kept, self._slept = 0, False, 0
        self._store: SqliteStore | None = None

    def now(self) -> int:
        return self._steps[self._step].now

    def sleep(self, milliseconds: int) -> None:
        self._slept += 1
        if self._slept % PATIENCE == 0:
            self.heal()
        if not self._kept:
            self._kept = self._tell()
            if not self._kept:
                return
        elif not (self._failing or self._troubled()):
            if self._step + 1 == len(self._steps):
                self.stop()
                return
            self._step, self._kept = self._step + 1, False
            self._kept = self._tell()

    def heal(self) -> None:
        """Somebody has made room."""
        if self._failing:
            self._weak.healed = True

    @property
    def _failing(self) -> bool:
        return self._weak is not None and self._weak.where != "" and not self._weak.healed

    def _troubled(self) -> bool:
        """Whether the service still waits out an error: it has slept since, and will look again."""
        store = SqliteStore(self._folder / "camp.db", self, readonly=True)
        try:
            due = [at for at in (store.next_wake(), store.next_effect()) if at is not None and at <= self.now()]
            return bool(due or store.read_log(store.position().cursor, 1))
        finally:
            store.close()

    def _tell(self) -> bool:
        facts = self._steps[self._step].facts
        try:
            if self._store is None:
                self._store = SqliteStore(self._folder / "camp.db", self)
            if facts:
                self._store.record_events(world.arrivals(facts))
        except StoreError as error:
            self._outcome.errors.append(error)
            return False
        self._outcome.told += facts
        return True

    def close(self) -> None:
        if self._store is not None:
            self._store.close()


def serve(folder: Path, steps: list[Step], weak: Weak | None) -> tuple[Outcome, Picture | None, list[str]]:
    """One run to the end, through whatever the disk does; what is broken."""
    shutil.rmtree(folder, ignore_errors=True)
    world.write_templates(folder)
    outcome, stop = Outcome(), Stop()
    client = Client(folder, steps, weak, outcome, stop)
    host = world.host(lambda call: outcome.handed.append((call.key, call.action)), remote=True)
    watch = _Watch(outcome)
    logging.getLogger("camp.service").addHandler(watch)
    try:
        with Disk(weak, record=False) as disk:
            disk.excepthook = lambda *_: None
            while not stop.wanted and outcome.starts < 20:
                outcome.starts += 1
                try:
                    store = SqliteStore(folder / "camp.db", client)
                    try:
                        run_forever(store, world.program(), host, client, stop=stop, **{**world.options(folder), "live_block": 3})
                    finally:
                        store.close()
                except StoreError as error:
                    outcome.errors.append(error)
                    if outcome.starts % PATIENCE == 0:
                        client.heal()
            client.close()
    finally:
        logging.getLogger("camp.service").removeHandler(watch)
    return outcome, *_verdict(folder, steps, outcome, stop)


def _verdict(folder: Path, steps: list[Step], outcome: Outcome, stop: Stop) -> tuple[Picture | None, list[str]]:
    said = [] if stop.wanted else [f"the service did not go on: {outcome.errors[-1].message}"]
    said += [f"it is said in other words: {error.kind}: {error.message}" for error in outcome.errors
             if SAYS.get(error.kind, "\0") not in error.message or "\n" in error.message]
    store = SqliteStore(folder / "camp.db")
    keyed = {key for key, action in outcome.handed if action == "email.send"}
    truth = Truth(outcome.told, [Handed(key) for key, _ in outcome.handed], lambda key: key not in keyed, live=True, now=steps[-1].now,
                  deaths=len(outcome.errors))
    said += broken(store, truth)
    picture = look(store)
    store.close()
    return picture, said


class _Watch(logging.Handler):
    """What the service logged as an error that it waits out."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self._outcome = outcome

    def emit(self, record: logging.LogRecord) -> None:
        if "trying again" in record.msg:
            message, help = record.args
            kind = next((kind for kind, words in SAYS.items() if words in message), "other")
            self._outcome.errors.append(StoreError(message, help, kind))


@dataclass
class Report:
    """What was tried."""

    runs: int = 0
    met: Counter = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)


def campaign(every: int = 1, first: int = 1, seed: int = 1, say: Callable[[str], None] = lambda text: None,
             enough: Callable[[], bool] = lambda: False) -> Report:
    """Each `every`-th operation that changes something, with each kind of error, and each `every`-th read, once and lasting."""
    logging.getLogger("camp").setLevel(logging.CRITICAL)
    logging.getLogger("camp.service").setLevel(logging.ERROR)
    logging.getLogger("camp").propagate = False
    root, steps, report = memory(), script(seed), Report()
    usual, database.WAL_PAGES = database.WAL_PAGES, WAL_PAGES
    busy, database.BUSY_SECONDS = database.BUSY_SECONDS, 0.05
    try:
        count = Weak(1 << 60, full, False)
        _, oracle, said = serve(root / "oracle", steps, count)
        assert said == [], said
        tries = [(reads, at) for reads, found in sorted(count.counts.items()) for at in range(first, found + 1, every)]
        for reads, at in tries:
            if enough():
                break
            for error in (broken_disk,) if reads else (full, broken_disk):
                for lasting in (False, True):
                    weak = Weak(at, error, lasting, reads)
                    outcome, picture, said = serve(root / "run", steps, weak)
                    said += invariants_with(picture, oracle)
                    report.runs += 1
                    how = f"{error.__name__}, {'lasting' if lasting else 'once'}"
                    report.met[f"{how}: {weak.where or 'not met'}"] += 1
                    report.lost += [f"{'read' if reads else 'operation'} {at}, {how}, {weak.where}: {text}" for text in said]
            say(f"{'read' if reads else 'operation'} {at} of {count.counts[reads]}, {report.runs} runs, {len(report.lost)} broken")
    finally:
        database.WAL_PAGES, database.BUSY_SECONDS = usual, busy
        shutil.rmtree(root, ignore_errors=True)
    return report


def invariants_with(picture: Picture, oracle: Picture) -> list[str]:
    """The journal, states and effects of a run without errors."""
    from tests.crash.invariants import firings_are_the_oracles

    return list(firings_are_the_oracles(picture, Truth(oracle=oracle)))
