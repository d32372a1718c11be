"""Statements that are sent to PostgreSQL without waiting for the answer of the one before (libpq's pipeline mode), and arrays in the
server's own binary format. Knows no table.

psycopg's own pipeline sends a statement and its end (Sync) apart. A process that is stopped between the two holds its locks for ever: the
server's time-outs count only while it waits for a new statement. Here each statement is handed to libpq together with its Sync, so that
they leave in one piece, and what a stopped process holds is let go after `idle_in_transaction_session_timeout` as ever.
"""

from __future__ import annotations

import contextlib
import functools
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from psycopg import Connection, errors, sql
from psycopg.adapt import Dumper, PyFormat, Transformer
from psycopg.generators import fetch_many, send
from psycopg.pq import ConnStatus, ExecStatus, Format

_FAILED = (ExecStatus.FATAL_ERROR, ExecStatus.PIPELINE_ABORTED, ExecStatus.BAD_RESPONSE)
_AUTO = PyFormat.AUTO


@functools.cache
def _numbered(statement: str) -> tuple[bytes, int]:
    """`%s` as the server counts it, $1 and on; how many there are."""
    first, *rest = statement.split("%s")
    return (first + "".join(f"${number}{part}" for number, part in enumerate(rest, 1))).encode(), len(rest)


class Reply:
    """The answer to one statement. To ask it for anything waits for all that was sent. Raises psycopg.Error: that of the first statement
    that failed, each time anew."""

    __slots__ = ("_collect", "found", "number")

    def __init__(self, collect: Callable[[], None]) -> None:
        self._collect = collect
        self.found: list[tuple] | None = None
        self.number = -1

    def fetchall(self) -> list[tuple]:
        """All rows."""
        if self.found is None:
            self._collect()
        assert self.found is not None
        return self.found

    def fetchone(self) -> tuple | None:
        """The first row, or None."""
        rows = self.fetchall()
        return rows[0] if rows else None

    @property
    def rowcount(self) -> int:
        """How many rows the statement touched."""
        self.fetchall()
        return self.number


class Pipeline:
    """The statements of one connection. Use it inside `with`, where psycopg's own cursors of this connection must rest; in between the
    connection is theirs. Inside itself it is the same pipeline."""

    def __init__(self, raw: Connection) -> None:
        self._raw, self._pgconn = raw, raw.pgconn
        self._transformer = Transformer(raw)
        self._prepared: dict[tuple, bytes] = {}
        self._names = self._depth = 0
        self._failed: errors.Error | None = None  # since the outermost `with` began
        self._waiting: list[Reply | tuple | None] = []  # a statement, the key of one that is being prepared, a Sync

    def __enter__(self) -> Pipeline:
        if not self._depth:
            self._pgconn.enter_pipeline_mode()
            self._failed = None
        self._depth += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        try:
            self._rest(kind is not None)
        finally:
            self._depth -= 1
            if not self._depth:
                self._leave()

    def _rest(self, failing: bool) -> None:
        """The answers nobody asked for. Another error is on its way already: it says more."""
        try:
            if self._pgconn.status != ConnStatus.BAD:
                self.collect()
        except Exception:
            if not failing:
                raise

    def _leave(self) -> None:
        self._waiting.clear()
        if self._pgconn.status == ConnStatus.BAD:
            return
        try:
            self._pgconn.exit_pipeline_mode()
        except errors.Error:  # answers are missing (Ctrl-C in the middle of one): what comes next could not be told from them
            self._raw.close()

    def execute(self, statement: str | sql.SQL, parameters: Sequence[Any] = ()) -> Reply:
        """Sends one statement; it is prepared at its first use. Raises psycopg.DataError, OverflowError, UnicodeError, struct.error for
        what can't be sent."""
        text, places = _numbered(statement if isinstance(statement, str) else statement.as_string())
        if places != len(parameters):
            raise errors.ProgrammingError(f"{places} values wanted, {len(parameters)} given")
        transformer = self._transformer
        values = transformer.dump_sequence(parameters, [_AUTO] * places)
        types, formats = transformer.types, transformer.formats
        key = (text, types)
        name = self._prepared.get(key)
        if name is None:
            name = self._prepared[key] = b"camp_%d" % self._names
            self._names += 1
            self._pgconn.send_prepare(name, text, types)
            self._waiting.append(key)
        self._pgconn.send_query_prepared(name, values, formats, Format.BINARY)
        self._pgconn.pipeline_sync()
        reply = Reply(self.collect)
        self._waiting += (reply, None)
        return reply

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """The same statement for each row."""
        for row in rows:
            self.execute(statement, row)

    def collect(self) -> None:
        """Waits for all answers. Raises psycopg.Error, the first one's, and again each time after that: who asked for something else, and
        could live without it, must not hide that the transaction has failed."""
        waiting, self._waiting = self._waiting, []
        if waiting and self._failed is None:
            try:
                failed = self._raw.wait(self._answers(waiting))
                self._failed = errors.error_from_result(failed) if failed is not None else None
            except errors.Error as error:
                self._failed = error
        elif waiting:
            with contextlib.suppress(errors.Error):
                self._raw.wait(self._answers(waiting))
        if self._failed is not None:
            raise self._failed

    def _answers(self, waiting: list) -> Any:
        """The first result that is an error."""
        yield from send(self._pgconn)
        failed = None
        for item in waiting:
            try:
                results = yield from fetch_many(self._pgconn)
            except errors.OperationalError:
                if failed is None:
                    raise
                return failed  # what the server said before it hung up
            if item is None or not results:
                continue
            result = results[-1]
            if result.status in _FAILED:
                failed = failed or result
                if isinstance(item, tuple):
                    self._prepared.pop(item, None)
            elif isinstance(item, Reply):
                self._transformer.set_pgresult(result)
                item.found = self._transformer.load_rows(0, result.ntuples, tuple)
                item.number = result.command_tuples if result.command_tuples is not None else -1
        return failed


