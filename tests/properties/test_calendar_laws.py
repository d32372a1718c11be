"""Laws of time, over many zones, against another calendar: python-dateutil reads the zone files itself and adds months itself.

The oracle works from definitions and is slow: a local time means the earliest moment at which the clock shows it; if it never
does, the moment that the clock before the gap would have called so. CAMP_FULL=1 walks every zone instead of the chosen ones.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from datetime import date, datetime, timedelta
from functools import cache, lru_cache
from zoneinfo import available_timezones

import pytest
from dateutil import tz
from dateutil.relativedelta import relativedelta
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from rules_engine.runtime import calendar
from rules_engine.runtime.calendar import DAY, HOUR, MINUTE, SECOND, BusinessHours, Duration, add

CHOSEN = [
    "Africa/Cairo", "Africa/Casablanca", "Africa/El_Aaiun", "Africa/Johannesburg", "Africa/Khartoum", "Africa/Windhoek",
    "America/Anchorage", "America/Asuncion", "America/Boa_Vista", "America/Bogota", "America/Caracas", "America/Chicago",
    "America/Godthab", "America/Havana", "America/Los_Angeles", "America/Miquelon", "America/New_York", "America/Santiago",
    "America/Sao_Paulo", "America/St_Johns", "Antarctica/Casey", "Antarctica/Troll", "Asia/Amman", "Asia/Beirut", "Asia/Gaza",
    "Asia/Hong_Kong", "Asia/Jerusalem", "Asia/Kathmandu", "Asia/Kolkata", "Asia/Pyongyang", "Asia/Tehran", "Asia/Tokyo",
    "Asia/Vladivostok", "Atlantic/Azores", "Australia/Adelaide", "Australia/Eucla", "Australia/Lord_Howe", "Europe/Dublin",
    "Europe/Istanbul", "Europe/Lisbon", "Europe/London", "Europe/Moscow", "Europe/Prague", "Europe/Volgograd", "Pacific/Apia",
    "Pacific/Auckland", "Pacific/Chatham", "Pacific/Easter", "Pacific/Fiji", "Pacific/Kiritimati", "Pacific/Norfolk",
    "Pacific/Tongatapu", "UTC",
]
FULL = os.environ.get("CAMP_FULL") == "1"
ALL_ZONES = sorted(name for name in available_timezones() if calendar.is_zone(name))
ZONES = ALL_ZONES if FULL else CHOSEN
laws = settings(max_examples=3_000 if FULL else 200, deadline=None)

EPOCH = datetime(1970, 1, 1)
FIRST = (datetime(1997, 1, 1) - EPOCH) // timedelta(seconds=1) * SECOND
LAST = (datetime(2040, 12, 31) - EPOCH) // timedelta(seconds=1) * SECOND


# --- the independent calendar ----------------------------------------------------------------------------------------------


@cache
def dateutil_zone(name: str) -> tz.tzfile:
    return tz.gettz(name) if name != "UTC" else tz.UTC


@lru_cache(maxsize=100_000)
def offset_at(seconds: int, name: str) -> int:
    """The offset in seconds at a moment in seconds."""
    offset = datetime.fromtimestamp(seconds, tz.UTC).astimezone(dateutil_zone(name)).utcoffset()
    assert offset is not None
    return offset // timedelta(seconds=1)


def clock(ms: int, name: str) -> datetime:
    """What the clock on the wall shows."""
    return EPOCH + timedelta(milliseconds=ms + offset_at(ms // SECOND, name) * SECOND)


def moment_of(reading: datetime, name: str) -> int:
    """The definition: the earliest moment with that reading, else what the clock before the gap would have called so."""
    wall = (reading - EPOCH) // timedelta(milliseconds=1)
    before, after = (offset_at((wall + shift) // SECOND, name) * SECOND for shift in (-27 * HOUR, 27 * HOUR))
    shown = [wall - offset for offset in (before, after) if clock(wall - offset, name) == reading]
    return min(shown) if shown else wall - before


def exists(reading: datetime, name: str) -> bool:
    return clock(moment_of(reading, name), name) == reading


def at(day: date, minute: int, name: str) -> int:
    return moment_of(datetime(day.year, day.month, day.day) + timedelta(minutes=minute), name)


@cache
def changes(name: str) -> tuple[int, ...]:
    """Every change of a zone's clock from 1997 to 2040, in ms, found by walking day by day."""
    found = []
    low = FIRST // SECOND
    while low < LAST // SECOND:
        high = low + 86_400
        if offset_at(low, name) != offset_at(high, name):
            early, late = low, high
            while late - early > 1:
                middle = (early + late) // 2
                early, late = (middle, late) if offset_at(middle, name) == offset_at(low, name) else (early, middle)
            found.append(late * SECOND)
        low = high
    return tuple(found)


