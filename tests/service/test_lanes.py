"""Calls beside the service's work: a provider that hangs holds its own lanes and nothing else, and no outcome is lost on the way."""

from __future__ import annotations

import threading
import time

import pytest

from rules_engine.actions import Action, Outcome
from rules_engine.decisions import Effect
from rules_engine.host import Host
from rules_engine.service.dispatch import Dispatcher
from rules_engine.service.lanes import AHEAD, LANES
from rules_engine.store.port import Block, ContactRow, StoreError
from tests.service.fake import attributes


class Providers:
    """`slow` waits for the gate, `quick` does not."""

    def __init__(self, idempotency="none"):
        self.gate, self.got, self.lock = threading.Event(), [], threading.Lock()
        actions = {
            name: Action(name, "Send.", perform=perform, timeout=20, idempotency=idempotency, window=3600)
            for name, perform in (("slow.send", self.slow), ("quick.send", self.quick))
        }
        self.host = Host(actions, {}, {"slow.send": "slow", "quick.send": "quick"})

    def slow(self, call):
        self.gate.wait(20)
        return self.quick(call)

    def quick(self, call):
        with self.lock:
            self.got.append(call.key)
        return Outcome("accepted")


def put(store, action, count, at=100):
    effects = [
        Effect(f"{action}/{n}", f"c{n}", action, None, {}, "r", "s", None, None, "internal", at, None) for n in range(count)
    ]
    states = [ContactRow(effect.contact, b'{"a":{}}', None, "p1", 0) for effect in effects]
    store.commit(Block("p1", states, effects=effects))


def beat_until(subject, condition):
    for _ in range(2_000):
        subject.beat()
        if condition():
            return
        subject.wait(10)
    raise AssertionError("it did not come so far")


def count(store, state):
    return store.counts().effects.get(state, 0)


def test_a_provider_that_hangs_stops_no_other(store, clock):
    providers = Providers()
    put(store, "slow.send", 300)
    put(store, "quick.send", 30, at=200)
    subject = Dispatcher(store, providers.host, clock, attributes=attributes)
    beat_until(subject, lambda: count(store, "accepted") == 30)
    assert {key.split("/")[0] for key in providers.got} == {"quick.send"}
    assert count(store, "claimed") == LANES, "what can't be repeated is claimed no further ahead than there are lanes"
    providers.gate.set()
    beat_until(subject, lambda: count(store, "accepted") == 330)
    assert len(providers.got) == len(set(providers.got)) == 330 and subject.flying == 0
    assert subject.beat() is None


def test_what_may_be_repeated_is_claimed_ahead(store, clock):
    providers = Providers("key")
    put(store, "slow.send", 300)
    subject = Dispatcher(store, providers.host, clock, attributes=attributes)
    subject.beat()
    assert count(store, "claimed") == AHEAD
    providers.gate.set()
    beat_until(subject, lambda: count(store, "accepted") == 300)


def test_an_outcome_that_could_not_be_recorded_is_recorded_later_and_not_called_again(store, clock, monkeypatch):
    providers = Providers()
    put(store, "quick.send", 6)
    subject = Dispatcher(store, providers.host, clock, attributes=attributes)
    settle, trouble = store.settle, [StoreError("the disk is full", kind="full")] * 3

    def failing(*arguments):
        if trouble:
            raise trouble.pop()
        return settle(*arguments)

    monkeypatch.setattr(store, "settle", failing)
    failures = 0
    for _ in range(500):
        try:
            if subject.beat() is None and not subject.flying:
                break
        except StoreError:
            failures += 1
        subject.wait(10)
    assert failures == 3 and count(store, "accepted") == 6 and len(providers.got) == 6


def test_a_fault_of_the_runner_is_unknown_and_its_lane_goes_on(store, clock):
    providers = Providers()
    put(store, "quick.send", 8)

    class Broken:
        workers = 1

        def run(self, work):
            raise RuntimeError("no memory")

    subject = Dispatcher(store, providers.host, clock, attributes=attributes, make_runner=Broken)
    for _ in range(200):
        subject.beat()
        if count(store, "unknown") >= 5:  # then the breaker has had enough
            break
        subject.wait(10)
    effect = store.effects("unknown")[0]
    assert "the hand-over failed inside Camp: RuntimeError: no memory" in effect.detail


@pytest.mark.parametrize("number", range(3))
def test_waiting_ends_when_a_call_does(store, clock, number):
    providers = Providers()
    put(store, "slow.send", 1)
    subject = Dispatcher(store, providers.host, clock, attributes=attributes)
    subject.beat()
    begun = time.monotonic()
    assert not subject.wait(20)
    threading.Timer(0.05, providers.gate.set).start()
    assert subject.wait(5_000) and time.monotonic() - begun < 4
    assert subject.flying == 1
    subject.beat()
    assert subject.flying == 0
