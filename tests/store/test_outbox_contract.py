"""The outbox's verbs beyond claim and settle; run on every store."""

from __future__ import annotations

import pytest
from test_contract import claim_all, effect, event, row

from rules_engine.decisions import Cancel
from rules_engine.links import handle
from rules_engine.store.port import CLAIM, EVERYTHING, REPORTS, RESOLUTIONS, Block, Settlement, Verdict


def put(store, *effects, cancels=()):
    contacts = {item.contact for item in effects}
    store.commit(Block("p1", [row(contact) for contact in sorted(contacts)], effects=list(effects), cancels=list(cancels)))


def state_of(store, id):
    return store.effect(id).state


def hand_over(store, id, state="accepted", provider_id=""):
    """One claim of everything that is due, and its settlement."""
    claimed = store.claim_effects(10**9, 500, 100, claim_all)
    store.settle([Settlement(item.effect.id, item.effect.attempts, state, 600, "said", provider_id) for item in claimed])
    assert id in [item.effect.id for item in claimed]


def bring_to(store, id, state):
    """An effect in a state, by the ways that lead there."""
    put(store, effect(id, state="held" if state == "held" else "ready"))
    if state == "claimed":
        store.claim_effects(10**9, 500, 100, claim_all)
    elif state in ("accepted", "unknown", "failed", "retry_wait"):
        hand_over(store, id, state)
    elif state in ("delivered", "bounced", "complained"):
        hand_over(store, id)
        assert store.report(id, state, "", 700)
    elif state in ("suppressed", "capped", "expired", "cancelled"):
        store.claim_effects(10**9, 500, 100, lambda candidate: Verdict(state, "why"))
    assert state_of(store, id) == state


STATES = (
    "ready",
    "claimed",
    "accepted",
    "delivered",
    "bounced",
    "complained",
    "retry_wait",
    "failed",
    "unknown",
    "held",
    "suppressed",
    "capped",
    "expired",
    "cancelled",
)


# ---------------------------------------------------------------- evidence and persons


@pytest.mark.parametrize("state", STATES)
def test_evidence_moves_an_effect_on_and_never_back_to_where_it_would_leave_again(store, state):
    for number, news in enumerate(("accepted", "delivered", "bounced", "complained", "failed", "ready", "retry_wait")):
        id = f"{state}{number}"
        bring_to(store, id, state)
        assert store.report(id, news, "the provider says so", 900) == (news in REPORTS.get(state, ()))
        found = store.effect(id)
        assert found.state == (news if news in REPORTS.get(state, ()) else state)
        if found.state == news != state:
            assert (found.detail, found.settled_at, found.next_at) == ("the provider says so", 900, None)
        store.claim_effects(10**9, 500, 100, lambda candidate: Verdict("cancelled"))  # nothing is left over for the next round


@pytest.mark.parametrize("state", STATES)
def test_a_person_decides_what_the_table_allows_and_it_is_audited(store, state):
    for number, news in enumerate(("accepted", "failed", "ready", "cancelled", "delivered")):
        id = f"{state}{number}"
        bring_to(store, id, state)
        allowed = news in RESOLUTIONS.get(state, ())
        assert store.resolve(id, news, "seen in the log", 900, "eva") == allowed
        assert state_of(store, id) == (news if allowed else state)
        if allowed:
            assert store.audits(1)[0] == (900, "eva", f"outbox {news}", f"{id}: seen in the log")
        store.claim_effects(10**9, 500, 100, lambda candidate: Verdict("cancelled"))


def test_what_a_person_decides_is_told_with_the_decision(store):
    bring_to(store, "f", "unknown")
    assert store.resolve("f", "failed", "", 900, "eva", [event("f:failed", name="email.failed")])
    assert [line.cause.name for line in store.read_log(0, 10)] == ["email.failed"]
    assert not store.resolve("f", "accepted", "", 900, "eva", [event("again", name="email.sent")])
    assert len(store.read_log(0, 10)) == 1, "a decision that does not count tells nothing"


def test_what_a_person_releases_is_not_judged_late_again(store):
    bring_to(store, "f", "held")
    assert store.resolve("f", "ready", "", 900)
    assert store.effect("f").exempt.split() == ["late"] and store.effect("f").next_at == store.effect("f").at


def test_evidence_may_be_faster_than_the_record_of_the_hand_over(store):
    put(store, effect("f"))
    store.claim_effects(10**9, 500, 100, claim_all)
    assert store.report("f", "delivered", "webhook", 550)
    late = Settlement("f", 1, "accepted", 600, "250 OK", "queue-1")
    assert store.settle([late]) == 1
    assert (state_of(store, "f"), store.effect("f").provider_id, store.effect("f").detail) == ("delivered", "queue-1", "webhook")
    assert [item.state for item in store.attempts_of("f")] == ["accepted"]
    assert store.settle([late]) == 0, "once"


