"""The workload of all harnesses: a small shop with real campaigns on the real engine, a history of facts, and providers that note what
they get.

E-mail and webhooks go through the first-party plugins into a folder (which recognises every key); text messages go to a provider without
keys, where handing over twice would be seen.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from rules_engine import host as hosts
from rules_engine.actions import Call, Outcome
from rules_engine.facts import ContactChange, Event
from rules_engine.host import Host
from rules_engine.model import meaning
from rules_engine.plan import compile_model
from rules_engine.runtime.calendar import parse_datetime
from rules_engine.service import faults as points
from rules_engine.service.ingest import import_contacts, import_events, readers
from rules_engine.service.runner import DirectRunner
from rules_engine.store.port import Arrival, Store
from rules_engine_plugins._handover import digest
from tests.crash.invariants import Handed

HOUR = 3_600_000
DAY = 24 * HOUR
START = parse_datetime("2026-03-20 10:00", "Europe/Prague")  # the clocks change within the history
END = START + 40 * DAY
SPAN = 14 * DAY  # in which facts happen

PROJECT = """
EVENT signup WITH plan: text
EVENT cart.updated WITH cart_id: text, total: number
EVENT order.placed WITH cart_id: text, total: number
ATTRIBUTE level: number
WORKSPACE
  TIMEZONE "Europe/Prague"
  LIMIT 2 email PER 3 days ELSE HOLD UP TO 2 days
  QUIET FROM 21:00 TO 08:00 ELSE HOLD
  ON LATE > 3650 days RUN
END
FACT contact.spend: number IS SUM event.total OF order.placed WITHIN 5 days
SEGMENT vip
SEGMENT spender IS contact.spend >= 100
SEGMENT silent IS NOT DID order.placed WITHIN 3 days
SEGMENT active IS DID page.viewed WITHIN 36 hours AT LEAST 2 TIMES
RULE interest
  WHEN page.viewed "/pricing" OR page.viewed "/plans"
    THEN points.add 5
END
RULE hot
  AT MOST 1 TIME PER 2 days
  WHEN contact.points BECOMES >= 10
    THEN segment.add vip
    THEN contact.set level: contact.points
    THEN webhook.post "https://crm.example/hot", body: {points: contact.points}
END
RULE cools
  WHEN contact LEAVES active
    THEN points.subtract 4
    THEN sms.send "Still interested?"
END
RULE daily
  WHEN EVERY day AT 02:30 WHERE contact IN spender
    THEN points.add 1, group: loyalty
END
CAMPAIGN welcome
  EXIT "bought" WHEN order.placed WHERE event.total > 50
    THEN tag.add bought
  GOAL order.placed WITHIN 10 days
  REENTRY AFTER 5 days
  WHEN signup
    THEN email.send "welcome_1"
    AFTER 1 day
    THEN sms.send "Your {event.plan} plan is ready"
    WAIT UNTIL page.viewed "/pricing" UP TO 2 days
      THEN email.send "welcome_pricing"
    OTHERWISE
      THEN email.send "welcome_2"
    END
    AFTER 3 days
    IF contact IN vip
      THEN sms.send "For you only"
    ELSE
      THEN email.send "welcome_3"
    END
END
CAMPAIGN cart
  FOR EACH event.cart_id
  MODE RESTART
  EXIT "bought" WHEN order.placed
  WHEN cart.updated WHERE event.total >= 20
    AFTER 1 hour
    THEN sms.send "Cart {event.cart_id} waits for you"
    AFTER 1 day
    THEN email.send "cart", cart: event.cart_id
    THEN webhook.post "https://crm.example/cart", body: {cart: event.cart_id}
END
CAMPAIGN back
  REENTRY AFTER 10 days
  WHEN contact ENTERS silent
    REPEAT EVERY 2 days AT 11:00 UP TO 3 TIMES WHILE NOT DID order.placed SINCE START
      THEN email.send "back"
    END
END
"""
TEMPLATES = ("welcome_1", "welcome_2", "welcome_3", "welcome_pricing", "cart", "back")


@lru_cache(1)
def plugins() -> Host:
    return hosts.load()


@lru_cache(1)
def program() -> Any:
    """The shop's program."""
    return compile_text(PROJECT)


def compile_text(text: str) -> Any:
    from rules_engine.syntax.parser import parser

    built = meaning.build([parser().parse(text, "shop.camp")], plugins().actions, plugins().events)
    return compile_model(built, plugins().actions, hashlib.sha256(text.encode()).hexdigest())


def chance(*what: object) -> float:
    """A number in [0, 1) that depends on `what` only."""
    return int.from_bytes(hashlib.blake2b(repr(what).encode(), digest_size=6).digest(), "big") / 2**48


# ---------------------------------------------------------------- facts


def contact_records(contacts: int) -> list[dict[str, Any]]:
    return [{"id": f"c{n:03}", "email": f"c{n}@shop.example", "phone": f"+4201{n:05}", "consent.email": True, "consent.sms": True,
             "created_at": "2026-03-20T08:00:00Z"} for n in range(contacts)]


