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
from rules_engine.store.port import Arrival, BadData, Cause

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
    """A text that every database takes: NULs and lone surrogates become visible escapes."""
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()
    return text.replace("\0", "\\x00")


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


def log_values(arrival: Arrival) -> tuple[str, str, str, str, str, int, str | None, bytes, bytes]:
    """(source, id, kind, name, contact, at, subject, data, fingerprint): what a row of the log says. Raises BadData for what not every
    database takes."""
    cause = arrival.cause
    kind, name, subject, data = body(cause)
    if isinstance(cause, Wake):
        raise BadData("a wake-up is not for the log")
    try:
        texts = "".join((arrival.source, cause.id, name, cause.contact, subject or ""))
        texts.encode()
    except (TypeError, UnicodeError) as error:
        raise BadData(str(error)) from error
    if "\0" in texts:
        raise BadData("a name, id or subject holds a NUL")
    if not isinstance(cause.at, int) or not -(2**63) <= cause.at < 2**63:
        raise BadData(f"{cause.at!r} is no whole number of 64 bits")
    return arrival.source, cause.id, kind, name, cause.contact, cause.at, subject, data, fingerprint(cause, arrival.undated)


ADDRESSES = ("email", "phone")
"""Attributes by which a contact is found when somebody else names it."""
MAX_ADDRESS = 320  # characters: 64 and 255 beside the @ (RFC 5321); a server's index takes some 2,700 bytes of a row


def address(kind: str, value: Any) -> str:
    """An e-mail address without case, a phone number as its digits; "" where it can't be one, nor where it is too long. (The part before
    the @ may have case by RFC 5321; no provider that people use tells it apart.)"""
    if not isinstance(value, str):
        return ""
    if kind == "email":
        lower = value.strip().lower()
        text = lower if "@" in lower else ""
    else:
        text = "".join(letter for letter in value if letter.isascii() and letter.isdigit()).removeprefix("00")
    return text if len(text) <= MAX_ADDRESS else ""


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
