"""The mutation study, on a sample that is the same each time. All of it: `python -m tests.mutations`."""

from tests import mutations

EVERY = 120


def test_typos_are_caught_where_they_are_and_said_once() -> None:
    tally = mutations.study(mutations.sources(), every=EVERY)
    caught, line, exact, suggestion = tally.share()
    assert tally.count["all"] > 300, "a sample that says something"
    assert caught >= 98, tally
    assert line >= 98, tally
    assert exact >= 98, tally
    assert suggestion >= 90, tally
