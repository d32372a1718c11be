"""What a contact's stored state says about the person: attributes and segments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from rules_engine.cli.settings import Settings

PAGE = 2_000


def attributes(state: Mapping[str, Any]) -> dict[str, Any]:
    """Attribute → value, as the engine holds them."""
    return dict(state.get("a") or {})


def segments(state: Mapping[str, Any]) -> dict[str, int]:
    """Segment → since when (ms)."""
    return dict(state.get("s") or {})


def everyone(store: Any, after: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """(id, state) of all contacts behind `after`, sorted by id, a page at a time; with those that were merged into another
    (`merged_into`)."""
    while True:
        ids = store.contact_ids(after, PAGE)
        if not ids:
            return
        rows = store.contacts(ids)
        for contact in ids:
            if contact in rows:
                yield contact, orjson.loads(rows[contact].state)
        after = ids[-1]


def merged_into(state: Mapping[str, Any]) -> tuple[str, int] | None:
    """(contact, ms) where a contact was merged into another, which it now is."""
    into = state.get("into")
    return (into["contact"], into["at"]) if into else None


def merged_in(state: Mapping[str, Any]) -> dict[str, int]:
    """Contacts that were merged into this one → when (ms)."""
    return dict(state.get("from") or {})


def shown(values: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Attributes in the text forms of an import file, by their declared types."""
    from rules_engine.engine.values import show

    return {
        name: show(value, model.attribute_type(name) if model is not None else None) for name, value in sorted(values.items())
    }


def project_model(settings: Settings) -> Any:
    """The project's meaning, for the types of attributes; None outside a project."""
    if settings.file is None:
        return None
    from rules_engine import project

    return project.load_program([settings.folder]).model


def record(contact: str, state: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """A contact as an import file writes it, with its segments."""
    return {"id": contact, **shown(attributes(state), model), "segments": sorted(segments(state))}
