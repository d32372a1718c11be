"""Both stores, for the contract suite."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from rules_engine.clock import VirtualClock  # noqa: E402
from rules_engine.store.memory import MemoryStore  # noqa: E402
from rules_engine.store.sqlite import SqliteStore  # noqa: E402


@pytest.fixture
def clock():
    return VirtualClock(1_000_000)


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path, clock):
    made = MemoryStore(clock) if request.param == "memory" else SqliteStore(tmp_path / "camp.db", clock)
    yield made
    assert made.check() == []
    made.close()
