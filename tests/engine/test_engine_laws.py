"""What a TEST block can't say: lateness, refusal, order, identity, and what the state keeps."""

from __future__ import annotations

import orjson
import pytest

from rules_engine.engine import SetAside, advance, members, new_state
from rules_engine.facts import Event, Wake
from rules_engine.runtime.functions import bucket
from tests.engine.kit import Person, ms, program

DAY = 86_400_000


# ── lateness ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

LATE = """
CAMPAIGN c
  {clause}
  WHEN ping
    AFTER 1 day
    THEN points.add 1
    THEN email.send "m"
    THEN log.write "end"
END
"""


def _late(clause: str, hours: int) -> Person:
    ana = Person(program(LATE.format(clause=clause or 'OWNER "x@y.z"')), "2026-03-01 10:00", email="a@x.com")
    ana.event("ping", at="2026-03-02 10:00")
    ana.late(ms("2026-03-03 10:00") + hours * 3_600_000)
    return ana


def test_a_day_late_still_runs_and_later_waits_for_a_person() -> None:
    in_time = _late("", 24)
    assert in_time.outcomes() == [("done", 1), ("sent", "m"), ("done", "end")]
    assert [effect.state for effect in in_time.effects] == ["ready"]
    too_late = _late("", 25)
    assert too_late.outcomes() == [("done", 1), ("held", "m"), ("done", "end")]
    assert [effect.state for effect in too_late.effects] == ["held"]
    assert too_late.state["a"]["points"] == 1, "internal actions run however late"


def test_what_was_late_is_counted_from_its_due_time() -> None:
    ana = _late("", 25)
    assert ana.times() == ["2026-03-03 10:00"] * 3


@pytest.mark.parametrize(("clause", "hours", "message"), [
    ("ON LATE > 6 hours SKIP", 6, [("done", 1), ("sent", "m"), ("done", "end")]),
    ("ON LATE > 6 hours SKIP", 7, [("late", None), ("late", "m"), ("late", None)]),
    ("ON LATE > 6 hours RUN", 240, [("done", 1), ("sent", "m"), ("done", "end")]),
    ("ON LATE > 6 hours STOP", 7, [("late", None)]),
])
def test_on_late(clause: str, hours: int, message: list) -> None:
    """What the author says is about every step; only the default tells messages from the rest."""
    assert _late(clause, hours).outcomes() == message


@pytest.mark.parametrize(("clause", "fires"), [("ON LATE > 6 hours SKIP", False), ("ON LATE > 6 hours RUN", True), ('OWNER "x@y.z"', True)])
def test_whether_a_late_event_triggers_is_the_rules_setting(clause: str, fires: bool) -> None:
    ana = Person(program(f"RULE r\n {clause}\n WHEN ping\n THEN points.add 1\nEND"), "2026-03-01 10:00")
    ana.event("ping", at="2026-03-02 03:00", now="2026-03-02 10:00")
    assert bool(ana.actions()) == fires
    ana.event("ping", at="2026-03-02 09:00", now="2026-03-02 11:00")
    assert len(ana.actions()) == 1 + fires


def test_on_late_holds_for_what_time_sets_off() -> None:
    text = "RULE r\n ON LATE > 6 hours SKIP\n WHEN EVERY day AT 09:00\n THEN points.add 1\nEND"
    ana = Person(program(text), "2026-03-01 10:00")
    ana.late("2026-03-04 10:00")
    assert ana.times() == ["2026-03-04 09:00"]
    assert ana.reasons("skip") == ["ON LATE > 6 hours"] * 2


def test_a_late_event_is_kept_as_a_fact() -> None:
    ana = Person(program("SEGMENT s IS DID ping WITHIN 2 days\nFACT contact.last: number IS LAST event.n OF ping"), "2026-03-01 10:00")
    ana.event("ping", at="2026-03-03 10:00", n=2)
    ana.event("ping", at="2026-03-02 10:00", now="2026-03-03 11:00", n=1)
    assert ana.state["a"]["last"] == 2, "the last one by when it happened"
    assert members(ana.state) == {"s"}
    ana.to("2026-03-05 09:59")
    assert members(ana.state) == {"s"}
    ana.to("2026-03-05 10:00")
    assert members(ana.state) == set()


def test_a_late_event_that_is_out_of_the_window_already_changes_nothing() -> None:
    ana = Person(program("SEGMENT s IS DID ping WITHIN 2 days\nRULE r\n WHEN contact ENTERS s\n THEN points.add 1\nEND"), "2026-03-01 10:00")
    ana.event("ping", at="2026-03-01 11:00", now="2026-03-03 11:00")
    assert not ana.actions() and not members(ana.state)


def test_first_and_last_go_by_when_things_happened() -> None:
    ana = Person(program("FACT contact.a: number IS FIRST event.n OF ping\nFACT contact.b: number IS LAST event.n OF ping"), "2026-03-01 10:00")
    ana.event("ping", at="2026-03-03 10:00", n=2)
    ana.event("ping", at="2026-03-02 10:00", now="2026-03-04 10:00", n=1)
    ana.event("ping", at="2026-03-02 12:00", now="2026-03-04 11:00", n=7)
    assert (ana.state["a"]["a"], ana.state["a"]["b"]) == (1, 2)


def test_the_clock_never_goes_back() -> None:
    ana = Person(program("RULE r\n WHEN ping\n THEN points.add 1\nEND"), "2026-03-02 10:00")
    ana.feed(Event("e", "ping", "ana", ms("2026-03-01 10:00"), None, {}), ms("2026-03-01 10:00"))
    assert ana.times() == ["2026-03-02 10:00"]
    assert ana.state["k"] == ms("2026-03-02 10:00")


# ── refusal ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

