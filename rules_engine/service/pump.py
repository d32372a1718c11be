"""The pump: new events and due wake-ups, through `advance`, into the store, one block a transaction (law 7 of the core).

Live: events in order of arrival, the log's time is the time of arrival; wake-ups fire up to the wall's time, once the log is read
to its end. Replay: everything in order of (time, wake-ups first, then seq), the log's time is when things happened, up to a given
moment. Where blocks begin and end changes nothing: a test compares block sizes, and a killed process just goes on from the last
commit.
"""

from __future__ import annotations

import heapq
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any, NamedTuple

from rules_engine.clock import Clock
from rules_engine.facts import MERGED, Event, Wake
from rules_engine.limits import MAX_CONTACT_BYTES
from rules_engine.service import faults as points
from rules_engine.service.logs import about
from rules_engine.service.refill import Refill
from rules_engine.store import codec
from rules_engine.store.port import SOURCE_ENGINE, Arrival, BadData, Block, Cause, ContactRow, Erased, LogRow, Store, StoreError

log = logging.getLogger("camp.pump")

LIVE_BLOCK = 500  # events of one transaction; at 100 the sync costs as much as the work, above 500 little is won
LIVE_MILLISECONDS = 50  # a block of slow events ends after that: the effects of its first wait no longer
REPLAY_BLOCK = 2_000  # nobody waits for a single event of a replay
CACHE_BYTES = 64 << 20  # states in memory, as JSON
_BAD = (BadData, TypeError, ValueError, OverflowError)  # what values that can't be stored raise; UnicodeError is a ValueError

LATEST = 1 << 62  # behind the seq of any row: what is emitted is the latest of its moment
Key = tuple[int, int, Any]  # (time, 0, contact) of a wake-up, (time, 1, seq) of a log row: the order of a replay


class Engine(NamedTuple):
    """What the pump needs of the engine. `refusal`: the exception that says why an event can't be processed."""

    advance: Callable[[Any, dict, Cause, int], Any]
    new_state: Callable[[str, int], dict]
    refusal: type[Exception]


def real_engine() -> Engine:
    """Camp's own."""
    from rules_engine.engine import SetAside, advance, new_state

    return Engine(advance, new_state, SetAside)


class Turn(NamedTuple):
    """What one block did. `at`: the log time reached. `decisions`: (campaign or rule, kind, action, outcome) -> count.
    `sources`: source -> events."""

    events: int = 0
    wakes: int = 0
    set_aside: int = 0
    effects: int = 0
    decisions: Counter = Counter()
    at: int = 0
    sources: Counter = Counter()


class _Held:
    """One contact while a block runs. `past`: what was applied in this block, to build the state again after a refusal."""

    __slots__ = ("past", "state", "stored", "wake_at")

    def __init__(self, row: ContactRow | None) -> None:
        self.stored = row
        self.state: dict | None = None
        self.wake_at = row.wake_at if row else None
        self.past: list[tuple[Cause, int]] = []


