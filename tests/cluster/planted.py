"""Bugs that the harness must catch, each as a change of the running code. Run by `python -m tests.cluster --planted`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rules_engine.store import postgres, postgres_leases
from rules_engine.store.postgres_leases import Leases

_fence = Leases._fence


def no_fence() -> None:
    """A worker that was taken for dead goes on committing."""

    def fence(self: Leases, sql: Any, cursor: int | None, cursor_was: int, clock: int | None) -> Any:
        _fence(self, sql, cursor, cursor_was, clock)
        return sql.execute("SELECT 1")  # it held, whatever it said

    Leases._fence = fence  # type: ignore[method-assign]


def younger_position() -> None:
    """Shards that come from elsewhere are read from where their new worker stands."""
    postgres_leases._BACK = "UPDATE worker SET cursor = greatest(cursor, %s), clock = greatest(clock, %s) WHERE id = %s"


def doubtful_commits_again() -> None:
    """A commit whose answer was lost is done again, without asking."""
    Leases._took_place = lambda self: False  # type: ignore[method-assign]


def no_append_lock() -> None:
    """Several producers append at the same time, and a cursor follows the serial number."""
    postgres._LOCK = "SELECT %s"


def the_dead_are_not_recovered() -> None:
    """What a dead worker was handing over stays claimed."""
    postgres.PostgresStore._left_behind = lambda self: False  # type: ignore[method-assign]
    postgres.PostgresStore.unknown_after_restart = lambda self, *rest: []  # type: ignore[method-assign]


def recovered_as_ready() -> None:
    """What a dead worker was handing over is handed over again, though nobody recognises it."""
    recover = postgres.PostgresStore.unknown_after_restart

    def again(self, now, repeatable, lookup_at=lambda effect: None, but=()):  # noqa: ANN001, ANN202
        return recover(self, now, lambda effect: True, lookup_at, but)

    postgres.PostgresStore.unknown_after_restart = again  # type: ignore[method-assign]


BUGS: dict[str, Callable[[], None]] = {
    bug.__name__: bug
    for bug in (no_fence, younger_position, doubtful_commits_again, no_append_lock, the_dead_are_not_recovered, recovered_as_ready)
}
