"""A slice of the simulated years. The whole: `python -m tests.simulation --seeds 1000 --days 365`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.simulation.run import one_seed  # noqa: E402

SEEDS = int(os.environ.get("CAMP_SIMULATION_SEEDS", "4"))


@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
def test_a_year_with_faults_keeps_the_promises(seed):
    tally: Counter = Counter()
    assert one_seed(seed, 365, 8, tally) == []
    assert tally["crashes"] > 20 and tally["duplicates told"] > 10 and tally["effects accepted"] > 100, "nothing went wrong in this year"


def test_a_broken_promise_is_named_with_its_seed():
    code = """
import sys
from rules_engine.service.dispatch import Dispatcher
Dispatcher._may_repeat = lambda self, effect: True
from tests.simulation.__main__ import main
sys.argv = ["simulation", "--seeds", "1", "--days", "365"]
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "acted 2 times" in done.stdout, done.stdout + done.stderr
    assert "repeat it: python -m tests.simulation --seeds 1 --first 1 --days 365 --people 8" in done.stdout
