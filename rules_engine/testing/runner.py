"""Runs TEST blocks: the real engine, a virtual clock, and expectations held against what happened.

At each AT the clock moves there, and all that is due up to and including that moment happens before the statements under it. An
expectation takes the earliest thing that fits and that no expectation before it has taken, so that two EXPECTs need two messages.
Pure: results are records; the CLI renders them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rules_engine import engine
from rules_engine.decisions import MERGE, Decision
from rules_engine.diagnostics import Span
from rules_engine.engine import members, new_state
from rules_engine.engine.values import read_contact, read_event
from rules_engine.facts import ContactChange, Event
from rules_engine.model.meaning import field_type
from rules_engine.plan.expressions import to_duration
from rules_engine.runtime.calendar import DAY, add, format_local, format_utc, is_zone, parse_datetime
from rules_engine.syntax import nodes as n
from rules_engine.testing.simulator import Cause, World

LOOK_AHEAD = 400 * DAY  # how far a failed expectation looks for what came too late to count
MAX_LINES = 60  # of a timeline in a report; a longer one is cut in the middle

JOURNEY_KINDS = {"enters": "enter", "leaves": "exit", "completes": "complete"}


@dataclass(frozen=True, slots=True)
class Failure:
    """One expectation that did not hold, or a statement that could not be done. message: one sentence; notes: what came near;
    timeline: what happened instead, a line each, times in the contact's zone."""

    span: Span
    message: str
    notes: tuple[str, ...] = ()
    timeline: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TestResult:
    """What became of one TEST."""

    __test__ = False  # pytest collects classes named Test…

    name: str
    span: Span
    failures: tuple[Failure, ...] = ()
    decisions: tuple[Decision, ...] = field(default=(), repr=False)

    @property
    def passed(self) -> bool:
        return not self.failures


class _Cant(Exception):
    """A statement that can't be done as written; the text is one sentence."""


def run_tests(program: Any, tests: Iterable[n.Test]) -> Iterator[TestResult]:
    """Runs tests one after the other, each in a world of its own. Never raises for what the tests say."""
    for test in tests:
        yield run_test(program, test)


def run_test(program: Any, test: n.Test) -> TestResult:
    """Runs one test."""
    return _Run(program, test).result()


