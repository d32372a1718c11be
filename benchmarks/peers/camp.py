"""Camp's side of every measurement: the adapters that the engine fills in.

Until then each raises NotImplementedError and the tables say "camp: not built yet".  `benchmarks/README.md` says what each
must do.  Nothing outside this file knows anything about Camp's insides.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from benchmarks.workload import Contact, Event, Rule, camp_text
from rules_engine import facts, host
from rules_engine.engine import advance, advance_block, new_state
from rules_engine.facts import ContactChange
from rules_engine.model import meaning
from rules_engine.plan import compile_model

NAME = "Camp"
EVENTS = {10: 50_000, 100: 50_000, 1_000: 50_000}

ABSENCE_TEXT = """\
EVENT user.signed_up
EVENT user.opened

CAMPAIGN nudge "No open within 3 days of sign-up"
  WHEN user.signed_up
    WAIT UNTIL user.opened UP TO 3 days
    OTHERWISE
      THEN tag.add "nudge"
    END
END
"""


class MatchingSession(Protocol):
    """What `build` returns. `prepare` may be left out."""

    def prepare(self, events: list[Event]) -> list:
        """Not timed: the input records that a caller of the engine holds anyhow, made of our events, one for one."""

    def run(self, events: list) -> Iterable[tuple[str, str]]:
        """Timed: run all events. The result is read after the clock has stopped: (rule name, contact id) for each firing."""


class AbsenceSession(Protocol):
    """What `absence` returns. `prepare` may be left out."""

    def prepare(self, events: list[tuple[int, str, str]]) -> list:
        """Not timed, and not counted as memory: input records of (milliseconds, "sign_up" or "open", contact id)."""

    def run(self, events: list) -> None:
        """Timed: run these events, in order. Called several times; all events come in the order of time."""

    def finish(self, until: int) -> Iterable[tuple[int, str]]:
        """Timed: let time pass to `until`. Then, read after the clock: (due milliseconds, contact id) of all firings."""


class DurableSession(Protocol):
    """What `durable` returns: an open store with rules deployed and contacts imported."""

    connection: sqlite3.Connection
    """The connection that the store writes through, for recording what it writes."""

    def run(self, events: list[Event], first: int) -> None:
        """Timed: import these events (the first has number `first`; its id is f"e{number}"), match, fire, journal, arm timers,
        commit effects to the outbox, in blocks of `block`, with FULL. Returns when all is committed."""

    def close(self) -> None:
        """Close the store."""


def available() -> str:
    """Nothing; `build` says whether Camp is there."""
    return ""


class _Matching:
    """All contacts' states in memory, one `advance` for each event, as the pump calls it."""

    def __init__(self, text: str, contacts: list[Contact]) -> None:
        self.program = _program(text)
        self.states = {}
        for contact in contacts:
            change = ContactChange("import", contact.id, 0, {"country": contact.country, "points": contact.points})
            self.states[contact.id] = advance(self.program, new_state(contact.id, 0), change, 0).state

    def prepare(self, events: list[Event]) -> list:
        return [facts.Event(f"e{number}", event.type, event.contact, number, None, event.data) for number, event in enumerate(events, 1)]

    def run(self, events: list) -> Iterable[tuple[str, str]]:
        return _firings(advance_block(self.program, self.states, events))


def _firings(found: list) -> Iterable[tuple[str, str]]:
    """(rule, contact) for each firing."""
    for answer in found:
        for name in answer.firings:
            yield name, answer.state["id"]


def _program(text: str):
    """The program of a text, checked."""
    file, problems = read(text, "bench.camp")
    plugins = host.load()
    project = find_project(Path("/nonexistent/bench.camp"))
    problems = [item for item in [*problems, *check([file], plugins, project)] if item.severity == "error"]
    if problems:
        raise ValueError(problems[0])
    return compile_model(meaning.build([file], plugins.actions, plugins.events), plugins.actions, "bench")


def build(rules: list[Rule], contacts: list[Contact]) -> MatchingSession:
    """Parse, check and compile `camp_text(rules)`; hold the contacts' states in memory, by key. Timed as loading."""
    return _Matching(camp_text(rules), contacts)


def absence() -> AbsenceSession:
    """Compile ABSENCE_TEXT (change its words where the language asks for others); contacts appear with their sign-up."""
    raise NotImplementedError


def durable(folder: Path, rules: list[Rule], contacts: list[Contact], block: int) -> DurableSession:
    """A store in `folder` (SQLite, WAL, synchronous FULL) with `camp_text(rules)` deployed and the contacts imported."""
    raise NotImplementedError
