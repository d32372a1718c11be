"""Import, run, look, settle: the commands around the database, from `camp init` on."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys

import pytest


@pytest.fixture
def ran(shop):
    """The first project after its samples were imported and played."""
    assert shop("contact", "import", "samples/contacts.jsonl").code == 0
    assert shop("event", "import", "samples/events.jsonl").code == 0
    assert shop("run", "--until", "2026-04-01").code == 0
    return shop


def lines(answer) -> list[dict]:
    assert answer.code == 0, answer
    return [json.loads(line) for line in answer.out.splitlines()]


# ── import ──


def test_import_says_what_became_of_the_file_and_is_safe_to_repeat(shop):
    answer = shop("event", "import", "samples/events.jsonl")
    assert (answer.code, answer.out) == (0, "3 events accepted\n")
    assert shop("event", "import", "samples/events.jsonl").out == "0 events accepted, 3 known already\n"


def test_import_keeps_bad_lines_aside_with_reasons(shop):
    with open(shop.folder / "samples" / "contacts.jsonl", "a") as file:
        file.write('{"id": "dan", "timezone": "Europe/Pargue"}\n{"email": "x@example.com"}\n')
    answer = shop("contact", "import", "samples/contacts.jsonl")
    assert answer.code == 6
    assert answer.out == "3 contacts accepted\n"
    assert "2 lines kept aside in samples/contacts.jsonl.rejected.jsonl" in answer.err
    assert 'line 4: there is no time zone "Europe/Pargue"; did you mean Europe/Prague?' in answer.err
    kept = [json.loads(line) for line in (shop.folder / "samples" / "contacts.jsonl.rejected.jsonl").read_text().splitlines()]
    assert [item["line"] for item in kept] == [4, 5]


def test_what_is_no_address_is_no_attribute_email(shop):
    (shop.folder / "c.jsonl").write_text(
        "".join(json.dumps({"id": f"c{n}", "email": email}) + "\n" for n, email in enumerate(["ana2", "a@x.example\r\nBcc: b@x.example", " ana@x.example "]))
    )
    answer = shop("contact", "import", "c.jsonl")
    assert (answer.code, answer.out) == (6, "1 contact accepted\n")
    assert "line 1: email: 'ana2' is no e-mail address" in answer.err
    answer = shop("contact", "set", "ana", "email=ana2")
    assert answer.code == 2 and "email: 'ana2' is no e-mail address" in answer.err


def test_import_without_ids_says_so(shop):
    (shop.folder / "e.jsonl").write_text(
        '{"event": "order.placed", "contact": "ana", "at": "2026-03-03T00:00:00Z", "data": {"total": 3}}\n'
    )
    answer = shop("event", "import", "e.jsonl")
    assert answer.code == 0
    assert "1 event without an id" in answer.err


def test_import_dry_run_changes_nothing(shop):
    answer = shop("contact", "import", "samples/contacts.jsonl", "--dry-run")
    assert (answer.code, answer.out) == (0, "3 contacts would be imported\n")
    assert not (shop.folder / "camp.db").exists()


def test_import_as_json(shop):
    found = json.loads(shop("contact", "import", "samples/contacts.jsonl", "--json").out)
    assert found == {
        "file": "samples/contacts.jsonl",
        "lines": 3,
        "accepted": 3,
        "known": 0,
        "conflicts": 0,
        "rejected": 0,
        "without_id": 0,
        "rejected_file": None,
        "warnings": [],
    }


NEAR = "order.placed declares no field `totall`; did you mean `total`?"
BESIDE = "`order_id` beside `event` is not kept: what the event tells belongs into `data`"


def test_import_warns_of_what_no_condition_can_read(shop):
    odd = [
        {"id": "1", "event": "order.placed", "contact": "ana", "at": "2026-03-02T09:00:00Z", "data": {"order_id": "A", "totall": 40, "shop": 7}},
        {"id": "2", "event": "order.placed", "contact": "ana", "at": "2026-03-02T09:00:00Z", "order_id": "A", "data": {"totall": 40}},
        {"id": "3", "event": "order.placed", "contact": "ana", "at": "2026-03-02T09:00:00Z", "data": {"total": 1, "totals": 2}},
    ]
    (shop.folder / "odd.jsonl").write_text("".join(json.dumps(event) + "\n" for event in odd))
    for command in (("--dry-run",), ()):
        answer = shop("event", "import", "odd.jsonl", *command)
        assert answer.code == 0 and answer.out.startswith("3 events")
        assert answer.err == f"warning: {NEAR} (2 lines)\nwarning: {BESIDE} (1 line)\n"
    assert json.loads(shop("event", "import", "odd.jsonl", "--json").out)["warnings"] == [NEAR, BESIDE]
    assert json.loads(shop("event", "import", "odd.jsonl", "--json", "--dry-run").out)["warnings"] == [NEAR, BESIDE]


def test_send_warns_of_fields_that_are_not_declared(shop):
    for command in (("--dry-run",), ()):
        answer = shop("event", "send", "order.placed", "--contact", "eva", "order_id=Z", "totall=5", "shop=7", *command)
        assert answer.code == 0 and f"warning: {NEAR}\n" in answer.err
        assert (
            "warning: order.placed declares no field `shop`: it is kept, and no condition can read it; its fields are order_id, total\n"
            in answer.err
        )
    assert "warning" not in shop("event", "send", "order.placed", "--contact", "eva", "order_id=Z", "total=5").err


def test_import_of_a_file_that_is_not_there(shop):
    answer = shop("event", "import", "samples/evnts.jsonl")
    assert answer.code == 5
    assert "samples/evnts.jsonl: there is no such file" in answer.err
    assert "did you mean samples/events.jsonl?" in answer.err
    assert not (shop.folder / "camp.db").exists()


def test_import_into_a_file_that_is_no_database(shop):
    (shop.folder / "camp.db").write_text("this is no database at all, it is a letter to a friend, and rather a long one\n" * 20)
    answer = shop("event", "import", "samples/events.jsonl")
    assert answer.code == 5
    assert "camp.db is not a Camp database" in answer.err
    assert "Traceback" not in answer.err


def test_import_into_another_programs_database(shop):
    connection = sqlite3.connect(shop.folder / "camp.db")
    connection.execute("CREATE TABLE mine (x)")
    connection.commit()
    connection.close()
    answer = shop("event", "import", "samples/events.jsonl")
    assert answer.code == 5
    assert "camp.db is not a Camp database" in answer.err


# ── single facts ──


def test_send_and_set(shop):
    answer = shop(
        "contact",
        "set",
        "dan",
        "email=dan@example.com",
        "consent.email=yes",
        "timezone=Europe/Berlin",
        "--at",
        "2026-03-02 10:00",
    )
    assert answer.code == 0, answer
    assert (
        shop(
            "event",
            "send",
            "order.placed",
            "--contact",
            "dan",
            "order_id=A",
            "total=12",
            "--at",
            "2026-03-02 11:00",
            "--id",
            "x1",
        ).code
        == 0
    )
    again = shop(
        "event", "send", "order.placed", "--contact", "dan", "order_id=A", "total=12", "--at", "2026-03-02 11:00", "--id", "x1"
    )
    assert "an event with this id is known: nothing changes" in again.err
    assert shop("run", "--until", "2026-04-01").code == 0
    kinds = [item["kind"] for item in lines(shop("why", "dan", "--json"))]
    assert kinds == ["enter", "action", "wait", "goal", "skip", "complete"]


@pytest.mark.parametrize(
    "arguments, code, words",
    [
        (("event", "send", "order.plced", "--contact", "ana"), 2, 'no event is called "order.plced"; did you mean order.placed?'),
        (("event", "send", "order.placed", "--contact", "ana", "total=lots"), 2, 'total: a number is expected, not "lots"'),
        (("event", "send", "order.placed", "--contact", "ana", "total"), 2, "`total` is no NAME=VALUE"),
        (("event", "send", "order.placed"), 2, "missing option '--contact'"),
        (("event", "send", "order.placed", "--contact", "ana", "--at", "soon"), 2, '--at: "soon" is no date and time'),
        (("contact", "set", "ana", "emial=x"), 2, 'no attribute is called "emial"; did you mean email?'),
        (("contact", "set", "ana", "email=x"), 2, "ana: email: 'x' is no e-mail address"),
        (("contact", "set", "ana", "timezone=Prague"), 2, "did you mean Europe/Prague?"),
    ],
)
def test_single_facts_that_cannot_be(shop, arguments, code, words):
    answer = shop(*arguments)
    assert answer.code == code
    assert words in answer.err
    assert not (shop.folder / "camp.db").exists()


def test_set_says_that_a_contact_is_new(shop):
    assert shop("contact", "set", "dan", "first_name=Dan", "--dry-run").err == "dan would be new\n"
    assert shop("contact", "set", "dan", "first_name=Dan").err == "dan is new; it acts with the next turn of `camp run`\n"
    assert shop("contact", "set", "dan", "first_name=Daniel").err == "dan is changed; it acts with the next turn of `camp run`\n"
    shop("run", "--once")
    assert shop("contact", "set", "dan", "first_name=Dan", "--dry-run").err == "dan would be changed\n"


def test_single_facts_dry_run(shop):
    assert "would be recorded" in shop("event", "send", "order.placed", "--contact", "ana", "--dry-run").err
    assert "would be new" in shop("contact", "set", "ana", "email=a@example.com", "--dry-run").err
    assert not (shop.folder / "camp.db").exists()


# ── run ──


def test_run_until_plays_what_was_imported(shop):
    shop("contact", "import", "samples/contacts.jsonl")
    shop("event", "import", "samples/events.jsonl")
    answer = shop("run", "--until", "2026-04-01")
    assert answer.code == 0
    assert answer.out.splitlines()[0].split() == ["campaign", "or", "rule", "enter", "skip", "wait", "goal", "complete", "to", "send"]
    assert answer.out.splitlines()[1].split() == ["welcome", "2", "1", "2", "2", "2", "3"]
    assert "handed over: 3 accepted" in answer.out
    assert len(list((shop.folder / "outbox").glob("*.eml"))) == 3


def test_run_again_does_nothing_twice(ran):
    answer = ran("run", "--until", "2026-04-01")
    assert answer.code == 0
    assert answer.out == "0 events and 0 due moments done, up to 2026-03-31T22:00:00Z\n"
    assert len(list((ran.folder / "outbox").glob("*.eml"))) == 3


def test_run_tells_the_same_as_simulate(ran):
    played = [
        json.loads(line)
        for line in ran(
            "simulate",
            "--contacts",
            "samples/contacts.jsonl",
            "--events",
            "samples/events.jsonl",
            "--until",
            "2026-04-01",
            "--json",
        ).out.splitlines()
    ]
    for contact in ("ana", "bo", "chen"):
        kept = [{key: item[key] for key in played[0]} for item in lines(ran("why", contact, "--json"))]
        assert kept == [item for item in played if item["contact"] == contact]


def test_run_once_as_json(shop):
    shop("contact", "set", "dan", "email=dan@example.com", "consent.email=yes")
    found = json.loads(shop("run", "--once", "--json").out)
    assert found["events"] == 1
    assert found["effects"] == {"accepted": 1}
    assert {"name": "welcome", "kind": "action", "action": "email.send", "outcome": "sent", "count": 1} in found["decisions"]


def test_run_says_how_many_still_wait_and_why(shop):
    toml = shop.folder / "camp.toml"
    toml.write_text(toml.read_text().replace('transport = "folder"', 'transport = "smtp"\nhost = "127.0.0.1"\nport = 1\ntls = "none"'))
    assert "smtp" in toml.read_text()
    people = [{"id": f"c{number}", "email": f"c{number}@example.com", "consent.email": True} for number in range(20)]
    (shop.folder / "c.jsonl").write_text("".join(json.dumps(person) + "\n" for person in people))
    shop("contact", "import", "c.jsonl")
    answer = shop("run", "--once")
    assert re.search(r"^20 messages and calls still wait: email keeps failing and is left alone until \S+Z \(camp outbox list\)$", answer.out, re.MULTILINE)
    assert "messages are in" not in answer.out and not (shop.folder / "outbox").exists()
    assert json.loads(shop("run", "--once", "--json").out)["waiting"] == 20
    shop("pause", "--all", "--reason", "a look")
    assert "20 messages and calls still wait: everything is paused (camp" in shop("run", "--once").out
    assert "20 messages and calls still wait: --no-dispatch was given; everything is paused (camp" in shop("run", "--once", "--no-dispatch").out


def test_run_names_the_folder_only_if_mail_was_written_there(shop):
    toml = shop.folder / "camp.toml"
    toml.write_text(toml.read_text() + '[sms]\nfolder = "texts"\n')
    (shop.folder / "campaigns" / "text.camp").write_text('RULE text\n  WHEN order.placed\n    THEN sms.send "thanks"\nEND\n')
    (shop.folder / "templates" / "thanks.txt").write_text("Thank you.\n")
    shop("contact", "set", "dan", "phone=+420123456789", "consent.sms=yes")
    shop("event", "send", "order.placed", "--contact", "dan")
    answer = shop("run", "--once")
    assert "handed over: 1 accepted" in answer.out and "messages are in" not in answer.out
    shop("contact", "set", "dan", "email=dan@example.com", "consent.email=yes")
    assert f"messages are in {shop.folder / 'outbox'}" in shop("run", "--once").out


def test_run_dry_run_tells_and_keeps_nothing(shop):
    shop("contact", "import", "samples/contacts.jsonl")
    answer = shop("run", "--dry-run", "--until", "2026-04-01")
    assert answer.code == 0
    assert "a dry run: nothing was kept; 4 messages and calls would be handed over" in answer.err
    assert not (shop.folder / "outbox").exists()
    assert "events    3, of which 3 are not processed yet" in shop("status").out


def test_run_refuses_campaigns_with_errors(shop):
    file = shop.folder / "campaigns" / "welcome.camp"
    file.write_text(file.read_text().replace("email.send", "emial.send"))
    answer = shop("run", "--once")
    assert answer.code == 1
    assert "emial" in answer.err
    assert not (shop.folder / "camp.db").exists()


def _service(shop, *arguments: str) -> subprocess.Popen:
    service = subprocess.Popen(
        [sys.executable, "-m", "rules_engine", "run", *arguments],
        cwd=shop.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert service.stderr is not None
    assert "running 1 campaign and rule" in service.stderr.readline()
    return service


def test_the_service_ends_on_sigterm_and_a_second_one_is_refused(shop):
    service = _service(shop)
    try:
        for _ in range(100):  # until it holds the lock
            answer = shop.process("run", "--once")
            if answer.code:
                break
        assert answer.code == 4
        assert "another `camp run`" in answer.err
        assert str(service.pid) in answer.err
        assert shop("event", "import", "samples/events.jsonl").code == 0  # importing works meanwhile
        assert "service   runs" in shop("status").out
    finally:
        service.send_signal(signal.SIGTERM)
        out, err = service.communicate(timeout=30)
    assert service.returncode == 0, err
    assert "does not run" in shop("status").out


# ── look ──


def test_status(ran):
    answer = ran("status")
    assert answer.code == 0
    assert "contacts  3, of whom 0 wait for something\n" in answer.out
    assert "outbox    3 accepted\n" in answer.out
    found = json.loads(ran("status", "--json").out)
    assert (found["contacts"], found["effects"], found["running"]) == (3, {"accepted": 3}, False)


def test_why_shows_rule_place_and_facts(ran):
    answer = ran("why", "ana")
    assert answer.code == 0
    assert "Mon 2026-03-02 09:00 CET  campaign welcome: entered\n" in answer.out
    assert "    read DID order.placed SINCE START = no\n" in answer.out
    number = next(
        number
        for number, line in enumerate((ran.folder / "campaigns" / "welcome.camp").read_text().splitlines(), 1)
        if 'THEN email.send "first_order"' in line
    )
    assert f"written in campaigns/welcome.camp, line {number}\n" in answer.out
    assert "    outbox: accepted, written to " in answer.out
    record = lines(ran("why", "ana", "--json"))[3]
    assert record["effect"]["state"] == "accepted"
    assert (record["file"], record["line"], record["because"]) == (
        "campaigns/welcome.camp",
        number,
        {"DID order.placed SINCE START": False},
    )


def test_why_not(ran):
    answer = ran("why", "bo", "--not", "first_order")
    assert answer.code == 0
    assert "because NOT DID order.placed SINCE START is false" in answer.out
    assert "so `first_order`, which stands behind it, did not happen\n" in answer.out
    assert (
        "welcome has not started for chen: it starts when contact ENTERS newsletter\n"
        in ran("why", "chen", "--not", "first_order").out
    )
    assert "so `first_order` did happen\n" in ran("why", "ana", "--not", "first_order").out
    assert ran("why", "ana", "--not", "welcom").out == (
        "no campaign or rule of this project is called `welcom` or has a step, action or message of that name; did you mean `welcome`?\n"
    )
    assert "did you mean" not in ran("why", "ana", "--not", "sms_offer").out


CARTS = """EVENT cart.updated WITH cart_id: text, total: number
ATTRIBUTE plan: text
ATTRIBUTE since: datetime

