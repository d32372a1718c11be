"""A million contacts and millions of events in one process on SQLite (FULL): speed and memory from beginning to end.

The program is that of `durable.py` (100 rules); every event meets one of a million contacts, so nearly no state is in the cache. Speed is
given for each tenth of the run: what falls from the first to the last is what a larger database costs. `--events 10000000` is the long run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__" and __spec__ is None:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.measure import child, rss, table
from benchmarks.peers.camp import _program, camp_text
from benchmarks.workload import iter_events, make_rules
from rules_engine import facts
from rules_engine.clock import VirtualClock
from rules_engine.facts import ContactChange
from rules_engine.service.pump import Pump
from rules_engine.store import open_store
from rules_engine.store.port import SOURCE_CONTACTS, Arrival

CONTACTS, EVENTS = 1_000_000, 2_000_000
CHUNK = 5_000
RULES = 100


def run(folder: Path, contacts: int, events: int) -> dict:
    """Imports, then events; after each tenth its speed and the size of the process."""
    clock = VirtualClock(1_767_225_600_000)
    store = open_store(folder / "camp.db", clock)
    pump = Pump(store, _program(camp_text(make_rules(RULES))))

    def handle(arrivals: list[Arrival]) -> None:
        clock.move_to(clock.now() + 1_000)
        store.record_events(arrivals)
        while pump.live(clock) is not None:
            pass

    begun = time.perf_counter()
    for first in range(0, contacts, CHUNK):
        values = [{"country": ("DE", "FR", "CZ", "US")[n % 4], "points": n % 100} for n in range(first, min(first + CHUNK, contacts))]
        handle([Arrival(ContactChange(f"i{first + n}", f"c{first + n}", clock.now(), value), SOURCE_CONTACTS) for n, value in enumerate(values)])
    imported = contacts / (time.perf_counter() - begun)
    sizes, speeds, done, step = [rss()], [], 0, max(CHUNK, events // 10)
    stream = iter_events(events, RULES)
    while done < events:
        begun, end = time.perf_counter(), min(events, done + step)
        while done < end:
            chunk = [next(stream) for _ in range(min(CHUNK, end - done))]
            # Spread over all contacts by a stride that meets each once before any twice.
            handle(
                [
                    Arrival(facts.Event(f"e{n}", event.type, f"c{n * 7_919 % contacts}", clock.now(), None, event.data))
                    for n, event in enumerate(chunk, done)
                ]
            )
            done += len(chunk)
        speeds.append(step / (time.perf_counter() - begun))
        sizes.append(rss())
        print(f"  {done:,} events, {speeds[-1]:,.0f}/s, {sizes[-1] / 1e6:,.0f} MB", file=sys.stderr, flush=True)
    bytes_ = (folder / "camp.db").stat().st_size
    store.close()
    return {"imported": imported, "speeds": speeds, "sizes": sizes, "bytes": bytes_, "contacts": contacts, "events": events}


def measure_one(contacts: int, events: int) -> dict:
    """In the child, in a folder that is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="camp-bench-"))
    try:
        return run(folder, contacts, events)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(contacts: int = CONTACTS, events: int = EVENTS) -> dict:
    """One run."""
    print(f"  {contacts:,} contacts, {events:,} events", file=sys.stderr, flush=True)
    return child("benchmarks.scale", contacts, events)


def report(found: dict) -> str:
    """One table."""
    if "missing" in found:
        return str(found["missing"])
    header = ["Tenth of the run", *(str(number + 1) for number in range(len(found["speeds"])))]
    rows = [
        ["events/s", *(f"{speed:,.0f}" for speed in found["speeds"])],
        ["÷ the first tenth", *(f"{speed / found['speeds'][0]:.2f}×" for speed in found["speeds"])],
        ["memory, MB", *(f"{size / 1e6:,.0f}" for size in found["sizes"][1:])],
    ]
    words = (
        f"{found['contacts']:,} contacts imported at {found['imported']:,.0f}/s ({found['sizes'][0] / 1e6:,.0f} MB of memory then); "
        f"{found['events']:,} events; the database has {found['bytes'] / 1e9:.2f} GB at the end."
    )
    return f"{table(header, rows)}\n\n{words}"


def main() -> None:
    """Print the table, or one measurement as JSON for the parent process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=2, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--contacts", type=int, default=CONTACTS)
    parser.add_argument("--events", type=int, default=EVENTS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure_one(*options.child)))
    else:
        print(report(measure(options.contacts, options.events)))


if __name__ == "__main__":
    main()
