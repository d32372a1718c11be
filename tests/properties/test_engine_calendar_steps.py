"""Steps and triggers on time against python-dateutil, over many zones and the changes of their clocks."""

from __future__ import annotations

import os
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from dateutil import tz
from dateutil.relativedelta import relativedelta
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.kit import Person, ms, program

EXAMPLES = int(os.environ.get("CAMP_ENGINE_EXAMPLES", "120"))
ZONES = ["UTC", "Europe/Prague", "Europe/London", "America/New_York", "America/St_Johns", "America/Sao_Paulo", "Asia/Kolkata", "Asia/Tehran",
         "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Auckland", "Pacific/Chatham", "Africa/Cairo", "Africa/Casablanca", "Asia/Beirut",
         "America/Havana", "Europe/Dublin", "Asia/Amman"]
STEPS = {
    "hours": "AFTER 36 hours", "day": "AFTER 1 day", "mixed": "AFTER 1 day 5 hours", "month": "AFTER 1 month", "year": "AFTER 1 year",
    "at": "AFTER 3 days AT 10:00", "night": "AFTER 1 hour AT 02:30", "midnight": "AFTER 1 hour AT 00:00", "weekday": "AFTER 1 day AT 02:15 ON sun",
    "window": "AFTER 2 hours BETWEEN 09:00 AND 17:30", "overnight": "AFTER 2 hours BETWEEN 22:00 AND 06:00",
    "office": "AFTER 1 day BETWEEN 09:00 AND 17:00 ON mon-fri", "days": "AFTER 1 hour ON sat, sun",
}
PROGRAM = program("".join(f"CAMPAIGN {name}\n WHEN ping\n {text}\n THEN log.write \"{name}\"\nEND\n" for name, text in STEPS.items()))
EVERY = program('RULE daily\n WHEN EVERY day AT 02:30\n THEN log.write "daily"\nEND\nRULE sunday\n WHEN EVERY sun AT 00:15\n THEN log.write "sunday"\nEND\n'
                'RULE monthly\n WHEN EVERY month ON 31 AT 01:30\n THEN log.write "monthly"\nEND\n')


def _zone(name: str) -> Any:
    found = tz.gettz(name)
    assert found is not None
    return found


def local(moment: int, zone: str) -> datetime:
    """The clock on the wall, without its zone."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=moment)).astimezone(_zone(zone)).replace(tzinfo=None)


def utc(wall: datetime, zone: str) -> int:
    """The moment of a reading of the clock: in a gap later by the gap, twice: the first."""
    moment = tz.resolve_imaginary(wall.replace(tzinfo=_zone(zone), fold=0)).astimezone(UTC)
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1))


def at(moment: int, hour: int, minute: int, zone: str, days: tuple[int, ...] = tuple(range(7))) -> int:
    day = local(moment, zone).date() - timedelta(days=1)
    while True:
        if day.weekday() in days:
            found = utc(datetime(day.year, day.month, day.day, hour, minute), zone)
            if found >= moment:
                return found
        day += timedelta(days=1)


def first(moment: int, inside: Any, zone: str) -> int:
    """Looks at each quarter of an hour."""
    quarter = 15 * 60_000
    while not inside(local(moment, zone)):
        moment = (moment // quarter + 1) * quarter
    return moment


def expected(start: int, zone: str) -> dict[str, int]:
    hour = 3_600_000

    def plus(delta: relativedelta) -> int:
        return utc(local(start, zone) + delta, zone)

    day = plus(relativedelta(days=1))
    return {
        "hours": start + 36 * hour, "day": day, "mixed": day + 5 * hour, "month": plus(relativedelta(months=1)),
        "year": plus(relativedelta(years=1)), "at": at(plus(relativedelta(days=3)), 10, 0, zone), "night": at(start + hour, 2, 30, zone),
        "midnight": at(start + hour, 0, 0, zone), "weekday": at(day, 2, 15, zone, (6,)),
        "window": first(start + 2 * hour, lambda wall: (9, 0) <= (wall.hour, wall.minute) < (17, 30), zone),
        "overnight": first(start + 2 * hour, lambda wall: wall.hour >= 22 or wall.hour < 6, zone),
        "office": first(day, lambda wall: wall.weekday() < 5 and 9 <= wall.hour < 17, zone),
        "days": first(start + hour, lambda wall: wall.weekday() >= 5, zone),
    }


@st.composite
def moments(draw: st.DrawFn) -> tuple[int, str]:
    """A moment, often within days of a change of the zone's clock."""
    zone = draw(st.sampled_from(ZONES))
    moment = ms(draw(st.dates(date(2001, 1, 1), date(2029, 12, 31))).isoformat())
    if draw(st.integers(0, 2)):
        for _ in range(400):
            if local(moment, zone) - local(moment - 86_400_000, zone) != timedelta(days=1):
                break
            moment += 86_400_000
        moment += draw(st.integers(-3, 1)) * 86_400_000
    return moment + draw(st.integers(0, 96)) * 15 * 60_000 + draw(st.sampled_from([0, 0, 1, 7 * 60_000 + 13])), zone


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(moments())
def test_delays(moment: tuple[int, str]) -> None:
    start, zone = moment
    ana = Person(PROGRAM, start, timezone=zone)
    ana.event("ping")
    ana.to(start + 400 * 86_400_000)
    found = {item.primary: item.at for item in ana.log if item.kind == "action"}
    assert found == expected(start, zone)


@settings(max_examples=EXAMPLES // 3, deadline=None, suppress_health_check=list(HealthCheck))
@given(moments())
def test_rhythms(moment: tuple[int, str]) -> None:
    start, zone = moment
    ana = Person(EVERY, start, timezone=zone)
    end = start + 40 * 86_400_000
    ana.to(end)
    day = local(start, zone).date() - timedelta(days=2)
    wanted: dict[str, list[int]] = {"daily": [], "sunday": [], "monthly": []}
    for _ in range(45):
        last = (day + timedelta(days=1)).day == 1
        for name, hour, minute, fits in (("daily", 2, 30, True), ("sunday", 0, 15, day.weekday() == 6), ("monthly", 1, 30, last)):
            found = utc(datetime(day.year, day.month, day.day, hour, minute), zone)
            if fits and start <= found <= end:
                wanted[name].append(found)
        day += timedelta(days=1)
    for name, times in wanted.items():
        assert [item.at for item in ana.log if item.primary == name] == times, name
