"""The service against a model of it written plainly: a log, an outbox and contacts as dictionaries, no product code. Hypothesis chooses what
happens: facts, repeats and conflicts, time, turns, crashes at named points, providers' answers, operators. After each step both agree.

More examples: CAMP_MACHINE_EXAMPLES=2000 python -m pytest tests/properties/test_service_machine.py
The smallest case of a failure: CAMP_MACHINE_SHRINK=1.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rules_engine.actions import Outcome
from rules_engine.clock import VirtualClock
from rules_engine.facts import ContactChange, Event
from rules_engine.service import breaker
from rules_engine.service.dispatch import Dispatcher
from rules_engine.service.pump import Pump
from rules_engine.service.runner import DirectRunner
from rules_engine.store import codec
from rules_engine.store.memory import MemoryStore
from rules_engine.store.port import Arrival
from rules_engine.store.sqlite import SqliteStore
from tests.service.fake import DAY, ENGINE, Program, Provider, attributes

EXAMPLES = int(os.environ.get("CAMP_MACHINE_EXAMPLES", "100"))
# Shrinking takes minutes: only where it is asked for.
PHASES = tuple(phase for phase in Phase if phase is not Phase.shrink or os.environ.get("CAMP_MACHINE_SHRINK"))
FILES = "/dev/shm" if Path("/dev/shm").is_dir() else None
START, MINUTE, WINDOW, ATTEMPTS = 1_000_000, 60_000, 3_600_000, 8
CONTACTS = ("ana", "ben", "cid")

RESOLVED = {  # state -> what a person may make of it
    "unknown": {"accepted", "failed", "ready"}, "held": {"ready", "cancelled"}, "ready": {"cancelled"}, "retry_wait": {"ready", "cancelled"},
    "failed": {"ready"}, "cancelled": {"ready"}, "expired": {"ready"},
}
EVIDENCE = {  # state -> what a provider's report may make of it
    "unknown": {"accepted", "delivered", "bounced", "failed"}, "retry_wait": {"delivered", "bounced"},
    "accepted": {"delivered", "bounced", "failed"}, "delivered": {"bounced"},
}


class Crash(BaseException):
    """The process is gone."""


# ---------------------------------------------------------------- the model


class Model:
    """What must be so. `log`: rows in order of arrival; `effects` by id; `took`: how often the provider acted on each key."""

    def __init__(self, keyed: bool) -> None:
        self.keyed, self.now = keyed, START
        self.log: list[dict[str, Any]] = []
        self.known: dict[tuple[str, str], Any] = {}
        self.contacts: dict[str, dict[str, Any]] = {}
        self.effects: dict[str, dict[str, Any]] = {}
        self.took: Counter[str] = Counter()
        self.paused = False

    # ── the log ──

    def append(self, source: str, id: str, contact: str, name: str, data: dict, at: int, status: str = "new") -> str:
        said = (contact, name, data, at)
        if (source, id) in self.known:
            return "duplicate" if self.known[source, id] == said else "conflict"
        self.known[source, id] = said
        received = max(self.now, self.log[-1]["received"] if self.log else 0)
        self.log.append({"source": source, "id": id, "contact": contact, "name": name, "data": data, "received": received, "status": status})
        return "new"

    def pump(self) -> None:
        """Every new row in order, then every timer that is due."""
        done = 0
        while done < len(self.log):
            row = self.log[done]
            done += 1
            if row["status"] == "new":
                row["status"] = "set_aside" if row["name"] in ("boom", "crash") else "done"
                if row["status"] == "done":
                    self.apply(row["contact"], row["received"], row)
        for contact in self.contacts:
            self.fire(contact, max(self.now, self.log[-1]["received"] if self.log else 0))

    def apply(self, contact: str, now: int, row: dict[str, Any]) -> None:
        who = self.contacts.setdefault(contact, {"n": 0, "sum": 0, "a": {}, "timers": {}})
        self.fire(contact, now)
        name, data, id = row["name"], row["data"], row["id"]
        if name == "change":
            who["a"].update(data)
            return
        who["n"] += 1
        who["sum"] += data.get("total", 0)
        who["timers"]["idle"] = now + 3 * DAY
        if name == "later":
            who["timers"][f"later {id}"] = now + data["ms"]
        elif name == "send":
            self.send(contact, now, data.get("expires"))
        elif name == "refer":
            acted = "done" if data["to"] == contact else "new"
            self.append("engine", f"{id}/refer", data["to"], "tick", {"total": 1000}, now, acted)
        elif name == "echo":
            self.append("engine", f"{id}/echo", contact, "echoed", {}, now, "done")

    def fire(self, contact: str, now: int) -> None:
        who = self.contacts[contact]
        for due, name in sorted((due, name) for name, due in who["timers"].items()):
            if due <= now:
                del who["timers"][name]
                who["n"] += 1
                self.send(contact, due, None)

    def send(self, contact: str, at: int, expires: int | None) -> None:
        self.contacts[contact]["n"] += 1
        id = f"{contact}/{self.contacts[contact]['n']}"
        self.effects[id] = {"id": id, "contact": contact, "at": at, "next": at, "expires": expires, "state": "ready", "tries": 0, "first": None, "doubt": False,
                            "order": len(self.effects)}

    # ── the outbox ──

    def due(self) -> list[dict[str, Any]]:
        found = [item for item in self.effects.values() if item["state"] in ("ready", "retry_wait") and item["next"] is not None]
        return sorted((item for item in found if item["next"] <= self.now), key=lambda item: (item["next"], item["order"]))

    def unread(self) -> set[str]:
        return {row["contact"] for row in self.log if row["status"] == "new"}

    def refused(self, item: dict[str, Any]) -> str:
        """Why an effect that is due is not handed over: what it becomes."""
        if item["expires"] is not None and self.now >= item["expires"]:
            return "expired"
        if item["doubt"] and not self.known_to_provider(item):
            return "unknown"  # it may have been accepted, and the provider has forgotten its key by now
        return "cancelled" if self.contacts[item["contact"]]["a"].get("consent.email") is False else ""

    def claimable(self) -> list[dict[str, Any]]:
        """Puts off and ends what can't leave; the rest, in order."""
        found = []
        for item in self.due():
            if self.paused:
                item["next"] = None
            elif why := self.refused(item):
                item["state"], item["next"] = why, None
                if why != "cancelled":
                    self.tell(item, why)
            else:
                found.append(item)
        return found

    def tell(self, item: dict[str, Any], outcome: str) -> None:
        """What became of it is an event for the log, once for each attempt."""
        key = ("outcomes", f"{item['id']}:{outcome}:{item['tries']}")
        if key not in self.known:
            self.append(*key, item["contact"], f"email.{outcome}", {}, self.now)

    def claim(self, item: dict[str, Any]) -> None:
        item["tries"] += 1
        item["first"] = self.now if item["first"] is None else item["first"]

    def known_to_provider(self, item: dict[str, Any]) -> bool:
        return self.keyed and self.now - item["first"] < WINDOW

    def settle(self, item: dict[str, Any], answer: str) -> None:
        """answer: accepted | failed | retry | lost (nobody knows)."""
        state = {"accepted": "accepted", "failed": "failed", "retry": "retry_wait", "lost": "unknown"}[answer]
        if state == "unknown" and self.known_to_provider(item):
            state, item["doubt"] = "retry_wait", True
        if state == "retry_wait" and item["tries"] >= ATTEMPTS:
            state = "unknown" if answer == "lost" else "failed"
        item["state"], item["next"] = state, None
        if state == "unknown":
            self.tell(item, "unknown")

    def die(self, items: list[dict[str, Any]]) -> None:
        """The process ended while these were being handed over."""
        for item in items:
            if self.known_to_provider(item):
                item["state"], item["doubt"] = "ready", True
            else:
                item["state"], item["next"] = "unknown", None


