"""Each test that the security list names exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_security_list_names_exists():
    rows = (ROOT / "docs/reliability.md").read_text("utf-8").partition("## Security, line by line")[2].splitlines()
    named, file = 0, ""
    for row in (line for line in rows if line.startswith("| ") and "`test" in line):
        for word in re.findall(r"`(tests/[\w/.]+|test_\w+)`", row):
            if word.startswith("tests/"):
                file = (ROOT / word).read_text("utf-8")
                continue
            assert f"def {word}(" in file, f"{word} is not there: {row}"
            named += 1
    assert named > 30
