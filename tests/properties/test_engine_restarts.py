"""Restarts, wake-ups and neighbours change nothing: the same history gives the same decisions, to the byte (HOUSE.md, the core's laws)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rules_engine.engine import advance, members, new_state
from rules_engine.facts import ContactChange, Event, Wake
from tests.engine import kit

EXAMPLES = int(os.environ.get("CAMP_ENGINE_EXAMPLES", "60"))
START = kit.ms("2026-03-20 10:00")  # the clocks change within the histories
MINUTE = 60_000

PROJECT = """
EVENT order.placed WITH order_id: text, total: number
EVENT cart.updated WITH cart_id: text, total: number
EVENT page.viewed
EVENT chained WITH n: number
ATTRIBUTE level: number
ATTRIBUTE renewal: datetime
ATTRIBUTE birthday: birthday
WORKSPACE
  TIMEZONE "Europe/Prague"
  LIMIT 2 email PER 3 days ELSE HOLD UP TO 2 days
  QUIET FROM 20:00 TO 08:00 ELSE HOLD
  ON LATE > 3650 days RUN
END
FACT contact.spend: number IS SUM event.total OF order.placed WITHIN 5 days
SEGMENT spender IS contact.spend >= 100
SEGMENT silent IS NOT DID order.placed WITHIN 3 days
SEGMENT active IS DID page.viewed WITHIN 36 hours AT LEAST 2 TIMES
SEGMENT due_soon IS now >= contact.renewal - 2 days
RULE points
  WHEN page.viewed "/pricing" OR page.viewed "/plans"
    THEN points.add 5
END
RULE hot
  AT MOST 1 TIME PER 2 days
  WHEN contact.points BECOMES >= 10
    THEN event.emit chained, n: contact.points
    THEN segment.add vip
END
SEGMENT vip
RULE chain
  WHEN chained WHERE event.n >= 10
    THEN contact.set level: event.n
END
RULE cools
  WHEN contact LEAVES active
    THEN points.subtract 4
END
RULE daily
  WHEN EVERY day AT 02:30 WHERE contact IN spender
    THEN points.add 1
END
RULE renewal
  WHEN 3 days BEFORE contact.renewal AT 09:00
    THEN email.send "renewal"
END
RULE birthday
  WHEN ANNIVERSARY OF contact.birthday AT 10:00
    THEN email.send "birthday", class: "transactional"
END
RULE quiet_customer
  WHEN NOT order.placed FOR 4 days
    THEN log.write "silence"
END
CAMPAIGN cart
  FOR EACH event.cart_id
  MODE RESTART
  EXIT "bought" WHEN order.placed WHERE event.total > 50
    THEN log.write "bought instead"
  EXIT WHEN NOT page.viewed FOR 6 days
  GOAL order.placed WITHIN 5 days
  WHEN cart.updated WHERE event.total >= 20
    AFTER 1 hour
    THEN email.send "cart", cart: event.cart_id
    WAIT UNTIL email.clicked "cart" UP TO 1 day
      THEN webhook.post "https://x.example/", body: {cart: event.cart_id}
    OTHERWISE
      IF contact IN spender
        THEN sms.send "hello {event.cart_id}"
      ELSE
        THEN email.send "discount"
      END
    END
END
CAMPAIGN nurture
  DELIVER BETWEEN 09:00 AND 17:00 ON mon-fri
  REENTRY AFTER 10 days
  WHEN contact ENTERS active
    REPEAT EVERY 2 days AT 11:00 UP TO 3 TIMES WHILE NOT DID order.placed SINCE START
      THEN email.send "tip"
    END
    WAIT UNTIL contact IN due_soon OR contact.level CHANGES OR 1 day AFTER contact.renewal UP TO 9 days
      THEN log.write "moved"
    END
    SPLIT
      50% one
        THEN points.add 1
      50% two
        AFTER 30 minutes
        THEN points.add 2
    END
END
CAMPAIGN queueing
  MODE QUEUE
  WHEN page.viewed "/q"
    AFTER 7 hours
    THEN log.write "queued {event.id}"
