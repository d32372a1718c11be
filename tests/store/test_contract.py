"""What every store keeps; run on all of them."""

from __future__ import annotations

import hashlib

import pytest

from rules_engine.decisions import Decision, Effect
from rules_engine.facts import ContactChange, Event, Wake
from rules_engine.service.ingest import record_each
from rules_engine.store.port import (
    CLAIM,
    SOURCE_CONTACTS,
    SOURCE_ENGINE,
    Arrival,
    BadData,
    Block,
    ContactRow,
    Erased,
    HandOver,
    Recorded,
    Removed,
    Settlement,
    StoreError,
    Verdict,
)


def event(id, contact="ana", at=100, name="order.placed", subject=None, **data):
    return Arrival(Event(id, name, contact, at, subject, data))


def row(contact, wake_at=None, state=b'{"n":1}', program="p1", updated=5):
    return ContactRow(contact, state, wake_at, program, updated)


def effect(id, contact="ana", at=100, state="ready", expires=None, **other):
    values = {
        "action": "email.send",
        "primary": "welcome",
        "params": {"a": 1},
        "ruleset": "c",
        "step": "s",
        "key": None,
        "channel": "email",
        "message_class": "marketing",
    }
    values.update(other)
    return Effect(id=id, contact=contact, at=at, expires=expires, state=state, **values)


def decision(contact="ana", at=100, **other):
    values = {
        "campaign": "c",
        "rule": None,
        "key": None,
        "step": "s",
        "kind": "action",
        "action": "email.send",
        "primary": "welcome",
        "params": {"x": [1, None]},
        "outcome": "sent",
        "reason": "because it was due",
        "because": (("contact.points", 7), ("event.total", 4.5)),
        "cause": "e1",
        "place": ("a.camp", 12),
    }
    values.update(other)
    return Decision(at=at, contact=contact, **values)


def claim_all(candidate):
    return CLAIM


# ---------------------------------------------------------------- the log


def test_new_events_are_accepted_and_read_in_order_of_arrival(store):
    assert store.record_events([event("b", at=300), event("a", at=100, total=4.5)]) == Recorded(2)
    rows = store.read_log(0, 10)
    assert [(row.seq, row.cause.id) for row in rows] == [(1, "b"), (2, "a")]
    assert rows[1].cause == Event("a", "order.placed", "ana", 100, None, {"total": 4.5}, 1_000_000)
    assert [row.cause.id for row in store.read_log(1, 10)] == ["a"]
    assert [row.cause.id for row in store.read_log(0, 1)] == ["b"]
    assert store.record_events([]) == Recorded(0)


def test_history_is_read_in_order_of_time_and_then_arrival(store):
    store.record_events(
        [event("late", at=300), event("x", at=200), event("first", at=100), event("y", at=200), event("future", at=900)]
    )
    assert [row.cause.id for row in store.read_history(300, 10)] == ["first", "x", "y", "late"]
    assert [row.cause.id for row in store.read_history(300, 2)] == ["first", "x"]
    assert [row.cause.id for row in store.read_history(300, 2)] == ["first", "x"], "reading changes nothing"


def test_the_same_id_acts_once_and_another_content_is_a_conflict(store):
    store.record_events([event("a", total=1, shop="x"), event("b")])
    again = store.record_events([event("a", shop="x", total=1), event("b", at=101), event("c"), event("c"), event("c", total=2)])
    assert again == Recorded(1, (0, 3), (1, 4))
    assert store.counts().events == {"new": 3, "done": 0, "set_aside": 0}
    assert store.record_events([event("a", shop="x", total=1)]) == Recorded(0, (0,))


def test_ids_are_told_apart_by_source(store):
    assert store.record_events([event("a")]).accepted == 1
    assert store.record_events([event("a")._replace(source="elsewhere")]).accepted == 1


def test_changes_of_contacts_come_back_as_they_went_in(store):
    change = ContactChange("c1", "ana", 50, {"email": "ä@example.com", "points": 1.5, "old": None}, {"vip": True})
    store.record_events([Arrival(change, "contacts")])
    assert store.read_log(0, 1)[0].cause == change
    assert store.record_events([Arrival(change._replace(attributes={"email": "b"}), "contacts")]) == Recorded(0, (), (0,))


