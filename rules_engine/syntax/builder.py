"""Builds nodes while Lark parses (`transformer=` with LALR: no tree, no recursion, any depth).

Each method takes the children of one grammar rule: keyword tokens, nodes, `Part`s, and None where an optional stood empty.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from rules_engine.diagnostics import Span
from rules_engine.syntax import nodes as n
from rules_engine.syntax.lexer import Token
from rules_engine.syntax.nodes import replace

_PLACEHOLDER = re.compile(r"\{\s*([^\W\d][\w.]*)\s*(?:\|([^{}]*))?\}")
_ESCAPE = re.compile(r'\\(["\\nt{}])')
_ESCAPED = {'"': '"', "\\": "\\", "n": "\n", "t": "\t", "{": "\x01", "}": "\x02"}
_COMPACT = re.compile(r"(\d+)([smhdw])")
_COMPACT_UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week"}
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


_make = tuple.__new__   # half the time of a NamedTuple's own constructor


class Part(NamedTuple):
    """A piece of a statement on its way up: `where`, `at`, `days`, … with its value."""

    kind: str
    span: Span
    value: Any


def unquote(raw: str) -> str:
    """The text inside a STRING token, escapes undone; \\x01 and \\x02 stand for braces that were written with a backslash."""
    if raw.startswith('"""'):
        text = raw[3:-3]
        if text.startswith("\n"):
            import textwrap  # loaded for long texts only

            text = textwrap.dedent(text[1:])
    else:
        text = raw[1:-1]
    return _ESCAPE.sub(lambda match: _ESCAPED[match.group(1)], text) if "\\" in text else text


def parse_text(raw: str, span: Span) -> n.Node:
    """A STRING token as Literal text, or as Text where it has placeholders."""
    text = unquote(raw)
    parts: list[Any] = []
    end = 0
    if "{" in text:
        for match in _PLACEHOLDER.finditer(text):
            if match.start() > end:
                parts.append(_braces(text[end:match.start()]))
            fallback = match.group(2)
            parts.append(n.Placeholder(match.group(1), None if fallback is None else fallback.strip(), span=span))
            end = match.end()
    if not parts:
        return n.Literal("text", _braces(text), span=span)
    if end < len(text):
        parts.append(_braces(text[end:]))
    return n.Text(tuple(parts), span=span)


def _braces(text: str) -> str:
    return text.replace("\x01", "{").replace("\x02", "}")


def _plain(node: n.Node | None) -> str | None:
    """A text as one str, placeholders as they were written (names, labels and regular expressions have none)."""
    if node is None:
        return None
    if isinstance(node, n.Literal):
        return node.value
    assert isinstance(node, n.Text)
    return "".join(part if isinstance(part, str) else _written(part) for part in node.parts)


def _written(part: n.Placeholder) -> str:
    return "{" + part.name + ("" if part.fallback is None else "|" + part.fallback) + "}"


def mentions_event(node: n.Node) -> bool:
    """Whether an expression reads a field of the event at hand."""
    return any(isinstance(item, n.Name) and item.name.startswith("event.") for item in n.walk(node))


