"""The file: safety, schema, errors, and the traps of PROMISES.md, each as a test."""

from __future__ import annotations

import os
import re
import resource
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from test_contract import decision, effect, event, row

from rules_engine.store import open_store
from rules_engine.store.database import sqlite3 as driver
from rules_engine.store.migrations import APPLICATION_ID, MIGRATIONS, statements
from rules_engine.store.port import BadData, Block, StoreError
from rules_engine.store.sqlite import SqliteStore
from rules_engine.store.tables import TABLES

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "camp.db"


def run(code: str, *arguments: object) -> subprocess.Popen:
    """Another process that has the store's names at hand."""
    names = ("store.sqlite import SqliteStore", "store.port import *", "facts import *")
    head = "import sys\n" + "".join(f"from rules_engine.{name}\n" for name in names)
    return subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


# ---------------------------------------------------------------- settings


def test_every_commit_is_synced_and_references_are_kept(file):
    store = SqliteStore(file)
    pragmas = {
        name: store._db.one(f"PRAGMA {name}")
        for name in ("journal_mode", "synchronous", "foreign_keys", "application_id", "busy_timeout")
    }
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "application_id": APPLICATION_ID,
        "busy_timeout": 10_000,
    }


def test_it_takes_the_newer_sqlite():
    try:
        from pysqlite3 import dbapi2
    except ImportError:
        assert driver is sqlite3
    else:
        assert (driver is dbapi2) == (dbapi2.sqlite_version_info >= sqlite3.sqlite_version_info)


def test_all_survives_closing_and_opening(file):
    store = SqliteStore(file)
    store.record_events([event("a")])
    store.commit(Block("p1", [row("ana", 50)], [1], decisions=[decision()], effects=[effect("f1")], cursor=1, clock=9))
    store.close()
    again = SqliteStore(file)
    assert again.position() == (1, 9) and again.due(50, 5) == [(50, "ana")] and again.effect("f1").state == "ready"
    assert [item.decision for item in again.journal()] == [decision()] and again.check() == []


# ---------------------------------------------------------------- the one transaction


def test_the_only_transaction_takes_the_lock_at_once_and_is_not_nested(file):
    store = SqliteStore(file)
    said = []
    store._db.raw.set_trace_callback(said.append)
    store.record_events([event("a")])
    assert said[0] == "BEGIN IMMEDIATE"
    with pytest.raises(AssertionError), store._db.tx("a"), store._db.tx("b"):
        pass
    assert not store._db.raw.in_transaction
    sources = [path.read_text() for path in (ROOT / "rules_engine").rglob("*.py")]
    assert not [text for text in sources if "atomic" + "(" in text], "peewee's own transaction is deferred"
    assert sum(text.count('"BEGIN IMMEDIATE') for text in sources) == 1
    assert sum(text.count('"BEGIN') for text in sources) == 3, "one for each of the two databases, and one that only reads: Database.snapshot"


def test_a_full_disk_that_is_overlooked_inside_a_transaction_saves_nothing(file):
    """SQLite rolls back all of it by itself; what came after must not be committed statement by statement."""
    store = SqliteStore(file)
    store._db.raw.execute(f"PRAGMA max_page_count = {store._db.one('PRAGMA page_count')}")
    with pytest.raises(StoreError), store._db.tx("careless") as raw:
        raw.execute("INSERT INTO meta VALUES ('before', 'x')")
        with pytest.raises(driver.OperationalError):
            raw.execute("INSERT INTO meta VALUES ('large', hex(zeroblob(9000)))")
        raw.execute("INSERT INTO meta VALUES ('after', 'x')") if raw.in_transaction else None
    assert store._db.rows("SELECT key FROM meta ORDER BY key") == [("instance",), ("secret",)]


def test_a_failed_block_leaves_nothing(file):
    store = SqliteStore(file)
    store.record_events([event("a")])
    with pytest.raises(BadData):
        store.commit(Block("p1", [row("ana")], [1], decisions=[decision(), decision(at=2**70)], cursor=1))
    assert store.counts()[:3] == (0, 0, 0) and store.position().cursor == 0 and len(store.read_log(0, 5)) == 1
    store.commit(Block("p1", [row("ana")], [1], decisions=[decision()], cursor=1))
    assert store.counts().decisions == 1


@pytest.mark.parametrize("bad", [decision(reason=None), decision(contact=object()), decision(contact="\ud800")])
def test_what_no_database_takes_is_the_callers_fault(file, bad):
    with pytest.raises(BadData):
        SqliteStore(file).commit(Block("p1", decisions=[bad]))


# ---------------------------------------------------------------- several processes


