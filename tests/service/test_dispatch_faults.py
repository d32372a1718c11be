"""One bad effect, provider or moment must not stop the others, nor leave anything claimed in a process that lives."""

from __future__ import annotations

import dataclasses

import orjson
import pytest

from rules_engine.actions import Action, Outcome
from rules_engine.decisions import Cancel, Effect
from rules_engine.facts import Event
from rules_engine.host import Host
from rules_engine.limits import MAX_ATTEMPTS
from rules_engine.service.breaker import FAILURES, LONGEST_PAUSE
from rules_engine.service.dispatch import LOOK_UPS, Dispatcher
from rules_engine.service.loop import LEFT, Service
from rules_engine.service.runner import DirectRunner
from rules_engine.store.port import Arrival, Block, ContactRow, Settlement, StoreError
from tests.service.fake import attributes

FULL = StoreError("the disk is full", "make room", "full")


class Provider:
    """Answers what it is told to, then accepts. Its actions: mail.send, and the others that are named."""

    def __init__(self, *others, answers=(), lookup=None):
        self.got, self.answers = [], list(answers)
        actions = {name: Action(name, "Send.", perform=self.perform) for name in ("mail.send", *others)}
        if lookup is not None:
            actions["mail.send"] = dataclasses.replace(actions["mail.send"], lookup=lookup, settle=1)
        self.host = Host(actions, {}, {name: name.partition(".")[0] for name in actions})

    def perform(self, call):
        self.got.append(call.key)
        return self.answers.pop(0) if self.answers else Outcome("accepted")


def plan(store, *ids, action="mail.send", contact=None, at=100, **values):
    for id in ids:
        who = contact or id
        effect = Effect(id, who, action, "hello", {}, "welcome", "s", None, "email", "marketing", at, None, **values)
        store.commit(Block("p1", [ContactRow(who, orjson.dumps({"a": {}}), None, "p1", 0)], effects=[effect]))


def dispatcher(store, provider, clock, **options):
    return Dispatcher(store, provider.host, clock, attributes=attributes, runner=DirectRunner(), **options)


def drain(subject, beat="turn"):
    for _ in range(200):
        if getattr(subject, beat)() is None and not subject.flying:
            return
        subject.wait(20)
    raise AssertionError("it does not end")


def states(store):
    return {row.id: row.state for row in store.effects(limit=1_000)}


class Journal:
    """A send journal whose disk is full for a while."""

    def __init__(self):
        self.fails, self.lines, self.probes = False, [], 0

    def note(self, effects, store, now):
        if self.fails:
            raise FULL
        self.lines += [effect.id for effect in effects]

    def probe(self):
        self.probes += 1
        if self.fails:
            raise FULL


# ---------------------------------------------------------------- breakers


def opened(store, clock, **options):
    """A provider whose breaker is open, and whose time for a trial has come."""
    provider = Provider(answers=[Outcome("retry", "down")] * FAILURES)
    plan(store, *(f"e{n}" for n in range(FAILURES)))
    subject = dispatcher(store, provider, clock, **options)
    drain(subject)
    assert subject.breaker("mail.send").open_until is not None
    clock.sleep(LONGEST_PAUSE)
    return provider, subject


@pytest.mark.parametrize("beat", ["turn", "beat"])
def test_a_trial_whose_claim_could_not_be_committed_is_tried_again(store, clock, monkeypatch, beat):
    provider, subject = opened(store, clock)
    real = store.claim_effects

    def fails_at_the_commit(due, now, limit, judge, full=()):
        monkeypatch.setattr(store, "claim_effects", real)
        for row in store.effects("retry_wait")[:1]:
            candidate = next(iter([store_candidate(row)]))
            assert judge(candidate).state == "claimed", "the judge let the trial through"
        raise FULL

    monkeypatch.setattr(store, "claim_effects", fails_at_the_commit)
    with pytest.raises(StoreError):
        getattr(subject, beat)()
    clock.sleep(LONGEST_PAUSE)
    drain(subject, beat)
    clock.sleep(LONGEST_PAUSE)
    drain(subject, beat)
    assert set(states(store).values()) == {"accepted"}, "the provider is not left alone for ever"


