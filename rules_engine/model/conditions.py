"""Conditions that can never hold or always do. What comparisons say of one name is gathered into a range; an empty range can't
hold.

A missing value makes a comparison false, and its NOT true: so a contradiction needs at least one plain comparison of the name,
and `x = 1 OR x != 1` is not "always"."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rules_engine.diagnostics import Related, Span
from rules_engine.model import values
from rules_engine.model.context import Context
from rules_engine.model.meaning import Scope
from rules_engine.syntax import nodes as n

_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "!=": "!="}
_NEGATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "=": "!=", "!=": "=", "in": "not in", "not in": "in"}
MAX_ITEMS = 40  # parts of one AND or OR that are compared with one another


class Range:
    """What is known of one name's value: bounds, the values it may still have, those it may not. Values of one kind only."""

    __slots__ = ("low", "low_open", "high", "high_open", "allowed", "barred", "plain", "set", "first")

    def __init__(self, allowed: frozenset | None = None) -> None:
        self.low: Any = None
        self.high: Any = None
        self.low_open = self.high_open = False
        self.allowed = allowed
        self.barred: set = set()
        self.plain = False  # some comparison needs the value to be there
        self.set: bool | None = None  # IS SET (True) or IS NOT SET (False)
        self.first: Span | None = None  # where the name is first compared

    def take(self, op: str, operand: Any) -> None:
        """One more comparison. Operands of another kind than before are left out (a type message has been given)."""
        if op in ("=", "in"):
            wanted = frozenset(operand) if op == "in" else frozenset((operand,))
            self.allowed = wanted if self.allowed is None else self.allowed & wanted
        elif op in ("!=", "not in"):
            self.barred.update(operand if op == "not in" else (operand,))
        elif op in (">", ">="):
            if self.low is None or _same_kind(operand, self.low) and (operand, op == ">") > (self.low, self.low_open):
                self.low, self.low_open = operand, op == ">"
        elif self.high is None or _same_kind(operand, self.high) and (operand, op != "<") < (self.high, not self.high_open):
            self.high, self.high_open = operand, op == "<"

    def empty(self) -> bool:
        """Whether no value is left."""
        if self.set is False and self.plain:
            return True
        if not self.plain:
            return False
        if self.allowed is not None:
            return not any(self._fits(one) for one in self.allowed)
        if self.low is None or self.high is None or not _same_kind(self.low, self.high):
            return False
        if self.low == self.high:
            return self.low_open or self.high_open or self.low in self.barred
        return self.low > self.high

    def _fits(self, one: Any) -> bool:
        if one in self.barred:
            return False
        if self.low is not None and _same_kind(one, self.low) and (one < self.low or self.low_open and one == self.low):
            return False
        return not (
            self.high is not None and _same_kind(one, self.high) and (one > self.high or self.high_open and one == self.high)
        )


def _same_kind(one: Any, other: Any) -> bool:
    return type(one) is type(other)


class _Test:
    """One comparison of a name with what is fixed. `negated`: it stood under NOT, so a missing value makes it true."""

    __slots__ = ("name", "op", "operand", "negated", "span")

    def __init__(self, name: str, op: str, operand: Any, negated: bool, span: Span) -> None:
        self.name, self.op, self.operand, self.negated, self.span = name, op, operand, negated, span


def check_and(ctx: Context, node: n.And, scope: Scope) -> None:
    """Reports the first part of an AND after which nothing is left."""
    ranges: dict[str, Range] = {}
    for item in _flat(node, n.And):
        for test in _tests(ctx, item):
            known = ranges.get(test.name)
            if known is None:
                known = ranges[test.name] = Range(_allowed(ctx, test.name, scope))
                known.first = test.span
            _narrow(known, test)
            if known.empty():
                _never(ctx, test, known)
                return
    if len(node.items) <= MAX_ITEMS:
        _opposites(
            ctx, node, "never-true", "these two can't both hold", "they exclude each other: remove one, or join them with OR"
        )


def _narrow(known: Range, test: _Test) -> None:
    if test.op == "set":
        known.set = test.operand
        return
    known.plain = known.plain or not test.negated
    known.take(test.op, test.operand)


