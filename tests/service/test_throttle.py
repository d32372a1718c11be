"""Throttles: never more in any span of the period, and the rate is reached."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules_engine.service.throttle import SLOTS, Throttle, Throttles, of_settings, parse
from rules_engine.store.port import CLAIM, Candidate


class Desk:
    """A store's part in it: counts per slot and who stands in line, and forgets what no longer matters."""

    def __init__(self):
        self.slots, self.line = {}, set()

    def candidate(self, number, throttle):
        effect = SimpleNamespace(detail=throttle.reason if number in self.line else "")
        return Candidate(effect, None, False, used=self.used, waiting=lambda detail: len(self.line))

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
        later = throttles.spend(throttle, desk.candidate(number, throttle), now)
        desk.line.discard(number)
        if later is None:
            desk.spend(throttle, now)
            left.append(now)
        else:
            assert later > now
            desk.line.add(number)
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


@pytest.mark.parametrize(("count", "backlog"), [(500, 20_000), (1, 300)])
def test_a_backlog_leaves_at_the_rate_in_order_and_is_looked_at_about_once(count, backlog):
    throttle = Throttle("c", count, 60_000)
    left, looks = run(throttle, [0] * backlog)
    minutes = (max(left) - min(left)) / 60_000
    assert backlog / count - 1 <= minutes <= backlog / count * (1 + 1 / SLOTS) + 2
    assert left == sorted(left) and looks <= 2 * backlog


def test_twice_as_many_as_may_leave_lose_nothing_of_the_rate():
    """Those who come later may take a free slot; who loses it to them does not go to the end of the line."""
    left, looks = run(Throttle("c", 500, 60_000), [60 * number for number in range(5_000)])
    assert max(left) <= 5_000 / 500 * 60_000 * (1 + 1 / SLOTS) + 60_000 and looks < 3 * 5_000


def test_a_line_that_was_called_off_holds_nobody_up():
    desk, throttle = Desk(), Throttle("c", 1, 60_000)
    throttles = Throttles({"c": throttle}, {})
    desk.spend(throttle, 0)
    for number in range(3_000):
        assert throttles.spend(throttle, desk.candidate(number, throttle), 0) >= 63_000 * (number + 1)
        desk.line.add(number)
    assert throttles.spend(throttle, desk.candidate("new", throttle), 2_000) == 63_000 * 3_001
    desk.line = {2_999}  # the others were called off
    assert throttles.spend(throttle, desk.candidate("newer", throttle), 5_000) == 63_000 * 2
    assert throttles.spend(throttle, desk.candidate(2_999, throttle), 5_000) == 63_000, "at its time: the next free moment"


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