def store_candidate(row):
    from rules_engine.store.port import Candidate

    return Candidate(row, orjson.dumps({"a": {}}), False)


def test_a_trial_that_the_send_journal_stopped_is_tried_again(store, clock):
    journal = Journal()
    provider, subject = opened(store, clock, sent=journal)
    journal.fails = True
    with pytest.raises(StoreError):
        subject.turn()
    journal.fails = False
    clock.sleep(LONGEST_PAUSE)
    drain(subject)
    clock.sleep(LONGEST_PAUSE)
    drain(subject)
    assert set(states(store).values()) == {"accepted"}


def test_one_claim_makes_one_trial(store, clock):
    provider, subject = opened(store, clock)
    provider.answers = [Outcome("retry", "still down")]
    had = len(provider.got)
    drain(subject)
    assert len(provider.got) == had + 1
    drain(subject, "beat")
    assert len(provider.got) == had + 1


def test_what_a_breaker_could_not_put_off_does_not_make_others_forgotten(store, clock, monkeypatch):
    """Two outcomes end together; the first opens its breaker and the store can't put off the rest just then."""
    provider = Provider("crm.push", answers=[Outcome("retry", "down")] * FAILURES)
    subject = dispatcher(store, provider, clock)
    plan(store, *(f"m{n}" for n in range(FAILURES)))
    monkeypatch.setattr(store, "postpone", lambda actions, until: (_ for _ in ()).throw(FULL))
    with pytest.raises(StoreError):
        drain(subject)
    monkeypatch.undo()
    assert not subject._mine and not subject._asking, "all that is recorded is known to be recorded"
    clock.sleep(LONGEST_PAUSE)
    drain(subject)
    clock.sleep(LONGEST_PAUSE)
    drain(subject)
    assert set(states(store).values()) == {"accepted"}


# ---------------------------------------------------------------- one bad effect


@pytest.mark.parametrize("beat", ["turn", "beat"])
def test_an_effect_that_cannot_be_judged_waits_for_a_person_and_stops_no_other(store, clock, beat):
    def recheck(state, effect, now):
        if effect.id == "bad":
            raise KeyError("c")

    provider = Provider()
    plan(store, "bad", at=50)
    plan(store, "good", at=100)
    drain(dispatcher(store, provider, clock, recheck=recheck), beat)
    assert states(store) == {"bad": "held", "good": "accepted"}
    assert "KeyError" in store.effect("bad").detail


@pytest.mark.parametrize("beat", ["turn", "beat"])
def test_an_effect_whose_call_cannot_be_made_goes_back_and_stops_no_other(store, clock, beat):
    def some(state):
        if state.get("odd"):
            raise ValueError("odd attributes")
        return {}

    provider = Provider()
    plan(store, "bad", "good")
    store.commit(Block("p1", [ContactRow("bad", b'{"a":{},"odd":1}', None, "p1", 0)]))
    subject = Dispatcher(store, provider.host, clock, attributes=some, recheck=lambda *_: None, runner=DirectRunner())
    drain(subject, beat)
    assert states(store) == {"bad": "retry_wait", "good": "accepted"} and provider.got == ["good"]
    for _ in range(MAX_ATTEMPTS):
        clock.sleep(7 * 86_400_000)
        drain(subject, beat)
    assert states(store)["bad"] == "failed" and "odd attributes" in store.effect("bad").detail
    assert not subject._mine