def _never(ctx: Context, test: _Test, known: Range) -> None:
    name = test.name
    related = () if known.first in (None, test.span) else (Related(known.first, "with this"),)
    if name.startswith("IN "):
        message = f"a contact can't be in {name[3:]} and not in it at once"
    elif test.op == "set":
        message = f"`{name}` can't be compared where it is not set"
    else:
        message = f"`{name}` can't be all of this at once: no value is left"
    ctx.report.add(
        "never-true", test.span, message, "this condition can never hold: change one part, or join them with OR", related=related
    )


def _allowed(ctx: Context, name: str, scope: Scope) -> frozenset | None:
    if not ctx.choices and not ctx.field_choices or name.startswith("IN "):
        return None
    found = values.choices_of(ctx, n.Name(name), scope)
    return frozenset(found) if found else None


def _flat(node: Any, kind: type) -> Iterator[n.Node]:
    """The parts of an AND with those of an AND in brackets inside it."""
    for item in node.items:
        if type(item) is kind:
            yield from _flat(item, kind)
        else:
            yield item


def _tests(ctx: Context, node: Any, negated: bool = False) -> Iterator[_Test]:
    """The comparisons of names with fixed values that a part of a condition consists of; none where it is more than that."""
    kind = type(node)
    if kind is n.Compare:
        found = _comparison(ctx, node, negated)
        if found is not None:
            yield found
    elif kind is n.Not:
        if not negated and type(node.item) in (n.Compare, n.Name):
            yield from _tests(ctx, node.item, True)
    elif kind is n.Between:
        if type(node.value) is n.Name and not negated:
            for op, bound in ((">=", node.low), ("<=", node.high)):
                operand = values.fixed(ctx, bound)
                if operand is not None:
                    yield _Test(node.value.name, op, operand, False, node.span)
    elif kind is n.IsSet:
        if type(node.value) is n.Name and not negated:
            yield _Test(node.value.name, "set", not node.negated, False, node.span)
    elif kind is n.Name and node.name not in ctx.model.constants:
        yield _Test(node.name, "=", not negated, negated, node.span)


def _comparison(ctx: Context, node: n.Compare, negated: bool) -> _Test | None:
    left, right, op = node.left, node.right, node.op
    if type(right) is n.Name and type(left) is not n.Name and op in _FLIPPED:
        left, right, op = right, left, _FLIPPED[op]
    if type(left) is not n.Name or op not in _NEGATED or left.name in ctx.model.constants:
        return None
    if negated:
        op = _NEGATED[op]
    if left.name == "contact":
        # Membership is never missing: both ways are plain.
        return _Test(f"IN {right.name}", "=", op == "in", False, node.span) if type(right) is n.Name else None
    if op in ("in", "not in"):
        if type(right) is not n.List:
            return None
        operand: Any = [values.fixed(ctx, item) for item in right.items]
        return None if None in operand else _Test(left.name, op, operand, negated, node.span)
    operand = values.fixed(ctx, right)
    return (
        None
        if operand is None or type(right) is n.Name and left.name == "now"
        else _Test(left.name, op, operand, negated, node.span)
    )


def _opposites(ctx: Context, node: Any, name: str, message: str, help: str) -> None:
    """A condition and its NOT side by side."""
    items = list(_flat(node, type(node)))
    for item in items:
        if type(item) is n.Not:
            other = next((one for one in items if type(one) is type(item.item) and one == item.item), None)
            if other is not None:
                ctx.report.add(
                    name,
                    item.span,
                    message,
                    help,
                    "error" if name == "never-true" else "warning",
                    related=(Related(other.span, "with this"),),
                )
                return


def check_or(ctx: Context, node: n.Or) -> None:
    """`a OR NOT a` always holds; a part written twice is a slip."""
    if len(node.items) > MAX_ITEMS:
        return
    _opposites(
        ctx, node, "always-true", "one of these two always holds", "this condition says nothing: remove it, or join them with AND"
    )
    for position, item in enumerate(node.items):
        other = next((one for one in node.items[:position] if type(one) is type(item) and one == item), None)
        if other is not None:
            ctx.report.warn(
                "repeated-condition",
                item.span,
                "this part is written twice in one OR",
                "remove it, or correct one of the two",
                related=(Related(other.span, "first here"),),
            )


