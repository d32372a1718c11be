"""What the names of a project mean: every declaration under its name, and the type of every expression. No diagnostics here: the
checks (`rules_engine.model.checks`) speak about what this finds; the compiler (`rules_engine.plan`) builds on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rules_engine.actions import MESSAGE_OUTCOMES, Action, EventType
from rules_engine.syntax import nodes as n

CHANNELS = ("email", "sms", "push", "web")

ATTRIBUTES: dict[str, str] = {
    "id": "text", "email": "text", "phone": "text", "first_name": "text", "last_name": "text", "name": "text", "company": "text",
    "country": "text", "city": "text", "state": "text", "locale": "text", "timezone": "text", "owner": "text", "stage": "text",
    "created_at": "datetime", "points": "number", "tags": "list", "anonymous": "boolean",
}
"""Attributes that every contact has without a declaration; besides them `consent.CHANNEL` (boolean), `suppressed.CHANNEL` (text: the
reason) and `points.GROUP` (number)."""

EVENT_FIELDS: dict[str, str] = {"id": "text", "name": "text", "subject": "text", "at": "datetime"}
"""What every event has besides its declared fields."""

MOMENTS: dict[str, str] = {"now": "datetime", "today": "date"}


@dataclass(frozen=True, slots=True)
class AttributeInfo:
    """An attribute of contacts. declaration is None for those of Camp itself."""

    name: str
    type: str
    declaration: n.AttributeDeclaration | None = None


@dataclass(frozen=True, slots=True)
class EventInfo:
    """An event: fields by name and type. declaration None: a plugin's, `source` then."""

    name: str
    fields: Mapping[str, str]
    subject: str = ""
    declaration: n.EventDeclaration | None = None
    source: EventType | None = None


@dataclass(slots=True)
class Model:
    """A project's meaning. `rulesets` are rules and campaigns in declaration order: file name, then place. Where a name is declared
    twice the first one counts here, and `twice` has the pairs (later, first) for the checks. `named` are the rulesets by name."""

    constants: dict[str, n.Const] = field(default_factory=dict)
    attributes: dict[str, AttributeInfo] = field(default_factory=dict)
    events: dict[str, EventInfo] = field(default_factory=dict)
    facts: dict[str, n.FactDeclaration] = field(default_factory=dict)
    segments: dict[str, n.SegmentDeclaration] = field(default_factory=dict)
    workspaces: list[n.Workspace] = field(default_factory=list)
    rulesets: list[n.Rule | n.Campaign] = field(default_factory=list)
    named: dict[str, n.Rule | n.Campaign] = field(default_factory=dict)
    tests: list[n.Test] = field(default_factory=list)
    actions: Mapping[str, Action] = field(default_factory=dict)
    twice: list[tuple[n.Declaration, n.Declaration]] = field(default_factory=list)

    def clauses(self, kind: type) -> list[Any]:
        """The workspace's clauses of one kind, all WORKSPACE blocks together."""
        return [clause for workspace in self.workspaces for clause in workspace.clauses if isinstance(clause, kind)]

    def attribute_type(self, name: str) -> str | None:
        """Type of `contact.NAME` (name without `contact.`), derived facts included; None if there is no such attribute."""
        if name in self.attributes:
            return self.attributes[name].type
        if name in self.facts:
            return self.facts[name].type
        head, _, rest = name.partition(".")
        if head == "consent" and rest:
            return "boolean"
        if head == "suppressed" and rest:
            return "text"
        if head == "points" and rest:
            return "number"
        return None


@dataclass(frozen=True, slots=True)
class Scope:
    """What an expression may read besides contacts and constants: the events that `event.` can be, the names that WAIT … AS bound
    (alias → event name), whether `start` and `key` mean something. `place` says in words what has no event or journey."""

    events: tuple[str, ...] = ()
    bindings: Mapping[str, str] = field(default_factory=dict)
    journey: bool = False
    place: str = ""


def build(files: Iterable[n.File], actions: Mapping[str, Action], events: Mapping[str, EventType]) -> Model:
    """The meaning of a project's files with the nouns and verbs that the plugins bring."""
    model = Model(actions=actions)
    for name, type_ in ATTRIBUTES.items():
        model.attributes[name] = AttributeInfo(name, type_)
    for name, event in events.items():
        model.events[name] = EventInfo(name, event.fields, event.subject, None, event)
    for channel in {action.channel: None for action in actions.values() if action.channel}:
        for outcome in MESSAGE_OUTCOMES:
            name = f"{channel}.{outcome}"
            model.events.setdefault(name, EventInfo(name, {}, "the message"))
    for file in sorted(files, key=lambda item: item.path):
        for item in file.items:
            _declare(model, item)
    model.rulesets = [_with_events(model, ruleset) for ruleset in model.rulesets]
    model.named = {ruleset.name: ruleset for ruleset in model.rulesets}
    return model


