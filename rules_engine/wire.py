"""What passes between Camp and a plugin's child process: frames of JSON, the language's values, and records as data. Pure.

A frame is four bytes of length (big-endian), one byte that says how to read the rest, and JSON. What JSON can't say (moments,
dates, times, durations) travels as {"$camp": [kind, …]}; maps that have such a key themselves are told apart from it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import date, datetime, time, timedelta
from pathlib import Path, PurePath
from typing import Any

import orjson

from rules_engine.actions import Action, Call, Change, EventType, Parameter

TAG = "$camp"
HEAD = 4  # bytes of length before each frame
FUNCTIONS = ("changes", "perform", "lookup")  # what stays in the child of an Action

_MARK = orjson.dumps(TAG)
_PLAIN, _TAGGED, _SLOW = b"P", b"T", b"S"


def frame(value: Any) -> bytes:
    """A value as one frame. Raises ValueError for one that is nested too deeply."""
    data = dump(value)
    return len(data).to_bytes(HEAD, "big") + data


def dump(value: Any) -> bytes:
    """A value as bytes: JSON types, datetime, date, time, timedelta and Path come back as they were, tuples and sets as lists, other
    things as their text. NaN and the infinities come back as None. Raises ValueError for one that is nested too deeply."""
    tagged = 0

    def default(item: Any) -> Any:
        nonlocal tagged
        said = _said(item)
        tagged += isinstance(said, dict)
        return said

    try:
        data = orjson.dumps(value, default, orjson.OPT_PASSTHROUGH_DATETIME)
        if tagged in (0, data.count(_MARK)):
            return (_TAGGED if tagged else _PLAIN) + data
    except TypeError:  # a huge number, a lone surrogate, a key that is no text
        pass
    try:
        return _SLOW + json.dumps(_spell(value), ensure_ascii=False).encode("utf-8", "surrogatepass")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def load(data: bytes) -> Any:
    """The value of `dump`'s bytes. Raises ValueError for bytes that are none."""
    form, text = data[:1], data[1:]
    if form == _PLAIN:
        return orjson.loads(text)
    if form not in (_TAGGED, _SLOW):
        raise ValueError("it is no frame of Camp")
    try:  # orjson reads a huge number as a float, and no lone surrogates
        return _read(orjson.loads(text) if form == _TAGGED else json.loads(text.decode("utf-8", "surrogatepass")))
    except (TypeError, KeyError, IndexError, OverflowError, RecursionError) as error:
        raise ValueError("a tagged value can't be read") from error


def _said(item: Any) -> Any:
    """What JSON has no word for, in words that it has."""
    if isinstance(item, datetime):
        return {TAG: ["datetime", item.isoformat()]}
    if isinstance(item, date):
        return {TAG: ["date", item.isoformat()]}
    if isinstance(item, time):
        return {TAG: ["time", item.isoformat()]}
    if isinstance(item, timedelta):
        return {TAG: ["duration", item.days, item.seconds, item.microseconds]}
    if isinstance(item, PurePath):
        return {TAG: ["path", str(item)]}
    if isinstance(item, set | frozenset):
        return sorted(item, key=repr)
    return list(item) if isinstance(item, tuple) else dict(item) if isinstance(item, Mapping) else str(item)


def _spell(value: Any) -> Any:
    """The slow way, which tells a map's own "$camp" from ours."""
    if isinstance(value, Mapping):
        if TAG in value or not all(isinstance(key, str) for key in value):
            return {TAG: ["map", [[_spell(key), _spell(item)] for key, item in value.items()]]}
        return {key: _spell(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_spell(item) for item in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None
    said = _said(value)
    return [_spell(item) for item in said] if isinstance(said, list) else said


_KINDS: dict[str, Callable[..., Any]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "duration": timedelta,
    "path": Path,
    "map": lambda pairs: {_read(key): _read(item) for key, item in pairs},
}


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return [_read(item) for item in value]
    if not isinstance(value, dict):
        return value
    if TAG in value:
        kind, *parts = value[TAG]
        return _KINDS[kind](*parts)
    return {key: _read(item) for key, item in value.items()}


# ---------------------------------------------------------------- records as data


def call_data(call: Call) -> list[Any]:
    """A Call without the types that would make every frame a tagged one."""
    return [*call[:7], str(call.project), call.at.isoformat(), *call[9:]]


def call_of(data: list[Any]) -> Call:
    """The Call that `call_data` wrote."""
    return Call(*data[:7], Path(data[7]), datetime.fromisoformat(data[8]), *data[9:])


def action_data(action: Action) -> dict[str, Any]:
    """A valid Action as data; of its functions only whether they are there."""
    data: dict[str, Any] = {item.name: getattr(action, item.name) for item in fields(Action)}
    data["primary"] = action.primary and _parameter_data(action.primary)
    data["parameters"] = [_parameter_data(parameter) for parameter in action.parameters]
    return data | {name: data[name] is not None for name in FUNCTIONS}


def action_of(data: Mapping[str, Any], functions: Mapping[str, Any]) -> Action:
    """The Action that `action_data` wrote, with these in place of its functions. Raises TypeError or KeyError for another thing."""
    values = {item.name: data[item.name] for item in fields(Action)}
    values["primary"] = data["primary"] and _parameter_of(data["primary"])
    values["parameters"] = tuple(_parameter_of(item) for item in data["parameters"])
    values["writes"] = tuple(data["writes"])
    return Action(**values | {name: functions[name] if data[name] else None for name in FUNCTIONS})


def _parameter_data(parameter: Parameter) -> dict[str, Any]:
    return {item.name: getattr(parameter, item.name) for item in fields(Parameter)}


def _parameter_of(data: Mapping[str, Any]) -> Parameter:
    return Parameter(**{**data, "choices": tuple(data["choices"])})


def event_data(event: EventType) -> dict[str, Any]:
    """A valid EventType as data."""
    data = {item.name: getattr(event, item.name) for item in fields(EventType)}
    return data | {"changes": [list(change) for change in event.changes]}


def event_of(data: Mapping[str, Any]) -> EventType:
    """The EventType that `event_data` wrote. Raises TypeError or KeyError for another thing."""
    return EventType(**{**data, "changes": tuple(Change(*change) for change in data["changes"])})
