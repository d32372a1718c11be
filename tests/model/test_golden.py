"""Whole reports as people see them: tests/golden/check/NAME.camp and beside it NAME.txt.
`CAMP_GOLDEN=write pytest` writes them anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rules_engine.cli.render import render
from rules_engine.diagnostics import sort_key

FOLDER = Path(__file__).parent.parent / "golden" / "check"
CASES = sorted(path.stem for path in FOLDER.glob("*.camp"))


@pytest.mark.parametrize("name", CASES)
def test_report(name: str, problems) -> None:
    text = (FOLDER / f"{name}.camp").read_text(encoding="utf-8")
    found = sorted(problems(text), key=sort_key)
    shown = render(found, {"0.camp": text}).replace("0.camp:", f"{name}.camp:")
    golden = FOLDER / f"{name}.txt"
    if os.environ.get("CAMP_GOLDEN") == "write":
        golden.write_text(shown, encoding="utf-8")
    assert shown == golden.read_text(encoding="utf-8")


def test_there_are_some() -> None:
    assert len(CASES) >= 6
