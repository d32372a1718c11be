"""What a person may ask for: all that is kept about them, and that it goes."""

from __future__ import annotations

import csv
import fcntl
import gzip
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rules_engine.cli import errors, output
from rules_engine.cli.errors import Trouble
from rules_engine.cli.pause import who
from rules_engine.cli.settings import Settings
from rules_engine.links import handle

WAIT = 60  # seconds: how long a hand-over may take before an erasure gives up
USUAL = {"email": "email", "sms": "phone"}  # channel -> attribute with the address
FORMULA = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "＝",
    "＋",
    "－",
    "＠",
)  # what spreadsheets take for the beginning of a formula
LARGEST = 200_000_000  # bytes of a data file that is searched for a name

# ── export ──


def export(contacts: tuple[str, ...], settings: Settings, form: str, target: Path | None) -> None:
    """Writes contacts as jsonl, csv or json. Trouble for one that is not there, or a target that is."""
    from rules_engine.cli.loading import open_store
    from rules_engine.cli.people import everyone, project_model, record

    if form == "json" and not contacts:
        raise errors.usage("--format json needs the contacts by name", "camp contact export ana --format json")
    model = project_model(settings)
    with open_store(None, settings=settings) as store, _target(target) as stream:
        if contacts:
            import orjson

            rows = store.contacts(contacts)
            missing = [contact for contact in contacts if contact not in rows]
            if missing:
                raise Trouble(f"there is no contact `{missing[0]}`", "`camp contact list` shows them")
            people: Iterable[tuple[str, dict[str, Any]]] = [
                (contact, orjson.loads(rows[contact].state)) for contact in contacts
            ]
        else:
            people = everyone(store)
        records = (record(contact, state, model) for contact, state in people)
        if form == "json":
            stream.write(
                json.dumps(
                    [{**item, **_history(store, item["id"])} for item in records], ensure_ascii=False, indent=2, default=str
                )
            )
            stream.write("\n")
        elif form == "jsonl":
            for item in records:
                stream.write(output.json_line(item) + "\n")
        else:
            write_csv(stream, list(records))
    if target is not None:
        output.say(f"written to {target}")


def _target(target: Path | None) -> Any:
    import contextlib

    if target is None:
        return contextlib.nullcontext(sys.stdout)
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise errors.refused(f"{target} is there already", "name a new file") from error
    return open(descriptor, "w", encoding="utf-8", newline="")


def write_csv(stream: Any, records: list[dict[str, Any]]) -> None:
    """Records as CSV, all columns that any of them has. Formulas are made harmless."""
    names = list(dict.fromkeys(name for record in records for name in record))
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([harmless(name) for name in names])
    for record in records:
        writer.writerow([harmless(record.get(name)) for name in names])


def harmless(value: Any) -> str:
    """A cell that no spreadsheet runs (OWASP, CSV injection): what would begin a formula gets an apostrophe before it. Numbers and
    telephone numbers stay as they are."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (dict, list, tuple)):
        value = json.dumps(value, ensure_ascii=False, default=str)
    text = str(value)
    plain = isinstance(value, (int, float)) or (text[:1] in "+-" and text[1:].replace(".", "", 1).replace(" ", "").isdigit())
    return "'" + text if text.lstrip(" ").startswith(FORMULA) and not plain else text


def _history(store: Any, contact: str) -> dict[str, Any]:
    """All that is kept about a contact besides its attributes."""
    from rules_engine.runtime.calendar import format_utc

    events = [
        {
            "id": getattr(row.cause, "id", None),
            "event": getattr(row.cause, "name", None) or "contact changed",
            "at": format_utc(row.cause.at),
            "subject": getattr(row.cause, "subject", None),
            "data": dict(getattr(row.cause, "data", None) or getattr(row.cause, "attributes", None) or {}),
        }
        for row in store.events_of(contact, 1_000_000)
    ]
    decisions = [
        {
            "at": format_utc(item.at),
            "campaign": item.campaign or item.rule,
            "kind": item.kind,
            "action": item.action,
            "reason": item.reason,
        }
        for item in (row.decision for row in store.journal_of(contact, 1_000_000))
    ]
    messages = [
        {"at": format_utc(row.at), "action": row.action, "content": row.primary, "params": dict(row.params), "state": row.state}
        for row in reversed(store.effects(contact=contact, limit=1_000_000))
    ]
    return {"events": events, "decisions": decisions, "messages": messages}


# ── erasure ──


def forget(contacts: tuple[str, ...], settings: Settings, later: bool, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Erases contacts. Trouble for one of whom nothing is known, or if it is not confirmed."""
    from rules_engine.cli.loading import open_store
    from rules_engine.cli.upkeep import scrubbed
    from rules_engine.clock import SystemClock

    clock = SystemClock()
    with open_store(None, write=True, settings=settings) as store:
        people = [_Person(store, settings, contact) for contact in _with_merged(store, contacts)]
        unknown = [person.contact for person in people if not person.known]
        if unknown:
            raise Trouble(
                f"nothing is known of a contact `{unknown[0]}`", "`camp contact list` shows the contacts; nothing was erased"
            )
        for person in people if not as_json else ():
            output.say(person.words())
        if not dry_run:
            output.confirm(f"Erase {output.count(len(people), 'contact')}? This can't be undone", yes)
            for person in people:
                person.erase(clock)
            output.say("writing the database anew …") if not later else None
            scrubbed(store, settings, not later)
        for person in people:
            if as_json:
                output.json_document(person.record(not dry_run))
            elif not dry_run:
                output.data(f"erased {person.mark}")
    if not dry_run:
        output.say("backups made before still hold what was erased, and so do logs and the files that are named above")
        file = settings.database
        for old in sorted(file.parent.glob(f"{file.name}.before-*")) if isinstance(file, Path) else ():
            output.say(f"{old} is the database from before a restore, and may hold it too: remove it")


