"""What an operator does with a database: retention, erasure, backups, and the books of the send journal. A part of
`sqlite.SqliteStore`."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from rules_engine.decisions import Effect
from rules_engine.facts import ContactChange
from rules_engine.store.codec import comparable, dump, mark, plain
from rules_engine.store.database import Database, say, sqlite3
from rules_engine.store.lock import is_running
from rules_engine.store.migrations import APPLICATION_ID, MIGRATIONS
from rules_engine.store.port import (
    ENDED,
    RESTORED,
    SUPPRESSED,
    WAITING_STATES,
    Arrival,
    Backlog,
    Backup,
    Counts,
    EffectRow,
    HandOver,
    Identity,
    Removed,
    StoreError,
    chunks,
)
from rules_engine.store.syncing import sync

_OF_KEYS = "IN (SELECT value FROM json_each(?))"
_ENDED = ", ".join(f"'{state}'" for state in ENDED)
_PATIENCE = 30  # seconds: how long a checkpoint waits for readers
_PAGES = 2_000  # of a backup between two calls of its progress
_DOUBT = (
    "UPDATE effect SET state = 'unknown', detail = ?, attempts = ?, next_at = NULL, settled_at = ?, "
    "claimed_at = ?, first_claimed_at = coalesce(first_claimed_at, ?) WHERE id = ? AND attempts < ?"
)


class Upkeep:
    """Needs `_db` and what `sqlite.SqliteStore` brings."""

    _db: Database
    _clock: Any
    path: Path
    _meta: Callable[[str], str | None]
    effect: Callable[[str], EffectRow | None]
    counts: Callable[[], Counts]

    # ------------------------------------------------------------ small facts

    def note(self, key: str, value: str) -> None:
        """See Store."""
        with self._db.tx("note") as raw:
            self._note(raw, key, value)

    def _note(self, raw: Any, key: str, value: str) -> None:
        raw.execute(
            "INSERT INTO meta (key, value) VALUES (?,?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value)
        )

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
        """See Store."""
        one = self._db.one
        leaves = [one("SELECT min(next_at) FROM effect WHERE state = ?", (state,)) for state in ("ready", "retry_wait")]
        first = one(
            "SELECT received FROM event WHERE status = 0 AND seq > ? ORDER BY seq LIMIT 1", (int(self._meta("cursor") or 0),)
        )
        counted = {state: one("SELECT count(*) FROM effect WHERE state = ?", (state,)) for state in WAITING_STATES}
        return Backlog(
            first,
            one("SELECT count(*) FROM contact WHERE wake_at <= ?", (now,)),
            one("SELECT min(wake_at) FROM contact WHERE wake_at IS NOT NULL"),
            min((at for at in leaves if at is not None), default=None),
            one("SELECT count(*) FROM event INDEXED BY event_new WHERE status = 0"),
            one("SELECT count(*) FROM event INDEXED BY event_set_aside WHERE status = 2"),
            {state: number for state, number in counted.items() if number},
        )

    # ------------------------------------------------------------ retention

    def trim(self, journal: int | None, outbox: int | None, limit: int) -> Removed:
        """See Store."""
        with self._db.tx("trim") as raw:
            decisions = self._trim_journal(raw, journal, limit) if journal is not None else 0
            effects = attempts = 0
            if outbox is not None:
                ids = raw.execute(
                    f"SELECT id FROM effect WHERE state IN ({_ENDED}) AND coalesce(settled_at, at) < ? ORDER BY seq LIMIT ?",
                    (outbox, limit),
                ).fetchall()
                for (id,) in ids:
                    attempts += raw.execute("DELETE FROM attempt WHERE effect = ?", (id,)).rowcount
                    effects += raw.execute("DELETE FROM effect WHERE id = ?", (id,)).rowcount
        return Removed(decisions=decisions, effects=effects, attempts=attempts)

    def _trim_journal(self, raw: Any, before: int, limit: int) -> int:
        """From the oldest on: the journal's times hardly ever go back, and what stands behind younger ones waits until those are old."""
        rows = raw.execute("SELECT seq, at FROM decision ORDER BY seq LIMIT ?", (limit,)).fetchall()
        old = [(seq,) for seq, at in rows if at < before]
        raw.executemany("DELETE FROM decision WHERE seq = ?", old)
        return len(old)

    def trimmable(self, events: int | None, journal: int | None, outbox: int | None) -> Removed:
        """See Store."""
        one, ended = self._db.one, f"FROM effect WHERE state IN ({_ENDED}) AND coalesce(settled_at, at) < ?"
        return Removed(
            0,
            one("SELECT count(*) FROM event WHERE status = 1 AND received < ? AND data IS NOT NULL", (events or 0,)),
            one("SELECT count(*) FROM decision WHERE at < ?", (journal or 0,)),
            one(f"SELECT count(*) {ended}", (outbox or 0,)),
            one(f"SELECT count(*) FROM attempt WHERE effect IN (SELECT id {ended})", (outbox or 0,)),
        )

    # ------------------------------------------------------------ erasure

    def erase(self, contact: str, addresses: Iterable[tuple[str, str]], now: int, dry_run: bool = False) -> Removed:
        """See Store."""
        one = self._db.one
        if dry_run:
            count = {
                name: one(f"SELECT count(*) FROM {name} WHERE contact = ?", (contact,))
                for name in ("event", "decision", "effect")
            }
            people = one("SELECT count(*) FROM contact WHERE id = ?", (contact,))
            attempts = one("SELECT count(*) FROM attempt WHERE effect IN (SELECT id FROM effect WHERE contact = ?)", (contact,))
            return Removed(people, count["event"], count["decision"], count["effect"], attempts)
        self._db.raw.execute("PRAGMA secure_delete = ON").fetchall()
        with self._db.tx("erase") as raw:
            if one("SELECT 1 FROM effect WHERE contact = ? AND state = 'claimed' LIMIT 1", (contact,)) and is_running(
                self.path
            ):
                raise StoreError(
                    "a message to this contact is being handed over at this moment", "try again in a minute", "busy"
                )
            self._keep_marks(raw, contact, addresses, now)
            ids = tuple(id for (id,) in raw.execute("SELECT id FROM effect WHERE contact = ?", (contact,)).fetchall())
            attempts = raw.execute("DELETE FROM attempt WHERE effect IN (SELECT id FROM effect WHERE contact = ?)", (contact,)).rowcount
            gone = [raw.execute(f"DELETE FROM {name} WHERE contact = ?", (contact,)).rowcount for name in ("event", "decision", "effect")]
            raw.execute("DELETE FROM address WHERE contact = ?", (contact,))
            people = raw.execute("DELETE FROM contact WHERE id = ?", (contact,)).rowcount
            self._clean_audit(raw, contact)
            self._note(raw, "erasures", str(self.erasures() + 1))
        return Removed(people, *gone, attempts, ids)

    def _keep_marks(self, raw: Any, contact: str, addresses: Iterable[tuple[str, str]], now: int) -> None:
        ids = raw.execute("SELECT source, event_id FROM event WHERE contact = ?", (contact,)).fetchall()
        marks = [(mark(self._secret, "event", source, id), "", now) for source, id in ids]
        marks += [(mark(self._secret, "address", comparable(value)), channel, now) for channel, value in addresses if comparable(value)]
        raw.executemany("INSERT INTO forgotten (mark, channel, at) VALUES (?,?,?) ON CONFLICT (mark) DO NOTHING", marks)

    def _clean_audit(self, raw: Any, contact: str) -> None:
        """Effects' ids name their contact, and the audit names effects."""
        said = re.compile(rf"(?<!\w){re.escape(contact)}(?!\w)")
        for seq, detail in raw.execute("SELECT seq, detail FROM audit WHERE instr(detail, ?)", (contact,)).fetchall():
            if said.search(detail):
                raw.execute("UPDATE audit SET detail = ? WHERE seq = ?", (f"(erased {self.contact_mark(contact)})", seq))

    def contact_mark(self, contact: str) -> str:
        """What stands for an erased contact in the audit."""
        return mark(self._secret, "contact", contact)

    def erasures(self) -> int:
        """See Store."""
        return int(self._meta("erasures") or 0)

    def _has_forgotten(self) -> bool:
        return self._db.one("SELECT 1 FROM forgotten LIMIT 1") is not None

    def _without_forgotten(self, arrivals: Sequence[Arrival]) -> tuple[dict[int, Arrival], list[int]]:
        """(position -> arrival to be taken, positions of those whose contact was erased). A contact that comes back with an address of
        an erased one is taken, and suppressed there."""
        marks: list[tuple[str, list[str]]] = []
        for cause, source, *_ in arrivals:
            texts = {value for value in cause.attributes.values() if isinstance(value, str)} if isinstance(cause, ContactChange) else set()
            found = [mark(self._secret, "address", comparable(text)) for text in texts]
            marks.append((mark(self._secret, "event", source, cause.id), found))
        wanted = {own for own, _ in marks} | {item for _, found in marks for item in found}
        rows = dict(
            self._db.rows(f"SELECT mark, channel FROM forgotten WHERE mark {_OF_KEYS}", (dump(sorted(wanted)).decode(),))
        )
        places: dict[int, Arrival] = {}
        known: list[int] = []
        for index, (arrival, (own, found)) in enumerate(zip(arrivals, marks, strict=True)):
            if own in rows:
                known.append(index)
                continue
            channels = {rows[item] for item in found if rows.get(item)}
            if channels:
                attributes = {
                    **arrival.cause.attributes,
                    **{f"suppressed.{channel}": SUPPRESSED for channel in sorted(channels)},
                }
                arrival = arrival._replace(cause=arrival.cause._replace(attributes=attributes))
            places[index] = arrival
        return places, known

    def scrub(self, vacuum: bool = True) -> bool:
        """See Store."""
        raw = self._db.raw
        try:
            if vacuum:
                raw.execute("VACUUM")
            return self._empty_log()
        except sqlite3.DatabaseError as error:
            raise say(error, self.path) from error

    def _empty_log(self) -> bool:
        """Folds the write-ahead log in and cuts it to nothing; a reader may be in the way for a moment."""
        self._db.raw.execute(f"PRAGMA busy_timeout = {1_000}").fetchall()
        try:
            for _ in range(_PATIENCE):
                busy, _, _ = self._db.raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if not busy:
                    return True
            return False
        finally:
            self._db.raw.execute("PRAGMA busy_timeout = 10000").fetchall()

    # ------------------------------------------------------------ backup

    def backup(self, target: Path, progress: Callable[[int, int], None] | None = None) -> Backup:
        """Copies the database as it is at one moment to a new file, and checks the copy. Others read and write meanwhile; only the
        write-ahead log grows. Raises StoreError, also if the file is there or the copy is not whole.

        The snapshot is held open by us: without that SQLite begins again whenever somebody writes, and a busy service always does.
        """
        draft = target.with_name(f".{target.name}.part")
        if target.exists():
            raise StoreError(f"{target} is there already, and a backup is never overwritten", "name another file", "exists")
        draft.unlink(missing_ok=True)
        try:
            os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            with self._db.snapshot() as raw, contextlib.closing(sqlite3.connect(str(draft))) as copy:
                counts = self.counts()
                raw.backup(
                    copy,
                    pages=_PAGES,
                    progress=None if progress is None else lambda _, left, total: progress(total - left, total),
                )
                copy.execute("PRAGMA journal_mode = DELETE").fetchall()
            sync(draft)
            _compare(draft, counts)
            os.link(draft, target)  # fails if somebody made it meanwhile
            sync(target.parent)
        except FileExistsError as error:
            raise StoreError(
                f"{target} is there already, and a backup is never overwritten", "name another file", "exists"
            ) from error
        except OSError as error:
            raise StoreError(
                f"the backup {target} can't be written: {error.strerror}", "look at the folder and at the free space", "io"
            ) from error
        except sqlite3.Error as error:
            raise say(error, draft) from error
        finally:
            draft.unlink(missing_ok=True)
        return Backup(target, target.stat().st_size, counts)

    # ------------------------------------------------------------ the send journal's books

    def mark_of(self, effect: str) -> str:
        """See Store."""
        return mark(self._secret, "effect", effect)

    def handed_over(self, line: HandOver) -> bool:
        """See Store."""
        rows = self._db.rows("SELECT id FROM effect WHERE seq = ? AND attempts >= ?", (line.seq, line.attempt))
        return bool(rows) and self.mark_of(rows[0][0]) == line.mark

    def doubt(self, lines: Sequence[HandOver], now: int) -> list[EffectRow]:
        """See Store."""
        latest = {line.mark: line for line in sorted(lines, key=lambda line: line.attempt)}
        doubtful = []
        with self._db.tx("doubt") as raw:
            rest = dict(latest)
            for (id,) in raw.execute("SELECT id FROM effect").fetchall():
                line = rest.pop(self.mark_of(id), None)
                if (
                    line is not None
                    and raw.execute(_DOUBT, (RESTORED, line.attempt, now, line.at, line.at, id, line.attempt)).rowcount
                ):
                    doubtful.append(id)
            raw.executemany(
                "INSERT INTO sent (mark, attempt, at) VALUES (?,?,?) ON CONFLICT (mark) DO UPDATE SET attempt = excluded.attempt",
                [(line.mark, line.attempt, line.at) for line in rest.values()],
            )
        return [row for id in doubtful if (row := self.effect(id)) is not None]

    def _doubt_new(self, raw: Any, effects: Sequence[Effect]) -> None:
        """Effects that are made anew from events fed again after a restore."""
        if raw.execute("SELECT 1 FROM sent LIMIT 1").fetchone() is None:
            return
        marks = {self.mark_of(effect.id): effect.id for effect in effects}
        for some in chunks(list(marks), 500):
            rows = raw.execute(
                f"SELECT mark, attempt, at FROM sent WHERE mark {_OF_KEYS}", (dump(list(some)).decode(),)
            ).fetchall()
            for found, attempt, at in rows:
                raw.execute(_DOUBT, (RESTORED, attempt, at, at, at, marks[found], attempt))

    def doubt_open(self, now: int, detail: str) -> int:
        """See Store."""
        with self._db.tx("doubt") as raw:
            return raw.execute(
                "UPDATE effect SET state = 'unknown', detail = ?, next_at = NULL, settled_at = ? "
                "WHERE state IN ('planned', 'ready', 'retry_wait', 'claimed')",
                (plain(detail), now),
            ).rowcount


def verify(file: Path) -> Counts:
    """The content of a backup in numbers. Raises StoreError if it is no whole Camp database."""
    from rules_engine.store.sqlite import SqliteStore

    try:
        with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as raw:
            if raw.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                raise StoreError(f"{file} is not a Camp database", "name a file that `camp db backup` made", "foreign")
            if raw.execute("PRAGMA user_version").fetchone()[0] > len(MIGRATIONS):
                raise StoreError(f"{file} was made by a newer Camp", "upgrade this one first", "newer")
            said = [row[0] for row in raw.execute("PRAGMA integrity_check(5)") if row[0] != "ok"]
            if said:
                raise StoreError(f"{file} is damaged: {said[0]}", "take another backup", "corrupt")
            return SqliteStore.count(
                lambda sql: (raw.execute(sql).fetchone() or [None])[0], lambda sql: raw.execute(sql).fetchall()
            )
    except sqlite3.Error as error:
        raise say(error, file) from error


def _compare(draft: Path, counts: Counts) -> None:
    if verify(draft) != counts:
        raise StoreError(
            f"the backup {draft} does not hold what the database held", "this is a fault of Camp; please report it"
        )
