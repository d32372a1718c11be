"""Expressions to Python source. Conditions run as generated functions of the tick (rules_engine.engine.tick.Tick); nothing walks the
tree when events come in.

What a missing value (None) does: a comparison with it is false, arithmetic with it is missing. Time: values of type datetime are ms,
dates ISO text, times minutes of the day, durations Duration; `A - B > 3 days` and `X < now - 3 days` are compiled as `A > B + 3 days` and
`X + 3 days < now`, so that the moment at which a condition turns is computed exactly as the condition itself.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from rules_engine.model import meaning
from rules_engine.model.meaning import Model, Scope
from rules_engine.plan.wording import words
from rules_engine.runtime import functions as runtime
from rules_engine.runtime.calendar import Duration
from rules_engine.runtime.history import Query, reach
from rules_engine.syntax import nodes as n

_SECOND = 1000
_UNITS = {"second": _SECOND, "minute": 60 * _SECOND, "hour": 3600 * _SECOND}
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "!=": "!="}
_PYTHON = {"=": "=="}
_EVENT_SLOTS = {"id": "T.event_id", "name": "T.event_name", "subject": "T.event_subject", "at": "T.event_at"}
_READERS = {"did": "did", "count": "count", "sum": "total", "avg": "average", "min": "extreme", "max": "extreme",
            "count_distinct": "distinct", "last": "last", "first": "first"}
ZONE = "a:timezone"
"""What conditions about the calendar depend on besides what they name: days and dates are the contact's."""


def to_duration(node: n.Duration) -> Duration:
    """The value of a duration as written; a fraction of a calendar unit is elapsed time (1.5 days = 1 day 12 hours)."""
    months = days = business_days = 0
    ms = business_ms = 0
    for count, unit in node.parts:
        whole = int(count)
        rest = count - whole
        if unit in _UNITS:
            ms += round(count * _UNITS[unit])
        elif unit in ("day", "week"):
            size = 7 if unit == "week" else 1
            days += int(count * size)
            ms += round((count * size - int(count * size)) * 86_400_000)
        elif unit in ("month", "year"):
            size = 12 if unit == "year" else 1
            months += int(count * size)
            ms += round((count * size - int(count * size)) * 30 * 86_400_000)
        elif unit == "business day":
            business_days += whole
            business_ms += round(rest * 8 * 3_600_000)
        else:
            business_ms += round(count * _UNITS.get(unit.removeprefix("business "), 0))
    return Duration(months, days, ms, business_days, business_ms)


class Code(NamedTuple):
    """Python source of an expression; whether it can be None; its value type."""

    source: str
    nullable: bool
    type: str | None


class Names:
    """The constants that generated code refers to, shared by all functions of a program."""

    def __init__(self) -> None:
        self.space: dict[str, Any] = dict(vars(runtime))
        self._known: dict[Any, str] = {}

    def put(self, value: Any, prefix: str = "K") -> str:
        """A name for a value in the generated code's namespace; equal hashable values share one."""
        try:
            key = (type(value), value)
            known = self._known.get(key)
        except TypeError:
            key, known = None, None
        if known is None:
            known = f"{prefix}{len(self.space)}"
            self.space[known] = value
            if key is not None:
                self._known[key] = known
        return known


class Registry:
    """The questions about the past that a program asks, each once."""

    def __init__(self) -> None:
        self.queries: dict[str, Query] = {}

    def add(self, text: str, event: str, kind: str) -> tuple[Query, bool]:
        """The query of that canonical text, and whether it is new."""
        name = runtime.short_name(text)
        query = self.queries.get(name)
        if query is not None:
            return query, False
        query = self.queries[name] = Query(name, event, kind)
        return query, True


class Context(NamedTuple):
    """Where an expression stands: what it may read, whose instance it runs in, the fields of its FOR EACH key."""

    scope: Scope = Scope()
    owner: str | None = None
    keys: tuple[str, ...] = ()


