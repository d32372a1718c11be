"""`view_url`: a message in the browser."""

from __future__ import annotations

import pytest

from rules_engine import host
from rules_engine.service.web import view

PHONES = '<meta name="viewport" content="width=device-width,initial-scale=1">'


@pytest.fixture
def shown(site):
    (site.folder / "templates" / "thanks.html").write_text('Subject: x\n\n<p>Hi {{ contact.first_name }}</p><a href="https://shop.example/">x</a>')
    table = {"email": {"from": "shop@example.com", "links": {"url": "https://news.example", "key": "the-key-of-links-long"}}}
    site.web.view = view.viewer(host.load(), table, site.folder)
    site.contact("ana", first_name="<Ana>")
    return site


def test_a_message_is_shown_without_pixel_and_click_links_and_nothing_is_logged(shown):
    effect, before = shown.effect(), len(shown.rows())
    answer = shown.http.get(f"/v/{shown.token('view', e=effect)}")
    assert answer.status_code == 200 and answer.text.startswith(f'{PHONES}<p>Hi &lt;Ana&gt;</p><a href="https://shop.example/">x</a>') and "/o/" not in answer.text
    assert "sandbox" in answer.headers["content-security-policy"] and "script" not in answer.headers["content-security-policy"]
    assert "no-store" in answer.headers["cache-control"] and len(shown.rows()) == before


def test_text_alone_is_shown_as_text(shown):
    (shown.folder / "templates" / "thanks.html").unlink()
    answer = shown.http.get(f"/v/{shown.token('view', e=shown.effect())}")
    assert answer.headers["content-type"].startswith("text/plain") and answer.text == "Thanks."


@pytest.mark.parametrize("values", [{"e": "gone"}, {"c": "ben"}, {"e": 5}])
def test_what_is_not_there_is_not_found(shown, values):
    effect = shown.effect()
    assert shown.http.get(f"/v/{shown.token('view', **{'e': effect, **values})}").status_code == 404


def test_another_purpose_a_missing_value_and_an_action_without_a_view(shown):
    effect = shown.effect()
    assert shown.http.get(f"/v/{shown.token('open', e=effect)}").status_code == 404
    (shown.folder / "templates" / "thanks.html").write_text("Subject: x\n\n{{ contact.nickname }}")
    assert shown.http.get(f"/v/{shown.token('view', e=effect)}").status_code == 404
    sms = shown.effect("orders/2/ana", channel="sms")
    assert shown.http.get(f"/v/{shown.token('view', e=sms)}").status_code == 404


@pytest.mark.parametrize(("written", "shown_as"), [
    ("<!DOCTYPE html>\n<html><p>x</p></html>", f"<!DOCTYPE html>{PHONES}\n<html><p>x</p></html>"),
    ('<html><meta name="viewport" content="width=600">x</html>', '<html><meta name="viewport" content="width=600">x</html>')])  # fmt: skip
def test_a_message_is_as_wide_as_a_phone_unless_it_says_otherwise(written, shown_as):
    assert view._for_phones(written) == shown_as
