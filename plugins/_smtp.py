"""Hands one message to an SMTP server: one connection, one recipient, and an honest word on what is known afterwards.

    no connection, no TLS, login refused       retry: it says nothing about this message, and not a byte of it has left
    4xx before the text of the message         retry
    5xx to MAIL, RCPT or DATA                  failed: this sender, recipient or message is refused
    line dropped or time-out before the text   retry
    4xx / 5xx after the text                   retry / failed: the server says that it did not take it
    anything else after the first byte of it   unknown: the server may have it
    250                                        accepted

The connection is never weaker than the setting says: without STARTTLS on offer nothing is sent.
"""

from __future__ import annotations

import re
import smtplib
import socket
from collections.abc import Mapping
from typing import Any

from rules_engine.plugin import Outcome

PORTS = {"starttls": 587, "tls": 465, "none": 25}


class Refused(Exception):
    """The server's refusal before any byte of the text has left, with its code."""

    def __init__(self, code: int, text: bytes | str, step: str) -> None:
        super().__init__(f"{step} was answered with {code} {_words(text)}".rstrip())
        self.permanent = code >= 500


def hand_over(settings: Mapping[str, Any], sender: str, recipient: str, data: bytes) -> Outcome:
    """Sends `data` (CRLF lines, 7-bit). Never raises for what the network or the server does."""
    server: smtplib.SMTP | None = None
    try:
        server = _connect(settings)
    except (OSError, smtplib.SMTPException, ValueError) as error:
        return Outcome("retry", f"the mail server can't be used: {_problem(error)}")
    try:
        try:
            _envelope(server, str(settings.get("envelope_from") or sender), recipient)
        except Refused as refusal:
            return Outcome("failed" if refusal.permanent else "retry", str(refusal))
        except (OSError, smtplib.SMTPException, ValueError) as error:
            return Outcome("retry", f"the mail server went away before the message: {_problem(error)}")
        return _text(server, data)
    finally:
        _part(server)


def _connect(settings: Mapping[str, Any]) -> smtplib.SMTP:
    """A connection that has said hello, is encrypted and logged in as the settings ask."""
    mode = str(settings.get("tls", "starttls"))
    if mode not in PORTS:
        raise ValueError(f"the setting tls = {mode!r} is unknown; known are starttls, tls and none")
    host, port = str(settings.get("host") or ""), int(settings.get("port") or PORTS[mode])
    if not host:
        raise ValueError("the setting host is missing")
    timeout = min(float(settings.get("timeout") or 30.0), 55.0)  # below the action's own time-out
    # Without a name smtplib asks the DNS for ours, which can take its own time-out.
    name = str(settings.get("helo") or socket.gethostname() or "localhost")
    if mode == "tls":
        import ssl

        server: smtplib.SMTP = smtplib.SMTP_SSL(host, port, name, timeout=timeout, context=ssl.create_default_context())
    else:
        server = smtplib.SMTP(host, port, name, timeout=timeout)
    try:
        _prepare(server, mode, settings)
    except BaseException:
        server.close()
        raise
    return server


def _prepare(server: smtplib.SMTP, mode: str, settings: Mapping[str, Any]) -> None:
    server.ehlo_or_helo_if_needed()
    if mode == "starttls":
        import ssl

        server.starttls(context=ssl.create_default_context())  # raises if it is not on offer
        server.ehlo_or_helo_if_needed()
    if settings.get("user"):
        server.login(str(settings["user"]), str(settings.get("password") or ""))


def _envelope(server: smtplib.SMTP, sender: str, recipient: str) -> None:
    """MAIL, RCPT and DATA up to the server's 354. Raises Refused."""
    for step, command in (("MAIL", f"MAIL FROM:<{sender}>"), ("RCPT", f"RCPT TO:<{recipient}>"), ("DATA", "DATA")):
        if re.search(r"[\r\n\0]|[^\x00-\x7f]", command):
            raise Refused(553, "the address can't be written in a command", step)
        server.putcmd(command)
        code, text = server.getreply()
        expected = (354,) if step == "DATA" else (250, 251, 252)
        if code not in expected:
            raise Refused(code, text, step)


def _text(server: smtplib.SMTP, data: bytes) -> Outcome:
    """The text and the server's verdict. From the first byte on, only the server's own answer tells anything."""
    stuffed = re.sub(rb"(?m)^\.", b"..", data)
    ending = b".\r\n" if stuffed.endswith(b"\r\n") else b"\r\n.\r\n"
    try:
        assert server.sock is not None
        server.sock.sendall(stuffed + ending)
        code, text = server.getreply()
    except (OSError, smtplib.SMTPException, ValueError) as error:
        return Outcome("unknown", f"the message was sent and not answered: {_problem(error)}")
    words = _words(text)
    if code == 250:
        queued = re.search(r"queued as ([\w.-]+)", words)
        return Outcome("accepted", f"250 {words}".rstrip(), queued[1] if queued else "")
    if 400 <= code < 600:
        return Outcome("failed" if code >= 500 else "retry", f"the message was answered with {code} {words}".rstrip())
    return Outcome("unknown", f"the message was answered with {code} {words}".rstrip())


def _part(server: smtplib.SMTP) -> None:
    """Says goodbye without waiting for an answer: nothing that comes now changes the outcome."""
    try:
        if server.sock is not None:
            server.sock.sendall(b"QUIT\r\n")
    except OSError:
        pass
    server.close()


def _problem(error: BaseException) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{error.smtp_code} {_words(error.smtp_error)}"
    return f"{type(error).__name__}: {_words(str(error))}"


def _words(text: bytes | str) -> str:
    """The server's text, which is as hostile as anything, as one short line."""
    line = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return re.sub(r"[^\x20-\x7e\xa0-\uffff]+", " ", line).strip()[:200]
