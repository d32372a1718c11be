"""Calls of plugins beside the service's own work: a few lanes for each provider, each a thread that makes one call at a time.

The service's thread alone touches the store; it puts claimed effects in and takes outcomes out. So a provider that hangs holds its own
lanes and nothing else: events go on being decided, other channels go on leaving.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from rules_engine.actions import Action, Call, Outcome
from rules_engine.service.runner import Runner
from rules_engine.store.port import Candidate

LANES = 4  # calls of one provider at the same time
AHEAD = 50  # effects of one provider that may be claimed at once, where claiming one again is harmless


class Job(NamedTuple):
    """One hand-over, or (asks) one question to a provider what became of an earlier one."""

    provider: str
    candidate: Candidate
    action: Action | None
    call: Call
    asks: bool = False


class Lanes:
    """make_runner: makes the Runner of one lane; it is used from that lane's thread only."""

    def __init__(self, make_runner: Callable[[], Runner], lanes: int = LANES) -> None:
        self._make_runner, self._lanes = make_runner, lanes
        self._in: dict[str, queue.SimpleQueue[Job]] = {}
        self._out: queue.SimpleQueue[tuple[Job, Outcome]] = queue.SimpleQueue()
        self._ready: list[tuple[Job, Outcome]] = []
        self._flying: Counter[str] = Counter()

    @property
    def flying(self) -> int:
        """Hand-overs that are under way or wait for their lane."""
        return self._flying.total()

    def room(self, provider: str, repeatable: bool) -> int:
        """How many more may be claimed for a provider: of what can't be repeated only as many as are called at once, because a crash
        leaves each of them unknown."""
        return max(0, (AHEAD if repeatable else self._lanes) - self._flying[provider])

    def start(self, job: Job) -> None:
        """Hands a job to its provider's lanes."""
        line = self._in.get(job.provider)
        if line is None:
            line = self._in[job.provider] = queue.SimpleQueue()
            for number in range(self._lanes):
                name = f"camp-lane {job.provider} {number}"
                threading.Thread(target=self._work, args=(line,), name=name, daemon=True).start()
        self._flying[job.provider] += 1
        line.put(job)

    def finished(self) -> list[tuple[Job, Outcome]]:
        """What has ended since the last time, without waiting."""
        done, self._ready = self._ready, []
        while True:
            try:
                done.append(self._out.get_nowait())
            except queue.Empty:
                break
        for job, _ in done:
            self._flying[job.provider] -= 1
        return done

    def wait(self, milliseconds: int) -> bool:
        """Waits until something has ended, at most so long; whether it has."""
        if not self._ready:
            try:
                self._ready.append(self._out.get(timeout=milliseconds / 1000))
            except queue.Empty:
                return False
        return True

    def _work(self, line: queue.SimpleQueue[Job]) -> None:
        runner = self._make_runner()
        while True:
            job = line.get()
            try:
                (outcome,) = runner.run([(job.action, job.call)])
            except Exception as error:  # a fault of ours: what had left by then nobody can tell
                outcome = Outcome("unknown", f"the hand-over failed inside Camp: {type(error).__name__}: {error}")
            self._out.put((job, outcome))
