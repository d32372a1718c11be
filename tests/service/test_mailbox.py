"""Bounces, complaints and answers: what is read out of a mail, what it changes, and that a mail acts once whatever happens."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from imap_kit import Imap, imap

from rules_engine import host
from rules_engine.actions import Outcome
from rules_engine.decisions import Effect
from rules_engine.links import handle
from rules_engine.links import proven as proven_handle
from rules_engine.service import inbound, mailbox, mailfolders
from rules_engine.service.dispatch import Dispatcher
from rules_engine.service.runner import DirectRunner
from rules_engine.store.port import Block, ContactRow, StoreError

EFFECT = "welcome/s/ana/1"
OURS = handle(EFFECT)
HEADERS = f"From: Shop <shop@example.com>\r\nTo: ana@example.com\r\nSubject: Hi\r\nMessage-ID: <{OURS}@example.com>\r\n"


def dsn(action="failed", status="5.1.1", diagnostic="smtp; 550 5.1.1 user unknown", original=None, mail_id="<d1@mx>", part="text/rfc822-headers"):
    attached = original if original is not None else f"--b\r\nContent-Type: {part}\r\n\r\n{HEADERS}\r\n"
    return (
        f"From: Mail Delivery System <MAILER-DAEMON@mx.example>\r\nTo: shop@example.com\r\nSubject: Undelivered Mail\r\nMessage-ID: {mail_id}\r\n"
        "MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
        "--b\r\nContent-Type: text/plain\r\n\r\nSorry.\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\n\r\n"
        f"Final-Recipient: rfc822; ana@example.com\r\nAction: {action}\r\nStatus: {status}\r\nDiagnostic-Code: {diagnostic}\r\n\r\n"
        f"{attached}--b--\r\n"
    ).encode()


def arf(kind="abuse"):
    return (
        "From: fbl@isp.example\r\nMessage-ID: <a1@isp>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n"
        "--b\r\nContent-Type: text/plain\r\n\r\nA complaint.\r\n"
        f"--b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: {kind}\r\nUser-Agent: x/1\r\nVersion: 1\r\n\r\n"
        f"--b\r\nContent-Type: message/rfc822\r\n\r\n{HEADERS}\r\nHello\r\n--b--\r\n"
    ).encode()


def reply(extra="", text="Yes, please!\r\n\r\nOn Mon, 2 Mar 2026 at 10:00, Shop <shop@example.com> wrote:\r\n> Hi\r\n", mail_id="<r1@home>"):
    return (
        f"From: Ana <ana@example.com>\r\nTo: shop@example.com\r\nSubject: Re: Hi\r\nMessage-ID: {mail_id}\r\n"
        f"In-Reply-To: <{OURS}@example.com>\r\n{extra}Content-Type: text/plain; charset=utf-8\r\n\r\n{text}"
    ).encode()


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize(
    "status, diagnostic, hard",
    [
        ("5.1.1", "smtp; 550 5.1.1 user unknown", True),
        ("5.1.10", "", True),
        ("5.2.1", "smtp; mailbox disabled", True),
        ("5.0.0", "", True),
        ("5.2.2", "smtp; mailbox full", False),
        ("5.7.1", "smtp; looks like spam", False),
        ("5.3.4", "smtp; too large", False),
        ("4.4.7", "smtp; delivery time expired", False),
        ("4.2.2", "", False),
        ("", "smtp; 550 5.1.1 no such user", True),
        ("", "smtp; no such user here", True),
        ("", "x-notes; quota exceeded", False),
        ("nonsense", "", False),
    ],
)
@pytest.mark.parametrize("part", ["text/rfc822-headers", "message/rfc822"])
def test_delivery_reports(status, diagnostic, hard, part):
    finding = inbound.read(dsn(status=status, diagnostic=diagnostic, part=part))
    assert (finding.kind, finding.names, finding.hard) == ("bounce", (OURS,), hard) and finding.reason


@pytest.mark.parametrize("action, kind", [("delayed", "delayed"), ("delivered", "delivered"), ("relayed", "delivered"), ("FAILED (really)", "bounce"), ("x", "other")])
def test_reports_that_are_no_failure(action, kind):
    assert inbound.read(dsn(action=action)).kind == kind


def test_a_report_without_our_message_names_it_in_its_return_path_or_text():
    bare = dsn(original="").replace(b"To: shop@example.com", f"To: bounces+{OURS}@example.com".encode())
    assert inbound.read(bare).names == (OURS,)
    assert inbound.read(dsn(original="").replace(b"Sorry.", f"Sorry for {OURS}.".encode())).names == (OURS,)
    assert inbound.read(dsn(original="")).names == ()


@pytest.mark.parametrize(
    "subject, text, hard",
    [
        ("Undelivered Mail Returned to Sender", "<ana@example.com>: host mx said: 550 5.1.1 no such user", True),
        ("Mail delivery failed: returning message to sender", "ana@example.com\r\n  Unrouteable address", True),
        ("failure notice", "Sorry, your mailbox is full. Try again.", False),
        ("Delivery Status Notification (Failure)", "The group is over quota", False),
        ("Undeliverable: Hi", "something odd", False),
        ("=?utf-8?q?Unzustellbar?=", "Die Adresse gibt es nicht: user unknown", True),
    ],
)
def test_bounces_of_servers_that_know_no_reports(subject, text, hard):
    mail = f"From: MAILER-DAEMON@mx.example\r\nSubject: {subject}\r\nMessage-ID: <x@y>\r\n\r\n{text}\r\n\r\nMessage-ID: <{OURS}@example.com>\r\n"
    finding = inbound.read(mail.encode())
    assert (finding.kind, finding.names, finding.hard) == ("bounce", (OURS,), hard)


@pytest.mark.parametrize("kind, found", [("abuse", "complaint"), ("Fraud", "complaint"), ("not-spam", "other"), ("auth-failure", "other"), ("", "other")])
def test_complaints(kind, found):
    finding = inbound.read(arf(kind))
    assert (finding.kind, finding.names) == (found, (OURS,))


def test_an_answer_and_what_was_quoted():
    finding = inbound.read(reply())
    assert (finding.kind, finding.names, finding.text) == ("reply", (OURS,), "Yes, please!")
    html = reply().replace(b"text/plain", b"text/html").replace(b"Yes, please!", b"<p>Yes &amp; <b>no</b></p><blockquote>old</blockquote>")
    assert inbound.read(html).text == "Yes & no"
    by_references = reply().replace(b"In-Reply-To: <", b"References: <0123456789abcdef@elsewhere> <")
    assert inbound.read(by_references).names[0] == OURS


@pytest.mark.parametrize(
    "extra", ["Auto-Submitted: auto-replied\r\n", "Auto-Submitted: auto-generated; x\r\n", "Precedence: bulk\r\n", "Precedence: auto_reply\r\n",
              "X-Autoreply: yes\r\n", "Return-Path: <>\r\n"],
)  # fmt: skip
def test_automatic_answers_are_marked(extra):
    assert inbound.read(reply(extra)).kind == "auto_reply"


def test_a_person_is_no_machine():
    assert inbound.read(reply("Auto-Submitted: no\r\nPrecedence: normal\r\nReturn-Path: <ana@example.com>\r\n")).kind == "reply"
    assert inbound.read(reply().replace(b"Re: Hi", b"Automatic reply: Hi")).kind == "auto_reply"
    assert inbound.read(b"From: a@b\r\nSubject: hello\r\n\r\nno answer to anything").kind == "other"


@pytest.mark.parametrize("data", [b"", b"\r\n\r\n", b"\r\nbody only", b"\0" * 100])
def test_what_is_no_mail_is_unreadable(data):
    with pytest.raises(inbound.Unreadable):
        inbound.read(data)


@pytest.mark.parametrize(("html", "text"), [
    ("a<script>x</script>b<STYLE type=x>y</style >c", "a b c"), ("a<blockquote>x</blockquote><p>b", "a b"), ("a<script>x<script>y", "a"),
    ("a<scripted>b</scripted>", "a b"), ("a<\u017fcript>b", "a b"), ("<script" * 14_000, ""), ("a" + "<style></style>" * 6_000 + "b", "a b"),
])  # fmt: skip
def test_what_html_does_not_show_is_no_answer(html, text):
    mail = reply("Content-Type: text/html; charset=utf-8\r\n", html)
    assert " ".join(inbound.read(mail).text.split()) == text


@pytest.mark.parametrize("name", ["Content-Type", "content-disposition"])
def test_a_mail_with_a_long_description_of_a_part_is_put_aside(store, clock, name):
    """The standard parser needs minutes for it."""
    long = f"{name}: multipart/mixed; a=\"" + ";" * 20_000 + "\r\n"
    for mail in (reply(long), reply("Content-Type: multipart/mixed; boundary=b\r\n", f"--b\r\n{long}\r\nx\r\n--b--\r\n")):
        mark, reason = mailbox.judge(store, clock, item(mail))
        assert mark.kind == "aside" and "more than 2,000 characters" in reason and name in reason
    assert inbound.read(reply("Content-Type: text/plain;" + "\r\n a=b;" * 200 + "\r\n")).kind == "reply"
    assert inbound.read(reply("To: " + "somebody@shop.example,\r\n " * 4_000 + "x@shop.example\r\n")).kind == "reply"


def test_hostile_mails_are_cut_to_size():
    deep = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(3_000))
    for data in (deep, reply(text="x" * 3_000_000), reply(extra="X: " + "y" * 400_000 + "\r\n"), reply(extra="References: " + f"<{OURS}@x> " * 9_000 + "\r\n")):
        start = time.process_time()
        try:
            finding = inbound.read(data)
            assert len(finding.text) <= 2_000 and len(finding.names) <= 20
        except inbound.Unreadable:
            pass
        assert time.process_time() - start < 2


PIECES = st.lists(
    st.sampled_from([b"From: a@b\r\n", b"Content-Type: multipart/report; boundary=b\r\n", b"\r\n", b"--b\r\n", b"--b--\r\n", b"Content-Type: message/delivery-status\r\n",
                     b"Action: failed\r\n", b"Status: 5.1.1\r\n", b"Content-Type: message/rfc822\r\n", b"Content-Type: text/plain; charset=nonsense\r\n",
                     b"Content-Transfer-Encoding: base64\r\n", b"Content-Type: message/feedback-report\r\n", f"Message-ID: <{OURS}@x>\r\n".encode(), b"\xff\xfe\0",
                     b"Subject: =?x?b?!!?=\r\n", b"In-Reply-To: ", b"Content-Transfer-Encoding: quoted-printable\r\n", b"=ZZ", b"A", b"Content-Type: multipart/x\r\n"]),
    max_size=25,
).map(b"".join)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.one_of(PIECES, st.binary(max_size=200)))
def test_no_bytes_make_the_reader_raise_anything_else(data):
    try:
        finding = inbound.read(data)
    except inbound.Unreadable as error:
        assert str(error)
        return
    assert finding.id and finding.reason.isprintable() and "\0" not in finding.text and "\n" not in finding.reason


# ---------------------------------------------------------------- recording


def sent(store, clock, effect=EFFECT, action="email.send", channel="email", params=None, provider_id="q-1", primary="hello"):
    """An effect that was handed over."""
    state = orjson.dumps({"a": {"email": "ana@example.com"}})
    kind = "marketing" if channel else "internal"
    effects = [Effect(effect, "ana", action, primary, params or {}, "welcome", "s", None, channel, kind, 1, None)]
    store.commit(Block("p", [ContactRow("ana", state, None, "p", 0)], effects=effects))
    found = host.load()
    actions = {**found.actions, action: found.actions[action].__class__(action, "x", perform=lambda call: Outcome("accepted", "", provider_id), channel=channel)}
    Dispatcher(store, host.Host(actions, found.events, found.providers), clock, attributes=lambda s: s["a"], runner=DirectRunner()).turn()
    assert store.effect(effect).state == "accepted"


def item(data, name="1"):
    return mailfolders.Item(name, data)


def told(store):
    return [(row.cause.name, dict(row.cause.data)) for row in store.events_of("ana") if row.source == "mailbox"]


@pytest.mark.parametrize(
    "data, state, event, fields",
    [
        (dsn(), "bounced", "email.bounced", {"kind": "hard", "reason": "5.1.1 550 5.1.1 user unknown"}),
        (dsn(status="4.4.7"), "bounced", "email.bounced", {"kind": "soft", "reason": "4.4.7 550 5.1.1 user unknown"}),
        (arf(), "complained", "email.complained", {}),
        (reply(), "delivered", "email.replied", {"text": "Yes, please!"}),
        (dsn(action="delivered"), "delivered", "email.delivered", {}),
        (dsn(action="delayed"), "accepted", None, {}),
        (reply("Auto-Submitted: auto-replied\r\n"), "accepted", None, {}),
    ],
)
def test_what_a_mail_changes(store, clock, data, state, event, fields):
    sent(store, clock)
    mailbox.judge(store, clock, item(data))
    assert store.effect(EFFECT).state == state
    assert told(store) == ([(event, {**fields, "campaign": "welcome"})] if event else [])


def test_a_mail_acts_once_however_often_it_is_read(store, clock):
    sent(store, clock)
    kinds = [mailbox.judge(store, clock, item(data, str(n)))[0].kind for n, data in enumerate((dsn(), dsn(), dsn(mail_id="<d2@mx>"), reply(), reply()))]
    assert kinds == ["bounce", "known", "bounce", "reply", "known"] and len(told(store)) == 3


def test_a_crash_between_the_commit_and_the_mark_changes_nothing(store, clock, tmp_path):
    sent(store, clock)
    folder = maildir(tmp_path, dsn())

    class Died(Exception):
        pass

    with pytest.raises(Died), mailfolders.open_box({"folder": folder}) as box:
        assert [mailbox.judge(store, clock, found)[0].kind for found in box.fetch(9)] == ["bounce"]
        raise Died
    assert mailbox.poll({"folder": folder}, store, clock).counts == {"known": 1}
    assert len(told(store)) == 1 and mailbox.poll({"folder": folder}, store, clock).counts == {}


def test_nothing_is_marked_before_it_is_committed(store, clock, tmp_path, monkeypatch):
    sent(store, clock)
    folder = maildir(tmp_path, dsn())

    def full(*_):
        raise StoreError("the disk is full", kind="full")

    monkeypatch.setattr(store, "record_events", full)
    with pytest.raises(StoreError):
        mailbox.poll({"folder": folder}, store, clock)
    monkeypatch.undo()
    assert len(list(Path(folder).glob("new/*"))) == 1 and mailbox.poll({"folder": folder}, store, clock).counts == {"bounce": 1}


def test_a_bounce_of_a_template_whose_name_no_database_takes_is_recorded(store, clock):
    sent(store, clock, primary="a\0\ud800")
    assert mailbox.judge(store, clock, item(dsn()))[0].kind == "bounce"
    assert [name for name, _ in told(store)] == ["email.bounced"] and store.effect(EFFECT).state == "bounced"


def test_internal_messages_and_other_addresses_do_not_suppress_the_contact(store, clock):
    sent(store, clock, action="email.notify", channel=None)
    mailbox.judge(store, clock, item(dsn()))
    assert store.effect(EFFECT).state == "bounced" and told(store) == []


def test_a_bounce_of_another_address_than_the_contacts_own(store, clock):
    sent(store, clock, params={"to": "office@example.com"})
    mailbox.judge(store, clock, item(dsn()))
    assert told(store)[0][1]["kind"] == "other"


def test_the_providers_own_name_for_the_message_is_known_too(store, clock):
    sent(store, clock, provider_id="0102018e-provider-name")
    renamed = dsn().replace(OURS.encode(), b"0102018e-provider-name")
    assert mailbox.judge(store, clock, item(renamed))[0].kind == "bounce" and len(told(store)) == 1


def test_a_mail_about_nothing_of_ours_is_left_alone(store, clock):
    assert mailbox.judge(store, clock, item(dsn()))[0].kind == "other" and told(store) == []


def test_what_can_not_be_read_is_put_aside_with_its_reason(store, clock, tmp_path):
    sent(store, clock)
    folder = maildir(tmp_path, b"", dsn(), reply(text="\ud800\0".encode("utf-8", "surrogatepass")))
    polled = mailbox.poll({"folder": folder}, store, clock)
    assert polled.counts == {"aside": 1, "bounce": 1, "reply": 1} and "empty" in polled.aside[0]
    assert [entry.detail for entry in store.audits()] == list(polled.aside)
    assert len(list(Path(folder).glob(".CampAside/cur/*"))) == 1 and len(list(Path(folder).glob(".CampRead/cur/*"))) == 2


def test_key_fields_go_along(store, clock):
    sent(store, clock)
    mailbox.judge(store, clock, item(reply()), lambda effect: {"order_id": "A"})
    assert told(store)[0][1]["order_id"] == "A"


@pytest.mark.parametrize("make", [dsn, arf, reply])
def test_a_forged_mail_that_names_a_message_is_not_believed_where_names_are_proven(store, clock, make):
    """A handle is a hash of an effect's id, which a stranger may guess; the proof beside it needs the key."""
    keys, proven = ("new key", "the key"), proven_handle("the key", EFFECT)
    sent(store, clock)
    forged = [make(), make().replace(OURS.encode(), f"{OURS}.000000000000".encode())]
    for number, data in enumerate(forged):
        assert mailbox.judge(store, clock, item(data, str(number)), keys=keys)[0].kind == "other"
    assert told(store) == [] and store.effect(EFFECT).state == "accepted"
    honest = make().replace(OURS.encode(), proven.encode())
    assert mailbox.judge(store, clock, item(honest), keys=keys)[0].kind in ("bounce", "complaint", "reply")
    assert len(told(store)) == 1


