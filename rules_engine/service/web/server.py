"""uvicorn in a thread beside the service: bound before anything begins, drained at the end."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

import httptools  # noqa: F401  uvicorn and Starlette look for these two only when they need them
import python_multipart  # noqa: F401
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rules_engine.limits import MAX_CONNECTIONS, MAX_HEAD_BYTES, MAX_HEAD_SECONDS
from rules_engine.service.web.address import shown
from rules_engine.service.web.app import build_app
from rules_engine.service.web.core import Web
from rules_engine.store.port import StoreError

log = logging.getLogger("camp.web")

DRAIN_SECONDS = 10
START_SECONDS = 15


def bind(host: str, port: int) -> socket.socket:
    """The listening socket. Raises OSError where the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, else asyncio leaves Nagle on: 40 ms an answer
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    made.set_inheritable(False)
    return made


class Guarded(HttpToolsProtocol):
    """uvicorn's protocol, which alone waits for ever for the end of a request's headers, however many there are: a thousand silent
    connections would be all that the service has."""

    _timer: asyncio.TimerHandle | None = None
    _head = 0

    def connection_made(self, transport: Any) -> None:
        """The first request must come soon."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """What of it belongs to a body is not counted: by then the headers have ended."""
        self._head += len(data)
        super().data_received(data)
        if self._timer is not None and self._head > MAX_HEAD_BYTES:
            self.transport.close()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._watch()

    def on_headers_complete(self) -> None:
        """Its body is watched by whoever reads it."""
        self._unwatch()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        self._unwatch()
        self._head = 0
        self._timer = self.loop.call_later(MAX_HEAD_SECONDS, self._late)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self.cycle is not None and not self.cycle.response_complete:  # an earlier request on this line is still being answered
            self._timer = self.loop.call_later(MAX_HEAD_SECONDS, self._late)
        elif not self.transport.is_closing():
            self.transport.close()


class WebServer:
    """A context: inside it, requests are answered. on_death: called if the server ends by itself."""

    def __init__(self, web: Web, listening: socket.socket, extra_routes: tuple = (), on_death: Callable[[], None] | None = None) -> None:
        self._web, self._socket, self._on_death, self._ending, self._died = web, listening, on_death, False, False
        host, port = listening.getsockname()[:2]
        self.address = shown(host, port)
        proxies = list(web.settings.trusted_proxies)
        config = uvicorn.Config(
            build_app(web, extra_routes),
            log_config=None,
            access_log=False,  # tokens stand in paths
            server_header=False,
            ws="none",
            loop="asyncio",
            http=Guarded,
            lifespan="on",
            proxy_headers=bool(proxies),
            forwarded_allow_ips=proxies,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="camp-web", daemon=True)

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except BaseException:
            log.exception("the web server failed")
        if not self._ending:
            self._died = True
            log.error("the web server ended by itself")
            if self._on_death is not None:
                self._on_death()

    def __enter__(self) -> WebServer:
        self._web.writer.start()
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Answers what is under way, writes what is in the queue, ends. Raises StoreError if the server had ended by itself: whoever
        watches the service should start it again."""
        self._ending = True
        self._server.should_exit = True
        self._thread.join(DRAIN_SECONDS + 5)
        self._web.writer.close()
        self._web.reader.close()
        self._socket.close()
        if self._died and kind is None:
            raise StoreError("the web server ended by itself", "the log says why", "web")
