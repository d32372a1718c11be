"""[web], `--web ADDR`, and the parts that need no server."""

from __future__ import annotations

import pytest

from rules_engine.clock import VirtualClock
from rules_engine.service.web import address, auth, signatures
from rules_engine.service.web.rate import Rate
from rules_engine.service.web.settings import is_web_url, read_settings


@pytest.mark.parametrize(("text", "found"), [("127.0.0.1:8080", ("127.0.0.1", 8080)), (":8080", ("127.0.0.1", 8080)), ("[::1]:8080", ("::1", 8080)),
                                             ("0.0.0.0:80", ("0.0.0.0", 80)), ("localhost:0", ("localhost", 0))])  # fmt: skip
def test_security_an_address_without_a_host_is_this_machine_only(text, found):
    assert address.parse(text) == found


@pytest.mark.parametrize("text", ["", "8080", "host", "::1:8080", "a:70000", "a:-1", "a:x", ":"])
def test_an_address_that_is_none(text):
    with pytest.raises(ValueError, match="port|brackets"):
        address.parse(text)


def test_loopback():
    assert all(map(address.is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "localhost")))
    assert not any(map(address.is_loopback, ("", None, "10.0.0.1", "0.0.0.0", "localhost.evil.example", "::ffff:10.0.0.1", "evil")))


def test_settings_come_with_their_secrets():
    found = read_settings({"url": "https://news.example/camp/", "secret": "first-key-0123456789 second-key-0123456789", "token": "t" * 20, "token_shop": "s" * 20,
                           "tokens": {"erp": "e" * 20}, "webhooks": {"my-shop": {"event": "order.placed", "contact": "c"}},
                           "webhooks_my_shop_secret": "one two", "sites": ["https://Shop.example/"]})  # fmt: skip
    assert found.url == "https://news.example/camp" and found.keys[0] == "first-key-0123456789"
    assert found.links == {"url": "https://news.example/camp", "key": "first-key-0123456789"}
    assert set(found.tokens) == {"default", "shop", "erp"} and found.sites == ("https://shop.example",)
    assert found.webhooks["my-shop"].secrets == ("one", "two")
    assert read_settings({}).links is None


@pytest.mark.parametrize(("table", "words"), [
    ({"ur": "x"}, "did you mean `url`"), ({"url": "news.example"}, "[web] url"), ({"token": "short"}, "(CAMP_WEB_TOKEN) must be at least 16"), ({"token_shop": "short"}, "CAMP_WEB_TOKEN_SHOP"), ({"secret": "short"}, "CAMP_WEB_SECRET"),
    ({"sites": ["https://a.example/path"]}, "without a path"), ({"sites": 7}, "list of texts"), ({"respect_dnt": "yes"}, "true or false"),
    ({"max_backlog": 0}, "above 0"), ({"forms": {"x": {"redirect": "/thanks"}}}, "[web.forms.x] redirect"), ({"forms": {"x y": {}}}, "small letters"),
    ({"forms": {"x": {"feilds": []}}}, "did you mean `fields`"), ({"webhooks": {"x": {}}}, "CAMP_WEB_WEBHOOKS_X_SECRET"),
    ({"webhooks": {"x": {"kind": "odd", "secret": "s"}}}, "one of standard"), ({"webhooks": {"x": {"secret": "s"}}}, "needs `event`"),
    ({"webhooks": {"x": {"kind": "postmark", "secret": "s"}}}, "user is missing"), ({"preferences": {"a": 1}}, "table of texts")])  # fmt: skip
def test_a_wrong_setting_is_named(table, words):
    with pytest.raises(ValueError, match=r"^\[web") as error:
        read_settings(table)
    assert words in str(error.value)


def test_addresses_of_the_web():
    assert is_web_url("https://a.example/x?y#z") and is_web_url("http://[::1]:80/") and is_web_url("https://ü.example/é")
    for text in ("", "https://", "javascript:x", "https://a\\@b", "https://a b", "https://a\n", "https://u@a", "https://a:99999/", None, "https://a/" + "x" * 9_000):
        assert not is_web_url(text), text


def test_a_rate_refills_and_remembers_a_bounded_number():
    clock = VirtualClock(0)
    rate = Rate(60, clock, addresses=3)
    assert [rate.wait("a") for _ in range(60)] == [0] * 60 and rate.wait("a") >= 1
    clock.move_to(1_000)
    assert rate.wait("a") == 0 and rate.wait("a") >= 1
    for name in "bcd":
        rate.wait(name)
    assert rate.wait("a") == 0, "forgotten, so as new"


def test_security_secrets_are_compared_in_constant_time(monkeypatch):
    """Each comparison of a secret goes through hmac.compare_digest, over digests of equal length."""
    import base64

    seen = []
    real = auth.hmac.compare_digest
    monkeypatch.setattr(auth.hmac, "compare_digest", lambda one, other: seen.append((len(one), len(other))) or real(one, other))
    assert auth.same("a", "a") and not auth.same("a", "ab")
    signatures.standard(("s", "t"), {"webhook-id": "i", "webhook-timestamp": "1", "webhook-signature": "v1,x v1,y"}, b"", 1_000)
    signatures.mailgun(("k",), {"timestamp": "1", "token": "t", "signature": "x"}, 1_000)
    signatures.twilio(("k",), "https://a", {}, "x")
    signatures.basic("u", ("p",), "Basic " + base64.b64encode(b"u:q").decode())
    assert len(seen) == 2 + 4 + 1 + 1 + 1 and set(seen) == {(32, 32)}, "all secrets are tried, whichever fits"


def test_no_signature_makes_a_verifier_raise():
    for text in ("", "x", "v1,", "ä", "\ud800", "v1,\ud800", "Basic ä", "Basic ====", "9" * 400):
        headers = {"webhook-id": text or "i", "webhook-timestamp": text or "1", "webhook-signature": f"v1,{text}"}
        assert signatures.standard(("s",), headers, b"", 1_000) and signatures.mailgun(("k",), {"timestamp": text, "token": text, "signature": text}, 1_000)
        assert signatures.twilio(("k",), "https://a", {text: text}, text) and signatures.basic("u", ("p",), text)
