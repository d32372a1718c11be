"""18 months of real purchases: what `camp simulate --json` says, line by line, against a count that shares no code with it.

The first half of this file is the count: plain Python and `datetime`, nothing of Camp. It reads the raw data, reckons in the shop's
wall-clock time, and lists every single thing that campaigns/cdnow ought to do. The second half compares: every contact, every minute.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "campaigns" / "cdnow"
DATA = PROJECT / "data" / "CDNOW_sample.txt"
UNTIL = datetime(1998, 7, 1)
ZONE = ZoneInfo("America/New_York")


# ── the count ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

class Thing(NamedTuple):
    """Something that ought to happen: to whom, when (the shop's wall clock), in which campaign or rule, what."""

    contact: str
    at: datetime
    who: str
    kind: str
    what: str


class Order(NamedTuple):
    at: datetime
    total: Decimal


def orders_by_customer() -> dict[str, list[Order]]:
    """The raw data: each purchase at noon of its day, in the order of the file."""
    found: dict[str, list[Order]] = {}
    for line in DATA.read_text().splitlines():
        if line.strip():
            customer, _, day, _, dollars = line.split()
            noon = datetime.combine(date(int(day[:4]), int(day[4:6]), int(day[6:])), time(12))
            found.setdefault(customer, []).append(Order(noon, Decimal(dollars)))
    return found


def days(count: int) -> timedelta:
    return timedelta(days=count)


class Customer:
    """What ought to happen to one customer. Mails are candidates first: the limit of two in seven days is reckoned over all of them."""

    def __init__(self, name: str, orders: list[Order]) -> None:
        self.name, self.orders = name, orders
        self.things: list[Thing] = []
        self.mails: list[tuple[datetime, int, str, str]] = []  # when, place among equals, campaign, template
        assert all(one.at <= two.at for one, two in pairwise(orders))
        self.first = orders[0].at

    def all(self) -> list[Thing]:
        self.welcome()
        self.win_back()
        self.vip()
        self.anniversary()
        self.limit()
        return [thing for thing in self.things if thing.at <= UNTIL]

    def add(self, at: datetime, who: str, kind: str, what: str = "") -> None:
        self.things.append(Thing(self.name, at, who, kind, what))

    def mail(self, at: datetime, place: int, campaign: str, template: str) -> None:
        if at <= UNTIL:
            self.mails.append((at, place, campaign, template))

    def welcome(self) -> None:
        """Thanks at once; seven days later, at the next 10:00, a reminder to whom has not ordered again. Goal: again within 30 days."""
        self.add(self.first, "remember_first_order", "action", self.first.date().isoformat())
        self.add(self.first, "welcome", "enter")
        self.mail(self.first, 5, "welcome", "thank_you")
        due = datetime.combine(self.first.date() + days(8), time(10))  # noon + 7 days is past that day's 10:00
        self.add(self.first, "welcome", "wait", str(due))
        later = [order.at for order in self.orders[1:]]
        if any(at < due for at in later):
            self.add(due, "welcome", "skip", "")
        else:
            self.mail(due, 0, "welcome", "second_order")
        self.add(due, "welcome", "complete")
        if later and later[0] < self.first + days(30):
            self.add(later[0], "welcome", "goal")

    def win_back(self) -> None:
        """90 days after an order that no other followed. What is due comes before what happens at the same moment."""
        moments = sorted({order.at for order in self.orders})
        entered: datetime | None = None
        for moment, after in zip(moments, [*moments[1:], None], strict=True):
            due = moment + days(90)
            if due > UNTIL or after is not None and after < due:
                continue
            if entered is not None and due < entered + days(180):
                self.add(due, "win_back", "skip", "")
                continue
            entered = due
            second = due + days(14)
            self.add(due, "win_back", "enter")
            self.mail(due, 1, "win_back", "win_back_1")
            self.add(due, "win_back", "wait", str(second))
            if after is None or after >= second:
                self.mail(second, 1, "win_back", "win_back_2")
                self.add(second, "win_back", "complete")
            else:
                self.add(after, "win_back", "exit", "order.placed")
            if after is not None and after < due + days(30):
                self.add(after, "win_back", "goal")

    def vip(self) -> None:
        """250 dollars within 365 days: each order counts from its moment until 365 days later, when it stops first."""
        inside = False
        counting: list[Order] = []
        moments = sorted({order.at for order in self.orders} | {order.at + days(365) for order in self.orders})
        for moment in moments:
            if moment > UNTIL:
                break
            counting = [order for order in counting if order.at + days(365) > moment]
            if inside and spend(counting) < 250:
                inside = False
                self.add(moment, "vip_left", "action", "left the VIP tier")
            for order in self.orders:
                if order.at == moment:
                    counting.append(order)
                    if not inside and spend(counting) >= 250:
                        inside = True
                        self.add(moment, "vip_tier", "enter")
                        self.mail(moment, 4, "vip_tier", f"vip_welcome {spend(counting):.2f}")
                        self.add(moment, "vip_tier", "complete")

    def anniversary(self) -> None:
        """09:00, a year after the first order. None of them was on 29 February, and the run ends before the second."""
        moment = datetime.combine(self.first.date().replace(year=self.first.year + 1), time(9))
        self.add(moment, "anniversary", "enter")
        self.mail(moment, 0, "anniversary", f"anniversary {self.first.date()}")
        self.add(moment, "anniversary", "complete")

    def limit(self) -> None:
        """Two mails in seven days, whichever campaign they are of; a third is lost."""
        sent: list[datetime] = []
        for at, _, campaign, template in sorted(self.mails):
            fits = sum(1 for before in sent if at < before + days(7)) < 2
            if fits:
                sent.append(at)
            self.add(at, campaign, "action" if fits else "skip", template if fits else f"{template} capped")


def spend(counting: list[Order]) -> Decimal:
    return sum((order.total for order in counting), Decimal(0))


def counted() -> Iterator[Thing]:
    for name, orders in orders_by_customer().items():
        yield from Customer(name, orders).all()


# ── the engine's own account ─────────────────────────────────────────────────────────────────────────────────────────────────────

@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> list[Thing]:
    folder = tmp_path_factory.mktemp("cdnow")
    subprocess.run([sys.executable, PROJECT / "prepare.py", folder], check=True, capture_output=True)
    answer = subprocess.run(
        [sys.executable, "-m", "rules_engine", "simulate", PROJECT, "--contacts", folder / "contacts.jsonl", "--events", folder / "events.jsonl",
         "--until", "1998-07-01", "--json"], check=True, capture_output=True, text=True, cwd=ROOT)
    return [told(json.loads(line)) for line in answer.stdout.splitlines()]


def told(line: dict) -> Thing:
    """A line of the public stream (CLI.md) in the count's own words."""
    what = ""
    if line["kind"] == "wait":
        what = str(local(line["params"]["until"]))
    elif line["kind"] == "exit":
        what = line["reason"]
    elif line["action"] == "contact.set":
        what = line["params"]["first_order"]
    elif line["action"] is not None:
        what = " ".join([line["primary"], *(shown(line["params"][name]) for name in ("spend", "since") if name in line["params"])])
        if line["kind"] == "skip":
            what += f" {line['outcome']}"
    return Thing(line["contact"], local(line["at"]), line["campaign"] or line["rule"], line["kind"], what)


def shown(value: object) -> str:
    return value if isinstance(value, str) else f"{value:.2f}"


def local(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(ZONE).replace(tzinfo=None)


# ── compared ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

def test_everything_that_happens_is_what_was_counted_and_nothing_else(simulated: list[Thing]) -> None:
    expected = Counter(counted())
    actual = Counter(simulated)
    missing, extra = expected - actual, actual - expected
    assert (sorted(missing)[:10], sorted(extra)[:10]) == ([], [])
    assert sum(actual.values()) == sum(expected.values()) > 30_000


def test_the_figures(simulated: list[Thing]) -> None:
    """The totals that the README quotes; the count above says that each of them is right."""
    totals = Counter((thing.who, thing.kind) for thing in simulated)
    mails = Counter(thing.what.split()[0] for thing in simulated if thing.kind == "action" and thing.who not in ("vip_left", "remember_first_order"))
    assert dict(mails) == {"thank_you": 2357, "second_order": 2183, "win_back_1": 2817, "win_back_2": 2662, "vip_welcome": 223, "anniversary": 2357}
    assert totals["welcome", "goal"] == 429
    assert totals["win_back", "exit"] == 118
    assert totals["win_back", "goal"] == 222
    assert totals["win_back", "skip"] == 336  # silent again less than 180 days after the last win-back
    assert totals["vip_tier", "enter"] == 223
    assert totals["vip_left", "action"] == 122


def test_the_stream_is_in_the_order_that_it_promises(simulated: list[Thing]) -> None:
    keys = [(thing.at, thing.contact) for thing in simulated]
    # Wall-clock time runs back by an hour once a year; no purchase, mail or timer here falls into that hour.
    assert keys == sorted(keys)


def test_the_input_is_the_data_and_each_id_is_there_once(tmp_path: Path) -> None:
    subprocess.run([sys.executable, PROJECT / "prepare.py", tmp_path], check=True, capture_output=True)
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    contacts = [json.loads(line) for line in (tmp_path / "contacts.jsonl").read_text().splitlines()]
    orders = orders_by_customer()
    assert len({event["id"] for event in events}) == len(events) == 6919
    assert [contact["id"] for contact in contacts] == list(orders) and len(contacts) == 2357
    assert Counter((event["contact"], local(event["at"]), Decimal(str(event["data"]["total"]))) for event in events) \
        == Counter((name, order.at, order.total) for name, some in orders.items() for order in some)
    first = (tmp_path / "events.jsonl").read_bytes()
    subprocess.run([sys.executable, PROJECT / "prepare.py", tmp_path], check=True, capture_output=True)
    assert (tmp_path / "events.jsonl").read_bytes() == first
