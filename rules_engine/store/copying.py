"""A SQLite database into an empty PostgreSQL one: every table, in one transaction, with the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rules_engine.store.codec import plain
from rules_engine.store.port import NEW, SET_ASIDE, BadData, StoreError
from rules_engine.store.postgres import PostgresStore
from rules_engine.store.postgres_database import APPEND_LOCK, MEMBER_LOCK, shown
from rules_engine.store.sqlite import SqliteStore

BATCH = 5_000  # rows fetched at once

TABLES = {
    "program": "number digest sources applied_at",
    "contact": "id state wake_at program updated",
    "event": "seq source event_id kind name contact at received subject data fingerprint",
    "decision": "seq contact at campaign rule key step kind action outcome reason cause detail",
    "effect": "seq id contact action payload ruleset step key channel message_class at expires state attempts next_at provider_id detail "
    "claimed_at first_claimed_at settled_at instance exempt handle",
    "attempt": "seq effect number claimed_at settled_at state detail",
    "pause": "campaign at reason",
    "throttle": "name slot used",
    "audit": "seq at who what detail",
    "address": "kind address contact",
    "forgotten": "mark channel at",
    "sent": "mark attempt at",
}
"""Table -> columns that both databases have under the same names."""
SHARDED = ("contact", "event", "effect")
KEPT = ("cursor", "clock", "application", "version", "shards")  # of `meta`: what the server's database has of its own


def copy_to(source: Path, url: str, progress: Callable[[str, int], None] = lambda table, rows: None, unsafe: bool = False) -> dict[str, int]:
    """Copies; table -> rows. Refuses while somebody runs on either, and a database that is not empty. Raises StoreError."""
    store = SqliteStore(source, create=False)
    try:
        with store.run_lock():
            problems = store.check()
            if problems:
                raise StoreError(f"the database {source} is not whole: {problems[0]}", "restore a backup first", "corrupt")
            target = PostgresStore(url, unsafe=unsafe)
            try:
                return _fill(store, target, progress)
            finally:
                target.close()
    finally:
        store.close()


def _fill(store: SqliteStore, target: PostgresStore, progress: Callable[[str, int], None]) -> dict[str, int]:
    rows: dict[str, int] = {}

    def fill(cursor: Any) -> None:
        cursor.execute("SELECT pg_advisory_xact_lock(%s), pg_advisory_xact_lock(%s)", (MEMBER_LOCK, APPEND_LOCK))
        for table in ("contact", "event", "effect", "worker"):
            if cursor.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():
                raise StoreError(f"{shown(target._db.url)} is not empty: it has rows in `{table}`", "copy into a new database", "exists")
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        for table, columns in TABLES.items():
            rows[table] = _table(store, target, cursor, table, columns.split())
            progress(table, rows[table])
        _log_state(store, target, cursor)
        for key, value in store._db.rows("SELECT key, value FROM meta"):
            if key not in KEPT:
                cursor.execute("INSERT INTO meta VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value))
        position = store.position()
        cursor.execute("UPDATE shard SET cursor = %s, clock = %s", (position.cursor, position.clock))

    try:
        target._db.run("copy", fill, again=False)
    except BadData as error:  # a name that is too long for an index there
        raise StoreError(f"{store.path} holds what PostgreSQL does not take: {error}", "erase whom it belongs to, or stay with SQLite") from error
    problems = target.check()
    if problems or target.counts() != store.counts():
        said_ = (problems or ["counts differ"])[0]
        raise StoreError(f"the copy in {shown(target._db.url)} is not whole: {said_}", "drop it, and copy again", "corrupt")
    target._db.raw.execute("ANALYZE")
    return rows


def _table(store: SqliteStore, target: PostgresStore, cursor: Any, table: str, columns: Sequence[str]) -> int:
    """One table by COPY; then its numbers go on behind the last one."""
    shard = columns.index("contact" if "contact" in columns else "id") if table in SHARDED else None
    names = [*columns, "shard"] if shard is not None else columns
    count = 0
    with cursor.copy(f"COPY {table} ({', '.join(names)}) FROM STDIN") as copy:
        for row in _rows(store, f"SELECT {', '.join(columns)} FROM {table}"):
            values = [plain(value) if isinstance(value, str) else value for value in row]
            copy.write_row([*values, target.shard_of(values[shard])] if shard is not None else values)
            count += 1
    number = next((name for name in ("seq", "number") if columns[0] == name), None)
    if number is not None:
        last = store._db.one("SELECT seq FROM sqlite_sequence WHERE name = 'event'") if table == "event" else None
        cursor.execute(
            f"SELECT setval(pg_get_serial_sequence('{table}', '{number}'), greatest(%s::bigint, (SELECT max({number}) FROM {table}), 1), "
            f"greatest(%s::bigint, (SELECT max({number}) FROM {table})) IS NOT NULL)",
            (last, last),
        )
    return count


def _log_state(store: SqliteStore, target: PostgresStore, cursor: Any) -> None:
    """Which rows of the log are new, and which were set aside."""
    with cursor.copy("COPY pending (seq, shard, contact, at) FROM STDIN") as copy:
        for seq, contact, at in _rows(store, f"SELECT seq, contact, at FROM event WHERE status = {NEW}"):
            copy.write_row((seq, target.shard_of(contact), contact, at))
    with cursor.copy("COPY aside (seq, reason) FROM STDIN") as copy:
        for seq, reason in _rows(store, f"SELECT seq, coalesce(reason, '') FROM event WHERE status = {SET_ASIDE}"):
            copy.write_row((seq, plain(reason)))


def _rows(store: SqliteStore, sql: str) -> Iterator[tuple]:
    cursor = store._db.raw.execute(sql)
    while batch := cursor.fetchmany(BATCH):
        yield from batch
