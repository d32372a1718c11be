"""`POST /f/NAME`: a form of the site. Who sends one becomes known by the e-mail address in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from rules_engine.facts import ContactChange
from rules_engine.service import ingest
from rules_engine.service.web import bodies, pages
from rules_engine.service.web.api import VISITOR
from rules_engine.service.web.core import Web, clean
from rules_engine.service.web.problems import Problem, json_response, wants_page
from rules_engine.service.web.settings import Form
from rules_engine.service.web.visits import COOKIE, allowed_origin
from rules_engine.store import codec
from rules_engine.store.port import SOURCE_CONTACTS, Arrival

MAX_ANSWER = 10_000  # characters of one field
TICKED = ("yes", "on", "true", "1")


async def post_form(web: Web, request: Request) -> Response:
    """Takes in one form: finds or makes the contact, gives consent that was ticked and never refused, records `form.submitted`."""
    form = web.settings.forms.get(request.path_params["name"])
    if form is None:
        raise Problem(404, "no-form", "no form of this name is declared: [web.forms.NAME]")
    origin = allowed_origin(request, form.origins, "the form's origins") if "origin" in request.headers or form.origins else ""
    web.limit(request, web.posts)
    web.push_back()
    fields, _ = await bodies.fields(request)
    if form.honeypot and fields.get(form.honeypot, "").strip():
        return _answer(request, form, origin)  # a machine filled in what people don't see: it is told nothing
    email = codec.address("email", fields.get(form.email, ""))
    if not _is_email(email):
        raise _wrong(f"the field {form.email} must be an e-mail address")
    await web.record(await _arrivals(web, request, form, fields, email))
    return _answer(request, form, origin)


async def _arrivals(web: Web, request: Request, form: Form, fields: Mapping[str, str], email: str) -> list[Arrival]:
    """The contact first, then who the visitor is, then the form: the order in which the engine reads them."""
    contact = await web.contact_for(email)
    now = web.clock.now()
    record: dict[str, Any] = {"id": contact, "email": email}
    record |= {attribute: fields[name].strip()[:MAX_ANSWER] for name, attribute in form.attributes.items() if fields.get(name, "").strip()}
    # Anybody can send a form in anybody's name: a `no` that the person said is not taken back by one. `form.submitted` keeps the tick, so
    # that a campaign can ask by mail whether it was really them.
    has = await web.attributes_of(contact)
    ticked = {attribute for name, attribute in form.consent.items() if fields.get(name, "").strip().lower() in TICKED}
    record |= {attribute: True for attribute in sorted(ticked) if has.get(attribute) is not False}
    try:
        change: ContactChange = web.read_contact(record, now)
        arrival = ingest.Arrival(change._replace(id=f"form:{web.chance()}"), SOURCE_CONTACTS)
    except ValueError as error:
        raise _wrong(str(error)) from None
    visitor = fields.get(COOKIE) or request.cookies.get(COOKIE, "")
    known = web.identified(visitor, contact) if VISITOR.fullmatch(visitor) else []
    kept = {name: clean(fields[name], MAX_ANSWER, lines=True) for name in form.fields if fields.get(name, "").strip()}
    page = fields.get("camp_page") or request.headers.get("referer", "")
    event = web.event("form.submitted", contact, f"form:{web.chance()}", form.name, {"fields": kept, "page": page})
    return [arrival, *known, *event]


def _is_email(text: str) -> bool:
    """Whether it can be one: what only the recipient's server can tell is not judged."""
    name, _, host = text.rpartition("@")
    return bool(name) and len(text) <= 190 and "." in host.strip(".") and not any(letter.isspace() or not letter.isprintable() for letter in text)


def _answer(request: Request, form: Form, origin: str) -> Response:
    headers = {"Access-Control-Allow-Origin": origin, "Vary": "Origin"} if origin else {}
    if not wants_page(request):
        return json_response({"status": "accepted"}, 202, headers)
    if form.redirect:
        return RedirectResponse(form.redirect, 303, {**headers, "Cache-Control": "no-store"})
    return pages.page("Thank you", pages.paragraph("Your answers have arrived."))


def _wrong(detail: str) -> Problem:
    return Problem(422, "bad-field", detail)
