"""Model to program: every ruleset's triggers, clauses and steps, compiled and indexed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from rules_engine.actions import MESSAGE_PARAMETERS, Action
from rules_engine.model.meaning import Model, Scope, attribute_name, trigger_events
from rules_engine.plan import steps as op
from rules_engine.plan.expressions import Compiler, Context, Names, Registry, to_duration
from rules_engine.plan.program import (
    ActionCall,
    Blocked,
    Condition,
    Derived,
    EventPlan,
    Exit,
    Goal,
    Limit,
    Program,
    Ruleset,
    Site,
    Timed,
    Trigger,
    Window,
)
from rules_engine.plan.wording import action as action_words
from rules_engine.plan.wording import after as after_words
from rules_engine.plan.wording import number, rhythm, words
from rules_engine.runtime import calendar
from rules_engine.runtime import functions as runtime
from rules_engine.runtime.calendar import BusinessHours, Duration
from rules_engine.runtime.history import reach
from rules_engine.syntax import nodes as n

MESSAGE_OPTIONS = frozenset(item.name for item in MESSAGE_PARAMETERS)


class _Ruleset:
    """Compiles one rule or campaign."""

    def __init__(self, parent: _Program, node: n.Rule | n.Campaign, order: int) -> None:
        self.parent, self.node = parent, node
        self.model = parent.model
        place = (node.span.path, node.name_span.start)
        self.result = Ruleset(node.name, isinstance(node, n.Campaign), order, place)
        self.result.label = node.label
        self.bindings: dict[str, str] = {}
        self.names: dict[str, int] = {}
        self.events = trigger_events(node.triggers)
        self.entered = True  # whether what is compiled runs inside an instance, whose key is known

    def scope(self, events: tuple[str, ...] | None = None) -> Context:
        scope = Scope(self.events if events is None else events, dict(self.bindings), self.result.is_campaign)
        return Context(scope, self.result.name, self.result.keys)

    def condition(self, node: n.Node, events: tuple[str, ...] | None = None) -> Condition:
        return self.parent.condition(node, self.scope(events))

    def value(self, node: n.Node | None) -> Any:
        """A literal's value, or a function of the tick; None for None."""
        return self.parent.value(node, self.scope())

    def moment(self, node: n.Literal) -> Any:
        """A function of the tick: the moment of a date (when it begins) or of a date and time, in the tick's zone."""
        return lambda tick: calendar.parse_datetime(node.value, tick.zone())

    # ── the whole ──

    def compile(self) -> Ruleset:
        result = self.result
        for clause in self.node.clauses:
            if isinstance(clause, n.ForEach):
                result.keys = tuple(item.name.removeprefix("event.") for item in clause.keys)
        self.clauses()
        self.entered = False
        for position, trigger in enumerate(self.node.triggers):
            result.triggers.append(self.trigger(trigger, f"{result.name}:{position}"))
        self.entered = True
        self.block(self.node.steps)
        result.ops.append(op.End(result.site))
        for exit_ in result.exits:
            if exit_.calls:
                exit_.position = len(result.ops)
                result.ops += [op.Act(site, call) for site, call in exit_.calls]
                result.ops.append(op.End(result.site))
        for position, item in enumerate(result.ops):
            step = item.site.step
            if step is not None and step not in result.index:
                result.index[step] = position
        result.steps = list(result.index)
        for item in result.ops:
            if isinstance(item, op.Act):
                item.site.first = True
                break
        return result

    def clauses(self) -> None:
        result, constant = self.result, self.parent.constant
        for clause in self.node.clauses:
            if isinstance(clause, n.Priority):
                result.priority = clause.value
            elif isinstance(clause, n.Owner):
                result.owner = clause.address
            elif isinstance(clause, n.Timezone):
                result.zone = clause.zone
            elif isinstance(clause, n.AtMost):
                times, period = constant(clause.times), constant(clause.period)
                text = f"AT MOST {number(times)} TIME{'' if times == 1 else 'S'} PER {words(clause.period)}"
                result.at_most, result.remembers = (int(times), period, text), True
            elif isinstance(clause, n.Audience):
                result.audience = self.condition(clause.condition)
            elif isinstance(clause, n.Starts):
                result.starts = self.moment(clause.moment)
            elif isinstance(clause, n.Until):
                result.until = self.moment(clause.moment)
            elif isinstance(clause, n.Mode):
                result.mode = clause.mode
            elif isinstance(clause, n.Reentry):
                times = constant(clause.times) if clause.times is not None else None
                after = constant(clause.after) if clause.after is not None else None
                result.reentry = (clause.kind, after, int(times) if times is not None else None)
                result.remembers = True
            elif isinstance(clause, n.ExitOnGoal):
                result.exit_on_goal = True
            elif isinstance(clause, n.Holdout):
                result.holdout = round(clause.percent * 100)
            elif isinstance(clause, n.Throttle):
                result.throttle = (int(constant(clause.count)), constant(clause.period).approx_ms())
            elif isinstance(clause, n.OnLate):
                result.on_late = (constant(clause.after), clause.policy)
            elif isinstance(clause, n.Limit):
                limit = self.parent.limit(clause)
                result.limits[limit.channel] = limit
            elif isinstance(clause, n.Deliver):
                result.deliver = self.window(clause)
        # Goals and exits come after the rest: they read the key and the zone.
        for clause in self.node.clauses:
            if isinstance(clause, n.Goal):
                triggers = [self.trigger(item, f"{result.name}:goal{i}") for i, item in enumerate(clause.targets)]
                within = constant(clause.within) if clause.within is not None else None
                result.goal = Goal(triggers, within, " OR ".join(item.text for item in triggers))
            elif isinstance(clause, n.Exit):
                result.exits.append(self.exit(clause, len(result.exits)))

    def exit(self, clause: n.Exit, position: int) -> Exit:
        triggers = [self.trigger(item, f"{self.result.name}:exit{position}.{i}") for i, item in enumerate(clause.alternatives)]
        site = Site(self.result, None, (clause.span.path, clause.span.start), "EXIT")
        calls = []
        for then in clause.steps:
            calls.append((self.site(then, then.label or action_words(then.action)), self.call(then.action)))
        return Exit(clause.reason, triggers, calls, site)

    def window(self, clause: n.Deliver | n.Quiet) -> Window:
        zone = self.value(clause.zone) if clause.zone is not None else None
        if isinstance(clause.zone, n.Literal):
            zone = clause.zone.value
        blocked = self.parent.blocked(clause.blocked, "hold")
        days = frozenset(clause.days) if getattr(clause, "days", ()) else None
        return Window(self.parent.constant(clause.start), self.parent.constant(clause.end), days, zone, blocked)

    # ── triggers ──

    def trigger(self, node: n.Node, name: str) -> Trigger:
        trigger = self._trigger(node, name)
        trigger.id = name
        trigger.alias = getattr(node, "alias", None)
        if trigger.alias is not None:
            self.bindings[trigger.alias] = trigger.event or ""
        return trigger

    def _trigger(self, node: n.Node, name: str) -> Trigger:
        if isinstance(node, n.Happening):
            if node.occurrence.event in self.model.constants and node.occurrence.event not in self.model.events:
                # A constant's name alone: a moment to wait for, which the grammar can't tell from an event.
                node = n.Condition(n.Name(node.occurrence.event, span=node.span), node.alias, span=node.span)
            else:
                return self._happening(node)
        if isinstance(node, n.Condition):
            if isinstance(node.condition, n.Name) and self.parent.type_of(node.condition, self.scope().scope) in ("date", "datetime"):
                return self._timed(n.Anchored(None, 1, node.condition, alias=node.alias, span=node.span), name)
            trigger = Trigger("condition", words(node.condition))
            trigger.condition = self.condition(node.condition)
            return trigger
        if isinstance(node, n.MembershipChange):
            trigger = Trigger("segment", words(node))
            trigger.fact, trigger.entering = f"s:{node.segment}", node.kind == "enters"
        elif isinstance(node, n.Becomes):
            trigger = Trigger("becomes", words(node))
            trigger.fact = f"a:{attribute_name(node.name.name)}"
            trigger.turned = self.parent.becomes(node, self.scope())
        elif isinstance(node, n.Changes):
            trigger = Trigger("changes", words(node))
            trigger.fact = f"a:{attribute_name(node.name.name)}"
            trigger.turned = _changed(self.value(node.old), node.old is not None, self.value(node.new), node.new is not None,
                                      self.parent.missing(attribute_name(node.name.name)))
        else:
            return self._timed(node, name)
        if node.where is not None:
            trigger.where = self.condition(node.where)
        return trigger

    def _happening(self, node: n.Happening) -> Trigger:
        occurrence = node.occurrence
        trigger = Trigger("event", words(node))
        trigger.event, trigger.any = occurrence.event, occurrence.any
        trigger.subject = self.parent.subject(occurrence.subject, self.scope())
        if occurrence.where is not None:
            trigger.where = self.condition(occurrence.where, (occurrence.event,))
        if node.since_start:
            did = n.Did(n.History(n.Occurrence(occurrence.event, occurrence.subject, occurrence.where, occurrence.any), None, True))
            trigger.since = self.condition(did)
        return trigger

    def _timed(self, node: Any, name: str) -> Trigger:
        trigger = Trigger("timed", words(node))
        trigger.timed = self.parent.timed(node, name, self)
        if isinstance(node, n.Absence):
            trigger.event = None
        if node.where is not None:
            trigger.where = self.condition(node.where)
        return trigger

    # ── steps ──

    def site(self, node: n.Node, text: str) -> Site:
        """A step's identity is what it is, numbered where the ruleset has it more than once; inserting other steps changes nothing."""
        count = self.names[text] = self.names.get(text, 0) + 1
        step = text if count == 1 else f"{text} #{count}"
        return Site(self.result, step, (node.span.path, node.span.start), text)

    def block(self, nodes: tuple[n.Node, ...]) -> None:
        for node in nodes:
            getattr(self, "_" + type(node).__name__.lower())(node)

    def emit(self, item: Any) -> Any:
        self.result.ops.append(item)
        return item

    def here(self) -> int:
        return len(self.result.ops)

    def _then(self, node: n.Then) -> None:
        self.emit(op.Act(self.site(node, node.label or action_words(node.action)), self.call(node.action)))

    def _stop(self, node: n.Stop) -> None:
        self.emit(op.Stop(self.site(node, f'STOP "{node.reason}"' if node.reason else "STOP"), node.reason))

    def _if(self, node: n.If) -> None:
        exits = []
        for position, branch in enumerate(node.branches):
            if branch.condition is None:
                self.block(branch.steps)
                continue
            condition = self.condition(branch.condition)
            test = self.emit(op.Test(self.site(branch, f"IF {condition.text}"), condition))
            self.block(branch.steps)
            if position + 1 < len(node.branches):
                exits.append(self.emit(op.Jump(test.site)))
            test.otherwise = self.here()
        for jump in exits:
            jump.to = self.here()

    def _after(self, node: n.After) -> None:
        window = (self.parent.constant(node.window[0]), self.parent.constant(node.window[1])) if node.window else None
        at = self.parent.constant(node.at) if node.at is not None else None
        zone = node.zone.value if isinstance(node.zone, n.Literal) else self.value(node.zone)
        days = frozenset(node.days) if node.days else None
        self.emit(op.Delay(self.site(node, node.label or after_words(node)), self.value(node.duration), node.from_start, at, window, days,
                           zone))

    def _wait(self, node: n.Wait) -> None:
        text = "WAIT UNTIL " + " OR ".join(words(item) for item in node.alternatives)
        site = self.site(node, text)
        alternatives = [self.trigger(item, f"{self.result.name}:{site.step}:{i}") for i, item in enumerate(node.alternatives)]
        up_to = self.value(node.up_to) if node.up_to is not None else None
        wait = self.emit(op.Wait(site, alternatives, up_to, node.catch_up))
        wait.body = self.here()
        self.block(node.steps)
        if node.otherwise is None:
            wait.otherwise = wait.end = self.here()
            return
        jump = self.emit(op.Jump(site))
        wait.otherwise = self.here()
        self.block(node.otherwise)
        wait.end = jump.to = self.here()

    def _split(self, node: n.Split) -> None:
        count = sum(1 for item in self.result.ops if isinstance(item, op.Split))
        name = node.name or (f"{self.result.name}.split" + (f"{count + 1}" if count else ""))
        split = self.emit(op.Split(self.site(node, f"SPLIT {name}"), name))
        bound, exits = 0.0, []
        for branch in node.branches:
            bound += branch.percent * 100
            split.branches.append((round(bound), branch.name, self.here()))
            self.block(branch.steps)
            exits.append(self.emit(op.Jump(split.site)))
        for jump in exits:
            jump.to = self.here()

    def _repeat(self, node: n.Repeat) -> None:
        words_ = node.label or f"REPEAT EVERY {rhythm(node.rhythm)}"
        site = self.site(node, words_)
        every: Any
        if node.rhythm.days:
            every = ("week", frozenset(node.rhythm.days))
        elif node.rhythm.unit is not None:
            every = (node.rhythm.unit, None) if node.rhythm.unit == "day" else _unit_duration(node.rhythm.unit)
        else:
            every = self.value(node.rhythm.every)
        at = self.parent.constant(node.rhythm.at) if node.rhythm.at is not None else None
        condition = self.condition(node.condition) if node.condition is not None else None
        start = self.here()
        loop = self.emit(op.Loop(site, every, at, self.value(node.times), condition, site.step or ""))
        self.block(node.steps)
        self.emit(op.Again(Site(self.result, f"{site.step} again", site.place, words_), start))
        loop.end = self.here()

    # ── actions ──

    def call(self, node: n.Action) -> ActionCall:
        action = self.model.actions[node.name]
        call = ActionCall(action)
        names = {item.name: item for item in action.parameters}
        call.primary = self.argument(node.primary, action.primary.kind if action.primary else "any")
        params = []
        for key, value in node.arguments:
            if action.channel is not None and key in MESSAGE_OPTIONS:
                call.policy[key] = self.value(value)
                continue
            kind = names[key].kind if key in names else "attribute" if action.extra in ("attribute", "event") else "any"
            params.append((key, self.internal(value) if kind == "attribute" else self.argument(value, kind)))
        call.params = tuple(params)
        call.constant = not callable(call.primary) and not any(callable(value) for _, value in params)
        if action.changes is not None and call.constant:
            # One that fails is asked again when the step is reached, which then sets that event aside, with the reason.
            with contextlib.suppress(Exception):
                call.changes = tuple(action.changes(call.primary, dict(call.params)))
        return call

    def argument(self, node: n.Node | None, kind: str) -> Any:
        """An argument's value as the action gets it; a name that stands for itself (`segment.add vip`) as text."""
        if node is None:
            return None
        if isinstance(node, n.Name) and kind in ("segment", "campaign", "event", "tag", "name", "attribute", "choice", "template"):
            if not (kind in ("tag", "name", "choice", "template") and self.parent.type_of(node, self.scope().scope) is not None):
                return node.name
        return self.parent.external(node, self.scope())

    def internal(self, node: n.Node) -> Any:
        """A value that stays inside Camp (an attribute, a field of an event): times in ms, not in words; durations in words."""
        value = self.value(node)
        if isinstance(value, Duration):
            return value.text()
        return (lambda tick: runtime.written(value(tick), None)) if callable(value) else value


