"""Actions with their arguments: each must be a parameter of the action, or mean what `Action.extra` says that further ones
mean."""

from __future__ import annotations

from typing import Any

from rules_engine.actions import MESSAGE_PARAMETERS, Action, Parameter
from rules_engine.diagnostics import Related, Span
from rules_engine.model import names, values
from rules_engine.model.context import Context, Effect
from rules_engine.model.meaning import MOMENTS, Scope
from rules_engine.model.report import Candidate, Tiers
from rules_engine.model.values import SHOWN, describe, value
from rules_engine.syntax import nodes as n

_BARE = frozenset({"segment", "campaign", "event", "attribute", "tag", "name"})
_VALUE_KINDS = frozenset({"text", "number", "boolean", "date", "time", "datetime", "duration", "list", "map", "birthday"})
OPTIONS = {item.name: item for item in MESSAGE_PARAMETERS}
"""Arguments of every action with a channel: they steer the sending, not the content."""

READ_ONLY = {"id": "names the contact", "created_at": "says when the contact came"}


def action(ctx: Context, node: n.Action, scope: Scope, expected: bool = False) -> None:
    """One action of a step; `expected` where a TEST speaks of it: then nothing is changed by it and nothing need be complete."""
    record = ctx.actions.get(node.name)
    if record is None:
        _unknown_action(ctx, node, scope)
        return
    _primary(ctx, node, record, scope, expected)
    keys = _arguments(ctx, node, record, scope)
    if not expected:
        for parameter in record.parameters:
            if parameter.required and parameter.name not in keys:
                ctx.report.add(
                    "missing-parameter", node.name_span, f"`{record.name}` needs `{parameter.name}:`", _example(record, parameter)
                )
        _effects(ctx, node, record)
    if record.extra == "template":
        from rules_engine.model import messages

        messages.template(ctx, node, record, scope, keys, expected)


def _example(record: Action, parameter: Parameter) -> str:
    return (parameter.help + " " if parameter.help else "") + (
        f"for example: {record.example}" if record.example else f"a {parameter.kind}"
    )


def _unknown_action(ctx: Context, node: n.Action, scope: Scope) -> None:
    """Says it once; whatever the action would send or make counts as done, so that nothing else is missed because of it."""
    said = _literal_text(node.primary) if node.primary is not None else None
    if said is not None and node.primary is not None:
        ctx.sent.setdefault(("", said), []).append(node.primary.span)
    else:
        ctx.open_sends.add("")
    if node.primary is not None and not (
        isinstance(node.primary, n.Name) and ("." not in node.primary.name or node.primary.name in ctx.model.events)
    ):
        value(ctx, node.primary, scope)
    for _, given in node.arguments:
        if not (isinstance(given, n.Name) and "." not in given.name and given.name not in ctx.model.constants):
            value(ctx, given, scope)
    if names.missing_plugin(ctx, node.name, node.name_span, "action"):
        return
    family = node.name.partition(".")[0] + "."
    siblings = sorted(name for name in ctx.actions if name.startswith(family))
    help = (
        f"the actions of {family[:-1]} are {', '.join(siblings)}"
        if siblings
        else f"the actions are {', '.join(sorted(ctx.actions)[:20])}; is a plugin missing? `camp plugin list` shows those that are installed"
    )
    ctx.report.unknown(
        "unknown-action", node.name, node.name_span, "action", f"there is no action `{node.name}`", help, ctx.action_tiers
    )


# ── the primary: what stands right behind the action's name ──


def _primary(ctx: Context, node: n.Action, record: Action, scope: Scope, expected: bool) -> None:
    parameter, given = record.primary, node.primary
    if given is None:
        if parameter is not None and parameter.required and not expected:
            ctx.report.add(
                "missing-parameter",
                node.name_span,
                f"`{record.name}` needs {_a(parameter)} right behind it",
                _example(record, parameter),
            )
        return
    if parameter is None:
        ctx.report.add(
            "unexpected-argument",
            given.span,
            f"`{record.name}` takes nothing without a name",
            _named_help(record, given),
            related=(),
        )
        return
    if expected and parameter.kind == "segment" and isinstance(given, n.Name) and given.name not in ctx.model.segments:
        ctx.expected_segments[given.name] = ctx.expected_segments.get(given.name, 0) + 1
        return
    argument(ctx, parameter, given, scope, record)
    if not expected:
        literal = _literal_text(given)
        if literal is not None:
            ctx.sent.setdefault((record.name, literal), []).append(given.span)
        elif parameter.kind not in _BARE:
            ctx.open_sends.add(record.name)


def _literal_text(node: n.Node) -> str | None:
    """What a literal or a bare name says, as text."""
    if isinstance(node, n.Literal):
        return str(node.value)
    return node.name if isinstance(node, n.Name) else None


