"""Types of expressions. Each function reports what is wrong and returns the type, or None where it can't be told (an unknown
name was reported already, or the value may be anything): None fits everywhere, so one cause stays one message."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Any

from rules_engine.diagnostics import Span
from rules_engine.limits import MAX_DURATION_YEARS
from rules_engine.model import names
from rules_engine.model.context import Context
from rules_engine.model.meaning import Scope
from rules_engine.syntax import nodes as n

SHOWN = {
    "text": "a text",
    "number": "a number",
    "boolean": "yes or no",
    "date": "a date",
    "time": "a time of day",
    "datetime": "a moment",
    "duration": "a duration",
    "list": "a list",
    "map": "a map",
    "birthday": "a birthday",
    "contact": "the contact itself",
}
_MOMENTS = frozenset({"date", "datetime", "birthday"})
_ORDERED = frozenset({"number", "date", "time", "datetime", "duration", "text"})
_APPROXIMATE_DAYS = {
    "second": 1 / 86_400,
    "minute": 1 / 1_440,
    "hour": 1 / 24,
    "day": 1.0,
    "week": 7.0,
    "month": 30.44,
    "year": 365.25,
    "business day": 1.4,
    "business hour": 1 / 8,
    "business minute": 1 / 480,
    "business second": 1 / 28_800,
}
_NO_DAYS = ("business week", "business month", "business year")
_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "=": "!=", "!=": "="}


def value(ctx: Context, node: n.Node | None, scope: Scope) -> str | None:
    """Type of any expression."""
    check = _CHECKS.get(type(node))
    return check(ctx, node, scope) if check is not None else None


def condition(ctx: Context, node: n.Node, scope: Scope) -> None:
    """An expression that must be true or false."""
    if type(node) is n.Name and _names_segment(ctx, node):
        return
    type_ = value(ctx, node, scope)
    if type_ is not None and type_ != "boolean":
        _not_a_condition(ctx, node, type_)


def _names_segment(ctx: Context, node: n.Name) -> bool:
    name = node.name
    if name not in ctx.model.segments or name in ctx.model.constants:
        return False
    ctx.used.add(("segment", name))
    ctx.report.add(
        "wrong-kind",
        node.span,
        f"`{name}` is a segment, not a condition",
        f"write contact IN {name}",
        suggestion=f"contact IN {name}",
    )
    return True


def _not_a_condition(ctx: Context, node: n.Node, type_: str) -> None:
    what = describe(node)
    help = {
        "number": f"compare it: {what} > 0",
        "text": f'compare it: {what} = "…", or ask {what} IS SET',
        "contact": "name a segment: contact IN newsletter",
    }.get(type_, f"compare it, or ask {what} IS SET")
    ctx.report.add("not-a-condition", node.span, f"{what} is {SHOWN.get(type_, type_)}, which is neither true nor false", help)


def describe(node: n.Node) -> str:
    """A short expression as it reads, others as what they are."""
    if isinstance(node, n.Name):
        return f"`{node.name}`"
    if isinstance(node, n.Literal):
        return shown_literal(node)
    if isinstance(node, n.Text):
        return "this text"
    if isinstance(node, n.Duration):
        return shown_duration(node)
    if isinstance(node, n.Aggregate):
        return f"this {node.function.replace('_', ' ').upper()}"
    return "this"


def shown_literal(node: n.Literal) -> str:
    """A literal as it is written in a `.camp` file."""
    if node.type == "text":
        text = str(node.value)
        return f'"{text}"' if len(text) <= 40 else f'"{text[:37]}…"'
    if node.type == "boolean":
        return "yes" if node.value else "no"
    if node.type == "time" and isinstance(node.value, int):
        return f"{node.value // 60:02}:{node.value % 60:02}"
    return f"{node.value}%" if node.type == "percent" else str(node.value).replace("T", " ")


def shown_duration(node: n.Duration) -> str:
    """`1 day 12 hours`."""
    return " ".join(f"{count:g} {unit}{'' if count == 1 else 's'}" for count, unit in node.parts)


# ── literals ──


def _literal(ctx: Context, node: n.Literal, scope: Scope) -> str | None:
    kind = node.type
    if kind == "text":
        return "text" if "{" not in node.value else _braces(ctx, node)
    if kind == "percent":
        return "number"
    if kind == "date":
        check_date(ctx, node)
    elif kind == "datetime":
        check_datetime(ctx, node)
    elif kind == "time":
        check_time(ctx, node)
    return kind


def check_date(ctx: Context, node: n.Literal) -> bool:
    """Whether a date exists; reported if not."""
    try:
        date.fromisoformat(node.value)
    except ValueError:
        _no_such_date(ctx, node.value, node.span)
        return False
    return True


def _no_such_date(ctx: Context, text: str, span: Span) -> None:
    from calendar import monthrange

    year, month, _ = (int(part) for part in text.split("-"))
    if 1 <= month <= 12 and year >= 1:
        last = monthrange(year, month)[1]
        help, suggestion = f"the last day of that month is {year:04}-{month:02}-{last:02}", f"{year:04}-{month:02}-{last:02}"
    else:
        help, suggestion = "dates are year-month-day: 2026-12-01", None
    ctx.report.add("bad-date", span, f"there is no {text} in the calendar", help, suggestion=suggestion)


def check_datetime(ctx: Context, node: n.Literal) -> bool:
    """Whether the day exists and the clock shows such a time; reported if not."""
    day, _, clock = node.value.partition("T")
    try:
        date.fromisoformat(day)
    except ValueError:
        _no_such_date(ctx, day, Span(node.span.path, node.span.start, node.span.start + len(day)))
        return False
    hours, minutes, *seconds = (int(part) for part in clock.split(":"))
    if hours > 23 or minutes > 59 or any(second > 59 for second in seconds):
        _no_such_time(ctx, clock, node.span)
        return False
    return True


def check_time(ctx: Context, node: n.Literal) -> bool:
    """Whether the clock shows such a time; reported if not."""
    if isinstance(node.value, int) and 0 <= node.value < 1_440:
        return True
    _no_such_time(ctx, shown_literal(node), node.span)
    return False


def _no_such_time(ctx: Context, shown: str, span: Span) -> None:
    help = "midnight is 00:00" if shown.startswith("24:00") else "times run from 00:00 to 23:59"
    ctx.report.add("bad-time", span, f"there is no {shown} on the clock", help)


def _duration(ctx: Context, node: n.Duration, scope: Scope) -> str:
    seen: set[str] = set()
    for _, unit in node.parts:
        if unit in _NO_DAYS:
            ctx.report.add("bad-duration", node.span, f"there is no {unit}", "there are business days and business hours")
            return "duration"
        if unit in seen:
            ctx.report.add("bad-duration", node.span, f"{unit}s are counted twice here", "write each unit once: 1 day 12 hours")
            return "duration"
        seen.add(unit)
    days = approximate_days(node)
    if days > MAX_DURATION_YEARS * 366:
        ctx.report.add(
            "bad-duration", node.span, f"{shown_duration(node)} is longer than {MAX_DURATION_YEARS} years", "check the unit"
        )
    return "duration"


def approximate_days(node: n.Duration) -> float:
    """About how long a duration is, for bounds and order."""
    return sum(count * _APPROXIMATE_DAYS.get(unit, 0.0) for count, unit in node.parts)


def _text(ctx: Context, node: n.Text, scope: Scope) -> str:
    for part in node.parts:
        if isinstance(part, n.Placeholder):
            _placeholder(ctx, part, node, scope)
        elif "{" in part:
            _braces(ctx, n.Literal("text", part, span=node.span), node)
    return "text"


def _placeholder(ctx: Context, part: n.Placeholder, text: n.Text, scope: Scope) -> None:
    """`{contact.first_name}` names a value like any expression."""
    span = _place_in_text(part, text)
    type_ = names.resolve(ctx, n.Name(part.name, span=span), scope)
    if type_ in ("map", "contact"):
        ctx.report.add(
            "bad-placeholder",
            span,
            f"`{{{part.name}}}` is {SHOWN[type_]}, which can't be written into a text",
            "name one value, such as {contact.first_name}",
        )


def _place_in_text(part: n.Placeholder, text: n.Text) -> Span:
    """The place of a placeholder's name inside its text: exact where the text stands as it was written (no escapes, one line)."""
    if part.span != text.span:
        return part.span
    position = text.span.start + 1
    found = None
    for one in text.parts:
        if isinstance(one, str):
            position += len(one)
            continue
        if one is part:
            found = position + 1
        position += len(one.name) + 2 + (0 if one.fallback is None else 1 + len(one.fallback))
    if position + 1 != text.span.end or found is None:
        return text.span
    return Span(text.span.path, found, found + len(part.name))


