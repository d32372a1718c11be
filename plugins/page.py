"""Events of a web site: page visits, forms, downloads. No actions."""

from __future__ import annotations

from collections.abc import Iterator

from rules_engine.plugin import EventType, hookimpl


@hookimpl
def register_events() -> Iterator[EventType]:
    yield EventType(
        "page.viewed",
        "The contact visited a page.",
        {"url": "text", "referrer": "text", "title": "text", "seconds": "number", "device": "text"},
        "the path of the page",
    )
    # What a form asks is the form's business, so the answers are one map: event.fields.company.
    yield EventType("form.submitted", "The contact sent a form.", {"fields": "map", "page": "text"}, "the form's name")
    yield EventType("asset.downloaded", "The contact downloaded a file.", {"url": "text", "title": "text"}, "the file's name")
