"""python -m tests.cluster [--seconds N] [--seed S] [--round N]: workers and server killed, and what was left. Exit code 1 if a promise was
broken."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests import pgserver


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description="Kill workers and their server; check the promises.")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--round", type=float, default=20, help="seconds of evil in one round")
    options = parser.parse_args()
    if reason := pgserver.skip_reason():
        print(reason)
        return 2
    from tests.cluster.harness import campaign

    begun = time.monotonic()
    try:
        tally = campaign(
            Path(tempfile.mkdtemp(prefix="camp-cluster-")), pgserver.server(fsync=True), options.seconds, options.seed, options.round,
            lambda text: print(text, file=sys.stderr, flush=True),
        )  # fmt: skip
    except AssertionError as error:
        print(f"broken: {error}")
        return 1
    evil = ", ".join(f"{count} × {what}" for what, count in sorted(tally.evil.items()))
    print(f"{tally.rounds} rounds, {time.monotonic() - begun:.0f} s, {tally.events:,} events, {tally.effects:,} effects; {evil}; ", end="")
    print(f"effects shown as unknown: {tally.unknown}; broken promises: 0")
    return 0


if __name__ == "__main__":
    sys.exit(main())
