"""What a `.camp` file says, as a tree of frozen records. Spans stand outside equality, so that two texts with the same meaning
compare equal (the formatter's test). Names are as written; nothing is resolved here."""

from __future__ import annotations

from typing import Any, dataclass_transform

from rules_engine.diagnostics import Span

_NOWHERE = Span("", 0, 0)


def _frozen(self: Any, name: str, value: Any = None) -> None:
    raise AttributeError(f"a {type(self).__name__} is frozen: use replace()")


@dataclass_transform(frozen_default=True, kw_only_default=False)
class _Record(type):
    """Makes slotted, frozen records from annotations, as `dataclass(frozen=True, slots=True)` does, at a tenth of its start-up
    time (70 classes cost 65 ms of a cold start otherwise). Fields named `span` or `…_span(s)` are keyword-only and outside
    equality."""

    _fields: tuple[str, ...] = ()      # all fields, in order
    _compared: tuple[str, ...] = ()    # those that make equality

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> Any:
        own = tuple(namespace.get("__annotations__", ()))
        defaults = {f"_default_{field}": namespace.pop(field) for field in own if field in namespace}
        namespace["__slots__"] = own
        inherited: tuple[str, ...] = bases[0]._fields if bases else ()  # type: ignore[attr-defined]
        places = [field for field in inherited + own if field.endswith(("span", "spans"))]
        values = [field for field in inherited + own if field not in places]
        for field in places:
            defaults.setdefault(f"_default_{field}", () if field.endswith("spans") else _NOWHERE)
        cls: Any = super().__new__(mcs, name, bases, {**namespace, "__init__": _first_init(values, places, defaults)})
        cls._fields = tuple(values + places)
        cls._compared = tuple(values)
        return cls


def _first_init(values: list[str], places: list[str], defaults: dict[str, Any]) -> Any:
    """An `__init__` that at its first call writes the real one: most programs make few kinds of nodes, and compiling is dear."""
    def __init__(self: Any, *given: Any, **named: Any) -> None:
        cls = next(base for base in type(self).__mro__ if base.__dict__.get("__init__") is __init__)
        cls.__init__ = _init(cls, values, places, defaults)
        cls.__init__(self, *given, **named)

    return __init__


def _init(cls: Any, values: list[str], places: list[str], defaults: dict[str, Any]) -> Any:
    """The `__init__` of a record. It sets the slots themselves, past `__setattr__`, which refuses."""
    signature = ["self", *(field + (f"=_default_{field}" if f"_default_{field}" in defaults else "") for field in values), "*"]
    signature += [f"{field}=_default_{field}" for field in places]
    scope = {**defaults, **{f"_set_{field}": getattr(cls, field).__set__ for field in values + places}}
    body = "".join(f"\n    _set_{field}(self, {field})" for field in values + places)
    exec(f"def __init__({', '.join(signature)}):{body}", scope)  # noqa: S102
    return scope["__init__"]


class Node(metaclass=_Record):
    """Base of every node: `span` is the stretch of text it was read from."""

    span: Span

    __setattr__ = _frozen
    __delattr__ = _frozen

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(getattr(self, field) == getattr(other, field) for field in self._compared)

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, field) for field in self._compared)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{field}={getattr(self, field)!r}' for field in self._compared)})"


def replace(node: Any, **changes: Any) -> Any:
    """A copy of a node with some fields changed."""
    return type(node)(**{field: changes.get(field, getattr(node, field)) for field in node._fields})


# ── expressions
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

class Literal(Node):
    """A value written out. type: number (int or float) | percent (number) | boolean | date ("2026-12-01") |
    datetime ("2026-12-01T09:00", local) | time (minutes of the day, int, or "HH:MM:SS" seconds dropped) | text (str, no
    placeholder)."""

    type: str
    value: Any


class Duration(Node):
    """`1 day 12 hours`: parts of (count, unit), unit in second … year or "business day", "business hour", as singular."""

    parts: tuple[tuple[float, str], ...]


class Placeholder(Node):
    """`{contact.first_name|there}` inside a text: the name and what stands in when it is missing (None: nothing was said)."""

    name: str
    fallback: str | None = None


class Text(Node):
    """A text with placeholders: parts are str or Placeholder."""

    parts: tuple[Any, ...]


class Name(Node):
    """A dotted name: `contact.country`, `event.total`, `nudge_delay`, `now`."""

    name: str


class List(Node):
    items: tuple[Node, ...]


class Map(Node):
    """`{key: value}`; pairs of (key, expression)."""

    pairs: tuple[tuple[str, Node], ...]


class Arithmetic(Node):
    """left op right, op in + - * /."""

    op: str
    left: Node
    right: Node


class Negative(Node):
    value: Node


class Compare(Node):
    """left op right; op in = != < <= > >= in, not in, contains, matches, starts with, ends with."""

    op: str
    left: Node
    right: Node


class Between(Node):
    value: Node
    low: Node
    high: Node


class IsSet(Node):
    value: Node
    negated: bool


class And(Node):
    items: tuple[Node, ...]


class Or(Node):
    items: tuple[Node, ...]