def event_records(events: int, contacts: int, seed: int = 1, begin: int = START) -> list[dict[str, Any]]:
    """In order of arrival; they happened in no order, within SPAN from `begin`."""
    found = []
    for n in range(events):
        dice = chance(seed, "name", n)
        record: dict[str, Any] = {"id": f"e{n}", "contact": f"c{int(chance(seed, 'contact', n) * contacts):03}",
                                  "at": moment(begin + int(chance(seed, "at", n) * SPAN / 60_000) * 60_000)}
        cart = f"k{int(chance(seed, 'cart', n) * 3)}"
        if dice < 0.4:
            record |= {"event": "page.viewed", "subject": ("/pricing", "/plans", "/other")[int(chance(seed, "page", n) * 3)]}
        elif dice < 0.55:
            record |= {"event": "signup", "data": {"plan": "small"}}
        elif dice < 0.8:
            record |= {"event": "cart.updated", "data": {"cart_id": cart, "total": int(chance(seed, "total", n) * 90)}}
        elif dice < 0.95:
            record |= {"event": "order.placed", "data": {"cart_id": cart, "total": int(chance(seed, "total", n) * 90)}}
        else:
            record |= {"event": "email.unsubscribed" if chance(seed, "channel", n) < 0.5 else "sms.unsubscribed"}
        found.append(record)
    return found


def moment(ms: int) -> str:
    from rules_engine.runtime.calendar import format_utc

    return format_utc(ms)


def facts(events: int, contacts: int, seed: int = 1, begin: int = START) -> list[Event | ContactChange]:
    """The same as records of the engine, contacts first."""
    read_event, read_contact = readers(program().model, "UTC")
    changes = [read_contact(dict(record), START - HOUR)._replace(id=f"contact:{record['id']}") for record in contact_records(contacts)]
    return [*changes, *(read_event(record) for record in event_records(events, contacts, seed, begin))]


def arrivals(causes: Iterable[Event | ContactChange]) -> list[Arrival]:
    return [Arrival(cause, "contacts" if isinstance(cause, ContactChange) else "events") for cause in causes]


def write_files(folder: Path, events: list[dict[str, Any]], contacts: list[dict[str, Any]]) -> None:
    """The facts as files of `camp contact import` and `camp event import`, and the templates."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "contacts.jsonl").write_bytes(b"".join(orjson.dumps(item) + b"\n" for item in contacts))
    (folder / "events.jsonl").write_bytes(b"".join(orjson.dumps(item) + b"\n" for item in events))
    os.utime(folder / "contacts.jsonl", (START / 1000 - 3600, START / 1000 - 3600))
    write_templates(folder)


def write_templates(folder: Path) -> None:
    (folder / "templates").mkdir(parents=True, exist_ok=True)
    for name in TEMPLATES:
        (folder / "templates" / f"{name}.txt").write_text(f"Subject: {name}\n\nHello {{{{ contact.id }}}}\n")


def importing(store: Store, folder: Path, acknowledge: Callable[[str], None], faults: points.Faults = points.none) -> None:
    """Both files; each batch is acknowledged after it was kept, as `contacts LINES` or `events LINES`."""
    read_event, read_contact = readers(program().model, "UTC")
    import_contacts(store, folder / "contacts.jsonl", read_contact, batch=20, faults=faults,
                    progress=lambda lines, size: acknowledge(f"contacts {lines}"))
    import_events(store, folder / "events.jsonl", read_event, batch=20, faults=faults,
                  progress=lambda lines, size: acknowledge(f"events {lines}"))


def acknowledged(folder: Path) -> list[Event]:
    """The events that `importing` has acknowledged so far. (Changes of contacts get their ids while they are imported.)"""
    read_event, _ = readers(program().model, "UTC")
    count = max((int(line.split()[1]) for line in lines(folder / "acknowledged") if line.startswith("events")), default=0)
    return [read_event(orjson.loads(line)) for line in lines(folder / "events.jsonl")[:count]]


# ---------------------------------------------------------------- providers


def append(path: Path, text: str) -> None:
    """One write: a killed process leaves the whole line or none."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, text.encode() + b"\n")
    os.close(descriptor)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def host(took: Callable[[Call], None], remote: bool = False) -> Host:
    """First-party plugins, but text messages go to a provider that knows no keys: `took` is told of each. remote: so do webhooks, and
    e-mail goes to one that recognises every key."""

    def perform(call: Call) -> Outcome:
        took(call)
        return Outcome("accepted", "taken", f"id-{call.key}")

    actions = dict(plugins().actions)
    for name in ("sms.send", "webhook.post") if remote else ("sms.send",):
        actions[name] = dataclasses.replace(actions[name], perform=perform, idempotency="none")
    if remote:
        actions["email.send"] = dataclasses.replace(actions["email.send"], perform=perform, idempotency="key", window=365 * 86_400.0)
    return dataclasses.replace(plugins(), actions=actions)


def options(folder: Path) -> dict[str, Any]:
    """For `run_once` and `run_forever`."""
    return {
        "sources": {"shop.camp": PROJECT},
        "settings": {
            "email": {"templates": "templates", "from": "Shop <shop@shop.example>", "folder": "outbox", "fsync": False},
            "webhook": {"folder": "outbox", "fsync": False},
        },
        "project": folder,
        "runner": DirectRunner(),
    }


def in_folder(folder: Path, effects: Iterable[tuple[str, str]]) -> list[Handed]:
    """What the first-party transports have written, as keys. effects: (id, contact) of all."""
    outbox = folder / "outbox"
    found = [Handed(orjson.loads(line)["key"]) for line in lines(outbox / "webhook.jsonl") if line]
    names = {digest(id, contact) + ".eml": id for id, contact in effects}
    return found + [Handed(names.get(path.name, path.name)) for path in sorted(outbox.glob("*.eml"))]
