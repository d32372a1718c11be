"""Commands under test: in this process through click's runner, or as a real subprocess."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from rules_engine.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]


class Answer:
    """What a command said, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def __repr__(self) -> str:
        return f"exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


class Camp:
    """`camp(…)` in a folder; `camp.process(…)` as its own process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *arguments: str, stdin: str | None = None, env: dict[str, str] | None = None) -> Answer:
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            result = CliRunner().invoke(cli, list(map(str, arguments)), input=stdin, env=env, prog_name="camp")
        finally:
            os.chdir(before)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Answer(result.exit_code, result.stdout, result.stderr)

    def process(self, *arguments: str, env: dict[str, str] | None = None, **options: object) -> Answer:
        done = subprocess.run(
            [sys.executable, "-m", "rules_engine", *map(str, arguments)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, **(env or {})},
            **options,
        )  # type: ignore[call-overload]
        return Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests reaches them."""
    for name in [name for name in os.environ if name.startswith("CAMP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))


@pytest.fixture
def empty(tmp_path: Path) -> Camp:
    """A folder with nothing in it."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return Camp(folder)


@pytest.fixture
def shop(tmp_path: Path) -> Camp:
    """The project of `camp init`."""
    camp = Camp(tmp_path)
    assert camp("init", "shop").code == 0
    return Camp(tmp_path / "shop")


@pytest.fixture
def camp_in():
    """`camp_in(folder)`: commands in that folder."""
    return Camp
