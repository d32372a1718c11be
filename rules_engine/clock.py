"""The only place that reads a clock. Everything else is told the time; tests and simulations bring a clock of their own."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells and waits. Milliseconds since the epoch, UTC."""

    def now(self) -> int: ...

    def sleep(self, milliseconds: int) -> None: ...


class SystemClock:
    """The machine's clock. Never goes back: after a step backwards it stands still until the time is reached again."""

    def __init__(self) -> None:
        self._latest = 0

    def now(self) -> int:
        self._latest = max(self._latest, time.time_ns() // 1_000_000)
        return self._latest

    def sleep(self, milliseconds: int) -> None:
        time.sleep(milliseconds / 1000)


class VirtualClock:
    """A clock that stands still until it is moved; sleeping moves it."""

    def __init__(self, now: int = 0) -> None:
        self._now = now

    def now(self) -> int:
        return self._now

    def sleep(self, milliseconds: int) -> None:
        self._now += milliseconds

    def move_to(self, now: int) -> None:
        """Moves forward to `now`; a moment in the past leaves the clock where it is."""
        self._now = max(self._now, now)


def elapsed() -> int:
    """Milliseconds since the machine started, a suspended machine's sleep included. No one can set it: it tells how old a lease is."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