def test_the_time_of_arrival_never_falls(store, clock):
    store.record_events([event("a")])
    clock._now = 10  # a clock set back
    store.record_events([event("b")])
    assert [row.received for row in store.read_log(0, 10)] == [1_000_000, 1_000_000]
    assert store.quiet_now(2) == 1_000_000


def test_a_wake_up_may_only_fire_when_the_log_is_read(store, clock):
    store.record_events([event("a")])
    assert store.quiet_now(0) is None
    clock.move_to(1_000_007)
    assert store.quiet_now(1) == 1_000_007
    store.commit(Block("p1", done=[1], cursor=1))
    assert store.quiet_now(0) == 1_000_007


def test_what_was_set_aside_is_listed_and_can_be_released(store):
    store.record_events([event("a"), event("b"), event("c")])
    store.commit(Block("p1", done=[1, 3], set_aside=[(2, "rule loop \ud800")], cursor=3, clock=7))
    (aside,) = store.set_aside()
    assert (aside.seq, aside.status, aside.cause.id) == (2, "set_aside", "b") and aside.reason.startswith("rule loop")
    assert store.read_log(0, 10) == [] and store.position() == (3, 7)
    assert store.release([2, 1, 99]) == 1
    assert [row.cause.id for row in store.read_log(store.position().cursor, 10)] == ["b"]
    assert [row.cause.id for row in store.read_history(1_000, 10)] == ["b"]
    assert store.release([]) == 0 and store.set_aside() == []


def test_a_release_while_a_block_runs_is_not_overtaken(store):
    store.record_events([event("a"), event("b"), event("c")])
    store.commit(Block("p1", done=[2], set_aside=[(1, "a loop")], cursor=2))
    store.release([1])
    store.commit(Block("p1", done=[3], cursor=3, cursor_was=2))
    assert store.position().cursor == 0 and [row.cause.id for row in store.read_log(0, 9)] == ["a"]
    store.commit(Block("p1", done=[1], cursor=1, cursor_was=0))
    assert store.position().cursor == 1


def test_a_purged_event_is_still_known(store, clock):
    store.record_events([event("a", total=1), event("b", total=2)])
    store.commit(Block("p1", done=[1], cursor=1))
    clock.move_to(2_000_000)
    assert store.purge(1_500_000) == 1
    assert [row.cause.data for row in store.events_of("ana")] == [{}, {"total": 2}]
    assert store.record_events([event("a", total=1)]) == Recorded(0, (0,))
    assert store.record_events([event("a", total=9)]) == Recorded(0, (), (0,))
    assert store.purge(1_500_000) == 0


def test_a_contacts_events_are_its_latest(store):
    store.record_events([event(f"e{n}", contact="ana" if n % 2 else "ben") for n in range(6)])
    assert [row.cause.id for row in store.events_of("ana", 2)] == ["e3", "e5"]


# ---------------------------------------------------------------- contacts and blocks


def test_states_are_saved_read_by_many_keys_and_replaced(store):
    store.commit(Block("p1", [row("ana", 50), row("ben")]))
    store.commit(Block("p2", [row("ana", 60, b"{}", "p2", 9)]))
    assert store.contacts(["ana", "ben", "nobody"]) == {"ana": row("ana", 60, b"{}", "p2", 9), "ben": row("ben")}
    assert store.contacts([]) == {}
    assert store.contact_ids() == ["ana", "ben"] and store.contact_ids("ana", 1) == ["ben"]


def test_due_wake_ups_come_in_order_of_time_and_name(store):
    assert store.next_wake() is None
    store.commit(Block("p1", [row("c", 20), row("b", 20), row("a", 30), row("d", None), row("e", 10)]))
    assert store.due(20, 10) == [(10, "e"), (20, "b"), (20, "c")]
    assert store.due(20, 2) == [(10, "e"), (20, "b")]
    assert store.due(20, 10) == [(10, "e"), (20, "b"), (20, "c")]
    store.commit(Block("p1", [row("e", 40), row("b", None)]))
    assert store.due(100, 10) == [(20, "c"), (30, "a"), (40, "e")] and store.next_wake() == 20


