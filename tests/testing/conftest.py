"""A program from a text, and its TESTs run."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rules_engine import project
from rules_engine.plan import compile_model
from rules_engine.testing.runner import TestResult, run_tests

HEAD = """
ATTRIBUTE plan: text ONE OF ["free", "trial", "paid"]
ATTRIBUTE renewal: datetime
EVENT order.placed WITH order_id: text, total: number
EVENT cart.updated WITH cart_id: text, total: number
SEGMENT newsletter IS contact.consent.email = yes AND contact.email IS SET
SEGMENT vip
WORKSPACE
  TIMEZONE "Europe/Prague"
END
"""


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Any]:
    """`load(text)`: the compiled project of a text, with some declarations before it. checked=False: errors in TESTs are let
    pass."""

    def build(text: str, checked: bool = True) -> Any:
        (tmp_path / "camp.toml").write_text('name = "t"\n')
        folder = tmp_path / "templates"
        folder.mkdir(exist_ok=True)
        for name in ("a", "b", "c"):
            (folder / f"{name}.txt").write_text("Subject: x\n\nx\n")
        file = tmp_path / "t.camp"
        file.write_text(HEAD + textwrap.dedent(text))
        loaded = project.load_program([tmp_path])
        if not checked:
            return replace(loaded, program=compile_model(loaded.model, loaded.host.actions, loaded.digest))
        assert loaded.program is not None, [item for item in loaded.diagnostics if item.severity == "error"]
        return loaded

    return build


@pytest.fixture
def results(load: Callable[..., Any]) -> Callable[[str], list[TestResult]]:
    """`results(text)`: what became of the TESTs of a text."""

    def run(text: str) -> list[TestResult]:
        loaded = load(text, checked=False)
        return list(run_tests(loaded.program, loaded.model.tests))

    return run
