"""The connection to PostgreSQL: settings, the one transaction, a lost connection, errors in our words, migrations. Knows no table but
`meta`.

A connection that the server dropped still says it is open: it is closed and made anew, and what can be repeated is repeated. Whether a
COMMIT that was on its way took place is told by `proof` (see `run`): pg_xact_status could be wrong after a crash, when a transaction's
number may be given out again.
"""

from __future__ import annotations

import contextlib
import logging
import struct
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from rules_engine.clock import SystemClock, elapsed
from rules_engine.store.migrations import statements
from rules_engine.store.port import BadData, StoreError
from rules_engine.store.postgres_schema import APPLICATION, MIGRATIONS, SCHEMA, SHARDS

try:
    import peewee
    import psycopg
    from psycopg import errors, sql
    from psycopg.pq import TransactionStatus
    from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper

    from rules_engine.store.postgres_pipeline import Plain, pipeline, register
except ImportError as error:  # psycopg, or the C library under it
    raise StoreError(
        f"a PostgreSQL database needs the package psycopg, which is not here ({error})",
        "pip install 'camp-rules-engine[postgres]'",
        "missing",
    ) from error

log = logging.getLogger("camp.store")

PATIENCE = 15_000  # ms: how long a verb waits for a server that restarts
PAUSE = 200  # ms between tries
LOCK_MS = 10_000  # how long a transaction waits for another's row
IDLE_MS = 5_000  # a process that stands still inside a transaction loses it: others wait for its locks
STATEMENT_MS = 20_000  # the same, while it stands still in the middle of an answer; for transactions that hold what others need
REPEATS = 10  # of a transaction that met another's

SCHEMA_LOCK, MEMBER_LOCK, APPEND_LOCK, JOURNAL_LOCK, THROTTLE_LOCK = range(0x43414D50_0001, 0x43414D50_0006)

_BAD_DATA = (  # ProgramLimitExceeded: a text that is too long for an index
    errors.DataError, errors.IntegrityError, errors.ProgramLimitExceeded, OverflowError, UnicodeError, struct.error
)  # fmt: skip
_AGAIN = ("40001", "40P01")  # serialization failure, deadlock
_GONE = ("57P01", "57P02", "57P03", "57P05", "25P03", "25P04")  # the server ended the session, or is not up yet
_KINDS = {
    "53100": "full", "53300": "lost", "25006": "readonly", "42501": "rights", "3D000": "missing", "28P01": "rights", "28000": "rights",
    "55P03": "locked", "57014": "locked", "58030": "io", "58P01": "io", "XX001": "corrupt", "XX002": "corrupt",
}  # fmt: skip
_WORDS = (
    ("does not exist", "missing"),
    ("authentication failed", "rights"),
    ("no password supplied", "rights"),
    ("no pg_hba.conf entry", "rights"),
    ("permission denied", "rights"),
)
_SAY = {
    "locked": ("{url} is locked by another transaction", "try again; `SELECT * FROM pg_stat_activity` shows who holds it"),
    "readonly": ("{url} can't be written", "it is a standby, or set to read only: name the primary server"),
    "rights": ("{url} does not let us in", "check the user, the password (~/.pgpass or PGPASSWORD) and the rights on the database"),
    "full": ("the disk of {url} is full; nothing of this step was saved", "free some space there; what was acknowledged is safe"),
    "corrupt": ("{url} is damaged", "stop, and restore the latest backup"),
    "foreign": ("the schema `camp` in {url} is not of this program", "name another database"),
    "missing": ("{url} is not there", "make it with `createuser` and `createdb` (docs/cluster.md), then run `camp db migrate`"),
    "io": ("the disk of {url} gives errors", "look at the server's log; restore the latest backup on a sound disk"),
    "lost": ("{url} does not answer", "check that the server runs and can be reached"),
}


def shown(url: str) -> str:
    """A database's address without its password."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}@{host}"))


def say(error: Exception, url: str) -> StoreError:
    """A driver's exception as a StoreError."""
    code, text = getattr(error, "sqlstate", None) or "", " ".join(str(error).split())
    kind = _KINDS.get(code, "")
    if not kind and (code in _GONE or code.startswith("08") or (not code and isinstance(error, psycopg.OperationalError))):
        kind = next((kind for words, kind in _WORDS if words in text), "lost")
    if not kind and code in _AGAIN:
        kind = "locked"
    if not kind:
        return StoreError(f"{shown(url)} refused: {text}", "this is a fault of Camp; please report it", "other")
    message, help = _SAY[kind]
    detail = f" ({text})" if kind in ("lost", "rights", "missing", "io", "corrupt") and text else ""
    return StoreError(message.format(url=shown(url)) + detail, help, kind)