def test_a_wake_up_that_failed_is_off_and_listed(store):
    store.commit(Block("p1", [row("ana", 10)]))
    store.commit(Block("p1", stuck=[(Wake("ana", 10), "a loop")]))
    assert store.due(100, 10) == [] and store.contacts(["ana"])["ana"].state == b'{"n":1}'
    (aside,) = store.set_aside()
    assert aside.cause == Wake("ana", 10) and aside.reason == "a loop"
    store.commit(Block("p1", stuck=[(Wake("ana", 10), "another loop")]))
    assert [row.reason for row in store.set_aside()] == ["another loop"]
    assert store.release([aside.seq]) == 1
    assert store.read_log(0, 10)[0].cause == Wake("ana", 10)


def test_a_later_event_of_the_block_arms_a_failed_contact_again(store):
    store.commit(Block("p1", [row("ana", 10)]))
    store.commit(Block("p1", [row("ana", 90)], stuck=[(Wake("ana", 10), "a loop")]))
    assert store.due(100, 10) == [(90, "ana")]


def test_a_block_is_saved_as_one(store):
    store.record_events([event("a")])
    store.commit(
        Block(
            "p1",
            [row("ana")],
            [1],
            decisions=[decision(), decision("ben", 101, campaign=None, rule="r", primary=None, place=())],
            effects=[effect("f1")],
            emits=[
                Arrival(Event("a/1", "tier.reached", "ana", 100), SOURCE_ENGINE, True),
                Arrival(Event("a/2", "referred", "ben", 100), SOURCE_ENGINE),
            ],
            cursor=1,
            clock=100,
        )
    )
    assert [item.decision for item in store.journal()] == [
        decision(),
        decision("ben", 101, campaign=None, rule="r", primary=None, place=()),
    ]
    assert [item.decision for item in store.journal_of("ben")] == [
        decision("ben", 101, campaign=None, rule="r", primary=None, place=())
    ]
    assert [item.seq for item in store.journal(1)] == [2]
    assert [row.cause.id for row in store.read_log(1, 10)] == ["a/2"], "what has acted is kept as done"
    assert [row.status for row in store.events_of("ana")] == ["done", "done"]
    counts = store.counts()
    assert (counts.contacts, counts.waiting, counts.decisions, counts.effects) == (1, 0, 2, {"ready": 1})


def test_an_effect_and_an_emitted_event_act_once_by_their_id(store):
    for _ in range(2):
        store.commit(
            Block("p1", effects=[effect("f1"), effect("f1", at=999)], emits=[Arrival(Event("x", "e", "ben", 1), SOURCE_ENGINE)])
        )
    assert [item.at for item in store.effects()] == [100]
    assert store.counts().events["new"] == 1


# ---------------------------------------------------------------- the outbox


def test_a_claim_counts_the_attempt_and_a_settlement_ends_it(store):
    store.commit(Block("p1", [row("ana")], effects=[effect("f1"), effect("f2", "ben", at=900), effect("f3", state="held")]))
    (candidate,) = store.claim_effects(500, 600, 10, claim_all)
    claimed = candidate.effect
    assert (claimed.id, claimed.state, claimed.attempts, claimed.claimed_at, claimed.first_claimed_at) == (
        "f1",
        "claimed",
        1,
        600,
        600,
    )
    assert (claimed.primary, claimed.params, candidate.state, candidate.pending) == ("welcome", {"a": 1}, b'{"n":1}', False)
    assert store.effect("f1") == claimed
    assert store.claim_effects(500, 600, 10, claim_all) == [], "what is claimed is not claimed again"
    assert store.settle([Settlement("f1", 1, "accepted", 700, "taken", "id42")]) == 1
    assert store.settle([Settlement("f1", 1, "failed", 800)]) == 0, "an answer counts once"
    settled = store.effect("f1")
    assert (settled.state, settled.provider_id, settled.detail, settled.settled_at) == ("accepted", "id42", "taken", 700)
    assert [attempt[1:] for attempt in store.attempts_of("f1")] == [(1, 600, 700, "accepted", "taken")]
    assert store.counts().effects == {"accepted": 1, "held": 1, "ready": 1} and store.next_effect() == 900