def test_a_proven_name_in_the_return_path_counts_and_so_does_a_providers_own(store, clock):
    sent(store, clock, provider_id="0102018e-provider-name")
    returned = dsn(original="").replace(b"To: shop@example.com", f"To: bounces+{proven_handle('the key', EFFECT)}@example.com".encode())
    assert mailbox.judge(store, clock, item(returned, "1"), keys=("the key",))[0].kind == "bounce"
    renamed = dsn(mail_id="<d2@mx>").replace(OURS.encode(), b"0102018e-provider-name")
    assert mailbox.judge(store, clock, item(renamed, "2"), keys=("the key",))[0].kind == "bounce"


# ---------------------------------------------------------------- Maildir and IMAP


def maildir(tmp_path, *mails):
    for part in ("new", "cur", "tmp"):
        (tmp_path / "box" / part).mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(mails):
        (tmp_path / f"box/new/{number}.host").write_bytes(data)
    return str(tmp_path / "box")


def test_a_maildir_with_things_that_are_no_mails(store, clock, tmp_path):
    folder = maildir(tmp_path, reply())
    (tmp_path / "secret").write_text("x")
    (tmp_path / "box/cur/9.link").symlink_to(tmp_path / "secret")
    (tmp_path / "box/new/8.folder").mkdir()
    polled = mailbox.poll({"folder": folder}, store, clock)
    assert polled.counts == {"aside": 2, "other": 1} and (tmp_path / "secret").exists()


