"""Clicks wait a second before they are told: several different links of one message within a second are a scanner's, the first one
too. The person who clicked has been sent on long before."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from rules_engine.service.web.machines import BURST_MS

MAX_MESSAGES = 20_000  # messages whose clicks of the last second are remembered


@dataclass
class _Burst:
    at: int
    links: set[str] = field(default_factory=set)


class Clicks:
    """Remembers which links of a message were followed within the last second."""

    def __init__(self) -> None:
        self._bursts: OrderedDict[str, _Burst] = OrderedDict()
        self._tasks: set[asyncio.Task] = set()

    def note(self, message: str, link: str, now: int) -> Callable[[], bool]:
        """A click. The answer tells later whether it belonged to a burst."""
        burst = self._bursts.get(message)
        if burst is None or now - burst.at > BURST_MS:
            burst = self._bursts[message] = _Burst(now)
            self._bursts.move_to_end(message)
            while len(self._bursts) > MAX_MESSAGES:
                self._bursts.popitem(last=False)
        burst.links.add(link)
        return lambda: len(burst.links) > 1

    def later(self, work: object) -> None:
        """Runs a coroutine in the background, and holds on to it."""
        task = asyncio.ensure_future(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Waits for what is in the background."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=5)
