"""Values in and out: JSON and CSV text to the types of the language, and back. Errors are sentences for the person who made the file.

Inside Camp moments are ms (int), dates ISO text, times minutes of the day (int), durations their words (text).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rules_engine.facts import IDENTIFIED, MERGED, ContactChange, Event
from rules_engine.limits import MAX_TEXT_LENGTH
from rules_engine.model.meaning import Model, field_type
from rules_engine.runtime import calendar

_YES = frozenset({"yes", "true", "1", "y"})
_NO = frozenset({"no", "false", "0", "n"})
_LONGEST_ID = 200
_LONGEST_EMAIL = 254  # RFC 5321, 4.5.3.1.3
_EMAIL = re.compile(r"[^\s@<>()\[\],;:\"\\]+@[^\s@<>()\[\],;:\"\\]+")


def read_value(value: Any, type_: str, zone: str) -> Any:
    """A JSON value or CSV text as a value of a type; None and "" are missing. ValueError says what was expected."""
    if value is None or value == "":
        return None
    return _READ[type_](value, zone) if type_ in _READ else value


def _text(value: Any, zone: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict | list):
        raise ValueError(f"a text is expected, not {_kind(value)}")
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if len(text) > MAX_TEXT_LENGTH:
        raise ValueError(f"the text is longer than {MAX_TEXT_LENGTH} characters")
    if "\0" in text:
        raise ValueError("the text contains a NUL character")
    return text


def _number(value: Any, zone: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"a number is expected, not {_kind(value)}")
    if isinstance(value, str):
        try:
            value = float(value) if any(mark in value for mark in ".eE") else int(value)
        except ValueError:
            raise ValueError(f'a number is expected, not "{value}"') from None
    if value != value or abs(value) > 1e15:
        raise ValueError(f"the number {value} is out of range (±10^15)")
    return value


def _boolean(value: Any, zone: str) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _YES:
        return True
    if word in _NO:
        return False
    raise ValueError(f'yes or no is expected, not "{value}"')


def _date(value: Any, zone: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a date such as 2026-12-01 is expected, not {_kind(value)}")
    return calendar.parse_date(value[:10] if len(value) > 10 and value[10] in "T " else value).isoformat()


def _datetime(value: Any, zone: str) -> int:
    if isinstance(value, bool) or not isinstance(value, str):
        raise ValueError(f"a moment such as 2026-12-01T09:00:00Z is expected, not {_kind(value)}")
    return calendar.parse_datetime(value, zone)


def _time(value: Any, zone: str) -> int:
    text = str(value)
    hours, _, minutes = text.partition(":")
    if not (hours.isdigit() and minutes[:2].isdigit() and int(hours) < 24 and int(minutes[:2]) < 60):
        raise ValueError(f'a time such as 09:00 is expected, not "{text}"')
    return int(hours) * 60 + int(minutes[:2])


def _duration(value: Any, zone: str) -> str:
    return calendar.parse_duration(str(value)).text()


def _birthday(value: Any, zone: str) -> str:
    text = str(value)
    if text.startswith("--"):
        calendar.parse_date("2024-" + text[2:])  # a leap year: 29 February may be
        return text
    return _date(value, zone)


def _list(value: Any, zone: str) -> list[Any] | None:
    if isinstance(value, str):
        value = [item.strip() for item in value.replace(";", ",").split(",")]
    if not isinstance(value, list):
        raise ValueError(f"a list is expected, not {_kind(value)}")
    return [item for item in value if item not in (None, "")] or None


def _map(value: Any, zone: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"a map is expected, not {_kind(value)}")
    return value


def _kind(value: Any) -> str:
    names = {dict: "a map", list: "a list", str: "a text", bool: "yes or no", int: "a number", float: "a number"}
    return names.get(type(value), "this value")


_READ = {"text": _text, "number": _number, "boolean": _boolean, "date": _date, "datetime": _datetime, "time": _time, "duration": _duration,
         "birthday": _birthday, "list": _list, "map": _map}


def show(value: Any, type_: str | None) -> Any:
    """A value as the formats of CLI.md write it."""
    if value is None:
        return None
    if type_ == "datetime" and isinstance(value, int):
        return calendar.format_utc(value)
    if type_ == "time" and isinstance(value, int):
        return f"{value // 60:02d}:{value % 60:02d}"
    return value


def identity(value: Any, what: str) -> str:
    """An id as text. ValueError where it can't be one."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{what} must be a text")
    text = str(value).strip()
    if not text:
        raise ValueError(f"{what} is empty")
    if len(text) > _LONGEST_ID or any(ord(letter) < 32 for letter in text):
        raise ValueError(f"{what} is longer than {_LONGEST_ID} characters or has control characters")
    return text


def email_address(value: Any, zone: str = "") -> str | None:
    """An e-mail address without the blanks around it. ValueError where it can't be one; what only its own server can tell is not judged."""
    text = _text(value, zone).strip()
    if text and not (_EMAIL.fullmatch(text) and text.isprintable() and len(text) <= _LONGEST_EMAIL):
        raise ValueError(f"{text[:80]!r} is no e-mail address; one is written like ana@example.com")
    return text or None