class _Program:
    """Compiles a model."""

    def __init__(self, model: Model, digest: str) -> None:
        self.model = model
        self.names = Names()
        self.registry = Registry()
        self.program = Program(digest)
        self.program.model = model

    # ── expressions ──

    def compiler(self, context: Context) -> Compiler:
        compiler = Compiler(self.model, self.names, self.registry)
        compiler.begin(context)
        return compiler

    def type_of(self, node: n.Node, scope: Scope) -> str | None:
        from rules_engine.model.meaning import type_of

        return type_of(self.model, node, scope)

    def constant(self, node: n.Node) -> Any:
        return self.compiler(Context()).constant(node)

    def condition(self, node: n.Node, context: Context) -> Condition:
        compiler = self.compiler(context)
        test = compiler.function(compiler.condition(node))
        flips = self._flips(compiler)
        return Condition(test, frozenset(compiler.deps), flips, words(node), lambda: self._parts(node, context))

    def _flips(self, compiler: Compiler) -> Any:
        if not compiler.flips:
            return None
        return compiler.function(f"earliest(({', '.join(dict.fromkeys(compiler.flips))},))")

    def _parts(self, node: n.Node, context: Context) -> list[tuple[str, Any, Any]]:
        parts = []
        for item in node.items if isinstance(node, n.And) else (node,):
            compiler = self.compiler(context)
            test = compiler.function(compiler.condition(item))
            reads = compiler.function("(" + "".join(f"({name!r}, {source})," for name, source in compiler.reads.items()) + ")")
            parts.append((words(item), test, reads))
        return parts

    def value(self, node: n.Node | None, context: Context) -> Any:
        """A constant, or a function of the tick."""
        if node is None:
            return None
        known = self.constant(node)
        if known is not None and not (isinstance(node, n.Literal) and node.type in ("datetime", "percent")):
            return known
        compiler = self.compiler(context)
        return compiler.function(compiler.compile(node).source)

    def external(self, node: n.Node, context: Context) -> Any:
        """A value as it leaves Camp: a constant, or a function of the tick."""
        known = self.constant(node)
        if isinstance(node, n.Literal) and node.type in ("text", "number", "boolean", "date"):
            return node.value
        if isinstance(known, Duration):
            return known.text()
        if isinstance(node, n.Name) and known is not None and isinstance(known, str | int | float | bool):
            resolved = self.model.constants[node.name].value
            if isinstance(resolved, n.Literal) and resolved.type in ("text", "number", "boolean", "date"):
                return known
        compiler = self.compiler(context)
        return compiler.function(compiler.external(node))

    def subject(self, node: n.Node | None, context: Context) -> Any:
        """A test of an event's subject; with placeholders it is the tick's business (`T.expected`)."""
        if isinstance(node, n.Text):
            compiler = self.compiler(context)
            wanted = compiler.function(compiler.compile(node).source)
            return _Personal(wanted)
        return self.compiler(context).subject_test(node)

    def becomes(self, node: n.Becomes, context: Context) -> Any:
        """turned(tick, old, new) for `x BECOMES >= 50`: false before, true now."""
        compiler = self.compiler(context)
        code = compiler.compile(node.value)
        wanted = compiler.function(code.source)
        missing = self.missing(attribute_name(node.name.name))
        test = _ORDER[node.op]

        def turned(tick: Any, old: Any, new: Any) -> bool:
            value = wanted(tick)
            old = missing if old is None else old
            new = missing if new is None else new
            return value is not None and new is not None and test(new, value) and not (old is not None and test(old, value))

        return turned

    def missing(self, attribute: str) -> Any:
        """The value that a missing attribute counts as: its default, or None."""
        compiler = self.compiler(Context())
        default = compiler.default(attribute)
        return compiler.function(default)(None) if default is not None else None

    # ── clauses ──

    def blocked(self, node: n.Blocked | None, default: str) -> Blocked:
        if node is None:
            return Blocked(default, None)
        return Blocked(node.policy, self.constant(node.up_to) if node.up_to is not None else None)

    def limit(self, clause: n.Limit) -> Limit:
        channel = "" if clause.channel in ("messages", "message") else clause.channel
        return Limit(int(self.constant(clause.count)), channel, self.constant(clause.period), self.blocked(clause.blocked, "drop"))

    def timed(self, node: Any, name: str, owner: _Ruleset) -> Timed:
        at = self.constant(node.at) if getattr(node, "at", None) is not None else None
        if isinstance(node, n.Anchored):
            return self._anchored(node, name, at, owner)
        if isinstance(node, n.Anniversary):
            return self._anniversary(node, name, at or 0)
        if isinstance(node, n.Every):
            return self._every(node, name)
        return self._absence(node, name, owner)

    def _anchored(self, node: n.Anchored, name: str, at: int | None, owner: _Ruleset) -> Timed:
        compiler = self.compiler(owner.scope())
        code = compiler.compile(node.anchor)
        anchor = compiler.function(f"midnight({code.source}, T)" if code.type == "date" else code.source)
        offset = to_duration(node.offset) if node.offset is not None else None
        sign = node.sign

        def due(tick: Any, after: int, since: int | None) -> int | None:
            moment = anchor(tick)
            if moment is None:
                return None
            if offset is not None:
                moment = calendar.add(moment, offset, tick.zone(), tick.program.business_hours, sign)
            if at is not None:
                moment = calendar.local_moment(calendar.local_date(moment, tick.zone()), at, tick.zone())
            return moment

        return Timed(name, due, frozenset(compiler.deps) | {"a:timezone"}, "anchored")

    def _anniversary(self, node: n.Anniversary, name: str, at: int) -> Timed:
        attribute = attribute_name(node.anchor.name)
        offset = to_duration(node.offset) if node.offset is not None else None
        sign = node.sign
        moment_type = self.model.attribute_type(attribute) == "datetime"

        def due(tick: Any, after: int, since: int | None) -> int | None:
            day = tick.a.get(attribute)
            if day is None:
                return None
            if moment_type:
                day = calendar.local_date(day, tick.zone()).isoformat()
            due = calendar.next_anniversary(day, after, at, tick.zone(), offset, sign)
            # The day itself is no anniversary: the first one is a year later.
            while day[0] != "-" and calendar.local_date(due + shift, tick.zone()).year <= int(day[:4]):
                due = calendar.next_anniversary(day, due, at, tick.zone(), offset, sign)
            return due

        shift = 0 if offset is None else -sign * offset.approx_ms()
        return Timed(name, due, frozenset((f"a:{attribute}", "a:timezone")), "yearly", shift)

    def _every(self, node: n.Every, name: str) -> Timed:
        pattern = node.rhythm
        at = self.constant(pattern.at) if pattern.at is not None else 0
        if pattern.every is not None:
            span = to_duration(pattern.every) if isinstance(pattern.every, n.Duration) else self.constant(pattern.every)
            clock = self.constant(pattern.at) if pattern.at is not None else None
            return Timed(name, _interval(span, clock), frozenset({"a:timezone"}), "every")
        kind = "week" if pattern.days else pattern.unit or "day"
        if kind not in ("hour", "day", "week", "month"):
            return Timed(name, _interval(_unit_duration(kind), at if pattern.at is not None else None), frozenset({"a:timezone"}), "every")
        days = frozenset(pattern.days) if pattern.days else None
        if kind == "week" and days is None:
            days = frozenset((0,))

        def due(tick: Any, after: int, since: int | None) -> int | None:
            return calendar.next_every(kind, after, at, tick.zone(), days, pattern.month_day or 1 if kind == "month" else None)

        return Timed(name, due, frozenset({"a:timezone"}), "every")

    def _absence(self, node: n.Absence, name: str, owner: _Ruleset) -> Timed:
        context = owner.scope() if owner.entered else Context(owner.scope().scope)
        compiler = self.compiler(context)
        latest = compiler.function(compiler.compile(n.Aggregate("last", n.Name("event.at"), n.History(node.occurrence))).source)
        span = self.constant(node.duration)

        def due(tick: Any, after: int, since: int | None) -> int | None:
            last = latest(tick)
            began = tick.state["since"] if since is None else since
            if last is not None and last > began:
                began = last
            return calendar.add(began, span, tick.zone(), tick.program.business_hours)

        return Timed(name, due, frozenset(compiler.deps) | {"a:timezone"}, "absence")

    # ── the whole ──

    def compile(self) -> Program:
        program = self.program
        self.policy()
        for name in self.model.events:
            program.events[name] = self.event(name)
        for name, info in self.model.attributes.items():
            if info.declaration is not None and info.declaration.where is not None:
                program.contracts[name] = self.condition(info.declaration.where, Context())
            if info.declaration is not None and info.declaration.default is not None:
                program.defaults[name] = self.constant(info.declaration.default)
        self.derived()
        for order, node in enumerate(self.model.rulesets):
            ruleset = _Ruleset(self, node, order).compile()
            program.rulesets.append(ruleset)
            program.by_name[ruleset.name] = ruleset
            program.zoned = program.zoned or ruleset.zone is not None
        limits = [*program.limits.values(), *(rule for _, _, rule in program.never if isinstance(rule, Limit))]
        for ruleset in program.rulesets:
            ruleset.writes = _writes(ruleset)
            self.rematch(ruleset)
            limits += ruleset.limits.values()
        program.longest_limit = max((reach(limit.period) for limit in limits), default=0)
        program.queries = self.registry.queries
        for query in program.queries.values():
            plan = program.events.get(query.event)
            if plan is not None:
                plan.queries.append(query)
        self.index()
        program.compile_value = lambda node: self.value(node, Context())
        return program

    def is_watched(self, fact: str) -> bool:
        """Whether anything must hear of a change of this fact."""
        return fact in self.program.watched

    def policy(self) -> None:
        program, model = self.program, self.model
        for zone in model.clauses(n.Timezone):
            program.zone = zone.zone
        hours, holidays = model.clauses(n.BusinessHoursClause), model.clauses(n.Holidays)
        if hours or holidays:
            from datetime import date

            free = frozenset(date.fromisoformat(item.value) for clause in holidays for item in clause.dates)
            start, end = (hours[0].start.value, hours[0].end.value) if hours else (540, 1020)
            days = frozenset(hours[0].days) if hours and hours[0].days else frozenset(range(5))
            program.business_hours = BusinessHours(start, end, days, free)
        for clause in model.clauses(n.Limit):
            limit = self.limit(clause)
            program.limits[limit.channel] = limit
        for clause in model.clauses(n.Quiet):
            zone = clause.zone.value if isinstance(clause.zone, n.Literal) else self.value(clause.zone, Context())
            program.quiet = Window(clause.start.value, clause.end.value, None, zone, self.blocked(clause.blocked, "hold"))
        for clause in model.clauses(n.Holdout):
            program.holdout = round(clause.percent * 100)
        for clause in model.clauses(n.OnLate):
            program.on_late = (self.constant(clause.after), clause.policy)
        for clause in model.clauses(n.NeverMore):
            limit = Limit(clause.count, "", self.constant(clause.period), Blocked("drop", None))
            program.never.append((clause.channel, f"NEVER MORE THAN {clause.count} {clause.channel} PER {words(clause.period)}", limit))
        for clause in model.clauses(n.NeverWhere):
            condition = self.condition(clause.condition, Context())
            program.never.append((clause.channel, f"NEVER {clause.channel} WHERE {condition.text}", condition))

    def event(self, name: str) -> EventPlan:
        plan = EventPlan(name)
        info = self.model.events[name]
        if info.source is not None:
            plan.changes = info.source.changes
        if info.declaration is not None and info.declaration.where is not None:
            plan.contract = self.condition(info.declaration.where, Context(Scope((name,))))
        return plan

    def derived(self) -> None:
        """Segments with a condition and derived facts, in an order in which each comes after what it depends on."""
        found: dict[str, Derived] = {}
        for name, segment in self.model.segments.items():
            if segment.condition is not None:
                condition = self.condition(segment.condition, Context())
                found[f"s:{name}"] = Derived(name, f"s:{name}", True, condition.test, condition.deps, condition.flips, condition)
        for name, fact in self.model.facts.items():
            compiler = self.compiler(Context())
            value = compiler.function(compiler.compile(fact.value).source)
            found[f"a:{name}"] = Derived(name, f"a:{name}", False, value, frozenset(compiler.deps), self._flips(compiler), None)
        placed: set[str] = set()

        def place(fact: str) -> None:
            if fact in found and fact not in placed:
                placed.add(fact)
                for dep in sorted(found[fact].deps):
                    place(dep)
                self.program.derived.append(found[fact])

        for fact in found:
            place(fact)

    def rematch(self, ruleset: Ruleset) -> None:
        """REENTRY ON REMATCH needs to know whether the audience failed to match since the last entry: a hidden segment does."""
        condition = ruleset.audience
        if ruleset.reentry[0] == "rematch" and condition is not None:
            name = f"?{ruleset.name}"
            self.program.derived.append(Derived(name, f"s:{name}", True, condition.test, condition.deps, condition.flips, condition))

    def index(self) -> None:
        program = self.program
        watched: set[str] = set()
        wait_deps: set[str] = set()
        since: set[str] = set()
        for derived in program.derived:
            watched |= derived.deps
        for ruleset in program.rulesets:
            self._index_triggers(ruleset, watched)
            for item in ruleset.ops:
                if isinstance(item, op.Wait):
                    self._index_wait(ruleset, item, watched, wait_deps)
        for query in program.queries.values():
            if query.owner is not None:
                since.add(query.owner)
        program.watched, program.wait_deps, program.since_owners = frozenset(watched), frozenset(wait_deps), frozenset(since)
        from rules_engine.plan import matching

        matching.build(program, self)

    def _index_triggers(self, ruleset: Ruleset, watched: set[str]) -> None:
        program = self.program
        for trigger in ruleset.triggers:
            if trigger.fact is not None:
                program.edges.setdefault(trigger.fact, []).append((ruleset, trigger))
                watched.add(trigger.fact)
            elif trigger.timed is not None:
                program.timed.append((ruleset, trigger))
                watched |= trigger.timed.deps
        for exit_ in ruleset.exits:
            for trigger in exit_.triggers:
                if trigger.event is not None:
                    program.events[trigger.event].exits.setdefault(ruleset.name, []).append((exit_, trigger))
                elif trigger.fact is not None:
                    program.exit_edges.setdefault(trigger.fact, []).append((ruleset, exit_, trigger))
                    watched.add(trigger.fact)
                elif trigger.timed is not None:
                    watched |= trigger.timed.deps
        for trigger in ruleset.goal.triggers if ruleset.goal else ():
            if trigger.event is not None:
                program.events[trigger.event].goals.setdefault(ruleset.name, []).append(trigger)
            elif trigger.fact is not None:
                program.goal_edges.setdefault(trigger.fact, []).append((ruleset, trigger))
                watched.add(trigger.fact)

    def _index_wait(self, ruleset: Ruleset, wait: op.Wait, watched: set[str], wait_deps: set[str]) -> None:
        for trigger in wait.alternatives:
            if trigger.event is not None:
                self.program.events[trigger.event].waits = True
            if trigger.fact is not None:
                watched.add(trigger.fact)
                wait_deps.add(trigger.fact)
        watched |= wait.deps
        wait_deps |= wait.deps


