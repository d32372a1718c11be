"""A disk of the tests' own under the real store: SQLite's virtual file system, by apsw. It writes down every operation, and fails where it is
told to.

`Driver` takes the place of peewee's (`Database.driver`); `Connection` gives apsw the interface of Python's sqlite3, as far as the store uses
it, its exceptions included. Memory that is shared between processes (the WAL's index) is no part of a disk and is left alone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import apsw
import peewee

from rules_engine.store.database import Database, sqlite3

# ---------------------------------------------------------------- sqlite3's interface over apsw

_KINDS = (
    (apsw.ConstraintError, sqlite3.IntegrityError),
    (apsw.MismatchError, sqlite3.IntegrityError),
    (apsw.TooBigError, sqlite3.DataError),
    (apsw.CorruptError, sqlite3.DatabaseError),
    (apsw.NotADBError, sqlite3.DatabaseError),
    (apsw.MisuseError, sqlite3.InterfaceError),
    (apsw.Error, sqlite3.OperationalError),
)


@contextlib.contextmanager
def _as_sqlite3() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        kind = next(new for old, new in _KINDS if isinstance(error, old))
        made = kind(str(error))
        made.sqlite_errorcode = getattr(error, "extendedresult", getattr(error, "result", None))
        raise made from error


class Cursor:
    """As sqlite3.Cursor."""

    def __init__(self, raw: apsw.Connection) -> None:
        self._raw, self._cursor = raw, raw.cursor()
        self.rowcount, self.lastrowid, self.arraysize = -1, None, 1
        self._rows: Iterator[tuple] = iter(())
        self.description: Any = None
        self._cursor.exec_trace = self._begin

    def _begin(self, cursor: apsw.Cursor, sql: str, bindings: Any) -> bool:
        """apsw tells the columns only while a statement runs."""
        self.description = cursor.get_description()
        return True

    def execute(self, sql: str, parameters: Any = ()) -> Cursor:
        with _as_sqlite3():
            before = self._raw.total_changes()
            rows = self._cursor.execute(sql, tuple(parameters)).fetchall()
        self._done(rows, self._raw.total_changes() - before)
        return self

    def executemany(self, sql: str, parameters: Any) -> Cursor:
        with _as_sqlite3():
            before = self._raw.total_changes()
            for values in parameters:
                self._cursor.execute(sql, tuple(values))
        self._done([], self._raw.total_changes() - before)
        return self

    def _done(self, rows: list[tuple], changes: int) -> None:
        self._rows, self.rowcount, self.lastrowid = iter(rows), changes, self._raw.last_insert_rowid()

    def fetchone(self) -> tuple | None:
        return next(self._rows, None)

    def fetchall(self) -> list[tuple]:
        return list(self._rows)

    def __iter__(self) -> Iterator[tuple]:
        return self._rows

    def close(self) -> None:
        self._cursor.close(True)


class Connection:
    """As sqlite3.Connection with isolation_level=None."""

    def __init__(self, path: str, disk: Disk, timeout: float) -> None:
        self._disk = disk
        with _as_sqlite3():
            self._raw = apsw.Connection(path, vfs=disk.name)
            self._raw.set_busy_timeout(int(timeout * 1000))

    def cursor(self) -> Cursor:
        return Cursor(self._raw)

    def execute(self, sql: str, parameters: Any = ()) -> Cursor:
        self._disk.failed = ""
        try:
            return self.cursor().execute(self._disk.instead.get(sql, sql), parameters)
        except sqlite3.DatabaseError:
            # The write-ahead log is folded in behind a COMMIT that is already done: SQLite says OK if that fails, apsw raises all the same.
            if sql != "COMMIT" or not self._disk.failed or self._disk.failed.endswith(("-wal", "-journal")) or self.in_transaction:
                raise
            return self.cursor()

    def executemany(self, sql: str, parameters: Any) -> Cursor:
        return self.cursor().executemany(sql, parameters)

    @property
    def in_transaction(self) -> bool:
        return not self._raw.get_autocommit()

    @property
    def total_changes(self) -> int:
        return self._raw.total_changes()

    def close(self) -> None:
        """SQLite's own close says nothing of a last checkpoint that failed; apsw raises what the disk raised."""
        with contextlib.suppress(apsw.Error):
            self._raw.close()


# ---------------------------------------------------------------- the disk


class Op(NamedTuple):
    """One thing that was asked of the disk, or (`mark`) a moment that the harness wants to remember. `data`: bytes written, the new size,
    or what is remembered."""

    kind: str
    file: str
    at: int = 0
    data: Any = None


Fault = Callable[[str, str], BaseException | None]


class Disk(apsw.VFS):
    """The default file system, with a log and faults. fault(kind, file) is asked before each open, read, write, sync, truncate and delete; an
    exception that it returns is what SQLite gets. Reads are no part of the log. instead: statements that are replaced, to plant a mistake. Use it as a context: the store then
    runs on it."""

    count = 0

    def __init__(self, fault: Fault | None = None, record: bool = True, instead: dict[str, str] | None = None) -> None:
        Disk.count += 1
        self.instead = instead or {}
        self.name, self.base = f"crash-{os.getpid()}-{Disk.count}", ""
        self.log: list[Op] = []
        self.failed = ""  # the file of the last fault
        self.fault, self._record = fault, record
        super().__init__(self.name, self.base)

    def ask(self, kind: str, file: str) -> None:
        """Raises what the fault wants."""
        error = self.fault(kind, file) if self.fault is not None else None
        if error is not None:
            self.failed = file
            raise error

    def note(self, kind: str, file: str, at: int = 0, data: Any = None) -> None:
        """Asks for a fault, then writes the operation down."""
        self.ask(kind, file)
        if self._record:
            self.log.append(Op(kind, file, at, data))

    def mark(self, what: Any) -> None:
        """Remembers a moment between the operations."""
        self.log.append(Op("mark", "", 0, what))

    def xOpen(self, name: Any, flags: list[int]) -> File:
        return File(self, name, flags)

    def xDelete(self, name: str, sync: bool) -> None:
        self.note("delete", os.path.basename(name), int(sync))
        super().xDelete(name, sync)

    def __enter__(self) -> Disk:
        self._before = Database.__dict__["driver"]
        Database.driver = self._driver
        return self

    def __exit__(self, *_: object) -> None:
        Database.driver = self._before

    @property
    def _driver(self) -> type[peewee.SqliteDatabase]:
        disk = self

        class Driver(peewee.SqliteDatabase):
            """peewee's, on this disk."""

            def _connect(self) -> Connection:
                return Connection(self.database, disk, self._timeout)

        return Driver


class File(apsw.VFSFile):
    """One file of a Disk."""

    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._disk, self._name = disk, os.path.basename(path or "")
        new = bool(path) and not os.path.exists(path)
        disk.note("open", self._name, int(new))
        super().__init__(disk.base, name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:
        self._disk.ask("read", self._name)
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.note("write", self._name, offset, bytes(data))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:
        self._disk.note("truncate", self._name, size)
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:
        self._disk.note("sync", self._name)
        super().xSync(flags)