def _named_help(record: Action, given: n.Node) -> str:
    if record.extra == "attribute":
        return f"write attribute: value, for example: {record.example}" if record.example else "write attribute: value"
    choices = [parameter.name + ":" for parameter in record.parameters]
    return f"name the argument: {', '.join(choices)}" if choices else "remove it"


def _a(parameter: Parameter) -> str:
    shown = {"url": "an address", "email": "an e-mail address", "any": "a value"}.get(parameter.kind, SHOWN.get(parameter.kind))
    return shown or f"the {parameter.name}"


# ── named arguments ──


def _arguments(ctx: Context, node: n.Action, record: Action, scope: Scope) -> dict[str, n.Node]:
    """Checks all named arguments; returns them by name."""
    if not node.arguments:
        return {}
    known = parameters(record)
    seen: dict[str, n.Node] = {}
    for position, (key, given) in enumerate(node.arguments):
        span = node.argument_spans[position] if position < len(node.argument_spans) else given.span
        if key in seen:
            ctx.report.add("parameter-twice", span, f"`{key}:` is given twice", "remove one of them")
        seen[key] = given
        if key in known:
            argument(ctx, known[key], given, scope, record)
        else:
            _extra(ctx, node, record, key, given, span, scope)
    return seen


def parameters(record: Action) -> dict[str, Parameter]:
    """All named parameters of an action, those of every message included."""
    own = {parameter.name: parameter for parameter in record.parameters}
    return {**OPTIONS, **own} if record.channel else own


def _extra(ctx: Context, node: n.Action, record: Action, key: str, given: n.Node, span: Span, scope: Scope) -> None:
    """An argument that is no parameter."""
    if record.extra == "attribute":
        assign(ctx, key, given, span, scope, writing=True)
        return
    if record.extra == "event":
        _emitted_field(ctx, node, record, key, given, span, scope)
        return
    if record.extra == "template":
        # Template names are checked with the template; a near miss of a parameter is a slip whatever the template says.
        value(ctx, given, scope)
        return
    value(ctx, given, scope)
    if record.extra == "any":
        near = ctx.report.speller.nearest(key, parameters(record))
        if near:
            ctx.report.warn(
                "unknown-parameter",
                span,
                f"`{record.name}` has no parameter `{key}`; it is passed on as it is",
                f"did you mean `{near}`?",
                suggestion=near,
            )
        return
    unknown_parameter(ctx, record, key, span)


def unknown_parameter(ctx: Context, record: Action, key: str, span: Span) -> None:
    """An argument that an action does not take."""
    known = list(parameters(record))

    def tiers() -> Tiers:
        return ([Candidate(name, name) for name in known],)

    ctx.report.unknown(
        "unknown-parameter",
        key,
        span,
        record.name,
        f"`{record.name}` has no parameter `{key}`",
        f"its parameters are {', '.join(known)}" if known else "it takes no named argument",
        tiers,
    )


def assign(ctx: Context, name: str, given: n.Node, span: Span, scope: Scope, writing: bool) -> None:
    """`plan: "paid"`: a value for an attribute, in an action (`writing`) or in a TEST."""
    if name.startswith("contact."):
        ctx.report.add(
            "unknown-attribute",
            span,
            "an argument's name is the attribute without `contact.`",
            f"write {name[8:]}:",
            suggestion=name[8:],
        )
        value(ctx, given, scope)
        return
    reads, ctx.reads = ctx.reads, None
    type_ = names.attribute(ctx, name, span, prefix="")
    ctx.reads = reads
    if name in ctx.model.facts and name not in ctx.model.attributes:
        ctx.report.add(
            "read-only",
            span,
            f"`contact.{name}` is a FACT: it follows from others and can't be set",
            "change what it follows from",
            related=(Related(ctx.model.facts[name].name_span, "declared here"),),
        )
    elif writing and name in READ_ONLY:
        ctx.report.add("read-only", span, f"`contact.{name}` {READ_ONLY[name]} and can't be set")
    given_type = value(ctx, given, scope)
    fits(ctx, given, given_type, type_, f"`{name}`", ctx.choices.get(name))


def fits(
    ctx: Context, given: n.Node, given_type: str | None, wanted: str | None, whose: str, allowed: tuple[Any, ...] | None
) -> None:
    """A value that is put into something of a type, with the values it may take."""
    if wanted is None:
        return
    if given_type is not None and given_type != wanted and not _widens(given_type, wanted):
        better = values._rewritten(given, wanted)
        ctx.report.add(
            "type-mismatch",
            given.span,
            f"{whose} is {SHOWN.get(wanted, wanted)}, and {describe(given)} is {SHOWN.get(given_type, given_type)}",
            f"write {better}" if better else "",
            suggestion=better,
        )
    elif allowed is not None and isinstance(given, n.Literal):
        values.one_of(ctx, allowed, given, whose)


