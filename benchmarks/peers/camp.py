"""Camp's side of every measurement: the adapters that the engine fills in.

Until then each raises NotImplementedError and the tables say "camp: not built yet".  `benchmarks/README.md` says what each
must do.  Nothing outside this file knows anything about Camp's insides.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from benchmarks.workload import Contact, Event, Rule, camp_text
from rules_engine import facts, host
from rules_engine.clock import VirtualClock
from rules_engine.engine import advance, advance_block, new_state, pack, unpack
from rules_engine.facts import ContactChange
from rules_engine.model import meaning
from rules_engine.model.checks import check
from rules_engine.model.project import find_project
from rules_engine.plan import compile_model
from rules_engine.service.pump import Pump
from rules_engine.store import open_store
from rules_engine.store.port import SOURCE_CONTACTS, Arrival
from rules_engine.syntax.read import read

NAME = "Camp"
EVENTS = {10: 50_000, 100: 50_000, 1_000: 50_000}

ABSENCE_TEXT = """\
EVENT user.signed_up
EVENT user.opened

CAMPAIGN nudge "No open within 3 days of sign-up"
  WHEN user.signed_up
    WAIT UNTIL user.opened UP TO 3 days
    OTHERWISE
      THEN tag.add "nudge"
    END
END
"""


class MatchingSession(Protocol):
    """What `build` returns. `prepare` may be left out."""

    def prepare(self, events: list[Event]) -> list:
        """Not timed: the input records that a caller of the engine holds anyhow, made of our events, one for one."""

    def run(self, events: list) -> Iterable[tuple[str, str]]:
        """Timed: run all events. The result is read after the clock has stopped: (rule name, contact id) for each firing."""


class AbsenceSession(Protocol):
    """What `absence` returns. `prepare` may be left out."""

    def prepare(self, events: list[tuple[int, str, str]]) -> list:
        """Not timed, and not counted as memory: input records of (milliseconds, "sign_up" or "open", contact id)."""

    def run(self, events: list) -> None:
        """Timed: run these events, in order. Called several times; all events come in the order of time."""

    def finish(self, until: int) -> Iterable[tuple[int, str]]:
        """Timed: let time pass to `until`. Then, read after the clock: (due milliseconds, contact id) of all firings."""


class DurableSession(Protocol):
    """What `durable` returns: an open store with rules deployed and contacts imported."""

    connection: sqlite3.Connection
    """The connection that the store writes through, for recording what it writes."""

    def run(self, events: list[Event], first: int) -> None:
        """Timed: import these events (the first has number `first`; its id is f"e{number}"), match, fire, journal, arm timers,
        commit effects to the outbox, in blocks of `block`, with FULL. Returns when all is committed."""

    def close(self) -> None:
        """Close the store."""


def available() -> str:
    """Nothing; `build` says whether Camp is there."""
    return ""


class _Matching:
    """All contacts' states in memory, one `advance` for each event, as the pump calls it."""

    def __init__(self, text: str, contacts: list[Contact]) -> None:
        self.program = _program(text)
        self.states = {}
        for contact in contacts:
            change = ContactChange("import", contact.id, 0, {"country": contact.country, "points": contact.points})
            self.states[contact.id] = advance(self.program, new_state(contact.id, 0), change, 0).state

    def prepare(self, events: list[Event]) -> list:
        return [facts.Event(f"e{number}", event.type, event.contact, number, None, event.data) for number, event in enumerate(events, 1)]

    def run(self, events: list) -> Iterable[tuple[str, str]]:
        return _firings(advance_block(self.program, self.states, events))


def _firings(found: list) -> Iterable[tuple[str, str]]:
    """(rule, contact) for each firing."""
    for answer in found:
        for name in answer.firings:
            yield name, answer.state["id"]


