"""E-mail: what is built, what can't be injected, what a template may do, and that a file is written once."""

import email
import email.policy
import os
from datetime import UTC, datetime, timedelta, timezone
from email.header import decode_header, make_header

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rules_engine.testing.plugins import CONTACT, make_call
from rules_engine_plugins import _mail, _mime, _templates
from rules_engine_plugins import email as plugin
from rules_engine_plugins._text import convert

SETTINGS = {"from": "Shop <shop@example.com>", "fsync": False}


@pytest.fixture
def project(tmp_path):
    (tmp_path / "templates").mkdir()
    return tmp_path


def write(project, name, text):
    file = project / "templates" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def call(project, primary="a", params=None, **changed):
    return make_call("email.send", project, primary, params, **{"settings": SETTINGS, **changed})


def sent(project, primary="a", params=None, **changed):
    """The message that was written, parsed with the modern policy."""
    outcome = plugin.send(call(project, primary, params, **changed))
    assert outcome.state == "accepted", outcome
    files = list((project / "outbox").glob("*.eml"))
    assert len(files) == 1
    return email.message_from_bytes(files[0].read_bytes().replace(b"\r\n", b"\n"), policy=email.policy.default)


def reason(project, primary="a", params=None, **changed):
    outcome = plugin.send(call(project, primary, params, **changed))
    assert outcome.state == "failed" and not list(project.glob("outbox/*")), outcome
    return outcome.detail


# ---------------------------------------------------------------- the message


def test_a_message_with_both_parts(project):
    write(
        project,
        "a.txt",
        "Subject: Hello {{ contact.first_name }}\nPreheader: First & things\n\nHi {{ contact.first_name }}, {{ cart }}.\n",
    )
    write(project, "a.html", "<html><body><p>Hi {{ contact.first_name }}, {{ cart }}.</p></body></html>")
    message = sent(
        project,
        params={"cart": "A & B", "reply_to": "help@example.com"},
        settings={**SETTINGS, "unsubscribe_url": "https://shop.example/u?c={contact}&t={template}"},
    )
    assert (
        message["Subject"] == "Hello Ana" and message["To"] == "ana@example.com" and message["From"] == "Shop <shop@example.com>"
    )
    assert message["Reply-To"] == "help@example.com" and message["Date"] == "Mon, 02 Mar 2026 09:00:00 +0000"
    assert message["List-Unsubscribe"] == "<https://shop.example/u?c=ana&t=a>"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert message.get_content_type() == "multipart/alternative"
    text, html = message.iter_parts()
    assert text.get_content() == "Hi Ana, A & B.\n"
    assert html.get_content() == (
        '<html><body><div style="display:none;max-height:0;overflow:hidden">First &amp; things</div>'
        "<p>Hi Ana, A &amp; B.</p></body></html>\n"
    )


def test_the_same_effect_gives_the_same_bytes_and_another_key_another_id(project):
    write(project, "a.txt", "Subject: Ü\n\nÄ\n")
    one, two = _mail.compose(call(project)), _mail.compose(call(project, attempt=4))
    assert one == two and one.message_id != _mail.compose(call(project, key="other")).message_id
    assert one.message_id.endswith("@example.com>")


def test_plain_text_is_derived_from_html_alone(project):
    write(
        project,
        "a.html",
        "Subject: x\n\n<style>p {}</style><h1>Big  news</h1><p>Hello<br>you</p><ul><li>one</li><li>two</li></ul>"
        '<a href="https://x.example/y?a=1&amp;b=2">Look</a> <img alt="tea"><script>alert(1)</script> &euro;5',
    )
    text, _ = sent(project).iter_parts()
    assert text.get_content() == "Big news\n\nHello\nyou\n\n- one\n- two\n\nLook (https://x.example/y?a=1&b=2) tea €5\n"


def test_transactional_mail_has_no_unsubscribe(project):
    write(project, "a.txt", "Subject: x\n\nb")
    message = sent(
        project, params={"class": "transactional"}, settings={**SETTINGS, "unsubscribe_url": "https://shop.example/{contact}"}
    )
    assert message["List-Unsubscribe"] is None


