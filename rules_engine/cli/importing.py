"""Facts into the log: files of contacts and events, and single ones from the command line."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rules_engine.cli import errors, output
from rules_engine.cli.errors import Trouble
from rules_engine.cli.settings import Settings

SHOWN = 5  # bad lines that are told one by one


def bring_in(file: Path, kind: str, db: str | None, dry_run: bool, as_json: bool) -> int:
    """Imports a file of contacts or events; the exit code. Trouble where the file can't be used."""
    from rules_engine.cli.records import check_file

    check_file(file, kind)
    settings = Settings({"database": db})
    model, zone = meaning(settings)
    if dry_run:
        return _try(file, kind, model, zone, as_json)
    done = _import(file, kind, settings, model, zone)
    record = {
        "file": str(file),
        "lines": done.lines,
        "accepted": done.accepted,
        "known": done.duplicates,
        "conflicts": done.conflicts,
        "rejected": done.rejected,
        "without_id": done.without_id,
        "rejected_file": str(done.rejected_file) if done.rejected_file else None,
        "warnings": list(done.unread),
    }
    if as_json:
        output.json_document(record)
    else:
        known = f", {done.duplicates:,} known already" if done.duplicates else ""
        output.data(f"{output.count(done.accepted, kind[:-1])} accepted{known}")
    _tell(done, kind)
    return errors.PARTIAL if done.rejected or done.conflicts or done.incomplete else errors.OK


def meaning(settings: Settings) -> tuple[Any, str]:
    """The project's model and its zone: facts can be brought in while the campaigns have errors."""
    from rules_engine import project
    from rules_engine.runtime.calendar import is_zone
    from rules_engine.syntax.nodes import Timezone

    model = project.load_program([settings.folder], build=False).model
    zones = [clause.zone for clause in model.clauses(Timezone) if is_zone(clause.zone)]
    return model, zones[0] if zones else "UTC"


def _import(file: Path, kind: str, settings: Settings, model: Any, zone: str) -> Any:
    from rules_engine.cli.loading import open_store
    from rules_engine.engine.unread import Unread
    from rules_engine.service import ingest

    read_event, read_contact = ingest.readers(model, zone)
    size = file.stat().st_size
    with (
        open_store(None, write=True, create=True, settings=settings) as store,
        output.gauge(size, f"importing {file.name}") as move,
    ):
        if kind == "events":
            return ingest.import_events(store, file, read_event, unread=Unread(model), progress=lambda lines, position: move(position))
        return ingest.import_contacts(store, file, read_contact, progress=lambda lines, position: move(position))


def _tell(done: Any, kind: str) -> None:
    """What a person should know besides."""
    if done.incomplete:
        output.warn(done.incomplete, "the lines before it are in; get the whole file and import it again")
    if done.rejected_file is not None:
        number = done.rejected + done.conflicts
        output.warn(f"{output.count(number, 'line')} kept aside in {done.rejected_file}, with the reason of each")
        for line in _first_lines(done.rejected_file):
            output.say(f"  line {line['line']}: {output.clean(line['reason'])}")
        if number > SHOWN:
            output.say(f"  and {number - SHOWN:,} more")
    if done.without_id:
        output.say(
            f"{output.count(done.without_id, kind[:-1])} without an id: a repeat is recognised only if the same file comes again"
        )
    _tell_unread(done.unread)


def _tell_unread(unread: Mapping[str, int]) -> None:
    """Sentences about what no condition can read -> in how many lines."""
    for sentence, lines in list(unread.items())[:SHOWN]:
        output.warn(f"{output.clean(sentence)} ({output.count(lines, 'line')})")
    if len(unread) > SHOWN:
        output.say(f"and {len(unread) - SHOWN:,} more of this kind")


def _first_lines(path: Path) -> list[dict[str, Any]]:
    import json

    with path.open(encoding="utf-8") as stream:
        return [json.loads(line) for line, _ in zip(stream, range(SHOWN), strict=False)]