class Builder:
    """One instance serves one parser; `path` is set before each parse. A method's name is its rule's in the grammar."""

    path = ""

    # ── places ──

    def _span(self, children: Sequence[Any]) -> Span:
        """From the start of the first child to the end of the last."""
        first = children[0] if children else None
        if first is None:
            first = next((child for child in children if child is not None), None)
            if first is None:
                return Span(self.path, 0, 0)
        last = children[-1]
        if last is None:
            last = next(child for child in reversed(children) if child is not None)
        return _make(Span, (self.path, first[2] if type(first) is Token else first.span[1],
                            last[3] if type(last) is Token else last.span[2]))

    def _at(self, token: Token) -> Span:
        return _make(Span, (self.path, token[2], token[3]))

    def _string(self, token: Token | None) -> str | None:
        return None if token is None else _plain(parse_text(token.text, self._at(token)))

    def _clock(self, token: Token) -> n.Node:
        return self.time([token]) if token.type == "TIME" else self.name([token])

    @staticmethod
    def _find(children: Sequence[Any], kind: str) -> Any:
        """The value of the Part of that kind, or None."""
        for child in children:
            if type(child) is Part and child.kind == kind:
                return child.value
        return None

    @staticmethod
    def _has(children: Sequence[Any], kind: str) -> bool:
        return any(type(child) is Token and child.type == kind for child in children)

    @staticmethod
    def _tokens(children: Sequence[Any], kind: str) -> list[Token]:
        return [child for child in children if type(child) is Token and child.type == kind]

    @staticmethod
    def _nodes(children: Sequence[Any]) -> list[n.Node]:
        return [child for child in children if isinstance(child, n.Node)]

    def _part(self, kind: str, children: Sequence[Any], value: Any) -> Part:
        return _make(Part, (kind, self._span(children), value))

    # ── values ──

    def number(self, c):
        text = c[0].text.replace("_", "")
        return n.Literal("number", float(text) if "." in text else int(text), span=self._at(c[0]))

    def percent(self, c):
        return n.Literal("percent", _percent(c[0]), span=self._at(c[0]))

    def text(self, c):
        return parse_text(c[0].text, self._at(c[0]))

    def date(self, c):
        return n.Literal("date", c[0].text, span=self._at(c[0]))

    def datetime(self, c):
        day, clock = re.split(r"[ \tT]+", c[0].text)
        return n.Literal("datetime", f"{day}T{clock.zfill(5)}", span=self._at(c[0]))

    def time(self, c):
        hours, minutes = c[0].text.split(":")[:2]
        return n.Literal("time", int(hours) * 60 + int(minutes), span=self._at(c[0]))

    def boolean(self, c):
        return n.Literal("boolean", c[0].type == "YES", span=self._at(c[0]))

    def name(self, c):
        return n.Name(c[0].text, span=self._at(c[0]))

    def duration(self, c):
        parts: list[tuple[float, str]] = []
        if c[0].type == "DURATION":
            parts = [(int(count), _COMPACT_UNITS[unit]) for count, unit in _COMPACT.findall(c[0].text)]
        else:
            count: float = 0
            business = ""
            for token in c:
                if token is None:
                    continue
                if token.type == "NUMBER":
                    text = token.text.replace("_", "")
                    count, business = (float(text) if "." in text else int(text)), ""
                elif token.type == "BUSINESS":
                    business = "business "
                else:
                    parts.append((count, business + token.text.lower().removesuffix("s")))
        return n.Duration(tuple(parts), span=self._span(c))

    def list(self, c):
        return n.List(tuple(self._nodes(c)), span=self._span(c))

    def pair(self, c):
        key = c[0].text[:-1].strip() if c[0].type == "KEY" else self._string(c[0])
        return self._part("pair", c, (key, c[1]))

    def map(self, c):
        return n.Map(tuple(p.value for p in c if type(p) is Part), span=self._span(c))

    def bracketed(self, c):
        return replace(c[1], span=self._span(c))

    # ── expressions ──

    def disjunction(self, c):
        return n.Or(tuple(self._nodes(c)), span=self._span(c))

    def conjunction_of(self, c):
        return n.And(tuple(self._nodes(c)), span=self._span(c))

    def negated(self, c):
        return n.Not(c[1], span=self._span(c))

    def compare(self, c):
        return self._part("compare", c, c[0].text)

    def compared(self, c):
        left = c[0] if isinstance(c[0], n.Node) else self.name([c[0]])
        return n.Compare(c[1].value, left, c[2], span=self._span(c))

    def _left(self, c):
        return c[0] if isinstance(c[0], n.Node) else self.name([c[0]])

    def between(self, c):
        return n.Between(self._left(c), c[2], c[4], span=self._span(c))

    def contained(self, c):
        op = "not in" if self._has(c[1:], "NOT") else "in"
        return n.Compare(op, self._left(c), c[-1], span=self._span(c))

    def text_test(self, c):
        op = {"CONTAINS": "contains", "MATCHES": "matches", "STARTS": "starts with", "ENDS": "ends with"}[c[1].type]
        right = c[-1]
        if op == "matches" and isinstance(right, n.Text):
            right = n.Literal("text", _plain(right), span=right.span)
        return n.Compare(op, self._left(c), right, span=self._span(c))

    def is_set(self, c):
        return n.IsSet(self._left(c), self._has(c, "NOT"), span=self._span(c))

    def arithmetic(self, c):
        return n.Arithmetic(c[1].text, c[0], c[2], span=self._span(c))

    def negative(self, c):
        return n.Negative(c[1], span=self._span(c))

    def subject(self, c):
        value = c[0] if isinstance(c[0], n.Node) else parse_text(c[0].text, self._at(c[0]))
        return self._part("subject", c, value)

    def where(self, c):
        return self._part("where", c, c[1])

    where_all = where

    def where_simple(self, c):
        return self._part("filter", c, c[1])

    def since_start(self, c):
        return self._part("since", c, True)

    def occurrence(self, c):
        name = self._tokens(c, "NAME")[0]
        return n.Occurrence(name.text, self._find(c, "subject"), self._find(c, "filter"), self._has(c, "ANY"),
                            span=self._span(c), event_span=self._at(name))

    def history(self, c):
        within = next((item for item in c[1:] if type(item) is Part and item.kind == "span"), None)
        return n.History(c[0], within.value if within else None, self._has(c, "START"), span=self._span(c))

    def did(self, c):
        return n.Did(c[1], self._find(c, "count"), span=self._span(c))

    def count_of(self, c):
        return n.Aggregate("count", None, c[-1], span=self._span(c))

    def count_distinct(self, c):
        return n.Aggregate("count_distinct", c[2], c[-1], span=self._span(c))

    def aggregated(self, c):
        return n.Aggregate(c[0].type.lower(), c[1], c[-1], span=self._span(c))

    # ── small parts ──

    def span(self, c):
        return self._part("span", c, c[0] if isinstance(c[0], n.Node) else self.name(c))

    def period(self, c):
        if isinstance(c[0], n.Node):
            value = c[0]
        elif c[0].type == "UNIT":
            value = n.Duration(((1, c[0].text.lower().removesuffix("s")),), span=self._at(c[0]))
        else:
            value = self.name(c)
        return self._part("period", c, value)

    def count(self, c):
        return self._part("count", c, self.number(c) if c[0].type == "NUMBER" else self.name(c))

    def clock(self, c):
        return self._part("clock", c, self._clock(c[0]))

    def moment(self, c):
        return self._part("moment", c, self.date(c) if c[0].type == "DATE" else self.datetime(c))

    def zone(self, c):
        return self._part("zone", c, self.text(c) if c[0].type == "STRING" else self.name(c))

    def day_range(self, c):
        days = _weekday(c[0])
        if c[-1] is not None and len(c) > 2:
            first, last = days[0], _weekday(c[2])[-1]
            days = tuple(day % 7 for day in range(first, last + 1 if last >= first else last + 8))
        return self._part("days", c, days)

    def days(self, c):
        return self._part("days", c, tuple(sorted({day for part in c for day in part.value})))

    def blocked(self, c):
        return n.Blocked(c[1].type.lower(), self._find(c, "span"), span=self._span(c))

    def _block(self, c):
        return next((item for item in c if isinstance(item, n.Blocked)), None)

    # ── declarations ──

    def const(self, c):
        return n.Const(c[1].text, c[3], span=self._span(c), name_span=self._at(c[1]))

    def _key(self, token: Token) -> tuple[str, Span]:
        name = token.text[:-1].rstrip()
        start = token.start
        return name, Span(self.path, start, start + len(name))

    def one_of(self, c):
        return self._part("one_of", c, c[2])

    def default(self, c):
        return self._part("default", c, c[1])

    def field(self, c):
        name, span = self._key(c[0])
        return n.Field(name, c[1].text, self._find(c, "one_of"), span=span, type_span=self._at(c[1]))

    def attribute(self, c):
        name, span = self._key(c[1])
        return n.AttributeDeclaration(name, c[2].text, self._find(c, "one_of"), self._find(c, "default"), self._find(c, "where"),
                                      span=self._span(c), name_span=span, type_span=self._at(c[2]))

    def event(self, c):
        fields = tuple(item for item in c if isinstance(item, n.Field))
        return n.EventDeclaration(c[1].text, fields, self._find(c, "where"), span=self._span(c), name_span=self._at(c[1]))

    def fact(self, c):
        name, span = self._key(c[1])
        return n.FactDeclaration(name, c[2].text, c[4], span=self._span(c), name_span=span, type_span=self._at(c[2]))

    def segment(self, c):
        condition = next(iter(self._nodes(c)), None)
        label = next(iter(self._tokens(c, "STRING")), None)
        return n.SegmentDeclaration(c[1].text, self._string(label), condition, span=self._span(c), name_span=self._at(c[1]))

    def workspace(self, c):
        return n.Workspace(tuple(self._nodes(c)), span=self._span(c), name_span=self._at(c[0]))

    def _ruleset(self, kind, c):
        label = next(iter(self._tokens(c[:4], "STRING")), None)
        position = next(i for i, item in enumerate(c) if type(item) is Part and item.kind == "when")
        clauses = tuple(self._nodes(c[:position]))
        return kind(c[1].text, self._string(label), clauses, c[position].value, tuple(self._nodes(c[position + 1:])),
                    span=self._span(c), name_span=self._at(c[1]))

    def rule(self, c):
        return self._ruleset(n.Rule, c)

    def campaign(self, c):
        return self._ruleset(n.Campaign, c)

    def when(self, c):
        return self._part("when", c, _fold(c[1].value, always=True))

    # ── clauses ──

    def owner(self, c):
        return n.Owner(self._string(c[1]), span=self._span(c))

    def starts(self, c):
        return n.Starts(c[1].value, span=self._span(c))

    def until(self, c):
        return n.Until(c[1].value, span=self._span(c))

    def audience(self, c):
        return n.Audience(c[1], span=self._span(c))

    def for_each(self, c):
        return n.ForEach(tuple(self.name([token]) for token in self._tokens(c, "NAME")), span=self._span(c))

    def mode(self, c):
        return n.Mode(c[1].type.lower(), span=self._span(c))

    def reentry(self, c):
        kind = {"NEVER": "never", "ALWAYS": "always", "AFTER": "after", "ON": "rematch"}[c[1].type]
        return n.Reentry(kind, self._find(c, "span"), self._find(c, "count"), span=self._span(c))

    def exit(self, c):
        reason = next(iter(self._tokens(c, "STRING")), None)
        steps = tuple(item for item in c if isinstance(item, n.Then))
        return n.Exit(self._string(reason), _fold(self._find(c, "alternatives"), always=True), steps, span=self._span(c))

    def exit_on_goal(self, c):
        return n.ExitOnGoal(span=self._span(c))

    def goal(self, c):
        targets = tuple(n.Happening(item, span=item.span) if isinstance(item, n.Occurrence) else item for item in self._nodes(c))
        return n.Goal(targets, self._find(c, "span"), span=self._span(c))

    def deliver(self, c):
        clocks = [item.value for item in c if type(item) is Part and item.kind == "clock"]
        return n.Deliver(clocks[0], clocks[1], self._find(c, "days") or (), self._find(c, "zone"), self._block(c),
        span=self._span(c))

    def quiet(self, c):
        times = [self.time([token]) for token in self._tokens(c, "TIME")]
        return n.Quiet(times[0], times[1], self._find(c, "zone"), self._block(c), span=self._span(c))

    def limit(self, c):
        return n.Limit(self._find(c, "count"), self._tokens(c, "NAME")[0].text, self._find(c, "period"), self._block(c),
                       span=self._span(c))

    def priority(self, c):
        value = int(float(self._tokens(c, "NUMBER")[0].text.replace("_", "")))
        return n.Priority(-value if self._has(c, "MINUS") else value, span=self._span(c))

    def holdout(self, c):
        return n.Holdout(_percent(c[1]), span=self._span(c))

    def throttle(self, c):
        return n.Throttle(self._find(c, "count"), self._find(c, "period"), span=self._span(c))

    def on_late(self, c):
        return n.OnLate(c[2].text, c[3].value, c[4].type.lower(), span=self._span(c))

    def at_most(self, c):
        return n.AtMost(self._find(c, "count"), self._find(c, "period"), span=self._span(c))

    def timezone(self, c):
        return n.Timezone(self._string(c[1]), span=self._span(c))

    def business_hours(self, c):
        times = [self.time([token]) for token in self._tokens(c, "TIME")]
        return n.BusinessHoursClause(c[1].text.lower(), times[0], times[1], self._find(c, "days") or (), span=self._span(c))

    def holidays(self, c):
        return n.Holidays(tuple(self.date([token]) for token in self._tokens(c, "DATE")), span=self._span(c))

    def never(self, c):
        number = self._tokens(c, "NUMBER")[0]
        return n.NeverMore(int(float(number.text.replace("_", ""))), self._tokens(c, "NAME")[0].text, self._find(c, "period"),
                           span=self._span(c))

    def never_where(self, c):
        return n.NeverWhere(c[1].text, c[3], span=self._span(c))

    # ── triggers ──

    def alternatives(self, c):
        return self._part("alternatives", c, tuple(self._nodes(c)))

    def alternative(self, c):
        node, alias = c[0], c[-1]
        if type(alias) is Token:
            return replace(node, alias=alias.text, span=self._span(c))
        return node

    def happening(self, c):
        name = self._tokens(c, "NAME")[0]
        occurrence = n.Occurrence(name.text, self._find(c, "subject"), self._find(c, "where"), self._has(c, "ANY"),
                                  span=self._span(c), event_span=self._at(name))
        return n.Happening(occurrence, bool(self._find(c, "since")), span=occurrence.span)

    def condition(self, c):
        node = c[0]
        if isinstance(node, n.Name) and not node.name.startswith(("contact.", "event.")):
            return n.Happening(n.Occurrence(node.name, span=node.span, event_span=node.span), span=node.span)
        if isinstance(node, n.Literal) and node.type in ("date", "datetime"):
            return n.Anchored(None, 1, node, span=node.span)
        return n.Condition(node, span=node.span)

    def membership_change(self, c):
        return n.MembershipChange(c[0].text, c[1].type.lower(), c[2].text, self._find(c, "where"), span=self._span(c),
                                  segment_span=self._at(c[2]))

    def becomes(self, c):
        return n.Becomes(self.name([c[0]]), c[2].value, c[3], self._find(c, "where"), span=self._span(c))

    def changes(self, c):
        old = new = None
        for position, item in enumerate(c):
            if type(item) is Token and item.type == "FROM":
                old = c[position + 1]
            elif type(item) is Token and item.type == "TO":
                new = c[position + 1]
        return n.Changes(self.name([c[0]]), old, new, self._find(c, "where"), span=self._span(c))

    def anchored(self, c):
        offset = c[0] if isinstance(c[0], n.Duration) else None
        sign = -1 if self._has(c, "BEFORE") else 1
        dated = self._tokens(c, "DATE") or self._tokens(c, "DATETIME")
        if dated:
            anchor: n.Node = self.date(dated) if dated[0].type == "DATE" else self.datetime(dated)
        else:
            anchor = self.name(self._tokens(c, "NAME"))
        return n.Anchored(offset, sign, anchor, self._find(c, "clock"), self._find(c, "where"), span=self._span(c))

    def anniversary(self, c):
        offset = c[0] if isinstance(c[0], n.Duration) else None
        sign = -1 if self._has(c, "BEFORE") else 1
        return n.Anniversary(offset, sign, self.name(self._tokens(c, "NAME")), self._find(c, "clock"), self._find(c, "where"),
                             span=self._span(c))

    def rhythm(self, c):
        month_day = next(iter(self._tokens(c, "NUMBER")), None)
        return self._rhythm(c, None if month_day is None else int(float(month_day.text.replace("_", ""))))

    def every_repeat(self, c):
        return self._rhythm(c[1:], None)

    def _rhythm(self, c, month_day):
        every: n.Node | None = next(iter(self._nodes(c)), None)
        names = self._tokens(c, "NAME")
        if names:
            every = self.name(names)
        unit = next(iter(self._tokens(c, "UNIT")), None)
        return n.Rhythm(self._find(c, "days") or (), every, unit.text.lower().removesuffix("s") if unit else None, month_day,
                        self._find(c, "clock"), span=self._span(c))

    def every(self, c):
        rhythm = next(item for item in c if isinstance(item, n.Rhythm))
        at = self._find(c, "clock")
        return n.Every(replace(rhythm, at=at) if at is not None else rhythm, self._find(c, "where"), span=self._span(c))

    def absence(self, c):
        name = self._tokens(c, "NAME")[0]
        occurrence = n.Occurrence(name.text, self._find(c, "subject"), self._find(c, "filter"), span=self._at(name),
                                  event_span=self._at(name))
        return n.Absence(occurrence, self._find(c, "span"), self._find(c, "where"), span=self._span(c))

    # ── steps ──

    def argument(self, c):
        name, span = self._key(c[0])
        return Part("argument", Span(self.path, span.start, self._span(c).end), ((name, c[1]), span))

    def arguments(self, c):
        primary = c[0] if isinstance(c[0], n.Node) else None
        named = [item for item in c if type(item) is Part]
        return self._part("arguments", c, (primary, tuple(p.value[0] for p in named), tuple(p.value[1] for p in named)))

    def action(self, c):
        primary, named, spans = c[1].value if c[1] is not None else (None, (), ())
        return n.Action(c[0].text, primary, named, span=self._span(c), name_span=self._at(c[0]), argument_spans=spans)

    def then(self, c):
        return n.Then(c[1], c[-1].text if type(c[-1]) is Token else None, span=self._span(c))

    def after(self, c):
        clocks = [item.value for item in c if type(item) is Part and item.kind == "clock"]
        window = (clocks[0], clocks[1]) if self._has(c, "BETWEEN") else None
        label = c[-1] if type(c[-1]) is Token and c[-1].type == "NAME" else None
        return n.After(c[1].value, self._has(c, "START"), clocks[0] if clocks and not window else None, window,
                       self._find(c, "days") or (), self._find(c, "zone"), label.text if label else None, span=self._span(c))

    def if_line(self, c):
        span = self._span(c)
        inner = Span(self.path, c[2].start, span.end)
        if c[2].type == "STOP":
            step: n.Node = n.Stop(self._string(c[3]), span=inner)
        else:
            label = next(iter(self._tokens(c[3:], "NAME")), None)
            step = n.Then(c[3], label.text if label else None, span=inner)
        return n.If((n.Branch(c[1], (step,), span=c[1].span),), True, span=span)

    def if_block(self, c):
        branches = [n.Branch(c[1], tuple(s for s in self._nodes(c[2:]) if not isinstance(s, n.Branch)), span=c[1].span)]
        branches += [item for item in c[2:] if isinstance(item, n.Branch)]
        return n.If(tuple(branches), span=self._span(c))

    def else_if(self, c):
        return n.Branch(c[2], tuple(self._nodes(c[3:])), span=self._span(c[:3]))

    def else_block(self, c):
        return n.Branch(None, tuple(self._nodes(c)), span=self._at(c[0]))

    def otherwise(self, c):
        return self._part("otherwise", c, tuple(self._nodes(c)))

    def wait(self, c):
        alternatives = _fold(self._find(c, "alternatives"), always=False)
        return n.Wait(alternatives, self._find(c, "span"), self._has(c, "CATCH"), tuple(self._nodes(c)), self._find(c,
        "otherwise"),
                      span=self._span(c))

    def split(self, c):
        name = next(iter(self._tokens(c, "NAME")), None)
        return n.Split(name.text if name else None, tuple(self._nodes(c)), span=self._span(c))

    def branch(self, c):
        return n.SplitBranch(_percent(c[0]), c[1].text, tuple(self._nodes(c)), span=self._span(c), name_span=self._at(c[1]))

    def repeat(self, c):
        label = next(iter(self._tokens(c, "NAME")), None)
        condition = None
        for position, item in enumerate(c):
            if type(item) is Token and item.type == "WHILE":
                condition = c[position + 1]
        steps = tuple(item for item in self._nodes(c) if item is not condition and not isinstance(item, n.Rhythm))
        return n.Repeat(c[1], self._find(c, "count"), condition, label.text if label else None, steps, span=self._span(c))

    def stop(self, c):
        return n.Stop(self._string(c[1]), span=self._span(c))

    # ── tests ──

    def _values(self, c):
        return tuple(item.value[0] for item in c if type(item) is Part and item.kind == "argument")

    def test(self, c):
        given = tuple(item for item in c if isinstance(item, n.Given))
        ats = tuple(item for item in c if isinstance(item, n.At))
        return n.Test(self._string(c[1]), given, ats, span=self._span(c), name_span=self._at(c[1]))

    def given(self, c):
        return n.Given(c[1].text, c[2].text, self._values(c), span=self._span(c))

    def at(self, c):
        return n.At(self._find(c[:3], "moment"), self._find(c[:3], "span"), tuple(self._nodes(c)), span=self._span(c))

    def happens(self, c):
        names = self._tokens(c, "NAME")
        return n.Happens(names[0].text, self._find(c, "subject"), names[1].text, self._values(c), span=self._span(c),
                         event_span=self._at(names[0]))

    def sets(self, c):
        return n.Sets(c[1].text, self._values(c), span=self._span(c))

    def expect_nothing(self, c):
        return n.Expect("nothing", rest=self._has(c, "ELSE"), span=self._span(c))

    def expect_gets(self, c):
        return n.Expect("gets", c[1].text, c[3], at=self._find(c, "moment"), span=self._span(c))

    def expect_not_gets(self, c):
        return n.Expect("not_gets", c[1].text, c[4], span=self._span(c))

    def expect_misses(self, c):
        because = next(iter(self._tokens(c, "STRING")), None)
        return n.Expect("misses", c[1].text, c[3], because=self._string(because), span=self._span(c))

    def expect_journey(self, c):
        because = next(iter(self._tokens(c, "STRING")), None)
        return n.Expect(c[2].type.lower(), c[1].text, target=c[3].text, because=self._string(because), span=self._span(c))

    def expect_goal(self, c):
        return n.Expect("goal", c[1].text, target=c[5].text, span=self._span(c))

    def expect_refused(self, c):
        because = next(iter(self._tokens(c, "STRING")), None)
        return n.Expect("refused", c[1].text, because=self._string(because), span=self._span(c))

    def expect_where(self, c):
        return n.Expect("where", c[1].text, condition=c[3], span=self._span(c))

    def start(self, c):
        items = tuple(self._nodes(c))
        return n.File(self.path, items, span=self._span(c))


