"""What stands at the top level: constants, attributes, events, facts, segments; rules and campaigns as a whole."""

from __future__ import annotations

from typing import Any

from rules_engine.diagnostics import Related, Span
from rules_engine.model import chains, conditions, flow, names, policy, triggers, values
from rules_engine.model.arguments import fits
from rules_engine.model.context import Context
from rules_engine.model.meaning import ATTRIBUTES, EVENT_FIELDS, Scope, attribute_name, trigger_events
from rules_engine.syntax import nodes as n

_CONST = Scope((), {}, False, "a CONST")
_FACT = Scope((), {}, False, "a FACT")
_SEGMENT = Scope((), {}, False, "a SEGMENT")
_WORKSPACE = Scope((), {}, False, "the WORKSPACE")
_HEADS = ("contact", "consent", "points", "suppressed")


def check(ctx: Context, item: n.Declaration) -> None:
    """One declaration with all that is in it."""
    check_one = _DECLARATIONS.get(type(item))
    if check_one is not None:
        check_one(ctx, item)


# ── constants, attributes, events ──


def _const(ctx: Context, item: n.Const) -> None:
    names.declared(ctx, item.name, item.name_span, "a constant")
    names.reserved(ctx, item.name, item.name_span, "a constant")
    if item.name in _circular(ctx):
        ctx.report.add(
            "circular-definition", item.name_span, f"the constant `{item.name}` is defined by itself", "give it a value"
        )
        return
    type_ = values.value(ctx, item.value, _CONST)
    if isinstance(item.value, n.Name) and item.value.name.startswith(("contact.", "event.")):
        ctx.report.add(
            "type-mismatch",
            item.value.span,
            "a constant has one value for everyone",
            f"for a value of the contact write FACT contact.{item.name}",
        )
    elif isinstance(item.value, (n.Did, n.Aggregate)) or type_ == "boolean" and not isinstance(item.value, (n.Literal, n.Name)):
        ctx.report.add(
            "type-mismatch",
            item.value.span,
            "a constant has one value for everyone",
            f"write SEGMENT {item.name} IS …, or FACT contact.{item.name}: {type_ or 'number'} IS …",
        )


def _circular(ctx: Context) -> set[str]:
    """The constants whose values lead back to themselves, found once."""
    if ctx.circular is None:
        constants = ctx.model.constants
        graph = {
            ("constant", name): [
                ("constant", node.name) for node in n.walk(item.value) if type(node) is n.Name and node.name in constants
            ]
            for name, item in constants.items()
        }
        ctx.circular = {name for group in chains.components(graph) for _, name in group}
    return ctx.circular


def unused_constants(ctx: Context) -> None:
    """At the end: constants that nothing reads."""
    for name, item in ctx.model.constants.items():
        if ("constant", name) not in ctx.used:
            ctx.report.warn("unused-constant", item.name_span, f"nothing uses the constant `{name}`", "remove it, or use it")


def _attribute(ctx: Context, item: n.AttributeDeclaration) -> None:
    name = attribute_name(item.name)
    _contact_name(ctx, item, name, "an attribute")
    names.known_type(ctx, item.type, item.type_span)
    type_ = names.value_type(item.type)
    builtin = ATTRIBUTES.get(name)
    if builtin is not None and type_ is not None and type_ != builtin:
        ctx.report.add(
            "reserved-name",
            item.name_span,
            f"every contact has `{name}`, and it is {values.SHOWN[builtin]}",
            f"declare it as {builtin}, or choose another name",
        )
    _one_of(ctx, item.one_of, type_)
    if item.default is not None:
        allowed = ctx.choices.get(name)
        fits(ctx, item.default, values.value(ctx, item.default, Scope(place="a DEFAULT")), type_, f"`{name}`", allowed)
    if item.where is not None:
        conditions.site(ctx, item.where, Scope((), {}, False, "an ATTRIBUTE"), wary=False)


def _contact_name(ctx: Context, item: Any, name: str, what: str) -> None:
    """`plan`, `contact.plan`, `consent.newsletter`: a slip in `contact` would declare an attribute that nobody reads."""
    head, dot, rest = name.partition(".")
    if dot and head not in _HEADS:
        near = ctx.report.speller.nearest(head, ("contact",))
        if near:
            ctx.misnamed.add(rest)
            better = f"contact.{rest}"
            ctx.report.add(
                "unknown-attribute",
                item.name_span,
                f"`{item.name}` is no attribute of contacts",
                f"did you mean `{better}`?",
                suggestion=better,
            )
            return
    names.declared(ctx, name, item.name_span, what, dotted=True)
    if head in ("event", "contact"):
        ctx.report.add(
            "reserved-name",
            item.name_span,
            f"{what} can't be called `{name}`: `{head}.` has a meaning of its own",
            "choose another name",
        )


def _one_of(ctx: Context, given: n.List | None, type_: str | None) -> None:
    """The values of ONE OF: written out, of the type, each once."""
    if given is None:
        return
    if not given.items:
        ctx.report.add("never-true", given.span, "ONE OF nothing leaves no value at all", "list the values")
    seen: dict[Any, Span] = {}
    for item in given.items:
        if not isinstance(item, n.Literal):
            values.value(ctx, item, _CONST)
            ctx.report.add("type-mismatch", item.span, "the values of ONE OF are written out", 'such as ONE OF ["free", "paid"]')
            continue
        fits(ctx, item, values.value(ctx, item, _CONST), type_, "each value", None)
        first = seen.setdefault(item.value, item.span)
        if first is not item.span:
            ctx.report.add(
                "declared-twice",
                item.span,
                f"{values.shown_literal(item)} stands here twice",
                "remove one of them",
                related=(Related(first, "first here"),),
            )


