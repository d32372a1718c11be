"""Page visits and forms: who may send them, what is kept, how a visitor becomes known."""

from __future__ import annotations

import json
import re

import pytest

from rules_engine.facts import ContactChange
from rules_engine.service.web import machines
from tests.web.conftest import CHROME, NOW, SITE, VISITOR

VIEW = {"kind": "viewed", "visitor": VISITOR, "view": "0123456789abcdef", "url": SITE + "/pricing?utm=x#top", "path": "/pricing",
        "title": "Prices", "referrer": "https://search.example/"}  # fmt: skip
FORM = {"fields": ["email", "company"], "consent": {"letters": "consent.email"}, "attributes": {"first": "first_name"}, "honeypot": "website"}


def beacon(site, body, **headers):
    return site.http.post("/t/page", content=json.dumps(body), headers={"content-type": "text/plain", "origin": SITE, **headers})


def test_a_visit_and_the_time_on_the_page(site):
    answer = beacon(site, VIEW)
    assert answer.status_code == 204 and answer.headers["access-control-allow-origin"] == SITE
    assert beacon(site, VIEW).status_code == 204, "a beacon that comes twice"
    for times, seconds in ((1, 12.5), (2, 40)):
        beacon(site, {"kind": "left", "visitor": VISITOR, "view": VIEW["view"], "url": VIEW["url"], "path": "/pricing", "seconds": seconds, "times": times})
    viewed, *left = site.events()
    assert (viewed.name, viewed.contact, viewed.subject, viewed.at) == ("page.viewed", VISITOR, "/pricing", NOW)
    assert viewed.data == {"url": SITE + "/pricing?utm=x", "title": "Prices", "referrer": "https://search.example/", "device": "desktop", "machine": False}
    assert [(event.name, event.subject, event.data["seconds"]) for event in left] == [("page.left", "/pricing", 12.5), ("page.left", "/pricing", 40)]


def test_only_the_sites_of_the_settings_may_tell(site):
    for origin in ("https://evil.example", "null", "https://shop.example.evil.example", ""):
        assert beacon(site, VIEW, origin=origin).status_code == 403
    assert site.http.post("/t/page", content=json.dumps(VIEW)).status_code == 403
    assert site.events() == []


@pytest.mark.parametrize("change", [{"visitor": "visitor:1"}, {"visitor": "ana"}, {"view": "x"}, {"kind": "other"}, {"url": "javascript:x"}, {"url": None},
                                    {"kind": "left"}, {"kind": "left", "seconds": -1}, {"kind": "left", "seconds": True}])  # fmt: skip
def test_a_beacon_that_is_none_is_refused(site, change):
    assert beacon(site, {**VIEW, **change}).status_code == 422
    assert beacon(site, [VIEW]).status_code == 422 and site.events() == []


def test_who_asks_not_to_be_followed_is_not(make):
    site = make()
    for headers in ({"dnt": "1"}, {"sec-gpc": "1"}):
        assert beacon(site, VIEW, **headers).status_code == 204
        assert site.http.get(f"/t/page.gif?url={SITE}/x", headers=headers).status_code == 200
    assert site.events() == [] and "(true &&" in site.http.get("/camp.js").text


def test_the_setting_can_say_otherwise(make):
    site = make(respect_dnt=False)
    assert beacon(site, VIEW, dnt="1").status_code == 204
    assert len(site.events()) == 1 and "(false &&" in site.http.get("/camp.js").text


def test_one_address_may_not_come_too_often(make):
    site = make(visits_per_minute=10)
    answers = [beacon(site, {**VIEW, "view": f"{n:016x}"}) for n in range(12)]
    assert [answer.status_code for answer in answers] == [204] * 10 + [429] * 2 and int(answers[-1].headers["retry-after"]) >= 1
    site.clock.move_to(NOW + 60_000)
    assert beacon(site, VIEW).status_code == 204
    assert len(site.events()) == 11


def test_the_pixel_for_pages_without_script(site):
    answer = site.http.get(f"/t/page.gif?url={SITE}/about&title=About")
    assert answer.content.startswith(b"GIF89a") and "HttpOnly" in answer.headers["set-cookie"]
    visitor = answer.cookies["camp_visitor"]
    site.http.get("/t/page.gif", headers={"cookie": f"camp_visitor={visitor}", "referer": SITE + "/next"})
    site.http.get("/t/page.gif?url=https://evil.example/x")
    assert [(event.contact, event.subject) for event in site.events()] == [(visitor, "/about"), (visitor, "/next")]


