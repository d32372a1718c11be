"""Two contacts who become one: the past is answered as if one had done it all, whatever was merged when, in whatever order it came."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rules_engine.clock import VirtualClock
from rules_engine.engine import advance, members, merged_into, new_state
from rules_engine.facts import ContactChange, Event, Wake
from rules_engine.service import faults as points
from rules_engine.service.pump import Pump
from rules_engine.store.memory import MemoryStore
from rules_engine.store.port import Arrival
from rules_engine.testing.simulator import World
from tests.engine import kit

EXAMPLES = int(os.environ.get("CAMP_ENGINE_EXAMPLES", "60"))
START = kit.ms("2026-03-20 10:00")  # the clocks change within the histories
HOUR = 3_600_000

ASKED = {
    "ordered": "DID order.placed", "did_page": 'DID page.viewed "/pricing" WITHIN 3 days', "did_three": "DID page.viewed WITHIN 2 days AT LEAST 3 TIMES",
    "did_many": 'DID page.viewed ["/pricing", "/a*"] WITHIN 2 days AT LEAST 2 TIMES', "did_big": "DID order.placed WHERE event.total > 50",
    "did_mine": "DID order.placed WHERE event.total > contact.level",
}
FACTS = {
    "n": ("number", "COUNT page.viewed"), "n_in": ("number", "COUNT page.viewed WITHIN 36 hours"),
    "sum": ("number", "SUM event.total OF order.placed"), "sum_in": ("number", "SUM event.total OF order.placed WITHIN 2 days"),
    "avg": ("number", "AVG event.total OF order.placed"), "avg_in": ("number", "AVG event.total OF order.placed WITHIN 1 day"),
    "least": ("number", "MIN event.total OF order.placed"), "least_in": ("number", "MIN event.total OF order.placed WITHIN 2 days"),
    "most": ("number", "MAX event.total OF order.placed"), "most_in": ("number", "MAX event.total OF order.placed WITHIN 3 days"),
    "kinds": ("number", "COUNT DISTINCT event.product OF order.placed"),
    "kinds_in": ("number", "COUNT DISTINCT event.product OF order.placed WITHIN 2 days"),
    "last": ("text", "LAST event.product OF order.placed"), "last_in": ("text", "LAST event.product OF order.placed WITHIN 2 days"),
    "first": ("text", "FIRST event.product OF order.placed"), "first_in": ("text", "FIRST event.product OF order.placed WITHIN 2 days"),
}
PROJECT = """
EVENT order.placed WITH total: number, product: text
EVENT left.behind
ATTRIBUTE level: number DEFAULT 30
SEGMENT picked
WORKSPACE
  TIMEZONE "Europe/Prague"
END
""" + "".join(f"SEGMENT {name} IS {text}\n" for name, text in ASKED.items()) \
    + "".join(f"FACT contact.{name}: {type_} IS {text}\n" for name, (type_, text) in FACTS.items())
JOURNEYS = """
RULE interest
  WHEN page.viewed "/pricing"
    THEN points.add 5
END
RULE seen
  WHEN contact ENTERS did_many
    THEN tag.add keen
END
RULE came
  WHEN contact.merged
    THEN log.write "{event.contact} is {contact.id}"
END
CAMPAIGN nurture
  REENTRY AFTER 3 days
  WHEN page.viewed "/pricing"
    WAIT UNTIL contact.sum >= 100 OR order.placed UP TO 2 days
      THEN log.write "bought"
    OTHERWISE
      THEN log.write "nothing"
    END
END
CAMPAIGN silent
  WHEN NOT page.viewed FOR 3 days
    THEN log.write "silent"
