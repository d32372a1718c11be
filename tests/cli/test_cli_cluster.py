"""The commands on a PostgreSQL database."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests import pgserver

if pgserver.skip_reason():
    pytest.skip(pgserver.skip_reason(), allow_module_level=True)

EVENTS = "".join(
    json.dumps({"id": f"e{n}", "event": "tour.started", "contact": f"c{n % 7}", "at": "2026-03-02T09:00:00Z"}) + "\n" for n in range(20)
)


@pytest.fixture(scope="module")
def server():
    """One that syncs: the commands refuse any other."""
    found = pgserver.Server(fsync=True)
    yield found
    found.stop()


@pytest.fixture
def url(server):
    return server.database("cli")


def test_every_command_takes_an_address_in_the_place_of_a_file(shop, url, monkeypatch):
    monkeypatch.setenv("CAMP_DATABASE", url)
    missing = shop("db", "status")
    assert missing.code == 5 and "there is no Camp in postgresql://" in missing.err and "camp db migrate" in missing.err
    assert shop("db", "migrate").code == 0 and shop("db", "check").code == 0
    people = shop.folder / "people.jsonl"
    people.write_text('{"id": "ana", "email": "ana@example.com"}\n{"id": "ben", "email": "ben@example.com"}\n')
    assert shop("contact", "import", "people.jsonl").code == 0
    ran = shop("run", "--once")
    assert ran.code == 0 and "2 events" in ran.out, ran
    status = json.loads(shop("db", "status", "--json").out)
    assert (status["contacts"], status["running"], status["workers"]) == (2, False, []) and status["bytes"] > 100_000
    assert "does not run" in shop("status").out and shop("contact", "list").code == 0 and "ana" in shop("contact", "show", "ana").out
    assert shop("timeline", "ana").code == 0 and shop("segment", "list").code == 0
    doctor = shop("doctor")
    assert "the database is where it was" in doctor.out and "could not" not in doctor.out, doctor
    assert shop("pause", "--all").code == 0 and "everything" in shop("pause").out + shop("resume", "--all", "--yes").err and shop("outbox", "list").code == 0


def test_the_doctor_looks_at_a_server(shop, url, server):
    """The server's clock, the database's home, its workers; nothing of a file."""
    assert shop("db", "migrate", "--db", url).code == 0
    assert shop("run", "--once", "--db", url).code == 0
    found = {item["about"]: item for item in map(json.loads, shop("doctor", "--json", "--db", url).out.splitlines())}
    assert found["database"]["level"] == found["home"]["level"] == found["clock"]["level"] == "ok", found
    assert "disk" not in found and "send journal" not in found and "does not see it" in found["backup"]["message"]
    gone = shop("doctor", "--json", "--db", "postgresql://camp@127.0.0.1:1/camp")
    assert gone.code == 1 and "does not answer" in gone.out and not gone.err


def test_work_goes_on_after_an_erasure(shop, url, monkeypatch):
    """It once did not: the store said "nobody was erased" for ever, so that each commit was refused as older than the erasure."""
    monkeypatch.setenv("CAMP_DATABASE", url)
    assert shop("db", "migrate").code == 0
    (shop.folder / "people.jsonl").write_text('{"id": "ana", "email": "ana@example.com"}\n{"id": "ben", "email": "ben@example.com"}\n')
    assert shop("contact", "import", "people.jsonl").code == 0 and shop("run", "--once").code == 0
    assert shop("contact", "forget", "ben", "--yes").code == 0
    assert shop("contact", "set", "ana", "first_name=Ana").code == 0
    command = [sys.executable, "-m", "rules_engine", "run", "--once"]
    assert subprocess.run(command, cwd=shop.folder, env={**os.environ, "CAMP_DATABASE": url}, capture_output=True, timeout=30).returncode == 0
    assert json.loads(shop("db", "status", "--json").out)["events"].get("new", 0) == 0


def test_a_password_is_never_shown(shop, monkeypatch):
    monkeypatch.setenv("CAMP_DATABASE", "postgresql://me:hunter2@127.0.0.1:1/camp")
    for arguments in (("db", "status"), ("config", "show"), ("config", "show", "--json"), ("run", "--once")):
        answer = shop(*arguments)
        assert "hunter2" not in answer.out + answer.err, arguments
    assert "does not answer" in answer.err


def test_what_works_on_files_only_says_so(shop, url):
    refused = shop("run", "--dry-run", "--db", url)
    assert refused.code == 5 and "this database is on a server" in refused.err
    assert "is no address" in shop("db", "copy", "--to", "camp2.db").err
    assert "is on a server" in shop("db", "copy", "--to", url, "--db", url).err


def test_two_workers_share_the_work_and_end_when_told(shop, url):
    assert shop("db", "migrate", "--db", url).code == 0
    command = [sys.executable, "-m", "rules_engine", "run", "--db", url]
    workers = [
        subprocess.Popen(command, cwd=shop.folder, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        end = time.monotonic() + 40
        while len(found := json.loads(shop("db", "status", "--db", url, "--json").out)["workers"]) < 2 or found[1]["shards"] < 32:
            assert time.monotonic() < end and all(worker.poll() is None for worker in workers), found
            time.sleep(0.3)
        assert [worker["shards"] for worker in found] == [32, 32]
        assert "another `camp run`" in shop("run", "--once", "--db", url).err
        assert "worker     " in shop("db", "status", "--db", url).out
        assert shop("contact", "set", "ana", "email=ana@example.com", "--db", url).code == 0
        erased = shop("contact", "forget", "ana", "--yes", "--db", url)
        assert erased.code == 0 and erased.out.startswith("erased ") and "warning: while workers run" in erased.err, erased
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        answers = [(worker.communicate(timeout=30), worker.returncode) for worker in workers]
    assert [code for _, code in answers] == [0, 0], answers
    assert json.loads(shop("db", "status", "--db", url, "--json").out)["workers"] == []


def test_a_file_is_moved_to_a_server(shop, url):
    (shop.folder / "people.jsonl").write_text('{"id": "ana", "email": "ana@example.com"}\n')
    assert shop("contact", "import", "people.jsonl").code == 0 and shop("run", "--once").code == 0
    copied = shop("db", "copy", "--to", url)
    assert copied.code == 0 and "copied" in copied.out and "postgresql://" in copied.err, copied
    assert "ana" in shop("contact", "show", "ana", "--db", url).out
    again = shop("db", "copy", "--to", url)
    assert again.code == 4 and "is not empty" in again.err


def test_a_dump_that_is_restored_sends_nothing_before_it_is_adopted(shop, url, server, tmp_path):
    """The commands of docs/cluster.md."""
    (shop.folder / "people.jsonl").write_text('{"id": "ana", "email": "ana@example.com"}\n')
    assert shop("db", "migrate", "--db", url).code == 0 and shop("contact", "import", "people.jsonl", "--db", url).code == 0
    assert shop("run", "--once", "--no-dispatch", "--db", url).code == 0
    programs, dump, other = pgserver.programs(), tmp_path / "camp.dump", server.database("cli2")
    subprocess.run([programs / "pg_dump", "--format=custom", "--file", dump, url], check=True)
    subprocess.run([programs / "pg_restore", "--dbname", other, dump], check=True)
    refused = shop("run", "--once", "--db", other)
    assert refused.code != 0 and "is not where it was" in refused.err and "camp db adopt" in refused.err
    assert "there is nothing to adopt" in shop("db", "adopt", "--db", url).out
    adopted = shop("db", "adopt", "--yes", "--db", other)
    assert adopted.code == 0 and "adopted" in adopted.out, adopted
    assert shop("run", "--once", "--db", other).code in (0, 6) and shop("db", "check", "--db", other).code == 0
    assert shop("db", "vacuum", "--db", other).code == 0


def test_the_pages_queries_run(server, shop, url):
    assert shop("db", "migrate", "--db", url).code == 0
    page = (pgserver.Path(__file__).parents[2] / "docs" / "cluster.md").read_text(encoding="utf-8")
    block = page.split("```sql\n")[1].split("```")[0]
    queries = [query for query in block.split(";") if query.strip()]
    assert len(queries) == 5
    for query in queries:
        server.execute(query, "cli")
