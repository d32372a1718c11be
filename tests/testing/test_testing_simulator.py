"""The simulator: order, repeats, what an event for another contact does, and the same bytes each time."""

from __future__ import annotations

import pytest

from rules_engine.facts import ContactChange, Event
from rules_engine.runtime.calendar import DAY, HOUR, MINUTE, parse_datetime
from rules_engine.testing.simulator import World, simulate

START = parse_datetime("2026-03-02T09:00:00Z")

TEXT = """
CAMPAIGN welcome
  WHEN order.placed
    THEN points.add 1
    AFTER 1 hour
    THEN points.add 2
END
"""


def order(number: int, contact: str, at: int) -> Event:
    return Event(f"e{number}", "order.placed", contact, at, None, {"order_id": str(number), "total": 1})


def told(decisions) -> list[tuple[int, str, str, object]]:
    return [((item.at - START) // MINUTE, item.contact, item.kind, item.primary) for item in decisions]


@pytest.fixture
def program(load):
    return load(TEXT).program


def test_order_is_by_time_then_contact(program):
    events = [order(1, "bo", START), order(2, "ana", START), order(3, "ana", START + 30 * MINUTE)]
    found = told(simulate(program, [], events, None, START + DAY))
    assert found == sorted(found, key=lambda item: item[:2])
    assert [(at, contact) for at, contact, kind, _ in found if kind == "enter"][:2] == [(0, "ana"), (0, "bo")]
    assert [(at, contact) for at, contact, kind, primary in found if primary == 2][:2] == [(60, "ana"), (60, "bo")]


def test_the_order_of_the_file_does_not_matter_over_time(program):
    events = [order(1, "bo", START + HOUR), order(2, "ana", START), order(3, "cy", START + 2)]
    forward = list(simulate(program, [], events, None, START + DAY))
    assert forward == list(simulate(program, [], events[::-1], None, START + DAY))


def test_until_is_included(program):
    events = [order(1, "ana", START)]
    assert (60, "ana", "action", 2) in told(simulate(program, [], events, None, START + HOUR))
    assert (60, "ana", "action", 2) not in told(simulate(program, [], events, None, START + HOUR - 1))


def test_a_start_leaves_out_what_was_before_and_changes_nothing_else(program):
    events = [order(1, "ana", START), order(2, "bo", START + 10 * MINUTE)]
    whole = list(simulate(program, [], events, None, START + DAY))
    assert list(simulate(program, [], events, START + 5 * MINUTE, START + DAY)) == [
        item for item in whole if item.at >= START + 5 * MINUTE
    ]


def test_a_repeated_id_acts_once(program):
    world = World(program)
    for event in (order(1, "ana", START), order(1, "ana", START)):
        world.put(event)
    assert sum(item.kind == "enter" for item in world.run(START)) == 1
    assert world.repeats == 1


def test_contacts_come_before_events_of_the_same_moment(load):
    program = load("""
CAMPAIGN c
  WHEN order.placed WHERE contact.plan = "paid"
    THEN points.add 1
END
""").program
    contact = ContactChange("c1", "ana", START, {"plan": "paid"})
    assert any(item.kind == "action" for item in simulate(program, [contact], [order(1, "ana", START)], None, START))


def test_the_clock_can_be_moved_step_by_step(program):
    world = World(program)
    world.put(order(1, "ana", START))
    steps = [item for hour in range(3) for item in world.run(START + hour * HOUR)]
    assert steps == list(simulate(program, [], [order(1, "ana", START)], None, START + 2 * HOUR))


def test_an_event_that_breaks_its_declaration_is_set_aside_and_the_others_go_on(load):
    program = load("""
EVENT thing.done WITH size: number WHERE event.size > 0
RULE r
  WHEN thing.done
    THEN points.add 1
END
""").program
    aside = []
    events = [
        Event("e1", "thing.done", "ana", START, None, {"size": -1}),
        Event("e2", "thing.done", "ana", START, None, {"size": 1}),
    ]
    found = list(simulate(program, [], events, None, START, lambda cause, reason: aside.append((cause.id, reason))))
    assert [item.kind for item in found] == ["action"]
    assert len(aside) == 1 and aside[0][0] == "e1" and "size" in aside[0][1]


def test_adopting_a_state_goes_on_where_it_was(program):
    first = World(program)
    first.put(order(1, "ana", START))
    before = list(first.run(START))
    second = World(program)
    second.adopt("ana", first.states["ana"], START + HOUR)
    assert before + list(second.run(START + DAY)) == list(simulate(program, [], [order(1, "ana", START)], None, START + DAY))
