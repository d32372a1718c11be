"""python -m tests.crash COMMAND: breaks what the engine runs on, and says what was left. Exit code 1 if a promise was broken."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


def say(text: str) -> None:
    """Progress, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r{text}", end="", file=sys.stderr, flush=True)


def kills(options: argparse.Namespace) -> list[str]:
    from tests.crash.harness import campaign

    tally = campaign(Path(tempfile.mkdtemp(prefix="camp-crash-")), options.count, options.seed, say, enough=options.enough)
    print(f"{tally.kills} kills in {tally.scenarios} scenarios; effects shown as unknown: {tally.unknown}")
    for point, count in sorted(tally.points.items()):
        print(f"  {count:6} {point}")
    return []


def cuts(options: argparse.Namespace) -> list[str]:
    from tests.crash import cuts

    report = cuts.until(options.count, say, cuts.NORMAL if options.normal else None, options.every, options.enough)
    print(f"{report.cuts} cuts at {report.points} points, {report.images} different images, {report.continued} ways to go on")
    return report.lost


def statements(options: argparse.Namespace) -> list[str]:
    from tests.crash import statements

    report = statements.campaign(seed=options.seed, say=say)
    print(f"{report.points} moments, {report.images} different images, {report.continued} ways to go on")
    return report.lost


def errors(options: argparse.Namespace) -> list[str]:
    from tests.crash import errors

    report = errors.campaign(options.every, options.first, options.seed, say, options.enough)
    print(f"{report.runs} runs with a full disk or an I/O error")
    for where, count in sorted(report.met.items()):
        print(f"  {count:6} {where}")
    return report.lost


def clocks(options: argparse.Namespace) -> list[str]:
    from tests.crash.clocks import campaign

    count, lost = campaign(options.count, options.seed, say, options.enough)
    print(f"{count} scripts of a clock that jumps")
    return lost


def processes(options: argparse.Namespace) -> list[str]:
    from tests.crash.processes import campaign

    killed, unknown, lost = campaign(options.count, options.seed, say, options.enough)
    print(f"{killed} kills of `camp run`; effects shown as unknown: {unknown}")
    return lost


COMMANDS: dict[str, tuple[Callable[[argparse.Namespace], list[str]], int, str]] = {
    "kills": (kills, 10_000, "SIGKILL at random moments and named points"),
    "statements": (statements, 0, "a kill before and after each statement and file operation (all of them)"),
    "errors": (errors, 0, "a full disk and I/O errors at each operation and read, once and lasting"),
    "clocks": (clocks, 2_000, "clocks that jump forwards and back, or stand still"),
    "processes": (processes, 200, "`camp run` killed, with a real mail server"),
    "cuts": (cuts, 100_000, "power cuts"),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, count, help) in COMMANDS.items():
        command = commands.add_parser(name, help=help)
        if count:
            command.add_argument("--count", type=int, default=count, help=f"how many (default {count:,})")
        command.add_argument("--seed", type=int, default=1)
        if name != "statements":
            command.add_argument("--minutes", type=float, help="end after so long, and say how far it came")
        if name in ("errors", "cuts"):
            command.add_argument("--every", type=int, default=1, help="only at each n-th operation")
        if name == "errors":
            command.add_argument("--first", type=int, default=1, help="begin at this operation")
        if name == "cuts":
            command.add_argument("--normal", action="store_true", help="with synchronous=NORMAL: it must find losses")
    options = parser.parse_args()
    begun = time.monotonic()
    minutes = getattr(options, "minutes", None)
    options.enough = lambda: minutes is not None and time.monotonic() - begun > minutes * 60
    try:
        broken = COMMANDS[options.command][0](options)
    except AssertionError as error:
        broken = [str(error)]
    print(f"broken promises: {len(broken)}; {time.monotonic() - begun:.0f} s")
    for text in broken[:20]:
        print(f"  {text}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
