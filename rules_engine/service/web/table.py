"""Every endpoint once: what routes it, and what describes it. The OpenAPI document is made of this table, so it can't drift."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rules_engine.service.web import api, bodies, forms, schema, tracking, view, visits, webhooks, wishes
from rules_engine.service.web.auth import require_token
from rules_engine.service.web.clicks import Clicks
from rules_engine.service.web.core import Web
from rules_engine.service.web.problems import MEDIA, json_response

Handler = Callable[[Request], Awaitable[Response]]
_TOKEN = {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,200}$"}
_NAME = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,60}$"}
_FILE = {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,60}$"}


class Endpoint(NamedTuple):
    """method and path as OpenAPI writes them; takes: content type -> schema of the body; gives: status -> (content type, schema or None,
    what it means); problems: statuses told as problem details; token: whether a bearer token is needed; headers: of the request."""

    method: str
    path: str
    handler: Handler
    summary: str
    gives: Mapping[int, tuple[str, Any, str]]
    takes: Mapping[str, Any] = {}
    problems: tuple[int, ...] = ()
    token: bool = False
    parameters: Mapping[str, Any] = {}
    headers: Mapping[str, Any] = {}
    route: str = ""


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


_ANY = {"type": "object"}
_LINES = {"type": "string", "description": "One JSON object a line."}
_WRITE = (400, 401, 403, 408, 413, 415, 422, 503)
_KEY = {"Idempotency-Key": {"type": "string", "pattern": "^[!-~]{1,200}$"}}
_FORM = {"application/x-www-form-urlencoded": _ANY, "multipart/form-data": _ANY}
_PAGE = ("text/html", None, "A page.")
_LOST = {404: ("text/html", None, "Nobody signed this link for this purpose.")}


def endpoints(web: Web, clicks: Clicks) -> list[Endpoint]:
    """The table."""

    def on(function: Callable[..., Awaitable[Response]], *parts: Any) -> Handler:
        return partial(function, web, *parts)

    def take(name: str, path: str, handler: Handler) -> Endpoint:
        return Endpoint(
            "post", path, handler, f"Take in {name.lower()}s: one, a list, or JSON Lines; answered when they are durable.",
            {
                202: (bodies.JSON, _ref("Taken"), "The one is kept."),
                200: (bodies.JSON, {"oneOf": [_ref("Taken"), _ref("Batch")]}, "It was known; or all of a batch are kept or were known."),
                207: (bodies.JSON, _ref("Batch"), "Of a batch some are kept, others not: each says why."),
            },
            {bodies.JSON: schema.several(name), bodies.LINES[0]: _LINES}, (*_WRITE, 409), True, headers=_KEY,
        )  # fmt: skip

    moved = ("text/html", None, "On to the address inside the signature.")
    gif = ("image/gif", None, "A picture of one point.")
    file = ("application/octet-stream", None, "The file, as a download.")
    wish = (400, 408, 413, 415, 422, 503)
    return [
        take("Event", "/v1/events", on(api.post_events)),
        take("Contact", "/v1/contacts", on(api.post_contacts)),
        Endpoint("post", "/v1/identify", on(api.post_identify), "Tell which contact a visitor is.", {202: (bodies.JSON, _ANY, "It is kept.")},
                 {bodies.JSON: {"type": "object", "required": ["visitor", "contact"], "properties": {
                     "visitor": {"type": "string", "pattern": "^visitor:[0-9a-f]{32}$"},
                     "contact": {**schema.IDENTITY, "pattern": "^[A-Za-z0-9_.@+-]+$"}}}}, _WRITE, True),
        Endpoint("post", "/v1/webhooks/{name}", on(webhooks.post_webhook), "Take in a signed webhook.",
                 {200: (bodies.JSON, _ANY, "It is kept, was known, or means nothing here."), 202: (bodies.JSON, _ANY, "It is kept.")},
                 {bodies.JSON: _ANY, **_FORM}, (400, 401, 404, 408, 409, 413, 415, 422, 503), parameters={"name": _NAME}),
        Endpoint("post", "/t/page", on(visits.post_page), "A page was opened or left; sent by camp.js.",
                 {200: (bodies.JSON, _ANY, "It is kept; the browser's new id."), 204: ("", None, "It is kept.")},
                 {"text/plain": {"type": "string"}, bodies.JSON: _ANY}, (400, 403, 408, 413, 422, 429, 503)),
        Endpoint("get", "/t/page.gif", on(visits.get_pixel), "A visit of a page without script.", {200: gif}),
        Endpoint("get", "/camp.js", on(visits.get_script), "The script for the pages of a site.", {200: ("text/javascript", None, "The script.")}),
        Endpoint("post", "/f/{name}", on(forms.post_form), "Take in a form of a site.",
                 {200: _PAGE, 202: (bodies.JSON, _ANY, "It is kept."), 303: ("text/html", None, "On to the form's `redirect`.")},
                 {**_FORM, bodies.JSON: _ANY}, (400, 403, 404, 408, 413, 415, 422, 429, 503), parameters={"name": _NAME}),
        Endpoint("get", "/o/{token}.gif", on(tracking.get_open), "The pixel of a message.", {200: gif, **_LOST}, parameters={"token": _TOKEN}),
        Endpoint("get", "/o/{token}", on(tracking.get_open), "The pixel of a message.", {200: gif, **_LOST}, parameters={"token": _TOKEN}),
        Endpoint("get", "/c/{token}", on(tracking.get_click, clicks), "A link of a message.", {302: moved, **_LOST}, parameters={"token": _TOKEN}),
        Endpoint("get", "/a/{token}", on(tracking.get_signed_asset), "A file that a message links to.", {200: file, **_LOST},
                 parameters={"token": _TOKEN}),
        Endpoint("get", "/assets/{name}", on(tracking.get_asset), "A file of the project's folder assets/.", {200: file, **_LOST},
                 parameters={"name": _FILE}, route="/assets/{name:path}"),
        Endpoint("get", "/u/{token}", on(wishes.get_unsubscribe), "Asks whether to unsubscribe.", {200: _PAGE, **_LOST},
                 parameters={"token": _TOKEN}),
        Endpoint("post", "/u/{token}", on(wishes.post_unsubscribe), "Unsubscribes, at once (RFC 8058).", {200: _PAGE, **_LOST},
                 _FORM, wish, parameters={"token": _TOKEN}),
        Endpoint("get", "/p/{token}", on(wishes.get_preferences), "Shows what the contact gets.", {200: _PAGE, **_LOST}, {}, (503,),
                 parameters={"token": _TOKEN}),
        Endpoint("post", "/p/{token}", on(wishes.post_preferences), "Takes the contact's choices.", {200: _PAGE, **_LOST},
                 _FORM, wish, parameters={"token": _TOKEN}),
        Endpoint("get", "/v/{token}", on(view.get_view), "Shows a message in the browser.", {200: _PAGE, **_LOST}, {}, (503,),
                 parameters={"token": _TOKEN}),
        Endpoint("get", "/healthz", healthz, "Whether the process lives.", {200: (bodies.JSON, _ANY, "It lives.")}),
        Endpoint("get", "/readyz", on(readyz), "Whether facts are taken in.", {200: (bodies.JSON, _ANY, "They are.")}, {}, (503,)),
        Endpoint("get", "/openapi.json", on(openapi, clicks), "This document.", {200: (bodies.JSON, _ANY, "The document.")}),
    ]  # fmt: skip


def routes(web: Web, clicks: Clicks) -> list[Route]:
    """The table as routes: one a path, so that a wrong method is told which are right."""
    paths: dict[str, dict[str, Handler]] = {}
    for item in endpoints(web, clicks):
        paths.setdefault(item.route or item.path, {})[item.method.upper()] = item.handler
    return [Route(path, _by_method(methods), methods=list(methods)) for path, methods in paths.items()]


def _by_method(methods: Mapping[str, Handler]) -> Handler:
    async def handle(request: Request) -> Response:
        return await methods["GET" if request.method == "HEAD" else request.method](request)

    return handle


# ---------------------------------------------------------------- about the service itself


async def healthz(request: Request) -> Response:
    """The process lives; nothing else is asked."""
    return json_response({"status": "ok"})


async def readyz(web: Web, request: Request) -> Response:
    """The store takes writes and the engine is not too far behind; else 503 with the reason."""
    writer = web.writer
    reason = writer.full() or (f"the store can't be written: {writer.trouble.kind}" if writer.trouble else "")
    state = {"status": "busy" if reason else "ok", "backlog": writer.backlog, "waiting": writer.waiting}
    if not reason:
        return json_response(state)
    body = {"type": "urn:camp:problem:not-ready", "title": "Service Unavailable", "status": 503, "detail": reason}
    return json_response(body | {"backlog": writer.backlog, "waiting": writer.waiting}, 503, {"Retry-After": "5"}, MEDIA)


def metrics_route(web: Web, scrape: Callable[[], bytes]) -> Route:
    """/metrics in Prometheus' text format, for whoever bears a token. Not described: it is no part of the API."""

    async def metrics(request: Request) -> Response:
        require_token(request, web.settings.tokens)
        return Response(scrape(), 200, {"Cache-Control": "no-store"}, "text/plain; version=0.0.4")

    return Route("/metrics", metrics, methods=["GET"])


