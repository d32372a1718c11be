"""Logs, metrics, the spool and retention, beside real work."""

from __future__ import annotations

import errno
import gzip
import io
import json
import logging
import os
import time
from pathlib import Path

import pytest

from rules_engine.cli.persons import harmless, write_csv
from rules_engine.clock import VirtualClock
from rules_engine.facts import ContactChange, Event
from rules_engine.service import logs
from rules_engine.service.dispatch import Dispatcher
from rules_engine.service.metrics import LABELS, Meter, route
from rules_engine.service.pump import Pump
from rules_engine.service.runner import DirectRunner
from rules_engine.service.sent import SentJournal, beside
from rules_engine.service.spool import Spool, kind_of, look
from rules_engine.service.upkeep import DAY, Retention, Trimmer, retention, trim
from rules_engine.store.port import Arrival, HandOver, Recorded, StoreError
from rules_engine.store.sqlite import SqliteStore
from tests.service.fake import ENGINE, Program, Provider, attributes

# ---------------------------------------------------------------- logs


@pytest.fixture
def logged():
    """`logged(form)` -> (logger, lines so far)."""
    made = []

    def make(form, clock=None):
        stream = io.StringIO()
        logs.set_up(clock or VirtualClock(1_700_000_000_000), form, "info", stream=stream)
        made.append(stream)
        return logging.getLogger("camp.test"), lambda: stream.getvalue().splitlines()

    yield make
    logger = logging.getLogger("camp")
    logger.handlers[:] = []
    logger.propagate = True
    logger.setLevel(logging.WARNING)


def test_a_json_line_has_ids_as_fields_and_the_services_time(logged):
    log, lines = logged("json")
    log.warning("effect %s is %s", "x", "unknown", extra=logs.about(what="effect.unknown", effect="msg_1", contact="ana", campaign="c", event="e1"))
    assert json.loads(lines()[0]) == {
        "time": "2023-11-14T22:13:20Z", "level": "warning", "what": "effect.unknown", "message": "effect x is unknown", "contact": "ana",
        "campaign": "c", "event": "e1", "effect": "msg_1",
    }


@pytest.mark.parametrize("form", logs.FORMATS)
def test_no_address_no_break_no_escape_gets_into_a_line(logged, form):
    log, lines = logged(form)
    hostile = "550 <zsofia@example.org> unknown\r\nERROR camp: forged\x1b[2J\u2028\x85 tel +49 170 555 4321 \ud800 \u202e"
    log.error("said %s", hostile, extra=logs.about(contact="zsofia@example.org", effect="a\nb"))
    try:
        raise ValueError("zsofia@example.org\nis bad")
    except ValueError:
        log.exception("failed on %s", "x")
    text = "\n".join(lines())
    assert len(lines()) == 2, "a line was forged"
    assert "zsofia" not in text and "4321" not in text and "\x1b" not in text and "\u202e" not in text
    assert "ValueError: (address) is bad at test_operating_service.py:" in text
    if form == "json":
        assert json.loads(lines()[0])["contact"].startswith("id-")


def test_ids_and_places_of_databases_stay_readable(logged):
    log, lines = logged("json")
    said = "shop/welcome:0@http:8fde on postgresql://camp@127.0.0.1:54329/camp and postgres://camp@db.example.org/camp"
    log.error(said, extra=logs.about(effect="welcome:12@http:8fde", contact="7@qq.com"))
    log.error("12@qq.com ana@localhost x@postgresql.example")
    first, second = map(json.loads, lines())
    assert first["message"] == said and first["effect"] == "welcome:12@http:8fde" and first["contact"].startswith("id-")
    assert second["message"] == "(address) (address) (address)"


def test_a_wrong_log_call_is_still_a_line(logged):
    log, lines = logged("json")
    log.warning("%d of %s", "no number")
    assert json.loads(lines()[0])["message"] == "%d of %s"