SEGMENT paying
  IS contact.plan = "paid" AND contact.since < 2026-03-02

CAMPAIGN carts
  AUDIENCE contact.plan IS SET
  FOR EACH event.cart_id
  WHEN cart.updated WHERE event.total > 20
    THEN email.send "cart"
END

CAMPAIGN thanks
  WHEN contact ENTERS paying OR email.opened "welcome"
    THEN email.send "thanks"
END
"""


@pytest.fixture
def carts(shop):
    (shop.folder / "campaigns" / "carts.camp").write_text(CARTS)
    for name in ("cart", "thanks"):
        (shop.folder / "templates" / f"{name}.txt").write_text("Subject: Hi\n\nHello.\n")
    assert shop("check").code == 0
    shop("contact", "set", "gil", "since=2026-03-05T09:00:00Z", "--at", "2026-03-02T08:00:00Z")
    for id, at in (("1", "2026-03-02T09:00:00Z"), ("2", "2026-03-02T10:00:00Z")):
        shop("event", "send", "cart.updated", "--contact", "gil", "cart_id=A", "totl=40", "--id", id, "--at", at)
    shop("run", "--until", "2026-03-03")
    return shop


IDLE = """cart.updated came 2 times, the latest at Mon 2026-03-02 11:00 CET, and set nothing off (event 2)
    cart.updated declares no field `totl`; did you mean `total`?
