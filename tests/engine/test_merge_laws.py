"""What becomes of two contacts who are one: who may be merged, what is kept, what follows, and that nothing goes round for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rules_engine.clock import VirtualClock
from rules_engine.engine import SetAside, advance, members, merged_into, new_state
from rules_engine.engine.values import read_event
from rules_engine.facts import ContactChange, Event, Wake
from rules_engine.service.pump import Pump
from rules_engine.store import open_store
from rules_engine.store.memory import MemoryStore
from rules_engine.store.port import Arrival
from rules_engine.testing.simulator import World
from tests.engine import kit
from tests.engine.kit import ms, program

START = ms("2026-03-02 10:00")
DAY = 86_400_000


def world(text: str, **contacts: dict[str, Any]) -> World:
    """Contacts by name; `visitor_1` is `visitor:1`."""
    refused: list[str] = []
    made = World(program(text), lambda cause, reason: refused.append(reason))
    made.refused = refused  # type: ignore[attr-defined]
    for name, attributes in contacts.items():
        who = name.replace("visitor_", "visitor:")
        made.act(ContactChange(f"c/{who}", who, START, {key.replace("__", "."): value for key, value in attributes.items()}), START, quietly=True)
    return made


def tell(world: World, name: str, who: str, at: int, subject: str | None = None, **data: Any) -> list[Any]:
    """An event and all that follows from it for anybody, at that moment."""
    world.count = getattr(world, "count", 0) + 1  # type: ignore[attr-defined]
    decisions = list(world.run(at))
    decisions += world.act(Event(f"e{world.count}", name, who, at, subject, data), at)  # type: ignore[attr-defined]
    return decisions + list(world.run(at))


def reasons(decisions: list[Any], kind: str) -> list[str]:
    return [item.reason for item in decisions if item.kind == kind]


def test_only_visitors_are_merged_unless_a_person_says_so() -> None:
    made = world("", ana={"email": "a@x.com"}, ben={"email": "b@x.com"})
    found = tell(made, "contact.identified", "ben", START, contact="ana")
    assert reasons(found, "skip") == [
        "not merged into ana: ben is known: only visitors are merged by themselves (a person can: camp contact merge)"]
    assert merged_into(made.states["ben"]) is None and made.states["ben"]["a"] == {"email": "b@x.com"}
    found = tell(made, "contact.identified", "ben", START, contact="ana", known=True)
    assert merged_into(made.states["ben"]) == "ana"
    assert made.states["ana"]["from"] == {"ben": START} and made.states["ana"]["a"] == {"email": "a@x.com"}


@pytest.mark.parametrize(("data", "said"), [({}, "the event names no contact to merge into"), ({"contact": "  "}, "names no contact"), ({"contact": 7}, "names no contact")])
def test_an_identification_that_names_nobody_is_said_to(data: dict[str, Any], said: str) -> None:
    made = world("", visitor_1={})
    assert said in reasons(tell(made, "contact.identified", "visitor:1", START, **data), "skip")[0]
    assert merged_into(made.states["visitor:1"]) is None


def test_the_first_identification_stands() -> None:
    """Two people at one device: what the visitor was is the first one's, and what still comes for it too."""
    made = world("", visitor_1={}, ana={}, ben={})
    tell(made, "contact.identified", "visitor:1", START, contact="ana")
    assert tell(made, "contact.identified", "visitor:1", START + 1, contact="ana") == []
    again = tell(made, "contact.identified", "visitor:1", START + 2, contact="ben")
    assert reasons(again, "skip") == ["not merged into ben: it was merged into ana before: the first stands"]
    assert "from" not in made.states["ben"] and made.states["ana"]["from"] == {"visitor:1": START}


def test_two_identifications_in_one_tick_merge_once() -> None:
    text = "RULE known\n WHEN ping\n THEN event.emit contact.identified, contact: event.label\n THEN event.emit contact.identified, contact: \"ben\"\nEND"
    made = world(text, visitor_1={})
    found = tell(made, "ping", "visitor:1", START, label="ana")
    assert merged_into(made.states["visitor:1"]) == "ana" and "ben" not in made.states
    assert reasons(found, "skip") == ["not merged into ben: it is about to be merged into ana: the first stands"]


