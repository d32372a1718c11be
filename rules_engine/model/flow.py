"""Steps: what each needs, and which can never be reached."""

from __future__ import annotations

from typing import Any

from rules_engine.diagnostics import Related, Span
from rules_engine.model import arguments, conditions, triggers, values
from rules_engine.model.context import Context
from rules_engine.model.meaning import Scope
from rules_engine.syntax import nodes as n

MANY = 200  # conditions of one IF that are compared with one another


def block(ctx: Context, items: tuple[n.Node, ...], scope: Scope) -> tuple[Scope, bool]:
    """Checks steps in order. Returns the scope after them (a WAIT binds names) and whether they always end in STOP."""
    ended: n.Node | None = None
    said = False
    for item in items:
        if ended is not None and not said:
            said = True
            ctx.report.warn(
                "unreachable-steps",
                _head(item),
                "this is never reached: every way before it ends in STOP",
                "remove it, or the STOP",
                related=(Related(_head(ended), "everything ends here"),),
            )
        check = _STEPS.get(type(item))
        if check is None:
            continue
        scope, ends = check(ctx, item, scope)
        if ends and ended is None:
            ended = item
    return scope, ended is not None


def _head(node: Any) -> Span:
    """Where a step begins: the first line of a block is enough to point at."""
    span = node.span
    if isinstance(node, n.If):
        end = node.branches[0].span.end
    elif isinstance(node, (n.Then, n.Stop)):
        end = span.end
    else:
        end = min(span.end, span.start + 40)
    return Span(span.path, span.start, max(end, span.start + 1))


def _label(ctx: Context, node: Any) -> None:
    """A step's label is its identity, so it must be one step's only."""
    label = node.label
    if not label:
        return
    span = Span(node.span.path, node.span.end - len(label), node.span.end) if not isinstance(node, n.Repeat) else node.rhythm.span
    first = ctx.labels.setdefault(label, span)
    if first is not span:
        ctx.report.add(
            "declared-twice",
            span,
            f"the label `{label}` names two steps",
            "give each step its own",
            related=(Related(first, "first here"),),
        )


def _then(ctx: Context, node: n.Then, scope: Scope) -> tuple[Scope, bool]:
    arguments.action(ctx, node.action, scope)
    _label(ctx, node)
    return scope, False


def _stop(ctx: Context, node: n.Stop, scope: Scope) -> tuple[Scope, bool]:
    return scope, True


def _waits(ctx: Context, node: n.Node, word: str) -> None:
    """A RULE fires and is done."""
    if isinstance(ctx.ruleset, n.Rule) and not ctx.once("waiting-in-rule"):
        span = Span(node.span.path, node.span.start, min(node.span.end, node.span.start + len(word)))
        ctx.report.add(
            "waiting-in-rule",
            span,
            f"a RULE can't wait: it has no {word}",
            f"make `{ctx.ruleset.name}` a CAMPAIGN",
            related=(Related(ctx.ruleset.name_span, "a RULE begins here"),),
        )
    ctx.delayed = True


def _after(ctx: Context, node: n.After, scope: Scope) -> tuple[Scope, bool]:
    _waits(ctx, node, "AFTER")
    values.span_of_time(ctx, node.duration, "AFTER")
    if node.window is not None:
        values.window(ctx, node.window[0], node.window[1], "BETWEEN", node.span)
    values.clock(ctx, node.at, "AT")
    values.zone(ctx, node.zone, scope)
    _label(ctx, node)
    return scope, False


def _if(ctx: Context, node: n.If, scope: Scope) -> tuple[Scope, bool]:
    earlier: list[n.Node] = []
    ends = True
    has_else = covered = False
    for branch in node.branches:
        guards: set[str] = set()
        if branch.condition is None:
            has_else = True
        else:
            guards = conditions.site(ctx, branch.condition, scope)
            if not covered:
                covered = _shadowed(ctx, branch, earlier)
            earlier.append(branch.condition)
        if not branch.steps:
            ctx.report.warn("no-steps", branch.span, "nothing happens in this branch", "add a step, or remove the branch")
        ends = _branch(ctx, branch.steps, scope, guards) and ends
    return scope, ends and has_else


def _branch(ctx: Context, steps: tuple[n.Node, ...], scope: Scope, guards: set[str]) -> bool:
    """Steps behind a condition: what it makes sure of holds for them. Whether time passes in one branch counts for all after
    it."""
    added = guards - ctx.guards
    ctx.guards |= added
    ctx.guarded += 1
    _, ends = block(ctx, steps, scope)
    ctx.guarded -= 1
    ctx.guards -= added
    return ends


def _shadowed(ctx: Context, branch: n.Branch, earlier: list[n.Node]) -> bool:
    """A branch whose condition an earlier one has always taken already."""
    if len(earlier) > MANY or branch.condition is None:
        return False
    for other in earlier:
        if conditions.shadowed(ctx, other, branch.condition):
            ctx.report.warn(
                "unreachable-steps",
                branch.condition.span,
                "this branch is never taken: an earlier one takes all of its cases",
                "put the narrower condition first",
                related=(Related(other.span, "taken by this"),),
            )
            return True
    return False


