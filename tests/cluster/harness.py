"""Real worker processes on one database, killed, stopped past their lease, told to end, while the server crashes and events come in.

A round: workers run campaigns (Camp's own engine, or the small one of `tests/service/fake.py`, whose events also act on other contacts) while
the parent records events, some of them twice, and does something evil about every second. Then the evil ends, and the workers finish.

Invariants, after each round:
  * each acknowledged event is in the log once, and has acted
  * each contact's journal equals that of one run on SQLite over the same log, told at the same moments
  * the same effects were planned, each once; each is at its end
  * a provider without keys got each effect at most once; what it got is accepted or unknown, and what is accepted it got; one with keys
    has nothing unknown
  * nothing is unknown but what a worker that was killed, stopped or lost its server had in its hands
  * workers that are told to end do, with exit code 0; the store's own check finds nothing
"""

from __future__ import annotations

import gc
import hashlib
import itertools
import logging
import os
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rules_engine import host as hosts
from rules_engine.actions import Action, Call, Outcome, Parameter
from rules_engine.clock import VirtualClock
from rules_engine.facts import Event
from rules_engine.host import Host
from rules_engine.service import leased
from rules_engine.service.lanes import LANES
from rules_engine.service.loop import run_forever
from rules_engine.service.pump import Pump
from rules_engine.store import postgres_database
from rules_engine.store.port import SOURCE_ENGINE, Arrival, StoreError
from rules_engine.store.postgres import PostgresStore
from rules_engine.store.sqlite import SqliteStore
from tests.pgserver import Server
from tests.service import fake

LEASE = 1_500  # ms; a stop lasts longer
WORKERS = 3
HANDS = LANES  # calls of one worker at the same time
CONTACTS = 40
PATIENCE = 60  # s for the workers to finish when the evil has ended

CAMPAIGNS = """
EVENT shop.order WITH order_id: text, total: number
EVENT shop.visit

RULE big "Large orders count"
  WHEN shop.order WHERE event.total > 50
    THEN points.add 10
END

CAMPAIGN thanks "Thanks"
  FOR EACH event.order_id
  WHEN shop.order
    THEN note.write "thanks"
    AFTER 2 seconds
    IF contact.points >= 20
      THEN note.write "you are one of the best"
    END
END

CAMPAIGN missed "Come back"
  REENTRY ALWAYS
  WHEN shop.visit
    WAIT UNTIL shop.order UP TO 1 second
    OTHERWISE
      THEN note.write "come back"
    END
END
"""


def chance(*what: object) -> float:
    """A number in [0, 1) that depends on `what` only."""
    return int.from_bytes(hashlib.blake2b(repr(what).encode(), digest_size=6).digest(), "big") / 2**48


def append(path: Path, text: str) -> None:
    """One write: a killed process leaves the whole line or none."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, text.encode() + b"\n")
    os.close(descriptor)


def key_file(folder: Path, key: str) -> Path:
    """What a provider with keys keeps of each."""
    return folder / "keys" / hashlib.sha256(key.encode()).hexdigest()


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


# ---------------------------------------------------------------- what runs


class Provider:
    """The other end of the action. Without keys it notes what it gets; with keys a second time does nothing. Both take a moment."""

    def __init__(self, folder: Path, keyed: bool) -> None:
        self._folder, self.keyed = folder, keyed

    def perform(self, call: Call) -> Outcome:
        if self.keyed:
            try:
                os.close(os.open(key_file(self._folder, call.key), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            except FileExistsError:
                return Outcome("accepted", "known")
        else:
            append(self._folder / "provider", call.key)
        time.sleep(0.004)
        return Outcome("accepted")

    def action(self, name: str, **more: Any) -> Action:
        """The action that ends here."""
        idempotency = "key" if self.keyed else "none"
        return Action(name, "Hand over.", perform=self.perform, idempotency=idempotency, window=86_400.0, timeout=0.5, **more)


class Campaigns:
    """Camp's own engine with CAMPAIGNS."""

    name = "campaigns"

    def __init__(self) -> None:
        self._loaded = hosts.load()

    def host(self, folder: Path, keyed: bool) -> Host:
        action = Provider(folder, keyed).action("note.write", primary=Parameter("text", "text", required=True))
        loaded = self._loaded
        return Host({**loaded.actions, "note.write": action}, loaded.events, {**loaded.providers, "note.write": "note"})

    def program(self, host: Host) -> Any:
        from rules_engine.model import meaning
        from rules_engine.plan import compile_model
        from rules_engine.syntax.read import read

        file, problems = read(CAMPAIGNS, "cluster.camp")
        assert not problems, problems
        return compile_model(meaning.build([file], host.actions, host.events), host.actions, "cluster")

    def event(self, n: int, seed: int, at: int) -> Event:
        contact = f"c{int(chance(seed, 'contact', n) * CONTACTS):03}"
        if chance(seed, "name", n) < 0.4:
            return Event(f"e{n}", "shop.visit", contact, at)
        return Event(f"e{n}", "shop.order", contact, at, None, {"order_id": f"o{n}", "total": int(chance(seed, "total", n) * 100)})

    options: dict[str, Any] = {}