def test_rules_that_feed_each_other_are_set_aside_with_the_cycle_named() -> None:
    text = """
    RULE up
      WHEN contact.points CHANGES
        THEN contact.set company: "c{contact.points}"
    END
    RULE down
      WHEN contact.company CHANGES
        THEN points.add 1
    END
    RULE innocent
      WHEN ping
        THEN log.write "fine"
    END
    """
    ana = Person(program(text), "2026-03-01 10:00")
    before = orjson.dumps(ana.state)
    with pytest.raises(SetAside) as refusal:
        ana.set(points=1)
    assert "up → down" in refusal.value.reason or "down → up" in refusal.value.reason
    assert orjson.dumps(ana.state) == before
    ana.event("ping")
    assert ana.actions() == ["fine"], "every other event goes on"
    assert ana.state["a"].get("points") is None


def test_events_that_emit_each_other_are_set_aside() -> None:
    text = "EVENT a.one\nEVENT a.two\nRULE x\n WHEN a.one\n THEN event.emit a.two\nEND\nRULE y\n WHEN a.two\n THEN event.emit a.one\nEND"
    ana = Person(program(text), "2026-03-01 10:00")
    with pytest.raises(SetAside, match="x → y|y → x"):
        ana.event("a.one")


def test_a_timer_that_is_refused_leaves_the_state_alone_for_others() -> None:
    text = "RULE x\n WHEN EVERY day AT 09:00\n THEN points.add 1\nEND\nRULE y\n WHEN contact.points CHANGES\n THEN points.add 1\nEND"
    ana = Person(program(text), "2026-03-01 10:00")
    with pytest.raises(SetAside):
        ana.to("2026-03-02 09:00")
    bob = Person(ana.program, "2026-03-01 10:00", "bob")
    assert bob.log == [] and bob.state["a"] == {}


def test_data_contracts_refuse_what_breaks_them() -> None:
    text = """
    ATTRIBUTE age: number WHERE contact.age >= 0 AND contact.age < 150
    EVENT sale WITH total: number WHERE event.total > 0
    RULE r
      WHEN sale
        THEN points.add 1
    END
    RULE grows
      WHEN ping
        THEN contact.set age: 200
    END
    """
    ana = Person(program(text), "2026-03-01 10:00", age=40)
    with pytest.raises(SetAside, match=r"sale.*event.total > 0"):
        ana.event("sale", total=-1)
    with pytest.raises(SetAside, match="contact.age"):
        ana.set(age=-1)
    with pytest.raises(SetAside, match="contact.age"):
        ana.event("ping")
    ana.event("sale", total=1)
    assert ana.actions() == [1] and ana.state["a"]["age"] == 40


# ── order ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

def test_priority_then_declaration() -> None:
    text = "RULE a\n WHEN ping\n THEN log.write \"a\"\nEND\nRULE b\n PRIORITY 5\n WHEN ping\n THEN log.write \"b\"\nEND\n" \
           "RULE c\n PRIORITY -5\n WHEN ping\n THEN log.write \"c\"\nEND\nRULE d\n WHEN ping\n THEN log.write \"d\"\nEND"
    ana = Person(program(text), "2026-03-01 10:00")
    ana.event("ping")
    assert ana.actions() == ["b", "a", "d", "c"]


def test_the_agenda_is_one_for_rules_edges_and_resumed_journeys() -> None:
    """A journey that an event resumes takes its turn by its rank, as the rules that the event sets off."""
    text = """
    CAMPAIGN first
      WHEN page.viewed "go"
        WAIT UNTIL ping UP TO 1 day
        END
        THEN log.write "first"
    END
    RULE second
      WHEN ping
        THEN log.write "second"
    END
    RULE third
      AT MOST 5 TIMES PER day
      WHEN ping
        THEN log.write "third"
    END
    """
    ana = Person(program(text), "2026-03-01 10:00")
    ana.event("page.viewed", "go")
    ana.event("ping")
    assert ana.actions() == ["first", "second", "third"]


def test_what_a_rule_sets_off_takes_its_turn_by_rank() -> None:
    text = """
    RULE a
      WHEN ping
        THEN points.add 10
    END
    RULE edge_before_b
      WHEN contact.points BECOMES >= 10
        THEN contact.set stage: "hot"
    END
    RULE b
      WHEN ping WHERE contact.stage = "hot"
        THEN log.write "saw hot"
    END
    RULE edge_after_b
      WHEN contact.points BECOMES >= 10
        THEN contact.set stage: "cold"
    END
    """
    ana = Person(program(text), "2026-03-01 10:00")
    ana.event("ping")
    assert ana.fired() == ["a", "edge_before_b", "b", "edge_after_b"]
    assert ana.state["a"]["stage"] == "cold"


def test_rules_fire_to_a_fixpoint_each_once() -> None:
    text = """
    RULE third
      WHEN ping WHERE contact.points >= 20
        THEN log.write "third"
    END
    RULE second
      WHEN ping WHERE contact.points >= 10
        THEN points.add 10
    END
    RULE first
      WHEN ping
        THEN points.add 10
    END
    """
    ana = Person(program(text), "2026-03-01 10:00")
    ana.event("ping")
    assert ana.fired() == ["first", "second", "third"]
    assert ana.state["a"]["points"] == 20


def test_a_rule_reads_the_event_at_hand_whatever_journeys_woke_before_it() -> None:
    """`event.` and the subject are those of the arrived event, also after another journey looked at its own."""
    text = """
    CAMPAIGN waits
      WHEN page.viewed "/old"
        WAIT UNTIL contact.points >= 5 UP TO 30 days
        END
        THEN log.write "resumed {event.subject}"
    END
    RULE adds
      AT MOST 9 TIMES PER day
      WHEN page.viewed "/new"
        THEN points.add 1
    END
    RULE behind
      WHEN page.viewed "/new"
        THEN log.write "after"
    END
    RULE behind_more
      AT MOST 9 TIMES PER day
      WHEN page.viewed "/n*"
        THEN log.write "subject {event.subject}"
    END
    """
    ana = Person(program(text), "2026-03-01 10:00")
    ana.event("page.viewed", "/old")
    for _ in range(5):
        ana.log.clear()
        ana.event("page.viewed", "/new")
        assert [item for item in ana.actions() if item != "resumed /old"] == [1, "after", "subject /new"]
    assert "resumed /old" in ana.actions()