def test_the_script_is_small_and_first_party(site):
    answer = site.http.get("/camp.js")
    assert len(answer.content) < 3_000 and answer.headers["content-type"].startswith("text/javascript")
    assert answer.text.startswith("(function") and "\n " not in answer.text and "__RESPECT__" not in answer.text
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"


def test_the_script_can_be_read_by_old_browsers(site):
    """A syntax that one does not know is an error in the site's console, and no visit: ES5, and newer functions only where they are there."""
    text = site.http.get("/camp.js").text
    assert not re.search(r"=>|`|\b(let|const|class|async|await|of)\b|\?\.|\?\?|\.\.\.", re.sub(r'"[^"]*"', '""', text))
    for name in ("fetch(", "n.sendBeacon(", "localStorage"):
        assert text.index({"fetch(": '"keepalive" in Request.prototype', "n.sendBeacon(": "if (n.sendBeacon)"}.get(name, "try {")) < text.index(name)


@pytest.mark.parametrize(("agent", "device"), [
    (CHROME, "desktop"), ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Mobile/15E148", "mobile"), ("Mozilla/5.0 (iPad; CPU OS 18_0)", "tablet"),
    ("Mozilla/5.0 (Linux; Android 15; Pixel 9) Mobile Safari", "mobile"), ("Mozilla/5.0 (Linux; Android 15; SM-X710) Safari", "tablet"),
    ("Mozilla/5.0 (SMART-TV; Linux; Tizen 8.0)", "tv"), ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)", "desktop"), ("", "other")])  # fmt: skip
def test_devices(agent, device):
    assert machines.device({"user-agent": agent}) == device
    assert bool(machines.machine("GET", {"user-agent": agent})) == (agent == "")


# ---------------------------------------------------------------- forms


def test_a_form_makes_a_contact_who_is_the_visitor(make):
    site = make(forms={"demo": {**FORM, "redirect": SITE + "/thanks"}})
    sent = {"email": " Ana@Example.com ", "company": "ACME", "first": "Ana", "letters": "on", "odd": "x", "camp_visitor": VISITOR, "camp_page": SITE + "/demo"}
    answer = site.http.post("/f/demo", data=sent, headers={"origin": SITE, "accept": "text/html"})
    assert (answer.status_code, answer.headers["location"]) == (303, SITE + "/thanks")
    change, known, event = site.events()
    assert isinstance(change, ContactChange) and change.contact == "ana@example.com"
    assert change.attributes == {"email": "ana@example.com", "first_name": "Ana", "consent.email": True}
    assert (known.name, known.contact, known.data["contact"]) == ("contact.identified", VISITOR, "ana@example.com")
    assert (event.name, event.contact, event.subject) == ("form.submitted", "ana@example.com", "demo")
    assert event.data == {"fields": {"email": "Ana@Example.com", "company": "ACME"}, "page": SITE + "/demo"}


@pytest.mark.parametrize("kind", ["urlencoded", "multipart", "json"])
def test_a_form_finds_the_contact_by_its_address(make, kind):
    site = make(forms={"demo": FORM})
    site.contact("4711", email="ANA@example.com")
    body = {"email": "ana@example.com", "company": "ACME"}
    sent = {"urlencoded": {"data": body}, "multipart": {"files": {key: (None, value) for key, value in body.items()}}, "json": {"json": body}}[kind]
    answer = site.http.post("/f/demo", headers={"origin": SITE}, **sent)
    assert answer.status_code == 202 and answer.json() == {"status": "accepted"}
    change, event = site.events()
    assert change.contact == event.contact == "4711" and "consent.email" not in change.attributes


def test_security_a_form_takes_no_refusal_back(make):
    """Anybody can send one in anybody's name. The tick stays in the event, so that a campaign can ask."""
    site = make(forms={"demo": {**FORM, "fields": ["email", "letters"]}})
    site.contact("ana", email="ana@example.com", **{"consent.email": False})
    site.contact("ben", email="ben@example.com")
    for who in ("ana", "ben"):
        assert site.http.post("/f/demo", data={"email": f"{who}@example.com", "letters": "on"}, headers={"origin": SITE}).status_code == 202
    changes = {item.contact: item.attributes for item in site.events() if isinstance(item, ContactChange)}
    assert "consent.email" not in changes["ana"] and changes["ben"]["consent.email"] is True
    assert [item.data["fields"]["letters"] for item in site.events() if not isinstance(item, ContactChange)] == ["on", "on"]


def test_an_address_that_moved_on_finds_nobody(make):
    site = make(forms={"demo": FORM})
    site.contact("4711", email="old@example.com")
    site.contact("4711", email="new@example.com", plan="free")
    site.http.post("/f/demo", data={"email": "old@example.com"}, headers={"origin": SITE})
    assert [event.contact for event in site.events()] == ["old@example.com"] * 2


def test_security_a_form_can_not_turn_back_the_address_of_somebody_who_moved_on(make):
    """Contacts who came by a form have their first address as their id."""
    site = make(forms={"demo": FORM})
    site.contact("ana@old.example", email="ana@new.example")
    for _ in range(2):
        assert site.http.post("/f/demo", data={"email": "ana@old.example"}, headers={"origin": SITE}).status_code < 400
    changed = {event.contact for event in site.events() if getattr(event, "attributes", {}).get("email") == "ana@old.example"}
    assert len(changed) == 1 and "ana@old.example" not in changed


def test_what_a_form_refuses(make):
    site = make(forms={"demo": FORM})
    post = lambda data, **headers: site.http.post("/f/demo", data=data, headers={"origin": SITE, **headers})  # noqa: E731
    assert post({"email": "no"}).status_code == 422 and "e-mail" in post({"email": "no"}).json()["detail"]
    page = post({"email": "<b>no"}, accept="text/html")
    assert page.status_code == 422 and page.headers["content-type"].startswith("text/html") and "<b>" not in page.text
    assert post({"email": "a@b.example"}, origin="https://evil.example").status_code == 403
    assert site.http.post("/f/demo", data={"email": "a@b.example"}).status_code == 403, "without an origin, while sites are set"
    assert site.http.post("/f/none", data={}).status_code == 404
    assert site.http.post("/f/demo", content=b"x", headers={"origin": SITE, "content-type": "text/plain"}).status_code == 415
    assert post({"email": "a@b.example", "x": "y" * 200_000}).status_code == 413
    assert site.http.post("/f/demo", files={"email": (None, "a@b.example"), "file": ("x.txt", b"x")}, headers={"origin": SITE}).status_code == 400
    assert post({f"f{n}": "x" for n in range(200)}).status_code in (400, 413)
    assert post({"email": "a@b.example", "website": "https://spam.example"}).status_code in (200, 202), "a machine is told nothing"
    assert site.events() == []


def test_a_page_that_hides_its_address_is_told_what_to_change(make):
    site = make(forms={"demo": FORM})
    for answer in (site.http.post("/f/demo", data={"email": "a@b.example"}, headers={"origin": "null"}), beacon(site, VIEW, origin="null")):
        assert answer.status_code == 403 and "Referrer-Policy" in answer.json()["detail"]


def test_people_get_pages_and_programs_get_problems(make):
    site = make(forms={"demo": FORM}, forms_per_minute=5)
    browser = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8", "origin": SITE}

    def ask(status, method, path, **options):
        page = site.http.request(method, path, headers=browser | options.pop("headers", {}), **options)
        assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
        assert "<h1>" in page.text and "default-src 'none'" in page.headers["content-security-policy"]
        return page

    assert "nothing at this address" in ask(404, "GET", "/no/such/page").text
    assert "evil.example" in ask(403, "POST", "/f/demo", data={"email": "a@b.example"}, headers={"origin": "https://evil.example"}).text
    ask(404, "POST", "/f/none", data={})
    for _ in range(5):
        ask(200, "POST", "/f/demo", data={"email": "a@b.example"})
    answer = ask(429, "POST", "/f/demo", data={"email": "a@b.example"})
    assert "<p>Too many requests from this address" in answer.text and int(answer.headers["retry-after"]) >= 1
    assert site.http.get("/no/such/page").headers["content-type"] == "application/problem+json"


def test_forms_are_limited_by_address(make):
    site = make(forms={"demo": FORM}, forms_per_minute=5)
    answers = [site.http.post("/f/demo", data={"email": "a@b.example"}, headers={"origin": SITE}).status_code for _ in range(7)]
    assert answers == [202] * 5 + [429] * 2


def test_security_a_form_can_not_withdraw_or_take_away(make):
    """Anybody can send a form in anybody's name: it gives what was ticked, and sets what the settings name; never more."""
    site = make(forms={"demo": FORM})
    site.http.post("/f/demo", data={"email": "ana@example.com", "letters": "no", "consent.email": "no", "plan": "paid", "suppressed.email": ""}, headers={"origin": SITE})
    change, _ = site.events()
    assert change.attributes == {"email": "ana@example.com"}


def test_security_what_a_visitor_sends_can_not_forge_a_line_of_the_log(make, caplog):
    site = make(forms={"demo": FORM})
    beacon(site, {**VIEW, "title": "a\r\nERROR camp: forged\x1b[2J", "path": "/x\ny"})
    site.http.post("/f/demo", data={"email": "a@b.example", "company": "x\x1b[31mred\x00"}, headers={"origin": SITE})
    viewed, _, form = site.events()
    assert (viewed.data["title"], viewed.subject) == ("a  ERROR camp: forged [2J", "/x y")
    assert form.data["fields"]["company"] == "x [31mred"
    assert "forged" not in caplog.text


def test_a_visitor_becomes_known_in_the_engine(make):
    """From the beacon to the journey: what the visitor did before and does afterwards is the contact's."""
    from rules_engine import host
    from rules_engine.service.loop import run_once

    site = make(forms={"demo": FORM})

    def run():
        site.rows()
        run_once(site.store, site.program, host.load(), site.clock, dispatch=False)

    beacon(site, VIEW)
    run()
    site.clock.move_to(NOW + 60_000)
    site.http.post("/f/demo", data={"email": "ana@example.com", "letters": "on", "camp_visitor": VISITOR}, headers={"origin": SITE})
    run()
    site.clock.move_to(NOW + 120_000)
    beacon(site, {**VIEW, "view": "aaaaaaaaaaaaaaaa", "path": "/buy"})
    run()
    state = json.loads(site.store.contacts(["ana@example.com"])["ana@example.com"].state)
    assert state["a"]["email"] == "ana@example.com" and state["a"]["consent.email"] is True
    past = [(row.cause.name, row.cause.subject) for row in site.store.events_of("ana@example.com") if hasattr(row.cause, "name")]
    assert ("form.submitted", "demo") in past and ("page.viewed", "/buy") in past


def test_two_people_on_one_browser_are_two(make):
    """Who comes by a link while the browser's id is somebody else's gets an id of its own: in the log at once, in the browser by the answer."""
    from rules_engine import host, links
    from rules_engine.service.loop import run_once
    from tests.web.conftest import KEY

    site = make()
    site.contact("ana", email="ana@example.com")
    site.contact("ben", email="ben@example.com")

    def come(contact, visitor, view):
        answer = beacon(site, {**VIEW, "visitor": visitor, "view": view * 16, "link": links.sign(KEY, "identify", {"c": contact, "t": site.clock.now()})})
        site.rows()
        run_once(site.store, site.program, host.load(), site.clock, dispatch=False)
        site.clock.move_to(site.clock.now() + 60_000)
        return answer

    assert come("ana", VISITOR, "a").status_code == 204
    assert come("ana", VISITOR, "b").status_code == 204, "her own id"
    answer = come("ben", VISITOR, "c")
    other = answer.json()["visitor"]
    assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == SITE and other != VISITOR
    assert come("ben", VISITOR, "d").json() == {"visitor": other}, "the same, where the answer did not arrive"
    assert come("ben", other, "e").status_code == 204
    assert come("ana", other, "f").json()["visitor"] not in (VISITOR, other)
    viewed = {who: sum(getattr(row.cause, "name", "") == "page.viewed" for row in site.store.events_of(who)) for who in ("ana", "ben")}
    assert viewed == {"ana": 3, "ben": 3}
