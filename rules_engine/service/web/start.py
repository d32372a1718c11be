"""From a project's settings and program to what `camp run --web` runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rules_engine.clock import Clock, SystemClock
from rules_engine.service import ingest
from rules_engine.service.dispatch import real_attributes
from rules_engine.service.keys import keys_of
from rules_engine.service.web.chance import Chance, system_chance
from rules_engine.service.web.core import Web
from rules_engine.service.web.reader import Reader
from rules_engine.service.web.settings import WebSettings
from rules_engine.service.web.view import View
from rules_engine.service.web.writer import Writer
from rules_engine.store.port import Store

__all__ = ["assemble", "keys_of"]


def assemble(
    settings: WebSettings,
    model: Any,
    zone: str,
    project: Path,
    open_store: Callable[[bool], Store],
    *,
    keys: Mapping[str, tuple[str, ...]] | None = None,
    view: View | None = None,
    clock: Clock | None = None,
    chance: Chance = system_chance,
) -> Web:
    """Everything behind the routes; nothing has begun. model, zone: the campaigns' meaning. open_store(readonly): called once in each
    thread that needs one. keys: campaign -> fields of its FOR EACH. view: shows a message again. Raises ValueError(sentence)
    where [web] and the campaigns disagree."""
    _check(settings, model)
    clock = clock or SystemClock()
    read_event, read_contact = ingest.readers(model, zone)
    writer = Writer(lambda: open_store(False), clock, max_backlog=settings.max_backlog)
    reader = Reader(lambda: open_store(True))
    return Web(settings, model, read_event, read_contact, clock, writer, reader, chance, project, real_attributes(), keys or {}, view=view)


def _check(settings: WebSettings, model: Any) -> None:
    """What the settings name must be declared, and of the right type: told at the start and not to a visitor."""
    for name in settings.preferences:
        if model.attribute_type(name) != "boolean" or name in model.facts:
            raise ValueError(f'[web.preferences] "{name}" is no attribute of contacts that is yes or no; declare it with ATTRIBUTE')
    for form in settings.forms.values():
        where = f"[web.forms.{form.name}]"
        for name in form.consent.values():
            if model.attribute_type(name) != "boolean" or name in model.facts:
                raise ValueError(f'{where} consent: "{name}" is no attribute of contacts that is yes or no')
        for name in form.attributes.values():
            if model.attribute_type(name) is None or name in model.facts or name in ("id", "email"):
                raise ValueError(f'{where} attributes: "{name}" is no attribute that a form may set')
            if name.startswith(("consent.", "suppressed.")):
                raise ValueError(f'{where} attributes: "{name}" is set by a consent field, not by a text')
    for hook in settings.webhooks.values():
        names = hook.events.values() if hook.events else [hook.event] if hook.kind == "standard" else []
        for name in names:
            if name != "contact" and name not in model.events:
                raise ValueError(f'[web.webhooks.{hook.name}] no event is called "{name}"')
