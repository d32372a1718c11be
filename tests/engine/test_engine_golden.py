"""Golden files of the program stage: `tests/golden/program/*.camp` compile to the `.program` beside them. Write them anew with
CAMP_GOLDEN=write; read the difference before you keep it: the identity of a step is in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.engine import kit

FOLDER = Path(__file__).parents[1] / "golden" / "program"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.camp")), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    compiled = kit.program(path.read_text(), events=False)
    text = "".join(f"{line}\n" for line in compiled.describe().splitlines()[1:])
    golden = path.with_suffix(".program")
    if os.environ.get("CAMP_GOLDEN") == "write":
        golden.write_text(text)
    assert golden.read_text() == text
