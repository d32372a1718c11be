"""Hands messages to an SMTP server, one recipient a transaction, and says honestly what is known afterwards.

    no connection, no TLS, login refused       retry: it says nothing about this message, and not a byte of it has left
    4xx before the text of the message         retry
    5xx to MAIL, RCPT or DATA                  failed: this sender, recipient or message is refused
    line dropped or time-out before the text   retry
    4xx / 5xx after the text                   retry / failed: the server says that it did not take it
    anything else after the first byte of it   unknown: the server may have it
    250                                        accepted

The connection is never weaker than the setting says: without STARTTLS on offer nothing is sent.

A connection is kept for the next message of the same thread under the same settings (`max_messages`, `idle`), so nothing is shared
and nothing is locked. It is only kept after an answer that was read to its end, and only used again if the server has neither closed
it nor said anything since. If it fails all the same before the first byte of the text, a new one takes its place within the same
attempt: the server can't have the message. `timeout` seconds are for the whole hand-over, so that a server that drips bytes can't
outlast the action's own time-out and send behind the dispatcher's back.
"""

from __future__ import annotations

import io
import os
import re
import smtplib
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rules_engine.plugin import Outcome
from rules_engine_plugins._settings import PORTS, number_above_0, wrong_smtp

MAX_SECONDS = 55.0  # below the action's own time-out
MAX_MESSAGES = 100  # over one connection; many servers stop at that
IDLE_SECONDS = 20.0  # servers hang up after minutes, firewalls forget earlier
MAX_REPLY_BYTES = 65_536  # of one answer, all its lines

_kept = threading.local()


class Refused(Exception):
    """The server's refusal before any byte of the text has left, with its code."""

    def __init__(self, code: int, text: bytes | str, step: str) -> None:
        super().__init__(f"{step} was answered with {code} {_words(text)}".rstrip())
        self.code, self.step = code, step
        self.permanent = code >= 500


class Gone(Exception):
    """The line broke, or the time was over, before any byte of the text has left."""


def hand_over(
    settings: Mapping[str, Any], sender: str, recipient: str, data: bytes, copies: Sequence[str] = ()
) -> Outcome:
    """Sends `data` (CRLF lines, 7-bit). copies: further recipients of the same transaction; what becomes of them changes nothing but
    the detail. Never raises for what the network or the server does."""
    wrong = next(wrong_smtp(settings), "")
    if wrong:
        return Outcome("retry", f"the mail server can't be used: {wrong}")
    limit = min(number_above_0(settings, "timeout", 30.0), MAX_SECONDS)
    deadline = time.monotonic() + limit
    line = _take(settings, deadline)
    if line is not None:
        line.patience = limit / 3  # a firewall may have forgotten the line: then there must be time for a new one
        outcome = _try(settings, line, sender, recipient, data, copies)
        if outcome is not None:
            return outcome
    try:
        line = _connect(settings, deadline)
    except (OSError, smtplib.SMTPException, ValueError) as error:
        return Outcome("retry", f"the mail server can't be used: {_problem(error)}")
    outcome = _try(settings, line, sender, recipient, data, copies)
    assert outcome is not None
    return outcome


def _try(
    settings: Mapping[str, Any], line: _Line, sender: str, recipient: str, data: bytes, copies: Sequence[str]
) -> Outcome | None:
    """One transaction; None if the line was an old one and is to be replaced (nothing of the text has left)."""
    old = line.messages > 0
    try:
        refused = line.envelope(sender, recipient, copies)
    except Refused as refusal:
        outworn = old and (refusal.code == 421 or refusal.step in ("RSET", "MAIL"))  # idle, or enough messages over one line
        _give_back(settings, line, usable=refusal.code != 421 and not outworn and not line.spoiled)
        return None if outworn else Outcome("failed" if refusal.permanent else "retry", str(refusal))
    except Gone as error:
        line.close()
        return None if old and line.left() > 0 else Outcome("retry", f"the mail server went away before the message: {error}")
    outcome = line.text(data)
    _give_back(settings, line, usable=not line.dirty)
    if refused and outcome.state == "accepted":
        return outcome._replace(detail=f"{outcome.detail}; not to {'; '.join(refused)}"[:900])
    return outcome


# ---------------------------------------------------------------- kept connections


def _take(settings: Mapping[str, Any], deadline: float) -> _Line | None:
    """The connection of this thread for these settings, if it is still good; one that is not is closed."""
    line = _lines().pop(_key(settings), None)
    if line is None:
        return None
    line.deadline = deadline
    if line.messages >= line.most or time.monotonic() - line.used > line.idle or not line.quiet():
        line.part()
        return None
    return line


def _give_back(settings: Mapping[str, Any], line: _Line, usable: bool) -> None:
    line.messages += 1
    if not usable or line.messages >= line.most:
        line.part()
        return
    line.used = time.monotonic()
    _lines()[_key(settings)] = line


