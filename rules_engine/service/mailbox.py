"""The monitored mailbox: bounces, complaints and answers into the log, and what they prove into the outbox.

A mail is read, what it says is committed, and only then it is marked; a crash in between reads it again, and its own id makes that
harmless. A mail that can't be read is put aside with its reason and stops nothing. The network is slow and may hang, so `Watch` has a
thread of its own for it; the store is only touched by the thread that calls `beat`.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rules_engine.clock import Clock
from rules_engine.facts import Event
from rules_engine.service import inbound
from rules_engine.service.mailfolders import Item, Mark, Trouble, open_box
from rules_engine.store.port import Arrival, BadData, EffectRow, Store

__all__ = ["Polled", "Trouble", "Watch", "judge", "open_box", "poll"]

log = logging.getLogger("camp.mailbox")

SOURCE_MAILBOX = "mailbox"
LIMIT = 50  # mails at a time; each may take half a megabyte
EVERY = 60.0  # seconds between looks

KeyFields = Callable[[EffectRow], Mapping[str, Any]]


class Polled(NamedTuple):
    """What became of the mails that were looked at: kind -> count (bounce, complaint, reply, auto_reply, delivered, delayed, other, known:
    read before, aside), and the reasons of those put aside."""

    counts: Counter[str]
    aside: tuple[str, ...] = ()


def poll(
    settings: Mapping[str, Any], store: Store, clock: Clock, *, key_fields: KeyFields | None = None, dry_run: bool = False, limit: int = LIMIT
) -> Polled:
    """Looks at the mailbox of the settings once. dry_run: tells, records and marks nothing. Raises Trouble if it can't be used, StoreError."""
    with open_box(settings) as box:
        items = box.fetch(limit)
        judged = [judge(store, clock, item, key_fields, dry_run) for item in items]
        if not dry_run:
            box.finish([mark for mark, _ in judged])
    return _sum(judged)


def _sum(judged: Sequence[tuple[Mark, str]]) -> Polled:
    return Polled(Counter(mark.kind for mark, _ in judged), tuple(reason for mark, reason in judged if mark.kind == "aside"))


# ---------------------------------------------------------------- one mail


def judge(store: Store, clock: Clock, item: Item, key_fields: KeyFields | None = None, dry_run: bool = False) -> tuple[Mark, str]:
    """Records what one mail says; how it is to be marked, and why if it is put aside. Raises StoreError: then it is read again."""
    try:
        finding = inbound.read(item.data)
    except inbound.Unreadable as error:
        return _aside(store, clock, item, str(error), dry_run)
    effect = next(filter(None, map(store.find_effect, finding.names)), None)
    if effect is None or finding.kind in ("other", "delayed"):
        return Mark(item, "other" if effect is None else finding.kind), ""
    try:
        fresh = dry_run or _record(store, clock, finding, effect, key_fields)
    except BadData as error:
        return _aside(store, clock, item, f"it can't be stored: {error}", dry_run)
    return Mark(item, finding.kind if fresh else "known"), ""


def _aside(store: Store, clock: Clock, item: Item, reason: str, dry_run: bool) -> tuple[Mark, str]:
    said = f"mail {item.name}: {inbound.line(reason)}"[:500]
    log.warning("put aside: %s", said)
    if not dry_run:
        store.audit("mailbox", "mail put aside", said, clock.now())
    return Mark(item, "aside"), said


def _record(store: Store, clock: Clock, finding: inbound.Finding, effect: EffectRow, key_fields: KeyFields | None) -> bool:
    """The event first, then the effect's state: both may be repeated. False: this mail was read before."""
    now, fresh = clock.now(), True
    event = _event(finding, effect, now, key_fields)
    if event is not None:
        recorded = store.record_events([Arrival(event, SOURCE_MAILBOX)])
        fresh = recorded.accepted > 0
    state = _STATES.get(finding.kind)
    if state is not None:
        moved = store.report(effect.id, state, f"{state}: {finding.reason}" if finding.reason else state, now)
        fresh = fresh if event is not None else moved
    return fresh