END
"""
_program: Any = None


def project() -> Any:
    global _program
    _program = _program or kit.program(PROJECT, events=False)
    return _program


_what = st.one_of(
    st.tuples(st.just("page.viewed"), st.sampled_from(["/pricing", "/plans", "/q", "/other"]), st.just({})),
    st.tuples(st.just("order.placed"), st.none(), st.builds(lambda total: {"order_id": "o", "total": total}, st.integers(10, 90))),
    st.tuples(st.just("cart.updated"), st.none(), st.builds(lambda cart, total: {"cart_id": cart, "total": total}, st.sampled_from("AB"), st.integers(10, 90))),
    st.tuples(st.just("email.clicked"), st.just("cart"), st.builds(lambda cart: {} if cart is None else {"cart_id": cart}, st.sampled_from(["A", "B", None]))),
    st.tuples(st.just("email.bounced"), st.just("cart"), st.just({"kind": "soft"})),
    st.tuples(st.just("set"), st.just("points"), st.integers(0, 20)),
    st.tuples(st.just("set"), st.just("timezone"), st.sampled_from(["Europe/Prague", "America/New_York", "Asia/Tokyo", None])),
    st.tuples(st.just("set"), st.just("renewal"), st.one_of(st.none(), st.integers(0, 20).map(lambda days: START + days * 1440 * MINUTE))),
    st.tuples(st.just("set"), st.just("birthday"), st.sampled_from(["--03-29", "--04-02", None])),
)
histories = st.lists(st.tuples(st.sampled_from([0, 1, 17, 60, 61, 420, 600, 1440, 2000, 4000]), _what, st.sampled_from([0, 0, 0, 30, 3000])), max_size=22)


def causes(history: list[Any], contact: str = "ana") -> list[Any]:
    """(cause, now) of a history. Some events come late."""
    now, found = START, [(ContactChange(f"{contact}/c", contact, START, {"email": "a@x.com", "phone": "+420123", "consent.email": True}), START)]
    for number, (gap, (name, subject, data), late) in enumerate(history):
        now += gap * MINUTE
        if name == "set":
            found.append((ContactChange(f"{contact}/{number}", contact, now, {subject: data}), now))
        else:
            found.append((Event(f"{contact}/{number}", name, contact, now - late * MINUTE, subject, data), now))
    return found


class Run:
    """One contact over a history. `shown` is all that leaves the engine."""

    def __init__(self, contact: str = "ana", through_json: bool = True) -> None:
        self.state = new_state(contact, START)
        self.contact, self.through_json = contact, through_json
        self.wake_at: int | None = None
        self.shown: list[Any] = []

    def call(self, cause: Any, now: int) -> None:
        state = orjson.loads(orjson.dumps(self.state)) if self.through_json else self.state
        answer = advance(project(), state, cause, now)
        self.state, self.wake_at = answer.state, answer.wake_at
        self.shown += [tuple(item) for item in answer.decisions] + [tuple(item) for item in answer.effects]

    def due(self, until: int) -> None:
        while self.wake_at is not None and self.wake_at <= until:
            self.call(Wake(self.contact, self.wake_at), self.wake_at)

    def bytes(self) -> bytes:
        return orjson.dumps(sorted(self.shown, key=_order), default=str) + orjson.dumps(self.state, option=orjson.OPT_SORT_KEYS)


def _order(item: Any) -> Any:
    """Decisions and effects, each in their own order: one call of advance gives both, two calls interleave them."""
    return 0 if isinstance(item[0], int) else 1


def play(history: list[Any], *, wakes: str, through_json: bool = True, spurious: tuple[int, ...] = ()) -> Run:
    """wakes: at each due time, or coalesced into the next cause. spurious: minutes at which wake-ups come that nobody asked for."""
    run = Run(through_json=through_json)
    todo: list[Any] = [(now, 1, number, cause) for number, (cause, now) in enumerate(causes(history))]
    todo += [(START + minute * MINUTE, 0, number, Wake("ana", START + minute * MINUTE)) for number, minute in enumerate(spurious)]
    for now, _, _, cause in sorted(todo, key=lambda item: item[:3]):
        if run.wake_at is None and not run.shown and isinstance(cause, Wake):
            continue
        if wakes == "due":
            run.due(now)
        run.call(cause, now)
    end = START + 60 * 1440 * MINUTE
    if wakes == "due":
        run.due(end)
    run.call(Wake("ana", end), end)
    return run


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(histories, st.lists(st.integers(1, 30_000), max_size=8))
def test_restarts_and_wake_ups_change_nothing(history: list[Any], spurious: list[int]) -> None:
    wanted = play(history, wakes="due")
    assert play(history, wakes="due", through_json=False).bytes() == wanted.bytes(), "state as JSON"
    assert play(history, wakes="due", spurious=tuple(spurious)).bytes() == wanted.bytes(), "wake-ups that nobody asked for"
    assert play(history, wakes="coalesced").bytes() == wanted.bytes(), "wake-ups only with the next event"
    assert play(history, wakes="due").bytes() == wanted.bytes(), "the same again"


@settings(max_examples=EXAMPLES // 2, deadline=None, suppress_health_check=list(HealthCheck))
@given(histories, histories)
def test_other_contacts_change_nothing(mine: list[Any], others: list[Any]) -> None:
    alone, beside, bob = Run(), Run(), Run("bob")
    for cause, now in causes(mine):
        alone.due(now)
        alone.call(cause, now)
    todo = [(now, number, beside, cause) for number, (cause, now) in enumerate(causes(mine))]
    todo += [(now, number, bob, cause) for number, (cause, now) in enumerate(causes(others, "bob"))]
    for now, _, run, cause in sorted(todo, key=lambda item: item[:2]):
        run.due(now)
        run.call(cause, now)
    assert alone.bytes() == beside.bytes()


@settings(max_examples=EXAMPLES // 2, deadline=None, suppress_health_check=list(HealthCheck))
@given(histories, st.integers(0, 30_000))
def test_segments_are_what_their_definition_says_at_any_time(history: list[Any], minutes: int) -> None:
    """What was kept up to date step by step equals what a contact that only now meets the program's definitions is told."""
    run = Run()
    end = START
    for cause, now in causes(history):
        run.due(now)
        run.call(cause, now)
        end = now
    moment = end + minutes * MINUTE
    run.due(moment)
    run.call(Wake("ana", moment), moment)
    fresh = {**orjson.loads(orjson.dumps(run.state)), "s": {name: at for name, at in run.state["s"].items() if name == "vip"}, "p": "another program"}
    fresh["a"].pop("spend", None)
    fresh["t"] = {name: at for name, at in fresh["t"].items() if name[0] != "f"}
    fresh["i"] = {}
    again = advance(project(), fresh, Wake("ana", moment), moment)
    assert members(again.state) == members(run.state)
    assert again.state["a"].get("spend", 0) == run.state["a"].get("spend", 0)
    kept = {name: at for name, at in run.state["t"].items() if name[0] == "f"}
    assert {name: at for name, at in again.state["t"].items() if name[0] == "f"} == kept, "and turns at the same moments"


def _digest() -> str:
    """What a fixed long history gives, for another process."""
    import hashlib
    import random

    dice = random.Random(7)
    history = []
    for number in range(150):
        name, subject, data = dice.choice([
            ("page.viewed", "/pricing", {}), ("page.viewed", "/q", {}), ("order.placed", None, {"order_id": "o", "total": number}),
            ("cart.updated", None, {"cart_id": "AB"[number % 2], "total": 30 + number % 40}), ("set", "points", number % 23),
            ("email.clicked", "cart", {"cart_id": "A"})])
        history.append((dice.choice([1, 60, 700, 3000]), (name, subject, data), 0))
    return hashlib.sha256(play(history, wakes="due").bytes()).hexdigest()


@pytest.mark.parametrize("seed", ["0", "4711"])
def test_the_same_bytes_in_every_process(seed: str) -> None:
    code = "from tests.properties.test_engine_restarts import _digest; print(_digest())"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True,
                           check=True)
    assert found.stdout.strip() == _digest()