def test_a_hostile_contact_id_can_not_break_out_of_the_unsubscribe_link(project):
    write(project, "a.txt", "Subject: x\n\n{{ unsubscribe_url }}")
    message = sent(
        project,
        contact={**CONTACT, "id": "a>\r\nBcc: x@y, <{template}"},
        settings={**SETTINGS, "unsubscribe_url": "https://s.example/{contact}"},
    )
    assert message["List-Unsubscribe"] == "<https://s.example/a%3E%0D%0ABcc%3A%20x%40y%2C%20%3C%7Btemplate%7D>"


def test_attachments_come_from_their_folder_only(project):
    write(project, "a.txt", "Subject: x\n\nb")
    (project / "attachments").mkdir()
    (project / "attachments/Preis Ü.pdf").write_bytes(bytes(range(256)))
    (project / "secret.txt").write_text("s")
    (project / "attachments/link.txt").symlink_to(project / "secret.txt")
    message = sent(project, params={"attachments": ["Preis Ü.pdf"]})
    body, attached = message.iter_parts()
    assert body.get_content() == "b\n" and attached.get_content() == bytes(range(256))
    assert attached.get_filename() == "Preis Ü.pdf" and attached.get_content_type() == "application/pdf"
    for bad in ("../secret.txt", "link.txt", str(project / "secret.txt"), "none.pdf", ".", "", "a\0b", 5):
        assert plugin.send(call(project, params={"attachments": [bad]}, key=f"bad-{bad}")).state == "failed"


def test_too_large_attachments_are_refused(project, monkeypatch):
    monkeypatch.setattr(_mail, "MAX_ATTACHED_BYTES", 10)
    write(project, "a.txt", "Subject: x\n\nb")
    (project / "attachments").mkdir()
    (project / "attachments/a.bin").write_bytes(b"x" * 6)
    assert "more than" in reason(project, params={"attachments": ["a.bin", "a.bin"]})


@pytest.mark.parametrize(
    "params, contact, words",
    [
        ({}, {"id": "ana"}, "no e-mail address"),
        ({}, {**CONTACT, "email": "nobody"}, "no e-mail address that can be used"),
        ({}, {**CONTACT, "email": "a@b.example, c@d.example"}, "can be used"),
        ({}, {**CONTACT, "email": "ü@example.com"}, "can be used"),
        ({}, {**CONTACT, "email": "a@b.example\r\nBcc: c@d"}, "can be used"),
        ({"from": "Shop <a@b, c@d>"}, CONTACT, "can be used"),
        ({"reply_to": "x"}, CONTACT, "can be used"),
        ({"subject": " \r\n "}, CONTACT, "no subject"),
    ],
)
def test_what_can_not_be_addressed_fails_with_its_reason(project, params, contact, words):
    write(project, "a.txt", "Subject: x\n\nb")
    assert words in reason(project, params=params, contact=contact)


def test_no_sender_and_no_subject(project):
    write(project, "a.txt", "b")
    assert "sender" in reason(project, settings={"fsync": False})
    assert "no subject" in reason(project)
    assert sent(project, params={"subject": "given"})["Subject"] == "given"


def test_an_international_domain(project):
    write(project, "a.txt", "Subject: x\n\nb")
    assert sent(project, contact={**CONTACT, "email": "ana@bücher.example"})["To"] == "ana@xn--bcher-kva.example"


@pytest.mark.parametrize(
    "moment", [datetime(2026, 3, 2, 10, 0, tzinfo=timezone(timedelta(hours=1))), datetime(2026, 3, 2, 9, 0, tzinfo=UTC)]
)
def test_the_date_is_utc_whatever_the_zone(moment):
    assert _mime.date(moment) == "Mon, 02 Mar 2026 09:00:00 +0000"


# ---------------------------------------------------------------- injection

