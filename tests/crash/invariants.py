"""What must hold after any run, however it was killed, starved or lied to. One module for all harnesses (PROMISES.md, "How it is tested").

    truth = Truth(acknowledged=[…], handed=[…], oracle=look(store_of_a_run_without_faults))
    broken(store, truth) == []

Asks the store through its port only: the same checks run on SQLite, PostgreSQL and in memory. Each check is a function of what was found
and what is true, gives sentences, and has a test that plants its violation (test_invariants.py): a check that can't fail is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rules_engine.decisions import Decision
from rules_engine.facts import ContactChange, Event
from rules_engine.store import codec
from rules_engine.store.port import SOURCE_OUTCOMES, Attempt, EffectRow, LogRow, Store

PAGE = 10_000
GOT = frozenset({"accepted", "delivered", "bounced", "complained"})  # states that say: the provider has it
DOUBT = frozenset({"unknown"})
UNFINISHED = frozenset({"planned", "ready", "claimed", "retry_wait"})  # states in which something is still to be done


class Handed(NamedTuple):
    """One hand-over that a provider took, as the provider noted it. at: the service's clock then (ms), None where nobody noted it."""

    key: str
    at: int | None = None


@dataclass
class Picture:
    """What a store holds, by contact where order counts."""

    states: dict[str, tuple[bytes, int | None]] = field(default_factory=dict)
    journals: dict[str, list[Decision]] = field(default_factory=dict)
    log: dict[str, list[LogRow]] = field(default_factory=dict)
    effects: dict[str, EffectRow] = field(default_factory=dict)
    attempts: dict[str, list[Attempt]] = field(default_factory=dict)
    journal_order: list[int] = field(default_factory=list)

    @property
    def events(self) -> dict[tuple[str, str, str], str]:
        """(contact, source, id) -> status."""
        return {(contact, row.source, getattr(row.cause, "id", f"wake {row.cause.at}")): row.status
                for contact, rows in self.log.items() for row in rows}


@dataclass
class Truth:
    """What a harness knows for sure.

    acknowledged: facts that somebody was told are kept. handed: what providers took, in order. keyless: keys (or a rule for them) whose
    provider does not recognise a repeated key: those may be there once only; by default all. oracle: a run of the same facts without
    faults. live: facts act when they arrive (else: a replay, at their own time). ended: the run went on to its end without faults, up to
    `now` (ms). steady: no clock was set back, so that times tell what came first. deaths: how often a process died; each may leave one
    `workers` full of unknown effects, None: don't count.
    """

    acknowledged: Iterable[Event | ContactChange] = ()
    handed: Iterable[Handed] = ()
    keyless: Callable[[str], bool] = lambda key: True
    oracle: Picture | None = None
    live: bool = False
    ended: bool = True
    steady: bool = True
    now: int | None = None
    deaths: int | None = None
    workers: int = 1


def look(store: Store, contacts: Iterable[str] = ()) -> Picture:
    """Everything in the store. contacts: some that may have facts in the log and no state yet."""
    found = Picture()
    ids = dict.fromkeys([*_pages(lambda after: store.contact_ids(after, PAGE)), *contacts])
    for start in range(0, len(ids), 1_000):
        rows = store.contacts(list(ids)[start : start + 1_000])
        found.states.update((id, (row.state, row.wake_at)) for id, row in rows.items())
    for id in ids:
        found.log[id] = store.events_of(id, 1_000_000)
    after = 0
    while rows := store.journal(after, PAGE):
        for row in rows:
            found.journals.setdefault(row.decision.contact, []).append(row.decision)
            found.journal_order.append(row.decision.at)
        after = rows[-1].seq
    found.effects = {row.id: row for row in store.effects(limit=10_000_000)}
    found.attempts = {id: store.attempts_of(id) for id, row in found.effects.items() if row.attempts}
    return found


def _pages(read: Callable[[str], list[str]]) -> Iterator[str]:
    after = ""
    while page := read(after):
        yield from page
        after = page[-1]


def broken(store: Store, truth: Truth) -> list[str]:
    """Which promises do not hold, in sentences; empty if all do."""
    said = [f"the store's own check: {problem}" for problem in store.check()]
    if said:
        return said
    picture = look(store, {cause.contact for cause in truth.acknowledged})
    for check in CHECKS:
        said += [f"{check.__name__.replace('_', ' ')}: {problem}" for problem in check(picture, truth)]
    return said


# ---------------------------------------------------------------- the checks


