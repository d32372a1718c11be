"""Between records and what a row holds: JSON bytes, fingerprints, causes. Pure."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import unicodedata
from typing import Any

import orjson

from rules_engine.decisions import Decision
from rules_engine.facts import ContactChange, Event, Wake
from rules_engine.store.port import BadData, Cause

KINDS = ("event", "contact", "wake")


def dump(value: Any) -> bytes:
    """JSON. What only JSON's slower writer can say (lone surrogates, huge numbers, keys that are no texts) is still said. Raises BadData for
    what is nested too deeply for either."""
    try:
        # Copied: orjson's own result keeps the buffer it was written into, 4 KB for 400 bytes, and states are cached by the thousand.
        return bytes(memoryview(orjson.dumps(value, default=str)))
    except TypeError:
        try:
            return json.dumps(value, default=str, separators=(",", ":")).encode()
        except RecursionError:
            raise BadData("it is nested too deeply") from None


def load(data: bytes) -> Any:
    """The value of `dump`'s bytes."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return json.loads(data)


def plain(text: str) -> str:
    """A text that every database takes: lone surrogates become visible escapes."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode()


def body(cause: Cause) -> tuple[str, str, str | None, bytes]:
    """(kind, name, subject, data) of a cause."""
    if isinstance(cause, Event):
        return "event", cause.name, cause.subject, dump(dict(cause.data))
    if isinstance(cause, ContactChange):
        return "contact", "", None, dump({"attributes": dict(cause.attributes), "segments": dict(cause.segments)})
    return "wake", "", None, b"{}"


def fingerprint(cause: Event | ContactChange, undated: bool = False) -> bytes:
    """64 bits of what a cause says, whatever the order of its fields: tells a repeat from another event under the same id. Of
    an undated one the time is no part."""
    kind, name, subject, data = body(cause)
    try:
        said = orjson.dumps(orjson.loads(data), option=orjson.OPT_SORT_KEYS)
    except (TypeError, orjson.JSONDecodeError):
        said = data
    head = dump([kind, name, subject, cause.contact, None if undated else cause.at])
    return hashlib.blake2b(head + said, digest_size=8).digest()


ADDRESSES = ("email", "phone")
"""Attributes by which a contact is found when somebody else names it."""


def address(kind: str, value: Any) -> str:
    """An e-mail address without case, a phone number as its digits; "" where it can't be one. (The part before the @ may have
    case by RFC 5321; no provider that people use tells it apart.)"""
    if not isinstance(value, str):
        return ""
    if kind == "email":
        text = value.strip().lower()
        return text if "@" in text else ""
    digits = "".join(letter for letter in value if letter.isascii() and letter.isdigit())
    return digits.removeprefix("00")


def addresses(cause: Event | ContactChange) -> list[tuple[str, str, str]]:
    """(kind, address, contact) of what a change of a contact tells."""
    if not isinstance(cause, ContactChange):
        return []
    found = [(kind, plain(address(kind, cause.attributes.get(kind))), cause.contact) for kind in ADDRESSES]
    return [row for row in found if row[1]]


def cause(kind: str, id: str, name: str, contact: str, at: int, subject: str | None, data: bytes | None, received: int) -> Cause:
    """The cause that a row of the log holds; one without content if that was purged."""
    content = load(data) if data else {}
    if kind == "event":
        return Event(id, name, contact, at, subject, content, received)
    if kind == "contact":
        return ContactChange(id, contact, at, content.get("attributes", {}), content.get("segments", {}))
    return Wake(contact, at)


def wake_id(wake: Wake) -> str:
    """The log's id of a wake-up that was set aside."""
    return f"wake:{wake.at}:{wake.contact}"


def detail(decision: Decision) -> bytes:
    """The parts of a decision that have no column of their own."""
    return dump([decision.primary, decision.params, decision.because, decision.place])


def decision(row: tuple) -> Decision:
    """A decision from (at, contact, campaign, rule, key, step, kind, action, outcome, reason, cause, detail)."""
    at, contact, campaign, rule, key, step, kind, action, outcome, reason, cause_id, packed = row
    primary, params, because, place = load(packed)
    return Decision(
        at,
        contact,
        campaign,
        rule,
        key,
        step,
        kind,
        action,
        primary,
        params,
        outcome,
        reason,
        tuple(tuple(pair) for pair in because),
        cause_id,
        tuple(place or ()),
    )


def mark(secret: str, kind: str, *parts: str) -> str:
    """32 hexadecimal digits that stand for an id or an address where it may not be kept: HMAC-SHA256 under the database's own key."""
    said = dump([kind, *parts])
    return hmac.new(secret.encode(), said, hashlib.sha256).hexdigest()[:32]


def comparable(value: str) -> str:
    """An e-mail address or telephone number as it is compared: neither letter case nor how a number is grouped makes another one."""
    text = unicodedata.normalize("NFKC", value).strip().casefold()
    return text if "@" in text else re.sub(r"[\s().\-/]+", "", text)
