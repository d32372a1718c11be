"""What starts, ends or resumes a journey: the alternatives of WHEN, EXIT, GOAL and WAIT UNTIL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rules_engine.diagnostics import Span
from rules_engine.model import conditions, names, values
from rules_engine.model.context import Context
from rules_engine.model.meaning import Scope
from rules_engine.model.report import Candidate, Slot
from rules_engine.model.values import SHOWN, describe, value
from rules_engine.syntax import nodes as n

_MOMENTS = ("date", "datetime")


def check_all(ctx: Context, alternatives: Iterable[n.Node], scope: Scope, where: str) -> Scope:
    """All alternatives of a WHEN, EXIT, GOAL or WAIT (`where`); returns the scope with the names that AS binds."""
    bindings: dict[str, str] = {}
    for item in alternatives:
        check(ctx, item, scope, where)
        alias = getattr(item, "alias", None)
        if alias:
            _alias(ctx, item, alias, bindings)
    if not bindings:
        return scope
    return Scope(scope.events, {**scope.bindings, **bindings}, scope.journey, scope.place)


def _alias(ctx: Context, item: n.Node, alias: str, bindings: dict[str, str]) -> None:
    """`AS name` stands at the end of its alternative."""
    span = Span(item.span.path, item.span.end - len(alias), item.span.end)
    names.declared(ctx, alias, span, "what AS binds")
    names.reserved(ctx, alias, span, "what AS binds")
    event = item.occurrence.event if isinstance(item, n.Happening) else ""
    bindings[alias] = event
    ctx.alias_slots[alias] = Slot("alias", alias, span)


def check(ctx: Context, node: n.Node, scope: Scope, where: str) -> None:
    """One alternative."""
    check_one = _CHECKS.get(type(node))
    if check_one is not None:
        check_one(ctx, node, scope, where)


def _happening(ctx: Context, node: n.Happening, scope: Scope, where: str) -> None:
    occurrence = node.occurrence
    if node.since_start and not scope.journey:
        ctx.report.add(
            "no-journey",
            node.span,
            f"SINCE START belongs to a journey, and {scope.place or 'this place'} has none",
            "leave it out",
        )
    if (
        where == "WAIT UNTIL"
        and occurrence.event not in ctx.model.events
        and _plain(occurrence)
        and _is_value(ctx, occurrence.event, scope)
    ):
        _waited_value(ctx, n.Name(occurrence.event, span=occurrence.event_span), scope)
        return
    outer = scope if scope.journey else Scope((), scope.bindings, scope.journey, scope.place)
    if occurrence.where is None:
        values.occurrence(ctx, occurrence, outer)
        return
    info = names.event(ctx, occurrence.event, occurrence.event_span)
    if occurrence.subject is not None:
        values.subject(ctx, occurrence, info, outer)
    conditions.site(ctx, occurrence.where, values._inside(occurrence.event, scope))


def _plain(occurrence: n.Occurrence) -> bool:
    return occurrence.subject is None and occurrence.where is None and not occurrence.any


def _is_value(ctx: Context, name: str, scope: Scope) -> bool:
    """A bare name in a wait that is a constant's, an alias' or a segment's, not an event's."""
    return name in ctx.model.constants or name.partition(".")[0] in scope.bindings or name == "start"


def _waited_value(ctx: Context, node: n.Name, scope: Scope) -> None:
    type_ = value(ctx, node, scope)
    if type_ not in (None, "boolean", *_MOMENTS):
        ctx.report.add(
            "type-mismatch",
            node.span,
            f"WAIT UNTIL needs an event, a condition or a moment, and {describe(node)} is {SHOWN[type_]}",
            "for a delay write AFTER" if type_ == "duration" else "",
        )


def _membership(ctx: Context, node: n.MembershipChange, scope: Scope, where: str) -> None:
    if node.who != "contact":
        _who(ctx, node.who, node.span)
    names.segment(ctx, node.segment, node.segment_span)
    _where(ctx, node, scope)


def _who(ctx: Context, who: str, span: Span) -> None:
    place = Span(span.path, span.start, span.start + len(who))
    ctx.report.unknown(
        "unknown-name",
        who,
        place,
        "who",
        f"only a contact enters or leaves a segment, and `{who}` is none",
        "write contact",
        lambda: ([Candidate("contact", "contact")],),
    )


def _where(ctx: Context, node: Any, scope: Scope) -> None:
    if node.where is not None:
        conditions.site(ctx, node.where, scope)


def _watched(ctx: Context, node: n.Name, word: str) -> str | None:
    """The name before BECOMES or CHANGES: a fact of the contact, since events do not change."""
    if not node.name.startswith("contact."):
        known = node.name in ctx.model.constants or node.name.startswith("event.")
        if known:
            ctx.report.add(
                "wrong-kind",
                node.span,
                f"only facts of the contact change, and `{node.name}` is none",
                f"write contact.NAME {word} …",
            )
            return None
        return names.resolve(ctx, node, Scope(place=f"what stands before {word}"))
    return names.attribute(ctx, node.name[8:], node.span)


def _becomes(ctx: Context, node: n.Becomes, scope: Scope, where: str) -> None:
    type_ = _watched(ctx, node.name, "BECOMES")
    own = Scope((), scope.bindings, scope.journey, "a trigger on a fact") if where == "WHEN" else scope
    values.comparable(ctx, node.op, node.name, type_, node.value, value(ctx, node.value, own), own, node.span)
    _where(ctx, node, own)


def _changes(ctx: Context, node: n.Changes, scope: Scope, where: str) -> None:
    type_ = _watched(ctx, node.name, "CHANGES")
    own = Scope((), scope.bindings, scope.journey, "a trigger on a fact") if where == "WHEN" else scope
    for side in (node.old, node.new):
        if side is not None:
            values.comparable(ctx, "=", node.name, type_, side, value(ctx, side, own), own, side.span)
    if node.old is not None and node.new is not None and node.old == node.new:
        ctx.report.add("never-true", node.span, "nothing changes from a value to the same value", "give two values")
    _where(ctx, node, own)


def _anchored(ctx: Context, node: n.Anchored, scope: Scope, where: str) -> None:
    own = Scope((), scope.bindings, scope.journey, "a date as a trigger") if where == "WHEN" else scope
    if node.offset is not None:
        values.span_of_time(ctx, node.offset, "BEFORE" if node.sign < 0 else "AFTER")
    type_ = value(ctx, node.anchor, own)
    if type_ == "birthday":
        ctx.report.add(
            "type-mismatch",
            node.anchor.span,
            f"{describe(node.anchor)} comes every year",
            f"write ANNIVERSARY OF {_name(node.anchor)}",
            suggestion=f"ANNIVERSARY OF {_name(node.anchor)}",
        )
    elif type_ not in (None, *_MOMENTS):
        ctx.report.add(
            "type-mismatch", node.anchor.span, f"{describe(node.anchor)} is {SHOWN[type_]}, and a date or a moment is needed here"
        )
    values.clock(ctx, node.at, "AT")
    _where(ctx, node, own)


def _name(node: n.Node) -> str:
    return node.name if isinstance(node, n.Name) else values.describe(node)


def _anniversary(ctx: Context, node: n.Anniversary, scope: Scope, where: str) -> None:
    own = Scope((), scope.bindings, scope.journey, "an anniversary") if where == "WHEN" else scope
    if node.offset is not None:
        values.span_of_time(ctx, node.offset, "BEFORE" if node.sign < 0 else "AFTER")
    type_ = value(ctx, node.anchor, own)
    if type_ not in (None, "birthday", *_MOMENTS):
        ctx.report.add(
            "type-mismatch", node.anchor.span, f"{describe(node.anchor)} is {SHOWN[type_]}, and an anniversary needs a date"
        )
    values.clock(ctx, node.at, "AT")
    _where(ctx, node, own)


def _every(ctx: Context, node: n.Every, scope: Scope, where: str) -> None:
    if where == "WAIT UNTIL":
        ctx.report.add(
            "type-mismatch", node.span, "WAIT UNTIL waits for one moment, and EVERY has many", "write AFTER … AT … ON monday"
        )
    rhythm(ctx, node.rhythm, scope)
    _where(ctx, node, Scope((), scope.bindings, scope.journey, "a time trigger") if where == "WHEN" else scope)


def rhythm(ctx: Context, node: n.Rhythm, scope: Scope) -> None:
    """EVERY monday, 7 days, month ON 15, or the name of a constant that is a duration."""
    if node.every is not None:
        if isinstance(node.every, n.Name) and node.every.name not in ctx.model.constants and "." not in node.every.name:
            unknown_period(ctx, node.every, "EVERY", weekdays=True)
        else:
            values.span_of_time(ctx, node.every, "EVERY")
    if node.month_day is not None:
        if node.unit != "month":
            ctx.report.add("bad-count", node.span, "ON with a number is a day of the month", "write EVERY month ON 15")
        elif not 1 <= node.month_day <= 31:
            ctx.report.add(
                "bad-count",
                node.span,
                f"no month has a day {node.month_day}",
                "days of the month are 1 to 31; beyond its end, a month's last day counts",
            )
    values.clock(ctx, node.at, "AT")


_UNITS = ("second", "minute", "hour", "day", "week", "month", "year")
_WEEKDAYS = (
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
    "weekday",
    "weekend",
    "mon",
    "tue",
    "wed",
    "thu",
    "fri",
    "sat",
    "sun",
)


def unknown_period(ctx: Context, node: n.Name, where: str, weekdays: bool = False) -> None:
    """A name after PER or EVERY that is no constant: a unit or weekday with a slip, most likely."""
    units = [Candidate(unit, unit) for one in _UNITS for unit in (one, one + "s")]
    if weekdays:
        units += [Candidate(day, day) for day in _WEEKDAYS]

    def tiers() -> Any:
        constants = [Candidate(name, name, Slot("constant", name, item.name_span)) for name, item in ctx.model.constants.items()]
        return units + constants, ()

    ctx.report.unknown(
        "unknown-name",
        node.name,
        node.span,
        ("value", node.name),
        f"`{node.name}` means nothing here",
        f"{where} needs a unit such as day, a duration such as 7 days, or the name of a constant",
        tiers,
    )


def _absence(ctx: Context, node: n.Absence, scope: Scope, where: str) -> None:
    values.occurrence(ctx, node.occurrence, scope)
    values.span_of_time(ctx, node.duration, "FOR")
    _where(ctx, node, scope)


def _condition(ctx: Context, node: n.Condition, scope: Scope, where: str) -> None:
    """A level: a WAIT may be for it; elsewhere something must happen."""
    inner = node.condition
    if where != "WAIT UNTIL":
        scope = Scope((), scope.bindings, scope.journey, "a trigger") if where == "WHEN" else scope
    if isinstance(inner, n.Name) and inner.name.startswith(("contact.", "event.")) and value(ctx, inner, scope) in _MOMENTS:
        return
    if where == "WAIT UNTIL":
        conditions.site(ctx, inner, scope)
        return
    help, suggestion = _as_trigger(ctx, inner)
    ctx.report.add(
        "condition-as-trigger",
        node.span,
        f"a condition does not happen, so it can't stand after {where}",
        help,
        suggestion=suggestion,
    )
    found = len(ctx.report.found)
    value(ctx, inner, scope)
    del ctx.report.found[found:]


def _as_trigger(ctx: Context, node: n.Node) -> tuple[str, str | None]:
    """How the condition is said as something that happens."""
    if isinstance(node, n.Compare) and isinstance(node.left, n.Name) and node.left.name in ctx.model.events:
        better = f"{node.left.name} {values.shown_literal(node.right)}" if isinstance(node.right, n.Literal) else node.left.name
        return f"what the event is about stands behind it, without a sign: write {better}", better
    if isinstance(node, n.And):
        first = node.items[0]
        happens = first.name if isinstance(first, n.Name) and first.name in ctx.model.events else _as_trigger(ctx, first)[1]
        if happens:
            return f"what must be so at that moment stands after WHERE: write {happens} WHERE …", None
    if isinstance(node, n.Not) and isinstance(node.item, n.Name) and node.item.name in ctx.model.events:
        return f"say for how long it does not happen, such as NOT {node.item.name} FOR 7 days", None
    if isinstance(node, n.Compare) and isinstance(node.left, n.Name):
        if node.left.name == "contact" and isinstance(node.right, n.Name):
            better = f"contact {'ENTERS' if node.op == 'in' else 'LEAVES'} {node.right.name}"
            return f"write {better}", better
        if node.op in ("=", "!=", "<", "<=", ">", ">=") and isinstance(node.right, n.Literal):
            better = f"{node.left.name} BECOMES {node.op} {values.shown_literal(node.right)}"
            return f"write {better}", better if len(str(node.right.value)) < 37 else None
    if isinstance(node, n.Name) and node.name.startswith("contact."):
        name = node.name[8:]
        type_ = ctx.model.attribute_type(name)
        if (type_ or names.likely_type(name)) == "birthday":
            better = f"ANNIVERSARY OF {node.name} AT 08:00"
        else:
            better = f"{node.name} {'BECOMES = yes' if type_ in (None, 'boolean') else 'CHANGES'}"
        return f"write {better}", better
    if isinstance(node, n.Did):
        return f"write the event itself: {node.history.occurrence.event}", node.history.occurrence.event
    return "say what happens: an event, contact.NAME BECOMES …, contact ENTERS segment", None


_CHECKS: dict[type, Any] = {
    n.Happening: _happening,
    n.MembershipChange: _membership,
    n.Becomes: _becomes,
    n.Changes: _changes,
    n.Anchored: _anchored,
    n.Anniversary: _anniversary,
    n.Every: _every,
    n.Absence: _absence,
    n.Condition: _condition,
}
