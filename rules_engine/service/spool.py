"""The spool folder: files that other systems drop are imported and moved away, a batch at a time beside the work.

A file is taken when its name says what it holds (`events….jsonl`, `contacts….csv.gz`), and it has not changed for a while; who renames
it into the folder when it is whole is on the safe side. After the import it is moved to `done/`, with the rejected lines beside it; one
that can't be used goes to `failed/` with a `.reason`. A crash in the middle imports it again, which is harmless: what is known is
recognised.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from rules_engine.clock import Clock
from rules_engine.service import ingest
from rules_engine.service.logs import about
from rules_engine.store.port import Store, StoreError

log = logging.getLogger("camp.spool")

KINDS = ("events", "contacts")
ENDINGS = (".jsonl", ".ndjson", ".csv")
IGNORED = (".tmp", ".part", ".partial", ".filepart", "~", ".rejected.jsonl")
QUIET = 5  # seconds without a change
DAY = 86_400_000
LOOK = 1_000  # names that are looked at in one beat


class Waiting(NamedTuple):
    """A spool in numbers, for `camp status` and `camp doctor`. oldest: when the longest waiting file was written (ms)."""

    waiting: int
    failed: int
    oldest: int | None


class _Mark(NamedTuple):
    """What changes when somebody writes to a file; a rename leaves it as it is."""

    inode: int
    size: int
    written: int  # ns


class Spool:
    """One folder, served by the service's own thread. `beat` does at most one batch of one file."""

    def __init__(
        self,
        folder: Path,
        store: Store,
        readers: tuple[ingest.ReadEvent, ingest.ReadContact],
        clock: Clock,
        *,
        quiet: float = QUIET,
        keep_days: int | None = None,
        unread: ingest.ReadUnread | None = None,
    ) -> None:
        self._unread = unread
        self.folder, self._store, self._clock = folder, store, clock
        self._read_event, self._read_contact = readers
        self._quiet, self._keep = quiet, keep_days
        self._seen: dict[str, _Mark] = {}
        self._work: tuple[Path, _Mark, Generator[None, None, ingest.Ingested]] | None = None
        self._swept = self._looked = 0
        self._stuck: set[tuple[str, int]] = set()  # (name, when written or 0): can't even be moved away, or is a folder; told once

    def beat(self) -> bool:
        """A little work; whether there was some. Raises StoreError; the file is then begun again. Whatever else the folder's disk refuses
        is told in the log."""
        if self._work is None:
            now = self._clock.now()
            if 0 <= now - self._looked < 1_000:
                return False
            path = self._next()
            if path is None:
                self._looked = now
                self._sweep()
                return False
            self._begin(path)
        return self._step()

    def drain(self) -> None:
        """All that is ready now: `camp run --once`."""
        self._next()  # a second look tells what is quiet
        self._looked = 0
        while self.beat():
            pass

    # ------------------------------------------------------------ which file

    def _next(self) -> Path | None:
        """The oldest file that is whole, as far as can be told."""
        before, self._seen = self._seen, {}
        ready: list[tuple[int, str]] = []
        now = self._clock.now()
        with _told(f"the spool {self.folder} can't be read"), suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry, _ in zip(entries, range(LOOK), strict=False):
                if entry.name.startswith(".") or entry.name.endswith(IGNORED):
                    continue
                with _told(f"{entry.name} can't be looked at"), suppress(FileNotFoundError):
                    if entry.is_dir(follow_symlinks=False):
                        self._tell_folder(entry.name)
                        continue
                    self._seen[entry.name] = mark = _mark(entry.stat(follow_symlinks=False))
                    written = mark.written // 1_000_000
                    if (
                        before.get(entry.name) == mark
                        and written <= now - self._quiet * 1000
                        and (entry.name, written) not in self._stuck
                    ):
                        ready.append((written, entry.name))
        return self.folder / min(ready)[1] if ready else None

    def _tell_folder(self, name: str) -> None:
        """Once: somebody dropped a folder under the name of a file, and waits."""
        if kind_of(name) is not None and (name, 0) not in self._stuck:
            self._stuck.add((name, 0))
            log.error("%s is a folder: nothing in it is imported", name, extra=about(what="spool.stuck", file=name))

    def _begin(self, path: Path) -> None:
        kind, mark = kind_of(path.name), self._seen[path.name]
        if kind is None:
            self._fail(path, "its name must begin with events or contacts and end in .jsonl or .csv, or one of them and .gz")
        elif os.path.islink(path) or not os.path.isfile(path):
            self._fail(path, "it is no plain file")
        elif kind == "events":
            self._work = path, mark, ingest.event_steps(self._store, path, self._read_event, unread=self._unread)
        else:
            self._work = path, mark, ingest.contact_steps(self._store, path, self._read_contact)

    # ------------------------------------------------------------ one batch

    def _step(self) -> bool:
        if self._work is None:
            return True
        path, mark, steps = self._work
        try:
            next(steps)
        except StopIteration as end:
            self._work = None
            self._end(path, mark, end.value)
        except StoreError:
            self._work = None
            raise
        except (OSError, ValueError) as error:
            self._work = None
            self._fail(path, f"it can't be read: {error}")
        return True

    def _end(self, path: Path, mark: _Mark, done: ingest.Ingested) -> None:
        if self._grew(path, mark):
            return
        if done.incomplete:
            self._fail(path, f"{done.incomplete}; the lines before it are in", done.rejected_file)
        elif done.lines and done.rejected == done.lines:
            self._fail(
                path,
                f"none of its {done.lines:,} lines can be used; {path.name}.rejected.jsonl has the reason of each",
                done.rejected_file,
            )
        else:
            moved = self._move(path, "done", done.rejected_file)
            if moved is not None and self._grew(moved, mark):  # between that look and the move
                with _told(f"{moved.name} can't be put back"):
                    os.rename(moved, _free(path))
            said = log.warning if done.rejected or done.conflicts else log.info
            said(
                "%s is in: %d new, %d known, %d rejected, %d conflicts",
                path.name,
                done.accepted,
                done.duplicates,
                done.rejected,
                done.conflicts,
                extra=about(what="spool.done", file=path.name),
            )
            for sentence, lines in done.unread.items():
                log.warning("%s: %s (in %d lines)", path.name, sentence, lines, extra=about(what="spool.unread", file=path.name))

    def _grew(self, path: Path, mark: _Mark) -> bool:
        """Whether somebody has written to the file since it was begun: what came behind the last line that was read is not in. It is read
        again once it is quiet."""
        with _told(f"{path.name} can't be looked at"):
            if _mark(path.lstat()) != mark:
                log.info("%s changed while it was read; it is read again", path.name, extra=about(what="spool.again", file=path.name))
                return True
        return False

    def _fail(self, path: Path, reason: str, rejected: Path | None = None) -> None:
        log.error("%s can't be used: %s", path.name, reason, extra=about(what="spool.failed", file=path.name))
        moved = self._move(path, "failed", rejected)
        if moved is not None:
            with _told(f"{moved.name}.reason can't be written"):
                moved.with_name(moved.name + ".reason").write_text(reason + "\n", encoding="utf-8", errors="backslashreplace")

    def _move(self, path: Path, where: str, rejected: Path | None) -> Path | None:
        target = self.folder / where / path.name
        try:
            target.parent.mkdir(mode=0o700, exist_ok=True)
            target = _free(target)
            os.rename(path, target)
            if rejected is not None:
                os.replace(rejected, target.with_name(target.name + ".rejected.jsonl"))
        except OSError as error:
            log.error(
                "%s can't be moved to %s/: %s",
                path.name,
                where,
                error.strerror,
                extra=about(what="spool.stuck", file=path.name),
            )
            with suppress(OSError):  # moved, or gone: then it is not in the way
                self._stuck.add((path.name, path.lstat().st_mtime_ns // 1_000_000))
            return None
        return target

    # ------------------------------------------------------------ what is done

    def _sweep(self) -> None:
        """Once an hour: removes from done/ what is older than it is kept."""
        now = self._clock.now()
        if self._keep is None or now - self._swept < 3_600_000:
            return
        self._swept = now
        folder = self.folder / "done"
        with _told(f"{folder} can't be swept"):
            for path in folder.iterdir() if folder.is_dir() else ():
                with _told(f"{path.name} can't be removed from done/"):
                    if path.is_file() and path.stat().st_mtime_ns // 1_000_000 < now - self._keep * DAY:
                        path.unlink(missing_ok=True)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """What the disk refuses costs this one thing and a line in the log; the service goes on."""
    try:
        yield
    except OSError as error:
        log.error("%s: %s", what, error.strerror or error, extra=about(what="spool.trouble"))


def _mark(status: os.stat_result) -> _Mark:
    return _Mark(status.st_ino, status.st_size, status.st_mtime_ns)


def _free(path: Path) -> Path:
    """The path, or one with a number where a file of that name came before."""
    stem, dot, ending = path.name.partition(".")
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{stem}-{number}{dot}{ending}")
    return free


def kind_of(name: str) -> str | None:
    """events | contacts, or None for a name that says neither."""
    plain = name.lower().removesuffix(".gz")
    return next((kind for kind in KINDS if plain.startswith(kind) and plain.endswith(ENDINGS)), None)


def look(folder: Path) -> Waiting:
    """The spool in numbers."""
    waiting = [
        path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path.is_file() and not path.name.startswith(".") and not path.name.endswith(IGNORED)
    ]
    failed = folder / "failed"
    count = (
        sum(1 for path in failed.iterdir() if not path.name.endswith((".reason", ".rejected.jsonl"))) if failed.is_dir() else 0
    )
    return Waiting(len(waiting), count, min((path.stat().st_mtime_ns // 1_000_000 for path in waiting), default=None))


def check(table: Mapping[str, Any]) -> None:
    """Raises ValueError, with a sentence, for a value of [spool] that can't be."""
    for name in ("quiet", "keep_days"):
        value = table.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
            raise ValueError(f"[spool] {name} = {value!r} must be a number from 0")


def spool_of(table: dict[str, Any], root: Path, store: Store, program: Any, clock: Clock) -> Spool | None:
    """The spool that [spool] of camp.toml describes: folder, quiet (seconds), keep_days. Raises ValueError with a sentence."""
    if not table.get("folder"):
        return None
    check(table)
    folder = root / str(table["folder"])
    folder.mkdir(mode=0o700, exist_ok=True)
    from rules_engine.engine.unread import Unread

    readers = ingest.readers(program.model, program.zone)
    unread = Unread(program.model)
    return Spool(folder, store, readers, clock, quiet=table.get("quiet", QUIET), keep_days=table.get("keep_days"), unread=unread)
