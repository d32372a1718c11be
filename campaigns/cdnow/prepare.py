"""Real purchases to Camp's input: `python campaigns/cdnow/prepare.py` writes contacts.jsonl and events.jsonl beside this file.

What the data don't say is chosen here, once, and the same each time:
* The hour. Every purchase is at 12:00 in the shop's time zone (America/New_York, as in shop.camp).
* The id of a purchase. Customer, day, and its number on that day: `00004-19970101-1`. Several purchases on one day are real, and so
  are two that are equal in everything; they keep the order of the file.
* The contact. The id is the customer's in the full data set. It is known from the moment of its first purchase, has an address under
  example.com, and agreed to e-mail.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

HERE = Path(__file__).parent
SOURCE = HERE / "data" / "CDNOW_sample.txt"
ZONE = ZoneInfo("America/New_York")
NOON = time(12, 0)


class Purchase(NamedTuple):
    customer: str
    day: date
    quantity: int
    total: float
    id: str


def purchases(source: Path = SOURCE) -> Iterator[Purchase]:
    """The purchases in the order of the file: by customer, then by day."""
    numbers: Counter[tuple[str, str]] = Counter()
    for line in source.read_text(encoding="ascii").splitlines():
        if not line.strip():
            continue
        customer, _, day, quantity, value = line.split()
        numbers[customer, day] += 1
        yield Purchase(customer, datetime.strptime(day, "%Y%m%d").date(), int(quantity), float(value), f"{customer}-{day}-{numbers[customer, day]}")


def moment(day: date) -> str:
    """Noon of a day in the shop's zone, as UTC text."""
    return datetime.combine(day, NOON, ZONE).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write(folder: Path = HERE, source: Path = SOURCE) -> tuple[Path, Path, int, int]:
    """Writes both files; their paths and the numbers of contacts and events."""
    folder.mkdir(parents=True, exist_ok=True)
    contacts, events = folder / "contacts.jsonl", folder / "events.jsonl"
    known: dict[str, str] = {}
    count = 0
    with events.open("w", encoding="utf-8") as stream:
        for purchase in purchases(source):
            at = moment(purchase.day)
            known.setdefault(purchase.customer, at)
            data = {"quantity": purchase.quantity, "total": purchase.total}
            stream.write(json.dumps({"id": purchase.id, "event": "order.placed", "contact": purchase.customer, "at": at, "data": data}) + "\n")
            count += 1
    with contacts.open("w", encoding="utf-8") as stream:
        for customer, at in known.items():
            stream.write(json.dumps({"id": customer, "email": f"customer-{customer}@example.com", "consent.email": True, "created_at": at}) + "\n")
    return contacts, events, len(known), count


if __name__ == "__main__":
    made_contacts, made_events, people, orders = write(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
    print(f"{people:,} contacts in {made_contacts}\n{orders:,} orders in {made_events}", file=sys.stderr)
