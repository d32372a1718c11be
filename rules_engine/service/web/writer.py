"""One thread that commits what came in, in groups: one disk write acknowledges everybody who waits (promise P1).

Whoever submits gets a future that is done when the commit is durable. While one group is being written the next one gathers, so under
load groups grow by themselves. A group takes whole submissions, never a part of one.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rules_engine.clock import Clock
from rules_engine.limits import MAX_BACKLOG, MAX_KEPT_VISITS, MAX_QUEUE
from rules_engine.service.ingest import Fate, record_each
from rules_engine.store.port import Arrival, Store, StoreError

log = logging.getLogger("camp.web")

GROUP = 500  # arrivals of one commit
LINGER = 0.002  # seconds that a group waits for more, if the last one had several: one client alone never waits
IDLE_SECONDS = 1.0  # how often an idle writer looks whether the store can be written, and at the backlog
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 15.0  # seconds between tries for what is kept

Then = Callable[[Store], None]


class _Job(NamedTuple):
    """arrivals; who waits for them; keep: try again for ever, for nobody will ask again; then: what else to write behind them; wish: what a
    person wants (an unsubscribe), which no number of visits may drive out."""

    arrivals: Sequence[Arrival]
    future: asyncio.Future | None
    keep: bool
    then: Then | None
    wish: bool = False


_END = _Job((), None, False, None)


class Writer:
    """open_store: opens the store for the writer's thread. `trouble`: why the store can't be written now, or None. `backlog`: rows that the
    engine has not read, as of about a second ago."""

    def __init__(self, open_store: Callable[[], Store], clock: Clock, *, group: int = GROUP, max_queue: int = MAX_QUEUE,
                 max_backlog: int = MAX_BACKLOG) -> None:  # fmt: skip
        self._open, self._clock, self._group, self._max_queue, self._max_backlog = open_store, clock, group, max_queue, max_backlog
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._kept: deque[_Job] = deque()
        self._wishes: deque[_Job] = deque()
        self._lock = threading.Lock()
        self._waiting = 0  # arrivals in the queue
        self._store: Store | None = None
        self._together = 0  # submissions in the last group
        self._pause, self._next_look, self._ending = FIRST_PAUSE, 0, False
        self.trouble: StoreError | None = None
        self.backlog = 0
        self.commits = self.recorded = self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="camp-web-writer", daemon=True)

    # ------------------------------------------------------------ for everybody

    def start(self) -> None:
        """Begins to write."""
        self._thread.start()

    def full(self) -> str:
        """Why nothing more may be submitted now, or ""."""
        if self._waiting >= self._max_queue:
            return "too much is waiting to be written"
        if self.backlog > self._max_backlog:
            return f"the engine has more than {self._max_backlog:,} facts to read first"
        return ""

    def takes_visits(self) -> bool:
        """Whether a visit that nobody asks for again may be submitted now. Visits have the first half of the queue: no number of them keeps
        out what is acknowledged."""
        return self._waiting < self._max_queue // 2 and not self.full()

    @property
    def waiting(self) -> int:
        """Arrivals in the queue."""
        return self._waiting

    def submit(
        self, arrivals: Sequence[Arrival], *, keep: bool = False, then: Then | None = None, wish: bool = False
    ) -> asyncio.Future[list[Fate]]:
        """Done when all of it is durable, with the fate of each; StoreError where it is not. Call it in a running event loop. keep: it is
        written when it can be, whatever happens to whoever waits; wish: and before all visits."""
        future: asyncio.Future[list[Fate]] = asyncio.get_running_loop().create_future()
        self._put(_Job(arrivals, future, keep or wish, then, wish))
        return future

    def _put(self, job: _Job) -> None:
        with self._lock:
            self._waiting += len(job.arrivals)
        self._jobs.put(job)

    def close(self, seconds: float = 15.0) -> None:
        """Writes what is in the queue, and ends."""
        self._jobs.put(_END)
        self._thread.join(seconds)

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        try:
            while not self._ending:
                self._turn()
            if self._any_kept:
                self._retry()
        except BaseException:
            log.exception("the writer of the web ended")
            self.trouble = StoreError("the writer ended", "this is a fault of Camp; its log says more")
            raise
        finally:
            if self._store is not None:
                self._store.close()

    @property
    def _any_kept(self) -> bool:
        return bool(self._kept or self._wishes)

    def _turn(self) -> None:
        jobs = self._gather()
        if jobs:
            self._write(jobs)
        elif self._any_kept:
            self._retry()
        if self._clock.now() >= self._next_look:
            self._look()

    def _gather(self) -> list[_Job]:
        """What is in the queue, up to a group; waits a while for a first one."""
        try:
            job = self._jobs.get(timeout=self._pause if self._any_kept else IDLE_SECONDS)
        except queue.Empty:
            return []
        if self._together > 1:
            time.sleep(LINGER)  # several send at once: a moment more, and more of them share the disk's
        jobs, size = [], 0
        while True:
            if job is _END:
                self._ending = True
                break
            jobs.append(job)
            size += len(job.arrivals)
            if size >= self._group:
                break
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
        with self._lock:
            self._waiting -= size
        self._together = len(jobs)
        return jobs

    def _look(self) -> None:
        """Once a second: what is kept, whether the store takes writes, how far the engine is behind."""
        self._next_look = self._clock.now() + int(IDLE_SECONDS * 1000)
        if self._any_kept:
            self._retry()
            return
        try:
            store = self._opened()
            if self.trouble is not None:  # a full disk lets itself be locked and read: only a write tells
                store.note("probe", str(self._clock.now()))
            store.quiet_now(store.position().cursor)  # takes the lock for writing, writes nothing
            self.backlog = store.unread(self._max_backlog + 1)
            self.trouble = None
        except Exception as error:
            self._troubled(error)

    def _opened(self) -> Store:
        if self._store is None:
            self._store = self._open()
        return self._store

    def _write(self, jobs: list[_Job]) -> None:
        try:
            fates = self._record(jobs)
        except Exception as error:
            self._troubled(error)
            self._keep([job for job in jobs if job.keep])
            _tell([(job.future, None, error) for job in jobs])
            return
        self.trouble, self._pause = None, FIRST_PAUSE
        told: list[tuple[asyncio.Future | None, Any, Exception | None]] = []
        start = 0
        for job in jobs:
            end = start + len(job.arrivals)
            told.append((job.future, fates[start:end], self._then(job)))
            start = end
        _tell(told)

    def _record(self, jobs: list[_Job]) -> list[Fate]:
        arrivals = [arrival for job in jobs for arrival in job.arrivals]
        fates = record_each(self._opened(), arrivals)
        self.commits += 1
        self.recorded += len(arrivals)
        return fates

    def _then(self, job: _Job) -> Exception | None:
        if job.then is None:
            return None
        try:
            job.then(self._opened())
        except Exception as error:
            log.exception("what follows an arrival could not be written")
            return error
        return None

    def _keep(self, jobs: list[_Job]) -> None:
        """The newest are kept: of an outage that lasts, the latest visits are worth more. Wishes have a room of their own."""
        for job in jobs:
            (self._wishes if job.wish else self._kept).append(job._replace(future=None))
        for line in (self._kept, self._wishes):
            self._drop(line)

    def _drop(self, line: deque[_Job]) -> None:
        while len(line) > MAX_KEPT_VISITS:
            line.popleft()
            self.dropped += 1
            if self.dropped == 1 or self.dropped % 1_000 == 0:
                log.error("%d visits were dropped: the store could not be written for too long", self.dropped)

    def _retry(self) -> None:
        jobs = [*self._wishes, *self._kept]
        self._wishes.clear()
        self._kept.clear()
        for start in range(0, len(jobs), self._group):
            piece = jobs[start : start + self._group]
            try:
                self._record(piece)
                for job in piece:
                    self._then(job)
            except Exception as error:  # whatever it is, the thread goes on: without it nothing is ever written again
                self._troubled(error)
                self._pause = min(LONGEST_PAUSE, self._pause * 2)
                self._keep(jobs[start:])
                return
        self.trouble, self._pause = None, FIRST_PAUSE

    def _troubled(self, error: Exception) -> None:
        if not isinstance(error, StoreError):
            log.error("the web's writer failed", exc_info=error)
            error = StoreError(f"it can't be written: {type(error).__name__}: {error}", "this is a fault of Camp; its log says more")
        if self.trouble is None:
            log.error("%s; nothing is taken in. %s", error.message, error.help)
        self.trouble = error


def _tell(told: list[tuple[asyncio.Future | None, Any, Exception | None]]) -> None:
    """Wakes who waits: one call a loop, however many wait."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future, Any, Exception | None]]] = {}
    for future, result, error in told:
        if future is not None:
            loops.setdefault(future.get_loop(), []).append((future, result, error))
    for loop, items in loops.items():
        try:
            loop.call_soon_threadsafe(_resolve, items)
        except RuntimeError:  # the loop has ended: nobody waits any more
            continue


def _resolve(items: list[tuple[asyncio.Future, Any, Exception | None]]) -> None:
    for future, result, error in items:
        if future.done():  # given up
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
