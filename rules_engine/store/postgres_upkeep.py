"""What an operator does with a database on a server: retention, erasure, the books of the send journal. A part of
`postgres.PostgresStore`. Backups are the server's own (`pg_dump`, a base backup)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rules_engine.decisions import Effect
from rules_engine.facts import ContactChange
from rules_engine.store.codec import comparable, mark, plain
from rules_engine.store.port import (
    ENDED,
    RESTORED,
    SUPPRESSED,
    WAITING_STATES,
    Arrival,
    Backlog,
    EffectRow,
    HandOver,
    Identity,
    Removed,
    StoreError,
)
from rules_engine.store.postgres_database import APPEND_LOCK, JOURNAL_LOCK, PostgresDatabase

_ENDED = list(ENDED)
_OVER = "FROM effect WHERE state = ANY(%s) AND coalesce(settled_at, at) < %s"
_DONE = (
    "NOT EXISTS (SELECT 1 FROM pending WHERE pending.seq = event.seq) AND NOT EXISTS (SELECT 1 FROM aside WHERE aside.seq = event.seq)"
)
_FULL = f"FROM event WHERE received < %s AND data IS NOT NULL AND {_DONE}"
_DOUBT = (
    "UPDATE effect SET state = 'unknown', detail = %s, attempts = %s, next_at = NULL, settled_at = %s, claimed_at = %s, "
    "first_claimed_at = coalesce(first_claimed_at, %s) WHERE id = %s AND attempts < %s"
)
_NOTE = "INSERT INTO meta (key, value) VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
ERASURES = "SELECT value FROM meta WHERE key = 'erasures'"
PERSONAL = ("event", "contact", "decision", "effect", "attempt", "audit", "pending", "address")


def erasures_in(reply: Any) -> int:
    """How many erasures the answer to ERASURES tells of."""
    found = reply.fetchone()
    return int(found[0]) if found else 0


class PostgresUpkeep:
    """Needs what `postgres.PostgresStore` brings."""

    _db: PostgresDatabase
    mine: list[int]
    _meta: Callable[[str], str | None]
    effect: Callable[[str], EffectRow | None]
    running: Callable[[], bool]

    # ------------------------------------------------------------ small facts

    def note(self, key: str, value: str) -> None:
        """See Store."""
        self._db.run("note", lambda cursor: cursor.execute(_NOTE, (key, value)))

    def noted(self, key: str) -> str | None:
        """See Store."""
        return self._meta(key)

    def identity(self) -> Identity:
        """See Store."""
        return Identity(self._meta("instance") or "", self._secret, self._meta("journal") == "1")

    @property
    def _secret(self) -> str:
        if not hasattr(self, "_known_secret"):
            self._known_secret = self._meta("secret") or ""
        return self._known_secret

    def backlog(self, now: int) -> Backlog:
        """See Store. Of all shards."""
        one = self._db.one
        states = self._db.rows("SELECT state, count(*) FROM effect WHERE state = ANY(%s) GROUP BY state", (list(WAITING_STATES),))
        return Backlog(
            one("SELECT received FROM pending JOIN event ON event.seq = pending.seq ORDER BY pending.seq LIMIT 1"),
            one("SELECT count(*) FROM contact WHERE wake_at <= %s", (now,)),
            one("SELECT min(wake_at) FROM contact WHERE wake_at IS NOT NULL"),
            one("SELECT min(next_at) FROM effect WHERE state IN ('ready', 'retry_wait')"),
            one("SELECT count(*) FROM pending"),
            one("SELECT count(*) FROM aside"),
            dict(states),
        )

    # ------------------------------------------------------------ retention

    def purge(self, before: int, limit: int | None = None) -> int:
        """See Store. The index on `received` names the blocks of the table that are old enough."""
        some = "" if limit is None else f" LIMIT {int(limit)}"
        sql = f"UPDATE event SET data = NULL, subject = NULL WHERE seq = ANY(ARRAY(SELECT seq {_FULL}{some}))"
        return self._db.run("purge", lambda cursor: cursor.execute(sql, (before,)).rowcount)

    def trim(self, journal: int | None, outbox: int | None, limit: int) -> Removed:
        """See Store."""

        def trim(cursor: Any) -> Removed:
            decisions = effects = attempts = 0
            if journal is not None:  # from the oldest on, as in SQLite
                oldest = "SELECT seq, at FROM decision ORDER BY seq LIMIT %s"
                sql = f"DELETE FROM decision WHERE seq = ANY(ARRAY(SELECT seq FROM ({oldest}) AS oldest WHERE at < %s))"
                decisions = cursor.execute(sql, (limit, journal)).rowcount
            if outbox is not None:
                gone = cursor.execute(f"SELECT id {_OVER} ORDER BY seq LIMIT %s FOR UPDATE SKIP LOCKED", (_ENDED, outbox, limit)).fetchall()
                ids = [id for (id,) in gone]
                attempts = cursor.execute("DELETE FROM attempt WHERE effect = ANY(%s)", (ids,)).rowcount
                effects = cursor.execute("DELETE FROM effect WHERE id = ANY(%s)", (ids,)).rowcount
            return Removed(decisions=decisions, effects=effects, attempts=attempts)

        return self._db.run("trim", trim)

    def trimmable(self, events: int | None, journal: int | None, outbox: int | None) -> Removed:
        """See Store."""
        one = self._db.one
        return Removed(
            0,
            one(f"SELECT count(*) {_FULL}", (events or 0,)),
            one("SELECT count(*) FROM decision WHERE at < %s", (journal or 0,)),
            one(f"SELECT count(*) {_OVER}", (_ENDED, outbox or 0)),
            one(f"SELECT count(*) FROM attempt WHERE effect IN (SELECT id {_OVER})", (_ENDED, outbox or 0)),
        )

    # ------------------------------------------------------------ erasure

    def erase(self, contact: str, addresses: Iterable[tuple[str, str]], now: int, dry_run: bool = False) -> Removed:
        """See Store."""
        if dry_run:
            count = [
                self._db.one(f"SELECT count(*) FROM {table} WHERE {column} = %s", (contact,))
                for table, column in (("contact", "id"), ("event", "contact"), ("decision", "contact"), ("effect", "contact"))
            ]
            attempts = "SELECT count(*) FROM attempt WHERE effect IN (SELECT id FROM effect WHERE contact = %s)"
            return Removed(*count, self._db.one(attempts, (contact,)))
        known = list(addresses)
        return self._db.run("erase", lambda cursor: self._erase(cursor, contact, known, now), again=False)

    def _erase(self, cursor: Any, contact: str, addresses: list[tuple[str, str]], now: int) -> Removed:
        """Under the locks of blocks and of appends: nobody is about to write what is read here."""
        ids = tuple(id for (id,) in cursor.execute("SELECT id FROM effect WHERE contact = %s FOR UPDATE", (contact,)).fetchall())
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (JOURNAL_LOCK,))
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (APPEND_LOCK,))
        flying = (
            "SELECT 1 FROM effect JOIN worker ON worker.id = coalesce(claimer, worker.id) "
            "WHERE contact = %s AND state = 'claimed' AND until > clock_timestamp()"
        )
        if cursor.execute(flying, (contact,)).fetchone():
            raise StoreError("a message to this contact is being handed over at this moment", "try again in a minute", "busy")
        self._keep_marks(cursor, contact, addresses, now)
        attempts = cursor.execute("DELETE FROM attempt WHERE effect = ANY(%s)", (list(ids),)).rowcount
        for table in ("pending", "aside"):
            cursor.execute(f"DELETE FROM {table} WHERE seq = ANY(ARRAY(SELECT seq FROM event WHERE contact = %s))", (contact,))
        cursor.execute("DELETE FROM address WHERE contact = %s", (contact,))
        gone = [
            cursor.execute(f"DELETE FROM {table} WHERE contact = %s", (contact,)).rowcount for table in ("event", "decision", "effect")
        ]
        people = cursor.execute("DELETE FROM contact WHERE id = %s", (contact,)).rowcount
        self._clean_audit(cursor, contact)
        cursor.execute(_NOTE, ("erasures", str(self._erasures(cursor) + 1)))
        return Removed(people, *gone, attempts, ids)

    def _keep_marks(self, cursor: Any, contact: str, addresses: list[tuple[str, str]], now: int) -> None:
        ids = cursor.execute("SELECT source, event_id FROM event WHERE contact = %s", (contact,)).fetchall()
        marks = [(mark(self._secret, "event", source, id), "", now) for source, id in ids]
        marks += [(mark(self._secret, "address", comparable(value)), channel, now) for channel, value in addresses if comparable(value)]
        cursor.executemany("INSERT INTO forgotten (mark, channel, at) VALUES (%s, %s, %s) ON CONFLICT (mark) DO NOTHING", marks)

    def _clean_audit(self, cursor: Any, contact: str) -> None:
        """Effects' ids name their contact, and the audit names effects."""
        word = re.compile(rf"(?<!\w){re.escape(contact)}(?!\w)")
        for seq, detail in cursor.execute("SELECT seq, detail FROM audit WHERE strpos(detail, %s) > 0", (contact,)).fetchall():
            if word.search(detail):
                cursor.execute("UPDATE audit SET detail = %s WHERE seq = %s", (f"(erased {self.contact_mark(contact)})", seq))

    def contact_mark(self, contact: str) -> str:
        """What stands for an erased contact in the audit."""
        return mark(self._secret, "contact", contact)

    def erasures(self) -> int:
        """See Store."""
        return int(self._meta("erasures") or 0)

    @staticmethod
    def _erasures(cursor: Any) -> int:
        return erasures_in(cursor.execute(ERASURES))

    def _without_forgotten(self, cursor: Any, arrivals: Sequence[Arrival]) -> tuple[dict[int, Arrival], list[int]]:
        """(position -> arrival to be taken, positions of those whose contact was erased). A contact that comes back with an address of
        an erased one is taken, and suppressed there."""
        marks: list[tuple[str, list[str]]] = []
        for arrival in arrivals:
            cause = arrival.cause
            texts = {text for text in cause.attributes.values() if isinstance(text, str)} if isinstance(cause, ContactChange) else set()
            found = [mark(self._secret, "address", comparable(text)) for text in texts]
            marks.append((mark(self._secret, "event", arrival.source, cause.id), found))
        wanted = list({own for own, _ in marks} | {item for _, found in marks for item in found})
        rows = dict(cursor.execute("SELECT mark, channel FROM forgotten WHERE mark = ANY(%s)", (wanted,)).fetchall())
        places: dict[int, Arrival] = {}
        known: list[int] = []
        for index, (arrival, (own, found)) in enumerate(zip(arrivals, marks, strict=True)):
            if own in rows:
                known.append(index)
                continue
            channels = sorted({rows[item] for item in found if rows.get(item)})
            if channels:
                attributes = {**arrival.cause.attributes, **{f"suppressed.{channel}": SUPPRESSED for channel in channels}}
                arrival = arrival._replace(cause=arrival.cause._replace(attributes=attributes))
            places[index] = arrival
        return places, known

    def scrub(self, vacuum: bool = True) -> bool:
        """See Store. While nobody runs, the tables are written anew without what was deleted. While workers run, they are only swept,
        which leaves bytes in free space until something takes their place: False. The server's write-ahead log and its backups keep
        what they have until they are recycled."""
        quiet = vacuum and not self.running()
        try:
            self._db.raw.execute(f"VACUUM {'(FULL)' if quiet else ''} {', '.join(PERSONAL)}")
            self._db.raw.execute("CHECKPOINT")
        except Exception:
            return False
        return quiet or not vacuum

    # ------------------------------------------------------------ the send journal's books

    def mark_of(self, effect: str) -> str:
        """See Store."""
        return mark(self._secret, "effect", effect)

    def handed_over(self, line: HandOver) -> bool:
        """See Store."""
        rows = self._db.rows("SELECT id FROM effect WHERE seq = %s AND attempts >= %s", (line.seq, line.attempt))
        return bool(rows) and self.mark_of(rows[0][0]) == line.mark

    def doubt(self, lines: Sequence[HandOver], now: int) -> list[EffectRow]:
        """See Store."""
        latest = {line.mark: line for line in sorted(lines, key=lambda line: line.attempt)}

        def doubt(cursor: Any) -> list[str]:
            doubtful, rest = [], dict(latest)
            for (id,) in cursor.execute("SELECT id FROM effect").fetchall():
                line = rest.pop(self.mark_of(id), None)
                if line is not None and self._doubted(cursor, id, line.attempt, line.at, now):
                    doubtful.append(id)
            cursor.executemany(
                "INSERT INTO sent (mark, attempt, at) VALUES (%s, %s, %s) ON CONFLICT (mark) DO UPDATE SET attempt = excluded.attempt",
                [(line.mark, line.attempt, line.at) for line in rest.values()],
            )
            return doubtful

        return [row for id in self._db.run("doubt", doubt) if (row := self.effect(id)) is not None]

    @staticmethod
    def _doubted(cursor: Any, id: str, attempt: int, at: int, now: int) -> bool:
        return bool(cursor.execute(_DOUBT, (RESTORED, attempt, now, at, at, id, attempt)).rowcount)

    def _doubt_new(self, cursor: Any, effects: Sequence[Effect]) -> None:
        """Effects that are made anew from events fed again after a restore. Only where `sent` has rows."""
        marks = {self.mark_of(effect.id): effect.id for effect in effects}
        for found, attempt, at in cursor.execute("SELECT mark, attempt, at FROM sent WHERE mark = ANY(%s)", (list(marks),)).fetchall():
            self._doubted(cursor, marks[found], attempt, at, at)

    def doubt_open(self, now: int, detail: str) -> int:
        """See Store."""
        sql = (
            "UPDATE effect SET state = 'unknown', detail = %s, next_at = NULL, settled_at = %s "
            "WHERE state IN ('planned', 'ready', 'retry_wait', 'claimed')"
        )
        return self._db.run("doubt", lambda cursor: cursor.execute(sql, (plain(detail), now)).rowcount, again=False)
