"""Looks names up: what a dotted name means where it stands, and whether events, segments and campaigns exist. Unknown ones go
to the report; the caller gets None and says nothing more."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rules_engine.actions import TYPES
from rules_engine.diagnostics import Related, Span
from rules_engine.limits import MAX_NAME_LENGTH
from rules_engine.model.context import ALWAYS_SET, Context
from rules_engine.model.meaning import ATTRIBUTES, EVENT_FIELDS, MOMENTS, EventInfo, Scope, type_of
from rules_engine.model.report import Candidate, Tiers
from rules_engine.syntax import nodes as n

_TYPES = frozenset(TYPES)
_LOWER_SNAKE = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

RESERVED = frozenset("contact event now today start key yes no true false".split())
"""Names with a meaning of their own; a constant or an alias of that name could never be read."""


def value_type(name: str | None) -> str | None:
    """A declared type if it is one of the language's and says something; None for `any` and for a misspelt one."""
    return name if name in _TYPES and name != "any" else None


# ── values ──


def resolve(ctx: Context, node: n.Name, scope: Scope) -> str | None:
    """Type of what a name means; None where it means nothing (reported) or could be anything."""
    name = node.name
    head, dot, rest = name.partition(".")
    if dot:
        if head == "contact":
            return attribute(ctx, rest, node.span)
        if head == "event":
            return event_field(ctx, rest, node.span, scope)
        if head in scope.bindings:
            ctx.used.add(("alias", head))
            return bound_field(ctx, head, rest, node.span, scope.bindings[head])
    elif name in ctx.model.constants:
        ctx.used.add(("constant", name))
        return constant_type(ctx, name)
    elif name == "contact":
        return "contact"
    elif name in MOMENTS:
        return MOMENTS[name]
    elif name in ("start", "key"):
        return _of_journey(ctx, node, scope)
    elif name in scope.bindings:
        ctx.used.add(("alias", name))
        return "map"
    elif name == "event" and scope.events:
        return "map"
    _unknown_value(ctx, node, scope)
    return None


def constant_type(ctx: Context, name: str) -> str | None:
    """Type of a constant's value, reckoned once."""
    known = ctx.constant_types
    chain = []
    while name not in known:  # constants that are named after one another, to any length
        chain.append(name)
        known[name] = None  # one that reads itself has no type
        value = ctx.model.constants[name].value
        if not (isinstance(value, n.Name) and value.name in ctx.model.constants):
            known[name] = value_type(type_of(ctx.model, value, Scope()))
            break
        name = value.name
    for one in chain:
        known[one] = known[name]
    return known[name]


def _of_journey(ctx: Context, node: n.Name, scope: Scope) -> str | None:
    if scope.journey:
        return "datetime" if node.name == "start" else "text"
    ctx.report.add(
        "no-journey",
        node.span,
        f"`{node.name}` belongs to a journey, and {scope.place or 'this place'} has none",
        "it can be read in the steps and clauses of a CAMPAIGN",
    )
    return None


def _unknown_value(ctx: Context, node: n.Name, scope: Scope) -> None:
    name = node.name
    head, dot, _ = name.partition(".")
    if dot and name in ctx.model.events:
        ctx.used.add(("event", name))
        ctx.report.add(
            "wrong-kind",
            node.span,
            f"`{name}` is an event, not a value",
            f"ask about the past with DID {name}",
            suggestion=f"DID {name}",
        )
        return
    if name in ctx.model.segments:
        ctx.used.add(("segment", name))
    aliases = ctx.alias_slots
    help = "declare it: CONST name = value" if not dot else "a dotted name begins with contact. or event."
    # All that is read through one misspelt head (`fileld.page`, `fileld.id`) has one cause.
    tag = ("value", head) if dot else ("value", name)
    ctx.report.unknown(
        "unknown-name", name, node.span, tag, f"`{name}` means nothing here", help, lambda: ctx.value_tiers(scope, aliases)
    )


