"""A slice of the clocks that jump. The whole: `python -m tests.crash clocks --count 2000`."""

from __future__ import annotations

import datetime

import pytest

from rules_engine import clock as clocks_of_the_engine
from rules_engine.clock import SystemClock, VirtualClock
from rules_engine.service import loop
from rules_engine.service.loop import Stop, _Loop, run_once
from rules_engine.store.memory import MemoryStore
from rules_engine.store.sqlite import SqliteStore
from tests.crash import clocks, world
from tests.crash.clocks import Machine
from tests.crash.world import DAY, HOUR, START


def test_whatever_the_clock_does_no_timer_is_early_lost_or_fires_twice():
    assert clocks.campaign(20) == (20, [])


def test_timers_that_fire_early_are_found(monkeypatch):
    monkeypatch.setattr(SqliteStore, "quiet_now", lambda self, after, whole=SqliteStore.quiet_now: (now := whole(self, after)) and now + DAY)
    assert any("no clock has shown more" in text for text in clocks.campaign(2)[1])


def test_timers_that_are_lost_are_found(monkeypatch):
    monkeypatch.setattr(SqliteStore, "due", lambda self, now, limit, whole=SqliteStore.due: [item for item in whole(self, now, limit) if item[1] != "c001"])
    assert any("c001" in text for text in clocks.campaign(2)[1])


def test_the_service_sees_no_time_go_back(monkeypatch):
    machine = Machine({3: -DAY, 6: -HOUR, 9: 2 * DAY})
    monkeypatch.setattr(clocks_of_the_engine, "time", machine)
    clock = SystemClock()
    seen = [clock.now() for _ in range(12)]
    assert seen == sorted(seen) and seen[7] == START and seen[-1] == START + DAY - HOUR


@pytest.mark.parametrize("step", [-3600, 3600, -7 * 86_400])
def test_the_bell_rings_on_when_the_local_clock_is_moved(monkeypatch, step):
    """`schedule` reads naive local time: an hour forwards or back twice a year, or whatever somebody sets."""
    moved = [0.0]

    class Moved(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.datetime.now(tz) + datetime.timedelta(seconds=moved[0])

    module = type("Datetime", (), {name: getattr(datetime, name) for name in dir(datetime) if not name.startswith("_")})
    module.datetime = Moved
    monkeypatch.setattr(loop.schedule, "datetime", module)
    stop, rung, naps = Stop(), [], [0]
    service = type("Idle", (), {"stop": stop, "beat": lambda self: False, "pause": lambda self: 1, "summary": None, "rest": lambda self, ms: nap(ms)})()
    store = MemoryStore(VirtualClock())
    monkeypatch.setattr(store, "maintain", lambda: rung.append(naps[0]))

    class Clock:
        now = staticmethod(lambda: 0)
        sleep = staticmethod(lambda ms: nap(ms))

    def nap(milliseconds):
        naps[0] += 1
        moved[0] += 400  # seconds
        if naps[0] == 20:
            moved[0] += step
        if naps[0] == 40:
            stop()

    _Loop(service, store, Clock()).run()
    assert [n for n in rung if n < 20] and [n for n in rung if n > 22], rung
    assert max(b - a for a, b in zip(rung, rung[1:], strict=False)) <= 5


def test_what_expires_is_judged_when_it_leaves_and_a_jump_makes_it_expired(tmp_path):
    """A message of ten minutes' use; the service was away, or the clock jumped, for an hour."""
    program = world.compile_text('EVENT signup WITH plan: text\nRULE code\n  WHEN signup\n    THEN sms.send "1234", expires_after: 10 minutes\nEND\n')
    clock = VirtualClock(START)
    store = SqliteStore(tmp_path / "camp.db", clock)
    told = world.facts(0, 2)
    store.record_events(world.arrivals(told))
    signup = [world.Event(f"s{n}", "signup", f"c00{n}", START, None, {"plan": "small"}) for n in range(2)]
    handed = []
    options = {**world.options(tmp_path), "sources": {}}
    store.record_events(world.arrivals(signup[:1]))
    run_once(store, program, world.host(lambda call: handed.append(call.contact["id"])), clock, **options)
    store.record_events(world.arrivals(signup[1:]))
    run_once(store, program, world.host(lambda call: handed.append(call.contact["id"])), clock, dispatch=False, **options)
    clock.sleep(HOUR)
    run_once(store, program, world.host(lambda call: handed.append(call.contact["id"])), clock, **options)
    assert handed == ["c000"] and store.counts().effects == {"accepted": 1, "expired": 1}
    store.close()
