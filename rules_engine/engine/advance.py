"""`advance`: one contact, one cause, one answer. Pure: the same state, cause and time give the same answer, to the byte."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from rules_engine.decisions import Cancel, Decision, Effect
from rules_engine.engine.merge import Merging
from rules_engine.engine.tick import SetAside
from rules_engine.facts import MERGED, ContactChange, Event, Wake
from rules_engine.limits import MAX_FIRINGS
from rules_engine.plan import steps as op
from rules_engine.plan.program import ActionCall, Emission, EventPlan, Fired, Program, Ruleset, Site, Trigger
from rules_engine.runtime import calendar

STATE_VERSION = 1
_EMPTY: dict[str, Any] = {}
_NONE: list[Any] = []
_ORDER = {"f": 0, "d": 1, "x": 2, "i": 3}


class Tick(Merging):
    """All of a tick: facts, journeys, messages, who the contact is, and what comes in. One serves a program; `begin` points it at a contact."""

    __slots__ = ()

    def __init__(self, program: Program) -> None:
        self.program = program
        self.agenda, self.admissions, self.queue = [], [], []
        self.dirty, self.edges = set(), []
        self.raw = []
        self.pending = self.quiet = False
        self.bindings: dict[str, Any] = {}
        self.start = self.start_sequence = 0
        self.key, self.keys, self.wanted = None, {}, None
        self.parting: Event | None = None

    def begin(self, state: dict[str, Any], wall: int) -> None:
        self.state = state
        self.contact = state["id"]
        self.a, self.s, self.history = state["a"], state["s"], state["h"]
        self.instances, self.timers = state["i"], state["t"]
        self.wall = wall
        self.sequence = state["n"]
        self.raw = []
        self.effects: list[Effect] = []
        self.emits: list[Event] = []
        self.cancels: list[Cancel] = []
        self.count = self.pushed = 0
        self.fired: dict[str, int] = {}
        self._zone = None
        self.ruleset = self.parting = None

    def clear(self) -> None:
        """Forgets what an abandoned tick left."""
        self.agenda, self.admissions, self.queue = [], [], []
        self.dirty, self.edges = set(), []
        self.raw = []
        self.pending = self.quiet = False

    # ── causes ──

    def wake(self, until: int) -> None:
        """Everything that is due up to and including `until`, each at its own time, in (due, id) order."""
        timers = self.timers
        while timers:
            due = min(timers.values())
            if due > until:
                return
            self._due(max(due, self.state["k"]), [name for name, at in timers.items() if at == due])

    def _due(self, now: int, names: list[str]) -> None:
        self.now = self.state["k"] = now
        self.cause = "timer"
        self.raw.append((now, "timer"))
        self.count, self.emitted, self.fired = 0, 0, {}
        self.use_arrival((_EMPTY, None, now, "", f"@{now}"))
        names.sort(key=self._timer_order)
        for name in names:
            if self.timers.get(name, now + 1) > now:
                continue
            kind, _, rest = name.partition(":")
            if kind == "f":
                del self.timers[name]
                self.dirty.add(name)
                self.pending = True
                continue
            if self.dirty:
                self.react()  # facts that turn at one moment turn together, in the order in which they depend on one another
            if kind == "d":
                self._due_trigger(rest, now)
            elif kind == "x":
                self._due_exit(name, rest)
            else:
                self._due_instance(rest)
            if kind == "x":
                self.react()
        self.drain()

    def _timer_order(self, name: str) -> tuple[Any, ...]:
        kind, _, rest = name.partition(":")
        instance = self.instances.get(rest) if kind == "i" else None
        ruleset = self.program.by_name.get(instance["c"]) if instance else None
        return (_ORDER[kind], -ruleset.priority if ruleset else 0, rest)

    def _due_trigger(self, name: str, now: int) -> None:
        del self.timers[f"d:{name}"]
        for ruleset, trigger in self.program.timed:
            if trigger.id == name:
                if self._ripe(trigger, now):
                    self.state["d"][name] = now
                    self.push(ruleset, trigger)
                self.arm(ruleset, trigger)

    def _ripe(self, trigger: Trigger, now: int) -> bool:
        """Whether a timer still means what it meant when it was set: what it waits for may have moved (lazy re-arm)."""
        self.use_nothing_in(trigger)
        due = trigger.timed.due(self, now - 1, None)  # type: ignore[union-attr]
        return due is not None and due <= now

    def use_nothing_in(self, trigger: Trigger) -> None:
        name = trigger.id.split(":")[0]
        ruleset = self.program.by_name.get(name)
        if ruleset is not None:
            self.use_nothing(ruleset)

    def _due_exit(self, timer: str, rest: str) -> None:
        del self.timers[timer]
        iid, _, place = rest.rpartition("|")
        instance = self.instances.get(iid)
        if instance is None or instance.get("x"):
            return
        ruleset = self.program.by_name[instance["c"]]
        number, position = (int(part) for part in place.split("."))
        exit_ = ruleset.exits[number]
        trigger = exit_.triggers[position]
        self.use(instance)
        due = trigger.timed.due(self, self.now - 1, instance["t0"])  # type: ignore[union-attr]
        if due is not None and due <= self.now:
            if trigger.where is None or trigger.where.test(self):
                self.leave(iid, instance, exit_.reason or trigger.text, None, exit_)
        elif due is not None:
            self.timers[timer] = due

    def _due_instance(self, iid: str) -> None:
        instance = self.instances.get(iid)
        timer = f"i:{iid}"
        due = self.timers.pop(timer)
        if instance is None:
            return
        ruleset = self.program.by_name.get(instance["c"])
        position = ruleset.index.get(instance["s"]) if ruleset is not None else None
        if ruleset is None or position is None:
            self._strand(iid, instance)
            return
        item = ruleset.ops[position]
        if isinstance(item, op.Act):
            self._queue_message(iid, instance, item, instance["h"]["from"], instance["h"]["why"], ())
        elif isinstance(item, op.Wait):
            if "w" not in instance:
                return
            self.use(instance)
            found = self._resolve(iid, instance, item, self.now)
            if found is not None:
                self.push_call(ruleset, self._go_on, (iid, instance, found[0], due, found[1]))
        elif isinstance(item, op.Loop):
            self.push_call(ruleset, self._go_on, (iid, instance, position, due, item.site.text))
        else:
            self.push_call(ruleset, self._go_on, (iid, instance, position + 1, due, item.site.text))

    def _strand(self, iid: str, instance: dict[str, Any]) -> None:
        """The step the instance stands at is gone from the program: it leaves, and says so."""
        ruleset = self.program.by_name.get(instance["c"]) or Ruleset(instance["c"], True, 0, ("", 0))
        self.decide(ruleset, None, "exit", key=instance["k"], reason=f"its step {instance['s']!r} is no longer in the campaign")
        self._drop_timers(iid)
        self.instances.pop(iid, None)

    def arm(self, ruleset: Ruleset, trigger: Trigger) -> None:
        """Sets the timer of a trigger on time: its next moment that is not past and has not been answered yet."""
        timed = trigger.timed
        assert timed is not None
        name = trigger.id
        self.use_nothing(ruleset)
        fired = self.state["d"].get(name)
        now = self.now
        after = now - 1 if fired is None else max(now - 1, fired)
        due = timed.due(self, after, None)
        if due is not None and timed.kind == "yearly" and fired is not None:
            due = self._next_year(timed, due, fired)
        if due is None or due < now or due == fired:
            self.timers.pop(f"d:{name}", None)
        else:
            self.timers[f"d:{name}"] = due

    def _next_year(self, timed: Any, due: int | None, fired: int) -> int | None:
        """An anniversary comes once in a year, also when its date was edited after it came."""
        zone = self.zone()
        year = calendar.local_date(fired + timed.shift, zone).year
        while due is not None and calendar.local_date(due + timed.shift, zone).year <= year:
            due = timed.due(self, due, None)
        return due

    def event(self, event: Event, now: int) -> None:
        """An event that came in."""
        state = self.state
        self.now = now if now > state["k"] else state["k"]
        state["k"] = self.now
        self.cause = event.id
        self.raw.append((self.now, event.id))
        self.count, self.emitted, self.fired = 0, 0, {}
        self.take(event, False)
        if self.pending or self.agenda or self.admissions or self.queue or self.dirty:
            self.drain()

    def take(self, event: Event, noted: bool) -> None:
        """One event's consequences: facts and history first, then goals, exits, waits, then rules and campaigns. noted: its facts and
        history are in already."""
        at = event.at
        if at > self.now:
            at = self.now
        self.arrival = (event.data, event.subject, at, event.name, event.id)
        self.e, self.event_subject, self.event_at, self.event_name, self.event_id = self.arrival
        plan = self.program.events.get(event.name)
        if plan is None:
            return
        self.ruleset = self._zone = None
        if plan.bare:
            self.sequence += 1
            if plan.match is not None:
                plan.match(self)
            return
        if plan.identity:
            seen = self.about_identity(event)
            if seen is None:
                return
            self.arrival = (seen.data, *self.arrival[1:])
            self.e = seen.data
        if not noted:
            self._note(plan)
        if self.state["g"]:
            for name, triggers in plan.goals.items():
                for trigger in triggers:
                    self.reach_goal(self.program.by_name[name], trigger, event.name)
        if self.instances:
            for name, exits in plan.exits.items():
                for exit_, trigger in exits:
                    self.exit_all(self.program.by_name[name], exit_, trigger, event.name)
            if plan.waits:
                self.resume_on_event(event.name)
        if plan.match is not None:
            self.back()
            if self.dirty or self.edges or self.agenda:
                self.pending = True
            plan.match(self)

    def note(self, event: Event) -> None:
        """Puts an event of our own into history at once; the context of the running step stays."""
        saved = (self.arrival, self.e, self.event_subject, self.event_at, self.event_name, self.event_id)
        self.arrival = (event.data, event.subject, event.at, event.name, event.id)
        self.e, self.event_subject, self.event_at, self.event_name, self.event_id = self.arrival
        self._note(self.program.events[event.name])
        self.arrival, self.e, self.event_subject, self.event_at, self.event_name, self.event_id = saved

    def _note(self, plan: Any) -> None:
        self.sequence += 1
        if plan.contract is not None and not plan.contract.test(self):
            text, reads = plan.contract.failure(self)
            shown = ", ".join(f"{name} is {value!r}" for name, value in reads)
            raise SetAside(f"event {plan.name} breaks its declaration: {text} is false ({shown})")
        watched = self.program.watched
        for query in plan.queries:
            if query.record(self):
                fact = f"q:{query.id}"
                if fact in watched:
                    self.dirty.add(fact)
        for change in plan.changes:
            self.change(change, None)
        if self.dirty or self.edges:
            self.react()

    def emit(self, name: str, value: dict[str, Any], site: Any) -> None:
        """`event.emit`: an event of this contact, acted on in the same tick and kept in the log."""
        place = f"{site.ruleset.name}/{site.step}" if site is not None else "engine"
        event = Event(f"{self._origin()}/{place}/{self.emitted}", name, self.contact, self.now, value.get("subject"),
                      {key: item for key, item in value.get("data", _EMPTY).items() if item is not None}, self.now)
        self.emitted += 1
        self.emits.append(event)
        self.queue.append((event, False))

    def _origin(self) -> str:
        """What names the tick, for the ids of the events it emits: the same on every replay, different for every contact and moment."""
        return f"{self.contact}@{self.now}" if self.cause == "timer" else self.cause

    def take_queued(self, item: Any) -> None:
        """The next emitted event; a plain rule's is written out first."""
        self.count += 1
        if self.count > MAX_FIRINGS:
            self.endless(item.site.ruleset if type(item) is Emission else None)
        if type(item) is Emission:
            event = _emitted(item, self.contact, self.now, self._origin(), self.emitted)
            self.emitted += 1
            self.emits.append(event)
            self.take(event, False)
        else:
            self.take(*item)

    def contact_change(self, change: ContactChange, now: int) -> None:
        """New attribute values and memberships."""
        state = self.state
        self.now = state["k"] = max(now, state["k"])
        self.cause = change.id
        self.raw.append((self.now, change.id))
        self.count, self.emitted, self.fired = 0, 0, {}
        self.use_arrival((_EMPTY, None, self.now, "", change.id))
        derived = {item.name for item in self.program.derived if not item.segment}
        for name, value in change.attributes.items():
            if name not in derived:
                self.set_attribute(name, value)
        for segment, member in change.segments.items():
            self.set_member(segment, member)
        self.drain()


