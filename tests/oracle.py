"""A naive engine for rules and derived facts: no index, no compiled condition, no incremental state. It walks the syntax tree over the
whole history each time anything happens, and looks at every moment at which time could matter. Slow, and short enough to be believed.

What it says (LANGUAGE.md, section 4): of all that can fire, the first by (priority, declaration) fires; a rule fires once for an event;
conditions are read when it is their rule's turn; events that rules emit come when nothing else is left; derived facts are what their
definition says at every moment.
"""

from __future__ import annotations

import operator
from typing import Any

from rules_engine.syntax import nodes as n

LIMIT = 60
_UNITS = {"second": 1_000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000, "week": 7 * 86_400_000}
_COMPARE = {"=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


class Endless(Exception):
    """Rules feed each other without end."""


def length(node: n.Duration) -> int:
    """ms of a duration, in UTC, where a day has 24 hours."""
    return round(sum(count * _UNITS[unit] for count, unit in node.parts))


class Oracle:
    """One contact. `event`, `set` and `wait` move it on; `log` has (at, rule, action, primary, params) of all actions."""

    def __init__(self, model: Any, at: int) -> None:
        self.model, self.now = model, at
        self.attributes: dict[str, Any] = {}
        self.segments: set[str] = set()
        self.history: list[tuple[int, str, Any, dict[str, Any]]] = []
        self.log: list[tuple[int, str, str, Any, dict[str, Any]]] = []
        self.rules = sorted(model.rulesets, key=self._rank)
        self.event_now: tuple[int, str, Any, dict[str, Any]] | None = None
        self.queue: list[tuple[str, Any, dict[str, Any]]] = []
        self.agenda: list[tuple[Any, int, n.Rule, n.Node, int]] = []
        self.pushed = self.edges = 0
        self.known = self.facts()
        self.windows = sorted({length(node) for item in (*model.rulesets, *model.segments.values(), *model.facts.values())
                               for node in n.walk(item) if isinstance(node, n.Duration)})

    def _rank(self, rule: n.Rule) -> tuple[int, int]:
        priority = next((clause.value for clause in rule.clauses if isinstance(clause, n.Priority)), 0)
        return (-priority, self.model.rulesets.index(rule))

    # ── facts ──

    def facts(self) -> dict[str, Any]:
        """All facts as they are now."""
        found: dict[str, Any] = {f"a:{name}": value for name, value in self.attributes.items()}
        for name in self.model.facts:
            found[f"a:{name}"] = self.value(n.Name(f"contact.{name}"))
        for name in self.model.segments:
            found[f"s:{name}"] = self.member(name)
        return found

    def member(self, segment: str) -> bool:
        condition = self.model.segments[segment].condition
        return segment in self.segments if condition is None else self.holds(condition)

    def holds(self, node: n.Node) -> bool:
        return self.value(node) is True

    def value(self, node: n.Node) -> Any:
        if isinstance(node, n.Literal):
            return node.value
        if isinstance(node, n.Name):
            return self.named(node.name)
        if isinstance(node, n.And):
            return all(self.holds(item) for item in node.items)
        if isinstance(node, n.Or):
            return any(self.holds(item) for item in node.items)
        if isinstance(node, n.Not):
            return not self.holds(node.item)
        if isinstance(node, n.IsSet):
            return (self.value(node.value) is None) == node.negated
        if isinstance(node, n.Compare):
            if node.op in ("in", "not in"):
                return self.member(node.right.name) == (node.op == "in")
            left, right = self.value(node.left), self.value(node.right)
            return left is not None and right is not None and _COMPARE[node.op](left, right)
        if isinstance(node, n.Arithmetic):
            left, right = self.value(node.left), self.value(node.right)
            return None if left is None or right is None else {"+": operator.add, "-": operator.sub, "*": operator.mul}[node.op](left, right)
        if isinstance(node, n.Negative):
            value = self.value(node.value)
            return None if value is None else -value
        if isinstance(node, n.Did):
            return len(self.past(node.history)) >= (1 if node.at_least is None else node.at_least.value)
        assert isinstance(node, n.Aggregate), node
        return self.aggregate(node)

    def aggregate(self, node: n.Aggregate) -> Any:
        past = self.past(node.history)
        if node.function == "count":
            return len(past)
        values = []
        for entry in past:
            self.event_now, saved = entry, self.event_now
            value = self.value(node.value)
            self.event_now = saved
            if value is not None:
                values.append(value)
        if node.function == "count_distinct":
            return len(set(values))
        if node.function == "sum":
            return sum(values)
        if not values:
            return None
        return {"avg": lambda: round(sum(values) / len(values), 9), "min": lambda: min(values), "max": lambda: max(values),
                "last": lambda: values[-1], "first": lambda: values[0]}[node.function]()

    def past(self, history: n.History) -> list[Any]:
        """The occurrences that count, by time."""
        found = []
        for entry in sorted(self.history, key=lambda item: item[0]):
            at, name, subject, _ = entry
            occurrence = history.occurrence
            if name != occurrence.event or occurrence.subject is not None and subject != occurrence.subject.value:
                continue
            if history.within is not None and not at <= self.now < at + length(history.within):
                continue
            if occurrence.where is not None:
                self.event_now, saved = entry, self.event_now
                fits = self.holds(occurrence.where)
                self.event_now = saved
                if not fits:
                    continue
            found.append(entry)
        return found

    def named(self, name: str) -> Any:
        head, _, rest = name.partition(".")
        if head == "event":
            return None if self.event_now is None else self.event_now[3].get(rest)
        if head == "contact":
            if rest in self.model.facts:
                return self.value(self.model.facts[rest].value)
            return self.attributes.get(rest, 0 if rest == "points" else None)
        raise AssertionError(name)

    # ── what happens ──

    def wait(self, until: int) -> None:
        """Time passes: every moment at which something can turn is looked at."""
        while True:
            moments = [at + window for at, *_ in self.history for window in self.windows]
            moment = min((moment for moment in moments if self.now < moment <= until), default=None)
            if moment is None:
                break
            self.now, self.event_now = moment, None
            self.notice()
            self.run([])
            self.run_queue()
        self.now = until

    def event(self, at: int, name: str, subject: Any, data: dict[str, Any]) -> None:
        self.wait(at)
        self.happen(name, subject, data)
        self.run_queue()

    def set(self, at: int, attributes: dict[str, Any]) -> None:
        self.wait(at)
        self.event_now = None
        self.attributes.update(attributes)
        self.notice()
        self.run([])
        self.run_queue()

    def happen(self, name: str, subject: Any, data: dict[str, Any]) -> None:
        entry = (self.now, name, subject, data)
        self.history.append(entry)
        self.event_now = entry
        self.notice()
        self.run([rule for rule in self.rules if any(isinstance(item, n.Happening) and item.occurrence.event == name for item in rule.triggers)])

    def run_queue(self) -> None:
        while self.queue:
            self.happen(*self.queue.pop(0))

    def notice(self) -> None:
        """Finds what has changed since it last looked, and puts the rules that it sets off on the agenda."""
        facts = self.facts()
        for fact in sorted({*facts, *self.known}):
            old, new = self.known.get(fact), facts.get(fact)
            if old == new:
                continue
            self.edges += 1
            for rule in self.rules:
                for trigger in rule.triggers:
                    if self.turned(trigger, fact, old, new):
                        self.pushed += 1
                        self.agenda.append((self._rank(rule), self.pushed, rule, trigger, self.edges))
        self.known = facts

    def turned(self, trigger: n.Node, fact: str, old: Any, new: Any) -> bool:
        if isinstance(trigger, n.MembershipChange):
            return fact == f"s:{trigger.segment}" and new == (trigger.kind == "enters")
        if isinstance(trigger, n.Becomes):
            if fact != f"a:{trigger.name.name.removeprefix('contact.')}":
                return False
            if fact == "a:points":
                old, new = old or 0, new or 0
            test = _COMPARE[trigger.op]
            wanted = trigger.value.value
            return new is not None and test(new, wanted) and not (old is not None and test(old, wanted))
        if isinstance(trigger, n.Changes):
            return (fact == f"a:{trigger.name.name.removeprefix('contact.')}" and (trigger.old is None or old == trigger.old.value)
                    and (trigger.new is None or new == trigger.new.value))
        return False

    def run(self, waiting: list[n.Rule]) -> None:
        """Fires to a fixpoint. waiting: the rules that the event at hand may still set off, each once."""
        event = self.event_now
        left = list(waiting)
        while True:
            self.event_now = event
            best: Any = None
            for rule in left:
                if self.fits(rule):
                    best = (self._rank(rule), 0, rule)
                    break
            if self.agenda:
                first = min(self.agenda, key=lambda item: item[:2])
                if best is None or first[0] < best[0]:
                    self.agenda.remove(first)
                    _, _, rule, trigger, _ = first
                    if trigger.where is None or self.holds(trigger.where):
                        # Two alternatives that one change fits set a rule off once.
                        self.agenda = [item for item in self.agenda if item[2] is not rule or item[4] != first[4]]
                        self.do(rule, rule.steps)
                    continue
            if best is None:
                return
            left.remove(best[2])
            self.do(best[2], best[2].steps)

    def fits(self, rule: n.Rule) -> bool:
        assert self.event_now is not None
        _, name, subject, _ = self.event_now
        for trigger in rule.triggers:
            if isinstance(trigger, n.Happening) and trigger.occurrence.event == name:
                occurrence = trigger.occurrence
                if (occurrence.subject is None or occurrence.subject.value == subject) and \
                        (occurrence.where is None or self.holds(occurrence.where)):
                    return True
        return False

    def do(self, rule: n.Rule, steps: tuple[n.Node, ...]) -> None:
        if sum(1 for at, *_ in self.log[-LIMIT:] if at == self.now) == LIMIT:
            raise Endless
        for step in steps:
            if isinstance(step, n.If):
                for branch in step.branches:
                    if branch.condition is None or self.holds(branch.condition):
                        self.do(rule, branch.steps)
                        break
            else:
                self.act(rule, step.action)

    def act(self, rule: n.Rule, action: n.Action) -> None:
        arguments = {key: self.value(node) for key, node in action.arguments}
        primary = action.primary
        if action.name in ("segment.add", "segment.remove", "event.emit"):
            given: Any = primary.name
        else:
            given = None if primary is None else self.value(primary)
        self.log.append((self.now, rule.name, action.name, given, {key: value for key, value in arguments.items() if value is not None}))
        if action.name == "points.add":
            self.attributes["points"] = self.attributes.get("points", 0) + given
        elif action.name == "contact.set":
            for key, value in arguments.items():
                if value is None:
                    continue
                self.attributes[key] = value
        elif action.name == "segment.add":
            self.segments.add(given)
        elif action.name == "segment.remove":
            self.segments.discard(given)
        elif action.name == "event.emit":
            self.queue.append((given, None, {key: value for key, value in arguments.items() if value is not None}))
        else:
            assert action.name == "log.write", action.name
        self.notice()
