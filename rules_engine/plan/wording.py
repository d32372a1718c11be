"""An expression, trigger or action as canonical words: for reasons, and for step identities that survive reformatting of the text."""

from __future__ import annotations

from typing import Any

from rules_engine.syntax import nodes as n

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FUNCTIONS = {"count_distinct": "COUNT DISTINCT"}


def clock(minutes: int) -> str:
    """`570` as `09:30`."""
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def number(value: float) -> str:
    """A number without a needless `.0`."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def days(numbers: tuple[int, ...]) -> str:
    """Weekdays, a run of three or more as a range."""
    if len(numbers) > 2 and numbers == tuple(range(numbers[0], numbers[-1] + 1)):
        return f"{_DAYS[numbers[0]]}-{_DAYS[numbers[-1]]}"
    return ", ".join(_DAYS[day] for day in numbers)


def duration(node: n.Duration) -> str:
    return " ".join(f"{number(count)} {unit}{'' if count == 1 else 's'}" for count, unit in node.parts)


def words(node: Any) -> str:
    """The canonical text of a node; `bracket` decides where AND, OR and arithmetic need brackets."""
    return _WORDS[type(node)](node)


def _literal(node: n.Literal) -> str:
    if node.type == "text":
        return '"' + str(node.value) + '"'
    if node.type == "boolean":
        return "yes" if node.value else "no"
    if node.type == "time":
        return clock(node.value)
    if node.type == "percent":
        return number(node.value) + "%"
    if node.type == "datetime":
        return str(node.value).replace("T", " ")
    return number(node.value) if node.type == "number" else str(node.value)


def _text(node: n.Text) -> str:
    parts = []
    for part in node.parts:
        if isinstance(part, str):
            parts.append(part)
        else:
            parts.append("{" + part.name + ("" if part.fallback is None else "|" + part.fallback) + "}")
    return '"' + "".join(parts) + '"'


def _grouped(node: n.Node, *kinds: type) -> str:
    return f"({words(node)})" if isinstance(node, kinds) else words(node)


def _compare(node: n.Compare) -> str:
    return f"{words(node.left)} {node.op.upper()} {words(node.right)}"


def _occurrence(node: n.Occurrence) -> str:
    text = ("ANY " if node.any else "") + node.event
    if node.subject is not None:
        text += " " + words(node.subject)
    if node.where is not None:
        text += " WHERE " + _grouped(node.where, n.And, n.Or, n.Not)
    return text


def _history(node: n.History) -> str:
    text = _occurrence(node.occurrence)
    if node.within is not None:
        return f"{text} WITHIN {words(node.within)}"
    return f"{text} SINCE START" if node.since_start else text


def _did(node: n.Did) -> str:
    text = "DID " + _history(node.history)
    return text if node.at_least is None else f"{text} AT LEAST {words(node.at_least)} TIMES"


def _aggregate(node: n.Aggregate) -> str:
    name = _FUNCTIONS.get(node.function, node.function.upper())
    if node.value is None:
        return f"{name} {_history(node.history)}"
    return f"{name} {words(node.value)} OF {_history(node.history)}"


def _tail(node: Any, text: str) -> str:
    at = getattr(node, "at", None)
    if at is not None:
        text += " AT " + words(at)
    if node.where is not None:
        text += " WHERE " + _grouped(node.where, n.Or)
    return text


def _happening(node: n.Happening) -> str:
    occurrence = node.occurrence
    text = ("ANY " if occurrence.any else "") + occurrence.event
    if occurrence.subject is not None:
        text += " " + words(occurrence.subject)
    if node.since_start:
        text += " SINCE START"
    return text if occurrence.where is None else f"{text} WHERE {_grouped(occurrence.where, n.Or)}"


def _changes(node: n.Changes) -> str:
    text = f"{node.name.name} CHANGES"
    if node.old is not None:
        text += " FROM " + words(node.old)
    if node.new is not None:
        text += " TO " + words(node.new)
    return _tail(node, text)


def _offset(node: Any) -> str:
    return "" if node.offset is None else f"{words(node.offset)} {'BEFORE' if node.sign < 0 else 'AFTER'} "


def rhythm(node: n.Rhythm) -> str:
    if node.days:
        text = days(node.days)
    elif node.unit is not None:
        text = node.unit + (f" ON {node.month_day}" if node.month_day is not None else "")
    else:
        text = words(node.every)
    return text if node.at is None else f"{text} AT {words(node.at)}"


def _absence(node: n.Absence) -> str:
    return _tail(node, f"NOT {_occurrence(node.occurrence)} FOR {words(node.duration)}")


def action(node: n.Action) -> str:
    """`email.send "welcome_1"`: the verb and its primary; the further arguments are content, not identity."""
    return node.name if node.primary is None else f"{node.name} {words(node.primary)}"


def after(node: n.After) -> str:
    text = f"AFTER {words(node.duration)}"
    if node.from_start:
        text += " FROM START"
    if node.at is not None:
        text += f" AT {words(node.at)}"
    if node.window is not None:
        text += f" BETWEEN {words(node.window[0])} AND {words(node.window[1])}"
    return text + (f" ON {days(node.days)}" if node.days else "")


_WORDS: dict[type, Any] = {
    n.Literal: _literal,
    n.Duration: duration,
    n.Text: _text,
    n.Name: lambda node: node.name,
    n.List: lambda node: "[" + ", ".join(map(words, node.items)) + "]",
    n.Map: lambda node: "{" + ", ".join(f"{key}: {words(value)}" for key, value in node.pairs) + "}",
    n.Arithmetic: lambda node: f"{_grouped(node.left, n.Arithmetic)} {node.op} {_grouped(node.right, n.Arithmetic)}",
    n.Negative: lambda node: f"-{_grouped(node.value, n.Arithmetic)}",
    n.Compare: _compare,
    n.Between: lambda node: f"{words(node.value)} BETWEEN {words(node.low)} AND {words(node.high)}",
    n.IsSet: lambda node: f"{words(node.value)} IS {'NOT ' if node.negated else ''}SET",
    n.And: lambda node: " AND ".join(_grouped(item, n.Or) for item in node.items),
    n.Or: lambda node: " OR ".join(map(words, node.items)),
    n.Not: lambda node: f"NOT {_grouped(node.item, n.And, n.Or)}",
    n.Occurrence: _occurrence,
    n.History: _history,
    n.Did: _did,
    n.Aggregate: _aggregate,
    n.Happening: _happening,
    n.MembershipChange: lambda node: _tail(node, f"{node.who} {node.kind.upper()} {node.segment}"),
    n.Becomes: lambda node: _tail(node, f"{node.name.name} BECOMES {node.op} {words(node.value)}"),
    n.Changes: _changes,
    n.Anchored: lambda node: _tail(node, _offset(node) + words(node.anchor)),
    n.Anniversary: lambda node: _tail(node, f"{_offset(node)}ANNIVERSARY OF {node.anchor.name}"),
    n.Every: lambda node: _tail(node, f"EVERY {rhythm(node.rhythm)}"),
    n.Absence: _absence,
    n.Condition: lambda node: words(node.condition),
    n.Action: action,
    n.After: after,
}