def test_a_retry_waits_and_is_fenced_by_its_attempt(store):
    store.commit(Block("p1", effects=[effect("f1")]))
    store.claim_effects(100, 100, 10, claim_all)
    store.settle([Settlement("f1", 1, "retry_wait", 200, "busy", next_at=5_000)])
    assert store.claim_effects(4_999, 4_999, 10, claim_all) == [] and store.next_effect() == 5_000
    (again,) = store.claim_effects(5_000, 5_000, 10, claim_all)
    assert (again.effect.attempts, again.effect.first_claimed_at, again.effect.claimed_at) == (2, 100, 5_000)
    assert store.settle([Settlement("f1", 1, "accepted", 6_000)]) == 0, "the answer of an older attempt"
    assert store.effect("f1").state == "claimed"


def test_the_judge_decides_in_the_claim(store):
    store.commit(Block("p1", effects=[effect("a"), effect("b", at=99), effect("c", at=101), effect("d", at=102)]))
    seen = []

    def judge(candidate):
        seen.append(candidate.effect.id)
        return {"a": CLAIM, "b": Verdict("cancelled", "consent.email was withdrawn"), "c": None, "d": Verdict("expired", "late")}[
            candidate.effect.id
        ]

    assert [candidate.effect.id for candidate in store.claim_effects(200, 200, 10, judge)] == ["a"]
    assert seen == ["b", "a", "c", "d"], "oldest first"
    assert store.counts().effects == {"cancelled": 1, "claimed": 1, "expired": 1, "ready": 1}
    assert (store.effect("b").detail, store.effect("b").settled_at) == ("consent.email was withdrawn", 200)
    assert [candidate.effect.id for candidate in store.claim_effects(200, 200, 1, claim_all)] == ["c"]


def test_unread_news_of_a_contact_are_seen_by_the_claim(store):
    store.commit(Block("p1", effects=[effect("a"), effect("b", "ben")]))
    store.record_events([event("unsubscribe", "ana")])
    seen = {}
    store.claim_effects(200, 200, 10, lambda candidate: seen.update({candidate.effect.contact: candidate.pending}))
    assert seen == {"ana": True, "ben": False}


def test_what_a_dead_process_had_claimed_is_unknown_unless_it_may_be_repeated(store):
    store.commit(Block("p1", effects=[effect("a"), effect("b"), effect("c")]))
    store.claim_effects(200, 300, 2, claim_all)
    lost = store.unknown_after_restart(400, lambda effect: effect.id == "b")
    assert [(effect.id, effect.state) for effect in lost] == [("a", "unknown")]
    assert store.effect("a").settled_at == 400 and "may or may not" in store.effect("a").detail
    assert {candidate.effect.id: candidate.effect.attempts for candidate in store.claim_effects(200, 500, 10, claim_all)} == {
        "b": 2,
        "c": 1,
    }
    assert store.effect("b").first_claimed_at == 300
    assert [(attempt.number, attempt.state) for attempt in store.attempts_of("b")] == [(1, "unknown")]
    assert [effect.id for effect in store.effects("unknown")] == ["a"]


@pytest.mark.parametrize(
    ("state", "to", "allowed"),
    [
        ("unknown", "accepted", True),
        ("unknown", "ready", True),
        ("unknown", "cancelled", False),
        ("held", "ready", True),
        ("held", "accepted", False),
        ("ready", "cancelled", True),
        ("accepted", "ready", False),
        ("failed", "ready", True),
        ("claimed", "ready", False),
    ],
)
def test_a_person_resolves_what_may_be_resolved(store, state, to, allowed):
    store.commit(Block("p1", effects=[effect("a", state="held" if state == "held" else "ready")]))
    if state not in ("held", "ready"):
        store.claim_effects(200, 200, 1, claim_all)
    if state not in ("held", "ready", "claimed"):
        store.settle([Settlement("a", 1, state, 300)])
    assert store.resolve("a", to, "seen in the provider's log", 400) is allowed
    assert store.effect("a").state == (to if allowed else state)
    assert store.resolve("nothing", "ready", "", 1) is False
    assert bool(store.claim_effects(200, 500, 1, claim_all)) is (to == "ready" and allowed or state == "ready" and not allowed)


