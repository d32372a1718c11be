"""Copies the package, plants one bug, runs the tests that should catch it. A bug that survives is a test that is missing.

A patch is a file `*.patch` here, with two lines before its diff: `breaks:` which promise it breaks and how, and `tests:` the files that
should notice. If those pass, the general slice has a try too. The same tests run on an unpatched copy first: what fails there proves nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COPIED = ("rules_engine", "plugins", "grammar", "campaigns", "tests", "benchmarks", "setup.cfg", "pyproject.toml", "README.md")
GENERAL = ("tests/service/test_pump.py", "tests/service/test_dispatch.py", "tests/properties/test_service_machine.py", "tests/simulation")
SECONDS = 240  # for one bug
FAILED = 1  # pytest: tests ran, and some failed; anything else than 0 and 1 is no verdict


class Bug(NamedTuple):
    """One patch: its name, what it breaks, the tests that should notice."""

    name: str
    breaks: str
    tests: tuple[str, ...]
    path: Path


class Verdict(NamedTuple):
    """state: caught | survived | stale (the patch does not apply) | broken (the tests did not run). by: the first test that failed."""

    bug: Bug
    state: str
    by: str


def bugs() -> list[Bug]:
    """All planted bugs, by name. Raises ValueError for a patch without its two lines."""
    found = []
    for path in sorted(HERE.glob("*.patch")):
        lines = path.read_text().splitlines()
        if len(lines) < 2 or not lines[0].startswith("breaks: ") or not lines[1].startswith("tests: "):
            raise ValueError(f"{path.name} must begin with the lines `breaks: …` and `tests: …`")
        found.append(Bug(path.stem, lines[0][8:], tuple(lines[1][7:].split()), path))
    return found


def some(count: int) -> list[Bug]:
    """So many of them: which, follows from the sources, so each change of the code has another look at others."""
    sources = b"".join(path.read_bytes() for path in sorted((ROOT / "rules_engine").rglob("*.py")))
    state = hashlib.sha256(sources).digest()
    return sorted(bugs(), key=lambda bug: hashlib.sha256(state + bug.name.encode()).digest())[:count]


def clean(found: Sequence[Bug]) -> str:
    """What the tests say of a copy without a bug: empty if they pass."""
    with _copy() as folder:
        tests = dict.fromkeys(test for bug in found for test in bug.tests)
        code, text = _tests(folder, tests)
    return "" if code == 0 else text[-3_000:]


def judge(bug: Bug) -> Verdict:
    """Plants one bug and looks whether the tests notice."""
    with _copy() as folder:
        done = subprocess.run(["git", "apply", "-C1", str(bug.path)], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            return Verdict(bug, "stale", done.stderr.strip())
        for tests in (bug.tests, GENERAL):
            code, text = _tests(folder, tests)
            if code == FAILED:
                return Verdict(bug, "caught", _first_failure(text))
            if code:
                return Verdict(bug, "broken", text[-1_500:])
    return Verdict(bug, "survived", "")


def judge_all(found: Sequence[Bug], workers: int = 2) -> Iterator[Verdict]:
    """Several at a time, in their order, each as soon as it is known."""
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(judge, found)


class _copy:
    """A copy of the project in a temporary folder."""

    def __enter__(self) -> Path:
        self._folder = Path(tempfile.mkdtemp(prefix="camp-planted-"))
        ignore = shutil.ignore_patterns("__pycache__", ".hypothesis", "*.egg-info")
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, self._folder / name, ignore=ignore)
            elif source.exists():
                shutil.copy(source, self._folder)
        return self._folder

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _tests(folder: Path, tests: Sequence[str] | dict[str, None]) -> tuple[int, str]:
    """pytest's exit code and what it said. The copy goes before an installed package, in children too; no test of planted bugs plants any."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "CAMP_SIMULATION_SEEDS": "2", "CAMP_PLANTED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=line", *tests]
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return FAILED, f"FAILED {' '.join(tests)}: no end within {SECONDS} s"
    return done.returncode, done.stdout + done.stderr


def _first_failure(text: str) -> str:
    return next((line[7:].split(" - ")[0] for line in text.splitlines() if line.startswith("FAILED ")), "?")
