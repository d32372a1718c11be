"""What people wish: to get no more, or which. The token in the path says who they are, so nobody else's form can speak for them; GET
shows, POST changes. It is confirmed only when it is durable (promises P1, P9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from rules_engine.service.web import bodies, pages
from rules_engine.service.web.core import Web
from rules_engine.service.web.problems import PersonalProblem
from rules_engine.service.web.tracking import token_values
from rules_engine.store.port import SOURCE_CONTACTS, Arrival

CHANNELS = {"email": "e-mail", "sms": "text messages"}
DEFAULT = {"consent.email": "E-mail", "consent.sms": "Text messages"}


async def get_unsubscribe(web: Web, request: Request) -> Response:
    """Asks; changes nothing (link scanners follow every link)."""
    values = token_values(web, "unsubscribe", request)
    if values is None:
        return pages.not_found()
    channel, _, _ = web.of_message(values, await web.effect(values.get("e")))
    body = pages.paragraph(f"You will get no more {CHANNELS.get(channel, channel)} from us.")
    return pages.page("Unsubscribe?", body + pages.form(pages.hidden("confirm", "yes"), "Unsubscribe"))


async def post_unsubscribe(web: Web, request: Request) -> Response:
    """The button of the page, or a mail program's one click (RFC 8058): at once, and no redirect."""
    values = token_values(web, "unsubscribe", request)
    if values is None:
        return pages.not_found()
    fields, _ = await bodies.fields(request)
    one_click = fields.get("List-Unsubscribe", "").strip().lower() == "one-click"
    if not one_click and fields.get("confirm") != "yes":
        raise PersonalProblem(400, "no-wish", "This request does not say that you want to unsubscribe. Use the button of the page.")
    channel, subject, data = web.of_message(values, await web.effect(values.get("e")))
    reason = "one-click" if one_click else "page"
    await _record(web, _unsubscribed(web, values["c"], channel, subject, {**data, "reason": reason}))
    return pages.page("You are unsubscribed", pages.paragraph(f"You will get no more {CHANNELS.get(channel, channel)} from us."))


def _unsubscribed(web: Web, contact: str, channel: str, subject: str | None, data: Mapping[str, Any]) -> list[Arrival]:
    """A wish counts each time, so each has an id of its own: who subscribed again may unsubscribe by the same link."""
    id = f"unsubscribe:{web.chance()}"
    if channel == "sms":
        data = {key: value for key, value in data.items() if key != "reason"}
    return web.unsubscribed(channel, contact, id, subject, data)


async def _record(web: Web, arrivals: Sequence[Arrival]) -> None:
    """Returns once all is durable. Raises PersonalProblem where something of it can't be: that is not confirmed."""
    fates = await web.record(arrivals, keep=True, personal=True)
    refused = next((fate.reason for fate in fates if fate.status == "rejected"), None)
    if refused is not None:
        raise PersonalProblem(422, "bad-item", refused)


# ---------------------------------------------------------------- preferences


async def get_preferences(web: Web, request: Request) -> Response:
    """Shows what the contact gets."""
    values = token_values(web, "preferences", request)
    if values is None:
        return pages.not_found()
    return _page(web, await _current(web, values["c"]), "")


async def post_preferences(web: Web, request: Request) -> Response:
    """Takes the choices: what is ticked is yes, the rest no."""
    values = token_values(web, "preferences", request)
    if values is None:
        return pages.not_found()
    fields, _ = await bodies.fields(request)
    if fields.get("save") != "yes":
        raise PersonalProblem(400, "no-wish", "This request does not say what you want. Use the button of the page.")
    contact, before = values["c"], await _current(web, values["c"])
    after = {name: bool(fields.get(name)) for name in _choices(web)}
    channel, subject, data = web.of_message(values, await web.effect(values.get("e")))
    change = web.read_contact({"id": contact, **after}, web.clock.now())._replace(id=f"preferences:{web.chance()}")
    arrivals = [Arrival(change, SOURCE_CONTACTS)]
    for name in ("email", "sms"):
        if before.get(f"consent.{name}") and after.get(f"consent.{name}") is False:  # campaigns wait for the event, too
            own = {**data, "reason": "preferences"} if name == channel else {"reason": "preferences"}
            arrivals += _unsubscribed(web, contact, name, subject if name == channel else None, own)
    await _record(web, arrivals)
    return _page(web, after, "Your choices are saved.")


def _choices(web: Web) -> Mapping[str, str]:
    return web.settings.preferences or DEFAULT


async def _current(web: Web, contact: str) -> dict[str, bool]:
    """Each choice as it stands. A channel's consent that was never asked for counts as given, as it does in campaigns."""
    has = await web.attributes_of(contact)
    return {name: (name.startswith("consent.") if has.get(name) is None else has[name] is True) for name in _choices(web)}


def _page(web: Web, current: Mapping[str, bool], note: str) -> Response:
    boxes = "".join(pages.checkbox(name, label, current[name]) for name, label in _choices(web).items())
    return pages.page("What may we send you?", (pages.paragraph(note) if note else "") + pages.form(boxes + pages.hidden("save", "yes"), "Save"))
