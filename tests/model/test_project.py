"""Where a project begins and ends, which files it has, and what is wrong with its settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from rules_engine.model import project as projects
from rules_engine.model.project import check_settings, find_project, project_files


def make(root: Path, *files: str) -> None:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("", encoding="utf-8")


def test_the_nearest_config_upward(tmp_path: Path) -> None:
    make(tmp_path, "camp.toml", "a/b/x.camp", "a/inner/camp.toml", "a/inner/y.camp")
    assert find_project(tmp_path / "a" / "b" / "x.camp").root == tmp_path
    assert find_project(tmp_path / "a" / "b").root == tmp_path
    assert find_project(tmp_path / "a" / "inner" / "y.camp").root == tmp_path / "a" / "inner"
    assert find_project(tmp_path).has_config and find_project(tmp_path).templates == tmp_path / "templates"


def test_a_lone_file_is_a_project_of_its_own(tmp_path: Path) -> None:
    make(tmp_path, "x.camp", "y.camp")
    found = find_project(tmp_path / "x.camp")
    assert not found.has_config and found.root == tmp_path
    assert project_files(found) == [tmp_path / "x.camp"]
    assert project_files(find_project(tmp_path)) == [tmp_path / "x.camp", tmp_path / "y.camp"]


def test_other_peoples_folders_are_skipped(tmp_path: Path) -> None:
    make(
        tmp_path,
        "camp.toml",
        "b.camp",
        "a/z.camp",
        ".venv/x.camp",
        ".git/x.camp",
        "node_modules/p/x.camp",
        "sub/camp.toml",
        "sub/x.camp",
        "a/.h.camp",
    )
    assert project_files(find_project(tmp_path)) == [tmp_path / "a" / "z.camp", tmp_path / "b.camp"]


def test_named_files_and_folders_each_once(tmp_path: Path) -> None:
    make(tmp_path, "a/x.camp", "a/y.camp", "z.txt")
    assert project_files([tmp_path / "a", tmp_path / "a" / "x.camp", tmp_path / "z.txt"]) == [
        tmp_path / "a" / "x.camp",
        tmp_path / "a" / "y.camp",
        tmp_path / "z.txt",
    ]


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, *(f"{number}.camp" for number in range(5)))
    monkeypatch.setattr(projects, "MAX_PROJECT_FILES", 4)
    with pytest.raises(ValueError, match="more than 4"):
        project_files([tmp_path])


@pytest.mark.parametrize(
    ("text", "place", "part"),
    [
        ("database = camp.db\n", "camp.db\n", "invalid value"),
        ("a = 1\nb = = 2\n", "= 2", "invalid value"),
        ("[email\n", "\n", "expected ']'"),
        ("x = 1\nx = 2\n", "\n", "cannot overwrite"),
        ('x = "', "", ""),
    ],
)
def test_a_broken_config(tmp_path: Path, text: str, place: str, part: str) -> None:
    (tmp_path / "camp.toml").write_text(text, encoding="utf-8")
    found = find_project(tmp_path)
    (item,) = found.problems
    assert item.name == "bad-settings" and part in item.message and item.span.path == str(tmp_path / "camp.toml")
    assert text[item.span.start :].startswith(place) and found.settings == {} and found.has_config


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x = " + b"[" * 5_000])
def test_a_config_that_is_no_text(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "camp.toml").write_bytes(content)
    assert [item.name for item in find_project(tmp_path).problems] == ["bad-settings"]


def test_settings(tmp_path: Path) -> None:
    text = '# mine\nname = "shop"\ntemplates = "texts"\ndatabse = "x"\nformat = 3\n[email]\nhost = "h"\n[emial]\nhost = "h"\n'
    (tmp_path / "camp.toml").write_text(text, encoding="utf-8")
    found = find_project(tmp_path)
    assert found.templates == tmp_path / "texts"
    said = check_settings(found, ["email", "sms"])
    assert [(item.name, item.suggestion, text[item.span.start : item.span.end]) for item in said] == [
        ("unknown-setting", "database", "databse"),
        ("bad-settings", None, "format"),
        ("unknown-setting", "email", "emial"),
    ]
