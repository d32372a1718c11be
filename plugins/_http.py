"""The only outbound HTTP of the first-party plugins: one request, no redirect, to an address that was judged first.

Settings of a plugin that sends this way:
    secret         key of Standard Webhooks, `whsec_` and base64 (or any text): adds webhook-signature
    timeout        seconds for the whole call, at most 30 (default 10)
    allow_private  ["10.1.2.3:8080", "crm.local:80"]: host:port pairs, as written in the URL, that may be private addresses
    deduplicates   true or ["host", …]: receivers that are known to act once on a repeated Idempotency-Key

What an answer means (PROMISES.md: `retry` only on proof that it was not accepted; what can't be told is `unknown`):
    2xx                          accepted; the status says it, whatever happens to the body afterwards
    408, 425, 429                retry (Retry-After honoured): the receiver says that it did not process the request
    503 with Retry-After         retry: the receiver itself says "later". Without it, 503 may come from a proxy whose line
                                 to the receiver broke after the request had been passed on: unknown
    other 4xx                    failed: refused, and would be refused again
    301, 307, 308                failed: it is elsewhere; redirects are not followed, as the new address has not been judged
    other 3xx                    unknown: 302 and 303 are what many receivers answer after they acted
    other 5xx                    unknown: a 500 says that something broke, not that nothing was done; 502, 504: a proxy's word
    no address, no connection, TLS refused     retry: not a byte of the request has left
    anything after that          unknown: time-out, line dropped, nonsense in the answer
Where `deduplicates` names the receiver, what would be unknown is retry: a repeat with the same key does no harm there.

Seconds are the wall clock's in one place: webhook-timestamp must be the time of the attempt, else receivers refuse it as a
replay.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import io
import ipaddress
import re
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import SplitResult, quote, urlsplit

from rules_engine.plugin import Call, Outcome

METHODS = ("POST", "PUT", "PATCH", "GET", "DELETE")
MAX_SECONDS = 30.0
MAX_REQUEST_BYTES = 1_000_000
MAX_RESPONSE_BYTES = 65_536  # status line, headers and body together
MAX_URL = 8_000

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_VALUE = re.compile(r"[\x20-\x7e\t]{0,4000}")
_OURS = re.compile(
    r"host|content-length|transfer-encoding|connection|upgrade|te|trailer|expect|proxy-.*|idempotency-key|webhook-.*", re.I
)

# Of IPv6 only 2000::/3 is in public use; what is outside (loopback, mapped ::ffff:0:0/96, NAT64 64:ff9b::/96, fc00::/7,
# fe80::/10 …) is refused whole, and inside it the tunnels that carry an IPv4 address (Teredo, 6to4), ORCHID and documentation.
_REFUSED = [
    ipaddress.ip_network(text)
    for text in """
    0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
    192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15
    198.51.100.0/24 203.0.113.0/24 224.0.0.0/3
    ::/3 4000::/2 8000::/1 2001::/23 2001:db8::/32 2002::/16 3ffe::/16 3fff::/20
""".split()
]

Resolver = Callable[[str, int], Iterable[str]]


class Target(NamedTuple):
    """Where a request goes: the host as written (for Host and TLS), the port, and what follows."""

    secure: bool
    host: str
    port: int
    path: str
    header: str  # value of Host


class Answer(NamedTuple):
    """What came back; `status` 0 with `reason` if nothing did. sent: bytes of the request may have left. refused: by
    ourselves."""

    status: int
    reason: str = ""
    body: bytes = b""
    retry_after: float | None = None
    sent: bool = True
    refused: bool = False


# ---------------------------------------------------------------- judging


def refused(address: str) -> str:
    """Why this IP address must not be called, or "". Explicit ranges, because `is_global` passes NAT64 and others by version
    of Python."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "it is no IP address"
    for network in _REFUSED:
        if ip.version == network.version and ip in network:
            return f"it is in the private or special range {network}"
    return "" if ip.is_global else "it is not a public address"