def test_outcomes_and_their_news_are_one_step(store):
    store.commit(Block("p1", effects=[effect("a")]))
    store.claim_effects(200, 200, 1, claim_all)
    store.settle(
        [Settlement("a", 1, "failed", 300, "no such address")],
        [Arrival(Event("a:failed", "email.failed", "ana", 300), "outcomes")],
    )
    assert [row.cause.id for row in store.read_log(0, 10)] == ["a:failed"]


def test_effects_are_listed_latest_first_by_state_and_contact(store):
    store.commit(Block("p1", effects=[effect("a"), effect("b", "ben"), effect("c")]))
    assert [item.id for item in store.effects()] == ["c", "b", "a"]
    assert [item.id for item in store.effects("ready", "ana", 1)] == ["c"]
    assert store.effects("unknown") == [] and store.effect("nothing") is None


# ---------------------------------------------------------------- programs and the lock


def test_programs_are_kept_with_their_sources(store):
    assert store.record_program("p1", {"a.camp": "RULE x"}) is True
    assert store.record_program("p1", {"a.camp": "RULE x"}) is False
    assert store.record_program("p2", {}) is True and store.record_program("p1", {"a.camp": "RULE x"}) is True
    assert [(version.digest, dict(version.sources)) for version in store.programs()] == [("p1", {"a.camp": "RULE x"}), ("p2", {})]


def test_a_program_first_seen_in_a_state_gets_its_sources_later(store):
    store.commit(Block("p1", [row("ana")]))
    store.record_program("p1", {"a.camp": "x"})
    assert dict(store.programs()[-1].sources) == {"a.camp": "x"}


def test_only_one_may_run(store):
    with store.run_lock():
        assert store.running()
        with pytest.raises(StoreError) as refused, store.run_lock():
            pass
        assert "another `camp run`" in refused.value.message
        store.record_events([event("a")])  # others append meanwhile
    assert not store.running()
    with store.run_lock():
        pass


def test_housekeeping_is_harmless(store):
    store.record_events([event("a")])
    store.maintain()
    assert store.counts().events["new"] == 1


def test_rouse_wakes_those_whom_another_program_left(store) -> None:
    """A new program's timers must not wait for the contact's next event."""
    rows = [ContactRow("a", b"{}", None, "old", 1), ContactRow("b", b"{}", 50, "old", 1), ContactRow("c", b"{}", 5, "old", 1),
            ContactRow("d", b"{}", None, "new", 1)]
    store.commit(Block("old", states=rows))
    assert store.rouse("new", 10) == 2
    assert store.due(10, 9) == [(5, "c"), (10, "a"), (10, "b")]
    assert store.rouse("new", 10) == 0


# ---------------------------------------------------------------- looking after it


def a_life(store):
    """Two contacts, each with an event, a decision, an effect that was handed over and one that is ready."""
    store.record_events([event("e1", total=5), event("e2", "bob", total=6)])
    store.commit(
        Block(
            "p1",
            [row("ana", 50), row("bob", 60)],
            [1, 2],
            decisions=[decision(), decision("bob", at=200)],
            effects=[effect("f1"), effect("f2", "bob"), effect("f3", at=900), effect("f4", "bob", at=900)],
            cursor=2,
        )
    )
    claimed = store.claim_effects(100, 100, 10, claim_all)
    store.settle([Settlement(item.effect.id, 1, "accepted", 150) for item in claimed])


