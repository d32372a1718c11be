"""What Camp remembers: contacts' states, the event log, the decision journal, the outbox, program versions.

Owns the port (`port.py`: nouns, verbs, errors) and its three implementations with one contract suite: `memory.py`, `sqlite.py` and
`postgres.py`, the only SQL of Camp. May import facts, decisions, clock and limits; never the engine, a plugin or the terminal.
`open_store` imports a database's driver when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rules_engine.store.port import StoreError

if TYPE_CHECKING:
    from rules_engine.clock import Clock
    from rules_engine.store.port import Store

__all__ = ["StoreError", "is_url", "open_store"]


def is_url(database: object) -> bool:
    """Whether a database is named by an address, and so on a PostgreSQL server."""
    return str(database).startswith(("postgresql://", "postgres://"))


def open_store(
    path: str | Path,
    clock: Clock | None = None,
    *,
    create: bool = True,
    readonly: bool = False,
    faults: Callable[[str], None] | None = None,
) -> Store:
    """Opens the SQLite database at `path`, the PostgreSQL database of an address (postgresql://…), or for ":memory:" the in-memory
    twin. Raises StoreError.

    create: make it if it is missing. readonly: for commands that only look; works while `camp run` is active. faults:
    told before and after each commit, see `Database`.
    """
    if str(path) == ":memory:":
        from rules_engine.store.memory import MemoryStore

        return MemoryStore(clock)
    more = {} if faults is None else {"faults": faults}
    if is_url(path):
        from rules_engine.store.postgres import PostgresStore

        return PostgresStore(str(path), clock, create=create and not readonly, readonly=readonly, **more)
    from rules_engine.store.sqlite import SqliteStore

    return SqliteStore(path, clock, create=create and not readonly, readonly=readonly, **more)
