"""Conditions read with the facts of one contact, for explanations: which of their terms hold, and on what values. Changes nothing."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

from rules_engine.engine.advance import Tick
from rules_engine.facts import Event
from rules_engine.plan.program import Condition, Program, Ruleset, Trigger
from rules_engine.runtime.history import inside

_NO_EVENT = Event("", "", "", 0)


class Term(NamedTuple):
    """One term of a condition's AND. text: its words; reads: (name, value) of the facts it read, in the engine's types."""

    text: str
    holds: bool
    reads: tuple[tuple[str, Any], ...]


class Look:
    """A contact's state as it was left, seen as a ruleset would see it that an event has just reached."""

    def __init__(self, program: Program, state: dict[str, Any], ruleset: Ruleset, event: Event = _NO_EVENT) -> None:
        tick = self._tick = Tick(program)
        tick.begin(copy.deepcopy(state), state["k"])
        tick.now = state["k"]
        tick.use_arrival((event.data, event.subject, event.at, event.name, event.id))
        tick.use_nothing(ruleset)
        tick.bindings, tick.start, tick.start_sequence = {}, event.at, tick.sequence
        tick.keys, tick.key = {name: inside(event.data, name) for name in ruleset.keys}, None

    def terms(self, condition: Condition) -> list[Term]:
        """All terms, in the order in which they are written."""
        return [Term(text, bool(test(self._tick)), tuple(reads(self._tick))) for text, test, reads in condition.parts]

    def subject_fits(self, trigger: Trigger) -> bool:
        """Whether the event is about what the trigger names."""
        return trigger.subject is None or hasattr(trigger.subject, "wanted") or bool(trigger.subject(self._tick.event_subject))
