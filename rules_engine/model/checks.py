"""Everything that can be said of a project before it runs. `check` is the door; the other modules each know one thing:

names (what a name means) · values (types of expressions) · conditions (never, always) · arguments, messages (actions,
templates) · triggers · policy (clauses) · flow (steps) · declarations (the top level) · stories (TESTs) · chains (circles) ·
report (one cause, one message) · suggest (what was meant)."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from typing import Any

from rules_engine.diagnostics import Diagnostic, Related, Span
from rules_engine.model import chains, declarations, names, policy, stories
from rules_engine.model.context import Context
from rules_engine.model.meaning import Model, build
from rules_engine.model.project import Project, check_settings
from rules_engine.syntax import nodes as n

_KINDS: dict[type, str] = {
    n.Const: "the constant",
    n.AttributeDeclaration: "the attribute",
    n.EventDeclaration: "the event",
    n.FactDeclaration: "the FACT",
    n.SegmentDeclaration: "the segment",
    n.Rule: "the rule",
    n.Campaign: "the campaign",
}


def check(files: Iterable[n.File], host: Any, project: Project) -> list[Diagnostic]:
    """All problems of a project's files, sorted, each cause once. `host` has `actions`, `events` and perhaps `why_missing` (see
    rules_engine.host). Never raises for what is in the files: nodes may come from text that was repaired."""
    return check_model(build(list(files), host.actions, host.events), host, project)


def check_model(model: Model, host: Any, project: Project) -> list[Diagnostic]:
    """The same for a model that has been built already."""
    # The tree and the tables hold no cycles, and scanning them over and over doubles the time (as in the parser).
    enabled = gc.isenabled()
    gc.disable()
    try:
        return _check(Context(model, host, project))
    finally:
        if enabled:
            gc.enable()


def _check(ctx: Context) -> list[Diagnostic]:
    model = ctx.model
    ctx.report.found += ctx.project.problems
    if ctx.project.settings:
        ctx.report.found += check_settings(ctx.project, set(getattr(ctx.host, "providers", {}).values()) | _failed(ctx.host))
    for later, first in model.twice:
        names.twice(ctx, _KINDS.get(type(later), ""), getattr(later, "name", ""), later.name_span, first.name_span)
    for item in _items(model):
        ctx.item = item
        _guard(ctx, item.span, lambda item=item: declarations.check(ctx, item))
    declarations.workspaces(ctx)
    _tests(ctx)
    _guard(ctx, Span("", 0, 0), lambda: chains.definitions(ctx))
    _guard(ctx, Span("", 0, 0), lambda: chains.rules(ctx))
    return _finish(ctx)


def _failed(host: Any) -> set[str]:
    return {problem.plugin for problem in getattr(host, "problems", ())}


def _items(model: Model) -> Iterable[n.Declaration]:
    """All declarations, those before the rules first; the second of two of one name is checked as well."""
    attributes = [info.declaration for info in model.attributes.values() if info.declaration is not None]
    events = [info.declaration for info in model.events.values() if info.declaration is not None]
    yield from (
        *model.constants.values(),
        *attributes,
        *events,
        *model.facts.values(),
        *model.segments.values(),
        *model.workspaces,
    )
    yield from model.rulesets
    yield from (later for later, _ in model.twice)


def _tests(ctx: Context) -> None:
    seen: dict[tuple[str, str], Span] = {}
    for test in ctx.model.tests:
        first = seen.setdefault((test.span.path, test.name), test.name_span)
        if first is not test.name_span:
            names.twice(ctx, "the TEST", test.name, test.name_span, first)
        ctx.item = test
        _guard(ctx, test.span, stories.Story(ctx, test).check)


def _guard(ctx: Context, span: Span, work: Callable[[], object]) -> None:
    """Expressions that are nested beyond what Python can follow (10,000 brackets or minus signs) get a message, never a
    traceback."""
    try:
        work()
    except RecursionError:
        ctx.reads, ctx.ruleset, ctx.negations = None, None, 0
        ctx.report.add(
            "nested-too-deep",
            Span(span.path, span.start, min(span.end, span.start + 1)),
            "something in here is nested too deeply to be checked",
            "break it into several FACTs or SEGMENTs",
        )


# ── at the end, when all uses are known ──


def _finish(ctx: Context) -> list[Diagnostic]:
    for finish in ctx.before_names:
        finish()
    _read_segments(ctx)
    _vocabulary(ctx)
    ctx.report.at_end(lambda: _added_segments(ctx))
    ctx.report.at_end(lambda: stories.expectations(ctx))
    ctx.report.at_end(lambda: _subjects(ctx))
    ctx.report.at_end(lambda: policy.near_keys(ctx))
    ctx.report.at_end(lambda: declarations.unused_constants(ctx))
    return ctx.report.diagnostics()


def _read_segments(ctx: Context) -> None:
    """Segments that are read and not declared: those that an action adds to come to be by that."""
    for name, spans in ctx.read_segments.items():
        if name in ctx.added or ("", name) in ctx.sent:
            continue
        for span in spans:
            ctx.report.unknown(
                "unknown-segment",
                name,
                span,
                ("segment", name),
                f"there is no segment `{name}`, and nothing adds to it",
                f"declare it: SEGMENT {name} IS …",
                ctx.segment_tiers,
            )


def _added_segments(ctx: Context) -> None:
    """Segments that are not declared but added to: usual for marks such as `mql`, or a slip of a declared one."""
    others = {**ctx.model.segments, **dict.fromkeys((*ctx.added, *ctx.expected_segments))}
    for name, spans in ctx.added.items():
        near = ctx.report.speller.nearest(name, (other for other in others if other != name))
        if near is not None and near in ctx.model.segments:
            ctx.misspelt.add(name)
            _misspelt_segment(ctx, name, spans, near)
        elif near is not None and (_mentions(ctx, name), ctx.report.speller.likeliness(name)) < (
            _mentions(ctx, near),
            ctx.report.speller.likeliness(near),
        ):
            ctx.misspelt.add(name)
            ctx.report.add(
                "unknown-segment", spans[0], f"there is no segment `{name}`", f"did you mean `{near}`?", suggestion=near
            )
        else:
            first = min((*spans, *ctx.read_segments.get(name, ())))
            ctx.report.warn(
                "undeclared-segment",
                first if first in spans else min(spans),
                f"the segment `{name}` is declared nowhere; this action makes it",
                f"say that you mean it: SEGMENT {name}",
            )


def _mentions(ctx: Context, name: str) -> int:
    """How often a segment without a declaration is spoken of."""
    return len(ctx.added.get(name, ())) + len(ctx.read_segments.get(name, ())) + ctx.expected_segments.get(name, 0)


def _misspelt_segment(ctx: Context, name: str, spans: list[Span], near: str) -> None:
    declaration = ctx.model.segments[near]
    if (
        ("segment", near) not in ctx.used
        and ctx.report.speller.likeliness(name) > ctx.report.speller.likeliness(near)
        or ("segment", near) not in ctx.used
        and len(spans) + len(ctx.read_segments.get(name, ())) > 1
    ):
        ctx.report.add(
            "unknown-segment",
            declaration.name_span,
            f"`{near}` is declared here and never used, while `{name}` is used and declared nowhere",
            f"did you mean `{name}` here?",
            suggestion=name,
            related=[Related(span, "used here") for span in spans[:8]],
        )
        return
    ctx.report.add(
        "unknown-segment",
        min(spans),
        f"there is no segment `{name}`",
        f"did you mean `{near}`?",
        suggestion=near,
        related=[
            Related(declaration.name_span, f"`{near}` is declared here"),
            *(Related(span, "and here") for span in sorted(spans)[1:8]),
        ],
    )


def _subjects(ctx: Context) -> None:
    """`email.opened "welcome_1"`, where no step sends welcome_1."""
    if ctx.open_sends & {"", *(name for name, record in ctx.actions.items() if record.extra == "template")}:
        return
    sent = {primary for name, primary in ctx.sent if (record := ctx.actions.get(name)) is not None and record.extra == "template"}
    sent |= {primary for name, primary in ctx.sent if not name}
    said: set[tuple[str, str]] = set()
    for event, subject, span in ctx.subjects:
        if subject in sent or not sent or (event, subject) in said:
            continue
        said.add((event, subject))
        near = ctx.report.speller.nearest(subject, sorted(sent))
        ctx.report.warn(
            "never-sent",
            span,
            f'no step sends "{subject}", so `{event}` never has it as its subject',
            f'did you mean "{near}"?' if near else "correct the name, or add the step that sends it",
            suggestion=f'"{near}"' if near else None,
        )


def _vocabulary(ctx: Context) -> None:
    """Words that stand in more than one name or label of the project are no slips: they decide which of two spellings is one."""
    counts: dict[str, int] = {}
    model = ctx.model
    tables: tuple[Iterable[str], ...] = (
        model.constants,
        model.attributes,
        model.events,
        model.facts,
        model.segments,
        model.named,
    )
    labels = [item.label for item in (*model.rulesets, *model.segments.values()) if item.label]
    if not ctx.report.has_unknown():
        return
    people = [given.contact for test in model.tests for given in test.given]
    for text in (*(name for table in tables for name in table), *labels, *people):
        for word in set(text.lower().replace(".", " ").replace("_", " ").split()):
            counts[word] = counts.get(word, 0) + 1
    ctx.report.speller.learn(word for word, count in counts.items() if count > 1)
