"""What stands inside a map that an event carries: the answers of a form are texts, and nobody declared their types."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.kit import Person, program


def fired(condition: str, fields: Any, extra: str = "") -> bool:
    text = f"RULE r\n WHEN form.submitted WHERE {condition}\n THEN log.write \"yes\"\nEND\n{extra}"
    ana = Person(program(text), "2026-03-02 10:00", city="Oslo")
    ana.event("form.submitted", "demo", **({} if fields is None else {"fields": fields}))
    return ana.actions() == ["yes"]


@pytest.mark.parametrize(("condition", "fields", "holds"), [
    ('event.fields.company = "X"', {"company": "X"}, True),
    ('event.fields.company = "X"', {"company": "Y"}, False),
    ('event.fields.company = "X"', {}, False),
    ('event.fields.company = "X"', None, False),
    ('event.fields.company != "X"', {"company": ""}, False),
    ("event.fields.company IS SET", {"company": ""}, False),
    ("event.fields.company IS NOT SET", {"other": "X"}, True),
    ("event.fields.seats >= 10", {"seats": "12"}, True),
    ("event.fields.seats >= 10", {"seats": 12}, True),
    ("event.fields.seats >= 10", {"seats": "9.5"}, False),
    ("event.fields.seats >= 10", {"seats": "many"}, False),
    ("event.fields.seats >= 10", {"seats": "inf"}, False),
    ("event.fields.seats >= 10", {"seats": ["12"]}, False),
    ("event.fields.seats BETWEEN 5 AND 10", {"seats": "7"}, True),
    ("event.fields.seats * 2 > 10", {"seats": "6"}, True),
    ("10 < event.fields.seats", {"seats": "12"}, True),
    ("event.fields.news = yes", {"news": "on"}, True),
    ("event.fields.news = yes", {"news": "no"}, False),
    ("event.fields.since >= 2026-01-01", {"since": "2026-02-03"}, True),
    ("event.fields.since >= 2026-01-01", {"since": "soon"}, False),
    ('event.fields.code = "7"', {"code": 7}, True),
    ('event.fields.topics CONTAINS "boats"', {"topics": ["boats", "sails"]}, True),
    ('event.fields.topics CONTAINS "boats"', {"topics": "boats, sails"}, True),
    ('event.fields.topics CONTAINS "7"', {"topics": 7}, True),
    ('event.fields.topics IN ["boats", "sails"]', {"topics": "sails"}, True),
    ('event.fields.company MATCHES "(?i)^fjord"', {"company": "Fjord Boats"}, True),
    ('event.fields.company STARTS WITH "Fj"', {"company": "Fjord Boats"}, True),
    ("event.fields.city = contact.city", {"city": "Oslo"}, True),
    ('event.fields.address.city = "Oslo"', {"address": {"city": "Oslo"}}, True),
    ('event.fields.address.city = "Oslo"', {"address": "Oslo"}, False),
])
def test_conditions(condition: str, fields: Any, holds: bool) -> None:
    assert fired(condition, fields) is holds


def test_rules_that_are_found_by_an_answer() -> None:
    """Many rules that share the question are found by one look into a table."""
    text = "".join(f"RULE r{number}\n WHEN form.submitted WHERE event.fields.company = \"c{number}\"\n THEN log.write \"{number}\"\nEND\n" for number in range(9))
    ana = Person(program(text), "2026-03-02 10:00")
    ana.event("form.submitted", fields={"company": "c7"})
    ana.event("form.submitted", fields={"seats": 1})
    assert ana.actions() == ["7"]


def test_the_past_in_texts_in_journeys_and_behind_an_alias() -> None:
    text = """
    SEGMENT named IS DID form.submitted "demo" WHERE event.fields.company = "X"
    FACT contact.seats: number IS SUM event.fields.seats OF form.submitted
    FACT contact.companies: number IS COUNT DISTINCT event.fields.company OF form.submitted
    CAMPAIGN c
      WHEN ping
        WAIT UNTIL form.submitted "demo" AS answer UP TO 3 days
          THEN log.write "{answer.fields.company} {contact.seats}"
        END
        AFTER 1 day
        IF DID form.submitted WHERE event.fields.company = "X" SINCE START
          THEN log.write "X since"
        END
        IF DID form.submitted WHERE event.fields.company = contact.company
          THEN log.write "own company"
        END
    END
    """
    ana = Person(program(text), "2026-03-02 10:00", company="X")
    ana.event("ping")
    ana.event("form.submitted", "demo", at="2026-03-02 11:00", fields={"company": "X", "seats": "3"})
    ana.event("form.submitted", "demo", at="2026-03-02 12:00", fields={"company": "Y", "seats": "many"})
    ana.to("2026-03-10 10:00")
    assert ana.actions() == ["X 3", "X since", "own company"]
    assert ana.state["a"]["companies"] == 2 and "named" in ana.state["s"]
