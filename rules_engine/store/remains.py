"""What a restore takes over from the database that it replaces: who refused, who was erased, what is paused. A backup knows nothing of it,
and a person who said no after it was made must not get mail again.

Reads by plain SQL whatever can still be read, also from a damaged file or one of another schema, and says what could not be.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rules_engine.facts import ContactChange, Event
from rules_engine.store import codec
from rules_engine.store.codec import load, mark
from rules_engine.store.database import sqlite3
from rules_engine.store.port import SOURCE_CONTACTS, SOURCE_ENGINE, SOURCE_OUTCOMES, Arrival
from rules_engine.store.sqlite import SqliteStore

Told = Callable[[Event | ContactChange], Mapping[str, Any]]
"""A cause of the log -> the attributes that it sets."""

ALL = REFUSALS, ERASURES, PAUSES = "refusals", "erasures", "pauses"


class Remains(NamedTuple):
    """What a database knows and its older backup does not. lost: facts of its log, None where that can't be told. refusals: contact ->
    {attribute: value}. forgotten, audits: rows of an erasure. erased: contacts that are in the backup and were erased after it. pauses:
    (campaign, reason). unread: which of REFUSALS, ERASURES and PAUSES could not be read, or not to the end; trouble: why, in a sentence.
    journal: whether a send journal was begun when the backup was made."""

    lost: int | None = None
    refusals: Mapping[str, Mapping[str, Any]] = {}
    forgotten: tuple[tuple, ...] = ()
    audits: tuple[tuple, ...] = ()
    erased: tuple[str, ...] = ()
    pauses: tuple[tuple[str, str], ...] = ()
    unread: tuple[str, ...] = ()
    trouble: str = ""
    journal: bool = False

    @property
    def erasures(self) -> int:
        """How many contacts were erased since the backup, in it or not."""
        return max(len(self.audits), len(self.erased))


def compare(database: Path, backup: Path, told: Told) -> Remains:
    """What is in a database and not in its backup, which must be whole. Changes nothing; raises nothing for what can't be read."""
    known = f"{backup.absolute().as_uri()}?mode=ro&immutable=1"
    with _Reader(known) as then:
        journal = then.value(_META, ("journal",)) == "1"
        if not database.exists():
            return Remains(unread=ALL, trouble="there is no present database", journal=journal)
        with _Reader(f"{database.absolute().as_uri()}?mode=rw", known) as now:
            return _compared(now, then, told)._replace(journal=journal)


def _compared(now: _Reader, then: _Reader, told: Told) -> Remains:
    whole = now.value("PRAGMA main.quick_check(1)") == "ok"
    own = now.value(_META, ("secret",)) in (None, then.value(_META, ("secret",)))
    lost = now.value(_LOST, (SOURCE_ENGINE, SOURCE_OUTCOMES))
    before, refusals = _refusals(then, told), {}
    for contact, values in _refusals(now, told).items():
        fresh = {name: value for name, value in values.items() if name not in before.get(contact, {})}
        if fresh:
            refusals[contact] = fresh
    forgotten, audits = (tuple(now.fresh(then, ERASURES, sql)) if own else () for sql in (_FORGOTTEN, _ERASED))
    reasons = dict(now.rows(PAUSES, _PAUSED))
    pauses = tuple((name, reasons[name]) for name in reasons if name not in dict(then.rows(PAUSES, _PAUSED)))
    erased = tuple(sorted(_erased(then, forgotten, audits)))
    unread = tuple(what for what in ALL if what in now.broken) if whole and own else ALL
    trouble = "the present database is not the one of which the backup was made" if not own else "the present database is damaged"
    return Remains(lost if whole else None, refusals, forgotten, audits, erased, pauses, unread, trouble if unread else "")


_LOST = (
    "SELECT count(*) FROM main.event WHERE source NOT IN (?, ?) AND NOT EXISTS (SELECT 1 FROM backup.event AS old "
    "WHERE old.source = main.event.source AND old.event_id = main.event.event_id)"
)
_META = "SELECT value FROM main.meta WHERE key = ?"
_FORGOTTEN = "SELECT mark, channel, at FROM main.forgotten"
_ERASED = "SELECT at, who, what, detail FROM main.audit WHERE what = 'forget'"
_PAUSED = "SELECT campaign, reason FROM main.pause ORDER BY at"
_UNREAD = "SELECT event_id, kind, name, contact, at, subject, data, received FROM main.event WHERE status = 0 AND kind != 'wake' ORDER BY seq"
_PEOPLE = "SELECT id FROM contact UNION SELECT contact FROM event UNION SELECT contact FROM effect UNION SELECT contact FROM decision"