def test_an_effect_is_found_by_what_the_world_calls_it(store):
    put(store, effect("a", ruleset="c"), effect("b", ruleset="c"))
    hand_over(store, "a", provider_id="sm-1")
    assert store.find_effect(handle("b")).id == "b"
    assert store.find_effect("sm-1").id == "b", "the latest of several"
    assert store.find_effect("nobody") is None and store.find_effect("") is None
    assert store.effect("a").handle == handle("a")


# ---------------------------------------------------------------- looking up


def test_unknown_effects_are_looked_up_when_their_time_has_come(store):
    put(store, effect("a"), effect("b"), effect("c", contact="ben"))
    claimed = store.claim_effects(10**9, 500, 100, claim_all)
    times = {"a": 900, "b": None, "c": 800}
    store.settle([Settlement(item.effect.id, 1, "unknown", 600, next_at=times[item.effect.id]) for item in claimed])
    assert store.next_effect() == 800
    assert store.lookups(799, 10) == []
    assert [item.effect.id for item in store.lookups(900, 10)] == ["c", "a"]
    assert [item.effect.id for item in store.lookups(900, 1)] == ["c"]
    assert store.lookups(900, 1)[0].state == b'{"n":1}'
    assert store.claim_effects(10**9, 900, 100, claim_all) == [], "an unknown effect is never claimed"
    assert store.settle([Settlement("c", 1, "accepted", 950, "found", "p", was="unknown")]) == 1
    assert store.settle([Settlement("a", 1, "retry_wait", 950, "not there", next_at=1_000, was="unknown")]) == 1
    assert (state_of(store, "c"), state_of(store, "a")) == ("accepted", "retry_wait")
    assert store.settle([Settlement("b", 2, "accepted", 950, was="unknown")]) == 0, "another attempt"
    assert [item.effect.id for item in store.claim_effects(1_000, 1_000, 100, claim_all)] == ["a"]


def test_after_a_restart_an_unknown_effect_has_its_time_of_look_up(store):
    put(store, effect("a"))
    store.claim_effects(10**9, 500, 100, claim_all)
    lost = store.unknown_after_restart(700, lambda effect: False, lambda effect: 760)
    assert [item.next_at for item in lost] == [760] and store.effect("a").next_at == 760


# ---------------------------------------------------------------- pauses, throttles, postponing


def test_what_is_paused_is_seen_by_the_claim_parked_and_comes_back_in_its_order(store):
    put(store, effect("a", at=100), effect("b", at=200, contact="ben", ruleset="other"), effect("c", at=300, contact="cy"))
    assert store.pause("c", "wrong price", 400, "eva")
    assert not store.pause("c", "again", 410, "eva"), "the first pause stands"
    seen = []

    def judge(candidate):
        seen.append((candidate.effect.id, candidate.paused))
        return Verdict("later", "paused") if candidate.paused else None

    store.claim_effects(10**9, 500, 100, judge)
    assert seen == [("a", True), ("b", False), ("c", True)]
    assert [item.effect.id for item in store.claim_effects(10**9, 500, 100, lambda item: None)] == [] and store.next_effect() == 200
    assert [(item.campaign, item.at, item.reason) for item in store.pauses()] == [("c", 400, "wrong price")]
    assert store.resume("c", 600, "eva") and not store.resume("c", 600, "eva")
    assert store.pauses() == []
    order = [item.effect.id for item in store.claim_effects(10**9, 700, 100, claim_all)]
    assert order == ["a", "b", "c"]
    assert [(item.who, item.what) for item in store.audits()] == [("eva", "resume"), ("eva", "pause"), ("eva", "pause")]


def test_a_pause_of_everything_outlasts_the_end_of_a_smaller_one(store):
    put(store, effect("a"))
    store.pause("c", "", 400)
    store.pause(EVERYTHING, "", 410)
    paused = []
    store.claim_effects(10**9, 500, 100, lambda item: paused.append(item.paused) or Verdict("later"))
    store.resume("c", 600)
    store.claim_effects(10**9, 500, 100, lambda item: paused.append(item.paused) or Verdict("later"))
    store.resume(EVERYTHING, 700)
    store.claim_effects(10**9, 500, 100, lambda item: paused.append(item.paused) or None)
    assert paused == [True, True, False]


def test_a_throttle_counts_what_was_claimed_in_the_slots_that_matter(store):
    put(store, *(effect(f"e{n}", contact=f"c{n}") for n in range(6)))
    used = []

    def judge(slot, oldest):
        def verdict(candidate):
            used.append(candidate.used("c", oldest))
            return CLAIM._replace(spent=(("c", slot, oldest), ("plugin email", slot, oldest)))

        return verdict

    store.claim_effects(10**9, 500, 2, judge(1_000, 0))
    store.claim_effects(10**9, 500, 2, judge(2_000, 0))
    store.claim_effects(10**9, 500, 2, judge(3_000, 2_000))
    assert used == [(0, None), (1, 1_000), (2, 1_000), (3, 1_000), (2, 2_000), (3, 2_000)]
    put(store, effect("late", contact="late"))
    store.claim_effects(10**9, 500, 1, judge(3_000, 0))
    assert used[-1] == (4, 2_000), "slots that no longer matter are dropped"