def acknowledged_facts_are_kept(picture: Picture, truth: Truth) -> Iterator[str]:
    """P1; and P2: each is there once."""
    seen = Counter((contact, getattr(row.cause, "id", None)) for contact, rows in picture.log.items() for row in rows
                   if row.source in ("events", "contacts"))
    for cause in truth.acknowledged:
        count = seen[cause.contact, cause.id]
        if count != 1:
            yield f"{cause.id} of {cause.contact} was acknowledged and is in the log {count} times"


def firings_are_the_oracles(picture: Picture, truth: Truth) -> Iterator[str]:
    """P3, P4: the same decisions at the same times, the same states, the same effects, the same log. What the log was told about hand-overs is
    left out, and so is a state's count of events: which effects are called off at the claim depends on what had arrived by then."""
    if truth.oracle is None:
        return
    oracle = truth.oracle
    for name in sorted(picture.journals.keys() | oracle.journals.keys()):
        yield from _difference(f"the journal of {name}", picture.journals.get(name, []), oracle.journals.get(name, []))
    for name in sorted(picture.states.keys() | oracle.states.keys()):
        if _plain(picture.states.get(name)) != _plain(oracle.states.get(name)):
            yield f"the state of {name} is {picture.states.get(name)} and should be {oracle.states.get(name)}"
    if extra := picture.effects.keys() ^ oracle.effects.keys():
        yield f"effects that only one run has: {sorted(extra)[:5]}"
    mine, theirs = ({key: status for key, status in found.events.items() if key[1] != SOURCE_OUTCOMES} for found in (picture, oracle))
    if odd := [key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key)]:
        yield f"the log differs: {[(key, mine.get(key), theirs.get(key)) for key in sorted(odd)[:3]]}"


def _plain(state: tuple[bytes, int | None] | None) -> Any:
    return state and ({**codec.load(state[0]), "n": 0}, state[1])


def _difference(what: str, mine: list[Decision], theirs: list[Decision]) -> Iterator[str]:
    if mine == theirs:
        return
    index = next((n for n, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), min(len(mine), len(theirs)))
    yield (f"{what} has {len(mine)} decisions for {len(theirs)}; the first that differs is number {index}: "
           f"{mine[index] if index < len(mine) else None} for {theirs[index] if index < len(theirs) else None}")


def handed_over_once(picture: Picture, truth: Truth) -> Iterator[str]:
    """P5: a provider without keys gets each effect at most once."""
    for key, count in Counter(item.key for item in truth.handed).items():
        if count > 1 and truth.keyless(key):
            yield f"{key} was handed over {count} times"


def provider_and_outbox_agree(picture: Picture, truth: Truth) -> Iterator[str]:
    """P5, P6: what the provider took is accepted or unknown (or the claim is durable still), and what is accepted it took."""
    took = {item.key for item in truth.handed}
    for key in sorted(took):
        row = picture.effects.get(key)
        if row is None:
            yield f"{key} was handed over, and the outbox does not know it"
        elif row.state not in GOT | DOUBT | {"claimed"} and (truth.keyless(key) or truth.ended):
            yield f"{key} was handed over and is {row.state}"
    for key, row in sorted(picture.effects.items()):
        if row.state in GOT and key not in took:
            yield f"{key} is {row.state}, and no provider has it"


def every_unknown_has_its_death(picture: Picture, truth: Truth) -> Iterator[str]:
    """P6: nothing is unknown that was not being handed over when a process died."""
    if truth.deaths is None:
        return
    unknown = [key for key, row in picture.effects.items() if row.state in DOUBT]
    if len(unknown) > truth.deaths * truth.workers:
        yield f"{len(unknown)} unknown after {truth.deaths} deaths: {sorted(unknown)[:5]}"


def no_effect_without_its_firing(picture: Picture, truth: Truth) -> Iterator[str]:
    """P12: for each effect the journal holds the action that asked for it, at its time."""
    fired = Counter((d.contact, d.campaign or d.rule, d.step or "", d.action, d.at)
                    for journal in picture.journals.values() for d in journal if d.kind == "action")
    asked = Counter((e.contact, e.ruleset, e.step, e.action, e.at) for e in picture.effects.values())
    for what, count in asked.items():
        if fired[what] < count:
            yield f"{count} effects for {fired[what]} firings of {what}"


def nothing_to_the_suppressed(picture: Picture, truth: Truth) -> Iterator[str]:
    """P9: what the log had about consent and suppression when the claim was committed. A replay claims at the effect's own time."""
    if not truth.steady:
        return
    for key, row in picture.effects.items():
        if row.channel is None or row.message_class == "internal" or row.state not in GOT | DOUBT | {"claimed"}:
            continue
        for attempt in picture.attempts.get(key, []):
            moment = attempt.claimed_at if truth.live else row.at
            values = _told(picture.log.get(row.contact, []), row.channel, moment, truth.live)
            if values.get("suppressed"):
                yield f"{key} was claimed at {moment} for {row.contact}, suppressed since {values['suppressed_at']}"
            elif values.get("consent") is False and row.message_class == "marketing":
                yield f"{key} was claimed at {moment} for {row.contact}, whose consent was withdrawn at {values['consent_at']}"


