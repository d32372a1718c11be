"""Camp's time arithmetic: delays, windows, anniversaries, business hours. Pure; no clock is read here.

Moments are int milliseconds since 1970-01-01 00:00 UTC, called `ms`. Zones are IANA names. "Wall" is the number that a moment
would have if the local clock's reading were UTC: `wall = ms + offset`. Minutes of the day are ints, 540 is 09:00; weekdays count
from Monday = 0. No float touches a time. The rules are those of LANGUAGE.md, section 4, "Time"; three of them shape this file:

* Days, weeks, months and years keep the wall-clock time in the contact's zone; hours and less are elapsed time.
* A local time that doesn't exist moves forward by the gap; one that occurs twice is the first.
* Months count from the anchor and clamp, so callers pass the anchor and n * months, and never iterate.

Every fault of the caller's data (an unknown zone, a date that no calendar has) is a ValueError with one lower-case sentence.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import tzdata

from rules_engine.limits import MAX_DURATION_YEARS

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
MONTH_ABOUT = 2_630_016_000     # 30.44 days: for ordering and bounds only
MINUTES_A_DAY = 1_440
EPOCH_ORDINAL = 719_163         # date(1970, 1, 1).toordinal()
FIRST_YEAR, LAST_YEAR = 1900, 9000  # what data may name; sums may go a little beyond (to the year 9999)

ALL_DAYS = frozenset(range(7))
WEEKDAY_NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def _shown(text: object) -> str:
    """A caller's text as a message may quote it: short, and without control characters, which could forge a line of a log."""
    return "".join(c if c.isprintable() else "?" for c in str(text)[:60].strip())


# --- zones -----------------------------------------------------------------------------------------------------------------

_ZONE_NAME = re.compile(r"[A-Za-z0-9_+-]{1,40}(?:/[A-Za-z0-9_+-]{1,40}){0,2}")
# Names that mean another thing on another machine, or count leap seconds, would make the same log play differently.
_NOT_ZONES = frozenset({"localtime", "posixrules", "Factory", "posix", "right"})


_Block = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


