"""`event.emit`: an event of the contact, raised by a campaign (exactly once)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rules_engine.plugin import Action, Change, Parameter, hookimpl


def emit(primary: Any, params: Mapping[str, Any]) -> tuple[Change, ...]:
    """One `emit`: `subject` as given (None without), every other argument becomes a field of the event."""
    data = {name: value for name, value in params.items() if name != "subject"}
    return (Change("emit", primary, {"subject": params.get("subject"), "data": data}),)


@hookimpl
def register_actions() -> Iterator[Action]:
    yield Action(
        "event.emit",
        "Raise an event for this contact.",
        Parameter("event", "event", required=True, help="The event's name."),
        (Parameter("subject", "text", help="What stands after the event's name in a condition."),),
        extra="event",
        changes=emit,
        writes=("event.{primary}",),
        example="event.emit lead.qualified, score: contact.points",
    )
