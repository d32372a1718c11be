"""What compiled expressions call. Small pure functions; None is a missing value."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from rules_engine.limits import BUCKETS
from rules_engine.runtime import calendar
from rules_engine.runtime.calendar import Duration
from rules_engine.runtime.history import (  # noqa: F401  (names for generated code)
    average,
    count,
    did,
    distinct,
    entries,
    expiry,
    extreme,
    first,
    inside,
    last,
    total,
)


def short_name(text: str) -> str:
    """A stable short name for a canonical text."""
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def bucket(name: str, contact: str) -> int:
    """0 … 9,999: the same for the same name and contact, on every machine, for ever (LANGUAGE.md: Bucket = hash(split name, contact))."""
    digest = hashlib.blake2b(f"{name}\0{contact}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % BUCKETS


def local_ms(text: str, zone: str) -> int:
    """A local moment as written (`2026-12-01T09:00`) in a zone."""
    return calendar.parse_datetime(text, zone)


def midnight(day: str, tick: Any) -> int | None:
    """The first moment of a date in the contact's zone."""
    return None if day is None else calendar.local_moment(date.fromisoformat(day), 0, tick.zone())


def local_day(ms: int, tick: Any) -> str:
    return calendar.local_date(ms, tick.zone()).isoformat()


def plus_datetime(ms: int, duration: Duration, tick: Any, sign: int) -> int:
    return calendar.add(ms, duration, tick.zone(), tick.program.business_hours, sign)


def plus_date(day: str, duration: Duration, tick: Any, sign: int) -> str:
    """A date plus a duration is a date; a part below a day counts only where it adds up to whole days."""
    moment = calendar.local_moment(date.fromisoformat(day), 0, "UTC")
    return calendar.local_date(calendar.add(moment, duration, "UTC", tick.program.business_hours, sign), "UTC").isoformat()


def elapsed(ms: int) -> Duration:
    return Duration(0, 0, ms)


def as_span(value: Any) -> Duration | None:
    """A duration as facts keep it, in words; what is none is missing."""
    if value is None or isinstance(value, Duration):
        return value
    try:
        return calendar.parse_duration(value)
    except ValueError:
        return None


def span_add(left: Duration, right: Duration) -> Duration:
    return Duration(*(a + b for a, b in zip(left, right, strict=True)))


def span_sub(left: Duration, right: Duration) -> Duration:
    return Duration(*(a - b for a, b in zip(left, right, strict=True)))


def span_mul(left: Any, right: Any) -> Duration:
    span, factor = (left, right) if isinstance(left, Duration) else (right, left)
    return Duration(*(round(part * factor) for part in span))


def span_div(left: Duration, right: float) -> Duration | None:
    return None if not right else Duration(*(round(part / right) for part in left))


def span_length(span: Duration) -> int:
    """Durations compare by their usual length."""
    return span.approx_ms()


def divide(left: float, right: float) -> float | None:
    """Division by zero is a missing value."""
    return left / right if right else None


def flip(moment: int | None, now: int) -> int | None:
    """The next moment at which a comparison of `now` with `moment` can turn: there, or one millisecond after."""
    if moment is None or moment + 1 <= now:
        return None
    return moment if moment > now else moment + 1


def bound(tick: Any, alias: str, field: str) -> Any:
    """A field of the event that a WAIT … AS bound; missing where another alternative won."""
    event = tick.bindings.get(alias)
    if event is None:
        return None
    if field in ("id", "name", "at", "subject"):
        return event.get(field)
    return inside(event["data"], field) if "." in field else event["data"].get(field)


def as_type(value: Any, type_: str) -> Any:
    """What stands inside a map as a value of the type it is compared with, since nobody declared one: a form's answers are texts. Missing
    where it can't be one."""
    if value is None or isinstance(value, Mapping):
        return None
    if type_ == "number":
        return value if isinstance(value, int | float) and not isinstance(value, bool) else _number(value)
    if type_ == "boolean":
        return value if isinstance(value, bool) else {"yes": True, "true": True, "on": True, "1": True}.get(str(value).strip().lower(), False)
    if type_ == "datetime":
        return value if isinstance(value, int) and not isinstance(value, bool) else _parsed(calendar.parse_datetime, value, "UTC")
    if type_ == "date":
        day = _parsed(calendar.parse_date, value)
        return None if day is None else day.isoformat()
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if type_ == "text" else value


def _number(value: Any) -> int | float | None:
    for read in (int, float):
        try:
            found: int | float = read(value)
        except (TypeError, ValueError, OverflowError):
            continue
        return found if abs(found) <= 1e15 else None  # neither infinite nor NaN
    return None


def _parsed(read: Callable[..., Any], value: Any, *more: Any) -> Any:
    try:
        return read(str(value), *more)
    except ValueError:
        return None


def contains(left: Any, right: Any) -> bool:
    """Text in text, or a value in a list."""
    if isinstance(left, list):
        return right in left
    return str(right) in str(left)


def starts(left: Any, right: Any) -> bool:
    return str(left).startswith(str(right))


def ends(left: Any, right: Any) -> bool:
    return str(left).endswith(str(right))


def matches(pattern: Any, value: Any) -> bool:
    return pattern.search(str(value)) is not None


def pattern(text: str) -> Any:
    """A user's regular expression, through RE2: linear time whatever the input (PROMISES.md)."""
    import re2

    return re2.compile(text)