def _try(file: Path, kind: str, model: Any, zone: str, as_json: bool) -> int:
    """Reads and judges every line, and keeps nothing."""
    from rules_engine.cli.records import read_records
    from rules_engine.clock import SystemClock
    from rules_engine.engine.unread import Unread
    from rules_engine.service import ingest

    read_event, read_contact = ingest.readers(model, zone)
    unread = Unread(model)
    now = SystemClock().now()
    good, bad, odd = 0, [], Counter[str]()
    for line in read_records(file, kind):
        reason = line.reason
        if line.record is not None:
            try:
                if kind == "events":
                    read_event(line.record)
                    odd.update(unread(line.record))
                else:
                    read_contact(line.record, now)
            except ValueError as error:
                reason = str(error)
        if reason:
            bad.append((line.number, reason))
        else:
            good += 1
    if as_json:
        output.json_document({"file": str(file), "lines": good + len(bad), "good": good, "rejected": len(bad), "warnings": list(odd)})
    else:
        output.data(f"{output.count(good, kind[:-1])} would be imported")
    for number, reason in bad[:SHOWN]:
        output.warn(f"{file}, line {number}: {output.clean(reason)}")
    if len(bad) > SHOWN:
        output.say(f"and {output.count(len(bad) - SHOWN, 'more line')} that would be kept aside")
    _tell_unread(odd)
    return errors.PARTIAL if bad else errors.OK


# ── single facts ──


def send_contact(contact: str, values: dict[str, str], at: str | None, db: str | None, dry_run: bool) -> bool:
    """Records new values of one contact's attributes; whether nobody of that id was known. Trouble for values that can't be."""
    from rules_engine.cli.loading import open_store
    from rules_engine.engine.values import read_contact
    from rules_engine.store.port import SOURCE_CONTACTS, Arrival

    settings = Settings({"database": db})
    model, zone = meaning(settings)
    moment = _moment(at, zone)
    try:
        change = read_contact(model, {**values, "id": contact}, moment)
    except ValueError as error:
        help = "attributes are declared with ATTRIBUTE in a .camp file" if str(error).startswith("no attribute") else ""
        raise Trouble(f"{contact}: {error}", help, errors.USAGE) from error
    if dry_run and not settings.database.exists():
        return True
    with open_store(None, write=not dry_run, create=not dry_run, settings=settings) as store:
        new = contact not in store.contacts([contact]) and not store.events_of(contact, 1)
        if not dry_run:
            store.record_events([Arrival(change._replace(id=_name("set", contact, values, moment)), SOURCE_CONTACTS)])
    return new


def send_event(
    name: str,
    contact: str,
    values: dict[str, str],
    subject: str | None,
    at: str | None,
    id: str | None,
    db: str | None,
    dry_run: bool,
) -> bool:
    """Records one event; whether it was new. Warns of fields that are not declared. Trouble for one that can't be."""
    from rules_engine.engine.unread import Unread
    from rules_engine.engine.values import read_event
    from rules_engine.runtime.calendar import format_utc
    from rules_engine.store.port import SOURCE_EVENTS

    settings = Settings({"database": db})
    model, zone = meaning(settings)
    moment = _moment(at, zone)
    record = {
        "id": id or _name("send", name, contact, values, subject, moment),
        "event": name,
        "contact": contact,
        "at": format_utc(moment),
        "subject": subject,
        "data": values,
    }
    try:
        event = read_event(model, record, zone)
    except ValueError as error:
        unknown = str(error).startswith("no event")
        help = "events are declared with EVENT in a .camp file; `camp plugin list` shows those of plugins" if unknown else ""
        raise Trouble(str(error), help, errors.USAGE) from error
    for sentence in Unread(model)(record, every=True):
        output.warn(output.clean(sentence))
    return _record(event, SOURCE_EVENTS, settings, dry_run)


def _moment(at: str | None, zone: str) -> int:
    from rules_engine.cli.loading import moment
    from rules_engine.clock import SystemClock

    given = moment(at, zone, "--at")
    return SystemClock().now() if given is None else given


def _record(cause: Any, source: str, settings: Settings, dry_run: bool) -> bool:
    from rules_engine.cli.loading import open_store
    from rules_engine.store.port import Arrival

    if dry_run:
        return True
    with open_store(None, write=True, create=True, settings=settings) as store:
        return bool(store.record_events([Arrival(cause, source)]).accepted)


def _name(*parts: Any) -> str:
    """An id from content and moment."""
    return "cli:" + hashlib.blake2b(repr(parts).encode("utf-8", "backslashreplace"), digest_size=12).hexdigest()
