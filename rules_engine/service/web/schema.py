"""The JSON Schemas of the OpenAPI document, made of the project's own events and attributes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rules_engine.limits import MAX_ITEMS

MOMENT = {"type": "string", "format": "date-time", "example": "2026-03-02T09:00:00Z"}
IDENTITY = {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[A-Za-z0-9_.:@+-]+$"}
TEXT = {"type": "string", "maxLength": 1000}

_TYPES: Mapping[str, Mapping[str, Any]] = {
    "text": {"type": "string", "maxLength": 1000, "pattern": "^[^\\x00]*$"},
    "number": {"type": "number", "minimum": -1_000_000_000, "maximum": 1_000_000_000},
    "boolean": {"type": "boolean"},
    "date": {"type": "string", "format": "date", "example": "2026-12-01"},
    "datetime": MOMENT,
    "time": {"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$", "example": "09:00"},
    "duration": {"type": "string", "enum": ["3 days", "2 hours", "30 minutes"]},
    "birthday": {"type": "string", "format": "date", "example": "1990-05-10"},
    "list": {"type": "array", "items": {"type": "string"}, "maxItems": 100},
    "map": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 1000}},
}

WARNINGS = {"type": "array", "items": {"type": "string"}, "description": "What no condition can read: mostly a slip in a field's name."}
PROBLEM = {
    "type": "object",
    "description": "Problem details (RFC 9457).",
    "required": ["type", "title", "status", "detail"],
    "properties": {"type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"}, "detail": {"type": "string"}},
}
TAKEN = {
    "type": "object",
    "required": ["status", "id"],
    "properties": {
        "status": {"type": "string", "enum": ["accepted", "duplicate"]},
        "id": {"type": "string"},
        "warning": {"type": "string"},
        "warnings": WARNINGS,
    },
}
BATCH = {
    "type": "object",
    "required": ["accepted", "duplicates", "conflicts", "rejected", "without_id", "items"],
    "properties": {
        **{name: {"type": "integer", "minimum": 0} for name in ("accepted", "duplicates", "conflicts", "rejected", "without_id")},
        "warning": {"type": "string"},
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["index", "status"],
                "properties": {
                    "index": {"type": "integer"},
                    "line": {"type": "integer"},
                    "status": {"type": "string", "enum": ["accepted", "duplicate", "conflict", "rejected"]},
                    "id": {"type": "string"},
                    "reason": {"type": "string"},
                    "warnings": WARNINGS,
                },
            },
        },
    },
}


def components(model: Any) -> dict[str, Any]:
    """The schemas by name."""
    return {"Problem": PROBLEM, "Taken": TAKEN, "Batch": BATCH, "Event": event(model), "Contact": contact(model)}


def event(model: Any) -> dict[str, Any]:
    """An event of CLI.md: one of the declared names; what a field must be is checked by its declaration."""
    return {
        "oneOf": [_one_event(name, info) for name, info in sorted(model.events.items())],
        "discriminator": {"propertyName": "event"},
    }


def _one_event(name: str, info: Any) -> dict[str, Any]:
    fields = {key: _TYPES[type_] for key, type_ in sorted(info.fields.items()) if type_ in _TYPES and not _is_choice(info, key)}
    return {
        "type": "object",
        "title": name,
        "required": ["event", "contact"],
        "properties": {
            "id": {**IDENTITY, "description": "The key of deduplication; without it a repeat can't be recognised."},
            "event": {"type": "string", "enum": [name]},
            "contact": IDENTITY,
            "at": {**MOMENT, "description": "When it happened; default: now."},
            "subject": TEXT | {"pattern": "^[^\\x00]*$"},
            "data": {"type": "object", "properties": fields},
        },
    }


def _is_choice(info: Any, key: str) -> bool:
    declared = getattr(info, "declaration", None)
    return declared is not None and any(field.name == key and field.one_of is not None for field in declared.fields)


def contact(model: Any) -> dict[str, Any]:
    """A contact of CLI.md: its id, and new values of declared attributes."""
    known = {}
    for name, info in sorted(model.attributes.items()):
        type_ = model.attribute_type(name)
        declared = getattr(info, "declaration", None)
        if name not in model.facts and type_ in _TYPES and name not in ("id", "timezone") and getattr(declared, "one_of", None) is None:
            known[name] = _TYPES[type_]
    return {
        "type": "object",
        "required": ["id"],
        "additionalProperties": False,
        "properties": {**known, "id": IDENTITY, "at": {**MOMENT, "description": "When it changed; default: now."}},
    }


def several(one: str) -> dict[str, Any]:
    """One or a list of them. Of a list anything is taken in and each item judged by itself."""
    reference = {"$ref": f"#/components/schemas/{one}"}
    items = {"anyOf": [reference, {"description": "Any other item is rejected with its reason; it never stops the others."}]}
    return {"oneOf": [reference, {"type": "array", "items": items, "maxItems": MAX_ITEMS}]}
