"""The stories: `.camp` files whose TEST blocks say what LANGUAGE.md section 4 means. One pytest case for each TEST."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rules_engine.testing.runner import run_test
from tests.engine import kit

FOLDER = Path(__file__).parent / "stories"
_programs: dict[Path, Any] = {}


def _program(path: Path) -> Any:
    if path not in _programs:
        _programs[path] = kit.program(path.read_text(), events=False)
    return _programs[path]


def _cases() -> list[Any]:
    cases = []
    for path in sorted(FOLDER.glob("*.camp")):
        for test in kit.model(path.read_text(), path.name).tests:
            cases.append(pytest.param(path, test.name, id=f"{path.stem}: {test.name}"))
    return cases


@pytest.mark.parametrize(("path", "name"), _cases())
def test_story(path: Path, name: str) -> None:
    program = _program(path)
    test = next(item for item in program.model.tests if item.name == name)
    result = run_test(program, test)
    lines = []
    text = path.read_text()
    for failure in result.failures:
        line = text.count("\n", 0, failure.span.start) + 1
        lines += [f"{path.name}:{line}: {failure.message}", *(f"  {note}" for note in failure.notes), *(f"    {item}" for item in failure.timeline if " skipped the start" not in item)]
    assert result.passed, "\n".join(lines)