def _cause(error: Exception) -> Exception:
    """The driver's exception inside peewee's."""
    inner = error.__cause__ or error.__context__
    return inner if isinstance(inner, psycopg.Error) and not isinstance(error, psycopg.Error) else error


class ServerClock:
    """The server's clock, as this machine's own count of time tells it between two looks: all workers on one database share it, whatever
    their machines' clocks say. Never goes back."""

    def __init__(self) -> None:
        self._offset, self._latest = 0, 0

    def set(self, server: int, asked: int, answered: int) -> None:
        """The server said `server` (ms) between two moments of `elapsed`."""
        self._offset = server - (asked + answered) // 2

    def now(self) -> int:
        """Milliseconds, UTC."""
        self._latest = max(self._latest, elapsed() + self._offset)
        return self._latest

    def sleep(self, milliseconds: int) -> None:
        """Waits."""
        SystemClock().sleep(milliseconds)


class PostgresDatabase:
    """One connection. `faults(point)` as for SQLite's `Database`. unsafe: for tests: a server that does not sync is taken."""

    def __init__(
        self,
        url: str,
        *,
        create: bool,
        readonly: bool,
        faults: Callable[[str], None],
        migrations: tuple[str, ...] = MIGRATIONS,
        unsafe: bool = False,
        shards: int = SHARDS,
    ) -> None:
        self.url = "postgresql" + url[url.index("://") :]
        self.readonly, self._faults, self._migrations, self._unsafe, self._shards = readonly, faults, migrations, unsafe, shards
        self.clock = ServerClock()
        self.home, self.moved = "", False
        self._inside = False
        self.peewee = peewee.PostgresqlDatabase(
            self.url, prefer_psycopg3=True, connect_timeout=10, keepalives_idle=10, keepalives_interval=5, keepalives_count=3,
            tcp_user_timeout=30_000, application_name="camp",
        )  # fmt: skip
        try:
            self._connect()
            self._check_server()
            self._open_schema(create)
        except (psycopg.Error, peewee.PeeweeException) as error:
            self.close()
            raise say(_cause(error), self.url) from error
        except StoreError:
            self.close()
            raise

    # ------------------------------------------------------------ the connection

    def _connect(self) -> None:
        try:
            self.peewee.connect()
        except peewee.PeeweeException as error:
            raise _cause(error) from None
        raw = self.raw = self.peewee.connection()
        # One type for all whole numbers: a statement is prepared once, whatever the size of its values.
        raw.adapters.register_dumper(int, Int8Dumper)
        raw.adapters.register_dumper(int, Int8BinaryDumper)
        register(raw)
        self._plain, self._pipeline = Plain(raw), pipeline(raw)
        settings = {
            "search_path": SCHEMA, "lock_timeout": LOCK_MS, "idle_in_transaction_session_timeout": IDLE_MS, "timezone": "UTC",
            "jit": "off", "enable_seqscan": "off", "default_transaction_read_only": "on" if self.readonly else "off",
        }  # fmt: skip
        calls = ", ".join("set_config(%s, %s, false)" for _ in settings)
        raw.execute(f"SELECT {calls}", [str(part) for pair in settings.items() for part in pair])
        if raw.execute("SHOW synchronous_commit").fetchone()[0] not in ("on", "remote_apply"):
            raw.execute("SET synchronous_commit = on")  # an event is acknowledged when it is on the disk
        self.look_at_clock()
        home = self._home()
        self.moved = self.moved or bool(self.home and home != self.home)
        self.home = home

    def _home(self) -> str:
        """Which database of which server this is, in which of the server's histories: another one after a restore from a dump or a base
        backup, and after a standby has taken over. Empty where the schema is not there yet."""
        identifier = "0"
        if self.raw.execute("SELECT has_function_privilege('pg_control_system()', 'execute')").fetchone()[0]:
            identifier = self.raw.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()[0]
        if self.raw.execute("SELECT pg_is_in_recovery() OR to_regnamespace(%s) IS NULL", (SCHEMA,)).fetchone()[0]:
            return ""
        return self.raw.execute(
            "SELECT %s || '/' || (SELECT oid FROM pg_database WHERE datname = current_database()) || '/' || "
            "to_regnamespace(%s)::oid::text || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8)",
            (identifier, SCHEMA),
        ).fetchone()[0]

    def look_at_clock(self) -> None:
        """Sets `clock` by the server's."""
        asked = elapsed()
        server = self.raw.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").fetchone()[0]
        self.clock.set(server, asked, elapsed())

    def _lost(self, error: Exception) -> bool:
        """Whether the connection is of no use any more."""
        code = getattr(error, "sqlstate", None) or ""
        return code in _GONE or code.startswith("08") or self.raw.closed or self.raw.pgconn.transaction_status == TransactionStatus.UNKNOWN

    def _again(self, until: int) -> None:
        """A new connection in place of one that was lost. Raises StoreError when the server has not come back by `until` (`elapsed`)."""
        while True:
            with contextlib.suppress(Exception):
                self.raw.close()
            with contextlib.suppress(Exception):
                self.peewee.close()
            try:
                self._connect()
                return
            except (psycopg.Error, peewee.PeeweeException) as error:
                if elapsed() >= until:
                    raise say(error, self.url) from error
            SystemClock().sleep(PAUSE)

    def close(self) -> None:
        """Ends the session."""
        with contextlib.suppress(Exception):
            self.peewee.close()

    # ------------------------------------------------------------ opening

    def _check_server(self) -> None:
        """What Camp's promises need of the server."""
        if self.raw.info.server_version < 130_000:
            raise StoreError(f"{shown(self.url)} is PostgreSQL {self.raw.info.server_version // 10_000}", "Camp needs 13 or later", "older")
        encoding = self.raw.execute("SHOW server_encoding").fetchone()[0]
        if encoding != "UTF8":
            raise StoreError(f"{shown(self.url)} is encoded in {encoding}", "make a database with `createdb --encoding UTF8`", "foreign")
        off = [name for name in ("fsync", "full_page_writes") if self.raw.execute(f"SHOW {name}").fetchone()[0] == "off"]
        if off and not self._unsafe:
            raise StoreError(
                f"{shown(self.url)} runs with {' and '.join(off)} off: a power cut would lose what was acknowledged",
                "switch it on in postgresql.conf and restart the server",
                "unsafe",
            )

    def _open_schema(self, create: bool) -> None:
        """Refuses what is foreign or newer, and brings what is older up to date."""
        version, target = self._version(), len(self._migrations)
        if version is None and not create:
            raise StoreError(f"there is no Camp in {shown(self.url)} yet", "make it with `camp db migrate`, or import something first", "missing")
        if version is not None and version > target:
            raise StoreError(
                f"{shown(self.url)} has schema {version}, and this Camp knows only up to {target}",
                "it was used by a newer Camp: upgrade this one",
                "newer",
            )
        if version == target:
            return
        if self.readonly:
            raise StoreError(f"{shown(self.url)} has an older schema", "upgrade it with `camp db migrate`", "older")
        self.run("migrate", self._migrate)
        self.home = self._home()

    def _version(self) -> int | None:
        """The schema's number; None where there is none yet."""
        one = self.raw.execute(
            "SELECT to_regnamespace(%s)::text, to_regclass(%s)::text, "
            "(SELECT count(*) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = %s)",
            (SCHEMA, f"{SCHEMA}.meta", SCHEMA),
        ).fetchone()
        if one[0] is None or not one[2]:
            return None
        rows = {}
        if one[1] is not None:
            with contextlib.suppress(errors.UndefinedColumn):
                rows = dict(self.raw.execute(f"SELECT key, value FROM {SCHEMA}.meta").fetchall())
        if rows.get("application") != APPLICATION:
            raise StoreError(_SAY["foreign"][0].format(url=shown(self.url)), _SAY["foreign"][1], "foreign")
        return int(rows["version"])

    def _migrate(self, cursor: Any) -> None:
        """All of it in one transaction, by one process at a time."""
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (SCHEMA_LOCK,))
        version = self._version() or 0  # another process may have been faster
        if version and version < len(self._migrations) and self._alive(cursor):
            raise StoreError(f"{shown(self.url)} has an older schema and workers of an older Camp use it", "stop them first", "older")
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        for script in self._migrations[version:]:
            for statement in statements(script):
                cursor.execute(sql.SQL(statement))
        said = {"application": APPLICATION, "version": str(len(self._migrations))}
        if not version:
            said["shards"] = str(self._shards)
            cursor.execute("INSERT INTO shard (number) SELECT * FROM generate_series(0, %s::int)", (self._shards - 1,))
        for pair in said.items():
            cursor.execute("INSERT INTO meta VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value", pair)

    @staticmethod
    def _alive(cursor: Any) -> bool:
        return bool(cursor.execute("SELECT count(*) FROM worker WHERE until > clock_timestamp()").fetchone()[0])

    # ------------------------------------------------------------ the one transaction

    def run(
        self, name: str, work: Callable[[Any], Any], *, again: bool = True, proof: Callable[[], bool] | None = None, ahead: bool = False
    ) -> Any:
        """The only transaction: `work(cursor)` and a commit; what `work` returned. Raises StoreError, BadData.

        again: `work` may be run again after a deadlock or a lost connection: it reads nothing but the database and changes nothing else.
        proof: asked, with a new connection, whether a commit in doubt took place. Without one, work that may be run again is, and other
        work is told to look.
        ahead: the statements of `work` are sent one behind the other, and waited for when it asks for an answer (`postgres_pipeline`). It
        reads and writes by its cursor, or by `rows` and `one`, and in no other way. A statement's error may turn up later, but before the
        commit.
        """
        if self._inside:
            raise AssertionError("a transaction inside a transaction")
        if self.readonly:
            raise StoreError(f"{shown(self.url)} was opened for reading", kind="readonly")
        until, repeats = elapsed() + PATIENCE, 0
        while True:
            try:
                doubt, answer = self._attempt(name, work, self._pipeline if ahead else self._plain)
            except _BAD_DATA as error:
                raise BadData(" ".join(str(error).split())) from error
            except psycopg.ProgrammingError as error:
                if "adapt" in str(error):  # a value of a type that the driver does not know
                    raise BadData(str(error)) from error
                raise say(error, self.url) from error
            except psycopg.Error as error:
                lost, repeats = self._lost(error), repeats + 1
                if lost:
                    log.warning("%s: the connection is lost (%s); connecting again", shown(self.url), " ".join(str(error).split()))
                    self._again(until)
                if not again or not (lost or (error.sqlstate in _AGAIN and repeats < REPEATS)) or elapsed() >= until:
                    raise say(error, self.url) from error
                SystemClock().sleep(5 * repeats)
                continue
            if doubt is None:
                self._faults(name + ".after_commit")
                return answer
            log.warning("%s: the connection is lost in a commit (%s); connecting again", shown(self.url), " ".join(str(doubt).split()))
            self._again(until)
            if proof is not None:
                if proof():
                    return answer
            elif not again:
                raise StoreError(f"{shown(self.url)} was lost while it saved this", "it may have been saved: look before you repeat it", "lost")
            if not again:
                raise say(doubt, self.url)

    def _attempt(self, name: str, work: Callable[[Any], Any], way: Any) -> tuple[Exception | None, Any]:
        """(None, answer) when it is committed; (error, answer) when nobody knows whether it is."""
        self._inside = True
        try:
            with way as cursor:
                cursor.execute("BEGIN")
                answer = work(cursor)
                cursor.collect()
                self._faults(name + ".before_commit")
                try:
                    cursor.execute("COMMIT")
                    cursor.collect()
                except psycopg.OperationalError as error:
                    if not self._lost(error):
                        raise
                    return error, answer
                return None, answer
        finally:
            self._inside = False
            with contextlib.suppress(psycopg.Error):
                if self.raw.pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
                    self.raw.execute("ROLLBACK")

    # ------------------------------------------------------------ reading

    def rows(self, statement: str, parameters: Any = ()) -> list[tuple]:
        """All rows. Raises StoreError."""

        def ask() -> list[tuple]:
            with self._pipeline as sql:
                return sql.execute(statement, parameters).fetchall()

        return self.read(ask)

    def one(self, statement: str, parameters: Any = ()) -> Any:
        """The first value of the first row, or None. Raises StoreError."""
        rows = self.rows(statement, parameters)
        return rows[0][0] if rows else None

    def read(self, work: Callable[[], Any]) -> Any:
        """Something that only reads, again if the connection was lost."""
        until = elapsed() + PATIENCE
        while True:
            try:
                return work()
            except (psycopg.Error, peewee.PeeweeException) as error:
                cause = _cause(error)
                if isinstance(cause, errors.DataError):  # a name with a NUL: no such thing is here
                    return []
                if not self._lost(cause) or elapsed() >= until:
                    raise say(cause, self.url) from error
                self._again(until)
            except UnicodeError:
                return []

    @contextlib.contextmanager
    def models(self, tables: Any) -> Iterator[None]:
        """Inside it, the models speak to this database. Not for a transaction: its statements may be on their way."""
        assert not self._inside
        with self.peewee.bind_ctx(tables, bind_refs=False, bind_backrefs=False):
            yield
