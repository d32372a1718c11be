"""The CDNOW purchases as contacts and events in Camp's JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

UNTIL = "1998-07-01T00:00:00Z"
_YEAR = 365.25 * 86_400


def purchases(path: Path) -> Iterator[tuple[str, str, int, float]]:
    """(customer in the sample, day as YYYY-MM-DD, quantity, total) in the order of the file."""
    with open(path, encoding="ascii") as lines:
        for line in lines:
            if line.strip():
                _, customer, day, quantity, total = line.split()
                yield customer, f"{day[:4]}-{day[4:6]}-{day[6:]}", int(quantity), float(total)


def write_jsonl(source: Path, folder: Path) -> tuple[Path, Path, float]:
    """Write contacts.jsonl and events.jsonl; also how many contact-years there are until UNTIL.

    The source has days only: purchases are at noon UTC, and a customer's record was created with the first of them.
    """
    contacts, events = folder / "contacts.jsonl", folder / "events.jsonl"
    first: dict[str, str] = {}
    with open(events, "w", encoding="utf-8") as out:
        for number, (customer, day, quantity, total) in enumerate(purchases(source), 1):
            contact, at = f"c{customer}", f"{day}T12:00:00Z"
            first[contact] = min(first.get(contact, at), at)
            data = {"quantity": quantity, "total": total}
            record = {"id": f"cdnow-{number}", "event": "order.placed", "contact": contact, "at": at, "data": data}
            out.write(json.dumps(record) + "\n")
    with open(contacts, "w", encoding="utf-8") as out:
        for contact, at in first.items():
            record = {"id": contact, "email": f"{contact}@example.com", "timezone": "UTC", "created_at": at}
            out.write(json.dumps(record) + "\n")
    return contacts, events, contact_years(first.values())


def contact_years(starts) -> float:
    """The years from each start until UNTIL, added up."""
    end = _moment(UNTIL)
    return sum(end - _moment(start) for start in starts) / _YEAR


def _moment(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
