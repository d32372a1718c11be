"""Calls under a lease: none is begun with less lease time left than the action may take.

Between the claim and the call a worker may have stood still for longer than its lease (a suspended machine, SIGSTOP, swap). Others have then
shown its claim as unknown, and may hand a repeatable one over themselves. So the lease is looked at again right before each call, and made
longer where it is too short for the action's deadline. What remains is the moment between this look and the call's first byte: who stands
still just there calls late, for an effect that is shown as unknown. It is still handed over once, unless its provider was asked meanwhile and
said that it knows nothing of it, or a person decided so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rules_engine.actions import Action, Outcome
from rules_engine.service.runner import Runner, Work

MARGIN = 2_000  # ms of lease beyond the deadline
LONGEST = 30.0  # s: deadline of an action that has none
NOT_CALLED = "not called: this worker's lease had ended"


class LeasedRunner:
    """A Runner that asks before it calls. hold(milliseconds): see Store."""

    def __init__(self, inner: Runner, hold: Callable[[int], bool]) -> None:
        self.workers = inner.workers
        self._inner, self._hold = inner, hold

    def run(self, work: Sequence[Work]) -> list[Outcome]:
        """See Runner. As many at once as the inner runner calls at the same time, because each such group has the deadline anew."""
        outcomes: list[Outcome] = []
        for start in range(0, len(work), self.workers):
            group = work[start : start + self.workers]
            longest = max(_longest(action) for action, _ in group)
            if self._hold(int(longest * 1000) + MARGIN):
                outcomes += self._inner.run(group)
            else:
                outcomes += [Outcome("retry", NOT_CALLED) for _ in group]
        return outcomes


def _longest(action: Action | None) -> float:
    """Seconds that a call may take."""
    return LONGEST if action is None else max(action.timeout, getattr(action.perform, "limit", 0.0))
