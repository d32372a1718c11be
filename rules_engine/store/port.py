"""The store's port: its nouns as records, its verbs as a Protocol, its one error. Times are integer milliseconds, UTC.

Who may call what: anybody appends (`record_events`) and reads at any time; only the holder of `run_lock()` commits blocks and
claims effects. Every verb that writes is one transaction, durable when it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from rules_engine.decisions import Cancel, Decision, Effect
from rules_engine.facts import ContactChange, Event, Wake

Cause = Event | ContactChange | Wake

NEW, DONE, SET_ASIDE = 0, 1, 2
STATUSES = ("new", "done", "set_aside")

EFFECT_STATES = (
    "planned",
    "ready",
    "claimed",
    "accepted",
    "delivered",
    "bounced",
    "complained",
    "retry_wait",
    "failed",
    "unknown",
    "held",
    "suppressed",
    "capped",
    "expired",
    "cancelled",
)
WAITING_STATES = ("unknown", "held", "claimed", "ready", "retry_wait", "planned", "failed")
"""States that are no good end: few effects, so that counting them is cheap whatever the outbox holds."""
UNSENT_STATES = ("planned", "ready", "retry_wait", "held")  # what an exit still can call off
EVERYTHING = "*"  # the name under which everything is paused

SOURCE_EVENTS = "events"  # what people and other programs tell: files, the command line, HTTP
SOURCE_CONTACTS = "contacts"  # changes of contacts; ids made by us
SOURCE_ENGINE = "engine"  # events that rules emitted
SOURCE_OUTCOMES = "outcomes"  # what became of effects


class StoreError(Exception):
    """The store can't do it: locked, full, corrupt, read-only, foreign, newer. One lower-case sentence, and the way out apart."""

    def __init__(self, message: str, help: str = "", kind: str = "other") -> None:
        super().__init__(message)
        self.message, self.help, self.kind = message, help, kind

    @property
    def passing(self) -> bool:
        """Whether trying again later can work: somebody else holds the lock, the disk is full, the server is away, or this worker was
        taken for dead and can begin anew."""
        return self.kind in ("locked", "full", "io", "lost", "fenced")


class BadData(ValueError):
    """A value that no database takes (a number beyond 64 bits, a text that is none): the fault of whoever made it, not of the
    store."""


class Erased(Exception):
    """A contact was erased since the block began: nothing of it was saved. What was read for it must be read anew."""


class Arrival(NamedTuple):
    """One thing for the log. `acted`: an event that the engine emitted for the contact itself, which has acted already: kept as
    done. `undated`: its sender gave no time, so `at` is when it came: a repeat under the same id is a repeat whenever it comes."""

    cause: Event | ContactChange
    source: str = SOURCE_EVENTS
    acted: bool = False
    undated: bool = False


class Recorded(NamedTuple):
    """What became of a batch; `duplicates` and `conflicts` (known id, other content) are positions in it."""

    accepted: int
    duplicates: tuple[int, ...] = ()
    conflicts: tuple[int, ...] = ()


class LogRow(NamedTuple):
    """One row of the log. `status` is one of STATUSES; `reason` why it was set aside. A Wake's row is a wake-up that was set
    aside."""

    seq: int
    source: str
    cause: Cause
    received: int
    status: str = "new"
    reason: str | None = None


class ContactRow(NamedTuple):
    """A contact's state as JSON, and the one moment at which it wants to be called. `program`: digest of the program that made
    it."""

    contact: str
    state: bytes
    wake_at: int | None
    program: str
    updated: int


@dataclass(slots=True)
class Block:
    """Everything that one turn of the pump changes; committed at once or not at all.

    states: new states. done: log rows that have acted. set_aside: (seq, reason). stuck: (wake-up, reason) of wake-ups that
    failed; their contacts' wake-up is switched off until `release`. emits: events for the log. cancels: applied after the effects.
    cursor: all rows up to it are not new (None: unchanged); it counts only if nobody moved the cursor back behind `cursor_was`
    meanwhile (`release` does).
    erasures: `Store.erasures()` as it was before anything of the block was read; None: whatever it is.
    """

    program: str = ""
    states: list[ContactRow] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    set_aside: list[tuple[int, str]] = field(default_factory=list)
    stuck: list[tuple[Wake, str]] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    emits: list[Arrival] = field(default_factory=list)
    cancels: list[Cancel] = field(default_factory=list)
    cursor: int | None = None
    cursor_was: int = 0
    clock: int | None = None
    erasures: int | None = None


