"""What people do in a year: a list of inputs by the moment at which Camp is told of them, the same for the same seed."""

from __future__ import annotations

import random
from typing import NamedTuple

from rules_engine.facts import ContactChange, Event
from rules_engine.store.port import SOURCE_CONTACTS, SOURCE_EVENTS, Arrival
from tests.simulation.campaigns import DAY, HOUR

START = 1_772_409_600_000  # 2026-03-02T00:00:00Z
ZONES = ("Europe/Prague", "America/New_York", "Asia/Tokyo", "Australia/Lord_Howe", None)
MINUTE = 60_000


class Input(NamedTuple):
    """`at`: when Camp is told; the arrivals come in one batch."""

    at: int
    arrivals: tuple[Arrival, ...]


def inputs(seed: int, days: int, people: int) -> list[Input]:
    """All that happens to all people, in the order in which Camp is told."""
    found: list[tuple[int, int, Arrival]] = []
    for number in range(people):
        _Person(seed, number, days, found).live()
    found.sort(key=lambda item: item[:2])
    chance = random.Random(f"batches {seed}")
    batches: list[Input] = []
    while found:
        size = chance.choice((1, 1, 1, 2, 5))
        batch, found = found[:size], found[size:]
        if batch[-1][0] - batch[0][0] > HOUR:  # a sender gathers for an hour at most
            found = batch[1:] + found
            batch = batch[:1]
        batches.append(Input(batch[-1][0], tuple(arrival for _, _, arrival in batch)))
    return batches


class _Person:
    """One person's year."""

    def __init__(self, seed: int, number: int, days: int, found: list[tuple[int, int, Arrival]]) -> None:
        self.chance = random.Random(f"person {seed} {number}")
        self.name, self.number, self.found = f"p{number}", number, found
        self.end = START + days * DAY
        self.count = 0

    def live(self) -> None:
        chance = self.chance
        now = START + int(chance.random() * 0.3 * (self.end - START))
        self.change(now, {"email": f"{self.name}@example.com", "phone": "+420123456", "consent.email": True, "consent.sms": True,
                          "timezone": chance.choice(ZONES)})
        if chance.random() < 0.9:
            self.event(now + chance.randrange(3 * DAY), "list.joined")
        lively = chance.choice((2, 4, 9))  # days between two things
        while (now := now + int(chance.expovariate(1 / (lively * DAY))) + MINUTE) < self.end:
            self.happen(now)

    def happen(self, now: int) -> None:
        chance, roll = self.chance, self.chance.random()
        if roll < 0.35:
            self.event(now, "page.viewed", chance.choice(("/pricing", "/pricing", "/plans", "/")))
        elif roll < 0.55:
            self.shop(now)
        elif roll < 0.75:
            template = chance.choice(("welcome_1", "welcome_2", "cart", "cart", "miss_you"))
            self.event(now, chance.choice(("email.opened", "email.clicked")), template)
        elif roll < 0.83:
            self.change(now, {"timezone": chance.choice(ZONES)})
        elif roll < 0.90:
            self.change(now, {"plan": chance.choice(("free", "trial", "paid"))})
        elif roll < 0.94:
            self.change(now, {"renewal": chance.choice((None, now + chance.randrange(40 * DAY)))})
        elif roll < 0.96:
            self.event(now, "email.unsubscribed", "cart")
        elif roll < 0.98:
            self.change(now, {"consent.email": True})
        elif roll < 0.985:
            self.event(now, "email.bounced", "cart", kind=chance.choice(("hard", "soft")))
        else:
            self.event(now, "loop.started", n=1)

    def shop(self, now: int) -> None:
        """A cart that grows, and sometimes an order."""
        chance, cart = self.chance, f"{self.name}c{self.count}"
        for _ in range(chance.choice((1, 1, 2))):
            self.event(now, "cart.updated", cart_id=cart, total=chance.randrange(10, 90))
            now += chance.randrange(3 * HOUR)
        if chance.random() < 0.4:
            self.event(now + chance.randrange(30 * HOUR), "order.placed", cart_id=cart, total=chance.randrange(10, 150))

    def event(self, at: int, name: str, subject: str | None = None, **data: object) -> None:
        """Told at once, or up to three days late, so also out of order."""
        late = self.chance.randrange(3 * DAY) if self.chance.random() < 0.06 else self.chance.randrange(2 * MINUTE)
        self.count += 1
        event = Event(f"{self.name}e{self.count}", name, self.name, at, subject, data)
        self.found.append((at + late, self.number, Arrival(event, SOURCE_EVENTS)))

    def change(self, at: int, attributes: dict[str, object]) -> None:
        self.count += 1
        self.found.append((at, self.number, Arrival(ContactChange(f"{self.name}e{self.count}", self.name, at, attributes), SOURCE_CONTACTS)))
