"""TEST blocks: when things happen, what an expectation takes, and what a failure tells."""

from __future__ import annotations

import pytest

WELCOME = """
CAMPAIGN welcome
  GOAL order.placed WITHIN 30 days
  EXIT WHEN contact LEAVES newsletter
  REENTRY NEVER
  WHEN contact ENTERS newsletter
    THEN email.send "a"
    AFTER 1 day
    THEN email.send "b", subject: "hello"
    AFTER 1 day
    IF contact.plan = "paid"
      THEN email.send "c"
    END
END
"""

GIVEN = """
TEST "t"
  GIVEN contact ana WITH email: "ana@example.com", timezone: "Europe/London"
  AT 2026-03-02 10:00
    SET ana WITH consent.email: yes
"""


def story(lines: str) -> str:
    return WELCOME + GIVEN + lines + "\nEND\n"


def only(found):
    assert len(found) == 1
    return found[0]


def passes(results, lines: str) -> None:
    result = only(results(story(lines)))
    assert result.passed, result.failures


def fails(results, lines: str):
    """The first failure."""
    result = only(results(story(lines)))
    assert not result.passed
    return result.failures[0]


def test_a_whole_story(results):
    passes(
        results,
        """
    EXPECT ana GETS email.send "a" AT 2026-03-02 10:00
    EXPECT ana ENTERS welcome
    EXPECT ana ENTERS newsletter
  AT +1 day
    EXPECT ana GETS email.send "b"
  AT +1 day
    EXPECT ana COMPLETES welcome
    EXPECT NOTHING ELSE
""",
    )


def test_what_is_due_at_the_moment_of_an_at_happens_before_its_statements(results):
    passes(
        results,
        """
    EXPECT ana GETS email.send "a"
  AT 2026-03-03 10:00
    SET ana WITH consent.email: no
    EXPECT ana GETS email.send "b" AT 2026-03-03 10:00
    EXPECT ana LEAVES welcome
    EXPECT NOTHING ELSE
""",
    )


def test_one_minute_before_it_has_not_happened(results):
    passes(
        results,
        """
    EXPECT ana GETS email.send "a"
  AT 2026-03-03 09:59
    EXPECT NOTHING ELSE
""",
    )


def test_given_tells_how_things_are_and_starts_nothing(results):
    text = (
        WELCOME
        + """
TEST "t"
  GIVEN contact ana WITH email: "ana@example.com", consent.email: yes
  AT 2026-03-02 10:00
    EXPECT ana ENTERS newsletter
  AT +10 days
    EXPECT NOTHING ELSE
END
"""
    )
    assert only(results(text)).passed


def test_moments_are_local_in_the_workspace(results):
    result = only(results(story('    EXPECT ana GETS email.send "a" AT 2026-03-02 10:00')))
    assert result.passed
    assert {decision.at for decision in result.decisions} == {1772442000000}  # 09:00 UTC


def test_days_are_calendar_days_over_a_clock_change(results):
    text = (
        WELCOME
        + """
TEST "t"
  GIVEN contact ana WITH email: "ana@example.com"
  AT 2026-03-28 10:00
    SET ana WITH consent.email: yes
    EXPECT ana GETS email.send "a"
  AT +1 day
    EXPECT ana GETS email.send "b" AT 2026-03-29 10:00
END
"""
    )
    assert only(results(text)).passed


def test_two_expectations_need_two_messages(results):
    failure = fails(
        results,
        """
    EXPECT ana GETS email.send "a"
    EXPECT ana GETS email.send "a"
""",
    )
    assert failure.message == 'ana should have got email.send "a" by Mon 2026-03-02 09:00 GMT'
    assert failure.notes == ("the one at Mon 2026-03-02 09:00 GMT was taken by an EXPECT before",)


def test_only_what_is_given_is_compared(results):
    passes(
        results,
        """
  AT +1 day
    EXPECT ana GETS email.send
    EXPECT ana GETS email.send "b", subject: "hello"
""",
    )


