"""`points.add` and `points.subtract`: the contact's score, changed inside the engine's transaction (exactly once).

Without `group` the attribute is `points`; with `group: sales` it is `points.sales`, which stands for itself. `writes` names
`contact.points`; like every fact it covers what lies below it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rules_engine.plugin import Action, Change, Parameter, hookimpl

PARAMETERS = (
    Parameter("reason", "text", help="Why, for the contact's timeline."),
    Parameter("group", "name", help="A group of points of its own: contact.points.<group>."),
)


LARGEST = 10**15  # a float still counts single points there


def _add(primary: Any, params: Mapping[str, Any], sign: int) -> tuple[Change, ...]:
    """One `add`; nothing where the number is missing (its attribute is not set), is none, or is beyond all reason."""
    if isinstance(primary, bool) or not isinstance(primary, (int, float)) or not -LARGEST <= primary <= LARGEST:
        return ()
    group = params.get("group")
    return (Change("add", f"points.{group}" if group else "points", sign * primary),)


def add(primary: Any, params: Mapping[str, Any]) -> tuple[Change, ...]:
    """Adds `primary` to the points."""
    return _add(primary, params, 1)


def subtract(primary: Any, params: Mapping[str, Any]) -> tuple[Change, ...]:
    """Takes `primary` from the points; they may go below zero."""
    return _add(primary, params, -1)


@hookimpl
def register_actions() -> Iterator[Action]:
    number = Parameter("points", "number", required=True, help="How many.")
    yield Action(
        "points.add",
        "Add points to the contact.",
        number,
        PARAMETERS,
        changes=add,
        writes=("contact.points",),
        example='points.add 5, reason: "signed up"',
    )
    yield Action(
        "points.subtract",
        "Take points from the contact.",
        number,
        PARAMETERS,
        changes=subtract,
        writes=("contact.points",),
        example="points.subtract 10",
    )
