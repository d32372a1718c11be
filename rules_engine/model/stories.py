"""TEST blocks: contacts, events, actions and expectations that could never come true."""

from __future__ import annotations

from typing import Any

from rules_engine.diagnostics import Related, Span
from rules_engine.model import arguments, conditions, names, places, values
from rules_engine.model.context import Context
from rules_engine.model.meaning import Scope
from rules_engine.model.report import Candidate, Slot
from rules_engine.syntax import nodes as n

_SCOPE = Scope((), {}, False, "a TEST")


class Story:
    """One TEST while it is checked: its contacts, each with the place of its name."""

    def __init__(self, ctx: Context, node: n.Test) -> None:
        self.ctx, self.node = ctx, node
        self.contacts: dict[str, Span] = {}
        self.own = f"{node.span.path}:{node.span.start}"  # contacts of two TESTs may share a name

    def check(self) -> None:
        """The whole TEST."""
        for given in self.node.given:
            self._given(given)
        moment: str | None = None
        for position, at in enumerate(self.node.ats):
            moment = self._at(at, moment, position == 0)

    def _given(self, given: n.Given) -> None:
        ctx, span = self.ctx, given.span
        text_end = _first_value(given.values, span.end)
        lead = len("GIVEN ") + len(given.noun) + 1
        tail = "" if not given.values else f" WITH {given.values[0][0]}: "
        place = places.after(span.start, "x" * lead, given.contact, text_end, tail, span.path, span)
        if given.noun != "contact":
            start = span.start + len("GIVEN ")
            noun = Span(span.path, start, start + len(given.noun)) if place is not span else span
            ctx.report.unknown(
                "unknown-name",
                given.noun,
                noun,
                "noun",
                f"GIVEN speaks of a contact, and `{given.noun}` is none",
                "write GIVEN contact name",
                lambda: ([Candidate("contact", "contact")],),
            )
        first = self.contacts.setdefault(given.contact, place)
        if first is not place:
            names.twice(ctx, "the contact", given.contact, place, first)
        self._values(given, place is not span)

    def _values(self, node: Any, exact: bool) -> None:
        for (key, value), place in zip(node.values, _key_places(node, exact), strict=True):
            if self.ctx.model.attribute_type(key) is None:
                if key == "segments":
                    self._segments(value)
                    continue
                if self.ctx.report.speller.nearest(key, ("segments",)):
                    self.ctx.report.add(
                        "unknown-attribute",
                        place,
                        f"there is no attribute `{key}`",
                        "did you mean `segments`?",
                        suggestion="segments" if places.exact(place, key) else None,
                    )
                    continue
            arguments.assign(self.ctx, key, value, place, _SCOPE, writing=False)

    def _segments(self, given: n.Node) -> None:
        """`segments: ["vip"]`: the segments that a contact is in, of those that follow from no condition."""
        ctx = self.ctx
        for item in given.items if isinstance(given, n.List) else (given,):
            name = (
                item.value
                if isinstance(item, n.Literal) and item.type == "text"
                else item.name
                if isinstance(item, n.Name)
                else None
            )
            if name is None or not isinstance(given, n.List):
                ctx.report.add("type-mismatch", item.span, "segments is a list of names", 'such as segments: ["vip"]')
                continue
            found = ctx.model.segments.get(name)
            if found is None:
                known = [
                    Candidate(f'"{one}"', f'"{one}"', Slot("segment", one, declaration.name_span))
                    for one, declaration in ctx.model.segments.items()
                    if declaration.condition is None
                ]
                ctx.report.unknown(
                    "unknown-segment",
                    f'"{name}"',
                    item.span,
                    ("segment", name),
                    f"there is no segment `{name}`",
                    f"declare it: SEGMENT {name}",
                    lambda known=known: (known,),
                )
                continue
            ctx.used.add(("segment", name))
            if found.condition is not None:
                ctx.report.add(
                    "read-only",
                    item.span,
                    f"`{name}` follows from its condition, so a contact can't be put into it",
                    "give the contact what the condition asks",
                    related=(Related(found.name_span, "declared here"),),
                )

    def _contact(self, name: str, span: Span) -> None:
        if name in self.contacts:
            self.ctx.used.add(("contact", f"{self.own} {name}"))
            return
        contacts = dict(self.contacts)

        def tiers() -> Any:
            return ([Candidate(one, one, Slot("contact", f"{self.own} {one}", place, one)) for one, place in contacts.items()],)

        self.ctx.report.unknown(
            "unknown-contact",
            name,
            span,
            self.own,
            f"this TEST has no contact `{name}`",
            f"add GIVEN contact {name}" if not contacts else f"its contacts are {', '.join(contacts)}",
            tiers,
        )

    # ── moments ──

    def _at(self, at: n.At, before: str | None, first: bool) -> str | None:
        """One AT block; returns the moment that the clock certainly shows by then, as text, None where it can't be told."""
        ctx = self.ctx
        moment = before
        if at.moment is not None:
            values.value(ctx, at.moment, _SCOPE)
            moment = str(at.moment.value)
            if before is not None and moment < before[: len(moment)]:
                ctx.report.add(
                    "time-backwards",
                    at.moment.span,
                    "this AT is earlier than the one before it",
                    "tell the story in the order of time",
                )
        elif at.after is not None:
            values.span_of_time(ctx, at.after, "AT +", zero=True)
            if first:
                ctx.report.add(
                    "time-backwards",
                    at.after.span,
                    "the first AT needs a moment: there is none to count from",
                    "write AT 2026-03-02 10:00",
                )
            moment = _later(before, values.fixed(ctx, at.after))
        for statement in at.statements:
            self._statement(statement, moment)
        return moment

    def _statement(self, node: n.Node, moment: str | None) -> None:
        if isinstance(node, n.Happens):
            self._happens(node)
        elif isinstance(node, n.Sets):
            start = node.span.start + len("SET ")
            exact = bool(node.values) and _first_value(node.values, 0) - start == len(node.contact) + len(
                f" WITH {node.values[0][0]}: "
            )
            self._contact(node.contact, Span(node.span.path, start, start + len(node.contact)) if exact else node.span)
            self._values(node, exact)
        elif isinstance(node, n.Expect):
            self._expect(node, moment)

    def _happens(self, node: n.Happens) -> None:
        ctx = self.ctx
        info = names.event(ctx, node.event, node.event_span)
        lead_start = node.subject.span.end if node.subject is not None else node.event_span.end
        tail = "" if not node.values else f" WITH {node.values[0][0]}: "
        end = _first_value(node.values, node.span.end)
        place = places.after(lead_start, " FOR ", node.contact, end, tail, node.span.path, node.span)
        self._contact(node.contact, place)
        if node.subject is not None:
            values.value(ctx, node.subject, _SCOPE)
        for (key, value), where in zip(node.values, _key_places(node, place is not node.span), strict=True):
            given = values.value(ctx, value, _SCOPE)
            if info is not None:
                arguments.field(ctx, node.event, key, value, given, where)

    # ── expectations ──

    def _expect(self, node: n.Expect, moment: str | None) -> None:
        if node.contact is not None:
            self._contact(node.contact, self._expect_place(node, node.contact))
        if node.action is not None:
            self._action(node)
        if node.target is not None:
            self._target(node)
        if node.condition is not None:
            conditions.site(self.ctx, node.condition, _SCOPE, wary=False)
        if node.at is not None:
            values.value(self.ctx, node.at, _SCOPE)
            if moment is not None and str(node.at.value)[:16] > moment[:16] and len(moment) >= 16:
                self.ctx.report.add(
                    "impossible-expectation",
                    node.at.span,
                    "this moment is later than the AT it stands in, so it has not come yet",
                    "put the EXPECT under a later AT",
                )

    def _expect_place(self, node: n.Expect, word: str) -> Span:
        span = node.span
        lead = "EXPECT "
        if node.action is not None:
            verb = {"gets": " GETS ", "not_gets": " NOT GETS ", "misses": " MISSES "}.get(node.kind, "")
            return places.after(span.start, lead, word, node.action.name_span.start, verb, span.path, span)
        if node.condition is not None:
            return places.after(span.start, lead, word, node.condition.span.start, " WHERE ", span.path, span)
        return places.after(span.start, lead, word, span.end, _journey_tail(node), span.path, span)

    def _action(self, node: n.Expect) -> None:
        ctx, action = self.ctx, node.action
        assert action is not None
        arguments.action(ctx, action, _SCOPE, expected=True)
        if action.name not in ctx.actions:
            return
        primary = action.primary
        said = primary.value if isinstance(primary, n.Literal) else primary.name if isinstance(primary, n.Name) else None
        if said is not None:
            ctx.expected.setdefault((action.name, str(said)), []).append((node.kind, action))

    def _target(self, node: n.Expect) -> None:
        ctx, target = self.ctx, node.target
        assert target is not None
        lead = _journey_lead(node)
        tail = "" if node.because is None else f' BECAUSE "{node.because}"'
        place = places.after(node.span.start, lead, target, node.span.end, tail, node.span.path, node.span)
        if node.kind in ("enters", "leaves") and target in ctx.model.segments:
            ctx.used.add(("segment", target))
            return
        if node.kind in ("enters", "leaves") and target not in ctx.campaigns:
            self._campaign_or_segment(target, place)
            return
        found = names.campaign(ctx, target, place)
        if found is not None and node.kind == "goal" and not any(isinstance(clause, n.Goal) for clause in found.clauses):
            ctx.report.add(
                "impossible-expectation",
                place,
                f"`{target}` has no GOAL, so nobody reaches it",
                "add GOAL event to the campaign",
                related=(Related(found.name_span, "declared here"),),
            )

    def _campaign_or_segment(self, target: str, place: Span) -> None:
        """At the end, when it is known which segments actions make."""
        ctx = self.ctx

        def finish() -> None:
            if target in ctx.read_segments:
                ctx.read_segments[target].append(place)
            elif target not in ctx.added:
                ctx.report.unknown(
                    "unknown-campaign",
                    target,
                    place,
                    ("campaign", target),
                    f"there is no campaign or segment `{target}`",
                    "",
                    lambda: ([*ctx.campaign_tiers()[0], *ctx.segment_tiers()[0]],),
                )

        ctx.before_names.append(finish)


