"""The part of the past that some rule can still ask about, kept in the contact's state, one slot for each question (`Query`).

Slots are JSON: `did` the latest n times (a bare number for n = 1), `count` a number or a list of times, `sum` [count, sum] or
[[time, value], …], and so on: with a WITHIN only what is younger than the window stays, without one a running figure suffices.
`raw` keeps the occurrences themselves, for questions that only make sense inside one instance (SINCE START, its key, its facts).
An occurrence at t counts WITHIN d as long as now < t + d (calendar.within): the moment when it stops counting is exact.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping
from typing import Any

from rules_engine.runtime.calendar import Duration, add, within

_SLACK = 3 * 86_400_000  # time zones and clock changes move a calendar window's edge by less


class Query:
    """One question about the past. `kind`: did | count | sum | avg | min | max | count_distinct | last | first | raw.

    id: names the slot in the state; event; subject: test of the event's subject or None; filter: test of the tick (reads the event
    only) or None; value: expression of the tick or None; times: n of AT LEAST; window: Duration or None; owner: the ruleset whose
    instances must be active for a SINCE START question; fields: what a raw entry keeps of the event's data.
    """

    __slots__ = ("id", "event", "subject", "filter", "value", "kind", "times", "window", "owner", "fields", "reach")

    def __init__(self, id: str, event: str, kind: str) -> None:
        self.id, self.event, self.kind = id, event, kind
        self.subject: Callable[[Any], bool] | None = None
        self.filter: Callable[[Any], bool] | None = None
        self.value: Callable[[Any], Any] | None = None
        self.times = 1
        self.window: Duration | None = None
        self.owner: str | None = None
        self.fields: tuple[str, ...] = ()
        self.reach = 0  # ms that an entry can matter, 0: for ever

    def record(self, tick: Any) -> bool:
        """Notes the tick's event if it is asked about; whether it was."""
        if self.subject is not None and not self.subject(tick.event_subject):
            return False
        if self.owner is not None and not tick.has_active(self.owner):
            return False
        if self.filter is not None and not self.filter(tick):
            return False
        value = None
        if self.value is not None:
            value = self.value(tick)
            if value is None:
                return False
        _STORE[self.kind](self, tick, value)
        return True


def inside(data: Mapping[str, Any], name: str) -> Any:
    """`fields.company` of an event: its field of that very name, else what a map that it carries has there; an empty answer is missing."""
    if name in data:
        return data[name]
    value: Any = data
    for part in name.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return None if value == "" else value


def _keep(entries: list[Any], query: Query, now: int) -> list[Any]:
    """Drops what no longer matters; entries are sorted by time."""
    if query.reach:
        limit = now - query.reach
        drop = 0
        for entry in entries:
            if (entry if isinstance(entry, int) else entry[0]) >= limit:
                break
            drop += 1
        if drop:
            del entries[:drop]
    return entries


def _store_did(query: Query, tick: Any, value: Any) -> None:
    at = tick.event_at
    if query.times == 1:
        known = tick.history.get(query.id)
        if known is None or at > known:
            tick.history[query.id] = at
        return
    times = tick.history.setdefault(query.id, [])
    insort(times, at)
    if len(times) > query.times:
        del times[0]


def _store_count(query: Query, tick: Any, value: Any) -> None:
    if query.window is None:
        tick.history[query.id] = tick.history.get(query.id, 0) + 1
    else:
        entries = tick.history.setdefault(query.id, [])
        insort(entries, tick.event_at)
        _keep(entries, query, tick.now)


def _store_sum(query: Query, tick: Any, value: Any) -> None:
    if query.window is None:
        known = tick.history.get(query.id)
        tick.history[query.id] = [known[0] + 1, known[1] + value] if known else [1, value]
    else:
        _store_entry(query, tick, value)


def _store_entry(query: Query, tick: Any, value: Any) -> None:
    entries = tick.history.setdefault(query.id, [])
    insort(entries, [tick.event_at, value], key=_time)
    _keep(entries, query, tick.now)


def _store_extreme(query: Query, tick: Any, value: Any) -> None:
    if query.window is not None:
        _store_entry(query, tick, value)
        return
    known = tick.history.get(query.id)
    if known is None or (value < known if query.kind == "min" else value > known):
        tick.history[query.id] = value


def _store_distinct(query: Query, tick: Any, value: Any) -> None:
    times = tick.history.setdefault(query.id, {})
    name = str(value)
    times[name] = max(times.get(name, 0), tick.event_at)
    if query.reach:
        limit = tick.now - query.reach
        for old in [key for key, at in times.items() if at < limit]:
            del times[old]


def _store_last(query: Query, tick: Any, value: Any) -> None:
    known = tick.history.get(query.id)
    if known is None or tick.event_at >= known[0]:
        tick.history[query.id] = [tick.event_at, value]


def _store_first(query: Query, tick: Any, value: Any) -> None:
    if query.window is not None:
        _store_entry(query, tick, value)
    else:
        known = tick.history.get(query.id)
        if known is None or tick.event_at < known[0]:
            tick.history[query.id] = [tick.event_at, value]


def _store_raw(query: Query, tick: Any, value: Any) -> None:
    data = {field: value for field in query.fields if (value := inside(tick.e, field)) is not None}
    entries = tick.history.setdefault(query.id, [])
    insort(entries, [tick.event_at, tick.sequence, tick.event_subject, data], key=_time)
    _keep(entries, query, tick.now)


def _time(entry: list[Any]) -> int:
    return entry[0]


_STORE: dict[str, Callable[[Query, Any, Any], None]] = {
    "did": _store_did, "count": _store_count, "sum": _store_sum, "avg": _store_sum, "min": _store_extreme, "max": _store_extreme,
    "count_distinct": _store_distinct, "last": _store_last, "first": _store_first, "raw": _store_raw,
}