class Pump:
    """Runs one program over one store. Call it under the store's run lock, from one thread."""

    def __init__(
        self,
        store: Store,
        program: Any,
        engine: Engine | None = None,
        *,
        live_block: int = LIVE_BLOCK,
        replay_block: int = REPLAY_BLOCK,
        cache_bytes: int = CACHE_BYTES,
        faults: points.Faults = points.none,
    ) -> None:
        self._store, self._program, self._engine = store, program, engine or real_engine()
        self._live_block, self._replay_block, self._faults = live_block, replay_block, faults
        self._cache = _Cache(cache_bytes)
        self._cache_bytes, self._erasures = cache_bytes, store.erasures()
        self._cursor, self.at = store.position()
        self._ahead: list[LogRow] = []  # read, and left over by a block that ended early
        self._log_turn = False  # the last block was of the log: what is due by its time comes next
        self._refill = Refill(store, program) if engine is None else _no_refill
        self._single = 0  # blocks of one still to do after a block that could not be saved

    # ------------------------------------------------------------ live

    def live(self, clock: Clock) -> Turn | None:
        """One block of the log or of due wake-ups; None if there is nothing to do. Raises StoreError.

        While the log has a backlog, its time stands at the last event read, and what is due by then fires in between. The wall's
        time counts once the log is read to its end.
        """
        self._forget()
        due = self._store.due(self.at, self._limit(self._live_block)) if self._log_turn else []
        self._log_turn = False
        if due:
            return self._live_wakes([contact for _, contact in due], self.at)
        rows = self._ahead or self._read()
        if rows:
            self._log_turn = True
            return self._live_events(rows, clock)
        now = self._store.quiet_now(self._cursor)
        if now is None:  # something arrived meanwhile
            return Turn(at=self.at)
        now = max(now, self.at)
        due = self._store.due(now, self._limit(self._live_block))
        return self._live_wakes([contact for _, contact in due], now) if due else None

    def _read(self) -> list[LogRow]:
        """New rows. The cursor is asked for again: `release` may have moved it back."""
        self._cursor = self._store.position().cursor
        return self._store.read_log(self._cursor, self._limit(self._live_block))

    def _live_events(self, rows: list[LogRow], clock: Clock) -> Turn:
        self._ahead = []
        block = self._begin(row.cause.contact for row in rows)
        begun = clock.now()
        for number, row in enumerate(rows, 1):
            block.event(row, max(block.at, row.received))
            block.saved.cursor = row.seq
            if number % 16 == 0 and clock.now() - begun > LIVE_MILLISECONDS:
                break
        block.saved.cursor_was = self._cursor
        turn = self._end(block)
        if not self._single:
            self._ahead = rows[number:]
        return turn

    def _live_wakes(self, contacts: list[str], now: int) -> Turn:
        block = self._begin(contacts)
        for contact in contacts:
            block.wake(contact, now)
        return self._end(block)

    # ------------------------------------------------------------ replay

    def replay(self, until: int) -> Turn | None:
        """One block of history up to and including `until`; None if there is none left. Raises StoreError."""
        self._forget()
        limit = self._limit(self._replay_block)
        rows = self._store.read_history(until, limit)
        due = self._store.due(until, limit)
        if not rows and not due:
            self._reach(until)
            return None
        agenda: list[tuple[Key, LogRow | None]] = [((row.cause.at, 1, row.seq), row) for row in rows]
        agenda += [((at, 0, contact), None) for at, contact in due]
        agenda.sort(key=lambda item: item[0])
        # Beyond a list that is full there may be more of its kind: what comes later has to wait for the next block.
        last = min(
            ((rows[-1].cause.at, 1, rows[-1].seq) if len(rows) == limit else (until + 1, 0, "")),
            ((*due[-1][:1], 0, due[-1][1]) if len(due) == limit else (until + 1, 0, "")),
        )
        block = self._begin([item[1].cause.contact if item[1] else item[0][2] for item in agenda])
        block.crossing = {}
        for key, row in _merge(agenda, block, last):
            if row is None:
                block.wake(key[2], key[0])
            elif key in block.crossing:
                block.crossed(key)
            else:
                block.event(row, row.cause.at)
            if block.count >= limit:
                break
        return self._end(block)

    def _reach(self, until: int) -> None:
        if self.at < until:
            self._store.commit(Block(self._digest, clock=until))
            self.at = until

    # ------------------------------------------------------------ blocks

    def _forget(self) -> None:
        """After an erasure (`camp contact forget`, another process) nothing that was read before may be used: it would bring the
        contact back. What is erased from here on makes the block's commit fail."""
        erasures = self._store.erasures()
        if erasures != self._erasures:
            self._erasures, self._cache, self._ahead = erasures, _Cache(self._cache_bytes), []

    @property
    def _digest(self) -> str:
        return self._program.digest

    def _limit(self, size: int) -> int:
        return 1 if self._single else size

    def _begin(self, contacts: Iterable[str]) -> _Block:
        wanted = dict.fromkeys(contacts)
        found = {contact: row for contact in wanted if (row := self._cache.get(contact)) is not None}
        missing = [contact for contact in wanted if contact not in found]
        if missing:
            found.update(self._store.contacts(missing))
        self._faults(points.BLOCK_READ)
        return _Block(self._engine, self._program, found, wanted, self.at, self._refill, self._find)

    def _find(self, contact: str) -> ContactRow | None:
        """A contact that a block meets on its way."""
        return self._cache.get(contact) or self._store.contacts([contact]).get(contact)

    def _end(self, block: _Block) -> Turn:
        """Commits, or takes the block apart if it holds what can't be stored."""
        saved = block.saved
        try:
            block.close()
            self._faults(points.BLOCK_ADVANCED)
            saved.erasures = self._erasures
            self._store.commit(saved)
        except Erased:
            return Turn(at=self.at)  # all of it again, without that contact
        except _BAD as error:
            return self._take_apart(block, error)
        except StoreError:
            self._distrust()
            raise
        self._single = max(0, self._single - 1)
        self._cache.put(saved.states)
        for wake, _ in saved.stuck:
            self._cache.drop(wake.contact)
        self.at = max(self.at, block.at)
        if saved.cursor is not None:
            self._cursor = saved.cursor
        return block.turn()

    def _distrust(self) -> None:
        """A commit whose answer was an error may have happened all the same (a server that died while it answered): what is in memory
        counts no more."""
        self._cache = _Cache(self._cache.size)
        self._ahead = []

    def _take_apart(self, block: _Block, error: Exception) -> Turn:
        """Nothing of the block was saved. Larger than one: all of it again, one by one. One: it is set aside."""
        if block.count > 1:
            self._single = block.count
            return Turn(at=self.at)
        reason = f"what it leads to can't be stored: {type(error).__name__}: {error}"
        cause = block.first.cause if isinstance(block.first, LogRow) else block.first
        ids = about(what="event.set_aside", event=getattr(cause, "id", None), contact=getattr(cause, "contact", None))
        log.error("set aside %s: %s", getattr(cause, "id", "a wake-up"), reason, extra=ids)
        only = Block(
            self._digest, cursor=block.saved.cursor, cursor_was=self._cursor, clock=block.saved.clock, erasures=self._erasures
        )
        if isinstance(block.first, LogRow):
            only.set_aside.append((block.first.seq, reason))
        else:
            only.stuck.append((block.first, reason))
            self._cache.drop(block.first.contact)
        try:
            self._store.commit(only)
        except Erased:
            return Turn(at=self.at)
        self._single = max(0, self._single - 1)
        if only.cursor is not None:
            self._cursor = only.cursor
        return Turn(set_aside=1, at=self.at)


