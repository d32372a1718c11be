"""Throttles: never more in any span of the period, and the rate is reached."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules_engine.service.throttle import SLOTS, Throttle, Throttles, of_settings, parse
from rules_engine.store.port import CLAIM, Candidate


class Desk:
    """A store's part in it: counts per slot, and forgets what no longer matters."""

    def __init__(self):
        self.slots = {}

    def used(self, name, slot):
        found = {then: used for (known, then), used in self.slots.items() if known == name and then >= slot}
        return sum(found.values()), min(found, default=None)

    def spend(self, throttle, now):
        key = (throttle.name, throttle.slot_of(now))
        self.slots[key] = self.slots.get(key, 0) + 1
        for old in [old for old in self.slots if old[0] == throttle.name and old[1] < throttle.oldest(now)]:
            del self.slots[old]


def run(throttle, arrivals, forget=()):
    """When each of the arrivals (ms) left. forget: indices at which the process starts anew."""
    desk, throttles, left = Desk(), Throttles({"c": throttle}, {}), []
    waiting = sorted((at, number) for number, at in enumerate(arrivals))
    looks = 0
    while waiting:
        now, number = waiting.pop(0)
        looks += 1
        if number in forget:
            throttles = Throttles({"c": throttle}, {})
        later = throttles.spend(throttle, Candidate(None, None, False, False, desk.used), now)
        if later is None:
            desk.spend(throttle, now)
            left.append(now)
        else:
            assert later > now
            waiting.append((later, number))
            waiting.sort()
    return left, looks


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 12),
    st.sampled_from([1_000, 60_000, 86_400_000]),
    st.lists(st.integers(0, 200_000), min_size=1, max_size=80),
    st.sets(st.integers(0, 80), max_size=5),
)
def test_no_span_of_the_period_holds_more(count, period, arrivals, forget):
    left, _ = run(Throttle("c", count, period), arrivals, forget)
    assert len(left) == len(arrivals), "everything leaves in the end"
    left.sort()
    for index, at in enumerate(left):
        assert sum(1 for other in left[index:] if other < at + period) <= count


def test_a_backlog_leaves_at_the_rate_in_order_and_is_looked_at_about_once():
    throttle = Throttle("c", 500, 60_000)
    left, looks = run(throttle, [0] * 20_000)
    minutes = (max(left) - min(left)) / 60_000
    assert 20_000 / 500 - 1 <= minutes <= 20_000 / 500 * (1 + 1 / SLOTS) + 2
    assert looks < 3 * 20_000


def test_both_a_campaigns_and_a_plugins_throttle_count():
    campaign, plugin = Throttle("c", 1, 1_000), Throttle("plugin email", 1, 1_000)
    throttles = Throttles({"c": campaign}, {"email": plugin})
    assert throttles.of("c", "email") == [campaign, plugin]
    assert throttles.of("d", "email") == [plugin] and throttles.of("d", "sms") == []


@pytest.mark.parametrize(
    ("text", "count", "period"),
    [("500 per minute", 500, 60_000), ("14 per second", 14, 1_000), (" 2_000 PER Day ", 2_000, 86_400_000), ("1 per hour", 1, 3_600_000)],
)
def test_a_rate_is_written_in_words(text, count, period):
    assert parse(text, "email")[1:] == (count, period)


@pytest.mark.parametrize("text", ["", "500", "0 per minute", "-1 per day", "5 per fortnight", 7, None, "5 / s", "5 per minute!"])
def test_another_text_is_refused_in_words(text):
    with pytest.raises(ValueError, match=r"email\.throttle = .* is no rate; write it like"):
        parse(text, "email")
    assert of_settings({"sms": {}}) == {} and CLAIM.spent == ()
