"""The send journal: a file beside the database that says what was handed over, whatever becomes of the database (promise P11).

`camp.db.sent` gets a line for each hand-over, synced after the claim is committed and before the plugin is called. When an older
backup was put back, the journal knows of hand-overs that the database shows as still to be done, or not at all: those become
`unknown` and nothing is sent twice. Lines come in the order of the claims, and a database that knows of one hand-over knows of all
earlier ones; so only the end of the file is looked at, back to the first line that the database knows.

A line is `SEQ MARK ATTEMPT AT`: the effect's number in the outbox, a keyed hash of its id (the file survives an erasure and names
nobody), the attempt, milliseconds. The first line says which database and which machine it belongs to. A copy of the folder has the
same journal in another file: it must not run beside the original, and nobody but a person can know that the original is off.

What retention drops is missed by a still older backup. So the first line also tells up to when lines were dropped, the database notes the
same, and one that neither noted it nor lived beyond that moment is refused like a copy.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rules_engine.runtime.calendar import format_utc
from rules_engine.store.port import EffectRow, HandOver, Store, StoreError
from rules_engine.store.syncing import sync

log = logging.getLogger("camp.sent")

MAGIC = "camp-sent-1"
MACHINE = Path("/etc/machine-id")
CHUNK = 1 << 16  # bytes read at once from the end
ADOPT = "once you are sure that no other copy of this database runs: `camp db adopt` (it says what becomes of open effects)"
ADOPTED = "the database was adopted without its send journal: whether this was handed over before is not known"
OLDER = "the database was adopted, and is older than its send journal reaches: whether this was handed over before is not known"
DROPPED = "sent_dropped"  # what the database notes: the latest moment (ms) of which the journal dropped lines


class Header(NamedTuple):
    """The first line. machine: hash of the machine's id; inode: of the journal's file, which a rename keeps and a copy does not; dropped:
    the latest moment (ms) of which lines were dropped, 0 if none were."""

    instance: str
    machine: str
    inode: int
    dropped: int = 0


class SentJournal:
    """One journal, of one worker. `open` it under the run lock; then `note` before each hand-over.

    Where the database is served by several workers, each has its own, and `path` is on its own machine.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        self._end = 0  # where the next line belongs: behind the last one that is whole

    # ------------------------------------------------------------ start

    def reconcile(self, store: Store, now: int) -> list[EffectRow]:
        """Opens the journal and compares. Returns the effects that are now unknown because an older backup was restored.

        Raises StoreError: kind "adopt" if this is a copy, the journal is lost, or the backup is older than the journal reaches; "io" or
        "full" if it can't be written.
        """
        self._open(store)
        lost = []
        for line in self._from_the_end():
            if store.handed_over(line):
                break
            lost.append(line)
        doubtful = store.doubt(lost, now) if lost else []
        if lost:
            log.warning(
                "hand-overs that are in %s and not in the database: %d (an older backup was restored, or effects were dropped); "
                "effects that are unknown now because of it: %d; up to %d more will be as their events act or are fed again",
                self.path.name,
                len(lost),
                len(doubtful),
                len({line.mark for line in lost}) - len(doubtful),
            )
        return doubtful

    def _open(self, store: Store) -> None:
        problem = self.problem(store)
        if problem:
            raise StoreError(problem, ADOPT, "adopt")
        if not self.path.exists():
            self._begin(store)
        self.close()  # a worker whose leases change opens it anew
        self._file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        self._end = self._whole()

    def problem(self, store: Store) -> str:
        """Why `camp run` must not start, in a sentence; or ""."""
        known = store.identity()
        try:
            header = self._header()
        except FileNotFoundError:
            return f"the send journal {self.path} is missing: it says what was handed over" if known.journal else ""
        if header is None:
            return f"the send journal {self.path} has no first line that Camp wrote"
        if header.instance != known.instance:
            return f"the send journal {self.path} belongs to another database"
        if header.machine != _machine():
            return f"{self.path} comes from another machine: the database seems to be a copy"
        if header.inode != self.path.stat().st_ino:
            return f"{self.path} is a copy of the file that Camp wrote: the database seems to be a copy"
        if _older(store, header):
            return f"the database is older than the send journal {self.path} reaches: it dropped hand-overs up to {format_utc(header.dropped)}"
        return ""

    def known(self, store: Store) -> bool:
        """Whether the journal is there, and this database's own."""
        header = self._header() if self.path.exists() else None
        return header is not None and header.instance == store.identity().instance

    def adopt(self, store: Store, now: int, keep_open: bool = False) -> int:
        """Takes the database over after a person said that no other copy runs. Returns how many open effects became unknown: all of
        them if the journal is lost, another database's, or dropped what this database lacks; none with keep_open (a person says that
        nothing was sent since)."""
        header = self._header() if self.known(store) else None
        body = self.path.read_bytes().partition(b"\n")[2] if header else b""
        doubtful = 0
        if not keep_open and (header is None or _older(store, header)):
            doubtful = store.doubt_open(now, OLDER if header else ADOPTED)
        if self.path.exists() and header is None:
            os.replace(self.path, self.path.with_name(f"{self.path.name}.before-{now}"))
        self._begin(store, body, header.dropped if header else 0)
        return doubtful

    def _begin(self, store: Store, body: bytes = b"", dropped: int = 0) -> None:
        """A new file under this name, whole or not at all. The database notes first what was dropped: a crash in between must not make it
        look older than its journal."""
        store.note(DROPPED, str(dropped))
        draft = self.path.with_name(f".{self.path.name}.tmp")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as stream:
                inode = os.fstat(descriptor).st_ino
                stream.write(f"{MAGIC} {store.identity().instance} {_machine()} {inode} {dropped}\n".encode() + body)
                stream.flush()
                os.fsync(descriptor)
            os.replace(draft, self.path)
            sync(self.path.parent)
        except OSError as error:
            raise _trouble(self.path, error) from error
        store.note("journal", "1")

    def _header(self) -> Header | None:
        with self.path.open("rb") as stream:
            parts = stream.readline(500).decode("ascii", "replace").split()
        if len(parts) not in (4, 5) or parts[0] != MAGIC or not all(part.isdigit() for part in parts[3:]):
            return None
        return Header(parts[1], parts[2], *map(int, parts[3:]))  # an older Camp wrote four parts

    # ------------------------------------------------------------ lines

    def note(self, effects: Sequence[EffectRow], store: Store, now: int) -> None:
        """Makes durable that these are handed over now. Raises StoreError if it can't be; then nothing may be handed over."""
        assert self._file is not None, "reconcile comes first"
        data = b"".join(
            f"{effect.seq} {store.mark_of(effect.id)} {effect.attempts} {now}\n".encode("ascii") for effect in effects
        )
        try:
            written = os.pwrite(self._file, data, self._end)
            if written != len(data):
                raise OSError(28, "No space left on device")
            os.fdatasync(self._file)
        except OSError as error:
            self._cut()
            raise _trouble(self.path, error) from error
        self._end += len(data)

    def probe(self) -> None:
        """Whether a line could be written now, found out without writing one. Raises StoreError."""
        assert self._file is not None, "reconcile comes first"
        data = b" " * 100  # no line: what a power cut leaves of it is cut off by the next start
        try:
            if os.pwrite(self._file, data, self._end) != len(data):
                raise OSError(28, "No space left on device")
            os.fdatasync(self._file)
        except OSError as error:
            raise _trouble(self.path, error) from error
        finally:
            self._cut()

    def _cut(self) -> None:
        """Half a line must not grow into a wrong one."""
        assert self._file is not None
        try:
            os.ftruncate(self._file, self._end)
        except OSError:
            pass  # the next line is written at the same place all the same

    def _whole(self) -> int:
        """Where the last whole line ends; a torn one was never followed by a hand-over."""
        assert self._file is not None
        size = os.fstat(self._file).st_size
        tail = os.pread(self._file, CHUNK, max(0, size - CHUNK))
        end = size - len(tail) + tail.rfind(b"\n") + 1
        if end < size:
            os.ftruncate(self._file, end)
        return end

    def _from_the_end(self) -> Iterator[HandOver]:
        """The lines, latest first. One that is no line of ours is passed over."""
        assert self._file is not None
        position, rest = self._end, b""
        while position > 0:
            start = max(0, position - CHUNK)
            pieces = (os.pread(self._file, position - start, start) + rest).split(b"\n")
            position, rest = start, pieces[0]
            for piece in reversed(pieces[1:]):
                line = _parsed(piece)
                if line is not None:
                    yield line
        # `rest` is the first line of the file

    def compact(self, store: Store, before: int) -> int:
        """Drops lines of before a moment, for the maintenance; how many. Call it under the run lock."""
        assert self._file is not None
        header = self._header()
        dropped, kept = header.dropped if header else 0, list[bytes]()
        lines = os.pread(self._file, self._end, 0).splitlines(keepends=True)[1:]
        for line in lines:
            parsed = _parsed(line)
            if parsed is not None and parsed.at >= before:
                kept.append(line)
            elif parsed is not None:
                dropped = max(dropped, parsed.at)
        if len(kept) == len(lines):
            return 0
        self._begin(store, b"".join(kept), dropped)
        os.close(self._file)
        self._file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        self._end = self._whole()
        return len(lines) - len(kept)

    def close(self) -> None:
        """Ends the use of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def beside(database: Path) -> Path:
    """The journal of a database: DATABASE.sent."""
    return database.with_name(database.name + ".sent")


def _older(store: Store, header: Header) -> bool:
    """Whether the database may lack hand-overs that the journal dropped: it noted less, and its log's time had not passed them."""
    return int(store.noted(DROPPED) or 0) < header.dropped and store.position().clock <= header.dropped


def _parsed(line: bytes) -> HandOver | None:
    parts = line.decode("ascii", "replace").split()
    if len(parts) != 4 or len(parts[1]) != 32 or not all(parts[index].isdigit() for index in (0, 2, 3)):
        return None
    return HandOver(int(parts[0]), parts[1], int(parts[2]), int(parts[3]))


def _machine() -> str:
    """A hash of the machine's id, as machine-id(5) asks for; "-" where there is none (a container)."""
    try:
        said = MACHINE.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        said = ""
    return hashlib.sha256(b"camp " + said.encode()).hexdigest()[:16] if said else "-"


def _trouble(path: Path, error: OSError) -> StoreError:
    full = error.errno in (28, 122)  # ENOSPC, EDQUOT
    return StoreError(
        f"the send journal {path} can't be written: {(error.strerror or str(error)).lower()}; nothing is handed over without it",
        "free some space on that disk" if full else "look at the disk and at the permissions of the file and its folder",
        "full" if full else "io",
    )
