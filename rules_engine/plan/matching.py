"""From events to rules: one generated function per event type.

A rule is found by its event's type, then by one equality test that many of its fellows share (on the subject, a field of the event, or
an attribute that none of them changes); only the rest of its WHERE is evaluated. What is generated fires in rank order, each rule at most
once per event, every condition read at its rule's turn. Where a rule may change what an earlier one reads, the function starts over after
it until nothing more fires (LANGUAGE.md: fire to a fixpoint).

Functions are made when their first event comes: a thousand rules load in a fraction of what compiling all of them takes.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from rules_engine.actions import Change
from rules_engine.facts import IDENTIFIED, MERGED
from rules_engine.model.meaning import Scope
from rules_engine.plan import steps as op
from rules_engine.plan.expressions import Context
from rules_engine.plan.program import Emission, EventPlan, Fired, Program, Ruleset, Trigger
from rules_engine.syntax import nodes as n

_SIMPLE_CLAUSES = (n.Priority, n.Owner)
_MERGE_LIMIT = 20_000  # tests that merging general rules into each bucket may duplicate
_PLAIN = frozenset({"a", "e", "s", "event_subject", "contact", "now", "raw", "queue"})
_TICK_NAME = re.compile(r"\bT\.(\w+)")


class _Entry(NamedTuple):
    """One trigger of one ruleset: the keys it could be found by (source → value), its tests each with the key it is (None: no key), the
    facts its tests read, and the source that fires it."""

    ruleset: Ruleset
    keys: dict[str, Any]
    terms: tuple[tuple[str | None, str], ...]
    deps: frozenset[str]
    fire: tuple[str, ...]
    plain: bool


def build(program: Program, parent: Any) -> None:
    """Gives every event plan its `match` function and every simple rule its generated body."""
    by_event: dict[str, list[tuple[Ruleset, Trigger, n.Happening]]] = {}
    nodes = {node.name: node for node in parent.model.rulesets}
    for ruleset in program.rulesets:
        node = nodes[ruleset.name]
        plain_words = all(isinstance(clause, _SIMPLE_CLAUSES) for clause in node.clauses)
        if not ruleset.is_campaign and plain_words and not any(trigger.alias for trigger in ruleset.triggers):
            _simple(program, parent, ruleset)
        for position, item in enumerate(node.triggers):
            if isinstance(item, n.Happening):
                by_event.setdefault(item.occurrence.event, []).append((ruleset, ruleset.triggers[position], item))
    reach = _Reach(program)
    for event, found in by_event.items():
        found.sort(key=lambda entry: entry[0].rank)
        plan = program.events[event]
        plan.emits = frozenset(fact[2:] for ruleset, _, _ in found for fact in ruleset.writes if fact[:2] == "e:")
        plan.match = _later(plan, program, parent, reach, found)
    for plan in program.events.values():
        plan.identity = plan.name in (IDENTIFIED, MERGED)
        plan.bare = not (plan.queries or plan.changes or plan.contract or plan.exits or plan.goals or plan.waits or plan.identity)
    plain_now = {plan.name for plan in program.events.values() if plan.bare and all(
        _is_plain(parent, ruleset, item) for ruleset, _, item in by_event.get(plan.name, ()))}
    while True:
        kept = {name for name in plain_now if program.events[name].emits <= plain_now}
        if kept == plain_now:
            break
        plain_now = kept
    program.plain = {name: plan for name, plan in program.events.items() if name in plain_now}


def _is_plain(parent: Any, ruleset: Ruleset, node: n.Happening) -> bool:
    """Whether finding and firing this rule needs nothing of the tick but attributes, segments and the event."""
    if ruleset.body is None or not _names(ruleset.body) <= _PLAIN:
        return False
    terms = _terms(parent, ruleset, None, node)[1]
    return all(_names((source,)) <= _PLAIN for _, source in terms)


def _names(lines: tuple[str, ...]) -> set[str]:
    return {name for line in lines for name in _TICK_NAME.findall(line)}


def _later(plan: EventPlan, program: Program, parent: Any, reach: _Reach, found: list[tuple[Ruleset, Trigger, n.Happening]]) -> Any:
    """A `match` that makes the real one at its first call (or when the program is warmed) and steps aside."""

    def make() -> None:
        if plan.match is first:
            entries = [_entry(parent, ruleset, trigger, node) for ruleset, trigger, node in found]
            plan.match = _matcher(parent, reach, entries, plan.name in program.plain, _later_writes(program, plan)) or _nothing

    def first(tick: Any) -> None:
        make()
        plan.match(tick)  # type: ignore[misc]

    program.unmade.append(make)
    return first


def _nothing(tick: Any) -> None:
    return None


def _terms(parent: Any, ruleset: Ruleset, trigger: Trigger | None, node: n.Happening) -> tuple[dict[str, Any], list[Any], set[str]]:
    keys: dict[str, Any] = {}
    terms: list[tuple[str | None, str]] = []
    occurrence = node.occurrence
    deps: set[str] = set()
    if isinstance(occurrence.subject, n.Literal) and "*" not in str(occurrence.subject.value):
        keys["T.event_subject"] = occurrence.subject.value
        terms.append(("T.event_subject", f"T.event_subject == {occurrence.subject.value!r}"))
    elif occurrence.subject is not None and trigger is not None:
        terms.append((None, f"{parent.names.put(trigger.subject, 'S')}(T.event_subject)"))
    where = occurrence.where
    for item in where.items if isinstance(where, n.And) else () if where is None else (where,):
        compiler = parent.compiler(Context(Scope((occurrence.event,)), ruleset.name, ()))
        source = compiler.condition(item)
        key = _equality(item, compiler)
        deps |= compiler.deps
        if key is not None and key[0] not in keys:
            keys[key[0]] = key[1]
            terms.append((key[0], source))
        else:
            terms.append((None, source))
    return keys, terms, deps


def _entry(parent: Any, ruleset: Ruleset, trigger: Trigger, node: n.Happening) -> _Entry:
    keys, terms, deps = _terms(parent, ruleset, trigger, node)
    if ruleset.body is not None:
        fire = ruleset.body
    else:
        fire = (f"T.fire({parent.names.put(ruleset, 'RS')}, {parent.names.put(trigger, 'TR')})",)
    return _Entry(ruleset, keys, tuple(_zoned(parent, ruleset, terms)), frozenset(deps), fire, _names(fire) <= _PLAIN)


def _zoned(parent: Any, ruleset: Ruleset, terms: list[Any]) -> list[Any]:
    """The terms, the first that may read the calendar doing so in the ruleset's zone: another may have been evaluated before."""
    if not parent.program.zoned:
        return terms
    for position, (key, source) in enumerate(terms):
        if key is None and not _names((source,)) <= _PLAIN or re.search(r"\bT\b(?!\.)", source):
            terms[position] = (key, f"(T.use_nothing({parent.names.put(ruleset, 'RS')}) or {source})")
            break
    return terms