_BROKEN = re.compile(
    r"\{\s*((?:contact|event|campaign)\b[^{}|\n]*)(?:\|[^{}\n]*)?(\}|$)|\{\{\s*([\w.]+)[^{}\n]*\}\}|[\[<%]{1,2}\s*(contact\.\w+)\s*[\]>%]{1,2}"
)


def _braces(ctx: Context, node: n.Literal, whole: n.Text | None = None) -> str:
    """Finds what was meant as a placeholder: `{contact first_name}`, `{{contact.first_name}}`. Escaped braces look the same
    here, so a text with escapes (it is longer as written than as read) is left alone."""
    if whole is None and node.span.end - node.span.start not in (len(node.value) + 2, 0):
        return "text"
    match = _BROKEN.search(node.value)
    if match is None:
        return "text"
    inner = re.sub(r"[^\w.]+", ".", (match[1] or match[3] or match[4] or "").strip()).strip(".")
    shown = match[0] if len(match[0]) <= 40 else match[0][:39] + "…"
    ctx.report.add(
        "bad-placeholder", node.span, f"`{shown}` is not a placeholder", f"write {{{inner}}}; for a brace as it is, write \\{{"
    )
    return "text"


def _list(ctx: Context, node: n.List, scope: Scope) -> str:
    for item in node.items:
        value(ctx, item, scope)
    return "list"