class Position(NamedTuple):
    """How far the log is read: no new row has a seq up to `cursor`; `clock` is the latest log time that was reached."""

    cursor: int
    clock: int


class JournalRow(NamedTuple):
    """One decision with its number in the journal."""

    seq: int
    decision: Decision


class EffectRow(NamedTuple):
    """One effect in the outbox. `seq`: order of arrival; `attempts`: hand-overs begun; `claimed_at`: of the last one;
    `first_claimed_at`: of the first, from which a provider's window for repeated keys counts; `handle`: its name for the world."""

    id: str
    contact: str
    action: str
    primary: Any
    params: Mapping[str, Any]
    ruleset: str
    step: str
    key: str | None
    channel: str | None
    message_class: str
    at: int
    expires: int | None
    state: str
    instance: str = ""
    exempt: str = ""
    seq: int = 0
    attempts: int = 0
    next_at: int | None = None
    provider_id: str = ""
    detail: str = ""
    claimed_at: int | None = None
    first_claimed_at: int | None = None
    settled_at: int | None = None
    handle: str = ""


class Candidate(NamedTuple):
    """An effect that is due, as the claim sees it in its transaction: the contact's state now, whether the log holds unread news of
    the contact, whether an operator paused its campaign, what a throttle has let through since a slot: (how many, the oldest slot
    with any), whether the log holds unread news of another contact (into which this one was merged, or the other way round), and how many
    that may leave by themselves were put off with a detail."""

    effect: EffectRow
    state: bytes | None
    pending: bool
    paused: bool = False
    used: Callable[[str, int], tuple[int, int | None]] = lambda name, slot: (0, None)
    unread: Callable[[str], bool] = lambda contact: False
    waiting: Callable[[str], int] = lambda detail: 0


class Verdict(NamedTuple):
    """What the claim does with a candidate, and why. None instead: leave it for later.

    state: `claimed`; or what ends it (`cancelled`, `expired`, `suppressed`, `capped`, or `unknown` with the moment of a look-up in
    next_at); or `held` for a person; or `later`: it stays as
    it is and is looked at again at next_at, or, without one, when what stopped it is lifted (`resume`).
    news: what the log is told. spent: for each throttle its name, the slot that the claim counts in, and the oldest slot that still
    matters (both the slot's first moment, ms). contacts: the other names of whom it reaches (merged contacts), none of whom may have unread news
    either.
    """

    state: str
    detail: str = ""
    next_at: int | None = None
    news: tuple[Arrival, ...] = ()
    spent: tuple[tuple[str, int, int], ...] = ()
    contacts: tuple[str, ...] = ()


CLAIM = Verdict("claimed")
ENOUGH = Verdict("enough")  # this one and all behind it: leave them for later


class Settlement(NamedTuple):
    """What is known after a hand-over, or (was = "unknown") after asking the provider about one. Counts only if the effect is still in
    the state `was` with this attempt. next_at: when a retry_wait is tried again, or an unknown looked up."""

    effect: str
    attempt: int
    state: str
    at: int
    detail: str = ""
    provider_id: str = ""
    next_at: int | None = None
    was: str = "claimed"


class Attempt(NamedTuple):
    """One hand-over in an effect's history."""

    effect: str
    number: int
    claimed_at: int
    settled_at: int
    state: str
    detail: str


class Pause(NamedTuple):
    """What an operator stopped: a campaign or rule by its name, or EVERYTHING."""

    campaign: str
    at: int
    reason: str


class Audit(NamedTuple):
    """What a person did to the service. `who`: as the command line or the page knows them; `what`: one verb, `detail`: to what, and
    why."""

    at: int
    who: str
    what: str
    detail: str


class Version(NamedTuple):
    """One program that was applied: the digest of its sources and their texts by path."""

    digest: str
    sources: Mapping[str, str]
    applied_at: int