def test_due_timers_come_before_an_event_of_the_same_moment() -> None:
    text = "CAMPAIGN c\n EXIT WHEN page.viewed\n WHEN ping\n AFTER 1 hour\n THEN points.add 1\nEND"
    ana = Person(program(text), "2026-03-01 10:00")
    ana.event("ping")
    ana.feed(Event("x", "page.viewed", "ana", ms("2026-03-01 11:00"), None, {}))
    assert ana.actions() == [1]


def test_derived_facts_that_turn_at_one_moment_turn_together() -> None:
    """`gap` = a AND NOT b. Where a comes and b comes at one moment, nobody was ever in the gap."""
    text = """
    ATTRIBUTE a_at: datetime
    ATTRIBUTE b_at: datetime
    SEGMENT a IS now >= contact.a_at
    SEGMENT b IS now >= contact.b_at
    SEGMENT gap IS contact IN a AND NOT contact IN b
    RULE fell
      WHEN contact ENTERS gap
        THEN log.write "fell"
    END
    RULE alone
      WHEN contact ENTERS a WHERE NOT contact IN b
        THEN log.write "alone"
    END
    """
    ana = Person(program(text), "2026-03-01 10:00", a_at="2026-03-02T10:00:00Z", b_at="2026-03-02T10:00:00Z")
    ana.to("2026-03-03 10:00")
    assert members(ana.state) == {"a", "b"}
    assert ana.actions() == []


# ── identity ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

def test_effects_have_ids_of_their_own_that_repeat_on_replay() -> None:
    text = """
    CAMPAIGN c
      FOR EACH event.n
      MODE PARALLEL
      WHEN ping
        THEN email.send "m"
        REPEAT EVERY 1 day UP TO 3 TIMES
          THEN email.send "m"
          REPEAT EVERY 1 hour UP TO 2 TIMES
            THEN webhook.post "https://x.example/"
          END
        END
    END
    """
    runs = []
    for _ in range(2):
        ana = Person(program(text), "2026-03-01 10:00", email="a@x.com")
        ana.event("ping", n=1)
        ana.event("ping", n=1)
        ana.event("ping", n=2)
        ana.to("2026-03-10 10:00")
        runs.append([effect.id for effect in ana.effects])
    assert len(runs[0]) == 3 * (1 + 3 + 6)
    assert len(set(runs[0])) == len(runs[0])
    assert runs[0] == runs[1]


def test_emitted_events_have_ids_of_their_own() -> None:
    """Over time, over contacts, over the actions of one moment: the log keeps one event for each id."""
    text = "EVENT tick\nRULE r\n WHEN EVERY day AT 09:00\n THEN event.emit tick\n THEN event.emit tick\nEND\n" \
           "RULE s\n WHEN ping\n THEN event.emit tick\n THEN event.emit tick\nEND"
    ids = []
    for contact in ("ana", "bob"):
        one = Person(program(text), "2026-03-01 10:00", contact)
        one.to("2026-03-04 10:00")
        one.event("ping", id=f"{contact}-1")
        one.event("ping", id=f"{contact}-2")
        ids += [event.id for event in one.emits]
    assert len(ids) == 2 * (6 + 4)
    assert len(set(ids)) == len(ids)


def test_keys_keep_apart_whatever_their_text() -> None:
    text = "CAMPAIGN c\n FOR EACH event.label\n REENTRY NEVER\n WHEN ping\n THEN log.write \"{event.label}\"\nEND"
    ana = Person(program(text), "2026-03-01 10:00")
    for label in ("A", "A#2", "A#3", "A|B", "A!1", "c", "A"):
        ana.event("ping", label=label)
    assert ana.actions() == ["A", "A#2", "A#3", "A|B", "A!1", "c"]


def test_keys_of_two_fields_keep_apart() -> None:
    text = "CAMPAIGN c\n FOR EACH event.label, event.second\n REENTRY NEVER\n WHEN two\n THEN points.add 1\nEND\nEVENT two WITH label: text, second: text"
    ana = Person(program(text), "2026-03-01 10:00")
    ana.event("two", label="a|b", second="c")
    ana.event("two", label="a", second="b|c")
    assert ana.actions() == [1, 1]


def test_moving_text_keeps_the_steps_identity() -> None:
    one = program("CAMPAIGN c\n WHEN ping\n AFTER 1 day\n THEN log.write \"a\"\n AFTER 1 day\n THEN log.write \"b\"\nEND")
    two = program("CAMPAIGN c\n  WHEN ping\n    THEN points.add 1\n    AFTER 1 day   # moved\n    IF contact.points > 5 THEN points.add 2\n"
                  "    THEN log.write \"a\"\n    AFTER 1 day\n    THEN log.write \"b\"\nEND")
    assert set(one.by_name["c"].steps) <= set(two.by_name["c"].steps)
    ana = Person(one, "2026-03-01 10:00")
    ana.event("ping")
    ana.program = two
    ana.to("2026-03-05 10:00")
    assert ana.actions() == ["a", "b"]


