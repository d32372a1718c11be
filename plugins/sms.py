"""`sms.send`: a text message, to a JSON Lines file, to a provider's bridge by webhook, or to Twilio.

Settings (`[sms]` of camp.toml): transport = "folder" (default, writes `outbox/sms.jsonl`; folder, fsync) | "webhook" (url,
secret, token, timeout, allow_private, deduplicates: see `_http.py`) | "twilio" (account_sid, auth_token (a secret), api_key,
messaging_service_sid instead of from, status_callback, base_url: see `_twilio.py`); from = the sender's number or name;
max_segments = 10; track_links = false (true: web links become signed click links, which are long).

The webhook transport POSTs JSON in the shape of Standard Webhooks, signed if there is a secret:
    {"type": "sms.send", "id": "msg_…", "timestamp": "2026-03-02T09:00:00Z", "data": {"to": "+491701234567", "from": "Shop",
     "text": "…", "class": "marketing", "campaign": "welcome", "contact": "ana"}}
Any 2xx means accepted; a JSON answer {"id": "…"} names the message at the provider.

Segments. A text of GSM-7 characters (3GPP TS 23.038) has 160 in one segment and 153 in each of several; ^ { } \\ [ ] ~ | and the
euro sign count two. One character beyond that (an emoji, a ć) makes the whole text UCS-2: 70, and 67 in each of several. Carriers
charge by segment; the outcome's detail says how many there were.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from rules_engine.plugin import Action, Call, Change, EventType, Outcome, Parameter, hookimpl
from rules_engine_plugins._settings import DELIVERY, message_class, wrong_delivery

TRANSPORTS = ("folder", "webhook", "twilio")

SETTINGS = (
    *DELIVERY,
    "from",
    "max_segments",
    "track_links",
    "account_sid",
    "auth_token",
    "api_key",
    "messaging_service_sid",
    "status_callback",
    "base_url",
)
"""What [sms] of camp.toml may hold: `camp doctor` names what is misspelt."""

MAX_CHARACTERS = 1_600  # ten parts, the most that providers take; a longer text is a mistake, and each part costs money

MAX_SEGMENTS = 10  # the setting's default

# Compiled by re when first used: importing a plugin must cost nothing.
_FILLER = r"[\s().\-/\u00a0\u202f]+"
_PHONE = r"\+?[0-9]{5,15}"
_CONTROL = "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]"


_GSM = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_TWO = "^{}\\[~]|€\f"


def send(call: Call) -> Outcome:
    """Hands over one text message."""
    to, text, problem = _message(call)
    if problem:
        return Outcome("failed", problem)
    if call.settings.get("transport") == "twilio":
        from rules_engine_plugins import _twilio

        outcome = _twilio.send(call, to, text)
    else:
        from rules_engine_plugins import _handover

        outcome = _handover.deliver(
            call,
            "sms",
            {
                "to": to,
                "from": call.settings.get("from"),
                "text": text,
                "class": call.message_class or call.params.get("class", "marketing"),
                "campaign": call.campaign,
                "contact": call.contact.get("id"),
            },
        )
    encoding, count = segments(text)
    return outcome._replace(detail=f"{outcome.detail} ({count} segment{'s' * (count > 1)}, {encoding})") if outcome.state == "accepted" else outcome


def look_up(call: Call) -> Outcome:
    """What became of a hand-over that was not answered: Twilio can be asked, the others can't. Number, text and settings are those of
    now, so it can be found, and nothing proves that it never arrived."""
    to, text, problem = _message(call)
    if call.settings.get("transport") != "twilio" or problem:
        return Outcome("unknown", "this transport can't be asked")
    from rules_engine_plugins import _twilio

    return _twilio.look_up(call, to, text)


def _message(call: Call) -> tuple[str, str, str]:
    """(number, text, "") or why there is no message."""
    to = phone(call.params.get("to") or call.contact.get("phone"))
    if to is None:
        return "", "", "the contact has no usable phone number"
    text = re.sub(_CONTROL, " ", str(call.primary if call.primary is not None else "")).strip()
    if call.settings.get("track_links") is True:
        text = _tracked(call, text)
    if not text or len(text) > MAX_CHARACTERS:
        return "", "", f"the text has {len(text)} characters; an SMS has 1 to {MAX_CHARACTERS}"
    most, (encoding, count) = call.settings.get("max_segments", MAX_SEGMENTS), segments(text)
    if isinstance(most, int) and not isinstance(most, bool) and count > most:
        return "", "", f"the text takes {count} segments of {encoding}; the setting max_segments allows {most}"
    return to, text, ""


def _tracked(call: Call, text: str) -> str:
    from rules_engine_plugins import _tracking

    links = _tracking.links_of(call)
    if links is None:
        return text
    links = links._replace(values={**links.values, "s": "", "ch": "sms"})  # the text itself is no template's name
    return _tracking.in_text(text, _tracking.rewrite(links, _tracking.utm_of(call, True)))


def segments(text: str) -> tuple[str, int]:
    """("GSM-7" | "UCS-2", number of segments) of a text (3GPP TS 23.038 and 23.040)."""
    if all(char in _GSM or char in _GSM_TWO for char in text):
        units, one, many, name = len(text) + sum(char in _GSM_TWO for char in text), 160, 153, "GSM-7"
    else:
        units, one, many, name = len(text.encode("utf-16-le", "replace")) // 2, 70, 67, "UCS-2"
    return name, 1 if units <= one else -(-units // many)


def phone(value: Any) -> str | None:
    """A number without blanks, brackets and dashes, or None if it is none."""
    number = re.sub(_FILLER, "", value) if isinstance(value, str) else ""
    return number if re.fullmatch(_PHONE, number) else None


def wrong_settings(settings: Mapping[str, Any], given: frozenset[str] = frozenset()) -> Iterator[str]:
    """What can't be, in sentences. given: the arguments that each action of the campaigns gives itself."""
    yield from wrong_delivery(settings, TRANSPORTS)
    if settings.get("transport") == "twilio":
        from rules_engine_plugins import _twilio

        problem = _twilio.problem(settings)
        if problem:
            yield problem


def idempotency(settings: Mapping[str, Any]) -> str:
    """Says "key" where these settings make a repeated key harmless, "lookup" where the provider can be asked, else "none"."""
    if settings.get("transport") == "twilio":
        return "lookup"
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
            message_class("messages are"),
        ),
        channel="sms",
        message_class="marketing",
        address="phone",
        perform=send,
        lookup=look_up,
        settle=120.0,
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