def _told(rows: list[LogRow], channel: str, moment: int, live: bool) -> dict[str, Any]:
    """The latest word about consent and suppression strictly before a moment."""
    found: dict[str, Any] = {}
    for row in sorted(rows, key=lambda row: row.seq if live else row.cause.at):
        at = row.received if live else row.cause.at
        if at >= moment or row.status == "set_aside":
            continue
        words: Mapping[str, Any] = {}
        if isinstance(row.cause, ContactChange):
            words = row.cause.attributes
        elif isinstance(row.cause, Event) and row.cause.name == f"{channel}.unsubscribed":
            words = {f"consent.{channel}": False}
        for group in ("consent", "suppressed"):
            if f"{group}.{channel}" in words:
                found[group], found[group + "_at"] = words[f"{group}.{channel}"], at
    return found


def no_timer_is_early(picture: Picture, truth: Truth) -> Iterator[str]:
    """P7: no hand-over before the effect's time, and no decision later than the time reached."""
    for item in truth.handed:
        row = picture.effects.get(item.key)
        if row is not None and item.at is not None and item.at < row.at:
            yield f"{item.key} of {row.at} was handed over at {item.at}"
    if truth.now is not None:
        for name, journal in picture.journals.items():
            for decision in journal:
                if decision.at > truth.now:
                    yield f"{name} has a decision of {decision.at} at {truth.now}: {decision}"


def points_are_what_their_ledger_says(picture: Picture, truth: Truth) -> Iterator[str]:
    """P4: the sum of all additions in the journal. Contacts whose points somebody set from outside are left out."""
    for name, (state, _) in picture.states.items():
        told = {key for row in picture.log.get(name, []) if isinstance(row.cause, ContactChange) for key in row.cause.attributes}
        ledger: Counter[str] = Counter()
        for decision in picture.journals.get(name, []):
            if decision.kind == "action" and decision.action in ("points.add", "points.subtract") and decision.outcome in (None, "done"):
                group = decision.params.get("group")
                ledger[f"points.{group}" if group else "points"] += decision.primary * (1 if decision.action == "points.add" else -1)
        attributes = codec.load(state).get("a", {})
        for key, total in ledger.items():
            if key not in told and attributes.get(key, 0) != total:
                yield f"{name} has {attributes.get(key, 0)} {key}, and the journal adds up to {total}"


def each_contacts_order_is_kept(picture: Picture, truth: Truth) -> Iterator[str]:
    """The log's time of a contact never goes back, and neither does the time of arrival."""
    for name, journal in picture.journals.items():
        for before, after in zip(journal, journal[1:], strict=False):
            if after.at < before.at:
                yield f"{name}: a decision of {after.at} behind one of {before.at}"
                break
    for name, rows in picture.log.items():
        for first, second in zip(rows, rows[1:], strict=False):
            if second.received < first.received:
                yield f"{name}: row {second.seq} arrived at {second.received}, before row {first.seq} at {first.received}"
                break


def everything_ends(picture: Picture, truth: Truth) -> Iterator[str]:
    """Once the faults are off: no fact unread, no wake-up overdue, no effect that is due and untouched."""
    if not truth.ended:
        return
    late = truth.now if truth.now is not None else -(2**62)
    for name, rows in picture.log.items():
        new = [row.seq for row in rows if row.status == "new" and (truth.live or row.cause.at <= late)]
        if new:
            yield f"{name}: rows {new[:5]} are still new"
    for name, (_, wake_at) in picture.states.items():
        if wake_at is not None and wake_at <= late:
            yield f"{name} wanted to be woken at {wake_at}, and it is {late}"
    for key, row in picture.effects.items():
        if row.state == "claimed" or row.state in UNFINISHED and row.next_at is not None and row.next_at <= late:
            yield f"{key} is still {row.state}"


CHECKS = (
    acknowledged_facts_are_kept,
    firings_are_the_oracles,
    handed_over_once,
    provider_and_outbox_agree,
    every_unknown_has_its_death,
    no_effect_without_its_firing,
    nothing_to_the_suppressed,
    no_timer_is_early,
    points_are_what_their_ledger_says,
    each_contacts_order_is_kept,
    everything_ends,
)
