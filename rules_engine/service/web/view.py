"""The page that shows a message in the browser (`view_url`): made anew from the template and the contact as they are now. It changes
nothing, not even the log: the message is shown without its pixel and without click links."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from rules_engine.actions import Call
from rules_engine.host import Host
from rules_engine.service.web import pages
from rules_engine.service.web.core import Web
from rules_engine.service.web.tracking import token_values
from rules_engine.store import codec
from rules_engine.store.port import EffectRow

View = Callable[[EffectRow, Mapping[str, Any]], tuple[str, str]]
"""(effect, the contact's attributes) -> ("html" | "text", content). Raises ValueError where it can't be shown."""

CSP = (
    "default-src 'none'; img-src https: http: data:; style-src 'unsafe-inline'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'; "
    "sandbox allow-popups allow-popups-to-escape-sandbox"
)
"""A message is an author's HTML and not a page of ours: no script, no form, an origin of its own."""


def viewer(host: Host, settings: Mapping[str, Mapping[str, Any]], project: Path) -> View:
    """Asks the plugin of the effect's action, by the function `view(call)` of its module."""

    def show(effect: EffectRow, contact: Mapping[str, Any]) -> tuple[str, str]:
        action = host.actions.get(effect.action)
        view = getattr(sys.modules.get(getattr(action.perform, "__module__", "") or "") if action else None, "view", None)
        if not callable(view):
            raise ValueError(f"{effect.action} can't show its messages")
        table = settings.get(host.providers.get(effect.action, ""), {})
        at = datetime.fromtimestamp(effect.at / 1000, UTC)
        kind, content = view(Call(effect.id, effect.action, effect.primary, effect.params, contact, effect.ruleset or None, table, project, at,
                                  effect.attempts, effect.message_class))  # fmt: skip
        return str(kind), str(content)

    return show


async def get_view(web: Web, request: Request) -> Response:
    """The message that the link is about, for the contact that it names."""
    values = token_values(web, "view", request)
    effect = await web.effect(values.get("e")) if values is not None else None
    if values is None or web.view is None or effect is None or effect.contact != values["c"]:
        return pages.not_found()
    rows = await web.ask(lambda store: store.contacts([effect.contact]))
    state = rows[effect.contact].state if effect.contact in rows else None
    contact = {"id": effect.contact, **(web.attributes(codec.load(state)) if state else {})}
    try:
        kind, content = await asyncio.to_thread(web.view, effect, contact)
    except ValueError:  # the template has gone or changed, or the contact has lost what it needs
        return pages.not_found()
    headers = {**pages.HEADERS, "Content-Security-Policy": CSP}
    return HTMLResponse(_for_phones(content), 200, headers) if kind == "html" else PlainTextResponse(content, 200, headers)


def _for_phones(content: str) -> str:
    """A mail program shows a message as wide as the screen is; a phone's browser does so only if the page says it."""
    if re.search(r"<meta[^>]*viewport", content, re.IGNORECASE):
        return content
    start = re.match(r"\s*<!doctype[^>]*>", content, re.IGNORECASE)
    place = start.end() if start else 0
    return f'{content[:place]}<meta name="viewport" content="width=device-width,initial-scale=1">{content[place:]}'