async def openapi(web: Web, clicks: Clicks, request: Request) -> Response:
    """The API, described."""
    return json_response(document(web, clicks))


def document(web: Web, clicks: Clicks) -> dict[str, Any]:
    """The OpenAPI document of this project."""
    paths: dict[str, dict[str, Any]] = {}
    for item in endpoints(web, clicks):
        paths.setdefault(item.path, {})[item.method] = _operation(item, bool(web.settings.tokens))
    return {
        "openapi": "3.1.0",
        "info": {"title": "Camp", "version": "1", "description": "Facts in: events, contacts, visits, forms, reports. docs/http.md tells more."},
        "servers": [{"url": web.settings.url or "/"}],
        "paths": paths,
        "components": {
            "schemas": schema.components(web.model),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(item: Endpoint, tokens: bool) -> dict[str, Any]:
    responses = {str(status): _response(kind, schema_, text) for status, (kind, schema_, text) in item.gives.items()}
    for status in (*item.problems, *(404 for _ in item.parameters)):
        said = responses.setdefault(str(status), {"description": "Why not, as problem details.", "content": {}})
        said["content"][MEDIA] = {"schema": _ref("Problem")}
        if item.path[:3] in ("/u/", "/p/", "/f/"):
            said["content"]["text/html"] = {}  # a person's browser gets a page
    parameters = [{"name": name, "in": "path", "required": True, "schema": kind} for name, kind in item.parameters.items()]
    parameters += [{"name": name, "in": "header", "schema": kind} for name, kind in item.headers.items()]
    found: dict[str, Any] = {"summary": item.summary, "responses": responses}
    if parameters:
        found["parameters"] = parameters
    if item.takes:
        found["requestBody"] = {"required": True, "content": {kind: {"schema": schema_} for kind, schema_ in item.takes.items()}}
    if item.token and tokens:
        found["security"] = [{"token": []}]
    return found


def _response(kind: str, schema_: Any, text: str) -> dict[str, Any]:
    return {"description": text, "content": {kind: {"schema": schema_} if schema_ else {}} if kind else {}}
