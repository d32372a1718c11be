"""Visitors who become known: two contacts become one, over the log, which is the only way across contacts.

`contact.identified` of a visitor says who it is. All that the event sets off happens first; then the visitor's journeys end, and one
event `contact.merged` takes what it was to the contact that it is. The visitor's state becomes a tombstone, `into`: whatever comes for
it later is sent on. `contact.merged` at the other end: that contact's own values win, sums are added up, the stricter consent stays, and
the past is answered as if one contact had done it all. What follows from changed facts follows; past events set nothing off again.

What is exact: every question about the past that does not say SINCE START, to the millisecond. Of two values of the very same
millisecond that LAST or FIRST asks for, the contact's own wins. SINCE START is about what happened inside a journey, and a journey is
not merged: it begins to count the visitor's events with the first one that is sent on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import orjson

from rules_engine.actions import Change
from rules_engine.decisions import MERGE
from rules_engine.engine.messages import Messages
from rules_engine.engine.tick import SetAside
from rules_engine.facts import IDENTIFIED, MERGED, ContactChange, Event, Wake
from rules_engine.plan.program import Program, Ruleset
from rules_engine.runtime import history

ANONYMOUS = "visitor:"  # how the id of a contact begins of whom nothing is known but that somebody was there
_PARTS = ("a", "t", "s", "h", "i", "m", "c", "d", "g")
_NAMED = Ruleset(MERGE, False, 0, ("", 0))


def is_anonymous(state: Mapping[str, Any]) -> bool:
    """Whether a contact may be merged away without a person's word: a visitor, by its id or by its attribute `anonymous`."""
    return state["id"].startswith(ANONYMOUS) or state["a"].get("anonymous") is True


def merged_into(state: Mapping[str, Any]) -> str | None:
    """The contact that this one was merged into; None for one that stands for itself. For readers of stored states."""
    into = state.get("into")
    return None if into is None else into["contact"]


def merged_in(state: Mapping[str, Any]) -> Collection[str]:
    """The contacts that were merged into this one. For readers of stored states."""
    return state.get("from", ())


def forwarded_id(cause: Event | ContactChange, into: str) -> str:
    """The id under which a fact of a contact that was merged away goes on to the other: the same on every replay, and another for each
    fact (the engine does not know the sources within which their ids are unique)."""
    return f"{cause.id}/{getattr(cause, 'name', '')}@{cause.at}/{cause.contact}>{into}"


