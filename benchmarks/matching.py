"""Matching and chaining in memory: every peer on the same rules, contacts and events, in one run.

Each measurement has a process of its own, so that nobody pays for another's threads, heap or patches; rounds are
interleaved and the best of them counts.  The firings of every run are compared with the reference's.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

if __name__ == "__main__" and __spec__ is None:  # run as a file: `durable.py` beside us must not shadow a package
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.measure import NOT_BUILT, child, digest, figure, table, timed
from benchmarks.peers import NAMES, naive
from benchmarks.workload import make_contacts, make_events, make_rules

SIZES = (10, 100, 1_000)
ROUNDS = 3


def peer(name: str):
    """The module of a peer."""
    return importlib.import_module(f"benchmarks.peers.{name}")


def event_count(name: str, rules: int) -> int:
    """How many events a peer is given: what it says for the next size up."""
    counts = peer(name).EVENTS
    return counts[min((size for size in counts if size >= rules), default=max(counts))]


def measure_one(name: str, rule_count: int) -> dict:
    """In the child: load, run, and say what it cost and what fired."""
    module = peer(name)
    reason = module.available()
    if reason:
        return {"missing": reason}
    rules, contacts = make_rules(rule_count), make_contacts()
    events = make_events(event_count(name, rule_count), rule_count)
    try:
        session, loading = timed(lambda: module.build(rules, contacts))
        if hasattr(session, "prepare"):
            events = session.prepare(events)
        firings, running = timed(lambda: session.run(events))
    except NotImplementedError:
        return {"missing": NOT_BUILT}
    return {
        "events": len(events),
        "us": running.cpu / len(events) * 1e6,
        "load": loading.cpu,
        **digest(firings),
    }


def references(rule_count: int, lengths: set[int]) -> dict[int, dict]:
    """What must fire for each number of events, from one pass of the reference over the longest."""
    session = naive.build(make_rules(rule_count), make_contacts())
    fired: list[tuple[str, str]] = []
    found = {}
    for number, event in enumerate(make_events(max(lengths), rule_count), 1):
        fired += session.step(event)
        if number in lengths:
            found[number] = digest(fired)
    return found


def measure(sizes: tuple[int, ...] = SIZES, names: tuple[str, ...] = NAMES, rounds: int = ROUNDS) -> dict:
    """{size: {peer: best measurement}}, with "check" ("same" or what is wrong) in each measurement."""
    results: dict = {}
    for size in sizes:
        expected = references(size, {event_count(name, size) for name in names})
        best: dict[str, dict] = {}
        for number in range(rounds):
            for name in names:
                if "missing" in best.get(name, {}):
                    continue
                print(f"  {size} rules, round {number + 1}, {name}", file=sys.stderr, flush=True)
                found = child("benchmarks.matching", name, size)
                if "missing" not in found:
                    wanted = expected[found["events"]]
                    same = (found["count"], found["hash"]) == (wanted["count"], wanted["hash"])
                    found["check"] = "same" if same else f"DIFFERENT: {found['count']} firings, not {wanted['count']}"
                    previous = best.get(name)
                    if previous and previous["check"] == "same" and (not same or previous["us"] <= found["us"]):
                        found = previous if same else found
                best[name] = found
        results[size] = best
    return results


def report(results: dict) -> str:
    """The tables: cost and ratios, then loading, then what keeps Camp or a peer out."""
    sizes = list(results)
    names = list(next(iter(results.values())))
    header = ["CPU µs per event"] + [text for size in sizes for text in (f"{size:,} rules", "÷ limit", "÷ Camp")]
    header.append("growth")
    rows, notes, loads = [], [], []
    for name in names:
        cells, load = [], []
        for size in sizes:
            found = results[size][name]
            cells += _cells(found, results[size])
            load.append(figure(found["load"] * 1e3) if "load" in found else "–")
            if "missing" in found or found["check"] != "same":
                notes.append(f"- {peer(name).NAME}, {size:,} rules: {found.get('missing') or found['check']}")
        rows.append([peer(name).NAME, *cells, _growth(results, name)])
        loads.append([peer(name).NAME, *load])
    if "camp" in names and all("missing" in results[size]["camp"] for size in sizes):
        notes = [note for note in notes if not note.startswith("- Camp,")] + [f"- camp: {results[sizes[0]]['camp']['missing']}"]
    parts = [table(header, rows), _firings(results), table(["CPU ms to load"] + [f"{size:,} rules" for size in sizes], loads)]
    checked = "Firings: each line above gave the same multiset as the reference" + (", except:" if notes else ".")
    return "\n\n".join([*parts, "\n".join([checked, *notes])])


def _cells(found: dict, others: dict) -> list[str]:
    """Cost, ratio to the limit, ratio to Camp."""
    if "us" not in found:
        return ["–", "–", "–"]
    ratios = []
    for base in ("limit", "camp"):
        other = others.get(base, {}).get("us")
        ratios.append(f"{figure(found['us'] / other)}×" if other else "–")
    return [figure(found["us"]), *ratios]


def _growth(results: dict, name: str) -> str:
    """How a peer's cost grows from the smallest to the largest rule set."""
    first, last = results[min(results)][name].get("us"), results[max(results)][name].get("us")
    return f"{figure(last / first)}×" if first and last else "–"


def _firings(results: dict) -> str:
    """How the firings grow."""
    low, high = min(results), max(results)
    rates = {size: _firing_rate(results[size]) for size in results}
    text = "Firings per event: " + ", ".join(f"{rate:.3f} at {size:,} rules" for size, rate in rates.items())
    return f"{text}; they grow {rates[high] / rates[low]:.0f}× from {low:,} to {high:,} rules."


def _firing_rate(best: dict) -> float:
    """Firings per event over the longest run."""
    longest = max((found for found in best.values() if "events" in found), key=lambda found: found["events"])
    return longest["count"] / longest["events"]


def main() -> None:
    """Print the tables, or one measurement as JSON for the parent process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=2, metavar=("PEER", "RULES"), help=argparse.SUPPRESS)
    parser.add_argument("--peers", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--rules", nargs="+", type=int, default=SIZES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure_one(options.child[0], int(options.child[1]))))
    else:
        print(report(measure(tuple(options.rules), tuple(options.peers), options.rounds)))


if __name__ == "__main__":
    main()