def system_resolver(host: str, port: int) -> list[str]:
    """All addresses of a host, by the system. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(item[4][0]) for item in found))


def target_of(url: Any) -> Target | str:
    """The parts of a URL that may be called, or why it may not."""
    if not isinstance(url, str) or not url:
        return "the URL is missing"
    if len(url) > MAX_URL or not re.fullmatch(r"[\x21-\x7e]+", url) or "\\" in url:
        return "the URL has blanks, line breaks or characters that must be percent-encoded, or is too long"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"the URL can't be read: {error}"
    if parts.scheme not in ("http", "https"):
        return "the URL must begin with https:// or http://"
    if "@" in parts.netloc or not parts.hostname:
        return "the URL must have a host, and no user or password"
    if port == 0:
        return "the URL has the port 0"
    return _target(parts, parts.hostname, port)


def _target(parts: SplitResult, host: str, port: int | None) -> Target | str:
    if not re.fullmatch(r"[0-9a-z._-]{1,253}|[0-9a-f:.]{2,45}", host):
        return "the URL's host is no name and no address"
    secure = parts.scheme == "https"
    named = f"[{host}]" if ":" in host else host
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(secure, host, port or (443 if secure else 80), path, f"{named}:{port}" if port else named)


def problem_of(method: str, url: Any, headers: Any) -> str:
    """Why a request must not be sent, without looking at the network, or ""."""
    target = target_of(url)
    if isinstance(target, str):
        return target
    if method not in METHODS:
        return f"the method must be one of {', '.join(METHODS)}"
    if not isinstance(headers, Mapping):
        return "headers must be a map"
    for name, value in headers.items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            return f"{str(name)[:40]!r} is no name of a header"
        if _OURS.fullmatch(name):
            return f"the header {name} is set by Camp"
        if not _VALUE.fullmatch(str(value)):
            return f"the header {name} has line breaks, control characters or characters beyond ASCII, or is too long"
    return ""


# ---------------------------------------------------------------- hand-over


def hand_over(
    call: Call,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None,
    timeout: float | None = None,
    resolve: Resolver = system_resolver,
) -> Outcome:
    """Sends one request and says what is known of it. Never raises for what the network or the receiver does."""
    answer = ask(call, method, url, headers, body, timeout, resolve)
    target = target_of(url)
    return outcome_of(answer, isinstance(target, Target) and _deduplicates(call.settings, target.host))


def ask(
    call: Call,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None,
    timeout: float | None = None,
    resolve: Resolver = system_resolver,
) -> Answer:
    """Sends one request; what came back, for callers that know more of the receiver than `outcome_of`. Never raises for what the
    network or the receiver does. The body is JSON unless the headers say otherwise."""
    from rules_engine_plugins._handover import effect_id, seconds

    problem = problem_of(method, url, headers)
    if not problem and body is not None and len(body) > MAX_REQUEST_BYTES:
        problem = f"the body has more than {MAX_REQUEST_BYTES:,} bytes"
    if problem:
        return Answer(0, problem, sent=False, refused=True)
    target = target_of(url)
    assert isinstance(target, Target)
    all_headers = _headers(call, target, effect_id(call), body) | dict(headers)
    limit = min(timeout or seconds(call.settings.get("timeout")) or 10.0, MAX_SECONDS)
    return exchange(target, method, all_headers, body, limit, call.settings.get("allow_private") or (), resolve)


def form(fields: Mapping[str, str]) -> tuple[dict[str, str], bytes]:
    """(headers, body) of an HTML form's fields."""
    body = "&".join(f"{quote(name, safe='')}={quote(value.encode('utf-8', 'replace'), safe='')}" for name, value in fields.items())
    return {"Content-Type": "application/x-www-form-urlencoded"}, body.encode("ascii")


def basic(user: str, password: str) -> dict[str, str]:
    """The header of Basic authentication (RFC 7617)."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")}


def fields_of(answer: Answer) -> Mapping[str, Any]:
    """The answer's JSON object; empty if it is none."""
    import json

    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def words(value: Any, most: int = 200) -> str:
    """A stranger's text as one short line."""
    return " ".join(re.sub(r"[^\x20-\x7e\xa0-\uffff]|[\ud800-\udfff]", " ", str(value if value is not None else "")).split())[:most]


def _headers(call: Call, target: Target, name: str, body: bytes | None) -> dict[str, str]:
    stamp = str(int(time.time()))
    headers = {
        "Host": target.header,
        "User-Agent": "Camp/1",
        "Accept": "application/json",
        "Connection": "close",
        "Idempotency-Key": name,
        "webhook-id": name,
        "webhook-timestamp": stamp,
    }
    if body is not None:
        headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    secret = call.settings.get("secret")
    if secret:
        headers["webhook-signature"] = sign(str(secret), name, stamp, body or b"")
    return headers


