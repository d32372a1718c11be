"""Messages that are made from template files: the file must be there, get all the values it asks for, and ask for nothing that
is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rules_engine.actions import Action
from rules_engine.diagnostics import Span
from rules_engine.model import names
from rules_engine.model.arguments import parameters, unknown_parameter
from rules_engine.model.context import Context
from rules_engine.model.meaning import EVENT_FIELDS, Scope
from rules_engine.model.report import Candidate, Tiers
from rules_engine.syntax import nodes as n

_ENDINGS = (".txt", ".html")


def template(ctx: Context, node: n.Action, record: Action, scope: Scope, keys: dict[str, n.Node], expected: bool) -> None:
    """The template that an action's primary names. A name that is only known at run time can't be checked."""
    given: Any = node.primary
    further = [key for key in keys if key not in parameters(record)]
    info = None
    if isinstance(given, n.Literal) and given.type == "text":
        info = _read(ctx, given, expected)
    if info is None or not info.exists:
        _near_parameters(ctx, node, record, further)
        return
    for key in further:
        if key not in info.names:
            _unused(ctx, node, record, key, given, info)
    if expected or given is None:
        return
    for name in sorted(info.names - info.optional - set(keys)):
        near = ctx.report.speller.nearest(name, [key for key in further if key not in info.names])
        if near is None:
            ctx.report.add(
                "missing-placeholder",
                given.span,
                f'the template "{given.value}" asks for `{name}`, which is not given',
                f"add {name}: …",
            )
    _event_fields(ctx, given, info, scope)
    _contact_fields(ctx, given, info, record)
    if "subject" not in keys and not info.has_subject and any(parameter.name == "subject" for parameter in record.parameters):
        ctx.report.add(
            "missing-parameter",
            node.name_span,
            f'the template "{given.value}" has no subject, and none is given',
            "begin its file with a line Subject: …, or add subject: …",
        )


def _read(ctx: Context, given: n.Literal, expected: bool) -> Any:
    """What is known of a template, read once; None where there is no such file (reported at the end)."""
    name = given.value
    if name not in ctx.templates:
        ctx.templates[name] = _load(ctx, name)
        info = ctx.templates[name]
        if info is not None:
            _problems(ctx, given, info)
    if ctx.templates[name] is None:
        if not expected:
            _missing(ctx, given)
        return None
    return ctx.templates[name]


def _load(ctx: Context, name: str) -> Any:
    folder = ctx.project.templates
    try:
        if not any((folder / (name + ending)).is_file() for ending in _ENDINGS):
            return None
    except (OSError, ValueError):  # a name that no file can have
        return None
    from rules_engine.model.templates import read_template  # Jinja2 costs 40 ms: only a project with templates pays them

    return read_template(folder, name)


def _missing(ctx: Context, given: n.Literal) -> None:
    """A missing file is an error in a project; a lone file is often tried out without its templates."""
    folder = ctx.project.templates
    name = given.value

    def tiers() -> Tiers:
        return ([Candidate(f'"{one}"', f'"{one}"') for one in _files(ctx)],)

    place = f"{folder.name}/{name}.txt"
    ctx.report.unknown(
        "missing-template",
        f'"{name}"',
        given.span,
        "template",
        f'there is no template "{name}"',
        f"write it: {place} or {folder.name}/{name}.html",
        tiers,
        "error" if ctx.project.has_config else "warning",
    )


def _files(ctx: Context) -> list[str]:
    folder = ctx.project.templates
    try:
        found = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*") if path.suffix in _ENDINGS}
    except OSError:
        return []
    from rules_engine.model.templates import LOCALE

    def own(name: str) -> bool:
        base, _, locale = name.rpartition(".")
        return base not in found or not LOCALE.fullmatch(locale)  # a translation is no template of its own

    return sorted(filter(own, found))


def _near_parameters(ctx: Context, node: n.Action, record: Action, further: list[str]) -> None:
    """Without the template, an argument that is nearly a parameter's name is still a slip."""
    for key in further:
        known = [name for name in parameters(record) if len(name) > 3]
        if ctx.report.speller.nearest(key, known):
            unknown_parameter(ctx, record, key, _key_span(node, key))


