"""A slice of the kill harness. The whole: `python -m tests.crash kills --count 10000`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_killed_processes_go_on_as_if_nothing_had_happened():
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash", "kills", "--count", "20", "--seed", "7"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "broken promises: 0" in done.stdout


PLANTED = {
    "recover as ready": "Dispatcher._may_repeat = lambda self, effect: True",
    "mark before send": """
def turn(self, until=None):
    claimed = self._store.claim_effects(until or self._clock.now(), 0, 1, lambda candidate: CLAIM)
    if not claimed:
        return None
    self._store.settle([self._settlement(item.effect, Outcome("accepted"), 0) for item in claimed])
    self._runner.run([(job.action, job.call) for job in self._begin(claimed)])
    return Counter()
Dispatcher.turn = turn
""",
    "batch, then mark": """
def commit(self, block, whole=SqliteStore.commit):
    done, block.done = block.done, []
    whole(self, block)
    whole(self, Block(block.program, done=done))
SqliteStore.commit = commit
""",
}


@pytest.mark.parametrize("bug", PLANTED)
def test_planted_bugs_are_caught(bug, tmp_path):
    code = f"""
from collections import Counter
from pathlib import Path
from rules_engine.actions import Outcome
from rules_engine.service.dispatch import Dispatcher
from rules_engine.store.port import CLAIM, Block
from rules_engine.store.sqlite import SqliteStore
from tests.crash import harness
{PLANTED[bug]}
harness.campaign(Path({str(tmp_path)!r}), 400, 3, kinds=harness.KINDS[2:3])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode != 0 and "AssertionError: seed" in done.stderr, done.stderr
