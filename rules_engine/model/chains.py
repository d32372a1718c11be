"""What leads back to itself: definitions in a circle, and rules that set each other off without end.

The graph has rulesets and facts as nodes: a ruleset leads to the facts its actions change, a fact to the derived facts that
follow from it and to the rulesets that it triggers. A circle only runs without end if its triggers can turn true again and
again: `points.add` alone crosses a threshold once, and setting one value changes it once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from rules_engine.diagnostics import Related, Span
from rules_engine.model import values
from rules_engine.model.context import Context, Effect
from rules_engine.syntax import nodes as n

MAX_TRIED = 20  # partners that are tried to complete a circle for the message

Key = tuple[str, str]  # ("rule", name) for a ruleset; ("attribute" | "segment" | "event" | "campaign", name) for a fact


class _Edge(NamedTuple):
    """A step of the graph: `effect` where a ruleset changes a fact, `trigger` where a fact starts a ruleset, neither where it
    derives."""

    start: Key
    end: Key
    effect: Effect | None = None
    trigger: n.Node | None = None


# ── definitions ──


def definitions(ctx: Context) -> None:
    """Segments and derived facts that follow from themselves."""
    graph: dict[Key, list[Key]] = {
        key: [other for other in sorted(reads) if other in ctx.depends] for key, reads in ctx.depends.items()
    }
    for group in components(graph):
        first = min(group, key=lambda key: _declared(ctx, key))
        cycle = _cycle(graph, first, set(group))
        if cycle is None:
            continue
        shown = " → ".join(_shown(key) for key in [*cycle, first])
        related = [Related(_declared(ctx, key), "declared here") for key in cycle[1:]]
        ctx.report.add(
            "circular-definition",
            _declared(ctx, first),
            f"{_shown(first)} follows from itself: {shown}",
            "let one of them follow from something else",
            related=related,
        )


def _declared(ctx: Context, key: Key) -> Span:
    kind, name = key
    if kind == "segment":
        return ctx.model.segments[name].name_span
    return ctx.model.facts[name].name_span if name in ctx.model.facts else Span("", 0, 0)


def _shown(key: Key) -> str:
    return f"contact.{key[1]}" if key[0] == "attribute" else key[1]


# ── rules ──


def rules(ctx: Context) -> None:
    """Reports each group of rules and campaigns that can set each other off without end, once, with its circle."""
    edges = _edges(ctx)
    while True:
        graph: dict[Key, list[Key]] = {}
        for edge in edges:
            graph.setdefault(edge.start, []).append(edge.end)
            graph.setdefault(edge.end, [])
        groups = components(graph)
        group_of = {key: position for position, group in enumerate(groups) for key in group}
        kept = [edge for edge in edges if edge.start in group_of and group_of.get(edge.start) == group_of.get(edge.end)]
        kept = _recurring(ctx, kept)
        if len(kept) == len(edges):
            break
        edges = kept
    for group in groups:
        _report(ctx, group, [edge for edge in edges if edge.start in group], graph)


def _edges(ctx: Context) -> list[_Edge]:
    """All of the graph. Rulesets that bound how often they start are left out: nothing runs through them without end."""
    found = []
    triggered: set[Key] = set()
    for ruleset in ctx.model.rulesets:
        if _bounded(ruleset):
            continue
        me = ("rule", ruleset.name)
        for trigger in ruleset.triggers:
            key = _watched(trigger)
            if key is not None:
                triggered.add(key)
                found.append(_Edge(key, me, trigger=trigger))
        if isinstance(ruleset, n.Campaign):
            triggered.add(("campaign", ruleset.name))
            found.append(_Edge(("campaign", ruleset.name), me, trigger=ruleset))
        found += [_Edge(me, _changed(effect), effect=effect) for effect in ctx.effects.get(ruleset.name, ())]
    for derived, reads in ctx.depends.items():
        found += [_Edge(one, derived) for one in sorted(reads)]
    return found


def _bounded(ruleset: n.Rule | n.Campaign) -> bool:
    return any(
        isinstance(clause, n.AtMost)
        or isinstance(clause, n.Reentry)
        and (clause.kind in ("never", "after") or clause.times is not None)
        for clause in ruleset.clauses
    )


def _watched(trigger: n.Node) -> Key | None:
    """The fact that a trigger watches."""
    if isinstance(trigger, n.Happening):
        return ("event", trigger.occurrence.event)
    if isinstance(trigger, n.MembershipChange):
        return ("segment", trigger.segment)
    if isinstance(trigger, (n.Becomes, n.Changes)):
        return ("attribute", trigger.name.name.removeprefix("contact."))
    return None


def _changed(effect: Effect) -> Key:
    return ("segment" if effect.kind.startswith("segment") else effect.kind, effect.name)


def _recurring(ctx: Context, edges: list[_Edge]) -> list[_Edge]:
    """The edges without the triggers that can only turn true once by what these edges do."""
    derives: dict[Key, list[Key]] = {}
    moves: dict[Key, dict[tuple, Effect]] = {}  # a fact → the different things that happen to it
    for edge in edges:
        if edge.effect is not None:
            moves.setdefault(edge.end, {}).setdefault((edge.effect.kind, repr(edge.effect.value)), edge.effect)
        elif edge.trigger is None:
            derives.setdefault(edge.end, []).append(edge.start)
    known: dict[Key, list[Effect]] = {}
    return [edge for edge in edges if edge.trigger is None or _again(ctx, edge, known, derives, moves)]


def _again(
    ctx: Context,
    edge: _Edge,
    known: dict[Key, list[Effect]],
    derives: Mapping[Key, list[Key]],
    moves: Mapping[Key, Mapping[tuple, Effect]],
) -> bool:
    """Whether a trigger can turn true again and again."""
    trigger = edge.trigger
    if not isinstance(trigger, (n.Becomes, n.Changes, n.MembershipChange)):
        return True
    if edge.start not in known:
        known[edge.start] = [effect for key in _sources(edge.start, derives) for effect in moves.get(key, {}).values()]
    ways = {_way(ctx, effect, trigger, edge.start) for effect in known[edge.start]}
    if None in ways:
        return True
    if isinstance(trigger, n.Changes) and trigger.new is None and ways & {"up", "down"}:
        return True
    return len(ways) > 1


def _sources(key: Key, derives: Mapping[Key, list[Key]]) -> list[Key]:
    """A fact and all that it follows from."""
    found = {key: None}
    queue = [key]
    for one in queue:
        for other in derives.get(one, ()):
            if other not in found:
                found[other] = None
                queue.append(other)
    return queue


def _way(ctx: Context, effect: Effect, trigger: n.Node, watched: Key) -> Any:
    """In which direction an effect moves what a trigger watches; None for both."""
    if effect.kind in ("event", "segment_add", "segment_remove"):
        return effect.kind
    if effect.value in ("up", "down") or effect.value is None:
        return effect.value
    if isinstance(trigger, n.Becomes) and _changed(effect) == watched:
        wanted = values.fixed(ctx, trigger.value)
        given = (
            float(effect.value) if isinstance(effect.value, (int, float)) and not isinstance(effect.value, bool) else effect.value
        )
        if type(wanted) is type(given):
            return {"=": given == wanted, "!=": given != wanted}.get(
                trigger.op, given >= wanted if trigger.op[0] == ">" else given <= wanted
            )
    return ("set", str(effect.value))


def _report(ctx: Context, group: Iterable[Key], edges: list[_Edge], graph: Mapping[Key, list[Key]]) -> None:
    order = {ruleset.name: position for position, ruleset in enumerate(ctx.model.rulesets)}
    members = set(group)
    names = sorted((key for key in members if key[0] == "rule"), key=lambda key: order[key[1]])
    if not names:
        return
    cycle = _whole_cycle(ctx, graph, names, members, edges)
    if cycle is None:
        return
    steps = list(zip(cycle, [*cycle[1:], cycle[0]], strict=True))
    taken = [_first(edges, start, end) for start, end in steps]
    effects = [edge.effect for edge in taken if edge is not None and edge.effect is not None]
    if not effects or _paced(ctx, cycle, effects):
        return
    shown = " → ".join(key[1] for key in cycle if key[0] == "rule")
    maybe = any(effect.guarded or effect.delayed for effect in effects) or any(_filtered(edge) for edge in taken)
    what = (
        f"`{names[0][1]}` sets itself off" if len([key for key in cycle if key[0] == "rule"]) == 1 else "these set each other off"
    )
    ctx.report.add(
        "endless-rules",
        effects[0].span,
        f"{what} without end: {shown} → {names[0][1]}",
        "bound one of them (AT MOST 1 TIME PER day, REENTRY NEVER), or break the circle",
        "warning" if maybe else "error",
        related=[Related(effect.span, "leads on from here") for effect in effects[1:]],
    )


def _whole_cycle(
    ctx: Context, graph: Mapping[Key, list[Key]], names: list[Key], members: set[Key], edges: list[_Edge]
) -> list[Key] | None:
    """The shortest circle through the first ruleset that keeps itself going: alone, or by way of another one that undoes what
    it does."""
    first = _cycle(graph, names[0], members)
    if first is None or _sustained(ctx, first, edges):
        return first
    for other in names[1:MAX_TRIED]:
        there, back = _path(graph, names[0], other, members), _path(graph, other, names[0], members)
        if there and back and _sustained(ctx, [*there, *back], edges):
            return [*there, *back]
    return first


def _sustained(ctx: Context, cycle: list[Key], edges: list[_Edge]) -> bool:
    """Whether the edges of one circle keep each other going."""
    taken = set(zip(cycle, [*cycle[1:], cycle[0]], strict=True))
    own = [edge for edge in edges if (edge.start, edge.end) in taken]
    return len(_recurring(ctx, own)) == len(own)


def _first(edges: list[_Edge], start: Key, end: Key) -> _Edge | None:
    """The edge to speak of: one without a guard if there is one."""
    found = [edge for edge in edges if edge.start == start and edge.end == end]
    found.sort(key=lambda edge: (bool(edge.effect and (edge.effect.guarded or edge.effect.delayed)), _filtered(edge)))
    return found[0] if found else None


def _filtered(edge: _Edge | None) -> bool:
    """Whether a WHERE may stop the circle at this edge."""
    trigger = edge.trigger if edge is not None else None
    if isinstance(trigger, n.Happening):
        return trigger.occurrence.where is not None or trigger.occurrence.subject is not None
    return getattr(trigger, "where", None) is not None


def _paced(ctx: Context, cycle: list[Key], effects: list[Effect]) -> bool:
    """A circle in which time passes runs for ever but never at once; REENTRY ALWAYS says that this is meant."""
    if not any(effect.delayed for effect in effects):
        return False
    campaigns = [ctx.campaigns[name] for kind, name in cycle if kind == "rule" and name in ctx.campaigns]
    return any(
        isinstance(clause, n.Reentry) and clause.kind in ("always", "rematch")
        for campaign in campaigns
        for clause in campaign.clauses
    )


# ── graphs ──


def components(graph: Mapping[Key, list[Key]]) -> list[list[Key]]:
    """Groups of nodes that all lead to each other (Tarjan), those with a circle only; iterative, in a fixed order."""
    index: dict[Key, int] = {}
    low: dict[Key, int] = {}
    stack: list[Key] = []
    on_stack: set[Key] = set()
    found: list[list[Key]] = []
    for root in graph:
        if root in index:
            continue
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        work = [(root, iter(graph[root]))]
        while work:
            node, rest = work[-1]
            for other in rest:
                if other not in index:
                    index[other] = low[other] = len(index)
                    stack.append(other)
                    on_stack.add(other)
                    work.append((other, iter(graph.get(other, ()))))
                    break
                if other in on_stack:
                    low[node] = min(low[node], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    group = _popped(stack, on_stack, node)
                    if len(group) > 1 or node in graph.get(node, ()):
                        found.append(group)
    return found


def _popped(stack: list[Key], on_stack: set[Key], node: Key) -> list[Key]:
    group: list[Key] = []
    while True:
        top = stack.pop()
        on_stack.discard(top)
        group.append(top)
        if top == node:
            return group


def _cycle(graph: Mapping[Key, list[Key]], start: Key, members: set[Key]) -> list[Key] | None:
    """The shortest way from a node back to itself inside its group."""
    return _path(graph, start, start, members)


def _path(graph: Mapping[Key, list[Key]], start: Key, goal: Key, members: set[Key]) -> list[Key] | None:
    """The shortest way from one node to another, without the goal; None if there is none."""
    came: dict[Key, Key] = {}
    queue = [start]
    for node in queue:
        for other in graph.get(node, ()):
            if other == goal:
                path = [node]
                while path[-1] != start:
                    path.append(came[path[-1]])
                return path[::-1]
            if other in members and other not in came:
                came[other] = node
                queue.append(other)
    return None