def subject_test(wanted: tuple[str, ...]) -> Callable[[Any], bool]:
    """A test of an event's subject against texts in which `*` stands for anything."""
    plain = frozenset(text for text in wanted if "*" not in text)
    globs = [pattern("^" + ".*".join(_quoted(part) for part in text.split("*")) + "$") for text in wanted if "*" in text]
    if not globs:
        return plain.__contains__
    return lambda subject: subject in plain or subject is not None and any(glob.search(str(subject)) for glob in globs)


def _quoted(text: str) -> str:
    import re

    return re.escape(text)


def show(value: Any, type_: str | None, fallback: str | None, tick: Any) -> str:
    """A value inside a text, as a person reads it; moments in the contact's zone."""
    if value is None or value == "":
        return fallback or ""
    if value is True or value is False:
        return "yes" if value else "no"
    if type_ == "datetime" and isinstance(value, int):
        day = calendar.local_date(value, tick.zone())
        minute = calendar.local_minute(value, tick.zone())
        return f"{day.isoformat()} {minute // 60:02d}:{minute % 60:02d}"
    if type_ == "time" and isinstance(value, int):
        return f"{value // 60:02d}:{value % 60:02d}"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else f"{value:.2f}".rstrip("0").rstrip(".") if round(value, 2) == value else repr(value)
    if isinstance(value, Duration):
        return value.text()
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def written(value: Any, type_: str | None) -> Any:
    """A value as it leaves Camp: moments as ISO 8601, times as HH:MM, durations in words."""
    if value is None:
        return None
    if type_ == "datetime" and isinstance(value, int):
        return calendar.format_utc(value)
    if type_ == "time" and isinstance(value, int):
        return f"{value // 60:02d}:{value % 60:02d}"
    if isinstance(value, Duration):
        return value.text()
    return value


# ── questions about raw occurrences, inside one instance ─────────────────────────────────────────────────────────────────────────

def _asked(tick: Any, query: Any, since: bool, look: Any, take: Any, wanted: Any) -> list[tuple[int, Any]]:
    """(time, value) of the occurrences that count. While they are looked at they stand where the instance's event stands."""
    saved = tick.e, tick.event_subject, tick.event_at, tick.wanted
    tick.wanted = wanted
    found = []
    try:
        for at, _, subject, data in entries(tick.history.get(query.id), tick, query, since):
            tick.e, tick.event_subject, tick.event_at = data, subject, at
            if look is None or look(tick):
                value = None if take is None else take(tick)
                if take is None or value is not None:
                    found.append((at, value))
    finally:
        tick.e, tick.event_subject, tick.event_at, tick.wanted = saved
    return found


def ask_did(tick: Any, query: Any, since: bool, look: Any, take: Any, times: int, wanted: Any) -> bool:
    return len(_asked(tick, query, since, look, take, wanted)) >= times


def ask_count(tick: Any, query: Any, since: bool, look: Any, take: Any, times: int, wanted: Any) -> int:
    return len(_asked(tick, query, since, look, take, wanted))


def ask_sum(tick: Any, query: Any, since: bool, look: Any, take: Any, times: int, wanted: Any) -> float:
    value = sum(value for _, value in _asked(tick, query, since, look, take, wanted))
    return round(value, 9) if isinstance(value, float) else value


def ask_avg(tick: Any, query: Any, since: bool, look: Any, take: Any, times: int, wanted: Any) -> float | None:
    found = _asked(tick, query, since, look, take, wanted)
    return round(sum(value for _, value in found) / len(found), 9) if found else None


def ask_min(tick: Any, query: Any, since: bool, look: Any, take: Any, times: int, wanted: Any) -> Any:
    return min((value for _, value in _asked(tick, query, since, look, take, wanted)), default=None)


def ask_max(tick: Any, query: Any, since: bool, look: Any, take: Any, times: int, wanted: Any) -> Any:
    return max((value for _, value in _asked(tick, query, since, look, take, wanted)), default=None)


def ask_count_distinct(tick: Any, query: Any, since: bool, look: Any, take: Any, times: int, wanted: Any) -> int:
    return len({str(value) for _, value in _asked(tick, query, since, look, take, wanted)})


def ask_last(tick: Any, query: Any, since: bool, look: Any, take: Any, times: int, wanted: Any) -> Any:
    found = _asked(tick, query, since, look, take, wanted)
    return found[-1][1] if found else None


def ask_first(tick: Any, query: Any, since: bool, look: Any, take: Any, times: int, wanted: Any) -> Any:
    found = _asked(tick, query, since, look, take, wanted)
    return found[0][1] if found else None


def earliest(moments: tuple[int | None, ...]) -> int | None:
    """The first of some moments, None where there is none."""
    return min((moment for moment in moments if moment is not None), default=None)


def change_tag(attributes: dict[str, Any], name: str, there: bool) -> None:
    """Adds a tag or takes it away, where nobody watches the tags."""
    tags = attributes.get("tags")
    if there:
        if tags is None:
            attributes["tags"] = [name]
        elif name not in tags:
            attributes["tags"] = sorted([*tags, name])
    elif tags and name in tags:
        left = [tag for tag in tags if tag != name]
        if left:
            attributes["tags"] = left
        else:
            del attributes["tags"]
