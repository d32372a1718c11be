"""A provider that misbehaves: an HTTP server on 127.0.0.1 that does what its script says, for the tests of plugins that call one.

    >>> from rules_engine.testing.servers import BadServer
    >>> import urllib.request
    >>> with BadServer(200) as server:
    ...     answer = urllib.request.urlopen(server.url + "/hook", b"hello")
    ...     answer.status, server.requests[0].method, server.requests[0].path, server.requests[0].body
    (200, 'POST', '/hook', b'hello')
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

MISBEHAVIOUR = ("drop", "hang", "half", "garbage", "flood", "early")
"""drop: takes the request, then closes the line. hang: takes it and never answers. half: breaks off in the middle of a 200. garbage:
answers bytes that are no HTTP. flood: a 200 that does not end. early: closes the line before it has read anything."""

MAX_WAIT = 10.0  # seconds after which a server's thread gives up
MAX_FLOOD = 50_000_000


class Request(NamedTuple):
    """What arrived. Header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Answer(NamedTuple):
    """What a step may be: a status with headers and a body."""

    status: int
    body: bytes = b"{}"
    headers: Mapping[str, str] = {}


Step = int | str | Answer | Callable[[Request], "int | str | Answer"]


class BadServer:
    """Answers one request after the other as the script says, each on a line of its own; when the script is over, with 200. A step is a
    status, an Answer, one of MISBEHAVIOUR, or a function from the request to one of these. `requests` holds what arrived."""

    def __init__(self, *script: Step) -> None:
        self.script: list[Step] = list(script)
        self.requests: list[Request] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._stop = threading.Event()
        self.port = int(self._socket.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> BadServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends it, also what hangs."""
        self._stop.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                line, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with line, contextlib.suppress(OSError, ValueError):
            line.settimeout(MAX_WAIT)
            step: Step = self.script.pop(0) if self.script else 200
            if step == "early":
                return
            request = _read(line)
            self.requests.append(request)
            if callable(step):
                step = step(request)
            self._answer(line, Answer(step) if isinstance(step, int) else step)

    def _answer(self, line: socket.socket, step: str | Answer) -> None:
        if isinstance(step, Answer):
            headers = {"Content-Type": "application/json", "Content-Length": str(len(step.body)), "Connection": "close", **step.headers}
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            line.sendall(f"HTTP/1.1 {step.status} Said\r\n{head}\r\n".encode() + step.body)
        elif step == "hang":
            self._stop.wait(MAX_WAIT)
        elif step == "half":
            line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
        elif step == "garbage":
            line.sendall(b"\x00\xff\x16\x03 what?\r\n\r\n" * 3)
        elif step == "flood":
            line.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            for _ in range(MAX_FLOOD // 65_536):
                line.sendall(b"x" * 65_536)
        elif step != "drop":
            raise ValueError(f"the server knows no step {step!r}")


def _read(line: socket.socket) -> Request:
    with line.makefile("rb") as stream:
        method, path, _ = stream.readline(65_536).decode("latin-1").split(" ", 2)
        headers: dict[str, str] = {}
        while (text := stream.readline(65_536).decode("latin-1").strip()) != "":
            name, _, value = text.partition(":")
            headers[name.strip().lower()] = value.strip()
        return Request(method, path, headers, stream.read(int(headers.get("content-length", 0))))


def closed_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
