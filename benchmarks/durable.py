"""Durable, end to end: events in, rules fired, facts, journal, timers and effects committed to SQLite (WAL, FULL).

Camp runs in blocks of 100 events.  What it writes is recorded (in a run of its own, not timed) and written again to a copy of
the same database with `executemany` in the same transactions: the floor.  As long as Camp isn't there, the floor is that of
the rows that any such store must write.  Seconds are wall seconds here, because waiting for the disk is part of the promise.

Memory: one process runs a million events and says its size after each 100,000.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

if __name__ == "__main__" and __spec__ is None:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.measure import NOT_BUILT, child, figure, rss, table, timed
from benchmarks.peers import camp, limit
from benchmarks.recorder import Recorder, Transaction, open_durable, row_count, write_floor
from benchmarks.workload import Event, iter_events, make_contacts, make_events, make_rules

SIZES = (100, 1_000)
EVENTS = 20_000
BLOCK = 100
ROUNDS = 5  # the disk is the noisiest part of a machine
MEMORY_EVENTS = 1_000_000
MEMORY_STEP = 100_000
_MEMORY_CHUNK = 10_000

_SCHEMA = """
CREATE TABLE contact (id TEXT PRIMARY KEY, state TEXT NOT NULL, wake_at INTEGER) WITHOUT ROWID;
CREATE INDEX contact_wake ON contact (wake_at) WHERE wake_at IS NOT NULL;
CREATE TABLE event (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, type TEXT, contact TEXT, at INTEGER, data TEXT);
CREATE TABLE journal (seq INTEGER PRIMARY KEY, contact TEXT NOT NULL, rule TEXT NOT NULL, because TEXT NOT NULL);
CREATE INDEX journal_contact ON journal (contact, seq);
CREATE TABLE outbox (id TEXT PRIMARY KEY, contact TEXT NOT NULL, action TEXT NOT NULL, parameters TEXT NOT NULL, state TEXT);
CREATE TABLE progress (shard INTEGER PRIMARY KEY, seq INTEGER NOT NULL);
"""


def must_write(rules_count: int, events: list[Event]) -> list[Transaction]:
    """The rows that any durable engine writes for these events: events, states touched, journal, effects, progress."""
    session = limit.build(make_rules(rules_count), make_contacts())
    transactions, journal = [], 0
    for first in range(0, len(events), BLOCK):
        block = events[first : first + BLOCK]
        fired_before, acted_before = len(session.fired), len(session.actions)
        session.run(block)
        fired, acted = session.fired[fired_before:], session.actions[acted_before:]
        transactions.append(_transaction(session, block, first, fired, acted, journal, acted_before))
        journal += len(fired)
    return transactions


def _transaction(session, block: list[Event], first: int, fired: list, acted: list, journal: int, effects: int) -> Transaction:
    """One block's rows."""
    at = 1_767_225_600_000
    events = [
        (number, f"e{number}", event.type, event.contact, at + number * 1_000, json.dumps(event.data))
        for number, event in enumerate(block, first)
    ]
    touched = {contact for _, contact in fired}
    states = [(json.dumps({"schema": 1, "points": session.contacts[name].points}), None, name) for name in sorted(touched)]
    because = json.dumps({"span": [12, 3, 12, 80], "event": "e1", "facts": {"contact.points": 51, "contact.country": "DE"}})
    lines = [(journal + number, contact, rule, because) for number, (rule, contact) in enumerate(fired)]
    outbox = [(f"effect-{effects + n}", contact, "tag.add", "{}", "ready") for n, (contact, _) in enumerate(acted)]
    return [
        ("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?)", events),
        ("UPDATE contact SET state = ?, wake_at = ? WHERE id = ?", states),
        ("INSERT INTO journal VALUES (?, ?, ?, ?)", lines),
        ("INSERT INTO outbox VALUES (?, ?, ?, ?, ?)", outbox),
        ("INSERT OR REPLACE INTO progress VALUES (?, ?)", [(0, first + len(block))]),
    ]


def bare_store(path: Path) -> sqlite3.Connection:
    """A database with the tables of `must_write` and all contacts in it."""
    connection = open_durable(path)
    connection.executescript(_SCHEMA)
    rows = [(contact.id, json.dumps({"schema": 1, "points": contact.points}), None) for contact in make_contacts()]
    write_floor(connection, [[("INSERT INTO contact VALUES (?, ?, ?)", rows)]])
    return connection


def measure_bare(folder: Path, rules_count: int, count: int) -> dict:
    """The floor of the rows that must be written whatever the engine."""
    events = make_events(count, rules_count)
    transactions = must_write(rules_count, events)
    connection = bare_store(folder / "bare.db")
    _, timing = timed(lambda: write_floor(connection, transactions))
    return _result(timing, count, row_count(transactions))


def measure_camp(folder: Path, rules_count: int, count: int) -> dict:
    """Camp, timed and not recorded."""
    events = make_events(count, rules_count)
    session = camp.durable(folder, make_rules(rules_count), make_contacts(), BLOCK)
    _, timing = timed(lambda: session.run(events, 0))
    session.close()
    return _result(timing, count, 0)


