"""The clauses at the top of rules, campaigns and the workspace."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from rules_engine.diagnostics import Related, Span
from rules_engine.model import conditions, names, places, triggers, values
from rules_engine.model.context import Context
from rules_engine.model.meaning import Scope
from rules_engine.model.report import Candidate
from rules_engine.syntax import nodes as n

MAX_PRIORITY = 1_000
_ALL = "messages"  # the channel that means every message

_WORDS: dict[type, str] = {
    n.Owner: "OWNER",
    n.Starts: "STARTS",
    n.Until: "UNTIL",
    n.Audience: "AUDIENCE",
    n.ForEach: "FOR EACH",
    n.Mode: "MODE",
    n.Reentry: "REENTRY",
    n.Exit: "EXIT",
    n.ExitOnGoal: "EXIT ON GOAL",
    n.Goal: "GOAL",
    n.Deliver: "DELIVER",
    n.Limit: "LIMIT",
    n.Priority: "PRIORITY",
    n.Holdout: "HOLDOUT",
    n.Throttle: "THROTTLE",
    n.OnLate: "ON LATE",
    n.AtMost: "AT MOST",
    n.Timezone: "TIMEZONE",
    n.Quiet: "QUIET",
    n.BusinessHoursClause: "BUSINESS HOURS",
    n.Holidays: "HOLIDAYS",
    n.NeverMore: "NEVER",
    n.NeverWhere: "NEVER",
}
REPEATABLE = (n.Exit, n.Holidays, n.NeverMore, n.NeverWhere)
_JOURNEY_ONLY = {
    n.ForEach: "a RULE keeps no instances to tell apart",
    n.Mode: "a RULE is over at once, so two never meet",
    n.Exit: "a RULE is over at once",
    n.Reentry: "a RULE fires each time; AT MOST bounds it",
    n.ExitOnGoal: "a RULE has no goal",
    n.Goal: "a RULE has no goal",
    n.Holdout: "a RULE holds nobody out",
}


def check_all(ctx: Context, clauses: Iterable[n.Node], scope: Scope, owner: str) -> None:
    """The clauses of one rule, campaign or WORKSPACE (`owner`)."""
    seen: dict[Any, n.Node] = {}
    for clause in clauses:
        kind = type(clause)
        if owner == "RULE" and kind in _JOURNEY_ONLY:
            ctx.report.add(
                "misplaced-clause",
                head(clause),
                f"{_WORDS[kind]} has no meaning in a RULE: {_JOURNEY_ONLY[kind]}",
                "remove it, or make this a CAMPAIGN",
            )
            continue
        _twice(ctx, clause, seen)
        check = _CLAUSES.get(kind)
        if check is not None:
            check(ctx, clause, scope)
    _together(ctx, seen)


def head(clause: n.Node) -> Span:
    """The words that a clause begins with."""
    word = _WORDS.get(type(clause), "")
    return Span(clause.span.path, clause.span.start, min(clause.span.end, clause.span.start + max(len(word), 1)))


def _twice(ctx: Context, clause: n.Node, seen: dict[Any, n.Node]) -> None:
    kind = type(clause)
    key: Any = (
        (kind, clause.channel)
        if isinstance(clause, n.Limit)
        else (kind, clause.unit)
        if isinstance(clause, n.BusinessHoursClause)
        else kind
    )
    first = seen.setdefault(key, clause)
    if first is not clause and kind not in REPEATABLE:
        what = f"LIMIT on {clause.channel}" if isinstance(clause, n.Limit) else _WORDS.get(kind, "this")
        ctx.report.add(
            "duplicate-clause",
            head(clause),
            f"{what} stands here twice",
            "keep one of them",
            related=(Related(head(first), "first here"),),
        )


def _together(ctx: Context, seen: dict[Any, n.Node]) -> None:
    """Clauses that need or contradict one another."""
    if n.ExitOnGoal in seen and n.Goal not in seen:
        ctx.report.add(
            "goal-missing",
            seen[n.ExitOnGoal].span,
            "EXIT ON GOAL needs a GOAL, and this campaign has none",
            "add GOAL event, or write EXIT WHEN event",
        )
    starts, until = seen.get(n.Starts), seen.get(n.Until)
    if isinstance(starts, n.Starts) and isinstance(until, n.Until) and str(until.moment.value) <= str(starts.moment.value):
        ctx.report.add(
            "ends-before-start",
            until.moment.span,
            "this campaign ends before it starts",
            "swap STARTS and UNTIL, or check the years",
            related=(Related(starts.moment.span, "it starts here"),),
        )


# ── who and when ──

_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")


def _owner(ctx: Context, clause: n.Owner, scope: Scope) -> None:
    if "@" in clause.address and not _ADDRESS.fullmatch(clause.address):
        ctx.report.add(
            "bad-address", clause.span, f'"{clause.address}" is no e-mail address', "write name@domain, or the name of a team"
        )


def _moment(ctx: Context, clause: Any, scope: Scope) -> None:
    values.value(ctx, clause.moment, scope)


def _audience(ctx: Context, clause: n.Audience, scope: Scope) -> None:
    ctx.guards |= conditions.site(ctx, clause.condition, Scope((), {}, False, "AUDIENCE"))


def _for_each(ctx: Context, clause: n.ForEach, scope: Scope) -> None:
    """Each key is a field that every trigger's event carries."""
    for key in clause.keys:
        if not key.name.startswith("event."):
            _foreign_key(ctx, key, scope)
            continue
        names.resolve(ctx, key, scope)
        field = key.name[6:]
        for event in scope.events:
            info = ctx.model.events.get(event)
            if (
                info is not None
                and len(scope.events) > 1
                and field not in info.fields
                and any(field in other.fields for name in scope.events if (other := ctx.model.events.get(name)) is not None)
            ):
                ctx.report.add(
                    "missing-key",
                    key.span,
                    f"`{event}` starts this campaign and has no field `{field}`",
                    f"declare it: EVENT {event} WITH {field}: text",
                )
        if any(field in info.fields for event in scope.events if (info := ctx.model.events.get(event)) is not None):
            _near_keys(ctx, field)