@pytest.mark.parametrize("table", [{}, {"folder": "/nowhere"}, {"host": "127.0.0.1", "port": 1, "tls": "none"}, {"host": "x", "tls": "weak"}, {"host": "x", "port": "y"}])
def test_settings_that_do_not_work_are_said(store, clock, table):
    with pytest.raises(mailbox.Trouble):
        mailbox.poll(table, store, clock)


def table(port, **more):
    return {"host": "127.0.0.1", "port": port, "tls": "none", "user": "u", "password": 'p "\\ w', "timeout": 1, **more}


def test_imap_mails_are_flagged_and_stay_for_people(store, clock):
    sent(store, clock)
    server = Imap(dsn(), reply(), b"From: x@y\r\n\r\nhello", b"\r\n\r\n")
    with imap(server) as port:
        assert mailbox.poll(table(port), store, clock).counts == {"bounce": 1, "reply": 1, "other": 1, "aside": 1}
        assert [mail.flags for mail in server.mails] == [{"CampRead"}] * 3 + [{"CampAside"}]
        assert mailbox.poll(table(port), store, clock).counts == {}
    assert store.effect(EFFECT).state == "bounced" and server.said.count("LOGOUT") == 2


@pytest.mark.parametrize("capabilities", ["MOVE", "UIDPLUS", ""])
def test_imap_the_machines_mails_are_moved_where_the_setting_says_so(store, clock, capabilities):
    sent(store, clock)
    server = Imap(dsn(), reply(), capabilities=capabilities)
    with imap(server) as port:
        mailbox.poll(table(port, done="Camp/done"), store, clock)
        assert len(server.folders["Camp/done"]) == 1 and mailbox.poll(table(port, done="Camp/done"), store, clock).counts == {}
    left = [mail for mail in server.mails if "\\Deleted" not in mail.flags]
    assert len(left) == 1 and b"Yes, please" in left[0].data


