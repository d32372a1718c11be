"""`crm.push`: hand the contact to a CRM or another system of record, to a JSON Lines file by webhook, or to HubSpot.

Settings (`[crm]` of camp.toml): transport = "folder" (default, writes `outbox/crm.jsonl`; folder, fsync) | "webhook" (url,
secret, token, timeout, allow_private, deduplicates: see `_http.py`) | "hubspot" (token (a secret), properties, unique_property, base_url: see
`_hubspot.py`); contact_fields = ["id", "email", …]: the contact's
attributes that go along.

The webhook transport POSTs JSON in the shape of Standard Webhooks, signed if there is a secret:
    {"type": "crm.push", "id": "msg_…", "timestamp": "…", "data": {"object": "lead", "owner": "round-robin",
     "fields": {"score": 85}, "contact": {"id": "ana", "email": "ana@example.com"}, "campaign": "becomes_mql"}}
Any 2xx means accepted; a JSON answer {"id": "…"} names the record there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rules_engine.plugin import Action, Call, Outcome, Parameter, hookimpl
from rules_engine_plugins._settings import DELIVERY, wrong_delivery

TRANSPORTS = ("folder", "webhook", "hubspot")

SETTINGS = (
    *DELIVERY,
    "contact_fields",
    "properties",
    "unique_property",
    "base_url",
)
"""What [crm] of camp.toml may hold: `camp doctor` names what is misspelt."""

CONTACT_FIELDS = ("id", "email")  # what a foreign system needs to know somebody again; more only if the operator says so


def push(call: Call) -> Outcome:
    """Hands over one record."""
    wanted = call.settings.get("contact_fields", CONTACT_FIELDS)
    names = wanted if isinstance(wanted, (list, tuple)) else CONTACT_FIELDS
    fields = {name: value for name, value in call.params.items() if name != "owner"}
    contact = {name: call.contact[name] for name in names if isinstance(name, str) and name in call.contact}
    if call.settings.get("transport") == "hubspot":
        from rules_engine_plugins import _hubspot

        return _hubspot.push(call, call.primary, fields, contact)
    from rules_engine_plugins import _handover

    record = {"object": call.primary, "owner": call.params.get("owner"), "fields": fields, "contact": contact, "campaign": call.campaign}
    return _handover.deliver(call, "crm", record)


def wrong_settings(settings: Mapping[str, Any], given: frozenset[str] = frozenset()) -> Iterator[str]:
    """What can't be, in sentences. given: the arguments that each action of the campaigns gives itself."""
    yield from wrong_delivery(settings, TRANSPORTS)
    if settings.get("transport") == "hubspot" and not settings.get("token"):
        yield "the setting token is missing"


def idempotency(settings: Mapping[str, Any]) -> str:
    """Says "key" where these settings make a repeated key harmless, else "none". HubSpot's requests say what shall be: a repeat
    changes nothing (see `_hubspot.py`)."""
    if settings.get("transport") == "hubspot":
        return "key"
    from rules_engine_plugins import _handover

    return _handover.idempotency(settings)


@hookimpl
def register_actions() -> Iterator[Action]:
    yield Action(
        "crm.push",
        "Push the contact to the CRM as an object such as a lead.",
        Parameter("object", "name", required=True),
        (Parameter("owner", "text", help="Who gets it there."),),
        extra="any",
        channel="crm",
        perform=push,
        timeout=35.0,
        example='crm.push lead, owner: "round-robin", score: contact.points',
    )
