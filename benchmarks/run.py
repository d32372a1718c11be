"""Run every benchmark and print the tables in Markdown, to be pasted into the documentation. Progress goes to stderr."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

if __name__ == "__main__" and __spec__ is None:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks import absence, check, durable, http_intake, latency, matching, postgres, scale, simulation, smtp_out, spike
from benchmarks.measure import machine


def sections(quick: bool) -> dict:
    """Title of each part, and how to get its text."""
    rounds = 1 if quick else 3
    disk_rounds = 1 if quick else durable.ROUNDS
    memory = 200_000 if quick else durable.MEMORY_EVENTS
    return {
        "Matching and chaining in memory": lambda: matching.report(matching.measure(rounds=rounds)),
        "Absence": lambda: absence.report(absence.measure(rounds=rounds)),
        "Durable": lambda: durable.report(durable.measure(rounds=disk_rounds, memory_events=memory)),
        "PostgreSQL": lambda: postgres.report(postgres.measure(rounds=rounds)),
        "Simulation": lambda: simulation.report(simulation.measure()),
        "Messages out": lambda: smtp_out.report(smtp_out.measure(rounds=rounds)),
        "Facts in over HTTP": lambda: http_intake.report(http_intake.measure(rounds=rounds)),
        "A spike of due timers": lambda: spike.report(spike.measure(20_000 if quick else spike.PEOPLE)),
        "From event to hand-over": lambda: latency.report(latency.measure(5 if quick else latency.SECONDS)),
        "A million contacts": lambda: scale.report(scale.measure(100_000, 200_000) if quick else scale.measure()),
        "Command line": lambda: check.report(check.measure()),
    }


def main() -> None:
    """Print all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of each, 200,000 events for memory")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="only the parts whose title contains one of these words")
    options = parser.parse_args()
    began = time.perf_counter()
    print(f"{machine()}.\n")
    for title, text in sections(options.quick).items():
        if options.only and not any(word.lower() in title.lower() for word in options.only):
            continue
        print(f"{title} …", file=sys.stderr, flush=True)
        print(f"### {title}\n\n{text()}\n", flush=True)
    print(f"All of it took {time.perf_counter() - began:.0f} s.")


if __name__ == "__main__":
    main()