class Counts(NamedTuple):
    """The store in numbers: events by status, effects by state, contacts, those with a wake-up, decisions."""

    contacts: int
    waiting: int
    decisions: int
    events: Mapping[str, int]
    effects: Mapping[str, int]


class Identity(NamedTuple):
    """Which database this is. instance: its name among all; secret: the key of its hashes; journal: whether a send journal was begun
    beside it."""

    instance: str
    secret: str
    journal: bool = False


class HandOver(NamedTuple):
    """One line of the send journal: an effect by its number in the outbox and by the mark of its id."""

    seq: int
    mark: str
    attempt: int
    at: int


class Removed(NamedTuple):
    """Rows that an erasure or a trim took away. events: of an erasure whole rows, of a trim contents. ids: of an erasure's effects."""

    contacts: int = 0
    events: int = 0
    decisions: int = 0
    effects: int = 0
    attempts: int = 0
    ids: tuple[str, ...] = ()


class Backup(NamedTuple):
    """A copy that was made and found whole."""

    path: Any
    bytes: int
    counts: Counts


class Backlog(NamedTuple):
    """What waits. received: when the oldest new row of the log came; overdue: wake-ups whose time is past; wake: the earliest;
    leaves: when the longest waiting effect should have left (all ms, None: nothing). new, set_aside: rows of the log; effects: state ->
    count, of those that are not at a good end."""

    received: int | None
    overdue: int
    wake: int | None
    leaves: int | None
    new: int
    set_aside: int
    effects: Mapping[str, int]


