"""`camp check`: lines a second on a large project, and how soon the command answers from cold (medians of 7)."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__" and __spec__ is None:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.measure import camp_command, camp_missing, figure, median_wall, table
from benchmarks.workload import camp_text, make_rules

TIMES = 7
LINES = 20_000

_HEAD = """\
ATTRIBUTE tier: text ONE OF ["new", "regular", "vip"]
EVENT order.shipped WITH order_id: text, total: number
EVENT visit.made WITH page: text, seconds: number

"""

_CAMPAIGN = """\
CAMPAIGN journey_{n} "Journey number {n}"
  OWNER "lifecycle@example.com"
  EXIT WHEN order.shipped WHERE event.total >= {n}
  REENTRY AFTER 30 days

  WHEN visit.made WHERE event.seconds > {n} AND contact.points > 5
    THEN points.add 1, reason: "visit {n}"
    AFTER 2 days AT 10:00
    IF DID order.shipped WHERE event.total > 10 WITHIN 30 days AT LEAST 2 TIMES
      THEN tag.add "buyer_{n}"
    ELSE IF contact.tier = "vip"
      THEN tag.add "quiet_vip_{n}"
    ELSE
      THEN tag.add "visitor_{n}"
    END

    WAIT UNTIL order.shipped UP TO 3 days
      THEN points.add 10
    OTHERWISE
      THEN points.subtract 1
    END
END

"""


def write_project(folder: Path, lines: int = LINES) -> int:
    """A project of that many lines: 1,000 rules in a file, then files of 50 campaigns. How many lines it became."""
    (folder / "camp.toml").write_text("", encoding="utf-8")
    total = _write(folder / "rules.camp", _HEAD + camp_text(make_rules(1_000)))
    number = 0
    while total < lines:
        many = range(number, number + 50)
        total += _write(folder / f"journeys_{number}.camp", "".join(_CAMPAIGN.format(n=n) for n in many))
        number += 50
    return total


def _write(path: Path, text: str) -> int:
    path.write_text(text, encoding="utf-8")
    return text.count("\n")


def measure(times: int = TIMES, lines: int = LINES) -> dict:
    """{what: (seconds, exit code, first line of output)} and the number of lines."""
    missing = camp_missing()
    if missing:
        return {"missing": missing}
    camp = camp_command()
    with tempfile.TemporaryDirectory(prefix="camp-bench-") as name:
        large, small = Path(name) / "large", Path(name) / "small"
        large.mkdir()
        small.mkdir()
        count = write_project(large, lines)
        thousand = small / "thousand_rules.camp"
        thousand.write_text(camp_text(make_rules(1_000)), encoding="utf-8")
        one = small / "one.camp"
        one.write_text(_HEAD + _CAMPAIGN.format(n=1), encoding="utf-8")
        found = {
            "`camp --help`": _command([*camp, "--help"], times),
            "`camp check` of one file": _command([*camp, "check", str(one)], times),
            "`camp check` of 1,000 rules": _command([*camp, "check", str(thousand)], 3),
            f"`camp check` of {count:,} lines": _command([*camp, "check", str(large)], 3),
        }
    return {"found": found, "lines": count}


def _command(command: list[str], times: int) -> tuple[float, int, str]:
    seconds, done = median_wall(command, times)
    output = (done.stdout.strip() or done.stderr.strip()).splitlines()
    return seconds, done.returncode, output[0][:120] if output else ""


def report(results: dict) -> str:
    """One line for each command; only a check without problems has a speed, the others say what was wrong."""
    header = ["Command, from cold", "ms", "lines/s", "lines/s without the start", "exit code"]
    if "missing" in results:
        return table(header, [["`camp`", results["missing"], "–", "–", "–"]])
    start = results["found"]["`camp check` of one file"][0]
    rows, notes = [], []
    for what, (seconds, code, first) in results["found"].items():
        lines = results["lines"] if what.endswith(" lines") and code == 0 else 0
        rate = f"{lines / seconds:,.0f}" if lines else "–"
        net = f"{lines / (seconds - start):,.0f}" if lines and seconds > start else "–"
        rows.append([what, figure(seconds * 1e3), rate, net, code])
        if code:
            notes.append(f"- {what}: {first}")
    return "\n\n".join(part for part in (table(header, rows), "\n".join(notes)) if part)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=TIMES)
    parser.add_argument("--lines", type=int, default=LINES)
    options = parser.parse_args()
    print(report(measure(options.times, options.lines)))


if __name__ == "__main__":
    main()