"""


def test_why_and_timeline_list_events_that_set_nothing_off(carts):
    assert carts("why", "gil").out == f"nothing has happened to gil\n{IDLE}"
    assert carts("timeline", "gil").out.startswith(f"nothing has happened yet\n{IDLE}")
    assert IDLE.splitlines()[0].replace(" 2 times, the latest", "").replace("11:00 CET,", "10:00 CET").replace("event 2", "event 1") in (
        carts("why", "gil", "--as-of", "2026-03-02 10:30").out
    )
    carts("contact", "set", "gil", "plan=free", "--at", "2026-03-04T08:00:00Z")
    carts("event", "send", "cart.updated", "--contact", "gil", "cart_id=A", "total=40", "--id", "3", "--at", "2026-03-04T09:00:00Z")
    carts("run", "--until", "2026-03-05")
    assert IDLE in carts("why", "gil").out, "what did set something off is not among them"


def test_events_whose_decisions_may_be_gone_are_not_said_to_have_set_nothing_off(carts):
    toml = carts.folder / "camp.toml"
    toml.write_text(toml.read_text() + '[retention]\njournal = "1 day"\n')
    assert carts("why", "gil").out == "nothing has happened to gil\n"
    assert "no cart.updated of gil is known" in carts("why", "gil", "--not", "carts").out


def test_why_not_names_the_event_that_came_and_the_condition_that_was_false(carts):
    start = """carts has not started for gil: it starts when cart.updated WHERE event.total > 20
    cart.updated came at Mon 2026-03-02 11:00 CET (and 1 time before), but WHERE event.total > 20 was not true: event.total is not set
      cart.updated declares no field `totl`; did you mean `total`?
    and only for contacts with contact.plan IS SET
      no   contact.plan IS SET (contact.plan is not set)