class _Personal:
    """A subject with placeholders: what is wanted depends on the instance."""

    __slots__ = ("wanted",)

    def __init__(self, wanted: Any) -> None:
        self.wanted = wanted


def _unit_duration(unit: str) -> Duration:
    return to_duration(n.Duration(((1, unit),)))


def _interval(span: Duration, clock: int | None) -> Any:
    """EVERY 7 days: counted from when the contact became known, never from the last firing, so that lateness does not add up."""

    def due(tick: Any, after: int, since: int | None) -> int | None:
        anchor = tick.state["since"] if since is None else since
        zone = tick.zone()
        step = max(1, span.approx_ms())
        rounds = max(1, (after - anchor) // step - 1)
        while True:
            moment = calendar.add(anchor, Duration(*(part * rounds for part in span)), zone, tick.program.business_hours)
            if clock is not None:
                moment = calendar.at_time(moment, clock, zone)
            if moment > after:
                return moment
            rounds += 1

    return due


def _changed(old: Any, has_old: bool, new: Any, has_new: bool, missing: Any) -> Any:
    """turned(tick, old, new) of a CHANGES; missing: the default that stands for no value."""
    def turned(tick: Any, before: Any, now: Any) -> bool:
        before = missing if before is None else before
        now = missing if now is None else now
        if before == now:
            return False
        if has_old and before != (old(tick) if callable(old) else old):
            return False
        return not has_new or now == (new(tick) if callable(new) else new)

    return turned


def _writes(ruleset: Ruleset) -> frozenset[str]:
    """The facts that a ruleset's actions may change, as `a:points`, `s:vip`, `e:order.placed`; `*` for what can't be told."""
    found: set[str] = set()
    for call in [item.call for item in ruleset.ops if isinstance(item, op.Act)]:
        for pattern in call.action.writes:
            text = pattern.replace("{primary}", str(call.primary))
            kind, _, rest = text.partition(".")
            if kind == "contact" and rest == "{key}":
                found |= {f"a:{key}" for key, _ in call.params}
            elif kind == "contact":
                found.add(f"a:{rest}")
            elif kind == "segment":
                found.add(f"s:{rest}")
            elif kind == "tag":
                found.add("a:tags")
            elif kind == "event":
                found.add(f"e:{rest}")
            else:
                found.add("*")
        found |= {f"a:points.{value}" for key, value in call.params if key == "group" and "a:points" in found}
        if call.channel is not None:
            found.add("*")
    return frozenset(found)


_ORDER: dict[str, Any] = {
    "=": lambda a, b: a == b, "!=": lambda a, b: a != b, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
}


def compile_model(model: Model, actions: Mapping[str, Action] | None = None, digest: str = "") -> Program:
    """The program of a checked model. `digest` names it: that of its source texts. The model must be free of errors."""
    if actions is not None:
        model.actions = actions
    return _Program(model, digest).compile()
