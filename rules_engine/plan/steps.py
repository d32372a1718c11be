"""The operations that steps compile to: a flat list, so that an instance's place is one step identity."""

from __future__ import annotations

from typing import Any

from rules_engine.plan.program import ActionCall, Condition, Site, Trigger, Value
from rules_engine.runtime.calendar import Duration

ACT, TEST, JUMP, DELAY, WAIT, SPLIT, LOOP, AGAIN, STOP, END = range(10)


class Op:
    """Base: `code` chooses what the engine does; site names the step."""

    code = -1
    __slots__ = ("site",)

    def __init__(self, site: Site) -> None:
        self.site = site

    def describe(self) -> str:
        return f"{type(self).__name__.lower()} {self.site.step or ''}".rstrip()


class Act(Op):
    code = ACT
    __slots__ = ("call",)

    def __init__(self, site: Site, call: ActionCall) -> None:
        super().__init__(site)
        self.call = call


class Test(Op):
    """Goes on when the condition holds, else at `otherwise`."""

    code = TEST
    __slots__ = ("condition", "otherwise")

    def __init__(self, site: Site, condition: Condition) -> None:
        super().__init__(site)
        self.condition = condition
        self.otherwise = -1

    def describe(self) -> str:
        return f"test {self.condition.text} else {self.otherwise}"


class Jump(Op):
    code = JUMP
    __slots__ = ("to",)

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.to = -1

    def describe(self) -> str:
        return f"jump {self.to}"


class Delay(Op):
    """AFTER. duration: Duration or function; at, window: minutes of the day; days; zone(tick) or None."""

    code = DELAY
    __slots__ = ("duration", "from_start", "at", "window", "days", "zone")

    def __init__(self, site: Site, duration: Duration | Value, from_start: bool, at: int | None, window: tuple[int, int] | None,
                 days: frozenset[int] | None, zone: Value | None) -> None:
        super().__init__(site)
        self.duration, self.from_start, self.at, self.window, self.days, self.zone = duration, from_start, at, window, days, zone


class Wait(Op):
    """WAIT UNTIL. body, otherwise, end: where to go on; otherwise is `end` where there is no OTHERWISE."""

    code = WAIT
    __slots__ = ("alternatives", "up_to", "catch_up", "body", "otherwise", "end", "events", "conditions", "deps")

    def __init__(self, site: Site, alternatives: list[Trigger], up_to: Any, catch_up: bool) -> None:
        super().__init__(site)
        self.alternatives, self.up_to, self.catch_up = alternatives, up_to, catch_up
        self.body = self.otherwise = self.end = -1
        self.events = frozenset(item.event for item in alternatives if item.kind == "event")
        self.conditions = any(item.kind == "condition" for item in alternatives)
        deps: set[str] = set()
        for item in alternatives:
            if item.condition is not None:
                deps |= item.condition.deps
            if item.timed is not None:
                deps |= item.timed.deps
        self.deps = frozenset(deps)


class Split(Op):
    """branches: (upper bound of the bucket, name, where to go on)."""

    code = SPLIT
    __slots__ = ("name", "branches")

    def __init__(self, site: Site, name: str) -> None:
        super().__init__(site)
        self.name = name
        self.branches: list[tuple[int, str, int]] = []


class Loop(Op):
    """REPEAT: where a round begins. rhythm: Duration, or (kind, days, minute) of a weekly or daily rhythm."""

    code = LOOP
    __slots__ = ("rhythm", "at", "times", "condition", "end", "name")

    def __init__(self, site: Site, rhythm: Any, at: int | None, times: Any, condition: Condition | None, name: str) -> None:
        super().__init__(site)
        self.rhythm, self.at, self.times, self.condition, self.name = rhythm, at, times, condition, name
        self.end = -1


class Again(Op):
    """The end of a round: waits for the next one, or leaves the loop."""

    code = AGAIN
    __slots__ = ("loop",)

    def __init__(self, site: Site, loop: int) -> None:
        super().__init__(site)
        self.loop = loop


class Stop(Op):
    code = STOP
    __slots__ = ("reason",)

    def __init__(self, site: Site, reason: str | None) -> None:
        super().__init__(site)
        self.reason = reason


class End(Op):
    code = END
    __slots__ = ()
