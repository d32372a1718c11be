"""Random rules over random histories: `advance` fires exactly what the naive oracle fires (tests/oracle.py)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import orjson
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rules_engine.engine import SetAside, advance, members, new_state
from rules_engine.facts import ContactChange, Event, Wake
from tests.engine import kit
from tests.oracle import Endless, Oracle

EXAMPLES = int(os.environ.get("CAMP_ENGINE_EXAMPLES", "250"))
# Shrinking takes minutes with an engine this naive beside it: only where it is asked for.
PHASES = tuple(phase for phase in Phase if phase is not Phase.shrink or os.environ.get("CAMP_ENGINE_SHRINK"))
START = kit.ms("2026-03-02 10:00")
MINUTE = 60_000

HEAD = """
EVENT a WITH n: number
EVENT b WITH n: number
EVENT c WITH n: number
ATTRIBUTE level: number
SEGMENT m
"""

_number = st.integers(0, 3)
_window = st.sampled_from(["20 minutes", "45 minutes", "90 minutes", "2 hours", "1 day"])
_event = st.sampled_from(["a", "b", "c"])
_op = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])


def _history(draw: st.DrawFn) -> str:
    event = draw(_event)
    where = draw(st.sampled_from(["", "", f" WHERE event.n {draw(_op)} {draw(_number)}"]))
    window = draw(st.sampled_from(["", f" WITHIN {draw(_window)}", f" WITHIN {draw(_window)}"]))
    return f"{event}{where}{window}"


@st.composite
def conditions(draw: st.DrawFn, segments: tuple[str, ...], depth: int = 2, event: bool = False) -> str:
    kinds = ["points", "level", "did", "did", "count", "sum", "last", "member"]
    if event:
        kinds += ["event", "event", "event"]
    if depth:
        kinds += ["and", "or", "not"]
    kind = draw(st.sampled_from(kinds))
    if kind == "points":
        return f"contact.points {draw(_op)} {draw(st.integers(0, 12))}"
    if kind == "level":
        return draw(st.sampled_from([f"contact.level {draw(_op)} {draw(_number)}", "contact.level IS SET", "contact.level < contact.points"]))
    if kind == "event":
        return draw(st.sampled_from([f"event.n {draw(_op)} {draw(_number)}", f"event.n = {draw(_number)}", "event.n >= contact.level"]))
    if kind == "did":
        times = draw(st.sampled_from(["", "", " AT LEAST 2 TIMES", " AT LEAST 3 TIMES"]))
        return f"DID {_history(draw)}{times}"
    if kind == "count":
        return f"COUNT OF {_history(draw)} {draw(_op)} {draw(_number)}"
    if kind == "sum":
        function = draw(st.sampled_from(["SUM", "SUM", "MAX", "MIN", "AVG", "COUNT DISTINCT"]))
        return f"{function} event.n OF {_history(draw)} {draw(_op)} {draw(st.integers(0, 6))}"
    if kind == "last":
        return f"{draw(st.sampled_from(['LAST', 'FIRST']))} event.n OF {_history(draw)} {draw(_op)} {draw(_number)}"
    if kind == "member":
        return f"contact {draw(st.sampled_from(['IN', 'NOT IN']))} {draw(st.sampled_from(segments))}"
    if kind == "not":
        return f"NOT ({draw(conditions(segments, depth - 1, event))})"
    return f"({draw(conditions(segments, depth - 1, event))}) {kind.upper()} ({draw(conditions(segments, depth - 1, event))})"


@st.composite
def triggers(draw: st.DrawFn, segments: tuple[str, ...]) -> str:
    kind = draw(st.sampled_from(["event", "event", "event", "segment", "segment", "becomes", "changes"]))
    where = draw(st.sampled_from(["", "", " WHERE"]))
    if kind == "event":
        if not where:
            return draw(_event)
        return f"{draw(_event)} WHERE {draw(conditions(segments, 1, True))}"
    tail = f"{where} {draw(conditions(segments, 1))}" if where else ""
    if kind == "segment":
        return f"contact {draw(st.sampled_from(['ENTERS', 'LEAVES']))} {draw(st.sampled_from(segments))}{tail}"
    if kind == "becomes":
        return f"contact.{draw(st.sampled_from(['points', 'total']))} BECOMES {draw(st.sampled_from(['>=', '<', '=']))} {draw(st.integers(1, 9))}{tail}"
    return f"contact.level CHANGES{draw(st.sampled_from(['', ' TO 2', ' FROM 1', ' FROM 1 TO 2']))}{tail}"


@st.composite
def actions(draw: st.DrawFn, event: bool) -> str:
    kind = draw(st.sampled_from(["points", "set", "segment", "emit", "log"]))
    if kind == "points":
        return f"THEN points.add {draw(st.sampled_from([1, 2, 5]))}"
    if kind == "set":
        return f"THEN contact.set level: {draw(st.sampled_from(['0', '1', '2', '3', 'event.n'] if event else ['0', '1', '2', '3']))}"
    if kind == "segment":
        return f"THEN segment.{draw(st.sampled_from(['add', 'remove']))} m"
    if kind == "emit":
        return f"THEN event.emit {draw(st.sampled_from(['b', 'c', 'c']))}, n: {draw(st.sampled_from(['1', '2', 'event.n'] if event else ['1', '2']))}"
    return 'THEN log.write "x"'


@st.composite
def programs(draw: st.DrawFn) -> str:
    segments: tuple[str, ...] = ("m",)
    lines = [HEAD, f"FACT contact.total: number IS SUM event.n OF a WITHIN {draw(_window)}"]
    for name in ("d1", "d2", "d3"):
        lines.append(f"SEGMENT {name} IS {draw(conditions(segments))}")
        segments += (name,)
    for number in range(draw(st.integers(3, 6))):
        lines.append(f"RULE r{number}")
        if draw(st.integers(0, 3)) == 0:
            lines.append(f"  PRIORITY {draw(st.integers(1, 3))}")
        alternatives = [draw(triggers(segments))]
        if draw(st.integers(0, 4)) == 0:
            # An event or an edge, not both: whether a rule that an edge set off may answer the event too is left open.
            if alternatives[0].split()[0] not in ("a", "b", "c"):
                alternatives.append("contact ENTERS m")
            elif " " not in alternatives[0]:
                alternatives.append(draw(_event))
        lines.append("  WHEN " + " OR ".join(alternatives))
        event = all(item.split()[0] in ("a", "b", "c") for item in alternatives)
        for _ in range(draw(st.integers(1, 3))):
            if draw(st.integers(0, 3)) == 0:
                lines.append(f"    IF {draw(conditions(segments, 1, event))}")
                lines.append("      " + draw(actions(event)))
                if draw(st.booleans()):
                    lines += ["    ELSE", "      " + draw(actions(event))]
                lines.append("    END")
            else:
                lines.append("    " + draw(actions(event)))
        lines.append("END")
    return "\n".join(lines) + "\n"


happenings = st.lists(st.tuples(
    st.sampled_from([0, 1, 5, 20, 25, 45, 60, 90, 120, 1440]),
    st.one_of(st.tuples(st.just("event"), _event, _number), st.tuples(st.just("event"), _event, _number),
              st.tuples(st.just("set"), st.sampled_from(["points", "level"]), st.integers(0, 9)))), min_size=7, max_size=14)


class Engine:
    """`advance` behind the oracle's methods."""

    def __init__(self, compiled: object) -> None:
        self.program = compiled
        self.state = new_state("ana", START)
        self.log: list[object] = []
        self.count = 0
        self._call(ContactChange("c0", "ana", START, {}), START, quietly=True)

    def _call(self, cause: object, now: int, quietly: bool = False) -> int | None:
        answer = advance(self.program, orjson.loads(orjson.dumps(self.state)), cause, now, quietly=quietly)
        self.state = answer.state
        self.log += [(item.at, item.rule, item.action, item.primary, dict(item.params)) for item in answer.decisions if item.kind == "action"]
        return answer.wake_at

    def go(self, at: int, what: tuple[str, str, int]) -> None:
        self.count += 1
        kind, name, value = what
        if kind == "event":
            self._call(Event(f"e{self.count}", name, "ana", at, None, {"n": value}), at)
        else:
            self._call(ContactChange(f"c{self.count}", "ana", at, {name: value}), at)

    def wait(self, until: int) -> None:
        self._call(Wake("ana", until), until)


