"""Simulation: 18 months of the CDNOW sample through `camp simulate`, start of the program included."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__" and __spec__ is None:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.cdnow import UNTIL, write_jsonl
from benchmarks.measure import ROOT, camp_command, camp_missing, figure, median_wall, table

PROJECT = ROOT / "campaigns" / "cdnow"
DATA = PROJECT / "data" / "CDNOW_sample.txt"
TIMES = 3


def measure(project: Path = PROJECT, data: Path = DATA, times: int = TIMES) -> dict:
    """The median of a few runs."""
    missing = camp_missing()
    for path in (project, data):
        if not missing and not path.exists():
            missing = f"{path} isn't there yet"
    if missing:
        return {"missing": missing}
    with tempfile.TemporaryDirectory(prefix="camp-bench-") as name:
        contacts, events, years = write_jsonl(data, Path(name))
        files = ["--contacts", str(contacts), "--events", str(events), "--until", UNTIL]
        seconds, done = median_wall([*camp_command(), "simulate", str(project), *files, "--json"], times)
    if done.returncode:
        return {"missing": f"exit code {done.returncode}: {(done.stderr.strip() or done.stdout.strip())[:200]}"}
    return {"seconds": seconds, "years": years, "lines": done.stdout.count("\n")}


def report(found: dict) -> str:
    """One line."""
    header = ["Simulation, 18 months of CDNOW", "seconds", "contact-years", "contact-years/s", "lines of output"]
    if "missing" in found:
        return table(header, [["Camp", found["missing"], "–", "–", "–"]])
    speed = f"{found['years'] / found['seconds']:,.0f}"
    return table(header, [["Camp", figure(found["seconds"]), f"{found['years']:,.0f}", speed, f"{found['lines']:,}"]])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", type=Path, default=PROJECT)
    parser.add_argument("--data", type=Path, default=DATA, help="CDNOW_sample.txt")
    parser.add_argument("--times", type=int, default=TIMES)
    options = parser.parse_args()
    print(report(measure(options.project.resolve(), options.data.resolve(), options.times)))


if __name__ == "__main__":
    main()