class Small:
    """The small engine: timers, effects, and events for other contacts."""

    name = "small engine"
    options = {"engine": fake.ENGINE, "attributes": fake.attributes}

    def host(self, folder: Path, keyed: bool) -> Host:
        action = Provider(folder, keyed).action("fake.send", channel="email", message_class="marketing")
        return Host({"fake.send": action}, {}, {"fake.send": "fake"})

    def program(self, host: Host) -> Any:
        return fake.Program(idle=365 * fake.DAY)

    def event(self, n: int, seed: int, at: int) -> Event:
        names = ("tick", "later", "send", "send", "echo", "refer")
        who = int(chance(seed, "contact", n) * CONTACTS)
        to = (who + 1 + int(chance(seed, "to", n) * (CONTACTS - 1))) % CONTACTS
        data = {"total": n % 7, "ms": 500 + n % 5 * 400, "to": f"c{to:03}"}
        return Event(f"e{n}", names[int(chance(seed, "name", n) * len(names))], f"c{who:03}", at, None, data)


def worker(url: str, folder: Path, kind: Any, keyed: bool) -> None:
    """The life of one worker: `camp run`, with times shorter than an operator's."""
    leased.MARGIN, postgres_database.IDLE_MS, postgres_database.LOCK_MS = 200, 1_000, 3_000
    logging.getLogger("camp").setLevel(logging.INFO)
    logging.basicConfig(filename=folder / "workers.log", level=logging.INFO, format="%(asctime)s %(process)d %(message)s", force=True)
    while True:
        try:
            store = PostgresStore(url)
            break
        except StoreError as error:
            if not error.passing:
                raise
            time.sleep(0.1)  # as systemd would start it again
    store.lease_ms = LEASE
    host = kind.host(folder, keyed)
    run_forever(store, kind.program(host), host, store.clock, **kind.options)
    store.close()


def fork(work: Callable[[], None]) -> int:
    """A process of its own; exit code 0 if the work was done."""
    gc.collect()
    sys.stdout.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    child = os.fork()
    if child:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        return child
    code = 1
    try:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # told to end before it has begun
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


# ---------------------------------------------------------------- a round


@dataclass
class Tally:
    """What was done so far."""

    rounds: int = 0
    events: int = 0
    effects: int = 0
    unknown: int = 0
    evil: Counter = field(default_factory=Counter)