def test_a_store_that_cannot_be_read_while_the_call_is_made_leaves_nothing_claimed(store, clock, monkeypatch):
    """The contact was merged: to whom it goes now has to be read behind the claim."""
    plan(store, "e1", contact="visitor:1")
    into = orjson.dumps({"a": {}, "into": {"contact": "ana", "at": 1}})
    store.commit(Block("p1", [ContactRow("visitor:1", into, None, "p1", 0), ContactRow("ana", b'{"a":{}}', None, "p1", 0)]))
    provider = Provider()
    subject = dispatcher(store, provider, clock)
    real, asked = store.contacts, []

    def contacts(names):
        asked.append(names)
        if len(asked) == 2:  # the judge asks first
            raise StoreError("the database is locked", "wait", "locked")
        return real(names)

    monkeypatch.setattr(store, "contacts", contacts)
    drain(subject)
    assert states(store) == {"e1": "retry_wait"} and provider.got == []
    clock.sleep(3_600_000)
    drain(subject)
    assert states(store) == {"e1": "accepted"}


def test_a_key_that_cannot_be_told_keeps_no_outcome_from_being_recorded(store, clock):
    def key_fields(effect):
        raise LookupError(effect.id)

    provider = Provider(answers=[Outcome("unknown", "the line dropped")])
    plan(store, "e1")
    subject = dispatcher(store, provider, clock, key_fields=key_fields)
    drain(subject)
    assert states(store) == {"e1": "unknown"} and not subject._ended


@pytest.mark.parametrize("text", ["caf\udce9", "nul \0 here", "x" * 100_000])
def test_whatever_a_provider_says_can_be_recorded(store, clock, text):
    provider = Provider(answers=[Outcome("unknown", text, text)])
    plan(store, "e1")
    drain(dispatcher(store, provider, clock))
    assert states(store) == {"e1": "unknown"}
    assert store.read_log(0, 10)[0].cause.name == "email.unknown"


# ---------------------------------------------------------------- the send journal


def test_a_send_journal_that_cannot_be_written_costs_one_attempt_and_not_all(store, clock):
    journal = Journal()
    provider = Provider(answers=[Outcome("retry", "busy")])
    plan(store, "e1")
    subject = dispatcher(store, provider, clock, sent=journal)
    journal.fails = True
    for _ in range(3 * MAX_ATTEMPTS):
        with pytest.raises(StoreError):
            subject.turn()
    assert store.effect("e1").attempts == 1 and states(store) == {"e1": "retry_wait"}
    journal.fails = False
    drain(subject)
    assert states(store) == {"e1": "retry_wait"}, "busy is not the last word after a full disk"
    clock.sleep(3_600_000)
    drain(subject)
    assert states(store) == {"e1": "accepted"} and len(provider.got) == 2


def test_a_claim_that_could_not_be_given_back_is_not_taken_for_lost(store, clock, monkeypatch):
    journal = Journal()
    plan(store, "e1")
    subject = dispatcher(store, Provider(), clock, sent=journal)
    journal.fails = True
    monkeypatch.setattr(store, "settle", lambda *_: (_ for _ in ()).throw(FULL))
    with pytest.raises(StoreError):
        subject.turn()
    monkeypatch.undo()
    assert subject.recover() == [] and states(store) == {"e1": "claimed"}
    journal.fails = False
    drain(subject)
    assert states(store) == {"e1": "accepted"}


# ---------------------------------------------------------------- a commit that nobody can be sure of