END
"""
_programs: dict[str, Any] = {}


def program(text: str = PROJECT) -> Any:
    if text not in _programs:
        _programs[text] = kit.program(text, events=False)
    return _programs[text]


WHO = ["ana", "visitor:1", "visitor:2"]
_what = st.one_of(
    st.tuples(st.just("page.viewed"), st.sampled_from(["/pricing", "/a1", "/other"]), st.just({})),
    st.tuples(st.just("page.viewed"), st.just("/pricing"), st.just({})),
    st.tuples(st.just("order.placed"), st.none(),
              st.builds(lambda total, product: {"total": total, "product": product}, st.integers(1, 90) | st.sampled_from([29.33, 29.73, 0.1]), st.sampled_from("abcd"))),
    st.tuples(st.just("left.behind"), st.none(), st.just({})),
)
streams = st.lists(st.tuples(st.sampled_from([1, 2, 5, 11, 30]), st.sampled_from(WHO), _what, st.sampled_from([0, 0, 0, 0, 5, 50])), min_size=1, max_size=25)


def events(stream: list[Any]) -> list[Event]:
    """Facts of several contacts in the order in which they are told, no two of one moment. Some come late."""
    now, found = START, []
    for number, (gap, who, (name, subject, data), late) in enumerate(stream):
        now += gap * HOUR
        found.append(Event(f"e{number}", name, who, now - late * HOUR - number, subject, data, now))
    return found


def identify(who: str, into: str, at: int, id: str = "") -> Event:
    return Event(id or f"i {who} {into}", "contact.identified", who, at, None, {"contact": into}, at)


def answers(state: dict[str, Any]) -> tuple[Any, ...]:
    # FIRST, LAST and their like of one stream are compared as values; floats in another order of adding differ in the last bit only.
    return ({name: round(value, 6) if isinstance(value, float) else value for name, value in state["a"].items() if name in FACTS},
            frozenset(name for name in members(state) if name in ASKED))


def play(program: Any, facts: list[Event], end: int) -> World:
    refused: list[Any] = []
    world = World(program, lambda cause, reason: refused.append((cause, reason)))
    for fact in facts:
        world.put(fact, fact.received)
    list(world.run(end))
    assert refused == []
    return world


@settings(max_examples=EXAMPLES * 3, deadline=None, suppress_health_check=list(HealthCheck))
@given(streams, st.integers(0, 25), st.integers(0, 25), st.sampled_from([("ana", "ana"), ("ana", "visitor:1"), ("visitor:2", "ana")]))
def test_the_past_is_answered_as_if_one_contact_had_done_it_all(stream: list[Any], first: int, second: int, into: tuple[str, str]) -> None:
    """Merges at any place of the stream, each into ana or along a chain, looked at any time later."""
    told = events(stream)
    facts = list(told)
    for who, target, place in (("visitor:1", into[0], first), ("visitor:2", into[1], second)):
        at = (told[min(place, len(told) - 1)].received or 0) + 1
        facts.append(identify(who, target, at))
    facts.sort(key=lambda fact: fact.received)
    end = facts[-1].received or 0
    merged = play(program(), facts, end)
    alone = play(program(), [fact._replace(contact="ana") for fact in told], end)
    for later in (0, 1, 3, 7, 13, 20, 30, 45, 70, 100):  # while what is WITHIN a time falls out of it
        for world in (merged, alone):
            list(world.run(end + later * HOUR))
        assert answers(merged.states["ana"]) == answers(alone.states["ana"]), f"{later} hours later"
    assert merged_into(merged.states["visitor:1"]) == into[0] and merged_into(merged.states["visitor:2"]) == into[1]


# ── through the pump ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

class Killed(Exception):
    """The process ends here."""


def stored(store: MemoryStore) -> Any:
    """What is known at the end: states, decisions by contact, and which facts each contact's log holds."""
    states = {id: {name: value for name, value in orjson.loads(row.state).items() if name != "k"} for id, row in store.contacts(store.contact_ids()).items()}
    journal = {id: [tuple(row.decision) for row in store.journal_of(id)] for id in states}
    logs = {id: sorted(row.cause.id for row in store.events_of(id, 10_000) if not isinstance(row.cause, Wake)) for id in states}
    assert store.set_aside() == []
    return orjson.dumps([states, journal, logs], option=orjson.OPT_SORT_KEYS, default=str)


