"""`/v1/…`: events and contacts of other programs, with a token. What is answered as accepted is durable (promise P1)."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from rules_engine.facts import Event
from rules_engine.service import ingest
from rules_engine.service.ingest import Fate, Line
from rules_engine.service.web import bodies
from rules_engine.service.web.core import Web, short
from rules_engine.service.web.problems import Problem, json_response
from rules_engine.store.port import Arrival

NO_ID = "without an id a repeat can't be recognised: send `id` with each event, or the header Idempotency-Key with each request"
NO_KEY = "a repeat can't be recognised, and sets the same values again: the header Idempotency-Key with each request makes it one"
BREATH = 200  # items read before others get their turn
_KEY = re.compile(r"[!-~]{1,200}")
VISITOR = re.compile(r"visitor:[0-9a-f]{32}")

Make = Callable[[Line], tuple[Arrival, bool]]
Warn = Callable[[dict[str, Any]], list[str]]


async def post_events(web: Web, request: Request) -> Response:
    """Takes in events."""
    web.authorise(request)
    name_of, known = _namer(web, request)
    default_at = _utc(web.clock.now())

    def make(line: Line) -> tuple[Arrival, bool]:
        arrival, anonymous = ingest.event_arrival(line.record or {}, web.read_event, lambda record: name_of(line.number), default_at, undated=True)
        return arrival, anonymous and not known

    return await _take(web, request, make, web.unread)


async def post_contacts(web: Web, request: Request) -> Response:
    """Takes in contacts: new values of attributes."""
    web.authorise(request)
    name_of, known = _namer(web, request)
    now = web.clock.now()

    def make(line: Line) -> tuple[Arrival, bool]:
        record = dict(line.record or {})
        own = record.pop("at", None)
        undated = own in (None, "")
        at = now if undated else ingest.moment(own, "at")
        return ingest.contact_arrival(record, web.read_contact, at, name_of(line.number), undated=undated), not known

    return await _take(web, request, make)


async def post_identify(web: Web, request: Request) -> Response:
    """Tells which contact a visitor is."""
    web.authorise(request)
    if bodies.media(request) != bodies.JSON:
        raise Problem(415, "unknown-format", f"send {bodies.JSON}")
    value = bodies.json_body(await bodies.read(request, 10_000))
    visitor, contact = (value.get(name) for name in ("visitor", "contact")) if isinstance(value, dict) else (None, None)
    if not isinstance(visitor, str) or not VISITOR.fullmatch(visitor):
        raise Problem(422, "no-visitor", "`visitor` must be `visitor:` and 32 hexadecimal digits, as camp.js makes it")
    from rules_engine.engine.values import identity

    try:
        known = identity(contact, "`contact`")
    except ValueError as error:
        raise Problem(422, "no-contact", str(error)) from None
    if known.startswith("visitor:"):
        raise Problem(422, "no-contact", "`contact` must be a known contact's id, not a visitor's")
    await web.record(web.identified(visitor, known))
    return json_response({"status": "accepted", "visitor": visitor, "contact": known}, 202)


# ---------------------------------------------------------------- shared


def _namer(web: Web, request: Request) -> tuple[Callable[[int], str], bool]:
    """What gives an id to an item without one, and whether a repeat of the request gives the same."""
    key = request.headers.get("idempotency-key")
    if key is not None:
        if not _KEY.fullmatch(key):
            raise Problem(400, "bad-key", "the header Idempotency-Key must be 1 to 200 letters, digits or signs, without blanks")
        name = short(request.url.path, key)
        return lambda number: f"key:{name}:{number}", True
    return lambda number: f"http:{web.chance()}", False


async def _take(web: Web, request: Request, make: Make, warn: Warn | None = None) -> Response:
    lines, single = await bodies.items(request)
    fates: list[Fate | None] = [None] * len(lines)
    warnings: dict[int, list[str]] = {}
    arrivals, places, without = [], [], 0
    for index, line in enumerate(lines):
        if index % BREATH == BREATH - 1:
            await asyncio.sleep(0)
        try:
            if line.record is None:
                raise ValueError(line.reason)
            arrival, anonymous = make(line)
        except (ValueError, TypeError, OverflowError) as error:
            fates[index] = Fate("rejected", str(error))
            continue
        if warn is not None and (said := warn(line.record)):
            warnings[index] = said
        arrivals.append(arrival)
        places.append(index)
        without += anonymous
    web.push_back()  # again: others came while this body was read
    for index, fate in zip(places, await web.record(arrivals), strict=True):
        fates[index] = fate
    ids = {place: _shown_id(arrival) for place, arrival in zip(places, arrivals, strict=True)}
    warning = "" if not without else NO_ID if isinstance(arrivals[0].cause, Event) else NO_KEY
    if single:
        return _single(fates[0], ids.get(0), warning, warnings.get(0))
    return _batch(lines, fates, ids, without, warning, warnings, numbered=bodies.media(request) != bodies.JSON)


def _shown_id(arrival: Arrival) -> str:
    """What the sender calls it: the event's id, the contact's."""
    return arrival.cause.id if isinstance(arrival.cause, Event) else arrival.cause.contact


def _single(fate: Fate | None, id: str | None, warning: str, warnings: list[str] | None) -> Response:
    assert fate is not None
    if fate.status == "rejected":
        raise Problem(422, "bad-item", _visible(fate.reason))
    if fate.status == "conflict":
        raise Problem(409, "id-conflict", fate.reason, id=id)
    answer = {"status": fate.status, "id": id, **({"warning": warning} if warning else {}), **({"warnings": _clean(warnings)} if warnings else {})}
    return json_response(answer, 202 if fate.status == "accepted" else 200)


def _batch(lines: list[Line], fates: list[Fate | None], ids: dict[int, str], without: int, warning: str, warnings: dict[int, list[str]],
           numbered: bool) -> Response:  # fmt: skip
    items: list[dict[str, Any]] = []
    sums: Counter[str] = Counter()
    for index, (line, fate) in enumerate(zip(lines, fates, strict=True)):
        assert fate is not None
        sums[fate.status] += 1
        item: dict[str, Any] = {"index": index, "status": fate.status}
        if numbered:
            item["line"] = line.number
        if index in ids:
            item["id"] = ids[index]
        if fate.reason:
            item["reason"] = _visible(fate.reason)
        if index in warnings:
            item["warnings"] = _clean(warnings[index])
        items.append(item)
    answer: dict[str, Any] = {
        "accepted": sums["accepted"], "duplicates": sums["duplicate"], "conflicts": sums["conflict"], "rejected": sums["rejected"],
        "without_id": without, "items": items,
    }  # fmt: skip
    if warning:
        answer["warning"] = warning
    return json_response(answer, 207 if sums["rejected"] or sums["conflict"] else 200)


def _visible(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _clean(sentences: list[str]) -> list[str]:
    return [_visible(sentence) for sentence in sentences]


def _utc(now: int) -> str:
    from rules_engine.runtime.calendar import format_utc

    return format_utc(now)