def _percent(token: Token) -> float:
    value = float(token.text[:-1].replace("_", ""))
    return int(value) if value.is_integer() else value


def _weekday(token: Token) -> tuple[int, ...]:
    word = token.text.lower()
    if word.startswith("weekday"):
        return (0, 1, 2, 3, 4)
    if word.startswith("weekend"):
        return (5, 6)
    return (_DAYS.index(word[:3]),)


def _fold(alternatives: tuple[n.Node, ...], always: bool) -> tuple[n.Node, ...]:
    """`a WHERE x = 1 OR x = 2`: the grammar reads the second test as an alternative of its own; here it joins the WHERE before
    it.
    In a wait (`always` false) only a test that reads the event does, since a condition may end a wait by itself."""
    folded: list[n.Node] = []
    for item in alternatives:
        if isinstance(item, n.Condition) and folded and (always or mentions_event(item.condition)):
            joined = _joined(folded[-1], item.condition)
            if joined is not None:
                folded[-1] = replace(joined, alias=item.alias or joined.alias)
                continue
        folded.append(item)
    return tuple(folded)


def _joined(trigger: n.Node, test: n.Node) -> Any:
    """The trigger with `OR test` added to its WHERE, or None where it has none."""
    if isinstance(trigger, n.Happening):
        where = trigger.occurrence.where
        if where is None:
            return None
        occurrence = replace(trigger.occurrence, where=_either(where, test))
        return replace(trigger, occurrence=occurrence)
    where = getattr(trigger, "where", None)
    return None if where is None else replace(trigger, where=_either(where, test))


def _either(first: n.Node, second: n.Node) -> n.Or:
    items = (first.items if isinstance(first, n.Or) else (first,)) + (second,)
    return n.Or(items, span=Span(first.span.path, first.span.start, second.span.end))
