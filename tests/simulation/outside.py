"""What surrounds the engine and goes wrong: providers, the runner's deadline, crashes, a locked file. All from the seed."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from rules_engine.actions import Action, Call, Outcome
from rules_engine.clock import VirtualClock
from rules_engine.host import Host
from rules_engine.service.runner import Work, perform
from rules_engine.store.memory import MemoryStore
from rules_engine.store.port import StoreError
from tests.engine import kit


class Crash(BaseException):
    """The process is gone. No BaseException handler of the engine may survive it, so it is raised at fault points only."""


class Hang(Exception):
    """A plugin that never comes back."""


def chance(*what: object) -> float:
    """A number in [0, 1) that depends on `what` only."""
    return int.from_bytes(hashlib.blake2b(repr(what).encode(), digest_size=6).digest(), "big") / 2**48


class Faults:
    """Called at each named point and, on SQLite, around each statement. Armed with a countdown, it ends the process or locks the file."""

    def __init__(self, tally: Counter) -> None:
        self.tally = tally
        self.left, self.kind = 0, ""
        self.statements = 0
        self.dying = False  # the provider's doing: it took a message, and the process ends before that is written down

    def arm(self, kind: str, countdown: int) -> None:
        """kind: crash | locked (at a point), statement (a crash at a statement)."""
        self.left, self.kind = countdown, kind

    def off(self) -> None:
        self.left, self.kind, self.dying = 0, "", False

    def __call__(self, point: str) -> None:
        if self.dying and point == "dispatch.after_call":
            self.off()
            self._crash("accepted, then " + point)
        if self.kind == "locked" and point.endswith("before_commit") or self.kind == "crash":
            self.left -= 1
            if self.left <= 0:
                kind = self.kind
                self.off()
                if kind == "crash":
                    self._crash(point)
                self.tally["fault: locked"] += 1
                raise StoreError("the database is locked", kind="locked")

    def statement(self) -> None:
        """Before and after each statement."""
        if self.kind == "statement":
            self.left -= 1
            if self.left <= 0:
                self.off()
                self._crash("a statement")

    def _crash(self, place: str) -> None:
        self.tally["crashes"] += 1
        self.tally[f"crash at {place}"] += 1
        raise Crash(place)


class Wire:
    """SQLite's connection with a fault before and after each statement."""

    def __init__(self, raw: Any, faults: Faults) -> None:
        self._raw, self._faults = raw, faults

    def execute(self, *arguments: Any) -> Any:
        if arguments[0] == "ROLLBACK":  # what the file does by itself when a process is gone
            return self._raw.execute(*arguments)
        self._faults.statement()
        done = self._raw.execute(*arguments)
        if arguments[0] != "COMMIT":
            self._faults.statement()
        return done

    def executemany(self, *arguments: Any) -> Any:
        self._faults.statement()
        done = self._raw.executemany(*arguments)
        self._faults.statement()
        return done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


_POINTS = {"record_events": "record", "commit": "pump", "claim_effects": "claim", "settle": "settle", "quiet_now": "quiet",
           "unknown_after_restart": "restart", "record_program": "program"}


class FragileMemory:
    """The store in memory with SQLite's fault points around its verbs: it outlives the processes that use it."""

    def __init__(self, store: MemoryStore, faults: Faults) -> None:
        self.inner, self._faults = store, faults

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self.inner, name)
        point = _POINTS.get(name)
        if point is None:
            return verb

        def guarded(*arguments: Any, **named: Any) -> Any:
            self._faults(point + ".before_commit")
            done = verb(*arguments, **named)
            self._faults(point + ".after_commit")
            return done

        return guarded


BEHAVIOUR = (  # (share, what it does); the rest accepts
    (0.04, "retry"), (0.03, "retry_after"), (0.02, "raise"), (0.02, "take, raise"), (0.015, "hang"), (0.015, "take, hang"),
    (0.015, "take, nonsense"), (0.03, "take, crash"), (0.03, "slow"), (0.02, "fail"), (0.01, "lie: failed"), (0.01, "lie: accepted"),
)