# ── events whose names look like attributes ──

def _with_events(model: Model, ruleset: n.Rule | n.Campaign) -> Any:
    """`WHEN contact.created`: the grammar can't tell an event of that name from an attribute and reads a condition; here it is
    known."""
    triggers = _events_among(model, ruleset.triggers)
    clauses = tuple(_exit_with_events(model, clause) for clause in ruleset.clauses)
    steps = _steps_with_events(model, ruleset.steps)
    if triggers is ruleset.triggers and steps is ruleset.steps and _same(clauses, ruleset.clauses):
        return ruleset
    return n.replace(ruleset, triggers=triggers, clauses=clauses, steps=steps)


def _events_among(model: Model, alternatives: tuple[n.Node, ...]) -> tuple[n.Node, ...]:
    """The same alternatives, or new ones where one names an event."""
    for item in alternatives:
        if type(item) is n.Condition and type(item.condition) is n.Name and item.condition.name in model.events:
            return tuple(_as_event(model, one) for one in alternatives)
    return alternatives


def _as_event(model: Model, item: n.Node) -> n.Node:
    if not (type(item) is n.Condition and type(item.condition) is n.Name and item.condition.name in model.events):
        return item
    place = item.condition.span
    return n.Happening(n.Occurrence(item.condition.name, span=place, event_span=place), alias=item.alias, span=item.span)


def _exit_with_events(model: Model, clause: n.Node) -> n.Node:
    if type(clause) is not n.Exit:
        return clause
    alternatives = _events_among(model, clause.alternatives)
    return clause if alternatives is clause.alternatives else n.replace(clause, alternatives=alternatives)


def _steps_with_events(model: Model, steps: tuple[n.Node, ...]) -> tuple[n.Node, ...]:
    """The same steps, or new ones where a wait among them (or inside them) is for such an event."""
    changed = tuple(_step_with_events(model, step) if type(step) in _BLOCKS else step for step in steps)
    return steps if _same(changed, steps) else changed


def _same(new: tuple[Any, ...], old: tuple[Any, ...]) -> bool:
    return all(one is other for one, other in zip(new, old, strict=True))


_BLOCKS = (n.If, n.Wait, n.Split, n.Repeat)


def _step_with_events(model: Model, step: Any) -> Any:
    if isinstance(step, (n.If, n.Split)):
        branches = tuple(_inside(model, branch) for branch in step.branches)
        return step if _same(branches, step.branches) else n.replace(step, branches=branches)
    step = _inside(model, step)
    if isinstance(step, n.Wait):
        alternatives = _events_among(model, step.alternatives)
        otherwise = None if step.otherwise is None else _steps_with_events(model, step.otherwise)
        if alternatives is not step.alternatives or otherwise is not step.otherwise:
            return n.replace(step, alternatives=alternatives, otherwise=otherwise)
    return step


def _inside(model: Model, block: Any) -> Any:
    steps = _steps_with_events(model, block.steps)
    return block if steps is block.steps else n.replace(block, steps=steps)


def attribute_name(written: str) -> str:
    """`contact.plan` and `plan` declare the same attribute."""
    return written.removeprefix("contact.")


def _declare(model: Model, item: n.Declaration) -> None:
    if isinstance(item, n.Const):
        _once(model, model.constants, item.name, item, item)
    elif isinstance(item, n.AttributeDeclaration):
        name = attribute_name(item.name)
        _once(model, model.attributes, name, AttributeInfo(name, item.type, item), item)
    elif isinstance(item, n.EventDeclaration):
        _declare_event(model, item)
    elif isinstance(item, n.FactDeclaration):
        _once(model, model.facts, attribute_name(item.name), item, item)
    elif isinstance(item, n.SegmentDeclaration):
        _once(model, model.segments, item.name, item, item)
    elif isinstance(item, n.Workspace):
        model.workspaces.append(item)
    elif isinstance(item, n.Rule | n.Campaign):
        first = model.named.setdefault(item.name, item)
        if first is not item:
            model.twice.append((item, first))
        else:
            model.rulesets.append(item)
    elif isinstance(item, n.Test):
        model.tests.append(item)