def test_a_circle_is_refused() -> None:
    made = world("", visitor_1={}, visitor_2={}, visitor_3={})
    tell(made, "contact.identified", "visitor:1", START, contact="visitor:2")
    tell(made, "contact.identified", "visitor:2", START, contact="visitor:3")
    found = tell(made, "contact.identified", "visitor:3", START, contact="visitor:1")
    assert reasons(found, "skip") == ["not merged into visitor:1: visitor:1 was merged into visitor:3 before: a circle"]
    assert set(made.states["visitor:3"]["from"]) == {"visitor:1", "visitor:2"}


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("turn", [0, 1])
def test_a_circle_that_nobody_could_see_ends_with_one_who_stands_for_all(size: int, turn: int) -> None:
    """All are identified as the next before any of them hears of it: nothing goes round for ever, and nothing is lost."""
    text = "FACT contact.views: number IS COUNT page.viewed"
    made = world(text, **{f"visitor_{number}": {} for number in range(size)})
    for number in range(size):
        tell(made, "page.viewed", f"visitor:{number}", START + number)
    then = START + 100
    for number in range(size):
        place = (number + turn) % size
        made.put(Event(f"i{place}", "contact.identified", f"visitor:{place}", then, None, {"contact": f"visitor:{(place + 1) % size}"}))
    # One after the other, before what they emit comes to anybody.
    for _ in range(size):
        time, _, _, _, cause = min(made._heap)
        made._heap.remove(min(made._heap))
        made.act(cause, time)
    list(made.run(then))
    assert not made._heap, "all has come to rest"
    alive = [who for who, state in made.states.items() if merged_into(state) is None]
    assert alive == ["visitor:0"]
    assert made.states["visitor:0"]["a"]["views"] == size
    tell(made, "page.viewed", f"visitor:{size - 1}", then + 1)
    assert made.states["visitor:0"]["a"]["views"] == size + 1


def test_the_contacts_own_values_win_and_sums_are_added_up() -> None:
    text = "ATTRIBUTE seats: number\nATTRIBUTE plan: text DEFAULT \"free\"\nSEGMENT beta\nSEGMENT gamma"
    made = world(text, ana={"email": "a@x.com", "points": 5, "seats": 2, "tags": ["b"]},
                 visitor_1={"email": "v@x.com", "phone": "+420", "points": 3, "points.sales": 7, "seats": 9, "tags": ["a", "b"], "anonymous": True})
    made.act(ContactChange("s", "visitor:1", START, {}, {"beta": True}), START)
    made.act(ContactChange("t", "ana", START, {}, {"gamma": True}), START)
    tell(made, "contact.identified", "visitor:1", START + DAY, contact="ana")
    assert made.states["ana"]["a"] == {"email": "a@x.com", "phone": "+420", "points": 8, "points.sales": 7, "seats": 2, "tags": ["a", "b"]}
    assert made.states["ana"]["s"] == {"beta": START, "gamma": START}


@pytest.mark.parametrize(("ana", "visitor", "after"), [
    (True, False, False), (False, True, False), (None, True, True), (None, False, False), (True, None, True), (False, None, False)])
def test_the_stricter_consent_stays(ana: Any, visitor: Any, after: Any) -> None:
    made = world("", ana={"consent__email": ana}, visitor_1={"consent__email": visitor})
    tell(made, "contact.identified", "visitor:1", START, contact="ana")
    assert made.states["ana"]["a"].get("consent.email") is after


def test_a_suppression_is_never_lifted() -> None:
    made = world("", ana={"suppressed__sms": "stop"}, visitor_1={"suppressed__email": "bounce"})
    tell(made, "contact.identified", "visitor:1", START, contact="ana")
    assert made.states["ana"]["a"] == {"suppressed.sms": "stop", "suppressed.email": "bounce"}