class _Table(dict[int, _Block]):
    """The UTC offsets of one zone, looked up 3 times faster than through `datetime`: block number → (utc, wall, offsets).

    A block is 2**35 ms (398 days) and is filled when first asked for. `utc` are the moments in and around the block when the
    offset changes; `offsets[i]` holds before `utc[i]`, `offsets[-1]` after the last. `wall[i]` is the clock reading from which
    the new offset counts: the later of the readings just before and just after the change. That one choice gives both rules:
    inside a gap the old offset still counts (which moves forward by the gap), inside an overlap too (which is the first).
    """

    __slots__ = ("info",)

    BITS = 35
    MARGIN = 3 * DAY     # no clock reading is further from UTC than that, so either kind of lookup finds its change
    SAMPLE = 2 * DAY     # no zone left an offset and came back within 4 days since 1900; a test goes through all zones
    MOST_BLOCKS = 500    # of one zone in memory, 545 years; more is hostile data

    def __init__(self, info: ZoneInfo) -> None:
        super().__init__()
        self.info = info

    def __missing__(self, block: int) -> _Block:
        start = (block << self.BITS) - self.MARGIN
        end = ((block + 1) << self.BITS) + self.MARGIN
        utc: list[int] = []
        offsets = [self._ask(start)]
        low = start
        while low < end:
            high = low + self.SAMPLE
            if self._ask(high) == offsets[-1]:
                low = high
            else:
                low = self._first_change(low, high, offsets[-1])
                utc.append(low)
                offsets.append(self._ask(low))
        wall = tuple(moment + max(old, new) for moment, old, new in zip(utc, offsets, offsets[1:], strict=False))
        if len(self) >= self.MOST_BLOCKS:
            self.clear()
        found = self[block] = (tuple(utc), wall, tuple(offsets))
        return found

    def _ask(self, ms: int) -> int:
        """The offset at `ms` in ms, from ZoneInfo. Beyond datetime's years the nearest that it knows."""
        seconds = min(max(ms // SECOND, -62_000_000_000), 253_000_000_000)
        offset = datetime.fromtimestamp(seconds, self.info).utcoffset()
        return offset // timedelta(milliseconds=1) if offset is not None else 0

    def _first_change(self, low: int, high: int, offset: int) -> int:
        """The first moment after `low` at which the offset is no longer `offset`. Zones change at whole seconds only."""
        low, high = low // SECOND, high // SECOND
        while high - low > 1:
            middle = (low + high) // 2
            if self._ask(middle * SECOND) == offset:
                low = middle
            else:
                high = middle
        return high * SECOND


_ZONES = Path(tzdata.__file__).parent / "zoneinfo"
_TABLES: dict[str, _Table] = {}  # a cache of pure values; holds real zones only, so hostile names can't fill it


def _table(name: str) -> _Table:
    """The table of a zone. ValueError, with a suggestion, if there is no such zone."""
    try:
        return _TABLES[name]
    except (KeyError, TypeError):
        pass
    info = _load(name) if _may_be_zone(name) else None
    if info is None:
        raise ValueError(_unknown_zone(name if isinstance(name, str) else ""))
    return _TABLES.setdefault(name, _Table(info))


def _may_be_zone(name: object) -> bool:
    """Whether it is formed like a zone's name: judged before a file is opened or a cache filled; contacts' data comes here."""
    return isinstance(name, str) and _ZONE_NAME.fullmatch(name) is not None and name.split("/")[0] not in _NOT_ZONES


@lru_cache(maxsize=2_048)
def _load(name: str) -> ZoneInfo | None:
    """The zone, or None, for a name that `_may_be_zone`.

    Always from the package `tzdata`, never from the machine's own files: those differ between machines (Debian's 2025b and PyPI's 2026f
    disagree about 15 zones in 2026), and the same input must give the same output everywhere.
    """
    try:
        with _ZONES.joinpath(name).open("rb") as file:
            return ZoneInfo.from_file(file, key=name)
    except (ValueError, OSError, KeyError):  # not a zone file; a folder (`Europe`); no such file
        return None


@lru_cache(maxsize=1)
def _zone_names() -> tuple[str, ...]:
    names = (Path(tzdata.__file__).parent / "zones").read_text(encoding="ascii").split()
    return tuple(sorted(name for name in names if name.split("/")[0] not in _NOT_ZONES))


def _unknown_zone(name: str) -> str:
    """The sentence for a name that is no zone. Looks at the letters, then at the city alone, then at what is near."""
    shown = _shown(name)
    if not shown:
        return "a time zone is missing; write one like Europe/Prague"
    wanted = shown.replace(" ", "_").lower()
    return f"there is no time zone \"{shown}\"; {_zone_hint(wanted)}"


def _near(word: str, known: tuple[str, ...], cutoff: float) -> list[str]:
    """The one that a misspelt word is most like. difflib is only loaded for a mistake: it costs a cold start 3 ms."""
    import difflib

    return difflib.get_close_matches(word, known, n=1, cutoff=cutoff)


@lru_cache(maxsize=256)
def _zone_hint(wanted: str) -> str:
    whole = {zone.lower(): zone for zone in _zone_names()}
    city = {zone.rsplit("/", 1)[-1].lower(): zone for zone in _zone_names() if "/" in zone}
    near = whole.get(wanted) or city.get(wanted)
    if near is None:
        matches = _near(wanted, tuple(whole), 0.75)
        near = whole[matches[0]] if matches else None
    return f"did you mean {near}?" if near else "write an IANA name like Europe/Prague"


def zone(name: str) -> ZoneInfo:
    """The zone of that IANA name, cached. ValueError with a suggestion if there is none."""
    return _table(name).info


def is_zone(name: object) -> bool:
    """Whether `name` is the name of a time zone. Safe on anything."""
    return isinstance(name, str) and (name in _TABLES or (_may_be_zone(name) and _load(name) is not None))


# --- between moments and local clocks --------------------------------------------------------------------------------------


def _offset(table: _Table, ms: int) -> int:
    """What the zone's clocks are ahead of UTC at `ms`, in ms."""
    utc, _, offsets = table[ms >> 35]
    return offsets[bisect_right(utc, ms)]


def _moment(table: _Table, wall: int) -> int:
    """The moment of a clock reading. Gap: forward by the gap; overlap: the first (see `_Table`)."""
    _, walls, offsets = table[wall >> 35]
    return wall - offsets[bisect_right(walls, wall)]


def _segment(table: _Table, ms: int) -> tuple[int, int]:
    """The offset at `ms`, and a later moment up to which it certainly holds (excluded)."""
    utc, _, offsets = table[ms >> 35]
    index = bisect_right(utc, ms)
    end = ((ms >> 35) + 1) << 35
    return offsets[index], min(end, utc[index]) if index < len(utc) else end


def _date(day: int) -> date:
    """The date of a day number (days since 1970-01-01). ValueError outside the years 1 to 9999."""
    try:
        return date.fromordinal(day + EPOCH_ORDINAL)
    except (ValueError, OverflowError):
        raise ValueError("the date is outside the years 1 to 9999") from None


def _days_in_month(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def _day_number(year: int, month: int, day: int) -> int:
    """The number of a day, clamped to the month's end (LANGUAGE.md: month arithmetic clamps)."""
    if not 1 <= year <= 9999:
        raise ValueError("the date is outside the years 1 to 9999")
    return date(year, month, min(day, _days_in_month(year, month))).toordinal() - EPOCH_ORDINAL


def _add_months(wall: int, months: int) -> int:
    """The clock reading `months` later, clamped to the month's last day, same time of day."""
    number, time_of_day = divmod(wall, DAY)
    day = _date(number)
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return _day_number(year, month + 1, day.day) * DAY + time_of_day


def local_moment(day: date, minute_of_day: int, zone: str) -> int:
    """The moment of a local date and minute of the day (1440 is the midnight after). Gap and overlap as everywhere."""
    return _moment(_table(zone), (day.toordinal() - EPOCH_ORDINAL) * DAY + minute_of_day * MINUTE)


def local_date(ms: int, zone: str) -> date:
    """The date on the wall in `zone`."""
    return _date((ms + _offset(_table(zone), ms)) // DAY)


def local_minute(ms: int, zone: str) -> int:
    """The minute of the day on the clock in `zone`, 0 … 1439; seconds are cut off."""
    return (ms + _offset(_table(zone), ms)) % DAY // MINUTE


def weekday(ms: int, zone: str) -> int:
    """The weekday in `zone`, Monday = 0."""
    return _weekday((ms + _offset(_table(zone), ms)) // DAY)


def _weekday(day: int) -> int:
    return (day + 3) % 7  # 1970-01-01 was a Thursday


def _check_days(days: frozenset[int] | None) -> None:
    if days is not None and ALL_DAYS.isdisjoint(days):
        raise ValueError("no weekday is allowed, so the moment never comes")


# --- durations -------------------------------------------------------------------------------------------------------------


class Duration(NamedTuple):
    """A length of time as people mean it. Years are 12 months, weeks 7 days; `ms` is elapsed time. Business days and business
    elapsed time count only inside business hours."""

    months: int
    days: int
    ms: int
    business_days: int = 0
    business_ms: int = 0

    @property
    def is_elapsed(self) -> bool:
        """Only elapsed time: no zone or calendar is needed."""
        return not (self.months or self.days or self.business_days or self.business_ms)

    @property
    def is_zero(self) -> bool:
        return not any(self)

    def text(self) -> str:
        """Canonical English, which `parse_duration` reads back as the same value: "3 days", "36 hours", "4 business hours"."""
        parts = _count_off(self.months, (("year", 12), ("month", 1)))
        parts += _count_off(self.days, (("day", 1),))
        parts += _count_off(self.ms, _ELAPSED_UNITS)
        parts += _count_off(self.business_days, (("business day", 1),))
        parts += _count_off(self.business_ms, tuple((f"business {name}", size) for name, size in _ELAPSED_UNITS))
        return " ".join(parts) or "0 seconds"

    def approx_ms(self) -> int:
        """About how long it is, for ordering and bounds: a month as 30.44 days, business time at 40 hours in 5 days a week."""
        whole_days = self.days * DAY + self.business_days * DAY * 7 // 5
        return self.months * MONTH_ABOUT + whole_days + self.ms + self.business_ms * 21 // 5


_ELAPSED_UNITS = (("hour", HOUR), ("minute", MINUTE), ("second", SECOND), ("millisecond", 1))


def _count_off(amount: int, units: tuple[tuple[str, int], ...]) -> list[str]:
    """`amount` in the largest units first: 5,400,000 → ["1 hour", "30 minutes"]. A negative amount has negative parts."""
    sign, rest, parts = "-" if amount < 0 else "", abs(amount), []
    for name, size in units:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{sign}{count} {name}{'' if count == 1 else 's'}")
    return parts


_PART = re.compile(r"([0-9][0-9_]*)\s*(business\s+)?([a-z]+)\s*")
_UNITS = {  # unit → (field of Duration, how many)
    "millisecond": ("ms", 1), "second": ("ms", SECOND), "minute": ("ms", MINUTE), "hour": ("ms", HOUR),
    "day": ("days", 1), "week": ("days", 7), "month": ("months", 1), "year": ("months", 12),
}
_SHORT = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week"}
_DURATION_HELP = "write it like 3 days, 1 day 12 hours or 36h"


def parse_duration(text: str) -> Duration:
    """Read "3 days", "1 day 12 hours", "36h", "1d12h", "2 business days". Units from second to year, singular or plural, and
    compact s m h d w (m is a minute; months are written out). ValueError with a sentence for anything else, for a unit named
    twice, and above MAX_DURATION_YEARS."""
    rest = text.strip().lower() if isinstance(text, str) else ""
    if not rest or len(rest) > 200:
        raise ValueError(f"a duration is missing; {_DURATION_HELP}" if not rest else f"this is no duration; {_DURATION_HELP}")
    fields = dict.fromkeys(Duration._fields, 0)
    seen: set[tuple[bool, str]] = set()
    position = 0
    while position < len(rest):
        match = _PART.match(rest, position)
        if match is None:
            raise ValueError(f"\"{_shown(text)}\" is no duration; {_DURATION_HELP}")
        unit = _unit(match[3], text)
        field, size = _UNITS[unit]
        business = match[2] is not None
        if business and unit in ("week", "month", "year"):
            raise ValueError(f"there are business days and business hours, but no business {unit}s")
        if (business, unit) in seen:
            raise ValueError(f"\"{_shown(text)}\" names {unit}s twice; {_DURATION_HELP}")
        seen.add((business, unit))
        fields["business_" + field if business else field] += int(match[1].replace("_", "")) * size
        position = match.end()
    duration = Duration(**fields)
    if duration.approx_ms() > MAX_DURATION_YEARS * 366 * DAY:
        raise ValueError(f"\"{_shown(text)}\" is longer than {MAX_DURATION_YEARS} years")
    return duration


def _unit(word: str, text: str) -> str:
    """The unit's name in full. ValueError with the nearest unit for an unknown word."""
    unit = _SHORT.get(word) or word.removesuffix("s")
    if unit in _UNITS:
        return unit
    near = _near(word, tuple(name + "s" for name in _UNITS), 0.6)
    hint = f"did you mean {near[0]}?" if near else "units are second, minute, hour, day, week, month and year"
    raise ValueError(f"\"{word[:40]}\" in \"{_shown(text)}\" is no unit of time; {hint}")


# --- business time ---------------------------------------------------------------------------------------------------------


class BusinessHours(NamedTuple):
    """When a business is open: `start` to `end` in minutes of the day (end excluded, 1440 is midnight), on `days`, but not on
    `holidays`. As with windows, start > end is overnight and belongs to the day on which it starts; start == end is 24 hours."""

    start: int = 9 * 60
    end: int = 17 * 60
    days: frozenset[int] = frozenset({0, 1, 2, 3, 4})
    holidays: frozenset[date] = frozenset()

    def open_on(self, day: date) -> bool:
        """Whether `day` is a business day."""
        return day.weekday() in self.days and day not in self.holidays


OFFICE_HOURS = BusinessHours()


def _add_business_days(table: _Table, ms: int, count: int, hours: BusinessHours) -> int:
    """The same wall time `count` business days later, or earlier if negative. From a Saturday, one business day is the Monday."""
    _check_days(hours.days)
    number, time_of_day = divmod(ms + _offset(table, ms), DAY)
    step = 1 if count > 0 else -1
    for _ in range(abs(count)):
        number += step
        while not hours.open_on(_date(number)):
            number += step
    return _moment(table, number * DAY + time_of_day)


def _add_business_time(table: _Table, ms: int, amount: int, hours: BusinessHours) -> int:
    """The earliest moment by which `amount` ms have passed inside business hours. Openings are real time: one that holds the
    night of a clock change is an hour longer or shorter. Negative: the latest moment from which `-amount` ms lead to `ms`."""
    _check_days(hours.days)
    length = (hours.end - hours.start) % MINUTES_A_DAY or MINUTES_A_DAY
    step = 1 if amount > 0 else -1
    left = abs(amount)
    number = (ms + _offset(table, ms)) // DAY - step  # the opening of the day before may reach into this one
    while True:
        if hours.open_on(_date(number)):
            opening = number * DAY + hours.start * MINUTE
            opens, closes = _moment(table, opening), _moment(table, opening + length * MINUTE)
            if step > 0:
                opens = max(opens, ms)  # also keeps a day that doesn't exist (Apia 2011) from counting twice
                if closes - opens >= left:
                    return opens + left
                left, ms = left - max(0, closes - opens), max(ms, closes)
            else:
                closes = min(closes, ms)
                if closes - opens >= left:
                    return closes - left
                left, ms = left - max(0, closes - opens), min(ms, opens)
        number += step


# --- adding ----------------------------------------------------------------------------------------------------------------


def add(ms: int, duration: Duration, zone: str, hours: BusinessHours | None = None, sign: int = 1) -> int:
    """`ms` plus the duration, or minus it with `sign=-1` (30 days BEFORE x).

    Months, then days: calendar time in `zone` that keeps the wall-clock time, months clamped to the month's end. Then business
    days, then elapsed time, then business hours, by `hours` (Monday to Friday 09:00–17:00 if None). A duration of elapsed
    time alone never touches the zone. ValueError: unknown zone, a result beyond the year 9999, hours without an open day.
    """
    months, days, elapsed, business_days, business_ms = duration
    if months or days:
        table = _table(zone)
        wall = ms + _offset(table, ms)
        if months:
            wall = _add_months(wall, sign * months)
        ms = _moment(table, wall + sign * days * DAY)
    if business_days:
        ms = _add_business_days(_table(zone), ms, sign * business_days, hours or OFFICE_HOURS)
    ms += sign * elapsed
    if business_ms:
        ms = _add_business_time(_table(zone), ms, sign * business_ms, hours or OFFICE_HOURS)
    return ms


def expires(ms: int, duration: Duration, zone: str, hours: BusinessHours | None = None) -> int:
    """The moment at which something that began at `ms` is `duration` old; from then on it is no longer `within`."""
    return add(ms, duration, zone, hours)


_SLACK = 30 * HOUR  # two offsets of one zone differ by at most 25.5 hours (Apia: a skipped day and clock changes)


def within(event_ms: int, now_ms: int, duration: Duration, zone: str, hours: BusinessHours | None = None) -> bool:
    """Whether the event lies in the last `duration`: event_ms <= now_ms < add(event_ms, duration). Calendar work is done only
    near the boundary: a year is 365 or 366 days, a month 28 to 31, and the zone's slack is bounded."""
    age = now_ms - event_ms
    if age < 0:
        return False
    months, days, elapsed, business_days, business_ms = duration
    if not (business_days or business_ms) and months >= 0:
        if not (months or days):
            return age < elapsed
        years, odd = divmod(months, 12)
        fixed = days * DAY + elapsed
        if age < (years * 365 + odd * 28) * DAY + fixed - _SLACK:
            return True
        if age > (years * 366 + odd * 31) * DAY + fixed + _SLACK:
            return False
    return now_ms < add(event_ms, duration, zone, hours)


# --- moments that come round -----------------------------------------------------------------------------------------------


def at_time(ms: int, minute_of_day: int, zone: str, days: frozenset[int] | None = None) -> int:
    """The next such time on the clock not before `ms` (equal counts), on an allowed weekday.

    Each local date has one such moment: moved by the gap if its clock skips the time, the first if it shows it twice. The
    weekday is that of the date meant: Monday 23:45 in a gap until 00:15 happens on Tuesday 00:15. ValueError if `days` is empty.
    """
    table = _table(zone)
    _check_days(days)
    day = (ms + _offset(table, ms)) // DAY - 1  # a gap may have moved yesterday's moment past midnight
    while True:
        if days is None or (day + 3) % 7 in days:
            moment = _moment(table, day * DAY + minute_of_day * MINUTE)
            if moment >= ms:
                return moment
        day += 1


def in_window(ms: int, start_minute: int, end_minute: int, days: frozenset[int] | None, zone: str) -> bool:
    """Whether the clock in `zone` reads a time inside the window: start included, end excluded.

    start > end is overnight, and `days` then means the day on which the window starts; start == end is the whole day; None is
    every day. A window is a level: what counts is what the clock on the wall shows, so a window that a clock change skips
    does not open that day, and one that the clock shows twice is open twice.
    """
    return _reads_inside(ms + _offset(_table(zone), ms), start_minute, end_minute, days)


def _reads_inside(wall: int, start: int, end: int, days: frozenset[int] | None) -> bool:
    """`in_window` for a clock reading."""
    day, time_of_day = divmod(wall, DAY)
    minute = time_of_day // MINUTE
    if start < end:
        return start <= minute < end and (days is None or (day + 3) % 7 in days)
    if start == end:
        return days is None or (day + 3) % 7 in days
    if minute >= start:
        return days is None or (day + 3) % 7 in days
    return minute < end and (days is None or (day + 2) % 7 in days)


def next_in_window(ms: int, start_minute: int, end_minute: int, days: frozenset[int] | None, zone: str) -> int:
    """The first moment not before `ms` that is `in_window`: `ms` itself if it is inside. ValueError if `days` is empty.

    Goes from one change of the clock to the next: between them the clock runs evenly, so the next opening is plain arithmetic.
    """
    table = _table(zone)
    _check_days(days)
    while True:
        offset, end_of_segment = _segment(table, ms)
        wall = ms + offset
        if _reads_inside(wall, start_minute, end_minute, days):
            return ms
        opening = _next_opening(wall, 0 if start_minute == end_minute else start_minute, days) - offset
        if opening < end_of_segment:
            return opening
        ms = end_of_segment


def _next_opening(wall: int, start_minute: int, days: frozenset[int] | None) -> int:
    """The first clock reading after `wall` of `start_minute` on an allowed weekday, on a clock that runs evenly."""
    day = wall // DAY
    if day * DAY + start_minute * MINUTE <= wall:
        day += 1
    while days is not None and _weekday(day) not in days:
        day += 1
    return day * DAY + start_minute * MINUTE


def next_every(
    kind: str,
    after_ms: int,
    minute_of_day: int,
    zone: str,
    days: frozenset[int] | None = None,
    month_day: int | None = None,
) -> int:
    """The next moment strictly after `after_ms` of `WHEN EVERY …`.

    kind "day": that time each day (on `days`, if given). "week": that time on each of `days`. "month": that time on `month_day`,
    1 … 31 clamped to the month's last day, -1 the last. "hour": when the clock reads minute `minute_of_day` of any hour; an
    hour is elapsed time, so the hour that the clock shows twice counts twice. ValueError for anything else.
    """
    if kind == "day" or (kind == "week" and days is not None):
        return at_time(after_ms + 1, minute_of_day, zone, days)
    if kind == "month" and month_day is not None and (month_day == -1 or 1 <= month_day <= 31):
        return _next_monthly(_table(zone), after_ms, minute_of_day, 31 if month_day == -1 else month_day)
    if kind == "hour":
        return _next_hourly(_table(zone), after_ms, minute_of_day % 60)
    if kind == "week":
        raise ValueError("every week needs the days of the week")
    if kind == "month":
        raise ValueError("every month needs a day of the month from 1 to 31, or -1 for the last")
    raise ValueError(f"there is no \"every {kind}\"; write hour, day, week or month")


def _next_monthly(table: _Table, after_ms: int, minute_of_day: int, month_day: int) -> int:
    today = _date((after_ms + _offset(table, after_ms)) // DAY - 1)  # as in `at_time`, begin a day early
    months = today.year * 12 + today.month - 1
    while True:
        number = _day_number(months // 12, months % 12 + 1, month_day)
        moment = _moment(table, number * DAY + minute_of_day * MINUTE)
        if moment > after_ms:
            return moment
        months += 1


def _next_hourly(table: _Table, after_ms: int, minute_of_hour: int) -> int:
    ms = after_ms + 1
    while True:
        offset, end_of_segment = _segment(table, ms)
        moment = ms + (minute_of_hour * MINUTE - ms - offset) % HOUR
        if moment < end_of_segment:
            return moment
        ms = end_of_segment


# --- anniversaries ---------------------------------------------------------------------------------------------------------

_DATE = re.compile(r"([0-9]{4}|-)-([0-9]{2})-([0-9]{2})")
_DATE_HELP = "write a date like 2026-03-02, or --03-02 without the year"


@lru_cache(maxsize=4_096)
def _month_and_day(text: str) -> tuple[int, int]:
    """The month and day of "1990-05-10" or "--05-10". ValueError if the calendar has no such day."""
    match = _DATE.fullmatch(text)
    if match is None:
        raise ValueError(f"\"{_shown(text)}\" is no date; {_DATE_HELP}")
    year, month, day = 2000 if match[1] == "-" else int(match[1]), int(match[2]), int(match[3])
    if not (year >= 1 and 1 <= month <= 12 and 1 <= day <= _days_in_month(year, month)):
        raise ValueError(f"the calendar has no day {text}; {_DATE_HELP}")
    return month, day


def _anniversary(table: _Table, year: int, month: int, day: int, minute_of_day: int, leap: str) -> int:
    """The anniversary in `year`. 29 Feb in a common year: 28 Feb by the clamp, or 1 Mar if `leap` says so."""
    if leap == "mar1" and (month, day) == (2, 29) and _days_in_month(year, 2) == 28:
        month, day = 3, 1
    return _moment(table, _day_number(year, month, day) * DAY + minute_of_day * MINUTE)


def next_anniversary(
    day: str | date,
    after_ms: int,
    minute_of_day: int,
    zone: str,
    offset: Duration | None = None,
    sign: int = 1,
    leap: str = "feb28",
    hours: BusinessHours | None = None,
) -> int:
    """The first moment strictly after `after_ms` that is a yearly return of `day` at that local time, shifted by `offset`
    (`sign=-1`: 7 days BEFORE). The year of `day` plays no part, "--05-10" has none. One moment belongs to each year.

    29 Feb falls on 28 Feb in common years, or on 1 Mar with leap="mar1" (LANGUAGE.md: on 28 Feb unless said otherwise).
    ValueError: no such date, unknown zone, unknown `leap`.
    """
    if leap not in ("feb28", "mar1"):
        raise ValueError("29 February can fall on feb28 or mar1 in common years")
    if isinstance(day, date):
        month, month_day = day.month, day.day
    elif isinstance(day, str):
        month, month_day = _month_and_day(day)
    else:
        raise ValueError(f"this is no date; {_DATE_HELP}")  # noqa: TRY004 - data of contacts, not a caller's type
    table = _table(zone)
    shift = sign * offset.approx_ms() if offset is not None else 0
    year = _date((after_ms - shift) // DAY).year - 1  # a year early: `shift` is about right, not exact
    while True:
        moment = _anniversary(table, year, month, month_day, minute_of_day, leap)
        if offset is not None:
            moment = add(moment, offset, zone, hours, sign)
        if moment > after_ms:
            return moment
        year += 1


# --- text ------------------------------------------------------------------------------------------------------------------

_DATETIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)
_DATETIME_HELP = "write a date and time like 2026-03-02 10:00, 2026-03-02T10:00:00Z or 2026-03-02T10:00:00+01:00"


def parse_datetime(text: str, zone: str = "UTC") -> int:
    """The moment of an ISO 8601 text: with an offset or Z, or local in `zone` without; a date alone is its midnight. Digits
    below the millisecond are cut off. ValueError with a sentence for anything else, and outside the years 1900 to 9000."""
    stripped = text.strip().upper() if isinstance(text, str) else ""
    if _DATETIME.fullmatch(stripped) is None:
        raise ValueError(f"\"{_shown(text)}\" is no date and time; {_DATETIME_HELP}")
    try:
        moment = datetime.fromisoformat(stripped)
    except ValueError:
        raise ValueError(f"the calendar has no moment \"{stripped}\"; {_DATETIME_HELP}") from None
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ValueError(f"\"{stripped}\" is outside the years {FIRST_YEAR} to {LAST_YEAR}")
    minutes = ((moment.toordinal() - EPOCH_ORDINAL) * 24 + moment.hour) * 60 + moment.minute
    wall = (minutes * 60 + moment.second) * SECOND + moment.microsecond // 1_000
    offset = moment.utcoffset()
    if offset is None:
        return _moment(_table(zone), wall)
    return wall - (offset.days * DAY + offset.seconds * SECOND)


def parse_date(text: str) -> date:
    """The date of "2026-03-02". ValueError with a sentence for anything else, and outside the years 1900 to 9000."""
    if not isinstance(text, str) or _DATE.fullmatch(text) is None or text.startswith("-"):
        raise ValueError(f"\"{_shown(text)}\" is no date; write a date like 2026-03-02")
    _month_and_day(text)  # for its sentence about days that no calendar has
    day = date.fromisoformat(text)
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise ValueError(f"\"{text}\" is outside the years {FIRST_YEAR} to {LAST_YEAR}")
    return day


def _clock(time_of_day: int) -> tuple[int, int, int, int]:
    """(hour, minute, second, millisecond) of a time of day in ms."""
    seconds, milli = divmod(time_of_day, SECOND)
    minutes, second = divmod(seconds, 60)
    return minutes // 60, minutes % 60, second, milli


def format_utc(ms: int) -> str:
    """ISO 8601 in UTC, "2026-03-02T10:00:00Z"; milliseconds only where they are not zero. `parse_datetime` reads it back."""
    number, time_of_day = divmod(ms, DAY)
    hour, minute, second, milli = _clock(time_of_day)
    fraction = f".{milli:03d}" if milli else ""
    return f"{_date(number).isoformat()}T{hour:02d}:{minute:02d}:{second:02d}{fraction}Z"


def format_local(ms: int, zone: str) -> str:
    """For people: "Mon 2026-03-02 10:00 CET"; seconds and milliseconds only where they are not zero. Where a zone's abbreviation
    is only a number, it reads "UTC+05:45"."""
    table = _table(zone)
    number, time_of_day = divmod(ms + _offset(table, ms), DAY)
    hour, minute, second, milli = _clock(time_of_day)
    tail = f":{second:02d}" if second or milli else ""
    tail += f".{milli:03d}" if milli else ""
    day = f"{WEEKDAY_NAMES[_weekday(number)]} {_date(number).isoformat()}"
    return f"{day} {hour:02d}:{minute:02d}{tail} {_abbreviation(table, ms)}"


def _abbreviation(table: _Table, ms: int) -> str:
    name = datetime.fromtimestamp(ms // SECOND, UTC).astimezone(table.info).tzname() or ""
    if name[:1] in ("+", "-"):
        return f"UTC{name[:3]}:{name[3:5] or '00'}"
    return name
