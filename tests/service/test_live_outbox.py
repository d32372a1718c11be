"""The outbox of a running service, with the real engine: what happens between a decision and its hand-over."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from rules_engine import host
from rules_engine.actions import Outcome
from rules_engine.clock import VirtualClock
from rules_engine.facts import ContactChange, Event
from rules_engine.model import meaning
from rules_engine.plan import compile_model
from rules_engine.runtime.calendar import parse_datetime
from rules_engine.service.loop import Service
from rules_engine.service.runner import DirectRunner
from rules_engine.store import open_store
from rules_engine.store.memory import MemoryStore
from rules_engine.store.port import SOURCE_CONTACTS, Arrival, StoreError
from rules_engine.syntax.read import read

HOUR = 3_600_000
START = parse_datetime("2026-03-02 09:00")
TEXT = """
EVENT order.placed WITH total: number
EVENT cart.updated
CAMPAIGN cart
{clauses}
  EXIT WHEN order.placed
    THEN email.send "receipt", class: "transactional"
  WHEN cart.updated
    THEN email.send "reminder"
    AFTER 2 hours
    THEN email.send "last"
END
RULE failed
  WHEN email.failed OR email.expired OR email.suppressed OR email.unknown
    THEN points.add 1
END
"""


class World:
    """A service in virtual time, whose e-mail provider answers what `answers` says, in turn (then accepted)."""

    def __init__(self, store, clock, clauses="", lookup=None, idempotency="none", settings=None):
        self.store, self.clock, self.answers, self.got, self.asked = store, clock, [], [], []
        plugins = host.load()
        file, problems = read(TEXT.format(clauses="".join(f"  {line}\n" for line in clauses.split(";") if line)), "t.camp")
        assert not problems
        self.program = compile_model(meaning.build([file], plugins.actions, plugins.events), plugins.actions, "p1")
        action = dataclasses.replace(
            plugins.actions["email.send"], perform=self.perform, lookup=lookup and self.lookup, idempotency=idempotency, window=3600
        )
        self.lookups = lookup or []
        self.host = dataclasses.replace(plugins, actions={**plugins.actions, "email.send": action})
        self.settings = settings or {}
        self.start()

    def start(self):
        self.service = Service(
            self.store, self.program, self.host, self.clock, runner=DirectRunner(), settings=self.settings, sources={}
        )

    def perform(self, call):
        self.got.append((call.contact["id"], call.primary, (self.clock.now() - START) / HOUR))
        return self.answers.pop(0) if self.answers else Outcome("accepted")

    def lookup(self, call):
        self.asked.append((call.key, (self.clock.now() - START) / HOUR))
        return self.lookups.pop(0)

    def contact(self, id, **attributes):
        values = {"email": f"{id}@example.com", **{name.replace("__", "."): value for name, value in attributes.items()}}
        change = ContactChange(f"{id}/{self.clock.now()}/{sorted(values)}", id, self.clock.now(), values)
        self.store.record_events([Arrival(change, SOURCE_CONTACTS)])

    def event(self, name, id="ana", subject=None, **data):
        self.store.record_events([Arrival(Event(f"{name}/{id}/{self.clock.now()}", name, id, self.clock.now(), subject, data))])

    def work(self):
        """Beats until nothing is to be done."""
        while self.service.beat():
            pass
        return self

    def later(self, hours):
        """Time passes in steps of five minutes, with all that is due in them."""
        end = self.clock.now() + int(hours * HOUR)
        while self.clock.now() < end:
            self.clock.move_to(min(end, self.clock.now() + HOUR // 12))
            self.work()
        return self

    def states(self):
        return {item.primary: item.state for item in self.store.effects()}


@pytest.fixture(params=["memory", "sqlite"])
def make(request, tmp_path: Path):
    clock = VirtualClock(START)
    store = MemoryStore(clock) if request.param == "memory" else open_store(tmp_path / "t.db", clock)
    yield lambda *clauses, **options: World(store, clock, *clauses, **options)
    assert store.check() == []
    store.close()


def begin(world):
    world.contact("ana")
    world.work()
    world.event("cart.updated")
    return world


# ---------------------------------------------------------------- exits


def test_an_exit_calls_off_a_message_that_waits_for_its_second_try_and_sends_its_own(make):
    world = begin(make())
    world.answers = [Outcome("retry", "busy", retry_after=3600)]
    world.work()
    assert world.states() == {"reminder": "retry_wait"}
    world.event("order.placed", total=5)
    world.work().later(5)
    assert [(name, at) for _, name, at in world.got] == [("reminder", 0.0), ("receipt", 0.0)]
    assert world.states() == {"reminder": "cancelled", "receipt": "accepted"}
    assert world.store.effects("cancelled")[0].detail == "left: order.placed"


def test_a_campaign_that_simply_ends_calls_nothing_off(make):
    world = begin(make())
    world.later(1.9)
    world.answers = [Outcome("retry", "busy", retry_after=3600)]
    world.later(0.2)
    assert world.states() == {"reminder": "accepted", "last": "retry_wait"}
    assert world.later(2).states() == {"reminder": "accepted", "last": "accepted"}


# ---------------------------------------------------------------- the claim asks again


def test_an_unsubscribe_between_two_tries_stops_the_message_and_is_told(make):
    world = begin(make())
    world.answers = [Outcome("retry", "busy", retry_after=3600)]
    world.work()
    world.contact("ana", consent__email=False)
    world.later(1.9)
    assert world.states() == {"reminder": "suppressed"} and len(world.got) == 1
    state = world.store.contacts(["ana"])["ana"].state
    assert b'"points":1' in state, "email.suppressed was told to the rules"


def test_quiet_hours_hold_a_second_try_and_it_leaves_when_they_are_over(make):
    world = begin(make("DELIVER BETWEEN 08:00 AND 10:00"))
    world.answers = [Outcome("retry", "busy", retry_after=7200)]
    world.work().later(23.5)
    assert [at for _, name, at in world.got if name == "reminder"] == [0.0, 23.0]


def test_what_waits_for_a_visitor_goes_to_whom_the_visitor_became(make):
    world = make()
    world.contact("visitor:1", email="new@example.com")
    world.contact("ana", consent__email=True)
    world.contact("ben", consent__email=False)
    world.contact("visitor:2", email="other@example.com")
    world.work()
    world.answers = [Outcome("retry", "busy", retry_after=3600)] * 2
    world.event("cart.updated", "visitor:1")
    world.event("cart.updated", "visitor:2")
    world.work()
    world.event("contact.identified", "visitor:1", contact="ana")
    world.event("contact.identified", "visitor:2", contact="ben")
    world.later(1.5)
    assert [who for who, _, _ in world.got] == ["visitor:1", "visitor:2", "ana"], "each by the consent of whom it reaches"
    assert [item.state for item in world.store.effects()] == ["suppressed", "accepted"]


# ---------------------------------------------------------------- pause


def test_a_pause_holds_everything_and_what_is_too_old_by_then_waits_for_a_person(make):
    world = make()
    world.store.pause("cart", "wrong price", world.clock.now())
    begin(world).work().later(3)
    assert world.got == [] and world.states() == {"reminder": "ready", "last": "ready"}
    world.later(22.5)
    world.store.resume("cart", world.clock.now())
    world.later(1)
    assert [name for _, name, _ in world.got] == ["last"]
    assert world.states() == {"reminder": "held", "last": "accepted"}
    held = world.store.effects("held")[0]
    assert world.store.resolve(held.id, "ready", "send it all the same", world.clock.now())
    assert world.later(0.1).states() == {"reminder": "accepted", "last": "accepted"}


# ---------------------------------------------------------------- throttles


def test_a_throttle_is_kept_over_all_contacts_and_over_a_restart(make):
    world = make("THROTTLE 3 PER hour")
    for number in range(10):
        world.contact(f"c{number}")
    world.work()
    for number in range(10):
        world.event("cart.updated", f"c{number}")
    world.later(0.5)
    world.start()
    world.later(12)
    times = sorted(at for _, _, at in world.got)
    assert len(times) == 20
    assert all(sum(at <= other < at + 1 for other in times) <= 3 for at in times)
    assert times[0] == times[2] and times[-1] < 9, "and the rate is reached"


def test_a_plugins_throttle_counts_all_campaigns(make):
    world = make(settings={"email": {"throttle": "1 per hour"}})
    for number in range(3):
        world.contact(f"c{number}")
        world.work()
        world.event("cart.updated", f"c{number}")
    world.later(2.4)
    assert len(world.got) in (2, 3) and {name for _, name, _ in world.got} == {"reminder"}


# ---------------------------------------------------------------- breakers, unknowns


def test_a_provider_that_keeps_failing_is_left_alone_and_tried_with_one_call(make):
    world = make()
    for number in range(30):
        world.contact(f"c{number}")
    world.work()
    world.answers = [Outcome("retry", "no connection")] * 6
    for number in range(30):
        world.event("cart.updated", f"c{number}")
    world.work()
    assert len(world.got) == 5, "the breaker opened"
    world.later(0.25)
    assert [at for _, _, at in world.got[5:7]][0] > 0
    world.later(1.5)
    assert {state for primary, state in ((i.primary, i.state) for i in world.store.effects()) if primary == "reminder"} == {"accepted"}


def test_a_trial_whose_claim_could_not_be_saved_is_no_trial(make, monkeypatch):
    world = make()
    for number in range(8):
        world.contact(f"c{number}")
    world.work()
    world.answers = [Outcome("retry", "no connection")] * 5
    for number in range(8):
        world.event("cart.updated", f"c{number}")
    world.work()
    assert len(world.got) == 5
    claim = world.store.claim_effects

    def failing(*arguments):
        claim(*arguments[:3], lambda candidate: arguments[3](candidate) and None)  # judged, and then not saved
        raise StoreError("the disk is full", kind="full")

    world.clock.move_to(world.clock.now() + HOUR // 4)
    monkeypatch.setattr(world.store, "claim_effects", failing)
    with pytest.raises(StoreError):
        world.work()
    monkeypatch.setattr(world.store, "claim_effects", claim)
    world.later(1)
    assert len(world.got) >= 13, "it is tried again"


def test_an_unknown_hand_over_is_looked_up_until_the_provider_can_tell(make):
    world = begin(make(lookup=[Outcome("unknown"), Outcome("accepted", "found", "sm-7")]))
    world.answers = [Outcome("unknown", "line dropped")]
    world.work()
    assert world.states() == {"reminder": "unknown"}
    world.later(0.5)
    effect = next(item for item in world.store.effects() if item.primary == "reminder")
    assert (effect.state, effect.provider_id, effect.detail) == ("accepted", "sm-7", "looked up: found")
    assert len(world.asked) == 2 and len(world.got) == 1


def test_a_look_up_that_proves_it_never_arrived_hands_it_over_again_under_the_same_key(make):
    world = begin(make(lookup=[Outcome("retry", "no such message")]))
    world.answers = [Outcome("unknown", "line dropped")]
    world.work().later(1)
    assert len(world.got) == 2 and world.states()["reminder"] == "accepted"
    effect = next(item for item in world.store.effects() if item.primary == "reminder")
    assert [item.state for item in world.store.attempts_of(effect.id)] == ["unknown", "retry_wait", "accepted"]


def test_without_a_look_up_it_stays_unknown_and_is_told(make):
    world = begin(make())
    world.answers = [Outcome("unknown", "line dropped")]
    world.work().later(1.5)
    assert world.states() == {"reminder": "unknown"} and len(world.got) == 1
    assert b'"points":1' in world.store.contacts(["ana"])["ana"].state


def test_a_provider_that_recognises_the_key_gets_an_unknown_one_again(make):
    world = begin(make(idempotency="key"))
    world.answers = [Outcome("unknown", "line dropped")]
    world.work().later(0.5)
    assert len(world.got) == 2 and world.states()["reminder"] == "accepted"