class Advanced(tuple[Any, ...]):
    """The answer of `advance`. state: the contact's new state (a JSON-able dict); wake_at: the one next moment (ms) at which it wants to
    be called, or None; decisions in order; effects for the outbox; emits: facts for the log. Those of this contact have acted already,
    those of another (where two contacts are merged) are to act on that one.

    A tuple, because one is made for each event: what plain rules did is written out only when somebody reads it.
    """

    __slots__ = ()

    @property
    def state(self) -> dict[str, Any]:
        return self[0]

    @property
    def wake_at(self) -> int | None:
        return self[1]

    @property
    def decisions(self) -> list[Decision]:
        """What was decided, in order."""
        _, _, raw, _, _, contact, at, cause, _ = self
        found = []
        for item in raw:
            kind = type(item)
            if kind is Decision:
                found.append(item)
            elif kind is Fired:
                found += [_written_out(site, call, contact, at, cause) for site, call in item.acts]
            else:
                at, cause = item
        return found

    @property
    def effects(self) -> list[Effect]:
        return self[3]

    @property
    def emits(self) -> list[Event | ContactChange]:
        """What is for the log, in order: events that rules emitted, and what is sent on to another contact."""
        _, _, _, _, emits, contact, at, cause, _ = self
        return [_emitted(item, contact, at, cause, number) if type(item) is Emission else item for number, item in enumerate(emits)]

    @property
    def cancels(self) -> list[Cancel]:
        """Instances that ended before their end and may have messages in the outbox."""
        return self[8]

    @property
    def quiet(self) -> bool:
        """Whether nothing was decided."""
        return not any(type(item) is not tuple for item in self[2])

    @property
    def firings(self) -> list[str]:
        """The names of the plain rules that fired, in order, each as often as it did."""
        return [item.acts[0][0].ruleset.name for item in self[2] if type(item) is Fired and item.acts[0][0].first]


