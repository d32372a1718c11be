"""The application: routes of the table, errors in one shape, headers for all."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rules_engine.service.web import problems
from rules_engine.service.web.clicks import Clicks
from rules_engine.service.web.core import Web
from rules_engine.service.web.table import routes


def build_app(web: Web, extra_routes: Sequence[BaseRoute] = ()) -> Starlette:
    """The ASGI application. extra_routes: others' endpoints beside ours (`/metrics`). Start `web.writer` before the first request."""
    clicks = Clicks()

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await clicks.drain()

    handlers: dict[Any, Any] = {
        problems.Problem: problems.on_problem,
        problems.PersonalProblem: problems.on_problem,
        HTTPException: problems.on_http_error,
        Exception: problems.on_fault,
    }
    app = Starlette(routes=[*routes(web, clicks), *extra_routes], exception_handlers=handlers, lifespan=lifespan)
    app.add_middleware(_Headers)
    app.router.redirect_slashes = False
    return app


class _Headers:
    """For every answer: its type is what it says, and no browser guesses."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)
