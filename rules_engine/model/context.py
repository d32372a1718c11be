"""What all checks share: the meaning of the project, the report, and what has been seen so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from rules_engine.diagnostics import Span
from rules_engine.model.meaning import CHANNELS, EVENT_FIELDS, MOMENTS, Model, Scope
from rules_engine.model.project import Project
from rules_engine.model.report import Candidate, Report, Slot, Tiers
from rules_engine.syntax import nodes as n

ALWAYS_SET = frozenset({"id", "created_at", "points"})
"""Attributes that no contact lacks: a comparison with them is never false for want of a value."""


class Effect(NamedTuple):
    """What one action of a ruleset changes: kind attribute | segment_add | segment_remove | event | campaign; `value` what an
    attribute becomes (a literal's value), or "up" / "down" for numbers that only grow or shrink, None where it can't be told.
    `guarded`: an IF decides; `delayed`: time passes before it."""

    kind: str
    name: str
    value: Any
    guarded: bool
    delayed: bool
    span: Span


class Context:
    """State of one check. `choices` has the values of ONE OF attributes, `field_choices` those of event fields by (event, field);
    `reads` gathers ("attribute" | "segment" | "event", name) while it is a set; `risky` and `guards` serve
    unguarded-attribute."""

    def __init__(self, model: Model, host: Any, project: Project) -> None:
        self.model, self.host, self.project = model, host, project
        self.report = Report()
        self.used = self.report.used
        self.actions: Mapping[str, Any] = model.actions
        self.campaigns = {item.name: item for item in model.rulesets if isinstance(item, n.Campaign)}
        self.channels = frozenset(CHANNELS) | {action.channel for action in model.actions.values() if action.channel}
        self.choices = _attribute_choices(model)
        self.field_choices = _field_choices(model)
        self.constant_types: dict[str, str | None] = {}
        self.reads: set[tuple[str, str]] | None = None
        self.risky: list[tuple[str, Span, bool]] = []
        self.guards: set[str] = set()
        self.negations = 0
        self.added: dict[str, list[Span]] = {}  # segments without a declaration that actions add to
        self.read_segments: dict[str, list[Span]] = {}  # segments without a declaration that something reads
        self.point_groups: set[str] = set()
        self.sent: dict[tuple[str, str], list[Span]] = {}  # (action, literal primary); action "" for an unknown one
        self.open_sends: set[str] = set()  # actions whose primary is sometimes computed; "" for an unknown one
        self.expected: dict[
            tuple[str, str], list[tuple[str, n.Action]]
        ] = {}  # (action, primary) → (kind, action) of expectations
        self.expected_segments: dict[str, int] = {}  # segments without a declaration that a TEST expects to be added to
        self.misspelt: set[str] = set()  # what steps name and a message already calls misspelt
        self.subjects: list[tuple[str, str, Span]] = []  # (event, subject, place) that name a template
        self.effects: dict[str, list[Effect]] = {}
        self.ruleset: n.Rule | n.Campaign | None = None
        self.guarded = 0  # IF branches around the step at hand
        self.delayed = False  # whether time has passed since the ruleset began
        self.templates: dict[str, Any] = {}
        self.patterns: set[str] = set()
        self.alias_slots: dict[str, Slot] = {}  # names bound by AS in the ruleset at hand
        self.labels: dict[str, Span] = {}  # of the steps of the ruleset at hand
        self.splits: dict[str, Span] = {}
        self.near_keys: list[tuple[str, str, str]] = []  # (event, its field, the key that was probably meant)
        self.depends: dict[tuple[str, str], set[tuple[str, str]]] = {}  # what derived facts and segments read
        self.before_names: list[Any] = []  # work that may still find unknown names, done before they are reported
        self.item: n.Declaration | None = None  # the declaration at hand
        self.said: set[tuple[str, Span]] = set()
        self.circular: set[str] | None = None  # constants that lead back to themselves, once they are known
        self.misnamed: set[str] = set()  # attributes whose declaration already has a message about its name

    def once(self, name: str) -> bool:
        """Whether this was said of the declaration at hand before: one cause there, however many lines it has."""
        key = (name, self.item.span if self.item is not None else Span("", 0, 0))
        if key in self.said:
            return True
        self.said.add(key)
        return False

    # ── what could be meant: candidates for unknown names ──

    def event_tiers(self) -> Tiers:
        events = [self._event_candidate(name) for name in self.model.events]
        other = [
            Candidate(name, f"contact ENTERS {name}", self._segment_slot(name), "is a segment, not an event")
            for name in self.segments()
        ]
        other += [
            Candidate(name, name, None, "is an action, not an event") for name in self.actions if name not in self.model.events
        ]
        return events, other

    def _event_candidate(self, name: str) -> Candidate:
        declaration = self.model.events[name].declaration
        own = declaration is not None and self.model.events[name].source is None
        return Candidate(name, name, Slot("event", name, declaration.name_span) if own and declaration else None)

    def _segment_slot(self, name: str) -> Slot | None:
        declaration = self.model.segments.get(name)
        return Slot("segment", name, declaration.name_span) if declaration else None

    def segments(self) -> Iterable[str]:
        """All segments that exist: declared, or made by an action that adds to them."""
        return {**self.model.segments, **dict.fromkeys(self.added)}

    def segment_tiers(self) -> Tiers:
        own = [Candidate(name, name, self._segment_slot(name)) for name in self.segments()]
        other = [Candidate(name, name, None, "is a campaign, not a segment") for name in self.campaigns]
        other += [Candidate(name, name, None, "is a constant, not a segment") for name in self.model.constants]
        return own, other

    def campaign_tiers(self) -> Tiers:
        own = [Candidate(name, name, Slot("campaign", name, item.name_span)) for name, item in self.campaigns.items()]
        rules = [item.name for item in self.model.rulesets if isinstance(item, n.Rule)]
        other = [Candidate(name, name, None, "is a rule, not a campaign") for name in rules]
        other += [Candidate(name, name, None, "is a segment, not a campaign") for name in self.segments()]
        return own, other

    def action_tiers(self) -> Tiers:
        events = [Candidate(name, f"event.emit {name}", None, "is an event, not an action") for name in self.model.events]
        return [Candidate(name, name) for name in self.actions], events

    def attribute_tiers(self, prefix: str = "contact.") -> Tiers:
        """Attributes as they are written: `contact.plan` in expressions, `plan` (prefix "") as an argument's name."""
        return [self._attribute_candidate(name, prefix) for name in self.attribute_names()], ()

    def attribute_names(self) -> dict[str, None]:
        names = dict.fromkeys((*self.model.attributes, *self.model.facts))
        names.update(dict.fromkeys(f"consent.{channel}" for channel in sorted(self.channels)))
        names.update(dict.fromkeys(f"suppressed.{channel}" for channel in sorted(self.channels)))
        names.update(dict.fromkeys(f"points.{group}" for group in sorted(self.point_groups)))
        return names

    def _attribute_candidate(self, name: str, prefix: str) -> Candidate:
        info = self.model.attributes.get(name)
        declaration: Any = info.declaration if info else self.model.facts.get(name)
        slot = Slot("attribute", name, declaration.name_span, declaration.name) if declaration is not None else None
        return Candidate(prefix + name, prefix + name, slot)

    def field_tiers(self, events: Iterable[str], prefix: str) -> Tiers:
        """The fields of some events, written `event.total` or (prefix "") `total`."""
        found: dict[str, Candidate] = {}
        for event in events:
            info = self.model.events.get(event)
            for name in info.fields if info else ():
                found.setdefault(name, Candidate(prefix + name, prefix + name, self._field_slot(event, name)))
        for name in EVENT_FIELDS:
            found.setdefault(name, Candidate(prefix + name, prefix + name))
        attributes = (
            [
                Candidate(
                    "event." + name if prefix else name, "contact." + name, None, f"is no field; contact.{name} is an attribute"
                )
                for name in (*self.model.attributes, *self.model.facts)
            ]
            if prefix
            else []
        )
        return list(found.values()), attributes

    def _field_slot(self, event: str, name: str) -> Slot | None:
        info = self.model.events[event]
        for item in info.declaration.fields if info.declaration else ():
            if item.name == name:
                return Slot("field", f"{event} {name}", Span(item.span.path, item.span.start, item.span.start + len(name)), name)
        return None

    def value_tiers(self, scope: Scope, aliases: Mapping[str, Slot]) -> Tiers:
        """All that an expression may name."""
        own = [Candidate(name, name, Slot("constant", name, item.name_span)) for name, item in self.model.constants.items()]
        own += [Candidate(name, name) for name in (*MOMENTS, "yes", "no", "contact")]
        own += [Candidate(name, name) for name in ("start", "key") if scope.journey]
        own += [Candidate(name, name, aliases.get(name)) for name in scope.bindings]
        dotted = list(self.attribute_tiers()[0])
        if scope.events:
            dotted += list(self.field_tiers(scope.events, "event.")[0])
        for alias, event in scope.bindings.items():
            dotted += [Candidate(one.name, one.write, aliases.get(alias)) for one in self.field_tiers((event,), alias + ".")[0]]
        return own + dotted, self._other_values(scope)

    def _other_values(self, scope: Scope) -> list[Candidate]:
        other = [
            Candidate(name, f"contact IN {name}", self._segment_slot(name), "is a segment, not a value")
            for name in self.segments()
        ]
        other += [Candidate("true", "yes", None, "is written yes"), Candidate("false", "no", None, "is written no")]
        other += [
            Candidate(name, "contact." + name, None, f"is an attribute: contact.{name}")
            for name in (*self.model.attributes, *self.model.facts)
        ]
        for event in scope.events:
            info = self.model.events.get(event)
            other += [
                Candidate(name, "event." + name, None, f"is a field of the event: event.{name}")
                for name in (info.fields if info else ())
            ]
        other += [Candidate(name, f"DID {name}", None, "is an event, not a value") for name in self.model.events]
        return other


def _attribute_choices(model: Model) -> dict[str, tuple[Any, ...]]:
    found = {}
    for name, info in model.attributes.items():
        if info.declaration is not None and info.declaration.one_of is not None:
            found[name] = literals(info.declaration.one_of)
    return found


def _field_choices(model: Model) -> dict[tuple[str, str], tuple[Any, ...]]:
    found = {}
    for event, info in model.events.items():
        for item in info.declaration.fields if info.declaration else ():
            if item.one_of is not None:
                found[event, item.name] = literals(item.one_of)
    return found


def literals(values: n.Node) -> tuple[Any, ...]:
    """The values of a list as far as they are written out."""
    return tuple(item.value for item in values.items if isinstance(item, n.Literal)) if isinstance(values, n.List) else ()
