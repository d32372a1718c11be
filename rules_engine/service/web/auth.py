"""Who may write: a bearer token, compared in constant time; without any token set, only this machine itself."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from starlette.requests import Request

from rules_engine.service.web.address import is_loopback
from rules_engine.service.web.problems import Problem

FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


def same(one: str | bytes, other: str | bytes) -> bool:
    """Whether two secrets are equal, in a time that says nothing about where they differ, or how long they are."""
    return hmac.compare_digest(_digest(one), _digest(other))


def _digest(text: str | bytes) -> bytes:
    return hashlib.sha256(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")).digest()


def require_token(request: Request, tokens: Mapping[str, str]) -> str:
    """The name of the token that the request bears. Raises Problem 401, or 403 where no token is set and the request is not this machine's."""
    said = request.headers.get("authorization", "")
    if not tokens:
        return _local(request)
    scheme, _, token = said.partition(" ")
    found = [name for name, known in tokens.items() if same(known, token.strip())]  # all are compared, whichever fits
    if scheme.lower() != "bearer" or not found:
        detail = "the bearer token is not known" if said else "send `Authorization: Bearer TOKEN`, the token of CAMP_WEB_TOKEN"
        raise Problem(401, "no-token", detail, {"WWW-Authenticate": 'Bearer realm="camp"'})
    return found[0]


def _local(request: Request) -> str:
    """This machine itself, and no browser or proxy that speaks for somebody else (a page elsewhere can make a browser post to 127.0.0.1,
    and a name can be pointed at it)."""
    host = request.headers.get("host", "")
    name = host.rpartition(":")[0].strip("[]") if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host.strip("[]")
    through = [header for header in (*FORWARDED, "origin") if header in request.headers]
    if request.client is None or not is_loopback(request.client.host) or not is_loopback(name) or through:
        raise Problem(403, "no-token-set", "no token is set, so only this machine itself may write; set CAMP_WEB_TOKEN and send it")
    return "local"
