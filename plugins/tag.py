"""`tag.add` and `tag.remove`: free labels on a contact (exactly once)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rules_engine.plugin import Action, Change, Parameter, hookimpl


def add(primary: Any, params: Mapping[str, Any]) -> tuple[Change, ...]:
    """Puts the tag on."""
    return (Change("tag_add", primary),)


def remove(primary: Any, params: Mapping[str, Any]) -> tuple[Change, ...]:
    """Takes the tag off."""
    return (Change("tag_remove", primary),)


@hookimpl
def register_actions() -> Iterator[Action]:
    tag = Parameter("tag", "tag", required=True, help="The tag.")
    yield Action("tag.add", "Put a tag on the contact.", tag, changes=add, writes=("tag",), example="tag.add hot_lead")
    yield Action("tag.remove", "Take a tag off the contact.", tag, changes=remove, writes=("tag",), example="tag.remove hot_lead")