def test_imap_without_keywords_needs_folders(store, clock):
    server = Imap(reply(), keywords=False)
    with imap(server) as port:
        with pytest.raises(mailbox.Trouble, match="keywords"):
            mailbox.poll(table(port), store, clock)
        mailbox.poll(table(port, done="Done", aside="Aside"), store, clock)
    assert len(server.folders["Done"]) == 1 and server.mails == []


@pytest.mark.parametrize("how", ["hang", "drop", "refuse"])
@pytest.mark.parametrize("command", ["LOGIN", "SELECT", "SEARCH", "FETCH", "STORE"])
def test_imap_that_misbehaves_is_trouble_and_nothing_is_lost(store, clock, how, command):
    sent(store, clock)
    server = Imap(dsn(), **{how: {command}})
    with imap(server) as port:
        with pytest.raises(mailbox.Trouble):
            mailbox.poll(table(port, timeout=0.2), store, clock)
        server.hang = server.drop = server.refuse = set()
        assert mailbox.poll(table(port), store, clock).counts == {"known" if command == "STORE" else "bounce": 1}
    assert len(told(store)) == 1


def test_imap_reads_no_more_than_the_cap_and_leaves_no_mark_of_reading(store, clock):
    sent(store, clock)
    server = Imap(reply(text="x" * 2_000_000))
    with imap(server) as port:
        with mailfolders.open_box(table(port)) as box:
            assert len(box.fetch(5)[0].data) == inbound.MAX_BYTES
    assert server.mails[0].flags == set()