class _Run:
    """One test under way. `taken` holds the positions in `log` of decisions that an expectation has used up."""

    def __init__(self, program: Any, test: n.Test) -> None:
        self.program, self.model, self.test = program, program.model, test
        self.world = World(program, self._set_aside)
        self.log: list[Decision] = []
        self.taken: set[int] = set()
        self.failures: list[Failure] = []
        self.refusals: list[tuple[str, str, Span, str]] = []  # (contact, reason, place, sentence) of facts that were set aside
        self.zone = program.zone
        self.now = 0
        self.since = self.next_since = 0  # where in `log` the AT before began
        self.events = 0
        self.statement: n.Node = test

    def result(self) -> TestResult:
        try:
            self._play()
        except (_Cant, ValueError) as cant:  # ValueError: a moment or a zone that the calendar does not have
            self._fail(self.statement.span, str(cant))
        for contact, _, span, sentence in self.refusals:  # those that no EXPECT … REFUSED took
            self._fail(span, sentence, contact=contact)
        return TestResult(self.test.name, self.test.name_span, tuple(self.failures), tuple(self.log))

    # ── time and statements ──

    def _play(self) -> None:
        for number, at in enumerate(self.test.ats):
            self.statement = at
            moment = self._moment(at, number == 0)
            if number == 0:
                self.now = moment
                self._introduce()
            else:
                self.log += self.world.run(moment)
            self.now = moment
            self.since, self.next_since = self.next_since, len(self.log)
            for statement in at.statements:
                self.statement = statement
                self._do(statement)

    def _moment(self, at: n.At, first: bool) -> int:
        """When an AT is. Raises _Cant for one that lies before the AT before it."""
        if at.moment is not None:
            moment = parse_datetime(str(at.moment.value), self.zone)
            if not first and moment < self.now:
                raise _Cant(f"time runs forward: this is before {format_local(self.now, self.zone)}, the AT before it")
            return moment
        if first:
            raise _Cant("the first AT needs a date and a time, such as AT 2026-03-02 10:00")
        assert at.after is not None
        try:
            return add(self.now, _duration(self.model, at.after), self.zone, self.program.business_hours)
        except ValueError as error:
            raise _Cant(str(error)) from error

    def _introduce(self) -> None:
        """GIVEN tells how things are before the first AT: facts and segments follow from it, but nothing starts because of it."""
        for given in self.test.given:
            self.statement = given
            self._change(given.contact, given.values, quietly=True)
        self.log += self.world.run(self.now)

    def _do(self, statement: n.Node) -> None:
        if isinstance(statement, n.Happens):
            self._happen(statement)
        elif isinstance(statement, n.Sets):
            self._known(statement.contact)
            self._change(statement.contact, statement.values)
        elif isinstance(statement, n.Expect):
            _EXPECT[statement.kind](self, statement)

    def _happen(self, statement: n.Happens) -> None:
        self._known(statement.contact)
        self.events += 1
        subject = self._value(statement.subject, statement.contact) if statement.subject is not None else None
        record = {
            "id": f"{self.test.name} #{self.events}",
            "event": statement.event,
            "contact": statement.contact,
            "at": format_utc(self.now),
            "subject": subject,
            "data": {
                name: self._typed(value, field_type(self.model, name, (statement.event,)), statement.contact)
                for name, value in statement.values
            },
        }
        try:
            event = read_event(self.model, record, self.zone)
        except ValueError as error:
            raise _Cant(str(error)) from error
        self._act(event)

    def _change(self, contact: str, values: tuple[tuple[str, n.Node], ...], quietly: bool = False) -> None:
        record = {name: self._typed(value, self.model.attribute_type(name), contact) for name, value in values}
        for name in record.get("segments") or ():
            if name not in self.model.segments:
                raise _Cant(f"there is no segment `{name}`")
        try:
            change = read_contact(self.model, {"id": contact, **record}, self.now)
        except ValueError as error:
            raise _Cant(str(error)) from error
        self._act(change, quietly)

    def _act(self, cause: Event | ContactChange, quietly: bool = False) -> None:
        self.log += self.world.act(cause, self.now, quietly)
        self.log += self.world.run(self.now)  # what it caused for other contacts

    def _set_aside(self, cause: Cause, reason: str) -> None:
        name = (
            f"the event {cause.name}"
            if isinstance(cause, Event)
            else "a change of the contact"
            if isinstance(cause, ContactChange)
            else "a timer"
        )
        self.refusals.append((cause.contact, reason, self.statement.span, f"{name} was set aside: {reason}"))

    def _known(self, contact: str) -> None:
        if contact not in self.world.states:
            raise _Cant(f"there is no contact `{contact}` in this test; write GIVEN contact {contact} before the first AT")

    # ── values ──

    def _value(self, node: n.Node, contact: str) -> Any:
        """A written value as JSON, as an import would give it."""
        if isinstance(node, n.Literal):
            return f"{node.value // 60:02d}:{node.value % 60:02d}" if node.type == "time" else node.value
        if isinstance(node, n.List):
            return [self._value(item, contact) for item in node.items]
        if isinstance(node, n.Map):
            return {key: self._value(item, contact) for key, item in node.pairs}
        if isinstance(node, n.Duration):
            return _duration(self.model, node).text()
        return self._evaluate(node, contact)

    def _typed(self, node: n.Node, type_: str | None, contact: str) -> Any:
        """A written value as JSON of a type: moments are local in the workspace's zone, as everywhere in a TEST."""
        value = self._value(node, contact)
        if type_ == "datetime" and isinstance(value, str):
            try:
                return format_utc(parse_datetime(value, self.zone))
            except ValueError as error:
                raise _Cant(str(error)) from error
        return format_utc(value) if type_ == "datetime" and isinstance(value, int) else value

    def _evaluate(self, node: n.Node, contact: str) -> Any:
        state = self.world.states.get(contact) or new_state(contact, self.now)
        try:
            return engine.evaluate(self.program, node, state, self.now)
        except ValueError as error:
            raise _Cant(str(error)) from error

    # ── expectations ──

    def _free(self, contact: str | None, kind: str) -> Iterator[tuple[int, Decision]]:
        """Decisions of a kind that no expectation has taken, in order."""
        for position, decision in enumerate(self.log):
            if decision.kind == kind and position not in self.taken and (contact is None or decision.contact == contact):
                yield position, decision

    def gets(self, expect: n.Expect) -> None:
        assert expect.contact is not None and expect.action is not None
        self._known(expect.contact)
        moment = parse_datetime(str(expect.at.value), self.zone) if expect.at is not None else None
        for position, decision in self._free(expect.contact, "action"):
            if not self._differences(expect, decision) and (moment is None or decision.at == moment):
                self.taken.add(position)
                return
        zone = self._zone_of(expect.contact)
        when = f" at {format_local(moment, zone)}" if moment is not None else f" by {format_local(self.now, zone)}"
        self._fail(
            expect.span, f"{expect.contact} should have got {self._written(expect)}{when}", self._near(expect), expect.contact
        )

    def not_gets(self, expect: n.Expect) -> None:
        assert expect.contact is not None
        self._known(expect.contact)
        for _, decision in self._free(expect.contact, "action"):
            if not self._differences(expect, decision):
                at = format_local(decision.at, self._zone_of(expect.contact))
                self._fail(
                    expect.span,
                    f"{expect.contact} should not have got {self._written(expect)}, and got it at {at}",
                    (_because(decision),),
                    expect.contact,
                )
                return

    def misses(self, expect: n.Expect) -> None:
        assert expect.contact is not None
        self._known(expect.contact)
        skipped = []
        for position, decision in self._free(expect.contact, "skip"):
            if self._differences(expect, decision):
                continue
            if _says(decision, expect.because):
                self.taken.add(position)
                return
            skipped.append(decision)
        because = f' because "{expect.because}"' if expect.because else ""
        notes = [f"it was missed for another reason: {_because(decision)}" for decision in skipped[:3]] or self._near(expect)
        self._fail(expect.span, f"{expect.contact} should have missed {self._written(expect)}{because}", notes, expect.contact)

    def refused(self, expect: n.Expect) -> None:
        """A fact that was set aside: an event or a change that breaks its declaration."""
        assert expect.contact is not None
        mine = [refusal for refusal in self.refusals if refusal[0] == expect.contact]
        found = next((refusal for refusal in mine if (expect.because or "") in refusal[1]), None)
        if found is not None:
            self.refusals.remove(found)
            return
        because = f' because "{expect.because}"' if expect.because else ""
        notes = [f"what was refused: {reason}" for _, reason, _, _ in mine]
        self._fail(expect.span, f"something of {expect.contact} should have been refused{because}", notes, expect.contact)

    def journey(self, expect: n.Expect) -> None:
        assert expect.contact is not None and expect.target is not None
        self._known(expect.contact)
        if any(ruleset.name == expect.target and ruleset.is_campaign for ruleset in self.program.rulesets):
            self._decided(
                expect, JOURNEY_KINDS[expect.kind], {"enters": "entered", "leaves": "left", "completes": "completed"}[expect.kind]
            )
            return
        inside = expect.target in members(self.world.states[expect.contact])
        if inside != (expect.kind == "enters"):
            state = "is in it" if inside else "is not in it"
            self._fail(
                expect.span,
                f"{expect.contact} should have {'entered' if expect.kind == 'enters' else 'left'} the segment "
                f"{expect.target}, and {state}",
                (),
                expect.contact,
            )

    def goal(self, expect: n.Expect) -> None:
        assert expect.contact is not None
        self._known(expect.contact)
        self._decided(expect, "goal", "reached the goal of")

    def _decided(self, expect: n.Expect, kind: str, verb: str) -> None:
        """A decision of that kind by that campaign."""
        others = []
        for position, decision in self._free(expect.contact, kind):
            if decision.campaign != expect.target:
                continue
            if _says(decision, expect.because):
                self.taken.add(position)
                return
            others.append(decision)
        because = f' because "{expect.because}"' if expect.because else ""
        notes = [f"it happened for another reason: {_because(decision)}" for decision in others[:3]]
        self._fail(expect.span, f"{expect.contact} should have {verb} {expect.target}{because}", notes, expect.contact)

    def nothing(self, expect: n.Expect) -> None:
        first = 0 if expect.rest else self.since
        extra = [decision for position, decision in self._free(None, "action") if position >= first]
        if not extra:
            return
        notes = [
            f"{decision.contact} got {_action(decision)} at {format_local(decision.at, self._zone_of(decision.contact))}"
            for decision in extra[:5]
        ]
        more = f" and {len(extra) - 5} more" if len(extra) > 5 else ""
        since = "" if expect.rest else " since the AT before"
        self._fail(
            expect.span,
            f"nothing {'else ' if expect.rest else ''}should have happened{since}, and this did: {notes[0]}{more}",
            notes[1:],
            extra[0].contact,
        )

    def where(self, expect: n.Expect) -> None:
        assert expect.contact is not None and expect.condition is not None
        self._known(expect.contact)
        if self._evaluate(expect.condition, expect.contact) is not True:
            self._fail(
                expect.span,
                f"this does not hold for {expect.contact}",
                self._values_read(expect.condition, expect.contact),
                expect.contact,
            )

    # ── comparing ──

    def _differences(self, expect: n.Expect, decision: Decision) -> list[str]:
        """In what a decision is not the action expected; only what the expectation gives is compared."""
        action = expect.action
        assert action is not None and expect.contact is not None
        if decision.action != action.name:
            return ["another action"]
        found = []
        if action.primary is not None and not self._same(action.primary, decision.primary, expect.contact):
            found.append(f"it is {_shown(decision.primary)}")
        for name, value in action.arguments:
            if name not in decision.params:
                found.append(f"it has no {name}")
            elif not self._same(value, decision.params[name], expect.contact):
                found.append(f"{name} is {_shown(decision.params[name])}")
        return found

    def _same(self, written: n.Node, actual: Any, contact: str) -> bool:
        """Whether a written value is the actual one. A bare name is what actions take (`segment.add vip`), or a constant."""
        if isinstance(written, n.Name) and written.name not in self.model.constants and written.name == actual:
            return True
        expected = self._value(written, contact)
        if isinstance(expected, bool) is isinstance(actual, bool) and bool(expected == actual):
            return True
        if isinstance(written, n.Literal) and written.type in ("date", "datetime") and isinstance(actual, str):
            return _same_moment(str(written.value), actual, self.zone)
        return False

    # ── telling ──

    def _near(self, expect: n.Expect) -> list[str]:
        """What came near: the same action at another time, skipped, held or taken already; else those that differ least; else
        what is still to come."""
        assert expect.contact is not None and expect.action is not None
        zone = self._zone_of(expect.contact)
        notes: list[str] = []
        others: list[tuple[bool, int, int, str]] = []
        for position, decision in enumerate(self.log):
            if decision.contact != expect.contact or decision.action != expect.action.name:
                continue
            at = format_local(decision.at, zone)
            differences = self._differences(expect, decision)
            if differences:
                words = f"nearest: {_action(decision)} at {at} ({', '.join(differences)})"
                others.append((position in self.taken, len(differences), -position, words))
            else:
                notes.append(self._almost(position, decision, at))
        if not notes:
            notes = self._later(expect, zone)
        return notes[-3:] or [words for *_, words in sorted(others)[:1]]

    def _almost(self, position: int, decision: Decision, at: str) -> str:
        """Why the very action that was expected did not count."""
        if decision.kind == "skip":
            return f"it was skipped at {at}: {_because(decision)}"
        if decision.kind == "wait":
            return f"it was held at {at}: {_because(decision)}"
        if position in self.taken:
            return f"the one at {at} was taken by an EXPECT before"
        return f"it came at {at}"

    def _later(self, expect: n.Expect, zone: str) -> list[str]:
        """Whether the action comes after all, in a copy of this world whose clock runs on."""
        world = copy.copy(self.world)
        world.states, world._heap = copy.deepcopy(self.world.states), list(self.world._heap)
        world._wakes, world._seen, world.effects = dict(self.world._wakes), set(self.world._seen), []
        world._on_set_aside = lambda cause, reason: None
        for decision in world.run(self.now + LOOK_AHEAD):
            if decision.contact == expect.contact and decision.kind == "action" and not self._differences(expect, decision):
                return [f"it comes later, at {format_local(decision.at, zone)}, if nothing else happens"]
        return []

    def _values_read(self, condition: n.Node, contact: str) -> list[str]:
        """What the names in a condition stand for at this moment."""
        notes = []
        for node in n.walk(condition):
            if isinstance(node, n.Name) and node.name.startswith("contact."):
                notes.append(f"{node.name} is {_shown(self._evaluate(node, contact))}")
            elif isinstance(node, n.Compare) and node.op in ("in", "not in") and isinstance(node.right, n.Name):
                inside = node.right.name in members(self.world.states[contact])
                if node.right.name in self.model.segments:
                    notes.append(f"{contact} is {'in' if inside else 'not in'} {node.right.name}")
        return list(dict.fromkeys(notes))

    def _written(self, expect: n.Expect) -> str:
        assert expect.action is not None and expect.contact is not None
        action = expect.action
        words = [action.name]
        parts = [self._word(action.primary)] if action.primary is not None else []
        parts += [f"{name}: {self._word(value)}" for name, value in action.arguments]
        return " ".join(words + [", ".join(parts)]) if parts else action.name

    def _word(self, node: n.Node) -> str:
        return node.name if isinstance(node, n.Name) else _shown(self._value(node, ""))

    def _zone_of(self, contact: str) -> str:
        """The contact's own zone where it has one that exists, else the workspace's."""
        state = self.world.states.get(contact)
        zone = state["a"].get("timezone") if state is not None else None
        return zone if isinstance(zone, str) and is_zone(zone) else self.zone

    def _fail(self, span: Span, message: str, notes: Iterable[str] = (), contact: str | None = None) -> None:
        timeline = self._timeline(contact) if contact is not None and contact in self.world.states else ()
        self.failures.append(Failure(span, message, tuple(notes), timeline))

    def _timeline(self, contact: str) -> tuple[str, ...]:
        zone = self._zone_of(contact)
        lines = [timeline_line(decision, zone) for decision in self.log if decision.contact == contact]
        if len(lines) > MAX_LINES:
            half = MAX_LINES // 2
            lines = [*lines[:half], f"… {len(lines) - MAX_LINES} more …", *lines[-half:]]
        return tuple(lines)