def _event(ctx: Context, item: n.EventDeclaration) -> None:
    names.declared(ctx, item.name, item.name_span, "an event", dotted=True)
    seen: dict[str, Span] = {}
    for field in item.fields:
        span = Span(field.span.path, field.span.start, field.span.start + len(field.name))
        names.declared(ctx, field.name, span, "a field", dotted=True)
        if field.name in EVENT_FIELDS and field.type != EVENT_FIELDS[field.name]:
            ctx.report.add(
                "reserved-name",
                span,
                f"every event has `{field.name}`, and it is {values.SHOWN[EVENT_FIELDS[field.name]]}",
                "choose another name",
            )
        first = seen.setdefault(field.name, span)
        if first is not span:
            names.twice(ctx, "the field", field.name, span, first)
        names.known_type(ctx, field.type, field.type_span)
        _one_of(ctx, field.one_of, names.value_type(field.type))
    if item.where is not None:
        conditions.site(ctx, item.where, Scope((item.name,), {}, False, "an EVENT"), wary=False)


# ── what follows from others ──


def _fact(ctx: Context, item: n.FactDeclaration) -> None:
    name = attribute_name(item.name)
    _contact_name(ctx, item, name, "a FACT")
    names.known_type(ctx, item.type, item.type_span)
    known = ctx.model.attributes.get(name)
    if known is not None:
        first = known.declaration.name_span if known.declaration is not None else None
        ctx.report.add(
            "declared-twice",
            item.name_span,
            f"`{name}` is an attribute of contacts already",
            "choose another name for the FACT",
            related=(Related(first, "first declared here"),) if first else (),
        )
    wanted = names.value_type(item.type)
    ctx.reads = set()
    if wanted == "boolean":
        conditions.site(ctx, item.value, _FACT)
    else:
        fits(ctx, item.value, values.value(ctx, item.value, _FACT), wanted, f"`{item.name}`", None)
    ctx.depends["attribute", name], ctx.reads = ctx.reads, None


def _segment(ctx: Context, item: n.SegmentDeclaration) -> None:
    names.declared(ctx, item.name, item.name_span, "a segment")
    if item.name in names.RESERVED:
        names.reserved(ctx, item.name, item.name_span, "a segment")
    if item.condition is None:
        return
    ctx.reads = set()
    conditions.site(ctx, item.condition, _SEGMENT)
    ctx.depends["segment", item.name], ctx.reads = ctx.reads, None


# ── rules, campaigns, workspace ──


def _workspace(ctx: Context, item: n.Workspace) -> None:
    policy.check_all(ctx, item.clauses, _WORKSPACE, "WORKSPACE")


def workspaces(ctx: Context) -> None:
    """Several WORKSPACE blocks are one: what may stand once may stand in one of them only."""
    if len(ctx.model.workspaces) < 2:
        return
    seen: dict[Any, n.Node] = {}
    for block in ctx.model.workspaces:
        own: dict[Any, n.Node] = {}
        for clause in block.clauses:
            key = (type(clause), getattr(clause, "channel", None) or getattr(clause, "unit", None))
            other = seen.get(key)
            if other is not None and not isinstance(clause, policy.REPEATABLE):
                ctx.report.add(
                    "duplicate-clause",
                    policy.head(clause),
                    "another WORKSPACE has this clause already",
                    "keep one of them",
                    related=(Related(policy.head(other), "first here"),),
                )
            own.setdefault(key, clause)
        seen.update({key: clause for key, clause in own.items() if key not in seen})


def _ruleset(ctx: Context, item: Any) -> None:
    """A rule or campaign: its triggers first (the clauses read their event), then clauses and steps."""
    is_rule = isinstance(item, n.Rule)
    word = "RULE" if is_rule else "CAMPAIGN"
    names.declared(ctx, item.name, item.name_span, "a rule" if is_rule else "a campaign")
    ctx.ruleset, ctx.guards, ctx.labels, ctx.splits, ctx.alias_slots = item, set(), {}, {}, {}
    ctx.delayed, ctx.guarded = False, 0
    scope = Scope(trigger_events(item.triggers), {}, not is_rule, _place(item, word))
    scope = triggers.check_all(ctx, item.triggers, scope, "WHEN")
    for trigger in item.triggers:
        _guards_of(ctx, trigger, len(item.triggers))
    policy.check_all(ctx, item.clauses, scope, word)
    if not item.steps:
        ctx.report.add("no-steps", item.name_span, f"`{item.name}` has no step, so it does nothing", "add a line with THEN")
    flow.block(ctx, item.steps, scope)
    ctx.ruleset, ctx.guards = None, set()


def _place(item: Any, word: str) -> str:
    """What to say of a ruleset whose triggers carry no event."""
    return f"this {word}, which no event starts," if not trigger_events(item.triggers) else f"a {word}"


def _guards_of(ctx: Context, trigger: n.Node, count: int) -> None:
    """What the WHERE of the only trigger makes sure of holds in the steps."""
    where = getattr(trigger, "where", None) or (trigger.occurrence.where if isinstance(trigger, n.Happening) else None)
    if count == 1 and where is not None:
        for node in n.walk(where):
            if isinstance(node, n.IsSet) and isinstance(node.value, n.Name) and not node.negated:
                ctx.guards.add(node.value.name.removeprefix("contact."))
    if isinstance(trigger, n.Becomes | n.Changes) and count == 1:
        ctx.guards.add(trigger.name.name.removeprefix("contact."))


_DECLARATIONS: dict[type, Any] = {
    n.Const: _const,
    n.AttributeDeclaration: _attribute,
    n.EventDeclaration: _event,
    n.FactDeclaration: _fact,
    n.SegmentDeclaration: _segment,
    n.Workspace: _workspace,
    n.Rule: _ruleset,
    n.Campaign: _ruleset,
}
