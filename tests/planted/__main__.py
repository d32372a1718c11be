"""python -m tests.planted [--some N] [NAME …]: plants bugs and says which were caught. Exit code 1 if one was not."""

from __future__ import annotations

import argparse
import sys
import time

from tests.planted import runner


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.planted", description="Plant bugs one by one; the tests must catch each.")
    parser.add_argument("names", nargs="*", help="only these")
    parser.add_argument("--some", type=int, help="so many, chosen by the sources' digest")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    found = runner.some(options.some) if options.some else runner.bugs()
    if options.names:
        found = [bug for bug in found if bug.name in options.names]
        if len(found) != len(set(options.names)):
            parser.error(f"planted bugs are {', '.join(bug.name for bug in runner.bugs())}")
    begun = time.monotonic()
    failure = runner.clean(found)
    if failure:
        print(f"the tests fail without any bug:\n{failure}")
        return 1
    caught = 0
    for bug, state, by in runner.judge_all(found, options.workers):
        print(f"{state:9}{bug.name:36}{bug.breaks if state != 'caught' else by}", flush=True)
        if state in ("stale", "broken"):
            print(by)
        caught += state == "caught"
    print(f"{caught} of {len(found)} planted bugs caught, {time.monotonic() - begun:.0f} s")
    return 0 if caught == len(found) else 1


if __name__ == "__main__":
    sys.exit(main())
