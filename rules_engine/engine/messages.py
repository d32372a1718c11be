"""Messages: whether one may leave now, and what happens when it may not (LANGUAGE.md, Messages).

Checked at the moment of sending, in this order: suppression, address, expiry, lateness; for marketing also consent, holdout, invariants,
quiet hours, the delivery window (for every class), limits. Each outcome becomes an event `CHANNEL.OUTCOME` that conditions can ask about.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from rules_engine.decisions import Effect
from rules_engine.engine.journey import Instance, Journeys, as_moment
from rules_engine.facts import Event
from rules_engine.plan.program import ActionCall, Blocked, Limit, Ruleset, Window
from rules_engine.runtime import calendar

_LATE = 24 * 3_600_000  # messages later than this are held for a person, unless ON LATE says otherwise (LANGUAGE.md)
_TRIES = 20             # quiet hours and windows that exclude each other never open


class Verdict(NamedTuple):
    """What is to be done with a message: send | hold | drop | stop | wait_for_person; why; until when it is held (ms)."""

    do: str
    outcome: str
    reason: str
    until: int | None = None
    because: tuple[tuple[str, Any], ...] = ()


_SEND = Verdict("send", "sent", "")


class Messages(Journeys):
    """The part of a tick that decides about messages."""

    __slots__ = ()

    def admit(self, iid: str, instance: Instance, item: Any, anchor: int, reason: str, because: tuple[tuple[str, Any], ...]) -> None:
        """A message's turn: sends, holds or drops it, then lets the instance go on."""
        if self.instances.get(iid) is not instance:
            return
        ruleset, call = self.program.by_name[instance["c"]], item.call
        self.use(instance)
        primary, params = call.arguments(self)
        options = {name: value(self) if callable(value) else value for name, value in call.policy.items()}
        message_class = options.get("class") or call.action.message_class
        hold = instance.get("h")
        verdict = self._judge(instance, ruleset, call, params, options, message_class, hold["from"] if hold else anchor)
        if verdict.do == "hold":
            self._hold(iid, instance, item, anchor, reason, because, verdict, primary, params)
            return
        instance.pop("h", None)
        anchor = self.now if hold else anchor
        if verdict.do in ("send", "wait_for_person"):
            state = "ready" if verdict.do == "send" else "held"
            exempt = " ".join(name for name in ("quiet", "limit") if options.get(f"ignore_{name}"))
            self.hand_over(instance, ruleset, item, primary, params, message_class, options.get("expires_after"), state, exempt)
            self.decide(ruleset, item.site, "action", key=instance["k"], call=call, primary=primary, params=params,
                        outcome=verdict.outcome, reason=verdict.reason or reason, because=because)
            if message_class == "marketing" and state == "ready":
                self._count(call.channel)
        else:
            self.decide(ruleset, item.site, "skip", key=instance["k"], call=call, primary=primary, params=params, outcome=verdict.outcome,
                        reason=verdict.reason, because=verdict.because)
        self._tell(instance, call, verdict.outcome, primary)
        if verdict.do == "stop" and self.instances.get(iid) is instance:
            self.leave(iid, instance, f"{verdict.outcome}: {verdict.reason}", item.site)
            return
        position = self._position(ruleset, instance, item) + 1
        if self.pending:
            self.react()
        self._go_on(iid, instance, position, anchor, reason)

    def _position(self, ruleset: Ruleset, instance: Instance, item: Any) -> int:
        return ruleset.index[item.site.step]

    def _tell(self, instance: Instance, call: ActionCall, outcome: str, primary: Any) -> None:
        """The outcome as an event: known to history at once, to triggers when the agenda is done."""
        name = f"{call.channel}.{outcome}"
        plan = self.program.events.get(name)
        if plan is None or not plan.queries and plan.match is None and not plan.exits and not plan.goals and not plan.waits:
            return
        data = dict(instance["kv"] or {})
        event = Event(f"{instance['id']}/{name}/{self.sequence}", name, self.contact, self.now, None if primary is None else str(primary), data)
        self.note(event)
        self.queue.append((event, True))

    def hand_over(self, instance: Instance, ruleset: Ruleset, item: Any, primary: Any, params: dict[str, Any], message_class: str,
                  expires_after: Any, state: str, exempt: str = "") -> None:
        """An effect for the outbox, under the name that makes it act once."""
        call = item.call
        rounds = "".join(f"/{count[0]}" for count in (instance.get("n") or {}).values())
        expires = None if expires_after is None else calendar.add(self.now, expires_after, self.zone(), self.program.business_hours)
        if call.needs_event and instance["e"] is not None:
            params = {**params, "event": {**instance["e"]["data"], "subject": instance["e"]["subject"]}}
        on_the_way_out = "x" in instance  # what an EXIT itself sends is not called off with the instance
        if not on_the_way_out:
            instance["u"] = 1  # something of it may stand in the outbox
        self.effects.append(Effect(
            f"{ruleset.name}/{item.site.step}/{self.contact}/{instance['id']}{rounds}", self.contact, call.name, primary, params, ruleset.name,
            item.site.step or "", instance["k"], call.channel, message_class, self.now, expires, state,
            "" if on_the_way_out else instance["id"], exempt))

    # ── the checks ──

    def _judge(self, instance: Instance, ruleset: Ruleset, call: ActionCall, params: dict[str, Any], options: dict[str, Any],
               message_class: str, due: int) -> Verdict:
        channel, attributes = call.channel or "", self.a
        suppressed = attributes.get(f"suppressed.{channel}")
        if suppressed:
            return Verdict("drop", "suppressed", f"contact.suppressed.{channel} is \"{suppressed}\"", None,
                           ((f"contact.suppressed.{channel}", suppressed),))
        address = call.action.address
        if address is not None and not params.get("to") and not attributes.get(address):
            return Verdict("drop", "no_address", f"contact.{address} is missing", None, ((f"contact.{address}", None),))
        if ruleset.until is not None and self.now >= as_moment(ruleset.until, self):
            return Verdict("drop", "expired", f"UNTIL {calendar.format_utc(as_moment(ruleset.until, self))}: the campaign is over")
        expires = options.get("expires_after")
        if expires is not None and self.now >= calendar.add(due, expires, self.zone(), self.program.business_hours):
            return Verdict("drop", "expired", f"due {calendar.format_utc(due)}, expires_after {expires.text()}")
        late = self.late(ruleset, self.now if "h" in instance else min(due, self.now), message_class != "internal")
        if late is not None:
            return late
        if message_class == "internal":
            return _SEND  # no message to a person: hours and limits are not about it
        if message_class == "marketing":
            refused = self._refused(instance, channel)
            if refused is not None:
                return refused
        return self._opening(ruleset, call, options, message_class, due)

    def late(self, ruleset: Ruleset, due: int, message: bool) -> Verdict | None:
        """What ON LATE says of a step that was due at `due`; without it internal actions run, and messages up to 24 hours late."""
        late = self.wall - due
        if late <= 0:
            return None
        rule = ruleset.on_late or self.program.on_late
        if rule is None:
            if late <= _LATE or not message:
                return None
            return Verdict("wait_for_person", "held", f"{late // 3_600_000} hours late: held for a person (say ON LATE to decide)")
        if late <= rule[0].approx_ms() or rule[1] == "run":
            return None
        return Verdict("stop" if rule[1] == "stop" else "drop", "late", f"ON LATE > {rule[0].text()} {rule[1].upper()}")

    def _refused(self, instance: Instance, channel: str) -> Verdict | None:
        """What forbids marketing for good: consent, holdout, invariants."""
        consent = f"consent.{channel}"
        if self.a.get(consent) is False:
            return Verdict("drop", "suppressed", f"contact.{consent} = no", None, ((f"contact.{consent}", False),))
        if instance.get("o"):
            return Verdict("drop", "held_out", "the contact is in the holdout")
        for name, text, rule in self.program.never:
            if name not in (channel, "marketing", "messages"):
                continue
            if isinstance(rule, Limit):
                sent = self._sent("" if name != channel else channel, rule.period)
                if len(sent) >= rule.count:
                    return Verdict("drop", "blocked", text)
            elif rule.test(self):
                return Verdict("drop", "blocked", text, None, rule.reads(self))
        return None

    def _opening(self, ruleset: Ruleset, call: Any, options: dict[str, Any], message_class: str, due: int) -> Verdict:
        """What only forbids it now: quiet hours, the delivery window, limits. Each has its own policy, and each its own deadline.
        call: whatever has a channel."""
        marketing = message_class == "marketing"
        until, deadline, holds = self.now, None, []
        for blocked, outcome, reason, moment in self._blockers(ruleset, call.channel or "", marketing and not options.get("ignore_quiet"),
                                                               marketing and not options.get("ignore_limit")):
            if blocked.policy != "hold":
                return Verdict(blocked.policy, outcome, reason)
            if blocked.up_to is not None:
                end = calendar.add(due, blocked.up_to, self.zone(), self.program.business_hours)
                if self.now >= end:
                    return Verdict("drop", outcome, f"{reason}; held for {blocked.up_to.text()}")
                deadline = end if deadline is None else min(deadline, end)
            until = max(until, moment)
            holds.append((outcome, reason))
        if not holds:
            return _SEND
        if deadline is None or until < deadline:
            until = self._open(ruleset, until, marketing and not options.get("ignore_quiet"))
        outcome, reason = holds[0]
        return Verdict("hold", outcome, reason, until if deadline is None else min(until, deadline))

    def _blockers(self, ruleset: Ruleset, channel: str, quiet: bool, limits: bool) -> Iterator[tuple[Blocked, str, str, int]]:
        """(policy, outcome, reason, until when) of each thing that forbids a message now."""
        if quiet and self.program.quiet is not None:
            moment = self._outside(self.program.quiet, self.now)
            if moment != self.now:
                yield self.program.quiet.blocked, "quiet", "QUIET hours", moment
        if ruleset.deliver is not None:
            moment = self._inside(ruleset.deliver, self.now)
            if moment != self.now:
                yield ruleset.deliver.blocked, "window", "outside DELIVER BETWEEN", moment
        for limit in self._limits(ruleset, channel) if limits else ():
            sent = self._sent(limit.channel, limit.period)
            if len(sent) >= limit.count:
                free = calendar.add(sent[len(sent) - limit.count], limit.period, self.zone(), self.program.business_hours)
                yield (limit.blocked, "capped", f"LIMIT {limit.count} {limit.channel or 'messages'} PER {limit.period.text()}: {len(sent)} sent",
                       free)

    def _open(self, ruleset: Ruleset, moment: int, quiet: bool) -> int:
        """The first moment from `moment` on that lies outside quiet hours and inside the delivery window."""
        for _ in range(_TRIES):
            before = moment
            if quiet and self.program.quiet is not None:
                moment = self._outside(self.program.quiet, moment)
            if ruleset.deliver is not None:
                moment = self._inside(ruleset.deliver, moment)
            if moment == before:
                break
        return moment

    def _limits(self, ruleset: Ruleset, channel: str) -> list[Limit]:
        """The limits on a channel; a campaign's own takes the place of the workspace's. All count the contact's messages of every campaign."""
        found = []
        for name in (channel, ""):
            limit = ruleset.limits.get(name) or self.program.limits.get(name)
            if limit is not None:
                found.append(limit)
        return found

    def _sent(self, channel: str, period: Any) -> list[int]:
        """When marketing messages were sent within a period; all channels for ""."""
        zone, now = self.zone(), self.now
        counters = self.state["c"]
        names = [f"m:{channel}"] if channel else [name for name in counters if name.startswith("m:")]
        times = [at for name in names for at in counters.get(name, ()) if calendar.within(at, now, period, zone)]
        return sorted(times) if len(names) > 1 else times

    def _count(self, channel: str | None) -> None:
        reach = self.program.longest_limit
        if reach:
            times = self.state["c"].setdefault(f"m:{channel}", [])
            times.append(self.now)
            while times[0] < self.now - reach:
                del times[0]

    def _window_zone(self, window: Window) -> str:
        zone = window.zone(self) if callable(window.zone) else window.zone
        return zone if zone and calendar.is_zone(zone) else self.zone()

    def _inside(self, window: Window, moment: int) -> int:
        """The first moment from `moment` on that lies in the window."""
        zone = self._window_zone(window)
        if calendar.in_window(moment, window.start, window.end, window.days, zone):
            return moment
        return calendar.next_in_window(moment, window.start, window.end, window.days, zone)

    def _outside(self, window: Window, moment: int) -> int:
        """The first moment from `moment` on that does not lie in the window."""
        zone = self._window_zone(window)
        if window.start == window.end or not calendar.in_window(moment, window.start, window.end, window.days, zone):
            return moment
        return calendar.at_time(moment, window.end, zone)

    def _hold(self, iid: str, instance: Instance, item: Any, anchor: int, reason: str, because: tuple[tuple[str, Any], ...],
              verdict: Verdict, primary: Any, params: dict[str, Any]) -> None:
        """The instance stays at its message until it may leave; what it says then is worked out anew."""
        ruleset = self.program.by_name[instance["c"]]
        known = instance.get("h")
        instance["h"] = {"from": known["from"] if known else anchor, "why": reason}
        self._rest(iid, instance, item.site, verdict.until)
        assert verdict.until is not None
        self.decide(ruleset, item.site, "wait", key=instance["k"], call=item.call, primary=primary,
                    params={"until": calendar.format_utc(verdict.until)}, outcome=verdict.outcome,
                    reason=f"{verdict.reason}: held until {calendar.format_local(verdict.until, self.zone())}", because=because)