def test_the_same_is_told_three_times_an_hour(logged):
    clock = VirtualClock(10 * logs.HOUR)
    log, lines = logged("text", clock)
    for n in range(100):
        log.warning("effect %d is unknown: %s", n, "no answer")
    assert len(lines()) == 4 and "and more of the same: no answer" in lines()[3]
    clock.sleep(logs.HOUR + 1)
    log.warning("effect %d is unknown: %s", 101, "no answer")
    assert len(lines()) == 5


def test_the_log_of_a_real_run_holds_no_personal_data(pigeons):
    (pigeons._plugins / "camp_pigeon.py").write_text(
        (pigeons._plugins / "camp_pigeon.py").read_text().replace('    time.sleep', '    raise ValueError("no pigeon for ana@example.org\\n+49 170 5554321")\n    time.sleep')
    )
    toml = pigeons.folder / "camp.toml"
    toml.write_text(toml.read_text() + '\n[log]\nformat = "json"\nfile = "camp.log"\nlevel = "info"\n')
    pigeons.process("event", "import", pigeons.events("first.jsonl", range(2), contact="ana@example.org"))
    assert pigeons.process("run", "--once").code == 6
    text = (pigeons.folder / "camp.log").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert "ana@example.org" not in text and "5554321" not in text
    about = next(row for row in rows if row["what"] == "effect.unknown")
    assert about["effect"].startswith("msg_") and about["campaign"] == "thanks" and about["action"] == "pigeon.send" and about["contact"].startswith("id-")
    bad = pigeons.process("run", "--once", CAMP_LOG_LEVEL="loud")
    assert bad.code == 5 and "log.level" in bad.err


# ---------------------------------------------------------------- metrics


def test_metrics_of_a_run(pigeons):
    toml = pigeons.folder / "camp.toml"
    toml.write_text(toml.read_text() + '\n[metrics]\nfile = "camp.prom"\n')
    pigeons.process("event", "import", pigeons.events("first.jsonl", range(5)))
    child = pigeons.start()
    pigeons.wait(lambda: len(pigeons.sent()) == 5)
    file = pigeons.folder / "camp.prom"
    pigeons.wait(lambda: 'camp_effects_settled_total{action="pigeon.send",state="accepted"} 5.0' in file.read_text())
    text = file.read_text()
    assert "camp_up 1.0" in text and 'camp_events_acted_total{source="events"} 5.0' in text
    assert 'camp_handover_seconds_count{action="pigeon.send"} 5.0' in text and 'camp_commit_seconds_count{transaction="pump"}' in text
    assert 'camp_effects{state="unknown"} 0.0' in text and "camp_backlog_events 0.0" in text and "camp_call_seconds_count" in text
    assert 'camp_database_bytes{file="database"}' in text
    pigeons.stop(child)
    assert "camp_up 0.0" in file.read_text()
    assert [path.name for path in pigeons.folder.iterdir() if path.name.startswith(".camp.prom")] == []


