"""Each diagnostic has a page; what the page calls bad yields it, what it calls good does not."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import rules_engine
from rules_engine.diagnostics import Diagnostic
from rules_engine.model.project import Project, check_settings, find_project
from rules_engine.syntax.read import read, read_file

ROOT = Path(rules_engine.__file__).parent
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "model" / "rules").glob("*.md"))}
WITHOUT_BLOCKS = {"file-too-large", "not-utf-8", "nested-too-deep", "missing-plugin"}
"""They can't be shown in a few lines; the tests below show them."""

_NAME = re.compile(r"[a-z]+(?:-[a-z0-9]+)+")
NOT_NAMES = {"utf-8", "utf-8-sig"}


def emitted() -> set[str]:
    """The names in the source: every text in a call (or a choice inside one) that looks like one."""
    found = set()
    for folder in ("model", "syntax"):
        for path in (ROOT / folder).rglob("*.py"):
            calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
            values = [value for call in calls for argument in call.args for value in ast.walk(argument)]
            found |= {value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)}
    return {name for name in found if _NAME.fullmatch(name)} - NOT_NAMES


def test_every_name_has_a_page_and_every_page_a_name() -> None:
    assert emitted() == set(PAGES)


def blocks(page: str) -> tuple[str, str, str]:
    """(language, bad, good)"""
    match = re.fullmatch(r".*## Bad\n\n```(\w+)\n(.*?)```\n\n## Good\n\n```\w+\n(.*?)```\n", page, re.DOTALL)
    assert match, page
    return match[1], match[2], match[3]


@pytest.mark.parametrize("name", PAGES)
def test_page_says_what_and_why(name: str) -> None:
    lines = [line for line in PAGES[name].splitlines() if line]
    assert lines[0] == f"# {name}"
    assert lines[1].endswith(".")
    assert lines[2].endswith((".", ":"))
    assert all(len(line) < 600 for line in lines)


@pytest.mark.parametrize("name", sorted(set(PAGES) - WITHOUT_BLOCKS))
def test_bad_yields_it_and_good_does_not(name: str, problems, tmp_path: Path) -> None:
    language, bad, good = blocks(PAGES[name])
    if language == "toml":
        assert name in _settings(bad, tmp_path)
        assert not _settings(good, tmp_path)
        return
    found = problems(bad)
    said = [item for item in found if item.name == name]
    assert said, [(item.name, item.message) for item in found]
    assert all(0 <= item.span.start <= item.span.end <= len(bad) for item in found)
    errors = [item for item in problems(good) if item.name == name or item.severity == "error"]
    assert not errors, errors


@pytest.mark.parametrize("name", sorted(set(PAGES) - WITHOUT_BLOCKS))
def test_bad_yields_nothing_else(name: str, problems) -> None:
    """One cause, one message: the page's bad text has one mistake."""
    language, bad, _ = blocks(PAGES[name])
    if language != "toml":
        assert {item.name for item in problems(bad)} <= {name, *ALSO.get(name, ())}


ALSO = {
    "bad-template": {"missing-placeholder"},
    "unused-constant": set(),
    "keyword-as-name": {"syntax-error"},
}


def _settings(text: str, folder: Path) -> list[str]:
    (folder / "camp.toml").write_text(text, encoding="utf-8")
    project: Project = find_project(folder)
    return [item.name for item in (*project.problems, *check_settings(project, ["email"]))]


def test_file_too_large() -> None:
    assert [item.name for item in read("#" * 1_000_001, "x")[1]] == ["file-too-large"]


def test_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "x.camp").write_bytes(b"# caf\xe9\n")
    assert [item.name for item in read_file(tmp_path / "x.camp")[1]] == ["not-utf-8"]


def test_nested_too_deep() -> None:
    assert "nested-too-deep" in [item.name for item in read("SEGMENT s IS " + "NOT " * 100 + "contact.points > 5\n", "x")[1]]


def test_missing_plugin(folder: Path) -> None:
    from rules_engine import host as hosts
    from rules_engine.model.checks import check

    broken = hosts.Host(problems=(hosts.PluginProblem("sms", "it can't be imported: no module named x"),))
    file, _ = read('RULE r\n  WHEN contact.created\n    THEN sms.send "x"\nEND\n', "x")
    found: list[Diagnostic] = check([file], broken, Project(folder))
    assert [item.name for item in found if item.name == "missing-plugin"] == ["missing-plugin"]
    assert "could not be loaded" in next(item.message for item in found if item.name == "missing-plugin")