NASTY = st.text(st.one_of(st.sampled_from('\r\n\0=?_<>@,;:"\\ \t\x85\u2028\ud800üa'), st.characters()), max_size=80)
ENCODED = st.sampled_from(
    [
        "=?utf-8?q?x=0D=0ABcc:_e@x.example?=",
        "=?utf-8?b?DQpCY2M6IGVAeA==?=",
        "x\r\nBcc: e@x.example\r\n\r\nbody",
        "=?",
        "?=",
        "=?utf-8?q?",
        "\r\n.\r\n",
    ]
)
FREE = st.lists(st.one_of(NASTY, ENCODED), max_size=4).map("".join)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=FREE, subject=FREE, body=FREE, to=st.one_of(st.just("ana@example.com"), FREE), reply=st.one_of(st.none(), FREE))
def test_nothing_of_the_contact_becomes_a_header(name, subject, body, to, reply):
    message = _mime.Message(
        to=to,
        sender=f"{name.replace('<', '').replace('>', '')} <shop@example.com>",
        subject=subject,
        text=body,
        html=body,
        at=datetime(2026, 3, 2, tzinfo=UTC),
        id="msg_1",
        reply_to=reply,
    )
    try:
        built = _mime.build(message)
    except _mime.MailFault as fault:
        assert "when it is read again" not in str(fault), "the builder itself must be right; the comparison is the second lock"
        return
    expected = ["Date", "From", "To", "Subject", "Message-ID", *(["Reply-To"] if reply else []), "MIME-Version", "Content-Type"]
    for policy in (email.policy.compat32, email.policy.default, email.policy.SMTP):
        parsed = email.message_from_bytes(built.data, policy=policy)
        assert parsed.keys() == expected and len(parsed.get_payload()) == 2
    # A relay in Python decodes and writes the headers again: nothing may come out of them then, either.
    again = email.message_from_bytes(parsed.as_bytes(), policy=email.policy.default)
    assert again.keys() == expected and again["Bcc"] is None
    decoded = str(make_header(decode_header(email.message_from_bytes(built.data)["Subject"])))
    assert decoded == _mime.clean(subject) and "=?" not in decoded and not set(decoded) & set("\r\n\0\x85\u2028")
    assert built.data.isascii() and b"\0" not in built.data


def test_the_comparison_catches_a_builder_that_lets_a_header_through(monkeypatch):
    monkeypatch.setattr(_mime, "clean", lambda text: text)
    monkeypatch.setattr(_mime, "encode", lambda text: text)
    message = _mime.Message(
        "ana@example.com", "shop@example.com", "x\r\nBcc: e@x.example", "b", None, datetime(2026, 3, 2, tzinfo=UTC), "msg_1"
    )
    with pytest.raises(_mime.MailFault, match="read again"):
        _mime.build(message)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=300))
def test_html_to_text_never_raises(html):
    assert convert(html).endswith("\n") and convert("<p>" + html + "<a href='http://x'").endswith("\n")


# ---------------------------------------------------------------- templates


def test_contact_data_is_never_a_template(project):
    write(project, "a.txt", "Subject: {{ contact.first_name }}\n\n{{ contact.first_name }}")
    message = sent(project, contact={**CONTACT, "first_name": "{{ 7 * 7 }}{% include 'x' %}"})
    assert message["Subject"] == "{{ 7 * 7 }}{% include 'x' %}" and "49" not in message.get_content()
    message_by_argument = _mail.compose(call(project, params={"subject": "{{ 7 * 7 }}"}))
    assert b"Subject: {{ 7 * 7 }}" in message_by_argument.data


def test_html_is_escaped_and_text_is_not(project):
    write(project, "a.txt", "Subject: x\n\n{{ contact.first_name }}")
    write(project, "a.html", "<i>{{ contact.first_name }}</i>{% include 'parts/row.html' %}")
    write(project, "parts/row.html", "<b>{{ contact.first_name }}</b>")
    text, html = sent(project, contact={**CONTACT, "first_name": "<b>&"}).iter_parts()
    assert text.get_content() == "<b>&\n" and html.get_content() == "<i>&lt;b&gt;&amp;</i><b>&lt;b&gt;&amp;</b>\n"


