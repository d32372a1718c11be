"""Links, senders, headers, translations and copies of e-mails."""

import email
import email.policy
import sys
from html import unescape
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from smtp_kit import Provider, serving
from smtp_kit import settings as smtp

from rules_engine import links
from rules_engine.testing.plugins import CONTACT, make_call
from rules_engine_plugins import _mail, _smtp, _templates, _tracking
from rules_engine_plugins import email as plugin

KEY = "a secret of the service"
SETTINGS = {"from": "Shop <shop@example.com>", "fsync": False, "links": {"url": "https://news.example/", "key": KEY}}
HTML = (
    '<html><body><a href="https://shop.example/x?a=1&amp;utm_source=mine#top">x</a> <a href="#up">up</a> <a href="mailto:a@b.example">m</a>'
    '<a data-camp-track="no" href="https://shop.example/plain">p</a><a href="{{ unsubscribe_url }}">u</a>'
    '<a href="{{ preferences_url }}">p</a> <a href="{{ view_url }}">v</a></body></html>'
)


@pytest.fixture
def project(tmp_path):
    (tmp_path / "templates").mkdir()
    return tmp_path


def write(project, **files):
    for name, text in files.items():
        (project / "templates" / name.replace("__", ".")).write_text(text)


def built(project, params=None, **changed):
    call = make_call("email.send", project, "a", params, **{"settings": SETTINGS, **changed})
    return email.message_from_bytes(_mail.compose(call).data, policy=email.policy.default)


def parts(message):
    if not message.is_multipart():
        return message.get_content(), ""
    return tuple(part.get_content() for part in message.iter_parts())


def targets(html, purpose="click"):
    path = f"https://news.example/{links.PATHS[purpose]}/"
    found = [piece.split('"')[0].split(" ")[0].strip(").") for piece in html.split(path)[1:]]
    return [links.verify(KEY, purpose, piece) for piece in found]


# ---------------------------------------------------------------- links


def test_every_web_link_becomes_a_signed_click_link_and_nothing_else(project):
    write(project, a__html="Subject: s\n\n" + HTML)
    text, html = parts(built(project))
    (said,) = targets(html)
    assert said == {
        "e": "effect-1", "c": "ana", "s": "a", "m": "welcome",
        "u": "https://shop.example/x?a=1&utm_source=mine&utm_medium=email&utm_campaign=welcome&utm_content=a#top",
    }  # fmt: skip
    assert 'href="#up"' in html and 'href="mailto:a@b.example"' in html and 'href="https://shop.example/plain"' in html
    for purpose in ("unsubscribe", "preferences", "view"):
        assert targets(html, purpose) == [{"e": "effect-1", "c": "ana", "s": "a", "m": "welcome"}]
    assert "https://shop.example/x?a=1&utm_source=mine#top" in text and "/c/" not in text  # the derived text has the plain links


def test_a_token_is_good_for_its_purpose_only(project):
    write(project, a__html="Subject: s\n\n" + HTML)
    html = parts(built(project))[1]
    token = html.split("https://news.example/c/")[1].split('"')[0]
    assert links.verify(KEY, "click", token) and not links.verify(KEY, "unsubscribe", token) and not links.verify("other", "click", token)
    assert not links.verify(KEY, "click", token[:-3] + "abc")


def test_the_pixel_is_the_last_thing_in_the_body(project):
    write(project, a__html="Subject: s\n\n" + HTML)
    html = parts(built(project))[1]
    assert html.rstrip().endswith('height:1px"></body></html>') and targets(html, "open")[0]["e"] == "effect-1"


@pytest.mark.parametrize(
    "more, clicks, opens",
    [
        ({}, 1, 1),
        ({"track_opens": False}, 1, 0),
        ({"track_clicks": False}, 0, 1),
        ({"track_clicks": "no", "track_opens": "false"}, 0, 0),
        ({"links": {}}, 0, 0),
        ({"links": {"url": "https://news.example"}}, 0, 0),
        ({"links": "nonsense"}, 0, 0),
    ],
)
def test_what_switches_tracking_off(project, more, clicks, opens):
    write(project, a__html="Subject: s\n\n<a href='https://shop.example/'>x</a>")
    html = parts(built(project, settings={**SETTINGS, **more}))[1]
    assert (len(targets(html)), len(targets(html, "open"))) == (clicks, opens)
    if not clicks:
        assert "utm_" not in html and "https://shop.example/" in html