def test_no_folder_name_can_be_a_command():
    for name in ("a\r\nx DELETE INBOX", "", "ä"):
        with pytest.raises(mailbox.Trouble):
            mailfolders._quoted(name)
    assert mailfolders._quoted('a "b" \\c') == '"a \\"b\\" \\\\c"'


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_imap_over_tls_with_a_known_authority_only(store, clock, tmp_path):
    import ssl

    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"], check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    sent(store, clock)
    server = Imap(dsn())
    with imap(server, context) as port:
        with pytest.raises(mailbox.Trouble, match="certificate"):
            mailbox.poll(table(port, tls="tls"), store, clock)
        assert "LOGIN" not in server.said
        assert mailbox.poll(table(port, tls="tls", ca_file=str(tmp_path / "cert.pem")), store, clock).counts == {"bounce": 1}


def test_no_password_is_told_when_the_login_is_refused(store, clock, caplog):
    with imap(Imap(refuse={"LOGIN"})) as port:
        with pytest.raises(mailbox.Trouble) as caught:
            mailbox.poll(table(port, password="hunter2"), store, clock)
    assert "hunter2" not in str(caught.value) and "hunter2" not in caplog.text


def test_starttls_that_is_not_on_offer_tells_no_password(store, clock):
    server = Imap(dsn())
    with imap(server) as port, pytest.raises(mailbox.Trouble):
        mailbox.poll(table(port, tls="starttls"), store, clock)
    assert "LOGIN" not in server.said