class _Block:
    """One block in the making: contacts held, and what will be saved."""

    def __init__(
        self,
        engine: Engine,
        program: Any,
        rows: dict[str, ContactRow],
        known: Container[str],
        at: int,
        refill: Callable[..., None],
        find: Callable[[str], ContactRow | None],
    ) -> None:
        self._refill, self._find = refill, find
        self._advance, self._new_state, self._refusal = engine
        self._program, self._rows, self._known = program, rows, known
        self._held: dict[str, _Held] = {}
        self.saved = Block(program.digest)
        self.at, self.count, self.events, self.wakes = at, 0, 0, 0
        self.sources: Counter = Counter()
        self.first: LogRow | Wake | None = None
        # In a replay: what was emitted for other contacts, by its place in history. None: the log has it next.
        self.crossing: dict[Key, LogRow] | None = None
        self._crossings = 0
        self.awake: list[Key] = []  # wake-ups asked for since the last look

    def event(self, row: LogRow, now: int) -> None:
        """One row of the log: done, or set aside."""
        if isinstance(row.cause, Wake):
            now = max(now, row.cause.at)
        self.first = self.first or row
        reason = self._apply(row.cause.contact, self._brought_up(row.cause), now)
        self.events += 1
        self.sources[row.source] += 1
        if reason is None:
            self.saved.done.append(row.seq)
        else:
            id = getattr(row.cause, "id", "timer")
            ids = about(what="event.set_aside", event=id, contact=row.cause.contact)
            log.warning("event %s of %s is set aside: %s", id, row.cause.contact, reason, extra=ids)
            self.saved.set_aside.append((row.seq, reason))

    def crossed(self, key: Key) -> None:
        """Something that this block emitted for another contact, at its turn. One that is refused goes to the log, to be set aside there."""
        assert self.crossing is not None
        cause = self.crossing.pop(key).cause
        assert not isinstance(cause, Wake)
        reason = self._apply(cause.contact, self._brought_up(cause), cause.at)
        self.events += reason is None
        self.saved.emits.append(Arrival(cause, SOURCE_ENGINE, reason is None))

    def _brought_up(self, cause: Cause) -> Cause:
        """What another contact was, as today's program asks about it: an older one may have sent it off."""
        if not isinstance(cause, Event) or cause.name != MERGED:
            return cause
        from rules_engine.engine.merge import bring_up

        return bring_up(self._program, cause, self._refill)

    def wake(self, contact: str, now: int) -> None:
        """One due wake-up. One that fails is switched off and kept in the log: it must not come back in each block for ever."""
        wake = Wake(contact, now)
        self.first = self.first or wake
        held = self._hold(contact)
        stored = held.wake_at
        reason = self._apply(contact, wake, now)
        self.wakes += 1
        if reason is not None:
            ids = about(what="wakeup.set_aside", contact=contact)
            log.warning("wake-up of %s at %d is set aside: %s", contact, now, reason, extra=ids)
            self.saved.stuck.append((wake._replace(at=stored if stored is not None else now), reason))
            held.wake_at = None

    def wake_of(self, contact: str) -> int | None:
        """When the contact wants to be woken, as of now."""
        return self._hold(contact).wake_at

    def _hold(self, contact: str) -> _Held:
        held = self._held.get(contact)
        if held is None:
            row = self._rows.get(contact)
            held = self._held[contact] = _Held(row if row is not None or contact in self._known else self._find(contact))
        return held

    def _apply(self, contact: str, cause: Cause, now: int) -> str | None:
        """Advances one contact; the reason if it can't, and then the contact is as before."""
        held = self._hold(contact)
        self.at, self.count = max(self.at, now), self.count + 1
        try:
            answer = self._advance(self._program, self._state(held, contact, now), cause, now)
        except self._refusal as error:
            held.state = None
            return str(error)
        except Exception as error:
            ids = about(what="engine.failed", event=getattr(cause, "id", None), contact=contact)
            log.exception("the engine failed on %s", getattr(cause, "name", type(cause).__name__), extra=ids)
            held.state = None
            return f"internal error of the engine: {type(error).__name__}: {error}"
        if isinstance(cause, Wake) and answer.wake_at is not None and answer.wake_at <= now:  # it would come back for ever
            held.state = None
            return "the engine asked to be woken at a moment that is past"
        held.state, held.wake_at = answer.state, answer.wake_at
        held.past.append((cause, now))
        self._keep(contact, answer)
        return None

    def _keep(self, contact: str, answer: Any) -> None:
        if answer.wake_at is not None:
            self.awake.append((answer.wake_at, 0, contact))
        self.saved.decisions += answer.decisions  # once: the real engine makes the records when they are asked for
        if answer.effects:
            self.saved.effects += answer.effects
        if answer.cancels:
            self.saved.cancels += [item._replace(after=item.at) if self.crossing is not None else item for item in answer.cancels]
        for emitted in answer.emits:
            acted = emitted.contact == contact
            if acted or self.crossing is None:
                self.saved.emits.append(Arrival(emitted, SOURCE_ENGINE, acted))
            else:
                self._crossings += 1
                self.crossing[(emitted.at, 1, LATEST + self._crossings)] = LogRow(0, SOURCE_ENGINE, emitted, self.at)

    def _state(self, held: _Held, contact: str, now: int) -> dict:
        """The contact's state, to be consumed. After a refusal it is built again from the last commit: `advance` is
        deterministic."""
        if held.state is not None:
            return held.state
        if held.stored is None:
            state = self._new_state(contact, held.past[0][1] if held.past else now)
        else:
            state = codec.load(held.stored.state)
            if held.stored.program != self._program.digest:
                self._refill(contact, state)
        for cause, then in held.past:
            state = self._advance(self._program, state, cause, then).state
        return state

    def close(self) -> None:
        """Turns what is held into rows."""
        self.saved.emits += [Arrival(row.cause, SOURCE_ENGINE) for row in (self.crossing or {}).values()]  # type: ignore[arg-type]
        digest = self._program.digest
        for contact, held in self._held.items():
            if not held.past:
                continue
            state = codec.dump(self._state(held, contact, self.at))
            if len(state) > MAX_CONTACT_BYTES:
                log.warning("the state of contact %s has %d bytes", contact, len(state), extra=about(what="contact.large", contact=contact))
            self.saved.states.append(ContactRow(contact, state, held.wake_at, digest, held.past[-1][1]))
        self.saved.clock = self.at

    def turn(self) -> Turn:
        """The block in numbers."""
        saved = self.saved
        decisions = Counter((d.campaign or d.rule, d.kind, d.action, d.outcome) for d in saved.decisions)
        aside = len(saved.set_aside) + len(saved.stuck)
        return Turn(self.events, self.wakes, aside, len(saved.effects), decisions, self.at, self.sources)