# ── two contacts become one ──────────────────────────────────────────────────────────────────────────────────────────────────────

def merge(query: Query, mine: Any, theirs: Any, now: int) -> Any:
    """The slot of one contact who did what two did. Neither slot is kept; of two things at one moment, `mine` counts as the later for
    LAST and as the earlier for FIRST."""
    if mine is None or theirs is None:
        return theirs if mine is None else mine
    kind = query.kind
    if kind == "did":
        if query.times == 1:
            return max(mine, theirs)
        return sorted([*mine, *theirs])[-query.times:]
    if kind == "count_distinct":
        return {name: max(mine.get(name, 0), theirs.get(name, 0)) for name in {**mine, **theirs}}
    if kind == "last":
        return theirs if theirs[0] > mine[0] else mine
    if kind == "raw" or query.window is not None:
        return _keep(sorted([*mine, *theirs], key=_when), query, now)
    if kind == "first":
        return theirs if theirs[0] < mine[0] else mine
    if kind == "count":
        return mine + theirs
    if kind in ("sum", "avg"):
        return [mine[0] + theirs[0], mine[1] + theirs[1]]
    return min(mine, theirs) if kind == "min" else max(mine, theirs)


def _when(entry: Any) -> int:
    return entry if isinstance(entry, int) else entry[0]


# ── reading a slot; called from compiled conditions ──────────────────────────────────────────────────────────────────────────────

def did(slot: Any, tick: Any, query: Query) -> bool:
    """Whether there were at least `times` occurrences, all WITHIN the window where there is one."""
    if slot is None:
        return False
    if query.times == 1:
        return query.window is None or _inside(slot, tick, query.window)
    return len(slot) >= query.times and (query.window is None or _inside(slot[-query.times], tick, query.window))


def _inside(at: int, tick: Any, window: Duration) -> bool:
    """A window begins with the occurrence, even where a late event is asked about before its own time."""
    return at > tick.now or within(at, tick.now, window, tick.zone())


def _live(slot: Any, tick: Any, window: Duration) -> list[Any]:
    """The entries inside the window; slots are sorted, so the first that counts ends the search."""
    for position, entry in enumerate(slot):
        if _inside(entry if isinstance(entry, int) else entry[0], tick, window):
            return slot[position:] if position else slot
    return []


def count(slot: Any, tick: Any, query: Query) -> int:
    if not slot:
        return 0
    return slot if query.window is None else len(_live(slot, tick, query.window))


def total(slot: Any, tick: Any, query: Query) -> float:
    """SUM: 0 where nothing was."""
    if not slot:
        return 0
    value = slot[1] if query.window is None else sum(entry[1] for entry in _live(slot, tick, query.window))
    return _clean(value)


def average(slot: Any, tick: Any, query: Query) -> float | None:
    """AVG: missing where nothing was."""
    if not slot:
        return None
    if query.window is None:
        return _clean(slot[1] / slot[0])
    live = _live(slot, tick, query.window)
    return _clean(sum(entry[1] for entry in live) / len(live)) if live else None


def _clean(value: float) -> float:
    """Sums of decimal amounts as people add them: 29.33 + 29.73 is 59.06, not 59.059999999999995."""
    return round(value, 9) if isinstance(value, float) else value


def extreme(slot: Any, tick: Any, query: Query) -> Any:
    """MIN and MAX: missing where nothing was."""
    if slot is None or query.window is None:
        return slot
    live = [entry[1] for entry in _live(slot, tick, query.window)]
    if not live:
        return None
    return min(live) if query.kind == "min" else max(live)


def distinct(slot: Any, tick: Any, query: Query) -> int:
    if not slot:
        return 0
    return len(slot) if query.window is None else sum(1 for at in slot.values() if _inside(at, tick, query.window))


def last(slot: Any, tick: Any, query: Query) -> Any:
    if slot is None or query.window is not None and not _inside(slot[0], tick, query.window):
        return None
    return slot[1]


def first(slot: Any, tick: Any, query: Query) -> Any:
    if not slot:
        return None
    if query.window is None:
        return slot[1]
    live = _live(slot, tick, query.window)
    return live[0][1] if live else None


def entries(slot: Any, tick: Any, query: Query, since: bool) -> list[Any]:
    """The raw occurrences a question is about: inside its window, and after the instance's start where it says SINCE START. The
    event that started the instance came before its start (by sequence), however equal their times."""
    found = slot or []
    if query.window is not None:
        found = _live(found, tick, query.window)
    if since:
        start, sequence = tick.start, tick.start_sequence
        found = [entry for entry in found if entry[0] >= start and entry[1] > sequence]
    return found


def expiry(slot: Any, tick: Any, query: Query) -> int | None:
    """The next moment (ms) at which an occurrence leaves the window; None where nothing will."""
    if slot is None or query.window is None:
        return None
    if isinstance(slot, int):
        times = [slot]
    elif isinstance(slot, dict):
        times = list(slot.values())
    elif query.kind == "last":
        times = [slot[0]]
    else:
        times = [entry if isinstance(entry, int) else entry[0] for entry in slot]
    zone, now = tick.zone(), tick.now
    reach = query.reach
    best = None
    for at in times:
        if at <= now - reach:
            continue
        moment = add(at, query.window, zone)
        if moment > now and (best is None or moment < best):
            best = moment
        if best is not None and isinstance(slot, list):
            break  # sorted by time
    return best


def reach(window: Duration | None) -> int:
    """How long (ms) an occurrence can matter at the most; 0 for ever."""
    return 0 if window is None else window.approx_ms() * 21 // 20 + _SLACK