class Not(Node):
    item: Node


class Occurrence(Node):
    """An event by name, its subject (None | Literal text | List | Text) and filter; `any` waives the instance's key."""

    event: str
    subject: Node | None = None
    where: Node | None = None
    any: bool = False
    event_span: Span


class History(Node):
    """Past occurrences, WITHIN a duration (Duration or Name), since the instance's START, or ever."""

    occurrence: Occurrence
    within: Node | None = None
    since_start: bool = False


class Did(Node):
    history: History
    at_least: Node | None = None


class Aggregate(Node):
    """function: count | count_distinct | sum | avg | min | max | last | first; value is None for count."""

    function: str
    value: Node | None
    history: History


# ── what starts, ends or resumes
# ─────────────────────────────────────────────────────────────────────────────────────────────────

class Happening(Node):
    """An event as a trigger or as what a wait is for. A bare name in a wait may turn out to be a condition or a moment: the model
    decides by what the name means."""

    occurrence: Occurrence
    since_start: bool = False
    alias: str | None = None


class MembershipChange(Node):
    """`contact ENTERS segment`; kind: enters | leaves."""

    who: str
    kind: str
    segment: str
    where: Node | None = None
    alias: str | None = None
    segment_span: Span


class Becomes(Node):
    """`contact.points BECOMES >= 50`: the comparison turns from false to true."""

    name: Name
    op: str
    value: Node
    where: Node | None = None
    alias: str | None = None


class Changes(Node):
    name: Name
    old: Node | None = None
    new: Node | None = None
    where: Node | None = None
    alias: str | None = None


class Anchored(Node):
    """`30 days BEFORE contact.renewal_date AT 09:00`, `2026-12-01 AT 09:00`. offset None: at the anchor itself; sign -1 for
    BEFORE. anchor: Name or Literal date/datetime; at: Literal time, Name or None."""

    offset: Duration | None
    sign: int
    anchor: Node
    at: Node | None = None
    where: Node | None = None
    alias: str | None = None


class Anniversary(Node):
    offset: Duration | None
    sign: int
    anchor: Name
    at: Node | None = None
    where: Node | None = None
    alias: str | None = None


class Rhythm(Node):
    """`EVERY monday`, `EVERY 7 days`, `EVERY month ON 15`, `EVERY name`. Exactly one of days (0 = Monday), every, unit."""

    days: tuple[int, ...] = ()
    every: Node | None = None
    unit: str | None = None
    month_day: int | None = None
    at: Node | None = None


class Every(Node):
    rhythm: Rhythm
    where: Node | None = None
    alias: str | None = None


class Absence(Node):
    """`NOT order.paid FOR 90 days`."""

    occurrence: Occurrence
    duration: Node
    where: Node | None = None
    alias: str | None = None


class Condition(Node):
    """A condition as what a wait is for."""

    condition: Node
    alias: str | None = None


# ── actions and steps
# ────────────────────────────────────────────────────────────────────────────────────────────────────────────

class Action(Node):
    """`namespace.verb primary, key: value`; arguments are (key, expression) in the order of the text."""

    name: str
    primary: Node | None
    arguments: tuple[tuple[str, Node], ...]
    name_span: Span
    argument_spans: tuple[Span, ...]


class Then(Node):
    action: Action
    label: str | None = None


class After(Node):
    """A delay. at: Literal time or Name; window: (from, to) of the same; days: allowed weekdays, 0 = Monday."""

    duration: Node
    from_start: bool = False
    at: Node | None = None
    window: tuple[Node, Node] | None = None
    days: tuple[int, ...] = ()
    zone: Node | None = None
    label: str | None = None


class Branch(Node):
    """One path of an IF: condition None for ELSE."""

    condition: Node | None
    steps: tuple[Node, ...]


class If(Node):
    """branches in order; `one_line` for `IF cond THEN action`."""

    branches: tuple[Branch, ...]
    one_line: bool = False


class Wait(Node):
    alternatives: tuple[Node, ...]
    up_to: Node | None
    catch_up: bool
    steps: tuple[Node, ...]
    otherwise: tuple[Node, ...] | None


class SplitBranch(Node):
    percent: float
    name: str
    steps: tuple[Node, ...]
    name_span: Span


class Split(Node):
    name: str | None
    branches: tuple[SplitBranch, ...]


class Repeat(Node):
    rhythm: Rhythm
    times: Node
    condition: Node | None
    label: str | None
    steps: tuple[Node, ...]


class Stop(Node):
    reason: str | None


# ── clauses of rules, campaigns and the workspace
# ────────────────────────────────────────────────────────────────────────────────

class Owner(Node):
    address: str


class Starts(Node):
    """`STARTS 2026-01-01`; moment: Literal date or datetime."""

    moment: Literal


class Until(Node):
    moment: Literal


class Audience(Node):
    condition: Node


class ForEach(Node):
    keys: tuple[Name, ...]


class Mode(Node):
    """mode: single | restart | queue | parallel."""

    mode: str


class Reentry(Node):
    """kind: never | always | after | rematch; after: Duration or Name; times: most entries in all, None for no bound."""

    kind: str
    after: Node | None = None
    times: Node | None = None