def measure_floor(folder: Path, rules_count: int, count: int) -> dict:
    """Camp's own rows in Camp's own transactions, by `executemany` on a copy of its database."""
    events = make_events(count, rules_count)
    session = camp.durable(folder, make_rules(rules_count), make_contacts(), BLOCK)
    copy = open_durable(folder / "floor-copy.db")
    session.connection.backup(copy)
    recorder = Recorder(session.connection)
    session.run(events, 0)
    transactions = recorder.stop()
    session.close()
    copy.execute("PRAGMA foreign_keys = OFF")
    _, timing = timed(lambda: write_floor(copy, transactions))
    return {**_result(timing, count, row_count(transactions)), "transactions": len(transactions)}


def _result(timing, count: int, rows: int) -> dict:
    return {"events_s": count / timing.wall, "us": timing.cpu / count * 1e6, "rows": rows, "wall": timing.wall}


def memory(folder: Path, rules_count: int, count: int) -> dict:
    """The size of a process that runs `count` events through Camp, after each MEMORY_STEP."""
    session = camp.durable(folder, make_rules(rules_count), make_contacts(), BLOCK)
    events = iter_events(count, rules_count)
    sizes, done = [rss()], 0
    for chunk in _chunks(events, _MEMORY_CHUNK):
        session.run(chunk, done)
        done += len(chunk)
        if done % MEMORY_STEP == 0:
            sizes.append(rss())
    session.close()
    return {"sizes": sizes}


def _chunks(events: Iterator[Event], size: int) -> Iterator[list[Event]]:
    while chunk := list(islice(events, size)):
        yield chunk


SIDES = {"bare": measure_bare, "floor": measure_floor, "camp": measure_camp, "memory": memory}


def measure_one(side: str, rules_count: int, count: int) -> dict:
    """In the child, in a folder that is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="camp-bench-"))
    try:
        return SIDES[side](folder, rules_count, count)
    except NotImplementedError:
        return {"missing": NOT_BUILT}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(count: int = EVENTS, rounds: int = ROUNDS, memory_events: int = MEMORY_EVENTS) -> dict:
    """{"speed": {size: {side: best}}, "memory": …}."""
    speed: dict = {}
    for size in SIZES:
        best: dict[str, dict] = {}
        for number in range(rounds):
            for side in ("bare", "floor", "camp"):
                if "missing" in best.get(side, {}):
                    continue
                print(f"  durable, {size} rules, round {number + 1}, {side}", file=sys.stderr, flush=True)
                found = child("benchmarks.durable", side, size, count)
                if side not in best or found.get("wall", 0) < best[side]["wall"]:
                    best[side] = found
        speed[size] = best
    print("  durable, memory", file=sys.stderr, flush=True)
    return {"speed": speed, "memory": child("benchmarks.durable", "memory", 100, memory_events)}


def report(results: dict) -> str:
    """Speed, then memory."""
    titles = {"bare": "Floor: the least rows", "floor": "Floor: Camp's rows", "camp": "Camp"}
    rows = []
    for size, sides in results["speed"].items():
        for side, found in sides.items():
            rows.append([f"{titles[side]}, {size:,} rules", *_cells(found, sides["camp"])])
    header = [f"Durable, blocks of {BLOCK}, FULL", "events/s", "CPU µs per event", "rows", "Camp takes", "Camp's CPU"]
    return f"{table(header, rows)}\n\n{_memory_text(results['memory'])}"


def _cells(found: dict, camps: dict) -> list[str]:
    """Speed, rows, and how many times the wall seconds and the CPU Camp takes."""
    if "missing" in found:
        return [found["missing"], "–", "–", "–", "–"]
    ratios = [f"{figure(camps[key] / found[key])}×" if key in camps else "–" for key in ("wall", "us")]
    rows = f"{found['rows']:,}" if found["rows"] else "–"
    return [f"{found['events_s']:,.0f}", figure(found["us"]), rows, *ratios]


def _memory_text(found: dict) -> str:
    if "missing" in found:
        return f"Memory over a million events: camp: {found['missing']}"
    sizes = [size / 1e6 for size in found["sizes"]]
    line = ", ".join(f"{size:.0f}" for size in sizes)
    growth = sizes[-1] - sizes[min(2, len(sizes) - 1)]
    start = f"Memory (MB) at the start and after each {MEMORY_STEP:,} events: {line}"
    return f"{start}; growth after the first 200,000: {growth:+.1f} MB."


def main() -> None:
    """Print the tables, or one measurement as JSON for the parent process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--memory-events", type=int, default=MEMORY_EVENTS)
    options = parser.parse_args()
    if options.child:
        side, rules_count, count = options.child
        print(json.dumps(measure_one(side, int(rules_count), int(count))))
    else:
        print(report(measure(options.events, options.rounds, options.memory_events)))


if __name__ == "__main__":
    main()
