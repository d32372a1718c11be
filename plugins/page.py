"""Events of a web site: page visits, forms, downloads. No actions."""

from __future__ import annotations

from collections.abc import Iterator

from rules_engine.plugin import EventType, hookimpl


@hookimpl
def register_events() -> Iterator[EventType]:
    yield EventType(
        "page.viewed",
        "The contact visited a page.",
        {"url": "text", "referrer": "text", "title": "text", "seconds": "number", "device": "text", "machine": "boolean"},
        "the path of the page",
    )
    # Time on page is known only at the end, and a page may never say that it was left: an event of its own, no second visit.
    # A tab that is come back to is left again, with the seconds of both times.
    yield EventType(
        "page.left",
        "The contact left the page, or went to another tab; seconds is how long it was looked at.",
        {"url": "text", "seconds": "number", "device": "text", "machine": "boolean"},
        "the path of the page",
    )
    # What a form asks is the form's business, so the answers are one map: event.fields.company.
    yield EventType("form.submitted", "The contact sent a form.", {"fields": "map", "page": "text"}, "the form's name")
    yield EventType(
        "asset.downloaded",
        "The contact downloaded a file.",
        {"url": "text", "title": "text", "machine": "boolean", "campaign": "text"},
        "the file's name",
    )