def _program(text: str):
    """The program of a text, checked."""
    file, problems = read(text, "bench.camp")
    plugins = host.load()
    project = find_project(Path("/nonexistent/bench.camp"))
    problems = [item for item in [*problems, *check([file], plugins, project)] if item.severity == "error"]
    if problems:
        raise ValueError(problems[0])
    return compile_model(meaning.build([file], plugins.actions, plugins.events), plugins.actions, "bench").warm()


def build(rules: list[Rule], contacts: list[Contact]) -> MatchingSession:
    """Parse, check and compile `camp_text(rules)`; hold the contacts' states in memory, by key. Timed as loading."""
    return _Matching(camp_text(rules), contacts)


class _Absence:
    """States kept as JSON bytes, as the stores keep them; a heap of wake-ups, the earliest one a contact asked for."""

    def __init__(self) -> None:
        self.program = _program(ABSENCE_TEXT)
        self.states: dict[str, bytes] = {}
        self.heap: list[tuple[int, str]] = []
        self.fired: list[tuple[int, str]] = []

    def prepare(self, events: list[tuple[int, str, str]]) -> list:
        names = {"sign_up": "user.signed_up", "open": "user.opened"}
        return [facts.Event(f"{kind}/{contact}", names[kind], contact, at) for at, kind, contact in events]

    def run(self, events: list) -> None:
        for event in events:
            if self.heap and self.heap[0][0] <= event.at:
                self._wake(event.at)
            known = self.states.get(event.contact)
            state = new_state(event.contact, event.at) if known is None else unpack(known)
            self._keep(event.contact, advance(self.program, state, event, event.at), known is None)

    def _keep(self, contact: str, answer, new: bool) -> None:
        self.states[contact] = pack(answer.state)
        if answer.wake_at is not None:
            heapq.heappush(self.heap, (answer.wake_at, contact))

    def _wake(self, until: int) -> None:
        heap = self.heap
        while heap and heap[0][0] <= until:
            at, contact = heapq.heappop(heap)
            state = unpack(self.states[contact])
            if not state["t"]:
                continue  # answered in time: the wake-up was left behind
            answer = advance(self.program, state, facts.Wake(contact, at), at)
            self._keep(contact, answer, False)
            self.fired += [(decision.at, contact) for decision in answer.decisions if decision.kind == "action"]

    def finish(self, until: int) -> Iterable[tuple[int, str]]:
        self._wake(until)
        return self.fired


class _Durable:
    """The real store and the real pump, on a clock that follows the events."""

    def __init__(self, folder: Path, rules: list[Rule], contacts: list[Contact], block: int) -> None:
        self.program = _program(camp_text(rules))
        self.clock = VirtualClock(1_767_225_600_000)
        self.store = open_store(folder / "camp.db", self.clock)
        self.connection = self.store._db.raw  # the recorder needs the raw connection
        self.block = block
        changes = [Arrival(ContactChange(f"import/{contact.id}", contact.id, self.clock.now(),
                                         {"country": contact.country, "points": contact.points}), SOURCE_CONTACTS) for contact in contacts]
        self.store.record_events(changes)
        self.pump = Pump(self.store, self.program, live_block=block)
        self._drain()

    def _drain(self) -> None:
        while self.pump.live(self.clock) is not None:
            pass

    def run(self, events: list[Event], first: int) -> None:
        for start in range(0, len(events), self.block):
            self.clock.move_to(self.clock.now() + 1000)
            now = self.clock.now()
            self.store.record_events([Arrival(facts.Event(f"e{number}", event.type, event.contact, now, None, event.data))
                                      for number, event in enumerate(events[start:start + self.block], first + start)])
            self._drain()

    def close(self) -> None:
        self.store.close()


def absence() -> AbsenceSession:
    """Compile ABSENCE_TEXT (change its words where the language asks for others); contacts appear with their sign-up."""
    return _Absence()


def durable(folder: Path, rules: list[Rule], contacts: list[Contact], block: int) -> DurableSession:
    """A store in `folder` (SQLite, WAL, synchronous FULL) with `camp_text(rules)` deployed and the contacts imported."""
    return _Durable(folder, rules, contacts, block)