def _wait(ctx: Context, node: n.Wait, scope: Scope) -> tuple[Scope, bool]:
    _waits(ctx, node, "WAIT UNTIL")
    inner = triggers.check_all(ctx, node.alternatives, scope, "WAIT UNTIL")
    if node.up_to is not None:
        values.span_of_time(ctx, node.up_to, "UP TO")
    elif not any(isinstance(item, (n.Anchored, n.Anniversary)) for item in node.alternatives):
        _endless(ctx, node)
    if node.catch_up and not any(
        isinstance(item, (n.Anchored, n.Anniversary, n.Condition, n.Happening)) for item in node.alternatives
    ):
        ctx.report.warn(
            "misplaced-clause",
            _head(node),
            "CATCH UP is for a moment that may be past, and none is waited for",
            "remove CATCH UP",
        )
    after, ends = block(ctx, node.steps, inner)
    if node.otherwise is None:
        return inner, False
    _, other_ends = block(ctx, node.otherwise, scope)
    return inner, ends and other_ends


def _endless(ctx: Context, node: n.Wait) -> None:
    """Without UP TO, a contact to whom it never happens stays for ever; OTHERWISE then has no meaning at all."""
    if node.otherwise is not None:
        ctx.report.add(
            "endless-wait",
            _head_line(node),
            "OTHERWISE needs a time limit: without UP TO, this wait never gives up",
            "add UP TO 7 days",
        )
    elif any(isinstance(item, n.Happening) and item.occurrence.event in ctx.model.events for item in node.alternatives) or any(
        isinstance(item, (n.Condition, n.MembershipChange, n.Becomes, n.Changes)) for item in node.alternatives
    ):
        ctx.report.warn(
            "endless-wait",
            _head_line(node),
            "a contact to whom this never happens waits here for ever",
            "add UP TO 7 days and OTHERWISE",
        )


def _head_line(node: n.Wait) -> Span:
    return Span(node.span.path, node.span.start, max(item.span.end for item in node.alternatives))


def _split(ctx: Context, node: n.Split, scope: Scope) -> tuple[Scope, bool]:
    _weights(ctx, node)
    if node.name:
        first = ctx.splits.setdefault(node.name, node.span)
        if (
            first is not node.span
            and ctx.ruleset is not None
            and first.path == node.span.path
            and ctx.ruleset.span.start <= first.start < ctx.ruleset.span.end
        ):
            ctx.report.warn(
                "declared-twice",
                _head(node),
                f"two splits are called `{node.name}`, so every contact takes the same way in both",
                "rename one of them, unless that is meant",
                related=(Related(Span(first.path, first.start, first.start + 5), "first here"),),
            )
    ends = bool(node.branches)
    for branch in node.branches:
        ends = _branch(ctx, branch.steps, scope, set()) and ends
    return scope, ends


def _weights(ctx: Context, node: n.Split) -> None:
    seen: dict[str, Span] = {}
    for branch in node.branches:
        first = seen.setdefault(branch.name, branch.name_span)
        if first is not branch.name_span:
            ctx.report.add(
                "declared-twice",
                branch.name_span,
                f"two branches are called `{branch.name}`",
                "rename one of them",
                related=(Related(first, "first here"),),
            )
    total = sum(branch.percent for branch in node.branches)
    if abs(total - 100) > 1e-9:
        last = node.branches[-1].name_span if node.branches else node.span
        ctx.report.add(
            "split-sum",
            Span(node.span.path, node.span.start, node.span.start + 5),
            f"the branches add up to {total:g}%, not 100%",
            f"{'add' if total < 100 else 'take away'} {abs(100 - total):g}%",
            related=(Related(last, "the last branch"),),
        )


def _repeat(ctx: Context, node: n.Repeat, scope: Scope) -> tuple[Scope, bool]:
    _waits(ctx, node, "REPEAT")
    triggers.rhythm(ctx, node.rhythm, scope)
    values.count(ctx, node.times, "UP TO")
    guards: set[str] = set()
    if node.condition is not None:
        guards = conditions.site(ctx, node.condition, scope)
    if not node.steps:
        ctx.report.warn(
            "no-steps",
            Span(node.span.path, node.span.start, node.span.start + 6),
            "nothing is repeated here",
            "add a step, or remove the REPEAT",
        )
    _branch(ctx, node.steps, scope, guards)
    _label(ctx, node)
    return scope, False


_STEPS: dict[type, Any] = {
    n.Then: _then,
    n.After: _after,
    n.If: _if,
    n.Wait: _wait,
    n.Split: _split,
    n.Repeat: _repeat,
    n.Stop: _stop,
}
