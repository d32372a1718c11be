"""What `camp db` does with the file: backup, restore, adoption, retention."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from rules_engine.cli import output
from rules_engine.cli.errors import Trouble, refused
from rules_engine.cli.pause import who
from rules_engine.cli.settings import Address, Settings

ENDINGS = ("-wal", "-shm", "")  # the files of a database, its log first
PATTERN = r"{stem}-\d{{8}}T\d{{6}}Z\.db"


def backup(settings: Settings, file: Path | None, keep: int | None, as_json: bool) -> None:
    """Makes a backup, checks it, and removes older ones if there are more than `keep`. Trouble if it can't be made."""
    from rules_engine.cli.loading import open_store
    from rules_engine.clock import SystemClock

    clock = SystemClock()
    begun = clock.now()
    target = file or _folder(settings) / f"{settings.database_file.stem}-{_stamp(begun)}.db"
    if file is None:
        target.parent.mkdir(mode=0o700, exist_ok=True)
    elif not target.parent.is_dir():
        raise Trouble(f"the folder of {target} does not exist", "make it first; a backup makes no folders")
    with open_store(None, write=True, settings=settings) as store:
        with output.gauge(100, "copying") as move:
            done = store.backup(target, lambda at, total: move(100 * at // max(1, total)))
        store.note("backup", f"{begun} {target.absolute()}")
    removed = _rotate(settings, keep) if keep else []
    seconds = (clock.now() - begun) / 1000
    if as_json:
        output.json_document(
            {
                "file": str(target),
                "bytes": done.bytes,
                "seconds": seconds,
                "contacts": done.counts.contacts,
                "events": sum(done.counts.events.values()),
                "effects": sum(done.counts.effects.values()),
                "removed": [str(path) for path in removed],
            }
        )
        return
    output.data(f"{target} ({done.bytes:,} bytes, {seconds:.1f} s, checked)")
    for path in removed:
        output.say(f"removed {path}")


def _folder(settings: Settings) -> Path:
    folder = Path(str(settings.get("backup.folder").value or "backups")).expanduser()
    return folder if folder.is_absolute() else settings.folder / folder


def _stamp(now: int) -> str:
    from rules_engine.runtime.calendar import format_utc

    return re.sub(r"[-:]", "", format_utc(now)[:19]) + "Z"


def _rotate(settings: Settings, keep: int) -> list[Path]:
    """Removes all but the latest `keep` of the backups that carry our name and a moment."""
    pattern = re.compile(PATTERN.format(stem=re.escape(settings.database_file.stem)))
    known = sorted(path for path in _folder(settings).iterdir() if path.is_file() and pattern.fullmatch(path.name))
    old = known[:-keep]
    for path in old:
        path.unlink()
    return old


def restore(settings: Settings, file: Path, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Puts a backup in the database's place, with the refusals and erasures since; the database that was there is kept beside it, whatever
    state it is in. Trouble if it can't be."""
    import contextlib

    from rules_engine.clock import SystemClock
    from rules_engine.service.sent import beside
    from rules_engine.store.lock import run_lock
    from rules_engine.store.remains import compare
    from rules_engine.store.sqlite_upkeep import verify

    database = settings.database_file
    if not file.is_file():
        raise Trouble(f"there is no file {file}", "name one that `camp db backup` made")
    found = verify(file)
    with run_lock(database) if not dry_run else contextlib.nullcontext():
        now = SystemClock().now()
        remains = compare(database, file, _told(settings))
        there, aside = database.exists(), database.with_name(f"{database.name}.before-{_stamp(now)}")
        record = {
            "file": str(file),
            "contacts": found.contacts,
            "events": sum(found.events.values()),
            "effects": sum(found.effects.values()),
            "events_lost": remains.lost,
            "refusals": len(remains.refusals),
            "erasures": remains.erasures,
            "pauses": [name for name, _ in remains.pauses],
            "unread": list(remains.unread),
            "kept_aside": str(aside) if there else None,
            "restored": not dry_run,
        }
        if not as_json:
            output.say(f"{file}: whole, {found.contacts:,} contacts, {record['events']:,} events")
            _tell_remains(remains)
        if remains.journal and not beside(database).exists():
            output.warn(
                f"the send journal {beside(database)} is missing: it says what was handed over after the backup",
                "if it was moved away, put it back before anything runs here; without it, events that are fed again send again",
            )
        if not dry_run:
            output.confirm(f"Put {file} in the place of {database}?", yes)
            _put(settings, file, aside, remains, now)
    if as_json:
        output.json_document(record)
    elif not dry_run:
        output.data(f"restored {database}" + (f"; the one before is {aside.name}" if there else ""))
        output.say("start `camp run`: what had been handed over after that backup becomes unknown and is not sent again")


def _told(settings: Settings) -> Any:
    """What a fact says about a contact's attributes, by the events of the installed plugins."""
    from rules_engine import host
    from rules_engine.facts import ContactChange

    events = host.load({**settings.user, **settings.project}).events

    def told(cause: Any) -> dict[str, Any]:
        if isinstance(cause, ContactChange):
            return dict(cause.attributes)
        kind = events.get(cause.name)
        return {change.name: change.value for change in host.event_changes(kind, cause.data) if change.op == "set"} if kind else {}

    return told


def _tell_remains(remains: Any) -> None:
    """What the backup lacks: what is lost, what is carried over, and what can't be."""
    if remains.lost:
        output.warn(
            f"{output.count(remains.lost, 'event')} of the present database {'is' if remains.lost == 1 else 'are'} not in the backup",
            "feed them again from their sources after the restore: what is known is recognised by its id",
        )
    parts = (
        (len(remains.refusals), "contact that refused mail or was suppressed", "contacts that refused mail or were suppressed"),
        (remains.erasures, "erasure", "erasures"),
        (len(remains.pauses), "pause", "pauses"),
    )
    carried = [output.count(number, one, many) for number, one, many in parts if number]
    if carried:
        output.warn(f"what the present database knows and the backup does not is carried over: {', '.join(carried)}")
    if remains.unread:
        what = {
            "refusals": "who unsubscribed or was suppressed",
            "erasures": "who was erased",
            "pauses": "what was paused",
        }
        output.warn(
            f"{remains.trouble}: {', '.join(what[name] for name in remains.unread)} since the backup can't be carried over"
            + (", but for that" if carried else ""),
            "before `camp run`: take unsubscribed and suppressed addresses from the provider's list and import them (consent.email=no), and "
            "erase again with `camp contact forget` whom you erased since",
        )
    if remains.lost is None:
        output.warn("how many events are not in the backup can't be told", "feed again from their sources all that came after the backup")


def _put(settings: Settings, file: Path, aside: Path, remains: Any, now: int) -> None:
    """Makes the new database beside the old one, with what is carried over, and puts it in its place."""
    import os
    import shutil

    from rules_engine.cli.persons import addresses_of
    from rules_engine.store.remains import carry_over
    from rules_engine.store.sqlite import SqliteStore
    from rules_engine.store.syncing import sync

    database = settings.database_file
    draft = database.with_name(f".{database.name}.restore")
    for ending in ENDINGS:  # of a restore that was killed: a log must never meet another file
        draft.with_name(draft.name + ending).unlink(missing_ok=True)
    shutil.copyfile(file, draft)
    os.chmod(draft, 0o600)
    store = SqliteStore(draft, create=False)
    try:
        carry_over(remains, store, lambda contact: addresses_of(store, settings, contact), now, who())
        counted = ((len(remains.refusals), "refusal"), (remains.erasures, "erasure"), (len(remains.pauses), "pause"))
        detail = f"{file}: carried over {', '.join(output.count(number, noun) for number, noun in counted)}"
        store.audit(who(), "restore", detail + (f"; not readable: {', '.join(remains.unread)}" if remains.unread else ""), now)
    finally:
        store.close()
    sync(draft)
    for ending in ENDINGS:
        path = database.with_name(database.name + ending)
        if path.exists():
            path.rename(aside.with_name(aside.name + ending))
    os.replace(draft, database)
    sync(database.parent)


def adopt(settings: Settings, keep_open: bool, yes: bool, dry_run: bool) -> None:
    """Makes this database the one that sends, after a person said that no other copy does. Trouble if it is not confirmed."""
    from rules_engine.cli.loading import open_store
    from rules_engine.clock import SystemClock
    from rules_engine.service.sent import SentJournal, beside

    if isinstance(settings.database, Address):
        _adopt_on_server(settings, keep_open, yes, dry_run)
        return
    with open_store(None, write=True, settings=settings) as store, store.run_lock():
        journal = SentJournal(beside(settings.database))
        problem = journal.problem(store)
        if not problem:
            output.data("this database is the one that sends; there is nothing to adopt")
            return
        output.say(problem)
        if dry_run:
            output.say("`camp db adopt` would make this database the one that sends")
            return
        lost = "" if journal.known(store) else (
            " Without the journal nobody knows what was handed over since a backup was made: it may be sent again if its events are fed again."
        )
        output.confirm(f"Are you sure that no other copy of this database runs, now or later?{lost}", yes)
        if lost:
            output.warn(lost.strip())
        doubtful = journal.adopt(store, SystemClock().now(), keep_open)
        store.audit(who(), "adopt", problem, SystemClock().now())
    _adopted(doubtful)


def _adopt_on_server(settings: Settings, keep_open: bool, yes: bool, dry_run: bool) -> None:
    """There is no send journal there: several workers, perhaps on several machines, hand over."""
    from rules_engine.cli.loading import open_store
    from rules_engine.service.sent import ADOPTED

    with open_store(None, write=True, settings=settings) as store:
        if store.at_home():
            output.data("this database is the one that sends; there is nothing to adopt")
            return
        if store.running():
            raise refused("workers run on this database", "stop them first; a dump has those of its moment in it, and their leases end within 15 s")
        if dry_run:
            output.say("`camp db adopt` would make this database the one that sends")
            return
        output.confirm("Are you sure that no other copy of this database runs, now or later?", yes)
        doubtful = 0 if keep_open else store.doubt_open(store.clock.now(), ADOPTED)
        store.take_home()
        store.audit(who(), "adopt", f"{doubtful} open effects became unknown", store.clock.now())
    _adopted(doubtful)


def _adopted(doubtful: int) -> None:
    output.data("adopted: this database is the one that sends")
    if doubtful:
        output.warn(
            f"{output.count(doubtful, 'open effect')} became unknown, because nobody can tell whether they were handed over",
            "look at the provider's log, then settle them: camp outbox resolve NUMBER accepted|failed|ready",
        )


def kept(settings: Settings) -> Any:
    """The retention in force. Trouble for a setting that can't be."""
    from rules_engine.service.upkeep import NAMES, retention

    found = {name: settings.get(f"retention.{name}").value for name in NAMES}
    for content in (settings.project, settings.user):
        table = content.get("retention")
        found.update({name: value for name, value in table.items() if name not in NAMES} if isinstance(table, dict) else {})
    try:
        return retention(found)
    except ValueError as error:
        raise Trouble(str(error), 'in camp.toml, under [retention]: NAME = "400 days"; outbox from 90 days') from error


def trim(settings: Settings, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Removes what is older than [retention] says, now. Trouble if there is no such setting."""
    from rules_engine.cli.loading import open_store
    from rules_engine.clock import SystemClock
    from rules_engine.service.upkeep import Retention
    from rules_engine.service.upkeep import trim as step
    from rules_engine.store.port import Removed

    retention = kept(settings)
    if retention == Retention():
        raise refused(
            "nothing is to be removed: everything is kept for ever",
            '[retention] in camp.toml says otherwise: events = "400 days"',
        )
    clock = SystemClock()
    now = clock.now()
    total = Removed()
    with open_store(None, write=not dry_run, settings=settings) as store:
        if dry_run:
            total = store.trimmable(*retention.before(now))
        else:
            words = ", ".join(f"{name} older than {days} days" for name, days in retention._asdict().items() if days)
            output.confirm(f"Remove {words}?", yes)
            while any(done := step(store, retention, now)):
                total = Removed(*(a + b for a, b in zip(total, done, strict=True)))
                clock.sleep(5)  # others write meanwhile
    record = {name: number for name, number in total._asdict().items() if name not in ("contacts", "ids")}
    if as_json:
        output.json_document({**record, "removed": not dry_run})
        return
    would = "would lose" if dry_run else "lost"
    output.data(
        f"{output.count(total.events, 'event')} {would} their content; {output.count(total.decisions, 'decision')}, "
        f"{output.count(total.effects, 'effect')} and {output.count(total.attempts, 'attempt')} {'would go' if dry_run else 'are gone'}"
    )
    if not dry_run and any(total):
        output.say("the room is used again; `camp db vacuum` gives it back to the disk")


def vacuum(settings: Settings) -> None:
    """Writes the database anew, without free space. Trouble if it can't be."""
    from rules_engine.cli.loading import open_store
    from rules_engine.clock import SystemClock

    clock = SystemClock()
    begun = clock.now()
    with open_store(None, write=True, settings=settings) as store:
        before = store.size()
        whole = store.scrub()
        after = store.size()
    output.data(f"{before:,} bytes before, {after:,} after, {(clock.now() - begun) / 1000:.1f} s")
    if not whole:
        output.warn(*_left(settings))


def _left(settings: Settings) -> tuple[str, str]:
    """Why not every byte is gone, and the way out."""
    if isinstance(settings.database, Address):
        return "while workers run, what was deleted may stay in the free space of the tables", "run `camp db vacuum` when no worker runs"
    return "a reader kept the write-ahead log from being emptied", "run `camp db vacuum` when no long export or backup runs"


def scrubbed(store: Any, settings: Settings, vacuum: bool) -> None:
    """After an erasure, which stands whatever comes of this: what is left to do is told."""
    if not store.scrub(vacuum):
        output.warn(*_left(settings))
    if not vacuum:
        output.say("what was erased may still be read in the free space of the file until `camp db vacuum` has run")
