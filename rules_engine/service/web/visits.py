"""Page visits: a small script, its beacon, and a picture for pages without script."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from rules_engine import links
from rules_engine.limits import MAX_BEACON_BYTES
from rules_engine.service.web import bodies, machines
from rules_engine.service.web.api import VISITOR
from rules_engine.service.web.core import LOOK_SECONDS, Web, clean, short, stands_for
from rules_engine.service.web.problems import Problem, json_response
from rules_engine.service.web.settings import is_web_url
from rules_engine.store.port import Arrival, StoreError

COOKIE = "camp_visitor"
COOKIE_SECONDS = 33_696_000  # 390 days; browsers keep none longer than 400
PIXEL = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")
NO_STORE = {"Cache-Control": "no-store, max-age=0", "Referrer-Policy": "no-referrer"}
IDENTIFY_MS = 15 * 60_000  # how long a click's word counts on the site that it leads to
LONGEST_SECONDS = 86_400
_VIEW = re.compile(r"[0-9a-f]{8,32}")


async def get_script(web: Web, request: Request) -> Response:
    """The script for the site's pages."""
    text = files("rules_engine.service.web").joinpath("static/camp.js").read_text("utf-8")
    text = re.sub(r"^/\*.*?\*/\s*|(?<=\n) +", "", text, flags=re.DOTALL)  # comment and indentation are for us
    text = text.replace("__RESPECT__", "true" if web.settings.respect_dnt else "false")
    headers = {"Cache-Control": "public, max-age=3600", "Cross-Origin-Resource-Policy": "cross-origin"}
    return Response(text, 200, headers, "text/javascript")


async def post_page(web: Web, request: Request) -> Response:
    """A page was opened, or left. The answer says nothing, not even whether it was kept; except to the browser of somebody else than before,
    which is given a new id."""
    origin = allowed_origin(request, web.settings.sites, "[web] sites")
    headers = {"Access-Control-Allow-Origin": origin, "Vary": "Origin", **NO_STORE}
    if web.settings.respect_dnt and machines.refuses(request.headers):
        return Response(None, 204, headers)
    web.limit(request, web.visits)
    web.push_back()
    value = bodies.json_body(await bodies.read(request, MAX_BEACON_BYTES))
    visitor, contact, event = _page(web, request, value)
    if contact is None:
        await web.record(event(visitor))
        return Response(None, 204, headers)
    now_called = await _shared(web, visitor, contact)
    await web.record(web.identified(now_called, contact) + event(now_called))
    return Response(None, 204, headers) if now_called == visitor else json_response({"visitor": now_called}, 200, headers)


async def _shared(web: Web, visitor: str, contact: str) -> str:
    """The visitor's id; another one where it belongs to another contact than the one who came now: two people share a browser, and what one
    does is not the other's. The same question has the same answer, so a beacon that comes twice is one; without the key nobody can guess it."""
    try:
        owner, known = await web.reader.ask(lambda store: (stands_for(store, visitor), stands_for(store, contact)), LOOK_SECONDS)
    except StoreError:
        return visitor  # the engine lets the first stand
    if owner in (visitor, known):
        return visitor
    return "visitor:" + hmac.new(web.settings.keys[0].encode(), f"{visitor} {contact}".encode("utf-8", "surrogatepass"), "sha256").hexdigest()[:32]


def allowed_origin(request: Request, sites: tuple[str, ...], setting: str) -> str:
    """The site that the request comes from. Raises Problem 403 for one that is not allowed: its visitors are not ours."""
    origin = request.headers.get("origin", "").lower()
    if origin not in sites:
        if origin == "null":  # a browser hides the origin of a form, where a page's policy hides its address
            raise Problem(403, "foreign-site", "the page keeps its address to itself (Origin: null): it needs another Referrer-Policy than "
                          "no-referrer and same-origin, for example strict-origin-when-cross-origin")  # fmt: skip
        said = f"the site {clean(origin, 100)!r} is not one of {setting}" if origin else "the header Origin is missing: browsers send it"
        raise Problem(403, "foreign-site", said)
    return origin