def test_labels_are_bounded_and_the_route_answers():
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    meter = Meter(["email.send"])
    for n in range(LABELS + 50):
        meter.recorded(f"source-{n}", Recorded(1, (1,), ()))
    answer = TestClient(Starlette(routes=[route(meter)])).get("/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
    assert answer.text.count('camp_events_recorded_total{result="new"') == LABELS + 1 and 'source="other"} 50.0' in answer.text
    assert Meter().registry is not meter.registry, "nothing is global"


def test_alert_rules_name_metrics_that_exist():
    import re
    from pathlib import Path

    rules = (Path(__file__).resolve().parents[2] / "docs" / "alerts.yml").read_text()
    meter = Meter(["email.send"])
    known = {family.name for family in meter.registry.collect()}
    names = {re.sub(r"_(total|bucket|count|sum)$", "", name) for name in re.findall(r"\bcamp_[a-z_]+", rules)}
    assert names and names <= known, names - known
    yaml = pytest.importorskip("yaml")
    assert len(yaml.safe_load(rules)["groups"][0]["rules"]) == rules.count("expr:")
    assert rules.count("expr:") == rules.count("summary:") == rules.count("alert:")


# ---------------------------------------------------------------- spool


def read_event(record):
    return Event(record["id"], record["event"], record["contact"], record.get("ms", 5), None, record.get("data", {}))


def read_contact(record, at):
    if "id" not in record:
        raise ValueError("`id` is missing")
    return ContactChange("", record["id"], at, {key: value for key, value in record.items() if key != "id"})


@pytest.fixture
def spool(tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir()
    clock = VirtualClock(int(time.time() * 1000) + 60_000)
    store = SqliteStore(tmp_path / "camp.db", clock)
    made = Spool(folder, store, (read_event, read_contact), clock, quiet=5, keep_days=3)

    def work(limit=10_000):
        for n in range(limit):
            clock.sleep(1_000)
            if not made.beat() and n > 2:
                return n
        raise AssertionError("it does not end")

    made.work, made.store, made.clock = work, store, clock
    yield made
    store.close()


def lines(numbers, **other):
    return "".join(json.dumps({"id": f"e{n}", "event": "tick", "contact": "ana", "at": "2026-01-01", **other}) + "\n" for n in numbers)


def test_files_are_imported_and_moved(spool):
    (spool.folder / "events-1.jsonl").write_text(lines(range(10)) + "{bad\n")
    (spool.folder / "events.csv.gz").write_bytes(gzip.compress(b"id,event,contact,at\nx1,tick,bob,2026-01-01\n"))
    (spool.folder / "contacts.csv").write_text("id,plan\nana,paid\n")
    (spool.folder / ".hidden.jsonl").write_text("x")
    (spool.folder / "events.jsonl.tmp").write_text("half")
    assert look(spool.folder).waiting == 3
    spool.work()
    assert sorted(path.name for path in (spool.folder / "done").iterdir()) == [
        "contacts.csv", "events-1.jsonl", "events-1.jsonl.rejected.jsonl", "events.csv.gz",
    ]
    assert spool.store.counts().events["new"] == 12 and look(spool.folder) == (0, 0, None)
    # The same file again is harmless, and does not overwrite the first.
    (spool.folder / "events-1.jsonl").write_text(lines(range(10)))
    spool.work()
    assert spool.store.counts().events["new"] == 12 and (spool.folder / "done" / "events-1-2.jsonl").exists()


def test_what_no_condition_can_read_is_logged_once_for_a_file(spool, caplog):
    again = Spool(spool.folder, spool.store, (read_event, read_contact), spool.clock, quiet=0, unread=lambda record: ["tick declares no field `totl`"])
    (spool.folder / "events.jsonl").write_text(lines(range(3)))
    again.drain()
    assert [text for text in caplog.messages if "totl" in text] == ["events.jsonl: tick declares no field `totl` (in 3 lines)"]


def test_a_file_that_still_grows_is_left_alone(spool):
    path = spool.folder / "events.jsonl"
    for n in range(5):
        with path.open("a") as stream:
            stream.write(lines([n]))
        os.utime(path, ns=(spool.clock.now() * 1_000_000, spool.clock.now() * 1_000_000))
        spool.clock.sleep(2_000)
        assert not spool.beat()
    spool.clock.sleep(6_000)
    spool.work()
    assert spool.store.counts().events["new"] == 5


@pytest.mark.parametrize(
    "name, content",
    [("notes.txt", b"hello"), ("events.jsonl", b"\x00\xff\n" * 20), ("events.jsonl.gz", b"no gzip"), ("contacts.csv", b"a;b\n1;2\n"),
     ("events.csv", b"\n"), ("events.jsonl.gz", gzip.compress(lines(range(3)).encode())[:-9])],
)
def test_a_bad_file_goes_to_failed_with_a_reason(spool, name, content):
    (spool.folder / name).write_bytes(content)
    spool.work()
    if content == b"\n":
        assert (spool.folder / "done" / name).exists(), "nothing in it, nothing wrong"
        return
    assert (spool.folder / "failed" / name).read_bytes() == content
    assert len((spool.folder / "failed" / f"{name}.reason").read_text()) > 20 and look(spool.folder).failed == 1


def test_what_the_disk_refuses_costs_a_line_in_the_log_and_no_file(spool, monkeypatch, caplog):
    caplog.set_level(logging.ERROR, "camp.spool")
    long = "events" + "x" * 240 + ".jsonl"  # too long for a name with .reason behind it
    (spool.folder / long).write_text("nonsense\n")
    (spool.folder / "events.jsonl").write_text(lines(range(3)))
    spool.work()
    assert (spool.folder / "failed" / long).exists() and (spool.folder / "done" / "events.jsonl").exists()
    (spool.folder / "rows.jsonl").write_text("x")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(full))
        spool.work()
    assert (spool.folder / "failed" / "rows.jsonl").read_bytes() == b"x" and "rows.jsonl.reason can't be written: No space left" in caplog.text
    for name in ("events-2.jsonl", "events-3.jsonl"):
        (spool.folder / "done" / name).write_text("")
        os.utime(spool.folder / "done" / name, (1, 1))
    remove, spool._keep = Path.unlink, 0
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda path, **more: os.unlink("/proc/version") if path.name == "events-2.jsonl" else remove(path, **more))
        spool.clock.sleep(4_000_000)
        spool.work()
    assert [path.name for path in (spool.folder / "done").iterdir()] == ["events-2.jsonl"] and "can't be removed from done/" in caplog.text
    spool.folder.rename(spool.folder.with_name("away"))
    spool.folder.write_text("a file now")
    spool.work()
    assert "can't be read: Not a directory" in caplog.text and spool.store.counts().events["new"] == 3


