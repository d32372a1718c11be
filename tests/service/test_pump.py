"""The pump: order, setting aside, restarts; with a fake engine, on both stores."""

from __future__ import annotations

import hashlib

import pytest

from rules_engine.facts import ContactChange, Event, Wake
from rules_engine.service.pump import Pump, _Cache
from rules_engine.store.memory import MemoryStore
from rules_engine.store.port import Arrival, ContactRow
from rules_engine.store.sqlite import SqliteStore
from tests.service.fake import DAY, ENGINE, HOUR, Program

NAMES = ("tick", "tick", "tick", "later", "send", "refer", "echo", "boom", "crash", "change")


def chance(seed, n, size):
    """A number below `size` that depends on seed and n only."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{n}".encode(), digest_size=6).digest(), "big") % size


def history(count, contacts, seed=1):
    """Made-up arrivals, not in order of time, with ties."""
    made = []
    for n in range(count):
        name, contact = NAMES[chance(seed, f"name{n}", len(NAMES))], f"c{chance(seed, f'contact{n}', contacts):03}"
        at = chance(seed, f"at{n}", 20 * 24) * HOUR
        if name == "change":
            made.append(Arrival(ContactChange(f"e{n}", contact, at, {"n": n}), "contacts"))
        else:
            data = {"total": n % 7, "ms": (1 + n % 5) * DAY, "to": f"c{chance(seed, f'to{n}', contacts):03}"}
            made.append(Arrival(Event(f"e{n}", name, contact, at, None, data)))
    return made


def pump(store, **options):
    return Pump(store, Program(), ENGINE, **options)


def replay(store, until, **options):
    runner = pump(store, **options)
    while runner.replay(until) is not None:
        pass
    return runner


def live(store, clock, **options):
    runner = pump(store, **options)
    while runner.live(clock) is not None:
        pass
    return runner


def picture(store):
    """All that a run leaves, but for the machine's times."""
    ids = store.contact_ids(limit=10_000)
    states = {id: (row.state, row.wake_at, row.updated) for id, row in store.contacts(ids).items()}
    log = {row.cause: (row.status, row.reason) for id in ids for row in (event(row) for row in store.events_of(id, 10_000))}
    return {
        "states": states,
        "journal": [row.decision for row in store.journal(limit=100_000)],
        "log": log,
        "effects": sorted(effect[:13] for effect in store.effects(limit=10_000)),
        "clock": store.position().clock,
    }


def event(row):
    if isinstance(row.cause, Event):
        return row._replace(cause=(row.cause.id, row.cause.name, row.cause.contact, row.cause.at))
    return row._replace(cause=(getattr(row.cause, "id", "wake"), row.cause.contact, row.cause.at))


# ---------------------------------------------------------------- order


def test_history_runs_in_order_of_time_with_timers_at_their_own(store):
    store.record_events(
        [
            Arrival(Event("b", "later", "ana", 2 * HOUR, None, {"ms": HOUR})),
            Arrival(Event("a", "tick", "ben", HOUR)),
            Arrival(Event("c", "tick", "ana", 3 * HOUR)),
            Arrival(Event("d", "tick", "ben", 9 * DAY)),
        ]
    )
    replay(store, 5 * DAY)
    assert [(row.decision.at, row.decision.contact, row.decision.cause) for row in store.journal()] == [
        (HOUR, "ben", "a"),
        (2 * HOUR, "ana", "b"),
        (3 * HOUR, "ana", "timer"),
        (3 * HOUR, "ana", "effect"),
        (3 * HOUR, "ana", "c"),
        (3 * DAY + HOUR, "ben", "timer"),
        (3 * DAY + HOUR, "ben", "effect"),
        (3 * DAY + 3 * HOUR, "ana", "timer"),
        (3 * DAY + 3 * HOUR, "ana", "effect"),
    ]
    assert store.position().clock == 5 * DAY and store.counts().events == {"new": 1, "done": 3, "set_aside": 0}


def test_up_to_and_including_the_moment(store):
    store.record_events([Arrival(Event("a", "tick", "ana", HOUR)), Arrival(Event("b", "tick", "ana", 2 * HOUR))])
    replay(store, HOUR)
    assert [row.decision.cause for row in store.journal()] == ["a"]
    replay(store, HOUR + 3 * DAY - 1)
    assert [row.decision.cause for row in store.journal()] == ["a", "b"]
    replay(store, 2 * HOUR + 3 * DAY)
    assert [row.decision.cause for row in store.journal()] == ["a", "b", "timer", "effect"]


