"""The connection: pragmas, the one transaction, errors in our words, migrations, integrity. Knows SQLite and no table."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peewee

from rules_engine.clock import SystemClock
from rules_engine.store.lock import is_running
from rules_engine.store.migrations import APPLICATION_ID, MIGRATIONS, statements
from rules_engine.store.port import BadData, StoreError

sqlite3 = peewee.sqlite3  # pysqlite3 where that is newer: Debian's 3.40.1 has a corruption bug when the WAL is reset

BUSY_SECONDS = 10  # how long a writer waits for another's transaction, which lasts milliseconds
CACHE_KIB = 32_768  # pages in memory
WAL_PAGES = 4_000  # of the write-ahead log before it is folded in; fewer, larger checkpoints: 10 % at blocks of 100
WAL_BYTES = 64 << 20  # what is left of the log file after a checkpoint

_BAD_DATA = (sqlite3.IntegrityError, sqlite3.DataError, peewee.IntegrityError, OverflowError, UnicodeError)

_KINDS = {5: "locked", 6: "locked", 8: "readonly", 10: "io", 11: "corrupt", 13: "full", 14: "missing", 26: "foreign"}
_WORDS = (
    ("locked", "locked"),
    ("readonly", "readonly"),
    ("disk is full", "full"),
    ("malformed", "corrupt"),
    ("not a database", "foreign"),
    ("unable to open", "missing"),
    ("disk i/o", "io"),
)
_SAY = {
    "locked": ("the database {path} is locked by another process", "try again; a program that holds it for long must be stopped"),
    "readonly": ("the database {path} can't be written", "check the permissions of the file and of its folder"),
    "full": (
        "the disk is full; nothing of this step was saved",
        "free some space on the disk of {path}; what was acknowledged is safe",
    ),
    "corrupt": (
        "the database {path} is damaged",
        "stop `camp run`, then `camp db restore FILE` with the latest backup: it puts the damaged file aside by itself; never move "
        "{path}.sent, which knows what was handed over",
    ),
    "foreign": (
        "{path} is not a Camp database",
        "name another file, or make a new database with `camp init`; if it was one, `camp db restore FILE` puts a backup in its place",
    ),
    "missing": (
        "the database {path} can't be opened",
        "check that the folder exists and may be written; `camp init` makes a project",
    ),
    "io": ("the disk of {path} gives errors", "look at the machine's log; restore the latest backup on a sound disk"),
}


def say(error: Exception, path: object) -> StoreError:
    """A driver's exception as a StoreError."""
    code = getattr(error, "sqlite_errorcode", None)
    cause = error.__cause__ or error.__context__
    if code is None and cause is not None:
        code = getattr(cause, "sqlite_errorcode", None)
    text = str(error).lower()
    kind = _KINDS.get(code & 0xFF, "") if isinstance(code, int) else ""
    kind = kind or next((kind for words, kind in _WORDS if words in text), "")
    if not kind:
        return StoreError(f"the database {path} refused: {error}", "this is a fault of Camp; please report it", "other")
    message, help = _SAY[kind]
    blocked = unwritable(path) if kind in ("readonly", "missing") and isinstance(path, Path) and path.exists() else []
    if blocked:  # SQLite names none of them, and a file that somebody else's look left behind is easily overlooked
        message, help = f"the database {path} can't be written: {blocked[0]} can't be, by this user", f"check the owner and the mode of {blocked[0]}"
    return StoreError(message.format(path=path), help.format(path=path), kind)


def unwritable(database: Path) -> list[Path]:
    """Which of the files that a service writes are there and can't be written by this user; the folder is one of them."""
    beside = [database.with_name(database.name + ending) for ending in ("-wal", "-shm", ".lock", ".sent")]
    return [path for path in (database, *beside, database.parent) if path.exists() and not os.access(path, os.W_OK)]