def expectations(ctx: Context) -> None:
    """At the end, when all that steps do is known: expectations of what none of them does."""
    for (name, said), found in ctx.expected.items():
        if ctx.open_sends & {"", name} or ("", said) in ctx.sent or (name, said) in ctx.sent:
            continue
        record = ctx.actions[name]
        kind = record.primary.kind if record.primary is not None else ""
        if kind == "campaign" and said not in ctx.campaigns or kind == "event" and said not in ctx.model.events:
            continue  # that has its message
        done = [primary for action, primary in ctx.sent if action == name]
        near = ctx.report.speller.nearest(said, done)
        if near is not None and (
            near in ctx.misspelt
            or kind == "campaign"
            and near not in ctx.campaigns
            or kind == "event"
            and near not in ctx.model.events
        ):
            continue
        _impossible(ctx, name, said, found, near)


def _impossible(ctx: Context, name: str, said: str, found: list[tuple[str, n.Action]], near: str | None) -> None:
    """One message for all expectations of the same thing: at the first, or at the step that is the likelier slip."""
    first = next((action for kind, action in found if kind == "gets"), found[0][1])
    primary = first.primary
    assert primary is not None
    quote = '"' if isinstance(primary, n.Literal) else ""
    if (
        near is not None
        and len(ctx.sent[name, near]) == 1
        and (len(found) > 1 or ctx.report.speller.likeliness(said) > ctx.report.speller.likeliness(near))
    ):
        ctx.report.add(
            "impossible-expectation",
            ctx.sent[name, near][0],
            f"TESTs expect `{name}` with {quote}{said}{quote}, and this is the nearest to it",
            f"did you mean {quote}{said}{quote}?",
            suggestion=f"{quote}{said}{quote}",
            related=[Related(action.span, "expected here") for _, action in found[:8]],
        )
        return
    shown = f"no rule or campaign ever does `{name}` with {values.describe(primary)}"
    suggestion = None if near is None else f"{quote}{near}{quote}"
    help = f"did you mean {suggestion if quote else f'`{suggestion}`'}?" if suggestion else "correct the expectation, or add the step"
    others = [Related(action.span, "and here") for _, action in found[:8] if action is not first]
    if any(kind == "gets" for kind, _ in found):
        ctx.report.add("impossible-expectation", primary.span, shown, help, suggestion=suggestion, related=others)
    elif suggestion:
        ctx.report.warn("impossible-expectation", primary.span, f"{shown}, so this says nothing", help, suggestion, others)