@cache
def odd_changes() -> tuple[tuple[str, int], ...]:
    def is_odd(change: int, zone: str) -> bool:
        return (offset_at(change // SECOND, zone) - offset_at(change // SECOND - 1, zone)) % 3_600 != 0

    return tuple((zone, change) for zone in CHOSEN for change in changes(zone) if is_odd(change, zone))


# --- what is tried ---------------------------------------------------------------------------------------------------------

zones = st.sampled_from(ZONES)
minutes = st.integers(0, 1439)
some_days = st.none() | st.frozensets(st.integers(0, 6), min_size=1)
signs = st.sampled_from([1, -1])
elapsed = st.integers(0, 100).map(lambda n: n * 15 * MINUTE) | st.integers(0, 10**9)
spans = st.builds(Duration, st.integers(0, 30), st.integers(0, 400), elapsed, st.just(0), st.just(0))


@st.composite
def moments(draw: st.DrawFn, zone: str, steps: int = MINUTE) -> int:
    """A moment; mostly within some hours of a change of that zone's clock, where the faults live."""
    if changes(zone) and draw(st.booleans()) | draw(st.booleans()):
        return draw(st.sampled_from(changes(zone))) + draw(st.integers(-27 * HOUR // steps, 27 * HOUR // steps)) * steps
    return draw(st.integers(FIRST // steps, LAST // steps)) * steps


@st.composite
def places(draw: st.DrawFn, steps: int = MINUTE) -> tuple[str, int]:
    """A zone and a moment in it."""
    zone = draw(zones)
    return zone, draw(moments(zone, steps))


@st.composite
def places_and_minutes(draw: st.DrawFn) -> tuple[str, int, int]:
    """A zone, a moment, and a minute of the day that the clock shows soon before or after it, or any."""
    zone, ms = draw(places())
    reading = clock(ms, zone)
    soon = (reading.hour * 60 + reading.minute + draw(st.integers(-90, 90))) % 1440
    return zone, ms, soon if draw(st.booleans()) else draw(minutes)


@st.composite
def odd_places(draw: st.DrawFn) -> tuple[str, int]:
    """A zone whose clock changes by other than whole hours, and a moment close to such a change."""
    zone, change = draw(st.sampled_from(odd_changes()))
    return zone, change + draw(st.integers(-90, 90)) * MINUTE


@st.composite
def sums(draw: st.DrawFn) -> tuple[str, int, Duration, int]:
    """A zone, a moment, a duration and a sign whose sum lies near a change of the clock as often as not."""
    zone, target = draw(places(15 * MINUTE))
    duration, sign = draw(spans), draw(signs)
    if draw(st.booleans()):
        reading = clock(target, zone) - sign * relativedelta(months=duration.months, days=duration.days)
        return zone, moment_of(reading, zone) - sign * duration.ms, duration, sign
    return zone, target, duration, sign


# --- zones: the table of offsets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ZONES)
def test_around_every_change_of_the_clock(zone: str) -> None:
    """Every change from 1997 to 2040: the same offset before and at it, and the same moment for the readings around it."""
    for change in changes(zone):
        for ms in (change - 1, change):
            assert calendar.local_minute(ms, zone) == clock(ms, zone).hour * 60 + clock(ms, zone).minute
            assert calendar.local_date(ms, zone) == clock(ms, zone).date()
        edges = {clock(change - 1, zone) + timedelta(milliseconds=1), clock(change, zone)}
        steps = range(-60, 61, 15 if abs(len(changes(zone))) > 40 else 5)
        for reading in {edge + timedelta(minutes=step) for edge in edges for step in (*steps, -1, 1)}:
            expected = moment_of(reading, zone)
            minute = reading.hour * 60 + reading.minute
            assert calendar.local_moment(reading.date(), minute, zone) == expected, (zone, reading)
            assert calendar.parse_datetime(reading.isoformat(), zone) == expected


def test_the_whole_list_has_the_odd_zones() -> None:
    """The walk above is worth something: it meets gaps and overlaps of many sizes."""
    sizes = {
        (offset_at(change // SECOND, zone) - offset_at(change // SECOND - 1, zone)) // 60
        for zone in CHOSEN
        for change in changes(zone)
    }
    assert {-120, -60, -30, 30, 60, 120, 24 * 60} <= sizes
    assert len(CHOSEN) >= 40
    assert sum(len(changes(zone)) for zone in CHOSEN) > 2_000


def test_no_zone_changes_twice_between_two_samples() -> None:
    """`_Table` samples the zone every SAMPLE: no zone may leave an offset and come back in less. Reads dateutil's own lists."""
    shortest, widest = 10**15, 0
    for zone in ALL_ZONES:
        file = dateutil_zone(zone)
        listed = [moment for moment in getattr(file, "_trans_utc", ()) if moment > -2_208_988_800]
        offsets = [offset_at(moment, zone) for moment in listed]
        before = [offset_at(moment - 1, zone) for moment in listed]
        widest = max([widest, *(max(offsets) - min(offsets) for _ in offsets[:1])])
        for index in range(len(listed) - 1):
            if offsets[index] != before[index] and offsets[index + 1] == before[index]:
                shortest = min(shortest, (listed[index + 1] - listed[index]) * SECOND)
    assert calendar._Table.SAMPLE < shortest < 10**15
    assert widest * SECOND < calendar._SLACK < calendar._Table.MARGIN


@laws
@given(st.sampled_from(ALL_ZONES), st.integers(-2_208_988_800, 4_102_444_800) | st.integers(0, 200_000_000_000))
def test_offsets_of_all_zones(zone: str, seconds: int) -> None:
    """From 1900 to 8300, not only where the transitions are listed in the file."""
    ms = seconds * SECOND
    assert calendar.weekday(ms, zone) == clock(ms, zone).weekday()
    assert calendar._offset(calendar._table(zone), ms) == offset_at(seconds, zone) * SECOND


@laws
@given(places())
def test_a_reading_leads_back_to_its_moment_or_to_the_first_of_two(place: tuple[str, int]) -> None:
    zone, ms = place
    back = calendar.local_moment(calendar.local_date(ms, zone), calendar.local_minute(ms, zone), zone)
    assert back <= ms
    assert clock(back, zone) == clock(ms, zone)


# --- adding ----------------------------------------------------------------------------------------------------------------


@laws
@given(sums())
def test_add_is_what_dateutil_adds(case: tuple[str, int, Duration, int]) -> None:
    zone, ms, duration, sign = case
    expected = ms
    if duration.months or duration.days:
        expected = moment_of(clock(ms, zone) + sign * relativedelta(months=duration.months, days=duration.days), zone)
    assert add(ms, duration, zone, sign=sign) == expected + sign * duration.ms


@laws
@given(sums())
def test_days_keep_the_wall_clock_unless_it_does_not_exist(case: tuple[str, int, Duration, int]) -> None:
    zone, ms, duration, sign = case
    days = duration._replace(months=0, ms=0)
    wanted = clock(ms, zone) + sign * timedelta(days=days.days)
    found = clock(add(ms, days, zone, sign=sign), zone)
    if exists(wanted, zone):
        assert found == wanted
    else:
        before, after = (offset_at((add(ms, days, zone, sign=sign) + shift) // SECOND, zone) for shift in (-27 * HOUR, 27 * HOUR))
        assert found - wanted == timedelta(seconds=after - before) > timedelta()


@laws
@given(places(), st.integers(0, 40), st.integers(0, 40), st.sampled_from(["months", "days", "ms"]))
def test_more_is_never_earlier(place: tuple[str, int], some: int, more: int, field: str) -> None:
    zone, ms = place
    shorter, longer = (Duration(0, 0, 0)._replace(**{field: n}) for n in sorted((some, more)))
    assert add(ms, shorter, zone) <= add(ms, longer, zone)


@laws
@given(places(), st.integers(0, 40 * DAY // MINUTE), st.integers(0, 60))
def test_later_stays_later_as_clocks_read(place: tuple[str, int], later: int, days: int) -> None:
    """Adding days keeps order where the clocks do: between readings in order whose sums both exist. (Around a change of the clock
    order can't hold: on the night that shows 02:10 and 02:50 twice, the second 02:10 comes after the first 02:50.)"""
    zone, first = place
    second = first + later * MINUTE
    sums_exist = all(exists(clock(ms, zone) + timedelta(days=days), zone) for ms in (first, second))
    assume(clock(first, zone) <= clock(second, zone) and sums_exist and days)
    duration = Duration(0, days, 0)
    assert add(first, duration, zone) <= add(second, duration, zone)


@laws
@given(places(), st.dates(date(2000, 1, 1), date(2030, 12, 31)), st.integers(0, 40))
def test_months_from_the_anchor_come_once_in_each_month(place: tuple[str, int], day: date, months: int) -> None:
    zone, ms = place
    anchor = at(day, calendar.local_minute(ms, zone), zone)
    assume(clock(anchor, zone).date() == day)
    found = add(anchor, Duration(months, 0, 0), zone)
    assert found == moment_of(clock(anchor, zone) + relativedelta(months=months), zone)
    after_a_year = add(anchor, Duration(months + 12, 0, 0), zone)
    assert 363 * DAY < after_a_year - found < 368 * DAY


@laws
@given(sums(), st.integers(-40, 40).map(lambda n: n * HOUR) | st.integers(-1, 1))
def test_within_is_its_definition(case: tuple[str, int, Duration, int], past: int) -> None:
    """At and around the boundary, where the quick path must step aside, and a day on each side, where it must be right."""
    zone, event, duration, _ = case
    boundary = add(event, duration, zone)
    for now in (boundary + past, event + past, event + duration.approx_ms() + past):
        assert calendar.within(event, now, duration, zone) == (event <= now < boundary)


# --- AT, EVERY, windows ----------------------------------------------------------------------------------------------------


def times_of_day(around: int, minute: int, days: frozenset[int] | None, zone: str) -> list[int]:
    """That time's moment of each allowed date from 3 days before to 9 days after."""
    dates = [clock(around, zone).date() + timedelta(days=shift) for shift in range(-3, 10)]
    return sorted(at(day, minute, zone) for day in dates if days is None or day.weekday() in days)


@laws
@given(places_and_minutes(), some_days, st.sampled_from([0, 1, SECOND]))
@example(("America/Godthab", 1_774_746_600_000, 23 * 60 + 30), None, 0)  # 00:10, and 23:30 moved by the gap to 00:30
def test_at_time_is_the_first_not_before(place: tuple[str, int, int], days: frozenset[int] | None, odd: int) -> None:
    zone, ms, minute = place[0], place[1] + odd, place[2]
    candidates = times_of_day(ms, minute, days, zone)
    found = calendar.at_time(ms, minute, zone, days)
    assert found == candidates[bisect_left(candidates, ms)] >= ms
    assert calendar.at_time(found, minute, zone, days) == found
    after = candidates[bisect_right(candidates, ms)]
    assert calendar.next_every("day", ms, minute, zone, days) == after
    if days is not None:
        assert calendar.next_every("week", ms, minute, zone, days) == after


@laws
@given(places_and_minutes(), st.integers(1, 31) | st.just(-1))
@example(("Pacific/Kiritimati", 788_886_000_000, 600), -1)  # 1995-01-01 05:00, and 31 December 1994 never was
def test_every_month(place: tuple[str, int, int], month_day: int) -> None:
    zone, ms, minute = place
    first = clock(ms, zone).date().replace(day=1)
    candidates = []
    for shift in range(-2, 4):
        month = first + relativedelta(months=shift)
        candidates.append(at(month + relativedelta(day=31 if month_day == -1 else month_day), minute, zone))
    assert calendar.next_every("month", ms, minute, zone, month_day=month_day) == min(m for m in candidates if m > ms)


@laws
@given(places() | odd_places(), st.integers(0, 59))
def test_every_hour(place: tuple[str, int], minute: int) -> None:
    zone, ms = place
    expected = ms + MINUTE
    while clock(expected, zone).minute != minute:
        expected += MINUTE
    assert calendar.next_every("hour", ms, minute, zone) == expected


def shows_inside(reading: datetime, start: int, end: int, days: frozenset[int] | None) -> bool:
    """A window by its words: it starts on an allowed day at `start`, lasts until the next `end` on the clock."""
    minute = reading.hour * 60 + reading.minute
    today, yesterday = reading.weekday(), (reading - timedelta(days=1)).weekday()
    if start == end:
        return days is None or today in days
    opened_today = minute >= start and (minute < end or end < start)
    opened_yesterday = end < start and minute < end
    return (opened_today and (days is None or today in days)) or (opened_yesterday and (days is None or yesterday in days))


@laws
@given(places(SECOND), minutes, minutes, some_days)
def test_in_window_is_what_the_clock_shows(place: tuple[str, int], start: int, end: int, days: frozenset[int] | None) -> None:
    zone, ms = place
    assert calendar.in_window(ms, start, end, days, zone) == shows_inside(clock(ms, zone), start, end, days)
    reading = clock(ms, zone)
    minute = reading.hour * 60 + reading.minute
    for near in (minute, (minute + 1) % 1440):  # windows whose edge is this very minute
        assert calendar.in_window(ms, near, end, days, zone) == shows_inside(reading, near, end, days)
        assert calendar.in_window(ms, start, near, days, zone) == shows_inside(reading, start, near, days)


@settings(laws, max_examples=laws.max_examples // 2)
@given(places(), minutes, st.integers(0, 180) | minutes, some_days, st.sampled_from([0, 30_500]))
@example(("Europe/Prague", 1_774_746_000_000), 150, 30, None, 0)
def test_next_in_window_is_the_first_minute_inside(
    place: tuple[str, int], start: int, length: int, days: frozenset[int] | None, odd: int
) -> None:
    zone, ms, end = place[0], place[1] + odd, (start + length) % 1440
    found = calendar.next_in_window(ms, start, end, days, zone)
    assert found >= ms
    assert shows_inside(clock(found, zone), start, end, days)
    if found > ms:
        assert found % MINUTE == 0
        assert not shows_inside(clock(found - 1, zone), start, end, days)
    earlier = [minute for minute in range(ms, found, MINUTE) if calendar.in_window(minute, start, end, days, zone)]
    assert not earlier or earlier == [ms] == [found]


# --- anniversaries ---------------------------------------------------------------------------------------------------------


@laws
@given(places(), st.dates(date(2000, 1, 1), date(2000, 12, 31)), minutes, spans, signs, st.sampled_from(["feb28", "mar1"]))
@example(("Europe/Prague", 1_774_746_000_000), date(2000, 2, 29), 480, Duration(0, 0, 0), 1, "mar1")
@example(("Europe/Prague", 1_774_746_000_000), date(2000, 2, 29), 480, Duration(1, 1, 0), -1, "feb28")
def test_anniversaries_come_once_a_year(
    place: tuple[str, int], day: date, minute: int, offset: Duration, sign: int, leap: str
) -> None:
    zone, ms = place

    def of_year(year: int) -> int:
        anniversary = day + relativedelta(year=year)  # dateutil clamps 29 Feb to 28 Feb
        if leap == "mar1" and (day.month, day.day) == (2, 29) and anniversary.day == 28:
            anniversary += timedelta(days=1)
        moment = at(anniversary, minute, zone)
        if offset.months or offset.days:
            moment = moment_of(clock(moment, zone) + sign * relativedelta(months=offset.months, days=offset.days), zone)
        return moment + sign * offset.ms

    this_year = clock(ms, zone).year
    expected = [moment for moment in map(of_year, range(this_year - 5, this_year + 12)) if moment > ms][:5]
    found = []
    for _ in range(5):
        ms = calendar.next_anniversary(f"--{day:%m-%d}", ms, minute, zone, offset, sign, leap)
        found.append(ms)
    assert found == expected == sorted(set(expected))
    assert calendar.next_anniversary(day, found[3], minute, zone, offset, sign, leap) == found[4]
    if not sign * (offset.months + offset.days + offset.ms):
        assert [clock(moment, zone).year for moment in found] == list(range(clock(ms, zone).year - 4, clock(ms, zone).year + 1))


# --- business time ---------------------------------------------------------------------------------------------------------


@st.composite
def businesses(draw: st.DrawFn, around: date) -> BusinessHours:
    """Hours that begin and end by day, in whole quarters, with holidays around a date."""
    start = draw(st.integers(5 * 4, 12 * 4)) * 15
    end = draw(st.integers(13 * 4, 22 * 4)) * 15
    days = draw(st.frozensets(st.integers(0, 6), min_size=1))
    holidays = draw(st.frozensets(st.integers(-8, 8).map(lambda shift: around + timedelta(days=shift)), max_size=5))
    return BusinessHours(start, end, days, holidays)


def is_open(ms: int, hours: BusinessHours, zone: str) -> bool:
    reading = clock(ms, zone)
    inside = hours.start <= reading.hour * 60 + reading.minute < hours.end
    return inside and reading.weekday() in hours.days and reading.date() not in hours.holidays


@settings(laws, max_examples=laws.max_examples // 2)
@given(st.data(), places(15 * MINUTE), signs)
def test_business_time_is_the_quarters_inside_the_hours(data: st.DataObject, place: tuple[str, int], sign: int) -> None:
    """The n-th open quarter, counted on the other calendar, is where n quarters of business time end: at its end, or, counted
    backwards, at its start. (The hours lie by day, and clocks change by night, by whole quarters.)"""
    quarter = 15 * MINUTE
    zone, ms = place[0], place[1] // quarter * quarter  # some clocks change at 00:01
    hours = data.draw(businesses(clock(ms, zone).date()))
    expected, now = [], ms
    while len(expected) < 60:
        begins = now if sign > 0 else now - quarter
        now += sign * quarter
        if is_open(begins, hours, zone):
            expected.append(now)
    assert [add(ms, Duration(0, 0, 0, 0, n * quarter), zone, hours, sign) for n in range(1, 61)] == expected


@laws
@given(st.data(), places(), st.integers(1, 30), signs)
def test_business_days_are_counted_one_by_one(data: st.DataObject, place: tuple[str, int], count: int, sign: int) -> None:
    zone, ms = place
    hours = data.draw(businesses(clock(ms, zone).date()))
    reading, left = clock(ms, zone), count
    while left:
        reading += sign * timedelta(days=1)
        left -= reading.weekday() in hours.days and reading.date() not in hours.holidays
    assert add(ms, Duration(0, 0, 0, count), zone, hours, sign) == moment_of(reading, zone)


# --- text ------------------------------------------------------------------------------------------------------------------


@laws
@given(
    st.builds(
        Duration, st.integers(0, 300), st.integers(0, 9_000), st.integers(0, 10**11), st.integers(0, 900), st.integers(0, 10**9)
    )
)
def test_a_duration_reads_back(duration: Duration) -> None:
    assert calendar.parse_duration(duration.text()) == duration


@laws
@given(st.datetimes(datetime(1900, 1, 1), datetime(9000, 12, 31)), zones)
def test_a_moment_reads_back(reading: datetime, zone: str) -> None:
    ms = (reading - EPOCH) // timedelta(milliseconds=1)
    assert calendar.parse_datetime(calendar.format_utc(ms)) == ms
    local = EPOCH + timedelta(milliseconds=ms)
    assert calendar.parse_datetime(local.isoformat(), zone) == moment_of(local, zone)
    with_offset = datetime.fromtimestamp(ms // SECOND, tz.UTC).astimezone(dateutil_zone(zone))
    with_offset = with_offset.replace(microsecond=ms % SECOND * 1000)
    whole_minutes = offset_at(ms // SECOND, zone) % 60 == 0  # ISO 8601 can't write the offsets of local mean time
    if whole_minutes and 1900 <= with_offset.year <= 9000:
        assert calendar.parse_datetime(with_offset.isoformat()) == ms


@laws
@given(
    st.text()
    | st.text("0123456789-:TZ+. ")
    | st.text("0123456789 smhdwbuinehoratykcl")
    | st.sampled_from(ALL_ZONES).flatmap(
        lambda name: st.sampled_from([name + "/..", name + "\0", "/" + name, name.swapcase(), "../" + name])
    )
)
def test_any_text_is_a_value_or_a_sentence(text: str) -> None:
    """Contact data is hostile: no other exception, and nothing unprintable in the sentence."""
    readers = (calendar.parse_datetime, calendar.parse_duration, calendar.parse_date, calendar.zone)
    for read in (*readers, lambda text: calendar.next_anniversary(text, 0, 0, "UTC")):
        try:
            read(text)
        except ValueError as error:
            assert str(error).isprintable()
            assert len(str(error)) < 300
    assert calendar.is_zone(text) == (text in ALL_ZONES)