# ---------------------------------------------------------------- the machine

_events = st.tuples(
    st.sampled_from(("tick", "tick", "send", "send", "send", "later", "refer", "echo", "boom", "crash")), st.sampled_from(CONTACTS), st.integers(0, 5)
)
ANSWERS = ("accepted", "failed", "retry", "retry after", "raises", "takes and raises", "nonsense")
LOST = ("raises", "takes and raises", "nonsense")
CRASHES = ("claim.before_commit", "claim.after_commit", "dispatch.before_call", "dispatch.after_call", "settle.before_commit",
           "settle.after_commit")
PUMP_CRASHES = ("pump.block_read", "pump.advanced", "pump.before_commit", "pump.after_commit")


class ServiceMachine(RuleBasedStateMachine):
    """Real store, pump and dispatcher beside the model."""

    def __init__(self) -> None:
        super().__init__()
        self.folder: Path | None = None
        self.number, self.armed = 0, ""
        self.told: list[Arrival] = []
        self.failures, breaker.FAILURES = breaker.FAILURES, 10**9  # breakers have tests of their own
        self.level = logging.getLogger("camp").level
        logging.getLogger("camp").setLevel(logging.CRITICAL + 1)

    @initialize(keyed=st.booleans(), sqlite=st.booleans())
    def begin(self, keyed: bool, sqlite: bool) -> None:
        self.model, self.clock = Model(keyed), VirtualClock(START)
        self.provider = Provider((), "key" if keyed else "none", window=WINDOW / 1000)
        self.folder = Path(tempfile.mkdtemp(prefix="camp-machine-", dir=FILES)) if sqlite else None
        self.memory = MemoryStore(self.clock)
        self.open()

    def open(self) -> None:
        if self.folder is not None:
            self.store: Any = SqliteStore(self.folder / "camp.db", self.clock, faults=self.faults)
        else:
            self.store = Guarded(self.memory, self.faults)
        self.pump = Pump(self.store, Program(), ENGINE, live_block=3, cache_bytes=600, faults=self.faults)
        self.dispatcher = Dispatcher(self.store, self.provider.host, self.clock, attributes=attributes, runner=DirectRunner(), faults=self.faults)
        self.dispatcher.recover()

    def faults(self, point: str) -> None:
        if point == self.armed:
            self.armed = ""
            raise Crash(point)

    def reopen(self) -> None:
        """What a new process does."""
        self.armed = ""
        if self.folder is not None:
            self.store.close()
        self.open()

    # ── facts ──

    @rule(items=st.lists(_events, min_size=1, max_size=5), crash=st.sampled_from(("", "", "", "record.before_commit", "record.after_commit")))
    def record(self, items: list, crash: str) -> None:
        batch = []
        for name, contact, value in items:
            self.number += 1
            data = {"total": value, "to": CONTACTS[value % 3], "ms": (value + 1) * 40 * MINUTE}
            if name == "send" and value > 3:
                data["expires"] = self.clock.now() + value * 10 * MINUTE
            batch.append(Arrival(Event(f"e{self.number}", name, contact, self.clock.now() - value * MINUTE, None, data)))
        self.deliver(batch, crash)

    @rule(contact=st.sampled_from(CONTACTS), consent=st.booleans())
    def change_consent(self, contact: str, consent: bool) -> None:
        self.number += 1
        self.deliver([Arrival(ContactChange(f"e{self.number}", contact, self.clock.now(), {"consent.email": consent}), "contacts")])

    @precondition(lambda self: self.told)
    @rule(pick=st.integers(0, 10_000), other=st.booleans())
    def record_again(self, pick: int, other: bool) -> None:
        arrival = self.told[pick % len(self.told)]
        if other:
            cause = arrival.cause
            cause = cause._replace(data={"total": 99}) if isinstance(cause, Event) else cause._replace(attributes={"x": 1})
            arrival = arrival._replace(cause=cause)
        self.deliver([arrival])

    def deliver(self, batch: list[Arrival], crash: str = "") -> None:
        """Until somebody is told that it is kept."""
        self.armed = crash
        try:
            told = self.store.record_events(batch)
        except Crash:
            self.reopen()
            if crash == "record.after_commit":
                self.expect(batch)
            return  # nobody was told; a sender would try again: that is `record_again`
        self.armed = ""
        verdicts = self.expect(batch)
        assert told.duplicates == tuple(n for n, word in enumerate(verdicts) if word == "duplicate")
        assert told.conflicts == tuple(n for n, word in enumerate(verdicts) if word == "conflict")
        assert told.accepted == verdicts.count("new")

    def expect(self, batch: list[Arrival]) -> list[str]:
        found = []
        for arrival in batch:
            cause = arrival.cause
            name, data = (cause.name, cause.data) if isinstance(cause, Event) else ("change", cause.attributes)
            found.append(self.model.append(arrival.source, cause.id, cause.contact, name, dict(data), cause.at))
            if found[-1] == "new":
                self.told.append(arrival)
        return found

    # ── time and work ──

    @rule(minutes=st.sampled_from((1, 10, 45, 70, 600, 3 * 1440, 5 * 1440)))
    def time_passes(self, minutes: int) -> None:
        self.clock.sleep(minutes * MINUTE)
        self.model.now = self.clock.now()

    @rule(crash=st.sampled_from(("", "", *PUMP_CRASHES)))
    def pump_all(self, crash: str) -> None:
        self.armed = crash
        self.pump_until_done()
        self.model.pump()
        self.adopt_order()

    def ripe(self) -> list[dict[str, Any]]:
        """What the outbox holds and is due."""
        return self.model.due() if hasattr(self, "model") else []

    def pump_until_done(self) -> None:
        while True:
            try:
                if self.pump.live(self.clock) is None:
                    break
            except Crash:
                self.reopen()
        self.armed = ""

    @precondition(lambda self: self.ripe() and not any(self.model.refused(item) == "expired" for item in self.ripe()))
    @rule(pick=st.integers(0, 10_000), told=st.booleans())
    def dispatch_without_reading_the_log(self, pick: int, told: bool) -> None:
        """Nothing for a contact with unread news: it may be an unsubscribe (promise P9)."""
        if told:
            self.change_consent(self.ripe()[pick % len(self.ripe())]["contact"], False)
        while self.dispatcher.turn() is not None:
            pass
        unread = self.model.unread()
        for item in self.model.due():
            if self.model.paused:
                item["next"] = None
            elif item["contact"] not in unread and (why := self.model.refused(item)):
                item["state"], item["next"] = why, None
                if why == "unknown":
                    self.model.tell(item, why)
            elif item["contact"] not in unread:
                self.model.claim(item)
                self.model.settle(item, "accepted")
                self.model.took[item["id"]] += 1

    @rule(asking=st.sampled_from(("", *CONTACTS)), answer=st.sampled_from(ANSWERS), crash=st.sampled_from(("", "", "", *CRASHES)))
    def work(self, asking: str, answer: str, crash: str) -> None:
        """All that can be done, somebody's wish to be written to first; `answer` is the provider's first, `crash` where the process ends
        once."""
        if asking:
            self.record([("send", asking, 0)], "")
        self.provider.script = [] if crash else [self.step(answer)]
        self.pump_until_done()
        self.model.pump()
        self.adopt_order()
        self.armed, self.calls = crash, len(self.provider.calls)
        try:
            self.until_rest()
        except Crash:
            self.crashed(crash)
            self.until_rest()
        self.armed = ""
        self.provider.script = []
        self.work_of_the_model("accepted" if crash else answer)
        self.adopt_times()

    def until_rest(self) -> None:
        while self.dispatcher.turn() is not None or self.pump.live(self.clock) is not None:
            pass

    def crashed(self, crash: str) -> None:
        """What the model says of the first claim, and a new process. How many a claim takes is the dispatcher's business where the provider
        knows its keys; else it is one."""
        taken = {row.id for row in self.store.effects("claimed", limit=10_000)}
        if crash == "settle.after_commit":
            taken = {call.key for call in self.provider.calls[self.calls :]}
        may = self.model.claimable() if crash != "claim.before_commit" else []
        first = [item for item in may if item["id"] in taken]
        assert len(first) == len(taken) and (self.model.keyed or len(first) <= 1) and (first or not may or crash.startswith("claim"))
        for item in first:
            self.model.claim(item)
            if crash in ("dispatch.after_call", "settle.before_commit", "settle.after_commit"):
                self.model.took[item["id"]] += 1
        if crash == "settle.after_commit":
            for item in first:
                self.model.settle(item, "accepted")
        else:
            self.model.die(first)
        self.reopen()

    def work_of_the_model(self, answer: str) -> None:
        while found := self.model.claimable():
            for item in found:
                self.model.claim(item)
                word = "lost" if answer in LOST else "retry" if answer.startswith("retry") else answer
                if answer in ("accepted", "takes and raises"):
                    self.model.took[item["id"]] += 1
                self.model.settle(item, word)
                answer = "accepted"
            self.model.pump()
            self.adopt_order()
        self.model.pump()

    def step(self, answer: str) -> Any:
        def takes(call: Any) -> BaseException:
            self.provider.keys.append(call.key)
            return ConnectionError("the line is dead")

        return {"accepted": "accepted", "failed": Outcome("failed", "no"), "retry": Outcome("retry", "later"), "nonsense": "250 OK",
                "retry after": Outcome("retry", "429", retry_after=900), "raises": ValueError("broken"), "takes and raises": takes}[answer]

    def adopt_order(self) -> None:
        """Who stands first among effects of one moment is the store's business."""
        for row in self.store.effects(limit=10_000):
            if row.id in self.model.effects:
                self.model.effects[row.id]["order"] = row.seq

    def adopt_times(self) -> None:
        """A retry's moment is a jitter's: any within its bounds."""
        for row in self.store.effects("retry_wait", limit=10_000):
            item = self.model.effects[row.id]
            if item["state"] == "retry_wait" and item["next"] is None and not self.model.paused:
                assert row.next_at is not None and self.clock.now() < row.next_at
                assert row.next_at <= self.clock.now() + max(30_000 * 2 ** (row.attempts - 1), 900_000)
                item["next"] = row.next_at

    # ── people ──

    @rule()
    def restart(self) -> None:
        self.reopen()

    @precondition(lambda self: self.model.effects)
    @rule(pick=st.integers(0, 10_000), state=st.sampled_from(("accepted", "failed", "ready", "cancelled")))
    def resolve(self, pick: int, state: str) -> None:
        item = sorted(self.model.effects.values(), key=lambda item: item["order"])[pick % len(self.model.effects)]
        may = state in RESOLVED.get(item["state"], ())
        assert self.store.resolve(item["id"], state, "a person", self.clock.now()) is may
        if may:
            item["state"], item["next"] = state, item["at"] if state == "ready" else None
            if state == "ready":  # a person has judged what was in doubt
                item["first"], item["doubt"] = None, False

    @precondition(lambda self: self.model.effects)
    @rule(pick=st.integers(0, 10_000), state=st.sampled_from(("accepted", "delivered", "bounced", "failed")))
    def report(self, pick: int, state: str) -> None:
        item = sorted(self.model.effects.values(), key=lambda item: item["order"])[pick % len(self.model.effects)]
        may = state in EVIDENCE.get(item["state"], ())
        assert self.store.report(item["id"], state, "its webhook", self.clock.now()) is may
        if may:
            item["state"], item["next"] = state, None

    @rule()
    def pause_or_resume(self) -> None:
        if self.model.paused:
            self.store.resume("*", self.clock.now())
            for item in self.model.effects.values():
                if item["state"] in ("ready", "retry_wait") and item["next"] is None:
                    item["next"] = item["at"]
        else:
            self.store.pause("*", "stop", self.clock.now())
        self.model.paused = not self.model.paused

    @rule()
    def release(self) -> None:
        aside = [row.seq for row in self.store.set_aside(10_000)]
        assert self.store.release(aside) == len(aside)
        for row in self.model.log:
            row["status"] = "new" if row["status"] == "set_aside" else row["status"]

    @rule()
    def purge(self) -> None:
        """Content goes, ids stay (promise P2): what comes again is known."""
        self.store.purge(self.clock.now())

    # ── what must be so ──

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "store"):
            return
        model, contacts = self.model, {*CONTACTS}
        rows = sorted((row for id in contacts for row in self.store.events_of(id, 10_000)), key=lambda row: row.seq)
        kept = [(row.source, row.cause.id, row.status) for row in rows]
        wanted = [(row["source"], row["id"], row["status"]) for row in model.log]
        assert sorted(kept) == sorted(wanted)
        # In which order outcomes become news depends on how many a claim looks at.
        assert [row for row in kept if row[0] != "outcomes"] == [row for row in wanted if row[0] != "outcomes"]
        found = {row.id: (row.state, row.attempts, row.next_at) for row in self.store.effects(limit=10_000)}
        assert found == {id: (item["state"], item["tries"], item["next"]) for id, item in model.effects.items()}
        states = {id: codec.load(row.state) for id, row in self.store.contacts(contacts).items()}
        assert {id: (s["n"], s["sum"], s["a"], s["timers"]) for id, s in states.items()} == {
            id: (who["n"], who["sum"], who["a"], who["timers"]) for id, who in model.contacts.items()
        }
        assert Counter(self.provider.keys) == model.took

    def teardown(self) -> None:
        breaker.FAILURES = self.failures
        logging.getLogger("camp").setLevel(self.level)
        if hasattr(self, "store"):
            assert self.store.check() == []
            self.store.close()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


class Guarded:
    """The store in memory with SQLite's fault points around the verbs that commit."""

    POINTS = {"record_events": "record", "commit": "pump", "claim_effects": "claim", "settle": "settle"}

    def __init__(self, store: MemoryStore, faults: Any) -> None:
        self._store, self._faults = store, faults

    def __getattr__(self, name: str) -> Any:
        verb, point = getattr(self._store, name), self.POINTS.get(name)
        if point is None or name == "claim_effects" and self._store.next_effect() is None:
            return verb

        def guarded(*arguments: Any, **named: Any) -> Any:
            if name == "claim_effects" and (self._store.next_effect() or 0) > arguments[0]:
                return verb(*arguments, **named)
            self._faults(point + ".before_commit")
            done = verb(*arguments, **named)
            self._faults(point + ".after_commit")
            return done

        return guarded


TestService = ServiceMachine.TestCase
TestService.settings = settings(max_examples=EXAMPLES, stateful_step_count=40, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))