class Round:
    """One round, from an empty database to its end."""

    def __init__(self, server: Server, folder: Path, kind: Any, keyed: bool, seed: int, seconds: float) -> None:
        self.server, self.folder, self.kind, self.keyed, self.seed, self.seconds = server, folder, kind, keyed, seed, seconds
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "keys").mkdir(parents=True)
        self.url = server.database("cluster")
        self.evil: Counter = Counter()
        self.workers: list[int] = []
        self.stopped: dict[int, float] = {}  # worker -> when it goes on
        self.acknowledged: list[str] = []
        self._n = 0

    def start(self) -> None:
        self.workers.append(fork(lambda: worker(self.url, self.folder, self.kind, self.keyed)))

    def run(self) -> None:
        """Events and evil, then the end."""
        store = PostgresStore(self.url)
        for _ in range(WORKERS):
            self.start()
        end, number = time.monotonic() + self.seconds, 0
        next_evil = time.monotonic() + 1.0
        while time.monotonic() < end:
            self._record(store)
            self._wake_stopped()
            if time.monotonic() >= next_evil:
                number += 1
                self._do_evil(number)
                next_evil = time.monotonic() + 0.3 + chance(self.seed, "pause", number) * 1.2
            time.sleep(0.01)
        while self.stopped:
            self._wake_stopped()
            time.sleep(0.02)
        self._finish(store)
        store.close()

    def _record(self, store: PostgresStore) -> None:
        """Some events; now and then some that were told before."""
        size = 1 + int(chance(self.seed, "size", self._n) * 12)
        now = store.clock.now()
        fresh = [self.kind.event(n, self.seed, now) for n in range(self._n, self._n + size)]
        store.record_events([Arrival(event) for event in fresh])
        self._n += size
        self.acknowledged += [event.id for event in fresh]
        if chance(self.seed, "again", self._n) < 0.2:
            done = store.record_events([Arrival(event) for event in fresh])
            assert done.accepted == 0 and not done.conflicts, "a repeat was taken for new"

    def _do_evil(self, number: int) -> None:
        what = ("kill", "stop", "kill", "end", "restart", "stop", "kill")[int(chance(self.seed, "what", number) * 7)]
        awake = [child for child in self.workers if child not in self.stopped]
        if what == "restart":
            self.server.restart()
        elif awake:
            child = awake[int(chance(self.seed, "whom", number) * len(awake))]
            if what == "stop":
                os.kill(child, signal.SIGSTOP)
                self.stopped[child] = time.monotonic() + LEASE / 1000 * (0.5 + chance(self.seed, "long", number) * 2)
            elif what == "kill":
                os.kill(child, signal.SIGKILL)
                self._gone(child)
            else:
                os.kill(child, signal.SIGTERM)
                assert self._gone(child) == 0, "a worker that was told to end did so with an error"
        self.evil[what] += 1

    def _gone(self, child: int) -> int:
        """Waits for the end of a worker, and starts another."""
        end = time.monotonic() + 40
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            assert time.monotonic() < end, "a worker does not end"
            self._wake_stopped()
            time.sleep(0.01)
        self.workers.remove(child)
        self.start()
        return os.waitstatus_to_exitcode(status)

    def _wake_stopped(self) -> None:
        for child, when in list(self.stopped.items()):
            if time.monotonic() >= when:
                os.kill(child, signal.SIGCONT)
                del self.stopped[child]

    def _finish(self, store: PostgresStore) -> None:
        """Until everything is done; then the workers are told to end."""
        end = time.monotonic() + PATIENCE
        while not self._done(store):
            for child in self.workers:
                assert os.waitpid(child, os.WNOHANG) == (0, 0), "a worker ended by itself"
            assert time.monotonic() < end, f"the workers do not finish: {store.counts()} {store.workers()}"
            time.sleep(0.1)
        for child in self.workers:
            os.kill(child, signal.SIGTERM)
        for child in self.workers:
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 0, "a worker that was told to end did so with an error"
        self.workers = []
        assert store.workers() == [], "a worker that was told to end kept its lease"

    def _done(self, store: PostgresStore) -> bool:
        counts, soon = store.counts(), store.next_wake()
        idle = soon is None or soon > store.clock.now() + 60_000
        return idle and not counts.events["new"] and not any(counts.effects.get(state) for state in ("ready", "claimed", "retry_wait"))

    def kill_all(self) -> None:
        """After a failure."""
        for child in self.workers:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    # ------------------------------------------------------------ the judgement

    def judge(self, tally: Tally) -> None:
        """Raises AssertionError if an invariant does not hold."""
        store = PostgresStore(self.url)
        assert store.check() == []
        ids = store.contact_ids(limit=10_000)
        log = {row.cause.id: row.status for id in ids for row in store.events_of(id, 1_000_000)}
        assert all(log.get(id) == "done" for id in self.acknowledged), "an acknowledged event is lost, or has not acted"
        assert len(self.acknowledged) == len(set(self.acknowledged)) == sum(1 for id in log if id[1:].isdigit())
        journals = {id: [row.decision for row in store.journal_of(id, 1_000_000)] for id in ids}
        effects = {effect.id: effect for effect in store.effects(limit=1_000_000)}
        expected, planned = self._on_sqlite(store)
        for id in expected:
            assert journals.get(id) == expected[id], f"the journal of {id} differs:\n{_difference(journals.get(id), expected[id])}"
        assert set(journals) == set(expected) and set(effects) == planned, "contacts or effects differ"
        self._judge_provider(effects, tally)
        store.close()
        tally.rounds += 1
        tally.events += len(self.acknowledged)
        tally.effects += len(effects)
        tally.evil.update(self.evil)

    def _judge_provider(self, effects: dict, tally: Tally) -> None:
        got = Counter(lines(self.folder / "provider") if not self.keyed else [id for id in effects if key_file(self.folder, id).exists()])
        unknown = {id for id, effect in effects.items() if effect.state == "unknown"}
        accepted = {id for id, effect in effects.items() if effect.state == "accepted"}
        assert not got or max(got.values()) == 1, f"handed over twice: {[key for key, times in got.items() if times > 1]}"
        assert accepted | unknown == set(effects), [row for row in effects.values() if row.state not in ("accepted", "unknown")][:3]
        assert accepted <= set(got) <= accepted | unknown, f"the provider has not got {accepted - set(got)}, or {set(got) - accepted - unknown} too much"
        hurt = self.evil["kill"] + self.evil["stop"] + WORKERS * self.evil["restart"]
        assert len(unknown) <= (0 if self.keyed else HANDS * hurt), f"{len(unknown)} unknown after {self.evil}"
        tally.unknown += len(unknown)

    def _on_sqlite(self, store: PostgresStore) -> tuple[dict, set]:
        """What one process makes of the same log: (journals, effects). What the engine emits for the contact itself it emits again; what
        it emitted for others is told when it was told then."""
        rows = [row for id in store.contact_ids(limit=10_000) for row in store.events_of(id, 1_000_000)]
        clock = VirtualClock(0)
        single = SqliteStore(self.folder / "single.db", clock)
        told = sorted((row for row in rows if row.source != SOURCE_ENGINE or row.cause.id.endswith("/refer")), key=lambda row: row.seq)
        assert all(one.received <= other.received for one, other in itertools.pairwise(told)), "the time of arrival fell"
        for received, batch in itertools.groupby(told, key=lambda row: row.received):
            clock.move_to(received)
            single.record_events([Arrival(row.cause, row.source) for row in batch])
        clock.move_to(clock.now() + 600_000)
        host = self.kind.host(self.folder, False)
        pump = Pump(single, self.kind.program(host), self.kind.options.get("engine"))
        while pump.live(clock) is not None:
            pass
        journals = {id: [row.decision for row in single.journal_of(id, 1_000_000)] for id in single.contact_ids(limit=10_000)}
        planned = {effect.id for effect in single.effects(limit=1_000_000)}
        single.close()
        return journals, planned