def _closest(name: str, known: Any) -> str:
    from difflib import get_close_matches

    found = get_close_matches(name, list(known), 1, 0.75)
    return f"; did you mean {found[0]}?" if found else ""


def read_event(model: Model, record: Mapping[str, Any], default_zone: str = "UTC") -> Event:
    """An event from its JSON form (CLI.md). Fields that are not declared are kept as they are; declared ones take their type.

    ValueError with one sentence: no event, contact or time; an event nobody declares; a value of the wrong type.
    """
    name = record.get("event")
    if not isinstance(name, str) or not name:
        raise ValueError('"event" is missing: the name of what happened')
    info = model.events.get(name)
    if info is None:
        raise ValueError(f'no event is called "{name}"{_closest(name, model.events)}')
    if name == MERGED:
        raise ValueError(f'"{MERGED}" is made by Camp itself: send "{IDENTIFIED}" of the contact that is to be merged')
    contact = identity(record.get("contact"), '"contact"') if record.get("contact") is not None else None
    if contact is None:
        raise ValueError('"contact" is missing: whom it happened to')
    if record.get("at") in (None, ""):
        raise ValueError('"at" is missing: when it happened, such as 2026-03-02T09:00:00Z')
    at = _labelled("at", _datetime, record["at"], default_zone)
    data = record.get("data") or {}
    if not isinstance(data, Mapping):
        raise ValueError(f'"data" must be a map of fields, not {_kind(data)}')
    fields = {}
    for key, value in data.items():
        type_ = field_type(model, key, (name,)) if key in info.fields else None
        read = read_value(value, type_, default_zone) if type_ is None else _labelled(key, _READ.get(type_, _any), value, default_zone)
        if read is not None:
            fields[key] = read
    _one_of(info, fields)
    subject = record.get("subject")
    id_ = record.get("id")
    return Event(identity(id_, '"id"') if id_ not in (None, "") else "", name, contact, at, None if subject in (None, "") else _text(subject, ""),
                 fields)


def _one_of(info: Any, fields: Mapping[str, Any]) -> None:
    """Values outside a field's ONE OF."""
    if info.declaration is None:
        return
    for field in info.declaration.fields:
        if field.one_of is not None and field.name in fields:
            allowed = [item.value for item in field.one_of.items if hasattr(item, "value")]
            if fields[field.name] not in allowed:
                raise ValueError(f'{field.name}: "{fields[field.name]}" is none of {", ".join(map(str, allowed))}')


def _any(value: Any, zone: str) -> Any:
    return value


def _labelled(name: str, read: Any, value: Any, zone: str) -> Any:
    if value is None or value == "":
        return None
    try:
        return read(value, zone)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def read_contact(model: Model, record: Mapping[str, Any], at: int, id: str = "") -> ContactChange:
    """A contact from its JSON form (CLI.md): id and attributes; null or "" removes one. Nested maps are dotted names
    (`{"consent": {"email": true}}`). `segments` lists segments without a condition.

    ValueError with one sentence: no id, an attribute nobody declares, a value of the wrong type, an unknown time zone.
    """
    contact = identity(record["id"], '"id"') if record.get("id") not in (None, "") else None
    if contact is None:
        raise ValueError('"id" is missing: what names the contact')
    attributes: dict[str, Any] = {}
    segments: dict[str, bool] = {}
    for name, value in _flat(record):
        if name == "id":
            continue
        if name == "segments":
            segments = {_segment(model, segment): True for segment in _labelled(name, _list, value, "UTC") or ()}
            continue
        type_ = model.attribute_type(name)
        if type_ is None or name in model.facts:
            raise ValueError(f'no attribute is called "{name}"{_closest(name, model.attributes)}' if type_ is None
                             else f'"{name}" is a derived fact: it can\'t be set')
        attributes[name] = _labelled(name, email_address if name == "email" else _READ.get(type_, _any), value, "UTC")
        _allowed(model, name, attributes[name])
    zone = attributes.get("timezone")
    if zone is not None and not calendar.is_zone(zone):
        calendar.zone(zone)
    return ContactChange(id or f"contact/{contact}/{at}", contact, at, attributes, segments)


def _segment(model: Model, name: Any) -> str:
    declared = model.segments.get(name)
    if declared is not None and declared.condition is not None:
        raise ValueError(f'segments: "{name}" has a condition: nobody is put into it')
    return str(name)


def _flat(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in record.items():
        if isinstance(value, Mapping) and name in ("consent", "suppressed", "points"):
            found += _flat(value, f"{prefix}{name}.")
        else:
            found.append((prefix + name, value))
    return found


def _allowed(model: Model, name: str, value: Any) -> None:
    info = model.attributes.get(name)
    if value is None or info is None or info.declaration is None or info.declaration.one_of is None:
        return
    allowed = [item.value for item in info.declaration.one_of.items if hasattr(item, "value")]
    if value not in allowed:
        raise ValueError(f'{name}: "{value}" is none of {", ".join(map(str, allowed))}')
