"""Events and contacts into the log: files of JSON Lines or CSV, plain or gzip, streamed, a few hundred lines a transaction; and
the pieces of that which HTTP shares (`json_lines`, `event_arrival`, `contact_arrival`, `record_each`).

Safe to repeat: what is known is counted as a duplicate, so a killed import is gone on with by running it again. A bad line is
kept aside with its number and reason and never stops the others.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import os
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson

from rules_engine.facts import ContactChange, Event
from rules_engine.limits import MAX_DATA_NESTING, MAX_EVENT_BYTES, MAX_NAME_LENGTH
from rules_engine.service import faults as points
from rules_engine.store.port import SOURCE_CONTACTS, SOURCE_EVENTS, Arrival, BadData, Store, StoreError

BATCH = 500  # lines of one transaction
MAX_ID = 500  # characters of an id
SHOWN = 2_000  # characters of a bad line that are kept aside
MAX_UNREAD = 100  # different sentences about what nobody can read
MAX_MOMENT = 253_402_300_800_000  # the year 10000
_DAMAGED = (OSError, EOFError, zlib.error)

Steps = Generator[None, None, "Ingested"]
ReadEvent = Callable[[dict[str, Any]], Event]
ReadContact = Callable[[dict[str, Any], int], ContactChange]
ReadUnread = Callable[[dict[str, Any]], Sequence[str]]


class Ingested(NamedTuple):
    """What became of a file. `lines`: records read. `without_id`: events that had none: a repeat of the same file is recognised,
    but an identical event in another file is taken for a repeat of it. `incomplete`: why the file could not be read to its end,
    or "". `unread`: what lines have and no condition can read, in sentences -> lines."""

    lines: int
    accepted: int
    duplicates: int
    conflicts: int
    rejected: int
    without_id: int
    rejected_file: Path | None
    incomplete: str = ""
    unread: Mapping[str, int] = {}


class Line(NamedTuple):
    """One record of a file: its number (from 1), its text, and its content; or the reason why it has none."""

    number: int
    text: str
    record: dict[str, Any] | None
    reason: str = ""


def import_events(store: Store, path: Path, read: ReadEvent, **options: Any) -> Ingested:
    """Appends the events of a file: `event_steps`, with its options, to the end. Raises StoreError, and OSError if the file can't be
    opened."""
    return _finished(event_steps(store, path, read, **options))


def event_steps(
    store: Store,
    path: Path,
    read: ReadEvent,
    *,
    default_at: str | None = None,
    source: str = SOURCE_EVENTS,
    unread: ReadUnread | None = None,
    batch: int = BATCH,
    progress: Callable[[int, int], None] | None = None,
    faults: points.Faults = points.none,
) -> Steps:
    """Appends the events of a file, in steps of one batch, for who has other things to do in between. read: makes an Event of a record
    of CLI.md, raises ValueError(sentence). default_at: a moment for lines that have none. unread: sentences about what a record has and
    no condition can read. progress(lines, bytes of the file read). Each step raises StoreError, and OSError if the file can't be opened."""
    occurrences: Counter[bytes] = Counter()
    odd: Counter[str] = Counter()

    def make(line: Line) -> tuple[Arrival, bool]:
        record = line.record or {}
        if record.get("at") in (None, "") and default_at is None:
            raise ValueError("`at` is missing: when did it happen?")
        made = event_arrival(record, read, lambda full: _name("line", full, occurrences), default_at or "", source=source)
        for sentence in unread(record) if unread is not None else ():
            if sentence in odd or len(odd) < MAX_UNREAD:
                odd[sentence] += 1
        return made

    return _steps(store, Path(path), make, batch, progress, faults, odd)


def import_contacts(store: Store, path: Path, read: ReadContact, **options: Any) -> Ingested:
    """Appends the contacts of a file as changes of contacts: `contact_steps`, with its options, to the end. Raises StoreError, and
    OSError if the file can't be opened."""
    return _finished(contact_steps(store, path, read, **options))