def _widens(given: str, wanted: str) -> bool:
    """A date is a moment, too; a birthday may be given with its year, or as text without one (`"--05-10"`)."""
    return (given, wanted) in {
        ("date", "datetime"),
        ("date", "birthday"),
        ("text", "birthday"),
        ("datetime", "date"),
        ("birthday", "date"),
    }


def _emitted_field(ctx: Context, node: n.Action, record: Action, key: str, given: n.Node, span: Span, scope: Scope) -> None:
    """`event.emit order.placed, total: 5`: further arguments are fields of that event."""
    given_type = value(ctx, given, scope)
    event = node.primary.name if isinstance(node.primary, n.Name) else None
    if event is None or event not in ctx.model.events:
        return
    field(ctx, event, key, given, given_type, span)


def field(ctx: Context, event: str, key: str, given: n.Node, given_type: str | None, span: Span) -> None:
    """A value for a field of an event."""
    wanted = names.field(ctx, (event,), key, span, "")
    fits(ctx, given, given_type, wanted, f"`{key}`", ctx.field_choices.get((event, key)))


# ── one argument against its parameter ──


def argument(ctx: Context, parameter: Parameter, given: n.Node, scope: Scope, record: Action) -> None:
    """The value of a parameter or of the primary."""
    kind = parameter.kind
    if kind in _VALUE_KINDS:
        _value_argument(ctx, parameter, given, scope)
    elif kind == "choice":
        _choice(ctx, parameter, given, scope)
    elif kind in _BARE:
        _bare(ctx, kind, given, scope, record)
    elif kind in ("template", "url", "email", "secret"):
        _text_argument(ctx, parameter, given, scope)
    else:
        value(ctx, given, scope)


def _value_argument(ctx: Context, parameter: Parameter, given: n.Node, scope: Scope) -> None:
    type_ = value(ctx, given, scope)
    fits(ctx, given, type_, parameter.kind, f"`{parameter.name}`", None)


def _choice(ctx: Context, parameter: Parameter, given: n.Node, scope: Scope) -> None:
    said = (
        given.name
        if isinstance(given, n.Name)
        else given.value
        if isinstance(given, n.Literal) and given.type == "text"
        else None
    )
    if said in parameter.choices:
        return
    if isinstance(given, n.Name) and (given.name in ctx.model.constants or "." in given.name):
        value(ctx, given, scope)
        return
    if said is None:
        value(ctx, given, scope)
        return
    near = ctx.report.speller.nearest(str(said), parameter.choices)
    suggestion = near and (f'"{near}"' if isinstance(given, n.Literal) else near)
    ctx.report.add(
        "unknown-choice",
        given.span,
        f"{describe(given)} is not among the values of `{parameter.name}`",
        f"did you mean {suggestion}?" if suggestion else f"its values are {', '.join(parameter.choices)}",
        suggestion=suggestion,
    )


def _text_argument(ctx: Context, parameter: Parameter, given: n.Node, scope: Scope) -> None:
    kind = parameter.kind
    if (
        kind == "template"
        and isinstance(given, n.Name)
        and "." not in given.name
        and given.name not in ctx.model.constants
        and given.name not in scope.bindings
        and given.name not in MOMENTS
    ):
        ctx.report.add(
            "type-mismatch",
            given.span,
            f"a template's name stands in quotes, and `{given.name}` does not",
            f'write "{given.name}"',
            suggestion=f'"{given.name}"',
        )
        ctx.sent.setdefault(("", given.name), []).append(given.span)
        return
    type_ = value(ctx, given, scope)
    if type_ not in (None, "text"):
        ctx.report.add("type-mismatch", given.span, f"`{parameter.name}` is a text, and {describe(given)} is {SHOWN[type_]}")
    elif isinstance(given, n.Literal) and isinstance(given.value, str):
        if kind == "url" and not given.value.startswith(("http://", "https://")):
            ctx.report.add(
                "bad-url",
                given.span,
                f'"{given.value}" is no web address',
                "write it with https:// in front",
                suggestion=None if ":" in given.value else f'"https://{given.value}"',
            )
        elif kind == "email" and not ("@" in given.value.strip("@") and " " not in given.value.strip()):
            ctx.report.add("bad-address", given.span, f'"{given.value}" is no e-mail address', "write name@domain")


