"""docs/plugins.md does what it says: its plugin and its tests are run, and its commands are there."""

import os
import re
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from rules_engine import isolation, limits
from rules_engine.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "plugins.md").read_text()


def test_the_plugin_of_the_page_passes_the_tests_of_the_page(tmp_path):
    plugin, tests = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    (table,) = re.findall(r"```toml\n(.*?)```", TEXT, re.S)
    (tmp_path / "camp_plugin_pager.py").write_text(plugin)
    (tmp_path / "test_page.py").write_text(tests)
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "camp-plugin-pager"\nversion = "1"\n\n{table}')
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "passed" in done.stdout, done.stdout
    checked = CliRunner().invoke(cli, ["plugin", "check", str(tmp_path)])
    assert checked.exit_code == 0, checked.output


def test_the_commands_of_the_page_are_there():
    commands = set(re.findall(r"camp (plugin \w+|outbox \w+|test)\b", TEXT))
    assert {"plugin new", "plugin check", "plugin list", "plugin show", "test"} <= commands
    for command in commands:
        assert CliRunner().invoke(cli, [*command.split(), "--help"]).exit_code == 0, command


def test_the_figures_of_the_page_are_the_code_s():
    assert isolation.LOAD_SECONDS == 10 and isolation.CHANGES_SECONDS == 2 and isolation.REST_SECONDS == 30 and isolation.FAILURES == 3
    assert limits.MAX_PLUGIN_MEMORY == 2 * 10**9 and limits.MAX_PLUGIN_CHATTER == 64_000 and limits.MAX_ATTEMPTS == 8
    for name in isolation.ENVIRONMENT:
        assert name in TEXT or name.startswith("SSL_CERT_"), name