_EXPECT = {
    "gets": _Run.gets,
    "not_gets": _Run.not_gets,
    "misses": _Run.misses,
    "refused": _Run.refused,
    "enters": _Run.journey,
    "leaves": _Run.journey,
    "completes": _Run.journey,
    "goal": _Run.goal,
    "nothing": _Run.nothing,
    "where": _Run.where,
}


def timeline_line(decision: Decision, zone: str) -> str:
    """One decision as people read it: `Mon 2026-03-02 10:00 CET  abandoned_cart [A]  sent email.send "cart_reminder" (AFTER 1
    hour)`."""
    key = f" [{decision.key}]" if decision.key else ""
    reason = f" ({decision.reason})" if decision.reason else ""
    return f"{format_local(decision.at, zone)}  {decision.campaign or decision.rule}{key}  {what_happened(decision)}{reason}"


_WORDS = {"enter": "entered", "wait": "waits", "exit": "left", "goal": "reached the goal", "complete": "completed"}


def what_happened(decision: Decision) -> str:
    """A decision in a few words, without when and why."""
    if decision.rule == MERGE:
        return "not merged" if decision.kind == "skip" else "merged"
    action = _action(decision) if decision.action else ""
    if decision.kind == "action":
        verb = {"done": "did", None: "did"}.get(decision.outcome, decision.outcome or "did")
        return f"{verb} {action}"
    if decision.kind == "skip":
        skipped = f"skipped {action or decision.step or 'the start'}"
        return f"{skipped}, {decision.outcome}" if decision.outcome else skipped
    words = _WORDS.get(decision.kind, decision.kind)
    return f"{words} with {action}" + (f", {decision.outcome}" if decision.outcome else "") if action else words