def _journey_lead(node: n.Expect) -> str:
    if node.kind == "goal":
        return f"EXPECT {node.contact} REACHES GOAL OF "
    return f"EXPECT {node.contact} {node.kind.upper()} "


def _journey_tail(node: n.Expect) -> str:
    because = "" if node.because is None else f' BECAUSE "{node.because}"'
    if node.kind == "goal":
        return f" REACHES GOAL OF {node.target}"
    return f" {node.kind.upper()} {node.target}{because}"


def _first_value(pairs: tuple[tuple[str, n.Node], ...], default: int) -> int:
    """Where the first value of a WITH begins."""
    return pairs[0][1].span.start if pairs else default


def _key_places(node: Any, exact: bool) -> list[Span]:
    """Where the keys of a WITH stand. The nodes may say; otherwise each is before its value, surely so where the text has
    single blanks (`exact`: the first key has). Where that is not sure, the place reaches up to the value, and no suggestion
    fits it."""
    known = getattr(node, "key_spans", ())
    if len(known) == len(node.values) > 0:
        return list(known)
    found = []
    before: int | None = None
    for key, value in node.values:
        start = value.span.start - len(key) - 2
        sure = exact if before is None else before + 2 == start
        found.append(Span(node.span.path, max(start, node.span.start), start + len(key) if sure else value.span.start))
        before = value.span.end
    return found


def _later(moment: str | None, days: Any) -> str | None:
    """A moment some days on (fixed lengths only, rounded down: the clock certainly shows no less)."""
    if moment is None or not isinstance(days, float):
        return None
    from datetime import datetime, timedelta

    try:
        # Months count as 30.44 days and a day as 24 hours: take a day off, so that nothing right is called late.
        slack = timedelta(days=1) if days >= 1 else timedelta(0)
        text = (datetime.fromisoformat(moment) + timedelta(days=days) - slack).isoformat(timespec="minutes")
    except (ValueError, OverflowError):
        return None
    return text if days < 1 else text[:10]