def _equality(item: n.Node, compiler: Any) -> tuple[str, Any] | None:
    """(source of the value, wanted constant) of a test `name = constant` that can serve as an index key."""
    if not (isinstance(item, n.Compare) and item.op == "=" and isinstance(item.left, n.Name)):
        return None
    head, _, rest = item.left.name.partition(".")
    if not isinstance(item.right, n.Literal) or item.right.type not in ("text", "number", "date") or not rest:
        return None
    if head not in ("event", "contact"):
        return None
    source = compiler.compile(item.left).source
    return (source, item.right.value) if ".get(" in source or source.startswith("T.event") else None


class _Reach:
    """The facts that may change, in the same tick, once a ruleset fires: by itself, by derived facts, by rules that those set off."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._known: dict[frozenset[str], frozenset[str]] = {}

    def of(self, ruleset: Ruleset) -> frozenset[str]:
        found = self._known.get(ruleset.writes)
        if found is None:
            found = self._known[ruleset.writes] = self._grow(set(ruleset.writes))
        return found

    def _grow(self, found: set[str]) -> frozenset[str]:
        program = self._program
        while True:
            more = set(found)
            for derived in program.derived:
                if derived.deps & found:
                    more.add(derived.fact)
            for fact in list(found):
                for other, _ in program.edges.get(fact, ()):
                    more |= other.writes
            if more == found:
                return frozenset(found)
            found = more


def _later_writes(program: Program, plan: EventPlan) -> frozenset[str]:
    """What rulesets may change that an event sets off by way of the agenda: through edges, or by ending a wait."""
    found: set[str] = set()
    for pairs in program.edges.values():
        for ruleset, _ in pairs:
            found |= ruleset.writes
    for ruleset in program.rulesets:
        if any(isinstance(item, op.Wait) for item in ruleset.ops):
            found |= ruleset.writes
    for derived in program.derived:
        if derived.deps & found:
            found.add(derived.fact)
    return frozenset(found - {"*"})


def _matcher(parent: Any, reach: _Reach, entries: list[_Entry], plain: bool, later: frozenset[str]) -> Any:
    written: set[str] = set()
    for entry in entries:
        written |= reach.of(entry.ruleset)
    key = _best_key(entries, written)
    if key is None:
        return _straight(parent, reach, entries, None, plain, later)
    general = [entry for entry in entries if key not in entry.keys]
    values: dict[Any, list[_Entry]] = {}
    for entry in entries:
        if key in entry.keys:
            values.setdefault(entry.keys[key], []).append(entry)
    if len(general) * len(values) > _MERGE_LIMIT:
        return _straight(parent, reach, entries, None, plain, later)
    table = {value: _straight(parent, reach, _ranked(found + general), key, plain, later) for value, found in values.items()}
    rest = _straight(parent, reach, general, None, plain, later) if general else None
    source = f"def match(T, get=table.get, rest=rest):\n    f = get({key}, rest)\n    if f is not None:\n        f(T)\n"
    return _made(parent, source, {"table": table, "rest": rest}, "match")


def _made(parent: Any, source: str, more: dict[str, Any], name: str) -> Any:
    """A function from source that refers to the program's names."""
    space = parent.names.space
    for key, value in more.items():
        space[key] = value
    scope: dict[str, Any] = {}
    exec(source, space, scope)  # noqa: S102 (the source is made here; what users wrote is in it only as repr'd literals)
    for key in more:
        del space[key]
    return scope[name]


