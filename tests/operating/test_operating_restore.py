"""Promise P11 with real processes: a backup that was restored, or a copied machine, sends nothing twice."""

from __future__ import annotations

import json
import shutil
import signal
from collections import Counter

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