_STATES = {"bounce": "bounced", "complaint": "complained", "delivered": "delivered", "reply": "delivered"}
"""What a mail proves about the hand-over: who answers has got it."""


def _event(finding: inbound.Finding, effect: EffectRow, now: int, key_fields: KeyFields | None) -> Event | None:
    """What the log is told. Nothing of an internal message; and a bounce of another address than the contact's own says nothing about
    that one (kind `other` suppresses nothing)."""
    if effect.channel != "email":
        return None
    elsewhere = bool(effect.params.get("to"))
    said: dict[str, tuple[str, dict[str, Any]]] = {
        "bounce": ("email.bounced", {"kind": "other" if elsewhere else "hard" if finding.hard else "soft", "reason": finding.reason}),
        "complaint": ("email.complained", {}),
        "reply": ("email.replied", {"text": finding.text}),
        "delivered": ("email.delivered", {}),
    }
    if finding.kind not in said or (finding.kind == "complaint" and elsewhere):
        return None
    name, data = said[finding.kind]
    fields = dict(key_fields(effect)) if key_fields is not None else {}
    subject = effect.primary if isinstance(effect.primary, str) else None
    return Event(f"{finding.id}:{effect.handle}", name, effect.contact, now, subject, {**fields, **data, "campaign": effect.ruleset})


# ---------------------------------------------------------------- for the service


class Watch:
    """Looks every so often without ever keeping its caller waiting. Call `beat` from the service's heartbeat, `stop` at the end."""

    def __init__(self, settings: Mapping[str, Any], store: Store, clock: Clock, key_fields: KeyFields | None = None) -> None:
        self._settings, self._store, self._clock, self._key_fields = settings, store, clock, key_fields
        self._every = int(float(settings.get("every") or EVERY) * 1000)
        self._next = clock.now()
        self._found: queue.SimpleQueue[list[Item] | Trouble | None] = queue.SimpleQueue()
        self._marks: queue.SimpleQueue[list[Mark] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.counts: Counter[str] = Counter()
        self.trouble = ""  # why the last look failed

    def beat(self) -> Polled | None:
        """Begins a look if it is time for one, and records what an earlier one brought; what that was. Raises StoreError."""
        if self._thread is None and self._clock.now() >= self._next:
            self._next = self._clock.now() + self._every
            self._thread = threading.Thread(target=self._look, name="camp-mailbox", daemon=True)
            self._thread.start()
        try:
            found = self._found.get_nowait()
        except queue.Empty:
            return None
        if not isinstance(found, list):
            self._thread = None
            self._note(found)
            return None
        return self._take(found)

    def _take(self, found: list[Item]) -> Polled:
        judged: list[tuple[Mark, str]] = []
        try:
            for item in found:
                judged.append(judge(self._store, self._clock, item, self._key_fields))
        finally:
            self._marks.put([mark for mark, _ in judged])  # what was committed is marked, whatever happened after it
        polled = _sum(judged)
        self.counts.update(polled.counts)
        if len(found) >= LIMIT:
            self._next = self._clock.now()
        return polled

    def _note(self, ended: Trouble | None) -> None:
        trouble = str(ended) if ended is not None else ""
        if trouble and trouble != self.trouble:  # the same trouble each minute is told once
            log.error("the mailbox can't be read: %s", trouble)
        self.trouble = trouble

    def stop(self) -> None:
        """Lets go of a look that waits for its marks."""
        self._marks.put(None)

    def _look(self) -> None:
        """In the thread: fetch, wait for the verdicts, mark."""
        try:
            with open_box(self._settings) as box:
                items = box.fetch(LIMIT)
                if items:
                    self._found.put(items)
                    marks = self._marks.get()
                    if marks:
                        box.finish(marks)
            self._found.put(None)
        except Trouble as trouble:
            self._found.put(trouble)
        except Exception as error:
            log.exception("the look into the mailbox failed")
            self._found.put(Trouble(f"{type(error).__name__}: {inbound.line(str(error))}"[:300]))