def _page(web: Web, request: Request, value: Any) -> tuple[str, str | None, Callable[[str], list[Arrival]]]:
    """(visitor, the contact that a link says it is, the event of a visitor). Raises Problem 422."""
    if not isinstance(value, Mapping):
        raise Problem(422, "no-visit", "the body must be an object")
    visitor, view, kind = (value.get(name) for name in ("visitor", "view", "kind"))
    if not isinstance(visitor, str) or not VISITOR.fullmatch(visitor) or not isinstance(view, str) or not _VIEW.fullmatch(view):
        raise Problem(422, "no-visit", "`visitor` and `view` must be as camp.js makes them")
    path, about = _where(value.get("url"), value.get("path"))
    about |= {"device": machines.device(request.headers), "machine": bool(machines.machine("GET", request.headers))}
    if kind == "left":
        seconds = value.get("seconds")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= LONGEST_SECONDS:
            raise Problem(422, "no-visit", "`seconds` must be a number up to a day")
        times = value.get("times", 1)
        about["seconds"] = seconds
        return visitor, None, lambda who: web.event("page.left", who, f"left:{who[8:]}:{view}:{short(times)}", path, about)
    if kind != "viewed":
        raise Problem(422, "no-visit", "`kind` must be viewed or left")
    about |= {name: value.get(name) for name in ("title", "referrer") if isinstance(value.get(name), str)}
    return visitor, _who(web, value.get("link")), lambda who: web.event("page.viewed", who, f"view:{who[8:]}:{view}", path, about)


def _where(url: Any, path: Any) -> tuple[str, dict[str, Any]]:
    """(path, {url}) of a page. Credentials, the query and what stands behind # may say too much, but a query tells campaigns apart: it is kept
    in the url, never in the path."""
    if not is_web_url(url):
        raise Problem(422, "no-visit", "`url` must be the page's address")
    parts = urlsplit(url)
    said = path if isinstance(path, str) and path.startswith("/") else parts.path or "/"
    return clean(said, 500), {"url": parts._replace(fragment="").geturl()}


def _who(web: Web, link: Any) -> str | None:
    """A visitor who came by a link of a message is the one to whom it was sent."""
    values = links.verify(web.settings.keys, "identify", link) if isinstance(link, str) and link else None
    if values is None or not isinstance(values.get("t"), int) or not 0 <= web.clock.now() - values["t"] <= IDENTIFY_MS:
        return None
    contact = values.get("c")
    return contact if isinstance(contact, str) and contact else None


# ---------------------------------------------------------------- without script


async def get_pixel(web: Web, request: Request) -> Response:
    """A picture in a page without script: /t/page.gif?url=…&title=…; the page is its url, or the referrer."""
    answer = Response(PIXEL, 200, {**NO_STORE, "Cross-Origin-Resource-Policy": "cross-origin"}, "image/gif")
    url = request.query_params.get("url") or request.headers.get("referer", "")
    site = url and is_web_url(url) and f"{urlsplit(url).scheme}://{urlsplit(url).netloc}".lower()
    if site not in web.settings.sites or (web.settings.respect_dnt and machines.refuses(request.headers)):
        return answer
    if web.visits.wait(request.client.host if request.client else "") or web.writer.full():
        return answer
    visitor = visitor_of(web, request, answer)
    path, about = _where(url, None)
    about |= {"device": machines.device(request.headers), "machine": bool(machines.machine(request.method, request.headers))}
    about["title"] = request.query_params.get("title", "")
    await web.visit(web.event("page.viewed", visitor, f"view:{web.chance()}", path, about))
    return answer


def visitor_of(web: Web, request: Request, answer: Response) -> str:
    """The visitor's id from the cookie; a new one is put into the answer."""
    known = request.cookies.get(COOKIE, "")
    if VISITOR.fullmatch(known):
        return known
    made = f"visitor:{web.chance()}"
    answer.set_cookie(COOKIE, made, COOKIE_SECONDS, path="/", secure=request.url.scheme == "https", httponly=True, samesite="lax")
    return made
