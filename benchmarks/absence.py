"""Absence: "no open within 3 days of sign-up", a million contacts waiting at once.

A million sign-ups come first, one each 100 ms; then 600,000 of these contacts open something 1.25 to 4 days after they signed
up, so that some are in time, some too late and some never.  Whoever hasn't opened when the three days are over fires at that
moment.  An open at exactly that moment is too late: what is due fires before an event of the same moment.

Memory is what the process grew by from before the first sign-up to when all are waiting, divided by a million.  Identifiers
and input records exist before and don't count.
"""

from __future__ import annotations

import argparse
import heapq
import json
import sys
from collections.abc import Iterable
from pathlib import Path

if __name__ == "__main__" and __spec__ is None:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.measure import NOT_BUILT, child, digest, figure, rss, table, timed
from benchmarks.peers import camp
from benchmarks.workload import mix

CONTACTS = 1_000_000
ROUNDS = 3
HOUR = 3_600_000
WAIT = 72 * HOUR
START = 1_767_225_600_000  # 2026-01-01T00:00:00Z
STEP = 100
Signal = tuple[int, str, str]


def sign_ups(count: int) -> list[Signal]:
    """One sign-up each 100 ms."""
    return [(START + n * STEP, "sign_up", f"c{n}") for n in range(count)]


def opens(signed: list[Signal]) -> list[Signal]:
    """The opens of six contacts in ten, in the order of time, all after the last sign-up."""
    found = []
    for number, (at, _, contact) in enumerate(signed):
        bits = mix(21, number)
        if bits % 10 < 6:
            found.append((at + 30 * HOUR + (bits >> 8) % (66 * HOUR), "open", contact))
    found.sort()
    return found


class Reference:
    """A heap of due times and a dictionary of who is still waiting: the least that does the work."""

    def __init__(self) -> None:
        self.due: list[tuple[int, str]] = []
        self.waiting: dict[str, int] = {}
        self.fired: list[tuple[int, str]] = []

    def run(self, events: Iterable[Signal]) -> None:
        """Run events in order; what is due fires first."""
        due, waiting = self.due, self.waiting
        push = heapq.heappush
        for at, kind, contact in events:
            if due and due[0][0] <= at:
                self._advance(at)
            if kind == "sign_up":
                waiting[contact] = at + WAIT
                push(due, (at + WAIT, contact))
            else:
                waiting.pop(contact, None)

    def _advance(self, now: int) -> None:
        due, waiting = self.due, self.waiting
        while due and due[0][0] <= now:
            moment, contact = heapq.heappop(due)
            if waiting.get(contact) == moment:
                del waiting[contact]
                self.fired.append((moment, contact))

    def finish(self, until: int) -> list[tuple[int, str]]:
        """Let time pass; all firings so far."""
        self._advance(until)
        return self.fired


SIDES = {"reference": ("Heap and dictionary", Reference), "camp": ("Camp", camp.absence)}


def measure_one(side: str, count: int) -> dict:
    """In the child: cost of an event and of a wait, and what fired."""
    first = sign_ups(count)
    second = opens(first)
    total = len(first) + len(second)
    try:
        session = SIDES[side][1]()
        if hasattr(session, "prepare"):
            first, second = session.prepare(first), session.prepare(second)
        before = rss()
        _, waiting = timed(lambda: session.run(first))
        memory = rss() - before
        _, opened = timed(lambda: session.run(second))
        fired, ending = timed(lambda: session.finish(START + count * STEP + 5 * 24 * HOUR))
    except NotImplementedError:
        return {"missing": NOT_BUILT}
    cpu = waiting.cpu + opened.cpu + ending.cpu
    return {"events": total, "us": cpu / total * 1e6, "bytes": memory / count, **digest(fired)}


def measure(count: int = CONTACTS, rounds: int = ROUNDS) -> dict:
    """The best of interleaved rounds for each side."""
    best: dict[str, dict] = {}
    for number in range(rounds):
        for side in SIDES:
            if "missing" in best.get(side, {}):
                continue
            print(f"  absence, round {number + 1}, {side}", file=sys.stderr, flush=True)
            found = child("benchmarks.absence", side, count)
            if side not in best or found.get("us", 0) < best[side]["us"]:
                best[side] = found
    return best


def report(results: dict) -> str:
    """One line for each side."""
    wanted = results["reference"]
    rows = []
    for side, found in results.items():
        if "missing" in found:
            rows.append([SIDES[side][0], found["missing"], "–", "–", "–", "–"])
            continue
        same = (found["count"], found["hash"]) == (wanted["count"], wanted["hash"])
        ratio = f"{figure(found['us'] / wanted['us'])}×"
        speed = f"{1e6 / found['us']:,.0f}"
        check = "same" if same else f"DIFFERENT: {found['count']:,}"
        rows.append([SIDES[side][0], figure(found["us"]), speed, figure(found["bytes"]), ratio, check])
    header = ["Absence, a million waiting", "CPU µs per event", "events/s", "bytes a wait", "÷ reference", "firings"]
    return table(header, rows)


def main() -> None:
    """Print the table, or one measurement as JSON for the parent process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--contacts", type=int, default=CONTACTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure_one(options.child[0], int(options.child[1]))))
    else:
        print(report(measure(options.contacts, options.rounds)))


if __name__ == "__main__":
    main()
