"""Records in HubSpot by its CRM API v3, with the token of a private app.

    crm.push contact (or lead)   the contact with this e-mail address: PATCH by idProperty=email; if there is none POST; if somebody made
                                 it in between (409) PATCH again
    crm.push NAME                an object of that type (deal, task, ticket, …): batch/upsert under the effect's own name, which stands in
                                 the setting `unique_property`, a property with unique values that was made for it in HubSpot

Each of them says what shall be, not what is to be added, so that a repeat leaves one record: that is why these settings count as
idempotency "key", and what would be unknown is a retry. An object without a unique property would be made twice; so it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from rules_engine.plugin import Call, Outcome
from rules_engine_plugins import _http
from rules_engine_plugins._handover import effect_id, to_json

BASE = "https://api.hubapi.com"
PROPERTIES = {"first_name": "firstname", "last_name": "lastname", "owner": "hubspot_owner_id"}
PLURALS = {"company": "companies", "lead": "contacts", "contact": "contacts"}
SECONDS = 10.0  # for one of at most three requests: together below the action's time-out


def push(call: Call, kind: Any, fields: Mapping[str, Any], contact: Mapping[str, Any]) -> Outcome:
    """Makes or changes one record. fields: arguments of the action; contact: attributes that go along."""
    if not call.settings.get("token"):
        return Outcome("retry", "the setting token is missing")
    name = str(kind or "").lower()
    if not name.isascii() or not name.replace("_", "").isalnum() or len(name) > 60:
        return Outcome("failed", f"{name[:40]!r} is no type of object")
    owner = call.params.get("owner")
    if owner is not None and not str(owner).isdigit():
        return Outcome("failed", "owner must be the number of an owner in HubSpot")
    own = {"owner": owner} if owner is not None else {}
    if name in ("contact", "lead"):
        return _contact(call, _properties(call, {**contact, **fields, **own}))
    return _object(call, PLURALS.get(name, f"{name}s"), _properties(call, {**fields, **own}))


def _properties(call: Call, values: Mapping[str, Any]) -> dict[str, str]:
    """HubSpot's names (the setting `properties`, else the usual ones) and texts. The contact's id only if a property is named for it."""
    table = call.settings.get("properties")
    names = {**PROPERTIES, **(table if isinstance(table, Mapping) else {})}
    shown = {str(names.get(name, name)): _text(value) for name, value in values.items() if value is not None and (name != "id" or "id" in names)}
    return dict(sorted(shown.items()))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return value if isinstance(value, str) else to_json(value).strip('"')


def _contact(call: Call, properties: dict[str, str]) -> Outcome:
    email = properties.get("email", "")
    if "@" not in email or len(email) > 254:
        return Outcome("failed", "the contact has no e-mail address, by which HubSpot would know it (is email among contact_fields?)")
    one = f"contacts/{quote(email.encode('utf-8', 'replace'), safe='@')}?idProperty=email"
    answer = _ask(call, "PATCH", one, {"properties": properties})
    if answer.status == 404:
        answer = _ask(call, "POST", "contacts", {"properties": properties})
    if answer.status == 409:
        answer = _ask(call, "PATCH", one, {"properties": properties})
    return outcome_of(answer)


def _object(call: Call, plural: str, properties: dict[str, str]) -> Outcome:
    unique = call.settings.get("unique_property")
    if not isinstance(unique, str) or not unique:
        return Outcome("failed", f"set unique_property to a property of {plural} with unique values: without it a repeat would make a second record")
    wish = {"id": effect_id(call), "idProperty": unique, "properties": {**properties, unique: effect_id(call)}}
    return outcome_of(_ask(call, "POST", f"{plural}/batch/upsert", {"inputs": [wish]}))


def _ask(call: Call, method: str, path: str, body: Mapping[str, Any]) -> _http.Answer:
    url = f"{str(call.settings.get('base_url') or BASE).rstrip('/')}/crm/v3/objects/{path}"
    return _http.ask(call, method, url, {"Authorization": f"Bearer {call.settings['token']}"}, to_json(body).encode(), SECONDS)


def outcome_of(answer: _http.Answer) -> Outcome:
    """As `_http.outcome_of` with a receiver that recognises a repeat, and HubSpot's words."""
    fields = _http.fields_of(answer)
    said = " ".join(f"HubSpot answered {answer.status} {_http.words(fields.get('category'), 40)} {_http.words(fields.get('message'))}".split())
    if answer.status in (401, 403):
        return Outcome("retry", said)  # the token or its scopes, not this record
    if answer.status == 207:  # of batch/upsert: some inputs failed, and there is one
        return Outcome("failed", f"HubSpot refused it: {_http.words(fields.get('errors'))}")
    outcome = _http.outcome_of(answer, deduplicates=True)
    if outcome.state == "accepted":
        results = fields.get("results")
        first = results[0] if isinstance(results, list) and results and isinstance(results[0], dict) else fields
        return outcome._replace(provider_id=_http.words(first.get("id"), 64), detail=f"HubSpot answered {answer.status}")
    return outcome._replace(detail=said) if answer.status else outcome