def test_a_value_that_breaks_the_declaration_is_left_out_and_said() -> None:
    text = "ATTRIBUTE low: number\nATTRIBUTE high: number WHERE contact.high > contact.low"
    made = world(text, ana={"low": 10}, visitor_1={"low": 1, "high": 5, "city": "Brno"})
    found = tell(made, "contact.identified", "visitor:1", START, contact="ana")
    assert made.states["ana"]["a"] == {"low": 10, "city": "Brno"} and made.refused == []  # type: ignore[attr-defined]
    assert ["left out: contact.high breaks its declaration" in reason for reason in reasons(found, "skip")] == [True]


def test_what_follows_follows_and_the_past_sets_nothing_off_again() -> None:
    text = """
    SEGMENT keen IS DID page.viewed WITHIN 3 days AT LEAST 3 TIMES
    RULE each
      WHEN page.viewed
        THEN points.add 1
    END
    RULE enters
      WHEN contact ENTERS keen
        THEN log.write "keen"
    END
    CAMPAIGN waits
      EXIT "two" WHEN contact.points BECOMES >= 4
      WHEN ping
        WAIT UNTIL contact IN keen UP TO 10 days
          THEN log.write "waited"
        END
        AFTER 1 day
        THEN log.write "not reached"
    END
    """
    made = world(text, ana={}, visitor_1={})
    tell(made, "ping", "ana", START)
    for number in range(2):
        tell(made, "page.viewed", "ana", START + number)
        tell(made, "page.viewed", "visitor:1", START + number)
    found = tell(made, "contact.identified", "visitor:1", START + 10, contact="ana")
    assert [(item.primary, item.contact) for item in found if item.kind == "action"] == [("keen", "ana")]
    assert "two" in reasons(found, "exit") and made.states["ana"]["a"]["points"] == 4
    assert members(made.states["ana"]) == {"keen"}
    left = [item for item in made.run(START + 3 * DAY)]
    assert members(made.states["ana"]) == set(), "the windows end when they would have"
    assert [item for item in left if item.contact == "visitor:1"] == []


def test_a_contact_that_comes_to_be_by_the_merge_is_a_new_contact() -> None:
    """It enters what is so of it then, not what is so of somebody of whom nothing is known."""
    text = """
    SEGMENT nameless IS contact.city IS NOT SET
    SEGMENT looked IS DID page.viewed
    RULE a
      WHEN contact ENTERS nameless
        THEN log.write "nameless"
    END
    RULE b
      WHEN contact ENTERS looked
        THEN log.write "looked"
    END
    RULE c
      WHEN contact.created
        THEN log.write "created"
    END
    CAMPAIGN silent
      WHEN NOT page.viewed FOR 2 days
        THEN log.write "silent"
    END
    """
    made = world(text, visitor_1={"city": "Brno"})
    tell(made, "page.viewed", "visitor:1", START + 5)
    found = tell(made, "contact.identified", "visitor:1", START + DAY, contact="ana")
    assert [item.primary for item in found if item.kind == "action" and item.contact == "ana"] == ["looked", "created"]
    assert made.states["ana"]["since"] == START
    later = list(made.run(START + 9 * DAY))
    assert [(item.contact, item.primary, item.at) for item in later if item.kind == "action"] == [("ana", "silent", START + 5 + 2 * DAY)]


def test_caps_reentry_and_goals_count_for_both() -> None:
    text = """
    WORKSPACE
      LIMIT 2 email PER 7 days ELSE DROP
    END
    CAMPAIGN once
      REENTRY NEVER
      GOAL order.placed WITHIN 10 days
      WHEN ping
        THEN email.send "x"
    END
    """
    made = world(text, ana={"email": "a@x.com"}, visitor_1={"email": "v@x.com"})
    tell(made, "ping", "visitor:1", START)
    tell(made, "contact.identified", "visitor:1", START + 1, contact="ana")
    assert made.states["ana"]["c"] == {"m:email": [START]}
    found = tell(made, "ping", "ana", START + 2)
    assert reasons(found, "skip") == ["REENTRY NEVER: has been inside before"]
    found = tell(made, "order.placed", "ana", START + 3)
    assert reasons(found, "goal") == ["order.placed"]


