"""Each check of `invariants` finds the violation that is planted for it, and nothing in a sound store."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from rules_engine.clock import VirtualClock
from rules_engine.facts import Event
from rules_engine.service.loop import run_once
from rules_engine.store.sqlite import SqliteStore
from tests.crash import invariants, world
from tests.crash.invariants import Handed, Truth, broken, look


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A store after a run, and what is true of it."""
    folder = tmp_path_factory.mktemp("world")
    world.write_templates(folder)
    clock, handed = VirtualClock(world.START), []
    store = SqliteStore(folder / "camp.db", clock)
    facts = world.facts(80, 6)
    store.record_events(world.arrivals(facts))
    run_once(store, world.program(), world.host(lambda call: handed.append(Handed(call.key))), clock, world.END, **world.options(folder))
    picture = look(store)
    handed += world.in_folder(folder, [(row.id, row.contact) for row in picture.effects.values()])
    yield store, Truth(facts, handed, oracle=picture, now=world.END, deaths=0)
    store.close()


def test_a_sound_store_breaks_nothing(run):
    store, truth = run
    assert broken(store, truth) == []
    assert len(truth.oracle.effects) > 50 and truth.handed and any(row.channel == "sms" for row in truth.oracle.effects.values())


def some(picture, **wanted):
    return next(key for key, row in picture.effects.items() if all(getattr(row, name) == value for name, value in wanted.items()))


def an_acknowledged_fact_is_gone(picture, truth):
    rows = next(rows for rows in picture.log.values() if rows)
    del rows[-1]


def a_decision_is_gone(picture, truth):
    del next(iter(picture.journals.values()))[0]


def handed_over_twice(picture, truth):
    truth.handed = [*truth.handed, truth.handed[0]]


def never_handed_over(picture, truth):
    truth.handed = [item for item in truth.handed if item.key != some(picture, channel="sms")]


def sent_and_still_ready(picture, truth):
    key = some(picture, channel="sms")
    picture.effects[key] = picture.effects[key]._replace(state="ready")


def unknown_for_no_reason(picture, truth):
    key = some(picture, channel="sms")
    picture.effects[key] = picture.effects[key]._replace(state="unknown")


def an_effect_that_nobody_asked_for(picture, truth):
    key = some(picture, channel="email")
    picture.effects["more"] = picture.effects[key]._replace(id="more", step="another")


def sent_after_the_unsubscribe(picture, truth):
    row = picture.effects[some(picture, channel="sms", message_class="marketing")]
    news = Event("no", "sms.unsubscribed", row.contact, row.at - 1, None, {})
    picture.log[row.contact].append(picture.log[row.contact][-1]._replace(cause=news))


def sent_early(picture, truth):
    truth.handed = [Handed(item.key, 1) for item in truth.handed]


def points_out_of_nothing(picture, truth):
    name = next(name for name, journal in picture.journals.items() if any(item.action == "points.add" and not item.params for item in journal))
    picture.journals[name] = [item._replace(primary=item.primary + 1) if item.action == "points.add" else item for item in picture.journals[name]]


def a_decision_out_of_order(picture, truth):
    journal = max(picture.journals.values(), key=len)
    journal.insert(0, journal.pop())


def a_fact_left_unread(picture, truth):
    rows = next(iter(picture.log.values()))
    rows[0] = rows[0]._replace(status="new")


PLANTED = {
    invariants.acknowledged_facts_are_kept: an_acknowledged_fact_is_gone,
    invariants.firings_are_the_oracles: a_decision_is_gone,
    invariants.handed_over_once: handed_over_twice,
    invariants.provider_and_outbox_agree: (never_handed_over, sent_and_still_ready),
    invariants.every_unknown_has_its_death: unknown_for_no_reason,
    invariants.no_effect_without_its_firing: an_effect_that_nobody_asked_for,
    invariants.nothing_to_the_suppressed: sent_after_the_unsubscribe,
    invariants.no_timer_is_early: sent_early,
    invariants.points_are_what_their_ledger_says: points_out_of_nothing,
    invariants.each_contacts_order_is_kept: a_decision_out_of_order,
    invariants.everything_ends: a_fact_left_unread,
}


def test_every_check_has_its_violation():
    assert PLANTED.keys() == set(invariants.CHECKS)


@pytest.mark.parametrize("check", invariants.CHECKS, ids=lambda check: check.__name__)
def test_a_planted_violation_is_found(run, check):
    store, truth = run
    for plant in PLANTED[check] if isinstance(PLANTED[check], tuple) else (PLANTED[check],):
        picture, told = copy.deepcopy(look(store)), replace(truth)
        assert list(check(picture, told)) == []
        plant(picture, told)
        assert list(check(picture, told)) != [], plant.__name__
