"""An outcome's event carries the key fields of the instance whose message it is about, so that it reaches that one only."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules_engine.engine import key_fields
from tests.engine.kit import Person, program

FIELDS = "EVENT thing.happened WITH cart: text, number: number, day: date, moment: datetime, sure: boolean, at_time: time\n"


def campaign(keys: str, clause: str = "") -> str:
    return f"{FIELDS}CAMPAIGN c\n FOR EACH {keys}\n{clause} WHEN thing.happened\n THEN email.send \"x\"\n WAIT UNTIL email.opened \"x\" UP TO 3 days\n" \
           "  THEN log.write \"opened {event.cart}\"\n END\nEND"


PROGRAMS: dict[str, Any] = {}


def effect_of(keys: str, **data: Any) -> tuple[Any, Any]:
    """The program, and the effect of one instance that such an event starts."""
    made = PROGRAMS.setdefault(keys, program(campaign(keys)))
    ana = Person(made, "2026-03-02 10:00", email="a@x.com")
    ana.event("thing.happened", **data)
    return made, ana.effects[0]


@pytest.mark.parametrize(("keys", "data", "fields"), [
    ("event.cart", {"cart": "A|\\1"}, {"cart": "A|\\1"}),
    ("event.number", {"number": 7}, {"number": 7}),
    ("event.number", {"number": 7.0}, {"number": 7}),
    ("event.number", {"number": -0.25}, {"number": -0.25}),
    ("event.cart", {"cart": 7}, {"cart": "7"}),
    ("event.day", {"day": "2026-03-05"}, {"day": "2026-03-05"}),
    ("event.moment", {"moment": "2026-03-05T09:00:00Z"}, {"moment": 1772701200000}),
    ("event.sure", {"sure": True}, {"sure": True}),
    ("event.sure", {"sure": False}, {"sure": False}),
    ("event.at_time", {"at_time": "09:30"}, {"at_time": 570}),
    ("event.cart, event.number", {"cart": "a|b\\", "number": 3}, {"cart": "a|b\\", "number": 3}),
    ("event.cart, event.number, event.sure", {"cart": "", "number": 3, "sure": True}, None),
])
def test_single_and_composite_keys_of_each_type(keys: str, data: dict[str, Any], fields: Any) -> None:
    if fields is None:  # a missing field: no instance, no effect
        with pytest.raises(IndexError):
            effect_of(keys, **data)
        return
    made, effect = effect_of(keys, **data)
    assert key_fields(made, effect) == fields
    assert {name: type(value) for name, value in key_fields(made, effect).items()} == {name: type(value) for name, value in fields.items()}


@given(st.text(st.sampled_from("a|\\b "), min_size=1).filter(str.strip), st.text(st.sampled_from("a|\\b "), min_size=1).filter(str.strip))
def test_composite_texts_come_back_whatever_is_in_them(one: str, other: str) -> None:
    from rules_engine.engine.journey import _key

    made = PROGRAMS.setdefault("two", program(campaign("event.cart, event.other").replace("at_time: time", "other: text")))
    assert key_fields(made, SimpleNamespace(ruleset="c", key=_key([one, other]))) == {"cart": one, "other": other}


def test_an_opened_mail_reaches_its_own_instance_only() -> None:
    made = program(campaign("event.cart, event.number"))
    ana = Person(made, "2026-03-02 10:00", email="a@x.com")
    ana.event("thing.happened", cart="A", number=1)
    ana.event("thing.happened", cart="A", number=2)
    ana.event("email.opened", "x", **key_fields(made, ana.effects[1]))
    assert [(item.key, item.primary) for item in ana.log if item.action == "log.write"] == [("A|2", "opened A")]


def test_what_has_no_key_has_no_fields() -> None:
    made = program(campaign("event.cart") + "\nRULE r\n WHEN ping\n THEN email.send \"x\"\nEND\nCAMPAIGN plain\n WHEN ping\n THEN email.send \"x\"\nEND")
    for ruleset, key in (("r", None), ("plain", None), ("gone", "A"), ("c", None)):
        assert key_fields(made, SimpleNamespace(ruleset=ruleset, key=key)) == {}
    two = program(campaign("event.cart, event.number"))
    assert key_fields(two, SimpleNamespace(ruleset="c", key="A")) == {}, "the campaign had one key field when the mail left"


def test_a_key_may_be_an_answer_of_a_form() -> None:
    """Forms put their answers into one field, a map; one journey for each answer, and each hears of its own only."""
    made = program("""
    CAMPAIGN c
      FOR EACH event.fields.company
      EXIT WHEN form.submitted "bought"
      WHEN form.submitted "demo"
        THEN log.write "hello {event.fields.company}"
        AFTER 1 hour
        IF DID form.submitted "more" SINCE START
          THEN log.write "again {key}"
        END
    END
    """)
    ana = Person(made, "2026-03-02 10:00", email="a@x.com")
    for company in ("Acme", "Beta", "Gamma", ""):
        ana.event("form.submitted", "demo", fields={"company": company, "boats": 3})
    ana.event("form.submitted", "more", fields={"company": "Acme"})
    ana.event("form.submitted", "more", fields={"company": "Gamma"})
    ana.event("form.submitted", "bought", fields={"company": "Gamma"})
    ana.to("2026-03-02 12:00")
    assert ana.actions("log.write") == ["hello Acme", "hello Beta", "hello Gamma", "again Acme"]
    assert ana.reasons("skip")[:1] == ["FOR EACH event.fields.company: the event has no fields.company"]
