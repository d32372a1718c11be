"""The embedded store: SQLite in WAL with `synchronous=FULL`. Hot tables by plain SQL on peewee's connection, the rest by
models."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import peewee

from rules_engine.clock import Clock, SystemClock
from rules_engine.store import codec
from rules_engine.store.codec import dump, load, plain
from rules_engine.store.database import Database
from rules_engine.store.lock import is_running, run_lock
from rules_engine.store.migrations import MIGRATIONS
from rules_engine.store.port import (
    DONE,
    NEW,
    SET_ASIDE,
    SOURCE_ENGINE,
    STATUSES,
    Arrival,
    Block,
    ContactRow,
    Counts,
    Erased,
    JournalRow,
    LogRow,
    Position,
    Recorded,
    StoreError,
    Version,
)
from rules_engine.store.sqlite_outbox import Outbox, effect_values
from rules_engine.store.sqlite_upkeep import Upkeep
from rules_engine.store.tables import TABLES, Program

_LOG = "seq, source, event_id, kind, name, contact, at, received, subject, data, status, reason"
_JOURNAL = "at, contact, campaign, rule, key, step, kind, action, outcome, reason, cause, detail"
_OF_KEYS = (
    "IN (SELECT value FROM json_each(?))"  # one statement for any number of keys: no limit, one entry in the statement cache
)

_ADD_EVENT = (
    "INSERT INTO event (source, event_id, kind, name, contact, at, subject, data, fingerprint, received, status) "
    "VALUES (?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (source, event_id) DO NOTHING"
)
_ADD_ADDRESS = (
    "INSERT INTO address (kind, address, contact) VALUES (?,?,?) ON CONFLICT (kind, address) DO UPDATE SET contact = excluded.contact"
)
_STICK = (
    "INSERT INTO event (source, event_id, kind, name, contact, at, received, data, fingerprint, status, reason) "
    "VALUES (?,?,'wake','',?,?,?,NULL,x'',2,?) ON CONFLICT (source, event_id) DO UPDATE SET status = 2, reason = excluded.reason"
)
_SAVE_STATE = (
    "INSERT INTO contact (id, state, wake_at, program, updated) VALUES (?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET "
    "state = excluded.state, wake_at = excluded.wake_at, program = excluded.program, updated = excluded.updated"
)
_ADD_DECISION = f"INSERT INTO decision ({_JOURNAL}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"
_ADD_EFFECT = (
    "INSERT INTO effect (id, contact, action, payload, ruleset, step, key, channel, message_class, at, expires, state, next_at, "
    "instance, exempt, handle) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO NOTHING"
)
_SET_META = "INSERT INTO meta (key, value) VALUES (?,?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"

_decision_row = operator.itemgetter(0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 13)  # Decision's fields in _JOURNAL's order, without detail
_NO_FAULTS: Callable[[str], None] = lambda point: None  # noqa: E731


class SqliteStore(Upkeep, Outbox):
    """One file. Open it once per thread. `faults` is for tests: see `Database`."""

    def __init__(
        self,
        path: str | Path,
        clock: Clock | None = None,
        *,
        create: bool = True,
        readonly: bool = False,
        faults: Callable[[str], None] = _NO_FAULTS,
        migrations: tuple[str, ...] = MIGRATIONS,
    ) -> None:
        """Opens, and upgrades an older schema. Raises StoreError."""
        self.path = Path(path)
        self._clock = clock or SystemClock()
        self._db = Database(self.path, create=create, readonly=readonly, faults=faults, migrations=migrations)
        self._numbers: dict[str, int] = {}  # program digest -> number

    # ------------------------------------------------------------ the log

    def record_events(self, arrivals: Sequence[Arrival]) -> Recorded:
        """See Store."""
        if not arrivals:
            return Recorded(0)
        with self._db.tx("record") as raw:
            if not self._has_forgotten():
                return self._append(raw, arrivals)
            places, known = self._without_forgotten(arrivals)
            done, own = self._append(raw, list(places.values())), list(places)
            return Recorded(
                done.accepted,
                tuple(sorted(known + [own[index] for index in done.duplicates])),
                tuple(own[index] for index in done.conflicts),
            )

    def _append(self, raw: Any, arrivals: Sequence[Arrival]) -> Recorded:
        """Adds what is new, and whose addresses that tells: a repeat tells nothing, and what was refused neither. The time of arrival is
        read under the write lock: in order of seq it never falls."""
        last, received = self._db.one("SELECT max(seq) FROM event") or 0, self._stamp()
        rows = [(*codec.log_values(arrival), received, DONE if arrival.acted else NEW) for arrival in arrivals]
        before = raw.total_changes
        raw.executemany(_ADD_EVENT, rows)
        done = Recorded(len(rows)) if raw.total_changes - before == len(rows) else self._repeats(rows, last)
        old = {*done.duplicates, *done.conflicts}
        told = [row for index, arrival in enumerate(arrivals) if index not in old for row in codec.addresses(arrival.cause)]
        if told:
            raw.executemany(_ADD_ADDRESS, told)
        return done

    def _stamp(self) -> int:
        return max(self._clock.now(), self._db.one("SELECT received FROM event ORDER BY seq DESC LIMIT 1") or 0)

    def _repeats(self, rows: list[tuple], last: int) -> Recorded:
        """Which rows of a batch were known before (seq up to `last`), or occur twice in it. Called in the transaction that added
        them."""
        found = self._db.rows(
            f"SELECT source, event_id, fingerprint, seq FROM event WHERE event_id {_OF_KEYS}",
            (dump([row[1] for row in rows]).decode(),),
        )
        known = {(source, id): (fingerprint, seq) for source, id, fingerprint, seq in found}
        seen: set[tuple[str, str]] = set()
        duplicates: list[int] = []
        conflicts: list[int] = []
        for index, row in enumerate(rows):
            fingerprint, seq = known[row[:2]]
            if seq <= last or row[:2] in seen:
                (duplicates if fingerprint == row[8] else conflicts).append(index)
            seen.add(row[:2])
        return Recorded(len(rows) - len(duplicates) - len(conflicts), tuple(duplicates), tuple(conflicts))

    def read_log(self, after: int, limit: int) -> list[LogRow]:
        """See Store."""
        return self._log(f"SELECT {_LOG} FROM event WHERE seq > ? AND status = 0 ORDER BY seq LIMIT ?", (after, limit))

    def read_history(self, until: int, limit: int) -> list[LogRow]:
        """See Store."""
        return self._log(
            f"SELECT {_LOG} FROM event INDEXED BY event_new WHERE status = 0 AND at <= ? ORDER BY at, seq LIMIT ?", (until, limit)
        )

    def quiet_now(self, after: int) -> int | None:
        """See Store. An empty IMMEDIATE transaction costs 20 microseconds and no disk write."""
        with self._db.tx("quiet"):
            busy = self._db.one("SELECT 1 FROM event WHERE seq > ? AND status = 0 LIMIT 1", (after,))
            return None if busy else self._stamp()

    def unread(self, limit: int) -> int:
        """See Store."""
        return self._db.one("SELECT count(*) FROM (SELECT 1 FROM event INDEXED BY event_new WHERE status = 0 LIMIT ?)", (limit,))

    def events_of(self, contact: str, limit: int = 1_000) -> list[LogRow]:
        """See Store."""
        return self._log(f"SELECT {_LOG} FROM event WHERE contact = ? ORDER BY seq DESC LIMIT ?", (contact, limit))[::-1]

    def set_aside(self, limit: int = 100) -> list[LogRow]:
        """See Store."""
        return self._log(f"SELECT {_LOG} FROM event WHERE status = 2 ORDER BY seq DESC LIMIT ?", (limit,))

    def _log(self, sql: str, parameters: tuple) -> list[LogRow]:
        return [
            LogRow(
                seq, source, codec.cause(kind, id, name, contact, at, subject, data, received), received, STATUSES[status], reason
            )
            for seq, source, id, kind, name, contact, at, received, subject, data, status, reason in self._db.rows(
                sql, parameters
            )
        ]

    def release(self, seqs: Iterable[int]) -> int:
        """See Store."""
        wanted = list(seqs)
        if not wanted:
            return 0
        with self._db.tx("release") as raw:
            released = raw.execute(
                f"UPDATE event SET status = 0, reason = NULL WHERE status = 2 AND seq {_OF_KEYS}", (dump(wanted).decode(),)
            ).rowcount
            if self._cursor() >= min(wanted):
                raw.execute(_SET_META, ("cursor", str(min(wanted) - 1)))
        return released

    def purge(self, before: int, limit: int | None = None) -> int:
        """See Store. `received` never falls, so the rows are looked at from the oldest that may still be full."""
        with self._db.tx("purge") as raw:
            start = int(self._meta("purged") or 0)
            rows = raw.execute(
                "SELECT seq FROM event WHERE seq > ? AND status = 1 AND received < ? AND data IS NOT NULL ORDER BY seq LIMIT ?",
                (start, before, -1 if limit is None else limit),
            ).fetchall()
            raw.executemany("UPDATE event SET data = NULL, subject = NULL WHERE seq = ?", rows)
            if rows:  # where to look next time; what was set aside may still become done
                aside = self._db.one("SELECT min(seq) FROM event WHERE status = 2") or rows[-1][0] + 1
                self._note(raw, "purged", str(min(rows[-1][0], aside - 1, self._cursor())))
            return len(rows)

    # ------------------------------------------------------------ contacts

    def contacts(self, ids: Iterable[str]) -> dict[str, ContactRow]:
        """See Store."""
        rows = self._db.rows(
            "SELECT contact.id, state, wake_at, digest, updated FROM contact JOIN program ON program.number = contact.program "
            f"WHERE contact.id {_OF_KEYS}",
            (dump(list(ids)).decode(),),
        )
        return {row[0]: ContactRow(*row) for row in rows}

    def contact_at(self, kind: str, address: str) -> str | None:
        """See Store."""
        rows = self._db.rows(
            "SELECT contact FROM address WHERE kind = ? AND address = ?", (kind, plain(codec.address(kind, address)))
        )
        return rows[0][0] if rows else None

    def contact_ids(self, after: str = "", limit: int = 1_000) -> list[str]:
        """See Store."""
        return [id for (id,) in self._db.rows("SELECT id FROM contact WHERE id > ? ORDER BY id LIMIT ?", (after, limit))]

    def due(self, now: int, limit: int) -> list[tuple[int, str]]:
        """See Store."""
        return self._db.rows("SELECT wake_at, id FROM contact WHERE wake_at <= ? ORDER BY wake_at, id LIMIT ?", (now, limit))

    def rouse(self, digest: str, at: int) -> int:
        """See Store."""
        with self._db.tx("rouse") as raw:
            return raw.execute(
                "UPDATE contact SET wake_at = ? WHERE (wake_at IS NULL OR wake_at > ?) AND "
                "program IS NOT (SELECT number FROM program WHERE digest = ?)",
                (at, at, digest),
            ).rowcount

    def next_wake(self) -> int | None:
        """See Store."""
        return self._db.one("SELECT min(wake_at) FROM contact WHERE wake_at IS NOT NULL")

    # ------------------------------------------------------------ one turn of the pump

    def position(self) -> Position:
        """See Store."""
        return Position(self._cursor(), int(self._meta("clock") or 0))

    def _cursor(self) -> int:
        return int(self._meta("cursor") or 0)

    def _meta(self, key: str) -> str | None:
        return self._db.one("SELECT value FROM meta WHERE key = ?", (key,))

    def commit(self, block: Block) -> None:
        """See Store."""
        # Rows are made before the lock is taken, so that others wait for the writing only.
        decisions = [(*_decision_row(decision), codec.detail(decision)) for decision in block.decisions]
        effects = [effect_values(effect) for effect in block.effects]
        with self._db.tx("pump") as raw:
            if block.erasures is not None and self.erasures() != block.erasures:
                raise Erased
            self._stick(raw, block)  # before the states: a later event of the same block may have set a new wake-up
            if block.states:
                number = self._program(raw, block.program)
                raw.executemany(
                    _SAVE_STATE,
                    [
                        (
                            row.contact,
                            row.state,
                            row.wake_at,
                            number if row.program == block.program else self._program(raw, row.program),
                            row.updated,
                        )
                        for row in block.states
                    ],
                )
            self._mark(raw, block)
            if decisions:
                raw.executemany(_ADD_DECISION, decisions)
            if effects:
                raw.executemany(_ADD_EFFECT, effects)
                self._doubt_new(raw, block.effects)
            if block.cancels:
                self._cancel(raw, block.cancels)
            if block.emits:
                self._append(raw, block.emits)
            if block.cursor is not None and self._cursor() >= block.cursor_was:
                raw.execute(_SET_META, ("cursor", str(block.cursor)))
            if block.clock is not None:
                raw.execute(_SET_META, ("clock", str(block.clock)))
        if block.states:
            self._numbers[block.program] = number

    def _mark(self, raw: Any, block: Block) -> None:
        """Log rows that have acted or were set aside."""
        if block.done:
            raw.execute(f"UPDATE event SET status = 1 WHERE seq {_OF_KEYS}", (dump(block.done).decode(),))
        if block.set_aside:
            raw.executemany(
                "UPDATE event SET status = 2, reason = ? WHERE seq = ?", [(plain(reason), seq) for seq, reason in block.set_aside]
            )

    def _stick(self, raw: Any, block: Block) -> None:
        """Wake-ups that failed: kept in the log, and off."""
        for wake, reason in block.stuck:
            raw.execute(_STICK, (SOURCE_ENGINE, codec.wake_id(wake), wake.contact, wake.at, self._stamp(), plain(reason)))
            raw.execute("UPDATE contact SET wake_at = NULL WHERE id = ?", (wake.contact,))

    def _program(self, raw: Any, digest: str) -> int:
        """The number of a program; a digest that was never applied (a test's) gets one without sources."""
        number = self._numbers.get(digest)
        if number is None:
            raw.execute(
                "INSERT INTO program (digest, sources, applied_at) VALUES (?,?,?) ON CONFLICT (digest) DO NOTHING",
                (digest, b"{}", 0),
            )
            # Not remembered here: the transaction may still fail. `commit` remembers what it has seen committed.
            number = raw.execute("SELECT number FROM program WHERE digest = ?", (digest,)).fetchone()[0]
        return number

    # ------------------------------------------------------------ the journal

    def journal_of(self, contact: str, limit: int = 10_000) -> list[JournalRow]:
        """See Store."""
        return self._journal("WHERE contact = ? ORDER BY seq DESC LIMIT ?", (contact, limit))[::-1]

    def journal(self, after: int = 0, limit: int = 1_000) -> list[JournalRow]:
        """See Store."""
        return self._journal("WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit))

    def _journal(self, clause: str, parameters: tuple) -> list[JournalRow]:
        return [
            JournalRow(row[0], codec.decision(row[1:]))
            for row in self._db.rows(f"SELECT seq, {_JOURNAL} FROM decision {clause}", parameters)
        ]

    # ------------------------------------------------------------ programs

    def record_program(self, digest: str, sources: Mapping[str, str]) -> bool:
        """See Store."""
        with self._db.tx("program") as raw, self._db.models(TABLES):
            if self._meta("latest") == digest:
                return False
            Program.insert(digest=digest, sources=dump(dict(sources)), applied_at=self._clock.now()).on_conflict(
                conflict_target=[Program.digest], update={Program.sources: peewee.EXCLUDED.sources}
            ).execute()
            raw.execute(_SET_META, ("latest", digest))
        return True

    def programs(self) -> list[Version]:
        """See Store."""
        with self._db.models(TABLES):
            query = Program.select(Program.digest, Program.sources, Program.applied_at).order_by(Program.number).tuples()
            return [Version(digest, load(bytes(sources)), applied_at) for digest, sources, applied_at in self._db.read(lambda: list(query))]

    # ------------------------------------------------------------ the whole

    def counts(self) -> Counts:
        """See Store."""
        return self.count(self._db.one, self._db.rows)

    @staticmethod
    def count(one: Callable[[str], Any], rows: Callable[[str], list[tuple]]) -> Counts:
        """The numbers of any connection to such a file."""
        aside, total = one("SELECT count(*) FROM event WHERE status = 2"), one("SELECT count(*) FROM event")
        new = one("SELECT count(*) FROM event INDEXED BY event_new WHERE status = 0")
        return Counts(
            one("SELECT count(*) FROM contact"),
            one("SELECT count(*) FROM contact WHERE wake_at IS NOT NULL"),
            one("SELECT count(*) FROM decision"),
            {"new": new, "done": total - new - aside, "set_aside": aside},
            dict(rows("SELECT state, count(*) FROM effect GROUP BY state ORDER BY state")),
        )

    def check(self) -> list[str]:
        """See Store."""
        said = self._db.check()
        if not said and self._db.one("SELECT 1 FROM event WHERE status = 0 AND seq <= ?", (self._cursor(),)):
            said.append("the log has new rows before its cursor")
        return said

    def quick_check(self) -> list[str]:
        """See Store."""
        try:
            return [row[0] for row in self._db.rows("PRAGMA quick_check(5)") if row[0] != "ok"]
        except StoreError as error:
            return [error.message]

    def size(self) -> int:
        """See Store."""
        return self.path.stat().st_size

    def maintain(self) -> None:
        """See Store."""
        self._db.maintain()

    leases, mine = False, (0,)

    def run_lock(self, alone: bool = True, program: str = "") -> AbstractContextManager[None]:
        """See Store."""
        return run_lock(self.path)

    def tend(self, leaving: bool = False) -> bool:
        """See Store."""
        return False

    def hold(self, milliseconds: int) -> bool:
        """See Store."""
        return True

    def running(self) -> bool:
        """Whether some process runs on this database now."""
        return is_running(self.path)

    def close(self) -> None:
        """See Store."""
        self._db.close()


assert (NEW, DONE, SET_ASIDE) == (0, 1, 2), "the SQL above says so in figures"
