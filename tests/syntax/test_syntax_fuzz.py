"""A slice of `python -m tests.fuzz`."""

from tests import fuzz


def test_no_input_makes_a_traceback_or_takes_long() -> None:
    _count, slowest, failures = fuzz.run(3_000, seed=20260301)
    assert failures == []
    assert slowest < fuzz.LIMIT_MS
