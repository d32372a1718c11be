"""`sms.send`: a text message, to a JSON Lines file or to a provider's bridge by webhook.

Settings (`[sms]` of camp.toml): transport = "folder" (default, writes `outbox/sms.jsonl`; folder, fsync) | "webhook" (url,
secret, token, timeout, allow_private, deduplicates: see `_http.py`); from = the sender's number or name.

The webhook transport POSTs JSON in the shape of Standard Webhooks, signed if there is a secret:
    {"type": "sms.send", "id": "msg_…", "timestamp": "2026-03-02T09:00:00Z", "data": {"to": "+491701234567", "from": "Shop",
     "text": "…", "class": "marketing", "campaign": "welcome", "contact": "ana"}}
Any 2xx means accepted; a JSON answer {"id": "…"} names the message at the provider.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from rules_engine.plugin import Action, Call, Change, EventType, Outcome, Parameter, hookimpl

SETTINGS = (
    "transport",
    "from",
    "folder",
    "fsync",
    "url",
    "secret",
    "token",
    "timeout",
    "allow_private",
    "deduplicates",
)
"""What [sms] of camp.toml may hold: `camp doctor` names what is misspelt."""

MAX_CHARACTERS = 1_600  # ten parts, the most that providers take; a longer text is a mistake, and each part costs money

# Compiled by re when first used: importing a plugin must cost nothing.
_FILLER = r"[\s().\-/\u00a0\u202f]+"
_PHONE = r"\+?[0-9]{5,15}"
_CONTROL = "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]"


def send(call: Call) -> Outcome:
    """Hands over one text message."""
    to = phone(call.params.get("to") or call.contact.get("phone"))
    if to is None:
        return Outcome("failed", "the contact has no usable phone number")
    text = re.sub(_CONTROL, " ", str(call.primary if call.primary is not None else "")).strip()
    if not text or len(text) > MAX_CHARACTERS:
        return Outcome("failed", f"the text has {len(text)} characters; an SMS has 1 to {MAX_CHARACTERS}")
    from rules_engine_plugins import _handover

    return _handover.deliver(
        call,
        "sms",
        {
            "to": to,
            "from": call.settings.get("from"),
            "text": text,
            "class": call.params.get("class", "marketing"),
            "campaign": call.campaign,
            "contact": call.contact.get("id"),
        },
    )


def phone(value: Any) -> str | None:
    """A number without blanks, brackets and dashes, or None if it is none."""
    number = re.sub(_FILLER, "", value) if isinstance(value, str) else ""
    return number if re.fullmatch(_PHONE, number) else None


def idempotency(settings: Mapping[str, Any]) -> str:
    """Says "key" where these settings make a repeated key harmless, else "none"."""
    from rules_engine_plugins import _handover

    return _handover.idempotency(settings)


@hookimpl
def register_actions() -> Iterator[Action]:
    yield Action(
        "sms.send",
        "Send a text message.",
        Parameter("text", "text", required=True),
        (
            Parameter("to", "text", help="Instead of the contact's own number."),
            Parameter(
                "class",
                "choice",
                default="marketing",
                choices=("marketing", "transactional"),
                help="Transactional messages are exempt from caps and quiet hours.",
            ),
        ),
        channel="sms",
        message_class="marketing",
        address="phone",
        perform=send,
        timeout=35.0,
        example='sms.send "You left something behind: {event.cart_url}"',
    )


@hookimpl
def register_events() -> Iterator[EventType]:
    campaign = {"campaign": "text"}
    yield EventType("sms.sent", "A text message was handed over.", campaign)
    yield EventType("sms.delivered", "The text message arrived.", campaign)
    yield EventType("sms.replied", "The contact answered by text message.", {"text": "text", **campaign})
    yield EventType("sms.failed", "The text message could not be handed over.", {"reason": "text", **campaign})
    yield EventType("sms.clicked", "A link in the text message was clicked.", {"url": "text", "machine": "boolean", **campaign})
    yield EventType(
        "sms.unsubscribed",
        "The contact wants no more text messages.",
        {"text": "text", **campaign},
        changes=(Change("set", "consent.sms", False),),
    )
