"""A mail provider on the loopback (aiosmtpd) that can be made to misbehave at each stage of each transaction, and keeps count."""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import contextmanager

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP

STAGES = ("GREET", "EHLO", "MAIL", "RCPT", "DATA", "TEXT")
WAYS = ("4xx", "5xx", "421", "hang", "drop", "late", "garbage", "twice", "cut")
"""cut: the go-ahead is given and the line dropped at once; only for DATA. twice: the answer comes two times."""
_WORDS = {"4xx": "451 4.3.0 later", "5xx": "550 5.7.1 no", "421": "421 4.3.2 closing"}


class Provider:
    """`choose(stage, connection)` says how to misbehave, or "". `received`: texts that came in whole; `taken`: the handles of those that the
    server may deliver (all but those that it refused after the text)."""

    def __init__(self, choose=lambda stage, connection: "", hang=0.6, per_connection=None, pipelining=False, eager=False):
        self.choose, self.hang, self.per_connection, self.armed = choose, hang, per_connection, False
        self.pipelining, self.eager = pipelining, eager  # eager: says "go" to DATA even without a recipient
        self.received, self.taken, self.envelopes, self.connections = [], [], [], []

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        session.host_name = hostname
        return [*responses[:-1], "250-PIPELINING", responses[-1]] if self.pipelining else responses

    async def handle_MAIL(self, server, session, envelope, address, options):
        if server.way in _WORDS:
            return _WORDS[server.way]
        if self.per_connection is not None and server.count >= self.per_connection:
            return "451 4.3.2 too many messages over one connection"
        envelope.mail_from = address
        return "250 2.1.0 Ok"

    async def handle_RCPT(self, server, session, envelope, address, options):
        if server.way in _WORDS:
            return _WORDS[server.way]
        if address.startswith("refused"):
            return "550 5.1.1 nobody here"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server, session, envelope):
        server.enter("TEXT")
        server.count += 1
        self.received.append(envelope.content)
        self.envelopes.append((envelope.mail_from, tuple(envelope.rcpt_tos)))
        if server.way in _WORDS:
            return _WORDS[server.way]
        found = re.search(rb"(?im)^Message-ID: <(msg_[0-9a-f]+)@", envelope.content)
        self.taken.append(found[1].decode() if found else "")
        return f"250 2.0.0 Ok: queued as Q{len(self.taken)}"


class Server(SMTP):
    """aiosmtpd's server, asked at each stage how to behave."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.count, self.stage, self.way = 0, "", ""

    def enter(self, stage):
        provider = self.event_handler
        self.stage, self.way = stage, provider.choose(stage, self.number) if provider.armed else ""

    def connection_made(self, transport):
        if not self.event_handler.connections or self.event_handler.connections[-1] is not self:
            self.event_handler.connections.append(self)
        self.number = len(self.event_handler.connections)
        if not self.stage:
            self.enter("GREET")
        super().connection_made(transport)

    async def smtp_EHLO(self, arg):
        self.enter("EHLO")
        await super().smtp_EHLO(arg)

    async def smtp_MAIL(self, arg):
        self.enter("MAIL")
        await super().smtp_MAIL(arg)

    async def smtp_RCPT(self, arg):
        self.enter("RCPT")
        await super().smtp_RCPT(arg)

    async def smtp_DATA(self, arg):
        self.enter("DATA")
        if self.way in _WORDS:
            await self.push(_WORDS[self.way])
        elif self.event_handler.eager and not self.envelope.rcpt_tos:
            await self.push("354 go")
        elif self.way not in ("drop", "hang", "garbage"):
            await super().smtp_DATA(arg)
        else:
            await self.push("354 go")

    async def push(self, status):
        way, self.way = self.way, ""
        if way == "hang":
            await asyncio.sleep(self.event_handler.hang)
            way = "drop"
        if way == "drop":
            self.transport.abort()
            raise ConnectionResetError
        if way == "late":
            await asyncio.sleep(0.05)
        if way == "garbage":
            status = b"\xff\xfe \x1b[31mnonsense"
        elif way in _WORDS and self.stage in ("GREET", "EHLO"):
            status = _WORDS[way]
        await super().push(status)
        if way == "twice":
            await super().push(status)
        if way == "cut":
            self.transport.abort()
            raise ConnectionResetError
        if way in ("421", "garbage") and self.transport is not None:
            self.transport.close()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextmanager
def serving(provider, **options):
    """The provider's port while it serves."""

    class Local(Controller):
        def factory(self):
            return Server(self.handler, **self.SMTP_kwargs)

    controller = Local(provider, hostname="127.0.0.1", port=free_port(), **options)
    controller.start()  # which connects once itself
    provider.connections.clear()
    provider.armed = True
    try:
        yield controller.port
    finally:
        controller.stop()


def settings(port, **more):
    """The table [email] for it."""
    return {
        "transport": "smtp",
        "from": "Shop <shop@example.com>",
        "host": "127.0.0.1",
        "port": port,
        "tls": "none",
        "timeout": 0.3,
        "helo": "camp.test",
        **more,
    }