def test_erasure_leaves_nothing_of_one_contact_and_all_of_the_other(store):
    a_life(store)
    wanted = Removed(1, 1, 1, 2, 1)
    assert store.erase("ana", (), 500, dry_run=True) == wanted and store.contact_ids() == ["ana", "bob"]
    gone = store.erase("ana", [("email", "Ana@Example.org"), ("sms", "+49 (170) 5")], 500)
    assert gone._replace(ids=()) == wanted and set(gone.ids) == {"f1", "f3"}
    assert store.contact_ids() == ["bob"] and store.events_of("ana") == [] and store.journal_of("ana") == []
    assert store.effects(contact="ana") == [] and store.attempts_of("f1") == [] and store.next_wake() == 60
    assert len(store.effects(contact="bob")) == 2 and len(store.journal_of("bob")) == 1 and store.events_of("bob")[0].cause.data == {"total": 6}
    assert store.erasures() == 1 and store.scrub() is True
    # The same event is not taken again; others are, and positions tell which.
    again = store.record_events([event("e2", "bob", total=6), event("e1", total=5), event("e9"), event("e2", "bob", total=7)])
    assert again == Recorded(1, (0, 1), (3,))
    for id, attributes, suppressed in (
        ("k1", {"email": " ANA@example.ORG ", "suppressed.email": None}, {"suppressed.email": "erased"}),
        ("k2", {"phone": "+49170-5", "plan": "paid"}, {"suppressed.sms": "erased"}),
        ("k3", {"email": "other@example.org", "points": 5}, {}),
    ):
        change = ContactChange(id, id, 100, attributes)
        assert store.record_events([Arrival(change, SOURCE_CONTACTS)]).accepted == 1
        assert dict(store.events_of(id)[0].cause.attributes) == {**attributes, **suppressed}
        assert store.record_events([Arrival(change, SOURCE_CONTACTS)]) == Recorded(0, (0,)), "a repeat is a repeat"


def test_a_block_of_before_an_erasure_is_refused(store):
    a_life(store)
    before = store.erasures()
    store.erase("ana", (), 500)
    with pytest.raises(Erased):
        store.commit(Block("p1", [row("ana")], decisions=[decision()], erasures=before))
    assert store.contact_ids() == ["bob"]
    store.commit(Block("p1", [row("carl")], erasures=store.erasures()))
    assert store.contact_ids() == ["bob", "carl"]


def test_nobody_is_erased_in_the_middle_of_a_hand_over(store):
    store.commit(Block("p1", [row("ana")], effects=[effect("f1")]))
    (claimed,) = store.claim_effects(100, 100, 1, claim_all)
    with store.run_lock():
        with pytest.raises(StoreError) as busy:
            store.erase("ana", (), 500)
        assert busy.value.kind == "busy" and store.effect("f1") is not None
    store.erase("ana", (), 500)  # nobody runs: whoever claimed it is dead
    news = [event("f1:failed", name="email.failed")]
    assert store.settle([Settlement("f1", claimed.effect.attempts, "failed", 600)], news) == 0
    assert store.events_of("ana") == [], "the outcome of a hand-over must not bring somebody back"


def test_trim_takes_what_is_old_and_over(store):
    a_life(store)
    assert store.trimmable(None, 150, 200) == store.trim(150, 200, 100)._replace() == Removed(decisions=1, effects=2, attempts=2)
    assert store.trim(150, 200, 100) == Removed()
    assert {item.id for item in store.effects()} == {"f3", "f4"} and [item.seq for item in store.journal()] == [2]
    store.record_events([event(f"n{n}", total=1) for n in range(4)])
    store.commit(Block("p1", done=[3, 4, 5, 6], cursor=6))
    assert [store.purge(2_000_000, 4), store.purge(2_000_000, 4), store.purge(2_000_000, 4)] == [4, 2, 0]


def test_the_backlog(store, clock):
    assert store.backlog(5) == (None, 0, None, None, 0, 0, {})
    a_life(store)
    store.record_events([event("n1")])
    assert store.backlog(55) == (clock.now(), 1, 50, 900, 1, 0, {"ready": 2})
    store.note("backup", "today")
    assert store.noted("backup") == "today" and store.noted("other") is None


