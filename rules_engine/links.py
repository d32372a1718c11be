"""Signed links and an effect's name for the world. Pure.

A link in a message carries a token that says what it is for and about whom, and a signature over both: a token made for opening
can't unsubscribe, and nobody can make one for somebody else. The target of a click is inside the signature, so the server never
redirects anywhere that the message did not name.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

PATHS = {
    "open": "o",
    "click": "c",
    "unsubscribe": "u",
    "preferences": "p",
    "view": "v",
    "asset": "a",
    "identify": "i",
}
"""Purpose -> the first part of the path under the public address (`https://news.example/c/TOKEN`). `identify` has
no page: a click takes it along to the site, where it says for a few minutes who came."""

MAX_TOKEN = 8_000  # characters; longer is no token of ours
_MAC = 16  # bytes of HMAC-SHA256 that are kept: 128 bits


def handle(effect: str) -> str:
    """An effect's name for the world (Message-ID, Idempotency-Key, links): safe in any header, file name and URL, and always the
    same for the same effect id."""
    joined = json.dumps([effect]).encode("utf-8", "surrogatepass")
    return "msg_" + hashlib.sha256(joined).hexdigest()[:32]


def proven(key: str, effect: str) -> str:
    """An effect's handle with a proof that it was told to somebody by us: `msg_….PROOF`. A handle alone can be worked out by whoever guesses
    the effect's id, so a bounce that names it alone is no evidence. 48 bits: each try costs a mail. Raises ValueError for an empty key."""
    name = handle(effect)
    return f"{name}.{_mac(key, 'message', name)[:6].hex()}"


def is_proven(keys: str | Iterable[str], name: str) -> bool:
    """Whether a name is what `proven` made with one of the keys."""
    own, _, proof = name.partition(".")
    return any([hmac.compare_digest(_mac(key, "message", own)[:6].hex().encode(), proof.encode("utf-8", "replace"))
                for key in ([keys] if isinstance(keys, str) else keys)])  # fmt: skip


def sign(key: str, purpose: str, values: Mapping[str, Any]) -> str:
    """A token for one purpose: base64url of the JSON of `values`, a dot, and 128 bits of HMAC-SHA256 over purpose and values.

    Raises ValueError for an unknown purpose or an empty key.
    """
    if purpose not in PATHS:
        raise ValueError(f"links have no purpose {purpose!r}")
    body = _encode(json.dumps(values, separators=(",", ":"), sort_keys=True).encode("utf-8", "surrogatepass"))
    return f"{body}.{_encode(_mac(key, purpose, body))}"


def verify(keys: str | Iterable[str], purpose: str, token: str) -> dict[str, Any] | None:
    """What a token says, if one of the keys signed it for this purpose; else None. Never raises for what a stranger sends."""
    if purpose not in PATHS or not isinstance(token, str) or len(token) > MAX_TOKEN or not token.isascii():
        return None
    body, dot, signature = token.partition(".")
    if not dot:
        return None
    try:
        # The texts are compared, not the bytes: the last letter of base64 has bits that mean nothing, and a token is one text.
        good = any([hmac.compare_digest(_encode(_mac(key, purpose, body)), signature) for key in ([keys] if isinstance(keys, str) else keys)])
        values = json.loads(_decode(body)) if good else None
    except (binascii.Error, ValueError):
        return None
    return values if isinstance(values, dict) else None


def url(base: str, key: str, purpose: str, values: Mapping[str, Any]) -> str:
    """The whole link below the public address `base` (`https://news.example`)."""
    return f"{base.rstrip('/')}/{PATHS[purpose]}/{quote(sign(key, purpose, values), safe='.-_')}"


def _mac(key: str, purpose: str, body: str) -> bytes:
    if not key:
        raise ValueError("links need a key")
    return hmac.new(key.encode(), f"{purpose}.{body}".encode(), hashlib.sha256).digest()[:_MAC]


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