@pytest.mark.parametrize("took_place", [True, False])
@pytest.mark.parametrize("beat", ["turn", "beat"])
def test_a_claim_whose_commit_was_answered_by_an_error_leaves_nothing_claimed(store, clock, monkeypatch, beat, took_place):
    provider = Provider()
    plan(store, "e1", "e2")
    subject = dispatcher(store, provider, clock)
    real, disk = store.claim_effects, StoreError("the disk gives errors", "look at it", "io")

    def answers_an_error(due, now, limit, judge, full=()):
        if took_place:
            real(due, now, limit, judge, full)
        else:
            for row in store.effects("ready"):
                judge(store_candidate(row))
        raise disk

    monkeypatch.setattr(store, "claim_effects", answers_an_error)
    with pytest.raises(StoreError):
        getattr(subject, beat)()
    assert provider.got == [], "nothing leaves that may not be claimed"
    assert subject.recover() == [], "it is known here that no call was made"
    monkeypatch.setattr(store, "settle", lambda *_: (_ for _ in ()).throw(disk))
    with pytest.raises(StoreError):
        getattr(subject, beat)()
    monkeypatch.undo()
    drain(subject, beat)
    assert states(store) == {"e1": "accepted", "e2": "accepted"} and sorted(provider.got) == ["e1", "e2"]
    told = [attempt.detail for id in ("e1", "e2") for attempt in store.attempts_of(id) if attempt.state == "retry_wait"]
    assert bool(told) == took_place and set(told) <= {"not called: the disk gives errors"}
    assert not subject._mine and not subject._unsent


# ---------------------------------------------------------------- look-ups


def test_unknown_effects_that_nobody_can_ask_about_do_not_stand_before_the_others(store, clock):
    """Their plugin is gone since a restart, but their time for a look-up stands in the store."""
    asked = []

    def lookup(call):
        asked.append(call.key)
        return Outcome("accepted")

    plan(store, *(f"gone{n}" for n in range(LOOK_UPS + 5)), action="old.send")
    plan(store, "mine")
    store.claim_effects(100, 100, 1_000, lambda candidate: candidate and _claim())
    rows = store.effects(limit=1_000)
    store.settle([Settlement(row.id, 1, "unknown", 100, next_at=100 if row.action == "old.send" else 200) for row in rows])
    subject = dispatcher(store, Provider(lookup=lookup), clock)
    drain(subject, "beat")
    assert asked == ["mine"] and states(store)["mine"] == "accepted"
    assert subject.look_up() is None


def _claim():
    from rules_engine.store.port import CLAIM

    return CLAIM


def test_what_is_due_and_cannot_be_done_is_no_reason_to_spin(store, clock):
    plan(store, "gone", action="old.send")
    store.claim_effects(100, 100, 10, lambda candidate: _claim())
    store.settle([Settlement("gone", 1, "unknown", 100, next_at=100)])
    service = Service(store, _Program(), Provider().host, clock, engine=_engine(), attributes=attributes)
    assert not service.beat()
    assert service.pause() >= LEFT


class _Program:
    digest = "p1"


def _engine():
    from tests.service.fake import ENGINE

    return ENGINE


# ---------------------------------------------------------------- merged contacts, parked messages


def test_news_of_the_contact_that_another_was_merged_into_are_read_first(store, clock):
    plan(store, "e1", contact="visitor:1")
    into = orjson.dumps({"a": {}, "into": {"contact": "ana", "at": 1}})
    store.commit(Block("p1", [ContactRow("visitor:1", into, None, "p1", 0), ContactRow("ana", b'{"a":{}}', None, "p1", 0)]))
    store.record_events([Arrival(Event("u1", "email.unsubscribed", "ana", 100))])
    provider = Provider()
    subject = dispatcher(store, provider, clock)
    drain(subject)
    assert provider.got == [] and states(store) == {"e1": "ready"}, "an unsubscribe may be among them (P9)"
    store.commit(Block("p1", [ContactRow("ana", orjson.dumps({"a": {"consent.email": False}}), None, "p1", 0)], [1], cursor=1))
    drain(subject)
    assert provider.got == [] and states(store) == {"e1": "cancelled"}


def test_news_under_a_name_of_before_are_read_first(store, clock):
    """An old mail's link says `old`, who is `ana` by now."""
    plan(store, "e1", contact="ana")
    store.commit(Block("p1", [ContactRow("ana", orjson.dumps({"a": {}, "from": {"old": 1}}), None, "p1", 0)]))
    store.record_events([Arrival(Event("u1", "email.unsubscribed", "old", 100))])
    provider = Provider()
    subject = dispatcher(store, provider, clock)
    drain(subject)
    assert provider.got == [] and states(store) == {"e1": "ready"}
    store.commit(Block("p1", [ContactRow("ana", orjson.dumps({"a": {"consent.email": False}}), None, "p1", 0)], [1], cursor=1))
    drain(subject)
    assert provider.got == [] and states(store) == {"e1": "cancelled"}


