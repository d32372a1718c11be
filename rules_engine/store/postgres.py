"""The server store: PostgreSQL through psycopg 3 (peewee holds the connection), for several workers on one database.

Appends. A serial number is no safe cursor with several producers: a lower number may become visible later (law 8). One lock for all appends
(`APPEND_LOCK`, held to the end of the transaction) makes the order of seq the order in which rows become visible, and `received` never
fall in it: so the log's time is one for all shards, and a worker's shards are one log. A lock for each shard would not be cheaper, because a
batch of 500 meets nearly all of them. What an engine emits for the contact itself has acted already; nobody reads it as new, and it needs no lock.

Hot statements take arrays (`unnest`), and those of a block are sent one behind the other (`postgres_pipeline`): a block is two round trips,
one for all it changes and one for the commit, whatever it holds. What may stop it (the fence, an erasure, an error) is looked at in between.
COPY would be a little faster, but a process that is stopped in the middle of one holds its locks for ever; no time-out of the server counts
there.

Each verb looks at the shards of the store's lease only, or at all of them without one; see `postgres_leases`.
"""

from __future__ import annotations

import operator
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rules_engine.clock import Clock
from rules_engine.decisions import Decision
from rules_engine.store import codec
from rules_engine.store.codec import dump, load, plain
from rules_engine.store.port import (
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
    Version,
)
from rules_engine.store.postgres_database import APPEND_LOCK, JOURNAL_LOCK, STATEMENT_MS, PostgresDatabase
from rules_engine.store.postgres_leases import Leases
from rules_engine.store.postgres_outbox import PostgresOutbox
from rules_engine.store.postgres_pipeline import Bigints, Bytes, Smallints, Texts, columns
from rules_engine.store.postgres_schema import MIGRATIONS, SHARDS
from rules_engine.store.postgres_upkeep import ERASURES, PostgresUpkeep, erasures_in
from rules_engine.store.tables import TABLES, Program

_LOG = "event.seq, source, event_id, kind, name, event.contact, event.at, received, subject, data"
_JOURNAL = "at, contact, campaign, rule, key, step, kind, action, outcome, reason, cause, detail"
_STATUS = "CASE WHEN pending.seq IS NOT NULL THEN 0 WHEN aside.seq IS NOT NULL THEN 2 ELSE 1 END, aside.reason"
_WHOLE_LOG = f"SELECT {_LOG}, {_STATUS} FROM event LEFT JOIN pending ON pending.seq = event.seq LEFT JOIN aside ON aside.seq = event.seq"
_NEW = f"SELECT {_LOG}, 0, NULL FROM pending JOIN event ON event.seq = pending.seq"
_SERVER_MS = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_STAMP = f"(SELECT greatest(coalesce(%s::bigint, {_SERVER_MS}), (SELECT received FROM event ORDER BY seq DESC LIMIT 1)))"
_LOCK = f"SELECT pg_advisory_xact_lock(%s), set_config('statement_timeout', '{STATEMENT_MS}', true)"
_LOCK_SHARED = f"SELECT pg_advisory_xact_lock_shared(%s), set_config('statement_timeout', '{STATEMENT_MS}', true)"

