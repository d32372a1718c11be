"""python -m tests.cluster [--seconds N] [--seed S] [--round N] [--planted]: workers and server killed, and what was left. Exit code 1 if a promise was
broken."""

from __future__ import annotations

import argparse
import subprocess
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
    parser.add_argument("--planted", action="store_true", help="plant each bug of planted.py in turn, and see that it is caught")
    parser.add_argument("--plant", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if reason := pgserver.skip_reason():
        print(reason)
        return 2
    if options.planted:
        return planted(options.seconds)
    from tests.cluster import harness
    from tests.cluster.harness import campaign

    if options.plant:
        from tests.cluster.planted import BUGS

        BUGS[options.plant]()
        harness.PATIENCE = 20
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


def planted(seconds: float) -> int:
    """Each bug in processes of its own, until it is caught."""
    from tests.cluster.planted import BUGS

    survived = 0
    for name in BUGS:
        command = [sys.executable, "-m", "tests.cluster", "--plant", name, "--seconds", str(seconds), "--round", "15"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        caught = done.returncode != 0
        survived += not caught
        told = (done.stdout.strip() or done.stderr.strip() or "?").splitlines()[0]
        print(f"{name}: {'caught' if caught else 'SURVIVED'}: {told[:150]}", flush=True)
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