def check_whole(ctx: Context, node: Any, scope: Scope) -> None:
    """One condition by itself: comparisons of fixed values, of a name with itself, of counts with what no count can be."""
    kind = type(node)
    if kind is n.And or kind is n.Or:
        for item in node.items:
            check_whole(ctx, item, scope)
    elif kind is n.Not:
        check_whole(ctx, node.item, scope)
    elif kind is n.Compare and node.op in _FLIPPED:
        verdict = _verdict(ctx, node)
        if verdict is not None:
            _say(ctx, node.span, verdict)
    elif kind is n.Literal and node.type == "boolean":
        _say(ctx, node.span, node.value)


def _say(ctx: Context, span: Span, verdict: bool) -> None:
    if verdict:
        ctx.report.warn("always-true", span, "this always holds", "remove it, or compare with what can change")
    else:
        ctx.report.add("never-true", span, "this can never hold", "compare with what can change")


def _verdict(ctx: Context, node: n.Compare) -> bool | None:
    left, right, op = node.left, node.right, node.op
    if type(left) is n.Name and type(right) is n.Name and left.name == right.name and left.name not in ctx.model.constants:
        return op in ("=", "<=", ">=")
    if type(left) is n.Aggregate and left.function in ("count", "count_distinct"):
        return _count_verdict(op, values.fixed(ctx, right))
    if type(left) not in (n.Literal, n.Name, n.Duration, n.Negative):
        return None
    first, second = values.fixed(ctx, left), values.fixed(ctx, right)
    if first is None or second is None or type(first) is not type(second):
        return None
    return {
        "=": first == second,
        "!=": first != second,
        "<": first < second,
        "<=": first <= second,
        ">": first > second,
        ">=": first >= second,
    }[op]


def _count_verdict(op: str, number: Any) -> bool | None:
    """COUNT is a whole number from 0."""
    if not isinstance(number, float):
        return None
    if number < 0:
        return op in (">", ">=", "!=")
    if number == 0 and op in (">=", "<"):
        return op == ">="
    return False if number != int(number) and op == "=" else None


# ── branches of one IF ──


def shadowed(ctx: Context, earlier: n.Node, later: n.Node) -> bool:
    """Whether an IF that comes to its second condition has already taken the first: they are the same, or the second says
    more."""
    if type(earlier) is type(later) and earlier == later:
        return True
    first, second = list(_tests(ctx, earlier)), list(_tests(ctx, later))
    if len(first) != 1 or len(second) != 1 or first[0].name != second[0].name or first[0].negated or second[0].negated:
        return False
    return _implies(second[0], first[0])


def _implies(narrow: _Test, wide: _Test) -> bool:
    """Whether every value that passes `narrow` passes `wide`: what `narrow` leaves and `wide` refuses is nothing."""
    if "set" in (narrow.op, wide.op):
        return wide.op == "set" and wide.operand is True and narrow.op != "set"
    rest = Range()
    rest.plain = True
    rest.take(narrow.op, narrow.operand)
    rest.take(_NEGATED[wide.op], wide.operand)
    return rest.empty()


# ── a condition as a whole, where one stands ──


def site(ctx: Context, node: n.Node, scope: Scope, wary: bool = True) -> set[str]:
    """Checks the condition of an IF, a WHERE, a segment …; returns the attributes that it makes sure are there. Not `wary`:
    what becomes of missing values needs no warning (a contract judges what is there, an expectation is seen to hold or not)."""
    outer, ctx.guards, ctx.risky = ctx.guards, set(), []
    values.condition(ctx, node, scope)
    check_whole(ctx, node, scope)
    found, ctx.guards = ctx.guards, outer
    for name, span, negated in ctx.risky if wary else ():
        if name not in found and name not in outer:
            _unguarded(ctx, name, span, negated)
    ctx.risky = []
    return found


def _unguarded(ctx: Context, name: str, span: Span, negated: bool) -> None:
    from rules_engine.model.names import may_be_missing

    if ctx.model.attribute_type(name) is None or not may_be_missing(ctx, name):
        return
    if negated:
        ctx.report.warn(
            "unguarded-attribute",
            span,
            f"a contact without `contact.{name}` passes this NOT, since a comparison with what is missing is false",
            f"add AND contact.{name} IS SET, or give the attribute a DEFAULT",
        )
    else:
        ctx.report.warn(
            "unguarded-attribute",
            span,
            f"a contact without `contact.{name}` never passes this, since a comparison with what is missing is false",
            f"add OR contact.{name} IS NOT SET, give it a DEFAULT, or say that you mean it: AND contact.{name} IS SET",
        )