def _lines() -> dict[tuple[str, ...], _Line]:
    if getattr(_kept, "process", 0) != os.getpid():  # a fork must not talk on its parent's lines
        _kept.process, _kept.lines = os.getpid(), {}
    lines: dict[tuple[str, ...], _Line] = _kept.lines
    return lines


def _key(settings: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(settings.get(name)) for name in ("host", "port", "tls", "user", "password", "helo", "ca_file"))


def greet(settings: Mapping[str, Any], patience: float = 10.0) -> str:
    """A connection that is ready for a message, and its end. Raises OSError, SMTPException or ValueError."""
    wrong = next(wrong_smtp(settings), "")
    if wrong:
        raise ValueError(wrong)
    line = _connect(settings, time.monotonic() + patience)
    line.part()
    return f"{settings.get('host')} answers" + (f" and takes the log-in of {settings['user']}" if settings.get("user") else "")


def forget() -> None:
    """Closes what this thread keeps open."""
    for line in _lines().values():
        line.part()
    _lines().clear()


# ---------------------------------------------------------------- connecting


def _connect(settings: Mapping[str, Any], deadline: float) -> _Line:
    """A connection that has said hello, is encrypted and logged in as the settings ask, with which `wrong_smtp` finds no fault."""
    mode = str(settings.get("tls", "starttls"))
    host, port = str(settings["host"]), int(settings.get("port") or PORTS[mode])
    most = max(1, int(number_above_0(settings, "max_messages", MAX_MESSAGES)))
    line = _Line(deadline, most, number_above_0(settings, "idle", IDLE_SECONDS))
    # Without a name smtplib asks the DNS for ours, which can take its own time-out.
    line.local_hostname = str(settings.get("helo") or socket.gethostname() or "localhost")
    line.secure = _context(settings) if mode != "none" else None
    line.implicit = mode == "tls"
    line._host = host  # what smtplib asks the certificate for after STARTTLS
    try:
        code, text = line.connect(host, port)
        if code != 220:
            raise smtplib.SMTPConnectError(code, text)
        _prepare(line, mode, settings)
    except BaseException:
        line.close()
        raise
    return line


def _context(settings: Mapping[str, Any]) -> Any:
    import ssl

    return ssl.create_default_context(cafile=str(settings["ca_file"]) if settings.get("ca_file") else None)


def _prepare(line: _Line, mode: str, settings: Mapping[str, Any]) -> None:
    line.ehlo_or_helo_if_needed()
    if mode == "starttls":
        line.starttls(context=line.secure)  # raises if it is not on offer
        line.ehlo_or_helo_if_needed()
    if settings.get("user"):
        line.login(str(settings["user"]), str(settings.get("password") or ""))