def _map(ctx: Context, node: n.Map, scope: Scope) -> str:
    seen: set[str] = set()
    for key, item in node.pairs:
        if key in seen:
            ctx.report.add("declared-twice", item.span, f"the key `{key}` is given twice", "remove one of them")
        seen.add(key)
        value(ctx, item, scope)
    return "map"


# ── arithmetic ──


def _negative(ctx: Context, node: n.Negative, scope: Scope) -> str | None:
    type_ = value(ctx, node.value, scope)
    if type_ not in (None, "number", "duration"):
        ctx.report.add("type-mismatch", node.span, f"{describe(node.value)} is {SHOWN[type_]} and can't be negative")
        return None
    return type_


def _arithmetic(ctx: Context, node: n.Arithmetic, scope: Scope) -> str | None:
    left, right, op = value(ctx, node.left, scope), value(ctx, node.right, scope), node.op
    if op == "/" and isinstance(node.right, n.Literal) and node.right.value == 0:
        ctx.report.add("type-mismatch", node.span, "nothing can be divided by 0")
        return None
    if left is None or right is None:
        return None
    type_ = _sum_type(op, left, right)
    if type_ is None:
        verb = {"+": "added to", "-": "taken from", "*": "multiplied with", "/": "divided by"}[op]
        first, second = (node.right, node.left) if op in "+-" else (node.left, node.right)
        types = (right, left) if op in "+-" else (left, right)
        ctx.report.add(
            "type-mismatch",
            node.span,
            f"{describe(first)} is {SHOWN[types[0]]} and can't be {verb} {describe(second)}, which is {SHOWN[types[1]]}",
        )
    return type_


def _sum_type(op: str, left: str, right: str) -> str | None:
    if left == right == "number":
        return "number"
    if op == "+" and "text" in (left, right) and not {left, right} & {"contact", "map", "boolean"}:
        return "text"
    if left in ("date", "datetime") and right == "duration" and op in "+-":
        return left
    if op == "-" and left in _MOMENTS and right in _MOMENTS:
        return "duration"
    if left == right == "duration" and op in "+-":
        return "duration"
    if {left, right} == {"duration", "number"} and (op == "*" or op == "/" and left == "duration"):
        return "duration"
    return None


# ── conditions ──


def _and(ctx: Context, node: n.And, scope: Scope) -> str:
    for item in node.items:
        condition(ctx, item, scope)
    _contradictions(ctx, node, scope)
    return "boolean"


