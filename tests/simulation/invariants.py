"""What must hold after each run (PROMISES.md, "How it is tested"). Each function yields sentences about what does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from rules_engine.facts import ContactChange, Event
from tests.simulation.campaigns import EARLIEST
from tests.simulation.world import World

HANDED = ("sent", "held", "done")


def broken(world: World) -> list[str]:
    """All that is broken after a run that went to its end."""
    store = world.rest()
    effects = {effect.id: effect for effect in store.effects(limit=1_000_000)}
    journal = [row.decision for row in store.journal(0, 1_000_000)]
    found = list(world.offences) + store.check()
    for check in (_events, _provider, _effects, _ended):
        found += check(world, store, effects, journal)
    found += _order(journal)
    found += _points(store, journal)
    found += _early(world, journal)
    return found


def _events(world: World, store: Any, effects: dict, journal: list) -> Iterator[str]:
    """Each acknowledged event is in the log once, as it was told, and has acted; only what breaks a bound is set aside."""
    rows: dict[tuple[str, str], Any] = {}
    for contact in store.contact_ids(limit=100_000):
        for row in store.events_of(contact, 100_000):
            key = (row.source, row.cause.id)
            if key in rows:
                yield f"{key} is in the log twice"
            rows[key] = row
    for key, arrival in world.acknowledged.items():
        row = rows.get(key)
        if row is None:
            yield f"{key} was acknowledged and is not in the log"
            continue
        cause = row.cause
        said = (cause.contact, cause.at, getattr(cause, "data", None), getattr(cause, "attributes", None))
        told = arrival.cause
        if said != (told.contact, told.at, getattr(told, "data", None), getattr(told, "attributes", None)):
            yield f"{key} stands in the log as {cause}"
        endless = isinstance(cause, Event) and cause.name == "loop.started"
        if row.status != ("set_aside" if endless else "done"):
            yield f"{key} is {row.status}: {row.reason}"


def _provider(world: World, store: Any, effects: dict, journal: list) -> Iterator[str]:
    """Each key acts at the provider at most once; what it took is accepted or unknown; what is accepted it took."""
    provider, said = world.provider, world.provider.lied
    told = {row.cause.id for id in store.contact_ids(limit=100_000) for row in store.events_of(id, 100_000)}
    for key, times in provider.took.items():
        effect = effects.get(key)
        if effect is None:
            yield f"{key} reached the provider and is no effect"
        elif times > 1 + world.again[key]:
            yield f"{key} acted {times} times"
        elif key not in said and key not in provider.doubtful and effect.state not in ("accepted", "unknown", "delivered", "bounced", "complained"):
            yield f"{key} was taken and is {effect.state}"
    for key, effect in effects.items():
        if effect.state == "accepted" and key not in provider.took and key not in said | provider.doubtful:
            yield f"{key} is accepted and was never taken"
        if effect.state == "unknown" and not any(k == key for _, k, _, _, _ in provider.calls) and not effect.attempts:
            yield f"{key} is unknown and was never handed over"
        if effect.state == "unknown" and world.kind == "faultless":
            yield f"{key} is unknown where nothing went wrong"
    for key in (call[1] for call in provider.calls):
        if key not in effects:
            yield f"{key} was called and is no effect"
    del told


def _effects(world: World, store: Any, effects: dict, journal: list) -> Iterator[str]:
    """No effect without its firing, and no firing without its effect."""
    fired: Counter = Counter()
    for item in journal:
        if item.kind == "action" and item.action in ("email.send", "sms.send", "webhook.post", "crm.push") and item.outcome in HANDED:
            fired[item.contact, item.campaign or item.rule, item.step, item.key, item.at] += 1
    made = Counter((item.contact, item.ruleset, item.step, item.key, item.at) for item in effects.values())
    for what in sorted((made - fired) | (fired - made), key=repr):
        yield f"{what}: {made[what]} effects and {fired[what]} firings"


def _ended(world: World, store: Any, effects: dict, journal: list) -> Iterator[str]:
    """With the faults off, everything ends."""
    for effect in effects.values():
        if effect.state in ("planned", "ready", "claimed", "retry_wait"):
            yield f"{effect.id} is still {effect.state}"
    counts = store.counts()
    if counts.events["new"]:
        yield f"{counts.events['new']} events were never looked at"
    from rules_engine.store import codec

    for contact, row in store.contacts(store.contact_ids(limit=100_000)).items():
        state = codec.load(row.state)
        if state["i"]:
            yield f"{contact} is still in {sorted(state['i'])}"
        if row.wake_at is not None and row.wake_at <= world.clock.now():
            yield f"{contact} has a wake-up that is past"


def _order(journal: list) -> Iterator[str]:
    """A contact's decisions stand in the order of their moments, and none is there twice."""
    last: dict[str, int] = {}
    seen: set[tuple] = set()
    for item in journal:
        if item.at < last.get(item.contact, item.at):
            yield f"{item.contact}: a decision of {item.at} stands behind one of {last[item.contact]}"
        last[item.contact] = item.at
        if item.kind in ("action", "enter"):
            key = (item.at, item.contact, item.campaign, item.rule, item.key, item.step, item.kind, item.cause)
            if key in seen:
                yield f"fired twice: {key}"
            seen.add(key)


def _points(store: Any, journal: list) -> Iterator[str]:
    """The ledger equals the balance."""
    from rules_engine.store import codec

    ledger: Counter = Counter()
    for item in journal:
        if item.kind == "action" and item.action in ("points.add", "points.subtract"):
            ledger[item.contact] += item.primary * (1 if item.action == "points.add" else -1)
    for contact, row in store.contacts(store.contact_ids(limit=100_000)).items():
        balance = codec.load(row.state)["a"].get("points", 0)
        if balance != ledger[contact]:
            yield f"{contact} has {balance} points and the journal says {ledger[contact]}"


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
        index = next((n for n, (a, b) in enumerate(zip(left, right)) if a != b), min(len(left), len(right)))
        said.append(f"{contact}, decision {index}: without faults {left[index:index + 1]}, with faults {right[index:index + 1]}")
    for contact in faultless.store.contact_ids(limit=100_000):
        a, b = (world.store.contacts([contact]).get(contact) for world in (faultless, other))
        if b is None or a.state != b.state:
            said.append(f"the state of {contact} differs")
    return said
