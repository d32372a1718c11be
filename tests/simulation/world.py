"""One run: a year of inputs into the real service, with the faults of its kind, and everything that was seen on the way.

Kinds. `faultless`: nothing goes wrong. `same`: everything goes wrong that must not change a decision: crashes, redeliveries, a service that
is down for up to 20 hours, providers that fail, hang, lie or are accepted-then-killed, a locked file, operators. `wild`: also what may
change decisions: outcomes that come back as news, people who react to what reached them, clocks that jump, a service that is down for days.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import Counter
from pathlib import Path
from typing import Any

import orjson

from rules_engine.actions import Call
from rules_engine.clock import VirtualClock
from rules_engine.facts import ContactChange, Event
from rules_engine.service.dispatch import LONGEST_RETRY_AFTER
from rules_engine.service.ingest import import_events, readers
from rules_engine.service.loop import Service
from rules_engine.store.memory import MemoryStore
from rules_engine.store.port import SOURCE_EVENTS, Arrival, StoreError
from rules_engine.store.sqlite import SqliteStore
from tests.simulation import people
from tests.simulation.campaigns import DAY, HOUR, LONGEST, program
from tests.simulation.outside import Crash, Faults, FragileMemory, Provider, Runner, Wire

assert LONGEST_RETRY_AFTER < LONGEST
MINUTE = 60_000
LATEST = 21 * DAY  # behind the end of the year: the last redelivery
BEATS = 5_000  # of one visit; more and it never comes to rest
MARKETING = {"email.send": "email", "sms.send": "sms"}


class World:
    """One seed. `folder`: where SQLite's file is made; None: the store in memory."""

    def __init__(self, seed: int, days: int, persons: int, kind: str, folder: Path | None = None) -> None:
        self.seed, self.days, self.kind, self.folder = seed, days, kind, folder
        self.tally: Counter = Counter()
        self.faults = Faults(self.tally)
        self.clock = VirtualClock(people.START)
        self.provider = Provider(seed, self.clock, self.faults, self.tally, kind)
        self.provider.watch, self.provider.patience = self._watch, self._patience
        self.chance = random.Random(f"faults {seed}")
        self.kept = FragileMemory(MemoryStore(self.clock), self.faults) if folder is None else None
        self.store: Any = None
        self.service: Service | None = None
        self.version = 0
        self.agenda: list[tuple[int, int, str, Any]] = []
        self.number = 0
        self.acknowledged: dict[tuple[str, str], Arrival] = {}
        self.consent: dict[tuple[str, str], bool] = {}
        self.bounced: set[str] = set()
        self.again: Counter[str] = Counter()  # hand-overs that a person asked for once more
        self.early: list[str] = []
        self.offences: list[str] = []
        self.down_until = 0
        self.paused: Counter[str] = Counter()
        self.start = people.START
        self.end = people.START + days * DAY
        for item in people.inputs(seed, days, persons):
            self.plan(item.at, "tell", item.arrivals)
        self.plan(people.START + days * DAY // 2, "release", 1)
        if kind != "faultless":
            self._plan_faults()

    # ------------------------------------------------------------ the plan

    def plan(self, at: int, what: str, item: Any = None) -> None:
        """Something for the agenda."""
        self.number += 1
        heapq.heappush(self.agenda, (at, self.number, what, item))

    def _plan_faults(self) -> None:
        for _ in range(max(1, self.days // 9)):
            self.plan(self._some_time(), "down", self.chance.randrange(20 * HOUR))
        for _ in range(max(1, self.days // 20)):
            self.plan(self._some_time(), "operator")
        for _ in range(max(1, self.days // 90)):
            self.plan(self._some_time(), "import")
            begins = self._some_time()
            name = self.chance.choice(("*", "cart", "welcome", "renewal"))
            self.plan(begins, "pause", name)
            self.plan(begins + self.chance.randrange(2 * DAY), "resume", name)
        if self.kind == "wild":
            for _ in range(max(1, self.days // 60)):
                self.plan(self._some_time(), "clock", self.chance.choice((-3 * HOUR, -5 * MINUTE, 2 * MINUTE, 6 * HOUR)))
            for _ in range(max(1, self.days // 120)):
                self.plan(self._some_time(), "down", self.chance.randrange(5 * DAY))

    def _some_time(self) -> int:
        return self.start + self.chance.randrange(self.end - self.start)

    # ------------------------------------------------------------ a year

    def run(self) -> World:
        """All of it, and then without faults until everything has ended."""
        self._open()
        self.work()
        while self.agenda:
            at = self.agenda[0][0]
            due = self._next_due()
            if due is not None and due < at:
                self.clock.move_to(due)
                self.work()
                continue
            at, _, what, item = heapq.heappop(self.agenda)
            self.clock.move_to(at)
            getattr(self, "do_" + what)(item)
            self.work()
        self._finish()
        return self

    def _next_due(self) -> int | None:
        if self.clock.now() < self.down_until:
            return self.down_until
        found = [at for at in (self.store.next_wake(), self.store.next_effect()) if at is not None]
        return max(min(found), self.clock.now() + 1) if found else None

    def _finish(self) -> None:
        """With faults off, everything ends: retries first, then journeys."""
        self.faults.off()
        self.provider.quiet, self.quiet = True, True
        for name in list(self.paused):
            self.do_resume(name)
        self.down_until = 0
        until = self.end + LATEST + LONGEST
        while (due := self._next_due()) is not None and due <= until:
            self.clock.move_to(due)
            self.work()
        self.clock.move_to(until)
        self.work()

    quiet = False

    def work(self) -> None:
        """All that can be done now; what goes wrong on the way is part of it."""
        if self.clock.now() < self.down_until:
            return
        for _ in range(BEATS):
            try:
                if self.service is None:
                    self._start()
                self._arm()
                assert self.service is not None
                if not self.service.beat():
                    self.faults.off()
                    return
            except Crash:
                self._abandon()
            except StoreError as error:  # what the loop around the service does
                if not error.passing:
                    raise
        raise AssertionError(f"{BEATS} beats at one moment, and no rest")

    def _arm(self) -> None:
        if self.kind == "faultless" or self.quiet or self.faults.left or self.faults.dying:
            return
        roll = self.chance.random()
        if roll < 0.03:
            self.faults.arm("crash", self.chance.randrange(1, 12))
        elif roll < 0.05 and self.folder is not None:
            self.faults.arm("statement", self.chance.randrange(1, 60))
        elif roll < 0.06:
            self.faults.arm("locked", 1)

    # ------------------------------------------------------------ processes

    def _open(self) -> None:
        if self.kept is not None:
            self.store = self.kept
            return
        assert self.folder is not None
        self.store = SqliteStore(self.folder / "camp.db", self.clock, faults=self.faults)
        self.store._db.raw.execute("PRAGMA synchronous = OFF")  # no power is cut here: tests/crash does that
        self.store._db.raw = Wire(self.store._db.raw, self.faults)

    def _abandon(self) -> None:
        """The process is gone: nothing of it is used again but what the store holds."""
        self.service = None
        self.faults.off()
        self.provider.doubtful.update(effect.id for effect in self.store.effects("claimed"))
        if self.folder is not None:
            self.store.close()
            self._open()

    def _start(self) -> None:
        self.tally["starts"] += 1
        sources = {"t.camp": program(self.version).digest}
        self.service = Service(
            self.store, program(self.version), self.provider.host(), self.clock, sources=sources, runner=Runner(self.provider),
            faults=self.faults, live_block=(3, 50)[self.seed % 2], cache_bytes=(0, 1 << 20)[self.seed // 2 % 2],
        )

    # ------------------------------------------------------------ what is done

    def do_tell(self, arrivals: tuple[Arrival, ...]) -> None:
        """A batch comes in, again until it is acknowledged; some of it once more later, some with another content."""
        while True:
            try:
                self._arm()
                told = self.store.record_events(arrivals)
                break
            except Crash:
                self._abandon()
                self.tally["redelivered without an answer"] += 1
            except StoreError as error:
                assert error.passing
        self.faults.off()
        self._acknowledged(arrivals, told)
        if self.kind != "faultless" and not self.quiet and self.clock.now() < self.end:
            self._trouble(arrivals)

    def _acknowledged(self, arrivals: tuple[Arrival, ...], told: Any) -> None:
        self.tally["events"] += told.accepted
        for index, arrival in enumerate(arrivals):
            key = (arrival.source, arrival.cause.id)
            known = self.acknowledged.get(key)
            if index in told.conflicts:
                if known is None or known == arrival:
                    self.offences.append(f"{key} is called a conflict and is none")
                self.tally["conflicts told"] += 1
            elif known is not None:
                if known != arrival or index not in told.duplicates:
                    self.offences.append(f"{key} came again and was taken for new")
                self.tally["duplicates told"] += 1
            else:
                self.acknowledged[key] = arrival
                self._note_consent(arrival.cause)

    def _trouble(self, arrivals: tuple[Arrival, ...]) -> None:
        for arrival in arrivals:
            roll = self.chance.random()
            later = self.clock.now() + self.chance.randrange(1, 20 * DAY)
            if roll < 0.06:
                self.plan(later, "tell", (arrival,))
            elif roll < 0.08:
                cause = arrival.cause
                other = cause._replace(data={"total": 1_000_000}) if isinstance(cause, Event) else cause._replace(attributes={"plan": "paid"})
                self.plan(later, "tell", (arrival._replace(cause=other),))

    def do_release(self, number: int) -> None:
        """A new version. The service is up and has nothing left to do: the moment of a release is an input."""
        self.down_until = 0
        self.work()
        self.version, self.service = number, None

    def do_down(self, length: int) -> None:
        """Nobody runs for a while. Around the release the service is up in every kind of run, see there."""
        begins = self.clock.now()
        release = self.start + self.days * DAY // 2
        if begins <= release <= begins + length:
            return
        if self.kind == "same" and begins < self.down_until:
            return  # two that overlap would last longer than a day, after which messages are held for a person
        self.tally["fault: down"] += 1
        self.service, self.down_until = None, begins + length

    def do_clock(self, step: int) -> None:
        """The machine's clock is set. Forward, everything after it is told at the later time; back, it stands still in a process and in the
        log, and a new process sees it go back."""
        self.tally["fault: clock step"] += 1
        if step > 0:
            self.clock.move_to(self.clock.now() + step)
        else:
            self.service = None
            self.clock._now += step

    def do_import(self, item: Any) -> None:
        """A file of events that were told before, through the real import, twice."""
        known = [arrival.cause for arrival in self.acknowledged.values() if isinstance(arrival.cause, Event)]
        lines = [_line(event) for event in known[-self.chance.randrange(1, 200):] if event.name.startswith(("page", "order"))]
        if self.folder is None or not lines:
            return
        path = self.folder / "again.jsonl"
        path.write_bytes(b"\n".join(lines))
        read, _ = readers(program(self.version).model)
        for _ in range(2):
            done = import_events(self.store, path, read)
            if done.duplicates != len(lines):
                self.offences.append(f"an import of {len(lines)} known events took {done}")
        self.tally["fault: imported again"] += 1

    def do_operator(self, item: Any) -> None:
        """A person looks at the outbox and decides something."""
        found = self.store.effects("unknown") + self.store.effects("failed") + self.store.effects("held") + self.store.effects("retry_wait")
        for effect in found[:4]:
            choice = self.chance.choice({"unknown": ("accepted", "failed", "ready"), "failed": ("ready",), "held": ("ready", "cancelled"),
                                         "retry_wait": ("cancelled",)}[effect.state])
            if self.store.resolve(effect.id, choice, "an operator", self.clock.now()):
                self.tally[f"operator: {effect.state} to {choice}"] += 1
                self.provider.doubtful.add(effect.id)
                if choice == "ready":
                    self.again[effect.id] += 1

    def do_pause(self, name: str) -> None:
        """The emergency stop: nothing of that campaign leaves from the next claim on."""
        self.store.pause(name, "an operator", self.clock.now())
        self.paused[name] += 1
        self.tally["operator: pause"] += 1

    def do_resume(self, name: str) -> None:
        """See do_pause. Two pauses of one name are lifted by the first resume."""
        self.store.resume(name, self.clock.now())
        self.paused.pop(name, None)

    def do_report(self, item: tuple[str, str]) -> None:
        """Evidence from outside about a message that was taken."""
        if self.provider.took[item[0]] and self.store.report(item[0], item[1], "the provider's webhook", self.clock.now()):
            self.tally[f"report: {item[1]}"] += 1

    # ------------------------------------------------------------ what is watched

    def _note_consent(self, cause: Any) -> None:
        """What a plain reader of the log knows about consent: promise P9 counts from the acknowledgement."""
        if isinstance(cause, ContactChange):
            for name, value in cause.attributes.items():
                if name.startswith("consent."):
                    self.consent[cause.contact, name[8:]] = bool(value)
        elif cause.name == "email.unsubscribed":
            self.consent[cause.contact, "email"] = False
        elif cause.name == "email.bounced" and cause.data.get("kind") == "hard":
            self.bounced.add(cause.contact)

    def _watch(self, call: Call) -> None:
        channel, contact = MARKETING.get(call.action), str(call.contact.get("id"))
        marketing = not call.key.startswith("renewal/")
        if channel is not None and marketing and self.consent.get((contact, channel)) is False:
            self.offences.append(f"{call.key} was handed over after the unsubscribe was acknowledged")
        if self.paused["*"] or self.paused[call.key.split("/")[0]]:
            self.offences.append(f"{call.key} was handed over though it is paused")
        if self.kind == "wild" and not self.quiet and self.chance.random() < 0.3:
            self.plan(self.clock.now() + self.chance.randrange(1, DAY), "report", (call.key, self.chance.choice(("delivered", "accepted"))))
        if channel == "email" and contact in self.bounced:
            self.offences.append(f"{call.key} was handed over to a suppressed address")
        if self.kind == "wild" and not self.quiet and channel == "email" and self.clock.now() < self.end:
            self._react(call, contact)

    def _react(self, call: Call, contact: str) -> None:
        """Somebody does something about what arrives: told a while later."""
        roll = self.chance.random()
        what = ("email.opened", 0.5), ("email.clicked", 0.65), ("email.unsubscribed", 0.68), ("email.bounced", 0.69)
        name = next((name for name, below in what if roll < below), None)
        if name is None:
            return
        at = self.clock.now() + self.chance.randrange(1, 30 * HOUR)
        data = {"kind": "hard"} if name == "email.bounced" else {}
        event = Event(f"reaction {call.key} {call.attempt}", name, contact, at, str(call.primary), data)
        self.tally["reactions"] += 1
        self.plan(at, "tell", (Arrival(event, SOURCE_EVENTS),))

    def _patience(self, wanted: int) -> int:
        """How long a call takes. In a run that is compared it never reaches beyond the next input: the time at which an input is told must
        not depend on faults."""
        if self.kind == "wild" or not self.agenda:
            return wanted
        return max(0, min(wanted, self.agenda[0][0] - self.clock.now()))

    # ------------------------------------------------------------ what is left

    def rest(self) -> Any:
        """The store, without faults."""
        self.faults.off()
        return self.store

    def dump(self) -> bytes:
        """Everything that the run left, to the byte."""
        store = self.rest()
        ids = store.contact_ids(limit=100_000)
        parts = [
            [[row.contact, row.state.decode(), row.wake_at] for row in (store.contacts([id])[id] for id in ids)],
            [list(row.decision) for row in store.journal(0, 1_000_000)],
            [list(effect) for effect in sorted(store.effects(limit=1_000_000), key=lambda effect: effect.seq)],
            [[row.seq, row.source, list(row.cause), row.received, row.status, row.reason] for id in ids for row in store.events_of(id, 100_000)],
            self.provider.calls,
        ]
        return orjson.dumps(parts)

    def digest(self) -> str:
        """The dump's name."""
        return hashlib.sha256(self.dump()).hexdigest()

    def decisions(self) -> dict[str, list[Any]]:
        """Each contact's decisions, in order."""
        store, found = self.rest(), {}
        for row in store.journal(0, 1_000_000):
            found.setdefault(row.decision.contact, []).append(row.decision)
        return found

    def close(self) -> None:
        """Ends the use of the store."""
        self.store.close()


def _line(event: Event) -> bytes:
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(event.at // 1000, UTC).replace(microsecond=event.at % 1000 * 1000).isoformat()
    return orjson.dumps({"id": event.id, "event": event.name, "contact": event.contact, "at": at, "subject": event.subject, "data": event.data})
