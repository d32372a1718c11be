"""A slice of the cluster harness, and bugs planted in the store that it must catch. The whole: `python -m tests.cluster --seconds 600`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import pgserver

ROOT = Path(__file__).parents[2]

if pgserver.skip_reason():
    pytest.skip(pgserver.skip_reason(), allow_module_level=True)


def test_workers_and_server_are_killed_and_nothing_is_lost_or_done_twice():
    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster", "--seconds", "1", "--round", "7", "--seed", "5"],
        cwd=ROOT, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "broken promises: 0" in done.stdout