def attribute(ctx: Context, name: str, span: Span, prefix: str = "contact.") -> str | None:
    """Type of an attribute of contacts by its name without `contact.`; unknown ones are reported, written with `prefix`."""
    if ctx.reads is not None:
        ctx.reads.add(("attribute", name))
    info = ctx.model.attributes.get(name)
    if info is not None:
        if info.declaration is not None:
            ctx.used.add(("attribute", name))
        return value_type(ATTRIBUTES.get(name, info.type))
    fact = ctx.model.facts.get(name)
    if fact is not None:
        ctx.used.add(("attribute", name))
        return value_type(fact.type)
    head, _, rest = name.partition(".")
    if head in ("consent", "suppressed") and rest in ctx.channels:
        return "boolean" if head == "consent" else "text"
    if head == "points" and rest:
        return _points_group(ctx, name, rest, span, prefix)
    if name not in ctx.misnamed:
        _unknown_attribute(ctx, name, span, prefix)
    return None


def likely_type(name: str) -> str:
    """The type of an attribute that has not been declared, by its name."""
    return "birthday" if name in ("birthday", "birthdate", "date_of_birth") else "text"


def _points_group(ctx: Context, name: str, group: str, span: Span, prefix: str) -> str:
    """Groups of points come to be by use, so one that nothing adds to is only reported if it is nearly one that something
    does."""

    def finish() -> None:
        near = ctx.report.speller.nearest(group, ctx.point_groups)
        if group not in ctx.point_groups and near:
            ctx.report.add(
                "unknown-attribute",
                span,
                f"nothing adds points to the group `{group}`",
                f"did you mean `{prefix}points.{near}`?",
                suggestion=f"{prefix}points.{near}",
            )

    ctx.report.at_end(finish)
    return "number"


def _unknown_attribute(ctx: Context, name: str, span: Span, prefix: str) -> None:
    shown = prefix + name
    head = name.partition(".")[0]
    if head == "consent":
        help = f"the channels are {', '.join(sorted(ctx.channels))}; for a topic of its own, declare ATTRIBUTE {name}: boolean"
    else:
        help = f"declare it: ATTRIBUTE {name}: {likely_type(name)}"
    ctx.report.unknown(
        "unknown-attribute",
        shown,
        span,
        ("attribute", name),
        f"there is no attribute `{shown}`",
        help,
        lambda: ctx.attribute_tiers(prefix),
    )


def event_field(ctx: Context, name: str, span: Span, scope: Scope) -> str | None:
    """Type of `event.NAME`; the first event that has the field decides."""
    if not scope.events:
        place = scope.place or "this place"
        if ctx.once("no-event"):
            return None
        ctx.report.add(
            "no-event",
            span,
            f"`event.{name}` is read where there is no event: {place} has none",
            "read the contact (`contact.…`), or ask about the past with DID, LAST, SUM and their like",
        )
        return None
    return field(ctx, scope.events, name, span, "event.")


def bound_field(ctx: Context, alias: str, name: str, span: Span, event: str) -> str | None:
    """Type of `alias.NAME`. An alias of what is no event (a condition, a moment) has no fields but when it came: `at`."""
    if event:
        return field(ctx, (event,), name, span, alias + ".")
    if name == "at":
        return "datetime"
    ctx.report.add(
        "unknown-field",
        span,
        f"`{alias}` names a moment, not an event: it has no `{name}`",
        f"write `{alias}.at` for when it came",
    )
    return None


def field(ctx: Context, events: Iterable[str], name: str, span: Span, prefix: str) -> str | None:
    """Type of a field of the first of these events that has it. Silent where an event is itself unknown: that has been said."""
    if name in EVENT_FIELDS:
        return EVENT_FIELDS[name]
    known = []
    for event in events:
        info = ctx.model.events.get(event)
        if info is None:
            return None
        type_ = info.fields.get(name)
        if type_ is not None:
            if info.declaration is not None:
                ctx.used.add(("field", f"{event} {name}"))
            return value_type(type_)
        if _nested(info, name):
            return None
        known.append(event)
    if known:
        _unknown_field(ctx, tuple(known), name, span, prefix)
    return None


def _nested(info: EventInfo, name: str) -> bool:
    """`event.fields.company` looks into a map that the event carries."""
    head, dot, _ = name.partition(".")
    return bool(dot) and info.fields.get(head) in ("map", "any")


