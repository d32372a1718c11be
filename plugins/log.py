"""`log.write`: a line in the contact's timeline (exactly once)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rules_engine.plugin import Action, Change, Parameter, hookimpl


def write(primary: Any, params: Mapping[str, Any]) -> tuple[Change, ...]:
    """One `log`. A missing value is logged as an empty line, because that it came this far is worth knowing."""
    return (Change("log", "", "" if primary is None else str(primary)),)


@hookimpl
def register_actions() -> Iterator[Action]:
    yield Action(
        "log.write",
        "Write a line into the contact's timeline.",
        Parameter("text", "text", required=True),
        changes=write,
        example='log.write "reached the pricing page"',
    )
