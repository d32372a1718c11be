"""What all handlers share: settings, meaning, clock, writer, reader; and the few things that they do to them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.requests import Request

from rules_engine.actions import Change
from rules_engine.clock import Clock
from rules_engine.engine import merged_into
from rules_engine.engine.unread import Unread
from rules_engine.facts import ContactChange, Event
from rules_engine.service.ingest import Fate, ReadContact, ReadEvent
from rules_engine.service.keys import split_key
from rules_engine.service.web.auth import require_token
from rules_engine.service.web.chance import Chance
from rules_engine.service.web.problems import PersonalProblem, Problem, busy
from rules_engine.service.web.rate import Rate
from rules_engine.service.web.reader import Reader
from rules_engine.service.web.settings import WebSettings
from rules_engine.service.web.signatures import TOLERANCE, Once
from rules_engine.service.web.writer import Then, Writer
from rules_engine.store import codec
from rules_engine.store.port import SOURCE_CONTACTS, Arrival, EffectRow, Store, StoreError

SOURCE_WEB = "web"  # what browsers and mail programs tell; ids made by us
PATIENCE = 30.0  # seconds that a request waits for its commit
VISIT_PATIENCE = 1.0  # seconds that a person waits for the commit of a visit
LOOK_SECONDS = 0.5  # for what is only nice to know about a visit
DAY = 86_400_000
MAX_TEXT = 2_000  # characters of a text from a browser that are kept


@dataclass
class Web:
    """Everything behind the routes. model: the campaigns' meaning (which events and attributes there are); keys: campaign -> its FOR EACH
    fields; attributes: a contact's attributes from its state; view: shows a message again, see view.py."""

    settings: WebSettings
    model: Any
    read_event: ReadEvent
    read_contact: ReadContact
    clock: Clock
    writer: Writer
    reader: Reader
    chance: Chance
    project: Path
    attributes: Callable[[dict], Mapping[str, Any]]
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    hold_ms: int = 1_000
    view: Callable[[EffectRow, Mapping[str, Any]], tuple[str, str]] | None = None
    visits: Rate = field(init=False)
    posts: Rate = field(init=False)
    mailgun: Once = field(init=False)

    def __post_init__(self) -> None:
        self.unread = Unread(self.model)
        self.visits = Rate(self.settings.visits_per_minute, self.clock)
        self.posts = Rate(self.settings.forms_per_minute, self.clock)
        self.mailgun = Once(self.clock, 2_000 * TOLERANCE)

    # ------------------------------------------------------------ before the body is read

    def authorise(self, request: Request) -> str:
        """Who writes, and whether there is room. Raises Problem 401, 403, 503."""
        name = require_token(request, self.settings.tokens)
        self.push_back()
        return name

    def push_back(self) -> None:
        """Raises Problem 503 while nothing can be taken in: told before a large body is read."""
        reason = self.writer.full()
        if reason:
            raise busy(f"{reason}; try again in a while, nothing of this request was kept", 5)

    def limit(self, request: Request, rate: Rate) -> None:
        """Raises Problem 429 for an address that comes too often."""
        seconds = rate.wait(request.client.host if request.client else "")
        if seconds:
            raise Problem(429, "too-often", f"too many requests from this address; wait {seconds} s", {"Retry-After": str(seconds)})

    # ------------------------------------------------------------ writing

    async def record(self, arrivals: Sequence[Arrival], *, keep: bool = False, then: Then | None = None, personal: bool = False) -> list[Fate]:
        """The fate of each, once all is durable. Raises Problem 503 where the store does not take it."""
        if not arrivals and then is None:
            return []
        problem = PersonalProblem if personal else Problem
        later = {"Retry-After": "5"}
        try:
            return await asyncio.wait_for(self.writer.submit(arrivals, wish=keep, then=then), PATIENCE)
        except StoreError as error:
            said = "it is not on the disk yet; it will be written as soon as it can be" if keep else f"it could not be kept: {error.kind}; try again"
            raise problem(503, "store-unavailable", said, later) from None
        except TimeoutError:
            raise problem(503, "store-slow", "it is not known to be kept yet; send it again with the same id", later) from None

    async def visit(self, arrivals: Sequence[Arrival]) -> None:
        """Records a visit, and waits for it a little: a person is on the way. What can't be written now is kept in memory and written when it
        can be; a process that is killed before that loses it. While too much waits, it is not recorded."""
        if not arrivals or not self.writer.takes_visits():
            return
        future = self.writer.submit(arrivals, keep=True)
        try:
            await asyncio.wait_for(future, VISIT_PATIENCE)
        except (TimeoutError, StoreError):
            return

    # ------------------------------------------------------------ reading

    async def ask(self, question: Callable[[Store], Any]) -> Any:
        """An answer of the store. Raises Problem 503."""
        try:
            return await self.reader.ask(question)
        except StoreError as error:
            raise busy(f"the store can't be read: {error.kind}; try again") from None

    async def effect(self, id: Any) -> EffectRow | None:
        """The outbox's row of a message, if it is still there and the store answers at once."""
        if not isinstance(id, str):
            return None
        try:
            return await self.reader.ask(lambda store: store.effect(id), LOOK_SECONDS)
        except StoreError:
            return None

    async def contact_by(self, kind: str, address: str) -> str | None:
        """The contact that has this `email` or `phone`: the one last told to have it, unless its state says that it has another by now."""

        def look(store: Store) -> str | None:
            contact = store.contact_at(kind, address)
            if contact is None:
                return None
            row = store.contacts([contact]).get(contact)
            has = self.attributes(codec.load(row.state)).get(kind) if row is not None else None
            return contact if not has or codec.address(kind, has) == codec.address(kind, address) else None

        return await self.ask(look)

    async def attributes_of(self, contact: str) -> Mapping[str, Any]:
        """What is known of a contact; nothing of one who isn't there."""

        def look(store: Store) -> Mapping[str, Any]:
            row = store.contacts([contact]).get(contact)
            return self.attributes(codec.load(row.state)) if row is not None else {}

        return await self.ask(look)

    async def contact_for(self, email: str) -> str:
        """Who has this address, or the id of a new contact with it: the address itself, unless that is the id of somebody who has another
        address by now. Else whoever knows an old address could turn that person's mail back to it."""
        found = await self.contact_by("email", email)
        if found is not None:
            return found

        def taken(store: Store) -> bool:
            row = store.contacts([email]).get(email)
            has = self.attributes(codec.load(row.state)).get("email") if row is not None else None
            return bool(has) and codec.address("email", has) != email

        return f"{email}#{short(email)[:8]}" if await self.ask(taken) else email

    # ------------------------------------------------------------ events

    def event(self, name: str, contact: str, id: str, subject: str | None = None, data: Mapping[str, Any] | None = None,
              at: int | None = None, source: str = SOURCE_WEB) -> list[Arrival]:  # fmt: skip
        """One event for the log, of now if nobody says when; none where nobody declares such an event."""
        if name not in self.model.events:
            return []
        kept = {key: clean(value) for key, value in (data or {}).items() if value not in (None, "")}
        event = Event(id, name, contact, self.clock.now() if at is None else at, clean(subject) or None, kept)
        return [Arrival(event, source, undated=at is None)]

    def unsubscribed(self, channel: str, contact: str, id: str, subject: str | None = None, data: Mapping[str, Any] | None = None,
                     at: int | None = None, source: str = SOURCE_WEB) -> list[Arrival]:  # fmt: skip
        """That a contact wants no more of a channel: its event, and where that does not take the consent back (a plugin may declare none, or
        one that changes nothing), a change of the contact besides."""
        name, withdrawn = f"{channel}.unsubscribed", f"consent.{channel}"
        found = self.event(name, contact, id, subject, data, at, source)
        info = self.model.events.get(name)
        if info is None or info.source is None or Change("set", withdrawn, False) not in info.source.changes:
            change = ContactChange(f"{source}:{id}", contact, self.clock.now() if at is None else at, {withdrawn: False})
            found.append(Arrival(change, SOURCE_CONTACTS, undated=at is None))
        return found

    def identified(self, visitor: str, contact: str) -> list[Arrival]:
        """That a visitor is a known contact: the engine merges them. Told once a day."""
        now = self.clock.now()
        event = Event(f"identified:{short(visitor, contact)}:{now // DAY}", "contact.identified", visitor, now, None, {"contact": contact})
        return [Arrival(event, SOURCE_WEB, undated=True)]

    def of_message(self, values: Mapping[str, Any], effect: EffectRow | None) -> tuple[str, str | None, dict[str, Any]]:
        """(channel, subject, fields) of an event about a message: its campaign, and the fields of the campaign's FOR EACH, so that a keyed
        journey knows that it is meant."""
        said = values.get("ch")  # of a link: signed with it, for when the outbox does not have the message any more
        channel = (effect.channel if effect else None) or (said if isinstance(said, str) and said else "email")
        subject = values.get("s") if isinstance(values.get("s"), str) else None
        if subject is None and effect is not None and isinstance(effect.primary, str) and channel == "email":
            subject = effect.primary
        campaign = effect.ruleset if effect else values.get("m")
        data: dict[str, Any] = {"campaign": campaign} if isinstance(campaign, str) and campaign else {}
        if effect is not None and effect.key is not None:
            data.update(zip(self.keys.get(effect.ruleset, ()), split_key(effect.key), strict=False))
        return channel, subject, data


def stands_for(store: Store, contact: str) -> str:
    """Whom a contact was merged into, in the end; the contact itself where it was not."""
    for _ in range(10):  # a chain is short; a circle has been lifted by the engine
        row = store.contacts([contact]).get(contact)
        into = merged_into(codec.load(row.state)) if row is not None else None
        if into is None:
            break
        contact = into
    return contact


def clean(value: Any, limit: int = MAX_TEXT, lines: bool = False) -> Any:
    """A text from outside without control characters, cut to what is kept; other values as they are. lines: it may have several."""
    if not isinstance(value, str):
        return value
    text = value.strip()[:limit]
    return text if text.isprintable() else "".join(letter if letter.isprintable() or (lines and letter == "\n") else " " for letter in text).strip()


def short(*parts: Any) -> str:
    """A name made of content."""
    return hashlib.blake2b(repr(parts).encode("utf-8", "backslashreplace"), digest_size=12).hexdigest()