"""
    for name in ("cart", "carts"):
        assert carts("why", "gil", "--not", name).out == start
    assert start in carts("why", "gil", "--campaign", "carts").out


def test_why_not_shows_a_segments_condition_value_by_value(carts):
    carts("contact", "set", "gil", "plan=paid", "--at", "2026-03-03T08:00:00Z")
    carts("run", "--until", "2026-03-04")
    assert carts("why", "gil", "--not", "thanks").out == """thanks has not started for gil: it starts when contact ENTERS paying or email.opened "welcome"
    gil is not in paying now:
      yes  contact.plan = "paid" (contact.plan is paid)
      no   contact.since < 2026-03-02 (contact.since is Thu 2026-03-05 10:00 CET)
    no email.opened of gil is known
"""
    assert "in paying" not in carts("why", "gil", "--not", "thanks", "--as-of", "2026-03-02").out
    file = carts.folder / "campaigns" / "carts.camp"
    file.write_text(file.read_text().replace("2026-03-02", "2026-03-03"))
    assert carts("why", "gil", "--not", "thanks").out == """\
thanks has not started for gil: it starts when contact ENTERS paying or email.opened "welcome"
    no email.opened of gil is known
    the campaigns were changed since they ran: `camp run` works out what is so for this contact now
"""
    file.write_text("CAMPAIGN\n")
    assert "the campaigns have errors, so only what is in the journal can be told" in carts("why", "gil", "--not", "thanks").err


def test_why_not_of_a_campaign_that_did_start(ran):
    edited = ran.folder / "campaigns" / "welcome.camp"
    edited.write_text(edited.read_text().replace("welcome", "hello").replace('"hello"', '"welcome"'))
    for file in ran.folder.glob("camp.db*"):
        file.unlink()
    ran("contact", "import", "samples/contacts.jsonl")
    ran("run", "--until", "2026-04-01")
    assert ran("why", "ana", "--not", "hello").out.endswith("so `hello` did start\n")
    assert "hello has not started for chen: it starts when" in ran("why", "chen", "--not", "hello").out


def test_moments_are_told_in_the_workspaces_zone(shop):
    shop("contact", "set", "dan", "email=dan@example.com", "consent.email=yes", "--at", "2026-03-02T08:00:00Z")
    shop("run", "--until", "2026-03-03")
    for command in (("why", "dan"), ("timeline", "dan")):
        answer = shop(*command)
        assert "Mon 2026-03-02 09:00 CET" in answer.out and "UTC" not in answer.out


def test_why_as_of_a_moment(ran):
    assert len(lines(ran("why", "ana", "--json", "--as-of", "2026-03-02T12:00:00Z"))) == 3
    assert "nothing has happened to ana up to that moment" in ran("why", "ana", "--as-of", "2026-01-01").out


def test_why_of_one_campaign(ran):
    assert len(lines(ran("why", "ana", "--json", "--campaign", "welcome"))) == 6
    answer = ran("why", "ana", "--campaign", "welcom")
    assert answer.code == 2
    assert "did you mean `welcome`?" in answer.err


def test_why_before_anything_was_processed(shop):
    shop("contact", "import", "samples/contacts.jsonl")
    assert "1 event of ana is not processed yet: `camp run --once` does" in shop("why", "ana").out


@pytest.mark.parametrize("command", [("why",), ("timeline",), ("contact", "show")])
def test_an_unknown_contact(ran, command):
    answer = ran(*command, "anna")
    assert answer.code == 5
    assert answer.err == "error: there is no contact `anna`\n  help: did you mean `ana`?\n"


def test_timeline_shows_past_and_next(shop):
    shop("contact", "import", "samples/contacts.jsonl")
    shop("run", "--until", "2026-03-02T12:00:00Z")
    answer = shop("timeline", "ana")
    assert answer.code == 0
    past, _, coming = answer.out.partition("next, if nothing else happens:\n")
    assert 'Mon 2026-03-02 09:00 CET  welcome  sent email.send "welcome"' in past
    assert coming.startswith('Thu 2026-03-05 10:00 CET  welcome  sent email.send "first_order"')
    records = lines(shop("timeline", "ana", "--json"))
    assert [item["scheduled"] for item in records] == [False, False, False, True, True]
    assert "it is due at Thu 2026-03-05 10:00 CET, if nothing else happens" in shop("why", "ana", "--not", "first_order").out


def test_contacts(ran):
    assert [item["id"] for item in lines(ran("contact", "list", "--json"))] == ["ana", "bo", "chen"]
    record = json.loads(ran("contact", "show", "ana", "--json").out)
    assert record == {
        "id": "ana",
        "consent.email": True,
        "created_at": "2026-03-02T08:00:00Z",
        "email": "ana@example.com",
        "first_name": "Ana",
        "timezone": "Europe/Berlin",
        "segments": ["newsletter"],
        "next_due": None,
    }
    assert "1 of 3 contacts" in ran("contact", "list", "--limit", "1").err


def test_segments(ran):
    assert lines(ran("segment", "list", "--json")) == [
        {
            "segment": "newsletter",
            "label": "Wants our letters",
            "members": 2,
            "condition": "contact.consent.email = yes AND contact.email IS SET",
            "declared": True,
        }
    ]
    assert [item["contact"] for item in lines(ran("segment", "members", "newsletter", "--json"))] == ["ana", "bo"]
    answer = ran("segment", "members", "newsleter")
    assert answer.code == 2
    assert "did you mean `newsletter`?" in answer.err


def test_no_database_yet(shop):
    for command in (("status",), ("why", "ana"), ("outbox", "list"), ("contact", "list"), ("db", "status"), ("db", "check")):
        answer = shop(*command)
        assert answer.code == 5, command
        assert f"there is no database {shop.folder / 'camp.db'} yet" in answer.err
        assert "`camp contact import`" in answer.err


def test_no_project_at_all(empty):
    answer = empty("status")
    assert answer.code == 5
    assert "there is no camp.toml in" in answer.err


# ── outbox ──


@pytest.fixture
def held(shop):
    """One effect that is ready but was not handed over."""
    shop("contact", "set", "dan", "email=dan@example.com", "consent.email=yes")
    assert shop("run", "--once", "--no-dispatch").code == 0
    return shop


def test_outbox_list_and_show(held):
    record = lines(held("outbox", "list", "--json"))[0]
    assert (record["state"], record["contact"], record["action"], record["primary"]) == ("ready", "dan", "email.send", "welcome")
    answer = held("outbox", "show", str(record["seq"]))
    assert answer.code == 0
    assert "ready: leaves with the next run" in answer.out
    assert f"  id:            {record['handle']}\n" in answer.out
    assert held("outbox", "show", record["handle"]).out == answer.out
    assert json.loads(held("outbox", "show", record["id"], "--json").out)["attempts"] == []


def test_outbox_cancel_asks_first(held):
    number = str(lines(held("outbox", "list", "--json"))[0]["seq"])
    answer = held("outbox", "cancel", number)
    assert answer.code == 4
    assert "add --yes" in answer.err
    assert "would never leave" in held("outbox", "cancel", number, "--dry-run").err
    assert lines(held("outbox", "list", "--json"))[0]["state"] == "ready"
    assert held("outbox", "cancel", number, "--yes").code == 0
    assert lines(held("outbox", "list", "--json"))[0]["state"] == "cancelled"
    again = held("outbox", "cancel", number, "--yes")
    assert again.code == 4
    assert "is cancelled and can't become cancelled" in again.err
    assert held("outbox", "retry", number, "--yes").code == 0
    assert held("run", "--once").code == 0
    assert lines(held("outbox", "list", "--json"))[0]["state"] == "accepted"


def test_outbox_unknown_effect(held):
    answer = held("outbox", "show", "999")
    assert answer.code == 5
    assert "there is no effect `999`" in answer.err


def test_a_killed_hand_over_is_shown_as_unknown_and_can_be_resolved(held):
    connection = sqlite3.connect(held.folder / "camp.db")
    connection.execute("UPDATE effect SET state = 'unknown'")
    connection.commit()
    connection.close()
    assert "1 effect unknown: it can't be known whether they left" in held("status").out
    listed = held("outbox", "list")
    assert "camp outbox resolve NUMBER accepted|failed|ready" in listed.err
    number = str(lines(held("outbox", "list", "--json"))[0]["seq"])
    assert held("outbox", "resolve", number, "accepted", "--reason", "seen in the log", "--yes").code == 0
    assert "seen in the log" in held("outbox", "show", number).out


@pytest.fixture
def doubtful(shop):
    """Four effects that are unknown, handed over an hour apart; the last two are somebody else's."""
    for name in ("dan", "eli", "fay", "gus"):
        shop("contact", "set", name, f"email={name}@example.com", "consent.email=yes")
    assert shop("run", "--once", "--no-dispatch").code == 0
    with contextlib.closing(sqlite3.connect(shop.folder / "camp.db")) as connection, connection:
        connection.execute("UPDATE effect SET state = 'unknown', claimed_at = 1767225600000 + seq * 3600000")  # 2026-01-01T00:00Z and on
        connection.execute("UPDATE effect SET ruleset = 'other', action = 'sms.send' WHERE seq > 2")
    return shop


