"""Why nothing has begun: what a campaign or rule waits for and the contact lacks, and events that set nothing off."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rules_engine.cli import output


def tell_start(story: Any, ruleset: Any) -> None:
    """What would start a ruleset, and what of it is not so."""
    triggers = " or ".join(trigger.text for trigger in ruleset.triggers)
    output.data(f"{ruleset.name} has not started for {output.clean(story.contact)}: it starts when {output.clean(triggers)}")
    for trigger in ruleset.triggers:
        if trigger.kind == "event":
            _tell_event(story, ruleset, trigger)
        elif trigger.kind == "segment" and story.is_of_now:
            _tell_segment(story, ruleset, trigger)
    if ruleset.audience is not None:
        output.data(f"    and only for contacts with {output.clean(ruleset.audience.text)}")
        if story.is_of_now:
            _tell_terms(story, ruleset, ruleset.audience)
    if story.row is not None and story.until is None and not story.is_of_now:
        output.data("    the campaigns were changed since they ran: `camp run` works out what is so for this contact now")


def _tell_segment(story: Any, ruleset: Any, trigger: Any) -> None:
    name = trigger.fact.removeprefix("s:")
    derived = next((item for item in story.program.derived if item.fact == trigger.fact), None)
    inside = name in story.state["s"]
    how = "now:" if derived is not None else "(whom actions and imports put there)"
    output.data(f"    {output.clean(story.contact)} is {'in' if inside else 'not in'} {name} {how}")
    if derived is not None:
        _tell_terms(story, ruleset, derived.condition)


def _tell_terms(story: Any, ruleset: Any, condition: Any) -> None:
    """A condition, term by term, with the values of this contact."""
    from rules_engine.engine.looking import Look

    for term in Look(story.program, story.state, ruleset).terms(condition):
        values = ", ".join(_values(story, [read for read in term.reads if read[0] != term.text]))
        output.data(output.clean(f"      {'yes' if term.holds else 'no ':3}  {term.text}" + (f" ({values})" if values else "")))


def _tell_event(story: Any, ruleset: Any, trigger: Any) -> None:
    """The latest event that could have started it, and why it did not."""
    from rules_engine.runtime.calendar import format_local

    events = [event for event, _ in story.events() if event.name == trigger.event]
    if not events:
        output.data(f"    no {trigger.event} of {output.clean(story.contact)} is known")
        return
    event = events[-1]
    before = f" (and {output.count(len(events) - 1, 'time')} before)" if len(events) > 1 else ""
    reason = output.clean(_why_not(story, ruleset, trigger, event))
    output.data(f"    {event.name} came at {format_local(event.at, story.zone)}{before}, but {reason}")
    for sentence in _unread(story, event):
        output.data(f"      {output.clean(sentence)}")


def _why_not(story: Any, ruleset: Any, trigger: Any, event: Any) -> str:
    from rules_engine.engine.looking import Look

    if story.row is None:
        return "it is not known why it set nothing off"
    look = Look(story.program, story.state, ruleset, event)
    if not look.subject_fits(trigger):
        return f"its subject is {event.subject!r}" if event.subject else "it has no subject"
    for term in look.terms(trigger.where) if trigger.where is not None else ():
        if not term.holds:
            return f"WHERE {term.text} was not true: {', '.join(_values(story, term.reads))}"
    return f"{ruleset.name} was not there yet, or what it asks for was not so then"


def _values(story: Any, reads: Iterable[tuple[str, Any]]) -> Iterator[str]:
    """What names stand for, as people write it."""
    from rules_engine.runtime.calendar import format_local

    for name, value in reads:
        if value is None:
            yield f"{name} is not set"
        elif isinstance(value, int) and story.program.model.attribute_type(name.removeprefix("contact.")) == "datetime":
            yield f"{name} is {format_local(value, story.zone)}"
        else:
            yield f"{name} is {output.cell(value)}"


def tell_idle(story: Any) -> None:
    """Events that set nothing off, the latest of each name."""
    from rules_engine.runtime.calendar import format_local

    acted = {decision.cause for decision in story.everything}
    latest: dict[str, list[Any]] = {}
    for event, told in story.events():
        if told and event.id not in acted:
            latest.setdefault(event.name, []).append(event)
    for name, events in latest.items():
        event = events[-1]
        at = format_local(event.at, story.zone)
        came = f"came at {at}" if len(events) == 1 else f"came {len(events):,} times, the latest at {at},"
        output.data(f"{name} {came} and set nothing off (event {output.clean(event.id)})")
        for sentence in _unread(story, event):
            output.data(f"    {output.clean(sentence)}")


def _unread(story: Any, event: Any) -> list[str]:
    """Fields of an event that are nearly declared ones."""
    from rules_engine.engine.unread import Unread

    if story.program is None or event.name not in story.program.model.events:
        return []
    record: Mapping[str, Any] = {"event": event.name, "data": event.data}
    return Unread(story.program.model)(record)