# ---------------------------------------------------------------- the watch


def wait_until(done, seconds=5):
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.01)
    assert done()


@pytest.fixture
def file(tmp_path, clock):
    """A database file with a message that was handed over; each thread opens it for itself."""
    from rules_engine.store.sqlite import SqliteStore

    made = SqliteStore(tmp_path / "watched.db", clock)
    sent(made, clock)
    yield made, lambda: SqliteStore(tmp_path / "watched.db", clock, create=False)
    made.close()


def test_the_watch_reads_what_comes_and_gets_over_trouble(file, clock, caplog):
    store, opener = file
    server = Imap(dsn(), hang={"SELECT"})
    with imap(server) as port, mailbox.watching(table(port, timeout=0.2, every=0.05), opener, clock) as watch:
        wait_until(lambda: watch.trouble and server.said.count("SELECT") > 1)
        server.hang = set()
        wait_until(lambda: watch.counts["bounce"] == 1 and not watch.trouble)
        server.add(reply())
        wait_until(lambda: watch.counts["reply"] == 1)
    assert [mail.flags for mail in server.mails] == [{"CampRead"}] * 2 and store.effect(EFFECT).state == "bounced"
    assert sum("can't be read" in record.message for record in caplog.records) == 1  # said once, not each time


def test_ending_never_waits_for_a_server_that_hangs(file, clock):
    _, opener = file
    with imap(Imap(dsn(), hang={"LOGIN"})) as port:
        start = time.monotonic()
        with mailbox.watching(table(port, timeout=30), opener, clock):
            time.sleep(0.1)
        assert time.monotonic() - start < 2.5


def test_the_stores_trouble_is_waited_out(file, clock):
    _, opener = file
    server, full = Imap(dsn()), [True]

    def opens():
        if full[0]:
            raise StoreError("the disk is full", kind="full")
        return opener()

    with imap(server) as port, mailbox.watching(table(port, every=0.02), opens, clock) as watch:
        wait_until(lambda: "full" in watch.trouble)
        full[0] = False
        wait_until(lambda: watch.counts["bounce"] == 1)


def test_a_full_look_is_followed_by_another_at_once(file, clock, monkeypatch):
    _, opener = file
    monkeypatch.setattr(mailbox, "LIMIT", 2)
    server = Imap(*(reply(mail_id=f"<r{n}@home>") for n in range(5)))
    with imap(server) as port, mailbox.watching(table(port, every=600), opener, clock) as watch:
        wait_until(lambda: watch.counts["reply"] == 5)