@settings(max_examples=EXAMPLES, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(programs(), happenings)
def test_the_engine_fires_what_the_oracle_fires(text: str, history: list) -> None:
    compiled = kit.program(text, events=False)
    engine, oracle = Engine(compiled), Oracle(compiled.model, START)
    now = START
    try:
        for gap, what in history:
            now += gap * MINUTE
            oracle.wait(now)
            if what[0] == "event":
                oracle.event(now, what[1], None, {"n": what[2]})
            else:
                oracle.set(now, {what[1]: what[2]})
            engine.go(now, what)
            _same(engine, oracle, text)
        for _ in range(30):
            now += 55 * MINUTE
            oracle.wait(now)
            engine.wait(now)
            _same(engine, oracle, text)
    except (Endless, SetAside):
        return


def _same(engine: Engine, oracle: Oracle, text: str) -> None:
    found = [item for item in engine.log]
    wanted = [item for item in oracle.log]
    assert found == wanted, f"{text}\nengine {found[-9:]}\noracle {wanted[-9:]}"
    facts = oracle.facts()
    assert members(engine.state) == {name[2:] for name, value in facts.items() if name[:2] == "s:" and value}
    assert engine.state["a"].get("total", 0) == facts["a:total"]
    assert engine.state["a"].get("points") == oracle.attributes.get("points")
