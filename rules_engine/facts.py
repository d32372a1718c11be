"""What the engine is told: events. Pure records; times are integer milliseconds since the epoch, UTC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

IDENTIFIED = "contact.identified"  # a visitor is known to be somebody: `data["contact"]`
MERGED = "contact.merged"          # what the visitor was, for the contact that it is; made by the engine only


class Event(NamedTuple):
    """Something that happened to one contact.

    id: unique per source, the key of deduplication; at: when it happened; received: when Camp was told (the log's time: decides the
    order of processing, never before `at` of the log before it); subject: what `email.opened "welcome_1"` matches, or None.
    data: field values in JSON types; datetime fields as milliseconds (`rules_engine.engine.values` reads them from text).
    """

    id: str
    name: str
    contact: str
    at: int
    subject: str | None = None
    data: Mapping[str, Any] = {}
    received: int | None = None


class ContactChange(NamedTuple):
    """New values for some attributes of a contact, as an import or an edit gives them (None removes one). Processed like an event:
    what changes can start, end and resume campaigns. `segments`: {name: member?} for segments without a condition."""

    id: str
    contact: str
    at: int
    attributes: Mapping[str, Any]
    segments: Mapping[str, bool] = {}


class Wake(NamedTuple):
    """Nothing happened but time: `at` is the moment up to which what is due is done."""

    contact: str
    at: int
