"""How many may leave in a time, over all contacts and workers (`THROTTLE 500 PER minute`; `throttle = "14 per second"` of a plugin). Pure.

A sliding window in slots: the period is cut into SLOTS, the store counts the hand-overs of each, and what lies in any slot that touches the
last period counts. So in no span of that length do more leave than the number says, whatever restarts or other workers do; the price
is that the rate reached is lower by one slot in twenty. What finds the window full gets a time of its own, one after the other, so that
a backlog of 200,000 is looked at once and not at every beat.

How long that line is, the store is asked now and then, because those in it may be called off. Times that were given are not changed: who
stood behind them keeps the old place. And somebody new may leave before the line's next, if the window has room in that moment; the one who
finds it full at the own time does not go to the end of the line, but waits for the next free moment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from rules_engine.store.port import Candidate

SLOTS = 20
RECOUNT = 1_000  # ms between two counts of a line; more by a tenth of a millisecond for each in it, so that counting costs about 1 %

_UNITS = {"second": 1_000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000}


class Throttle(NamedTuple):
    """At most `count` within any `period` (ms). name: what the store counts under."""

    name: str
    count: int
    period: int

    @property
    def slot(self) -> int:
        """Length of a slot (ms)."""
        return max(1, self.period // SLOTS)

    def slot_of(self, now: int) -> int:
        """The first moment of the slot of a moment."""
        return now - now % self.slot

    def oldest(self, now: int) -> int:
        """The oldest slot that still matters."""
        return self.slot_of(now - self.period)

    @property
    def interval(self) -> float:
        """Milliseconds between two hand-overs at the rate that is reached."""
        return (self.period + self.slot) / self.count

    @property
    def reason(self) -> str:
        """The detail of an effect that was put off: by it the store knows who stands in line."""
        return f"{self.name}: at most {self.count:,} in {self.period // 1000:,} s"


@dataclass(slots=True)
class Line:
    """Which times (ms) a throttle has given away: the last one to somebody new, and to one who had had a time before. counted: until when
    the store's count of those in line is good enough."""

    last: float = 0.0
    again: float = 0.0
    counted: int = 0


class Throttles:
    """The throttles in force: of rulesets by name, and of plugins by name. Remembers which times it has given away."""

    def __init__(self, rulesets: Mapping[str, Throttle], plugins: Mapping[str, Throttle]) -> None:
        self._rulesets, self._plugins = rulesets, plugins
        self._lines: dict[str, Line] = {}

    def of(self, ruleset: str, plugin: str) -> list[Throttle]:
        """Those that a hand-over counts in."""
        found = (self._rulesets.get(ruleset), self._plugins.get(plugin))
        return [throttle for throttle in found if throttle is not None]

    def spend(self, throttle: Throttle, candidate: Candidate, now: int) -> int | None:
        """None if one more may leave now; else when this one is to be looked at again."""
        used, first = candidate.used(throttle.name, throttle.oldest(now))
        if used < throttle.count:
            return None
        free = (first if first is not None else throttle.slot_of(now)) + throttle.slot + throttle.period
        line = self._lines.setdefault(throttle.name, Line())
        if now >= line.counted:
            waiting = candidate.waiting(throttle.reason)
            line.last = free + (waiting - 1) * throttle.interval
            line.again = min(line.again, line.last)
            line.counted = now + RECOUNT + waiting // 10
        again = candidate.effect.detail == throttle.reason
        at = max(float(free), float(now + 1), (line.again if again else line.last) + throttle.interval)
        if again:
            line.again = at
        else:
            line.last = at
        return int(at)


def of_program(program: Any) -> dict[str, Throttle]:
    """The THROTTLE clauses of a program, by ruleset."""
    rulesets = getattr(program, "rulesets", ())  # a test's program may be anything with a digest
    return {item.name: Throttle(item.name, *item.throttle) for item in rulesets if item.throttle is not None}


def of_settings(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Throttle]:
    """`throttle = "500 per minute"` in a plugin's table of camp.toml. Raises ValueError with one sentence."""
    found = {}
    for plugin, table in settings.items():
        text = table.get("throttle")
        if text is not None:
            found[plugin] = parse(text, plugin)
    return found


def parse(text: Any, plugin: str) -> Throttle:
    """A rate as an operator writes it. Raises ValueError."""
    match = re.fullmatch(r"\s*([0-9][0-9_]*)\s+per\s+(second|minute|hour|day)\s*", text, re.I) if isinstance(text, str) else None
    if match is None or int(match[1]) == 0:
        raise ValueError(f'{plugin}.throttle = {text!r} is no rate; write it like "500 per minute" (second, minute, hour, day)')
    return Throttle(f"plugin {plugin}", int(match[1]), _UNITS[match[2].lower()])