def test_an_event_for_another_contact_takes_its_place_in_time(store):
    store.record_events(
        [Arrival(Event("a", "refer", "ana", HOUR, None, {"to": "ben"})), Arrival(Event("b", "tick", "ben", 2 * HOUR))]
    )
    replay(store, DAY)
    assert [(row.decision.contact, row.decision.cause) for row in store.journal()] == [
        ("ana", "a"),
        ("ben", "a/refer"),
        ("ben", "b"),
    ]


def test_live_runs_in_order_of_arrival_at_the_time_of_arrival(store, clock):
    store.record_events([Arrival(Event("b", "tick", "ana", 900)), Arrival(Event("a", "tick", "ana", 100))])
    live(store, clock)
    assert [(row.decision.cause, row.decision.at) for row in store.journal()] == [("b", 1_000_000), ("a", 1_000_000)]


def test_silence_is_judged_by_the_logs_time_and_not_by_the_walls(store, clock):
    """The service was down for five days; an event arrived on the second: there never were three days of silence before it."""
    store.record_events([Arrival(Event("a", "tick", "ana", 1_000_000))])
    live(store, clock)
    clock.move_to(1_000_000 + 2 * DAY)
    store.record_events([Arrival(Event("b", "tick", "ana", 1_000_000 + 2 * DAY))])
    clock.move_to(1_000_000 + 4 * DAY)
    live(store, clock)
    assert [row.decision.cause for row in store.journal()] == ["a", "b"]
    clock.move_to(1_000_000 + 5 * DAY)
    live(store, clock)
    assert [row.decision.cause for row in store.journal()] == ["a", "b", "timer", "effect"]


def test_a_backlog_does_not_hold_up_what_is_due_by_its_own_time(store, clock):
    store.record_events([Arrival(Event("a", "tick", "ana", 1_000_000))])
    live(store, clock)
    clock.move_to(1_000_000 + 4 * DAY)
    store.record_events([Arrival(Event(f"b{n}", "tick", "ben", 1_000_000 + 4 * DAY)) for n in range(50)])
    runner = pump(store, live_block=10)
    runner.live(clock)
    runner.live(clock)
    assert [row.decision.cause for row in store.journal_of("ana")] == ["a", "timer", "effect"], (
        "after the first block of the backlog"
    )


def test_no_timer_is_early_and_none_is_lost(store, clock):
    store.record_events([Arrival(Event(f"e{n}", "later", f"c{n:03}", 0, None, {"ms": n * HOUR})) for n in range(1, 40)])
    for hour in range(0, 60, 7):
        clock.move_to(1_000_000 + hour * HOUR)
        live(store, clock)
        fired = [row.decision.contact for row in store.journal(limit=1_000) if row.decision.cause == "timer"]
        assert fired == [f"c{n:03}" for n in range(1, min(hour, 39) + 1)]


# ---------------------------------------------------------------- setting aside


def test_what_is_refused_costs_only_itself(store, clock):
    store.record_events(
        [
            Arrival(Event("a", "tick", "ana", 1)),
            Arrival(Event("b", "boom", "ana", 2)),
            Arrival(Event("c", "tick", "ana", 3)),
            Arrival(Event("d", "crash", "ben", 4)),
            Arrival(Event("e", "tick", "ben", 5)),
        ]
    )
    live(store, clock)
    assert [row.decision.cause for row in store.journal()] == ["a", "c", "e"]
    assert b'"n":2' in store.contacts(["ana"])["ana"].state, "the refused event left nothing in the state"
    assert [(row.cause.id, row.reason) for row in store.set_aside()] == [
        ("d", "internal error of the engine: KeyError: 'nobody'"),
        ("b", "rules a and b feed each other without end"),
    ]


def test_a_wake_up_for_ever_is_switched_off_and_kept(store, clock):
    store.record_events([Arrival(Event("a", "past", "ana", 1)), Arrival(Event("b", "tick", "ben", 1))])
    live(store, clock)
    clock.move_to(1_000_000 + 4 * DAY)
    live(store, clock)
    (aside,) = store.set_aside()
    assert aside.cause == Wake("ana", 1_000_000 + HOUR) and "past" in aside.reason
    assert store.contacts(["ana"])["ana"].wake_at is None
    assert [row.decision.cause for row in store.journal_of("ben")] == ["b", "timer", "effect"]


def test_a_released_wake_up_is_tried_again(store, clock):
    store.record_events([Arrival(Event("a", "past", "ana", 1))])
    live(store, clock)
    clock.move_to(1_000_000 + 2 * HOUR)
    live(store, clock)
    store.release([row.seq for row in store.set_aside()])
    live(store, clock)
    assert len(store.set_aside()) == 1, "set aside again, not lost and not for ever"


