"""A provider's HTTP API on the loopback that can be made to misbehave in each request, before or after it has acted."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

WAYS = ("refuse", "hang", "drop", "late", "500", "503", "503 later", "429", "garbage", "redirect", "see other", "endless")
ACTS = ("hang", "drop", "late", "500", "503", "garbage", "see other", "endless")
"""Ways that leave open whether it acted: here it has, the worst case for whoever believes that it has not."""


class Api(ThreadingHTTPServer):
    """`act(request)` answers (status, object). `choose(request)` says how to misbehave, or ""."""

    daemon_threads = True

    def __init__(self, act, choose=lambda request: ""):
        super().__init__(("127.0.0.1", 0), Handler)
        self.act, self.choose, self.requests = act, choose, []

    port = property(lambda self: self.server_address[1])
    base = property(lambda self: f"http://127.0.0.1:{self.port}")
    private = property(lambda self: [f"127.0.0.1:{self.port}"])


class Request:
    def __init__(self, handler, body):
        self.method, self.headers = handler.command, handler.headers
        parts = urlsplit(handler.path)
        self.path, self.query, self.raw = parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()}, body
        form = handler.headers.get("Content-Type") == "application/x-www-form-urlencoded"
        text = body.decode()
        self.body = {name: values[0] for name, values in parse_qs(text).items()} if form else json.loads(text) if text else None


class Handler(BaseHTTPRequestHandler):
    def handle_one_request(self):
        self.raw_requestline = self.rfile.readline(65537)
        self.close_connection = True
        if not self.raw_requestline or not self.parse_request():
            return
        request = Request(self, self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        self.server.requests.append(request)
        way = self.server.choose(request)
        status, answer = self.server.act(request) if not way or way in ACTS else (0, None)
        try:
            self.behave(way, status, answer)
        except OSError:
            pass

    def behave(self, way, status, answer):
        if way == "hang":
            time.sleep(0.8)
        elif way == "drop":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()
        elif way == "garbage":
            self.wfile.write(b"220 mail.example ESMTP\r\n")
        elif way == "endless":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000)
        elif way in ("refuse", "429", "500", "503", "503 later", "redirect", "see other"):
            code = {"refuse": 400, "503 later": 503, "redirect": 307, "see other": 302}.get(way) or int(way)
            more = {"503 later": {"Retry-After": "7"}, "429": {"Retry-After": "7"}, "redirect": {"Location": "http://127.0.0.1:1/"}, "see other": {"Location": "http://127.0.0.1:1/"}}
            self.say(code, {"message": "no", "code": 20429 if way == "429" else 20001}, more.get(way, {}))
        else:
            if way == "late":
                time.sleep(0.05)
            self.say(status, answer, {})

    def say(self, status, answer, headers):
        body = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def api(act, choose=lambda request: ""):
    server = Api(act, choose)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