def contact_steps(
    store: Store,
    path: Path,
    read: ReadContact,
    *,
    default_at: int | None = None,
    batch: int = BATCH,
    progress: Callable[[int, int], None] | None = None,
    faults: points.Faults = points.none,
) -> Steps:
    """Appends the contacts of a file as changes of contacts, in steps of one batch. read: as for events, told the moment.

    The moment of a change: the line's `at`, or default_at, or its `created_at`, or when the file was last written. The same
    content from the same state of the file is a repeat; from a file that was written anew it is told again, because it may put
    back an older value.
    """
    path = Path(path)
    written = path.stat().st_mtime_ns // 1_000_000
    occurrences: Counter[bytes] = Counter()

    def make(line: Line) -> tuple[Arrival, bool]:
        record = dict(line.record or {})
        own = record.pop("at", None)
        stamp = [record, own if own not in (None, "") else default_at if default_at is not None else written]
        at = moment(own, "at") if own not in (None, "") else default_at
        if at is None:
            created = record.get("created_at")
            at = min(moment(created, "created_at"), written) if created not in (None, "") else written
        return contact_arrival(record, read, at, _name("contact", stamp, occurrences)), False

    return _steps(store, path, make, batch, progress, faults)


def readers(model: Any, default_zone: str = "UTC") -> tuple[ReadEvent, ReadContact]:
    """The engine's own readers, which know the declared types."""
    from rules_engine.engine import values

    return (lambda record: values.read_event(model, record, default_zone)), (
        lambda record, at: values.read_contact(model, record, at)
    )


# ---------------------------------------------------------------- one record


def event_arrival(
    record: Mapping[str, Any],
    read: ReadEvent,
    new_id: Callable[[dict[str, Any]], str],
    default_at: str,
    *,
    undated: bool = False,
    source: str = SOURCE_EVENTS,
) -> tuple[Arrival, bool]:
    """A record of CLI.md for the log, and whether it had no id; then new_id(record) gives one. default_at: the moment of a record
    that has none; undated: then its time is no part of what it says. Raises ValueError(sentence)."""
    full = dict(record)
    timeless = full.get("at") in (None, "")
    if timeless:
        full["at"] = default_at
    anonymous = full.get("id") in (None, "")
    if anonymous:
        full["id"] = new_id(full)
    event = read(full)
    _check(event.id, event.contact, event.at)
    return Arrival(event, source, undated=timeless and undated), anonymous


def contact_arrival(record: Mapping[str, Any], read: ReadContact, at: int, id: str, *, undated: bool = False) -> Arrival:
    """A contact's record without `at` for the log, as a change at that moment, under an id of ours. Raises ValueError(sentence)."""
    change = read(dict(record), at)._replace(id=id)
    _check(change.id, change.contact, change.at)
    return Arrival(change, SOURCE_CONTACTS, undated=undated)


class Fate(NamedTuple):
    """What became of one arrival. status: accepted | duplicate | conflict (its id is known with another content) | rejected (no
    store takes it, `reason` says why)."""

    status: str
    reason: str = ""


def record_each(store: Store, arrivals: Sequence[Arrival]) -> list[Fate]:
    """Appends a batch in one transaction; where a value in it can't be stored, one by one, so that it costs only its own item.
    Raises StoreError."""
    if not arrivals:
        return []
    try:
        done = store.record_events(arrivals)
    except (BadData, TypeError, ValueError, OverflowError) as error:
        if len(arrivals) == 1:
            return [Fate("rejected", f"it can't be stored: {error}")]
        return [fate for arrival in arrivals for fate in record_each(store, [arrival])]
    fates = [_ACCEPTED] * len(arrivals)
    for index in done.duplicates:
        fates[index] = _DUPLICATE
    for index in done.conflicts:
        what = "event" if isinstance(arrivals[index].cause, Event) else "contact"
        fates[index] = Fate("conflict", f"another {what} with the id {arrivals[index].cause.id} is known; the first stands")
    return fates