def test_what_another_process_releases_is_picked_up(store, clock):
    store.record_events([Arrival(Event("a", "boom", "ana", 1)), Arrival(Event("b", "tick", "ben", 1))])
    runner = live(store, clock)
    assert [row.status for row in store.events_of("ana")] == ["set_aside"]
    store.release([1])
    assert runner.live(clock).set_aside == 1, "tried again"


def test_a_slow_block_ends_early_and_nothing_is_read_twice_or_left_out(store, clock, monkeypatch):
    store.record_events([Arrival(Event(f"e{n}", "tick", f"c{n % 5}", n)) for n in range(100)])
    reads = []
    monkeypatch.setattr(store, "read_log", lambda *given, read=store.read_log: reads.append(given) or read(*given))

    class Slow:
        def now(self):
            clock.sleep(30)
            return clock.now()

    runner, turns = pump(store), []
    while (turn := runner.live(Slow())) is not None and turn.wakes == 0 and len(turns) < 50:
        turns.append(turn.events)
    assert turns == [32, 32, 32, 4] and [given for given in reads if given[1] > 1] == [(0, 500), (100, 500)]
    assert [row.decision.cause for row in store.journal(limit=200)] == [f"e{n}" for n in range(100)]


@pytest.mark.parametrize("time", ["live", "replay"])
def test_what_can_not_be_stored_is_found_and_set_aside(tmp_path, clock, time):
    store = SqliteStore(tmp_path / "camp.db", clock)
    names = ["tick"] * 7 + ["huge"] + ["tick"] * 7
    store.record_events([Arrival(Event(f"e{n}", name, f"c{n % 3}", n)) for n, name in enumerate(names)])
    live(store, clock) if time == "live" else replay(store, DAY)
    (aside,) = store.set_aside()
    assert aside.cause.id == "e7" and "can't be stored" in aside.reason
    assert store.counts().decisions == 14 and store.counts().events["new"] == 0


# ---------------------------------------------------------------- restarts and blocks


@pytest.fixture(scope="module")
def expected():
    store = MemoryStore()
    store.record_events(history(700, 30))
    replay(store, 40 * DAY, replay_block=100_000)
    return picture(store)


@pytest.mark.parametrize("block", [1, 2, 3, 7, 50, 499, 5_000])
def test_the_size_of_blocks_changes_nothing(store, expected, block):
    store.record_events(history(700, 30))
    replay(store, 40 * DAY, replay_block=block, cache_bytes=0 if block % 2 else 1 << 20)
    assert picture(store) == expected


def test_restarts_change_nothing(store, expected):
    store.record_events(history(700, 30))
    for turn in range(100_000):
        if pump(store, replay_block=1 + turn % 90).replay(40 * DAY) is None:
            break
    assert picture(store) == expected


def test_stopping_at_moments_in_between_changes_nothing(store, expected):
    store.record_events(history(700, 30))
    for day in range(1, 41):
        replay(store, day * DAY)
    assert picture(store) == expected


@pytest.mark.parametrize("block", [1, 3, 20, 500])
def test_live_blocks_and_restarts_change_nothing(clock, tmp_path, block):
    one, other = MemoryStore(clock), SqliteStore(tmp_path / "camp.db", clock)
    for day in range(1, 15):
        clock.move_to(day * DAY)
        for store in (one, other):
            store.record_events(
                history(60, 10, seed=day)[: 50 + day]
                if day == 1
                else [
                    arrival._replace(cause=arrival.cause._replace(id=f"{day}/{arrival.cause.id}"))
                    for arrival in history(60, 10, seed=day)
                ]
            )
        live(one, clock)
        live(other, clock, live_block=block, cache_bytes=10_000)

    def by_contact(store):
        return {id: [row.decision for row in store.journal_of(id)] for id in store.contact_ids()}

    assert by_contact(one) == by_contact(other) and picture(one)["states"] == picture(other)["states"]


def test_repeating_a_finished_run_does_nothing(store):
    store.record_events(history(200, 10))
    replay(store, 40 * DAY)
    before = picture(store)
    store.record_events(history(200, 10))
    assert replay(store, 40 * DAY) and picture(store) == before


def test_the_cache_is_bounded_and_keeps_the_latest_used():
    cache = _Cache(10_000)
    for n in range(100):
        cache.put([ContactRow(f"c{n}", b"x" * 100, None, "p", 0)])
        cache.get("c0")
    assert cache.get("c0") and cache.get("c99") and not cache.get("c1") and cache._used <= 10_000
    cache.drop("c0")
    assert cache.get("c0") is None
