"""What the claim asks: may an effect that was decided earlier leave now? Nothing here is decided twice by different code: only time and
facts have moved on."""

from __future__ import annotations

import pytest
from kit import Person, ms, program

from rules_engine.engine.recheck import recheck

CAMPAIGN = """
SEGMENT all IS contact.email IS SET
CAMPAIGN news
{clauses}
  WHEN order.placed
    THEN email.send "offer"{arguments}
END
"""


def decided(clauses="", workspace="", arguments="", at="2026-03-02 10:00", **attributes):
    """(program, state, effect) of a message that has just been decided."""
    lines = "".join(f"  {line}\n" for line in clauses.split(";") if line)
    text = workspace + CAMPAIGN.format(clauses=lines, arguments=arguments)
    person = Person(program(text), "2026-03-01 10:00", email="ana@example.com", **attributes)
    person.event("order.placed", at=at, order_id="A", total=10)
    assert len(person.effects) == 1, person.log
    return person.program, person.state, person.effects[0]


def verdict(found, now):
    answer = recheck(*found, ms(now))
    return None if answer is None else (answer.do, answer.outcome)


def changed(found, **attributes):
    compiled, state, effect = found
    return compiled, {**state, "a": {**state["a"], **attributes}}, effect


def test_what_nothing_speaks_against_may_leave_and_the_state_stays_as_it_is():
    found = decided()
    before = repr(found[1])
    assert recheck(*found, ms("2026-03-02 10:00")) is None
    assert repr(found[1]) == before


@pytest.mark.parametrize(
    ("attributes", "outcome"),
    [
        ({"suppressed.email": "bounce"}, "suppressed"),
        ({"consent.email": False}, "suppressed"),
        ({"email": None}, "no_address"),
        ({"email": ""}, "no_address"),
    ],
)
def test_what_the_contact_became_since_stops_it(attributes, outcome):
    assert verdict(changed(decided(), **attributes), "2026-03-02 10:05") == ("drop", outcome)


def test_transactional_messages_ask_for_suppression_but_not_for_consent():
    found = decided(arguments=", class: \"transactional\"")
    assert verdict(changed(found, **{"consent.email": False}), "2026-03-02 10:05") is None
    assert verdict(changed(found, **{"suppressed.email": "bounce"}), "2026-03-02 10:05") == ("drop", "suppressed")


def test_an_address_in_the_action_needs_none_of_the_contact():
    found = decided(arguments=', to: "desk@example.com"')
    assert verdict(changed(found, email=None), "2026-03-02 10:05") is None


def test_a_campaign_that_is_over_or_gone_sends_nothing_more():
    found = decided("UNTIL 2026-03-02 18:00")
    assert verdict(found, "2026-03-02 17:59") is None
    assert verdict(found, "2026-03-02 18:00") == ("drop", "expired")
    other = program("RULE r\n  WHEN order.placed\n    THEN points.add 1\nEND\n")
    answer = recheck(other, found[1], found[2], ms("2026-03-02 10:05"))
    assert answer.outcome == "cancelled" and "no longer among" in answer.reason


def test_its_own_expiry():
    found = decided(arguments=", expires_after: 2 hours")
    assert verdict(found, "2026-03-02 11:59") is None
    assert verdict(found, "2026-03-02 12:00") == ("drop", "expired")


def test_lateness_is_asked_again_and_a_person_may_waive_it():
    found = decided()
    assert verdict(found, "2026-03-03 10:00") is None
    assert verdict(found, "2026-03-03 10:01") == ("wait_for_person", "held")
    assert verdict((*found[:2], found[2]._replace(exempt=" late")), "2026-03-05 10:00") is None
    skips = decided("ON LATE > 6 hours SKIP")
    assert verdict(skips, "2026-03-02 16:00") is None
    assert verdict(skips, "2026-03-02 16:01") == ("drop", "late")


def test_quiet_hours_hold_it_until_they_end():
    workspace = 'WORKSPACE\n  TIMEZONE "Europe/Prague"\n  QUIET FROM 20:00 TO 08:00 ELSE HOLD\nEND\n'
    answer = recheck(*decided(workspace=workspace), ms("2026-03-02 21:30", "Europe/Prague"))
    assert (answer.do, answer.outcome, answer.until) == ("hold", "quiet", ms("2026-03-03 08:00", "Europe/Prague"))
    waived = decided(workspace=workspace, arguments=", ignore_quiet: yes")
    assert recheck(*waived, ms("2026-03-02 21:30", "Europe/Prague")) is None
    drops = decided(workspace=workspace.replace("HOLD", "DROP"))
    assert verdict(drops, "2026-03-02 21:30") == ("drop", "quiet")


def test_the_delivery_window_holds_it_until_it_opens():
    found = decided("DELIVER BETWEEN 09:00 AND 11:00")
    answer = recheck(*found, ms("2026-03-02 12:00"))
    assert (answer.do, answer.outcome, answer.until) == ("hold", "window", ms("2026-03-03 09:00"))


def test_a_limit_counts_the_others_and_not_the_message_itself():
    workspace = "WORKSPACE\n  LIMIT 1 email PER 7 days ELSE DROP\nEND\n"
    found = decided(workspace=workspace)
    assert found[1]["c"]["m:email"] == [ms("2026-03-02 10:00")]
    assert verdict(found, "2026-03-02 10:05") is None, "its own entry does not stand in its way"
    compiled, state, effect = found
    crowded = {**state, "c": {"m:email": [effect.at, effect.at + 60_000]}}
    assert verdict((compiled, crowded, effect), "2026-03-02 10:05") == ("drop", "capped")
    waived = effect._replace(exempt="limit")
    assert verdict((compiled, crowded, waived), "2026-03-02 10:05") is None


def test_a_limit_that_holds_tells_until_when():
    workspace = "WORKSPACE\n  LIMIT 1 email PER 2 days ELSE HOLD UP TO 5 days\nEND\n"
    compiled, state, effect = decided(workspace=workspace)
    other = effect.at + 3_600_000
    answer = recheck(compiled, {**state, "c": {"m:email": [effect.at, other]}}, effect, ms("2026-03-02 12:00"))
    assert (answer.do, answer.outcome, answer.until) == ("hold", "capped", other + 2 * 86_400_000)


def test_an_invariant_stops_it():
    workspace = "WORKSPACE\n  NEVER MORE THAN 1 marketing PER 24 hours\nEND\n"
    compiled, state, effect = decided(workspace=workspace)
    crowded = {**state, "c": {"m:email": [effect.at, effect.at + 60_000]}}
    assert verdict((compiled, crowded, effect), "2026-03-02 10:05") == ("drop", "blocked")


def test_a_holdout_that_a_new_version_brings_counts():
    compiled, state, effect = decided()
    held = program(CAMPAIGN.format(clauses="  HOLDOUT 100%\n", arguments=""))
    answer = recheck(held, state, effect, ms("2026-03-02 10:05"))
    assert answer is not None and (answer.do, answer.outcome) == ("drop", "held_out")


def test_a_call_that_is_no_message_is_asked_only_whether_its_campaign_still_is():
    text = 'CAMPAIGN c\n  UNTIL 2026-03-03\n  WHEN order.placed\n    THEN webhook.post "https://example.com/x", body: {a: 1}\nEND\n'
    person = Person(program(text), "2026-03-01 10:00", **{"consent.email": False})
    person.event("order.placed", at="2026-03-02 10:00", order_id="A", total=10)
    found = (person.program, person.state, person.effects[0])
    assert recheck(*found, ms("2026-03-02 21:00")) is None
    assert verdict(found, "2026-03-03 00:00") == ("drop", "expired")
