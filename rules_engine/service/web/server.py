"""uvicorn in a thread beside the service: bound before anything begins, drained at the end."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable

import httptools  # noqa: F401  uvicorn and Starlette look for these two only when they need them
import python_multipart  # noqa: F401
import uvicorn

from rules_engine.limits import MAX_CONNECTIONS
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
            http="httptools",
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