class Store(Protocol):
    """The verbs."""

    # the log
    def record_events(self, arrivals: Sequence[Arrival]) -> Recorded:
        """Appends what is new. Acknowledge only after it returns."""

    def read_log(self, after: int, limit: int) -> list[LogRow]:
        """New rows behind `after`, in order of arrival (seq)."""

    def read_history(self, until: int, limit: int) -> list[LogRow]:
        """New rows that happened up to and including `until`, in order of (at, seq)."""

    def quiet_now(self, after: int) -> int | None:
        """The wall's time if no new row lies behind `after`, else None. Nobody is appending at that moment, so no event of an
        earlier time can turn up later: wake-ups due up to it may fire (law 4)."""

    def unread(self, limit: int) -> int:
        """How many rows of the log are new, counted up to `limit`."""

    def events_of(self, contact: str, limit: int = 1_000) -> list[LogRow]:
        """A contact's rows of the log, the latest `limit`, in order of arrival."""

    def set_aside(self, limit: int = 100) -> list[LogRow]:
        """What was set aside, latest first."""

    def release(self, seqs: Iterable[int]) -> int:
        """Makes rows that were set aside new again; returns how many."""

    def purge(self, before: int, limit: int | None = None) -> int:
        """Drops the content of done rows received before a moment, at most `limit` of them; their ids stay known (promise P2)."""

    # contacts
    def contacts(self, ids: Iterable[str]) -> dict[str, ContactRow]:
        """States of those contacts that exist; one select."""

    def contact_at(self, kind: str, address: str) -> str | None:
        """The contact that was last told to have this `email` or `phone` (`codec.address` says which spellings are one): by
        contacts brought in from outside, not by actions of campaigns."""

    def contact_ids(self, after: str = "", limit: int = 1_000) -> list[str]:
        """Ids behind `after`, sorted."""

    def due(self, now: int, limit: int) -> list[tuple[int, str]]:
        """(wake_at, contact) up to and including `now`, sorted."""

    def rouse(self, digest: str, at: int) -> int:
        """Wakes, at `at`, every contact whose state another program made than `digest`: a new program's timers are set when it first
        meets the contact, and nobody may wait for an event for that. How many it wakes."""

    def next_wake(self) -> int | None:
        """The earliest wake-up of all."""

    # one turn of the pump
    def position(self) -> Position:
        """Where to go on."""

    def commit(self, block: Block) -> None:
        """Saves all of the block in one transaction. Raises Erased."""

    # the journal
    def journal_of(self, contact: str, limit: int = 10_000) -> list[JournalRow]:
        """A contact's decisions, the latest `limit`, in order."""

    def journal(self, after: int = 0, limit: int = 1_000) -> list[JournalRow]:
        """All decisions behind a number, in order."""

    # the outbox
    def claim_effects(
        self, due: int, now: int, limit: int, judge: Callable[[Candidate], Verdict | None], full: Collection[str] = ()
    ) -> list[Candidate]:
        """Looks at up to `limit` effects of each action whose time is up to and including `due`, oldest first, and does with each
        what `judge` says, in one transaction; returns those claimed, with their new attempt number. now: the wall's time, kept with
        the claim. full: actions that are not looked at: a long queue of theirs stands in nobody's way."""

    def settle(self, settlements: Sequence[Settlement], news: Sequence[Arrival] = ()) -> int:
        """Records outcomes and what the log is told of them; returns how many counted."""

    def unknown_after_restart(
        self,
        now: int,
        repeatable: Callable[[EffectRow], bool],
        lookup_at: Callable[[EffectRow], int | None] = lambda effect: None,
        but: Collection[str] = (),
    ) -> list[EffectRow]:
        """Effects left `claimed` by a dead process: those that may safely be repeated become ready again under the same key, the
        others `unknown`, to be looked up at `lookup_at`, which are returned. but: those that are under way in this process. Call it
        under the run lock only."""

    def lookups(self, now: int, limit: int, actions: Collection[str] | None = None) -> list[Candidate]:
        """Unknown effects whose provider is to be asked by now, oldest first; only those of these actions."""

    def report(self, effect: str, state: str, detail: str, now: int) -> bool:
        """Evidence from outside (a provider's webhook, a bounce): moves an effect on as REPORTS allows; whether it did."""

    def resolve(self, effect: str, state: str, detail: str, now: int, who: str = "", news: Sequence[Arrival] = ()) -> bool:
        """A person's decision, as RESOLUTIONS allows; audited under `who`. What a person releases is not judged late
        again, and what was in doubt about it no longer is."""

    def postpone(self, actions: Sequence[str], until: int) -> int:
        """Effects of these actions that are due before a moment are looked at then; how many."""

    def pause(self, campaign: str, reason: str, now: int, who: str = "") -> bool:
        """Nothing of that campaign or rule (EVERYTHING: nothing at all) is handed over from the next claim on; audited. False: it was
        paused before."""

    def resume(self, campaign: str, now: int, who: str = "") -> bool:
        """Lifts one pause; audited. False: there was none."""

    def pauses(self) -> list[Pause]:
        """What is paused, oldest first."""

    def audit(self, who: str, what: str, detail: str, now: int) -> None:
        """Notes what a person did."""

    def audits(self, limit: int = 100) -> list[Audit]:
        """What people did, latest first."""

    def effect(self, id: str) -> EffectRow | None:
        """One effect."""

    def find_effect(self, name: str) -> EffectRow | None:
        """The effect of that handle, or the latest one that a provider knows under that id."""

    def effects(self, state: str | None = None, contact: str | None = None, limit: int = 100) -> list[EffectRow]:
        """Effects by state and contact, latest first."""

    def attempts_of(self, effect: str) -> list[Attempt]:
        """All hand-overs of one effect, in order."""

    def next_effect(self) -> int | None:
        """When the next effect is due, or is to be looked up."""

    # programs
    def record_program(self, digest: str, sources: Mapping[str, str]) -> bool:
        """Keeps a program's sources; True if it was not the latest."""

    def programs(self) -> list[Version]:
        """All that were applied, in order of the first time."""

    # looking after it
    def trim(self, journal: int | None, outbox: int | None, limit: int) -> Removed:
        """Drops up to `limit` of the decisions of before `journal`, and as many effects that ended before `outbox` with their
        attempts. What is open or unknown stays, whatever its age. Call it until it removes nothing."""

    def trimmable(self, events: int | None, journal: int | None, outbox: int | None) -> Removed:
        """What `purge` and `trim` would remove, all in all."""

    def erase(self, contact: str, addresses: Iterable[tuple[str, str]], now: int, dry_run: bool = False) -> Removed:
        """Removes all of one contact but keyed hashes: its ids are not taken again, and its addresses (channel, address) stay
        suppressed. Raises StoreError (kind "busy") while one of its effects is being handed over. `scrub` has to follow."""

    def erasures(self) -> int:
        """How many contacts were erased so far: who keeps states in memory asks for it before it reads (see Block)."""

    def scrub(self, vacuum: bool = True) -> bool:
        """Makes what was deleted unreadable on the disk, the free space and the write-ahead log included. False: a reader was in the
        way for too long. Others that write wait meanwhile."""

    def backlog(self, now: int) -> Backlog:
        """What waits, and for how long."""

    def note(self, key: str, value: str) -> None:
        """Keeps a small fact about the database itself."""

    def noted(self, key: str) -> str | None:
        """A fact that `note` kept."""

    # promise P11: the send journal beside the database
    def identity(self) -> Identity:
        """Which database this is."""

    def mark_of(self, effect: str) -> str:
        """What stands for an effect's id in the send journal."""

    def handed_over(self, line: HandOver) -> bool:
        """Whether the outbox knows of that hand-over."""

    def doubt(self, lines: Sequence[HandOver], now: int) -> list[EffectRow]:
        """Hand-overs of which this database knows nothing, because an older backup was restored: effects that are here become unknown
        and are returned; one that the engine makes anew later will be unknown from the start."""

    def doubt_open(self, now: int, detail: str) -> int:
        """Everything that may leave by itself becomes unknown; how many."""

    # the whole
    def counts(self) -> Counts:
        """The store in numbers."""

    def check(self) -> list[str]:
        """What is wrong with the store, in sentences; empty if nothing is."""

    def quick_check(self) -> list[str]:
        """As `check`, and faster: pages only, not whether indexes agree with their tables."""

    def size(self) -> int:
        """Bytes on the disk, about."""

    def maintain(self) -> None:
        """Housekeeping; safe at any time."""

    leases: bool
    """Whether the right to run is a lease, which may end while it is held."""
    mine: Sequence[int]
    """The shards that this store works on; none while it waits for some. Only where there are leases."""

    def run_lock(self, alone: bool = True, program: str = "") -> AbstractContextManager[None]:
        """The right to run; a second process gets StoreError, a killed one loses it at once. alone = False: where the store has leases,
        beside other workers of the same program (its digest), each with shards of its own; a killed one loses them when its lease ends."""

    def tend(self, leaving: bool = False) -> bool:
        """Keeps the right to run, and the shards fairly shared; call it every second or so, between two blocks. True: what this store
        may touch has changed; begin anew from `position`. leaving: keeps the right, and changes nothing. Raises StoreError."""

    def hold(self, milliseconds: int) -> bool:
        """Whether the right to run lasts so long for certain; a lease is made longer if need be. Ask before a call that can't be undone.
        From any thread: from another than the store's it waits for the next `tend` where the lease is too short."""

    def running(self) -> bool:
        """Whether somebody holds the run lock now."""

    def close(self) -> None:
        """Ends the use of the store."""


