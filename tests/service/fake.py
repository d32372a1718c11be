"""A small deterministic engine with the signature of the real one, and a provider that lies on demand."""

from __future__ import annotations

from typing import NamedTuple

from rules_engine.actions import Action, Call, Outcome
from rules_engine.decisions import Decision, Effect
from rules_engine.facts import ContactChange, Event
from rules_engine.host import Host
from rules_engine.service.pump import Engine

HOUR = 3_600_000
DAY = 24 * HOUR


class Answer(NamedTuple):
    """The real engine answers with an object of its own too."""

    state: dict
    wake_at: int | None
    decisions: list
    effects: list
    emits: list
    cancels: list = []


class Program(NamedTuple):
    digest: str = "p1"
    idle: int = 3 * DAY  # silence after which a contact is written to


class Refusal(Exception):
    pass


def new_state(contact, created):
    return {"id": contact, "since": created, "clock": created, "n": 0, "sum": 0, "a": {}, "timers": {}, "seen": []}


def advance(program, state, cause, now):
    """n, sum: counted over events. Event names: tick, later (a timer), send (an effect), refer (an event for another contact),
    echo (one for itself), boom (refused), crash (a fault of the engine), past (asks to be woken in the past)."""
    now = max(now, state["clock"])
    decisions, effects, emits = [], [], []

    def decide(kind, at, cause_id, **params):
        decisions.append(
            Decision(
                at,
                state["id"],
                "fake",
                None,
                None,
                str(state["n"]),
                kind,
                None,
                None,
                params,
                "done",
                f"n is {state['n']}",
                (("n", state["n"]),),
                cause_id,
                ("fake.camp", 0),
            )
        )

    def send(at, name, expires=None):
        state["n"] += 1
        effects.append(
            Effect(
                f"{state['id']}/{state['n']}",
                state["id"],
                "fake.send",
                name,
                {"n": state["n"]},
                "fake",
                "s",
                None,
                "email",
                "marketing",
                at,
                expires,
            )
        )
        decide("action", at, "effect", name=name)

    for name, due in sorted(state["timers"].items(), key=lambda item: (item[1], item[0])):
        if due > now:
            break
        del state["timers"][name]
        state["n"] += 1
        decide("wait", due, "timer", name=name)
        if name != "past":
            send(due, name)
    state["clock"] = now
    if isinstance(cause, ContactChange):
        state["a"].update(cause.attributes)
    elif isinstance(cause, Event):
        state["n"] += 1
        state["sum"] += cause.data.get("total", 0)
        state["seen"] = (state["seen"] + [cause.id])[-5:]
        state["timers"]["idle"] = now + program.idle
        decide("enter", now, cause.id, sum=state["sum"])
        if cause.name == "later":
            state["timers"][f"later {cause.id}"] = now + cause.data["ms"]
        elif cause.name == "send":
            send(now, cause.data.get("name", "hello"), cause.data.get("expires"))
        elif cause.name == "refer":
            emits.append(Event(f"{cause.id}/refer", "tick", cause.data["to"], now, None, {"total": 1000}))
        elif cause.name == "echo":
            emits.append(Event(f"{cause.id}/echo", "echoed", state["id"], now))
        elif cause.name == "boom":
            raise Refusal("rules a and b feed each other without end")
        elif cause.name == "crash":
            raise KeyError("nobody")
        elif cause.name == "huge":
            decide("enter", 2**70, cause.id)
        elif cause.name == "past":
            state["timers"]["past"] = now + HOUR
            state["stuck"] = True
    wake = min(state["timers"].values(), default=None)
    if state.get("stuck") and cause.__class__.__name__ == "Wake":
        wake = now
    return Answer(state, wake, decisions, effects, emits)


ENGINE = Engine(advance, new_state, Refusal)


def attributes(state):
    return state["a"]


class Provider:
    """What is at the other end of `fake.send`. `script`: what it does at each call, in turn; then it accepts."""

    def __init__(self, script=(), idempotency="none", timeout=0.2, window=0.0):
        self.script, self.calls, self.keys = list(script), [], []
        action = Action(
            "fake.send",
            "Send.",
            perform=self.perform,
            channel="email",
            message_class="marketing",
            idempotency=idempotency,
            timeout=timeout,
            window=window,
        )
        self.host = Host({"fake.send": action}, {}, {"fake.send": "fake"})

    def perform(self, call: Call):
        self.calls.append(call)
        step = self.script.pop(0) if self.script else "accepted"
        if callable(step):
            step = step(call)
        if isinstance(step, BaseException):
            raise step
        if step == "accepted":
            self.keys.append(call.key)
            return Outcome("accepted", "taken", f"id-{call.key}")
        return step
