"""`webhook.post`: call another system over HTTP.

Sends JSON with the headers of Standard Webhooks (webhook-id, webhook-timestamp and, when the setting `secret` is there,
webhook-signature) and Idempotency-Key; both ids are derived from the effect's key and the same for every attempt.

Settings (`[webhook]` of camp.toml): transport = "folder" (default: writes `outbox/webhook.jsonl`, nothing leaves; folder,
fsync) | "http"; secret, timeout, allow_private, deduplicates: see `_http.py`, which also says which answer means what, and why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rules_engine.plugin import Action, Call, Outcome, Parameter, hookimpl
from rules_engine_plugins._settings import unknown_transport

TRANSPORTS = ("folder", "http")

TRANSPORTS = ("folder", "http")

SETTINGS = (
    "transport",
    "folder",
    "fsync",
    "secret",
    "timeout",
    "allow_private",
    "deduplicates",
)
"""What [webhook] of camp.toml may hold: `camp doctor` names what is misspelt."""

METHODS = ("POST", "PUT", "PATCH", "GET", "DELETE")


def post(call: Call) -> Outcome:
    """Hands over one request. Arguments that can't be sent safely are `failed`."""
    from rules_engine_plugins import _handover

    return _handover.request(call)


def wrong_settings(settings: Mapping[str, Any], given: frozenset[str] = frozenset()) -> Iterator[str]:
    """What can't be, in sentences. given: the arguments that each action of the campaigns gives itself."""
    unknown = unknown_transport(settings, TRANSPORTS)
    if unknown:
        yield unknown


def idempotency(settings: Mapping[str, Any]) -> str:
    """Says "key" where these settings make a repeated key harmless, else "none"."""
    from rules_engine_plugins import _handover

    return _handover.idempotency(settings)


@hookimpl
def register_actions() -> Iterator[Action]:
    yield Action(
        "webhook.post",
        "Call a URL with JSON.",
        Parameter("url", "url", required=True),
        (
            Parameter("body", "map", help="What to send, as JSON."),
            Parameter("headers", "map", help="Further headers."),
            Parameter("method", "choice", default="POST", choices=METHODS),
            Parameter("timeout", "duration", help="How long the whole call may take; at most 30 seconds."),
        ),
        channel="webhook",
        perform=post,
        timeout=35.0,
        example='webhook.post "https://hooks.example.com/cart", body: {cart: event.cart_id}',
    )