def test_the_books_of_the_send_journal(store):
    a_life(store)
    one, three = store.effect("f1"), store.effect("f3")
    assert store.mark_of("f1") != store.mark_of("f3") and len(store.mark_of("f1")) == 32
    assert store.handed_over(HandOver(one.seq, store.mark_of("f1"), 1, 100))
    assert not store.handed_over(HandOver(one.seq, store.mark_of("f1"), 2, 100)), "an attempt of which nothing is known"
    assert not store.handed_over(HandOver(one.seq, store.mark_of("f2"), 1, 100)) and not store.handed_over(HandOver(99, store.mark_of("f1"), 1, 100))
    lines = [HandOver(three.seq, store.mark_of("f3"), 2, 700), HandOver(three.seq, store.mark_of("f3"), 1, 600),
             HandOver(one.seq, store.mark_of("f1"), 1, 100), HandOver(77, store.mark_of("later"), 4, 800)]
    (doubtful,) = store.doubt(lines, 1_000)
    assert (doubtful.id, doubtful.state, doubtful.attempts, doubtful.next_at) == ("f3", "unknown", 2, None) and "older backup" in doubtful.detail
    assert store.effect("f1").state == "accepted" and store.effect("f4").state == "ready"
    store.commit(Block("p1", effects=[effect("later"), effect("fresh")]))
    assert (store.effect("later").state, store.effect("later").attempts, store.effect("fresh").state) == ("unknown", 4, "ready")
    assert store.doubt_open(1_000, "no journal") == 2 and store.next_effect() is None
    assert store.effect("f4").state == "unknown" and store.effect("f1").state == "accepted"
    assert store.identity().instance and store.identity().secret and not store.identity().journal


def test_an_undated_repeat_is_a_repeat_whenever_it_comes(store):
    told = Arrival(Event("n1", "order.placed", "ana", 100, None, {"total": 1}), undated=True)
    assert store.record_events([told]) == Recorded(1)
    assert store.record_events([told._replace(cause=told.cause._replace(at=900))]) == Recorded(0, (0,))
    assert store.record_events([told._replace(cause=told.cause._replace(data={"total": 2}))]) == Recorded(0, (), (0,))
    assert store.record_events([told._replace(undated=False)]) == Recorded(0, (), (0,)), "a time is something said"


def test_the_backlog_counts_what_is_new_up_to_a_bound(store):
    store.record_events([event(str(n)) for n in range(5)])
    assert (store.unread(10), store.unread(3)) == (5, 3)
    store.commit(Block("p1", done=[1, 2], set_aside=[(3, "odd")], cursor=3))
    assert store.unread(10) == 2


def test_a_contact_is_found_by_the_address_it_was_last_told_to_have(store):
    def tell(id, contact, **attributes):
        store.record_events([Arrival(ContactChange(id, contact, 1, attributes), "contacts")])

    tell("1", "ana", email=" Ana@Example.com", phone="+49 (170) 123-45")
    tell("2", "ben", email="ben@example.com", phone=None, plan="paid")
    assert [store.contact_at("email", text) for text in ("ana@example.COM", "ben@example.com", "x@example.com", "")] == ["ana", "ben", None, None]
    assert store.contact_at("phone", "004917012345") == "ana"
    tell("3", "carl", email="ana@example.com")
    assert store.contact_at("email", "ana@example.com") == "carl", "the last word counts"
    tell("1", "ana", email=" Ana@Example.com", phone="+49 (170) 123-45")
    assert store.contact_at("email", "ana@example.com") == "carl", "a repeat is no word"
    tell("3", "mallory", email="ana@example.com")
    assert store.contact_at("email", "ana@example.com") == "carl", "nor is what was refused"


def test_repeats_beside_what_is_new_move_no_address(store):
    def told(id, contact, email):
        return Arrival(ContactChange(id, contact, 1, {"email": email}), "contacts")

    store.record_events([told("1", "ana", "a@x.org"), told("2", "ben", "a@x.org")])
    batch = [told("3", "carl", "c@x.org"), told("1", "ana", "a@x.org"), told("4", "dora", "c@x.org"), told("3", "carl", "c@x.org"),
             told("4", "mallory", "c@x.org"), told("5", "eve", "e@x.org")]  # fmt: skip
    assert store.record_events(batch) == Recorded(3, (1, 3), (4,))
    assert [store.contact_at("email", f"{name}@x.org") for name in "ace"] == ["ben", "dora", "eve"]