def test_what_comes_for_a_tombstone_goes_on_and_does_nothing_else() -> None:
    made = world("RULE r\n WHEN page.viewed\n THEN points.add 1\nEND\nFACT contact.at: datetime IS LAST event.at OF page.viewed", visitor_1={}, ana={})
    tell(made, "contact.identified", "visitor:1", START + 10, contact="ana")
    answer = advance(made.program, made.states["visitor:1"], Event("e", "page.viewed", "visitor:1", START + 3, "/x", {"url": "u"}, START + 20), START + 20)
    assert answer.decisions == [] and answer.wake_at is None and answer.effects == []
    assert answer.emits == [Event(f"e/page.viewed@{START + 3}/visitor:1>ana", "page.viewed", "ana", START + 3, "/x", {"url": "u"}, START + 20)]
    change = advance(made.program, answer.state, ContactChange("c", "visitor:1", START + 30, {"city": "Brno", "anonymous": True}, {"x": True}), START + 30)
    assert change.emits == [ContactChange(f"c/@{START + 30}/visitor:1>ana", "ana", START + 30, {"city": "Brno"}, {"x": True})]
    assert advance(made.program, change.state, Wake("visitor:1", START + 40), START + 40).emits == []


def test_nobody_makes_a_merge_up() -> None:
    model = program("").model
    with pytest.raises(ValueError, match='"contact.merged" is made by Camp itself: send "contact.identified"'):
        read_event(model, {"event": "contact.merged", "contact": "ana", "at": "2026-03-02T10:00:00Z", "data": {"contact": "ben"}})
    with pytest.raises(SetAside, match="has not the form in which Camp makes it"):
        advance(program(""), new_state("ana", START), Event("e", "contact.merged", "ana", START, None, {"contact": "ben"}), START)


# ── another program in between ───────────────────────────────────────────────────────────────────────────────────────────────────

OLD = "SEGMENT old IS DID page.viewed\n"
NEW = OLD + "FACT contact.views: number IS COUNT page.viewed\nFACT contact.last: datetime IS LAST event.at OF page.viewed\n"


@pytest.fixture(params=["memory", "sqlite"])
def store(request: Any, tmp_path: Path) -> Any:
    clock = VirtualClock(START)
    opened = MemoryStore(clock) if request.param == "memory" else open_store(tmp_path / "t.db", clock)
    opened.test_clock = clock
    yield opened
    opened.close()


@pytest.mark.parametrize("blocks", range(14))
def test_a_release_at_any_moment_around_a_merge(store: Any, blocks: int) -> None:
    """The old program does so many blocks of one event, then the new one goes on: its questions are answered, nothing counts twice."""
    facts = [("page.viewed", "visitor:1", {}), ("page.viewed", "ana", {}), ("page.viewed", "visitor:2", {}),
             ("contact.identified", "visitor:1", {"contact": "ana"}), ("page.viewed", "visitor:1", {}),
             ("contact.identified", "visitor:2", {"contact": "visitor:1"}), ("page.viewed", "visitor:2", {}), ("page.viewed", "ana", {})]
    store.test_clock.move_to(START + 100)
    store.record_events([Arrival(Event(f"e{number}", name, who, START + number, None, data)) for number, (name, who, data) in enumerate(facts)])
    old, new = kit.program(OLD, events=False), kit.program(NEW, events=False)
    for made, limit in ((old, 1 + blocks), (new, 1_000)):
        store.record_program(made.digest, {"t.camp": OLD if made is old else NEW})
        store.rouse(made.digest, store.position().clock)
        pump = Pump(store, made, live_block=1)
        store.test_clock.move_to(store.test_clock.now() + 1_000)
        for _ in range(limit):
            if pump.live(store.test_clock) is None:
                break
    from rules_engine.engine import unpack

    rows = store.contacts(["ana", "visitor:1", "visitor:2"])
    states = {who: unpack(row.state) for who, row in rows.items()}
    assert merged_into(states["visitor:1"]) == "ana" and merged_into(states["visitor:2"]) == "visitor:1"
    assert states["ana"]["a"] == {"views": 6, "last": START + 7}
    assert store.set_aside() == []