def _contradictions(ctx: Context, node: n.And, scope: Scope) -> None:
    from rules_engine.model import conditions

    conditions.check_and(ctx, node, scope)


def _or(ctx: Context, node: n.Or, scope: Scope) -> str:
    for item in node.items:
        condition(ctx, item, scope)
    from rules_engine.model import conditions

    conditions.check_or(ctx, node)
    return "boolean"


def _not(ctx: Context, node: n.Not, scope: Scope) -> str:
    ctx.negations += 1
    condition(ctx, node.item, scope)
    ctx.negations -= 1
    return "boolean"


def _compare(ctx: Context, node: n.Compare, scope: Scope) -> str:
    op = node.op
    if op in _OPPOSITE:
        left, right = value(ctx, node.left, scope), value(ctx, node.right, scope)
        comparable(ctx, op, node.left, left, node.right, right, scope, node.span)
        _note_risk(ctx, op, node.left)
    elif op == "in" or op == "not in":
        _member(ctx, node, scope)
    else:
        _text_test(ctx, node, scope)
        _note_risk(ctx, op, node.left)
    return "boolean"


def _note_risk(ctx: Context, op: str, left: n.Node) -> None:
    """Comparisons that surprise where the attribute is missing: `!=` is false then, and NOT of an order is true."""
    if type(left) is not n.Name or not left.name.startswith("contact."):
        return
    name = left.name[8:]
    negated = ctx.negations % 2 == 1
    if op in ("!=", "not in") and not negated:
        ctx.risky.append((name, left.span, False))
    elif negated and op in ("<", "<=", ">", ">="):
        ctx.risky.append((name, left.span, True))
    elif not negated:
        ctx.guards.add(name)


def comparable(
    ctx: Context, op: str, left: n.Node, left_type: str | None, right: n.Node, right_type: str | None, scope: Scope, span: Span
) -> None:
    """Two sides of a comparison: the types must fit, texts must be among the values of ONE OF, and the two must not both be
    fixed."""
    if left_type == right_type or left_type is None or right_type is None:
        choice(ctx, left, right, scope)
        choice(ctx, right, left, scope)
        if left_type is not None and op not in ("=", "!=") and left_type not in _ORDERED:
            ctx.report.add(
                "type-mismatch", span, f"{describe(left)} is {SHOWN[left_type]}, which has no order", "compare it with = or !="
            )
        return
    if left_type in _MOMENTS and right_type in _MOMENTS:
        return
    mismatch(ctx, left, left_type, right, right_type, span)


def mismatch(ctx: Context, left: n.Node, left_type: str, right: n.Node, right_type: str, span: Span) -> None:
    """Two values that can't be compared, with the way out where a literal is merely written wrongly."""
    for one, wanted in ((right, left_type), (left, right_type)):
        better = _rewritten(one, wanted)
        if better:
            other = left if one is right else right
            ctx.report.add(
                "type-mismatch",
                one.span,
                f"{describe(other)} is {SHOWN[wanted]}, but {describe(one)} is {_of_type(one)}",
                f"write {better}",
                suggestion=better,
            )
            return
    ctx.report.add(
        "type-mismatch",
        span,
        f"{describe(left)} is {SHOWN[left_type]} and {describe(right)} is {SHOWN[right_type]}: they can't be compared",
    )


def _of_type(node: n.Node) -> str:
    return SHOWN.get(
        "number" if isinstance(node, n.Literal) and node.type == "percent" else getattr(node, "type", ""), "something else"
    )


def _rewritten(node: n.Node, wanted: str) -> str | None:
    """How a literal should be written to be of the type that is wanted, if it can be."""
    if not isinstance(node, n.Literal):
        return None
    if node.type == "text":
        text = str(node.value).strip()
        if wanted == "number" and re.fullmatch(r"\d[\d_]*(\.\d+)?%?", text):
            return text
        if wanted == "boolean" and text.lower() in ("yes", "no", "true", "false", "on", "off"):
            return "yes" if text.lower() in ("yes", "true", "on") else "no"
        if wanted in _MOMENTS and re.fullmatch(r"\d{4}-\d{2}-\d{2}([ T]\d{1,2}:\d{2})?", text):
            return text.replace("T", " ")
        if wanted == "time" and re.fullmatch(r"\d{1,2}:\d{2}", text):
            return text
    elif node.type == "number" and wanted == "boolean" and node.value in (0, 1):
        return "yes" if node.value else "no"
    elif wanted == "text" and node.type in ("number", "date"):
        return f'"{node.value}"'
    return None


