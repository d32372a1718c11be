"""From events to rules: one generated function per event type.

A rule is found by its event's type, then by one equality test that many of its fellows share (on the subject, a field of the event, or
an attribute that none of them changes); only the rest of its WHERE is evaluated. What is generated fires in rank order, each rule at most
once per event, every condition read at its rule's turn. Where a rule may change what an earlier one reads, `again` starts over until
nothing more fires (LANGUAGE.md: fire to a fixpoint).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from rules_engine.actions import Change
from rules_engine.model.meaning import Scope
from rules_engine.plan import steps as op
from rules_engine.plan.expressions import Context
from rules_engine.plan.program import Program, Ruleset, Trigger
from rules_engine.syntax import nodes as n

_SIMPLE_CLAUSES = (n.Priority, n.Owner)
_MERGE_LIMIT = 20_000  # tests that merging general rules into each bucket may duplicate


class _Entry(NamedTuple):
    """One trigger of one ruleset: the keys it could be found by (source → value), the source of its whole test and its remaining test
    without each key, its deps."""

    ruleset: Ruleset
    trigger: Trigger
    node: n.Happening
    keys: dict[str, Any]
    terms: tuple[tuple[str | None, str], ...]  # (key source or None, test source)
    deps: frozenset[str]


def build(program: Program, parent: Any) -> None:
    """Gives every event plan its `match` function, and simple rules their generated bodies."""
    by_event: dict[str, list[_Entry]] = {}
    nodes = {node.name: node for node in parent.model.rulesets}
    for ruleset in program.rulesets:
        node = nodes[ruleset.name]
        if not ruleset.is_campaign and all(isinstance(clause, _SIMPLE_CLAUSES) for clause in node.clauses):
            ruleset.simple = _simple_body(program, parent, ruleset)
        for position, item in enumerate(node.triggers):
            if isinstance(item, n.Happening):
                entry = _entry(parent, ruleset, ruleset.triggers[position], item)
                by_event.setdefault(item.occurrence.event, []).append(entry)
    for event, entries in by_event.items():
        entries.sort(key=lambda entry: entry.ruleset.rank)
        program.events[event].match = _matcher(program, parent, entries)
    for plan in program.events.values():
        plan.watched = bool(plan.queries or plan.changes or plan.contract)
        plan.bare = not (plan.watched or plan.exits or plan.goals or plan.waits)


def _entry(parent: Any, ruleset: Ruleset, trigger: Trigger, node: n.Happening) -> _Entry:
    keys: dict[str, Any] = {}
    terms: list[tuple[str | None, str]] = []
    occurrence = node.occurrence
    deps: set[str] = set()
    if isinstance(occurrence.subject, n.Literal) and "*" not in str(occurrence.subject.value):
        keys["T.event_subject"] = occurrence.subject.value
        terms.append(("T.event_subject", f"T.event_subject == {occurrence.subject.value!r}"))
    elif occurrence.subject is not None:
        terms.append((None, f"{parent.names.put(trigger.subject, 'S')}(T.event_subject)"))
    where = occurrence.where
    for item in where.items if isinstance(where, n.And) else () if where is None else (where,):
        compiler = parent.compiler(Context(Scope((occurrence.event,)), ruleset.name, ()))
        source = compiler.condition(item)
        key = _equality(parent, item, compiler)
        deps |= compiler.deps
        if key is not None and key[0] not in keys:
            keys[key[0]] = key[1]
            terms.append((key[0], source))
        else:
            terms.append((None, source))
    return _Entry(ruleset, trigger, node, keys, tuple(terms), frozenset(deps))


def _equality(parent: Any, item: n.Node, compiler: Any) -> tuple[str, Any] | None:
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


def _matcher(program: Program, parent: Any, entries: list[_Entry]) -> Any:
    written: set[str] = set()
    for entry in entries:
        written |= _reach(program, entry.ruleset)
    if _needs_again(program, entries):
        return _again(parent, entries)
    key = _best_key(entries, written)
    if key is None:
        return _straight(parent, entries, None)
    general = [entry for entry in entries if key not in entry.keys]
    values: dict[Any, list[_Entry]] = {}
    for entry in entries:
        if key in entry.keys:
            values.setdefault(entry.keys[key], []).append(entry)
    if len(general) * len(values) > _MERGE_LIMIT:
        return _straight(parent, entries, None)
    table = {value: _straight(parent, _ranked(found + general), key) for value, found in values.items()}
    rest = _straight(parent, general, None) if general else None
    scope = parent.names.space | {"table": table, "rest": rest}
    source = f"def match(T, get=table.get, rest=rest):\n    f = get({key}, rest)\n    if f is not None:\n        f(T)\n"
    exec(source, scope)  # noqa: S102
    return scope["match"]


def _ranked(entries: list[_Entry]) -> list[_Entry]:
    return sorted(entries, key=lambda entry: entry.ruleset.rank)


def _best_key(entries: list[_Entry], written: set[str]) -> str | None:
    """The index key that leaves the fewest tests: the one whose values split its entries the most."""
    if len(entries) < 3:
        return None
    best, best_cost = None, float(len(entries))
    for key in {key for entry in entries for key in entry.keys}:
        if key.startswith("T.a.") and ("*" in written or any(f"a:{name}" in written for name in [_attribute(key)])):
            continue
        having = [entry.keys[key] for entry in entries if key in entry.keys]
        cost = len(entries) - len(having) + len(having) / len(set(having))
        if cost < best_cost or cost == best_cost and best is not None and key < best:
            best, best_cost = key, cost
    return best


def _attribute(source: str) -> str:
    return source.split("'")[1] if "'" in source else source


def _reach(program: Program, ruleset: Ruleset) -> set[str]:
    """The facts that may change, in the same tick, once the ruleset fires: by itself, by derived facts, by rules that those set off."""
    found = set(ruleset.writes)
    while True:
        more = set(found)
        for derived in program.derived:
            if derived.deps & found:
                more.add(derived.fact)
        for fact in list(found):
            for other, _ in program.edges.get(fact, ()):
                more |= other.writes
        if more == found:
            return found
        found = more


def _needs_again(program: Program, entries: list[_Entry]) -> bool:
    """Whether firing one may make an earlier one's condition true."""
    deps_before: set[str] = set()
    for entry in entries:
        if deps_before:
            reach = _reach(program, entry.ruleset)
            if "*" in reach and deps_before or deps_before & reach:
                return True
        deps_before |= {dep for dep in entry.deps if not dep.startswith("q:")}
    return False