class _Line(smtplib.SMTP):
    """A connection with one deadline over all that it does, and a cap on each answer."""

    def __init__(self, deadline: float, most: int, idle: float) -> None:
        super().__init__(local_hostname="unset", timeout=MAX_SECONDS)
        self.deadline, self.most, self.idle = deadline, most, idle
        self.patience: float | None = None  # seconds for the first answer on a kept line
        self.messages, self.used, self.room = 0, 0.0, 0
        self.dirty = False  # a transaction was begun and not ended
        self.spoiled = False  # the server waits for a text that will not come
        self.secure: Any = None
        self.implicit = False

    def left(self) -> float:
        """Seconds to the deadline."""
        return self.deadline - time.monotonic()

    def hurry(self) -> float:
        """What is left, for a time-out. Raises TimeoutError if nothing is."""
        left = self.left() if self.patience is None else min(self.left(), self.patience)
        if left <= 0:
            raise TimeoutError("the time is over")
        return left

    def _get_socket(self, host: str, port: int, timeout: float) -> Any:
        raw = socket.create_connection((host, port), timeout=self.hurry())
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self.implicit:
            return raw
        try:
            return self.secure.wrap_socket(raw, server_hostname=host)
        except BaseException:
            raw.close()
            raise

    def send(self, s: Any) -> None:
        """As in smtplib, within the deadline."""
        if self.sock is not None:
            self.sock.settimeout(self.hurry())
        super().send(s)

    def getreply(self) -> tuple[int, bytes]:
        """As in smtplib, within the deadline and the cap."""
        self.room = MAX_REPLY_BYTES
        if self.file is None:
            self.file = io.BufferedReader(_Incoming(self))
        return super().getreply()

    def quiet(self) -> bool:
        """Whether the server has neither hung up nor said anything unasked: an answer too many would be read as the next one's."""
        if self.sock is None or self.file is None:
            return False
        self.room = MAX_REPLY_BYTES
        try:
            self.sock.settimeout(0.0)
            self.file.peek(1)  # bytes, or the end
        except BlockingIOError:
            return True
        except OSError as error:  # of TLS; the ssl module need not be there
            return type(error).__name__ == "SSLWantReadError"
        return False

    def envelope(self, sender: str, recipient: str, copies: Sequence[str]) -> list[str]:
        """MAIL, RCPT and DATA up to the server's 354; the refusals of copies. Raises Refused, Gone."""
        try:
            if self.dirty:
                self._step("RSET", "RSET")
            if not copies and self.has_extn("pipelining"):
                self._pipelined((("MAIL", f"MAIL FROM:<{sender}>"), ("RCPT", f"RCPT TO:<{recipient}>"), ("DATA", "DATA")))
                return []
            self._step("MAIL", f"MAIL FROM:<{sender}>")
            self.patience, self.dirty = None, True
            self._step("RCPT", f"RCPT TO:<{recipient}>")
            refused = []
            for copy in copies:
                try:
                    self._step("RCPT", f"RCPT TO:<{copy}>")
                except Refused as refusal:
                    if refusal.code == 421:
                        raise
                    refused.append(f"{copy}: {refusal}"[:200])
            self._step("DATA", "DATA")
        except (OSError, smtplib.SMTPException, ValueError) as error:
            raise Gone(_problem(error)) from error
        return refused

    def _pipelined(self, steps: Sequence[tuple[str, str]]) -> None:
        """All commands at once (RFC 2920), which saves two journeys to the server and back; then all the answers. Raises the first
        refusal. A server that says "go" though it refused this sender or recipient waits for a text: that line is of no more use."""
        self.send("".join(_command(step, command) for step, command in steps))
        refusal = None
        for step, _ in steps:
            try:
                self._answer(step)
            except Refused as found:
                if found.code == 421:
                    raise
                refusal = refusal or found
            else:
                self.spoiled = step == "DATA" and refusal is not None
                self.dirty = True
            self.patience = None
        if refusal is not None:
            raise refusal

    def _step(self, step: str, command: str) -> None:
        self.send(_command(step, command))
        self._answer(step)

    def _answer(self, step: str) -> None:
        code, text = self.getreply()
        if 400 <= code < 600:
            raise Refused(code, text, step)
        if code not in _EXPECTED[step]:  # no answer to this: the two sides are out of step
            raise smtplib.SMTPResponseException(code, text)

    def text(self, data: bytes) -> Outcome:
        """The text and the server's verdict. From the first byte on, only the server's own answer tells anything."""
        stuffed = re.sub(rb"(?m)^\.", b"..", data)
        ending = b".\r\n" if stuffed.endswith(b"\r\n") else b"\r\n.\r\n"
        if self.left() <= 0:
            return Outcome("retry", "the time was over before the message")
        try:
            self.send(stuffed + ending)
            code, text = self.getreply()
        except (OSError, smtplib.SMTPException, ValueError) as error:
            return Outcome("unknown", f"the message was sent and not answered: {_problem(error)}")
        words = _words(text)
        self.dirty = code != 250 and not 400 <= code < 600  # no verdict: who knows what it will say next
        if code == 250:
            queued = re.search(r"queued as ([\w.-]+)", words)
            return Outcome("accepted", f"250 {words}".rstrip(), queued[1] if queued else "")
        if 400 <= code < 600:
            return Outcome("failed" if code >= 500 else "retry", f"the message was answered with {code} {words}".rstrip())
        return Outcome("unknown", f"the message was answered with {code} {words}".rstrip())

    def part(self) -> None:
        """Says goodbye without waiting for an answer: nothing that comes now changes anything."""
        try:
            if self.sock is not None:
                self.sock.settimeout(0.2)
                self.sock.sendall(b"QUIT\r\n")
        except OSError:
            pass
        self.close()


_EXPECTED = {"RSET": (250,), "MAIL": (250,), "RCPT": (250, 251, 252), "DATA": (354,)}


def _command(step: str, command: str) -> str:
    """The command's line. Raises Refused for an address that would be more than one command, or none."""
    if re.search(r"[\r\n\0]|[^\x00-\x7f]", command):
        raise Refused(553, "the address can't be written in a command", step)
    return f"{command}\r\n"


class _Incoming(io.RawIOBase):
    """The reading side of a _Line, whichever socket it has (STARTTLS changes it)."""

    def __init__(self, line: _Line) -> None:
        self._line = line

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        line = self._line
        if line.sock is None or line.room <= 0:
            raise OSError("the answer is too long" if line.sock is not None else "the line is closed")
        if line.sock.gettimeout() != 0.0:
            line.sock.settimeout(line.hurry())
        count: int = line.sock.recv_into(memoryview(buffer)[: line.room])
        line.room -= count
        return count


def _problem(error: BaseException) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{error.smtp_code} {_words(error.smtp_error)}"
    return f"{type(error).__name__}: {_words(str(error))}"


def _words(text: bytes | str) -> str:
    """The server's text, which is as hostile as anything, as one short line."""
    line = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return re.sub(r"[^\x20-\x7e\xa0-\uffff]+", " ", line).strip()[:200]
