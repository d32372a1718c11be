"""All stores, for the contract suite."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from rules_engine.clock import VirtualClock  # noqa: E402
from rules_engine.store.memory import MemoryStore  # noqa: E402
from rules_engine.store.sqlite import SqliteStore  # noqa: E402
from tests import pgserver  # noqa: E402


@pytest.fixture
def clock():
    return VirtualClock(1_000_000)


@pytest.fixture
def postgres_url():
    """A database without a Camp in it."""
    if reason := pgserver.skip_reason():
        pytest.skip(reason)
    server = pgserver.server()
    if not server.execute("SELECT 1 FROM pg_database WHERE datname = 'contract'"):
        server.database("contract")
    server.execute("DROP SCHEMA IF EXISTS camp CASCADE", "contract")
    return server.url("contract")


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request, tmp_path, clock):
    if request.param == "memory":
        made = MemoryStore(clock)
    elif request.param == "sqlite":
        made = SqliteStore(tmp_path / "camp.db", clock)
    else:
        from rules_engine.store.postgres import PostgresStore

        made = PostgresStore(request.getfixturevalue("postgres_url"), clock, unsafe=True)
    yield made
    assert made.check() == []
    made.close()