_ACCEPTED, _DUPLICATE = Fate("accepted"), Fate("duplicate")


def _name(kind: str, content: Any, occurrences: Counter[bytes]) -> str:
    """An id from the content, and from which of several identical lines it is."""
    digest = hashlib.blake2b(orjson.dumps(content, option=orjson.OPT_SORT_KEYS), digest_size=12)
    occurrences[digest.digest()] += 1
    return f"{kind}:{digest.hexdigest()}:{occurrences[digest.digest()]}"


def _check(id: Any, contact: Any, at: Any) -> None:
    for label, text in (("id", id), ("contact", contact)):
        if not isinstance(text, str) or not text or len(text) > MAX_ID:
            raise ValueError(f"`{label}` must be a text of 1 to {MAX_ID} characters")
    if not isinstance(at, int) or not -MAX_MOMENT < at < MAX_MOMENT:
        raise ValueError("`at` is no moment of the years that Camp knows")


def moment(value: Any, name: str) -> int:
    """Milliseconds of an ISO 8601 text; without an offset it is UTC."""
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError(f"`{name}` is no moment like 2026-03-02T09:00:00Z: {str(value)[:60]!r}") from None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return (found - datetime(1970, 1, 1, tzinfo=UTC)) // _MILLISECOND


# ---------------------------------------------------------------- a file


@dataclass(slots=True)
class _Sums:
    lines: int = 0
    accepted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    without_id: int = 0


def _finished(steps: Steps) -> Ingested:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def _steps(
    store: Store,
    path: Path,
    make: Callable[[Line], tuple[Arrival, bool]],
    batch: int,
    progress: Callable[[int, int], None] | None,
    faults: points.Faults,
    odd: Mapping[str, int] | None = None,
) -> Steps:
    sums, incomplete = _Sums(), ""
    with path.open("rb") as raw, _Rejected(path) as rejected:
        waiting: list[tuple[Line, Arrival]] = []

        def flush() -> None:
            faults(points.BATCH_READ)
            _record(store, waiting, sums, rejected)
            waiting.clear()
            if progress is not None:
                progress(sums.lines, raw.tell())

        try:
            for line in _lines(path, raw):
                if sums.lines and sums.lines % batch == 0:
                    yield
                sums.lines += 1
                if line.record is None:
                    rejected.add(line, line.reason)
                    continue
                try:
                    arrival, anonymous = make(line)
                except (ValueError, TypeError, OverflowError) as error:
                    rejected.add(line, str(error))
                    continue
                sums.without_id += anonymous
                waiting.append((line, arrival))
                if len(waiting) >= batch:
                    flush()
        except _DAMAGED as error:
            incomplete = f"the file can't be read behind line {sums.lines}: {error}"
        flush()
        return Ingested(
            sums.lines, sums.accepted, sums.duplicates, sums.conflicts, rejected.count, sums.without_id, rejected.kept, incomplete, odd or {}
        )


def _record(store: Store, waiting: list[tuple[Line, Arrival]], sums: _Sums, rejected: _Rejected) -> None:
    for (line, _), fate in zip(waiting, record_each(store, [arrival for _, arrival in waiting]), strict=True):
        sums.accepted += fate.status == "accepted"
        sums.duplicates += fate.status == "duplicate"
        sums.conflicts += fate.status == "conflict"
        if fate.reason:
            rejected.add(line, fate.reason, conflict=fate.status == "conflict")


