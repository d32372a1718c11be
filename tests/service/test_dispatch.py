"""Effects out: what becomes of each answer, what is claimed and what is not; with a provider that lies."""

from __future__ import annotations

import dataclasses
import threading

import orjson
import pytest

from rules_engine.actions import Action, EventType, Outcome
from rules_engine.decisions import Effect
from rules_engine.facts import Event
from rules_engine.host import Host
from rules_engine.limits import MAX_ATTEMPTS
from rules_engine.service import dispatch
from rules_engine.service.dispatch import Dispatcher, delay, expiry, idempotency, lookup
from rules_engine.service.runner import DirectRunner, ThreadRunner, checked
from rules_engine.store.port import CLAIM, SOURCE_OUTCOMES, Arrival, Block, ContactRow
from tests.service.fake import Provider, attributes


def plan(store, *ids, contact="ana", at=100, attributes=None, expires=None, message_class="marketing"):
    state = orjson.dumps({"a": attributes or {}})
    effects = [
        Effect(id, contact, "fake.send", "hello", {"x": 1}, "welcome", "s", None, "email", message_class, at, expires)
        for id in ids
    ]
    store.commit(Block("p1", [ContactRow(contact, state, None, "p1", 0)], effects=effects))


def dispatcher(store, provider, clock, **options):
    options.setdefault("runner", DirectRunner())
    return Dispatcher(store, provider.host, clock, attributes=attributes, **options)


def drain(subject, until=None):
    while subject.turn(until) is not None:
        read_news(subject._store)


def read_news(store):
    """What a pump would do with the outcomes that the log was told: until then nothing more leaves for that contact."""
    store.commit(Block("p1", done=[row.seq for row in store.read_log(0, 1_000) if row.source == SOURCE_OUTCOMES]))


# ---------------------------------------------------------------- answers


class Odd:
    def __str__(self):
        raise RuntimeError


ANSWERS = [
    ("accepted", "accepted"),
    (Outcome("failed", "no such address"), "failed"),
    (Outcome("retry", "busy"), "retry_wait"),
    (Outcome("unknown"), "unknown"),
    (ValueError("boom"), "unknown"),
    (SystemExit(3), "unknown"),
    (None, "unknown"),
    (True, "unknown"),
    (("accepted", "", "", None), "unknown"),
    (Outcome("delivered"), "unknown"),
    (Outcome("accepted", detail=Odd()), "accepted"),
    (Outcome("accepted", provider_id=42), "accepted"),
    (Outcome("accepted", provider_id="".join(chr(number) for number in range(0x20000, 0x20400))), "accepted"),
    (Outcome("retry", retry_after="soon"), "retry_wait"),
    (Outcome("retry", retry_after=float("nan")), "retry_wait"),
    (Outcome("failed", "a\nb" * 9_999), "failed"),
    (Outcome("failed", "\ud800"), "failed"),
    (ValueError("\ud800\0"), "unknown"),
]


@pytest.mark.parametrize(("answer", "state"), ANSWERS, ids=[str(number) for number in range(len(ANSWERS))])
@pytest.mark.parametrize("runner", [DirectRunner, ThreadRunner])
def test_whatever_a_plugin_answers_is_recorded(store, clock, answer, state, runner):
    plan(store, "f1")
    assert dispatcher(store, Provider([answer]), clock, runner=runner()).turn() == {state: 1}
    effect = store.effect("f1")
    assert effect.state == state and len(effect.detail) <= 1_000 and "\n" not in effect.detail and len(effect.provider_id) <= 200
    assert [attempt.state for attempt in store.attempts_of("f1")] == [state]


def test_a_plugin_that_hangs_is_unknown_and_the_others_go_on(store, clock):
    plan(store, "f1", "f2", "f3")
    release = threading.Event()
    provider = Provider([lambda call: release.wait(5) and None])
    subject = dispatcher(store, provider, clock, runner=ThreadRunner(1))
    assert subject.turn() == {"unknown": 1}
    assert "no answer within 0.2 s" in store.effect("f1").detail
    read_news(store)
    drain(subject)
    assert provider.keys == ["f2", "f3"] and store.effect("f1").state == "unknown", "never handed over again"
    release.set()


def test_plugins_that_hang_for_ever_are_not_called_for_ever(store, clock):
    release = threading.Event()
    action = Action("fake.send", "Send.", perform=lambda call: release.wait(9), timeout=0.01)
    runner = ThreadRunner(4)
    call = dispatch.Call("k", "fake.send", None, {}, {}, None, {}, None, None)
    states = [runner.run([(action, call)])[0].state for _ in range(20)]
    assert states == ["unknown"] * 16 + ["retry"] * 4
    release.set()