def _ranked(entries: list[_Entry]) -> list[_Entry]:
    return sorted(entries, key=lambda entry: entry.ruleset.rank)


def _best_key(entries: list[_Entry], written: set[str]) -> str | None:
    """The index key that leaves the fewest tests: the one whose values split its entries the most."""
    if len(entries) < 2:
        return None
    best, best_cost = None, float(len(entries))
    for key in sorted({key for entry in entries for key in entry.keys}):
        if key.startswith("T.a.") and ("*" in written or f"a:{_attribute(key)}" in written):
            continue
        having = [entry.keys[key] for entry in entries if key in entry.keys]
        cost = len(entries) - len(having) + len(having) / len(set(having))
        if cost < best_cost:
            best, best_cost = key, cost
    return best


def _attribute(source: str) -> str:
    return source.split("'")[1] if "'" in source else source


def _restarts(reach: _Reach, entries: list[_Entry]) -> list[bool]:
    """For each entry, whether its firing may make an earlier one's condition true."""
    found = []
    deps_before: set[str] = set()
    for entry in entries:
        facts = reach.of(entry.ruleset)
        found.append(bool(deps_before) and ("*" in facts or bool(deps_before & facts)))
        deps_before |= {dep for dep in entry.deps if not dep.startswith("q:")}
    return found


def _straight(parent: Any, reach: _Reach, entries: list[_Entry], key: str | None, plain: bool, later: frozenset[str]) -> Any:
    """One test after the other, in rank order, in a loop where a firing can enable an earlier rule. `key` was tested by the index. plain:
    nothing but these rules acts; otherwise what is on the agenda takes its turn between them, by rank. later: facts that what is on the
    agenda may change; where a rule reads one, those that did not fire are asked again when the agenda is empty."""
    if not entries:
        return None
    restarts = _restarts(reach, entries)
    again = not plain and any(entry.deps & later for entry in entries)
    looped = any(restarts) or again
    lines = ["def match(T):", "    A = T.a; E = T.e; raw = T.raw; queue = T.queue"]
    indent = "    "
    if looped:
        lines += [f"    f{number} = True" for number in range(len(entries))] + ["    while True:"]
        indent = "        "
    # A rule with several triggers fires once for an event, whichever of them it meets.
    names = [entry.ruleset.order for entry in entries]
    twice = sorted({order for order in names if names.count(order) > 1})
    lines[2:2] = [f"    g{order} = True" for order in twice]
    for number, entry in enumerate(entries):
        if not plain:
            lines.append(f"{indent}if T.pending: T.drain_before({parent.names.put(entry.ruleset.rank, 'O')})")
        tests = [f"f{number}"] if looped else []
        tests += [f"g{entry.ruleset.order}"] if entry.ruleset.order in twice else []
        tests += [f"({source})" for term, source in entry.terms if key is None or term != key]
        body = list(entry.fire) if entry.plain else [*entry.fire, "T.back()"]
        if looped:
            body.insert(0, f"f{number} = False")
        if entry.ruleset.order in twice:
            body.insert(0, f"g{entry.ruleset.order} = False")
        if looped and restarts[number]:
            body.append("continue")
        inner = indent
        if tests:
            lines.append(f"{indent}if {' and '.join(tests)}:")
            inner += "    "
        lines += [inner + line for line in body]
    if again:
        lines += ["        if T.pending:", "            T.drain_agenda()", "            continue"]
    if looped:
        lines.append("        return")
    written = frozenset().union(*(reach.of(entry.ruleset) for entry in entries)) if plain else None
    return _made(parent, _localized(lines, written), {}, "match")


_READ = re.compile(r"\bT\.([ae])\.get\('(\w+)'(, [^()]*)?\)")


