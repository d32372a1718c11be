"""python -m tests.crash [--kills N] [--seed S]: kills processes and says what was left. Exit code 1 if a promise was broken."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.crash.harness import campaign


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description="Kill the engine's processes; check the promises.")
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="camp-crash-"))

    def say(text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r{text}", end="", file=sys.stderr, flush=True)

    try:
        tally = campaign(folder, options.kills, options.seed, say)
    except AssertionError as error:
        print(f"broken: {error}")
        return 1
    seconds = time.monotonic() - begun
    print(f"{tally.kills} kills in {tally.scenarios} scenarios, {seconds:.0f} s; ", end="")
    print(f"effects shown as unknown: {tally.unknown}; broken promises: 0")
    for point, count in sorted(tally.points.items()):
        print(f"  {count:6} {point}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
