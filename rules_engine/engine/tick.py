"""One contact's facts while they change: the working memory of `advance`.

A tick is one cause (an event, a change of attributes, a due time) and all that follows from it at the same moment. Facts change here; what
depends on them is found by index: derived facts and segments, timers, exits, goals, waits, and the triggers that watch edges.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

from rules_engine.actions import Change
from rules_engine.decisions import Decision
from rules_engine.limits import MAX_FIRINGS
from rules_engine.plan.program import ActionCall, Condition, Derived, Program, Ruleset, Site, Trigger
from rules_engine.runtime import calendar

_NOTHING: dict[str, Any] = {}


class SetAside(Exception):
    """An event that can't be processed: it is set aside with its reason, and every other goes on."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Facts:
    """The part of a tick that holds and changes facts. `rules_engine.engine.journey.Tick` adds instances and messages."""

    __slots__ = (
        "program", "state", "contact", "a", "s", "history", "instances", "timers", "now", "wall", "e", "event_subject", "event_at",
        "event_id", "event_name", "bindings", "start", "start_sequence", "key", "keys", "wanted", "emitted",
        "raw", "effects", "emits", "cancels", "queue", "agenda",
        "dirty", "edges", "pending", "count", "cause", "sequence", "admissions", "quiet", "_zone", "_today", "pushed", "fired", "ruleset",
        "arrival", "parting",
    )

    program: Program

    # ── time ──

    def zone(self) -> str:
        """The zone in which this tick reads the calendar: the contact's, then the campaign's, then the workspace's, then UTC."""
        zone = self._zone
        if zone is None:
            name = self.a.get("timezone")
            if name and calendar.is_zone(name):
                zone = name
            else:
                ruleset = self.ruleset
                zone = ruleset.zone if ruleset is not None and ruleset.zone else self.program.zone
            self._zone = zone
        return zone

    def today(self) -> str:
        return calendar.local_date(self.now, self.zone()).isoformat()

    def next_midnight(self) -> int:
        """When `today` changes."""
        from datetime import timedelta

        return calendar.local_moment(calendar.local_date(self.now, self.zone()) + timedelta(days=1), 0, self.zone())

    # ── changes ──

    def set_attribute(self, name: str, value: Any) -> None:
        """Sets or, with None, removes an attribute; what watches it will hear of it."""
        attributes = self.a
        old = attributes.get(name)
        if old == value and type(old) is type(value):
            return
        contract = self.program.contracts.get(name)
        if value is None or value == "":
            attributes.pop(name, None)
            value = None
        else:
            attributes[name] = value
        if contract is not None and value is not None and not contract.test(self):
            text, reads = contract.failure(self)
            if old is None:
                attributes.pop(name, None)
            else:
                attributes[name] = old
            raise SetAside(f"contact.{name} breaks its declaration: {text} ({_values(reads)})")
        if name == "timezone":
            self._zone = None
        self.changed(f"a:{name}", old, value)

    def changed(self, fact: str, old: Any, new: Any) -> None:
        if fact in self.program.watched:
            self.dirty.add(fact)
            self.edges.append((fact, old, new))
            self.pending = True

    def set_member(self, segment: str, member: bool) -> None:
        """Puts the contact in a segment or takes it out."""
        if (segment in self.s) == member:
            return
        if member:
            self.s[segment] = self.now
        else:
            del self.s[segment]
        self.changed(f"s:{segment}", not member, member)

    def change(self, change: Change, site: Site | None) -> None:
        """Makes one change that an action or an event asks for."""
        op, name, value = change
        if op == "set":
            self.set_attribute(name, value)
        elif op == "set_if":
            if self.e.get(value["field"]) == value["equals"]:
                self.set_attribute(name, value["value"])
        elif op == "add":
            known = self.a.get(name, self.program.defaults.get(name, 0))
            known = known if isinstance(known, int | float) else 0
            total = known + value
            self.set_attribute(name, round(total, 9) if isinstance(total, float) else total)
        elif op == "segment_add" or op == "segment_remove":
            self.set_member(name, op == "segment_add")
        elif op == "tag_add" or op == "tag_remove":
            self._tag(name, op == "tag_add")
        elif op == "emit":
            self.emit(name, value, site)
        elif op == "campaign_enter":
            self.enter_by_hand(name, site)
        elif op == "campaign_leave":
            self.leave_by_hand(name, site)

    def _tag(self, name: str, there: bool) -> None:
        tags = self.a.get("tags") or []
        if (name in tags) != there:
            self.set_attribute("tags", sorted([*tags, name]) if there else [tag for tag in tags if tag != name] or None)

    # ── what follows from changes ──

    def refresh(self, derived: Derived) -> bool:
        """Evaluates a derived fact and sets the timer for the moment at which time alone may change it; whether it changed."""
        value = derived.value(self)
        moment = None if derived.flips is None else derived.flips(self)
        timer = f"f:{derived.fact}"
        if moment is not None:
            self.timers[timer] = moment
        elif timer in self.timers:
            del self.timers[timer]
        if derived.segment:
            if bool(value) == (derived.name in self.s):
                return False
            if value:
                self.s[derived.name] = self.now
            else:
                del self.s[derived.name]
                if derived.name[0] == "?":
                    self.state["m"][f"{derived.name[1:]}!"] = 1
            self.edges.append((derived.fact, not value, bool(value)))
            return True
        old = self.a.get(derived.name)
        if old == value:
            return False
        if value is None:
            self.a.pop(derived.name, None)
        else:
            self.a[derived.name] = value
        self.edges.append((derived.fact, old, value))
        return True

    def react(self) -> None:
        """Brings everything that depends on changed facts up to date, until nothing changes any more. Exits act at once."""
        program = self.program
        while self.dirty or self.edges:
            dirty = self.dirty
            if dirty:
                self.dirty = set()
                self.use_nothing(None)
                for derived in program.derived:
                    if not derived.deps.isdisjoint(dirty) and self.refresh(derived):
                        dirty.add(derived.fact)
                for ruleset, trigger in program.timed:
                    if not trigger.timed.deps.isdisjoint(dirty):  # type: ignore[union-attr]
                        self.arm(ruleset, trigger)
            edges, self.edges = self.edges, []
            if self.quiet:
                continue
            if self.instances and dirty:
                self.rearm_instances(dirty)
            for fact, old, new in edges:
                self.route(fact, old, new)
            if self.instances and not dirty.isdisjoint(program.wait_deps):
                self.check_waits()
        self.pending = bool(self.agenda)

    def route(self, fact: str, old: Any, new: Any) -> None:
        """An edge: goals, exits, waits, then the rules and campaigns that it sets off."""
        program = self.program
        for ruleset, trigger in program.goal_edges.get(fact, ()):
            if self._turned(trigger, old, new):
                self.reach_goal(ruleset, trigger, None)
        for ruleset, exit_, trigger in program.exit_edges.get(fact, ()):
            if self.instances and self._turned(trigger, old, new):
                self.exit_all(ruleset, exit_, trigger, None)
        if self.instances and fact in program.wait_deps:
            self.resume_on_edge(fact, old, new)
        fitting: dict[Ruleset, list[Trigger]] = {}
        for ruleset, trigger in program.edges.get(fact, ()):
            if self._turned(trigger, old, new):
                fitting.setdefault(ruleset, []).append(trigger)
        for ruleset, triggers in fitting.items():
            if len(triggers) == 1:
                self.push(ruleset, triggers[0])
            else:
                self.push_call(ruleset, self.fire_one_of, (ruleset, triggers, self.arrival))

    def _turned(self, trigger: Trigger, old: Any, new: Any) -> bool:
        if trigger.kind == "segment":
            return trigger.entering == new
        return trigger.turned(self, old, new)  # type: ignore[misc]

    # ── agenda ──

    def push(self, ruleset: Ruleset, trigger: Trigger) -> None:
        """Puts a firing on the agenda; it runs in the order of its rank."""
        self.pushed += 1
        self.pending = True
        heappush(self.agenda, (ruleset.rank, self.pushed, self.fire, (ruleset, trigger, self.arrival)))

    def push_call(self, ruleset: Ruleset, function: Any, arguments: tuple[Any, ...]) -> None:
        self.pushed += 1
        self.pending = True
        heappush(self.agenda, (ruleset.rank, self.pushed, function, arguments))

    def drain_before(self, rank: tuple[int, int]) -> None:
        """Runs what the last firing set off and what comes before `rank`, in between the rules of one event."""
        saved = self.arrival
        self.react()
        while self.agenda and self.agenda[0][0] < rank:
            _, _, function, arguments = heappop(self.agenda)
            function(*arguments)
            self.react()
        self.use_arrival(saved)

    def drain_agenda(self) -> None:
        """Runs all that is on the agenda; messages and emitted events keep waiting."""
        saved = self.arrival
        self.react()
        while self.agenda:
            _, _, function, arguments = heappop(self.agenda)
            function(*arguments)
            self.react()
        self.use_arrival(saved)
        self.back()

    def drain(self) -> None:
        """Everything that is still to be done in this tick: facts, agenda, messages in their order, events that were emitted."""
        while True:
            if self.dirty or self.edges:
                self.react()
            if self.agenda:
                _, _, function, arguments = heappop(self.agenda)
                function(*arguments)
            elif self.admissions:
                self.admit(*heappop(self.admissions)[-1])
            elif self.queue:
                self.take_queued(self.queue.pop(0))
            elif not (self.dirty or self.edges):
                break
        self.pending = False

    # ── context of evaluation ──

    def use_arrival(self, arrival: tuple[Any, ...]) -> None:
        """Expressions read the event that arrived."""
        self.arrival = arrival
        self.e, self.event_subject, self.event_at, self.event_name, self.event_id = arrival

    def back(self) -> None:
        """Expressions read the event that arrived again, in nobody's zone but the contact's: after a firing that looked elsewhere."""
        self.use_arrival(self.arrival)
        self.ruleset = self._zone = None

    def use_nothing(self, ruleset: Ruleset | None) -> None:
        """Expressions read facts only, in the ruleset's zone; None: derived facts belong to no ruleset."""
        if self.ruleset is not ruleset:
            self.ruleset = ruleset
            self._zone = None

    # ── decisions ──

    def endless(self, ruleset: Ruleset | None) -> None:
        """Raises SetAside: more firings in one tick than MAX_FIRINGS."""
        names: dict[str, None] = {}
        for item in self.raw[-200:]:
            if type(item) is not tuple:
                names.setdefault((item.campaign or item.rule) if isinstance(item, Decision) else item.acts[0][0].ruleset.name)
        cycle = " → ".join([*names, next(iter(names))]) if names else ruleset.name if ruleset is not None else "unknown"
        raise SetAside(f"more than {MAX_FIRINGS} firings at one moment; these set each other off without end: {cycle}")

    def decide(self, ruleset: Ruleset, site: Site | None, kind: str, *, key: str | None = None, call: ActionCall | None = None,
               primary: Any = None, params: Any = None, outcome: str | None = None, reason: str = "",
               because: tuple[tuple[str, Any], ...] = (), at: int | None = None) -> None:
        """Notes a decision."""
        self.raw.append(Decision(
            self.now if at is None else at, self.contact, ruleset.name if ruleset.is_campaign else None,
            None if ruleset.is_campaign else ruleset.name, key, site.step if site is not None else None, kind,
            call.name if call is not None else None, primary, params if params is not None else _NOTHING, outcome, reason, because,
            self.cause, site.place if site is not None else ruleset.place))

    def skip(self, site: Site, condition: Condition, key: str | None = None) -> None:
        """Notes that a condition stopped a step: which part failed, and on what value."""
        text, reads = condition.failure(self)
        self.decide(site.ruleset, site, "skip", key=key, reason=f"{text} is false: {_values(reads)}" if reads else f"{text} is false",
                    because=reads)


def _values(reads: tuple[tuple[str, Any], ...]) -> str:
    return ", ".join(f"{name} is {_shown(value)}" for name, value in reads)


def _shown(value: Any) -> str:
    if value is None:
        return "missing"
    if value is True or value is False:
        return "yes" if value else "no"
    return f'"{value}"' if isinstance(value, str) else str(value)