def _key_span(node: n.Action, key: str) -> Span:
    for position, (name, _) in enumerate(node.arguments):
        if name == key and position < len(node.argument_spans):
            return node.argument_spans[position]
    return node.span


def _unused(ctx: Context, node: n.Action, record: Action, key: str, given: n.Node, info: Any) -> None:
    shown = getattr(given, "value", "")
    known = list(parameters(record))
    near = ctx.report.speller.nearest(key, [*sorted(info.names), *known])
    ctx.report.add(
        "unknown-parameter",
        _key_span(node, key),
        f'the template "{shown}" has no placeholder `{key}`, and `{record.name}` no such parameter',
        f"did you mean `{near}`?"
        if near
        else f"its placeholders are {', '.join(sorted(info.names))}"
        if info.names
        else "it has no placeholders of its own",
        suggestion=near,
    )


def _problems(ctx: Context, given: n.Literal, info: Any) -> None:
    """What is wrong inside the template's files, said once, where the template is first named."""
    folder = ctx.project.templates.name
    for file, line, sentence in info.problems[:10]:
        ctx.report.add("bad-template", given.span, f"{folder}/{file}, line {line}: {sentence}", "correct the template")
    for name in sorted(info.contact_fields):
        if not _is_attribute(ctx, name):
            near = ctx.report.speller.nearest(name, ctx.attribute_names())
            ctx.report.add(
                "bad-template",
                given.span,
                f'the template "{given.value}" reads contact.{name}, which is no attribute',
                f"did you mean contact.{near}?" if near else f"declare it: ATTRIBUTE {name}: text",
            )


def _is_attribute(ctx: Context, name: str) -> bool:
    type_ = ctx.model.attribute_type(name)
    if type_ is not None:
        ctx.used.add(("attribute", name))
        return True
    parts = name.split(".")
    # `contact.consent` as a whole, or a value inside a map or list.
    return parts[0] in ("consent", "suppressed", "points") or any(
        ctx.model.attribute_type(".".join(parts[:length])) in ("map", "list", "any", "text") for length in range(1, len(parts))
    )


def _contact_fields(ctx: Context, given: n.Literal, info: Any, record: Action) -> None:
    """Attributes that not every contact has, read without a guard: such a contact's message would fail when it is made. Said once for
    each template."""
    for name in sorted(info.contact_fields):
        known = ctx.model.attributes.get(name)
        default = known is not None and known.declaration is not None and known.declaration.default is not None
        always = name in ("id", record.address) or name.partition(".")[0] in ("points", "consent", "suppressed") or default
        seen = ("guard", f"{given.value} {name}")
        if f"contact.{name}" in info.optional or always or ctx.model.attribute_type(name) is None or seen in ctx.used:
            continue
        ctx.used.add(seen)
        ctx.report.warn(
            "unguarded-placeholder",
            given.span,
            f'the template "{given.value}" reads contact.{name}, which a contact may lack: it would get no message',
            f'write {{{{ contact.{name} | default("…") }}}} in {", ".join(Path(file).name for file in info.files) or "the template"}',
        )


def _event_fields(ctx: Context, given: n.Literal, info: Any, scope: Scope) -> None:
    """Fields of the event that started the journey, where the template reads them without a guard."""
    for name in sorted(info.event_fields):
        if f"event.{name}" in info.optional or name in EVENT_FIELDS:
            continue
        if not scope.events:
            ctx.report.add(
                "bad-template",
                given.span,
                f'the template "{given.value}" reads event.{name}, and there is no event here',
                f"guard it in the template: event.{name} | default(…)",
            )
            return
        known = [ctx.model.events.get(event) for event in scope.events]
        if None in known:
            return
        if not any(one is not None and (name in one.fields or names._nested(one, name)) for one in known):
            ctx.report.add(
                "bad-template",
                given.span,
                f'the template "{given.value}" reads event.{name}, and `{scope.events[0]}` has no such field',
                f"add {name} to the event, or guard it in the template: event.{name} | default(…)",
            )
        else:
            for event in scope.events:
                ctx.used.add(("field", f"{event} {name}"))
