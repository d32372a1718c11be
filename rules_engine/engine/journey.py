"""Instances: how a contact enters a campaign, walks its steps, waits, and leaves.

An instance is a JSON-able record in the contact's state: `c` ruleset, `k` key as text, `kv` key fields, `t0` start (ms), `q` sequence number
at the start, `id` what set it off, `e` the event that did (None otherwise), `b` bound events, `n` loop counters, `s` the step it stands at,
`at` the moment its present step was due, `w` its wait, `h` its hold, `x` on its way out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heappush
from typing import Any

from rules_engine.actions import Change, PluginFailed
from rules_engine.decisions import Cancel
from rules_engine.engine.tick import Facts, SetAside
from rules_engine.limits import MAX_FIRINGS, MAX_INSTANCES
from rules_engine.plan import steps as op
from rules_engine.plan.program import Exit, Ruleset, Site, Trigger
from rules_engine.runtime import calendar
from rules_engine.runtime.calendar import Duration
from rules_engine.runtime.functions import bucket
from rules_engine.runtime.history import inside

Instance = dict[str, Any]


class Journeys(Facts):
    """The part of a tick that moves instances. `late` and `admit` are rules_engine.engine.messages' part."""

    __slots__ = ()

    late: Any

    # ── context ──

    def use(self, instance: Instance) -> None:
        """Expressions read the instance: its event, key, bindings and zone."""
        ruleset = self.program.by_name[instance["c"]]
        self.use_nothing(ruleset)
        event = instance["e"]
        if event is None:
            self.e, self.event_subject, self.event_at = {}, None, instance["t0"]
            self.event_name, self.event_id = "", instance["id"]
        else:
            self.e, self.event_subject, self.event_at = event["data"], event["subject"], event["at"]
            self.event_name, self.event_id = event["name"], event["id"]
        self._own(instance)

    def _own(self, instance: Instance) -> None:
        self.bindings = instance.get("b") or {}
        self.start, self.start_sequence = instance["t0"], instance["q"]
        self.key, self.keys = instance["k"], instance["kv"] or {}

    def look(self, instance: Instance) -> None:
        """Expressions read the event that arrived, but the instance's key, start and bindings: for exits and waits."""
        self.use_nothing(self.program.by_name[instance["c"]])
        self.e, self.event_subject, self.event_at, self.event_name, self.event_id = self.arrival
        self._own(instance)

    def has_active(self, name: str) -> bool:
        return any(instance["c"] == name for instance in self.instances.values())

    def _mine(self, ruleset: Ruleset, trigger: Trigger, instance: Instance) -> bool:
        """Whether the arrived event belongs to the instance: it carries the instance's key or none (or ANY was written)."""
        if not ruleset.keys or trigger.any:
            return True
        data, mine = self.arrival[0], instance["kv"] or {}
        return all((value := inside(data, key)) is None or _key_text(value) == _key_text(mine.get(key)) for key in ruleset.keys)

    # ── entering ──

    def fire(self, ruleset: Ruleset, trigger: Trigger, arrival: Any = None) -> None:
        """Sets a ruleset off, if its clauses allow. Triggers on edges and time have their WHERE read here, at their turn."""
        if arrival is not None:
            self.use_arrival(arrival)
        self.count += 1
        if self.count > MAX_FIRINGS:
            self.endless(ruleset)
        self.use_nothing(ruleset)
        if trigger.kind != "event" and trigger.where is not None and not trigger.where.test(self):
            return  # nothing began, so nothing is noted: as for events whose WHERE is false
        if ruleset.is_campaign:
            # AUDIENCE is read as the instance that is about to begin would read it: with its key.
            self.bindings, self.start, self.start_sequence = {}, self.event_at, self.sequence
            self.keys = {name: inside(self.e, name) for name in ruleset.keys}
            self.key = _key(self.keys.values()) if ruleset.keys else None
        if not self._admitted(ruleset):
            return
        if ruleset.is_campaign:
            self._enter(ruleset, trigger)
        elif ruleset.simple is not None:
            self._remember(ruleset, None)
            ruleset.simple(self)
        else:
            self._remember(ruleset, None)
            self._begin(ruleset, trigger, None, None, None)

    def fire_one_of(self, ruleset: Ruleset, triggers: list[Trigger], arrival: Any) -> None:
        """One change fits several alternatives of a WHEN: it sets the ruleset off once, by the first whose WHERE holds."""
        self.use_arrival(arrival)
        self.use_nothing(ruleset)
        self.fire(ruleset, next((item for item in triggers if item.where is None or item.where.test(self)), triggers[0]), arrival)

    def _admitted(self, ruleset: Ruleset) -> bool:
        """The clauses on when and for whom: STARTS, UNTIL, ON LATE, AUDIENCE, AT MOST."""
        refusal = None
        because: tuple[tuple[str, Any], ...] = ()
        now = self.now
        if ruleset.starts is not None and now < as_moment(ruleset.starts, self):
            refusal = f"STARTS {calendar.format_utc(as_moment(ruleset.starts, self))}"
        elif ruleset.until is not None and now >= as_moment(ruleset.until, self):
            refusal = f"UNTIL {calendar.format_utc(as_moment(ruleset.until, self))}"
        elif ruleset.on_late is not None and ruleset.on_late[1] != "run" and self.wall - self.event_at > ruleset.on_late[0].approx_ms():
            refusal = f"ON LATE > {ruleset.on_late[0].text()}"
        elif ruleset.audience is not None and not ruleset.audience.test(self):
            text, because = ruleset.audience.failure(self)
            refusal = f"AUDIENCE {text} is false"
        elif ruleset.at_most is not None:
            times, period, text = ruleset.at_most
            if len(self._recent(f"n:{ruleset.name}", period)) >= times:
                refusal = text
        if refusal is not None:
            self.decide(ruleset, None, "skip", reason=refusal, because=because)
        return refusal is None

    def _recent(self, name: str, period: Duration) -> list[int]:
        """The times in a counter that still lie within a period; older ones are forgotten."""
        times = self.state["c"].get(name)
        if not times:
            return []
        zone, now = self.zone(), self.now
        live = [at for at in times if at > now or calendar.within(at, now, period, zone)]
        if len(live) != len(times):
            self.state["c"][name] = live
        return live

    def _remember(self, ruleset: Ruleset, memory: str | None) -> None:
        """Notes a firing for AT MOST and an entry for REENTRY."""
        if ruleset.at_most is not None:
            self.state["c"].setdefault(f"n:{ruleset.name}", []).append(self.now)
        if memory is not None:
            known = self.state["m"].get(memory)
            self.state["m"][memory] = [known[0] + 1 if known else 1, self.now]
            self.state["m"].pop(f"{ruleset.name}!", None)

    def _enter(self, ruleset: Ruleset, trigger: Trigger) -> None:
        """Enters a campaign by its clauses FOR EACH, MODE and REENTRY."""
        key = values = None
        if ruleset.keys:
            key, values = self.key, dict(self.keys)
            missing = next((name for name, value in values.items() if value is None), None)
            if missing is not None:
                self.decide(ruleset, None, "skip", reason=f"FOR EACH event.{missing}: the event has no {missing}")
                return
        name = ruleset.name if key is None else f"{ruleset.name}|{key}"
        active = self.instances.get(name)
        if active is not None and ruleset.mode == "single":
            self.decide(ruleset, None, "skip", key=key, reason="already inside (MODE SINGLE)")
            return
        if active is not None and ruleset.mode == "queue":
            active.setdefault("next", []).append([trigger.id, self._event_record(trigger)])
            self.decide(ruleset, None, "skip", key=key, reason="already inside: enters when this round ends (MODE QUEUE)")
            return
        if active is not None and ruleset.mode == "restart":
            self.leave(name, active, "restarted")
            self.state["g"].pop(name, None)  # the new round takes the old one's place: one conversion, not two
        elif not self._may_reenter(ruleset, name, key):
            return
        self._remember(ruleset, name if ruleset.remembers else None)
        if active is not None and ruleset.mode == "parallel":
            number = 2
            while f"{name}#{number}" in self.instances:
                number += 1
            name = f"{name}#{number}"
        self._begin(ruleset, trigger, key, values, name)

    def _may_reenter(self, ruleset: Ruleset, name: str, key: str | None) -> bool:
        known = self.state["m"].get(name)
        if known is None:
            return True
        kind, after, times = ruleset.reentry
        refusal = None
        if kind == "never":
            refusal = "REENTRY NEVER: has been inside before"
        elif times is not None and known[0] >= times:
            refusal = f"REENTRY UP TO {times} TIMES: has been inside {known[0]} times"
        elif kind == "after" and calendar.within(known[1], self.now, after, self.zone()):
            refusal = f"REENTRY AFTER {after.text()}: entered on {calendar.format_utc(known[1])}"
        elif kind == "rematch" and ruleset.audience is not None and not self.state["m"].get(f"{ruleset.name}!"):
            refusal = "REENTRY ON REMATCH: the audience has matched all the time since"
        if refusal is not None:
            self.decide(ruleset, None, "skip", key=key, reason=refusal)
        return refusal is None

    def _event_record(self, trigger: Trigger) -> dict[str, Any] | None:
        if trigger.kind != "event":
            return None
        return {"name": self.event_name, "id": self.event_id, "at": self.event_at, "subject": self.event_subject, "data": dict(self.e)}

    def _begin(self, ruleset: Ruleset, trigger: Trigger | None, key: str | None, values: Any, name: str | None,
               event: Any = None, begun: int | None = None) -> None:
        """Makes an instance and walks its first steps. Rules are instances too, for as long as a step of theirs holds them."""
        if len(self.instances) >= MAX_INSTANCES:
            raise SetAside(f"contact {self.contact} is inside more than {MAX_INSTANCES} journeys at once")
        if event is None and trigger is not None:
            event = self._event_record(trigger)
        cause = self.event_id if event is not None else f"{trigger.id if trigger else 'by hand'}@{self.arrival[4]}"
        times = self.fired[ruleset.name] = self.fired.get(ruleset.name, 0) + 1
        if times > 1:
            cause = f"{cause}~{times}"
        start = begun if begun is not None else self.event_at if event is not None else self.now
        instance: Instance = {"c": ruleset.name, "k": key, "kv": values, "t0": min(start, self.now), "q": self.sequence, "id": cause, "e": event,
                              "s": None, "at": start}
        if trigger is not None and trigger.alias is not None and event is not None:
            instance["b"] = {trigger.alias: event}
        iid = name if name is not None else f"{ruleset.name}|{cause}"
        self.instances[iid] = instance
        text = f"WHEN {trigger.text}" if trigger is not None else "campaign.enter"
        because = trigger.where.reads(self) if trigger is not None and trigger.where is not None else ()
        if self._held_out(ruleset):
            instance["o"] = 1
            text += " (held out: its messages are trapped)"
        if ruleset.is_campaign:
            self.decide(ruleset, None, "enter", key=key, reason=text, because=because, params=_shown_event(event))
            if ruleset.goal is not None:
                within = ruleset.goal.within
                deadline = None if within is None else calendar.add(instance["t0"], within, self.zone(), self.program.business_hours)
                goals = self.state["g"]
                for old in [old for old, entry in goals.items() if entry[4] is not None and entry[4] <= self.now]:
                    del goals[old]
                if iid in goals:  # an earlier entry's window stays open beside the new one
                    goals[f"{iid}\n{goals[iid][3]}"] = goals[iid]
                goals[iid] = [ruleset.name, key, values, instance["t0"], deadline]
            self._arm_exits(ruleset, iid, instance)
        self.walk(iid, instance, 0, start, text, because)

    def _held_out(self, ruleset: Ruleset) -> bool:
        if self.program.holdout and bucket("holdout", self.contact) < self.program.holdout:
            return True
        return bool(ruleset.holdout) and bucket(f"holdout {ruleset.name}", self.contact) < ruleset.holdout

    def enter_by_hand(self, name: str, site: Site | None) -> None:
        """`campaign.enter`: past the trigger; its other clauses hold."""
        ruleset = self.program.by_name.get(name)
        if ruleset is None or not ruleset.is_campaign:
            return
        self.push_call(ruleset, self._enter_by_hand, (ruleset,))

    def _enter_by_hand(self, ruleset: Ruleset) -> None:
        self.use_nothing(ruleset)
        if not self._admitted(ruleset):
            return
        active = self.instances.get(ruleset.name)
        if active is not None and ruleset.mode != "restart":
            self.decide(ruleset, None, "skip", reason="already inside")
        elif active is not None or self._may_reenter(ruleset, ruleset.name, None):
            if active is not None:
                self.leave(ruleset.name, active, "restarted")
                self.state["g"].pop(ruleset.name, None)
            self._remember(ruleset, ruleset.name if ruleset.remembers else None)
            self._begin(ruleset, None, None, None, ruleset.name)

    def leave_by_hand(self, name: str, site: Site | None) -> None:
        """`campaign.leave`: all the contact's instances of that campaign."""
        by = f"campaign.leave in {site.ruleset.name}" if site is not None else "campaign.leave"
        for iid, instance in list(self.instances.items()):
            if instance["c"] == name and not instance.get("x"):
                self.leave(iid, instance, by)

    # ── walking ──

    def walk(self, iid: str, instance: Instance, position: int, anchor: int, reason: str,
             because: tuple[tuple[str, Any], ...] = ()) -> None:
        """Runs steps from `position` until one holds the instance. anchor: the moment (ms) that the step is due; reason: what led here."""
        ruleset = self.program.by_name[instance["c"]]
        ops = ruleset.ops
        inside: list[tuple[int, str, tuple[tuple[str, Any], ...]]] = []  # the IFs around: where each ends, and the reason outside it
        while True:
            while inside and position >= inside[-1][0]:
                _, reason, because = inside.pop()
            self.count += 1
            if self.count > MAX_FIRINGS:
                self.endless(ruleset)
            item = ops[position]
            code = item.code
            if code == op.ACT:
                if item.call.channel is not None:
                    self._queue_message(iid, instance, item, anchor, reason, because)
                    return
                self.use(instance)
                late = self.late(ruleset, min(anchor, self.now), False) if self.wall > anchor else None
                if late is not None:
                    self.decide(ruleset, item.site, "skip", key=instance["k"], call=item.call, outcome=late.outcome, reason=late.reason)
                    if late.do == "stop":
                        self.leave(iid, instance, late.reason, item.site)
                        return
                    position += 1
                    continue
                self.act(instance, item, anchor, reason, because)
                if self.pending:
                    self.react()
                if self.instances.get(iid) is not instance:
                    return
                position += 1
            elif code == op.TEST:
                self.use(instance)
                if item.condition.test(self):
                    inside.append((item.otherwise, reason, because))
                    because = because + item.condition.reads(self)
                    reason = f"{reason}; {item.site.text}" if len(reason) < 400 else reason
                    position += 1
                else:
                    self.skip(item.site, item.condition, instance["k"])
                    position = item.otherwise
            elif code == op.JUMP:
                position = item.to
            elif code == op.DELAY:
                due = self._delay(instance, item, anchor)
                if due is not None and due > self.now:
                    self._rest(iid, instance, item.site, due)
                    self.decide(ruleset, item.site, "wait", key=instance["k"], params={"until": calendar.format_utc(due)},
                                reason=f"{item.site.text}: until {calendar.format_local(due, self.zone())}")
                    return
                anchor = anchor if due is None else max(anchor, due)
                position += 1
            elif code == op.WAIT:
                found = self._wait(iid, instance, item, anchor)
                if found is None:
                    return
                position, reason = found
            elif code == op.SPLIT:
                place = bucket(item.name, self.contact)
                for bound, branch, target in item.branches:
                    if place < bound:
                        position = target
                        reason = f"{reason}; SPLIT {item.name}: {branch}"
                        break
                else:
                    position = item.branches[-1][2]
            elif code == op.LOOP:
                found_loop = self._loop(iid, instance, item, position, anchor)
                if found_loop is None:
                    return
                position, anchor = found_loop
            elif code == op.AGAIN:
                state = instance["n"][ops[item.loop].name]
                state[0] += 1
                position = item.loop
            elif code == op.STOP:
                self.leave(iid, instance, item.reason or "stopped", item.site)
                return
            else:
                self._finish(iid, instance, ruleset)
                return

    def _rest(self, iid: str, instance: Instance, site: Site, due: int | None) -> None:
        """The instance stands at a step until its timer (or something else) moves it."""
        instance["s"] = site.step
        if due is None:
            self.timers.pop(f"i:{iid}", None)
        else:
            instance["at"] = due
            self.timers[f"i:{iid}"] = due

    def act(self, instance: Instance, item: Any, anchor: int, reason: str, because: tuple[tuple[str, Any], ...]) -> None:
        """Runs an action that is no message: changes facts, or hands an effect to the outbox."""
        call, ruleset = item.call, self.program.by_name[instance["c"]]
        primary, params = call.arguments(self)
        if call.action.changes is not None:
            changes = call.changes if call.changes is not None else self._changes_of(call, primary, params)
            self.decide(ruleset, item.site, "action", key=instance["k"], call=call, primary=primary, params=params, outcome="done",
                        reason=reason, because=because)
            for change in changes:
                self.change(change, item.site)
            return
        self.hand_over(instance, ruleset, item, primary, params, "internal", None, "ready")
        self.decide(ruleset, item.site, "action", key=instance["k"], call=call, primary=primary, params=params, outcome="sent",
                    reason=reason, because=because)

    @staticmethod
    def _changes_of(call: Any, primary: Any, params: Mapping[str, Any]) -> tuple[Change, ...]:
        """What a plugin's pure function says. SetAside if it can't: half of a moment must not be kept."""
        try:
            return tuple(call.action.changes(primary, params))
        except Exception as error:
            reason = str(error) if isinstance(error, PluginFailed) else f"{type(error).__name__}: {error}"
            raise SetAside(f"the action {call.action.name} can't say what it changes: {reason}") from error

    def _delay(self, instance: Instance, item: op.Delay, anchor: int) -> int | None:
        """When an AFTER is over (ms), None where its duration is missing."""
        self.use(instance)
        duration = item.duration(self) if callable(item.duration) else item.duration
        if duration is None:
            return None
        base = instance["t0"] if item.from_start else anchor
        zone = self.zone()
        if item.zone is not None:
            named = item.zone(self) if callable(item.zone) else item.zone
            zone = named if named and calendar.is_zone(named) else zone
        due = calendar.add(base, duration, zone, self.program.business_hours)
        if item.at is not None:
            return calendar.at_time(due, item.at, zone, item.days)
        if item.window is not None:
            return calendar.next_in_window(due, item.window[0], item.window[1], item.days, zone)
        if item.days is not None:
            return calendar.next_in_window(due, 0, 0, item.days, zone) if calendar.weekday(due, zone) not in item.days \
                else due
        return due

    # ── waiting ──

    def _wait(self, iid: str, instance: Instance, item: op.Wait, anchor: int) -> tuple[int, str] | None:
        """Begins a wait. Where it is over at once: (position, reason); None: the instance rests."""
        self.use(instance)
        best: int | None = None
        timed = past = 0
        for trigger in item.alternatives:
            if trigger.kind == "condition" and trigger.condition.test(self) \
                    or trigger.since is not None and trigger.since.test(self):  # type: ignore[union-attr]
                self._bind(instance, trigger, None, self.now)
                return item.body, f"{item.site.text}: {trigger.text} is already so"
            if trigger.timed is not None:
                due = trigger.timed.due(self, self.now - 1, anchor)
                if due is not None and due <= self.now and (item.catch_up or due == self.now):
                    self._bind(instance, trigger, None, self.now)
                    return item.body, f"{item.site.text}: {trigger.text}"
                timed += 1
                past += due is not None and due < self.now
                if due is not None and due > self.now and (best is None or due < best):
                    best = due
        if timed == len(item.alternatives) and best is None:
            ruleset = self.program.by_name[instance["c"]]
            if past:
                self.decide(ruleset, item.site, "skip", key=instance["k"], reason=f"{item.site.text}: already past")
                return item.end, item.site.text
            self.decide(ruleset, item.site, "skip", key=instance["k"], reason=f"{item.site.text}: there is no such moment")
            return item.otherwise, f"{item.site.text}: there is no such moment"
        up_to = item.up_to(self) if callable(item.up_to) else item.up_to
        deadline = None if up_to is None else calendar.add(anchor, up_to, self.zone(), self.program.business_hours)
        instance["w"] = {"from": anchor, "until": deadline}
        self._arm_wait(iid, instance, item)
        until = self.timers.get(f"i:{iid}") if deadline is None else deadline
        self.decide(self.program.by_name[instance["c"]], item.site, "wait", key=instance["k"],
                    params={} if until is None else {"until": calendar.format_utc(until)}, reason=item.site.text)
        if deadline is not None and deadline <= self.now:
            return self._resolve(iid, instance, item, deadline)
        return None

    def _arm_wait(self, iid: str, instance: Instance, item: op.Wait) -> None:
        """The one timer of a wait: its deadline, the first of its moments, or when a condition may turn by time alone."""
        wait = instance["w"]
        best = wait["until"]
        for trigger in item.alternatives:
            moment = None
            if trigger.timed is not None:
                moment = trigger.timed.due(self, max(self.now, wait["from"]), wait["from"])
                if moment is not None and moment < self.now:
                    moment = None
            elif trigger.condition is not None and trigger.condition.flips is not None:
                moment = trigger.condition.flips(self)
            if moment is not None and (best is None or moment < best):
                best = moment
        self._rest(iid, instance, item.site, best)

    def _resolve(self, iid: str, instance: Instance, item: op.Wait, now: int) -> tuple[int, str] | None:
        """A wait's timer rang: which alternative is it, or is it the deadline; None: neither (armed again)."""
        wait = instance["w"]
        for trigger in item.alternatives:
            if trigger.condition is not None and trigger.condition.test(self):
                return self._won(iid, instance, item, trigger)
            if trigger.timed is not None:
                due = trigger.timed.due(self, now - 1, wait["from"])
                if due is not None and due <= now:
                    return self._won(iid, instance, item, trigger)
        if wait["until"] is not None and wait["until"] <= now:
            self._end_wait(iid, instance)
            return item.otherwise, f"{item.site.text}: not within the time"
        self._arm_wait(iid, instance, item)
        return None

    def _won(self, iid: str, instance: Instance, item: op.Wait, trigger: Trigger) -> tuple[int, str]:
        self._end_wait(iid, instance)
        self._bind(instance, trigger, None, self.now)
        return item.body, f"{item.site.text}: {trigger.text}"

    def _end_wait(self, iid: str, instance: Instance) -> None:
        instance.pop("w", None)
        self.timers.pop(f"i:{iid}", None)

    def _waiting(self, instance: Instance) -> op.Wait | None:
        """The wait an instance stands at."""
        if "w" not in instance:
            return None
        ruleset = self.program.by_name[instance["c"]]
        item = ruleset.ops[ruleset.index[instance["s"]]]
        return item if isinstance(item, op.Wait) else None

    def _bind(self, instance: Instance, trigger: Trigger, event: Any, at: int) -> None:
        """`AS name`: the alternative that won has a value; a condition or a moment has its time and no fields."""
        if trigger.alias is not None:
            instance.setdefault("b", {})[trigger.alias] = event or {"name": "", "id": "", "at": at, "subject": None, "data": {}}

    def _resume(self, iid: str, instance: Instance, item: op.Wait, trigger: Trigger, at: int, event: Any) -> None:
        """An alternative has won: the instance goes on when its turn comes; nothing else can win any more."""
        self._end_wait(iid, instance)
        self._bind(instance, trigger, event, at)
        ruleset = self.program.by_name[instance["c"]]
        self.push_call(ruleset, self._go_on, (iid, instance, item.body, at, f"{item.site.text}: {trigger.text}"))

    def _go_on(self, iid: str, instance: Instance, position: int, anchor: int, reason: str) -> None:
        if self.instances.get(iid) is instance:
            self.walk(iid, instance, position, anchor, reason)

    def check_waits(self) -> None:
        """Conditions that are waited for: they may have become true."""
        for iid, instance in list(self.instances.items()):
            item = self._waiting(instance)
            if item is None or not item.conditions:
                continue
            self.use(instance)
            for trigger in item.alternatives:
                if trigger.condition is not None and trigger.condition.test(self):
                    self._resume(iid, instance, item, trigger, self.now, None)
                    break
            else:
                self._arm_wait(iid, instance, item)

    def resume_on_edge(self, fact: str, old: Any, new: Any) -> None:
        for iid, instance in list(self.instances.items()):
            item = self._waiting(instance)
            if item is None:
                continue
            for trigger in item.alternatives:
                if trigger.fact == fact:
                    self.use(instance)
                    if self._turned(trigger, old, new) and (trigger.where is None or trigger.where.test(self)):
                        self._resume(iid, instance, item, trigger, self.now, None)
                        break

    def resume_on_event(self, name: str) -> None:
        for iid, instance in list(self.instances.items()):
            item = self._waiting(instance)
            if item is None or name not in item.events or self.arrival[2] < instance["w"]["from"]:
                continue  # what happened before the wait began does not end it, however late it arrives
            ruleset = self.program.by_name[instance["c"]]
            for trigger in item.alternatives:
                if trigger.event == name and self._happened(ruleset, trigger, instance):
                    self._resume(iid, instance, item, trigger, max(self.event_at, instance["w"]["from"]),
                                 self._event_record(trigger))
                    break

    def _happened(self, ruleset: Ruleset, trigger: Trigger, instance: Instance) -> bool:
        """Whether the arrived event is what an instance's trigger is about."""
        if not self._mine(ruleset, trigger, instance):
            return False
        subject = trigger.subject
        if subject is not None:
            if hasattr(subject, "wanted"):
                self.use(instance)
                wanted = subject.wanted(self)
                if self.arrival[1] != wanted:
                    return False
            elif not subject(self.arrival[1]):
                return False
        self.look(instance)
        return trigger.where is None or trigger.where.test(self)

    def rearm_instances(self, dirty: set[str]) -> None:
        """Moments that depend on changed facts move: of waits and of exits."""
        for iid, instance in list(self.instances.items()):
            item = self._waiting(instance)
            if item is not None and not item.deps.isdisjoint(dirty):
                self.use(instance)
                if self._is_past(instance, item):
                    self._skip_wait(iid, instance, item)
                else:
                    self._arm_wait(iid, instance, item)
            if instance.get("x"):
                continue
            ruleset = self.program.by_name[instance["c"]]
            if any(trigger.timed is not None and not trigger.timed.deps.isdisjoint(dirty)
                   for exit_ in ruleset.exits for trigger in exit_.triggers):
                self._arm_exits(ruleset, iid, instance)

    def _is_past(self, instance: Instance, item: op.Wait) -> bool:
        """Whether all that is waited for are moments, and each of them has moved into the past."""
        moments = [trigger.timed.due(self, self.now - 1, instance["w"]["from"]) if trigger.timed is not None else None
                   for trigger in item.alternatives]
        return all(moment is not None and moment < self.now for moment in moments)

    def _skip_wait(self, iid: str, instance: Instance, item: op.Wait) -> None:
        """What is past is skipped, unless CATCH UP, also where it moved there during the wait."""
        ruleset = self.program.by_name[instance["c"]]
        reason = f"{item.site.text}: already past"
        if not item.catch_up:
            self.decide(ruleset, item.site, "skip", key=instance["k"], reason=reason)
        self._end_wait(iid, instance)
        self.push_call(ruleset, self._go_on, (iid, instance, item.body if item.catch_up else item.end, self.now, reason))

    # ── loops ──

    def _loop(self, iid: str, instance: Instance, item: op.Loop, position: int, anchor: int) -> tuple[int, int] | None:
        """The top of a round: (where to go on, its due moment), or None while the round's time has not come."""
        self.use(instance)
        rounds = instance.setdefault("n", {})
        state = rounds.get(item.name)
        if state is None:
            state = rounds[item.name] = [0, anchor, None]
        times = item.times(self) if callable(item.times) else item.times
        if times is None or state[0] >= int(times):
            del rounds[item.name]
            return item.end, anchor
        due = self._round(item, state, anchor)
        if due > self.now:
            self._rest(iid, instance, item.site, due)
            self.decide(self.program.by_name[instance["c"]], item.site, "wait", key=instance["k"],
                        params={"until": calendar.format_utc(due)}, reason=item.site.text)
            return None
        if item.condition is not None and not item.condition.test(self):
            self.skip(item.site, item.condition, instance["k"])
            del rounds[item.name]
            return item.end, max(anchor, due)
        state[2] = due
        return position + 1, max(anchor, due)

    def _round(self, item: op.Loop, state: list[Any], anchor: int) -> int:
        """When round number state[0] is due: an interval counts from the first round, a weekly rhythm from the round before."""
        zone, hours = self.zone(), self.program.business_hours
        if isinstance(item.rhythm, tuple) and not isinstance(item.rhythm, Duration):
            kind, days = item.rhythm
            after = anchor - 1 if state[2] is None else max(state[2], anchor - 1)
            return calendar.next_every(kind, after, item.at or 0, zone, days)
        every = item.rhythm(self) if callable(item.rhythm) else item.rhythm
        if every is None:
            return anchor
        due = calendar.add(state[1], Duration(*(part * state[0] for part in every)), zone, hours)
        return due if item.at is None else calendar.at_time(due, item.at, zone)

    # ── leaving ──

    def leave(self, iid: str, instance: Instance, reason: str, site: Site | None = None, exit_: Exit | None = None) -> None:
        """Ends an instance before its end: its waits and unsent messages go with it. An EXIT's actions run on the way out."""
        ruleset = self.program.by_name[instance["c"]]
        if instance.get("x"):
            return
        if ruleset.is_campaign:
            self.decide(ruleset, site, "exit", key=instance["k"], reason=reason,
                        because=(("event", self.event_name),) if exit_ is not None and self.event_name else ())
        if "u" in instance:
            self.cancels.append(Cancel(self.contact, ruleset.name, instance["id"], f"left: {reason}", self.now))
        self._drop_timers(iid)
        position = exit_.position if exit_ is not None else None
        if position is not None:
            instance["x"] = 1
            instance.pop("w", None)
            instance.pop("h", None)
            # Its place is free at once, and what was on its way there (a step, a message) finds it gone.
            out = f"{iid}!{self.sequence}.{self.pushed}"
            self.instances[out] = instance
            self.push_call(ruleset, self._go_on, (out, instance, position, self.now, f"EXIT: {reason}"))
        self._remove(iid, instance, ruleset)

    def _finish(self, iid: str, instance: Instance, ruleset: Ruleset) -> None:
        if ruleset.is_campaign and not instance.get("x"):
            self.decide(ruleset, None, "complete", key=instance["k"], reason="all steps done")
        self._drop_timers(iid)
        self._remove(iid, instance, ruleset)

    def _drop_timers(self, iid: str) -> None:
        self.timers.pop(f"i:{iid}", None)
        prefix = f"x:{iid}|"
        for timer in [name for name in self.timers if name.startswith(prefix)]:
            del self.timers[timer]

    def _remove(self, iid: str, instance: Instance, ruleset: Ruleset) -> None:
        self.instances.pop(iid, None)
        window = self.state["g"].get(iid)
        if window is not None and window[4] is None:
            del self.state["g"][iid]
        if ruleset.name in self.program.since_owners and not self.has_active(ruleset.name):
            for query in self.program.queries.values():
                if query.owner == ruleset.name:
                    self.history.pop(query.id, None)
        waiting = instance.pop("next", None)
        if waiting:
            trigger_id, event = waiting.pop(0)
            trigger = next((item for item in ruleset.triggers if item.id == trigger_id), None)
            if trigger is not None:
                self.push_call(ruleset, self._next_in_queue, (ruleset, trigger, instance, iid, event, waiting))

    def _next_in_queue(self, ruleset: Ruleset, trigger: Trigger, before: Instance, iid: str, event: Any, waiting: list[Any]) -> None:
        if iid in self.instances or not self._may_reenter(ruleset, iid, before["k"]):
            return
        self._remember(ruleset, iid if ruleset.remembers else None)
        if event is not None:
            self.e, self.event_subject, self.event_at = event["data"], event["subject"], event["at"]
            self.event_name, self.event_id = event["name"], event["id"]
        self._begin(ruleset, trigger, before["k"], before["kv"], iid, event, self.now)
        if waiting and iid in self.instances:
            self.instances[iid]["next"] = waiting

    def exit_all(self, ruleset: Ruleset, exit_: Exit, trigger: Trigger, event: str | None) -> None:
        """An EXIT's trigger came: all instances it is about leave, before any further action."""
        for iid, instance in list(self.instances.items()):
            if instance["c"] != ruleset.name or instance.get("x"):
                continue
            if self.arrival[2] < instance["t0"]:
                continue  # it arrived late: it happened before the journey began
            if event is not None:
                if not self._happened(ruleset, trigger, instance):
                    continue
            elif trigger.where is not None:
                self.use(instance)
                if not trigger.where.test(self):
                    continue
            self.leave(iid, instance, exit_.reason or trigger.event or trigger.text, None, exit_)

    def _arm_exits(self, ruleset: Ruleset, iid: str, instance: Instance) -> None:
        """Timers of the EXITs that time sets off."""
        for number, exit_ in enumerate(ruleset.exits):
            for place, trigger in enumerate(exit_.triggers):
                if trigger.timed is None:
                    continue
                self.use(instance)
                due = trigger.timed.due(self, self.now, instance["t0"])
                timer = f"x:{iid}|{number}.{place}"
                if due is not None and due >= self.now:
                    self.timers[timer] = due
                else:
                    self.timers.pop(timer, None)

    # ── goals ──

    def reach_goal(self, ruleset: Ruleset, trigger: Trigger, event: str | None) -> None:
        """A goal's trigger came: a conversion for each open entry that it is about, also after the journey's end while WITHIN lasts."""
        for iid, (name, key, values, start, deadline) in list(self.state["g"].items()):
            if name != ruleset.name:
                continue
            if deadline is not None and self.now >= deadline:
                del self.state["g"][iid]
                continue
            if self.arrival[2] < start:
                continue  # it arrived late: it happened before the journey began
            entry = {"c": name, "k": key, "kv": values, "t0": start, "q": 0, "id": "", "e": None}
            if event is not None and not self._happened(ruleset, trigger, entry):
                continue
            del self.state["g"][iid]
            self.decide(ruleset, None, "goal", key=key, reason=trigger.text)
            instance = self.instances.get(iid)
            if ruleset.exit_on_goal and instance is not None:
                self.leave(iid, instance, "goal")

    # ── messages wait for their turn ──

    def _queue_message(self, iid: str, instance: Instance, item: op.Act, anchor: int, reason: str,
                       because: tuple[tuple[str, Any], ...]) -> None:
        """Messages of one moment are admitted together, in the order of LANGUAGE.md: priority, due time, campaign, key."""
        ruleset = self.program.by_name[instance["c"]]
        self.use(instance)
        priority = item.call.policy.get("priority", ruleset.priority)
        if callable(priority):
            priority = priority(self)
        instance["s"] = item.site.step
        self.pushed += 1
        entry = (iid, instance, item, anchor, reason, because)
        heappush(self.admissions, (-(priority or 0), anchor, ruleset.name, instance["k"] or "", self.pushed, entry))


def as_moment(value: Any, tick: Facts) -> int:
    """A clause's moment (ms): a constant, or local to the contact."""
    return value(tick) if callable(value) else value


def _key(values: Iterable[Any]) -> str:
    """A FOR EACH key as text; several fields stay apart whatever their text."""
    parts = [_key_text(value) for value in values]
    return parts[0] if len(parts) == 1 else "|".join(part.replace("\\", "\\\\").replace("|", "\\|") for part in parts)


def _key_text(value: Any) -> str:
    """A key's value as text; 7 and 7.0 are one key."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _shown_event(event: Mapping[str, Any] | None) -> dict[str, Any]:
    return {} if event is None else {"event": event["name"], "id": event["id"]}