def _foreign_key(ctx: Context, key: n.Name, scope: Scope) -> None:
    if key.name.startswith("contact."):
        ctx.report.add("missing-key", key.span, "an instance's key is a field of the event that starts it", "write event.NAME")
        names.resolve(ctx, key, scope)
        return
    fields = {field: "event." + field for event in scope.events if (info := ctx.model.events.get(event)) for field in info.fields}
    if key.name in fields:
        ctx.report.add(
            "wrong-kind",
            key.span,
            f"`{key.name}` is a field of the event",
            f"write event.{key.name}",
            suggestion=f"event.{key.name}",
        )
        return
    if "." in key.name or key.name in ctx.model.constants:
        names.resolve(ctx, key, scope)
        return
    ctx.report.unknown(
        "unknown-name",
        key.name,
        key.span,
        ("value", key.name),
        f"`{key.name}` means nothing here",
        f"an instance's key is a field of the event that starts it: write event.{key.name}",
        lambda: ctx.value_tiers(scope, ctx.alias_slots),
    )


def _near_keys(ctx: Context, key: str) -> None:
    """Events that end or resume this campaign reach one instance by its key. One that has nearly that field has a slip in it."""
    if ctx.ruleset is None:
        return
    for event in sorted(_later_events(ctx.ruleset)):
        info = ctx.model.events.get(event)
        if info is None or info.declaration is None or key in info.fields:
            continue
        unused = [item.name for item in info.declaration.fields if ("field", f"{event} {item.name}") not in ctx.used]
        near = ctx.report.speller.nearest(key, unused)
        if near is not None and near not in _all_keys(ctx):
            ctx.near_keys.append((event, near, key))


def _all_keys(ctx: Context) -> set[str]:
    return {
        key.name[6:]
        for item in ctx.model.rulesets
        for clause in item.clauses
        if isinstance(clause, n.ForEach)
        for key in clause.keys
    }


def _later_events(ruleset: Any) -> set[str]:
    found: set[str] = set()
    for part in (*ruleset.clauses, *ruleset.steps):
        if isinstance(part, (n.Exit, n.Goal, n.Wait, n.If, n.Split, n.Repeat)):
            found.update(
                item.occurrence.event for item in n.walk(part) if isinstance(item, n.Happening) and not item.occurrence.any
            )
    return found


