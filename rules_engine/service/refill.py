"""When a new program first meets a contact, the questions it asks about the past and its predecessor did not are answered from the log,
and those in the middle of a campaign are put on the steps where they stand now."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from rules_engine.facts import Event
from rules_engine.service.logs import about
from rules_engine.store.port import Store

log = logging.getLogger("camp.refill")

_PAST = 1_000_000  # events of one contact that are looked through


class Refill:
    """Brings up to date what an older program made. Knows an older program by compiling its sources again, once."""

    def __init__(self, store: Store, program: Any) -> None:
        self._store, self._program = store, program
        self._known: dict[str, tuple[frozenset[str], Any] | None] = {}

    def __call__(self, contact: str, state: dict[str, Any], beyond: Sequence[str] = ()) -> None:
        """Brings a state's history up to what this program asks, and its instances to where they stand, in place. beyond: the contacts
        that this one is being merged into: what was sent on to them is left out."""
        older = state.get("p")
        if not older or older == self._program.digest:  # new, or merged away
            return
        from rules_engine.engine.refill import new_questions, refill

        if older not in self._known:
            self._known[older] = self._compared(older)
        known = self._known[older]
        questions = new_questions(self._program, state["h"] if known is None else known[0])
        past: list[Event] = []
        if questions:
            past = self._past([contact, *state.get("from", ())], beyond)
        refill(self._program, state, questions, past)
        if known is not None:
            from rules_engine.engine.moves import move

            move(state, known[1])

    def _past(self, contacts: Sequence[str], beyond: Sequence[str]) -> list[Event]:
        """What happened to a contact and to all that were merged into it. What came for one of these later was sent on, and is in the log
        of the other."""
        from rules_engine.engine.merge import forwarded_id

        everyone = [*contacts, *beyond]
        logs = {contact: self._store.events_of(contact, _PAST) for contact in everyone}
        past = [row.cause for contact in contacts for row in logs[contact] if row.status == "done" and isinstance(row.cause, Event)]
        if len(everyone) > 1:
            known = {getattr(row.cause, "id", "") for rows in logs.values() for row in rows}
            past = [event for event in past if not any(forwarded_id(event, other) in known for other in everyone)]
        past.sort(key=lambda event: event.at)
        return past

    def _compared(self, digest: str) -> tuple[frozenset[str], Any] | None:
        """What an older program asked, and where its steps are now (`Moves`); None where its sources are not kept or do not compile with
        today's plugins."""
        version = next((item for item in self._store.programs() if item.digest == digest), None)
        if version is None or not version.sources:
            return None
        from rules_engine.model import meaning
        from rules_engine.plan import compile_model
        from rules_engine.syntax.read import read

        model = self._program.model
        events = {name: info.source for name, info in model.events.items() if info.source is not None}
        files = [read(text, path)[0] for path, text in version.sources.items()]
        try:
            older = compile_model(meaning.build(files, model.actions, events), model.actions, digest)
        except (KeyError, ValueError, TypeError, AttributeError):
            return None
        from rules_engine.engine.moves import moves

        found = moves(older, self._program)
        for campaign, step in found.lost:
            log.warning(
                "%s no longer has the step %r, and nothing has taken its place: whoever stands there leaves",
                campaign,
                step,
                extra=about(what="campaign.step_lost", campaign=campaign),
            )
        return frozenset(older.queries), found