def _unknown_field(ctx: Context, events: tuple[str, ...], name: str, span: Span, prefix: str) -> None:
    whose = "`, `".join(events[:3])
    fields = sorted({one for event in events for one in ctx.model.events[event].fields})
    help = f"its fields are {', '.join(fields[:12])}" if fields else f"declare it: EVENT {events[0]} WITH {name}: text"
    ctx.report.unknown(
        "unknown-field",
        prefix + name,
        span,
        (events, name),
        f"`{whose}` has no field `{name}`",
        help,
        lambda: _field_tiers(ctx, events, name, prefix),
    )


def _field_tiers(ctx: Context, events: tuple[str, ...], name: str, prefix: str) -> Tiers:
    """Fields of the events; what is like none of them is an answer where the event keeps answers in a map `fields`."""
    tiers = ctx.field_tiers(events, prefix)
    answers = all(ctx.model.events[event].fields.get("fields") == "map" for event in events)
    if answers and prefix and ctx.report.speller.nearest(prefix + name, (one.name for one in tiers[0])) is None:
        return ([Candidate(prefix + name, f"{prefix}fields.{name}")],)
    return tiers


def may_be_missing(ctx: Context, name: str) -> bool:
    """Whether a contact may lack `contact.NAME`."""
    if name in ALWAYS_SET or name.startswith("points."):
        return False
    info = ctx.model.attributes.get(name)
    if info is not None and info.declaration is not None:
        return info.declaration.default is None
    fact = ctx.model.facts.get(name)
    if fact is None:
        return True
    value = fact.value
    return not (isinstance(value, n.Aggregate) and value.function in ("count", "count_distinct", "sum"))


# ── events, segments, campaigns ──


def event(ctx: Context, name: str, span: Span) -> EventInfo | None:
    """What an event is; None and a message if there is none of that name."""
    if ctx.reads is not None:
        ctx.reads.add(("event", name))
    info = ctx.model.events.get(name)
    if info is not None:
        if info.declaration is not None:
            ctx.used.add(("event", name))
        return info
    lost = missing_plugin(ctx, name, span, "event")
    if not lost:
        if name in ctx.model.segments:
            ctx.used.add(("segment", name))
        meant = _shortened(name, ctx.model.events)
        help = f"did you mean {' or '.join(f'`{one}`' for one in meant)}?" if meant else ""
        ctx.report.unknown(
            "unknown-event",
            name,
            span,
            "event",
            f"there is no event `{name}`",
            help or f"declare it: EVENT {name}" + _siblings(name, ctx.model.events),
            lambda: ([Candidate(name, meant[0])],) if len(meant) == 1 else ctx.event_tiers(),
        )
    return None


def _shortened(name: str, events: Iterable[str]) -> list[str]:
    """The events that `opened` or `open` may be short for."""
    endings = [name + ending for ending in ("", "d", "ed")]
    return sorted(event for event in events if "." not in name and event.rpartition(".")[2] in endings and "." in event)


def _siblings(name: str, events: Iterable[str]) -> str:
    """Other names of the same family, to choose from."""
    family = name.partition(".")[0] + "."
    found = sorted(other for other in events if other.startswith(family))
    return f"; those of {family[:-1]} are {', '.join(found[:10])}" if found else ""


def missing_plugin(ctx: Context, name: str, span: Span, what: str) -> bool:
    """Says it where a name is missing because its plugin, or the record of it, could not be loaded."""
    problem = ctx.host.why_missing(name) if hasattr(ctx.host, "why_missing") else None
    if problem is None:
        return False
    message, reason = f"the {what} `{name}` belongs to the plugin {problem.plugin}, which could not be loaded", str(problem.reason)
    if problem.extent == "namesake":
        message, reason = f"there is no {what} `{name}`, and a second plugin named {problem.plugin} was left out", f"the plugin {reason}"
    elif problem.extent == "record" and name in problem.names_lost:
        message = f"the {what} `{name}` of the plugin {problem.plugin} can't be used"
    ctx.report.add("missing-plugin", span, message, reason)
    return True


def segment(ctx: Context, name: str, span: Span) -> None:
    """A segment that is read. Whether one without a declaration exists is known at the end: an action may add to it."""
    if ctx.reads is not None:
        ctx.reads.add(("segment", name))
    if name in ctx.model.segments:
        ctx.used.add(("segment", name))
    else:
        ctx.read_segments.setdefault(name, []).append(span)


