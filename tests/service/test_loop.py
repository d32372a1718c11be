"""The service: once, for ever, and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from rules_engine.clock import SystemClock
from rules_engine.facts import Event
from rules_engine.service.loop import Stop, _Loop, run_forever, run_once
from rules_engine.service.runner import DirectRunner
from rules_engine.store.port import Arrival, StoreError
from rules_engine.store.sqlite import SqliteStore
from tests.service.fake import DAY, ENGINE, HOUR, Program, Provider, attributes

ROOT = Path(__file__).parents[2]


def options(**more):
    return {"engine": ENGINE, "attributes": attributes, "runner": DirectRunner(), **more}


def send(id, contact="ana", at=HOUR, name="send", **data):
    return Arrival(Event(id, name, contact, at, None, data))


def test_once_does_all_that_is_to_be_done(store, clock):
    store.record_events([send("a"), send("b", "ben"), send("c", name="boom")])
    provider, seen = Provider(), []
    done = run_once(store, Program(), provider.host, clock, progress=seen.append, **options())
    assert (done.events, done.wakes, done.set_aside, done.planned, done.effects, done.stopped) == (
        3,
        0,
        1,
        2,
        {"accepted": 2},
        False,
    )
    assert done.decisions == {("fake", "enter", None, "done"): 2, ("fake", "action", None, "done"): 2} and done.at == 1_000_000
    assert seen[-1] == (3, 0, 2, 1_000_000)
    again = run_once(store, Program(), provider.host, clock, **options())
    assert (again.events, again.wakes, again.effects) == (0, 0, {})
    assert [version.digest for version in store.programs()] == ["p1"]


def test_once_up_to_a_moment_plays_history(store, clock):
    store.record_events([send("a", at=HOUR), send("b", "ben", at=10 * DAY)])
    provider = Provider()
    done = run_once(store, Program(), provider.host, clock, until=5 * DAY, **options())
    assert (done.events, done.wakes, done.effects, done.at) == (1, 1, {"accepted": 2}, 5 * DAY)
    assert provider.keys == ["ana/2", "ana/4"]


def test_it_can_be_told_to_hand_over_nothing(store, clock):
    store.record_events([send("a")])
    provider = Provider()
    run_once(store, Program(), provider.host, clock, **options(dispatch=False))
    assert provider.calls == [] and store.effect("ana/2").state == "ready"


def test_the_second_is_refused(store, clock):
    with store.run_lock(), pytest.raises(StoreError, match="another `camp run`"):
        run_once(store, Program(), Provider().host, clock, **options())


def test_a_wish_to_stop_ends_between_blocks(store, clock):
    store.record_events([send(f"e{n}", f"c{n}") for n in range(50)])
    stop = Stop()
    done = run_once(store, Program(), Provider().host, clock, progress=stop, **options(stop=stop, live_block=10))
    assert done.stopped and done.events == 10 and store.counts().events["done"] == 10
    done = run_once(store, Program(), Provider().host, clock, **options())
    assert done.events == 40 and done.effects == {"accepted": 50}


class Moving:
    """A clock whose sleeping lets a test do something."""

    def __init__(self, clock, steps):
        self.clock, self.steps, self.slept = clock, steps, []

    def now(self):
        return self.clock.now()

    def sleep(self, milliseconds):
        self.slept.append(milliseconds)
        self.clock.sleep(milliseconds)
        if self.steps:
            self.steps.pop(0)()


def test_for_ever_picks_up_what_arrives_and_what_falls_due(store, clock):
    stop, provider = Stop(), Provider()
    steps = [lambda: store.record_events([send("a")]), lambda: None, lambda: clock.sleep(4 * DAY), lambda: None, stop]
    done = run_forever(store, Program(), provider.host, Moving(clock, steps), **options(stop=stop))
    assert provider.keys == ["ana/2", "ana/4"] and (done.events, done.wakes) == (1, 1)


def test_it_sleeps_no_longer_than_to_what_is_due(store, clock):
    store.record_events([send("a", name="later", ms=100)])
    stop = Stop()
    moving = Moving(clock, [lambda: None, lambda: None, stop])
    run_forever(store, Program(), Provider().host, moving, **options(stop=stop))
    assert moving.slept[:2] == [100, 250]


def test_trouble_that_passes_is_waited_out(tmp_path, clock, caplog):
    store = SqliteStore(tmp_path / "camp.db", clock)
    store.record_events([Arrival(Event("a", "send", "ana", 1, None, {"name": "x" * 20_000}))])
    store._db.raw.execute(f"PRAGMA max_page_count = {store._db.one('PRAGMA page_count')}")  # the disk is full
    stop, provider = Stop(), Provider([lambda call: stop() or "accepted"])
    steps = [lambda: None] * 3 + [lambda: store._db.raw.execute("PRAGMA max_page_count = 100000")] + [lambda: None] * 20 + [stop]
    done = run_forever(store, Program(), provider.host, Moving(clock, steps), **options(stop=stop))
    assert done.events == 1 and provider.calls and store.check() == []
    assert [message for message in caplog.messages if message.startswith("the disk is full")], "it was tried, and said"


def test_trouble_that_does_not_pass_ends_it(store, clock, monkeypatch):
    def broken(*_):
        raise StoreError("the database is damaged", kind="corrupt")

    monkeypatch.setattr(store, "read_log", broken)
    with pytest.raises(StoreError, match="damaged"):
        run_forever(store, Program(), Provider().host, clock, **options())


def test_a_job_that_fails_does_not_silence_the_bell_and_a_clock_set_back_does_not_freeze_it(store, clock, monkeypatch):
    stop = Stop()
    idle = {"stop": stop, "beat": lambda self: False, "pause": lambda self: 1, "summary": None}
    service = type("Idle", (), idle | {"rest": lambda self, milliseconds: loop._clock.sleep(milliseconds)})()
    rung = []
    monkeypatch.setattr(store, "maintain", lambda: rung.append(1) or 1 / 0)
    monkeypatch.setattr("rules_engine.service.loop.HEARTBEAT_SECONDS", 0.0001)
    monkeypatch.setattr("rules_engine.service.loop.MAINTENANCE_SECONDS", 0.0001)
    loop = _Loop(service, store, Moving(clock, [lambda: time.sleep(0.002)] * 6 + [stop]))
    loop.run()
    assert len(rung) >= 5
    loop._hang_bell()
    monkeypatch.setattr(store, "maintain", lambda: None)
    for job in loop._scheduler.jobs:
        job.next_run += job.next_run.resolution * 3_600_000_000  # the wall's clock went back by an hour
    stop.wanted, loop._clock = False, Moving(clock, [stop])
    loop.run()
    assert loop._scheduler.idle_seconds < 5


SERVICE = """
    import sys, time
    from rules_engine.clock import SystemClock
    from rules_engine.actions import Outcome
    from rules_engine.service.loop import run_forever
    from rules_engine.store.sqlite import SqliteStore
    from tests.service.fake import ENGINE, Program, Provider, attributes

    def slow(call):
        print("calling", flush=True)
        time.sleep(0.3)
        return "accepted"

    provider = Provider([slow] * 1000, timeout=5)
    done = run_forever(SqliteStore(sys.argv[1]), Program(), provider.host, SystemClock(), engine=ENGINE, attributes=attributes)
    print("ended", done.events, dict(done.effects), flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(tmp_path, number):
    store = SqliteStore(tmp_path / "camp.db", SystemClock())
    store.record_events([send(f"e{n}", f"c{n}") for n in range(100)])
    service = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SERVICE), str(tmp_path / "camp.db")], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert service.stdout.readline().startswith("calling")
    begun = time.monotonic()
    os.kill(service.pid, number)
    out, _ = service.communicate(timeout=20)
    assert service.returncode == 0 and time.monotonic() - begun < 5 and "ended 100" in out
    effects = store.counts().effects
    assert 1 <= effects["accepted"] <= 8 and "claimed" not in effects and "unknown" not in effects
    assert store.counts().events == {"new": 0, "done": 100, "set_aside": 0}
