"""A slice of the full disks and I/O errors. The whole: `python -m tests.crash errors`."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from rules_engine.clock import VirtualClock
from rules_engine.service.ingest import import_events, readers
from rules_engine.service.loop import Service, run_once
from rules_engine.store.port import StoreError
from rules_engine.store.sqlite import SqliteStore
from rules_engine_plugins import _handover
from tests.crash import errors, world
from tests.crash.disk import Disk
from tests.crash.invariants import Handed, Truth, broken, look

ROOT = Path(__file__).parents[2]


def test_a_full_or_broken_disk_loses_nothing_and_stops_nothing_for_good():
    report = errors.campaign(every=397, first=3)
    assert report.lost == []
    assert report.runs >= 16 and any("read of camp.db" in name for name in report.met)
    assert {name.partition(":")[0] for name in report.met} == {f"{error}, {how}" for error in ("full", "broken_disk") for how in ("once", "lasting")}


READS = (
    lambda store: store.next_wake(), lambda store: store.next_effect(), lambda store: store.position(), lambda store: store.read_log(0, 9),
    lambda store: store.quiet_now(0), lambda store: store.unread(9), lambda store: store.events_of("c001"), lambda store: store.contacts(["c001"]),
    lambda store: store.effects(), lambda store: store.effect("f"), lambda store: store.attempts_of("f"), lambda store: store.programs(),
    lambda store: store.counts(), lambda store: store.identity(), lambda store: store.backlog(0), lambda store: store.erasures(),
    lambda store: store.claim_effects(9, 9, 9, lambda candidate: None),
)  # fmt: skip


@pytest.mark.parametrize("read", READS, ids=map(str, range(len(READS))))
def test_an_error_of_the_disk_while_something_is_read_is_told_in_words(tmp_path, read):
    failing = []
    with Disk(lambda kind, file: errors.broken_disk() if failing and kind == "read" else None, record=False):
        SqliteStore(tmp_path / "camp.db").close()
        store = SqliteStore(tmp_path / "camp.db")
        store._db.raw.execute("PRAGMA shrink_memory")
        read(store)
        store._db.raw.execute("PRAGMA shrink_memory")
        failing.append(True)
        with pytest.raises(StoreError) as told:
            read(store)
        assert told.value.kind == "io" and told.value.passing
        failing.clear()
        read(store)
        store.close()


class Forgetful(SqliteStore):
    """Answers with an error now and then though it has done what it was asked, as a server does that dies while it answers."""

    calls = 0

    def _lie(self, answer, every=3):
        Forgetful.calls += 1
        if Forgetful.calls % every == 0:
            raise StoreError("the connection was lost", "try again", "locked")
        return answer

    def commit(self, block):
        return self._lie(super().commit(block))

    def record_events(self, arrivals):
        return self._lie(super().record_events(arrivals))


def test_a_commit_that_happened_though_it_was_answered_by_an_error_is_no_second_one(tmp_path):
    """One service lives through it, with its memory of states."""
    facts, pictures = world.facts(120, 3, begin=world.START - world.SPAN), []
    for name, store_class in (("sound", SqliteStore), ("forgetful", Forgetful)):
        world.write_templates(tmp_path / name)
        clock, handed = VirtualClock(world.START), []
        store = store_class(tmp_path / name / "camp.db", clock)
        patiently(store.record_events, world.arrivals(facts))
        service = serve(store, clock, {**world.options(tmp_path / name), "live_block": 3}, handed)
        for days in range(10):
            clock.move_to(world.START + days * world.DAY)
            patiently(service.work)
        assert broken(store, Truth(facts, [Handed(key) for key in handed], live=True, now=clock.now(), deaths=0)) == []
        pictures.append(look(store))
        store.close()
    assert Forgetful.calls > 50
    assert pictures[0].journals == pictures[1].journals and pictures[0].states == pictures[1].states


def patiently(work, *given):
    while True:
        try:
            return work(*given)
        except StoreError:
            continue


def serve(store, clock, options, handed):
    """A service that lives through errors, as `run_forever` does; all that can be done now."""
    service = Service(store, world.program(), world.host(lambda call: handed.append(call.key), remote=True), clock, **options)
    patiently(service.work)
    return service


@pytest.mark.parametrize("runner", ["in turn", "in lanes"])
def test_an_outcome_that_could_not_be_saved_is_saved_when_the_disk_works_again(tmp_path, runner):
    """Also when nothing else is due."""
    failed = []

    class Full(SqliteStore):
        def settle(self, settlements, news=()):
            if not failed:
                failed.append(len(settlements))
                raise StoreError("the disk is full; nothing of this step was saved", "", "full")
            return super().settle(settlements, news)

    program = world.compile_text('EVENT signup WITH plan: text\nRULE code\n  WHEN signup\n    THEN sms.send "1234", class: "transactional"\nEND\n')
    store, handed = Full(tmp_path / "camp.db", VirtualClock(world.START)), []
    store.record_events(world.arrivals([*world.facts(0, 1), world.Event("s", "signup", "c000", world.START, None, {"plan": "small"})]))
    options = {**world.options(tmp_path), "sources": {}, **({"runner": None} if runner == "in lanes" else {})}
    service = Service(store, program, world.host(lambda call: handed.append(call.key)), VirtualClock(world.START), **options)
    for _ in range(200):
        try:
            service.beat()
        except StoreError:
            continue
        if failed and store.counts().effects.get("claimed", 0) == 0:
            break
        time.sleep(0.01)
    assert failed == [1] and len(handed) == 1 and store.counts().effects == {"accepted": 1}
    store.close()


def test_run_once_ends_with_one_sentence_and_exit_code_5(tmp_path):
    """The command itself, its database on a disk without room (a limit on the size of files)."""
    project(tmp_path)
    code = ("import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)); "
            "from rules_engine.cli.main import main; sys.argv[0] = 'camp'; sys.exit(main())")
    done = subprocess.run([sys.executable, "-c", code, "event", "import", "events.jsonl"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 5, done.stdout + done.stderr
    assert "the disk is full" in done.stderr or "gives errors" in done.stderr
    assert "Traceback" not in done.stderr
    done = subprocess.run([sys.executable, "-m", "rules_engine", "event", "import", "events.jsonl"], cwd=tmp_path, capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def project(folder):
    """A project with the shop, and more facts than have room in 300,000 bytes."""
    world.write_files(folder, world.event_records(3_000, 20), world.contact_records(20))
    (folder / "shop.camp").write_text(world.PROJECT)
    (folder / "camp.toml").write_text('name = "shop"\ndatabase = "camp.db"\ntemplates = "templates"\n[email]\nfrom = "Shop <shop@shop.example>"\n')


class Failing:
    """`os`, where the n-th operation of a kind fails once."""

    def __init__(self, kind, number, code):
        self.kind, self.left, self.code = kind, number, code

    def __getattr__(self, name):
        found = getattr(os, name)
        return self.operation(found) if name == self.kind else found

    def operation(self, found):
        def operation(*given, **named):
            self.left -= 1
            if self.left == 0:
                if self.kind == "pwrite":  # half of it is written
                    found(given[0], given[1][: len(given[1]) // 2], given[2])
                raise OSError(self.code, os.strerror(self.code))
            return found(*given, **named)

        return operation


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("kind", ["open", "pwrite", "fsync", "replace"])
def test_a_full_disk_under_the_first_party_transports_costs_a_retry_and_no_message(tmp_path, monkeypatch, kind, code):
    for number in (1, 4):
        folder = tmp_path / str(number)
        world.write_templates(folder)
        failing = Failing(kind, number, code)
        monkeypatch.setattr(_handover, "os", failing)
        clock, handed, facts = VirtualClock(world.START), [], world.facts(40, 3, begin=world.START - world.SPAN)
        store = SqliteStore(folder / "camp.db", clock)
        store.record_events(world.arrivals(facts))
        options = world.options(folder)
        for table in options["settings"].values():
            table["fsync"] = True
        host = world.host(lambda call, handed=handed: handed.append(Handed(call.key)))
        for days in range(10):
            clock.move_to(world.START + days * world.DAY)
            run_once(store, world.program(), host, clock, **options)
        picture = look(store)
        handed += world.in_folder(folder, [(row.id, row.contact) for row in picture.effects.values()])
        assert broken(store, Truth(facts, handed, live=True, now=clock.now(), deaths=0)) == []
        assert failing.left < 0 and any(row.attempts > 1 for row in picture.effects.values()), "the failure was never met"
        store.close()


def test_a_file_of_rejected_lines_that_has_no_room_stops_the_import_with_its_name(tmp_path, monkeypatch):
    """What was acknowledged before is kept, and the import can be repeated."""
    records = world.event_records(60, 4)
    (tmp_path / "events.jsonl").write_bytes(b"".join(orjson.dumps(item) + b"\n" for item in records[:50]) + b"{broken\n"
                                            + b"".join(orjson.dumps(item) + b"\n" for item in records[50:]))
    (tmp_path / "events.jsonl.rejected.jsonl").symlink_to("/dev/full")
    store = SqliteStore(tmp_path / "camp.db", VirtualClock(world.START))
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
    counted = []
    with pytest.raises(StoreError) as said:
        import_events(store, tmp_path / "events.jsonl", readers(world.program().model)[0], batch=20, progress=lambda lines, size: counted.append(lines))
    assert "rejected.jsonl" in str(said.value)
    assert sum(store.counts().events.values()) >= counted[-1] - 1 >= 40
    monkeypatch.undo()
    done = import_events(store, tmp_path / "events.jsonl", readers(world.program().model)[0])
    assert (done.accepted + done.duplicates, done.rejected) == (60, 1) and done.rejected_file.read_text().count("\n") == 1
    store.close()