def test_many_effects_are_resolved_by_one_command(doubtful):
    records = {record["seq"]: record for record in lines(doubtful("outbox", "list", "--json"))}
    assert set(records) == {1, 2, 3, 4}
    assert records[1]["address"] == f"{records[1]['contact']}@example.com" and records[1]["handle"].startswith("msg_")
    shown = doubtful("outbox", "show", "1").out
    assert f"address:       {records[1]['address']}" in shown and records[1]["handle"] in shown

    asked = doubtful("outbox", "resolve", "1", "2", "3", "accepted")
    assert asked.code == 4 and "3 effects (3 unknown) will count as having left" in asked.err, asked
    tried = doubtful("outbox", "resolve", "--state", "unknown", "ready", "--dry-run")
    assert tried.code == 0 and "4 effects (4 unknown) would be handed over again; what did leave the first time comes twice" in tried.err
    for options, fit in (
        (("--campaign", "other"), 2),
        (("--action", "email.send"), 2),
        (("--since", "2026-01-01T02:00:00Z"), 3),
        (("--until", "2026-01-01T02:00:00Z"), 1),
        (("--campaign", "other", "--since", "2026-01-01T04:00:00Z"), 1),
    ):
        assert f"{fit} effect" in doubtful("outbox", "resolve", "--state", "unknown", *options, "failed", "--dry-run").err, options

    # The ids as an operator cuts them from the provider's log: a number, an id, a Message-ID, one twice, one of somebody else.
    log = doubtful.folder / "ids.txt"
    log.write_text(f"1\n\n{records[2]['id']}\n<{records[3]['handle']}@example.com>\n{records[3]['handle']}\nmsg_nobody\n")
    done = doubtful("outbox", "resolve", "--file", "ids.txt", "accepted", "--reason", "in the log", "--yes")
    assert done.code == 6 and "there is no effect `msg_nobody`" in done.err and "3 effects are now accepted; 1 can't be" in done.err, done
    assert "in the log" in doubtful("outbox", "show", "3").out
    log.write_text("1\n4\n")
    again = doubtful("outbox", "resolve", "--file", "ids.txt", "accepted", "--yes")
    assert again.code == 0 and "1 effect is now accepted; 1 is accepted already" in again.err, again
    nothing = doubtful("outbox", "resolve", "--state", "unknown", "accepted", "--yes")
    assert nothing.code == 4 and "no effect is to become accepted" in nothing.err
    assert doubtful("audit").out.count("outbox accepted") == 4