class Database:
    """One SQLite file. `faults(point)` is called before and after each commit as `NAME.before_commit`, `NAME.after_commit`."""

    driver: Callable[..., peewee.SqliteDatabase] = peewee.SqliteDatabase  # tests put one on a disk of their own in its place

    def __init__(
        self, path: Path, *, create: bool, readonly: bool, faults: Callable[[str], None], migrations: tuple[str, ...] = MIGRATIONS
    ):
        self.path, self.readonly, self._faults, self._migrations = path, readonly, faults, migrations
        self._inside = False
        self._open(create)

    # ------------------------------------------------------------ opening

    def _open(self, create: bool) -> None:
        if not self.path.exists() and not create:
            raise StoreError(
                f"there is no database {self.path}", "make one with `camp init`, or import something first", "missing"
            )
        fresh = not self.path.exists()
        # Pragmas come after the connection, one by one: peewee would set them inside connect(), where "locked" can't be told
        # apart.
        self.peewee = self.driver(str(self.path), timeout=BUSY_SECONDS)
        try:
            self.peewee.connect()
            if fresh:  # people's data: for the service's user alone; the log and its index beside it get the same rights from SQLite
                with contextlib.suppress(OSError):
                    self.path.chmod(0o600)
            self.raw = self.peewee.connection()
            self._refuse_foreign()
            self._set_pragmas()
            self._migrate()
        except (peewee.DatabaseError, sqlite3.Error) as error:
            self.close()
            raise say(error, self.path) from error
        except StoreError:
            self.close()
            raise

    def _refuse_foreign(self) -> None:
        """Before anything is written: a file of another program, or of a newer Camp."""
        version, tables = self.one("PRAGMA user_version"), self.one("SELECT count(*) FROM sqlite_master")
        if tables and self.one("PRAGMA application_id") != APPLICATION_ID:
            message, help = _SAY["foreign"]
            raise StoreError(message.format(path=self.path), help, "foreign")
        if version > len(self._migrations):
            raise StoreError(
                f"the database {self.path} has schema {version}, and this Camp knows only up to {len(self._migrations)}",
                "it was used by a newer Camp: upgrade this one",
                "newer",
            )

    def _set_pragmas(self) -> None:
        self.raw.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self.raw.execute("PRAGMA foreign_keys = ON")
        if self.readonly:
            self.raw.execute("PRAGMA query_only = ON")
            return
        mode = self._patiently(lambda: self.one("PRAGMA journal_mode = WAL"))
        if mode != "wal":
            raise StoreError(
                f"the database {self.path} can't be kept safely here (journal mode {mode})",
                "use a local disk, not a network folder",
            )
        self.raw.execute("PRAGMA synchronous = FULL")
        self.raw.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        self.raw.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")

    def _patiently(self, work: Callable[[], Any]) -> Any:
        """Switching to WAL ignores the busy time-out; two processes that open a new file at once meet here."""
        clock = SystemClock()
        for _ in range(100):
            try:
                return work()
            except StoreError as error:
                if error.kind != "locked":
                    raise
            clock.sleep(20)
        return work()

    def _migrate(self) -> None:
        target = len(self._migrations)
        if self.one("PRAGMA user_version") == target:
            return
        if self.readonly:
            raise StoreError(f"the database {self.path} has an older schema", "upgrade it with `camp db migrate`", "older")
        if self.one("PRAGMA user_version") and is_running(self.path):
            raise StoreError(
                f"the database {self.path} has an older schema and a `camp run` of an older version is using it",
                "stop that first",
            )
        for number, script in enumerate(self._migrations, 1):
            with self.tx("migrate"):
                if self.one("PRAGMA user_version") >= number:  # another process was faster
                    continue
                self.raw.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                for statement in statements(script):
                    self.raw.execute(statement)
                self.raw.execute(f"PRAGMA user_version = {number}")

    # ------------------------------------------------------------ the one transaction

    @contextlib.contextmanager
    def tx(self, name: str) -> Iterator[Any]:
        """The only transaction: takes the write lock at once (a deferred one loses to "locked" in the middle), may not be nested
        (when a disk is full SQLite rolls back everything, and an outer one would go on statement by statement). Yields the
        connection.
        """
        if self._inside:
            raise AssertionError("a transaction inside a transaction")
        if self.readonly:
            raise StoreError(f"the database {self.path} was opened for reading", kind="readonly")
        raw = self.raw
        self._inside = True
        try:
            raw.execute("BEGIN IMMEDIATE")
            yield raw
            self._faults(name + ".before_commit")
            raw.execute("COMMIT")
        except _BAD_DATA as error:
            raise BadData(str(error)) from error
        except (peewee.DatabaseError, sqlite3.Error) as error:
            if "binding" in str(error):  # a value of a type that SQLite does not know
                raise BadData(str(error)) from error
            raise say(error, self.path) from error
        finally:
            self._inside = False
            self._roll_back()
        self._faults(name + ".after_commit")

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Any]:
        """All that is read inside it is of one moment. Takes no lock that a writer meets."""
        self.raw.execute("BEGIN")
        try:
            yield self.raw
        finally:
            self._roll_back()

    def _roll_back(self) -> None:
        """After a commit nothing is open, and nothing happens. SQLite may also have rolled back by itself."""
        if self.raw.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self.raw.execute("ROLLBACK")

    # ------------------------------------------------------------ reading

    def one(self, sql: str, parameters: tuple = ()) -> Any:
        """The first value of the first row, or None. Raises StoreError."""
        rows = self.rows(sql, parameters)
        return rows[0][0] if rows else None

    def rows(self, sql: str, parameters: Any = ()) -> list[tuple]:
        """All rows. Raises StoreError."""
        return self.read(lambda: self.raw.execute(sql, parameters).fetchall())

    def read(self, work: Callable[[], list]) -> list:
        """Something that only reads. In a transaction its errors are that one's. Raises StoreError."""
        if self._inside:
            return work()
        try:
            return work()
        except UnicodeError:  # a name that is no text: no such thing is here
            return []
        except (peewee.DatabaseError, sqlite3.Error) as error:
            raise say(error, self.path) from error

    def models(self, tables: Any) -> contextlib.AbstractContextManager[None]:
        """Inside it, the models speak to this file."""
        return self.peewee.bind_ctx(tables, bind_refs=False, bind_backrefs=False)

    def check(self) -> list[str]:
        """SQLite's own integrity check, and references that point nowhere."""
        try:
            said = [row[0] for row in self.rows("PRAGMA integrity_check(20)") if row[0] != "ok"]
            said += [
                f"a row of {table} refers to a {parent} that is not there"
                for table, _, parent, _ in self.rows("PRAGMA foreign_key_check")
            ]
        except StoreError as error:
            said = [error.message]
        return said

    def maintain(self) -> None:
        """Fresh statistics for the planner, and the write-ahead log folded in."""
        try:
            self.raw.execute("PRAGMA optimize")
            self.raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.DatabaseError as error:
            raise say(error, self.path) from error

    def close(self) -> None:
        """Closes the connection; the last one to close folds the write-ahead log into the file."""
        if not self.peewee.is_closed():
            self.peewee.close()