def _written_out(site: Site, call: ActionCall, contact: str, at: int, cause: str) -> Decision:
    """The full decision of a plain rule's action."""
    constant = site.constant
    if constant is None:
        ruleset = site.ruleset
        reason = "WHEN " + " OR ".join(trigger.text for trigger in ruleset.triggers)
        constant = site.constant = (None, ruleset.name, None, site.step, "action", call.name, call.primary, dict(call.params), "done", reason, ())
    return Decision._make((at, contact, *constant, cause, site.place))


def _emitted(item: Emission, contact: str, at: int, cause: str, number: int) -> Event:
    """A plain rule's event as it stands in the log."""
    return Event(f"{cause}/{item.site.ruleset.name}/{item.site.step}/{number}", item.name, contact, at, item.subject, item.data, at)


def new_state(contact: str, created: int) -> dict[str, Any]:
    """The record of a contact of which nothing is known but that it exists since `created` (ms).

    v schema version; id; since; k clock; n sequence; a attributes; s segments {name: since}; h history {question: slot}; i instances;
    m entries {campaign: [times, last]}; c counters {name: [times]}; t timers {name: due}; d answered moments; g open goals; p program.
    Besides, where contacts were merged (engine.merge): into {contact, at} of one that was merged away, from {contact: at} of the other.
    """
    # What each event reads comes first: it then shares a cache line.
    return {"p": None, "k": created, "a": {}, "t": {}, "s": {}, "id": contact, "n": 0, "v": STATE_VERSION, "since": created, "h": {}, "i": {},
            "m": {}, "c": {}, "d": {}, "g": {}}


