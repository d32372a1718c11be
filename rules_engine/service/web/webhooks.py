"""`POST /v1/webhooks/NAME`: other programs tell by themselves what happened. Signed, so no token; what is answered with 2xx is durable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from rules_engine.limits import MAX_WEBHOOK_BYTES
from rules_engine.service import ingest
from rules_engine.service.web import bodies, providers, signatures
from rules_engine.service.web.core import Web, short
from rules_engine.service.web.problems import Problem, json_response
from rules_engine.service.web.settings import Webhook
from rules_engine.store.port import Arrival, EffectRow, Store


async def post_webhook(web: Web, request: Request) -> Response:
    """Takes in one webhook."""
    hook = web.settings.webhooks.get(request.path_params["name"])
    if hook is None:
        raise Problem(404, "no-webhook", "no webhook of this name is declared: [web.webhooks.NAME]")
    web.push_back()
    if hook.kind == "twilio":
        return await _twilio(web, hook, request)
    if bodies.media(request) != bodies.JSON:
        raise Problem(415, "unknown-format", f"a webhook is {bodies.JSON}")
    body = await bodies.read(request, MAX_WEBHOOK_BYTES)
    if hook.kind in ("standard", "delivery"):
        _verified(signatures.standard(hook.secrets, request.headers, body, web.clock.now()))
        value = _object(body)
        if hook.kind == "standard":
            return await _mapped(web, hook, request.headers["webhook-id"], value)
        try:
            reports = providers.delivery(value, request.headers["webhook-id"])
        except ValueError as error:
            return json_response({"reports": [{"status": "ignored", "reason": str(error)}], "duplicates": 0})
        return await _reports(web, hook, reports)
    if hook.kind == "postmark":
        _verified(signatures.basic(hook.user, hook.secrets, request.headers.get("authorization", "")), {"WWW-Authenticate": 'Basic realm="camp"'})
        return await _reports(web, hook, providers.postmark(_object(body)))
    value = _object(body)
    said = value.get("signature")
    signature = said if isinstance(said, Mapping) else {}
    _verified(signatures.mailgun(hook.secrets, signature, web.clock.now()))
    if not web.mailgun.fits(short(hook.name, signature.get("timestamp"), signature.get("token")), body):
        _verified("the signature came with another body before")
    return await _reports(web, hook, providers.mailgun(value))


def _verified(reason: str, headers: Mapping[str, str] | None = None) -> None:
    if reason:
        raise Problem(401, "bad-signature", reason, headers or {"WWW-Authenticate": "Signature"})


def _object(body: bytes) -> Mapping[str, Any]:
    value = bodies.json_body(body)
    if not isinstance(value, Mapping):
        raise Problem(422, "no-object", "the body is no JSON object")
    return value


# ---------------------------------------------------------------- mapped


async def _mapped(web: Web, hook: Webhook, id: str, value: Mapping[str, Any]) -> Response:
    """One event (or, for `event = "contact"`, one change of a contact) by the paths of the settings."""
    name = hook.event
    if hook.events:
        kind = found(value, hook.event)
        name = hook.events.get(kind, "") if isinstance(kind, str) else ""
        if not name:
            return _answer("ignored", id, f"[web.webhooks.{hook.name}.events] has no entry for {str(kind)[:100]!r}")
    contact = found(value, hook.contact)
    data = {field: found(value, path) for field, path in hook.data.items()}
    record: dict[str, Any] = {"id": id, "event": name, "contact": contact, "at": found(value, hook.at) if hook.at else None}
    record |= {"subject": found(value, hook.subject) if hook.subject else None, "data": {key: item for key, item in data.items() if item is not None}}
    try:
        arrival, _ = _contact(web, hook, record) if name == "contact" else _event(web, hook, record)
    except (ValueError, TypeError) as error:
        raise Problem(422, "bad-item", str(error)) from None
    (fate,) = await web.record([arrival])
    if fate.status == "conflict":
        raise Problem(409, "id-conflict", fate.reason, id=id)
    if fate.status == "rejected":
        raise Problem(422, "bad-item", fate.reason)
    return _answer(fate.status, id)


def _event(web: Web, hook: Webhook, record: Mapping[str, Any]) -> Any:
    return ingest.event_arrival(record, web.read_event, lambda full: "", _now(web), undated=True, source=f"webhook:{hook.name}")


def _contact(web: Web, hook: Webhook, record: Mapping[str, Any]) -> Any:
    at = record["at"]
    when = web.clock.now() if at in (None, "") else ingest.moment(at, "at")
    id = f"webhook:{hook.name}:{short(record['id'])}"
    return ingest.contact_arrival({"id": record["contact"], **record["data"]}, web.read_contact, when, id, undated=at in (None, "")), False


def _now(web: Web) -> str:
    from rules_engine.runtime.calendar import format_utc

    return format_utc(web.clock.now())


def found(value: Any, path: str) -> Any:
    """What stands at a dotted path (`data.items.0.sku`), or None."""
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isascii() and part.isdigit() and len(part) < 6:
            value = value[int(part)] if int(part) < len(value) else None
        else:
            return None
    return value


def _answer(status: str, id: str, reason: str = "") -> Response:
    return json_response({"status": status, "id": id, **({"reason": reason} if reason else {})}, 202 if status == "accepted" else 200)


# ---------------------------------------------------------------- reports of providers


async def _twilio(web: Web, hook: Webhook, request: Request) -> Response:
    if not web.settings.url:
        raise Problem(503, "no-url", "[web] url is not set: Twilio signs the address that it calls", {"Retry-After": "600"})
    fields, _ = await bodies.fields(request)
    url = web.settings.url + request.url.path + (f"?{request.url.query}" if request.url.query else "")
    _verified(signatures.twilio(hook.secrets, url, fields, request.headers.get("x-twilio-signature", "")))
    return await _reports(web, hook, providers.twilio(fields))


async def _reports(web: Web, hook: Webhook, reports: list[providers.Report]) -> Response:
    """Each report becomes an event of the contact, and moves its effect on by evidence (promise P6)."""
    arrivals, moves, told = [], [], []
    for report in reports:
        effect = await web.ask(_finder(report.names))
        contact = effect.contact if effect is not None else await _whose(web, report)
        if contact is None:
            told.append({"status": "ignored", "reason": "neither the message nor the address is known"})
            continue
        values = {"s": None, "m": None, "ch": report.channel}
        channel, subject, data = web.of_message(values, effect)
        moved = [(effect.id, report.state, report.reason)] if effect is not None and report.state else []
        moves += moved
        for part in providers.meant(report, channel):
            found = _arrivals(web, hook, part, contact, subject, data)
            arrivals += found
            name = f"{part.channel}.{part.kind}"
            said = {"event": name} if found else {"reason": f"no event is called {name}"}
            told.append({"status": "accepted" if found or moved else "ignored", **said, "contact": contact})
    fates = await web.record(arrivals, then=_mover(moves, web.clock.now()) if moves else None)
    return json_response({"reports": told, "duplicates": sum(fate.status == "duplicate" for fate in fates)})


def _arrivals(web: Web, hook: Webhook, report: providers.Report, contact: str, subject: str | None, data: Mapping[str, Any]) -> list[Arrival]:
    """What the log is told of a report; nothing where nobody declares such an event."""
    name, source = f"{report.channel}.{report.kind}", f"webhook:{hook.name}"
    fields = web.model.events[name].fields if name in web.model.events else {}
    full = {**data, **{key: item for key, item in report.data.items() if key in fields}}
    if report.kind == "unsubscribed":
        return web.unsubscribed(report.channel, contact, report.id, subject, full, report.at, source)
    return web.event(name, contact, report.id, subject, full, report.at, source)


def _finder(names: tuple[str, ...]) -> Callable[[Store], EffectRow | None]:
    def look(store: Store) -> EffectRow | None:
        for name in names:
            effect = store.find_effect(name)
            if effect is not None:
                return effect
        return None

    return look


async def _whose(web: Web, report: providers.Report) -> str | None:
    """Without a message: the contact with that address. A plugin's own channel may know people by either."""
    by_phone = report.channel == "sms" or (report.channel != "email" and "@" not in report.address)
    return await web.contact_by("phone" if by_phone else "email", report.address) if report.address else None


def _mover(moves: list[tuple[str, str, str]], now: int) -> Callable[[Store], None]:
    def move(store: Store) -> None:
        for effect, state, detail in moves:
            store.report(effect, state, detail, now)

    return move
