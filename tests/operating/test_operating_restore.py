"""Promise P11 with real processes: a backup that was restored, or a copied machine, sends nothing twice."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sqlite3
from collections import Counter

import pytest

from rules_engine.store import open_store


def states(project) -> Counter:
    store = open_store(project.database, readonly=True)
    try:
        return Counter(effect.state for effect in store.effects(limit=100_000))
    finally:
        store.close()


def test_a_backup_taken_while_running_and_restored_sends_nothing_twice(pigeons):
    assert pigeons.process("event", "import", pigeons.events("first.jsonl", range(150))).code == 0
    child = pigeons.start(CAMP_PIGEON_SECONDS="0.02")
    pigeons.wait(lambda: len(pigeons.sent()) > 20)
    made = pigeons.process("db", "backup", "--json")
    assert made.code == 0, made
    backup = json.loads(made.out)
    after_backup = len(pigeons.sent())
    assert pigeons.process("event", "import", pigeons.events("second.jsonl", range(150, 200))).code == 0
    pigeons.wait(lambda: len(pigeons.sent()) == 200)
    pigeons.stop(child)
    assert after_backup < 150, "the backup was not taken in the middle"
    assert states(pigeons) == {"accepted": 200}

    restored = pigeons.process("db", "restore", backup["file"], "--yes")
    assert restored.code == 0 and "50 events" in restored.err, restored
    again = pigeons.process("run", "--once")
    assert again.code == 6, again
    assert len(pigeons.sent()) == 200, "something was sent twice"
    # What the backup lacks is fed again; what had left is not sent again, and what nobody knows is unknown.
    assert pigeons.process("event", "import", pigeons.folder / "first.jsonl").code == 0
    assert pigeons.process("event", "import", pigeons.folder / "second.jsonl").code == 0
    pigeons.process("event", "import", pigeons.events("third.jsonl", range(200, 210)))
    pigeons.process("run", "--once")
    assert Counter(pigeons.sent()).most_common(1)[0][1] == 1, "something was sent twice"
    assert len(pigeons.sent()) == 210, "what is new leaves"
    found = states(pigeons)
    assert found["accepted"] + found["unknown"] == 210 and found["unknown"] >= 50
    # The same old backup once more, and once more nothing leaves twice.
    assert pigeons.process("db", "restore", backup["file"], "--yes").code == 0
    pigeons.process("event", "import", pigeons.folder / "third.jsonl")
    pigeons.process("run", "--once")
    assert Counter(pigeons.sent()).most_common(1)[0][1] == 1 and len(pigeons.sent()) == 210


def test_a_kill_in_the_middle_then_an_old_backup(pigeons):
    pigeons.process("event", "import", pigeons.events("first.jsonl", range(40)))
    assert pigeons.process("db", "backup", pigeons.folder / "old.db").code == 0
    child = pigeons.start(CAMP_PIGEON_SECONDS="0.05")
    pigeons.wait(lambda: len(pigeons.sent()) > 5)
    pigeons.stop(child, signal.SIGKILL)
    assert pigeons.process("db", "restore", "old.db", "--yes").code == 0
    pigeons.process("run", "--once")
    assert max(Counter(pigeons.sent()).values()) == 1
    found = states(pigeons)
    assert found["accepted"] + found["unknown"] == 40 and 5 < found["unknown"] <= len(pigeons.sent())


def test_a_copy_does_not_run_until_it_is_adopted(pigeons, tmp_path):
    pigeons.process("event", "import", pigeons.events("first.jsonl", range(3)))
    assert pigeons.process("run", "--once").code == 0
    copy = type(pigeons)(tmp_path / "copy", pigeons.provider, pigeons._plugins)
    shutil.copytree(pigeons.folder, copy.folder)
    refused = copy.process("run", "--once")
    assert refused.code == 4 and "copy" in refused.err and "camp db adopt" in refused.err, refused
    unsure = copy.process("db", "adopt")
    assert unsure.code == 4, unsure
    assert copy.process("db", "adopt", "--yes").code == 0
    assert copy.process("run", "--once").code == 0 and len(pigeons.sent()) == 3
    assert copy.process("db", "adopt").out.startswith("this database is the one that sends")
    # Renaming a folder is no copy.
    pigeons.folder.rename(tmp_path / "moved")
    moved = type(pigeons)(tmp_path / "moved", pigeons.provider, pigeons._plugins)
    assert moved.process("run", "--once").code == 0


def test_a_database_without_its_journal_sends_nothing_that_was_open(pigeons):
    pigeons.process("event", "import", pigeons.events("first.jsonl", range(3)))
    pigeons.process("run", "--once")
    pigeons.process("event", "import", pigeons.events("second.jsonl", range(3, 8)))
    pigeons.process("run", "--once", "--no-dispatch")
    (pigeons.folder / "camp.db.sent").unlink()
    refused = pigeons.process("run", "--once")
    assert refused.code == 4 and "camp.db.sent is missing" in refused.err
    adopted = pigeons.process("db", "adopt", "--yes")
    assert adopted.code == 0 and "5 open effects became unknown" in adopted.err
    pigeons.process("run", "--once")
    assert len(pigeons.sent()) == 3 and states(pigeons) == {"accepted": 3, "unknown": 5}


def test_a_restore_is_refused_while_running_and_asks(pigeons):
    pigeons.process("event", "import", pigeons.events("first.jsonl", range(3)))
    assert pigeons.process("db", "backup", "b.db").code == 0
    assert pigeons.process("db", "backup", "b.db").code == 4, "a backup is never overwritten"
    child = pigeons.start()
    running = pigeons.process("db", "restore", "b.db", "--yes")
    assert running.code == 4 and "camp run" in running.err
    pigeons.stop(child)
    assert pigeons.process("db", "restore", "b.db").code == 4
    before = pigeons.database.read_bytes()
    assert pigeons.process("db", "restore", "b.db", "--dry-run").code == 0 and pigeons.database.read_bytes() == before
    (pigeons.folder / "bad.db").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    assert pigeons.process("db", "restore", "bad.db", "--yes").code == 5
    whole = (pigeons.folder / "b.db").read_bytes()
    (pigeons.folder / "torn.db").write_bytes(whole[: len(whole) // 2])
    assert pigeons.process("db", "restore", "torn.db", "--yes").code == 5 and pigeons.database.read_bytes() == before


def test_rotation_keeps_the_latest(pigeons, monkeypatch):
    pigeons.process("event", "import", pigeons.events("first.jsonl", range(3)))
    folder = pigeons.folder / "backups"
    folder.mkdir()
    for name in ("camp-20250101T000000Z.db", "camp-20250102T000000Z.db", "notes.db"):
        (folder / name).write_bytes(b"")
    assert pigeons.process("db", "backup", "--keep", "2").code == 0
    left = sorted(path.name for path in folder.iterdir())
    assert len(left) == 3 and "notes.db" in left and "camp-20250102T000000Z.db" in left
    assert (folder / left[1]).stat().st_mode & 0o077 == 0


# ── damaged files ──


def damage(project, size=30_000, offset=40_960) -> None:
    """As a disk that lost a piece of the file."""
    with project.database.open("r+b") as stream:
        stream.seek(offset)
        stream.write(b"\xa5\x5a\x01" * (size // 3))


def damaged(project) -> None:
    project.process("event", "import", project.events("first.jsonl", range(400)))
    assert project.process("run", "--once").code == 0 and len(project.sent()) == 400
    assert project.process("db", "backup", "b.db").code == 0
    project.process("event", "import", project.events("second.jsonl", range(400, 450)))
    assert project.process("run", "--once").code == 0 and len(project.sent()) == 450


@pytest.mark.parametrize("how", ["torn", "zeroed", "empty", "missing", "cut"])
def test_a_damaged_database_is_restored_by_the_documented_steps_and_nothing_is_sent_twice(pigeons, how):
    damaged(pigeons)
    whole = pigeons.database.read_bytes()
    if how == "torn":
        damage(pigeons)
    elif how == "missing":
        pigeons.database.unlink()
    else:
        pigeons.database.write_bytes({"zeroed": bytes(len(whole)), "empty": b"", "cut": whole[: len(whole) // 3]}[how])

    tried = pigeons.process("db", "restore", "b.db", "--dry-run", "--json")
    assert tried.code == 0, tried
    assert json.loads(tried.out)["events_lost"] is None and "can't be told" not in tried.err
    said = pigeons.process("db", "restore", "b.db", "--yes")
    assert said.code == 0, said
    assert "can't be carried over" in said.err and "provider" in said.err, "it is loud about what nobody knows now"
    aside = list(pigeons.folder.glob("camp.db.before-*"))
    assert len(aside) == (how != "missing") and ("the one before is" in said.out) == (how != "missing")
    assert pigeons.process("db", "check").code == 0
    pigeons.process("run", "--once")
    pigeons.process("event", "import", "first.jsonl")
    pigeons.process("event", "import", "second.jsonl")
    pigeons.process("run", "--once")
    assert Counter(pigeons.sent()).most_common(1)[0][1] == 1 and len(pigeons.sent()) == 450
    assert states(pigeons) == {"accepted": 400, "unknown": 50}


def test_a_log_that_was_left_behind_meets_no_other_file(pigeons):
    """Of a restore that was killed, and of a database that was moved away without its log."""
    damaged(pigeons)
    pigeons.database.unlink()
    for name in ("camp.db-wal", ".camp.db.restore-wal", ".camp.db.restore"):
        (pigeons.folder / name).write_bytes(b"of another database" * 500)
    assert pigeons.process("db", "restore", "b.db", "--yes").code == 0
    assert pigeons.process("db", "check").code == 0 and states(pigeons) == {"accepted": 400}
    assert [path.name[-4:] for path in pigeons.folder.glob("camp.db.before-*")] == ["-wal"]


def test_a_new_database_is_not_taken_for_the_one_of_the_backup(pigeons):
    """Somebody began anew after the loss: what the lost one knew is known to nobody, and that is said."""
    damaged(pigeons)
    pigeons.database.unlink()
    people(pigeons, "c1", **{"consent.email": False})
    said = pigeons.process("db", "restore", "b.db", "--yes")
    assert said.code == 0 and "is not the one of which the backup was made" in said.err and "1 contact that refused" in said.err, said
    pigeons.process("run", "--once")
    assert attributes(pigeons, "c1")["consent.email"] in (False, "no")


def test_a_damaged_database_names_the_next_step(pigeons):
    damaged(pigeons)
    damage(pigeons)
    checked = pigeons.process("db", "check")
    assert checked.code == 5 and "camp db restore FILE" in checked.err, checked
    doctor = pigeons.process("doctor", "--json")
    findings = [json.loads(line) for line in doctor.out.splitlines()]
    assert doctor.code == 1, doctor
    assert any(item["level"] == "error" and "camp db restore FILE" in item["help"] for item in findings), findings
    assert {"spool", "retention"} & {item["about"] for item in findings}, "the checks behind it are made, too"
    for command in (("status",), ("outbox", "list"), ("contact", "list"), ("run", "--once")):
        answer = pigeons.process(*command)
        assert answer.code == 0 or "camp db restore FILE" in answer.err, (command, answer)


def test_a_lost_journal_is_told_by_restore_and_adopt(pigeons):
    damaged(pigeons)
    away = pigeons.folder / "away"
    away.mkdir()
    for path in pigeons.folder.glob("camp.db*"):
        path.rename(away / path.name)
    said = pigeons.process("db", "restore", "b.db", "--yes")
    assert said.code == 0 and "camp.db.sent is missing" in said.err and "put it back" in said.err, said
    unsure = pigeons.process("db", "adopt")
    assert unsure.code == 4 and "may be sent again" in unsure.err, unsure
    # Put back, the journal knows.
    (away / "camp.db.sent").rename(pigeons.folder / "camp.db.sent")
    pigeons.process("event", "import", "second.jsonl")
    pigeons.process("run", "--once")
    assert len(pigeons.sent()) == 450


# ── what a backup does not know ──

PEOPLE = ("ana", "bob", "carl", "dora", "eve", "fred")


def people(project, *names, **values) -> None:
    path = project.folder / "people.jsonl"
    path.write_text("".join(json.dumps({"id": name, "email": f"{name}@example.org", **values}) + "\n" for name in names))
    assert project.process("contact", "import", path).code == 0


def refused_since(project) -> None:
    """A backup; then ana refuses, bob unsubscribes by an event that nobody processed, carl is suppressed, dora is erased, gina comes and refuses,
    eve is merged into ana, hal comes and goes."""
    people(project, *PEOPLE)
    project.process("event", "import", project.events("first.jsonl", range(3), contact="dora"))
    assert project.process("run", "--once").code == 0
    assert project.process("db", "backup", "b.db").code == 0
    people(project, "gina", "hal")
    for step in (
        ("contact", "set", "ana", "consent.email=no"),
        ("contact", "set", "gina", "consent.email=no"),
        ("event", "send", "email.complained", "--contact", "carl"),
        ("contact", "merge", "eve", "ana", "--yes"),
        ("run", "--once"),
        ("event", "send", "email.unsubscribed", "--contact", "bob"),
        ("contact", "forget", "dora", "hal", "--yes"),
        ("pause", "thanks", "--reason", "wrong text"),
        ("event", "import", project.events("second.jsonl", range(3, 5), contact="fred")),
    ):
        answer = project.process(*step)
        assert answer.code == 0, (step, answer)


def attributes(project, contact) -> dict:
    return json.loads(project.process("contact", "show", contact, "--json").out)


def test_refusals_erasures_and_pauses_since_the_backup_are_carried_over(pigeons):
    refused_since(pigeons)
    tried = pigeons.process("db", "restore", "b.db", "--dry-run")
    assert tried.code == 0, tried
    assert "5 contacts that refused" in tried.err and "2 erasures" in tried.err and "1 pause" in tried.err, tried
    record = json.loads(pigeons.process("db", "restore", "b.db", "--dry-run", "--json").out)
    # Lost: four changes of contacts, three events, two orders; the contacts that were erased count for nothing.
    assert (record["refusals"], record["erasures"], record["pauses"], record["unread"]) == (5, 2, ["thanks"], [])
    assert record["events_lost"] == 8 and record["restored"] is False
    assert pigeons.process("contact", "show", "dora").code == 5, "a dry run changes nothing"

    restored = pigeons.process("db", "restore", "b.db", "--yes")
    assert restored.code == 0, restored
    assert pigeons.process("contact", "show", "dora").code == 5
    assert b"dora" not in pigeons.database.read_bytes()
    assert pigeons.process("db", "check").code == 0
    pigeons.process("run", "--once")
    for contact in ("ana", "bob", "eve", "gina"):
        assert attributes(pigeons, contact)["consent.email"] in (False, "no"), contact
    assert attributes(pigeons, "carl")["suppressed.email"] == "complaint"
    assert "consent.email" not in attributes(pigeons, "fred")
    audit = pigeons.process("audit").out
    assert audit.count("forget") == 2 and "restore" in audit, audit
    assert "thanks" in pigeons.process("pause").out
    # What was erased does not come back by feeding it again, and the address stays suppressed.
    pigeons.process("event", "import", "first.jsonl")
    people(pigeons, "new")
    (pigeons.folder / "again.jsonl").write_text('{"id": "dora-2", "email": "Dora@example.org"}\n')
    assert pigeons.process("contact", "import", "again.jsonl").code == 0
    pigeons.process("run", "--once")
    assert pigeons.process("contact", "show", "dora").code == 5
    assert attributes(pigeons, "dora-2")["suppressed.email"] == "erased"


def test_one_erasure_hides_no_lost_event(pigeons):
    people(pigeons, "ana", "bob")
    pigeons.process("run", "--once")
    assert pigeons.process("db", "backup", "b.db").code == 0
    assert pigeons.process("contact", "forget", "bob", "--yes").code == 0
    pigeons.process("event", "import", pigeons.events("one.jsonl", range(1), contact="ana"))
    assert json.loads(pigeons.process("db", "restore", "b.db", "--dry-run", "--json").out)["events_lost"] == 1


def test_who_came_back_after_an_erasure_before_the_backup_stays(pigeons):
    people(pigeons, "ana", "bob")
    pigeons.process("run", "--once")
    pigeons.process("contact", "forget", "ana", "--yes")
    people(pigeons, "ana", first_name="Ana")
    pigeons.process("run", "--once")
    assert pigeons.process("db", "backup", "b.db").code == 0
    pigeons.process("contact", "forget", "bob", "--yes")
    assert pigeons.process("db", "restore", "b.db", "--yes").code == 0
    assert attributes(pigeons, "ana")["suppressed.email"] == "erased"
    assert pigeons.process("contact", "show", "bob").code == 5


def test_what_can_still_be_read_of_a_damaged_database_is_carried_over(pigeons):
    """The log is gone, the table of contacts is not."""
    damaged(pigeons)
    for step in (("contact", "set", "c7", "consent.email=no"), ("run", "--once")):
        assert pigeons.process(*step).code == 0
    with contextlib.closing(sqlite3.connect(pigeons.database)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        root = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = 'event'").fetchone()[0]
        size = raw.execute("PRAGMA page_size").fetchone()[0]
    damage(pigeons, 3_000, (root - 1) * size)
    said = pigeons.process("db", "restore", "b.db", "--yes")
    assert said.code == 0 and "1 contact that refused" in said.err and "is damaged" in said.err and "but for that" in said.err, said
    pigeons.process("run", "--once")
    assert attributes(pigeons, "c7")["consent.email"] in (False, "no")


def test_a_dry_run_beside_a_running_service(pigeons):
    damaged(pigeons)
    child = pigeons.start()
    tried = pigeons.process("db", "restore", "b.db", "--dry-run", "--json")
    assert tried.code == 0 and json.loads(tried.out)["events_lost"] == 50, tried
    assert pigeons.stop(child).code == 0


def test_what_was_resolved_meanwhile_is_no_unknown_effect_at_the_end(pigeons):
    damaged(pigeons)
    assert pigeons.process("db", "restore", "b.db", "--yes").code == 0
    pigeons.process("event", "import", "second.jsonl")
    child = pigeons.start()
    pigeons.wait(lambda: states(pigeons)["unknown"] == 50)
    resolved = pigeons.process("outbox", "resolve", "--state", "unknown", "accepted", "--yes")
    assert resolved.code == 0 and "50 effects are now accepted" in resolved.err, resolved
    ended = pigeons.stop(child)
    assert "unknown;" not in ended.err and "up to 50 more will be" in ended.err, ended