_PARTS = ("a", "t", "s", "h", "i", "m", "c", "d", "g")


def pack(state: dict[str, Any]) -> bytes:
    """A state as JSON for keeping; empty parts are left out (half of the bytes of a contact for whom little is going on)."""
    # Copied: orjson's own result keeps the buffer it was written into, 4 KB for 400 bytes.
    return bytes(memoryview(orjson.dumps({name: value for name, value in state.items() if value != {}})))


def unpack(data: bytes) -> dict[str, Any]:
    """The state that `pack` wrote."""
    state: dict[str, Any] = orjson.loads(data)
    for part in _PARTS:
        if part not in state:
            state[part] = {}
    return state


def _tick(program: Program) -> Tick:
    tick = program.tick
    if tick is None:
        tick = program.tick = Tick(program)
    return tick


def advance(program: Program, state: dict[str, Any], cause: Event | ContactChange | Wake, now: int, *, quietly: bool = False) -> Advanced:
    """What follows from one cause for one contact. Consumes `state`; the answer's state takes its place.

    now: the log's time of the cause (ms); everything due up to it happens first, each at its own time. quietly: the change is how things
    already are (a TEST's GIVEN): facts follow from it, but no rule or campaign starts.
    Raises SetAside(reason) for what can't be processed; the given state must then be thrown away.
    """
    tick = program.tick or _tick(program)
    if type(cause) is Event and state["p"] == program.digest:
        plan = program.plain.get(cause.name)
        if plan is not None and not state["t"]:
            return _plain(tick, plan, state, cause, now)
    tick.begin(state, now)
    try:
        if "into" in state:
            tick.now = state["k"] = max(now, state["k"])
            if tick.send_on(cause):
                return _answer(tick, now)
        if state["p"] != program.digest:
            _adopt(tick, state, cause, now, quietly)
        timers = state["t"]
        if timers and min(timers.values()) <= now:
            tick.wake(now)
        if type(cause) is Event:
            tick.event(cause, now)
        elif type(cause) is ContactChange:
            tick.quiet = quietly
            tick.contact_change(cause, now)
            tick.quiet = False
        else:
            state["k"] = max(now, state["k"])
            if tick.pending or tick.queue:
                tick.now = state["k"]
                tick.drain()
        if tick.parting is not None:
            tick.part()
    except BaseException:
        tick.clear()  # the next contact must not inherit what this one left
        raise
    return _answer(tick, now)