@pytest.mark.parametrize("when", ["before the move", "in the move"])
def test_lines_that_come_behind_the_last_one_that_was_read_are_read_too(spool, monkeypatch, when):
    path, rename = spool.folder / "events.jsonl", os.rename
    path.write_text(lines(range(600)))

    def append(*numbers):
        with (path if path.exists() else spool.folder / "done" / "events.jsonl").open("a") as stream:
            stream.write(lines(numbers))

    def renamed(source, target):
        rename(source, target)
        if target.parent.name == "done" and spool.store.counts().events["new"] == 600:
            append(600)

    monkeypatch.setattr(os, "rename", renamed if when == "in the move" else rename)
    while not spool.store.counts().events["new"]:
        spool.clock.sleep(6_000)
        spool.beat()
    if when == "before the move":
        monkeypatch.setattr(Spool, "_end", lambda *args, end=Spool._end: (monkeypatch.undo(), append(600), end(*args)))
    spool.work()
    assert spool.store.counts().events["new"] == 601
    assert [len(path.read_text().splitlines()) for path in (spool.folder / "done").iterdir()] == [601] and not path.exists()


def test_a_line_that_is_nested_too_deeply_is_rejected(spool):
    deep = lines([1], data={"a": "HERE"}).replace('"HERE"', "[" * 1_000 + "]" * 1_000)
    (spool.folder / "events.jsonl").write_text(deep + lines([2]))
    spool.work()
    assert spool.store.counts().events["new"] == 1
    assert "nested" in (spool.folder / "done" / "events.jsonl.rejected.jsonl").read_text()


def test_links_and_pipes_are_not_followed(spool, tmp_path):
    secret = tmp_path / "passwd"
    secret.write_text("root:x:0:0\n")
    (spool.folder / "events-link.jsonl").symlink_to(secret)
    os.mkfifo(spool.folder / "events-pipe.jsonl")
    spool.work()
    assert (spool.folder / "failed" / "events-link.jsonl").is_symlink() and secret.exists()
    assert not [path for path in spool.folder.rglob("*.rejected.jsonl")]


def test_a_folder_with_the_name_of_a_file_is_told_once(spool, caplog):
    (spool.folder / "events-dir.csv").mkdir()
    for name in ("done", "notes", "events"):
        (spool.folder / name).mkdir(exist_ok=True)
    spool.work()
    spool.work()
    assert caplog.messages == ["events-dir.csv is a folder: nothing in it is imported"]