def near_keys(ctx: Context) -> None:
    """At the end: reports the nearly right fields that nothing else uses or reports."""
    for event, near, key in dict.fromkeys(ctx.near_keys):
        if ("field", f"{event} {near}") in ctx.used:
            continue
        info = ctx.model.events[event]
        ctx.used.add(("field", f"{event} {near}"))
        for item in info.declaration.fields if info.declaration else ():
            span = Span(item.span.path, item.span.start, item.span.start + len(near))
            if item.name == near and span not in ctx.report.blamed:
                ctx.report.add(
                    "unknown-field",
                    span,
                    f"`{event}` reaches instances by their key `{key}`, and has `{near}` instead",
                    f"did you mean `{key}`?",
                    suggestion=key,
                )


# ── journeys ──


def _reentry(ctx: Context, clause: n.Reentry, scope: Scope) -> None:
    if clause.after is not None:
        values.span_of_time(ctx, clause.after, "REENTRY AFTER")
    if clause.times is not None:
        values.count(ctx, clause.times, "UP TO")
        if clause.kind == "never":
            ctx.report.add(
                "misplaced-clause",
                clause.times.span,
                "REENTRY NEVER is once; a number of times contradicts it",
                "write REENTRY ALWAYS UP TO 3 TIMES",
            )


def _exit(ctx: Context, clause: n.Exit, scope: Scope) -> None:
    inner = triggers.check_all(ctx, clause.alternatives, scope, "EXIT WHEN")
    from rules_engine.model import flow

    delayed, ctx.delayed, ctx.guarded = ctx.delayed, True, ctx.guarded + 1
    flow.block(ctx, clause.steps, inner)
    ctx.delayed, ctx.guarded = delayed, ctx.guarded - 1


def _goal(ctx: Context, clause: n.Goal, scope: Scope) -> None:
    triggers.check_all(ctx, clause.targets, scope, "GOAL")
    if clause.within is not None:
        values.span_of_time(ctx, clause.within, "WITHIN")


# ── messages ──


def _blocked(ctx: Context, blocked: n.Blocked | None) -> None:
    if blocked is not None and blocked.up_to is not None:
        values.span_of_time(ctx, blocked.up_to, "HOLD UP TO")


def _deliver(ctx: Context, clause: n.Deliver, scope: Scope) -> None:
    values.window(ctx, clause.start, clause.end, "DELIVER BETWEEN", clause.span)
    values.zone(ctx, clause.zone, Scope((), {}, False, "DELIVER"))
    _blocked(ctx, clause.blocked)


def _quiet(ctx: Context, clause: n.Quiet, scope: Scope) -> None:
    values.window(ctx, clause.start, clause.end, "QUIET", clause.span)
    values.zone(ctx, clause.zone, Scope((), {}, False, "QUIET"))
    _blocked(ctx, clause.blocked)


def _limit(ctx: Context, clause: n.Limit, scope: Scope) -> None:
    values.count(ctx, clause.count, "LIMIT")
    period(ctx, clause.period)
    whole = clause.span
    channel(
        ctx,
        clause.channel,
        places.after(clause.count.span.end, " ", clause.channel, clause.period.span.start, " PER ", whole.path, whole),
    )
    _blocked(ctx, clause.blocked)


def channel(ctx: Context, name: str, span: Span) -> None:
    """A channel of some action, or `messages` for all of them."""
    if name in ctx.channels or name == _ALL:
        return
    known = sorted({*ctx.channels, _ALL})
    ctx.report.unknown(
        "unknown-channel",
        name,
        span,
        "channel",
        f"there is no channel `{name}`",
        f"the channels are {', '.join(known)}",
        lambda: ([Candidate(one, one) for one in known],),
    )


def period(ctx: Context, node: n.Node) -> None:
    """`PER day`, `PER 7 days`, or a constant's name."""
    if isinstance(node, n.Name) and node.name not in ctx.model.constants:
        triggers.unknown_period(ctx, node, "PER")
    else:
        values.span_of_time(ctx, node, "PER")