def test_four_writers_lose_nothing(file):
    SqliteStore(file).close()
    code = """
        store = SqliteStore(sys.argv[1])
        for n in range(100):
            store.read_log(0, 5)
            assert store.record_events([Arrival(Event(f"{sys.argv[2]}-{n}-{k}", "e", "ana", n)) for k in range(5)]).accepted == 5
    """
    others = [run(code, file, number) for number in range(4)]
    assert [(other.wait(), other.stderr.read()) for other in others] == [(0, "")] * 4
    store = SqliteStore(file)
    assert store.counts().events["new"] == 2_000
    received = [row.received for row in store.read_log(0, 5_000)]
    assert received == sorted(received)


def test_two_processes_may_open_a_new_file_at_once(file):
    others = [run("SqliteStore(sys.argv[1]).close()", file) for _ in range(4)]
    assert [(other.wait(), other.stderr.read()) for other in others] == [(0, "")] * 4
    assert SqliteStore(file).check() == []


def test_the_second_runner_is_refused_others_append_and_read_and_a_killed_one_leaves_no_lock(file):
    SqliteStore(file).close()
    runner = run(
        """
        store = SqliteStore(sys.argv[1])
        with store.run_lock():
            print("running", flush=True)
            sys.stdin.read()
    """,
        file,
    )
    assert runner.stdout.readline() == "running\n"
    store = SqliteStore(file)
    with pytest.raises(StoreError) as refused, store.run_lock():
        pass
    assert f"(process {runner.pid})" in refused.value.message and refused.value.help
    assert store.record_events([event("a")]).accepted == 1
    reader = open_store(file, readonly=True)
    assert len(reader.read_log(0, 5)) == 1 and reader.running()
    runner.kill()
    runner.wait()
    with store.run_lock():
        pass
    for stream in (runner.stdin, runner.stdout, runner.stderr):
        stream.close()


def test_reading_works_while_somebody_writes_and_a_locked_file_says_so(file):
    store = SqliteStore(file)
    store.record_events([event("a")])
    other = SqliteStore(file)
    other._db.raw.execute("PRAGMA busy_timeout = 50")
    with store._db.tx("long"):
        store._db.raw.execute("UPDATE event SET status = 1")
        assert len(open_store(file, readonly=True).read_log(0, 5)) == 1
        with pytest.raises(StoreError) as locked:
            other.record_events([event("b")])
    assert locked.value.kind == "locked" and locked.value.passing and "locked by another process" in locked.value.message
    assert other.record_events([event("b")]).accepted == 1


# ---------------------------------------------------------------- errors


def test_a_missing_database_is_not_made_by_a_reader(file):
    with pytest.raises(StoreError) as missing:
        open_store(file, readonly=True)
    assert missing.value.kind == "missing" and not file.exists()
    with pytest.raises(StoreError):
        SqliteStore(file.parent / "no" / "camp.db")


def test_a_reader_can_not_write(file):
    SqliteStore(file).close()
    with pytest.raises(StoreError) as refused:
        open_store(file, readonly=True).record_events([event("a")])
    assert refused.value.kind == "readonly"


def test_other_files_are_left_alone(file):
    file.write_bytes(b"Dear diary, " * 100)
    with pytest.raises(StoreError) as foreign:
        SqliteStore(file)
    assert foreign.value.kind == "foreign" and file.read_bytes().startswith(b"Dear diary")
    other = file.with_name("other.db")
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE songs (name)")
    with pytest.raises(StoreError) as foreign:
        SqliteStore(other)
    assert "is not a Camp database" in foreign.value.message
    with sqlite3.connect(other) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "delete", "nothing of it was changed"