class Plain:
    """The same, one statement after the other: for what is rare, and where libpq is older than 14 and has no pipeline."""

    def __init__(self, raw: Connection) -> None:
        self._raw = raw

    def __enter__(self) -> Plain:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def execute(self, statement: Any, parameters: Sequence[Any] = ()) -> Any:
        """One statement, with a cursor of its own: its answer is kept."""
        return self._raw.execute(statement, parameters)

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """The same statement for each row."""
        self._raw.cursor().executemany(statement, rows)

    def copy(self, statement: str) -> Any:
        """COPY."""
        return self._raw.cursor().copy(statement)

    def collect(self) -> None:
        """Nothing is outstanding."""


def pipeline(raw: Connection) -> Pipeline | Plain:
    """How statements are sent on this connection."""
    from psycopg import Pipeline as Theirs

    if not Theirs.is_supported():
        return Plain(raw)
    raw.prepare_threshold = None  # psycopg drops all prepared statements of a session after a ROLLBACK, ours too
    return Pipeline(raw)


# ------------------------------------------------------------ arrays

_HEAD = struct.Struct(">iiIii").pack  # dimensions, whether there are NULLs, the items' type, how many, the first one's number
_EMPTY = struct.Struct(">iiI").pack
_LENGTH = struct.Struct(">i").pack
_NULL = _LENGTH(-1)
_BIGINT = struct.Struct(">iq").pack
_SMALLINT = struct.Struct(">ih").pack


class Column:
    """Values of one column for `unnest`."""

    __slots__ = ("values",)

    def __init__(self, values: Iterable[Any]) -> None:
        self.values = values if isinstance(values, (list, tuple)) else list(values)


class Texts(Column):
    """text[]; str or None."""


class Bytes(Column):
    """bytea[]; bytes or None."""


class Bigints(Column):
    """bigint[]; int or None."""


class Smallints(Column):
    """smallint[]; int or None."""


def columns(kinds: Sequence[type[Column]], rows: Iterable[Sequence[Any]]) -> list[Column]:
    """Rows as columns. `rows` holds at least one."""
    return [kind(values) for kind, values in zip(kinds, zip(*rows, strict=True), strict=True)]


class _ColumnDumper(Dumper):
    """Several times as fast as psycopg's lists, which are written as text and escaped item by item."""

    format = Format.BINARY
    item = 0

    def dump(self, obj: Column) -> bytes:
        """The array, as the server's array_recv takes it. Raises psycopg.DataError, UnicodeError, struct.error."""
        values = obj.values
        if not values:
            return _EMPTY(0, 0, self.item)
        try:
            packed = self.packed(values)
        except (TypeError, AttributeError) as error:
            raise errors.DataError(f"a value of the wrong type: {error}") from error
        return _HEAD(1, None in values, self.item, len(values), 1) + b"".join(packed)

    def packed(self, values: Sequence[Any]) -> Iterable[bytes]:
        """Each item with its length before it."""
        raise NotImplementedError


class _TextsDumper(_ColumnDumper):
    oid, item = 1009, 25

    def packed(self, values: Sequence[Any]) -> Iterable[bytes]:
        known = {None: _NULL}  # names of campaigns, kinds and actions come again and again
        for value in set(values):
            if value is not None:
                data = value.encode()
                known[value] = _LENGTH(len(data)) + data
        return map(known.__getitem__, values)


class _BytesDumper(_ColumnDumper):
    oid, item = 1001, 17

    def packed(self, values: Sequence[Any]) -> Iterable[bytes]:
        return [_NULL if value is None else _LENGTH(len(value)) + value for value in values]


class _BigintsDumper(_ColumnDumper):
    oid, item = 1016, 20

    def packed(self, values: Sequence[Any]) -> Iterable[bytes]:
        return [_NULL if value is None else _BIGINT(8, value) for value in values]


class _SmallintsDumper(_ColumnDumper):
    oid, item = 1005, 21

    def packed(self, values: Sequence[Any]) -> Iterable[bytes]:
        return [_NULL if value is None else _SMALLINT(2, value) for value in values]


def register(raw: Connection) -> None:
    """Teaches a connection the columns."""
    for kind, dumper in ((Texts, _TextsDumper), (Bytes, _BytesDumper), (Bigints, _BigintsDumper), (Smallints, _SmallintsDumper)):
        raw.adapters.register_dumper(kind, dumper)
