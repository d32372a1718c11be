"""What must hold after each run (PROMISES.md, "How it is tested"): what all harnesses check (tests/crash/invariants.py), and what only a
simulation knows: who was told what when, whom a provider deceived, how long a step must take at least."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from rules_engine.facts import ContactChange, Event
from rules_engine.store import codec
from tests.crash import invariants as shared
from tests.simulation.campaigns import EARLIEST, program
from tests.simulation.world import World

HANDED = ("sent", "held", "done")
SHARED = (shared.acknowledged_facts_are_kept, shared.no_effect_without_its_firing, shared.nothing_to_the_suppressed, shared.no_timer_is_early,
          shared.points_are_what_their_ledger_says, shared.each_contacts_order_is_kept, shared.everything_ends)
IGNORED = ("n", "k", "t")
"""Parts of a state that faults may change: the count of events met and the clock (news such as `email.unknown` are events too), and timers
that are re-armed lazily. What follows from timers stands in the journal, which is compared."""


def broken(world: World) -> list[str]:
    """All that is broken after a run that went to its end."""
    store = world.rest()
    found = list(world.offences) + store.check()
    picture = shared.look(store)
    truth = shared.Truth(acknowledged=[arrival.cause for arrival in world.acknowledged.values()],
                         handed=[shared.Handed(key, at) for at, key, *_ in world.provider.calls], live=True, now=world.clock.now())
    for check in SHARED:
        found += [f"{check.__name__.replace('_', ' ')}: {problem}" for problem in check(picture, truth)]
    found += _events(world, picture)
    found += _provider(world, picture.effects)
    journal = [item for decisions in picture.journals.values() for item in decisions]
    found += _effects(picture.effects, journal)
    found += _once(journal)
    found += _early(world, journal)
    found += _left(picture)
    return found


def _events(world: World, picture: shared.Picture) -> Iterator[str]:
    """Each acknowledged event is in the log as it was told, and has acted; only what breaks a bound is set aside."""
    rows = {(row.source, row.cause.id): row for found in picture.log.values() for row in found if hasattr(row.cause, "id")}
    for key, arrival in world.acknowledged.items():
        row, told = rows[key], arrival.cause
        cause = row.cause
        said = (cause.contact, cause.at, getattr(cause, "data", None), getattr(cause, "attributes", None))
        if said != (told.contact, told.at, getattr(told, "data", None), getattr(told, "attributes", None)):
            yield f"{key} stands in the log as {cause}"
        endless = isinstance(cause, Event) and cause.name == "loop.started"
        if row.status != ("set_aside" if endless else "done"):
            yield f"{key} is {row.status}: {row.reason}"


def _provider(world: World, effects: dict[str, Any]) -> Iterator[str]:
    """Each key acts at the provider at most once; what it took is accepted or unknown; what is accepted it took. Where it lied, or nobody
    can know, only the first holds; where a person said "again", it may act once more."""
    provider = world.provider
    excused = provider.lied | provider.doubtful
    for key, times in provider.took.items():
        effect = effects.get(key)
        if effect is None:
            yield f"{key} reached the provider and is no effect"
        elif times > 1 + world.again[key]:
            yield f"{key} acted {times} times"
        elif key not in excused and effect.state not in shared.GOT | shared.DOUBT:
            yield f"{key} was taken and is {effect.state}"
    for key, effect in effects.items():
        if effect.state in shared.GOT and key not in provider.took and key not in excused:
            yield f"{key} is {effect.state} and was never taken"
        if effect.state == "unknown" and key not in excused:
            yield f"{key} is unknown and there was no doubt: {effect.detail}"


def _effects(effects: dict[str, Any], journal: list) -> Iterator[str]:
    """No firing without its effect."""
    fired: Counter = Counter()
    for item in journal:
        if item.kind == "action" and item.action in ("email.send", "sms.send", "webhook.post", "crm.push") and item.outcome in HANDED:
            fired[item.contact, item.campaign or item.rule, item.step, item.key, item.at] += 1
    made = Counter((item.contact, item.ruleset, item.step, item.key, item.at) for item in effects.values())
    for what in sorted((made - fired) | (fired - made), key=repr):
        yield f"{what}: {made[what]} effects and {fired[what]} firings"


def _left(picture: shared.Picture) -> Iterator[str]:
    """With the faults off, every journey and every retry ends."""
    for contact, (data, _) in picture.states.items():
        inside = sorted(codec.load(data)["i"])
        if inside:
            yield f"{contact} is still in {inside}"
    for key, row in picture.effects.items():
        if row.state in shared.UNFINISHED:
            yield f"{key} is still {row.state}"


def _once(journal: list) -> Iterator[str]:
    """Nothing fires twice at one moment for one cause."""
    seen: set[tuple] = set()
    for item in journal:
        if item.kind in ("action", "enter"):
            key = (item.at, item.contact, item.campaign, item.rule, item.key, item.step, item.kind, item.cause)
            if key in seen:
                yield f"fired twice: {key}"
            seen.add(key)


def _early(world: World, journal: list) -> Iterator[str]:
    """No step before its time, counted by hand from the entry (campaigns.EARLIEST)."""
    entered: dict[tuple, int] = {}
    for item in journal:
        key = (item.contact, item.campaign, item.key)
        if item.kind == "enter":
            entered[key] = _moment(world, item)
        wanted = EARLIEST.get((item.campaign, item.primary))
        if wanted is not None and item.kind == "action" and item.at < entered[key] + wanted:
            yield f"{item.campaign} {item.primary} of {item.contact} left {(entered[key] + wanted - item.at) / 3_600_000:.2f} hours too early"


def _moment(world: World, item: Any) -> int:
    """When it happened: delays count from the event, which may have been told late."""
    for source in ("events", "contacts"):
        arrival = world.acknowledged.get((source, item.cause))
        if arrival is not None and not isinstance(arrival.cause, ContactChange):
            return min(arrival.cause.at, item.at)
    return item.at


def differences(faultless: World, other: World) -> list[str]:
    """A run with faults that must not matter has decided the same for each contact, in the same order."""
    wanted, found = faultless.decisions(), other.decisions()
    said = []
    for contact in sorted({*wanted, *found}):
        left, right = wanted.get(contact, []), found.get(contact, [])
        if left == right:
            continue
        index = next((n for n, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
        said.append(f"{contact}, decision {index}: without faults {left[index:index + 1]}, with faults {right[index:index + 1]}")
    for contact in faultless.store.contact_ids(limit=100_000):
        left, right = (codec.load(world.store.contacts([contact])[contact].state) for world in (faultless, other))
        now = max(left["k"], right["k"])
        left, right = ({**state, "h": reachable(state["h"], now, other.version)} for state in (left, right))
        odd = [part for part in left if part not in IGNORED and left[part] != right[part]]
        if odd:
            said.append(f"{contact}: {odd} of the state differ: {[(left[part], right[part]) for part in odd]}"[:1_000])
    return said


def reachable(history: dict[str, Any], now: int, version: int) -> dict[str, Any]:
    """Without what no question can reach any more: a state drops that when it has its next look at it, and when that is, news may
    change."""
    queries, kept = program(version).queries, {}
    for name, slot in history.items():
        oldest = now - queries[name].reach if queries[name].reach else -math.inf
        if isinstance(slot, list) and slot and isinstance(slot[0], list):
            slot = [entry for entry in slot if entry[0] >= oldest]
        kept[name] = slot
    return kept
