"""What the compiler makes of a model: a program, immutable once built, that `advance` runs. Records with compiled functions in them;
`describe()` prints the program for people and golden tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rules_engine.actions import Action
from rules_engine.runtime.calendar import BusinessHours, Duration
from rules_engine.runtime.history import Query

Test = Callable[[Any], bool]
Value = Callable[[Any], Any]


class Condition:
    """A compiled condition. test(tick); deps: facts it depends on; flips(tick): the next moment at which time alone may turn it, or
    None; text: its words. `parts` are the terms of its AND (or of its OR) for explanations, compiled when first asked for."""

    __slots__ = ("test", "deps", "flips", "text", "_explain", "_parts")

    def __init__(self, test: Test, deps: frozenset[str], flips: Value | None, text: str,
                 explain: Callable[[], list[tuple[str, Test, Value]]]) -> None:
        self.test, self.deps, self.flips, self.text, self._explain = test, deps, flips, text, explain
        self._parts: list[tuple[str, Test, Value]] | None = None

    @property
    def parts(self) -> list[tuple[str, Test, Value]]:
        """(words, test, reads) of each term; reads(tick) gives ((name, value), …)."""
        if self._parts is None:
            self._parts = self._explain()
        return self._parts

    def reads(self, tick: Any) -> tuple[tuple[str, Any], ...]:
        """All facts the condition reads, with their values, each once."""
        found: dict[str, Any] = {}
        for _, _, reads in self.parts:
            found.update(reads(tick))
        return tuple(found.items())

    def failure(self, tick: Any) -> tuple[str, tuple[tuple[str, Any], ...]]:
        """Which part is false, in words, and the values it read."""
        for text, test, reads in self.parts:
            if not test(tick):
                return text, tuple(reads(tick))
        return self.text, self.reads(tick)


class Site:
    """A place in a ruleset that decisions speak of: the ruleset and the step; first: whether it is the ruleset's first action;
    constant: what all decisions of a plain rule's action have in common, once one was written out."""

    __slots__ = ("ruleset", "step", "place", "text", "first", "constant")

    def __init__(self, ruleset: Ruleset, step: str | None, place: tuple[str, int], text: str) -> None:
        self.ruleset, self.step, self.place, self.text = ruleset, step, place, text
        self.first = False
        self.constant: tuple[Any, ...] | None = None


class Fired:
    """Actions of a plain rule that were done one after the other: all that is known of them before anyone asks. Their moment and cause are
    those of their tick. acts: (site, call) of each."""

    __slots__ = ("acts",)

    def __init__(self, acts: tuple[tuple[Site, ActionCall], ...]) -> None:
        self.acts = acts


class Emission:
    """An event with constant fields that a rule emits. plan: what it sets off."""

    __slots__ = ("site", "plan", "name", "subject", "data")

    def __init__(self, site: Site, plan: EventPlan, name: str, subject: Any, data: dict[str, Any]) -> None:
        self.site, self.plan, self.name, self.subject, self.data = site, plan, name, subject, data


class ActionCall:
    """An action with its arguments: constants, or functions of the tick. `changes` when they are constant and the action internal."""

    __slots__ = ("action", "primary", "params", "constant", "changes", "channel", "policy", "name", "needs_event")

    def __init__(self, action: Action) -> None:
        self.action = action
        self.name = action.name
        self.primary: Any = None
        self.params: tuple[tuple[str, Any], ...] = ()
        self.constant = True
        self.changes: tuple[Any, ...] | None = None
        self.channel = action.channel
        self.policy: dict[str, Any] = {}
        self.needs_event = action.extra == "template"  # templates may read the event's fields

    def arguments(self, tick: Any) -> tuple[Any, dict[str, Any]]:
        """(primary, params) at this moment; missing values stay out of params."""
        primary = self.primary(tick) if callable(self.primary) else self.primary
        params = {}
        for key, value in self.params:
            if callable(value):
                value = value(tick)
                if value is None:
                    continue
            params[key] = value
        return primary, params