def test_an_action_that_nobody_provides_waits(store, clock):
    plan(store, "f1")
    subject = Dispatcher(store, Host(), clock, attributes=attributes, runner=DirectRunner())
    assert subject.turn() == {"retry_wait": 1} and "no plugin provides fake.send" in store.effect("f1").detail


def test_the_call_tells_all_and_the_key_stays(store, clock):
    plan(store, "f1", attributes={"email": "a@x"})
    provider = Provider([Outcome("retry"), "accepted"])
    subject = dispatcher(store, provider, clock, settings={"fake": {"host": "x"}})
    subject.turn()
    clock.move_to(10**10)
    subject.turn()
    first, second = provider.calls
    assert (first.key, first.action, first.primary, first.params, first.campaign, first.settings, first.attempt) == (
        "f1",
        "fake.send",
        "hello",
        {"x": 1},
        "welcome",
        {"host": "x"},
        1,
    )
    assert first.contact == {"email": "a@x", "id": "ana"} and first.at.isoformat() == "1970-01-01T00:00:00.100000+00:00"
    assert second == first._replace(attempt=2)


# ---------------------------------------------------------------- retries


def test_retries_back_off_and_end(store, clock):
    plan(store, "f1")
    provider = Provider([Outcome("retry", "busy")] * 99)
    subject = dispatcher(store, provider, clock)
    waits = []
    while store.effect("f1").state in ("ready", "retry_wait"):
        clock.move_to(store.next_effect())
        subject.turn()
        if store.effect("f1").next_at:
            waits.append(store.effect("f1").next_at - clock.now())
    assert len(provider.calls) == MAX_ATTEMPTS and store.effect("f1").state == "failed"
    assert store.effect("f1").detail == "given up after 8 attempts: busy"
    assert all(1 <= wait <= 30_000 * 2**number for number, wait in enumerate(waits))
    assert waits == [delay("f1", number, None) for number in range(1, MAX_ATTEMPTS)], "the same after a restart"


def test_jitter_is_full_and_a_provider_that_asks_for_time_gets_it():
    waits = [delay(f"f{n}", 3, None) for n in range(2_000)]
    assert 0 < min(waits) < 1_200 and 118_000 < max(waits) <= 120_000 and 55_000 < sum(waits) / 2_000 < 65_000
    assert delay("f1", 1, 3600) == 3_600_000 and delay("f1", 1, 10**9) == dispatch.LONGEST_RETRY_AFTER
    assert max(delay(f"f{n}", 60, None) for n in range(50)) <= dispatch.LONGEST_RETRY


def test_a_failure_for_good_comes_back_as_an_event(store, clock):
    provider = Provider([Outcome("failed", "no such address")])
    host = dataclasses.replace(provider.host, events={"fake.failed": EventType("fake.failed", "Failed.", {"reason": "text"})})
    plan(store, "f1")
    Dispatcher(store, host, clock, attributes=attributes, runner=DirectRunner()).turn()
    (row,) = store.read_log(0, 5)
    assert (
        row.cause[:6] == ("f1:failed:1", "fake.failed", "ana", 1_000_000, "hello", {"reason": "no such address"})
        and row.source == "outcomes"
    )


def test_news_of_an_effect_with_texts_that_no_database_takes_can_be_recorded(store, clock):
    """A template's name comes from an event's data, which may hold anything."""
    provider = Provider([Outcome("failed", "no such address")])
    host = dataclasses.replace(provider.host, events={"fake.failed": EventType("fake.failed", "Failed.", {})})
    plan(store, "f1")
    (claimed,) = store.claim_effects(200, 200, 1, lambda candidate: CLAIM)
    odd = claimed.effect._replace(id="f\0", primary="a\0\ud800")
    news = dispatch.news_of(odd, "failed", "no such address", 300, host.events)
    store.settle([dispatch.Settlement("f1", 1, "failed", 300)], news)
    assert [(row.cause.id, row.cause.subject) for row in store.read_log(0, 5)] == [("f\\x00:failed:1", "a\\x00\\ud800")]


# ---------------------------------------------------------------- the claim


