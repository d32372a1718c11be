"""Links of messages: pixel, click, download, unsubscribe, preferences."""

from __future__ import annotations

import base64
import json
import threading
import time

import pytest

from rules_engine import links
from rules_engine.service.ingest import Fate
from rules_engine.service.web.core import split_key
from rules_engine.store.database import sqlite3
from tests.web.conftest import CHROME, KEY, NOW, SITE, VISITOR

TARGET = "https://elsewhere.example/a?b=1&c=%20x#top"
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"


def test_an_open_is_one_visit_with_campaign_and_key(site):
    effect = site.effect()
    answer = site.http.get(f"/o/{site.token('open', e=effect)}.gif")
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/gif" and answer.content.startswith(b"GIF89a")
    assert "no-store" in answer.headers["cache-control"]
    site.http.get(f"/o/{site.token('open', e=effect)}")
    (event,) = site.events()
    assert (event.name, event.contact, event.subject, event.at) == ("email.opened", "ana", "thanks", NOW)
    assert event.data == {"campaign": "orders", "machine": False, "order_id": "A1"}


def test_an_open_of_a_message_that_is_gone_still_counts(site):
    assert site.http.get(f"/o/{site.token('open', e='gone')}.gif").status_code == 200
    (event,) = site.events()
    assert (event.subject, dict(event.data)) == ("thanks", {"campaign": "orders", "machine": False})


@pytest.mark.parametrize("headers", [{"user-agent": GMAIL}, {"user-agent": "Mozilla/5.0"}, {"user-agent": ""}, {"sec-purpose": "prefetch;prerender"},
                                     {"user-agent": "Barracuda Sentinel (EE)"}, {"user-agent": "curl/8.1"}])  # fmt: skip
def test_machines_are_told_apart(site, headers):
    site.http.get(f"/o/{site.token('open')}.gif", headers=headers)
    site.http.get(f"/c/{site.token('click', u=TARGET)}", headers=headers)
    assert [event.data["machine"] for event in site.events()] == [True, True]


def test_a_click_leads_on_and_is_told_after(site):
    effect = site.effect()
    answer = site.http.get(f"/c/{site.token('click', e=effect, u=TARGET)}")
    assert (answer.status_code, answer.headers["location"]) == (302, TARGET)
    assert answer.headers["referrer-policy"] == "no-referrer" and "no-store" in answer.headers["cache-control"]
    (event,) = site.events()
    assert (event.name, event.contact, event.subject) == ("email.clicked", "ana", "thanks")
    assert event.data == {"url": TARGET, "campaign": "orders", "machine": False, "order_id": "A1"}


def test_head_is_a_machine_and_leads_on(site):
    assert site.http.head(f"/c/{site.token('click', u=TARGET)}").status_code == 302
    assert [event.data["machine"] for event in site.events()] == [True]


def test_several_links_within_a_second_are_a_scanner_the_first_one_too(site):
    for n in range(3):
        site.http.get(f"/c/{site.token('click', u=f'{TARGET}{n}')}")
    assert [event.data["machine"] for event in site.events()] == [True] * 3
    site.clock.move_to(NOW + 60_000)
    site.http.get(f"/c/{site.token('click', u=TARGET)}")
    assert site.events()[-1].data["machine"] is False


def test_a_click_just_after_the_hand_over_is_a_scanner(site):
    effect = site.effect()
    from rules_engine.store.port import CLAIM, Settlement

    site.store.claim_effects(NOW, NOW, 10, lambda candidate: CLAIM)
    site.store.settle([Settlement(effect, 1, "accepted", NOW - 500)])
    site.http.get(f"/c/{site.token('click', e=effect, u=TARGET)}")
    site.clock.move_to(NOW + 20_000)
    site.http.get(f"/c/{site.token('click', e=effect, u=TARGET)}")
    assert [event.data["machine"] for event in site.events()] == [True, False]


def test_a_click_to_a_site_of_ours_takes_along_who_it_is(site):
    answer = site.http.get(f"/c/{site.token('click', u=SITE + '/sale')}")
    where, word = answer.headers["location"].split("#camp=")
    assert where == SITE + "/sale" and links.verify(KEY, "identify", word) == {"c": "ana", "t": NOW}
    visit = {"kind": "viewed", "visitor": VISITOR, "view": "0123456789abcdef", "url": SITE + "/sale", "link": word}
    assert site.http.post("/t/page", json=visit, headers={"origin": SITE}).status_code == 204
    site.clock.move_to(NOW + 3_600_000)
    late = {**visit, "visitor": "visitor:" + "a" * 32, "view": "1123456789abcdef"}
    assert site.http.post("/t/page", json=late, headers={"origin": SITE}).status_code == 204
    names = [(event.name, event.contact) for event in site.events()]
    assert names.count(("contact.identified", VISITOR)) == 1 and ("contact.identified", late["visitor"]) not in names
    machine = site.http.get(f"/c/{site.token('click', u=SITE + '/sale')}", headers={"user-agent": "curl/8"})
    assert machine.headers["location"] == SITE + "/sale"
    for asks in ({"dnt": "1"}, {"sec-gpc": "1"}):  # there camp.js does nothing, and the word would stay in the address
        assert site.http.get(f"/c/{site.token('click', u=SITE + '/sale')}", headers=asks).headers["location"] == SITE + "/sale"