def test_a_large_file_is_worked_a_batch_a_beat_and_a_kill_is_harmless(spool):
    (spool.folder / "events.jsonl").write_text(lines(range(1_700)) + "garbage\n" * 3_000)
    for _ in range(4):
        spool.clock.sleep(1_000)
        spool.beat()
    assert 0 < spool.store.counts().events["new"] <= 2_000
    again = Spool(spool.folder, spool.store, (read_event, read_contact), spool.clock)  # the process died; the next one
    for _ in range(20):
        spool.clock.sleep(6_000)
        again.beat()
    assert spool.store.counts().events["new"] == 1_700 and (spool.folder / "done" / "events.jsonl").exists()


def test_done_files_go_after_their_days(spool):
    (spool.folder / "events.jsonl").write_text(lines(range(1)))
    spool.work()
    spool.clock.sleep(4 * DAY)
    spool.work()
    assert not list((spool.folder / "done").iterdir())


def test_the_service_takes_files_from_its_spool(pigeons):
    toml = pigeons.folder / "camp.toml"
    toml.write_text(toml.read_text() + '\n[spool]\nfolder = "spool"\nquiet = 0\n')
    child = pigeons.start()
    pigeons.wait(lambda: (pigeons.folder / "spool").is_dir())
    made = pigeons.events("spool/.events.jsonl", range(1_200))
    made.rename(pigeons.folder / "spool" / "events.jsonl")
    pigeons.wait(lambda: len(pigeons.sent()) == 1_200, 60)
    pigeons.stop(child)
    assert (pigeons.folder / "spool" / "done" / "events.jsonl").exists()
    assert kind_of("CONTACTS-2026.CSV.GZ") == "contacts" and kind_of("orders.jsonl") is None


# ---------------------------------------------------------------- retention


def test_settings_of_retention():
    assert retention({"events": "400 days", "journal": "2 years", "outbox": "13 weeks"}) == Retention(400, 730, 91)
    for bad in ({"events": "soon"}, {"outbox": "10 days"}, {"event": "400 days"}, {"events": "0 days"}, {"events": 5}):
        with pytest.raises(ValueError):
            retention(bad)


def test_old_things_go_open_ones_stay_and_decisions_are_the_same(tmp_path):
    """Two stores live the same life, one of them trimmed all the time; nothing the engine decides differs."""
    clock, pictures = VirtualClock(DAY), {}
    for name in ("whole", "trimmed"):
        clock = VirtualClock(DAY)
        store = SqliteStore(tmp_path / f"{name}.db", clock)
        provider = Provider(["accepted", "accepted"] * 5)
        pump = Pump(store, Program(), ENGINE)
        dispatcher = Dispatcher(store, provider.host, clock, attributes=attributes, runner=DirectRunner())
        journal = []
        seen = 0
        for day in range(200):
            clock.move_to((day + 1) * DAY)
            kind = ("send", "tick", "later", "boom")[day % 4]
            store.record_events([Arrival(Event(f"e{day}", kind, f"c{day % 5}", clock.now(), "s", {"total": day, "ms": 3 * DAY}))])
            while pump.live(clock):
                pass
            if day % 7:
                dispatcher.turn()
            rows = store.journal(seen, 1_000)
            seen = rows[-1].seq if rows else seen
            journal += [row.decision for row in rows]
            if name == "trimmed":
                while any(trim(store, Retention(20, 20, 90), clock.now(), 7)):
                    pass
        states = {id: row.state for id, row in store.contacts(store.contact_ids()).items()}
        pictures[name] = (states, journal, sorted(provider.keys))
        counts = store.counts()
        if name == "trimmed":
            assert len(store.journal(0, 10_000)) < len(journal) / 3 and counts.events["set_aside"] == 50
            assert min(effect.settled_at for effect in store.effects("accepted", limit=10_000)) >= clock.now() - 91 * DAY
            # Ids are known for ever, and a repeat with its content gone is still a repeat.
            again = store.record_events([Arrival(Event("e0", "send", "c0", DAY, "s", {"total": 0, "ms": 3 * DAY}))])
            assert again.accepted == 0 and again.duplicates == (0,)
            old = store.events_of("c0", 1_000)[0]
            assert old.cause.data == {} and old.cause.subject is None and store.check() == []
            open_before = {state: counts.effects.get(state) for state in ("ready", "unknown", "held")}
            clock.sleep(1_000 * DAY)
            while any(trim(store, Retention(1, 1, 90), clock.now())):
                pass
            assert {state: store.counts().effects.get(state) for state in open_before} == open_before
            assert store.trimmable(*Retention(1, 1, 90).before(clock.now())) == trim(store, Retention(1, 1, 90), clock.now())
        store.close()
    assert pictures["whole"] == pictures["trimmed"]