def test_transactional_mail_is_tracked_only_where_the_setting_says_so(project):
    write(project, a__html="Subject: s\n\n<a href='https://shop.example/'>x</a>")
    for said in ({"message_class": "transactional"}, {"params": {"class": "transactional"}}):
        params = said.get("params")
        call = make_call("email.send", project, "a", params, settings=SETTINGS)._replace(message_class=said.get("message_class", ""))
        message = email.message_from_bytes(_mail.compose(call).data, policy=email.policy.default)
        assert "news.example" not in message.as_string() and message["List-Unsubscribe"] is None
        again = call._replace(settings={**SETTINGS, "track_transactional": True})
        assert len(targets(parts(email.message_from_bytes(_mail.compose(again).data, policy=email.policy.default))[1])) == 1


def test_the_text_part_is_tracked_where_the_setting_says_so(project):
    write(project, a__txt="Subject: s\n\nSee https://shop.example/a, (https://shop.example/b). {{ unsubscribe_url }}\n")
    assert "news.example/c/" not in parts(built(project))[0]
    text = parts(built(project, settings={**SETTINGS, "track_text": True, "utm": False}))[0]
    assert [said["u"] for said in targets(text.replace(",", " "))] == ["https://shop.example/a", "https://shop.example/b"]
    assert len(targets(text, "unsubscribe")) == 1 and "). " in text


@pytest.mark.parametrize(
    "utm, expected",
    [
        (None, {"utm_source": "camp", "utm_medium": "email", "utm_campaign": "welcome", "utm_content": "a"}),
        ({"source": "news letter", "term": "t"}, {"utm_source": "news letter", "utm_medium": "email", "utm_campaign": "welcome", "utm_content": "a", "utm_term": "t"}),
        ({"content": ""}, {"utm_source": "camp", "utm_medium": "email", "utm_campaign": "welcome"}),
        (False, {}),
    ],
)  # fmt: skip
def test_utm_parameters(project, utm, expected):
    call = make_call("email.send", project, "a", settings={**SETTINGS, "utm": utm})
    assert _tracking.utm_of(call, True) == expected
    assert _tracking.utm_of(call, False) == (expected if isinstance(utm, dict) else {})  # a table asks for them without click links


@pytest.mark.parametrize(
    "url, parameters, expected",
    [
        ("https://a.example", {"x": "1"}, "https://a.example?x=1"),
        ("https://a.example/?x=own", {"x": "1", "y": "2"}, "https://a.example/?x=own&y=2"),
        ("https://a.example/?x=#f?g", {"x": "1"}, "https://a.example/?x=#f?g"),
        ("https://a.example/p%20q?a=b%26c;d&e", {"u": "ü &"}, "https://a.example/p%20q?a=b%26c;d&e&u=%C3%BC%20%26"),
    ],
)
def test_a_links_own_query_and_fragment_survive(url, parameters, expected):
    assert _tracking.with_parameters(url, parameters) == expected


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "mailto:a@b.c", "#x", "/rel", "//host/x", "ftp://a.example", "https://", "https://a b", "https://u:p@a.example/",
            "https://a.example/" + "x" * 3_000, "https://a.example\\@evil.example", "http://[::1", "data:text/html,x", ""],
)  # fmt: skip
def test_what_is_no_web_link_is_left_alone(url):
    assert _tracking.plain(url) is None


def test_a_link_beyond_ascii_is_one_that_a_redirect_can_carry():
    assert _tracking.plain("HTTPS://bücher.example/ö?q=ä#ü") == "https://xn--bcher-kva.example/%C3%B6?q=%C3%A4#%C3%BC"


def test_comments_scripts_and_the_rest_of_the_html_stay_byte_by_byte():
    html = "<!-- <a href='https://c.example'> --><script>'<a href=\"https://s.example\">'</script>\n<A\n CLASS=x href = https://a.example/?b&c title='<a'>é</A >"
    got = _tracking.in_html(html, lambda url: "NEW" if "a.example" in url else "BAD")
    assert got == html.replace("https://a.example/?b&c", '"NEW"')


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["<a ", "href", "=", '"', "'", ">", "https://x.example/", "<", "/>", " ", "\n", "é", "<!--", "-->", "data-camp-track=no", "<script>", "&amp;"]), max_size=25).map("".join))
def test_no_html_makes_it_raise_or_lose_anything(html):
    assert _tracking.in_html(html, lambda url: None) == html
    changed = _tracking.in_html(html, lambda url: url)
    assert unescape(changed).replace('"', "").replace("'", "") == unescape(html).replace('"', "").replace("'", "")


def test_a_contact_can_not_reach_into_a_link(project):
    """The id of a contact is inside the token; what a contact's field puts into the HTML is escaped before the links are looked for."""
    write(project, a__html='Subject: s\n\n<a href="https://shop.example/?n={{ contact.first_name | urlencode }}">{{ contact.first_name }}</a>')
    contact = {**CONTACT, "id": "a\"><a href=https://evil.example>&\r\n", "first_name": '"><a href="https://evil.example">'}
    (said,) = targets(parts(built(project, contact=contact))[1])
    assert said["c"] == contact["id"] and said["u"].startswith("https://shop.example/?n=%22%3E%3Ca")