@pytest.mark.parametrize("wrong", [(), ("1", "--state", "unknown"), ("1", "2", "--campaign", "other"), ("--state", "held", "--file", "camp.toml")])
def test_what_is_to_be_resolved_is_said_in_one_way(doubtful, wrong):
    assert doubtful("outbox", "resolve", *wrong, "accepted", "--yes").code == 2
    assert {record["state"] for record in lines(doubtful("outbox", "list", "--json"))} == {"unknown"}


# ── database ──


def test_database_commands(ran):
    found = json.loads(ran("db", "status", "--json").out)
    assert (found["contacts"], found["decisions"], found["events"]["done"], found["effects"]) == (3, 12, 6, {"accepted": 3})
    assert found["source"] == str(ran.folder / "camp.toml")
    assert "the database is whole" in ran("db", "check").err
    assert ran("db", "migrate").code == 0


def test_the_database_can_be_named(shop):
    shop("contact", "import", "samples/contacts.jsonl", "--db", "other.db")
    assert (shop.folder / "other.db").exists()
    assert "events    3" in shop("status", env={"CAMP_DATABASE": "other.db"}).out
    answer = shop("status", "--db", "nowhere/x.db")
    assert answer.code == 5


def test_a_read_only_folder(shop):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    shop.folder.chmod(0o500)
    answer = shop("contact", "import", "samples/contacts.jsonl")
    shop.folder.chmod(0o700)
    assert answer.code == 5


