"""Calls plugins with a deadline, and turns whatever they do into an Outcome.

Camp's own plugins run in these threads. The functions of anybody else's wait in a thread for a child process that does the work
(`rules_engine.isolation`): they keep the deadline themselves, by killing it, and say by `limit` when they answer at the latest."""

from __future__ import annotations

import logging
import math
import queue
import threading
from collections.abc import Sequence
from typing import Any, Protocol

from rules_engine.actions import Action, Call, Outcome

log = logging.getLogger("camp.runner")

MAX_HUNG = 16  # threads that plugins never gave back; above it nothing more is called
MAX_DETAIL = 1_000  # characters of a detail that are kept
MAX_PROVIDER_ID = 200  # the same, of a provider's name for it; a server's index takes some 2,700 bytes

Work = tuple[Action | None, Call]


class Runner(Protocol):
    """`workers`: how many calls run at the same time."""

    workers: int

    def run(self, work: Sequence[Work]) -> list[Outcome]:
        """The outcomes, in order. Never raises because of a plugin, never takes longer than the time-outs allow."""


class DirectRunner:
    """Calls in the caller's thread, without a deadline: for tests and simulations."""

    workers = 1

    def run(self, work: Sequence[Work]) -> list[Outcome]:
        """See Runner."""
        return [perform(action, call) for action, call in work]


class ThreadRunner:
    """Calls in threads. A thread can't be killed: after its time-out the outcome is `unknown`, the call may still be running, and
    a new thread takes its place."""

    def __init__(self, workers: int = 4) -> None:
        self.workers = workers
        self._idle: list[_Worker] = []
        self._hung: list[_Worker] = []

    def run(self, work: Sequence[Work]) -> list[Outcome]:
        """See Runner. Works through the list `workers` at a time."""
        outcomes: list[Outcome] = []
        for start in range(0, len(work), self.workers):
            outcomes += self._together(work[start : start + self.workers])
        return outcomes

    def _together(self, work: Sequence[Work]) -> list[Outcome]:
        if len(work) == 1 and hasattr(getattr(work[0][0], "perform", None), "limit"):  # keeps its deadline: no thread of ours is needed
            return [perform(*work[0])]
        self._hung = [worker for worker in self._hung if worker.busy]
        running: list[tuple[Action | None, _Worker | None]] = []
        for action, call in work:
            if action is None or action.perform is None or len(self._hung) >= MAX_HUNG:
                running.append((action, None))
                continue
            worker = self._idle.pop() if self._idle else _Worker()
            worker.begin(action, call)
            running.append((action, worker))
        return [self._await(action, call, worker) for (action, worker), (_, call) in zip(running, work, strict=True)]

    def _await(self, action: Action | None, call: Call, worker: _Worker | None) -> Outcome:
        if worker is None:
            if action is None or action.perform is None:
                return perform(action, call)
            state = "unknown" if action.perform is action.lookup else "retry"  # a look-up that was not made proves nothing
            return Outcome(state, f"not called: {len(self._hung)} earlier calls of plugins have not come back")
        assert action is not None
        outcome = worker.end(getattr(action.perform, "limit", action.timeout))
        if outcome is None:
            self._hung.append(worker)
            log.error("%s gave no answer within %g s", action.name, action.timeout)
            return Outcome("unknown", f"no answer within {action.timeout:g} s; the call may still be running")
        self._idle.append(worker)
        return outcome


class _Worker:
    """One thread that calls one plugin at a time. A daemon: a hung plugin must not keep the process from ending."""

    def __init__(self) -> None:
        self._in: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._out: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self.busy = False
        threading.Thread(target=self._loop, name="camp-plugin", daemon=True).start()

    def begin(self, action: Action, call: Call) -> None:
        self.busy = True
        self._in.put((action, call))

    def end(self, timeout: float) -> Outcome | None:
        try:
            return self._out.get(timeout=timeout)
        except queue.Empty:
            return None

    def _loop(self) -> None:
        while True:
            action, call = self._in.get()
            outcome = perform(action, call)
            self.busy = False
            self._out.put(outcome)


def perform(action: Action | None, call: Call) -> Outcome:
    """Calls one plugin in this thread. An exception says nothing about what had already left the house: unknown."""
    if action is None or action.perform is None:
        return Outcome("retry", f"no plugin provides {call.action} now")
    try:
        return checked(action.perform(call))
    except BaseException as error:  # SystemExit too: a plugin must not end a thread
        log.exception("%s raised", action.name)
        return Outcome("unknown", _short(f"the plugin raised {type(error).__name__}: {_text(error)}"))


def checked(answer: Any) -> Outcome:
    """An answer as an Outcome that can be stored; one that is none is unknown."""
    if not isinstance(answer, Outcome):
        return Outcome("unknown", f"the plugin answered {type(answer).__name__}, not Outcome")
    if answer.state not in ("accepted", "failed", "retry", "unknown"):
        return Outcome("unknown", _short(f"the plugin answered the state {_text(answer.state)}"))
    after = answer.retry_after
    if isinstance(after, bool) or not isinstance(after, (int, float)) or not math.isfinite(after) or after < 0:
        after = None
    return Outcome(answer.state, _short(_text(answer.detail)), _short(_text(answer.provider_id), MAX_PROVIDER_ID), after)


def _text(value: Any) -> str:
    try:
        return str(value) if value is not None else ""
    except Exception:
        return f"a {type(value).__name__}"


def _short(text: str, most: int = MAX_DETAIL) -> str:
    line = " ".join(text.split()) if not text.isprintable() else text
    return line if len(line) <= most else line[: most - 1] + "…"