def choices_of(ctx: Context, node: n.Node, scope: Scope) -> tuple[Any, ...] | None:
    """The values of ONE OF that a name may take, None where any will do."""
    if type(node) is not n.Name:
        return None
    head, _, rest = node.name.partition(".")
    if head == "contact":
        return ctx.choices.get(rest)
    if not ctx.field_choices:
        return None
    events = scope.events if head == "event" else (scope.bindings[head],) if head in scope.bindings else ()
    found = [ctx.field_choices[event, rest] for event in events if (event, rest) in ctx.field_choices]
    return tuple(dict.fromkeys(one for values in found for one in values)) if found and len(found) == len(events) else None


def choice(ctx: Context, name: n.Node, given: n.Node, scope: Scope) -> None:
    """`contact.plan = "pad"`, where plan is ONE OF others."""
    if type(given) is n.Literal:
        allowed = choices_of(ctx, name, scope)
        if allowed is not None:
            one_of(ctx, allowed, given, describe(name))


def one_of(ctx: Context, allowed: tuple[Any, ...], given: n.Literal, whose: str) -> None:
    """A literal that must be among some values."""
    if given.value in allowed:
        return
    texts = [str(one) for one in allowed]
    near = ctx.report.speller.nearest(str(given.value), texts)
    listed = ", ".join(f'"{one}"' if isinstance(one, str) else str(one) for one in allowed[:12])
    ctx.report.add(
        "unknown-choice",
        given.span,
        f"{shown_literal(given)} is not among the values of {whose}",
        f'did you mean "{near}"?' if near else f"its values are {listed}",
        suggestion=f'"{near}"' if near else None,
    )


def _member(ctx: Context, node: n.Compare, scope: Scope) -> None:
    left, right = node.left, node.right
    if type(left) is n.Name and left.name == "contact":
        _in_segment(ctx, right, scope)
        return
    left_type = value(ctx, left, scope)
    if left_type is None and type(left) is n.Name and "." not in left.name and type(right) is n.Name:
        _in_segment(ctx, right, scope)  # a slip in `contact`, which has its message
        return
    _note_risk(ctx, node.op, left)
    if left_type == "list":
        value(ctx, right, scope)
        ctx.report.add(
            "type-mismatch",
            node.span,
            f"{describe(left)} is a list, and IN asks whether one value is in a list",
            f"ask {describe(left)} CONTAINS a value",
        )
        return
    if type(right) is n.List:
        if not right.items:
            ctx.report.add("never-true", right.span, "an empty list contains nothing", "list the values that are meant")
        for item in right.items:
            comparable(ctx, "=", left, left_type, item, value(ctx, item, scope), scope, item.span)
        return
    if type(right) is n.Name and right.name in ctx.model.segments and right.name not in ctx.model.constants:
        ctx.used.add(("segment", right.name))
        ctx.report.add(
            "wrong-kind",
            right.span,
            f"`{right.name}` is a segment, and {describe(left)} can't be in it",
            f"write contact IN {right.name}",
        )
        return
    right_type = value(ctx, right, scope)
    if right_type not in (None, "list"):
        ctx.report.add(
            "type-mismatch",
            right.span,
            f"{describe(right)} is {SHOWN[right_type]}, and IN needs a list",
            f"write [{shown_literal(right)}], or compare with =" if isinstance(right, n.Literal) else "write a list: [ … ]",
        )


def _in_segment(ctx: Context, right: n.Node, scope: Scope) -> None:
    if type(right) is n.Name and "." not in right.name:
        if right.name in ctx.model.constants and right.name not in ctx.model.segments:
            ctx.used.add(("constant", right.name))
            ctx.report.add(
                "wrong-kind", right.span, f"`{right.name}` is a constant, not a segment", "name a segment: contact IN newsletter"
            )
            return
        names.segment(ctx, right.name, right.span)
        return
    if isinstance(right, n.List):
        ctx.report.add(
            "type-mismatch", right.span, "`contact IN` takes one segment", "join several with OR: contact IN a OR contact IN b"
        )
        return
    ctx.report.add(
        "type-mismatch",
        right.span,
        f"`contact IN` needs the name of a segment, and {describe(right)} is none",
        "write the name without quotes and dots: contact IN newsletter",
    )


