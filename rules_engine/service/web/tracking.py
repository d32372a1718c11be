"""Links of messages that are followed by GET: the pixel, the click, the download. A GET changes nothing; it is one visit in the log, told
whether a person or a machine came."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from rules_engine import links
from rules_engine.service.web import machines, pages
from rules_engine.service.web.clicks import Clicks
from rules_engine.service.web.core import Web, short
from rules_engine.service.web.settings import is_web_url
from rules_engine.service.web.visits import NO_STORE, PIXEL, visitor_of
from rules_engine.store.port import EffectRow

OPEN_SLOT = 60_000  # ms: opens of one message within a minute are one
CLICK_SLOT = 10_000  # ms: clicks on the same link within ten seconds are one
FOLDER = "assets"


def token_values(web: Web, purpose: str, request: Request) -> Mapping[str, Any] | None:
    """What the link says, if we signed it for this purpose and it names a contact."""
    values = links.verify(web.settings.keys, purpose, request.path_params["token"]) if web.settings.keys else None
    if values is None or not isinstance(values.get("c"), str) or not 0 < len(values["c"]) <= 500:
        return None
    return values


async def get_open(web: Web, request: Request) -> Response:
    """The pixel of a message."""
    values = token_values(web, "open", request)
    if values is None:
        return pages.not_found()
    effect = await web.effect(values.get("e"))
    channel, subject, data = web.of_message(values, effect)
    machine = _machine(web, request, effect)
    now = web.clock.now()
    id = f"open:{short(values.get('e'), values['c'], subject, machine)}:{now // OPEN_SLOT}"
    await web.visit(web.event(f"{channel}.opened", values["c"], id, subject, {**data, "machine": machine}))
    return Response(PIXEL, 200, {**NO_STORE, "Cross-Origin-Resource-Policy": "cross-origin"}, "image/gif")


async def get_click(web: Web, clicks: Clicks, request: Request) -> Response:
    """A link of a message: on to the address inside the signature, whatever the state of the store."""
    values = token_values(web, "click", request)
    target = values.get("u") if values is not None else None
    if values is None or not is_web_url(target):
        return pages.not_found()
    effect = await web.effect(values.get("e"))
    machine = _machine(web, request, effect)
    message = short(values.get("e"), values["c"], values.get("s"))
    burst = clicks.note(message, target, web.clock.now())
    clicks.later(_tell(web, values, effect, machine, message, burst))
    if not machine and not (web.settings.respect_dnt and machines.refuses(request.headers)):  # camp.js does nothing there, so nobody took it away
        target = _with_word(web, target, values["c"])
    return Response(None, 302, {**NO_STORE, "Location": quote(target, safe="%/:=&?~#+!$,;'@()*[]")})


async def _tell(web: Web, values: Mapping[str, Any], effect: EffectRow | None, machine: bool, message: str, burst: Any) -> None:
    now = web.clock.now()
    await asyncio.sleep(web.hold_ms / 1000)
    machine = machine or burst()
    channel, subject, data = web.of_message(values, effect)
    id = f"click:{message}:{short(values['u'], machine)}:{now // CLICK_SLOT}"
    await web.visit(web.event(f"{channel}.clicked", values["c"], id, subject, {**data, "url": values["u"], "machine": machine}, at=now))


def _machine(web: Web, request: Request, effect: EffectRow | None) -> bool:
    if machines.machine(request.method, request.headers):
        return True
    handed = effect and (effect.settled_at or effect.claimed_at)
    return bool(handed) and 0 <= web.clock.now() - handed < machines.HANDOVER_MS  # type: ignore[operator]


def _with_word(web: Web, target: str, contact: str) -> str:
    """To a site of ours the visitor takes along who it is, for a few minutes, behind # where no server logs it."""
    parts = urlsplit(target)
    if f"{parts.scheme}://{parts.netloc}".lower() not in web.settings.sites or parts.fragment:
        return target
    return f"{target}#camp={links.sign(web.settings.keys[0], 'identify', {'c': contact, 't': web.clock.now()})}"


# ---------------------------------------------------------------- downloads


async def get_signed_asset(web: Web, request: Request) -> Response:
    """A file that a message links to: `{"c": contact, "f": file}`."""
    values = token_values(web, "asset", request)
    file = _file(web, values.get("f")) if values is not None else None
    if values is None or file is None:
        return pages.not_found()
    effect = await web.effect(values.get("e"))
    _, _, data = web.of_message(values, effect)
    await _downloaded(web, request, values["c"], values["f"], data, _machine(web, request, effect))
    return _download(file)


async def get_asset(web: Web, request: Request) -> Response:
    """A file of the project's folder assets/, counted for the visitor."""
    name = request.path_params["name"]
    file = _file(web, name)
    if file is None:
        return pages.not_found()
    answer = _download(file)
    if not (web.settings.respect_dnt and machines.refuses(request.headers)) and not web.visits.wait(_address(request)) and not web.writer.full():
        machine = bool(machines.machine(request.method, request.headers))
        await _downloaded(web, request, visitor_of(web, request, answer), name, {}, machine)
    return answer


async def _downloaded(web: Web, request: Request, contact: str, name: str, data: Mapping[str, Any], machine: bool) -> None:
    id = f"asset:{short(contact, name, machine)}:{web.clock.now() // CLICK_SLOT}"
    where = f"{web.settings.url}/{FOLDER}/{quote(name)}"
    await web.visit(web.event("asset.downloaded", contact, id, name, {**data, "url": where, "machine": machine}))


def _file(web: Web, name: Any) -> Path | None:
    """A file below assets/: no way out of it by `..`, a link, a hidden or absolute name."""
    if not isinstance(name, str) or not name or len(name) > 500 or "\\" in name or not name.isprintable():
        return None
    if any(part in ("", ".", "..") or part.startswith(".") for part in name.split("/")):
        return None
    folder = (web.project / FOLDER).resolve()
    try:
        found = (folder / name).resolve()
        return found if found.is_relative_to(folder) and found.is_file() else None
    except (OSError, ValueError):
        return None


def _download(file: Path) -> Response:
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    headers = {
        "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox", "Cache-Control": "private, no-cache",
        "Referrer-Policy": "no-referrer",
    }  # fmt: skip
    return FileResponse(file, headers=headers, media_type=kind, filename=file.name, content_disposition_type="attachment")


def _address(request: Request) -> str:
    return request.client.host if request.client else ""