_APPEND = (
    f"WITH stamp AS MATERIALIZED (SELECT {_STAMP} AS now), "
    "added AS (INSERT INTO event (shard, source, event_id, kind, name, contact, at, subject, data, fingerprint, received) "
    "SELECT shard, source, event_id, kind, name, contact, at, subject, data, fingerprint, stamp.now FROM stamp, "
    "unnest(%s::smallint[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::bigint[], %s::text[], %s::bytea[], %s::bytea[]) "
    "WITH ORDINALITY AS row (shard, source, event_id, kind, name, contact, at, subject, data, fingerprint, n) ORDER BY n "
    "ON CONFLICT (source, event_id) DO NOTHING RETURNING seq, shard, contact, at, source, event_id), "
    "waiting AS (INSERT INTO pending SELECT seq, shard, contact, at FROM added WHERE %s)"
)
_TELL = (  # whose addresses are: what was known before tells nothing
    ", told AS (INSERT INTO address (kind, address, contact) SELECT DISTINCT ON (kind, address) kind, address, row.contact FROM added JOIN "
    "unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[]) WITH ORDINALITY AS row (source, event_id, kind, address, contact, n) "
    "USING (source, event_id) ORDER BY kind, address, n DESC ON CONFLICT (kind, address) DO UPDATE SET contact = excluded.contact)"
)
_COUNT = " SELECT count(*), min(seq) FROM added"
_ADD_EVENTS, _ADD_EVENTS_AND_ADDRESSES = _APPEND + _COUNT, _APPEND + _TELL + _COUNT
_STICK = (
    "INSERT INTO event (shard, source, event_id, kind, name, contact, at, received, data, fingerprint) "
    f"VALUES (%s, %s, %s, 'wake', '', %s, %s, {_STAMP}, NULL, '') "
    "ON CONFLICT (source, event_id) DO UPDATE SET kind = excluded.kind RETURNING seq"
)
_SET_ASIDE = (
    "INSERT INTO aside SELECT * FROM unnest(%s::bigint[], %s::text[]) ON CONFLICT (seq) DO UPDATE SET reason = excluded.reason"
)
_SAVE_STATES = (
    "INSERT INTO contact (id, shard, state, wake_at, program, updated) "
    "SELECT * FROM unnest(%s::text[], %s::smallint[], %s::bytea[], %s::bigint[], %s::bigint[], %s::bigint[]) "
    "ON CONFLICT (id) DO UPDATE SET state = excluded.state, wake_at = excluded.wake_at, program = excluded.program, "
    "updated = excluded.updated"
)
_ADD_DECISIONS = (
    "INSERT INTO decision (at, contact, campaign, rule, key, step, kind, action, outcome, reason, cause, detail) "
    "SELECT at, contact, campaign, rule, key, step, kind, action, outcome, reason, cause, detail FROM "
    "unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], "
    "%s::text[], %s::bytea[]) WITH ORDINALITY "
    "AS row (at, contact, campaign, rule, key, step, kind, action, outcome, reason, cause, detail, n) ORDER BY n"
)
_EVENT_COLUMNS = (Smallints, Texts, Texts, Texts, Texts, Texts, Bigints, Texts, Bytes, Bytes)
_TOLD_COLUMNS = (Texts, Texts, Texts, Texts, Texts)
_DECISION_COLUMNS = (Bigints, Texts, Texts, Texts, Texts, Texts, Texts, Texts, Texts, Texts, Texts, Bytes)
_SET_META = "INSERT INTO meta (key, value) VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value"

_decision_row = operator.itemgetter(0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 13)  # Decision's fields in _JOURNAL's order, without detail
FAR = 10_000  # rows that a cursor may stay behind the end of the log
_NO_FAULTS: Callable[[str], None] = lambda point: None  # noqa: E731


