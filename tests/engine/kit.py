"""What the engine's tests share: a program from a text, and a contact whose state goes through JSON after every cause."""

from __future__ import annotations

import hashlib
import textwrap
from functools import lru_cache
from typing import Any

import orjson

from rules_engine import host
from rules_engine.decisions import Decision, Effect
from rules_engine.engine import advance, new_state
from rules_engine.engine.values import read_contact, read_event
from rules_engine.facts import Event, Wake
from rules_engine.model import meaning
from rules_engine.plan import compile_model
from rules_engine.runtime.calendar import parse_datetime
from rules_engine.syntax.parser import parser

EVENTS = """
EVENT order.placed WITH order_id: text, total: number
EVENT cart.updated WITH cart_id: text, total: number
EVENT page.viewed
EVENT ping WITH n: number, label: text
"""


@lru_cache(1)
def plugins() -> Any:
    return host.load()


def model(text: str, path: str = "t.camp") -> meaning.Model:
    parsed = parser().parse(textwrap.dedent(text), path)
    return meaning.build([parsed], plugins().actions, plugins().events)


def program(text: str, events: bool = True) -> Any:
    """The program of a text, some events declared before it."""
    text = (EVENTS if events else "") + textwrap.dedent(text)
    return compile_model(model(text), plugins().actions, hashlib.sha256(text.encode()).hexdigest())


def ms(text: str, zone: str = "UTC") -> int:
    """`2026-03-02 10:00` as ms."""
    return parse_datetime(text, zone)


class Person:
    """One contact under a clock that the test moves. `log` and `effects` hold all that was answered."""

    def __init__(self, program: Any, at: str | int, contact: str = "ana", zone: str = "UTC", quietly: bool = True, **attributes: Any) -> None:
        self.program, self.contact, self.zone = program, contact, zone
        self.now = self._ms(at)
        self.state = new_state(contact, self.now)
        self.log: list[Decision] = []
        self.effects: list[Effect] = []
        self.emits: list[Event] = []
        self.wake_at: int | None = None
        self.count = 0
        self.set(quietly=quietly, **attributes)

    def _ms(self, at: str | int | None) -> int:
        return self.now if at is None else at if isinstance(at, int) else ms(at, self.zone)

    def feed(self, cause: Any, now: int | None = None, quietly: bool = False) -> list[Decision]:
        """One call of advance, at `now`; the state goes through JSON before it."""
        self.now = cause.at if now is None else now
        answer = advance(self.program, orjson.loads(orjson.dumps(self.state)), cause, self.now, quietly=quietly)
        self.state, self.wake_at = answer.state, answer.wake_at
        found = list(answer.decisions)
        self.log += found
        self.effects += answer.effects
        self.emits += answer.emits
        return found

    def to(self, at: str | int) -> Person:
        """Wakes the contact whenever it asked for it, up to and including `at`."""
        until = self._ms(at)
        while self.wake_at is not None and self.wake_at <= until:
            self.feed(Wake(self.contact, self.wake_at))
        self.now = until
        return self

    def event(self, name: str, subject: str | None = None, *, at: str | int | None = None, now: str | int | None = None, id: str | None = None,
              **data: Any) -> list[Decision]:
        """Something happens: at `at`, told at `now`; both default to the clock."""
        received = self._ms(now if now is not None else at)
        self.to(received)
        self.count += 1
        record = {"id": id or f"e{self.count}", "event": name, "contact": self.contact, "at": "2026-01-01T00:00:00Z", "subject": subject,
                  "data": data}
        event = read_event(self.program.model, record, self.zone)
        return self.feed(event._replace(at=self._ms(at) if at is not None else received), received)

    def set(self, *, at: str | int | None = None, quietly: bool = False, segments: Any = None, **attributes: Any) -> list[Decision]:
        """Attributes change; `consent__email` is consent.email."""
        moment = self._ms(at)
        self.to(moment)
        self.count += 1
        record: dict[str, Any] = {"id": self.contact, **{name.replace("__", "."): value for name, value in attributes.items()}}
        if segments is not None:
            record["segments"] = segments
        return self.feed(read_contact(self.program.model, record, moment, f"c{self.count}"), moment, quietly)

    def late(self, at: str | int) -> list[Decision]:
        """The service was down: one wake-up at `at` for all that was due."""
        moment = self._ms(at)
        return self.feed(Wake(self.contact, moment), moment)

    # ── what came out ──

    def actions(self, action: str | None = None) -> list[Any]:
        """Primaries of the actions that were done."""
        return [item.primary for item in self.log if item.kind == "action" and action in (None, item.action)]

    def times(self, kind: str = "action", zone: str = "UTC") -> list[str]:
        """When decisions of a kind were made, as local text."""
        from datetime import datetime
        from zoneinfo import ZoneInfo

        return [datetime.fromtimestamp(item.at / 1000, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M") for item in self.log if item.kind == kind]

    def outcomes(self) -> list[tuple[str, Any]]:
        return [(item.outcome, item.primary) for item in self.log if item.outcome and item.kind in ("action", "skip")]

    def reasons(self, kind: str) -> list[str]:
        return [item.reason for item in self.log if item.kind == kind]

    def fired(self) -> list[str]:
        return [item.rule or item.campaign for item in self.log if item.kind == "action"]
