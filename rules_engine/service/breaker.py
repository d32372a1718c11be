"""A breaker per provider: what keeps failing is left alone for a while, and then tried with one call. Pure; nothing of it is kept over a
restart, which costs a few calls."""

from __future__ import annotations

from dataclasses import dataclass

FAILURES = 5  # in a row; fewer is an ordinary bad moment
FIRST_PAUSE = 30_000  # ms; doubles with each trial that fails
LONGEST_PAUSE = 10 * 60_000


@dataclass(slots=True)
class Breaker:
    """`open_until`: no call before that (ms), None: closed. `trial`: one call is under way to see whether it works again."""

    failures: int = 0
    pauses: int = 0
    open_until: int | None = None
    trial: bool = False

    def stops(self, now: int) -> int | None:
        """None if a call may be made now; else until when none may."""
        if self.open_until is None:
            return None
        if now < self.open_until:
            return self.open_until
        return now + 1_000 if self.trial else None

    def begin(self, now: int) -> None:
        """A call is made."""
        if self.open_until is not None and now >= self.open_until:
            self.trial = True

    def note(self, works: bool, now: int, retry_after: float | None = None) -> int | None:
        """A call has ended. Returns until when it is open, if this has just opened it."""
        if works:
            self.failures = self.pauses = 0
            self.open_until, self.trial = None, False
            return None
        self.failures += 1
        if not self.trial and (self.failures < FAILURES or self.open_until is not None):
            return None
        wait = min(LONGEST_PAUSE, FIRST_PAUSE * 2**self.pauses)
        if retry_after is not None:
            wait = max(wait, min(int(retry_after * 1000), LONGEST_PAUSE))
        self.pauses, self.trial = self.pauses + 1, False
        self.open_until = now + wait
        return self.open_until