def test_camp_db_trim(pigeons):
    pigeons.process("event", "import", pigeons.events("first.jsonl", range(300)))
    pigeons.process("run", "--once")
    assert pigeons("db", "trim", "--yes").code == 4, "nothing is to be removed"
    toml = pigeons.folder / "camp.toml"
    toml.write_text(toml.read_text() + '\n[retention]\nevents = "1 day"\njournal = "1 day"\noutbox = "90 days"\n')
    dry = json.loads(pigeons("db", "trim", "--dry-run", "--json").out)
    assert dry == {"events": 0, "decisions": 0, "effects": 0, "attempts": 0, "removed": False}
    assert pigeons("db", "trim").code == 4 and pigeons("db", "trim", "--yes").code == 0
    size = pigeons.database.stat().st_size
    assert pigeons("db", "vacuum").code == 0 and pigeons.database.stat().st_size <= size


def test_trimming_is_a_chore_that_rests(tmp_path):
    clock = VirtualClock(500 * DAY)
    store = SqliteStore(tmp_path / "camp.db", VirtualClock(DAY))
    store.record_events([Arrival(Event(f"e{n}", "tick", "ana", 5, None, {"total": n})) for n in range(500)])
    Pump(store, Program(), ENGINE).live(VirtualClock(DAY))
    chore = Trimmer(store, Retention(events=100), clock)
    full = lambda: sum(bool(row.cause.data) for row in store.events_of("ana", 1_000))  # noqa: E731
    for expected in (300, 100, 0, 0):
        chore()
        assert full() == expected
    store.close()


# ---------------------------------------------------------------- the send journal


@pytest.fixture
def journal(tmp_path):
    store = SqliteStore(tmp_path / "camp.db", VirtualClock(1_000))
    store.record_events([Arrival(Event(f"e{n}", "send", f"c{n}", 10)) for n in range(6)])
    Pump(store, Program(), ENGINE).live(VirtualClock(1_000))
    made = SentJournal(beside(store.path))
    assert made.reconcile(store, 5) == []
    made.store = store
    yield made
    store.close()


def test_nothing_is_handed_over_when_the_journal_cannot_be_written(journal, monkeypatch):
    """A full disk: the claims go back, and everything leaves once there is room."""
    clock, provider = VirtualClock(2_000), Provider()
    dispatcher = Dispatcher(journal.store, provider.host, clock, attributes=attributes, runner=DirectRunner(), sent=journal)
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: real(descriptor, data[:10], offset))
    for _ in range(20):
        with pytest.raises(StoreError) as full:
            dispatcher.turn()
        assert full.value.kind == "full" and full.value.passing
    assert provider.calls == [] and journal.store.counts().effects == {"retry_wait": 1, "ready": 5}
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    monkeypatch.setattr(os, "pwrite", real)
    with pytest.raises(StoreError) as broken:
        dispatcher.turn()
    assert broken.value.kind == "io" and provider.calls == []
    monkeypatch.undo()
    while dispatcher.turn():
        pass
    assert len(set(provider.keys)) == len(provider.keys) == 6
    again = SentJournal(journal.path)
    assert again.reconcile(journal.store, 9) == [], "no half line was left that says otherwise"