class _Rejected:
    """FILE.rejected.jsonl, made when the first line is kept aside. One of an earlier run goes first: each line is judged anew."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + ".rejected.jsonl")
        self._stream: IO[bytes] | None = None
        self.count = 0

    def __enter__(self) -> _Rejected:
        self._path.unlink(missing_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._stream is None:
            return
        try:
            self._stream.close()
        except OSError as error:
            if kind is None:
                raise self._unwritable(error) from error

    @property
    def kept(self) -> Path | None:
        """The file, if there is one."""
        return self._path if self._stream is not None else None

    def add(self, line: Line, reason: str, conflict: bool = False) -> None:
        """Keeps a line aside. A conflict is no fault of the line and is counted apart."""
        try:
            self._write(line, reason)
        except OSError as error:
            raise self._unwritable(error) from error
        self.count += not conflict

    def _write(self, line: Line, reason: str) -> None:
        if self._stream is None:
            self._stream = open(self._path, "wb", opener=_private)
        text = line.text if len(line.text) <= MAX_EVENT_BYTES else line.text[:SHOWN] + "…"
        try:
            data = orjson.dumps({"line": line.number, "reason": reason, "text": text})
        except TypeError:  # lone surrogates from a field of the record
            data = orjson.dumps({"line": line.number, "reason": _visible(reason), "text": _visible(text)})
        self._stream.write(data + b"\n")

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(
            f"{self._path} can't be written: {error.strerror or error}",
            "make room, or check the folder's permissions, and import again; what was taken in is kept and is not taken twice",
            "full",
        )


def _private(path: str, flags: int) -> int:
    """The lines are people's data."""
    return os.open(path, flags, 0o600)