class _Reader:
    """A connection that reads what can be read. broken: what could not be."""

    def __init__(self, uri: str, backup: str = "") -> None:
        self.broken: set[str] = set()
        self._raw = sqlite3.connect(uri, uri=True, timeout=10)
        self._backup = backup

    def __enter__(self) -> _Reader:
        with contextlib.suppress(sqlite3.Error):  # then nothing that follows can be read either, and is told so
            self._raw.execute("PRAGMA query_only = ON")
            if self._backup:
                self._raw.execute("ATTACH ? AS backup", (self._backup,))
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.close()

    def rows(self, what: str, sql: str, parameters: tuple = ()) -> Iterator[tuple]:
        """Rows up to the first that can't be read."""
        try:
            yield from self._raw.execute(sql, parameters)
        except (sqlite3.Error, UnicodeError, OverflowError):
            self.broken.add(what)

    def fresh(self, then: _Reader, what: str, sql: str) -> list[tuple]:
        """Rows that the other one has not, in order."""
        known = set(then.rows(what, sql))
        return [row for row in self.rows(what, sql) if row not in known]

    def value(self, sql: str, parameters: tuple = ()) -> Any:
        """The first value, or None."""
        return next(self.rows("", sql, parameters), (None,))[0]


def _refusals(reader: _Reader, told: Told) -> dict[str, dict[str, Any]]:
    """contact -> {attribute: value} of all who refuse something, what the log holds unread included. Who was merged into another refuses
    what that one does: both are one person, and the backup may have them as two."""
    found: dict[str, dict[str, Any]] = {}
    merged: dict[str, str] = {}
    for contact, state in reader.rows(REFUSALS, "SELECT id, state FROM main.contact"):
        try:
            record = load(bytes(state))
            refused = {name: value for name, value in (record.get("a") or {}).items() if _refuses(name, value)}
            if record.get("into"):
                merged[contact] = record["into"]["contact"]
        except (ValueError, TypeError, AttributeError, KeyError):
            reader.broken.add(REFUSALS)
            continue
        if refused:
            found[contact] = refused
    for id, kind, name, contact, at, subject, data, received in reader.rows(REFUSALS, _UNREAD):
        try:
            changes = told(codec.cause(kind, id, name, contact, at, subject, data, received))
        except ValueError:
            reader.broken.add(REFUSALS)
            continue
        for attribute, value in changes.items():
            if _refuses(attribute, value):
                found.setdefault(contact, {})[attribute] = value
            else:
                found.get(contact, {}).pop(attribute, None)
    for contact in merged:
        into, seen = contact, set[str]()
        while into in merged and into not in seen:
            seen.add(into)
            into = merged[into]
        if found.get(into):
            found[contact] = {**found[into], **found.get(contact, {})}
    return found


def _refuses(name: str, value: Any) -> bool:
    return value is False if name.startswith("consent.") else bool(value) and name.startswith("suppressed.")


def _erased(then: _Reader, forgotten: tuple[tuple, ...], audits: tuple[tuple, ...]) -> set[str]:
    """Contacts of the backup that were erased after it: the audit names them by their mark, and the ids of their events are forgotten. Marks
    of another database, under another key, fit nobody."""
    secret = then.value(_META, ("secret",)) or ""
    found: set[str] = set()
    if audits:
        named = {detail for _, _, _, detail in audits}
        found |= {contact for (contact,) in then.rows(ERASURES, _PEOPLE) if mark(secret, "contact", contact) in named}
    if forgotten:
        marks = {row[0] for row in forgotten}
        events = then.rows(ERASURES, "SELECT contact, source, event_id FROM event")
        found |= {contact for contact, source, id in events if mark(secret, "event", source, id) in marks}
    return found


def carry_over(remains: Remains, store: SqliteStore, addresses: Callable[[str], Any], now: int, who: str) -> None:
    """Into a store that was made from the backup. addresses(contact): its (channel, address) pairs, which stay suppressed. who:
    whom the audit names for the pauses. Raises StoreError."""
    with store._db.tx("carry") as raw:
        raw.executemany("INSERT INTO forgotten (mark, channel, at) VALUES (?,?,?) ON CONFLICT (mark) DO NOTHING", remains.forgotten)
        raw.executemany("INSERT INTO audit (at, who, what, detail) VALUES (?,?,?,?)", remains.audits)
    for contact in remains.erased:
        store.erase(contact, addresses(contact), now)
    store.record_events(
        [
            Arrival(ContactChange(f"restore:{now}:{number}", contact, now, dict(values)), SOURCE_CONTACTS)
            for number, (contact, values) in enumerate(sorted(remains.refusals.items()))
        ]
    )
    for campaign, reason in remains.pauses:
        store.pause(campaign, reason, now, who)
    if remains.erased:
        store.scrub()