def _localized(lines: list[str], written: frozenset[str] | None) -> str:
    """The source with values that can't change while the function runs read once: fields of the event, and attributes outside
    `written` (None: anything may change)."""
    text = "\n".join(lines)
    reads: dict[str, list[str]] = {}
    for found in _READ.finditer(text):
        kind, name = found.group(1), found.group(2)
        if kind == "e" or written is not None and "*" not in written and f"a:{name}" not in written:
            reads.setdefault(found.group(0), []).append(name)
    heads = []
    for number, (read, uses) in enumerate(sorted(reads.items())):
        if len(uses) > 1:
            local = f"v{number}_{uses[0]}"
            text = text.replace(read, local)
            heads.append(f"    {local} = {read}")
            # `(x := local) is not None and x > 5` needs no second name.
            text = re.sub(rf"\((_v\d+) := {local}\) is not None and \1 ", f"{local} is not None and {local} ", text)
    body = text.split("\n")
    body[2:2] = heads
    return "\n".join(body).replace("T.a.get(", "A.get(").replace("T.e.get(", "E.get(").replace("T.raw.", "raw.").replace("T.queue.", "queue.")


# ── rules whose whole body is a few lines ───────────────────────────────────────────────────────────────────────────────────────

def _simple(program: Program, parent: Any, ruleset: Ruleset) -> None:
    """Gives a rule of internal actions with constant arguments and IFs its body as lines of source, and as a function for triggers on
    edges and time. Other rules run on the step machine."""
    lines: list[str] = []
    if not _simple_steps(program, parent, ruleset, lines):
        return
    ruleset.body = tuple(lines)

    def first(tick: Any) -> None:
        source = "def body(T):\n    A = T.a\n" + "\n".join(f"    {line}" for line in lines) + "\n"
        ruleset.simple = _made(parent, source, {}, "body")
        ruleset.simple(tick)

    ruleset.simple = first


def _simple_steps(program: Program, parent: Any, ruleset: Ruleset, lines: list[str]) -> bool:
    """Turns the ops into lines; only straight IFs (no ELSE) nest here."""
    indent, ends = 0, []
    run: list[op.Act] = []
    for position, item in enumerate(ruleset.ops):
        while ends and ends[-1] == position:
            ends.pop()
            indent -= 1
            run = []
        if isinstance(item, op.Act):
            if item.call.changes is None:
                return False
            if not run:
                note = len(lines)
                lines.append("")
            run.append(item)
            lines[note] = "    " * indent + _note_line(parent, run)
            changed = [line for change in item.call.changes for line in _change_line(program, parent, change, item)]
            if any(line.startswith("T.change(") for line in changed):
                changed.append("if T.pending: T.react(); T.back()")
                run = []  # what follows from a watched change comes before the next step
            lines += ["    " * indent + line for line in changed]
            continue
        run = []
        if isinstance(item, op.Jump):
            return False
        if isinstance(item, op.Test):
            site, condition = parent.names.put(item.site, "SI"), parent.names.put(item.condition, "C")
            lines.append("    " * indent + f"if not {condition}.test(T): T.skip({site}, {condition})")
            lines.append("    " * indent + "else:")
            indent += 1
            lines.append("    " * indent + "pass")
            ends.append(item.otherwise)
        elif not isinstance(item, op.End):
            return False
    return bool(lines)


def _note_line(parent: Any, run: list[op.Act]) -> str:
    """Source that notes the decisions of actions that follow one another, all at once."""
    return f"T.raw.append({parent.names.put(Fired(tuple((item.site, item.call) for item in run)), 'FI')})"


def _change_line(program: Program, parent: Any, change: Change, item: op.Act) -> list[str]:
    """Source of one change. Those that nobody watches are made in place."""
    name, put = change.name, parent.names.put
    quiet = name not in program.contracts and not parent.is_watched(f"a:{name}")
    if change.op == "add" and quiet and isinstance(change.value, int):
        return [f"A[{name!r}] = A.get({name!r}, {program.defaults.get(name, 0)!r}) + {change.value!r}"]
    if change.op == "set" and quiet and change.value is not None and change.value != "" and name != "timezone":
        return [f"A[{name!r}] = {put(change.value, 'V') if not isinstance(change.value, str | int | float) else repr(change.value)}"]
    if change.op in ("tag_add", "tag_remove") and "tags" not in program.contracts and not parent.is_watched("a:tags"):
        there = change.op == "tag_add"
        return [f"if ({name!r} in A.get('tags', ())) is not {there}: change_tag(A, {name!r}, {there})"]
    if change.op == "emit" and name in program.events:
        data = {key: value for key, value in change.value.get("data", {}).items() if value is not None}
        return [f"T.queue.append({put(Emission(item.site, program.events[name], name, change.value.get('subject'), data), 'EM')})"]
    if change.op == "log":
        return []
    return [f"T.change({put(_Box(change), 'CH')}.value, {put(item.site, 'SI')})"]


class _Box:
    """Holds a change: its value may not be hashable."""

    def __init__(self, value: Change) -> None:
        self.value = value