class Trigger:
    """Something that can start, end or resume a ruleset.

    kind: event | segment | becomes | changes | timed | condition. event, subject, any: for `event`. fact: the watched fact (`a:points`,
    `s:vip`). entering: for `segment`. turned(tick, old, new): for becomes and changes. timed: for `timed`. where: Condition or None.
    since_start: the query that finds an event already there. alias: the name that WAIT … AS gives it."""

    __slots__ = ("kind", "text", "event", "subject", "any", "fact", "entering", "turned", "timed", "where", "condition", "since", "alias", "id")

    def __init__(self, kind: str, text: str) -> None:
        self.kind, self.text = kind, text
        self.event: str | None = None
        self.subject: Callable[[Any], bool] | None = None
        self.any = False
        self.fact: str | None = None
        self.entering = True
        self.turned: Callable[[Any, Any, Any], bool] | None = None
        self.timed: Timed | None = None
        self.where: Condition | None = None
        self.condition: Condition | None = None
        self.since: Condition | None = None
        self.alias: str | None = None
        self.id = ""


class Timed:
    """A trigger that time sets off. due(tick, after, since): the moment (ms) after `after`, or None; since: when the instance or its
    wait began, for absences. deps: facts that move it. kind: anchored | yearly | every | absence; shift: ms from the moment to the day it
    belongs to (7 days BEFORE an anniversary belongs to the anniversary's year)."""

    __slots__ = ("id", "due", "deps", "kind", "shift")

    def __init__(self, id: str, due: Callable[[Any, int, int | None], int | None], deps: frozenset[str], kind: str, shift: int = 0) -> None:
        self.id, self.due, self.deps, self.kind, self.shift = id, due, deps | {"new"}, kind, shift


class Derived:
    """A maintained fact: a segment with a condition, or a derived FACT. fact: `s:vip` or `a:spend_365`."""

    __slots__ = ("name", "fact", "segment", "value", "deps", "flips", "condition")

    def __init__(self, name: str, fact: str, segment: bool, value: Value, deps: frozenset[str], flips: Value | None,
                 condition: Condition | None) -> None:
        self.name, self.fact, self.segment, self.value, self.deps, self.flips, self.condition = \
            name, fact, segment, value, deps | {"new", f"f:{fact}"}, flips, condition


class Blocked:
    """What happens to a message that may not leave: drop | stop | hold, at most `up_to`."""

    __slots__ = ("policy", "up_to")

    def __init__(self, policy: str, up_to: Duration | None) -> None:
        self.policy, self.up_to = policy, up_to


class Window:
    """Hours in which messages may leave (deliver) or may not (quiet). zone(tick) or None for the contact's."""

    __slots__ = ("start", "end", "days", "zone", "blocked")

    def __init__(self, start: int, end: int, days: frozenset[int] | None, zone: Value | None, blocked: Blocked) -> None:
        self.start, self.end, self.days, self.zone, self.blocked = start, end, days, zone, blocked


class Limit:
    __slots__ = ("count", "channel", "period", "blocked")

    def __init__(self, count: int, channel: str, period: Duration, blocked: Blocked) -> None:
        self.count, self.channel, self.period, self.blocked = count, channel, period, blocked


class Goal:
    __slots__ = ("triggers", "within", "text")

    def __init__(self, triggers: list[Trigger], within: Duration | None, text: str) -> None:
        self.triggers, self.within, self.text = triggers, within, text


class Exit:
    """An EXIT. position: where in the ruleset's ops its actions stand, None where it has none."""

    __slots__ = ("reason", "triggers", "calls", "site", "position")

    def __init__(self, reason: str | None, triggers: list[Trigger], calls: list[tuple[Site, ActionCall]], site: Site) -> None:
        self.reason, self.triggers, self.calls, self.site = reason, triggers, calls, site
        self.position: int | None = None


class Ruleset:
    """A rule or a campaign, compiled. order: place among all (priority aside); ops: its steps as a flat list (plan.steps); steps: the
    identities of its steps; index: where in ops each step stands."""

    def __init__(self, name: str, is_campaign: bool, order: int, place: tuple[str, int]) -> None:
        self.name, self.is_campaign, self.order, self.place = name, is_campaign, order, place
        self.label: str | None = None
        self.priority = 0
        self.triggers: list[Trigger] = []
        self.ops: list[Any] = []
        self.steps: list[str] = []
        self.index: dict[str, int] = {}
        self.at_most: tuple[int, Duration, str] | None = None
        self.audience: Condition | None = None
        self.starts: Value | None = None
        self.until: Value | None = None
        self.keys: tuple[str, ...] = ()
        self.mode = "single"
        self.reentry: tuple[str, Duration | None, int | None] = ("always", None, None)
        self.exits: list[Exit] = []
        self.exit_on_goal = False
        self.goal: Goal | None = None
        self.deliver: Window | None = None
        self.limits: dict[str, Limit] = {}
        self.holdout = 0
        self.throttle: tuple[int, int] | None = None
        self.on_late: tuple[Duration, str] | None = None
        self.zone: str | None = None
        self.owner: str | None = None
        self.site = Site(self, None, place, "")
        self.simple: Callable[[Any], None] | None = None  # a rule's whole body as one generated function, where it allows that
        self.body: tuple[str, ...] | None = None          # the same as lines of source, to stand inside a matcher
        self.remembers = False  # whether entries must be remembered (REENTRY, AT MOST)
        self.writes: frozenset[str] = frozenset()

    @property
    def rank(self) -> tuple[int, int]:
        """Order of firing: priority first, then declaration."""
        return (-self.priority, self.order)

    def __repr__(self) -> str:
        return f"<{'campaign' if self.is_campaign else 'rule'} {self.name}>"