def _text_test(ctx: Context, node: n.Compare, scope: Scope) -> None:
    left, op = value(ctx, node.left, scope), node.op
    if op == "matches":
        _pattern(ctx, node.right, scope)
        right: str | None = "text"
    else:
        right = value(ctx, node.right, scope)
    word = op.upper()
    wanted = ("text", "list") if op == "contains" else ("text",)
    if left is not None and left not in wanted:
        ctx.report.add(
            "type-mismatch",
            node.left.span,
            f"{describe(node.left)} is {SHOWN[left]}, and {word} looks into {' or '.join(SHOWN[one] for one in wanted)}",
        )
    elif right not in (None, "text") and left != "list":
        ctx.report.add(
            "type-mismatch",
            node.right.span,
            f"{describe(node.right)} is {SHOWN[right or 'text']}, and {word} looks for a text",
            f'write "{shown_literal(node.right)}"' if isinstance(node.right, n.Literal) else "",
        )


def _pattern(ctx: Context, node: n.Node, scope: Scope) -> None:
    if not (isinstance(node, n.Literal) and node.type == "text"):
        ctx.report.add("bad-pattern", node.span, "MATCHES needs a regular expression in quotes", 'such as MATCHES "^/docs/"')
        return
    if node.value in ctx.patterns:
        return
    fault = _pattern_fault(node.value)
    if fault:
        ctx.report.add(
            "bad-pattern",
            node.span,
            f"this is no regular expression: {fault}",
            r"the syntax is RE2's; a dot or bracket as it is reads \. or \(",
        )
    else:
        ctx.patterns.add(node.value)


def _pattern_fault(pattern: str) -> str:
    try:
        import re2
    except ImportError:  # the wheel is missing on this platform: Python's own syntax is close
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            return str(error)
        return ""
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else error
        return (reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)).lower()
    return ""


def _between(ctx: Context, node: n.Between, scope: Scope) -> str:
    type_ = value(ctx, node.value, scope)
    for bound in (node.low, node.high):
        comparable(ctx, "<=", node.value, type_, bound, value(ctx, bound, scope), scope, bound.span)
    _note_risk(ctx, "<=", node.value)
    low, high = fixed(ctx, node.low), fixed(ctx, node.high)
    if low is not None and high is not None and type(low) is type(high) and low > high:
        ctx.report.add(
            "reversed-range",
            node.span,
            f"nothing lies between {describe(node.low)} and {describe(node.high)}: the first is greater",
            "write the smaller one first",
        )
    return "boolean"


def fixed(ctx: Context, node: n.Node | None, depth: int = 0) -> Any:
    """The value of a literal or of a constant: numbers as float, dates and moments as text, times as int, durations as about so
    many days (float); None where it isn't fixed."""
    if isinstance(node, n.Literal):
        if node.type in ("number", "percent"):
            return float(node.value) / (100 if node.type == "percent" else 1)
        return node.value
    if isinstance(node, n.Duration):
        return approximate_days(node)
    if isinstance(node, n.Negative):
        inner = fixed(ctx, node.value, depth + 1) if depth < 20 else None
        return -inner if isinstance(inner, float) else None
    if isinstance(node, n.Name) and depth < 20 and node.name in ctx.model.constants:
        return fixed(ctx, ctx.model.constants[node.name].value, depth + 1)
    return None


def _is_set(ctx: Context, node: n.IsSet, scope: Scope) -> str:
    value(ctx, node.value, scope)
    if isinstance(node.value, n.Name):
        if node.value.name.startswith("contact."):
            ctx.guards.add(node.value.name[8:])
    elif not isinstance(node.value, n.Aggregate):
        ctx.report.add(
            "type-mismatch",
            node.span,
            f"only a name can be unset; {describe(node.value)} always is",
            "ask it of an attribute or a field: contact.email IS SET",
        )
    return "boolean"


# ── history ──


