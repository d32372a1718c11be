"""The breaker of a provider: closed, open, one trial, longer and longer."""

from __future__ import annotations

from rules_engine.service.breaker import FAILURES, FIRST_PAUSE, LONGEST_PAUSE, Breaker


def fail(breaker, times, now=0):
    return [breaker.note(False, now) for _ in range(times)]


def test_a_few_failures_are_an_ordinary_bad_moment():
    breaker = Breaker()
    fail(breaker, FAILURES - 1)
    assert breaker.stops(0) is None
    breaker.note(True, 0)
    fail(breaker, FAILURES - 1)
    assert breaker.stops(0) is None, "they count in a row"


def test_many_in_a_row_open_it_once_and_calls_under_way_do_not_open_it_again():
    breaker = Breaker()
    said = fail(breaker, FAILURES + 3)
    assert [at for at in said if at is not None] == [FIRST_PAUSE]
    assert breaker.stops(0) == breaker.stops(FIRST_PAUSE - 1) == FIRST_PAUSE


def test_one_trial_at_a_time_and_each_that_fails_doubles_the_pause():
    breaker, now, pauses = Breaker(), 0, []
    fail(breaker, FAILURES)
    for _ in range(8):
        opened = breaker.open_until
        pauses.append(opened - now)
        now = opened
        assert breaker.stops(now) is None
        breaker.begin(now)
        assert breaker.stops(now) > now, "a second call waits for the first"
        assert breaker.note(False, now) > now
    assert pauses[:4] == [FIRST_PAUSE * 2**n for n in range(4)] and pauses[-1] == LONGEST_PAUSE


def test_a_trial_that_works_closes_it():
    breaker = Breaker()
    fail(breaker, FAILURES)
    breaker.begin(FIRST_PAUSE)
    breaker.note(True, FIRST_PAUSE)
    assert breaker.stops(FIRST_PAUSE) is None
    assert fail(breaker, FAILURES, FIRST_PAUSE)[-1] == 2 * FIRST_PAUSE, "and it begins anew with the shortest pause"


def test_a_provider_that_names_a_time_is_left_alone_for_as_long_within_reason():
    breaker = Breaker()
    fail(breaker, FAILURES - 1)
    assert breaker.note(False, 0, 120) == 120_000
    breaker = Breaker()
    fail(breaker, FAILURES - 1)
    assert breaker.note(False, 0, 10**9) == LONGEST_PAUSE