@pytest.mark.parametrize(
    ("who", "message_class", "state"),
    [
        ({"consent.email": False}, "marketing", "cancelled"),
        ({"consent.email": False}, "transactional", "accepted"),
        ({"suppressed.email": "bounce"}, "marketing", "cancelled"),
        ({"suppressed.email": "bounce"}, "transactional", "cancelled"),
        ({"suppressed.email": "bounce"}, "internal", "accepted"),
        ({"consent": {"email": False}}, "marketing", "cancelled"),
        ({"consent.sms": False, "suppressed.email": None}, "marketing", "accepted"),
        ({}, "marketing", "accepted"),
    ],
)
def test_consent_is_asked_again_in_the_claim(store, clock, who, message_class, state):
    plan(store, "f1", message_class=message_class)
    plan(store, attributes=who)
    provider = Provider()
    dispatcher(store, provider, clock).turn()
    assert store.effect("f1").state == state and len(provider.calls) == (state == "accepted")
    if state == "cancelled":
        assert "email" in store.effect("f1").detail


def test_an_unsubscribe_that_is_recorded_before_the_claim_holds_the_message(store, clock):
    """Promise P9: it is in the log and not yet in the contact's state."""
    plan(store, "f1")
    plan(store, "f2", contact="ben")
    store.record_events([Arrival(Event("u", "email.unsubscribed", "ana", 1))])
    provider = Provider()
    drain(dispatcher(store, provider, clock))
    assert provider.keys == ["f2"] and store.effect("f1").state == "ready"
    store.commit(Block("p1", [ContactRow("ana", orjson.dumps({"a": {"consent.email": False}}), None, "p1", 0)], [1], cursor=1))
    drain(dispatcher(store, provider, clock))
    assert provider.keys == ["f2"] and store.effect("f1").state == "cancelled"


def test_what_is_over_is_not_sent(store, clock):
    plan(store, "f1", expires=1_000_000)
    plan(store, "f2", expires=1_000_001)
    provider = Provider()
    drain(dispatcher(store, provider, clock))
    assert provider.keys == ["f2"] and store.effect("f1").state == "expired"
    assert expiry(store.effect("f1"), 999_999) is None


def test_in_a_replay_each_effect_leaves_at_its_own_time(store, clock):
    plan(store, "f1", at=100, expires=200, attributes={"consent.email": False})
    plan(store, "f2", at=5_000)
    provider = Provider([Outcome("retry")])
    subject = dispatcher(store, provider, clock)
    drain(subject, until=400)
    assert store.effect("f1").state == "retry_wait" and store.effect("f1").next_at == 100 + delay("f1", 1, None)
    drain(subject, until=10**9)
    assert sorted(provider.keys) == ["f1", "f2"]


def test_what_can_not_be_repeated_is_claimed_no_further_ahead_than_there_are_hands(store, clock):
    plan(store, *(f"f{n}" for n in range(9)))
    claims = []

    def look(point):
        if point == "dispatch.before_call":
            claims.append(store.counts().effects.get("claimed"))

    drain(dispatcher(store, Provider(), clock, faults=look))
    assert claims == [1] * 9
    plan(store, *(f"g{n}" for n in range(70)))
    claims.clear()
    drain(dispatcher(store, Provider(idempotency="key", window=60), clock, faults=look))
    assert claims == [50, 20]


@pytest.mark.parametrize(
    ("idem", "window", "later", "state"),
    [
        ("none", 0, 1, "unknown"),
        ("key", 60, 1_000, "accepted"),
        ("key", 60, 61_000, "unknown"),
        ("key", 0, 1, "unknown"),
        ("lookup", 60, 1, "unknown"),
    ],
)
def test_what_was_being_handed_over_when_the_process_died(store, clock, idem, window, later, state):
    plan(store, "f1", "f2")
    store.claim_effects(clock.now(), clock.now(), 1, lambda candidate: CLAIM)
    clock.sleep(later)
    provider = Provider(idempotency=idem, window=window)
    subject = dispatcher(store, provider, clock)
    assert len(subject.recover()) == (state == "unknown")
    drain(subject)
    assert store.effect("f1").state == state and store.effect("f2").state == "accepted"
    assert provider.keys.count("f1") == (state == "accepted")


def test_a_plugin_may_say_which_settings_make_it_idempotent():
    from rules_engine_plugins import email

    action = next(iter(email.register_actions()))
    assert idempotency(action, {}) == "key" and idempotency(action, {"transport": "smtp"}) == "none"
    assert idempotency(action, None) == "none", "one that raises is not trusted"


def test_small_things():
    assert (
        lookup({"consent.email": 1, "consent": {"email": 2}}, "consent", "email") == 1
        and lookup({"consent": 3}, "consent", "email") is None
    )
    assert (
        checked(Outcome("retry", retry_after=-1)).retry_after is None
        and checked(Outcome("retry", retry_after=True)).retry_after is None
    )