class EventPlan:
    """All that an event of one type sets off. changes: facts that always go with it; queries: questions it answers; contract: the
    data contract or None; match(tick): the generated function that finds and runs its rules and campaigns; exits, goals: by ruleset; emits: the
    events its rules emit. identity: it is about who the contact is. bare: only rules and campaigns. Program.plain has those whose rules read
    and change nothing but attributes and segments, and so all they emit."""

    __slots__ = ("name", "changes", "queries", "contract", "match", "exits", "goals", "waits", "bare", "emits",
                 "identity")

    def __init__(self, name: str) -> None:
        self.name = name
        self.changes: tuple[Any, ...] = ()
        self.queries: list[Query] = []
        self.contract: Condition | None = None
        self.match: Callable[[Any], None] | None = None
        self.exits: dict[str, list[tuple[Exit, Trigger]]] = {}
        self.goals: dict[str, list[Trigger]] = {}
        self.waits = False
        self.bare = self.identity = False
        self.emits: frozenset[str] = frozenset()


class Program:
    """Everything the engine needs, found by index. Immutable after `plan.compile_model`."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.model: Any = None
        self.rulesets: list[Ruleset] = []
        self.by_name: dict[str, Ruleset] = {}
        self.events: dict[str, EventPlan] = {}
        self.plain: dict[str, EventPlan] = {}        # those that plain rules are the only answer to
        self.queries: dict[str, Query] = {}
        self.derived: list[Derived] = []
        self.edges: dict[str, list[tuple[Ruleset, Trigger]]] = {}
        self.exit_edges: dict[str, list[tuple[Ruleset, Exit, Trigger]]] = {}
        self.goal_edges: dict[str, list[tuple[Ruleset, Trigger]]] = {}
        self.timed: list[tuple[Ruleset, Trigger]] = []
        self.watched: frozenset[str] = frozenset()
        self.wait_deps: frozenset[str] = frozenset()
        self.since_owners: frozenset[str] = frozenset()
        self.zone = "UTC"
        self.zoned = False                           # whether any ruleset has a zone of its own
        self.business_hours: BusinessHours | None = None
        self.limits: dict[str, Limit] = {}
        self.quiet: Window | None = None
        self.holdout = 0
        self.on_late: tuple[Duration, str] | None = None
        self.longest_limit = 0                       # ms that a sent message can matter to a limit
        self.never: list[tuple[str, str, Any]] = []   # (channel, words, Limit | Condition)
        self.defaults: dict[str, Any] = {}
        self.contracts: dict[str, Condition] = {}
        self.compile_value: Callable[[Any], Value] | None = None
        self.tick: Any = None
        self.unmade: list[Callable[[], None]] = []   # makers of the functions that are made when first needed

    def warm(self) -> Program:
        """Makes all functions now: a service does so before its first event, a check or a test only pays for what it runs."""
        for make in self.unmade:
            make()
        self.unmade = []
        return self

    def describe(self) -> str:
        """The program in words, one line for each thing, for `camp show --stage program` and golden tests."""
        lines = [f"program {self.digest[:12]}"]
        for derived in self.derived:
            lines.append(f"derived {derived.fact} on {', '.join(sorted(derived.deps))}")
        for query in sorted(self.queries.values(), key=lambda item: (item.event, item.kind, item.id)):
            lines.append(f"history {query.event} {query.kind}" + (f" within {query.window.text()}" if query.window else ""))
        for ruleset in sorted(self.rulesets, key=lambda item: item.rank):
            lines.append(f"{'campaign' if ruleset.is_campaign else 'rule'} {ruleset.name}")
            lines += [f"  when {trigger.text}" for trigger in ruleset.triggers]
            lines += [f"  {position:3} {op.describe()}" for position, op in enumerate(ruleset.ops)]
        return "\n".join(lines) + "\n"