def _did(ctx: Context, node: n.Did, scope: Scope) -> str:
    negations, ctx.negations = ctx.negations, 0
    history(ctx, node.history, scope)
    ctx.negations = negations
    if node.at_least is not None:
        count(ctx, node.at_least, "AT LEAST")
    return "boolean"


def _aggregate(ctx: Context, node: n.Aggregate, scope: Scope) -> str | None:
    negations, ctx.negations = ctx.negations, 0
    inner = history(ctx, node.history, scope)
    type_ = value(ctx, node.value, inner) if node.value is not None else None
    ctx.negations = negations
    function = node.function
    if function in ("count", "count_distinct"):
        return "number"
    if function in ("sum", "avg"):
        if type_ not in (None, "number") and node.value is not None:
            ctx.report.add(
                "type-mismatch",
                node.value.span,
                f"{describe(node.value)} is {SHOWN[type_]}, and {function.upper()} needs numbers",
            )
        return "number"
    if function in ("min", "max") and type_ is not None and type_ not in _ORDERED and node.value is not None:
        ctx.report.add("type-mismatch", node.value.span, f"{describe(node.value)} is {SHOWN[type_]}, which has no order")
    return type_


def history(ctx: Context, node: n.History, scope: Scope) -> Scope:
    """A question about the past. Returns the scope in which `event.` is the event asked about."""
    inner = occurrence(ctx, node.occurrence, scope)
    if node.within is not None:
        span_of_time(ctx, node.within, "WITHIN")
    if node.since_start and not scope.journey:
        ctx.report.add(
            "no-journey",
            node.span,
            f"SINCE START belongs to a journey, and {scope.place or 'this place'} has none",
            "say how far back: WITHIN 30 days",
        )
    return inner


def occurrence(ctx: Context, node: n.Occurrence, scope: Scope) -> Scope:
    """An event with its subject and filter. Returns the scope in which `event.` is that event."""
    info = names.event(ctx, node.event, node.event_span)
    if node.subject is None and node.where is None:
        return _inside(node.event, scope)
    if node.subject is not None:
        subject(ctx, node, info, scope)
    inner = _inside(node.event, scope)
    if node.where is not None:
        guards = ctx.guards
        ctx.guards = set(guards)
        condition(ctx, node.where, inner)
        ctx.guards = guards
    return inner


def _inside(event: str, scope: Scope) -> Scope:
    return Scope((event,), scope.bindings, scope.journey, scope.place)


def subject(ctx: Context, node: n.Occurrence, info: Any, scope: Scope) -> None:
    """`email.opened "welcome_1"`: where the subject is a template's name, it must be one that is sent (known at the end)."""
    given: Any = node.subject
    items = given.items if isinstance(given, n.List) else (given,)
    template = info is not None and info.subject.startswith("the template")
    for item in items:
        type_ = value(ctx, item, scope)
        if type_ not in (None, "text"):
            ctx.report.add(
                "type-mismatch", item.span, f"the subject of `{node.event}` is a text, and {describe(item)} is {SHOWN[type_]}"
            )
        elif template and isinstance(item, n.Literal) and "*" not in item.value:
            ctx.subjects.append((node.event, item.value, item.span))
        elif isinstance(item, n.Literal) and info is not None and info.declaration is None:
            _subject_that_never_comes(ctx, info, item)


def _subject_that_never_comes(ctx: Context, info: Any, item: n.Literal) -> None:
    """A subject that no event of a plugin's has: the event carries none, or a path, and this is none."""
    if not info.subject:
        fields = sorted(name for name, type_ in info.fields.items() if type_ == "text")
        help = f"ask for a field of it: {info.name} WHERE event.{fields[-1]} = …" if fields else "leave it out"
        message = f"`{info.name}` carries no subject, so this never matches"
        ctx.report.warn("unmatched-subject", item.span, message, help)
    elif info.subject.startswith("the path") and not item.value.startswith(("/", "*")):
        address = item.value.partition("://")[2] or item.value
        path = "/" + (address.partition("/")[2] if "." in address.partition("/")[0] else address)
        message = f"the subject of `{info.name}` is {info.subject} and begins with /, so this never matches"
        ctx.report.warn("unmatched-subject", item.span, message, f'write "{path}"', f'"{path}"')


# ── durations and counts where a clause or step needs them ──