class Provider:
    """The world at the other end. `took`: how often it acted on each key; `calls`: (time, key, action, contact) of each call."""

    def __init__(self, seed: int, clock: VirtualClock, faults: Faults, tally: Counter, kind: str) -> None:
        self.seed, self.clock, self.faults, self.tally, self.kind = seed, clock, faults, tally, kind
        self.quiet = kind == "faultless"
        self.took: Counter[str] = Counter()
        self.calls: list[tuple[int, str, str, str, str]] = []
        self.doubtful: set[str] = set()  # keys about which it told the truth to nobody, or nothing at all
        self.lied: set[str] = set()
        self.watch: Callable[[Call], None] = lambda call: None
        self.patience: Callable[[int], int] = lambda wanted: wanted

    def perform(self, call: Call) -> Outcome:
        """One hand-over."""
        self.watch(call)
        what = self._behaviour(call)
        self.tally[f"provider: {what}"] += 1
        self.calls.append((self.clock.now(), call.key, call.action, str(call.contact.get("id")), what))
        if what in ("accept", "slow") or what.startswith("take") or what == "lie: failed":
            self._take(call)
        if what.startswith("lie"):
            self.lied.add(call.key)
        if what in ("raise", "take, raise", "hang", "take, hang", "take, nonsense", "take, crash"):
            self.doubtful.add(call.key)
        return self._answer(what, call)

    def _take(self, call: Call) -> None:
        if call.action == "webhook.post" and self.took[call.key]:
            return  # it knows the key
        self.took[call.key] += 1

    def look_up(self, call: Call) -> Outcome:
        """What the CRM says of a hand-over whose outcome is unknown: the truth, when it can be reached."""
        if not self.quiet and chance(self.seed, call.key, "look up", self.clock.now()) < 0.3:
            self.tally["look-up: no answer"] += 1
            return Outcome("unknown", "out of reach")
        self.tally["look-up: answered"] += 1
        return Outcome("accepted", "there it is") if self.took[call.key] else Outcome("retry", "it never arrived")

    def _answer(self, what: str, call: Call) -> Outcome:
        if what in ("raise", "take, raise"):
            raise ConnectionResetError("the line is dead")
        if what in ("hang", "take, hang"):
            raise Hang
        if what == "take, crash":
            self.faults.dying = True
        if what == "slow":
            self.clock.sleep(self.patience(5_000))
        if what == "take, nonsense":
            return "250 OK"  # type: ignore[return-value]
        if what in ("fail", "lie: failed"):
            return Outcome("failed", "no such mailbox")
        if what == "retry":
            return Outcome("retry", "try later")
        if what == "retry_after":
            return Outcome("retry", "429", retry_after=60 + 3_600 * chance(call.key, "after"))
        return Outcome("accepted", "taken", f"id-{call.key}")

    def _behaviour(self, call: Call) -> str:
        if self.quiet:
            return "accept"
        roll = chance(self.seed, call.key, call.attempt)
        for share, what in BEHAVIOUR:
            if roll < share:
                return what
            roll -= share
        return "accept"

    def host(self) -> Host:
        """The real plugins' words with this provider behind each. webhook.post knows its keys for an hour, crm.push can be asked, the
        others can't tell."""
        real = kit.plugins()
        actions = {}
        for name, action in real.actions.items():
            if action.perform is not None:
                kind = {"webhook.post": "key", "crm.push": "lookup"}.get(name, "none")
                action = dataclasses.replace(action, perform=self.perform, idempotency=kind, window=3_600.0 if kind == "key" else 0.0,
                                             timeout=20.0, lookup=self.look_up if kind == "lookup" else None)
            actions[name] = action
        events = real.events if self.kind == "wild" else {}  # without those events no outcome comes back as news
        return Host(actions, events, real.providers)


class Runner:
    """Calls in this thread; a plugin that hangs costs its time-out in virtual time."""

    workers = 2

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def run(self, work: Sequence[Work]) -> list[Outcome]:
        """See rules_engine.service.runner.Runner."""
        return [self._one(action, call) for action, call in work]

    def _one(self, action: Action | None, call: Call) -> Outcome:
        outcome = perform(action, call)
        if outcome.detail.startswith("the plugin raised Hang"):
            assert action is not None
            self._provider.clock.sleep(self._provider.patience(int(action.timeout * 1000)))
            return Outcome("unknown", f"no answer within {action.timeout:g} s; the call may still be running")
        return outcome
