"""`contact.set`: change attributes of the contact, inside the engine's transaction (exactly once)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rules_engine.plugin import Action, Change, EventType, hookimpl


def set_attributes(primary: Any, params: Mapping[str, Any]) -> tuple[Change, ...]:
    """One `set` for each given argument, in the order of the text."""
    return tuple(Change("set", name, value) for name, value in params.items())


@hookimpl
def register_actions() -> Iterator[Action]:
    yield Action(
        "contact.set",
        "Set attributes of the contact.",
        extra="attribute",
        changes=set_attributes,
        writes=("contact.{key}",),
        example='contact.set plan: "paid", trial_ends_at: 2026-12-01',
    )


@hookimpl
def register_events() -> Iterator[EventType]:
    yield EventType("contact.created", "A contact was added to Camp.", {"source": "text"})
    # What the two mean beyond the rules that they set off is the engine's business: it merges the contacts.
    yield EventType("contact.identified", "A visitor is known to be a contact.", {"contact": "text", "known": "boolean"})
    yield EventType("contact.merged", "Another contact was merged into this one.", {"contact": "text"})