def _call(parent: Any, entry: _Entry) -> str:
    """Source that fires an entry's ruleset."""
    if entry.ruleset.simple is not None:
        return f"{parent.names.put(entry.ruleset.simple, 'R')}(T)"
    return f"T.fire({parent.names.put(entry.ruleset, 'RS')}, {parent.names.put(entry.trigger, 'TR')})"


def _straight(parent: Any, entries: Iterable[_Entry], key: str | None) -> Any:
    """One test after the other, in rank order. `key` was already tested by the index."""
    lines = ["def match(T):"]
    for entry in entries:
        tests = [source for term, source in entry.terms if key is None or term != key]
        rank = parent.names.put(entry.ruleset.rank, "O")
        lines.append(f"    if T.pending: T.drain_before({rank})")
        call = _call(parent, entry)
        if tests:
            lines.append(f"    if {' and '.join(f'({test})' for test in tests)}: {call}")
        else:
            lines.append(f"    {call}")
    if len(lines) == 1:
        return None
    scope = parent.names.space
    exec("\n".join(lines), scope)  # noqa: S102
    match = scope.pop("match")
    return match


def _again(parent: Any, entries: list[_Entry]) -> Any:
    """The fixpoint in full: after each firing, start over with the first that has not fired."""
    pairs = []
    for entry in entries:
        tests = [source for _, source in entry.terms]
        test = parent.compiler(Context()).function(" and ".join(f"({item})" for item in tests) or "True")
        fire = parent.compiler(Context()).function(_call(parent, entry))
        pairs.append((test, fire, entry.ruleset.rank))

    def match(tick: Any) -> None:
        left = pairs
        while left:
            for position, (test, fire, rank) in enumerate(left):
                if tick.pending:
                    tick.drain_before(rank)
                if test(tick):
                    fire(tick)
                    left = left[:position] + left[position + 1:]
                    break
            else:
                return

    return match


# ── rules whose whole body is one function ──────────────────────────────────────────────────────────────────────────────────────

def _simple_body(program: Program, parent: Any, ruleset: Ruleset) -> Any:
    """A rule of internal actions with constant arguments and IFs, as one function of the tick; None where it needs the step machine."""
    lines: list[str] = []
    if not _simple_steps(program, parent, ruleset, lines):
        return None
    limit = "    T.count += 1\n    if T.count > MAX: T.endless(RULE)\n"
    scope = parent.names.space | {"RULE": ruleset, "MAX": _max_firings()}
    exec("def body(T):\n" + limit + "\n".join(lines) + "\n", scope)  # noqa: S102
    return scope["body"]


def _max_firings() -> int:
    from rules_engine.limits import MAX_FIRINGS

    return MAX_FIRINGS


def _simple_steps(program: Program, parent: Any, ruleset: Ruleset, lines: list[str]) -> bool:
    """Turns the ops into indented lines; only straight IFs (no ELSE) nest here."""
    indent, ends = 1, []
    for position, item in enumerate(ruleset.ops):
        while ends and ends[-1] == position:
            ends.pop()
            indent -= 1
        if isinstance(item, op.Act):
            if item.call.changes is None:
                return False
            body = _change_lines(program, parent, item)
            if body is None:
                return False
            lines += ["    " * indent + line for line in body]
        elif isinstance(item, op.Test):
            site, condition = parent.names.put(item.site, "SI"), parent.names.put(item.condition, "C")
            lines.append("    " * indent + f"if not {condition}.test(T): T.skip({site}, {condition})")
            lines.append("    " * indent + "else:")
            indent += 1
            ends.append(item.otherwise)
        elif not isinstance(item, op.End):
            return False
    return True


def _change_lines(program: Program, parent: Any, item: op.Act) -> list[str] | None:
    """Source of one action: what it changes, then the note of the decision. Changes nobody watches are made in place."""
    site = parent.names.put(item.site, "SI")
    call = parent.names.put(item.call, "AC")
    lines = []
    for change in item.call.changes or ():
        lines.append(_change_line(program, parent, change, item))
    lines.append(f"T.raw.append(({site}, T.now, {call}, T.cause))")
    return lines


def _change_line(program: Program, parent: Any, change: Change, item: op.Act) -> str:
    name = change.name
    fact = f"a:{name}"
    contracts = name in program.contracts
    if change.op == "add" and not contracts:
        default = program.defaults.get(name, 0)
        if not parent.is_watched(fact):
            return f"T.a[{name!r}] = T.a.get({name!r}, {default!r}) + {change.value!r}"
    if change.op == "set" and not contracts and change.value is not None and not parent.is_watched(fact):
        return f"T.a[{name!r}] = {change.value!r}"
    return f"T.change({parent.names.put(change, 'CH') if _hashable(change) else parent.names.put(_Box(change), 'CH') + '.value'}, " \
           f"{parent.names.put(item.site, 'SI')})"


class _Box:
    """Holds a change whose value can't be hashed."""

    def __init__(self, value: Change) -> None:
        self.value = value


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