def _difference(found: list | None, wanted: list) -> str:
    for index, (one, other) in enumerate(zip(found or [], wanted, strict=False)):
        if one != other:
            return f"at {index}:\n  {one}\n  {other}"
    return f"{len(found or [])} decisions, and {len(wanted)} wanted"


def kinds() -> Iterator[tuple[Any, bool]]:
    """What rounds take in turn."""
    campaigns, small = Campaigns(), Small()
    while True:
        yield campaigns, False
        yield small, True
        yield small, False
        yield campaigns, True


def campaign(root: Path, server: Server, seconds: float, seed: int, length: float, say: Callable[[str], None] = lambda text: None) -> Tally:
    """Rounds of about `length` seconds of evil until `seconds` have passed. A failure names its seed and keeps its folder."""
    logging.getLogger("camp").setLevel(logging.CRITICAL)
    postgres_database.PATIENCE = 30_000
    tally, end, turn = Tally(), time.monotonic() + seconds, kinds()
    while tally.rounds == 0 or time.monotonic() < end:
        kind, keyed = next(turn)
        round_ = Round(server, root / "round", kind, keyed, seed, length)
        try:
            round_.run()
            round_.judge(tally)
        except BaseException as error:
            round_.kill_all()
            if isinstance(error, AssertionError):
                raise AssertionError(f"seed {seed}, {kind.name}{', keys' if keyed else ''}, {round_.folder}: {error}") from error
            raise
        seed += 1
        say(f"{tally.rounds} rounds, {tally.events} events, {tally.unknown} unknown, {dict(tally.evil)}")
    return tally