class Exit(Node):
    reason: str | None
    alternatives: tuple[Node, ...]
    steps: tuple[Then, ...] = ()


class ExitOnGoal(Node):
    pass


class Goal(Node):
    """targets: Happening, MembershipChange or Becomes."""

    targets: tuple[Node, ...]
    within: Node | None = None


class Blocked(Node):
    """What happens to a message that may not leave now: drop | stop | hold, held at most `up_to`."""

    policy: str
    up_to: Node | None = None


class Deliver(Node):
    start: Node
    end: Node
    days: tuple[int, ...] = ()
    zone: Node | None = None
    blocked: Blocked | None = None


class Quiet(Node):
    start: Literal
    end: Literal
    zone: Node | None = None
    blocked: Blocked | None = None


class Limit(Node):
    """`LIMIT 2 email PER 7 days ELSE DROP`; count and period may be names of constants; channel: email, sms, …, or messages."""

    count: Node
    channel: str
    period: Node
    blocked: Blocked | None = None


class Priority(Node):
    value: int


class Holdout(Node):
    percent: float


class Throttle(Node):
    count: Node
    period: Node


class OnLate(Node):
    """op is checked to be `>`; policy: skip | run | stop."""

    op: str
    after: Node
    policy: str


class AtMost(Node):
    times: Node
    period: Node


class Timezone(Node):
    zone: str


class BusinessHoursClause(Node):
    unit: str
    start: Literal
    end: Literal
    days: tuple[int, ...] = ()


class Holidays(Node):
    dates: tuple[Literal, ...]


class NeverMore(Node):
    count: int
    channel: str
    period: Node


class NeverWhere(Node):
    channel: str
    condition: Node


# ── top level
# ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

class Declaration(Node):
    """Base of what stands at the top level; `name_span` is the place of its name."""

    name_span: Span


class Const(Declaration):
    name: str
    value: Node


class Field(Node):
    """A field of an event, with the values it may take."""

    name: str
    type: str
    one_of: List | None = None
    type_span: Span


class AttributeDeclaration(Declaration):
    name: str
    type: str
    one_of: List | None = None
    default: Node | None = None
    where: Node | None = None
    type_span: Span


class EventDeclaration(Declaration):
    name: str
    fields: tuple[Field, ...] = ()
    where: Node | None = None


class FactDeclaration(Declaration):
    """`FACT contact.spend_365: number IS …`; name without `contact.` is as written."""

    name: str
    type: str
    value: Node
    type_span: Span


class SegmentDeclaration(Declaration):
    """condition None: a segment that only actions and imports change."""

    name: str
    label: str | None = None
    condition: Node | None = None


class Workspace(Declaration):
    clauses: tuple[Node, ...]


class Rule(Declaration):
    name: str
    label: str | None
    clauses: tuple[Node, ...]
    triggers: tuple[Node, ...]
    steps: tuple[Node, ...]


class Campaign(Declaration):
    name: str
    label: str | None
    clauses: tuple[Node, ...]
    triggers: tuple[Node, ...]
    steps: tuple[Node, ...]


# ── tests
# ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

class Given(Node):
    noun: str
    contact: str
    values: tuple[tuple[str, Node], ...] = ()


class Happens(Node):
    """`EVENT order.placed "subject" FOR ana WITH total: 40`."""

    event: str
    subject: Node | None
    contact: str
    values: tuple[tuple[str, Node], ...] = ()
    event_span: Span


class Sets(Node):
    contact: str
    values: tuple[tuple[str, Node], ...]


class Expect(Node):
    """kind: nothing | gets | not_gets | misses | enters | leaves | completes | goal | refused | where.

    contact None for nothing; action for gets, not_gets, misses; target (a campaign or segment) for enters, leaves, completes,
    goal; because for misses, refused, enters, leaves, completes; at for gets; condition for where; `rest` when ELSE was written."""

    kind: str
    contact: str | None = None
    action: Action | None = None
    target: str | None = None
    because: str | None = None
    at: Literal | None = None
    condition: Node | None = None
    rest: bool = False


class At(Node):
    """moment: Literal date/datetime, or after: Duration or Name since the AT before."""

    moment: Literal | None
    after: Node | None
    statements: tuple[Node, ...]


class Test(Declaration):
    name: str
    given: tuple[Given, ...]
    ats: tuple[At, ...]


class File(Node):
    path: str
    items: tuple[Declaration, ...]


def children(node: Node) -> list[Node]:
    """The nodes directly inside a node, in the order of the fields."""
    found: list[Node] = []
    for field in node._compared:
        _collect(getattr(node, field), found)
    return found


def _collect(value: Any, found: list[Node]) -> None:
    if isinstance(value, Node):
        found.append(value)
    elif isinstance(value, tuple) and not isinstance(value, Span):
        for item in value:
            _collect(item, found)


def walk(node: Node) -> Any:
    """The node and all below it, parents first, in the order of the text. Iterative: depth is no matter."""
    pending = [node]
    while pending:
        current = pending.pop()
        yield current
        pending.extend(reversed(children(current)))