def _action(decision: Decision) -> str:
    primary = f" {_shown(decision.primary)}" if decision.primary is not None else ""
    return f"{decision.action}{primary}"


def _because(decision: Decision) -> str:
    return decision.reason or decision.outcome or "no reason is known"


def _says(decision: Decision, because: str | None) -> bool:
    """Whether the outcome or the reason holds the text; letters' case does not matter."""
    if not because:
        return True
    wanted = because.casefold()
    return wanted in (decision.outcome or "").casefold() or wanted in decision.reason.casefold()


def _same_moment(written: str, actual: str, zone: str) -> bool:
    """Whether a local moment, as a TEST writes it, is the one that a parameter holds."""
    try:
        return parse_datetime(written, zone) == parse_datetime(actual, zone)
    except ValueError:
        return False


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "not set" if value is None else f'"{value}"' if isinstance(value, str) else str(value)


def _duration(model: Any, node: n.Node) -> Any:
    """A written duration, or a constant that is one. Raises _Cant."""
    if isinstance(node, n.Name) and node.name in model.constants:
        node = model.constants[node.name].value
    if not isinstance(node, n.Duration):
        raise _Cant("a duration is needed here, such as 1 hour or 3 days")
    return to_duration(node)


# ── coverage ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which steps of one rule or campaign some test reached."""

    name: str
    steps: tuple[str, ...]
    missed: tuple[str, ...]


def coverage(program: Any, results: Iterable[TestResult]) -> list[Coverage]:
    """Reached steps by rule and campaign, in the program's order."""
    reached = {(decision.campaign or decision.rule, decision.step) for result in results for decision in result.decisions}
    found = []
    for ruleset in program.rulesets:
        steps = tuple(ruleset.steps)
        found.append(Coverage(ruleset.name, steps, tuple(step for step in steps if (ruleset.name, step) not in reached)))
    return found


def percent(covered: Iterable[Coverage]) -> float:
    """Reached steps of all, in percent; 100 where there are none."""
    items = list(covered)
    total = sum(len(item.steps) for item in items)
    return 100.0 if not total else 100.0 * (total - sum(len(item.missed) for item in items)) / total
