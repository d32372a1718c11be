"""check, fmt, rule, test and simulate: what people use while they write."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import pytest

WELCOME = "campaigns/welcome.camp"
SAMPLES = ("--contacts", "samples/contacts.jsonl", "--events", "samples/events.jsonl", "--until", "2026-04-01")


def edit(camp, before: str, after: str, file: str = WELCOME) -> None:
    path = camp.folder / file
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


# ── check ──


def test_check_of_the_first_project_is_clean(shop):
    answer = shop("check")
    assert (answer.code, answer.out) == (0, "")
    assert answer.err == "1 file checked: no problem\n"


def test_check_reports_an_error_with_its_place(shop):
    edit(shop, "WHEN contact ENTERS newsletter", "WHEN contact ENTERS newsleter")
    answer = shop("check")
    assert answer.code == 1
    assert "newsleter" in answer.out
    assert "welcome.camp" in answer.out
    assert "`newsletter`" in answer.out
    assert "1 error" in answer.err


@pytest.mark.parametrize("form", ["human", "short", "json", "github", "sarif"])
def test_check_has_five_formats(shop, form):
    edit(shop, 'email.send "welcome"', 'emial.send "welcome"')
    answer = shop("check", "--format", form)
    assert answer.code == 1
    assert "emial" in answer.out
    if form in ("json", "sarif"):
        for line in answer.out.splitlines() if form == "json" and not answer.out.startswith("[") else [answer.out]:
            json.loads(line)


def test_check_takes_the_format_from_the_environment_and_refuses_an_unknown_one(shop):
    answer = shop("check", env={"CAMP_FORMAT": "xml"})
    assert answer.code == 2
    assert "CAMP_FORMAT: there is no format `xml`" in answer.err


def test_check_of_a_missing_file(shop):
    answer = shop("check", "nothing.camp")
    assert answer.code == 2
    assert "nothing.camp: there is no such file or folder" in answer.err


@pytest.mark.parametrize("command", [("check",), ("test",), ("fmt", "--check"), ("run", "--once"), ("simulate", "--until", "2026-04-01", "--events", "e.jsonl")])
def test_outside_any_project_nothing_below_is_read(empty, command):
    (empty.folder / "others").mkdir()
    (empty.folder / "others" / "broken.camp").write_text("CAMPAIGN\n")
    (empty.folder / "e.jsonl").write_text("{}\n")
    answer = empty(*command)
    assert answer.code == 5 and answer.out == ""
    assert answer.err.startswith(f"error: there is no project here: {empty.folder} has no camp.toml")
    assert "camp init" in answer.err and "name a .camp file" in answer.err
    assert empty("check", ".").code == 1, "what is named is read"


def test_doctor_outside_any_project_reads_nothing_below(empty):
    (empty.folder / "others").mkdir()
    (empty.folder / "others" / "broken.camp").write_text("CAMPAIGN\n")
    answer = empty("doctor")
    assert answer.code == 1 and "there is no camp.toml in" in answer.out and "campaigns:" not in answer.out


def test_files_of_this_very_folder_need_no_project(empty):
    (empty.folder / "first.camp").write_text('TEST "nothing happens"\n  GIVEN contact ana\n  AT 2026-03-02 10:00\n    EXPECT NOTHING ELSE\nEND\n')
    answer = empty("check")
    assert answer.code == 0 and "1 file checked" in answer.err
    assert empty("test").code == 0


def test_check_strict_counts_warnings(shop):
    edit(shop, "SEGMENT newsletter", "CONST never_used = 3 days\n\nSEGMENT newsletter")
    plain, strict = shop("check"), shop("check", "--strict")
    if "warning" in plain.err:
        assert (plain.code, strict.code) == (0, 1)


# ── fmt ──


def test_fmt_of_the_first_project_changes_nothing(shop):
    answer = shop("fmt", "--check")
    assert (answer.code, answer.out) == (0, "")


def test_fmt_restores_the_canonical_form(shop):
    before = (shop.folder / WELCOME).read_text()
    edit(shop, "  REENTRY NEVER", "reentry    never")
    check = shop("fmt", "--check")
    assert (check.code, check.out) == (1, WELCOME + "\n")
    diff = shop("fmt", "--diff")
    assert diff.code == 1
    assert "-reentry    never\n+  REENTRY NEVER\n" in diff.out
    assert (shop.folder / WELCOME).read_text() != before
    answer = shop("fmt")
    assert answer.code == 0
    assert (shop.folder / WELCOME).read_text() == before


def test_fmt_leaves_a_broken_file_alone(shop):
    edit(shop, "CAMPAIGN welcome", "CAMPAIN welcome")
    before = (shop.folder / WELCOME).read_text()
    answer = shop("fmt")
    assert answer.code == 1
    assert "1 with errors left as they are" in answer.err
    assert (shop.folder / WELCOME).read_text() == before


def test_fmt_reads_stdin(shop):
    answer = shop("fmt", "-", stdin="segment vip   is contact.points>=3\n")
    assert (answer.code, answer.out) == (0, "SEGMENT vip IS contact.points >= 3\n")


def test_fmt_where_there_is_nothing(empty):
    answer = empty("fmt", ".")
    assert answer.code == 2
    assert "there is no .camp file" in answer.err


# ── rule ──


def test_rule_lists_and_shows_pages(empty):
    listed = [json.loads(line) for line in empty("rule", "--json").out.splitlines()]
    assert listed
    name = listed[0]["rule"]
    page = empty("rule", name)
    assert page.code == 0
    assert name in page.out


def test_rule_suggests(empty):
    answer = empty("rule", "unknown-evnt")
    assert answer.code == 2
    assert "did you mean `unknown-event`?" in answer.err


# ── test ──


def test_the_first_projects_tests_pass(shop):
    answer = shop("test")
    assert answer.code == 0
    assert answer.out == (
        "campaigns/welcome.camp\n"
        "  ok     a newcomer is welcomed, and reminded after three days\n"
        "  ok     a buyer is not reminded\n"
        "  ok     who leaves the newsletter hears no more\n"
        "\n3 tests passed\n"
    )


def test_a_failing_test_shows_expected_and_actual(shop):
    edit(shop, "AT 2026-03-06 10:00", "AT 2026-03-05 10:00")
    answer = shop("test")
    assert answer.code == 1
    assert "  FAILED a newcomer is welcomed, and reminded after three days\n" in answer.out
    assert "--> campaigns/welcome.camp:" in answer.out
    assert '    EXPECT ana GETS email.send "first_order", code: "HELLO10" AT 2026-03-05 10:00\n' in answer.out
    assert "^^^" in answer.out
    assert 'expected: ana should have got email.send "first_order", code: "HELLO10" at Thu 2026-03-05 10:00 CET\n' in answer.out
    assert "but: it came at Fri 2026-03-06 10:00 CET\n" in answer.out
    assert 'Fri 2026-03-06 10:00 CET  welcome  sent email.send "first_order" (' in answer.out
    assert answer.out.endswith("2 tests passed, 1 failed\n")


def test_tests_can_be_chosen(shop):
    assert "1 test passed" in shop("test", "-k", "buyer").out
    answer = shop("test", "-k", "nobody")
    assert answer.code == 2
    assert "no test has `nobody` in its name" in answer.err


def test_test_of_one_file_runs_only_its_tests(shop):
    (shop.folder / "campaigns" / "more.camp").write_text(
        'TEST "more"\n  GIVEN contact ana\n  AT 2026-03-02 10:00\n    EXPECT NOTHING\nEND\n'
    )
    assert "4 tests passed" in shop("test").out
    assert "1 test passed" in shop("test", "campaigns/more.camp").out


def test_test_as_json(shop):
    edit(shop, "EXPECT ana REACHES GOAL OF welcome", 'EXPECT ana NOT GETS email.send "first_order"')
    records = [json.loads(line) for line in shop("test", "--json").out.splitlines()]
    assert [record["passed"] for record in records] == [True, True, True]
    assert set(records[0]) == {"test", "path", "line", "passed", "failures"}


def test_junit(shop):
    edit(shop, "AT 2026-03-06 10:00", "AT 2026-03-05 10:00")
    assert shop("test", "--junit", "out/results.xml").code == 1
    root = ElementTree.parse(shop.folder / "out" / "results.xml").getroot()
    assert (root.tag, root.get("tests"), root.get("failures")) == ("testsuites", "3", "1")
    failure = root.find(".//failure")
    assert failure is not None and "should have got" in failure.get("message", "")


def test_coverage(shop):
    answer = shop("test", "--cov", "--fail-under", "100")
    assert answer.code == 0
    assert "100.0 % of all steps are reached by a test" in answer.out
    partly = shop("test", "-k", "leaves", "--cov", "--fail-under", "90")
    assert partly.code == 1
    assert 'email.send "first_order"' in partly.out
    assert "is below --fail-under 90" in partly.err


def test_errors_stop_tests_with_a_report(shop):
    edit(shop, 'email.send "welcome"', 'emial.send "welcome"')
    answer = shop("test")
    assert answer.code == 1
    assert "emial" in answer.err
    assert "the campaigns have" in answer.err
    assert answer.out == ""


# ── simulate ──

GOLDEN = [
    ("2026-03-02T08:00:00Z", "ana", "enter", None, None, None),
    ("2026-03-02T08:00:00Z", "ana", "action", "email.send", "welcome", "sent"),
    ("2026-03-02T08:00:00Z", "ana", "wait", None, None, None),
    ("2026-03-02T18:30:00Z", "bo", "enter", None, None, None),
    ("2026-03-02T18:30:00Z", "bo", "action", "email.send", "welcome", "sent"),
    ("2026-03-02T18:30:00Z", "bo", "wait", None, None, None),
    ("2026-03-03T09:15:00Z", "bo", "goal", None, None, None),
    ("2026-03-05T09:00:00Z", "ana", "action", "email.send", "first_order", "sent"),
    ("2026-03-05T09:00:00Z", "ana", "complete", None, None, None),
    ("2026-03-06T10:00:00Z", "bo", "skip", None, None, None),
    ("2026-03-06T10:00:00Z", "bo", "complete", None, None, None),
    ("2026-03-09T19:40:00Z", "ana", "goal", None, None, None),
]


def test_simulate_as_json_is_the_contract(shop):
    answer = shop("simulate", *SAMPLES, "--json")
    assert (answer.code, answer.err) == (0, "")
    records = [json.loads(line) for line in answer.out.splitlines()]
    assert [
        (item["at"], item["contact"], item["kind"], item["action"], item["primary"], item["outcome"]) for item in records
    ] == GOLDEN
    assert list(records[0]) == [
        "at",
        "contact",
        "campaign",
        "key",
        "step",
        "kind",
        "action",
        "primary",
        "params",
        "outcome",
        "reason",
    ]
    assert records[7]["params"] == {"code": "HELLO10"}


def test_simulate_is_the_same_each_time_in_any_process(shop):
    one = shop.process("simulate", *SAMPLES, "--json", env={"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo"})
    two = shop.process("simulate", *SAMPLES, "--json", env={"PYTHONHASHSEED": "2", "TZ": "America/New_York"})
    assert one.code == two.code == 0
    assert one.out == two.out != ""


def test_simulate_for_people(shop):
    answer = shop("simulate", *SAMPLES)
    assert answer.out.splitlines()[0] == "Mon 2026-03-02 09:00 CET  ana  welcome  entered (WHEN contact ENTERS newsletter)"


def test_simulate_until_is_included_and_local(shop):
    # 10:00 in ana's Berlin is 10:00 in the workspace's Prague.
    arguments = (*SAMPLES[:4], "--json", "--until")
    assert len(shop("simulate", *arguments, "2026-03-05 10:00").out.splitlines()) == 9
    assert len(shop("simulate", *arguments, "2026-03-05 09:59").out.splitlines()) == 7
    assert len(shop("simulate", *arguments, "2026-03-05T09:00:00Z").out.splitlines()) == 9


def test_simulate_from_tells_the_same_story_later(shop):
    whole = shop("simulate", *SAMPLES, "--json").out.splitlines()
    later = shop("simulate", *SAMPLES, "--json", "--from", "2026-03-03").out.splitlines()
    assert later == whole[6:]


def test_simulate_summary(shop):
    answer = shop("simulate", *SAMPLES, "--summary")
    assert answer.code == 0
    assert "campaign welcome          2       3     1     2     2         2\n" in answer.out
    assert "2 contacts had something happen to them\n" in answer.out
    found = json.loads(shop("simulate", *SAMPLES, "--summary", "--json").out)
    assert {"type": "campaign", "name": "welcome", "kind": "action", "count": 3} in found["campaigns"]
    assert {"day": "2026-03-02", "type": "campaign", "name": "welcome", "kind": "enter", "count": 2} in found["days"]
    assert found["steps"][-1] == {
        "type": "campaign",
        "name": "welcome",
        "step": 'email.send "welcome"',
        "action": "email.send",
        "primary": "welcome",
        "kind": "action",
        "outcome": "sent",
        "count": 2,
    }


def test_simulate_goes_on_after_bad_lines(shop):
    with open(shop.folder / "samples" / "events.jsonl", "a") as file:
        file.write('{"id": "e9", "event": "order.plced", "contact": "bo", "at": "2026-03-04T00:00:00Z"}\nnonsense\n')
        file.write('{"id": "e1", "event": "order.placed", "contact": "bo", "at": "2026-03-03T09:15:00Z"}\n')
    answer = shop("simulate", *SAMPLES, "--json")
    assert answer.code == 6
    assert len(answer.out.splitlines()) == len(GOLDEN)
    assert 'samples/events.jsonl, line 4: no event is called "order.plced"; did you mean order.placed?' in answer.err
    assert "samples/events.jsonl, line 5: " in answer.err
    assert "1 event came again with the same id and acted once" in answer.err


def test_simulate_takes_csv(shop):
    (shop.folder / "c.csv").write_text(
        "id,email,consent.email,created_at,timezone\nana,ana@example.com,yes,2026-03-02T08:00:00Z,Europe/Berlin\n"
    )
    (shop.folder / "e.csv").write_text(
        "id,event,contact,at,subject,order_id,total\ne1,order.placed,ana,2026-03-03T08:00:00Z,,A,12.5\n"
    )
    answer = shop("simulate", "--contacts", "c.csv", "--events", "e.csv", "--until", "2026-04-01", "--json")
    assert answer.code == 0
    assert [json.loads(line)["kind"] for line in answer.out.splitlines()] == [
        "enter",
        "action",
        "wait",
        "goal",
        "skip",
        "complete",
    ]


def test_contacts_without_created_at_are_there_from_the_first_fact(shop):
    (shop.folder / "c.jsonl").write_text('{"id": "ana", "email": "ana@example.com", "consent": {"email": true}}\n')
    answer = shop("simulate", "--contacts", "c.jsonl", "--events", "samples/events.jsonl", "--until", "2026-03-03", "--json")
    assert json.loads(answer.out.splitlines()[0])["at"] == "2026-03-02T17:05:00Z"
    answer = shop(
        "simulate",
        "--contacts",
        "c.jsonl",
        "--events",
        "samples/events.jsonl",
        "--from",
        "2026-03-01T00:00:00Z",
        "--until",
        "2026-03-03",
        "--json",
    )
    assert json.loads(answer.out.splitlines()[0])["at"] == "2026-03-01T00:00:00Z"


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("missing.jsonl", None, "missing.jsonl: there is no such file"),
        ("empty.jsonl", "", "empty.jsonl: the file is empty"),
        ("blank.csv", "\n\n", "blank.csv: the file is empty"),
        ("latin.jsonl", b'{"id": "\xe4"}\n', "latin.jsonl: the file is not in UTF-8"),
        ("wrong.csv", "identity,email\n1,a@example.com\n", "wrong.csv, line 1: there is no column `id`"),
        ("twice.csv", "id,email,email\n1,a,b\n", "twice.csv, line 1: the column `email` is there twice"),
        ("semi.csv", "id;email\n1;a\n", "semi.csv, line 1: the columns are separated by semicolons"),
        ("sheet.txt", "id,email\n1,a\n", "sheet.txt, line 1: this is no JSON"),
    ],
)
def test_files_that_cannot_be_used_are_told_with_a_way_out(shop, name, content, words):
    if isinstance(content, bytes):
        (shop.folder / name).write_bytes(content)
    elif content is not None:
        (shop.folder / name).write_text(content)
    answer = shop("simulate", "--contacts", name, "--until", "2026-04-01")
    assert answer.code == 5
    assert words in answer.err
    assert "  help: " in answer.err
    assert answer.out == ""


@pytest.mark.parametrize(
    "until, words",
    [("yesterday", '--until: "yesterday" is no date and time'), ("2026-02-30", "--until: the calendar has no moment")],
)
def test_simulate_with_a_bad_moment(shop, until, words):
    answer = shop("simulate", "--contacts", "samples/contacts.jsonl", "--until", until)
    assert answer.code == 2
    assert words in answer.err


def test_simulate_with_a_bad_zone_in_a_contact(shop):
    (shop.folder / "c.jsonl").write_text('{"id": "ana", "timezone": "Europe/Pargue"}\n')
    answer = shop("simulate", "--contacts", "c.jsonl", "--until", "2026-04-01")
    assert answer.code == 6
    assert 'c.jsonl, line 1: there is no time zone "Europe/Pargue"; did you mean Europe/Prague?' in answer.err


def test_simulate_needs_something_to_play(shop):
    answer = shop("simulate", "--until", "2026-04-01")
    assert answer.code == 2
    assert "name --contacts FILE, --events FILE, or both" in answer.err
