"""A new program asks new questions about the past: their slots are filled from the log, once for each contact."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rules_engine.engine.advance import Tick
from rules_engine.facts import Event
from rules_engine.plan.program import Program


def new_questions(program: Program, known: Iterable[str]) -> frozenset[str]:
    """The questions of a program that an older one did not ask. known: the names of the older one's questions."""
    return frozenset(program.queries) - frozenset(known)


def refill(program: Program, state: dict[str, Any], questions: frozenset[str], events: Iterable[Event]) -> None:
    """Answers `questions` from the contact's past events (in order of time, those already processed only), in place. What such events set
    off back then is not set off again. Questions no program asks any more lose their slots."""
    tick = Tick(program)
    tick.begin(state, state["k"])
    tick.now = state["k"]
    for name in questions:
        tick.history.pop(name, None)
    for name in [name for name in tick.history if name not in program.queries]:
        del tick.history[name]
    for event in events:
        plan = program.events.get(event.name)
        if plan is None:
            continue
        tick.use_arrival((event.data, event.subject, event.at, event.name, event.id))
        for query in plan.queries:
            if query.id in questions:
                query.record(tick)