# ── plugins ──


def test_plugins(empty):
    records = lines(empty("plugin", "list", "--json"))
    assert {"email.send"} <= {action for record in records for action in record["actions"]}
    shown = empty("plugin", "show", "email.send")
    assert "action email.send" in shown.out
    assert "(template)" in shown.out
    answer = empty("plugin", "show", "emial")
    assert answer.code == 2
    assert "did you mean `email`?" in answer.err


# ── hostile data and terminals ──


def test_hostile_contact_data_never_reaches_the_terminal_as_it_is(shop):
    (shop.folder / "c.jsonl").write_text(
        json.dumps(
            {"id": "x\u2028y", "email": "a\u001b[31m@example.com", "first_name": "\u001b]0;owned\u0007", "consent.email": True}
        )
        + "\n"
    )
    shop("contact", "import", "c.jsonl")
    shop("run", "--until", "2030-01-01")
    for command in (
        ("contact", "list"),
        ("contact", "show", "x\u2028y"),
        ("timeline", "x\u2028y"),
        ("why", "x\u2028y"),
        ("outbox", "list"),
        ("status",),
    ):
        answer = shop(*command)
        assert "\x1b" not in answer.out and "\x07" not in answer.out and "\u2028" not in answer.out, command


def _on_a_terminal(shop, *arguments: str, env: dict[str, str] | None = None) -> str:
    """What a command writes when both its outputs are a terminal."""
    parent, child = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "rules_engine", *arguments],
        cwd=shop.folder,
        stdin=child,
        stdout=child,
        stderr=child,
        env={**os.environ, "TERM": "xterm", **(env or {})},
    )
    os.close(child)
    written = b""
    while True:
        try:
            piece = os.read(parent, 65_536)
        except OSError:  # the terminal's other end is closed
            break
        if not piece:
            break
        written += piece
    process.wait(timeout=60)
    os.close(parent)
    return written.decode()


