"""Durable events a second on PostgreSQL, with one worker and with two, against SQLite: the workload of `durable.py`, in one run.

Each worker is a process that records its part of the events, a block a transaction, and pumps what its shards hold, until nothing is left
anywhere. SQLite is the same loop on a file. The server is one of our own (`tests/pgserver.py`), with fsync on; its processes share the cores
with the workers: on two cores, two workers and their two servers are four.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__" and __spec__ is None:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.measure import child, figure, table
from benchmarks.peers import camp
from benchmarks.workload import make_contacts, make_events, make_rules
from rules_engine import facts
from rules_engine.facts import ContactChange
from rules_engine.service.pump import Pump
from rules_engine.store import open_store
from rules_engine.store.port import SOURCE_CONTACTS, Arrival
from tests import pgserver

SIZES = (100, 1_000)
BLOCKS = (100, 500)
EVENTS = 20_000
ROUNDS = 3
SIDES = ("sqlite", "postgres 1", "postgres 2")


def work(address: str, rules: int, count: int, block: int, number: int, workers: int, barrier, done) -> None:
    """One worker: its part of the events in, and what its shards hold through the pump."""
    program = camp._program(camp.camp_text(make_rules(rules)))
    events = make_events(count, rules)
    store = open_store(address)
    with store.run_lock(alone=False, program=program.digest):
        if number == 0:
            now = 1_767_225_600_000
            store.record_events([
                Arrival(ContactChange(f"import/{contact.id}", contact.id, now, {"country": contact.country, "points": contact.points}),
                        SOURCE_CONTACTS) for contact in make_contacts()
            ])  # fmt: skip
        pump = settle(store, program, block, workers)
        clock = store.clock if store.leases else camp.VirtualClock(int(time.time() * 1000))
        drain(pump, store, clock)
        barrier.wait()
        begun, cpu = time.perf_counter(), time.process_time()
        for start in range(0, count, block):
            if start // block % workers == number:
                now = clock.now()
                store.record_events([
                    Arrival(facts.Event(f"e{n}", event.type, event.contact, now, None, event.data))
                    for n, event in enumerate(events[start : start + block], start)
                ])  # fmt: skip
                while pump.live(clock) is not None:
                    if store.leases and workers > 1:
                        break
            if store.tend():
                raise RuntimeError("the shards moved while it was measured")
        drain(pump, store, clock)
        barrier.wait()  # what the other has recorded may be ours
        drain(pump, store, clock)
        barrier.wait()
        done.put((time.perf_counter() - begun, time.process_time() - cpu))
        barrier.wait()
    store.close()


def settle(store, program, block: int, workers: int) -> Pump:
    """The pump of this worker, once it has its fair share."""
    while store.leases and len(store.mine) != 64 // workers:
        store._lease.tended = -(10**12)
        store.tend()
        time.sleep(0.05)
    store.record_program(program.digest, {})
    return Pump(store, program, live_block=block)


def drain(pump: Pump, store, clock) -> None:
    """Until its shards hold nothing new."""
    while pump.live(clock) is not None:
        pass


def measure_one(side: str, rules: int, count: int, block: int) -> dict:
    """All workers of one side, in a database of their own."""
    workers = 2 if side == "postgres 2" else 1
    folder = Path(tempfile.mkdtemp(prefix="camp-bench-"))
    address = str(folder / "camp.db") if side == "sqlite" else pgserver.server(fsync=True).database("bench")
    open_store(address).close()
    context = multiprocessing.get_context("fork")
    barrier, done = context.Barrier(workers), context.Queue()
    processes = [
        context.Process(target=work, args=(address, rules, count, block, number, workers, barrier, done)) for number in range(workers)
    ]
    try:
        for process in processes:
            process.start()
        found = [done.get(timeout=300) for _ in processes]
        for process in processes:
            process.join(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    store = open_store(address) if side != "sqlite" else None
    if store is not None:
        counts = store.counts().events
        assert counts["new"] == 0 and counts["done"] >= count, counts
        store.close()
    wall = max(wall for wall, _ in found)
    return {"events_s": count / wall, "us": sum(cpu for _, cpu in found) / count * 1e6, "wall": wall}


def measure(count: int = EVENTS, rounds: int = ROUNDS) -> dict:
    """{"rules/block": {side: best}}; nothing where there can be no server."""
    results: dict = {}
    if pgserver.skip_reason():
        return results
    for rules in SIZES:
        for block in BLOCKS:
            best: dict[str, dict] = {}
            for number in range(rounds):
                for side in SIDES:
                    print(f"  postgres, {rules} rules, blocks of {block}, round {number + 1}, {side}", file=sys.stderr, flush=True)
                    found = child("benchmarks.postgres", side, rules, count, block)
                    if side not in best or found.get("wall", 1e9) < best[side].get("wall", 1e9):
                        best[side] = found
            results[f"{rules}/{block}"] = best
    return results


def report(results: dict) -> str:
    """One row a side."""
    if not results:
        return pgserver.skip_reason()
    rows = []
    for key, sides in results.items():
        rules, _, block = key.partition("/")
        for side, found in sides.items():
            title = f"{side} worker{'s' if side.endswith('2') else ''}" if side != "sqlite" else "SQLite"
            if "missing" in found:
                rows.append([title, rules, block, found["missing"], "–", "–"])
                continue
            ratio = figure(found["events_s"] / sides["sqlite"]["events_s"]) if "events_s" in sides["sqlite"] else "–"
            rows.append([title, rules, block, f"{found['events_s']:,.0f}", figure(found["us"]), f"{ratio}×"])
    return table(["Store", "rules", "block", "events/s", "CPU µs per event, workers", "of SQLite's"], rows)


def main() -> None:
    """Print the table, or one measurement as JSON for the parent process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    if options.child:
        side, rules, count, block = options.child
        print(json.dumps(measure_one(side, int(rules), int(count), int(block))))
        return
    print(report(measure(options.events, options.rounds)))


if __name__ == "__main__":
    main()