def test_what_a_block_emits_tells_addresses_too(store):
    """Changes of a contact that was merged are told to the one it became, which has acted on them or will."""
    told = [Arrival(ContactChange(id, id, 1, {"email": f"{id}@x.org"}), SOURCE_ENGINE, id == "acted") for id in ("acted", "new")]
    for emits in (told[:1], told):
        store.commit(Block("p1", emits=emits))
        assert [store.contact_at("email", f"{item.cause.id}@x.org") for item in emits] == [item.cause.id for item in emits]


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(
    "bad",
    [
        event("a\0b"), event("\ud800"), event("x", "an\0a"), event("x", "an\ud800a"), event("x", subject="a\0b"), event("x", subject="\ud800"),
        event("x", name="z\0"), event("x", name="z\ud800"), event("x")._replace(source="\0"), event("x", at=2**63), event("x", at=-(2**63) - 1),
        event("x", at=1.5), event(None), event("x", contact=7), Arrival(ContactChange("x", "an\0a", 1, {})), Arrival(Wake("ana", 1)),
    ],
)  # fmt: skip
def test_what_not_every_database_takes_is_taken_by_none(store, bad):
    with pytest.raises(BadData):
        store.record_events([event("fine"), bad])
    assert store.read_log(0, 9) == [] and store.record_events([event("fine", at=2**63 - 1, note="a\0b \ud800")]).accepted == 1


def test_nothing_is_found_under_a_name_that_no_database_takes(store):
    a_life(store)
    for odd in ("a\0", "\ud800"):
        assert (store.contacts([odd]), store.contact_at("email", odd)) == ({}, None)
        assert (store.effect(odd), store.find_effect(odd), store.effects(contact=odd), store.attempts_of(odd)) == (None, None, [], [])
        assert (store.events_of(odd), store.journal_of(odd), store.noted(odd)) == ([], [], None)


def test_an_address_that_can_not_be_one_costs_only_itself(store):
    """A server's index takes some 2,700 bytes of a row."""
    noise = "".join(hashlib.sha256(bytes([number])).hexdigest() for number in range(150))
    digits = "".join(letter for letter in noise if letter.isdigit())
    told = [Arrival(ContactChange(str(number), str(number), 1, attributes), "contacts") for number, attributes in enumerate(
        [{"email": f"{noise}@x.org", "phone": digits}, {"email": "\U00020000" * 314 + "@x.org"}, {"email": "\0" * 314 + "@x.org"}])]  # fmt: skip
    assert store.record_events([*told, event("fine")]) == Recorded(4)
    assert [store.contact_at("email", told[number].cause.attributes["email"]) for number in range(3)] == [None, "1", "2"]
    assert store.contact_at("phone", digits) is None and store.events_of("0")[0].cause.attributes["phone"] == digits


def test_reasons_and_details_are_kept_with_what_no_database_takes_made_visible(store):
    odd, plain = "a\0b\ud800", "a\\x00b\\ud800"
    store.record_events([event("a")])
    store.commit(Block("p1", effects=[effect("f1")], set_aside=[(1, odd)]))
    store.claim_effects(200, 200, 1, claim_all)
    store.settle([Settlement("f1", 1, "accepted", 300, odd, odd)])
    store.audit(odd, "said", odd, 400)
    assert (store.set_aside()[0].reason, store.effect("f1").detail, store.audits()[0][1:]) == (plain, plain, (plain, "said", plain))
    assert store.find_effect(plain).id == "f1"


def test_what_is_nested_too_deeply_for_any_writer_is_bad_data_and_costs_nothing_else(store):
    deep = []
    for _ in range(5_000):
        deep = [deep]
    with pytest.raises(BadData, match="nested too deeply"):
        store.record_events([event("good"), event("deep", value=deep)])
    assert [fate.status for fate in record_each(store, [event("good"), event("deep", value=deep)])] == ["accepted", "rejected"]
    assert [row.cause.id for row in store.read_log(0, 9)] == ["good"]