def test_a_contact_at_a_step_that_is_gone_leaves_and_says_so() -> None:
    one = program("CAMPAIGN c\n WHEN ping\n AFTER 1 day\n THEN log.write \"a\"\nEND")
    two = program("CAMPAIGN c\n WHEN ping\n AFTER 2 days\n THEN log.write \"a\"\nEND")
    ana = Person(one, "2026-03-01 10:00")
    ana.event("ping")
    ana.program = two
    ana.to("2026-03-05 10:00")
    assert ana.reasons("exit") and not ana.actions() and not ana.state["i"]


def test_a_campaign_that_is_gone_harms_nobody_inside() -> None:
    one = program("CAMPAIGN c\n EXIT WHEN NOT page.viewed FOR 5 days\n GOAL ping WITHIN 9 days\n WHEN ping\n WAIT UNTIL page.viewed\n END\nEND")
    two = program("RULE r\n WHEN ping\n THEN points.add 1\nEND\nCAMPAIGN w\n WHEN ping\n WAIT UNTIL page.viewed UP TO 3 days\n END\nEND")
    ana = Person(one, "2026-03-01 10:00")
    ana.event("ping")
    ana.program = two
    ana.event("ping", at="2026-03-02 10:00")
    ana.event("page.viewed", at="2026-03-02 11:00")
    ana.to("2026-03-20 10:00")
    assert ana.actions() == [1]
    assert not ana.state["i"] and not ana.state["t"]


# ── splits ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

def _branches(weights: tuple[int, int, int], people: int = 2_000) -> dict[str, str]:
    lines = "".join(f"  {weight}% {name}\n  THEN log.write \"{name}\"\n" for weight, name in zip(weights, "abc", strict=True))
    compiled = program(f"CAMPAIGN c\n WHEN ping\n SPLIT test\n{lines}  END\nEND")
    found = {}
    for number in range(people):
        state = new_state(f"p{number}", 0)
        answer = advance(compiled, state, Event("e", "ping", f"p{number}", 1, None, {}), 1)
        found[f"p{number}"] = next(item.primary for item in answer.decisions if item.kind == "action")
    return found


def test_splits_are_even_sticky_and_move_the_fewest() -> None:
    first = _branches((45, 45, 10))
    assert first == _branches((45, 45, 10))
    counts = {name: sum(1 for value in first.values() if value == name) for name in "abc"}
    assert abs(counts["a"] - 900) < 120 and abs(counts["b"] - 900) < 120 and abs(counts["c"] - 200) < 70
    second = _branches((50, 40, 10))
    moved = [name for name in first if first[name] != second[name]]
    assert all((first[name], second[name]) == ("b", "a") for name in moved)
    assert abs(len(moved) - 100) < 45