def test_a_wait_for_what_the_visitor_did_is_over_and_silence_counts_from_the_earlier_one() -> None:
    text = """
    CAMPAIGN waits
      WHEN ping
        WAIT UNTIL DID order.placed UP TO 10 days
          THEN log.write "has ordered"
        END
    END
    CAMPAIGN silent
      WHEN NOT page.viewed FOR 3 days
        THEN log.write "silent"
    END
    """
    made = world(text, visitor_1={})
    tell(made, "order.placed", "visitor:1", START)
    tell(made, "ping", "ana", START + 2 * DAY)
    found = tell(made, "contact.identified", "visitor:1", START + 2 * DAY + 1, contact="ana")
    assert [item.primary for item in found if item.kind == "action"] == ["has ordered"]
    assert [(item.primary, item.at) for item in made.run(START + 9 * DAY) if item.kind == "action"] == [("silent", START + 3 * DAY)]


def test_a_round_that_waits_in_a_queue_does_not_begin_any_more() -> None:
    made = world("CAMPAIGN q\n MODE QUEUE\n WHEN ping\n AFTER 1 day\n THEN points.add 1\nEND", visitor_1={})
    tell(made, "ping", "visitor:1", START)
    tell(made, "ping", "visitor:1", START + 1)
    found = tell(made, "contact.identified", "visitor:1", START + 2, contact="ana")
    assert [item.kind for item in found if item.campaign] == ["exit"]
    assert list(made.run(START + 9 * DAY)) == [] and made.states["visitor:1"]["i"] == {}


def test_the_short_ways_of_plain_events_know_tombstones_too() -> None:
    from rules_engine.engine import advance_block

    made = program("RULE r\n WHEN ping\n THEN points.add 1\nEND")
    assert "ping" in made.plain and "contact.identified" not in made.plain and "contact.merged" not in made.plain
    state = new_state("visitor:1", START)
    for cause in (Event("a", "ping", "visitor:1", START), Event("b", "contact.identified", "visitor:1", START, None, {"contact": "ana"})):
        state = advance(made, state, cause, START).state
    answer = advance(made, state, Event("c", "ping", "visitor:1", START + 1), START + 1)
    states = {"visitor:1": answer.state}
    answers = advance_block(made, states, [Event("d", "ping", "visitor:1", START + 2)])
    assert [emit.contact for item in (answer, *answers) for emit in item.emits] == ["ana", "ana"]
    assert answer.decisions == answers[0].decisions == [] and merged_into(states["visitor:1"]) == "ana"


@pytest.mark.parametrize("mode", ["live", "replay"])
def test_what_the_other_contact_refuses_is_set_aside_under_its_name(store: Any, mode: str) -> None:
    made = kit.program("EVENT order.placed WITH total: number WHERE event.total > 0\nRULE r\n WHEN order.placed\n THEN points.add 1\nEND", events=False)
    facts = [("contact.identified", {"contact": "ana"}), ("order.placed", {"total": -1}), ("order.placed", {"total": 5})]
    store.record_events([Arrival(Event(f"e{number}", name, "visitor:1", START - 10 + number, None, data)) for number, (name, data) in enumerate(facts)])
    pump = Pump(store, made)
    while (pump.live(store.test_clock) if mode == "live" else pump.replay(START)) is not None:
        pass
    aside = store.set_aside()
    assert [(row.cause.contact, row.cause.data["total"]) for row in aside] == [("ana", -1)]
    assert "breaks its declaration" in (aside[0].reason or "")
    from rules_engine.engine import unpack

    assert unpack(store.contacts(["ana"])["ana"].state)["a"]["points"] == 1


def test_an_event_stays_what_it_was() -> None:
    """The pump keeps what a block applied, to build a state again: what a contact does later must not grow into the merge's own slots."""
    import copy

    made = world("FACT contact.views: number IS COUNT page.viewed WITHIN 3 days", visitor_1={})
    tell(made, "page.viewed", "visitor:1", START)
    merged = advance(made.program, made.states["visitor:1"], Event("i", "contact.identified", "visitor:1", START + 1, None, {"contact": "ana"}), START + 1).emits[0]
    before = copy.deepcopy(merged)
    ana = advance(made.program, new_state("ana", START), merged, START + 1).state
    advance(made.program, ana, Event("e", "page.viewed", "ana", START + 2), START + 2)
    assert merged == before
