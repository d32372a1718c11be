"""The store's twin in memory: the same verbs and meaning, nothing durable. For tests, simulations and `:memory:`."""

from __future__ import annotations

import bisect
import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rules_engine.clock import Clock, SystemClock
from rules_engine.decisions import Cancel, Decision
from rules_engine.facts import ContactChange, Wake
from rules_engine.links import handle
from rules_engine.store import codec
from rules_engine.store.port import (
    DIED,
    ENDED,
    ENOUGH,
    EVERYTHING,
    REPORTS,
    RESOLUTIONS,
    RESTARTED,
    RESTORED,
    SOURCE_ENGINE,
    SUPPRESSED,
    UNSENT_STATES,
    WAITING_STATES,
    Arrival,
    Attempt,
    Audit,
    Backlog,
    Block,
    Candidate,
    ContactRow,
    Counts,
    EffectRow,
    Erased,
    HandOver,
    Identity,
    JournalRow,
    LogRow,
    Pause,
    Position,
    Recorded,
    Removed,
    Settlement,
    StoreError,
    Verdict,
    Version,
)


class MemoryStore:
    """Dictionaries and lists. Every verb is done at once; one thread only."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._log: list[LogRow] = []  # position = seq - 1
        self._ids: dict[tuple[str, str], tuple[int, bytes]] = {}
        self._new: list[tuple[int, int]] = []  # heap of (at, seq); rows that are new no more are dropped when met
        self._contacts: dict[str, ContactRow] = {}
        self._addresses: dict[tuple[str, str], str] = {}
        self._wakes: list[tuple[int, str]] = []  # heap of (wake_at, contact), stale ones dropped when met
        self._journal: list[Decision | None] = []  # position = seq - 1; None: dropped
        self._effects: dict[str, EffectRow] = {}
        self._attempts: list[Attempt] = []
        self._pauses: dict[str, Pause] = {}
        self._audits: list[Audit] = []
        self._spent: Counter[tuple[str, int]] = Counter()  # (throttle, slot) -> hand-overs
        self._programs: dict[str, Version] = {}
        self._latest = ""
        self._position = Position(0, 0)
        self._locked = False
        self._notes: dict[str, str] = {"instance": "memory", "secret": "memory"}
        self._forgotten: dict[str, str] = {}
        self._sent: dict[str, HandOver] = {}

    # ------------------------------------------------------------ the log

    def record_events(self, arrivals: Sequence[Arrival]) -> Recorded:
        """See Store."""
        arrivals = [self._suppressed(arrival) for arrival in arrivals]
        rows = [codec.log_values(arrival) for arrival in arrivals]
        duplicates: list[int] = []
        conflicts: list[int] = []
        for index, (arrival, row) in enumerate(zip(arrivals, rows, strict=True)):
            if codec.mark("memory", "event", arrival.source, arrival.cause.id) in self._forgotten:
                duplicates.append(index)
                continue
            known = self._ids.get(row[:2])
            if known is None:
                self._add(arrival, row)
            else:
                (duplicates if known[1] == row[-1] else conflicts).append(index)
        return Recorded(len(arrivals) - len(duplicates) - len(conflicts), tuple(duplicates), tuple(conflicts))

    def _suppressed(self, arrival: Arrival) -> Arrival:
        if not isinstance(arrival.cause, ContactChange):
            return arrival
        texts = [value for value in arrival.cause.attributes.values() if isinstance(value, str)]
        channels = {self._forgotten.get(codec.mark("memory", "address", codec.comparable(text))) for text in texts} - {None}
        attributes = {**arrival.cause.attributes, **{f"suppressed.{channel}": SUPPRESSED for channel in channels}}
        return arrival._replace(cause=arrival.cause._replace(attributes=attributes)) if channels else arrival

    def _add(self, arrival: Arrival, row: tuple) -> None:
        seq, received = len(self._log) + 1, self._stamp()
        source, id, kind, name, contact, at, subject, data, fingerprint = row
        # Through JSON, as a database would: what a caller does with its record later changes nothing here.
        cause = codec.cause(kind, id, name, contact, at, subject, data, received)
        self._ids[source, id] = (seq, fingerprint)
        self._addresses.update({(kind, address): contact for kind, address, contact in codec.addresses(arrival.cause)})
        self._log.append(LogRow(seq, source, cause, received, "done" if arrival.acted else "new"))
        if not arrival.acted:
            heapq.heappush(self._new, (cause.at, seq))

    def _stamp(self) -> int:
        return max(self._clock.now(), self._log[-1].received if self._log else 0)

    def read_log(self, after: int, limit: int) -> list[LogRow]:
        """See Store."""
        found = []
        for index in range(after, len(self._log)):
            if self._log[index].status == "new":
                found.append(self._log[index])
                if len(found) == limit:
                    break
        return found

    def read_history(self, until: int, limit: int) -> list[LogRow]:
        """See Store."""
        taken: list[tuple[int, int]] = []
        while self._new and self._new[0][0] <= until and len(taken) < limit:
            key = heapq.heappop(self._new)
            if self._log[key[1] - 1].status == "new" and (not taken or taken[-1] != key):
                taken.append(key)
        for key in taken:
            heapq.heappush(self._new, key)
        return [self._log[seq - 1] for _, seq in taken]

    def quiet_now(self, after: int) -> int | None:
        """See Store."""
        return None if self.read_log(after, 1) else self._stamp()

    def unread(self, limit: int) -> int:
        """See Store."""
        return len(self.read_log(0, limit))

    def events_of(self, contact: str, limit: int = 1_000) -> list[LogRow]:
        """See Store."""
        return [row for row in self._log if row.cause.contact == contact][-limit:]

    def set_aside(self, limit: int = 100) -> list[LogRow]:
        """See Store."""
        return [row for row in reversed(self._log) if row.status == "set_aside"][:limit]

    def release(self, seqs: Iterable[int]) -> int:
        """See Store."""
        released = [seq for seq in seqs if 0 < seq <= len(self._log) and self._log[seq - 1].status == "set_aside"]
        for seq in released:
            row = self._log[seq - 1]
            self._log[seq - 1] = row._replace(status="new", reason=None)
            heapq.heappush(self._new, (row.cause.at, seq))
        if released:
            self._position = self._position._replace(cursor=min(self._position.cursor, min(released) - 1))
        return len(released)

    def purge(self, before: int, limit: int | None = None) -> int:
        """See Store."""
        purged = 0
        for index, row in enumerate(self._log):
            full = not isinstance(row.cause, Wake) and (
                getattr(row.cause, "data", None) or getattr(row.cause, "attributes", None)
            )
            if row.status == "done" and row.received < before and full and (limit is None or purged < limit):
                kind, name, _, _ = codec.body(row.cause)
                empty = codec.cause(kind, row.cause.id, name, row.cause.contact, row.cause.at, None, None, row.received)
                self._log[index] = row._replace(cause=empty)
                purged += 1
        return purged

    # ------------------------------------------------------------ contacts

    def contacts(self, ids: Iterable[str]) -> dict[str, ContactRow]:
        """See Store."""
        return {id: self._contacts[id] for id in ids if id in self._contacts}

    def contact_at(self, kind: str, address: str) -> str | None:
        """See Store."""
        return self._addresses.get((kind, codec.plain(codec.address(kind, address))))

    def contact_ids(self, after: str = "", limit: int = 1_000) -> list[str]:
        """See Store."""
        ids = sorted(self._contacts)
        start = bisect.bisect_right(ids, after)
        return ids[start : start + limit]

    def due(self, now: int, limit: int) -> list[tuple[int, str]]:
        """See Store."""
        taken: list[tuple[int, str]] = []
        while self._wakes and self._wakes[0][0] <= now and len(taken) < limit:
            key = heapq.heappop(self._wakes)
            if self._contacts[key[1]].wake_at == key[0] and (not taken or taken[-1] != key):
                taken.append(key)
        for key in taken:
            heapq.heappush(self._wakes, key)
        return taken

    def rouse(self, digest: str, at: int) -> int:
        """See Store."""
        found = [row for row in self._contacts.values() if row.program != digest and (row.wake_at is None or row.wake_at > at)]
        for row in found:
            self._contacts[row.contact] = row._replace(wake_at=at)
            heapq.heappush(self._wakes, (at, row.contact))
        return len(found)

    def next_wake(self) -> int | None:
        """See Store."""
        while self._wakes and self._contacts[self._wakes[0][1]].wake_at != self._wakes[0][0]:
            heapq.heappop(self._wakes)
        return self._wakes[0][0] if self._wakes else None

    # ------------------------------------------------------------ one turn of the pump

    def position(self) -> Position:
        """See Store."""
        return self._position

    def commit(self, block: Block) -> None:
        """See Store."""
        if block.erasures is not None and block.erasures != self.erasures():
            raise Erased
        decisions = [_through_json(decision) for decision in block.decisions]
        emits = [(arrival, codec.log_values(arrival)) for arrival in block.emits]
        for wake, reason in block.stuck:  # before the states: a later event of the same block may have set a new wake-up
            self._stick(wake, reason)
        for row in block.states:
            self._contacts[row.contact] = row
            if row.wake_at is not None:
                heapq.heappush(self._wakes, (row.wake_at, row.contact))
        for seq in block.done:
            self._log[seq - 1] = self._log[seq - 1]._replace(status="done")
        for seq, reason in block.set_aside:
            self._log[seq - 1] = self._log[seq - 1]._replace(status="set_aside", reason=codec.plain(reason))
        self._journal += decisions
        for effect in block.effects:
            if effect.id not in self._effects:
                made = EffectRow(*effect, seq=len(self._effects) + 1, next_at=effect.at, handle=handle(effect.id))
                self._effects[effect.id] = made._replace(primary=_json(made.primary), params=_json(made.params))
                line = self._sent.get(self.mark_of(effect.id))
                if line is not None:
                    self._doubt(line, effect.id, line.at)
        for item in block.cancels:
            self._cancel(item)
        for arrival, values in emits:
            if values[:2] not in self._ids:
                self._add(arrival, values)
        cursor, clock = self._position
        if block.cursor is not None and cursor >= block.cursor_was:
            cursor = block.cursor
        self._position = Position(cursor, clock if block.clock is None else block.clock)

    def _stick(self, wake: Wake, reason: str) -> None:
        key = (SOURCE_ENGINE, codec.wake_id(wake))
        seq = self._ids[key][0] if key in self._ids else len(self._log) + 1
        row = LogRow(seq, SOURCE_ENGINE, wake, self._stamp(), "set_aside", codec.plain(reason))
        if key in self._ids:
            self._log[seq - 1] = row
        else:
            self._ids[key] = (seq, b"")
            self._log.append(row)
        if wake.contact in self._contacts:
            self._contacts[wake.contact] = self._contacts[wake.contact]._replace(wake_at=None)

    # ------------------------------------------------------------ the journal

    def journal_of(self, contact: str, limit: int = 10_000) -> list[JournalRow]:
        """See Store."""
        return [row for row in self._rows(0) if row.decision.contact == contact][-limit:]

    def journal(self, after: int = 0, limit: int = 1_000) -> list[JournalRow]:
        """See Store."""
        return list(self._rows(after))[:limit]

    def _rows(self, after: int) -> Iterator[JournalRow]:
        return (JournalRow(index + 1, item) for index, item in enumerate(self._journal[after:], after) if item is not None)

    # ------------------------------------------------------------ the outbox

    def claim_effects(
        self, due: int, now: int, limit: int, judge: Callable[[Candidate], Verdict | None], full: Collection[str] = ()
    ) -> list[Candidate]:
        """See Store."""
        ripe = [effect for effect in self._ripe() if effect.next_at <= due and effect.action not in full]
        seen: Counter[tuple[str, str]] = Counter()
        claimed = []
        unread = {row.cause.contact for row in self.read_log(self._position.cursor, len(self._log))}  # at once, as the databases do
        for effect in sorted(ripe, key=lambda effect: (effect.next_at, effect.seq)):
            seen[effect.state, effect.action] += 1
            if seen[effect.state, effect.action] > limit:
                continue
            state = self._contacts.get(effect.contact)
            pending = effect.contact in unread
            paused = EVERYTHING in self._pauses or effect.ruleset in self._pauses
            candidate = Candidate(effect, state.state if state else None, pending, paused, self._used, self._unread, self._waiting)
            verdict = judge(candidate)
            if verdict is None:
                continue
            if verdict is ENOUGH:
                break
            if verdict.state == "claimed":
                first = now if effect.first_claimed_at is None else effect.first_claimed_at
                effect = effect._replace(state="claimed", attempts=effect.attempts + 1, claimed_at=now, first_claimed_at=first)
                claimed.append(candidate._replace(effect=effect))
                for name, slot, oldest in verdict.spent:
                    self._spent[name, slot] += 1
                    for old in [old for old in self._spent if old[0] == name and old[1] < oldest]:
                        del self._spent[old]
            else:
                effect = _put_off(effect, verdict, now)
                self.record_events(verdict.news)
            self._effects[effect.id] = effect
        return claimed

    def _unread(self, contact: str) -> bool:
        return any(row.cause.contact == contact for row in self.read_log(self._position.cursor, len(self._log)))

    def _ripe(self) -> Iterator[EffectRow]:
        """What can be claimed once its time has come; what a pause has parked has none."""
        return (row for row in self._effects.values() if row.state in ("ready", "retry_wait") and row.next_at is not None)

    def _waiting(self, detail: str) -> int:
        return sum(row.detail == codec.plain(detail) for row in self._ripe())

    def _used(self, name: str, slot: int) -> tuple[int, int | None]:
        found = {then: used for (known, then), used in self._spent.items() if known == name and then >= slot}
        return sum(found.values()), min(found, default=None)

    def _cancel(self, item: Cancel) -> None:
        for effect in list(self._effects.values()):
            same = (effect.contact, effect.ruleset, effect.instance) == (item.contact, item.ruleset, item.instance)
            late = item.after is None or effect.next_at is None or effect.next_at > item.after
            if same and late and effect.state in UNSENT_STATES:
                self._effects[effect.id] = effect._replace(
                    state="cancelled", detail=codec.plain(item.reason), settled_at=item.at, next_at=None
                )

    def settle(self, settlements: Sequence[Settlement], news: Sequence[Arrival] = ()) -> int:
        """See Store."""
        counted = 0
        living = {effect.contact for effect in self._effects.values()}
        self.record_events([arrival for arrival in news if arrival.cause.contact in living])  # first: what is refused costs all of it
        for item in settlements:
            effect = self._effects.get(item.effect)
            if effect is None or effect.attempts != item.attempt:
                continue
            detail, provider_id = codec.plain(item.detail), codec.plain(item.provider_id) or effect.provider_id
            if effect.state == item.was:
                changed = effect._replace(state=item.state, detail=detail, next_at=item.next_at, settled_at=item.at)
            elif item.was == "claimed" and effect.state in _REPORTED and not self._settled(effect):
                changed = effect  # evidence from outside was faster than the record of the hand-over: the evidence stands
            else:
                continue
            counted += 1
            self._effects[effect.id] = changed._replace(provider_id=provider_id)
            self._attempts.append(Attempt(effect.id, item.attempt, effect.claimed_at, item.at, item.state, detail))
        return counted

    def _settled(self, effect: EffectRow) -> bool:
        return any(item.effect == effect.id and item.number == effect.attempts for item in self._attempts)

    def unknown_after_restart(
        self,
        now: int,
        repeatable: Callable[[EffectRow], bool],
        lookup_at: Callable[[EffectRow], int | None] = lambda effect: None,
        but: Collection[str] = (),
    ) -> list[EffectRow]:
        """See Store."""
        lost = []
        for effect in [effect for effect in self._effects.values() if effect.state == "claimed" and effect.id not in but]:
            again = repeatable(effect)
            changed = effect._replace(
                state="ready" if again else "unknown",
                detail=RESTARTED if again else DIED,
                settled_at=now,
                next_at=effect.next_at if again else lookup_at(effect),
            )
            self._effects[effect.id] = changed
            self._attempts.append(Attempt(effect.id, effect.attempts, effect.claimed_at, now, "unknown", DIED))
            if not again:
                lost.append(changed)
        return lost

    def lookups(self, now: int, limit: int, actions: Collection[str] | None = None) -> list[Candidate]:
        """See Store."""
        asked = [row for row in self._effects.values() if row.state == "unknown" and row.next_at is not None and row.next_at <= now]
        asked = [row for row in asked if actions is None or row.action in actions]
        asked.sort(key=lambda row: (row.next_at, row.seq))
        states = ((row, self._contacts.get(row.contact)) for row in asked[:limit])
        return [Candidate(row, known.state if known else None, False) for row, known in states]

    def report(self, effect: str, state: str, detail: str, now: int) -> bool:
        """See Store."""
        row = self._effects.get(effect)
        if row is None or state not in REPORTS.get(row.state, ()):
            return False
        self._effects[effect] = row._replace(state=state, detail=codec.plain(detail), next_at=None, settled_at=now)
        return True

    def resolve(self, effect: str, state: str, detail: str, now: int, who: str = "", news: Sequence[Arrival] = ()) -> bool:
        """See Store."""
        row = self._effects.get(effect)
        if row is None or state not in RESOLUTIONS.get(row.state, ()):
            return False
        self.record_events(news)
        again = state == "ready"
        self._effects[effect] = row._replace(
            state=state,
            detail=codec.plain(detail),
            settled_at=now,
            next_at=row.at if again else None,
            exempt=row.exempt + " late" if again else row.exempt,
            first_claimed_at=None if again else row.first_claimed_at,
        )
        self.audit(who, f"outbox {state}", f"{effect}: {detail}", now)
        return True

    def postpone(self, actions: Sequence[str], until: int) -> int:
        """See Store."""
        found = [row for row in self._ripe() if row.next_at < until and row.action in actions]
        for row in found:
            self._effects[row.id] = row._replace(next_at=until)
        return len(found)

    def pause(self, campaign: str, reason: str, now: int, who: str = "") -> bool:
        """See Store."""
        fresh = campaign not in self._pauses
        self._pauses.setdefault(campaign, Pause(campaign, now, codec.plain(reason)))
        self.audit(who, "pause", f"{campaign}: {reason}" if reason else campaign, now)
        return fresh

    def resume(self, campaign: str, now: int, who: str = "") -> bool:
        """See Store."""
        if self._pauses.pop(campaign, None) is None:
            return False
        for row in list(self._effects.values()):
            parked = row.state in ("ready", "retry_wait") and row.next_at is None
            if parked and campaign in (EVERYTHING, row.ruleset):
                self._effects[row.id] = row._replace(next_at=row.at)
        self.audit(who, "resume", campaign, now)
        return True

    def pauses(self) -> list[Pause]:
        """See Store."""
        return sorted(self._pauses.values(), key=lambda item: (item.at, item.campaign))

    def audit(self, who: str, what: str, detail: str, now: int) -> None:
        """See Store."""
        self._audits.append(Audit(now, codec.plain(who), what, codec.plain(detail)))

    def audits(self, limit: int = 100) -> list[Audit]:
        """See Store."""
        return self._audits[::-1][:limit]

    def effect(self, id: str) -> EffectRow | None:
        """See Store."""
        return self._effects.get(id)

    def find_effect(self, name: str) -> EffectRow | None:
        """See Store."""
        for column in ("handle", "provider_id"):
            found = [row for row in self._effects.values() if name and getattr(row, column) == name]
            if found:
                return max(found, key=lambda row: row.seq)
        return None

    def effects(self, state: str | None = None, contact: str | None = None, limit: int = 100) -> list[EffectRow]:
        """See Store."""
        found = [
            effect for effect in self._effects.values() if state in (None, effect.state) and contact in (None, effect.contact)
        ]
        return sorted(found, key=lambda effect: -effect.seq)[:limit]

    def attempts_of(self, effect: str) -> list[Attempt]:
        """See Store."""
        return [attempt for attempt in self._attempts if attempt.effect == effect]

    def next_effect(self) -> int | None:
        """See Store."""
        asked = (row.next_at for row in self._effects.values() if row.state == "unknown" and row.next_at is not None)
        return min((*(row.next_at for row in self._ripe()), *asked), default=None)

    # ------------------------------------------------------------ looking after it

    def trim(self, journal: int | None, outbox: int | None, limit: int) -> Removed:
        """See Store."""
        old = [row.seq for row in self._rows(0) if journal is not None and row.decision.at < journal][:limit]
        for seq in old:
            self._journal[seq - 1] = None
        gone = {
            effect.id
            for effect in self._effects.values()
            if outbox is not None and effect.state in ENDED and (effect.at if effect.settled_at is None else effect.settled_at) < outbox
        }
        return Removed(decisions=len(old), effects=len(gone), attempts=self._drop_effects(gone))

    def _drop_effects(self, ids: set[str]) -> int:
        before = len(self._attempts)
        self._attempts = [attempt for attempt in self._attempts if attempt.effect not in ids]
        self._effects = {id: effect for id, effect in self._effects.items() if id not in ids}
        return before - len(self._attempts)

    def trimmable(self, events: int | None, journal: int | None, outbox: int | None) -> Removed:
        """See Store."""
        ended = [item for item in self._effects.values() if item.state in ENDED]
        gone = {item.id for item in ended if outbox is not None and (item.at if item.settled_at is None else item.settled_at) < outbox}
        full = [row for row in self._log if getattr(row.cause, "data", None) or getattr(row.cause, "attributes", None)]
        return Removed(
            0,
            sum(row.status == "done" and row.received < (events or 0) for row in full),
            sum(row.decision.at < (journal or 0) for row in self._rows(0)),
            len(gone),
            sum(item.effect in gone for item in self._attempts),
        )

    def erase(self, contact: str, addresses: Iterable[tuple[str, str]], now: int, dry_run: bool = False) -> Removed:
        """See Store."""
        rows = [row for row in self._log if row.cause.contact == contact]
        effects = {effect.id for effect in self._effects.values() if effect.contact == contact}
        decisions = [row.seq for row in self._rows(0) if row.decision.contact == contact]
        attempts = [item for item in self._attempts if item.effect in effects]
        removed = Removed(int(contact in self._contacts), len(rows), len(decisions), len(effects), len(attempts), () if dry_run else tuple(effects))
        if dry_run:
            return removed
        if self._locked and any(self._effects[id].state == "claimed" for id in effects):
            raise StoreError("a message to this contact is being handed over at this moment", "try again in a minute", "busy")
        for row in rows:
            key = (row.source, codec.wake_id(row.cause) if isinstance(row.cause, Wake) else row.cause.id)
            self._forgotten[codec.mark("memory", "event", *key)] = ""
            self._ids.pop(key, None)
            self._log[row.seq - 1] = row._replace(cause=Wake("", 0), status="erased", reason=None)
        for channel, value in addresses:
            self._forgotten[codec.mark("memory", "address", codec.comparable(value))] = channel
        for seq in decisions:
            self._journal[seq - 1] = None
        self._drop_effects(effects)
        if contact in self._contacts:
            del self._contacts[contact]
            self._addresses = {key: owner for key, owner in self._addresses.items() if owner != contact}
            self._wakes = [(at, other) for at, other in self._wakes if other != contact]
            heapq.heapify(self._wakes)
        self.note("erasures", str(self.erasures() + 1))
        return removed

    def erasures(self) -> int:
        """See Store."""
        return int(self._notes.get("erasures", "0"))

    def scrub(self, vacuum: bool = True) -> bool:
        """See Store."""
        return True

    def backlog(self, now: int) -> Backlog:
        """See Store."""
        new = [row.received for row in self._log if row.status == "new"]
        wakes = [row.wake_at for row in self._contacts.values() if row.wake_at is not None]
        states = Counter(effect.state for effect in self._effects.values() if effect.state in WAITING_STATES)
        aside = sum(row.status == "set_aside" for row in self._log)
        return Backlog(
            min(new, default=None), sum(at <= now for at in wakes), min(wakes, default=None), self.next_effect(), len(new), aside, states
        )

    def note(self, key: str, value: str) -> None:
        """See Store."""
        self._notes[key] = value

    def noted(self, key: str) -> str | None:
        """See Store."""
        return self._notes.get(key)

    def identity(self) -> Identity:
        """See Store."""
        return Identity("memory", "memory", self._notes.get("journal") == "1")

    def mark_of(self, effect: str) -> str:
        """See Store."""
        return codec.mark("memory", "effect", effect)

    def handed_over(self, line: HandOver) -> bool:
        """See Store."""
        return any(
            effect.seq == line.seq and effect.attempts >= line.attempt and self.mark_of(effect.id) == line.mark
            for effect in self._effects.values()
        )

    def doubt(self, lines: Sequence[HandOver], now: int) -> list[EffectRow]:
        """See Store."""
        known = {self.mark_of(id): id for id in self._effects}
        doubtful = []
        for line in sorted(lines, key=lambda line: line.attempt):
            if line.mark not in known:
                self._sent[line.mark] = line
            elif self._doubt(line, known[line.mark], now):
                doubtful.append(known[line.mark])
        return [self._effects[id] for id in dict.fromkeys(doubtful)]

    def _doubt(self, line: HandOver, id: str, now: int) -> bool:
        effect = self._effects[id]
        if effect.attempts >= line.attempt:
            return False
        first = line.at if effect.first_claimed_at is None else effect.first_claimed_at
        self._effects[id] = effect._replace(
            state="unknown", detail=RESTORED, attempts=line.attempt, next_at=None, settled_at=now, claimed_at=line.at, first_claimed_at=first
        )
        return True

    def doubt_open(self, now: int, detail: str) -> int:
        """See Store."""
        found = [effect for effect in self._effects.values() if effect.state in ("planned", "ready", "retry_wait", "claimed")]
        for effect in found:
            self._effects[effect.id] = effect._replace(state="unknown", detail=detail, next_at=None, settled_at=now)
        return len(found)

    # ------------------------------------------------------------ programs

    def record_program(self, digest: str, sources: Mapping[str, str]) -> bool:
        """See Store."""
        if self._latest == digest:
            return False
        known = self._programs.get(digest)
        self._programs[digest] = Version(digest, dict(sources), known.applied_at if known else self._clock.now())
        self._latest = digest
        return True

    def programs(self) -> list[Version]:
        """See Store."""
        return list(self._programs.values())

    # ------------------------------------------------------------ the whole

    def counts(self) -> Counts:
        """See Store."""
        events = Counter(row.status for row in self._log)
        effects = Counter(effect.state for effect in self._effects.values())
        return Counts(
            len(self._contacts),
            sum(row.wake_at is not None for row in self._contacts.values()),
            sum(item is not None for item in self._journal),
            {status: events[status] for status in ("new", "done", "set_aside")},
            dict(sorted(effects.items())),
        )

    def check(self) -> list[str]:
        """See Store."""
        return []

    def quick_check(self) -> list[str]:
        """See Store."""
        return []

    def size(self) -> int:
        """See Store."""
        return 0

    def maintain(self) -> None:
        """See Store."""

    leases, mine = False, (0,)

    @contextmanager
    def run_lock(self, alone: bool = True, program: str = "") -> Iterator[None]:
        """See Store."""
        if self._locked:
            raise StoreError("another `camp run` is using this store", "wait for it to end, or stop it", "running")
        self._locked = True
        try:
            yield
        finally:
            self._locked = False

    def tend(self, leaving: bool = False) -> bool:
        """See Store."""
        return False

    def hold(self, milliseconds: int) -> bool:
        """See Store."""
        return True

    def running(self) -> bool:
        """Whether somebody runs on this store now."""
        return self._locked

    def close(self) -> None:
        """See Store."""


_REPORTED = ("accepted", "delivered", "bounced", "complained", "failed")


def _put_off(effect: EffectRow, verdict: Verdict, now: int) -> EffectRow:
    """What is not claimed: later, held, or ended."""
    detail = codec.plain(verdict.detail)
    if verdict.state == "later":
        return effect._replace(next_at=verdict.next_at, detail=detail)
    if verdict.state == "held":
        return effect._replace(state="held", detail=detail, next_at=None)
    return effect._replace(state=verdict.state, detail=detail, settled_at=now, next_at=verdict.next_at)


def _json(value: object) -> object:
    return codec.load(codec.dump(value))


def _through_json(decision: Decision) -> Decision:
    """What a database would give back."""
    primary, params, because, place = codec.load(codec.detail(decision))
    return decision._replace(
        primary=primary, params=params, because=tuple(tuple(pair) for pair in because), place=tuple(place or ())
    )