def test_colour_on_a_terminal_and_not_with_no_color(shop):
    assert "\x1b[3" in _on_a_terminal(shop, "test")
    assert "\x1b" not in _on_a_terminal(shop, "test", env={"NO_COLOR": "1"})


def test_many_failures_of_one_cause_are_told_three_times(shop):
    (shop.folder / "templates" / "welcome.txt").write_text("Subject: {{ '' }}\n\nHello.\n")
    (shop.folder / "c.jsonl").write_text(
        "".join(
            json.dumps(
                {
                    "id": f"c{number}",
                    "email": f"c{number}@example.com",
                    "consent.email": True,
                    "created_at": "2026-03-02T08:00:00Z",
                }
            )
            + "\n"
            for number in range(20)
        )
    )
    shop("contact", "import", "c.jsonl")
    answer = shop("run", "--until", "2026-03-03")
    assert answer.code == 6
    assert answer.err.count("has no subject") == 4
    named = re.search(r"WARNING camp.dispatch: effect (msg_\w+) \(email.send to c\d+\) is failed", answer.err)[1]
    assert "failed: did not leave" in shop("outbox", "show", named).out
    assert "and more of the same: template 'welcome' has no subject" in answer.err
    assert "20 effects failed; `camp outbox list --state failed` shows them" in answer.err


def test_outside_any_project_nothing_is_made(tmp_path, camp_in):
    """Who forgot to go to the project's folder gets no stray database that nobody reads."""
    camp = camp_in(tmp_path)
    (tmp_path / "c.jsonl").write_text('{"id": "a", "email": "a@x.com"}\n')
    answer = camp("contact", "import", "c.jsonl")
    assert answer.code == 5 and "there is no project here" in answer.err and "camp init" in answer.err
    assert not list(tmp_path.glob("*.db"))
    assert camp("contact", "import", "c.jsonl", "--db", "x.db").code == 0