def test_a_damaged_file_says_so(file):
    SqliteStore(file).close()
    schema = file.stat().st_size // 4096  # pages that hold the schema stay sound
    store = SqliteStore(file)
    for start in range(0, 3_000, 500):
        store.record_events([event(f"e{n}") for n in range(start, start + 500)])
    store.close()
    with file.open("r+b") as stream:
        for page in range(schema, file.stat().st_size // 4096):
            stream.seek(page * 4096)
            stream.write(b"\xff" * 4096)
    damaged = SqliteStore(file)
    assert damaged.check() != []
    with pytest.raises(StoreError) as corrupt:
        damaged.record_events([event(f"e{n}") for n in range(3_000)])
    assert corrupt.value.kind == "corrupt" and "backup" in corrupt.value.help and not corrupt.value.passing


def test_a_full_disk_saves_nothing_and_goes_on_when_there_is_room(file):
    store = SqliteStore(file)
    store.record_events([event("a")])
    store._db.maintain()
    limit = store._db.one("PRAGMA page_count") + 2
    store._db.raw.execute(f"PRAGMA max_page_count = {limit}")
    with pytest.raises(StoreError) as full:
        store.record_events([event(f"e{n}", text="x" * 1_000) for n in range(500)])
    assert full.value.kind == "full" and full.value.passing and not store._db.raw.in_transaction
    assert store.counts().events["new"] == 1
    store._db.raw.execute("PRAGMA max_page_count = 1000000")
    assert store.record_events([event(f"e{n}", text="x" * 1_000) for n in range(500)]).accepted == 500


def test_a_write_that_the_system_refuses_loses_only_its_own_block(file):
    """The limit on a file's size stands in for a full disk: the write-ahead log can't grow."""
    SqliteStore(file).close()
    code = """
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = SqliteStore(sys.argv[1])
        store.record_events([Arrival(Event("first", "e", "ana", 1))])
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        done = 1
        try:
            for n in range(1_000):
                store.record_events([Arrival(Event(f"{n}-{k}", "e", "ana", n, None, {"text": "x" * 500})) for k in range(50)])
                done += 50
        except StoreError as error:
            assert error.kind in ("full", "io"), error.kind
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            assert store.counts().events["new"] == done
            store.record_events([Arrival(Event("last", "e", "ana", 1))])
            print(done + 1)
    """
    other = run(code, file)
    out, errors = other.communicate()
    assert errors == "" and int(out) > 50
    assert resource.RLIMIT_FSIZE is not None
    again = SqliteStore(file)
    assert again.counts().events["new"] == int(out) and again.check() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_may_not_be_written_says_so(file):
    SqliteStore(file).close()
    file.chmod(0o400)
    with pytest.raises(StoreError) as refused:
        SqliteStore(file).record_events([event("a")])
    assert refused.value.kind == "readonly"


# ---------------------------------------------------------------- schema


def test_a_database_of_a_newer_camp_is_refused(file):
    SqliteStore(file, migrations=(*MIGRATIONS, "CREATE TABLE later (x INTEGER)")).close()
    with pytest.raises(StoreError) as newer:
        SqliteStore(file)
    assert newer.value.kind == "newer" and "upgrade" in newer.value.help


def test_an_old_file_is_migrated_with_all_it_holds(file):
    connection = sqlite3.connect(file)
    connection.executescript((Path(__file__).parent / "old" / "schema_1.sql").read_text())
    connection.close()
    with pytest.raises(StoreError) as older:
        open_store(file, readonly=True)
    assert "camp db migrate" in older.value.help
    store = SqliteStore(file)
    assert store._db.one("PRAGMA user_version") == len(MIGRATIONS)
    assert [row.cause.id for row in store.events_of("ana")] == ["e1"] and store.contacts(["ana"])["ana"].state == b'{"n": 1}'
    assert store.attempts_of("f1") == [] and store.effect("f1").primary == "welcome" and store.check() == []


def test_a_migration_that_fails_changes_nothing(file):
    SqliteStore(file).close()
    with pytest.raises(StoreError):
        SqliteStore(file, migrations=(*MIGRATIONS, "CREATE TABLE fresh (x INTEGER); CREATE TABLE event (x INTEGER)"))
    store = SqliteStore(file)
    assert store._db.one("SELECT count(*) FROM sqlite_master WHERE name = 'fresh'") == 0


def test_no_migration_while_an_older_camp_is_running(file):
    store = SqliteStore(file)
    with store.run_lock(), pytest.raises(StoreError) as refused:
        SqliteStore(file, migrations=(*MIGRATIONS, "CREATE TABLE later (x INTEGER)"))
    assert "is using it" in refused.value.message


def test_the_models_describe_what_the_migrations_make(file):
    store = SqliteStore(file)
    for table in TABLES:
        made = {
            name: (bool(notnull) or bool(pk))
            for _, name, _, notnull, _, pk in store._db.rows(f"PRAGMA table_info({table._meta.table_name})")
        }
        described = {field.column_name: not field.null for field in table._meta.sorted_fields}
        assert made == described, table
    names = {
        name for (name,) in store._db.rows("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
    }
    assert names == {table._meta.table_name for table in TABLES}
    adds = re.compile(r"CREATE |INSERT OR IGNORE |INSERT INTO meta |ALTER TABLE \w+ ADD COLUMN ")  # it never drops or rewrites what is kept
    assert [statement for script in MIGRATIONS for statement in statements(script) if not adds.match(statement)] == []


def test_a_new_file_and_what_stands_beside_it_belong_to_the_service_alone(tmp_path):
    """People's data, and the secret of the hashes that an erasure leaves."""
    before = os.umask(0o022)
    try:
        store = SqliteStore(tmp_path / "camp.db")
        store.record_events([event("e1")])
        assert {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir() if file.stat().st_size} == {
            name: 0o600 for name in ("camp.db", "camp.db-wal", "camp.db-shm")
        }
        store.close()
        (tmp_path / "camp.db").chmod(0o640)
        SqliteStore(tmp_path / "camp.db").close()
        assert (tmp_path / "camp.db").stat().st_mode & 0o777 == 0o640, "what an operator chose stays"
    finally:
        os.umask(before)