def test_another_parameter_is_a_near_miss(results):
    failure = fails(
        results,
        """
  AT +1 day
    EXPECT ana GETS email.send "b", subject: "bye"
""",
    )
    assert failure.notes[-1].startswith('nearest: email.send "b" at Tue 2026-03-03 09:00 GMT (')
    assert 'subject is "hello"' in failure.notes[-1]


def test_another_moment_is_told(results):
    failure = fails(results, '    EXPECT ana GETS email.send "a" AT 2026-03-02 10:01')
    assert failure.message == 'ana should have got email.send "a" at Mon 2026-03-02 09:01 GMT'
    assert failure.notes == ("it came at Mon 2026-03-02 09:00 GMT",)


def test_what_comes_too_late_is_told(results):
    failure = fails(
        results,
        """
  AT +1 hour
    EXPECT ana GETS email.send "b"
""",
    )
    assert failure.notes[-1].startswith("it comes later, at Tue 2026-03-03 09:00 GMT") or failure.notes[-1].startswith("nearest")


def test_the_timeline_is_in_the_contacts_zone(results):
    failure = fails(results, '    EXPECT ana GETS email.send "c"')
    assert any(line.startswith("Mon 2026-03-02 09:00 GMT  welcome  ") and 'email.send "a"' in line for line in failure.timeline)


def test_not_gets(results):
    passes(
        results,
        """
    EXPECT ana GETS email.send "a"
    EXPECT ana NOT GETS email.send "a"
    EXPECT ana NOT GETS email.send "b"
""",
    )
    failure = fails(results, '    EXPECT ana NOT GETS email.send "a"')
    assert failure.message == 'ana should not have got email.send "a", and got it at Mon 2026-03-02 09:00 GMT'


def test_misses_with_its_reason(results):
    passes(
        results,
        """
    EXPECT ana GETS email.send "a"
    SET ana WITH suppressed.email: "complaint"
  AT +1 day
    EXPECT ana MISSES email.send "b" BECAUSE "complaint"
    EXPECT NOTHING ELSE
""",
    )
    failure = fails(
        results,
        """
    SET ana WITH suppressed.email: "complaint"
  AT +1 day
    EXPECT ana MISSES email.send "b" BECAUSE "capped"
""",
    )
    assert failure.message == 'ana should have missed email.send "b" because "capped"'
    assert failure.notes[0].startswith("it was missed for another reason: ")


def test_nothing_looks_back_to_the_at_before(results):
    passes(
        results,
        """
  AT +10 minutes
    EXPECT ana GETS email.send "a"
  AT +10 minutes
    EXPECT NOTHING
  AT +10 days
    EXPECT ana GETS email.send "b"
""",
    )
    failure = fails(
        results,
        """
    EXPECT ana GETS email.send "a"
  AT +1 day
    EXPECT NOTHING
""",
    )
    assert failure.message == (
        'nothing should have happened since the AT before, and this did: ana got email.send "b" at Tue 2026-03-03 09:00 GMT'
    )


def test_nothing_else_looks_back_to_the_beginning(results):
    failure = fails(
        results,
        """
  AT +1 hour
  AT +1 hour
    EXPECT NOTHING ELSE
""",
    )
    assert (
        failure.message == 'nothing else should have happened, and this did: ana got email.send "a" at Mon 2026-03-02 09:00 GMT'
    )


def test_reaches_goal(results):
    passes(
        results,
        """
    EVENT order.placed FOR ana WITH order_id: "1", total: 10
    EXPECT ana REACHES GOAL OF welcome
""",
    )
    assert "should have reached the goal of welcome" in fails(results, "    EXPECT ana REACHES GOAL OF welcome").message


def test_leaves_because(results):
    passes(
        results,
        """
    SET ana WITH consent.email: no
    EXPECT ana LEAVES welcome BECAUSE "newsletter"
    EXPECT ana LEAVES newsletter
""",
    )
    failure = fails(
        results,
        """
    SET ana WITH consent.email: no
    EXPECT ana LEAVES welcome BECAUSE "weather"
""",
    )
    assert failure.notes[0].startswith("it happened for another reason: ")


