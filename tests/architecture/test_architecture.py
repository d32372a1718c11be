"""The laws of the house that a machine can check: who imports whom, and that nothing reads a clock or draws a random number."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "rules_engine").rglob("*.py"), *(ROOT / "plugins").glob("*.py"), *(ROOT / "grammar").glob("*.py")])
BANNED = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today"),
          ("uuid", "uuid4"), ("uuid", "uuid1"), ("os", "urandom")}
ALLOWED = {
    "rules_engine/clock.py": "the one clock",
    "rules_engine/service/web/chance.py": "names for what comes over HTTP without one: events without an id, visitors without a script",
    "plugins/_http.py": "receivers of signed webhooks refuse a stamp that is not of now",
}


def test_imports_point_one_way() -> None:
    """The contracts in setup.cfg, by import-linter."""
    script = Path(sys.executable).parent / "lint-imports"
    found = subprocess.run([script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_reads_a_clock_or_draws_a_random_number(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and (node.value.id, node.attr) in BANNED:
            found.append(f"line {node.lineno}: {node.value.id}.{node.attr}")
        if isinstance(node, ast.Import) and any(name.name in ("random", "secrets") for name in node.names):
            found.append(f"line {node.lineno}: import of a source of randomness")
        if isinstance(node, ast.ImportFrom) and node.module in ("random", "secrets"):
            found.append(f"line {node.lineno}: import of a source of randomness")
    if str(path.relative_to(ROOT)) in ALLOWED:
        assert found, "this file needs its exemption no more"
    else:
        assert not found


def test_plugins_import_only_the_seam() -> None:
    """First-party plugins are as anyone's: of Camp they know `rules_engine.plugin`."""
    for path in (ROOT / "plugins").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else \
                [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert not name.startswith("rules_engine.") or name == "rules_engine.plugin", f"{path.name}: {name}"


def test_only_the_store_speaks_sql() -> None:
    for path in (ROOT / "rules_engine").rglob("*.py"):
        if "store" not in path.parts and path.name != "service.py":
            text = path.read_text(encoding="utf-8")
            assert "import peewee" not in text and "import sqlite3" not in text, path


def test_style() -> None:
    """ruff, with the rules of ruff.toml."""
    script = Path(sys.executable).parent / "ruff"
    found = subprocess.run([script, "check", "rules_engine", "plugins", "grammar", "benchmarks", "tests", "campaigns"], cwd=ROOT,
                           capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
