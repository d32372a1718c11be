"""python -m tests.simulation [--seeds N] [--days D] [--first S]: years with faults. Exit code 1 if a promise was broken."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.simulation.run import PEOPLE, one_seed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Years of the real engine, with faults; check the promises.")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--people", type=int, default=PEOPLE)
    options = parser.parse_args()
    begun, tally, failed = time.monotonic(), Counter(), []
    for seed in range(options.first, options.first + options.seeds):
        found = one_seed(seed, options.days, options.people, tally)
        if found:
            failed.append(seed)
            print(f"seed {seed}: {len(found)} broken\n  " + "\n  ".join(sentence[:1_000] for sentence in found[:8]))
            print(f"repeat it: python -m tests.simulation --seeds 1 --first {seed} --days {options.days} --people {options.people}", flush=True)
        if sys.stderr.isatty():
            print(f"\r{seed - options.first + 1} seeds, {len(failed)} broken", end="", file=sys.stderr, flush=True)
    seconds = time.monotonic() - begun
    print(f"{options.seeds} seeds of {options.days} days, {tally['runs']} runs, {seconds:.0f} s; seeds with a broken promise: {len(failed)}")
    for name, count in sorted(tally.items()):
        print(f"  {count:9,} {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