def pumped(facts: list[Any], *, live: bool, block: int = 500, kills: frozenset[int] = frozenset(), end: int = 0) -> Any:
    """All facts through a pump, live as they come or replayed at the end; killed before the given commits, it goes on from the last."""
    clock = VirtualClock(START)
    store = MemoryStore(clock)
    commits = 0

    def faults(point: str) -> None:
        nonlocal commits
        if point == points.BLOCK_ADVANCED:
            commits += 1
            if commits in kills:
                raise Killed

    def begin() -> Pump:
        return Pump(store, program(PROJECT + JOURNEYS), live_block=block, replay_block=block, faults=faults)

    pump = begin()

    def run(turn: Any) -> None:
        nonlocal pump
        while True:
            try:
                if turn() is None:
                    return
            except Killed:
                pump = begin()

    for fact in facts:
        moment = fact.received if isinstance(fact, Event) else fact.at
        if live:
            while (wake := store.next_wake()) is not None and wake <= moment:
                clock.move_to(wake)
                run(lambda: pump.live(clock))
            clock.move_to(moment)
        store.record_events([Arrival(fact, "contacts" if isinstance(fact, ContactChange) else "events")])
        if live:
            run(lambda: pump.live(clock))
    if live:
        while (wake := store.next_wake()) is not None and wake <= end:
            clock.move_to(wake)
            run(lambda: pump.live(clock))
    else:
        clock.move_to(end)
        run(lambda: pump.replay(end))
    return stored(store)


def told(stream: list[Any], first: int, second: int, into: str) -> tuple[list[Any], int]:
    """The stream, all in time, with two merges and a change of a visitor's attributes in between."""
    found = [fact._replace(at=fact.received) for fact in events(stream)]
    last = found[-1].received
    extra: list[Any] = [identify("visitor:1", "ana", found[min(first, len(found) - 1)].at + 1), identify("visitor:2", into, found[min(second, len(found) - 1)].at + 2)]
    extra.append(ContactChange("c1", "visitor:1", found[len(found) // 2].at + 3, {"city": "Brno", "consent.email": False}))
    found = sorted([*found, *extra], key=lambda fact: fact.at)
    return found, last + 400 * HOUR


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(streams, st.integers(0, 25), st.integers(0, 25), st.sampled_from(["ana", "visitor:1"]), st.frozensets(st.integers(1, 40), max_size=6), st.integers(1, 5))
def test_blocks_kills_and_replays_change_nothing(stream: list[Any], first: int, second: int, into: str, kills: frozenset[int], block: int) -> None:
    facts, end = told(stream, first, second, into)
    wanted = pumped(facts, live=True, end=end)
    assert pumped(facts, live=True, end=end, kills=kills) == wanted, "killed between advance and commit"
    replayed = pumped(facts, live=False, end=end)
    assert replayed == wanted, "replayed"
    assert pumped(facts, live=False, end=end, block=block, kills=kills) == replayed, "other blocks, killed"


# ── one contact, called twice or in another order ────────────────────────────────────────────────────────────────────────────────

@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(streams, st.randoms(use_true_random=False))
def test_a_merge_that_comes_twice_or_late_acts_once(stream: list[Any], random: Any) -> None:
    """What a tombstone emits may come to the other contact in any order and any number of times (each id acts once in the log; the merge
    itself is recognised by the engine too)."""
    made = program()
    state = new_state("visitor:1", START)
    emits: list[Any] = []
    for number, fact in enumerate(events(stream)):
        fact = fact._replace(contact="visitor:1")
        for cause in (fact, identify("visitor:1", "ana", fact.received)) if number == len(stream) // 2 else (fact,):
            answer = advance(made, orjson.loads(orjson.dumps(state)), cause, cause.received)
            state = answer.state
            emits += answer.emits
    end = max(fact.received for fact in events(stream)) + HOUR
    assert [emit.name for emit in emits].count("contact.merged") == 1
    found = []
    for order in (emits, random.sample(emits, len(emits))):
        ana = new_state("ana", end)
        for emit in [*order, *(emit for emit in emits if emit.name == "contact.merged")]:
            ana = advance(made, orjson.loads(orjson.dumps(ana)), emit, end).state
        found.append(answers(ana))
    alone = new_state("ana", end)
    for fact in events(stream):
        alone = advance(made, alone, fact._replace(contact="ana"), end).state
    assert found == [answers(alone), answers(alone)]