def _visible(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


# ---------------------------------------------------------------- formats


def _lines(path: Path, raw: IO[bytes]) -> Iterator[Line]:
    """The records of a file; the format is told by its name (.csv, .csv.gz), everything else is JSON Lines."""
    name = path.name.lower()
    stream: Any = gzip.GzipFile(fileobj=raw) if name.endswith(".gz") else raw
    is_csv = name.removesuffix(".gz").endswith(".csv")
    with _no_field_limit() if is_csv else _nothing():
        yield from (_csv if is_csv else json_lines)(stream)


def _raw_lines(stream: Any) -> Iterator[tuple[int, bytes, bool]]:
    """(number, line without its end, too long?). Memory stays bounded whatever a line's length."""
    number = 0
    while line := stream.readline(MAX_EVENT_BYTES + 2):
        number += 1
        too_long = len(line) > MAX_EVENT_BYTES and not line.endswith(b"\n")
        rest = too_long
        while rest:
            piece = stream.readline(1 << 20)
            rest = bool(piece) and not piece.endswith(b"\n")
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        yield number, line.rstrip(b"\r\n"), too_long


def json_lines(stream: Any) -> Iterator[Line]:
    """The records of JSON Lines in a binary stream. Memory stays bounded whatever a line's length."""
    for number, line, too_long in _raw_lines(stream):
        if not line.strip():
            continue
        text = line.decode("utf-8", "backslashreplace")
        if too_long:
            yield Line(number, text, None, f"the line is longer than {MAX_EVENT_BYTES:,} bytes")
            continue
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            yield Line(number, text, None, json_reason(line, error))
            continue
        yield json_line(number, text, record, "line")


def json_line(number: int, text: str, value: Any, what: str) -> Line:
    """A record from a JSON value, or why it can be none. what: it is called in the reason."""
    if not isinstance(value, dict):
        return Line(number, text, None, f"the {what} is no JSON object {{…}}")
    if too_deep(value):
        return Line(number, text, None, f"the {what} is nested more than {MAX_DATA_NESTING} levels deep")
    return Line(number, text, value)


def too_deep(value: Any, levels: int = MAX_DATA_NESTING) -> bool:
    """Whether lists and maps of a JSON value stand inside one another in more than so many levels."""
    kind = type(value)
    if kind is not dict and kind is not list:
        return False
    if not levels:
        return True
    for inner in value.values() if kind is dict else value:
        kind = type(inner)
        if (kind is dict or kind is list) and too_deep(inner, levels - 1):  # asked before the call, which costs more
            return True
    return False


def json_reason(line: bytes, error: Exception) -> str:
    """Why bytes are no JSON."""
    try:
        line.decode()
    except UnicodeDecodeError as fault:
        return f"the line is not UTF-8: byte {fault.start + 1}"
    return f"the line is no JSON: {error}"


def _csv(stream: Any) -> Iterator[Line]:
    """Columns id, event, contact, at, subject are the event's; every other column is a field of `data`. A contact file (no column
    `event`) keeps its columns as they are. An empty cell is no value."""
    tape = _Tape(stream)
    reader = csv.reader(tape, strict=True)
    names: list[str] | None = None
    while True:
        tape.start()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield tape.reject(f"the line is no CSV: {error}")
            continue
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            continue
        if names is not None:
            yield _csv_record(names, cells, tape)
            continue
        names = [name.strip() for name in cells]
        problem = _header_problem(names)
        if problem:
            yield tape.reject(problem)
            return


def _header_problem(names: list[str]) -> str:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        return f"the header names the column {twice[0]!r} twice; nothing was read"
    if "contact" not in names and "id" not in names:
        return "the first line must name the columns, such as id,event,contact,at; nothing was read"
    odd = [name for name in names if not name or len(name) > MAX_NAME_LENGTH]
    return f"the header has a column without a name, or with a very long one: {odd[0][:40]!r}; nothing was read" if odd else ""


def _csv_record(names: list[str], cells: list[str], tape: _Tape) -> Line:
    if tape.bad:
        return tape.reject(tape.bad)
    if len(cells) != len(names):
        return tape.reject(f"the line has {len(cells)} columns and the header {len(names)}")
    record: dict[str, Any] = {name: cell for name, cell in zip(names, cells, strict=True) if cell != ""}
    if "event" in names:
        record["data"] = {name: record.pop(name) for name in names if name in record and name not in _EVENT_COLUMNS}
    return Line(tape.number, tape.text, record)


_Piece = tuple[int, bytes, bool]


class _Tape:
    """Feeds the CSV reader, and remembers the lines of the record being read: a quoted cell may span several.

    A quote that is not closed would swallow the rest of the file; so when a record is bad, only its first line is rejected and
    the others are fed again.
    """

    def __init__(self, stream: Any) -> None:
        self._lines = _raw_lines(stream)
        self._again: list[_Piece] = []
        self._pieces: list[_Piece] = []
        self._size = 0
        self.bad = ""

    def start(self) -> None:
        """A new record."""
        self._pieces, self._size, self.bad = [], 0, ""

    @property
    def number(self) -> int:
        """Of the record's first line."""
        return self._pieces[0][0] if self._pieces else 0

    @property
    def text(self) -> str:
        """The record as it stands in the file."""
        return "\n".join(line.decode("utf-8", "backslashreplace") for _, line, _ in self._pieces)

    def reject(self, reason: str) -> Line:
        """The record's first line as a bad one."""
        self._again = self._pieces[1:] + self._again
        self._pieces = self._pieces[:1]
        return Line(self.number, self.text, None, reason)

    def __iter__(self) -> _Tape:
        return self

    def __next__(self) -> str:
        number, line, too_long = piece = self._again.pop(0) if self._again else next(self._lines)
        self._pieces.append(piece)
        self._size += len(line)
        if too_long or self._size > MAX_EVENT_BYTES:
            raise csv.Error(f"the record is longer than {MAX_EVENT_BYTES:,} bytes; perhaps a quote is not closed")
        try:
            return line.decode() + "\n"
        except UnicodeDecodeError as fault:
            self.bad = f"the line is not UTF-8: byte {fault.start + 1}"
            return line.decode("utf-8", "replace") + "\n"


@contextmanager
def _no_field_limit() -> Iterator[None]:
    """csv's limit of 131,072 characters a field is ours for the length of a record: a field may be as long as that, not
    longer."""
    before = csv.field_size_limit(2 * MAX_EVENT_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(before)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


_EVENT_COLUMNS = ("id", "event", "contact", "at", "subject")
_MILLISECOND = datetime(1970, 1, 1, 0, 0, 0, 1000) - datetime(1970, 1, 1)