@pytest.mark.parametrize("beat", ["turn", "beat"])
def test_two_that_are_merged_into_each_other_hold_up_nobody(store, clock, beat):
    """For one block there are both tombstones; the next lifts the circle."""
    circle = [ContactRow(who, orjson.dumps({"a": {}, "into": {"contact": into, "at": 1}}), None, "p1", 0) for who, into in ("ab", "ba", "ca")]
    plan(store, "e1", contact="c")
    plan(store, "e2")
    store.commit(Block("p1", circle))
    asked = []

    def lookup(call):
        asked.append(call.contact["id"])
        return Outcome("accepted")

    provider = Provider(answers=[Outcome("unknown", "the line dropped")], lookup=lookup)
    subject = dispatcher(store, provider, clock)
    drain(subject, beat)
    assert states(store) == {"e1": "ready", "e2": "unknown"}
    store.commit(Block("p1", [ContactRow("a", b'{"a":{}}', None, "p1", 0)]))
    drain(subject, beat)
    assert states(store) == {"e1": "accepted", "e2": "unknown"}
    store.commit(Block("p1", [*circle, ContactRow("e2", circle[2].state, None, "p1", 0)]))
    clock.sleep(60_000)
    subject.look_up()
    assert asked == ["e2"] and states(store)["e2"] == "accepted"


# ---------------------------------------------------------------- keys that a provider forgets

DAY = 86_400_000


def keyed(answers):
    provider = Provider(answers=answers)
    provider.host.actions["mail.send"] = dataclasses.replace(provider.host.actions["mail.send"], idempotency="key", window=86_400)
    return provider


def test_what_was_in_doubt_is_not_repeated_when_its_provider_has_forgotten_the_key(store, clock):
    provider = keyed([Outcome("unknown", "the line dropped"), Outcome("retry", "busy")])
    plan(store, "e1", "e2")
    subject = dispatcher(store, provider, clock)
    subject.turn()
    assert states(store) == {"e1": "retry_wait", "e2": "retry_wait"}
    store.pause("welcome", "a long weekend", clock.now())
    clock.sleep(2 * DAY)
    drain(subject)
    store.resume("welcome", clock.now())
    drain(subject)
    assert states(store) == {"e1": "unknown", "e2": "accepted"} and provider.got == ["e1", "e2", "e2"]
    assert "key" in store.effect("e1").detail
    assert "email.unknown" in [row.cause.name for row in store.read_log(0, 10)]
    store.commit(Block("p1", [], [1], cursor=1))  # the news are read
    store.resolve("e1", "ready", "a person wants it", clock.now(), "ann")
    drain(subject)
    assert states(store)["e1"] == "accepted" and provider.got[3:] == ["e1"]


def test_what_was_in_doubt_is_not_repeated_when_the_settings_know_no_keys_any_more(store, clock):
    provider = keyed([Outcome("unknown", "the line dropped")])
    plan(store, "e1")
    subject = dispatcher(store, provider, clock)
    subject.turn()
    other = Provider()
    clock.sleep(3_600_000)
    drain(dispatcher(store, other, clock))
    assert states(store) == {"e1": "unknown"} and other.got == []


def test_an_exit_in_a_replay_calls_off_what_a_pause_has_parked(store, clock):
    plan(store, "e1", instance="i1")
    store.pause("welcome", "", 100)
    subject = dispatcher(store, Provider(), clock)
    drain(subject)
    assert store.effect("e1").next_at is None
    store.commit(Block("p1", cancels=[Cancel("e1", "welcome", "i1", "bought", 200, 200)]))
    assert states(store) == {"e1": "cancelled"}