def test_buckets_are_the_same_for_ever() -> None:
    assert [bucket("split", f"c{number}") for number in range(3)] == [bucket("split", f"c{number}") for number in range(3)]
    assert bucket("test", "ana") == 4634 or 0 <= bucket("test", "ana") < 10_000
    spread = [sum(1 for number in range(10_000) if bucket("x", f"c{number}") // 1000 == part) for part in range(10)]
    assert min(spread) > 880 and max(spread) < 1120


def test_a_holdout_is_its_share() -> None:
    compiled = program("CAMPAIGN c\n HOLDOUT 20%\n WHEN ping\n THEN email.send \"m\"\nEND")
    held = 0
    for number in range(1_000):
        ana = Person(compiled, 0, f"p{number}", email="a@x.com")
        ana.event("ping")
        held += ana.outcomes() == [("held_out", "m")]
    assert 150 < held < 250


# ── exits ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

def test_an_exit_with_actions_cancels_what_was_under_way_in_the_same_moment() -> None:
    """The message waits for its turn among those of this moment; the exit comes before."""
    text = """
    CAMPAIGN c
      EXIT WHEN contact.points BECOMES >= 5
        THEN log.write "out"
      WHEN ping
        THEN email.send "never"
        THEN log.write "never"
    END
    RULE r
      WHEN ping
        THEN points.add 5
    END
    """
    ana = Person(program(text), "2026-03-01 10:00", email="a@x.com")
    ana.event("ping")
    assert ana.actions() == [5, "out"]
    assert not ana.effects and not ana.state["i"]


def test_an_exit_with_actions_stops_a_wait_that_was_just_won() -> None:
    text = """
    CAMPAIGN c
      EXIT WHEN contact.points BECOMES >= 5
        THEN log.write "out"
      WHEN ping
        WAIT UNTIL page.viewed OR contact.points BECOMES >= 5
        END
        THEN log.write "never"
    END
    """
    ana = Person(program(text), "2026-03-01 10:00")
    ana.event("ping")
    ana.set(points=9)
    assert ana.actions() == ["out"]


def test_a_held_farewell_does_not_shut_the_door() -> None:
    text = """
    WORKSPACE
      QUIET FROM 20:00 TO 08:00
    END
    CAMPAIGN c
      EXIT WHEN page.viewed
        THEN email.send "bye"
      WHEN ping
        AFTER 1 hour
        THEN log.write "in {event.n}"
    END
    """
    ana = Person(program(text), "2026-03-01 21:00", email="a@x.com")
    ana.event("ping", n=1)
    ana.event("page.viewed")
    ana.event("ping", n=2)
    ana.to("2026-03-02 10:00")
    assert ana.actions() == ["in 2", "bye"]
    assert not ana.state["i"] and not ana.state["t"]


def test_a_goal_ends_with_its_window() -> None:
    text = "CAMPAIGN c\n GOAL page.viewed WITHIN 10 days\n WHEN ping\n THEN points.add 1\nEND"
    for moment, reached in (("2026-03-11 09:59", 1), ("2026-03-11 10:00", 0)):
        ana = Person(program(text), "2026-03-01 10:00")
        ana.event("ping")
        ana.event("page.viewed", at=moment)
        ana.event("page.viewed", at=moment)
        assert len(ana.reasons("goal")) == reached
        assert not ana.state["g"]


def test_goal_windows_that_are_over_are_not_kept() -> None:
    ana = Person(program("CAMPAIGN c\n FOR EACH event.n\n GOAL page.viewed WITHIN 10 days\n WHEN ping\n THEN points.add 1\nEND"), "2026-03-01 10:00")
    for number in range(20):
        ana.event("ping", at=ms("2026-03-01 10:00") + number * 3 * DAY, n=number)
    assert len(ana.state["g"]) <= 4


# ── what stays, what is found ────────────────────────────────────────────────────────────────────────────────────────────────────

def test_only_the_history_that_can_be_asked_about_is_kept() -> None:
    text = "SEGMENT s IS DID ping WITHIN 2 days AT LEAST 3 TIMES\nFACT contact.t: number IS SUM event.n OF ping WITHIN 3 days\n" \
           "FACT contact.u: number IS COUNT DISTINCT event.label OF ping WITHIN 3 days"
    ana = Person(program(text), "2026-01-01 10:00")
    for number in range(200):
        ana.event("ping", at=ms("2026-01-01 10:00") + number * 6 * 3_600_000, n=1, label=f"l{number}")
        ana.event("page.viewed")
    assert ana.state["a"]["t"] == 12 and ana.state["a"]["u"] == 12
    assert len(orjson.dumps(ana.state)) < 4_000


def test_since_start_history_goes_with_the_last_instance() -> None:
    ana = Person(program("CAMPAIGN c\n WHEN page.viewed\n AFTER 1 day\n IF DID ping SINCE START THEN points.add 1\nEND"), "2026-01-01 10:00")
    ana.event("ping")
    assert not ana.state["h"]
    ana.event("page.viewed")
    ana.event("ping")
    assert ana.state["h"]
    ana.to("2026-01-03 10:00")
    assert ana.actions() == [1] and not ana.state["h"]


def test_a_contact_that_is_moved_to_another_zone_has_its_windows_moved() -> None:
    """3 days in Prague over the change of the clock end an hour before 3 days in UTC."""
    ana = Person(program("SEGMENT s IS DID ping WITHIN 3 days\nSEGMENT t IS today >= 2026-03-29"), "2026-03-27 22:00", timezone="UTC")
    ana.event("ping", at="2026-03-27 22:30")
    ana.set(at="2026-03-28 10:00", timezone="Europe/Prague")
    ana.to("2026-03-28 22:59")
    assert members(ana.state) == {"s"}
    ana.to("2026-03-28 23:00")
    assert members(ana.state) == {"s", "t"}
    ana.to("2026-03-30 21:29")
    assert members(ana.state) == {"s", "t"}
    ana.to("2026-03-30 21:30")
    assert members(ana.state) == {"t"}
    ana.set(timezone="UTC")
    assert members(ana.state) == {"s", "t"}
    ana.to("2026-03-30 22:30")
    assert members(ana.state) == {"t"}


def test_derived_facts_are_in_the_contacts_zone_whatever_campaign_ran_before() -> None:
    text = """
    WORKSPACE
      TIMEZONE "Europe/Prague"
    END
    SEGMENT s IS DID ping WITHIN 3 days
    CAMPAIGN c
      TIMEZONE "America/New_York"
      WHEN page.viewed
        REPEAT EVERY 1 hour UP TO 90 TIMES
          THEN points.add 1
        END
    END
    """
    for together in (False, True):
        ana = Person(program(text), "2026-03-27 22:00")
        ana.event("page.viewed", at="2026-03-27 22:15")
        ana.event("ping", at="2026-03-27 22:30")
        ana.to("2026-03-30 21:29")
        assert members(ana.state) == {"s"}
        if together:
            ana.event("page.viewed", at="2026-03-30 21:29")
        ana.feed(Wake("ana", ms("2026-03-30 21:30")))
        assert members(ana.state) == set()


def test_a_triggers_where_is_read_in_the_campaigns_zone() -> None:
    text = """
    CAMPAIGN tokyo
      TIMEZONE "Asia/Tokyo"
      WHEN ping WHERE today = 2026-03-02
        THEN log.write "tokyo"
    END
    CAMPAIGN utc
      WHEN ping WHERE today = 2026-03-01
        THEN log.write "utc"
    END
    """
    ana = Person(program(text), "2026-03-01 20:00")
    ana.event("ping")
    assert ana.actions() == ["tokyo", "utc"]


def test_created_contacts_enter_segments() -> None:
    text = "SEGMENT s IS contact.email IS SET\nRULE r\n WHEN contact ENTERS s\n THEN log.write \"in\"\nEND\nRULE c\n WHEN contact.created\n THEN log.write \"new\"\nEND"
    ana = Person(program(text), "2026-03-01 10:00", quietly=False, email="a@x.com")
    assert ana.actions() == ["in", "new"]
    ana.event("ping")
    assert ana.actions() == ["in", "new"]


def test_a_first_wake_leaves_nothing_behind_for_others() -> None:
    text = "SEGMENT s IS NOT DID ping\nRULE r\n WHEN contact ENTERS s\n THEN points.add 1\nEND\nRULE c\n WHEN contact.created\n THEN points.add 2\nEND"
    compiled = program(text)
    advance(compiled, new_state("ana", 0), Wake("ana", 1000), 1000)
    bob = Person(compiled, 2000, "bob")
    assert bob.log == [] and "points" not in bob.state["a"]


def test_enter_and_leave_by_hand() -> None:
    text = """
    CAMPAIGN c
      AUDIENCE contact.email IS SET
      WHEN page.viewed "never"
        THEN log.write "in"
        AFTER 1 day
        THEN log.write "end"
    END
    RULE puts
      WHEN ping WHERE event.n = 1
        THEN campaign.enter c
    END
    RULE takes
      WHEN ping WHERE event.n = 2
        THEN campaign.leave c
    END
    """
    ana = Person(program(text), "2026-03-01 10:00")
    ana.event("ping", n=1)
    assert not ana.actions("log.write"), "past the trigger, but its other clauses hold"
    ana.set(email="a@x.com")
    ana.event("ping", n=1)
    ana.event("ping", n=2)
    ana.to("2026-03-05 10:00")
    assert ana.actions("log.write") == ["in"] and "campaign.leave in takes" in ana.reasons("exit")
    ana.event("ping", n=1)
    ana.to("2026-03-10 10:00")
    assert ana.actions("log.write") == ["in", "in", "end"]


def test_a_wait_whose_moment_moves_into_the_past_does_not_wait_for_ever() -> None:
    text = "ATTRIBUTE visit: datetime\nCAMPAIGN c\n WHEN ping\n WAIT UNTIL contact.visit\n THEN log.write \"now\"\n END\n THEN log.write \"end\"\nEND"
    ana = Person(program(text), "2026-03-01 10:00", visit="2026-03-10T10:00:00Z")
    ana.event("ping")
    ana.set(at="2026-03-05 10:00", visit="2026-03-04T10:00:00Z")
    ana.to("2026-06-01 10:00")
    assert ana.actions() == ["end"], "already past: skipped, as when it had been past from the beginning"


def test_a_rule_with_an_empty_branch_compiles() -> None:
    ana = Person(program("RULE r\n WHEN ping\n IF contact.points > 3\n END\n THEN points.add 1\nEND"), "2026-03-01 10:00")
    ana.event("ping")
    assert ana.actions() == [1]


@pytest.mark.parametrize("unit", ["minute", "hour", "day", "week", "month", "year"])
def test_every_unit_has_a_next_moment(unit: str) -> None:
    ana = Person(program(f"RULE r\n WHEN EVERY {unit}\n THEN points.add 1\nEND"), "2026-03-01 10:00")
    assert ana.wake_at is not None and ana.wake_at >= ana.now
    first = ana.wake_at
    ana.feed(Wake("ana", first))
    assert ana.actions() == [1]
    assert ana.wake_at > first


def test_a_new_version_gives_the_same_firing_the_same_name() -> None:
    """What fired under one version is known under the next (promise P3): the version is no part of an effect's id."""
    text = """
    CAMPAIGN c
      WHEN ping
        THEN email.send "m"
    END
    RULE r
      WHEN ping
        THEN webhook.post "https://x.example/"
    END
    """
    names = []
    for version in ("", "CONST unused = 3 days\n"):
        ana = Person(program(version + text.replace("\n    ", "\n")), "2026-03-01 10:00", email="a@x.com")
        ana.event("ping", id="e")
        names.append((ana.program.digest, [effect.id for effect in ana.effects]))
    (first, one), (second, other) = names
    assert first != second and len(one) == 2 and one == other


def test_the_rounds_of_a_loop_count_months_from_its_start() -> None:
    """31 January, then the last of each month: counted from the round before it would stay on the 28th for ever."""
    ana = Person(program("""
    CAMPAIGN c
      WHEN ping
        REPEAT EVERY 1 month UP TO 4 TIMES
          THEN log.write "round"
        END
    END
    """), "2026-01-01 10:00")
    ana.event("ping", at="2026-01-31 10:00")
    ana.to("2026-07-01 00:00")
    assert ana.times() == ["2026-01-31 10:00", "2026-02-28 10:00", "2026-03-31 10:00", "2026-04-30 10:00"]


def test_what_is_due_at_one_moment_happens_in_the_order_of_its_names() -> None:
    """Six carts of one moment: an order that a set happened to have would differ from process to process."""
    ana = Person(program("""
    CAMPAIGN cart
      FOR EACH event.order_id
      WHEN order.placed
        AFTER 1 hour
        THEN log.write "{event.order_id}"
    END
    """), "2026-03-01 10:00")
    for name in "dbfaec":
        ana.event("order.placed", order_id=name, total=1)
    ana.to("2026-03-01 12:00")
    assert [item.key for item in ana.log if item.kind == "action"] == list("abcdef")


# ── explanations ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

def test_decisions_say_why() -> None:
    text = """
    CAMPAIGN c
      WHEN ping WHERE event.n > 1
        IF contact.points >= 5 AND contact.country = "CZ"
          THEN log.write "a"
        END
        IF contact.stage = "x" THEN log.write "b"
        THEN log.write "c"
    END
    """
    ana = Person(program(text), "2026-03-01 10:00", points=7, country="DE", stage="x")
    ana.event("ping", n=2)
    skip = next(item for item in ana.log if item.kind == "skip")
    assert skip.reason == 'contact.country = "CZ" is false: contact.country is "DE"'
    assert skip.because == (("contact.country", "DE"),)
    b, c = (item for item in ana.log if item.kind == "action")
    assert b.reason == 'WHEN ping WHERE event.n > 1; IF contact.stage = "x"' and ("contact.stage", "x") in b.because
    assert c.reason == "WHEN ping WHERE event.n > 1" and dict(c.because) == {"event.n": 2}, "a condition that is over is no reason"
    assert all(item.cause == "e2" and item.place[0] == "t.camp" for item in ana.log)


def test_the_alias_of_a_trigger_names_its_event() -> None:
    text = "CAMPAIGN c\n WHEN ping AS first\n WAIT UNTIL ping AS second UP TO 1 day\n END\n THEN log.write \"{first.n} {second.n}\"\nEND"
    ana = Person(program(text), "2026-03-01 10:00")
    ana.event("ping", n=1)
    ana.event("ping", n=2)
    assert ana.actions() == ["1 2"]


def test_the_alias_of_a_rules_trigger_names_its_event() -> None:
    ana = Person(program("RULE r\n WHEN ping AS it\n IF it.n > 1 THEN log.write \"{it.n}\"\nEND"), "2026-03-01 10:00")
    ana.event("ping", n=1)
    ana.event("ping", n=2)
    assert ana.actions() == ["2"]


def test_the_alias_of_a_rules_trigger_in_a_plain_body() -> None:
    ana = Person(program("RULE r\n WHEN ping AS it\n IF it.n > 1 THEN points.add 1\nEND"), "2026-03-01 10:00")
    ana.event("ping", n=1)
    ana.event("ping", n=2)
    assert ana.actions() == [1]


def test_a_rules_own_change_is_seen_by_its_next_step() -> None:
    """Derived facts follow before the next step, in a plain rule as in a campaign."""
    body = 'THEN points.add 10\n IF contact IN rich THEN log.write "rich"\n THEN points.subtract 10\n IF contact IN rich THEN log.write "never"\n'
    for head in ("RULE r\n WHEN ping\n", "CAMPAIGN c\n WHEN ping\n", "RULE s\n AT MOST 3 TIMES PER day\n WHEN ping\n"):
        ana = Person(program(f"SEGMENT rich IS contact.points >= 10\n{head} {body}END"), "2026-03-01 10:00")
        ana.event("ping")
        assert ana.actions() == [10, "rich", 10], head


def test_the_fixpoint_counts_what_edges_change_too() -> None:
    """`late` comes last by rank, and makes true what `asks` reads: it still fires for the event."""
    text = """
    RULE asks
      WHEN ping WHERE contact.stage = "hot"
        THEN log.write "asked"
    END
    RULE starts_it
      WHEN ping
        THEN points.add 10
    END
    RULE asks_too
      WHEN ping WHERE contact.stage = "hot"
        THEN log.write "asked too"
    END
    RULE late
      WHEN contact.points BECOMES >= 10
        THEN contact.set stage: "hot"
    END
    """
    ana = Person(program(text), "2026-03-01 10:00")
    ana.event("ping")
    assert ana.fired() == ["starts_it", "late", "asks", "asks_too"]


def test_emitted_events_have_the_same_ids_however_wake_ups_come() -> None:
    text = "EVENT tick\nRULE r\n WHEN EVERY day AT 09:00\n THEN event.emit tick\nEND\nRULE s\n WHEN ping\n THEN event.emit tick\nEND\n" \
           "RULE t\n WHEN tick\n THEN webhook.post \"https://x.example/\"\nEND"
    found = []
    for together in (False, True):
        ana = Person(program(text), "2026-03-01 10:00")
        if not together:
            ana.to("2026-03-04 10:00")
        ana.feed(Event("e", "ping", "ana", ms("2026-03-04 10:00"), None, {}))
        found.append(([event.id for event in ana.emits], [effect.id for effect in ana.effects]))
    assert found[0] == found[1]
    assert len(set(found[0][1])) == 4


@pytest.mark.parametrize(("policy", "outcome", "goes_on"), [("ELSE DROP", "window", True), ("ELSE STOP", "window", False), ("ELSE HOLD UP TO 1 hour", "window", True),
                                                           ("", "sent", True)])
def test_deliver_says_what_becomes_of_a_message_outside(policy: str, outcome: str, goes_on: bool) -> None:
    text = f"CAMPAIGN c\n DELIVER BETWEEN 09:00 AND 17:00 {policy}\n WHEN ping\n THEN email.send \"m\"\n THEN log.write \"on\"\nEND"
    ana = Person(program(text), "2026-03-01 20:00", email="a@x.com")
    ana.event("ping")
    ana.to("2026-03-03 10:00")
    assert (outcome, "m") in ana.outcomes()
    assert (("done", "on") in ana.outcomes()) == goes_on


def test_quiet_hours_in_a_zone_of_their_own() -> None:
    text = "WORKSPACE\n QUIET FROM 20:00 TO 08:00 IN \"Asia/Tokyo\" ELSE DROP\nEND\nRULE r\n WHEN ping\n THEN email.send \"m\"\nEND"
    ana = Person(program(text), "2026-03-01 10:59", email="a@x.com", timezone="America/New_York")
    ana.event("ping")
    ana.event("ping", at="2026-03-01 11:00")
    ana.event("ping", at="2026-03-01 23:00")
    assert [outcome for outcome, _ in ana.outcomes()] == ["sent", "quiet", "sent"]


def test_a_limit_on_messages_counts_all_channels() -> None:
    text = "WORKSPACE\n LIMIT 2 messages PER day\nEND\nRULE r\n WHEN ping\n THEN email.send \"m\"\n THEN sms.send \"s\"\nEND"
    ana = Person(program(text), "2026-03-01 10:00", email="a@x.com", phone="+420123")
    ana.event("ping")
    ana.event("ping")
    assert [outcome for outcome, _ in ana.outcomes()] == ["sent", "sent", "capped", "capped"]


def test_a_held_message_says_what_is_true_when_it_leaves() -> None:
    text = "WORKSPACE\n QUIET FROM 20:00 TO 08:00\nEND\nCAMPAIGN c\n WHEN ping\n THEN email.send \"m\", subject: \"{contact.first_name}\"\nEND"
    ana = Person(program(text), "2026-03-01 21:00", email="a@x.com", first_name="Ana")
    ana.event("ping")
    ana.set(first_name="Anna")
    ana.to("2026-03-02 08:00")
    assert ana.effects[0].params["subject"] == "Anna"
    assert ana.effects[0].at == ms("2026-03-02 08:00")


def test_consent_withdrawn_while_a_message_is_held_stops_it() -> None:
    text = "WORKSPACE\n QUIET FROM 20:00 TO 08:00\nEND\nCAMPAIGN c\n WHEN ping\n THEN email.send \"m\"\nEND"
    ana = Person(program(text), "2026-03-01 21:00", email="a@x.com")
    ana.event("ping")
    ana.event("email.unsubscribed", "x")
    ana.to("2026-03-02 08:00")
    assert not ana.effects and ("suppressed", "m") in ana.outcomes()


def test_an_anchor_in_the_past_of_its_contact_moves_with_the_zone() -> None:
    """A yearly and an anchored trigger, and the contact moves west on the day: each comes once."""
    text = "ATTRIBUTE birthday: birthday\nRULE r\n WHEN ANNIVERSARY OF contact.birthday AT 09:00\n THEN log.write \"b\"\nEND\n" \
           "RULE e\n WHEN EVERY day AT 09:00\n THEN log.write \"e\"\nEND"
    ana = Person(program(text), "2026-03-01 23:00", birthday="--03-02", timezone="Asia/Tokyo")
    ana.to("2026-03-02 00:00")
    assert sorted(ana.actions()) == ["b", "e"]
    ana.set(at="2026-03-02 01:00", timezone="America/New_York")
    ana.to("2026-03-02 23:00")
    assert ana.actions().count("b") == 1


def test_effects_carry_what_an_outbox_needs() -> None:
    text = "CAMPAIGN c\n FOR EACH event.label\n WHEN ping\n THEN email.send \"m\", expires_after: 2 hours, extra: event.n\nEND"
    ana = Person(program(text), "2026-03-01 10:00", email="a@x.com")
    ana.event("ping", label="K", n=3)
    effect = ana.effects[0]
    assert (effect.action, effect.primary, effect.ruleset, effect.key, effect.channel, effect.message_class) == ("email.send", "m", "c", "K", "email", "marketing")
    assert effect.expires == ms("2026-03-01 12:00") and effect.params["extra"] == 3
    assert "expires_after" not in effect.params


def test_one_change_that_fits_two_alternatives_fires_once() -> None:
    text = "RULE r\n WHEN contact.points BECOMES >= 10 WHERE contact.stage = \"x\" OR contact.points CHANGES\n THEN log.write \"r\"\nEND"
    ana = Person(program(text), "2026-03-01 10:00", stage="x")
    ana.set(points=10)
    assert ana.actions() == ["r"]
    ana.set(points=11)
    assert ana.actions() == ["r", "r"]


def test_what_happened_before_a_journey_neither_ends_nor_crowns_it() -> None:
    """An old event that arrives after the entry (an import of the past) is no goal, no exit and no answer to a wait."""
    text = """
    CAMPAIGN c
      GOAL order.placed WITHIN 30 days
      EXIT WHEN order.placed
      WHEN ping
        WAIT UNTIL page.viewed UP TO 2 days
        OTHERWISE
          THEN log.write "no visit"
        END
    END
    EVENT order.placed
    """
    ana = Person(program(text), "2026-03-01 10:00")
    ana.event("ping", at="2026-03-02 10:00")
    ana.event("order.placed", at="2025-08-01 10:00", now="2026-03-02 11:00")
    ana.event("page.viewed", "x", at="2026-03-02 09:59", now="2026-03-02 11:00")
    ana.to("2026-03-05 10:00")
    assert [item.kind for item in ana.log] == ["enter", "wait", "action", "complete"]


def test_what_happens_inside_a_journey_ends_and_crowns_it_however_late_it_arrives() -> None:
    text = "EVENT order.placed\nCAMPAIGN c\n GOAL order.placed WITHIN 30 days\n EXIT WHEN order.placed\n WHEN ping\n AFTER 3 days\n END\n"
    ana = Person(program(text.replace("AFTER 3 days\n END", "AFTER 3 days\nEND")), "2026-03-01 10:00")
    ana.event("ping", at="2026-03-02 10:00")
    ana.event("order.placed", at="2026-03-02 10:30", now="2026-03-02 15:00")
    assert [item.kind for item in ana.log] == ["enter", "wait", "goal", "exit"]


def test_as_names_the_alternative_that_won_whatever_its_kind() -> None:
    text = """
    CAMPAIGN c
      WHEN ping
        WAIT UNTIL contact.points >= 5 AS rich OR page.viewed AS visit UP TO 2 days
          IF rich IS SET THEN log.write "rich"
          IF visit IS SET THEN log.write "visit"
        END
    END
    """
    rich = Person(program(text), "2026-03-01 10:00")
    rich.event("ping")
    rich.set(points=7)
    assert rich.actions() == ["rich"]
    already = Person(program(text), "2026-03-01 10:00", points=9)
    already.event("ping")
    assert already.actions() == ["rich"]
    visitor = Person(program(text), "2026-03-01 10:00")
    visitor.event("ping")
    visitor.event("page.viewed", "x")
    assert visitor.actions() == ["visit"]


def test_each_entry_has_a_goal_window_of_its_own() -> None:
    text = "EVENT order.placed\nCAMPAIGN c\n GOAL order.placed WITHIN 10 days\n {mode}\n WHEN ping\n {wait} THEN log.write \"x\"\nEND\n"
    ana = Person(program(text.format(mode="REENTRY ALWAYS", wait="")), "2026-03-01 10:00")
    ana.event("ping", at="2026-03-02 10:00")
    ana.event("ping", at="2026-03-03 10:00")
    ana.event("order.placed", at="2026-03-04 10:00")
    assert [item.kind for item in ana.log].count("goal") == 2
    bob = Person(program(text.format(mode="MODE RESTART", wait="AFTER 5 days\n")), "2026-03-01 10:00")
    bob.event("ping", at="2026-03-02 10:00")
    bob.event("ping", at="2026-03-03 10:00")
    bob.event("order.placed", at="2026-03-04 10:00")
    assert [item.kind for item in bob.log].count("goal") == 1, "a round that took another's place is one conversion"
