"""Who may run what: workers, their leases, and the fence (promise P10 with several workers).

A worker is a row with a number that is never given twice, and with a time up to which it is believed to live; a shard names the worker that
has it. Each transaction of a worker changes the worker's own row: if the row is gone, the transaction fails ("fenced"). A worker that is
late is buried by the others: its row is deleted, for which a transaction under way is waited for, and its shards are free. So what a worker
commits, it commits before anybody else has its shards, however long it stood still; clocks only decide when it is buried, and there the
server's clock counts, not the machines'. A living worker gives shards away itself, between two blocks.

A worker has one position (cursor, clock) for all its shards, written back to the shards when they leave it. When shards come from elsewhere,
the position is the older of both: nothing is skipped, because what is new is known by `pending`, and no wake-up overtakes an event that
waits (law 4).
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rules_engine.clock import SystemClock, elapsed
from rules_engine.store.port import StoreError
from rules_engine.store.postgres_database import MEMBER_LOCK, STATEMENT_MS, PostgresDatabase, shown

log = logging.getLogger("camp.store")

LEASE = 15_000  # ms without a sign of life after which a worker is taken for dead
_UNTIL = "clock_timestamp() + %s * interval '1 millisecond'"
_TURN = (
    f"UPDATE worker SET turn = %s, until = greatest(until, {_UNTIL}), cursor = CASE WHEN %s::bigint IS NOT NULL AND cursor >= %s "
    f"THEN %s ELSE cursor END, clock = coalesce(%s, clock) WHERE id = %s RETURNING set_config('statement_timeout', '{STATEMENT_MS}', true)"
)
_BURY = (
    "WITH dead AS MATERIALIZED (SELECT id, name, cursor, clock FROM worker WHERE until < clock_timestamp() AND id <> %s "
    "FOR UPDATE SKIP LOCKED), "
    "freed AS (UPDATE shard SET worker = NULL, cursor = dead.cursor, clock = dead.clock FROM dead WHERE shard.worker = dead.id) "
    "DELETE FROM worker USING dead WHERE worker.id = dead.id RETURNING dead.name"
)
_FREE = (
    "UPDATE shard SET worker = NULL, cursor = worker.cursor, clock = worker.clock FROM worker "
    "WHERE shard.worker = %s AND worker.id = %s AND shard.number = ANY(%s)"
)
_TAKE = (
    "UPDATE shard SET worker = %s WHERE number IN (SELECT number FROM shard WHERE worker IS NULL ORDER BY number LIMIT %s) "
    "RETURNING number, cursor, clock"
)
_BACK = "UPDATE worker SET cursor = least(cursor, %s), clock = least(clock, %s) WHERE id = %s"


class WorkerRow(NamedTuple):
    """A worker as the database knows it. until: ms from now, negative when it is late."""

    id: int
    name: str
    program: str
    alone: bool
    shards: int
    until: int


@dataclass(slots=True)
class Lease:
    """What this store holds. worker: 0 while it waits. turn: how many of its transactions were committed. until: `elapsed` up to which it
    surely holds. wanted: ms that another thread wants it to last. tended: `elapsed` of the last look."""

    program: str
    alone: bool
    worker: int = 0
    shards: list[int] = field(default_factory=list)
    turn: int = 0
    until: int = 0
    wanted: int = 0
    tended: int = -(10**12)
    waits_for: str = ""


class Leases:
    """A part of `postgres.PostgresStore`: needs `_db`, `_all` (all shards)."""

    _db: PostgresDatabase
    _all: list[int]
    _left_behind: Callable[[], bool]
    _meta: Callable[[str], str | None]
    leases = True
    lease_ms = LEASE

    def __init__(self) -> None:
        self._lease: Lease | None = None
        self._thread = threading.get_ident()
        self.name = f"{socket.gethostname()}:{os.getpid()}"

    @property
    def mine(self) -> list[int]:
        """The shards that this store looks at: those of its lease, or all without one."""
        return self._all if self._lease is None else self._lease.shards

    @property
    def worker(self) -> int | None:
        """The number of this worker; None without a lease."""
        return self._lease.worker or None if self._lease is not None else None

    # ------------------------------------------------------------ the right to run

    @contextmanager
    def run_lock(self, alone: bool = True, program: str = "") -> Iterator[None]:
        """See Store. Beside others it may begin without a shard; `tend` brings them."""
        if self._lease is not None:
            raise self._running(self.name)
        self._lease = Lease(program, alone)
        try:
            if alone:
                self._db.run("lease", self._take_all)
            else:
                self.tend()
            yield
        finally:
            with suppress(StoreError):
                self._leave()
            self._lease = None

    def _running(self, name: str, left: int = 0) -> StoreError:
        wait = f"; if it is dead, its lease ends in {max(1, left // 1000)} s" if left else ""
        return StoreError(
            f"another `camp run` ({name}) is using {shown(self._db.url)}",
            f"wait for it to end, or stop it{wait}; importing events and looking at things works meanwhile",
            "running",
        )

    def _take_all(self, cursor: Any) -> None:
        lease = self._lease
        assert lease is not None
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (MEMBER_LOCK,))
        self._bury(cursor, 0)
        others = self._workers(cursor)
        if others:
            raise self._running(others[0].name, others[0].until)
        self._join(cursor, lease)
        lease.shards = sorted(self._take(cursor, lease.worker, len(self._all), True))

    def _join(self, cursor: Any, lease: Lease) -> None:
        self._check_home(cursor)
        asked = elapsed()
        lease.worker = cursor.execute(
            f"INSERT INTO worker (name, program, alone, joined, until, cursor, clock, turn) "
            f"VALUES (%s, %s, %s, clock_timestamp(), {_UNTIL}, 0, 0, 0) RETURNING id",
            (self.name, lease.program, lease.alone, self.lease_ms),
        ).fetchone()[0]
        lease.turn, lease.until, lease.waits_for = 0, asked + self.lease_ms, ""

    def _check_home(self, cursor: Any) -> None:
        """A database that was restored or copied does not know what was handed over since: it sends nothing before a person says so."""
        found = cursor.execute("SELECT value FROM meta WHERE key = 'home'").fetchone()
        if found is None:
            cursor.execute("INSERT INTO meta VALUES ('home', %s)", (self._db.home,))
        elif found[0] != self._db.home:
            raise self._moved()

    def _moved(self) -> StoreError:
        return StoreError(
            f"{shown(self._db.url)} is not where it was: it was restored from a backup, copied, or a standby took over",
            "what was handed over since is not known here. Once no other copy runs: `camp db adopt` (it says what becomes of open effects)",
            "adopt",
        )

    def at_home(self) -> bool:
        """Whether this is the database that sends, as far as it knows."""
        return self._meta("home") in (None, self._db.home)

    def take_home(self) -> None:
        """From now on this is the database that sends. Call it when a person has said that no other copy does."""
        sql = "INSERT INTO meta VALUES ('home', %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        self._db.run("adopt", lambda cursor: cursor.execute(sql, (self._db.home,)))
        self._db.moved = False

    def _leave(self) -> None:
        lease = self._lease
        if lease is None or not lease.worker:
            return

        def leave(cursor: Any) -> None:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (MEMBER_LOCK,))
            cursor.execute(_FREE, (lease.worker, lease.worker, self._all))
            cursor.execute("DELETE FROM worker WHERE id = %s", (lease.worker,))

        self._db.run("lease", leave)

    # ------------------------------------------------------------ keeping it

    def tend(self, leaving: bool = False) -> bool:
        """See Store. Once in a third of the lease: a sign of life, the dead buried, shards given and taken until all workers have as
        many."""
        lease = self._lease
        if lease is None:
            return False
        if lease.wanted and self.hold(lease.wanted):
            lease.wanted = 0
        if lease.alone or leaving:
            self.hold(self.lease_ms // 2)
            return False
        if elapsed() - lease.tended < self.lease_ms // 3:
            return False
        before, asked = (lease.worker, lease.shards), elapsed()
        self._db.read(self._db.look_at_clock)
        worker, shards, waits_for, turn = self._db.run("lease", self._balance)
        if worker != lease.worker:
            lease.turn = turn
        if waits_for and waits_for != lease.waits_for:
            log.warning("this worker waits and does nothing: %s", waits_for)
        lease.worker, lease.shards, lease.waits_for = worker, shards, waits_for
        lease.until, lease.tended = (asked + self.lease_ms if worker else 0), asked
        if before != (worker, shards):
            log.info("worker %s has %d of %d shards", self.name, len(shards), len(self._all))
        return before != (worker, shards) or self._left_behind()

    def _balance(self, cursor: Any) -> tuple[int, list[int], str, int]:
        """(worker, its shards, what it waits for, its turn). Changes the database only: it may be run again."""
        lease = self._lease
        assert lease is not None
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (MEMBER_LOCK,))
        self._bury(cursor, lease.worker)
        worker, turn = lease.worker, lease.turn
        if worker:
            renewed = f"UPDATE worker SET until = greatest(until, {_UNTIL}) WHERE id = %s"
            if not cursor.execute(renewed, (self.lease_ms, worker)).rowcount:
                log.warning("worker %s was silent for too long and was taken for dead; it begins anew", self.name)
                worker = 0
        others = [other for other in self._workers(cursor) if other.id != worker]
        if not worker:
            against = next((self._against(other, lease) for other in others if other.alone or other.program != lease.program), "")
            if against:
                return 0, [], against, 0
            fresh = Lease(lease.program, False)
            self._join(cursor, fresh)
            worker, turn = fresh.worker, 0
        return worker, self._share(cursor, worker, -(-len(self._all) // (1 + len(others)))), "", turn

    def _against(self, other: WorkerRow, lease: Lease) -> str:
        if other.alone:
            return f"`camp run --once` or --until ({other.name}) has the database for itself"
        return (
            f"worker {other.name} runs other campaigns (program {other.program[:12]}, here {lease.program[:12]}); "
            "when the last such worker has ended, this one begins. Bring the same files to all machines and restart one worker after the other"
        )

    def _bury(self, cursor: Any, worker: int) -> None:
        for (name,) in cursor.execute(_BURY, (worker,)).fetchall():
            log.warning("worker %s gave no sign of life; its shards are free", name)

    def _share(self, cursor: Any, worker: int, fair: int) -> list[int]:
        """The worker's shards after giving away or taking what is fair."""
        held = [number for (number,) in cursor.execute("SELECT number FROM shard WHERE worker = %s ORDER BY number", (worker,)).fetchall()]
        if len(held) > fair:
            cursor.execute(_FREE, (worker, worker, held[fair:]))
            return held[:fair]
        return sorted(held + self._take(cursor, worker, fair - len(held), not held)) if len(held) < fair else held

    def _take(self, cursor: Any, worker: int, count: int, first: bool) -> list[int]:
        taken = cursor.execute(_TAKE, (worker, count)).fetchall()
        if not taken:
            return []
        cursor_, clock = min(row[1] for row in taken), min(row[2] for row in taken)
        if first:
            cursor.execute("UPDATE worker SET cursor = %s, clock = %s WHERE id = %s", (cursor_, clock, worker))
        else:
            cursor.execute(_BACK, (cursor_, clock, worker))
        return [row[0] for row in taken]

    def hold(self, milliseconds: int) -> bool:
        """See Store."""
        lease = self._lease
        if lease is None or lease.until - elapsed() >= milliseconds:
            return True
        if threading.get_ident() != self._thread:
            return self._wait_for(lease, milliseconds)
        if not lease.worker:
            return False
        asked, span = elapsed(), milliseconds + self.lease_ms
        try:
            self._write("lease", lambda cursor: cursor.execute(
                f"UPDATE worker SET until = greatest(until, {_UNTIL}) WHERE id = %s", (span, lease.worker)))  # fmt: skip
        except StoreError as error:
            log.error("the lease could not be renewed: %s", error.message)
            return False
        lease.until = max(lease.until, asked + span)
        return lease.until - elapsed() >= milliseconds

    def _wait_for(self, lease: Lease, milliseconds: int) -> bool:
        """In another thread than the store's: `tend` makes the lease longer."""
        end, worker = elapsed() + self.lease_ms, lease.worker
        while elapsed() < end and lease.worker == worker:
            lease.wanted = max(lease.wanted, milliseconds)
            SystemClock().sleep(10)
            if lease.until - elapsed() >= milliseconds:
                return True
        return False

    # ------------------------------------------------------------ the fence

    def _write(
        self,
        name: str,
        work: Callable[[Any], Any],
        *,
        cursor: int | None = None,
        cursor_was: int = 0,
        clock: int | None = None,
        again: bool = True,
        first: bool = False,
    ) -> Any:
        """A transaction of whoever runs: fails if the lease is lost, and moves the position in the same stroke. What `work` writes is sent
        right behind the fence, which is looked at before the commit: nothing of it is saved if it did not hold. first: it is looked at before
        `work`, which does more than write. Raises StoreError."""
        lease, asked = self._lease, elapsed()

        def fenced(sql: Any) -> Any:
            if self._db.moved and lease is not None:
                raise self._moved()
            turn = self._fence(sql, cursor, cursor_was, clock)
            if first and not turn.rowcount:
                raise self._fenced()
            try:
                answer = work(sql)
            finally:
                if not turn.rowcount:  # whatever else went wrong says nothing then
                    raise self._fenced()
            return answer

        try:
            answer = self._db.run(name, fenced, again=again, proof=self._took_place if lease is not None else None, ahead=True)
        except StoreError as error:
            if error.kind == "fenced" and lease is not None:
                lease.shards, lease.until, lease.tended = [], 0, -(10**12)
            raise
        if lease is not None:
            lease.turn += 1
            lease.until = max(lease.until, asked + self.lease_ms)
        return answer

    def _fence(self, sql: Any, cursor: int | None, cursor_was: int, clock: int | None) -> Any:
        """Sends it; it held if the answer has touched a row."""
        lease = self._lease
        if lease is not None:
            return sql.execute(_TURN, (lease.turn + 1, self.lease_ms, cursor, cursor_was, cursor, clock, lease.worker))
        others = self._workers(sql)
        if others:
            raise self._running(others[0].name, others[0].until)
        return sql.execute(
            "UPDATE shard SET cursor = CASE WHEN %s::bigint IS NOT NULL AND cursor >= %s THEN %s ELSE cursor END, "
            "clock = coalesce(%s, clock) RETURNING number",
            (cursor, cursor_was, cursor, clock),
        )

    def _fenced(self) -> StoreError:
        return StoreError(
            "this worker was silent for longer than its lease, and others have its shards; nothing of this step was saved",
            "it goes on by itself with new ones; if that happens often, the machine or the line to the database is too slow",
            "fenced",
        )

    def _took_place(self) -> bool:
        """Whether the transaction whose commit is in doubt took place. Waits for it if it is still under way."""
        lease = self._lease
        assert lease is not None
        found = self._db.raw.execute("SELECT turn FROM worker WHERE id = %s FOR UPDATE", (lease.worker,)).fetchone()
        if found is None:
            raise self._fenced()
        return found[0] == lease.turn + 1

    # ------------------------------------------------------------ looking

    def running(self) -> bool:
        """See Store."""
        return bool(self._db.one("SELECT 1 FROM worker WHERE until > clock_timestamp() LIMIT 1"))

    def workers(self) -> list[WorkerRow]:
        """All workers that live, and the dead that nobody has buried yet."""
        return self._db.read(lambda: self._workers(self._db.raw, False))

    def _workers(self, sql: Any, alive: bool = True) -> list[WorkerRow]:
        rows = sql.execute(
            "SELECT id, name, program, alone, (SELECT count(*) FROM shard WHERE shard.worker = worker.id), "
            "(extract(epoch FROM until - clock_timestamp()) * 1000)::bigint FROM worker ORDER BY id"
        ).fetchall()
        return [WorkerRow(*row) for row in rows if not alive or row[5] > 0]