def test_sms_links_are_of_their_channel(site):
    effect = site.effect("sms/1", None, "sms")
    site.http.get(f"/c/{site.token('click', e=effect, u=TARGET, s=None)}")
    site.http.post(f"/u/{site.token('unsubscribe', e=effect, s=None)}", data={"List-Unsubscribe": "One-Click"})
    assert sorted(event.name for event in site.events()) == ["sms.clicked", "sms.unsubscribed"]


def test_the_redirect_works_while_the_store_is_locked_and_the_visit_is_kept(site, monkeypatch):
    monkeypatch.setattr("rules_engine.store.database.BUSY_SECONDS", 0.05)
    other = sqlite3.connect(str(site.folder / "camp.db"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    assert site.http.get(f"/c/{site.token('click', u=TARGET)}").status_code == 302
    assert site.http.get(f"/o/{site.token('open')}.gif").status_code == 200
    assert time.monotonic() - began < 3 and site.store.read_log(0, 9) == []
    time.sleep(0.3)
    other.execute("ROLLBACK")
    other.close()
    for _ in range(500):
        if len(site.store.read_log(0, 9)) == 2:
            break
        time.sleep(0.01)
    assert sorted(row.cause.name for row in site.store.read_log(0, 9)) == ["email.clicked", "email.opened"]


def test_visits_keep_out_nothing_that_is_acknowledged(site):
    """The picture comes and the click leads on; neither is kept while much waits."""
    site.web.writer._waiting, before = site.web.writer._max_queue // 2, site.web.writer._waiting
    assert site.http.get(f"/o/{site.token('open')}.gif").status_code == 200
    assert site.http.get(f"/c/{site.token('click', u=TARGET)}").status_code == 302
    assert site.http.post(f"/u/{site.token('unsubscribe')}", data={"confirm": "yes"}).status_code == 200
    assert [event.name for event in site.events()] == ["email.unsubscribed"]
    site.web.writer._waiting = before


def test_the_values_of_a_key_come_apart_as_the_engine_joined_them():
    from rules_engine.engine.journey import _key

    for values in (["A"], ["a|b", "c\\|d"], ["", "x"], ["1", "2", "3"]):
        assert split_key(_key(values)) == values or len(values) == 1
    assert split_key("A1") == ["A1"]


# ---------------------------------------------------------------- downloads


@pytest.fixture
def assets(site):
    folder = site.folder / "assets"
    (folder / "sub").mkdir(parents=True)
    (folder / "guide.pdf").write_bytes(b"%PDF guide")
    (folder / "page.html").write_text("<script>alert(1)</script>")
    (folder / ".hidden").write_text("secret")
    (site.folder / "outside.txt").write_text("secret")
    (folder / "way-out").symlink_to(site.folder / "outside.txt")
    return site


def test_a_signed_download_counts_for_the_contact(assets):
    answer = assets.http.get(f"/a/{assets.token('asset', f='guide.pdf')}")
    assert answer.status_code == 200 and answer.content == b"%PDF guide"
    assert answer.headers["content-disposition"].startswith("attachment") and answer.headers["x-content-type-options"] == "nosniff"
    (event,) = assets.events()
    assert (event.name, event.contact, event.subject, event.data["machine"]) == ("asset.downloaded", "ana", "guide.pdf", False)


def test_a_public_download_counts_for_the_visitor(assets):
    answer = assets.http.get("/assets/guide.pdf")
    visitor = answer.cookies["camp_visitor"]
    assets.clock.move_to(NOW + 60_000)
    assets.http.get("/assets/guide.pdf", headers={"cookie": f"camp_visitor={visitor}"})
    assets.http.get("/assets/guide.pdf", headers={"dnt": "1"})
    assert [event.contact for event in assets.events()] == [visitor] * 2 and visitor.startswith("visitor:")


@pytest.mark.parametrize("name", ["../outside.txt", "..%2foutside.txt", "%2e%2e/outside.txt", ".hidden", "way-out", "sub", "sub/", "", "/etc/passwd", "a%00b", "..\\x", "no"])
def test_security_no_way_out_of_the_folder_of_assets(assets, name):
    assert assets.http.get(f"/assets/{name}").status_code == 404
    assert assets.http.get(f"/a/{assets.token('asset', f=name)}").status_code == 404
    assert assets.events() == []


# ---------------------------------------------------------------- unsubscribe and preferences


def test_unsubscribe_asks_by_get_and_acts_by_post(site):
    token = site.token("unsubscribe", e=site.effect())
    page = site.http.get(f"/u/{token}")
    assert page.status_code == 200 and 'method="post"' in page.text and site.events() == []
    done = site.http.post(f"/u/{token}", data={"confirm": "yes"})
    assert done.status_code == 200 and "unsubscribed" in done.text
    (event,) = site.events()
    assert (event.name, event.contact, event.subject) == ("email.unsubscribed", "ana", "thanks")
    assert event.data == {"campaign": "orders", "reason": "page", "order_id": "A1"}
    assert site.http.post(f"/u/{token}", data={"x": "y"}).status_code == 400


@pytest.mark.parametrize("values", [{"e": "whatsapp/1"}, {"e": "gone", "ch": "whatsapp"}])
def test_an_unsubscribe_of_a_channel_without_an_event_of_its_own_is_kept(site, values):
    """A third-party plugin's channel: nobody declares `whatsapp.unsubscribed`."""
    site.effect("whatsapp/1", None, "whatsapp")
    done = site.http.post(f"/u/{site.token('unsubscribe', **values)}", data={"confirm": "yes"})
    assert done.status_code == 200 and "You are unsubscribed" in done.text
    (change,) = site.events()
    assert (change.contact, change.attributes, change.at) == ("ana", {"consent.whatsapp": False}, NOW)


def test_an_unsubscribe_that_can_not_be_stored_is_not_confirmed(site):
    site.web.writer._record = lambda jobs: [Fate("rejected", "it can't be stored")]
    done = site.http.post(f"/u/{site.token('unsubscribe')}", data={"confirm": "yes"})
    assert done.status_code == 422 and "unsubscribed" not in done.text and "can&#x27;t be stored" in done.text


@pytest.mark.parametrize("form", ["urlencoded", "multipart"])
def test_security_one_click_unsubscribe_by_post_without_redirect(site, form):
    """RFC 8058: no cookie, no page, no redirect."""
    token = site.token("unsubscribe")
    sent = {"data": {"List-Unsubscribe": "One-Click"}} if form == "urlencoded" else {"files": {"List-Unsubscribe": (None, "One-Click")}}
    answer = site.http.post(f"/u/{token}", headers={"user-agent": ""}, **sent)
    assert answer.status_code == 200
    assert [(event.name, event.data["reason"]) for event in site.events()] == [("email.unsubscribed", "one-click")]
    site.http.post(f"/u/{token}", **sent)
    assert len(site.events()) == 2, "who subscribed again may unsubscribe by the same link"


def test_an_unsubscribe_that_can_not_be_kept_is_not_confirmed(site, monkeypatch):
    monkeypatch.setattr("rules_engine.store.database.BUSY_SECONDS", 0.05)
    other = sqlite3.connect(str(site.folder / "camp.db"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    answer = site.http.post(f"/u/{site.token('unsubscribe')}", data={"List-Unsubscribe": "One-Click"})
    assert answer.status_code == 503 and answer.headers["retry-after"]
    other.execute("ROLLBACK")
    other.close()
    for _ in range(500):
        if site.store.read_log(0, 9):
            break
        time.sleep(0.01)
    assert [row.cause.name for row in site.store.read_log(0, 9)] == ["email.unsubscribed"], "but it is kept, and written when it can be"


def test_preferences(make):
    site = make(preferences={"consent.email": "E-mail", "news": "News <b>& more"})
    site.contact("ana", news=True, email="a@b.example")
    token = site.token("preferences")
    page = site.http.get(f"/p/{token}").text
    assert page.count("checked") == 2 and "News &lt;b&gt;&amp; more" in page
    saved = site.http.post(f"/p/{token}", data={"save": "yes", "news": "yes"})
    assert saved.status_code == 200 and "saved" in saved.text and saved.text.count("checked") == 1
    change, event = site.events()
    assert change.attributes == {"consent.email": False, "news": True}
    assert (event.name, event.data["reason"], event.data["campaign"]) == ("email.unsubscribed", "preferences", "orders")
    assert site.http.post(f"/p/{token}", data={"news": "yes"}).status_code == 400


# ---------------------------------------------------------------- the security list of PROMISES.md


@pytest.mark.parametrize("path", ["o", "c", "u", "p", "a"])
def test_security_a_token_is_bound_to_its_purpose(site, path):
    site.contact("ana", email="a@b.example")
    (site.folder / "assets").mkdir(exist_ok=True)
    (site.folder / "assets" / "f").write_text("x")
    for purpose, own in links.PATHS.items():
        answer = site.http.get(f"/{path}/{site.token(purpose, u=TARGET, f='f')}")
        assert (answer.status_code != 404) == (own == path), (purpose, path)
        if own != path:
            assert "location" not in answer.headers


def test_security_nobody_else_can_make_or_change_a_token(site):
    good = site.token("click", u=TARGET)
    body, _, mac = good.partition(".")
    forged = base64.urlsafe_b64encode(json.dumps({"c": "ben", "u": "https://evil.example"}).encode()).rstrip(b"=").decode()
    other = links.sign("another key", "click", {"c": "ana", "u": TARGET})
    for token in (f"{forged}.{mac}", f"{body}.", body, f"{body}.{mac[:-2]}AA", other, "x" * 9_000, "%00", "ä"):
        answer = site.http.get(f"/c/{token}")
        assert answer.status_code == 404 and "location" not in answer.headers, token
    assert site.events() == []


@pytest.mark.parametrize("target", ["javascript:alert(1)", "//evil.example", "/path", "https://", "ftp://a.example", "https://a.example/\r\nSet-Cookie: x=1",
                                    "https://a.example/\nx", "https://a b.example", "https://evil.example\\@good.example", "https://u:p@a.example",
                                    "data:text/html,x", "https://[::1", "https://a.example/\u2028x", 7, None])  # fmt: skip
def test_security_a_redirect_leads_only_to_the_web_address_inside_the_signature(site, target):
    answer = site.http.get(f"/c/{site.token('click', u=target)}?u=https://evil.example&url=https://evil.example")
    assert answer.status_code == 404 and "location" not in answer.headers and "set-cookie" not in answer.headers


def test_security_a_target_with_odd_letters_can_not_break_the_header(site):
    answer = site.http.get(f"/c/{site.token('click', u='https://a.example/ünï?q=%0d%0aX:1')}")
    assert answer.status_code == 302 and answer.headers["location"] == "https://a.example/%C3%BCn%C3%AF?q=%0d%0aX:1"
    assert "x" not in answer.headers


def test_security_get_changes_nothing_but_a_classified_visit(site):
    site.contact("ana", email="a@b.example", news=True)
    effect = site.effect()
    before = site.store.effect(effect)
    for purpose, path in links.PATHS.items():
        for method in ("GET", "HEAD"):
            site.http.request(method, f"/{path}/{site.token(purpose, e=effect, u=TARGET, f='none')}?List-Unsubscribe=One-Click&confirm=yes&save=yes")
    found = site.events()
    assert {event.name for event in found} == {"email.opened", "email.clicked"} and all("machine" in event.data for event in found)
    assert site.store.effect(effect) == before


def test_security_pages_have_a_strict_policy(site):
    site.contact("ana", email="a@b.example")
    for path in (f"/u/{site.token('unsubscribe')}", f"/p/{site.token('preferences')}", "/u/bad"):
        headers = site.http.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy and "script" not in policy
        assert headers["referrer-policy"] == "no-referrer" and headers["cache-control"] == "no-store" and headers["x-frame-options"] == "DENY"


def test_security_what_stands_in_a_token_is_escaped(make):
    site = make(preferences={"news": '"><script>alert(1)</script>'})
    site.contact("<script>x</script>", news=True)
    page = site.http.get(f"/p/{site.token('preferences', c='<script>x</script>', s='<img src=x>')}")
    assert page.status_code == 200 and "<script>" not in page.text and "<img" not in page.text


def test_an_old_key_still_verifies_after_a_rotation(make):
    site = make(secret=f"a-new-key-for-all-links {KEY}")
    assert site.http.get(f"/c/{site.token('click', u=TARGET)}").status_code == 302
    assert links.verify("a-new-key-for-all-links", "open", links.sign(site.web.settings.links["key"], "open", {})) == {}


def test_threads_and_agents_do_not_mix(site):
    """Many clicks at once: each is told once."""
    def click(n):
        site.http.get(f"/c/{site.token('click', c=f'c{n}', e=f'm{n}', u=TARGET)}", headers={"user-agent": CHROME})

    threads = [threading.Thread(target=click, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(event.contact for event in site.events()) == [f"c{n}" for n in range(8)]
