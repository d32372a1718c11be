"""Real processes: `camp run` killed and ended, two engines on one file, a database that somebody else holds. The whole of the kills:
`python -m tests.crash processes --count 200`."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys

import pytest

from rules_engine.clock import SystemClock, VirtualClock
from rules_engine.service.loop import Stop, run_forever, run_once
from rules_engine.store import database
from rules_engine.store.database import sqlite3  # two SQLites in one process do not see each other's locks
from rules_engine.store.port import StoreError
from rules_engine.store.sqlite import SqliteStore
from tests.crash import processes, world
from tests.crash.invariants import Handed, Truth, broken
from tests.crash.processes import Project, end, mail_server, verdict, wait_for
from tests.crash.world import START


def test_a_killed_camp_run_sends_nothing_twice_and_loses_nothing():
    killed, _, said = processes.campaign(2)
    assert killed == 2 and said == []


def test_two_engines_on_one_file_and_everything_else_beside_one(tmp_path):
    """One process runs; a second is refused, imports and looks work, a person resolves; SIGTERM drains."""
    with mail_server(0.05) as (box, port):
        project = Project(tmp_path, port)
        project.write()
        assert project.camp("contact", "import", "contacts.jsonl").returncode == 0
        running = project.start()
        try:
            wait_for(lambda: SqliteStore(tmp_path / "camp.db", readonly=True).running())
            second = project.camp("run", "--once")
            assert second.returncode == 4 and f"another `camp run` (process {running.pid})" in second.stderr and "Traceback" not in second.stderr
            imports = [subprocess.Popen([sys.executable, "-m", "rules_engine", "event", "import", name], cwd=tmp_path, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True) for name in _files(project, 3)]
            assert [item.wait(timeout=60) for item in imports] == [0, 0, 0]
            for command in (("status",), ("outbox", "list"), ("contact", "list")):
                looked = project.camp(*command)
                assert looked.returncode == 0, looked.stderr
            wait_for(lambda: len(box.ids) >= 5, 20)
            code, out, err = end(running, signal.SIGTERM)
            assert code in (0, 6) and "Traceback" not in err, (code, err)
            store = project.store()
            effects = store.counts().effects
            assert "claimed" not in effects and "unknown" not in effects and effects["accepted"] == len(box.ids)
            store.close()
            assert project.camp("run", "--once").returncode == 0
            assert verdict(project, box, 0, 1) == [] and len(box.ids) == 30
        finally:
            if running.poll() is None:
                running.kill()


def _files(project, count):
    """Files of ten sign-ups each, of one contact each, so that nobody reaches ten points."""
    names, now = [], world.moment(SystemClock().now() - 1000)
    for number in range(count):
        records = [{"id": f"{number}/{n}", "event": "signup", "contact": f"c{number * 10 + n:03}", "at": now, "data": {"plan": "small"}}
                   for n in range(10)]
        (project.folder / f"part-{number}.jsonl").write_bytes(b"".join(world.orjson.dumps(item) + b"\n" for item in records))
        project.told += records
        names.append(f"part-{number}.jsonl")
    return names


def test_a_second_sigterm_ends_at_once(tmp_path):
    """The first waits for the mail server; the second does not. What was under way is unknown afterwards, and is not sent again."""
    with mail_server(5.0) as (box, port):
        project = Project(tmp_path, port)
        project.write()
        assert project.camp("contact", "import", "contacts.jsonl").returncode == 0 and project.tell(1).returncode == 0
        running = project.start()
        try:
            wait_for(lambda: box.ids)
            running.send_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                running.wait(timeout=1)
            code, _, err = end(running, signal.SIGTERM)
            assert code == 130 and "Traceback" not in err, (code, err)
        finally:
            if running.poll() is None:
                running.kill()
        assert project.camp("run", "--once").returncode == 6
        assert verdict(project, box, 1, 1) == [] and len(box.ids) == 1
        store = project.store()
        (unknown,) = store.effects(state="unknown")
        store.close()
        running = project.start()
        try:
            wait_for(lambda: SqliteStore(tmp_path / "camp.db", readonly=True).running())
            done = project.camp("outbox", "resolve", unknown.id, "accepted", "--yes")
            assert done.returncode == 0, done.stderr
            assert end(running, signal.SIGTERM)[0] == 0 and len(box.ids) == 1
        finally:
            if running.poll() is None:
                running.kill()
        assert "unknown" not in project.store().counts().effects


# ---------------------------------------------------------------- somebody else holds the file


@pytest.fixture
def held(tmp_path, monkeypatch):
    """A database with facts, and a program that holds its write lock."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    world.write_templates(tmp_path)
    store = SqliteStore(tmp_path / "camp.db", VirtualClock(START))
    facts = world.facts(40, 3, begin=START - world.SPAN)
    store.record_events(world.arrivals(facts))
    other = sqlite3.connect(tmp_path / "camp.db", isolation_level=None)
    yield store, facts, other
    other.close()
    store.close()


def test_a_service_waits_for_a_lock_that_somebody_holds(held, tmp_path, caplog):
    store, facts, other = held
    clock, stop, handed, naps = VirtualClock(START), Stop(), [], []

    class Clock:
        now = staticmethod(clock.now)

        @staticmethod
        def sleep(milliseconds):
            naps.append(milliseconds)
            if len(naps) == 3:
                other.execute("BEGIN IMMEDIATE")
            if len(naps) == 3 + 20:
                other.execute("ROLLBACK")
            if len(naps) == 60:
                stop()
            clock.sleep(world.HOUR)

    with caplog.at_level(logging.ERROR, "camp.service"):
        run_forever(store, world.program(), world.host(lambda call: handed.append(Handed(call.key)), remote=True), Clock(), stop=stop,
                    **world.options(tmp_path))
    assert [text for text in caplog.messages if "is locked by another process; trying again" in text]
    assert broken(store, Truth(facts, handed, live=True, now=store.position().clock, deaths=0)) == [] and handed


def test_run_once_and_an_import_say_that_the_database_is_locked(held, tmp_path):
    store, facts, other = held
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="is locked by another process") as said:
        run_once(store, world.program(), world.host(lambda call: None), VirtualClock(START), **world.options(tmp_path))
    assert said.value.kind == "locked" and said.value.help
    with pytest.raises(StoreError, match="is locked"):
        store.record_events(world.arrivals(facts))
    assert store.counts().events["new"] == len(facts), "reading works meanwhile"
    other.execute("ROLLBACK")
    assert len(store.record_events(world.arrivals(facts)).duplicates) == len(facts)


def test_the_command_says_so_with_exit_code_5(tmp_path):
    project = Project(tmp_path, 9)
    project.write()
    assert project.camp("contact", "import", "contacts.jsonl").returncode == 0
    other = sqlite3.connect(tmp_path / "camp.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    code = ("import sys; from rules_engine.store import database; database.BUSY_SECONDS = 0.05; from rules_engine.cli.main import main; "
            "sys.argv[0] = 'camp'; sys.exit(main())")
    for command in (("run", "--once"), ("contact", "import", "contacts.jsonl")):
        done = subprocess.run([sys.executable, "-c", code, *command], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 5 and "is locked by another process" in done.stderr and "Traceback" not in done.stderr, (command, done.stderr)
    other.close()