class Compiler:
    """Compiles the expressions of one model. After compiling one, `reads` has (words, source) of what it reads, `deps` the facts it
    depends on (`a:plan`, `s:vip`, `q:slot`), `flips` sources of the moments at which time alone may turn it."""

    def __init__(self, model: Model, names: Names, registry: Registry) -> None:
        self.model, self.names, self.registry = model, names, registry
        self.begin(Context())

    def begin(self, context: Context) -> None:
        self.context = context
        self.reads: dict[str, str] = {}
        self.deps: set[str] = set()
        self.flips: list[str] = []
        self._walrus = 0
        self._comparing = False

    # ── entry points ──

    def condition(self, node: n.Node) -> str:
        """Source of a truth value: what can be missing counts as false."""
        code = self.compile(node)
        if code.type == "boolean" and not code.nullable:
            return code.source
        return f"(({code.source}) is True)" if code.type == "boolean" else f"bool({code.source})"

    def compile(self, node: n.Node) -> Code:
        return _COMPILE[type(node)](self, node)

    def _fresh(self) -> str:
        self._walrus += 1
        return f"_v{self._walrus}"

    def _null_safe(self, codes: list[Code], template: str, type_: str | None) -> Code:
        """`template` with {0}, {1} …; missing if any operand is."""
        guards, sources = [], []
        for code in codes:
            if code.nullable:
                name = self._fresh()
                guards.append(f"({name} := {code.source}) is None")
                sources.append(name)
            else:
                sources.append(f"({code.source})")
        source = template.format(*sources)
        if not guards:
            return Code(source, False, type_)
        return Code(f"(None if {' or '.join(guards)} else {source})", True, type_)

    # ── values ──

    def literal(self, node: n.Literal) -> Code:
        value = node.value
        if node.type == "percent":
            return Code(repr(value / 100), False, "number")
        if node.type == "datetime":
            self.deps.add(ZONE)
            return Code(f"local_ms({value!r}, T.zone())", False, "datetime")
        return Code(repr(value), False, node.type)

    def duration(self, node: n.Duration) -> Code:
        return Code(self.names.put(to_duration(node), "D"), False, "duration")

    def text(self, node: n.Text) -> Code:
        parts = []
        for part in node.parts:
            if isinstance(part, str):
                parts.append(repr(part))
                continue
            code = self.name(n.Name(part.name))
            parts.append(f"show({code.source}, {code.type!r}, {part.fallback!r}, T)")
        return Code(f"''.join(({', '.join(parts)},))", False, "text")

    def list(self, node: n.List) -> Code:
        if all(isinstance(item, n.Literal) and item.type != "datetime" for item in node.items):
            return Code(self.names.put(tuple(item.value for item in node.items), "L"), False, "list")
        return Code("[" + ", ".join(self.compile(item).source for item in node.items) + "]", False, "list")

    def map(self, node: n.Map) -> Code:
        pairs = []
        for key, value in node.pairs:
            code = self.compile(value)
            pairs.append(f"{key!r}: {self._external(code)}")
        return Code("{" + ", ".join(pairs) + "}", False, "map")

    @staticmethod
    def _external(code: Code) -> str:
        """Values that leave Camp leave in their written form: moments as ISO 8601."""
        return f"written({code.source}, {code.type!r})" if code.type in ("datetime", "duration", "time") else code.source

    def external(self, node: n.Node) -> str:
        """Source of a value as an action gets it."""
        return self._external(self.compile(node))

    def name(self, node: n.Name) -> Code:
        name = node.name
        head, _, rest = name.partition(".")
        if head == "contact" and rest:
            return self._attribute(rest, name)
        if head == "event" and rest:
            return self._field(rest, name)
        if head in self.context.scope.bindings:
            type_ = meaning.name_type(self.model, name, self.context.scope) if rest else "map"
            source = f"bound(T, {head!r}, {rest!r})" if rest else f"T.bindings.get({head!r})"
            self.reads[name] = source
            return Code(f"as_span({source})" if type_ == "duration" else source, True, type_)
        if name == "now":
            return Code("T.now", False, "datetime")
        if name == "today":
            self.deps.add(ZONE)
            self.flips.append("T.next_midnight()")
            return Code("T.today()", False, "date")
        if name == "start":
            return Code("T.start", False, "datetime")
        if name == "key":
            return Code("T.key", True, "text")
        constant = self.model.constants.get(name)
        if constant is not None:
            return self.compile(constant.value)
        return Code("None", True, None)

    def _attribute(self, name: str, written: str) -> Code:
        type_ = self.model.attribute_type(name)
        if name == "id":
            return Code("T.contact", False, "text")
        self.deps.add(f"a:{name}")
        default = self.default(name)
        source = f"T.a.get({name!r})" if default is None else f"T.a.get({name!r}, {default})"
        self.reads[written] = source
        return Code(f"as_span({source})" if type_ == "duration" else source, default is None, type_)

    def default(self, name: str) -> str | None:
        """Source of an attribute's default value, None where it has none."""
        info = self.model.attributes.get(name)
        if info is not None and info.declaration is not None and info.declaration.default is not None:
            return Compiler(self.model, self.names, self.registry).compile(info.declaration.default).source
        return "0" if name == "points" or name.startswith("points.") else None

    def _field(self, name: str, written: str) -> Code:
        type_ = meaning.field_type(self.model, name, self.context.scope.events)
        nested = type_ is None and "." in name
        source = _EVENT_SLOTS.get(name, f"inside(T.e, {name!r})" if nested else f"T.e.get({name!r})")
        self.reads[written] = source
        return Code(f"as_span({source})" if type_ == "duration" else source, name not in ("id", "name", "at"), type_)

    def negative(self, node: n.Negative) -> Code:
        return self._null_safe([self.compile(node.value)], "(-{0})", "number")

    def arithmetic(self, node: n.Arithmetic) -> Code:
        left, right = self.compile(node.left), self.compile(node.right)
        left, right = self._alike(node.left, left, right.type), self._alike(node.right, right, left.type)
        op = node.op
        moments = ("date", "datetime")
        if left.type in moments and right.type == "duration":
            sign = 1 if op == "+" else -1
            self.deps.add(ZONE)
            if self._comparing and left.type == "date" and self._below_a_day(node.right):
                left = self._moment(left)
            return self._null_safe([left, right], f"plus_{left.type}({{0}}, {{1}}, T, {sign})", left.type)
        if left.type in moments and right.type in moments:
            return self._null_safe([self._moment(left), self._moment(right)], "elapsed({0} - {1})", "duration")
        if left.type == "duration" or right.type == "duration":
            return self._null_safe([left, right], f"span_{ {'+': 'add', '-': 'sub', '*': 'mul', '/': 'div'}[op] }({{0}}, {{1}})", "duration")
        if op == "+" and "text" in (left.type, right.type):
            return self._null_safe([left, right], f"(show({{0}}, {left.type!r}, '', T) + show({{1}}, {right.type!r}, '', T))", "text")
        if op == "/":
            code = self._null_safe([left, right], "divide({0}, {1})", "number")
            return Code(code.source, True, "number")
        return self._null_safe([left, right], f"({{0}} {op} {{1}})", "number")

    def _below_a_day(self, node: n.Node) -> bool:
        """Whether a duration has hours: `event.day + 13 hours` is compared as a moment, though a date plus days is a date."""
        value = self.constant(node)
        return isinstance(value, Duration) and bool(value.ms % 86_400_000 or value.business_ms)

    def _moment(self, code: Code) -> Code:
        """A date as the moment at which it begins."""
        if code.type == "date":
            self.deps.add(ZONE)
        return Code(f"midnight({code.source}, T)", code.nullable, "datetime") if code.type == "date" else code

    # ── conditions ──

    def and_(self, node: n.And) -> Code:
        return Code("(" + " and ".join(self.condition(item) for item in node.items) + ")", False, "boolean")

    def or_(self, node: n.Or) -> Code:
        return Code("(" + " or ".join(self.condition(item) for item in node.items) + ")", False, "boolean")

    def not_(self, node: n.Not) -> Code:
        return Code(f"(not {self.condition(node.item)})", False, "boolean")

    def is_set(self, node: n.IsSet) -> Code:
        source = self.compile(node.value).source
        return Code(f"({source}) is None" if node.negated else f"({source}) is not None", False, "boolean")

    def between(self, node: n.Between) -> Code:
        low = self.compare(n.Compare(">=", node.value, node.low))
        high = self.compare(n.Compare("<=", node.value, node.high))
        return Code(f"({low.source} and {high.source})", False, "boolean")

    def compare(self, node: n.Compare) -> Code:
        if node.op in ("in", "not in"):
            return self._member(node)
        if node.op in ("contains", "starts with", "ends with", "matches"):
            return self._text_test(node)
        op, left, right = self._normal(node.op, node.left, node.right)
        if isinstance(left, n.Name) and left.name == "now":
            op, left, right = _FLIPPED[op], right, left
        self._comparing = True
        first, second = self.compile(left), self.compile(right)
        self._comparing = False
        first, second = self._alike(left, first, second.type), self._alike(right, second, first.type)
        if isinstance(right, n.Name) and right.name == "now":
            moment = self._moment(first)
            self.flips.append(f"flip({moment.source}, T.now)")
            first = moment
        if "datetime" in (first.type, second.type) and "date" in (first.type, second.type):
            first, second = self._dated(op, first, second)
        return self._ordered(op, first, second)

    def _alike(self, node: n.Node, code: Code, type_: str | None) -> Code:
        """What stands inside a map of an event has no declared type: it is read as what it is compared or reckoned with."""
        if code.type is not None or type_ is None or not isinstance(node, n.Name) or node.name.count(".") < 2:
            return code
        return Code(f"as_type({code.source}, {type_!r})", True, type_)

    def _ordered(self, op: str, first: Code, second: Code) -> Code:
        if first.type == second.type == "duration":
            first = Code(f"span_length({first.source})", first.nullable, "number") if not first.nullable else \
                self._null_safe([first], "span_length({0})", "number")
            second = self._null_safe([second], "span_length({0})", "number")
        python = _PYTHON.get(op, op)
        if op == "=" and not (first.nullable and second.nullable):
            return Code(f"{first.source} == {second.source}", False, "boolean")
        guards, sources = [], []
        for code in (first, second):
            if code.nullable:
                name = self._fresh()
                guards.append(f"({name} := {code.source}) is not None and ")
                sources.append(name)
            else:
                sources.append(code.source)
        return Code(f"({''.join(guards)}{sources[0]} {python} {sources[1]})", False, "boolean")

    def _dated(self, op: str, first: Code, second: Code) -> tuple[Code, Code]:
        """A moment against a date: equality asks about its day, order about the date's first moment."""
        self.deps.add(ZONE)
        if op in ("=", "!="):
            def day(code: Code) -> Code:
                return code if code.type == "date" else self._null_safe([code], "local_day({0}, T)", "date")

            return day(first), day(second)

        def start(code: Code) -> Code:
            return code if code.type == "datetime" else self._null_safe([code], "midnight({0}, T)", "datetime")

        return start(first), start(second)

    def _normal(self, op: str, left: n.Node, right: n.Node) -> tuple[str, n.Node, n.Node]:
        """Moves durations so that `now` stands alone and differences become sums (see the module's docstring)."""
        types = (self._type(left), self._type(right))
        if types == ("duration", "duration"):
            for this, other, comparison in ((left, right, op), (right, left, _FLIPPED[op])):
                if isinstance(this, n.Arithmetic) and this.op == "-" and self._type(this.left) in ("date", "datetime"):
                    return self._normal(comparison, this.left, n.Arithmetic("+", this.right, other))
        for this, other, comparison in ((left, right, op), (right, left, _FLIPPED[op])):
            if (isinstance(this, n.Arithmetic) and isinstance(this.left, n.Name) and this.left.name == "now" and this.op in "+-"
                    and self._type(this.right) == "duration"):
                back = "-" if this.op == "+" else "+"
                return _FLIPPED[comparison], n.Arithmetic(back, other, this.right), this.left
        return op, left, right

    def _type(self, node: n.Node) -> str | None:
        return meaning.type_of(self.model, node, self.context.scope)

    def _member(self, node: n.Compare) -> Code:
        negated = node.op == "not in"
        if isinstance(node.left, n.Name) and node.left.name == "contact" and isinstance(node.right, n.Name):
            segment = node.right.name
            self.deps.add(f"s:{segment}")
            self.reads[f"contact IN {segment}"] = f"{segment!r} in T.s"
            return Code(f"{segment!r} {'not in' if negated else 'in'} T.s", False, "boolean")
        left, right = self.compile(node.left), self.compile(node.right)
        code = self._null_safe([left, right], "({0} " + node.op + " {1})", "boolean")
        return Code(f"({code.source} is True)" if code.nullable else code.source, False, "boolean")

    def _text_test(self, node: n.Compare) -> Code:
        left = self.compile(node.left)
        if node.op == "matches" and isinstance(node.right, n.Literal):
            pattern = self.names.put(runtime.pattern(node.right.value), "P")
            code = self._null_safe([left], f"matches({pattern}, {{0}})", "boolean")
        else:
            right = self.compile(node.right)
            code = self._null_safe([left, right], f"{node.op.split()[0]}({{0}}, {{1}})", "boolean")
        return Code(f"({code.source} is True)" if code.nullable else code.source, False, "boolean")

    # ── history ──

    def did(self, node: n.Did) -> Code:
        times = self._whole(node.at_least, 1)
        source = self._history("did", None, node.history, times, words(node))
        return Code(source, False, "boolean")

    def aggregate(self, node: n.Aggregate) -> Code:
        type_ = self._type(node)
        source = self._history(node.function, node.value, node.history, 1, words(node))
        return Code(source, node.function not in ("count", "count_distinct", "sum"), type_)

    def _whole(self, node: n.Node | None, default: int) -> int:
        value = None if node is None else self.constant(node)
        return default if value is None else max(1, int(value))

    def constant(self, node: n.Node) -> Any:
        """The value of a literal or of a constant's name; None where it is neither."""
        if isinstance(node, n.Name) and node.name in self.model.constants:
            return self.constant(self.model.constants[node.name].value)
        if isinstance(node, n.Duration):
            return to_duration(node)
        if isinstance(node, n.Negative):
            value = self.constant(node.value)
            return None if value is None else -value
        return node.value if isinstance(node, n.Literal) else None

    def _history(self, function: str, value: n.Node | None, history: n.History, times: int, text: str) -> str:
        occurrence = history.occurrence
        window = self.constant(history.within) if history.within is not None else None
        inside = Compiler(self.model, self.names, self.registry)
        inside.begin(Context(Scope((occurrence.event,), self.context.scope.bindings, self.context.scope.journey),
                             self.context.owner, self.context.keys))
        routed = self._routed_keys(occurrence)
        test = inside.condition(occurrence.where) if occurrence.where is not None else None
        amount = None
        if value is not None:
            found = inside.compile(value)
            amount = (inside._alike(value, found, "number") if function in ("sum", "avg", "min", "max") else found).source
        personal = bool(inside.deps or inside.flips) or "T.key" in (test or "") or "T.start" in (test or "") \
            or "T.bindings" in (test or "") or isinstance(occurrence.subject, n.Text)
        self.deps |= inside.deps
        if history.since_start or routed or personal:
            source = self._raw(function, history, window, routed, test, amount, times, inside)
        else:
            identity = f"{function}|{words(occurrence)}|{text if value is not None else ''}|{times}|{window}"
            query, new = self.registry.add(identity, occurrence.event, function)
            if new:
                self._fill(query, occurrence.subject, test, amount, window)
                query.times = times
            name = self.names.put(query, "Q")
            source = f"{_READERS[function]}(T.history.get({query.id!r}), T, {name})"
            if window is not None:
                self.flips.append(f"expiry(T.history.get({query.id!r}), T, {name})")
                if not window.is_elapsed:
                    self.deps.add(ZONE)
            self.deps.add(f"q:{query.id}")
        self.reads[text] = source
        return source

    def _routed_keys(self, occurrence: n.Occurrence) -> tuple[str, ...]:
        """The key fields by which an occurrence belongs to one instance: all of the FOR EACH key that its event carries."""
        info = self.model.events.get(occurrence.event)
        if occurrence.any or info is None:
            return ()
        return tuple(key for key in self.context.keys if key in info.fields or info.fields.get(key.partition(".")[0]) == "map")

    def _fill(self, query: Query, subject: n.Node | None, test: str | None, amount: str | None, window: Any) -> None:
        query.subject = self.subject_test(subject)
        query.filter = self.function(test) if test is not None else None
        query.value = self.function(amount) if amount is not None else None
        query.window = window
        query.reach = reach(window)

    def _raw(self, function: str, history: n.History, window: Any, routed: tuple[str, ...], test: str | None, amount: str | None,
             times: int, inside: Compiler) -> str:
        """A question that only makes sense inside one instance: the occurrences are kept and looked through when it is asked."""
        occurrence = history.occurrence
        fields = sorted({name.removeprefix("event.") for name in inside.reads if name.startswith("event.")} | set(routed))
        static = occurrence.subject if not isinstance(occurrence.subject, n.Text) else None
        owner = self.context.owner if history.since_start else None
        identity = f"raw|{occurrence.event}|{words(static) if static else ''}|{fields}|{window}|{owner}"
        query, new = self.registry.add(identity, occurrence.event, "raw")
        if new:
            self._fill(query, static, None, None, window)
            query.fields, query.owner = tuple(fields), owner
        name = self.names.put(query, "Q")
        tests = [] if test is None else [test]
        tests += [f"T.e.get({key!r}) == T.keys.get({key!r})" for key in routed]
        if isinstance(occurrence.subject, n.Text):
            # The instance's own event is what the placeholders mean: read before the entries take its place.
            tests.append("T.event_subject == T.wanted")
            wanted = self.compile(occurrence.subject).source
        else:
            wanted = "None"
        look = self.function(" and ".join(f"({item})" for item in tests)) if tests else None
        take = self.function(amount) if amount is not None else None
        arguments = f"T, {name}, {history.since_start}, {self.names.put(look, 'F')}, {self.names.put(take, 'F')}, {times}, {wanted}"
        if window is not None:
            self.flips.append(f"expiry(T.history.get({query.id!r}), T, {name})")
            if not window.is_elapsed:
                self.deps.add(ZONE)
        self.deps.add(f"q:{query.id}")
        return f"ask_{function}({arguments})"

    def subject_test(self, subject: n.Node | None) -> Any:
        """A function of an event's subject, or None where any will do. `*` in a subject stands for anything."""
        if subject is None:
            return None
        wanted = [item.value for item in subject.items if isinstance(item, n.Literal)] if isinstance(subject, n.List) else \
            [subject.value if isinstance(subject, n.Literal) else ""]
        return runtime.subject_test(tuple(str(item) for item in wanted))

    # ── functions ──

    def function(self, source: str) -> Any:
        """A function of the tick that returns the value of `source`, made at once."""
        scope: dict[str, Any] = {}
        exec(f"def f(T):\n    return {source}", self.names.space, scope)  # noqa: S102 (source is made here, names are repr'd)
        return scope["f"]


_COMPILE: dict[type, Any] = {
    n.Literal: Compiler.literal, n.Duration: Compiler.duration, n.Text: Compiler.text, n.List: Compiler.list, n.Map: Compiler.map,
    n.Name: Compiler.name, n.Negative: Compiler.negative, n.Arithmetic: Compiler.arithmetic, n.And: Compiler.and_, n.Or: Compiler.or_,
    n.Not: Compiler.not_, n.IsSet: Compiler.is_set, n.Between: Compiler.between, n.Compare: Compiler.compare, n.Did: Compiler.did,
    n.Aggregate: Compiler.aggregate,
}
