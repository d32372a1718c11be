"""A project whose messages go to a provider that remembers each hand-over, and real `camp` processes on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from rules_engine.cli.main import cli
from tests.cli.conftest import Answer

ROOT = Path(__file__).resolve().parents[2]

CAMPAIGN = """ATTRIBUTE first_name: text
EVENT order.placed WITH total: number

RULE thanks
  WHEN order.placed
  THEN pigeon.send "thanks", total: event.total
END
"""

PLUGIN = '''"""Carries messages by pigeon: notes each in a file, knows no keys."""
import os
import time

from rules_engine.plugin import Action, Outcome, Parameter, hookimpl


def send(call):
    time.sleep(float(call.settings.get("seconds") or 0))
    line = f"{call.key}\\n".encode()
    descriptor = os.open(call.settings["file"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, line)
    os.close(descriptor)
    return Outcome("accepted", "flew off")


@hookimpl
def register_actions():
    yield Action("pigeon.send", "Send a pigeon.", Parameter("what", "text", required=True), extra="any", channel="pigeon",
                 message_class="transactional", perform=send, timeout=20.0)
'''


class Project:
    """A folder with camp.toml. `camp(…)` runs here, `camp.process(…)` as its own process, `camp.start()` leaves one running."""

    def __init__(self, folder: Path, provider: Path, plugins: Path) -> None:
        self.folder, self.provider, self._plugins = folder, provider, plugins
        self.database, self.started = folder / "camp.db", list[subprocess.Popen]()

    def __call__(self, *arguments: object, stdin: str | None = None) -> Answer:
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            result = CliRunner().invoke(cli, list(map(str, arguments)), input=stdin, prog_name="camp")
        finally:
            os.chdir(before)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Answer(result.exit_code, result.stdout, result.stderr)

    def _popen(self, arguments: tuple, env: dict, before: Sequence[str] = ()) -> subprocess.Popen:
        return subprocess.Popen(
            [*before, sys.executable, "-m", "rules_engine", *map(str, arguments)],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{self._plugins}:{ROOT}", **env},
        )

    def process(self, *arguments: object, before: Sequence[str] = (), **env: str) -> Answer:
        """before: a command that runs this one."""
        child = self._popen(arguments, env, before)
        out, err = child.communicate(timeout=120)
        return Answer(child.returncode, out, err)

    def start(self, *arguments: object, **env: str) -> subprocess.Popen:
        """`camp run`, until `stop`."""
        child = self._popen(("run", *arguments), env)
        self.started.append(child)
        self.wait(lambda: self.database.with_name("camp.db.lock").exists() and _holds(self.database), 20)
        return child

    def stop(self, child: subprocess.Popen, number: int = signal.SIGTERM) -> Answer:
        child.send_signal(number)
        out, err = child.communicate(timeout=30)
        return Answer(child.returncode, out, err)

    def wait(self, done, seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, "it did not happen in time"
            time.sleep(0.02)

    def sent(self) -> list[str]:
        return self.provider.read_text().splitlines() if self.provider.exists() else []

    def events(self, name: str, numbers, contact: str = "c{n}", at: str = "") -> Path:
        at = at or datetime.now(UTC).isoformat()  # what is older than a day is held for a person
        path = self.folder / name
        with path.open("w") as stream:
            for n in numbers:
                record = {"id": f"e{n}", "event": "order.placed", "contact": contact.format(n=n), "at": at, "data": {"total": n}}
                stream.write(json.dumps(record) + "\n")
        return path


def _holds(database: Path) -> bool:
    from rules_engine.store.lock import is_running

    return is_running(database)


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CAMP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))


@pytest.fixture
def pigeons(tmp_path: Path):
    """The project. Its plugin is found by processes only (PYTHONPATH)."""
    plugins = tmp_path / "plugins"
    (plugins / "pigeon-1.0.dist-info").mkdir(parents=True)
    (plugins / "pigeon-1.0.dist-info" / "entry_points.txt").write_text("[camp.plugins]\npigeon = camp_pigeon\n")
    (plugins / "pigeon-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: pigeon\nVersion: 1.0\n")
    (plugins / "camp_pigeon.py").write_text(PLUGIN)
    folder = tmp_path / "project"
    (folder / "campaigns").mkdir(parents=True)
    (folder / "campaigns" / "thanks.camp").write_text(CAMPAIGN)
    provider = tmp_path / "provider"
    (folder / "camp.toml").write_text(f'name = "pigeons"\ndatabase = "camp.db"\n\n[pigeon]\nfile = "{provider}"\nseconds = 0\n')
    project = Project(folder, provider, plugins)
    yield project
    for child in project.started:
        if child.poll() is None:
            child.kill()
            child.communicate()