def test_what_is_not_claimed_spends_nothing(store):
    put(store, effect("a"), effect("b", contact="ben"))
    store.claim_effects(10**9, 500, 1, lambda item: Verdict("later", next_at=900, spent=(("c", 0, 0),)))
    seen = []
    store.claim_effects(10**9, 500, 5, lambda item: seen.append(item.used("c", 0)))
    assert set(seen) == {(0, None)}


def test_a_claim_can_ask_how_many_were_put_off_for_a_reason(store):
    put(store, *(effect(f"e{n}", contact=f"c{n}") for n in range(5)))
    full, counts = iter([Verdict("later", "full", 900)] * 3 + [Verdict("later", "paused"), CLAIM]), []
    store.claim_effects(10**9, 500, 5, lambda item: next(full))
    store.resolve("e0", "cancelled", "", 600)
    put(store, effect("new", contact="new"))
    store.claim_effects(700, 700, 5, lambda item: counts.append((item.waiting("full"), item.waiting("paused"), item.waiting("other"))))
    assert counts == [(2, 0, 0)], "what was called off or parked does not wait"


def test_verdicts_put_off_hold_and_end(store):
    put(store, *(effect(id, contact=id) for id in ("later", "held", "capped", "suppressed", "expired", "cancelled")))

    def judge(candidate):
        id = candidate.effect.id
        return Verdict(id, f"is {id}", 900 if id == "later" else None, (event(f"{id}:news", contact=id, name="email.news"),))

    assert store.claim_effects(10**9, 500, 100, judge) == []
    found = {item.id: (item.state, item.next_at, item.detail) for item in store.effects()}
    assert found.pop("later") == ("ready", 900, "is later")
    assert found == {id: (id, None, f"is {id}") for id in ("held", "capped", "suppressed", "expired", "cancelled")}
    assert len(store.read_log(0, 100)) == 6, "what the log is told is in the same transaction"
    assert store.next_effect() == 900


def test_all_that_is_due_through_a_provider_can_be_put_off_at_once(store):
    put(store, effect("a", at=100), effect("b", at=100, contact="ben", action="sms.send"), effect("c", at=5_000, contact="cy"))
    assert store.postpone(["email.send", "email.notify"], 2_000) == 1
    assert {item.id: item.next_at for item in store.effects()} == {"a": 2_000, "b": 100, "c": 5_000}


# ---------------------------------------------------------------- cancelling with the instance


def test_an_exit_calls_off_what_its_instance_has_not_sent(store):
    put(
        store,
        effect("sent", at=1, instance="i1"),
    )
    hand_over(store, "sent")
    put(
        store,
        effect("mine", instance="i1"),
        effect("held", instance="i1", state="held"),
        effect("way out", instance=""),
        effect("other instance", instance="i2"),
        effect("other campaign", instance="i1", ruleset="d"),
        effect("other contact", instance="i1", contact="ben"),
    )
    put(store, effect("same block", instance="i1"), cancels=[Cancel("ana", "c", "i1", "left: order.placed", 800)])
    states = {item.id: item.state for item in store.effects()}
    gone = {id for id, state in states.items() if state == "cancelled"}
    assert gone == {"mine", "held", "same block"} and states["sent"] == "accepted"
    assert (store.effect("mine").detail, store.effect("mine").settled_at) == ("left: order.placed", 800)


def test_in_a_replay_an_exit_leaves_what_was_due_before_it(store):
    put(store, effect("before", at=100, instance="i"), effect("at", at=200, instance="i"), effect("after", at=201, instance="i"))
    put(store, effect("x", contact="ben"), cancels=[Cancel("ana", "c", "i", "left", 200, after=200)])
    assert [state_of(store, id) for id in ("before", "at", "after")] == ["ready", "ready", "cancelled"]


def test_a_judge_may_ask_for_the_attempts_of_what_it_judges(store):
    """Whether a message was in doubt before decides whether it may be repeated."""
    store.commit(Block("p1", effects=[effect("f1")]))
    store.claim_effects(200, 200, 1, claim_all)
    store.settle([Settlement("f1", 1, "retry_wait", 300, "busy", next_at=400)])
    seen = []

    def judge(candidate):
        seen.extend(store.attempts_of(candidate.effect.id))
        return CLAIM

    assert [item.effect.attempts for item in store.claim_effects(500, 500, 1, judge)] == [2]
    assert [(attempt.number, attempt.state, attempt.detail) for attempt in seen] == [(1, "retry_wait", "busy")]