@pytest.mark.parametrize(
    "body, words",
    [
        ("{{ contact.nickname }}", "'nickname' of the contact or event has no value"),
        ("{{ contact.empty }}", "'empty'"),
        ("{{ missing }}", "'missing' is undefined"),
        ("{{ event.total }}", "'event' is undefined"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{% if %}", "a.txt, line 3"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ contact.first_name.__class__ }}", "unsafe"),
        ("{{ 'x' * 10**9 }}", "too long"),
        ("{{ [1] * 10**9 }}", "too long"),
        ("{{ 10**9999 }}", "too large"),
        ("{{ 'x'.ljust(10**9) }}", "unsafe"),
        ("{{ 'x' | center(10**9) }}", "width"),
        ("{{ '%0999999999d' % 1 }}", "too many"),
        ("{{ '%0999999999d' | format(1) }}", "too many"),
        ("{{ '{:>999999999}'.format(1) }}", "unsafe"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}xxxxxxxx{% endfor %}{% endfor %}", "prints more"),
        ("{% include 'a.txt' %}", "recursion"),
        ("{% include '../secret.txt' %}", "no file below templates/"),
        ("{% include '/etc/passwd' %}", "no file below"),
        ("{% include 'link.txt' %}", "leads out"),
        ("{% include 'none.txt' %}", "can't be read"),
        ("{{ [1] | random }}", "random"),
        ("{{ lipsum() }}", "lipsum"),
        ("{% set _ = contact.update({}) %}", "no value"),
        ("{{ cart.clear() }}", "no value"),
        ("{{ 'x'['ljust'](10**9) }}", "unsafe"),
        ("{{ ('x' | e).center(10**9) }}", "unsafe"),
        ("{{ [1].append(2) }}", "unsafe"),
    ],
)
def test_what_a_template_may_not_do(project, body, words):
    (project / "secret.txt").write_text("secret")
    (project / "templates/link.txt").symlink_to(project / "secret.txt")
    write(project, "a.txt", "Subject: x\n\n" + body)
    assert words in reason(project, params={"cart": {"a": 1}}, contact={**CONTACT, "empty": None})


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/../../secret", "", ".", "none", "a\0b", None, 5, "a" * 10_000, "link"]
)
def test_names_of_templates_lead_nowhere_else(project, name):
    (project / "secret.txt").write_text("Subject: x\n\ns")
    (project / "templates/link.txt").symlink_to(project / "secret.txt")
    assert plugin.send(call(project, name)).state == "failed"


def test_how_values_are_shown(project):
    write(
        project,
        "a.txt",
        "Subject: x\n\n{{ contact.points }} {{ 2.5 }} {{ contact.consent.email }} "
        "{{ contact.nick | default('friend') }} "
        "{{ event.items }} {{ cart['items'] }} "
        "{{ cart.total }} {{ contact['points.sales'] }} {{ contact.items | default('none') }}",
    )
    assert (
        _templates.render(
            project / "templates",
            "a",
            {
                "contact": {**CONTACT, "points.sales": 7, "nick": None},
                "event": {"items": 3.0},
                "cart": {"items": "i", "total": 1.0},
            },
        ).text
        == "40 2.5 yes friend 3 i 1 7 none"
    )


def test_a_changed_template_is_read_again(project):
    write(project, "a.txt", "Subject: x\n\none {% include 'b.txt' %}")
    write(project, "b.txt", "1")
    values = {"contact": CONTACT}
    assert _templates.render(project / "templates", "a", values).text == "one 1"
    write(project, "b.txt", "two!")
    assert _templates.render(project / "templates", "a", values).text == "one two!"


# ---------------------------------------------------------------- the folder


def test_a_full_disk_is_a_retry_and_leaves_nothing(project, monkeypatch):
    write(project, "a.txt", "Subject: x\n\nb")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    outcome = plugin.send(call(project))
    assert outcome.state == "retry" and "No space left" in outcome.detail and not list((project / "outbox").iterdir())
    monkeypatch.undo()
    assert plugin.send(call(project)).state == "accepted" and len(list((project / "outbox").iterdir())) == 1


def test_files_are_private_and_named_by_key_and_contact(project):
    write(project, "a.txt", "Subject: x\n\nb")
    for key, contact in (("1", "ana"), ("1", "bob"), ("2", "ana"), ("1", "../../x")):
        assert plugin.send(call(project, key=key, contact={**CONTACT, "id": contact})).state == "accepted"
    files = list((project / "outbox").iterdir())
    assert len(files) == 4 and all(file.stat().st_mode & 0o077 == 0 for file in files)


def test_an_unknown_transport_is_said(project):
    assert "carrier pigeon" in reason(project, settings={"transport": "carrier pigeon"})