def _answer(tick: Tick, now: int) -> Advanced:
    state = tick.state
    state["n"] = tick.sequence
    timers = state["t"]
    raw, tick.raw = tick.raw, []
    return Advanced((state, min(timers.values()) if timers else None, raw, tick.effects, tick.emits, tick.contact, now, "", tick.cancels))


def _plain(tick: Tick, plan: EventPlan, state: dict[str, Any], event: Event, now: int) -> Advanced:
    """The short way for an event that plain rules are the only answer to, of a contact for whom no timer runs: no history, no journey, no
    timer is touched."""
    if now > state["k"]:
        state["k"] = now
    else:
        now = state["k"]
    if plan.match is None:
        return Advanced((state, None, _NONE, _NONE, _NONE, event.contact, now, event.id, _NONE))
    tick.a, tick.s, tick.now, tick.e, tick.event_subject, tick.contact = state["a"], state["s"], now, event.data, event.subject, event.contact
    try:
        plan.match(tick)
        raw, queue = _worked_off(tick) if tick.raw or tick.queue else (_NONE, _NONE)
    except BaseException:
        tick.clear()
        raise
    return Advanced((state, None, raw, _NONE, queue, event.contact, now, event.id, _NONE))


def _worked_off(tick: Tick) -> tuple[list[Any], list[Any]]:
    """Lets the emitted events of plain rules act, first in, first out: (what was done, what was emitted)."""
    raw, queue = tick.raw, tick.queue
    tick.raw = []
    if not queue:
        return raw, _NONE
    tick.raw = raw
    for item in queue:  # grows while it is worked off
        match = item.plan.match
        if match is not None:
            tick.e, tick.event_subject = item.data, item.subject
            match(tick)
            if len(queue) > MAX_FIRINGS:
                tick.endless(item.site.ruleset)
    tick.raw, tick.queue = [], []
    return raw, queue