def campaign(ctx: Context, name: str, span: Span) -> n.Campaign | None:
    """The campaign of that name, or None and a message."""
    found = ctx.campaigns.get(name)
    if found is not None:
        ctx.used.add(("campaign", name))
        return found
    ctx.report.unknown(
        "unknown-campaign",
        name,
        span,
        ("campaign", name),
        f"there is no campaign `{name}`",
        f"the campaigns are {', '.join(sorted(ctx.campaigns)[:10])}" if ctx.campaigns else "no campaign is declared",
        ctx.campaign_tiers,
    )
    return None


def zone(ctx: Context, name: str, span: Span) -> None:
    """A time zone by its IANA name."""
    from rules_engine.runtime.calendar import is_zone

    if is_zone(name):
        return
    from zoneinfo import available_timezones

    zones = available_timezones()
    near = ctx.report.speller.nearest(name, zones)
    if near is None:
        cities = {
            one.rpartition("/")[2]: one
            for one in sorted(zones, reverse=True)
            if "/" in one and not one.startswith(("Etc/", "posix/", "right/"))
        }
        city = ctx.report.speller.nearest(name.rpartition("/")[2], cities)
        near = cities[city] if city else None
    ctx.report.add(
        "unknown-time-zone",
        span,
        f'there is no time zone "{name}"',
        f'did you mean "{near}"?' if near else 'write an IANA name such as "Europe/Prague"',
        suggestion=f'"{near}"' if near else None,
    )


# ── declared names ──


def declared(ctx: Context, name: str, span: Span, what: str, dotted: bool = False) -> None:
    """A name that is declared must be lower_snake, not too long, and dotted only where that means something."""
    if _LOWER_SNAKE.fullmatch(name) and len(name) <= MAX_NAME_LENGTH and (dotted or "." not in name):
        return
    if len(name) > MAX_NAME_LENGTH:
        ctx.report.add("bad-name", span, f"this name has {len(name)} characters, and {MAX_NAME_LENGTH} is the most")
        return
    better = snake(name) if dotted else snake(name).replace(".", "_")
    fits = better != name and _LOWER_SNAKE.fullmatch(better)
    why = "has a dot" if not dotted and "." in name else "is not in lower case with _ between words"
    ctx.report.add(
        "bad-name",
        span,
        f"`{name}` {why}, as the name of {what} must be" if why[0] == "i" else f"the name of {what} can't have a dot",
        f"write `{better}`" if fits else "use the letters a to z, digits and _",
        suggestion=better if fits else None,
    )


def snake(name: str) -> str:
    """`OrderPlaced` as `order_placed`."""
    return _HUMP.sub("_", name).lower()


def reserved(ctx: Context, name: str, span: Span, what: str) -> None:
    """A constant's or an alias' name that the language itself uses."""
    if not _LOWER_SNAKE.fullmatch(name):
        return  # it has a message for that
    if name in RESERVED:
        ctx.report.add(
            "reserved-name", span, f"`{name}` has a meaning of its own, so {what} can't be called that", "choose another name"
        )


def known_type(ctx: Context, name: str, span: Span) -> None:
    """A type as it stands in a declaration."""
    if name in _TYPES:
        return
    near = _FOREIGN_TYPES.get(name.lower()) or ctx.report.speller.nearest(name, TYPES)
    ctx.report.add(
        "unknown-type",
        span,
        f"there is no type `{name}`",
        f"did you mean `{near}`?" if near else f"the types are {', '.join(TYPES)}",
        suggestion=near,
    )


_FOREIGN_TYPES = {
    "string": "text",
    "str": "text",
    "varchar": "text",
    "int": "number",
    "integer": "number",
    "float": "number",
    "decimal": "number",
    "bool": "boolean",
    "timestamp": "datetime",
    "array": "list",
    "object": "map",
    "dict": "map",
    "interval": "duration",
    "flag": "boolean",
}


def twice(ctx: Context, what: str, name: str, span: Span, first: Span) -> None:
    """The second of two things of one name."""
    ctx.report.add(
        "declared-twice",
        span,
        f"{what} `{name}` is declared twice",
        "rename one of them or remove it",
        related=(Related(first, "first declared here"),),
    )