def test_a_claim_that_can_neither_be_noted_nor_given_back_is_given_back_later(journal, monkeypatch):
    clock, provider = VirtualClock(2_000), Provider()
    dispatcher = Dispatcher(journal.store, provider.host, clock, attributes=attributes, runner=DirectRunner(), sent=journal)
    settle = journal.store.settle
    monkeypatch.setattr(os, "pwrite", lambda *_: 0)
    monkeypatch.setattr(journal.store, "settle", lambda *_: (_ for _ in ()).throw(StoreError("the disk is full", kind="full")))
    for _ in range(3):
        with pytest.raises(StoreError):
            dispatcher.turn()
    monkeypatch.undo()
    assert journal.store.settle == settle
    while dispatcher.turn():
        pass
    assert len(provider.keys) == 6


def test_a_torn_last_line_and_lines_of_nobody_are_passed_over(journal):
    effects = sorted(journal.store.effects(limit=10), key=lambda effect: effect.seq)
    journal.note([effects[0]._replace(attempts=1)], journal.store, 50)
    with journal.path.open("ab") as stream:
        stream.write(b"what is this\n7 zz 1")
    journal.close()
    again = SentJournal(journal.path)
    lost = again.reconcile(journal.store, 60)
    assert [effect.id for effect in lost] == [effects[0].id] and lost[0].state == "unknown" and lost[0].attempts == 1
    again.note([effects[1]._replace(attempts=1)], journal.store, 70)
    assert journal.path.read_bytes().endswith(b"what is this\n" + f"{effects[1].seq} {journal.store.mark_of(effects[1].id)} 1 70\n".encode())


def test_the_journal_is_read_from_its_end_only(journal, monkeypatch):
    """Across the borders of the pieces in which it is read; and no further than the first line that the database knows."""
    import rules_engine.service.sent as module

    store = journal.store
    effect = store.effects(limit=1)[0]
    for n in range(40):
        journal.note([effect._replace(id=f"gone-{n}", seq=100 + n, attempts=1)], store, 50 + n)
    for size in (7, 50, 64, 1 << 16):
        monkeypatch.setattr(module, "CHUNK", size)
        assert [line.seq for line in journal._from_the_end()] == list(range(139, 99, -1))
    asked = []
    monkeypatch.setattr(type(store), "handed_over", lambda self, line: asked.append(line) or True)
    SentJournal(journal.path).reconcile(store, 99)
    assert len(asked) == 1


def test_a_compacted_journal_still_knows_the_rest(journal):
    effects = journal.store.effects(limit=10)
    journal.note([effects[0]._replace(attempts=1)], journal.store, 50)
    journal.note([effects[1]._replace(attempts=1)], journal.store, 90)
    assert journal.compact(journal.store, 80) == 1 and journal.compact(journal.store, 80) == 0
    journal.note([effects[2]._replace(attempts=1)], journal.store, 95)
    assert [line.at for line in journal._from_the_end()] == [95, 90]
    again = SentJournal(journal.path)
    assert again.problem(journal.store) == "" and len(again.reconcile(journal.store, 99)) == 2


@pytest.mark.parametrize(("days", "keep_open"), [(30, False), (100, False), (100, True)])
def test_a_backup_from_before_the_journals_first_kept_line_is_refused(tmp_path, days, keep_open):
    """Retention drops old lines of the journal, and with them what a still older backup did not know."""
    clock, provider, path = VirtualClock(1_800_000_000_000), Provider(), tmp_path / "camp.db"
    store, sent = SqliteStore(path, clock), SentJournal(beside(path))
    sent.reconcile(store, clock.now())
    store.record_events([Arrival(Event("e1", "send", "ana", clock.now()))])
    Pump(store, Program(), ENGINE).live(clock)
    store.backup(tmp_path / "old.db")
    Dispatcher(store, provider.host, clock, attributes=attributes, runner=DirectRunner(), sent=sent).turn()
    clock.move_to(clock.now() + days * DAY)
    chore = Trimmer(store, Retention(outbox=90), clock, sent)
    for _ in range(3):
        chore()
    store.close()
    sent.close()
    current = SqliteStore(path, clock)
    assert SentJournal(beside(path)).problem(current) == "", "the database itself knows up to when lines were dropped"
    current.close()

    store = SqliteStore(tmp_path / "old.db", clock)
    sent = SentJournal(beside(path))
    if days > 90:
        with pytest.raises(StoreError) as refused:
            sent.reconcile(store, clock.now())
        assert refused.value.kind == "adopt" and "older than" in refused.value.message and "2027-01-15" in refused.value.message
        assert sent.adopt(store, clock.now(), keep_open) == (not keep_open) and sent.problem(store) == ""
    sent.reconcile(store, clock.now())
    Dispatcher(store, provider.host, clock, attributes=attributes, runner=DirectRunner(), sent=sent).turn()
    assert len(provider.keys) == 1 + keep_open, "handed over again only if a person says that it never was"
    assert keep_open or store.counts().effects == {"unknown": 1}
    store.close()


