"""The real engine over contacts in memory, under a clock that jumps from one thing to the next. Nothing leaves, nothing is
random.

`World` is the engine's surroundings for tests and simulations: states by contact, a heap of what is to come. `simulate` plays
given contacts and events through it. The store's pump does the same with a database; what a rule means is decided by neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush
from typing import Any

import orjson

from rules_engine.decisions import Decision, Effect
from rules_engine.engine import Advanced, SetAside, advance, new_state
from rules_engine.facts import ContactChange, Event, Wake
from rules_engine.runtime.calendar import format_utc

CONTACT, EVENT, WAKE = 0, 1, 2  # what comes first of things at one moment for one contact
MAX_STALLED = 1_000  # wake-ups in a row for the moment at hand; the engine does all that is due at once, so more is a defect

Cause = Event | ContactChange | Wake


class World:
    """Contacts and their futures.

    program: a compiled program. on_set_aside: told of each event that the engine refused, with the reason; everything else
    goes on. `states` holds each contact's state, `effects` what would have left. Pure but for what it keeps: the same calls
    give the same answers.
    """

    def __init__(self, program: Any, on_set_aside: Callable[[Cause, str], None] | None = None) -> None:
        self.program = program
        self.states: dict[str, dict[str, Any]] = {}
        self.effects: list[Effect] = []
        self._on_set_aside = on_set_aside or (lambda cause, reason: None)
        self._wakes: dict[str, int | None] = {}
        self._heap: list[tuple[int, str, int, int, Cause]] = []
        self._order = self._stalled = 0
        self._seen: set[str] = set()
        self.repeats = 0

    def put(self, cause: Event | ContactChange, at: int | None = None) -> None:
        """Plans a fact for `at` (default: its own time). The order of calls is the order of facts at one moment. An event
        whose id was seen before is counted in `repeats` and left out (promise P2)."""
        if isinstance(cause, Event):
            if cause.id in self._seen:
                self.repeats += 1
                return
            self._seen.add(cause.id)
        self._order += 1
        moment = cause.at if at is None else at
        heappush(self._heap, (moment, cause.contact, EVENT if isinstance(cause, Event) else CONTACT, self._order, cause))

    def adopt(self, contact: str, state: dict[str, Any], wake_at: int | None) -> None:
        """Takes over a contact as a store keeps it. The state is the caller's no longer."""
        self.states[contact] = state
        self._wakes[contact] = wake_at
        if wake_at is not None:
            self._order += 1
            heappush(self._heap, (wake_at, contact, WAKE, self._order, Wake(contact, wake_at)))

    def run(self, until: int) -> Iterator[Decision]:
        """Everything up to and including `until`, decisions in the order of (at, contact, sequence)."""
        heap = self._heap
        moment = 0
        batch: list[Decision] = []
        while heap and heap[0][0] <= until:
            time, contact, rank, _, cause = heappop(heap)
            if rank == WAKE and self._wakes.get(contact) != time:
                continue  # the contact has since been called, and asked for another moment
            if time != moment:
                yield from _ordered(batch)
                moment, batch = time, []
            batch += self.act(cause, time)
        yield from _ordered(batch)

    def act(self, cause: Cause, now: int, quietly: bool = False) -> list[Decision]:
        """One cause, at once. What the contact had due before `now` happens first (the engine sees to that). quietly: it
        tells how things already are, so that nothing starts because of it."""
        contact = cause.contact
        state = self.states.get(contact)
        if state is None:
            state = new_state(contact, now)
        kept = orjson.dumps(state)  # a refused event must leave no trace, and `advance` may change what it was given
        try:
            answer = advance(self.program, state, cause, now, quietly=quietly)
        except SetAside as refusal:
            self._on_set_aside(cause, refusal.reason)
            return self._without(cause, now, kept)
        return self._take(contact, answer, now)

    def _take(self, contact: str, answer: Advanced, now: int) -> list[Decision]:
        self.states[contact] = answer.state
        self.effects += answer.effects
        wake_at = answer.wake_at
        if wake_at is not None and wake_at <= now:
            self._stalled += 1
            wake_at = max(wake_at, now)
            if self._stalled > MAX_STALLED:
                raise AssertionError(f"the engine asks again and again to be woken at {format_utc(now)} for {contact!r}")
        else:
            self._stalled = 0
        if wake_at is not None and (wake_at != self._wakes.get(contact) or wake_at == now):
            self._order += 1
            heappush(self._heap, (wake_at, contact, WAKE, self._order, Wake(contact, wake_at)))
        self._wakes[contact] = wake_at
        for emitted in answer.emits:
            if emitted.contact != contact:
                self.put(emitted, max(now, emitted.at))
        return answer.decisions

    def _without(self, cause: Cause, now: int, kept: bytes) -> list[Decision]:
        """Goes on as if a refused event had never come. A wake-up that was refused is not tried again: the contact rests."""
        contact = cause.contact
        self.states[contact] = orjson.loads(kept)
        if isinstance(cause, Wake):
            self._wakes[contact] = None
        return []


def _ordered(batch: list[Decision]) -> list[Decision]:
    """Decisions of one moment by (at, contact), in the order in which they were made. Only an event for another contact,
    which takes effect in the same moment, can have mixed them up."""
    return sorted(batch, key=lambda decision: (decision.at, decision.contact))


def simulate(
    program: Any,
    contacts: Iterable[ContactChange],
    events: Iterable[Event],
    start: int | None,
    until: int,
    on_set_aside: Callable[[Cause, str], None] | None = None,
) -> Iterator[Decision]:
    """What happens from `start` to `until` (included), in the order of (at, contact, sequence); the same bytes each time.

    Contacts come first at a moment, then events in the order given. What lies before `start` has happened: it plays through
    without being told, so that the answer is a part of the whole story and never another story. start None: from the first
    fact.
    """
    world = World(program, on_set_aside)
    for contact in contacts:
        world.put(contact)
    for event in events:
        world.put(event)
    for decision in world.run(until):
        if start is None or decision.at >= start:
            yield decision