def _merge(agenda: list[tuple[Key, LogRow | None]], block: _Block, last: Key) -> Iterator[tuple[Key, LogRow | None]]:
    """The agenda up to `last`, with the wake-ups that turn up on the way, in order; without those that are stale when their turn
    comes."""
    extra: list[Key] = []
    crossings: dict[Key, LogRow] = block.crossing if block.crossing is not None else {}
    seen: set[Key] = set()
    index = 0
    while True:
        for key in [*block.awake, *(crossings.keys() - seen)]:
            heapq.heappush(extra, key)
        seen |= crossings.keys()
        block.awake.clear()
        if extra and (index >= len(agenda) or extra[0] <= agenda[index][0]):
            key = heapq.heappop(extra)
            row = crossings.get(key)
        elif index < len(agenda):
            key, row = agenda[index]
            index += 1
        else:
            return
        if key > last:
            return
        if row is not None or block.wake_of(key[2]) == key[0]:
            yield key, row


class _Cache:
    """States by contact, the latest used kept, bounded by bytes. Holds only what is committed, as JSON: a dictionary is ten times
    larger, and decoding it anew for each block makes a cached state and one read after a restart the same thing."""

    def __init__(self, size: int) -> None:
        self.size, self._used = size, 0
        self._rows: OrderedDict[str, ContactRow] = OrderedDict()

    def get(self, contact: str) -> ContactRow | None:
        row = self._rows.get(contact)
        if row is not None:
            self._rows.move_to_end(contact)
        return row

    def put(self, rows: list[ContactRow]) -> None:
        for row in rows:
            self.drop(row.contact)
            self._rows[row.contact] = row
            self._used += _weight(row)
        while self._used > self.size and self._rows:
            _, row = self._rows.popitem(last=False)
            self._used -= _weight(row)

    def drop(self, contact: str) -> None:
        row = self._rows.pop(contact, None)
        if row is not None:
            self._used -= _weight(row)


def _no_refill(contact: str, state: dict, beyond: Iterable[str] = ()) -> None:
    """For engines of tests, which have no questions about the past."""


def _weight(row: ContactRow) -> int:
    return len(row.state) + 400  # and what Python keeps around it
