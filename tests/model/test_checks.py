"""What the checks say: the right thing, once, at the right place; and nothing about what is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from rules_engine.diagnostics import Diagnostic, Source
from rules_engine.limits import MAX_DIAGNOSTICS_PER_FILE

SAMPLE = (Path(__file__).parent.parent / "golden" / "syntax" / "sample.camp").read_text(encoding="utf-8")
ORDER = "EVENT order.placed WITH order_id: text, total: number\n"


def rule(*steps: str, when: str = "contact.created") -> str:
    return f"RULE r\n  WHEN {when}\n" + "".join(f"    {step}\n" for step in steps) + "END\n"


def campaign(*steps: str, when: str = "contact.created", clauses: tuple[str, ...] = ()) -> str:
    return (
        "CAMPAIGN c\n"
        + "".join(f"  {clause}\n" for clause in clauses)
        + f"  WHEN {when}\n"
        + "".join(f"    {step}\n" for step in steps)
        + "END\n"
    )


def only(found: list[Diagnostic]) -> Diagnostic:
    assert len(found) == 1, [(item.name, item.message) for item in found]
    return found[0]


def test_the_sample_of_the_language_has_no_error(problems) -> None:
    found = problems(SAMPLE)
    assert {item.severity for item in found} == {"warning"}
    assert {item.name for item in found} == {"missing-template", "undeclared-segment"}


def test_missing_templates_are_errors_in_a_project(problems) -> None:
    assert [item.severity for item in problems(SAMPLE, project=True) if item.name == "missing-template"] == ["error"] * 5


# ── one cause, one message ──


def test_an_unknown_name_is_said_once_with_its_other_places(problems) -> None:
    item = only(problems('SEGMENT a IS contact.contry = "DE"\nSEGMENT b IS contact.contry = "AT" OR contact.contry = "CH"\n'))
    assert item.name == "unknown-attribute" and item.suggestion == "contact.country" and item.span.start == 13
    assert [one.message for one in item.related] == ["and here", "and here"]


def test_a_mistyped_declaration_is_blamed_where_its_uses_agree(problems) -> None:
    text = "SEGMENT nwesletter IS contact.points > 1\n" + rule(
        "THEN points.add 1", when="contact ENTERS newsletter OR contact LEAVES newsletter"
    )
    item = only(problems(text))
    assert (item.name, item.suggestion, item.span.start) == ("unknown-segment", "newsletter", 8)
    assert "used 2 times" in item.message and len(item.related) == 2


@pytest.mark.parametrize(
    ("declared", "used", "blamed"),
    [
        ("nudge_delay", "nudge_dleay", "use"),
        ("nudge_dleay", "nudge_delay", "declaration"),
        ("grinder_age", "grindr_age", "use"),
        ("grindr_age", "grinder_age", "declaration"),
    ],
)
def test_of_one_declaration_and_one_use_the_word_wins(problems, declared: str, used: str, blamed: str) -> None:
    item = only(problems(f"CONST {declared} = 3 days\n" + campaign(f"AFTER {used}", "THEN points.add 1")))
    assert item.name == "unknown-name"
    assert item.suggestion == (declared if blamed == "use" else used)
    assert (item.span.start == 6) == (blamed == "declaration")


@pytest.mark.parametrize(
    "text",
    [
        "EVENT order.palced WITH total: number\n"
        + rule("THEN points.add event.total", when="order.placed WHERE event.total > 5"),
        "EVENT order.placed WITH toatl: number\n"
        + rule("THEN points.add event.total", when="order.placed WHERE event.total > 5"),
        'ATTRIBUTE pln: text ONE OF ["a"]\nSEGMENT s IS contact.plan = "a"\nSEGMENT t IS contact.plan = "b"\n',
        "FACT conatct.spend: number IS COUNT contact.created\nSEGMENT s IS contact.spend > 5\n",
        'ATTRIBUTE age: nubmer\nSEGMENT s IS contact.age > 5 AND contact.age < "x"\n',
        "ATTRIBUTE points: text\nSEGMENT s IS contact.points > 5\n",
        rule('THEN emial.send "welcome", sbject: "x", code: "y"'),
        campaign("WAIT UNTIL form.submitted AS filled UP TO 1 day", '  THEN log.write "{fileld.page} {fileld.id}"', "END"),
        campaign(
            'THEN email.send "welcome", code: "a"',
            "AFTER 1 day",
            'IF DID email.opened "welcme" OR DID email.opened "welcme" WITHIN 3 days',
            "  THEN points.add 1",
            "END",
        ),
        rule(
            "AFTER 1 day",
            "WAIT UNTIL form.submitted UP TO 1 day",
            "END",
            "REPEAT EVERY day UP TO 3 TIMES",
            "  THEN points.add 1",
            "END",
        ),
        "SEGMENT s IS event.a = 1 OR event.b = 2 OR event.c = 3\n",
        "SEGMENT s IS conatct IN s2\nSEGMENT s2 IS contact.points > 5\n",
        ORDER
        + campaign(
            "AFTER 1 day", "THEN points.add 1", when="order.placed", clauses=("FOR EACH event.ordre_id", "EXIT WHEN order.placed")
        ),
        "SEGMENT hot\nSEGMENT cold\n" + rule("THEN segment.add hott"),
    ],
)
def test_one_cause_is_one_message(problems, text: str) -> None:
    only([item for item in problems(text) if item.name != "unused-constant"])


def test_the_key_that_a_later_event_nearly_has(problems) -> None:
    text = (
        ORDER
        + "EVENT order.paid WITH oder_id: text\n"
        + campaign(
            "AFTER 1 day", "THEN points.add 1", when="order.placed", clauses=("FOR EACH event.order_id", "EXIT WHEN order.paid")
        )
    )
    item = only(problems(text))
    assert (item.name, item.suggestion) == ("unknown-field", "order_id")


def test_problems_of_several_files_are_sorted(problems) -> None:
    found = problems("SEGMENT a IS contact.x1 = 1\nSEGMENT b IS contact.q = 1\n", "SEGMENT c IS contact.zz = 1\n")
    assert [(item.span.path, item.span.start) for item in found] == sorted((item.span.path, item.span.start) for item in found)
    assert len(found) == 3


def test_a_name_declared_in_one_file_is_known_in_another(names) -> None:
    assert names("SEGMENT vip IS contact.points > 5\n", rule("IF contact IN vip THEN points.add 1")) == []


def test_no_more_than_the_bound_for_one_file(problems) -> None:
    many = "".join(f'SEGMENT s{number} IS contact.points > "{number}"\n' for number in range(500))
    assert len(problems(many)) == MAX_DIAGNOSTICS_PER_FILE


# ── suggestions ──


@pytest.mark.parametrize(
    ("text", "name", "suggestion"),
    [
        (
            rule("IF contact IN vip THEN points.add 1") + "SEGMENT vpi IS contact.points > 5\nSEGMENT x IS contact IN vpi\n",
            "unknown-segment",
            "vpi",
        ),
        (rule("THEN points.addd 5"), "unknown-action", "points.add"),
        (rule("THEN order.placed") + ORDER, "wrong-kind", "event.emit order.placed"),
        (rule('IF country = "DE" THEN points.add 1'), "wrong-kind", "contact.country"),
        (rule("IF total > 5 THEN points.add 1", when="order.placed") + ORDER, "wrong-kind", "event.total"),
        (rule("IF order.placed THEN points.add 1") + ORDER, "wrong-kind", "DID order.placed"),
        (rule("IF vip THEN points.add 1") + "SEGMENT vip IS contact.points > 5\n", "wrong-kind", "contact IN vip"),
        (rule("THEN points.add 1", when="vip") + "SEGMENT vip IS contact.points > 5\n", "wrong-kind", "contact ENTERS vip"),
        (rule("IF contact.consent.email = yse THEN points.add 1"), "unknown-name", "yes"),
        (rule("IF contact.consent.emial = yes THEN points.add 1"), "unknown-attribute", "contact.consent.email"),
        (rule('IF contact.consent.email = "yes" THEN points.add 1'), "type-mismatch", "yes"),
        (rule("IF conatct.points > 5 THEN points.add 1"), "unknown-name", "contact.points"),
        (rule("IF evnet.total > 5 THEN points.add 1", when="order.placed") + ORDER, "unknown-name", "event.total"),
        (rule("THEN points.add 1", when="conatct ENTERS vip") + "SEGMENT vip IS contact.points > 5\n", "unknown-name", "contact"),
        (rule('THEN email.send welcome, code: "x"'), "type-mismatch", '"welcome"'),
        (rule('THEN email.send "welcme", code: "x"'), "missing-template", '"welcome"'),
        (rule('THEN email.send "welcome", cdoe: "x"'), "unknown-parameter", "code"),
        (rule('THEN email.send "welcome", code: "x", class: "transactionel"'), "unknown-choice", '"transactional"'),
        (rule('THEN segment.add "hot"') + "SEGMENT hot\n", "type-mismatch", "hot"),
        (rule("THEN points.add 1", when="contact.points > 50"), "condition-as-trigger", "contact.points BECOMES > 50"),
        (
            rule("THEN points.add 1", when="contact IN vip") + "SEGMENT vip IS contact.points > 5\n",
            "condition-as-trigger",
            "contact ENTERS vip",
        ),
        ("RULE r\n  AT MOST 3 TIMES PER dya\n  WHEN contact.created\n    THEN points.add 1\nEND\n", "unknown-name", "day"),
        (
            'CAMPAIGN c\n  DELIVER BETWEEN 09:00 AND 17:00 IN "Europe/Prauge"\n  WHEN contact.created\n    THEN points.add 1\nEND\n',
            "unknown-time-zone",
            '"Europe/Prague"',
        ),
        ("CONST Nudge = 3 days\n" + campaign("AFTER nudge", "THEN points.add 1"), "unknown-name", "nudge"),
        ("ATTRIBUTE plan: sting\n", "unknown-type", None),
        ("ATTRIBUTE plan: string\n", "unknown-type", "text"),
    ],
)
def test_suggestion(problems, text: str, name: str, suggestion: str | None) -> None:
    item = only([item for item in problems(text) if item.name != "unused-constant"])
    assert (item.name, item.suggestion) == (name, suggestion)


def test_the_place_is_the_word(problems) -> None:
    text = (
        'TEST "t"\n  GIVEN contact ana WITH emial: "x"\n  AT 2026-03-02 10:00\n    EVENT page.viewed "/x" FOR aan WITH urll: "u", secnds: 4\n'
        '    EXPECT aan GETS log.write "x"\n    SET ana WITH contry: "DE"\nEND\n'
        + rule('THEN log.write "x"')
        + "WORKSPACE\n  LIMIT 2 emial PER week\nEND\n"
    )
    for item in problems(text):
        assert item.suggestion and text[item.span.start : item.span.end] in ("emial", "aan", "urll", "secnds", "contry"), item


def test_without_single_blanks_the_statement_is_the_place(problems) -> None:
    text = 'TEST "t"\n  GIVEN contact ana\n  AT 2026-03-02 10:00\n    EXPECT   aan GETS log.write "x"\nEND\n' + rule(
        'THEN log.write "x"'
    )
    item = only(problems(text))
    assert item.suggestion is None and "ana" in item.help and Source("x", text).place(item.span.start)[0] == 4


# ── no false alarms ──

GOOD = [
    'SEGMENT s IS contact.points > 5 AND contact.points < 10 AND contact.country IN ["DE", "AT"]\n',
    'SEGMENT s IS contact.country IS SET AND contact.country != "DE"\n',
    'SEGMENT s IS contact.country IS NOT SET OR contact.country != "DE"\n',
    'ATTRIBUTE plan: text DEFAULT "free"\nSEGMENT s IS contact.plan != "paid"\n',
    'SEGMENT s IS NOT contact.country = "DE"\n',
    "SEGMENT s IS contact.points != 5 AND NOT contact.points > 7\n",
    ORDER
    + "FACT contact.spend: number IS SUM event.total OF order.placed WITHIN 365 days\nSEGMENT s IS contact.spend != 0 AND NOT contact.spend > 7\n",
    ORDER + "SEGMENT s IS COUNT order.placed WHERE (event.total > 5 AND event.total < 9) >= 2\n",
    ORDER
    + "FACT contact.last_order: datetime IS LAST event.at OF order.placed\nSEGMENT s IS contact.last_order < now - 30 days\n",
    "SEGMENT s IS contact.created_at < now - 30 days AND contact.created_at > 2020-01-01\n",
    'SEGMENT s IS contact.email ENDS WITH "@example.com" OR contact.tags CONTAINS "vip" OR contact.email MATCHES "^a.*z$"\n',
    "ATTRIBUTE born: birthday\nATTRIBUTE renews: date\n"
    + rule("THEN points.add 1", when="ANNIVERSARY OF contact.born AT 08:00 OR 30 days BEFORE contact.renews AT 09:00"),
    rule("THEN points.add 1", when="EVERY monday AT 03:00 OR EVERY month ON 15 AT 06:00"),
    ORDER + rule("THEN points.add 1", when="NOT order.placed FOR 90 days"),
    ORDER + rule("THEN points.add 1", when='contact.points BECOMES >= 50 WHERE contact.country = "DE"'),
    rule("THEN points.add 1", when='contact.country CHANGES FROM "DE" TO "AT"'),
    rule(
        "THEN points.subtract 10",
        "THEN tag.add fresh",
        'THEN tag.remove "old one"',
        'THEN contact.set country: "DE", consent.email: yes',
    ),
    rule('THEN webhook.post "https://x.example/y", body: {id: contact.id, when: now}, method: POST'),
    rule('THEN crm.push lead, owner: "x", anything: contact.points'),
    ORDER + rule('THEN event.emit order.placed, total: 5, subject: "x"'),
    rule("THEN points.add 5, group: sales") + "SEGMENT s IS contact.points.sales > 5\n",
    rule("THEN segment.add hot")
    + "SEGMENT hot\nSEGMENT s IS contact IN hot AND contact NOT IN cold\nSEGMENT cold IS contact.points < 0\n",
    rule('THEN email.send "welcome", code: "x", class: transactional, ignore_quiet: yes, expires_after: 2 days'),
    rule('THEN sms.send "Hi {contact.first_name|there}, {contact.points} points \\{sic\\} {and not this}"'),
    ORDER
    + campaign(
        "WAIT UNTIL order.placed WHERE event.total > 5 AS bought UP TO 3 days",
        "  THEN points.add bought.total",
        "END",
        "IF bought.total > 100 THEN tag.add big",
    ),
    campaign("WAIT UNTIL contact.points > 5 UP TO 3 days", "OTHERWISE", "  THEN tag.add cold", "END"),
    'CONST launch = 2026-12-01\nCONST hour = 09:00\nCONST zone = "Europe/Prague"\n'.replace("hour", "early")
    + campaign("WAIT UNTIL launch UP TO 100 days", "END", "AFTER 1 day AT early IN zone", "THEN points.add 1"),
    campaign("AFTER 2 days FROM START BETWEEN 09:00 AND 11:00 ON mon-fri IN contact.timezone", "THEN points.add 1"),
    campaign("REPEAT EVERY 7 days UP TO 3 TIMES WHILE contact.points < 5", "  THEN points.add 1", "END"),
    campaign('IF start > now - 3 days AND key = "x" THEN points.add 1'),
    ORDER + campaign("IF DID order.placed SINCE START THEN points.add 1", 'STOP "done"'),
    ORDER
    + campaign(
        "THEN points.add 1",
        when="order.placed",
        clauses=(
            "FOR EACH event.order_id",
            "GOAL order.placed WITHIN 3 days",
            "EXIT ON GOAL",
            "REENTRY AFTER 30 days UP TO 3 TIMES",
            "PRIORITY 10",
            "HOLDOUT 10%",
            "THROTTLE 2000 PER day",
            "LIMIT 2 email PER week ELSE HOLD UP TO 12 hours",
            "LIMIT 1 messages PER day",
            "AT MOST 1 TIME PER 3 days",
            'OWNER "growth team"',
            "STARTS 2026-01-01",
            "UNTIL 2027-01-01 12:00",
        ),
    ),
    "IF".join(
        [
            'WORKSPACE\n  TIMEZONE "Europe/Prague"\n  QUIET FROM 20:00 TO 08:00 ELSE HOLD\n  BUSINESS HOURS FROM 09:00 TO 17:00 ON mon-fri\n'
            "  HOLIDAYS 2026-12-24, 2026-12-25\n  NEVER MORE THAN 2 email PER 24 hours\n  HOLDOUT 5%\nEND\n"
        ]
    ),
    # circles that end: bounded, over a threshold that is crossed once, setting one value, a segment that is only entered
    rule("THEN points.add 1", when="contact.points BECOMES >= 50"),
    ORDER + "RULE a\n  AT MOST 1 TIME PER day\n  WHEN order.placed\n    THEN event.emit order.placed\nEND\n",
    "ATTRIBUTE plan: text\n" + rule('THEN contact.set plan: "paid"', when="contact.plan CHANGES"),
    "SEGMENT s IS contact.points >= 100\n" + rule("THEN points.add 10", when="contact ENTERS s"),
    "SEGMENT hot\n" + rule("THEN segment.add hot", when="contact ENTERS hot"),
    "CAMPAIGN a\n  REENTRY NEVER\n  WHEN contact.created\n    THEN campaign.enter b\nEND\nCAMPAIGN b\n  WHEN form.submitted\n    THEN campaign.enter a\nEND\n",
    'TEST "t"\n  GIVEN contact ana WITH country: "DE", consent.email: yes, points: 5\n  AT 2026-03-02 10:00\n    EVENT page.viewed "/x" FOR ana WITH seconds: 4\n'
    '  AT +1 day\n    EXPECT ana GETS log.write "x"\n    EXPECT ana WHERE contact.points = 5\n    EXPECT NOTHING ELSE\nEND\n'
    + rule('THEN log.write "x"'),
]


@pytest.mark.parametrize("text", GOOD)
def test_nothing_is_said_of_what_is_right(problems, text: str) -> None:
    assert [(item.name, item.message) for item in problems(text)] == []


# ── circles ──


@pytest.mark.parametrize(
    ("text", "severity"),
    [
        (ORDER + rule("THEN event.emit order.placed", when="order.placed"), "error"),
        (ORDER + rule("IF contact.points > 5 THEN event.emit order.placed", when="order.placed"), "warning"),
        (ORDER + rule("THEN event.emit order.placed", when="order.placed WHERE event.total > 5"), "warning"),
        (
            "RULE a\n  WHEN contact.points BECOMES >= 5\n    THEN points.subtract 5\nEND\nRULE b\n  WHEN contact.points BECOMES < 5\n    THEN points.add 5\nEND\n",
            "error",
        ),
        (
            'ATTRIBUTE plan: text\nRULE a\n  WHEN contact.plan BECOMES = "a"\n    THEN contact.set plan: "b"\nEND\n'
            'RULE b\n  WHEN contact.plan BECOMES = "b"\n    THEN contact.set plan: "a"\nEND\n',
            "error",
        ),
        (
            "SEGMENT hot\nRULE a\n  WHEN contact ENTERS hot\n    THEN segment.remove hot\nEND\nRULE b\n  WHEN contact LEAVES hot\n    THEN segment.add hot\nEND\n",
            "error",
        ),
        (rule("THEN points.add 1", when="contact.points CHANGES"), "error"),
        (
            "CAMPAIGN a\n  WHEN contact.created\n    THEN campaign.enter b\nEND\nCAMPAIGN b\n  WHEN form.submitted\n    THEN campaign.enter a\nEND\n",
            "error",
        ),
        ("CAMPAIGN a\n  WHEN contact.created\n    AFTER 1 day\n    THEN campaign.enter a\nEND\n", "warning"),
    ],
)
def test_endless_rules(problems, text: str, severity: str) -> None:
    item = only(problems(text))
    assert (item.name, item.severity) == ("endless-rules", severity)


def test_a_delayed_circle_that_is_meant(names) -> None:
    assert names("CAMPAIGN a\n  REENTRY ALWAYS\n  WHEN contact.created\n    AFTER 1 day\n    THEN campaign.enter a\nEND\n") == []


def test_circles_are_found_through_derived_facts(problems) -> None:
    text = (
        "SEGMENT low IS contact.points < 5\nSEGMENT high IS NOT contact IN low\n"
        "RULE a\n  WHEN contact ENTERS high\n    THEN points.subtract 50\nEND\nRULE b\n  WHEN contact ENTERS low\n    THEN points.add 50\nEND\n"
    )
    item = only(problems(text))
    assert item.name == "endless-rules" and "a → b → a" in item.message


# ── conditions ──


@pytest.mark.parametrize(
    "condition",
    [
        "contact.points > 5 AND contact.points < 3",
        "contact.points = 5 AND contact.points = 6",
        'contact.country = "a" AND contact.country = "b"',
        "contact.points >= 5 AND contact.points < 5",
        "contact.points BETWEEN 1 AND 3 AND contact.points > 7",
        "contact.points > 5 AND NOT contact.points > 5",
        'contact.country IS NOT SET AND contact.country = "a"',
        'contact.country IN ["a", "b"] AND contact.country = "c"',
        "contact IN s2 AND contact NOT IN s2",
        "contact IN s2 AND NOT contact IN s2",
        "contact.points > most AND contact.points < 3",
        "DID contact.created AND NOT DID contact.created",
        "1 = 2",
        "contact.points < contact.points",
        "COUNT contact.created < 0",
        "no",
        "contact.created_at > 2026-01-01 AND contact.created_at < 2025-01-01",
        'contact.plan != "free" AND contact.plan != "paid" AND contact.plan IS SET',
        '(contact.points > 5 AND contact.id = "x") AND contact.points < 3',
    ],
)
def test_never(names, condition: str) -> None:
    text = f'CONST most = 5\nATTRIBUTE plan: text ONE OF ["free", "paid"]\nSEGMENT s2 IS contact.points > most\nSEGMENT s IS {condition}\n'
    assert names(text) == ["never-true"]


@pytest.mark.parametrize(
    "condition",
    [
        "contact.points > 5 OR contact.points < 3",
        "contact.points >= 5 AND contact.points <= 5",
        "NOT contact.points > 5 AND NOT contact.points <= 5",
        "contact.points > 5 AND contact.points > 3",
        "contact.points != 5 AND contact.points != 6",
        "DID contact.created AND NOT DID contact.created WITHIN 3 days",
        '(contact.points > 5 OR contact.id = "x") AND contact.points < 3',
        "contact.points = contact.points + 1",
    ],
)
def test_not_never(names, condition: str) -> None:
    assert names(f"SEGMENT s IS {condition}\n") == []


# ── hostile input ──


@pytest.mark.parametrize(
    "text",
    [
        "SEGMENT s IS contact.points > " + " + ".join(["1"] * 20_000) + "\n",
        "SEGMENT s IS contact.points > " + "-" * 5_000 + "1\n",
        "SEGMENT s IS " + " AND ".join(["contact.points > 1"] * 5_000) + "\n",
        "SEGMENT s IS " + " OR ".join(f"contact.points = {number}" for number in range(5_000)) + "\n",
        "".join(f"CONST c{number} = c{number + 1}\n" for number in range(3_000)),
        "".join(f"SEGMENT s{number} IS contact IN s{number + 1}\n" for number in range(3_000)),
        "".join(f"SEGMENT s{number} IS contact.n{number} = 1\n" for number in range(5_000)),
        "".join(f"RULE r{number}\n  WHEN e.x{number}\n    THEN event.emit e.x{number + 1}\nEND\n" for number in range(2_000)),
        "".join(f"EVENT e.x{number}\n" for number in range(1_000))
        + "".join(
            f"RULE r{number}\n  WHEN e.x{number}\n    THEN event.emit e.x{(number + 1) % 1_000}\nEND\n" for number in range(1_000)
        ),
        "".join(
            f"RULE r{number}\n  WHEN contact.points BECOMES > {number}\n    THEN points.add 1\n    THEN points.subtract 1\nEND\n"
            for number in range(1_000)
        ),
        rule("IF contact.points > 1 THEN points.add 1\n" * 3_000),
        "ATTRIBUTE x: text ONE OF [" + ", ".join(f'"{number}"' for number in range(3_000)) + '] DEFAULT "y"\n',
        'SEGMENT s IS contact.email MATCHES "' + "(" * 2_000 + '"\n',
        "SEGMENT s IS contact.points > 0001-00-00\n",
        "SEGMENT s IS contact.created_at > 9999-99-99 99:99:99\n",
        "SEGMENT s IS contact.created_at > 2026-01-01 + 999999999999999 years\n",
    ],
)
def test_nothing_breaks_or_hangs(problems, text: str) -> None:
    import time

    begun = time.perf_counter()
    problems(text)
    assert time.perf_counter() - begun < 20


def _words(text: str) -> list[str]:
    import re

    return re.findall(r"\s+|\"[^\"\n]*\"|[\w.]+|[^\w\s]", text)


@pytest.mark.parametrize("seed", range(200))
def test_mutated_texts_never_break_it(problems, seed: int) -> None:
    import random

    choose = random.Random(seed)
    parts = _words(SAMPLE)
    for _ in range(choose.choice([1, 2, 5, 20])):
        place, other = choose.randrange(len(parts)), choose.randrange(len(parts))
        edit = choose.randrange(4)
        if edit == 0:
            parts[place] = ""
        elif edit == 1:
            parts[place] = parts[other]
        elif edit == 2:
            parts[place], parts[other] = parts[other], parts[place]
        else:
            parts[place] = parts[place][::-1]
    for item in problems("".join(parts)):
        assert item.message and "\n" not in item.message


# ── the projects that come with Camp ──

CAMPAIGNS = sorted(path.parent for path in (Path(__file__).parent.parent.parent / "campaigns").glob("*/camp.toml"))


@pytest.mark.parametrize("folder", CAMPAIGNS, ids=lambda path: path.name)
def test_no_false_alarm_on_the_campaigns(host, folder: Path) -> None:
    from rules_engine.model.checks import check
    from rules_engine.model.project import find_project, project_files
    from rules_engine.syntax.read import read_file

    project = find_project(folder)
    files = [read_file(path)[0] for path in project_files(project)]
    assert [(item.name, item.message) for item in check(files, host, project)] == []


# ── how it speaks ──


def test_messages_are_one_sentence_with_the_help_apart(problems) -> None:
    golden = Path(__file__).parent.parent / "golden" / "check"
    for path in golden.glob("*.camp"):
        for item in problems(path.read_text(encoding="utf-8")):
            assert not item.message.endswith((".", "!")) and "\n" not in item.message + item.help, item
            # Lower case, unless it begins with a word of the language (MODE, EXIT ON GOAL).
            first = item.message.split()[0]
            assert first.isupper() or first[0] == first[0].lower(), item


# ── templates ──


def test_a_template_is_checked_with_its_action(problems) -> None:
    found = problems(
        rule('THEN email.send "cart"', 'THEN email.send "plain"', 'THEN email.send "welcome", code: "x", coed: "y"'), project=True
    )
    assert [(item.name, item.suggestion) for item in found] == [
        ("bad-template", None),  # contact.frist_name
        ("bad-template", None),  # event.total, where no event has it
        ("missing-parameter", None),  # no subject
        ("unknown-parameter", "code"),
    ]
    assert "contact.first_name" in found[0].help and "event.total" in found[1].message


def test_an_event_of_the_name_of_an_attribute_is_an_event(names) -> None:
    assert names(rule("THEN points.add 1", when="contact.created OR form.submitted")) == []
    assert (
        names(
            campaign(
                "WAIT UNTIL contact.created UP TO 1 day", "END", clauses=("EXIT WHEN contact.created",), when="form.submitted"
            )
        )
        == []
    )