def test_where(results):
    passes(
        results, '    SET ana WITH plan: "paid", points: 40\n    EXPECT ana WHERE contact.plan = "paid" AND contact.points >= 40'
    )
    failure = fails(results, '    EXPECT ana WHERE contact.plan = "paid" OR contact IN vip')
    assert failure.message == "this does not hold for ana"
    assert failure.notes == ("contact.plan is not set", "ana is not in vip")


def test_segments_without_a_condition_can_be_given(results):
    text = (
        WELCOME
        + """
TEST "t"
  GIVEN contact ana WITH segments: ["vip"]
  AT 2026-03-02 10:00
    EXPECT ana WHERE contact IN vip
    EXPECT ana ENTERS vip
END
"""
    )
    assert only(results(text)).passed


@pytest.mark.parametrize("segments, words", [('["newsletter"]', "has a condition"), ('["vips"]', "there is no segment `vips`")])
def test_segments_that_cannot_be_given(results, segments, words):
    text = (
        WELCOME
        + f"""
TEST "t"
  GIVEN contact ana WITH segments: {segments}
  AT 2026-03-02 10:00
END
"""
    )
    assert words in only(results(text)).failures[0].message


def test_time_does_not_run_backwards(results):
    failure = fails(results, "\n  AT 2026-03-01 10:00\n    EXPECT NOTHING")
    assert failure.message == "time runs forward: this is before Mon 2026-03-02 10:00 CET, the AT before it"


def test_an_event_of_another_type_is_refused_in_words(results):
    failure = fails(results, '\n  AT +1 hour\n    EVENT order.placed FOR ana WITH order_id: "1", total: "a lot"')
    assert "total" in failure.message


def test_an_event_for_a_contact_that_is_not_given(results):
    text = (
        WELCOME
        + """
TEST "t"
  GIVEN contact ana
  AT 2026-03-02 10:00
    EVENT order.placed FOR bob WITH order_id: "1", total: 5
END
"""
    )
    assert "there is no contact `bob` in this test" in only(results(text)).failures[0].message


def test_tests_do_not_see_each_other(results):
    text = WELCOME + (GIVEN + '    EXPECT ana GETS email.send "a"\n    EXPECT NOTHING ELSE\nEND\n') * 2
    found = results(text.replace('TEST "t"', 'TEST "one"', 1))
    assert [result.passed for result in found] == [True, True]


def test_coverage_names_the_steps_that_no_test_reaches(load):
    from rules_engine.testing.runner import coverage, percent, run_tests

    loaded = load(story('    EXPECT ana GETS email.send "a"'))
    covered = coverage(loaded.program, run_tests(loaded.program, loaded.model.tests))
    item = only([item for item in covered if item.name == "welcome"])
    assert 0 < len(item.missed) < len(item.steps)
    assert 0 < percent(covered) < 100


REFUSALS = """
ATTRIBUTE age: number WHERE contact.age >= 0
TEST "a refusal that is expected"
  GIVEN contact ana
  AT 2026-03-02 10:00
    SET ana WITH age: -3
    EXPECT ana REFUSED BECAUSE "contact.age >= 0"
    EXPECT ana WHERE contact.age IS NOT SET
END
TEST "a refusal that is not"
  GIVEN contact ana
  AT 2026-03-02 10:00
    SET ana WITH age: -3
END
TEST "no refusal at all"
  GIVEN contact ana
  AT 2026-03-02 10:00
    SET ana WITH age: 3
    EXPECT ana REFUSED
END
"""


def test_a_refusal_is_an_outcome_that_can_be_expected():
    from rules_engine import host
    from rules_engine.model import meaning
    from rules_engine.plan import compile_model
    from rules_engine.syntax.read import read
    from rules_engine.testing.runner import run_tests

    plugins = host.load()
    file, problems = read(REFUSALS, "t.camp")
    assert not problems
    compiled = compile_model(meaning.build([file], plugins.actions, plugins.events), plugins.actions, "t")
    first, second, third = run_tests(compiled, compiled.model.tests)
    assert first.passed
    assert [failure.message for failure in second.failures] == [
        "a change of the contact was set aside: contact.age breaks its declaration: contact.age >= 0 (contact.age is -3)"
    ]
    assert [failure.message for failure in third.failures] == ["something of ana should have been refused"]