def test_a_foreign_or_empty_journal_is_refused(journal, tmp_path):
    store = journal.store
    other = SqliteStore(tmp_path / "other.db")
    assert "another database" in SentJournal(journal.path).problem(other)
    other.close()
    journal.path.write_bytes(b"")
    with pytest.raises(StoreError) as refused:
        SentJournal(journal.path).reconcile(store, 5)
    assert refused.value.kind == "adopt" and "camp db adopt" in refused.value.help


def test_effects_made_anew_after_a_restore_are_unknown_from_the_start(tmp_path):
    clock = VirtualClock(1_000)
    store = SqliteStore(tmp_path / "camp.db", clock)
    assert store.doubt([HandOver(9, store.mark_of("ana/2"), 3, 40)], 50) == []
    store.record_events([Arrival(Event("e1", "send", "ana", 10)), Arrival(Event("e2", "send", "bob", 10))])
    Pump(store, Program(), ENGINE).live(clock)
    found = {effect.id: (effect.state, effect.attempts) for effect in store.effects()}
    assert found == {"ana/2": ("unknown", 3), "bob/2": ("ready", 0)}
    store.close()


# ---------------------------------------------------------------- CSV


def test_csv_export_escapes_formulas():
    """The security list: what a spreadsheet would run gets an apostrophe; what is a number stays one."""
    for text in ("=1+1", "+cmd|' /C calc'!A0", "-2+3+cmd", "@SUM(1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1", "=HYPERLINK(\"http://x\")"):
        assert harmless(text).startswith("'"), text
    for text in ("ana", "a=b", "+49 170 5554321", "-5", "-5.25", "", "ana@example.org"):
        assert harmless(text) == text
    assert (harmless(-5), harmless(2.5), harmless(None), harmless(True), harmless(["=1"])) == ("-5", "2.5", "", "yes", '["=1"]')
    stream = io.StringIO()
    write_csv(stream, [{"id": "ana", "=name": '=cmd|"x"'}, {"id": "bob", "plan": "paid"}])
    assert stream.getvalue() == "id,'=name,plan\nana,\"'=cmd|\"\"x\"\"\",\nbob,,paid\n"


def test_camp_contact_export(pigeons):
    (pigeons.folder / "people.jsonl").write_text('{"id": "ana", "first_name": "=1+1"}\n{"id": "bob", "first_name": "Bob"}\n')
    pigeons.process("contact", "import", "people.jsonl")
    pigeons.process("event", "import", pigeons.events("first.jsonl", range(1), contact="ana"))
    pigeons.process("run", "--once")
    assert "'=1+1" in pigeons.process("contact", "export", "--format", "csv").out
    assert [json.loads(line)["id"] for line in pigeons.process("contact", "export").out.splitlines()] == ["ana", "bob"]
    whole = json.loads(pigeons.process("contact", "export", "ana", "--format", "json").out)
    assert len(whole) == 1 and whole[0]["events"][-1]["id"] == "e0" and whole[0]["messages"][0]["state"] == "accepted" and whole[0]["decisions"]
    assert pigeons.process("contact", "export", "-o", "out.csv", "--format", "csv").code == 0
    assert (pigeons.folder / "out.csv").stat().st_mode & 0o077 == 0
    assert pigeons.process("contact", "export", "-o", "out.csv").code == 4 and pigeons.process("contact", "export", "zoe").code == 5
    assert pigeons.process("contact", "export", "--format", "json").code == 2