def _priority(ctx: Context, clause: n.Priority, scope: Scope) -> None:
    if abs(clause.value) > MAX_PRIORITY:
        ctx.report.add(
            "bad-priority",
            clause.span,
            f"priorities run from -{MAX_PRIORITY} to {MAX_PRIORITY}",
            "0 is the usual one, higher goes first",
        )


def _holdout(ctx: Context, clause: n.Holdout, scope: Scope) -> None:
    if clause.percent > 100:
        ctx.report.add("bad-percentage", clause.span, f"{clause.percent:g}% is more than everyone", "such as HOLDOUT 10%")
    elif clause.percent == 100:
        ctx.report.warn(
            "bad-percentage", clause.span, "HOLDOUT 100% holds everyone out: nobody gets a message", "such as HOLDOUT 10%"
        )


def _throttle(ctx: Context, clause: n.Throttle, scope: Scope) -> None:
    values.count(ctx, clause.count, "THROTTLE")
    period(ctx, clause.period)


def _on_late(ctx: Context, clause: n.OnLate, scope: Scope) -> None:
    if clause.op != ">":
        ctx.report.add(
            "late-operator",
            clause.span,
            f"ON LATE is followed by >, not {clause.op}: it speaks of what is later than that",
            "write ON LATE > 6 hours SKIP",
        )
    values.span_of_time(ctx, clause.after, "ON LATE")


def _at_most(ctx: Context, clause: n.AtMost, scope: Scope) -> None:
    values.count(ctx, clause.times, "AT MOST")
    period(ctx, clause.period)


def _timezone(ctx: Context, clause: n.Timezone, scope: Scope) -> None:
    span = clause.span
    quoted = len(clause.zone) + 2
    place = Span(span.path, span.end - quoted, span.end) if span.end - span.start == len("TIMEZONE ") + quoted else span
    names.zone(ctx, clause.zone, place)


# ── workspace ──


def _business(ctx: Context, clause: n.BusinessHoursClause, scope: Scope) -> None:
    values.window(ctx, clause.start, clause.end, "BUSINESS HOURS", clause.span)
    if clause.start.value > clause.end.value:
        ctx.report.add("empty-window", clause.span, "business hours end before they begin", "write the earlier time first")


def _holidays(ctx: Context, clause: n.Holidays, scope: Scope) -> None:
    seen: dict[Any, Span] = {}
    for item in clause.dates:
        values.check_date(ctx, item)
        first = seen.setdefault(item.value, item.span)
        if first is not item.span:
            ctx.report.warn(
                "declared-twice",
                item.span,
                f"{item.value} stands here twice",
                "remove one of them",
                related=(Related(first, "first here"),),
            )


def _never_more(ctx: Context, clause: n.NeverMore, scope: Scope) -> None:
    period(ctx, clause.period)
    channel(
        ctx,
        clause.channel,
        places.after(
            clause.span.start,
            f"NEVER MORE THAN {clause.count} ",
            clause.channel,
            clause.period.span.start,
            " PER ",
            clause.span.path,
            clause.span,
        ),
    )


def _never_where(ctx: Context, clause: n.NeverWhere, scope: Scope) -> None:
    lead = len("NEVER ") + len(clause.channel) + len(" WHERE ")
    exact = clause.condition.span.start - clause.span.start == lead
    start = clause.span.start + len("NEVER ")
    channel(ctx, clause.channel, Span(clause.span.path, start, start + len(clause.channel)) if exact else clause.span)
    conditions.site(ctx, clause.condition, Scope((), {}, False, "NEVER"))


_CLAUSES: dict[type, Any] = {
    n.Owner: _owner,
    n.Starts: _moment,
    n.Until: _moment,
    n.Audience: _audience,
    n.ForEach: _for_each,
    n.Reentry: _reentry,
    n.Exit: _exit,
    n.Goal: _goal,
    n.Deliver: _deliver,
    n.Quiet: _quiet,
    n.Limit: _limit,
    n.Priority: _priority,
    n.Holdout: _holdout,
    n.Throttle: _throttle,
    n.OnLate: _on_late,
    n.AtMost: _at_most,
    n.Timezone: _timezone,
    n.BusinessHoursClause: _business,
    n.Holidays: _holidays,
    n.NeverMore: _never_more,
    n.NeverWhere: _never_where,
}