def _with_merged(store: Any, contacts: Iterable[str]) -> list[str]:
    """The contacts, and whoever was merged into them: they are one person."""
    from rules_engine.store import codec

    found = dict.fromkeys(contacts)
    ahead = list(found)
    while ahead:
        row = store.contacts([ahead.pop()])
        for state in (codec.load(item.state) for item in row.values()):
            fresh = [name for name in state.get("from") or () if name not in found]
            found.update(dict.fromkeys(fresh))
            ahead += fresh
    return list(found)


def addresses_of(store: Any, settings: Settings, contact: str) -> set[tuple[str, str]]:
    """All (channel, address) that a contact has or had."""
    import orjson

    from rules_engine.cli.people import attributes

    row = store.contacts([contact]).get(contact)
    states = [attributes(orjson.loads(row.state))] if row is not None else []
    states += [getattr(item.cause, "attributes", {}) for item in store.events_of(contact, 1_000_000)]
    return {
        (channel, value.strip())
        for state in states
        for channel, name in channels(settings).items()
        if isinstance(value := state.get(name), str) and value.strip()
    }


class _Person:
    """Where one contact is found."""

    def __init__(self, store: Any, settings: Settings, contact: str) -> None:
        self.contact, self._store, self._settings = contact, store, settings
        self.mark = store.contact_mark(contact)
        self.found = store.erase(contact, (), 0, dry_run=True)
        self.addresses = sorted(addresses_of(store, settings, contact))
        self._effects = _names({effect.id for effect in store.effects(contact=contact, limit=1_000_000)})
        self.files = [path for path in _handed_over(settings) if self._names(path)]
        self.others = [path for path in _data_files(settings) if path not in self.files and self._mentioned(path)]

    @property
    def known(self) -> bool:
        """Whether there is anything to erase."""
        return bool(any(self.found) or self.files)

    def _texts(self) -> list[str]:
        return [self.contact, *(value for _, value in self.addresses)]

    def _names(self, path: Path) -> bool:
        """Whether a file of a folder transport is about this contact."""
        if path.suffix == ".eml":
            return self._is_letter(path)
        with path.open("rb") as stream:
            return any(self._is_line(line) for line in stream)

    def _is_letter(self, path: Path) -> bool:
        from email import message_from_binary_file
        from email.utils import getaddresses

        with path.open("rb") as stream:
            letter = message_from_binary_file(stream)
        to = {address.casefold() for _, address in getaddresses([str(value) for value in letter.get_all("To", [])])}
        own = {value.casefold() for channel, value in self.addresses if channel == "email"}
        return bool(to & own) or str(letter.get("Message-ID", "")).strip("<>").partition("@")[0] in self._effects

    def _is_line(self, line: bytes) -> bool:
        try:
            record = json.loads(line)
        except ValueError:
            return False
        if not isinstance(record, dict):
            return False
        wanted = {*self._texts(), *self._effects}
        return any(isinstance(value, str) and value in wanted for value in _values(record))

    def _mentioned(self, path: Path) -> bool:
        """Whether a data file holds the contact's id or an address as a whole word. Such files are told, not changed."""
        import re

        words = [re.escape(form) for text in self._texts() for form in {text, json.dumps(text)[1:-1]}]
        pattern = re.compile(rf"(?<![\w@.-])(?:{'|'.join(words)})(?![\w@-])".encode())
        opener = gzip.open if path.suffix == ".gz" else open
        try:
            with opener(path, "rb") as stream:
                return any(pattern.search(line) for line in stream)
        except (OSError, EOFError):
            return False

    def words(self) -> str:
        """What would go, in one paragraph."""
        found = self.found
        said = (
            f"{output.clean(self.contact)}: {output.count(found.events, 'event')}, {output.count(found.decisions, 'decision')}, "
            f"{output.count(found.effects, 'effect')}, {output.count(len(self.files), 'file')} of folder transports"
        )
        if self.others:
            said += "\n  these name the contact too, and are not changed: " + ", ".join(map(str, self.others[:10]))
            said += f" and {len(self.others) - 10:,} more" if len(self.others) > 10 else ""
        return said

    def record(self, erased: bool) -> dict[str, Any]:
        """For --json. Names nobody once it is done."""
        return {
            "contact": self.mark if erased else self.contact,
            "erased": erased,
            **{name: number for name, number in self.found._asdict().items() if name != "ids"},
            "files": [str(path) for path in self.files],
            "named_in": [str(path) for path in self.others],
        }

    def erase(self, clock: Any) -> None:
        """The database first: from then on nothing new about the contact is written by a running service."""
        from rules_engine.store import StoreError

        for second in range(WAIT + 1):
            try:
                self.found = self._store.erase(self.contact, self.addresses, clock.now())
                break
            except StoreError as error:
                if error.kind != "busy" or second == WAIT:
                    raise
                clock.sleep(1_000)
        self._effects |= _names(self.found.ids)  # what was handed over while we asked
        self.files = [path for path in _handed_over(self._settings) if self._names(path)]
        for path in self.files:
            if path.suffix == ".eml":
                path.unlink(missing_ok=True)
            else:
                _drop_lines(path, self._is_line)
        self._store.audit(who(), "forget", self.mark, clock.now())


