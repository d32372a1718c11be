"""`segment.add` and `segment.remove`: membership of a declared segment by hand (exactly once)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rules_engine.plugin import Action, Change, Parameter, hookimpl


def add(primary: Any, params: Mapping[str, Any]) -> tuple[Change, ...]:
    """Makes the contact a member."""
    return (Change("segment_add", primary),)


def remove(primary: Any, params: Mapping[str, Any]) -> tuple[Change, ...]:
    """Ends the membership."""
    return (Change("segment_remove", primary),)


@hookimpl
def register_actions() -> Iterator[Action]:
    segment = Parameter("segment", "segment", required=True, help="The segment's name.")
    yield Action(
        "segment.add",
        "Put the contact into a segment.",
        segment,
        changes=add,
        writes=("segment.{primary}",),
        example="segment.add vip",
    )
    yield Action(
        "segment.remove",
        "Take the contact out of a segment.",
        segment,
        changes=remove,
        writes=("segment.{primary}",),
        example="segment.remove vip",
    )