def span_of_time(ctx: Context, node: n.Node, where: str, zero: bool = False) -> None:
    """A duration or the name of a constant that is one, above zero (unless `zero`)."""
    type_ = value(ctx, node, Scope(place=f"{where}"))
    if isinstance(node, n.Name) and type_ is None and not node.name.startswith(("contact.", "event.")):
        return
    if type_ not in (None, "duration"):
        ctx.report.add(
            "type-mismatch",
            node.span,
            f"{where} needs a duration, and {describe(node)} is {SHOWN[type_]}",
            "such as 3 days or 36h",
        )
        return
    length = fixed(ctx, node)
    if isinstance(length, float) and length <= 0 and not zero:
        ctx.report.add("bad-duration", node.span, f"{where} needs a duration above zero", "such as 3 days")


def count(ctx: Context, node: n.Node, where: str) -> None:
    """A whole number from 1 or the name of a constant that is one."""
    type_ = value(ctx, node, Scope(place=where))
    if type_ not in (None, "number"):
        ctx.report.add("type-mismatch", node.span, f"{where} needs a number, and {describe(node)} is {SHOWN[type_]}")
        return
    number = fixed(ctx, node)
    if isinstance(number, float) and (number < 1 or number != int(number)):
        ctx.report.add("bad-count", node.span, f"{where} needs a whole number from 1, not {number:g}", "such as 3")


def clock(ctx: Context, node: n.Node | None, where: str) -> int | None:
    """A time of day or the name of a constant that is one; its minutes if it is fixed and right."""
    if node is None:
        return None
    if isinstance(node, n.Literal) and node.type == "time":
        return node.value if check_time(ctx, node) else None
    type_ = value(ctx, node, Scope(place=where))
    if type_ not in (None, "time"):
        ctx.report.add(
            "type-mismatch", node.span, f"{where} needs a time of day, and {describe(node)} is {SHOWN[type_]}", "such as 09:00"
        )
        return None
    minutes = fixed(ctx, node)
    return minutes if isinstance(minutes, int) and not isinstance(minutes, bool) else None


def window(ctx: Context, start: n.Node, end: n.Node, where: str, span: Span) -> None:
    """From a time of day to another; over midnight if the second is earlier, never empty."""
    first, last = clock(ctx, start, where), clock(ctx, end, where)
    if first is not None and first == last:
        ctx.report.add(
            "empty-window",
            span,
            f"from {shown_time(first)} to {shown_time(first)} is no time at all: the end is not included",
            "for the whole day, leave the window out",
        )


def shown_time(minutes: int) -> str:
    """09:00"""
    return f"{minutes // 60:02}:{minutes % 60:02}"


def zone(ctx: Context, node: n.Node | None, scope: Scope) -> None:
    """`IN contact.timezone`, `IN "Europe/Prague"`, or a constant's name."""
    if node is None:
        return
    if isinstance(node, n.Literal):
        names.zone(ctx, str(node.value), node.span)
        return
    type_ = value(ctx, node, scope)
    if type_ not in (None, "text"):
        ctx.report.add(
            "type-mismatch",
            node.span,
            f"{describe(node)} is {SHOWN[type_]}, and a time zone is a text",
            'such as contact.timezone or "Europe/Prague"',
        )
    elif isinstance(node, n.Name) and node.name in ctx.model.constants:
        text = fixed(ctx, node)
        if isinstance(text, str):
            names.zone(ctx, text, node.span)


def _name(ctx: Context, node: n.Name, scope: Scope) -> str | None:
    type_ = names.resolve(ctx, node, scope)
    if type_ == "boolean" and node.name.startswith("contact.") and not ctx.negations:
        ctx.guards.add(node.name[8:])
    return type_


_CHECKS: dict[type, Callable[[Context, Any, Scope], str | None]] = {
    n.Literal: _literal,
    n.Duration: _duration,
    n.Text: _text,
    n.Name: _name,
    n.List: _list,
    n.Map: _map,
    n.Negative: _negative,
    n.Arithmetic: _arithmetic,
    n.And: _and,
    n.Or: _or,
    n.Not: _not,
    n.Compare: _compare,
    n.Between: _between,
    n.IsSet: _is_set,
    n.Did: _did,
    n.Aggregate: _aggregate,
}