def _names(effects: Iterable[str]) -> set[str]:
    """What effects are called, by us and by the world."""
    return {name for id in effects for name in (id, handle(id))}


def channels(settings: Settings) -> dict[str, str]:
    """Channel -> the attribute that holds its address, as the installed plugins say."""
    from rules_engine import host

    found = host.load({**settings.user, **settings.project}).actions.values()
    return {**USUAL, **{action.channel: action.address for action in found if action.channel and action.address}}


def _handed_over(settings: Settings) -> Iterator[Path]:
    """The files of folder transports: letters, and JSON Lines of other channels."""
    tables = [table for content in (settings.user, settings.project) for table in content.values() if isinstance(table, dict)]
    for name in sorted({str(table.get("folder") or "outbox") for table in tables} | {"outbox"}):
        folder = settings.folder / name
        if folder.is_dir() and folder != settings.folder / "spool":
            yield from sorted(path for path in folder.iterdir() if path.suffix in (".eml", ".jsonl") and path.is_file())


def _data_files(settings: Settings) -> Iterator[Path]:
    """Files of facts in the project, such as imports, what was rejected of them, and what the spool has done."""
    for path in sorted(settings.folder.rglob("*")):
        name = path.name.removesuffix(".gz")
        if name.endswith((".jsonl", ".csv")) and path.is_file() and path.stat().st_size <= LARGEST:
            yield path


def _values(record: Any) -> Iterator[Any]:
    if isinstance(record, dict):
        for value in record.values():
            yield from _values(value)
    elif isinstance(record, list):
        for value in record:
            yield from _values(value)
    else:
        yield record


def _drop_lines(path: Path, wanted: Any) -> None:
    """Takes lines out of a file to which a running service appends under the same lock. Overwritten in place: a new file of the same
    name would leave the service writing into the old one."""
    with path.open("r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        data = stream.read()
        kept = b"".join(line for line in data.splitlines(keepends=True) if not wanted(line))
        if kept != data:
            stream.seek(0)
            stream.write(kept)
            stream.truncate()
            stream.flush()
            os.fsync(stream.fileno())