def test_list_unsubscribe_is_the_signed_link_and_one_click(project):
    write(project, a__txt="Subject: s\n\n{{ unsubscribe_url }}")
    message = built(project)
    link = message["List-Unsubscribe"].strip("<>")
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click" and links.verify(KEY, "unsubscribe", link.rpartition("/")[2])["c"] == "ana"
    own = built(project, settings={**SETTINGS, "unsubscribe_url": "https://own.example/{contact}"})
    assert own["List-Unsubscribe"] == "<https://own.example/ana>" and own.get_content().strip() == "https://own.example/ana"
    long = built(project, key="w/" + "s" * 600)
    assert links.verify(KEY, "unsubscribe", long["List-Unsubscribe"].strip("<>").rpartition("/")[2]) == {"c": "ana", "s": "a"}
    plain = built(project, settings={**SETTINGS, "links": {"url": "http://127.0.0.1:8080", "key": KEY}})
    assert plain["List-Unsubscribe"] and plain["List-Unsubscribe-Post"] is None  # RFC 8058 3.1: one click is https only


def test_the_page_that_shows_a_message_has_neither_pixel_nor_click_links(project):
    write(project, a__html="Subject: s\n\n" + HTML)
    kind, html = plugin.view(make_call("email.send", project, "a", settings=SETTINGS))
    assert kind == "html" and not targets(html) and not targets(html, "open") and len(targets(html, "unsubscribe")) == 1
    with pytest.raises(ValueError, match="no templates"):
        plugin.view(make_call("email.send", project, "none", settings=SETTINGS))


# ---------------------------------------------------------------- from whom


