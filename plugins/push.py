"""`push.web` and `push.mobile`: a notification in the browser or on the phone, to a JSON Lines file or to a provider by webhook.

Settings (`[push]` of camp.toml): transport = "folder" (default, writes `outbox/push.jsonl`; folder, fsync) | "webhook" (url,
secret, token, timeout, allow_private, deduplicates: see `_http.py`).

Who has which subscription is the provider's knowledge: it is told the contact's id, and may answer 404 or 410 for somebody who has
none (failed). The webhook transport POSTs JSON in the shape of Standard Webhooks, signed if there is a secret:
    {"type": "push.web", "id": "msg_…", "timestamp": "2026-03-02T09:00:00Z", "data": {"contact": "ana", "title": "Your cart",
     "text": "Three things wait for you.", "url": "https://shop.example/cart", "image": null, "data": {}, "class": "marketing",
     "campaign": "cart"}}
Any 2xx means accepted; a JSON answer {"id": "…"} names the notification at the provider.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rules_engine.plugin import Action, Call, Change, EventType, Outcome, Parameter, hookimpl
from rules_engine_plugins._settings import DELIVERY, message_class, wrong_delivery

TRANSPORTS = ("folder", "webhook")

SETTINGS = DELIVERY
"""What [push] of camp.toml may hold: `camp doctor` names what is misspelt."""

MAX_TEXT = 1_000  # characters; what browsers and phones show is far less
MAX_TITLE = 200

PARAMETERS = (
    Parameter("title", "text", help="The line above the text."),
    Parameter("url", "url", help="What opens."),
    Parameter("image", "url", help="A picture."),
    Parameter("data", "map", help="Values for the app."),
    message_class("notifications are"),
)


def send(call: Call) -> Outcome:
    """Hands over one notification."""
    text, title = _text(call.primary), _text(call.params.get("title"))
    if not text or len(text) > MAX_TEXT or len(title) > MAX_TITLE:
        return Outcome("failed", f"a notification has a text of 1 to {MAX_TEXT} characters and a title of at most {MAX_TITLE}")
    if not call.contact.get("id"):
        return Outcome("failed", "the contact has no id, by which the provider would know it")
    for name in ("url", "image"):
        link = call.params.get(name)
        if link is not None and not str(link).startswith(("https://", "http://")):
            return Outcome("failed", f"{name} is no web address")
    from rules_engine_plugins import _handover

    return _handover.deliver(
        call,
        "push",
        {
            "contact": call.contact.get("id"),
            "title": title,
            "text": text,
            "url": call.params.get("url"),
            "image": call.params.get("image"),
            "data": call.params.get("data") or {},
            "class": call.message_class or call.params.get("class", "marketing"),
            "campaign": call.campaign,
        },
    )


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def wrong_settings(settings: Mapping[str, Any], given: frozenset[str] = frozenset()) -> Iterator[str]:
    """What can't be, in sentences. given: the arguments that each action of the campaigns gives itself."""
    yield from wrong_delivery(settings, TRANSPORTS)


def idempotency(settings: Mapping[str, Any]) -> str:
    """Says "key" where these settings make a repeated key harmless, else "none"."""
    from rules_engine_plugins import _handover

    return _handover.idempotency(settings)


@hookimpl
def register_actions() -> Iterator[Action]:
    for where, words in (("web", "in the browser"), ("mobile", "on the phone")):
        yield Action(
            f"push.{where}",
            f"Show a notification {words}.",
            Parameter("text", "text", required=True),
            PARAMETERS,
            channel="push",
            message_class="marketing",
            perform=send,
            timeout=35.0,
            example=f'push.{where} "Three things wait for you.", title: "Your cart", url: "https://shop.example/cart"',
        )


@hookimpl
def register_events() -> Iterator[EventType]:
    campaign = {"campaign": "text"}
    yield EventType("push.sent", "A notification was handed over.", campaign)
    yield EventType("push.delivered", "The notification arrived.", campaign)
    yield EventType("push.clicked", "The notification was tapped.", {"url": "text", **campaign})
    yield EventType("push.failed", "The notification could not be handed over.", {"reason": "text", **campaign})
    yield EventType("push.unsubscribed", "The contact wants no more notifications.", campaign, changes=(Change("set", "consent.push", False),))