class PostgresStore(Leases, PostgresUpkeep, PostgresOutbox):
    """One connection, for one thread. Without a clock, the server's clock stamps `received`; with one (tests), that."""

    def __init__(
        self,
        url: str,
        clock: Clock | None = None,
        *,
        create: bool = True,
        readonly: bool = False,
        faults: Callable[[str], None] = _NO_FAULTS,
        migrations: tuple[str, ...] = MIGRATIONS,
        unsafe: bool = False,
        shards: int = SHARDS,
    ) -> None:
        """Opens, and upgrades an older schema. shards: of a new database. Raises StoreError."""
        super().__init__()
        self._given = clock
        self._db = PostgresDatabase(
            url, create=create, readonly=readonly, faults=faults, migrations=migrations, unsafe=unsafe, shards=shards
        )
        self.clock: Clock = clock or self._db.clock
        self._all = list(range(int(self._meta("shards") or SHARDS)))
        self._numbers: dict[str, int] = {}  # program digest -> number
        self._forgetful = False  # whether contacts were erased, as far as this store knows

    @property
    def _shards(self) -> Bigints:
        return Bigints(self.mine)

    def shard_of(self, contact: str) -> int:
        """CRC-32 of the id, modulo the number of shards: the same in each process, and cheap."""
        return zlib.crc32(contact.encode()) % len(self._all)

    # ------------------------------------------------------------ the log

    def record_events(self, arrivals: Sequence[Arrival]) -> Recorded:
        """See Store. If the connection is lost while it commits, it is told again, and what the first try saved counts as duplicates."""
        if not arrivals:
            return Recorded(0)
        try:
            return self._db.run("record", lambda cursor: self._record(cursor, arrivals), ahead=True)
        except _Forgotten:  # somebody was erased since this store was opened: from now on it is asked first
            self._forgetful = True
            return self._db.run("record", lambda cursor: self._record(cursor, arrivals), ahead=True)

    def _record(self, cursor: Any, arrivals: Sequence[Arrival]) -> Recorded:
        if not self._forgetful:
            recorded = self._append(cursor, arrivals)
            forgotten = cursor.execute("SELECT 1 FROM forgotten LIMIT 1")
            if forgotten.fetchone():
                raise _Forgotten
            return recorded()
        cursor.execute(_LOCK, (APPEND_LOCK,))
        places, known = self._without_forgotten(cursor, arrivals)
        done, own = self._append(cursor, list(places.values()))() if places else Recorded(0), list(places)
        return Recorded(
            done.accepted, tuple(sorted(known + [own[index] for index in done.duplicates])), tuple(own[index] for index in done.conflicts)
        )

    def _append(self, cursor: Any, arrivals: Sequence[Arrival]) -> Callable[[], Recorded]:
        """Adds what is new; who wants to know what became of it calls the answer, in the same transaction. Last in its transaction: everybody
        who appends waits for its end."""
        acted, fresh = [arrival for arrival in arrivals if arrival.acted], [arrival for arrival in arrivals if not arrival.acted]
        rows, told = [self._event_row(arrival) for arrival in fresh], _told(fresh)  # made before the lock is taken
        if acted:
            self._add(cursor, [self._event_row(arrival) for arrival in acted], _told(acted), False)
        if not fresh:
            return lambda: Recorded(len(acted))
        cursor.execute(_LOCK, (APPEND_LOCK,))
        reply = self._add(cursor, rows, told, True)

        def recorded() -> Recorded:
            added, first = reply.fetchone()
            return Recorded(len(arrivals)) if acted or added == len(rows) else self._repeats(cursor, rows, first)

        return recorded

    def _add(self, cursor: Any, rows: list[tuple], told: list[tuple], new: bool) -> Any:
        now = self._given.now() if self._given is not None else None
        values = (now, *columns(_EVENT_COLUMNS, rows), new)
        if not told:
            return cursor.execute(_ADD_EVENTS, values)
        return cursor.execute(_ADD_EVENTS_AND_ADDRESSES, (*values, *columns(_TOLD_COLUMNS, told)))

    def _event_row(self, arrival: Arrival) -> tuple:
        values = codec.log_values(arrival)
        return self.shard_of(arrival.cause.contact), *values

    def _repeats(self, cursor: Any, rows: list[tuple], first: int | None) -> Recorded:
        """Which rows of a batch were known before (seq under `first`), or occur twice in it."""
        found = cursor.execute(
            "SELECT source, event_id, fingerprint, seq FROM event WHERE event_id = ANY(%s)", (Texts(row[2] for row in rows),)
        ).fetchall()
        known = {(source, id): (fingerprint, seq) for source, id, fingerprint, seq in found}
        seen: set[tuple[str, str]] = set()
        duplicates: list[int] = []
        conflicts: list[int] = []
        for index, row in enumerate(rows):
            fingerprint, seq = known[row[1:3]]
            if first is None or seq < first or row[1:3] in seen:
                (duplicates if fingerprint == row[9] else conflicts).append(index)
            seen.add(row[1:3])
        return Recorded(len(rows) - len(duplicates) - len(conflicts), tuple(duplicates), tuple(conflicts))

    def read_log(self, after: int, limit: int) -> list[LogRow]:
        """See Store."""
        return self._log(
            f"{_NEW} WHERE pending.seq > %s AND pending.shard = ANY(%s) ORDER BY pending.seq LIMIT %s", (after, self._shards, limit)
        )

    def read_history(self, until: int, limit: int) -> list[LogRow]:
        """See Store."""
        return self._log(
            f"{_NEW} WHERE pending.at <= %s AND pending.shard = ANY(%s) ORDER BY pending.at, pending.seq LIMIT %s", (until, self._shards, limit)
        )

    def quiet_now(self, after: int) -> int | None:
        """See Store. The lock waits for whoever is appending. A cursor far behind the log's end, because all that follows is others', is
        moved up."""
        if not self.mine:
            return None

        def look(cursor: Any) -> tuple[int | None, int]:
            cursor.execute(_LOCK_SHARED, (APPEND_LOCK,))
            news = cursor.execute("SELECT 1 FROM pending WHERE seq > %s AND shard = ANY(%s) LIMIT 1", (after, self._shards))
            now = self._given.now() if self._given is not None else None
            reached = cursor.execute(f"SELECT {_STAMP}, (SELECT max(seq) FROM event)", (now,))
            return (None, 0) if news.fetchone() else reached.fetchone()

        now, last = self._db.run("quiet", look, ahead=True)
        if now is not None and last is not None and last - after > FAR and self._lease is not None:
            self._write("skip", lambda cursor: None, cursor=last, cursor_was=after)
        return now

    def unread(self, limit: int) -> int:
        """See Store. Of all shards."""
        return self._db.one("SELECT count(*) FROM (SELECT 1 FROM pending LIMIT %s) AS counted", (limit,))

    def events_of(self, contact: str, limit: int = 1_000) -> list[LogRow]:
        """See Store."""
        return self._log(f"{_WHOLE_LOG} WHERE event.contact = %s ORDER BY event.seq DESC LIMIT %s", (contact, limit))[::-1]

    def set_aside(self, limit: int = 100) -> list[LogRow]:
        """See Store."""
        return self._log(
            f"SELECT {_LOG}, 2, reason FROM aside JOIN event ON event.seq = aside.seq ORDER BY aside.seq DESC LIMIT %s", (limit,)
        )

    def _log(self, sql: str, parameters: tuple) -> list[LogRow]:
        return [
            LogRow(
                seq, source, codec.cause(kind, id, name, contact, at, subject, data, received), received, STATUSES[status], reason
            )
            for seq, source, id, kind, name, contact, at, received, subject, data, status, reason in self._db.rows(sql, parameters)
        ]

    def release(self, seqs: Iterable[int]) -> int:
        """See Store."""
        wanted = list(seqs)
        if not wanted:
            return 0

        def release(cursor: Any) -> int:
            released = [seq for (seq,) in cursor.execute("DELETE FROM aside WHERE seq = ANY(%s) RETURNING seq", (wanted,)).fetchall()]
            if released:
                for table in ("shard", "worker"):
                    cursor.execute(f"UPDATE {table} SET cursor = least(cursor, %s)", (min(released) - 1,))
                cursor.execute(_LOCK, (APPEND_LOCK,))
                cursor.execute("INSERT INTO pending SELECT seq, shard, contact, at FROM event WHERE seq = ANY(%s)", (released,))
            return len(released)

        return self._db.run("release", release)

    # ------------------------------------------------------------ contacts

    def contacts(self, ids: Iterable[str]) -> dict[str, ContactRow]:
        """See Store."""
        rows = self._db.rows(
            "SELECT contact.id, state, wake_at, digest, updated FROM contact JOIN program ON program.number = contact.program "
            "WHERE contact.id = ANY(%s)",
            (Texts(ids),),
        )
        return {row[0]: ContactRow(*row) for row in rows}

    def contact_at(self, kind: str, address: str) -> str | None:
        """See Store."""
        return self._db.one("SELECT contact FROM address WHERE kind = %s AND address = %s", (kind, plain(codec.address(kind, address))))

    def contact_ids(self, after: str = "", limit: int = 1_000) -> list[str]:
        """See Store."""
        return [id for (id,) in self._db.rows("SELECT id FROM contact WHERE id > %s ORDER BY id LIMIT %s", (after, limit))]

    def due(self, now: int, limit: int) -> list[tuple[int, str]]:
        """See Store."""
        return self._db.rows(
            "SELECT wake_at, id FROM contact WHERE wake_at <= %s AND shard = ANY(%s) ORDER BY wake_at, id LIMIT %s", (now, self._shards, limit)
        )

    def rouse(self, digest: str, at: int) -> int:
        """See Store."""
        return self._db.run(
            "rouse",
            lambda cursor: cursor.execute(
                "UPDATE contact SET wake_at = %s WHERE program = ANY(ARRAY(SELECT number FROM program WHERE digest <> %s)) "
                "AND shard = ANY(%s) AND (wake_at IS NULL OR wake_at > %s)",
                (at, digest, self.mine, at),
            ).rowcount,
        )

    def next_wake(self) -> int | None:
        """See Store."""
        return self._db.one(
            "SELECT wake_at FROM contact WHERE wake_at IS NOT NULL AND shard = ANY(%s) ORDER BY wake_at, id LIMIT 1", (self.mine,)
        )

    # ------------------------------------------------------------ one turn of the pump

    def position(self) -> Position:
        """See Store."""
        if self._lease is None:
            (row,) = self._db.rows("SELECT min(cursor), min(clock) FROM shard")
            return Position(*row)
        rows = self._db.rows("SELECT cursor, clock FROM worker WHERE id = %s", (self._lease.worker,))
        return Position(*rows[0]) if rows else Position(0, 0)

    def _cursor(self) -> int:
        return self.position().cursor

    def _meta(self, key: str) -> str | None:
        return self._db.one("SELECT value FROM meta WHERE key = %s", (key,))

    def commit(self, block: Block) -> None:
        """See Store."""
        states = {row.contact: row for row in block.states}

        def save(cursor: Any) -> dict[str, int]:
            numbers: dict[str, int] = {}
            cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", (JOURNAL_LOCK,))
            erasures = cursor.execute(ERASURES) if block.erasures is not None else None
            self._stick(cursor, block)  # before the states: a later event of the same block may have set a new wake-up
            if states:
                numbers = {digest: self._program(cursor, digest) for digest in {row.program for row in states.values()}}
                self._save(cursor, list(states.values()), numbers)
            self._mark(cursor, block)
            if block.decisions:
                cursor.execute(_ADD_DECISIONS, columns(_DECISION_COLUMNS, map(_decision_values, block.decisions)))
            doubtful = self._add_effects(cursor, block.effects) if block.effects else None
            if block.cancels:
                self._cancel(cursor, block.cancels)
            if block.emits:
                self._append(cursor, block.emits)
            if erasures is not None and erasures_in(erasures) != block.erasures:
                raise Erased
            if doubtful is not None and doubtful.fetchone():
                self._doubt_new(cursor, block.effects)
            return numbers

        self._numbers.update(self._write("pump", save, cursor=block.cursor, cursor_was=block.cursor_was, clock=block.clock))

    def _save(self, cursor: Any, rows: list[ContactRow], numbers: Mapping[str, int]) -> None:
        cursor.execute(
            _SAVE_STATES,
            (
                Texts(row.contact for row in rows),
                Smallints(self.shard_of(row.contact) for row in rows),
                Bytes(row.state for row in rows),
                Bigints(row.wake_at for row in rows),
                Bigints(numbers[row.program] for row in rows),
                Bigints(row.updated for row in rows),
            ),
        )

    def _mark(self, cursor: Any, block: Block) -> None:
        """Log rows that have acted or were set aside."""
        gone = block.done + [seq for seq, _ in block.set_aside]
        if gone:
            cursor.execute("DELETE FROM pending WHERE seq = ANY(%s)", (Bigints(gone),))
        if block.set_aside:
            cursor.execute(_SET_ASIDE, columns((Bigints, Texts), [(seq, plain(reason)) for seq, reason in block.set_aside]))

    def _stick(self, cursor: Any, block: Block) -> None:
        """Wake-ups that failed: kept in the log, and off."""
        now = self._given.now() if self._given is not None else None
        for wake, reason in block.stuck:
            values = (self.shard_of(wake.contact), SOURCE_ENGINE, codec.wake_id(wake), wake.contact, wake.at, now)
            seq = cursor.execute(_STICK, values).fetchone()[0]
            cursor.execute("DELETE FROM pending WHERE seq = %s", (seq,))
            cursor.execute(_SET_ASIDE, (Bigints([seq]), Texts([plain(reason)])))
            cursor.execute("UPDATE contact SET wake_at = NULL WHERE id = %s", (wake.contact,))

    def _program(self, cursor: Any, digest: str) -> int:
        """The number of a program; a digest that was never applied (a test's) gets one without sources."""
        number = self._numbers.get(digest)
        if number is None:
            cursor.execute(
                "INSERT INTO program (digest, sources, applied_at) VALUES (%s, %s, 0) ON CONFLICT (digest) DO NOTHING", (digest, b"{}")
            )
            # Not remembered here: the transaction may still fail. `commit` remembers what it has seen committed.
            number = cursor.execute("SELECT number FROM program WHERE digest = %s", (digest,)).fetchone()[0]
        return number

    # ------------------------------------------------------------ the journal

    def journal_of(self, contact: str, limit: int = 10_000) -> list[JournalRow]:
        """See Store."""
        sql = f"SELECT seq, {_JOURNAL} FROM decision WHERE contact = %s ORDER BY seq DESC LIMIT %s"
        return self._journal(self._db.rows(sql, (contact, limit)))[::-1]

    def journal(self, after: int = 0, limit: int = 1_000) -> list[JournalRow]:
        """See Store. Whoever adds decisions holds the lock's other side: none with a lower number can turn up later."""

        def read() -> list[tuple]:
            with self._db.raw.transaction():
                self._db.raw.execute("SELECT pg_advisory_xact_lock(%s)", (JOURNAL_LOCK,))
                return self._db.raw.execute(f"SELECT seq, {_JOURNAL} FROM decision WHERE seq > %s ORDER BY seq LIMIT %s", (after, limit)).fetchall()

        return self._journal(self._db.read(read))

    @staticmethod
    def _journal(rows: list[tuple]) -> list[JournalRow]:
        return [JournalRow(row[0], codec.decision(row[1:])) for row in rows]

    # ------------------------------------------------------------ programs

    def record_program(self, digest: str, sources: Mapping[str, str]) -> bool:
        """See Store."""

        def record(cursor: Any) -> bool:
            if cursor.execute("SELECT 1 FROM meta WHERE key = 'latest' AND value = %s FOR UPDATE", (digest,)).fetchone():
                return False
            cursor.execute(
                "INSERT INTO program (digest, sources, applied_at) VALUES (%s, %s, %s) "
                "ON CONFLICT (digest) DO UPDATE SET sources = excluded.sources",
                (digest, dump(dict(sources)), self.clock.now()),
            )
            cursor.execute(_SET_META, ("latest", digest))
            return True

        return self._db.run("program", record)

    def programs(self) -> list[Version]:
        """See Store."""
        with self._db.models(TABLES):
            query = Program.select(Program.digest, Program.sources, Program.applied_at).order_by(Program.number).tuples()
            return [Version(digest, load(bytes(sources)), applied_at) for digest, sources, applied_at in self._db.read(lambda: list(query))]

    # ------------------------------------------------------------ the whole

    def counts(self) -> Counts:
        """See Store."""
        one, rows = self._db.one, self._db.rows
        new, aside, total = one("SELECT count(*) FROM pending"), one("SELECT count(*) FROM aside"), one("SELECT count(*) FROM event")
        return Counts(
            one("SELECT count(*) FROM contact"),
            one("SELECT count(*) FROM contact WHERE wake_at IS NOT NULL"),
            one("SELECT count(*) FROM decision"),
            {"new": new, "done": total - new - aside, "set_aside": aside},
            dict(rows("SELECT state, count(*) FROM effect GROUP BY state ORDER BY state")),
        )

    def check(self) -> list[str]:
        """See Store. PostgreSQL checks its own pages (`pg_amcheck`); here the tables are held against each other."""
        checks = {
            "an event that is new is not in the log": "SELECT 1 FROM pending WHERE NOT EXISTS (SELECT 1 FROM event WHERE event.seq = pending.seq)",
            "an event that was set aside is not in the log": "SELECT 1 FROM aside WHERE NOT EXISTS (SELECT 1 FROM event WHERE event.seq = aside.seq)",
            "an event is new and set aside at once": "SELECT 1 FROM pending JOIN aside ON aside.seq = pending.seq",
            "the log has new rows before its cursor": "SELECT 1 FROM pending JOIN shard ON shard.number = pending.shard "
            "LEFT JOIN worker ON worker.id = shard.worker WHERE pending.seq <= coalesce(worker.cursor, shard.cursor)",
            "a shard is missing, or belongs to a worker that is not there": "SELECT 1 FROM generate_series(0, %s::int) AS wanted "
            "LEFT JOIN shard ON shard.number = wanted LEFT JOIN worker ON worker.id = shard.worker "
            "WHERE shard.number IS NULL OR (shard.worker IS NOT NULL AND worker.id IS NULL)",
        }
        return [words for words, sql in checks.items() if self._db.rows(f"{sql} LIMIT 1", (len(self._all) - 1,) if "%s" in sql else ())]

    def quick_check(self) -> list[str]:
        """See Store."""
        return self.check()

    def size(self) -> int:
        """See Store. The tables of Camp, with their indexes."""
        return self._db.one(
            "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class "
            "WHERE relnamespace = 'camp'::regnamespace AND relkind = 'r'"
        )

    def maintain(self) -> None:
        """See Store. Nothing is left to do: the server's autovacuum does it."""

    def close(self) -> None:
        """See Store."""
        self._db.close()


class _Forgotten(Exception):
    """Ends a transaction that has to ask first whom it must not take back."""


def _told(arrivals: Sequence[Arrival]) -> list[tuple]:
    """(source, event_id, kind, address, contact) of each address that they tell, if they are new: of several under one id the first is."""
    first: dict[tuple[str, str], Arrival] = {}
    for arrival in arrivals:
        first.setdefault((arrival.source, arrival.cause.id), arrival)
    return [(*key, *row) for key, arrival in first.items() for row in codec.addresses(arrival.cause)]


def _decision_values(decision: Decision) -> tuple:
    row = _decision_row(decision)
    return (*row[:9], plain(row[9]), row[10], codec.detail(decision))
