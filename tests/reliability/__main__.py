"""python -m tests.reliability [--minutes N] [NAME …]: every long harness, one after the other, and a table of what each said.

Without --minutes each runs in full (the counts of docs/reliability.md; some hours). With it each has about so many minutes and says how far
it came. Exit code 1 if a promise was broken. What each prints goes to a file beside the table, which is named at the end.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

MUST_FAIL = "cuts, and SQLite may forget"  # with synchronous=NORMAL losses must be found: it shows that the harness can

# Name -> (command in full, the same for about M minutes, variables). {m}: minutes; {n}: their number of a thing, by the rate measured.
RUNS: dict[str, tuple[str, str, dict[str, str]]] = {
    "statements": ("tests.crash statements", "tests.crash statements", {}),
    "cuts": ("tests.crash cuts", "tests.crash cuts --minutes {m}", {}),
    MUST_FAIL: ("tests.crash cuts --normal --every 47 --count 400",) * 2 + ({},),
    "kills": ("tests.crash kills", "tests.crash kills --minutes {m}", {}),
    "errors": ("tests.crash errors", "tests.crash errors --every 11 --minutes {m}", {}),
    "clocks": ("tests.crash clocks", "tests.crash clocks --minutes {m}", {}),
    "processes": ("tests.crash processes", "tests.crash processes --minutes {m}", {}),
    "simulation": ("tests.simulation --seeds 1000 --days 365", "tests.simulation --seeds {seeds} --days 365 --first 2000", {}),
    "machine": ("pytest tests/properties/test_service_machine.py",) * 2 + ({"CAMP_MACHINE_EXAMPLES": "2000"},),
    "planted": ("tests.planted", "tests.planted", {}),
    "cluster": ("tests.cluster --seconds 3600", "tests.cluster --seconds {seconds}", {}),
    "cluster, planted": ("tests.cluster --planted", "tests.cluster --planted", {}),
    "web kills": ("pytest tests/web/test_web_service.py -k killed",) * 2 + ({"CAMP_TEST_WEB_KILLS": "200"},),
}
SEEDS_A_MINUTE = 12


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these of {', '.join(RUNS)}")
    parser.add_argument("--minutes", type=float, help="about so long for each; without it in full")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in RUNS]
    if unknown:
        parser.error(f"there is no harness {unknown[0]!r}; there are {', '.join(RUNS)}")
    folder = Path(tempfile.mkdtemp(prefix="camp-reliability-"))
    print("| Harness | Command | Minutes | Result |\n|---|---|---:|---|", flush=True)
    broken = 0
    for name in options.names or RUNS:
        broken += not run(name, options.minutes, folder / f"{name.replace(' ', '-')}.log")
    print(f"\nWhat each printed is in {folder}.")
    return 1 if broken else 0


def run(name: str, minutes: float | None, log: Path) -> bool:
    """One harness; whether every promise held."""
    full, short, variables = RUNS[name]
    if minutes is None:
        words = full
    else:
        words = short.format(m=minutes, seeds=max(1, round(minutes * SEEDS_A_MINUTE)), seconds=max(30, round(minutes * 60)))
    begun = time.monotonic()
    with log.open("w") as stream:
        command = [sys.executable, "-m", *words.split()]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}, stdout=stream, stderr=subprocess.STDOUT, check=False)
    said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    before = "".join(f"{key}={value} " for key, value in variables.items())
    good = (done.returncode != 0) if name == MUST_FAIL else (done.returncode == 0)
    verdict = "held" if good and name != MUST_FAIL else "found, as it must be" if good else f"**BROKEN**, exit code {done.returncode}"
    last = said[-1].strip()[:200] if said else "nothing printed"
    print(f"| {name} | `{before}python -m {words}` | {(time.monotonic() - begun) / 60:.1f} | {verdict}: {last} |", flush=True)
    return good


if __name__ == "__main__":
    sys.exit(main())