def sign(secret: str, name: str, stamp: str, body: bytes) -> str:
    """The signature of Standard Webhooks: v1 and HMAC-SHA256 over id.timestamp.body."""
    key = secret.encode()
    if secret.startswith("whsec_"):
        try:
            key = base64.b64decode(secret[6:], validate=True)
        except binascii.Error:  # not base64: then the text itself is the key
            key = secret.encode()
    mac = hmac.new(key, f"{name}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(mac).decode()


def _deduplicates(settings: Mapping[str, Any], host: str) -> bool:
    known = settings.get("deduplicates")
    return known is True or (isinstance(known, (list, tuple)) and host in known)


def outcome_of(answer: Answer, deduplicates: bool = False) -> Outcome:
    """The table of the module's docstring."""
    status = answer.status
    text = f"the receiver answered {status}" if status else answer.reason
    if 200 <= status < 300:
        return Outcome("accepted", text, _provider_id(answer.body))
    if answer.refused:
        return Outcome("failed", text)
    if not answer.sent or status in (408, 425, 429) or (status == 503 and answer.retry_after is not None):
        return Outcome("retry", text, retry_after=answer.retry_after)
    if 400 <= status < 500 or status in (301, 307, 308):
        return Outcome("failed", text + (", and redirects are not followed" if status < 400 else ""))
    if deduplicates:
        return Outcome("retry", f"{text}; it recognises a repeated key", retry_after=answer.retry_after)
    return Outcome("unknown", text)


def _provider_id(body: bytes) -> str:
    import json

    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    name = answer.get("id") if isinstance(answer, dict) else None
    return re.sub(r"[^\x21-\x7e]", "", str(name))[:200] if isinstance(name, (str, int)) else ""


# ---------------------------------------------------------------- the network


class Refusal(Exception):
    """The address may not be called; the text says why."""


def exchange(
    target: Target,
    method: str,
    headers: Mapping[str, str],
    body: bytes | None,
    limit: float,
    allow_private: Any,
    resolve: Resolver,
) -> Answer:
    """One request and its answer within `limit` seconds. Never raises OSError or what http.client raises."""
    from http.client import HTTPConnection, HTTPException

    deadline = time.monotonic() + limit
    connection = HTTPConnection(target.host, target.port)
    line, sent = None, False
    try:
        connection.sock = line = _connect(target, deadline, allow_private, resolve)
        connection.putrequest(method, target.path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        sent = True  # from here on nobody can tell what has left
        connection.endheaders(body)
        return _answer(connection)
    except Refusal as error:
        return Answer(0, str(error), sent=False, refused=True)
    except (OSError, HTTPException, ValueError) as error:
        what = "no answer within the time-out" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"[:200]
        return Answer(0, f"{'after the request had been sent' if sent else 'before anything was sent'}: {what}", sent=sent)
    finally:
        connection.close()
        if line is not None:
            line.hang_up()


def _connect(target: Target, deadline: float, allow_private: Any, resolve: Resolver) -> _Line:
    """A connection to an address that was judged: it is resolved once, so that a second answer of the DNS can't move it."""
    addresses = list(resolve(target.host, target.port))
    if not addresses:
        raise OSError("the host has no address")
    allowed = allow_private if isinstance(allow_private, (list, tuple, set, frozenset)) else ()
    named = f"[{target.host}]" if ":" in target.host else target.host
    if f"{named}:{target.port}" not in allowed:
        for address in addresses:  # one bad address among good ones is how rebinding looks
            reason = refused(address)
            if reason:
                raise Refusal(f"{target.host} is the address {address}: {reason}; the setting allow_private may name it")
    last: OSError | None = None
    for address in addresses[:4]:
        try:
            raw = socket.create_connection((address, target.port), timeout=_left(deadline))
        except OSError as error:
            last = error
            continue
        return _Line(_secure(raw, target) if target.secure else raw, deadline)
    raise last or OSError("no connection")


def _secure(raw: socket.socket, target: Target) -> Any:
    import ssl

    try:
        return ssl.create_default_context().wrap_socket(raw, server_hostname=target.host)
    except BaseException:
        raw.close()
        raise


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time is over")
    return left


class _Line:
    """A socket as http.client uses it, with one deadline over all it does (a drip of bytes can't stretch it) and a cap on
    what it reads."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock, self.deadline = sock, deadline

    def sendall(self, data: Any) -> None:
        self.sock.settimeout(_left(self.deadline))
        self.sock.sendall(data)

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self.sock, self.deadline))

    def close(self) -> None:
        """http.client closes the socket while its file goes on being read; `hang_up` closes it in truth."""

    def hang_up(self) -> None:
        self.sock.close()


class _Incoming(io.RawIOBase):
    """The reading side of a _Line."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock, self._deadline, self._room = sock, deadline, MAX_RESPONSE_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._room <= 0:
            raise OSError("the answer is too long")
        self._sock.settimeout(_left(self._deadline))
        count = self._sock.recv_into(memoryview(buffer)[: self._room])
        self._room -= count
        return count


def _answer(connection: Any) -> Answer:
    response = connection.getresponse()
    try:
        body = response.read(MAX_RESPONSE_BYTES)
    except Exception:  # the status line is the answer; its body only serves to name the record
        body = b""
    return Answer(
        response.status, body=body, retry_after=retry_after(response.getheader("Retry-After"), response.getheader("Date"))
    )


def retry_after(value: str | None, now: str | None = None) -> float | None:
    """Seconds to wait. A date is read against the answer's own Date, so that our clock plays no part; None if there is none."""
    if value is None:
        return None
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, (parsedate_to_datetime(value) - parsedate_to_datetime(now or "")).total_seconds())
    except (TypeError, ValueError):
        return None