def _bare(ctx: Context, kind: str, given: n.Node, scope: Scope, record: Action) -> None:
    """A name that stands for itself: `segment.add vip`."""
    if kind in ("tag", "name"):
        if not isinstance(given, n.Name) and value(ctx, given, scope) not in (None, "text", "number"):
            ctx.report.add(
                "type-mismatch",
                given.span,
                f"`{record.name}` needs a name here",
                f"for example: {record.example}" if record.example else "",
            )
        elif isinstance(given, n.Name) and given.name.startswith(("contact.", "event.")):
            value(ctx, given, scope)
        return
    if not isinstance(given, n.Name):
        literal = (
            given.value
            if isinstance(given, n.Literal) and given.type == "text" and given.value.replace(".", "_").isidentifier()
            else None
        )
        ctx.report.add(
            "type-mismatch",
            given.span,
            f"the name of {_article(kind)} is written without quotes"
            if literal
            else f"`{record.name}` needs the name of {_article(kind)}, and {describe(given)} is none",
            f"write {literal}" if literal else f"for example: {record.example}" if record.example else "",
            suggestion=literal,
        )
        return
    if kind == "segment":
        _written_segment(ctx, given, record)
    elif kind == "campaign":
        names.campaign(ctx, given.name, given.span)
    elif kind == "event":
        reads, ctx.reads = ctx.reads, None
        names.event(ctx, given.name, given.span)
        ctx.reads = reads
    else:
        names.attribute(ctx, given.name.removeprefix("contact."), given.span)


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _written_segment(ctx: Context, given: n.Name, record: Action) -> None:
    """A segment that an action changes: it need not be declared, but must not follow from a condition."""
    name = given.name
    declaration = ctx.model.segments.get(name)
    if declaration is None:
        ctx.added.setdefault(name, []).append(given.span)
        return
    ctx.used.add(("segment", name))
    if declaration.condition is not None:
        ctx.report.add(
            "read-only",
            given.span,
            f"`{name}` follows from its condition, so `{record.name}` can't change it",
            "use a segment without a condition, or change what the condition asks",
            related=(Related(declaration.name_span, "declared here"),),
        )


# ── what an action changes, for the search for endless rules ──


def _effects(ctx: Context, node: n.Action, record: Action) -> None:
    if ctx.ruleset is None or not record.writes:
        return
    found = ctx.effects.setdefault(ctx.ruleset.name, [])
    guarded, delayed = ctx.guarded > 0, ctx.delayed
    for kind, name, result in _changes(ctx, node, record):
        if kind == "attribute" and name.startswith("points."):
            ctx.point_groups.add(name.removeprefix("points."))
        found.append(Effect(kind, name, result, guarded, delayed, node.span))


def _changes(ctx: Context, node: n.Action, record: Action) -> list[tuple[str, str, Any]]:
    """(kind, name, value) of what an action writes: as its own pure function says, else as its record does."""
    primary = (
        node.primary.name
        if isinstance(node.primary, n.Name) and record.primary and record.primary.kind in _BARE
        else values.fixed(ctx, node.primary)
    )
    params = {
        key: given.name if isinstance(given, n.Name) and _is_name(record, key) else values.fixed(ctx, given)
        for key, given in node.arguments
    }
    if record.changes is not None and (primary is not None or node.primary is None):
        try:
            changes = record.changes(primary, params)
            return [found for change in changes for found in _change(change)]
        except Exception:  # a plugin's function met a value it does not know: its record says enough
            pass
    return [_written(pattern, node) for pattern in record.writes if "{key}" not in pattern] + [
        ("attribute", key, None) for pattern in record.writes if "{key}" in pattern for key, _ in node.arguments
    ]


def _is_name(record: Action, key: str) -> bool:
    return any(parameter.name == key and parameter.kind in ("name", "choice", *_BARE) for parameter in record.parameters)


def _change(change: Any) -> list[tuple[str, str, Any]]:
    op, name = change.op, str(change.name)
    if op == "set":
        return [("attribute", name, change.value)]
    if op == "add":
        up = isinstance(change.value, (int, float)) and change.value
        return [("attribute", name, "up" if up and change.value > 0 else "down" if up else None)]
    if op in ("segment_add", "segment_remove"):
        return [(op, name, None)]
    if op == "emit":
        return [("event", name, None)]
    return [("campaign", name, None)] if op == "campaign_enter" else []


def _written(pattern: str, node: n.Action) -> tuple[str, str, Any]:
    """One pattern of Action.writes."""
    primary = node.primary.name if isinstance(node.primary, n.Name) else ""
    head, _, rest = pattern.replace("{primary}", primary).partition(".")
    if head == "segment":
        return ("segment_remove" if node.name.endswith(("remove", "leave")) else "segment_add", rest, None)
    return ("attribute" if head == "contact" else head, rest, None)
