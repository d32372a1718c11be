"""Retention: what is kept for how long, and its removal a little at a time beside the work."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from rules_engine.service.sent import SentJournal
from rules_engine.store.port import Removed, Store

DAY = 86_400_000
BATCH = 200  # rows of one transaction: a few milliseconds
_UNITS = {"day": 1, "days": 1, "week": 7, "weeks": 7, "month": 30, "months": 30, "year": 365, "years": 365}
LEAST = {"events": 1, "journal": 1, "outbox": 90}  # days; bounces and a provider's reports look for their effect for so long
NAMES = tuple(LEAST)


class Retention(NamedTuple):
    """How long what is done is kept, in days; None: for ever. events: their contents (ids stay known for ever, promise P2). journal:
    the decisions that `camp why` tells. outbox: effects that ended, with their attempts."""

    events: int | None = None
    journal: int | None = None
    outbox: int | None = None

    def before(self, now: int) -> tuple[int | None, int | None, int | None]:
        """The moments before which each may go."""
        events, journal, outbox = (None if days is None else now - days * DAY for days in self)
        return events, journal, outbox


def retention(table: Mapping[str, Any]) -> Retention:
    """[retention] of camp.toml: NAME = "400 days". Raises ValueError with a sentence."""
    unknown = sorted(set(table) - set(NAMES))
    if unknown:
        raise ValueError(f"[retention] has no setting `{unknown[0]}`; it has {', '.join(NAMES)}")
    return Retention(**{name: _days(name, table[name]) for name in NAMES if table.get(name) not in (None, "")})


def _days(name: str, value: Any) -> int:
    match = re.fullmatch(r"(\d{1,5}) *([a-z]+)", str(value).strip().lower())
    if match is None or match[2] not in _UNITS:
        raise ValueError(f'[retention] {name} = "{value}": write it like "400 days" or "2 years"')
    days = int(match[1]) * _UNITS[match[2]]
    if days < LEAST[name]:
        raise ValueError(f'[retention] {name} = "{value}": less than {LEAST[name]} days can\'t be')
    return days


def trim(store: Store, kept: Retention, now: int, batch: int = BATCH) -> Removed:
    """One small step of removing what is older than it is kept; all zeros if nothing is left to remove."""
    events, journal, outbox = kept.before(now)
    purged = store.purge(events, batch) if events is not None else 0
    removed = store.trim(journal, outbox, batch) if journal is not None or outbox is not None else Removed()
    return removed._replace(events=purged)


class Trimmer:
    """The chore of `camp run`: one step a second while there is something to remove, else one look each ten minutes."""

    def __init__(self, store: Store, kept: Retention, clock: Any, sent: SentJournal | None = None) -> None:
        self._store, self._kept, self._clock, self._sent, self._next = store, kept, clock, sent, 0

    def __call__(self) -> None:
        now = self._clock.now()
        if now < self._next or self._kept == Retention():
            return
        if not any(trim(self._store, self._kept, now)):
            self._next = now + 600_000
            if self._sent is not None and self._kept.outbox is not None:
                self._sent.compact(self._store, now - self._kept.outbox * DAY)