@pytest.mark.parametrize(
    "owner, author, agent",
    [
        ({"owner_email": "jo@example.com", "owner_name": "Jo Müller"}, "Jo Müller <jo@example.com>", "Shop <shop@example.com>"),
        ({"owner.email": "jo@example.com"}, "jo@example.com", "Shop <shop@example.com>"),
        ({"owner": {"email": "jo@example.com", "name": "Jo"}}, "Jo <jo@example.com>", "Shop <shop@example.com>"),
        ({"owner": "Jo <jo@example.com>"}, "Jo <jo@example.com>", "Shop <shop@example.com>"),
        ({"owner": "jo"}, "Shop <shop@example.com>", None),
        ({}, "Shop <shop@example.com>", None),
        ({"owner_email": "jo@elsewhere.example"}, "Shop <shop@example.com>", None),
        ({"owner_email": "jo@example.com>\r\nBcc: x@y.example"}, "Shop <shop@example.com>", None),
        ({"owner_email": "jo@example.com", "owner_name": "Jo <x@y>\r\nBcc: e@e"}, '"Jo x@y Bcc: e@e" <jo@example.com>', "Shop <shop@example.com>"),
        ({"owner_email": "shop@example.com"}, "Shop <shop@example.com>", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("how", ["setting", "argument"])
def test_the_owner_as_sender(project, owner, author, agent, how):
    write(project, a__txt="Subject: s\n\nb")
    changed = {"settings": {**SETTINGS, "sender": "owner"}} if how == "setting" else {"params": {"from": "owner"}}
    message = built(project, contact={**CONTACT, **owner}, **changed)
    assert (str(message["From"]), message["Sender"]) == (author, agent)
    assert message["Message-ID"].endswith("@example.com>") and message["Bcc"] is None


def test_the_envelope_and_the_message_id_stay_those_of_the_house(project):
    write(project, a__txt="Subject: s\n\nb")
    provider = Provider()
    contact = {**CONTACT, "owner_email": "jo@sales.example.net"}
    with serving(provider) as port:
        for more in ({}, {"envelope_from": "bounces+{handle}@example.com"}):
            table = smtp(port, sender="owner", owner_domains=["sales.example.net"], timeout=3, **more)
            assert plugin.send(make_call("email.send", project, "a", settings=table, contact=contact)).state == "accepted"
        _smtp.forget()
    assert [sender for sender, _ in provider.envelopes] == ["shop@example.com", f"bounces+{links.handle('effect-1')}@example.com"]
    assert b"From: jo@sales.example.net\r\nSender: Shop <shop@example.com>" in provider.received[0] and provider.taken[0] == links.handle("effect-1")


# ---------------------------------------------------------------- headers


def test_further_headers(project):
    write(project, a__txt="Subject: s\n\nb")
    table = {**SETTINGS, "headers": {"X-Team": "shop", "List-Id": "<news.example.com>"}}
    message = built(project, {"headers": {"x-team": "Büro\r\nBcc: x@y.example", "Feedback-ID": "a:b:c"}}, settings=table)
    assert message["X-Team"] == "Büro Bcc: x@y.example" and message["List-Id"] == "<news.example.com>" and message["Feedback-ID"] == "a:b:c"
    assert message["Bcc"] is None and len(message.get_all("x-team")) == 1


@pytest.mark.parametrize(
    "headers", [{"Bcc": "x@y.example"}, {"From": "x"}, {"Content-Type": "x"}, {"X-A\r\nBcc": "x"}, {"X-": "x"}, {"Subject": "x"}, {"Sender": "x"},
                {"DKIM-Signature": "x"}, {"List-Id": "ü"}, {"": "x"}, "X: y", {f"X-{n}": "v" for n in range(40)}, {"Return-Path": "x"}],
)  # fmt: skip
def test_headers_that_no_author_may_set(project, headers):
    write(project, a__txt="Subject: s\n\nb")
    assert plugin.send(make_call("email.send", project, "a", {"headers": headers}, settings=SETTINGS)).state == "failed"


# ---------------------------------------------------------------- translations


@pytest.mark.parametrize(
    "locale, subject",
    [("de-AT", "Servus"), ("de_AT", "Servus"), ("DE-at", "Servus"), ("de_AT.UTF-8", "Servus"), ("de-CH", "Hallo"), ("de", "Hallo"), ("de-Latn-AT-1996", "Hallo"),
     ("fr", "Hello"), ("", "Hello"), (None, "Hello"), (5, "Hello"), ("../de", "Hello"), ("de/..", "Hello"), ("d" * 999, "Hello")],
)  # fmt: skip
def test_translations_by_locale(project, locale, subject):
    write(project, a__txt="Subject: Hello\n\nb", a__html="<p>b</p>", a__de__txt="Subject: Hallo\n\nb", **{"a__de-AT__html": "Subject: Servus\n\n<b>b</b>"})
    message = built(project, contact={**CONTACT, "locale": locale})
    assert message["Subject"] == subject
    if subject == "Hallo":
        assert not message.is_multipart()  # a translation is whole: no English HTML beside a German text


def test_tags_are_shortened_from_their_end():
    assert _templates.tags("zh-hant-tw") == ["zh-Hant-TW", "zh-Hant", "zh"] and _templates.tags("de-x-mine") == ["de-x-mine", "de"]


# ---------------------------------------------------------------- internal messages


def test_a_notice_has_copies_in_one_transaction_and_no_links(project):
    write(project, a__html="Subject: Call {{ contact.first_name }}\n\n<a href='https://crm.example/'>x</a>")
    provider = Provider()
    with serving(provider) as port:
        table = smtp(port, timeout=3, links=SETTINGS["links"])
        call = make_call("email.notify", project, "a", {"cc": ["boss@example.com"], "bcc": "log@example.com"}, settings=table, contact={**CONTACT, "owner_email": "jo@elsewhere.example"})
        assert plugin.notify(call).state == "accepted"
        _smtp.forget()
    assert provider.envelopes == [("shop@example.com", ("jo@elsewhere.example", "boss@example.com", "log@example.com"))]
    message = email.message_from_bytes(provider.received[0], policy=email.policy.default)
    assert message["To"] == "jo@elsewhere.example" and message["Cc"] == "boss@example.com" and message["Bcc"] is None and b"log@" not in provider.received[0]
    assert b"news.example" not in provider.received[0] and message["Auto-Submitted"] == "auto-generated" and message["List-Unsubscribe"] is None


@pytest.mark.parametrize(
    "params, contact, words",
    [({}, {}, "no owner"), ({"to": "nobody"}, {}, "no e-mail address"), ({"to": "a@example.com", "cc": ["x"]}, {}, "no e-mail address"),
     ({"to": "a@example.com", "bcc": 5}, {}, "list"), ({"to": "a@example.com", "bcc": [f"b{n}@example.com" for n in range(30)]}, {}, "more than"),
     ({"to": "a@example.com", "cc": ["b@example.com\r\nBcc: c@d.example"]}, {}, "no e-mail address")],
)  # fmt: skip
def test_notices_that_can_not_be_addressed(project, params, contact, words):
    write(project, a__txt="Subject: s\n\nb")
    outcome = plugin.notify(make_call("email.notify", project, "a", params, settings=SETTINGS, contact={"id": "ana", **contact}))
    assert outcome.state == "failed" and words in outcome.detail


def test_the_message_id_and_the_return_path_carry_the_proof_that_they_are_ours(project):
    write(project, a__txt="Subject: Hi\n\nHello.")
    call = make_call("email.send", project, "a", settings={**SETTINGS, "envelope_from": "newsletter+{handle}@example.com"})
    name = _mail.compose(call).message_id.strip("<>").partition("@")[0]
    assert name == links.proven(KEY, call.key) and links.is_proven(KEY, name)
    assert _mail._envelope(call, "shop@example.com") == f"newsletter+{name}@example.com"