def _declare_event(model: Model, item: n.EventDeclaration) -> None:
    """A project's declaration adds its fields to those a plugin already gave the event."""
    known = model.events.get(item.name)
    if known is not None and known.declaration is not None:
        model.twice.append((item, known.declaration))
        return
    fields = dict(known.fields) if known else {}
    fields.update((one.name, one.type) for one in item.fields)
    model.events[item.name] = EventInfo(item.name, fields, known.subject if known else "", item, known.source if known else None)


def _once(model: Model, table: dict[str, Any], name: str, value: Any, item: n.Declaration) -> None:
    known = table.get(name)
    declared = getattr(known, "declaration", known)
    if declared is not None:
        model.twice.append((item, declared))
    else:
        table[name] = value


def trigger_events(triggers: Iterable[n.Node]) -> tuple[str, ...]:
    """The events that can stand behind `event.` after these triggers, in order, each once."""
    names: dict[str, None] = {}
    for trigger in triggers:
        if isinstance(trigger, n.Happening):
            names.setdefault(trigger.occurrence.event)
        elif isinstance(trigger, n.Absence):
            names.setdefault(trigger.occurrence.event)
    return tuple(names)


def name_type(model: Model, name: str, scope: Scope) -> str | None:
    """Type of a dotted name, or None where it means nothing. Segments are no values: see `contact IN segment`."""
    if name in MOMENTS:
        return MOMENTS[name]
    if name == "contact":
        return "contact"
    head, _, rest = name.partition(".")
    if head == "contact":
        return model.attribute_type(rest)
    if head == "event" or head in scope.bindings:
        if not rest:
            return "map"
        events = scope.events if head == "event" else (scope.bindings[head],)
        return field_type(model, rest, events)
    if scope.journey and name == "start":
        return "datetime"
    if scope.journey and name == "key":
        return "text"
    if name in model.constants:
        return type_of(model, model.constants[name].value, Scope())
    return None


def field_type(model: Model, name: str, events: Iterable[str]) -> str | None:
    """Type of a field, the first event that has it deciding."""
    if name in EVENT_FIELDS:
        return EVENT_FIELDS[name]
    for event in events:
        info = model.events.get(event)
        if info is not None and name in info.fields:
            return info.fields[name]
    return None


_BOOLEANS = (n.Compare, n.Between, n.IsSet, n.And, n.Or, n.Not, n.Did)


def type_of(model: Model, node: n.Node, scope: Scope) -> str | None:
    """Value type of an expression (one of actions.TYPES, "percent" counts as number, "contact" for the bare contact), or None where a
    name in it means nothing. Dates and times: datetime ± duration = datetime, date ± duration = date (with a part below a day:
    datetime), datetime - datetime = duration, duration * number = duration."""
    if isinstance(node, n.Literal):
        return "number" if node.type == "percent" else node.type
    if isinstance(node, n.Text):
        return "text"
    if isinstance(node, n.Duration):
        return "duration"
    if isinstance(node, n.List):
        return "list"
    if isinstance(node, n.Map):
        return "map"
    if isinstance(node, n.Name):
        return name_type(model, node.name, scope)
    if isinstance(node, _BOOLEANS):
        return "boolean"
    if isinstance(node, n.Negative):
        return type_of(model, node.value, scope)
    if isinstance(node, n.Aggregate):
        if node.function in ("count", "count_distinct", "sum", "avg"):
            return "number"
        inner = Scope((node.history.occurrence.event,), scope.bindings, scope.journey)
        return type_of(model, node.value, inner) if node.value is not None else "number"
    if isinstance(node, n.Arithmetic):
        return _arithmetic_type(node.op, type_of(model, node.left, scope), type_of(model, node.right, scope), node)
    return None


def _arithmetic_type(op: str, left: str | None, right: str | None, node: n.Arithmetic) -> str | None:
    if left is None or right is None:
        return None
    if left == right == "number":
        return "number"
    if op == "+" and "text" in (left, right):
        return "text"
    if left in ("date", "datetime") and right == "duration" and op in "+-":
        return left
    if op == "-" and left in ("date", "datetime") and right in ("date", "datetime"):
        return "duration"
    if left == right == "duration" and op in "+-":
        return "duration"
    if {left, right} == {"duration", "number"} and (op == "*" or op == "/" and left == "duration"):
        return "duration"
    return "invalid"