def advance_block(program: Program, states: dict[str, dict[str, Any]], events: Iterable[Event]) -> list[Advanced]:
    """`advance` for many events in order, each at its log time (`received`, else `at`). `states` by contact are brought up to date in
    place. Answers in which nothing was decided and no timer is involved are left out: for the many events that no rule answers this is
    twice as fast as calling `advance` for each.

    Raises SetAside as `advance` does, with the events before it done: callers that must go on call `advance` for each.
    """
    tick = program.tick or _tick(program)
    plain, digest = program.plain, program.digest
    answers = []
    for event in events:
        id_, name, contact, at, subject, data, now = event
        if now is None:
            now = at
        state = states[contact]
        plan = plain.get(name)
        if plan is None or state["t"] or state["p"] != digest:
            answer = advance(program, state, event, now)
            states[contact] = answer.state
            answers.append(answer)
            continue
        if now > state["k"]:
            state["k"] = now
        else:
            now = state["k"]
        match = plan.match
        if match is not None:
            tick.a, tick.s, tick.now, tick.e, tick.event_subject, tick.contact = state["a"], state["s"], now, data, subject, contact
            try:
                match(tick)
                if tick.raw or tick.queue:
                    raw, queue = _worked_off(tick)
                    answers.append(Advanced((state, None, raw, _NONE, queue, contact, now, id_, _NONE)))
            except BaseException:
                tick.clear()
                raise
    return answers


def _adopt(tick: Tick, state: dict[str, Any], cause: Any, now: int, quietly: bool) -> None:
    """A state meets a program for the first time: what this program derives is worked out before anything else happens."""
    program = tick.program
    created = state["p"] is None
    state["p"] = program.digest
    tick.now = state["k"] = max(state["k"], min(now, cause.at)) if created else state["k"]
    tick.cause = cause.id if not isinstance(cause, Wake) else "timer"
    if created and isinstance(cause, ContactChange):
        since = cause.attributes.get("created_at")
        if isinstance(since, int) and since <= now:
            state["since"] = since
    tick.use_arrival((_EMPTY, None, tick.now, "", tick.cause))
    known = {f"f:{item.fact}" for item in program.derived} | {f"d:{trigger.id}" for _, trigger in program.timed}
    for timer in [name for name in state["t"] if name[0] in "fd" and name not in known]:
        del state["t"][timer]
    for iid, instance in list(state["i"].items()):
        ruleset = program.by_name.get(instance["c"])
        if ruleset is None or instance["s"] not in ruleset.index:
            tick._strand(iid, instance)
    for iid in [iid for iid, window in state["g"].items() if window[0] not in program.by_name]:
        del state["g"][iid]
    tick.dirty.add("new")
    tick.pending = True
    if created and not quietly and "contact.created" in program.events:
        tick.queue.append((Event(f"created/{tick.contact}", "contact.created", tick.contact, tick.now, None, {}), False))
    if created and (isinstance(cause, ContactChange) or isinstance(cause, Event) and cause.name == MERGED):
        return  # first what is told of the contact, then what follows from it
    tick.quiet = quietly or not created
    tick.react()
    tick.quiet = False


def members(state: dict[str, Any]) -> frozenset[str]:
    """The segments a contact is in."""
    return frozenset(name for name in state["s"] if name[0] != "?")


def evaluate(program: Program, node: Any, state: dict[str, Any], now: int) -> Any:
    """The value of an expression about one contact at a moment (ms), as a TEST's EXPECT … WHERE asks for it."""
    tick = Tick(program)
    tick.begin(state, now)
    tick.now = now
    tick.use_arrival((_EMPTY, None, now, "", ""))
    value = program.compile_value(node) if program.compile_value is not None else None
    return value(tick) if callable(value) else value