RESOLUTIONS = {
    "unknown": ("accepted", "failed", "ready"),
    "held": ("ready", "cancelled"),
    "ready": ("cancelled",),
    "retry_wait": ("cancelled", "ready"),
    "failed": ("ready",),
    "cancelled": ("ready",),
    "expired": ("ready",),
    "suppressed": ("ready",),
    "capped": ("ready",),
}
"""State -> what a person may make of it. A repeat of what was suppressed or capped is checked again like any other."""

REPORTS = {
    "claimed": ("accepted", "delivered", "bounced", "complained", "failed"),
    "unknown": ("accepted", "delivered", "bounced", "complained", "failed"),
    "retry_wait": ("delivered", "bounced", "complained"),
    "accepted": ("delivered", "bounced", "complained", "failed"),
    "delivered": ("bounced", "complained"),
}
"""State -> what evidence from outside may make of it: never back to something that would be handed over again."""

DIED = "the process ended between the hand-over and its record; it may or may not have been accepted"
RESTORED = "an older backup was restored: the send journal says that it was handed over after that backup was made"
SUPPRESSED = "erased"  # the value of suppressed.CHANNEL for an address whose owner was erased
ENDED = ("accepted", "delivered", "bounced", "complained", "failed", "suppressed", "capped", "cancelled", "expired")
"""States in which an effect stays, but for a person's decision."""
RESTARTED = "handed over again under the same key after a restart"


def chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Pieces of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