class Merging(Messages):
    """The part of a tick that is about who a contact is."""

    __slots__ = ()

    def about_identity(self, event: Event) -> Event | None:
        """What the two events mean besides what rules make of them; the event as rules see it, None for one that has acted before."""
        if event.name == MERGED:
            return self._merge_in(event)
        if self._refusal(event) is None and self.parting is None:
            self.parting = event
        return event

    # ── the visitor ──

    def _refusal(self, event: Event) -> str | None:
        """Why an identification does not merge, "" where there is nothing to say. Notes it."""
        into = event.data.get("contact")
        reason = None
        if not isinstance(into, str) or not into.strip():
            reason = "the event names no contact to merge into"
        elif into == self.contact:
            return ""
        elif into in self.state.get("from", ()):
            reason = f"{into} was merged into {self.contact} before: a circle"
        elif self.parting is not None and into != self.parting.data["contact"]:
            reason = f"it is about to be merged into {self.parting.data['contact']}: the first stands"
        elif event.data.get("known") is not True and not is_anonymous(self.state):
            reason = f"{self.contact} is known: only visitors are merged by themselves (a person can: camp contact merge)"
        if reason is not None:
            self._note_refusal(into, reason)
        return reason

    def _note_refusal(self, into: Any, reason: str) -> None:
        self.decide(_NAMED, None, "skip", reason=f"not merged into {into}: {reason}" if into else reason)

    def part(self) -> None:
        """Ends the contact's own life: its journeys end, what it was goes to the contact that it is, and a tombstone stays."""
        assert self.parting is not None
        state, into = self.state, self.parting.data["contact"]
        for iid, instance in list(self.instances.items()):
            instance.pop("next", None)
            instance.pop("u", None)  # what it has sent off already goes on to whom the contact became
            self.leave(iid, instance, f"merged into {into}")
        derived = {item.name for item in self.program.derived}
        data = {
            "contact": self.contact, "program": self.program.digest, "since": state["since"],
            "attributes": {name: value for name, value in self.a.items() if name not in derived and name != "anonymous"},
            "segments": {name: since for name, since in self.s.items() if name not in derived},
            "history": self.history, "counters": state["c"], "goals": state["g"], "answered": state["d"],
            "entries": {name: entry for name, entry in state["m"].items() if isinstance(entry, list)},
            "merged": state.pop("from", {}),
        }
        self.decide(_NAMED, None, "exit", reason=f"merged into {into}")
        self.emits.append(Event(f"merge/{self.contact}>{into}@{self.now}", MERGED, into, self.now, None, data, self.now))
        for part in _PARTS:
            state[part] = {}
        state["p"] = ""  # no program's digest: so every cause takes the long way, on which tombstones are looked for
        state["into"] = {"contact": into, "at": self.now}

    def send_on(self, cause: Event | ContactChange | Wake) -> bool:
        """A cause that comes to a tombstone goes to the other contact, and does nothing else. False: the tombstone is lifted, and the
        cause is to be processed here."""
        into = self.state["into"]["contact"]
        self.cause = "timer" if isinstance(cause, Wake) else cause.id
        if isinstance(cause, Wake):
            return True
        changes: dict[str, Any] = {"id": forwarded_id(cause, into), "contact": into}
        if isinstance(cause, ContactChange):
            changes["attributes"] = {name: value for name, value in cause.attributes.items() if name != "anonymous"}
        else:
            changes["received"] = self.now
            if cause.name == IDENTIFIED:
                if cause.data.get("contact") not in (into, self.contact):
                    self._note_refusal(cause.data.get("contact"), f"it was merged into {into} before: the first stands")
                return True
            if cause.name == MERGED:
                via = [*cause.data.get("via", ()), self.contact]
                if self._closes_a_circle(via):
                    del self.state["into"]
                    self.state["p"] = "lifted"
                    return False
                changes["data"] = {**cause.data, "via": via}
        self.emits.append(cause._replace(**changes))
        return True

    def _closes_a_circle(self, via: list[str]) -> bool:
        """Contacts that were identified as one another at the same time would send everything round for ever: the first by name of the
        circle stands for all."""
        return self.contact in via[:-1] and self.contact == min(via[via.index(self.contact):])

    # ── the contact that the visitor is ──

    def _merge_in(self, event: Event) -> Event | None:
        """Takes in what another contact was."""
        state = self.state
        who, known = event.data.get("contact"), state.get("from", {})
        if known.get(who) == event.at:
            return None
        try:
            data = orjson.loads(orjson.dumps(dict(event.data)))  # slots grow in place: the event in the log must stay what it was
            self._take_facts(data["attributes"], data["segments"])
            self._take_past(data["history"])
            self._take_counts(who, data)
            state["since"] = min(state["since"], data["since"])
            merged = {**known, **data["merged"], who: event.at}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SetAside(f"{MERGED} has not the form in which Camp makes it ({type(error).__name__}: {error}): "
                           f"send {IDENTIFIED} of the visitor") from error
        merged.pop(self.contact, None)
        state["from"] = merged
        self.dirty.add("new")  # moments that count from when the contact became known, or that were answered already
        self.pending = True
        self.decide(_NAMED, None, "enter", reason=f"{who} was merged in")
        return event._replace(data={"contact": who})  # what it was is facts now: no journey has to carry it along

    def _take_facts(self, attributes: Mapping[str, Any], segments: Mapping[str, int]) -> None:
        derived = {item.name for item in self.program.derived}
        for name, value in attributes.items():
            if name in derived or value is None:
                continue
            try:
                self._take_attribute(name, value)
            except SetAside as refusal:
                self.decide(_NAMED, None, "skip", reason=f"left out: {refusal.reason}")
        for name, since in segments.items():
            if name not in derived:
                self.set_member(name, True)
                self.s[name] = min(self.s[name], since)

    def _take_attribute(self, name: str, value: Any) -> None:
        """The contact's own value wins; points are added, tags united, and a `no` to a channel is never lifted."""
        mine = self.a.get(name)
        if name == "tags":
            self.set_attribute(name, sorted({*(mine or ()), *value}))
        elif name == "points" or name.startswith("points."):
            self.change(Change("add", name, value - self.program.defaults.get(name, 0)), None)
        elif mine is None or name.startswith("consent.") and value is False:
            self.set_attribute(name, value)

    def _take_past(self, slots: Mapping[str, Any]) -> None:
        program, watched = self.program, self.program.watched
        for name, query in program.queries.items():
            theirs = slots.get(name)
            if theirs is None or query.owner is not None:
                continue
            self.history[name] = history.merge(query, self.history.get(name), theirs, self.now)
            if f"q:{name}" in watched:
                self.dirty.add(f"q:{name}")

    def _take_counts(self, who: str, data: Mapping[str, Any]) -> None:
        """Counters of caps and AT MOST, entries for REENTRY, goals whose window is open, moments that were answered."""
        state = self.state
        for name, times in data["counters"].items():
            state["c"][name] = sorted([*state["c"].get(name, ()), *times])
        for name, (times, last) in data["entries"].items():
            mine = state["m"].get(name) or [0, last]
            state["m"][name] = [mine[0] + times, max(mine[1], last)]
        for name, window in data["goals"].items():
            if window[0] in self.program.by_name:
                state["g"][f"{name}\n{who}"] = window
        for name, at in data["answered"].items():
            state["d"][name] = max(at, state["d"].get(name, at))


def bring_up(program: Program, event: Event, refill: Callable[..., None]) -> Event:
    """A `contact.merged` that another program made, with the answers to this program's questions. refill(contact, state, beyond): brings
    the history of a state up to date from the contact's log; what has been sent on to contacts `beyond` is no part of it."""
    data = event.data
    who, known, past = data.get("contact"), data.get("merged"), data.get("history")
    if data.get("program") in (None, program.digest) or not (isinstance(who, str) and isinstance(known, dict) and isinstance(past, dict)):
        return event
    state: dict[str, Any] = {part: {} for part in _PARTS}
    state |= {"id": who, "p": data["program"], "k": event.at, "n": 0, "h": orjson.loads(orjson.dumps(past)), "from": known}
    refill(who, state, [event.contact, *data.get("via", ())])
    return event._replace(data={**data, "program": program.digest, "history": state["h"]})
