"""Whether an effect that was decided earlier may leave now: what the outbox's claim asks, in its own transaction (promise P9).

Between the decision and the hand-over a contact may have unsubscribed, a provider may have been down for hours, a person may have
thought about a held message overnight, and a new version may be in force. So everything that a message is judged by when it is decided is
judged again: campaign, UNTIL, expiry, lateness, suppression, address, consent, holdout, NEVER, quiet hours, delivery window, limits. Of
an effect that is no message to a person only the first three.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from rules_engine.engine.advance import Tick
from rules_engine.engine.journey import as_moment
from rules_engine.engine.messages import Verdict
from rules_engine.plan.program import ActionCall, Program, Ruleset
from rules_engine.runtime import calendar

_EMPTY: dict[str, Any] = {}


class Due(NamedTuple):
    """What is asked about. A store's EffectRow has these fields too. at: when it was decided (ms); exempt: checks that are waived, of
    "quiet", "limit" (by the author) and "late" (by a person who released it)."""

    action: str
    params: Any
    ruleset: str
    step: str
    channel: str | None
    message_class: str
    at: int
    expires: int | None
    exempt: str


def recheck(program: Program, state: dict[str, Any], due: Any, now: int) -> Verdict | None:
    """None if it may leave now; else what is to be done: drop (outcome and reason), hold until a moment (ms), or wait_for_person.

    state: the contact's, read only. due: a Due or whatever has its fields.
    """
    ruleset = program.by_name.get(due.ruleset)
    if ruleset is None:
        return Verdict("drop", "cancelled", f"{due.ruleset} is no longer among the campaigns and rules")
    tick = _tick(program, state, due, now)
    tick.use_nothing(ruleset)
    if ruleset.until is not None and now >= as_moment(ruleset.until, tick):
        return Verdict("drop", "expired", f"UNTIL {calendar.format_utc(as_moment(ruleset.until, tick))}: the campaign is over")
    if due.expires is not None and now >= due.expires:
        return Verdict("drop", "expired", "its time was over before it could be handed over")
    if due.channel is None:
        return None
    message = due.message_class != "internal"
    late = None if "late" in due.exempt.split() else tick.late(ruleset, due.at, message)
    if late is not None:
        return late
    return _message(tick, ruleset, due) if message else None


def _tick(program: Program, state: dict[str, Any], due: Any, now: int) -> Tick:
    """A tick that only looks. The message itself was counted when it was decided: it must not stand in its own way."""
    counters = state["c"]
    own = f"m:{due.channel}"
    times = list(counters.get(own, ()))
    if due.at in times:
        times.remove(due.at)
        state = {**state, "c": {**counters, own: times}}
    tick = Tick(program)
    tick.begin(state, now)
    tick.now = now
    tick.use_arrival((_EMPTY, None, now, "", ""))
    return tick


def _message(tick: Tick, ruleset: Ruleset, due: Any) -> Verdict | None:
    suppressed = tick.a.get(f"suppressed.{due.channel}")
    if suppressed:
        return Verdict("drop", "suppressed", f'contact.suppressed.{due.channel} is "{suppressed}"')
    call = _call(ruleset, due)
    address = call.action.address if call is not None else None
    if address is not None and not due.params.get("to") and not tick.a.get(address):
        return Verdict("drop", "no_address", f"contact.{address} is missing")
    marketing = due.message_class == "marketing"
    if marketing:
        # No instance is at hand, and none is needed: whether a contact is held out follows from its id.
        refused = tick._refused({"o": 1} if tick._held_out(ruleset) else _EMPTY, due.channel)
        if refused is not None:
            return refused
    waived = due.exempt.split()
    options = {"ignore_quiet": "quiet" in waived, "ignore_limit": "limit" in waived}
    verdict = tick._opening(ruleset, due, options, due.message_class, due.at)
    return None if verdict.do == "send" else verdict


def _call(ruleset: Ruleset, due: Any) -> ActionCall | None:
    """The action as the program has it, if the step is still there."""
    place = ruleset.index.get(due.step)
    call = getattr(ruleset.ops[place], "call", None) if place is not None else None
    return call if isinstance(call, ActionCall) and call.name == due.action else None
