"""The monitored mailbox: bounces, complaints and answers into the log, and what they prove into the outbox.

A mail is read, what it says is committed, and only then it is marked; a crash in between reads it again, and its own id makes that
harmless. A mail that can't be read is put aside with its reason and stops nothing.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from rules_engine import links
from rules_engine.clock import Clock
from rules_engine.facts import Event
from rules_engine.service import inbound
from rules_engine.service.mailfolders import Item, Mark, Trouble, open_box
from rules_engine.store import codec
from rules_engine.store.port import Arrival, BadData, EffectRow, Store, StoreError

__all__ = ["Polled", "Trouble", "Watch", "judge", "open_box", "poll", "seconds_between", "watching"]

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
    settings: Mapping[str, Any], store: Store, clock: Clock, *, key_fields: KeyFields | None = None, dry_run: bool = False, limit: int | None = None
) -> Polled:
    """Looks at the mailbox of the settings once. dry_run: tells, records and marks nothing. Raises Trouble if it can't be used, StoreError."""
    with open_box(settings) as box:
        items = box.fetch(LIMIT if limit is None else limit)
        judged = [judge(store, clock, item, key_fields, dry_run, settings.get("keys") or ()) for item in items]
        if not dry_run:
            box.finish([mark for mark, _ in judged])
    return _sum(judged)


def _sum(judged: Sequence[tuple[Mark, str]]) -> Polled:
    return Polled(Counter(mark.kind for mark, _ in judged), tuple(reason for mark, reason in judged if mark.kind == "aside"))


# ---------------------------------------------------------------- one mail


def judge(
    store: Store, clock: Clock, item: Item, key_fields: KeyFields | None = None, dry_run: bool = False, keys: Sequence[str] = ()
) -> tuple[Mark, str]:
    """Records what one mail says; how it is to be marked, and why if it is put aside. keys: of signed links; with them a message is only
    believed to be meant where its name is proven. Raises StoreError: then it is read again."""
    try:
        finding = inbound.read(item.data)
    except inbound.Unreadable as error:
        return _aside(store, clock, item, str(error), dry_run)
    effect = next((found for name in finding.names if (found := _meant(store, name, keys)) is not None), None)
    if effect is None or finding.kind in ("other", "delayed"):
        return Mark(item, "other" if effect is None else finding.kind), ""
    try:
        fresh = dry_run or _record(store, clock, finding, effect, key_fields)
    except BadData as error:
        return _aside(store, clock, item, f"it can't be stored: {error}", dry_run)
    return Mark(item, finding.kind if fresh else "known"), ""


def _meant(store: Store, name: str, keys: Sequence[str]) -> EffectRow | None:
    """The effect of a name in a mail. A handle follows from ids that can be guessed, so whoever forges a bounce could stop a stranger's mail:
    of what the plugin `email` sends, which proves its names where there are keys, only a proven one counts. A provider's own id is its
    secret and the recipient's."""
    handle, _, proof = name.partition(".")
    known = store.find_effect(name)
    effect = known or (store.find_effect(handle) if proof else None)
    if effect is None or not keys or effect.handle != handle or not effect.action.startswith("email."):
        return effect
    if links.is_proven(keys, name):
        return effect
    log.warning("a mail names %s without the proof that it is ours; it is not believed", handle)
    return None


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
    subject = codec.plain(effect.primary) if isinstance(effect.primary, str) else None
    return Event(f"{finding.id}:{effect.handle}", name, effect.contact, now, subject, {**fields, **data, "campaign": effect.ruleset})


# ---------------------------------------------------------------- for the service


def seconds_between(settings: Mapping[str, Any]) -> float:
    """The setting `every`: seconds between two looks. Raises Trouble for what is no number above 0."""
    value = settings.get("every", EVERY)
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise Trouble(f"every = {value!r} must be a number of seconds above 0")
    return max(0.01, seconds)


class Watch:
    """Looks every so often, in a thread and with a store of its own: a mail server may hang for as long as it likes. `trouble`: why the last
    look failed, or ""; `counts`: what all looks found."""

    def __init__(self, settings: Mapping[str, Any], open_store: Callable[[], Store], clock: Clock, key_fields: KeyFields | None = None) -> None:
        self._settings, self._open_store, self._clock, self._key_fields = settings, open_store, clock, key_fields
        self._every = seconds_between(settings)
        self.counts: Counter[str] = Counter()
        self.trouble = ""

    def run(self, stop: threading.Event) -> None:
        """Until it is told to stop; a full look is followed by another at once."""
        while not stop.is_set():
            if not self.look():
                stop.wait(self._every)

    def look(self) -> bool:
        """Once, whatever happens; whether there may be more."""
        try:
            store = self._open_store()
            try:
                polled = poll(self._settings, store, self._clock, key_fields=self._key_fields)
            finally:
                store.close()
        except (Trouble, StoreError) as error:
            self._note(str(error))
            return False
        except Exception:
            log.exception("the look into the mailbox failed")
            self.trouble = "the look failed; the log has the reason"
            return False
        self.trouble = ""
        self.counts.update(polled.counts)
        return sum(polled.counts.values()) >= LIMIT

    def _note(self, trouble: str) -> None:
        if trouble != self.trouble:  # the same trouble each minute is told once
            log.error("the mailbox can't be read: %s", trouble)
        self.trouble = trouble


@contextmanager
def watching(
    settings: Mapping[str, Any], open_store: Callable[[], Store], clock: Clock, key_fields: KeyFields | None = None
) -> Iterator[Watch]:
    """A Watch that runs meanwhile. What it is doing at the end may be cut off anywhere: the next look does it again."""
    watch, stop = Watch(settings, open_store, clock, key_fields), threading.Event()
    thread = threading.Thread(target=watch.run, args=(stop,), name="camp-mailbox", daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        stop.set()
        thread.join(2)
