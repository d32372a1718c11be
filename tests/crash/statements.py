"""A kill before and after each statement, and around each operation of the first-party files: k = 1, 2 … until the run is over.

A killed process leaves the files as they are at that moment: what it had given to the system is there, and nothing else matters (SQLite's
shared index beside the log is made anew by the first to open it). So one run is enough: at each of these moments the files are copied, and
that copy is the kill. It is opened by the real store, judged, and gone on with to the end, as after a power cut (`cuts.Judge`). That a copy
is the same as a death is itself tested: `die_at` kills a real process at a statement, and its files must be what the copy has.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import peewee

from rules_engine.store.database import Database, sqlite3
from rules_engine_plugins import _handover
from tests.crash import world
from tests.crash.cuts import Judge, Report, memory, play, script
from tests.crash.harness import ended, fork
from tests.crash.invariants import look

Hook = Callable[[str], None]
FILE_OPERATIONS = frozenset({"open", "pwrite", "fsync", "replace", "ftruncate", "close"})


@contextlib.contextmanager
def watching(hook: Hook) -> Iterator[None]:
    """Calls `hook(what)` before and after each statement of any store, and each file operation of the first-party transports."""

    class Cursor(sqlite3.Cursor):
        def execute(self, sql: str, *parameters: Any) -> Any:
            return around(sql, super().execute, sql, *parameters)

        def executemany(self, sql: str, *parameters: Any) -> Any:
            return around(sql, super().executemany, sql, *parameters)

    class Connection(sqlite3.Connection):
        def cursor(self, *_: Any) -> Any:
            return super().cursor(Cursor)

        def execute(self, sql: str, *parameters: Any) -> Any:
            return self.cursor().execute(sql, *parameters)

        def executemany(self, sql: str, *parameters: Any) -> Any:
            return self.cursor().executemany(sql, *parameters)

    class Files:
        def __getattr__(self, name: str) -> Any:
            found = getattr(os, name)
            return (lambda *given, **named: around(name, found, *given, **named)) if name in FILE_OPERATIONS else found

    def around(what: str, work: Callable[..., Any], *given: Any, **named: Any) -> Any:
        hook(what)
        answer = work(*given, **named)
        hook(what)
        return answer

    usual = Database.__dict__["driver"]
    Database.driver = partial(peewee.SqliteDatabase, factory=Connection)
    _handover.os = Files()
    try:
        yield
    finally:
        Database.driver, _handover.os = usual, os


class Camera:
    """Copies of a folder's files. A file that has its final name and is never written again is read once."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._letters = folder, {}

    def image(self) -> dict[str, bytes]:
        """The database and what the first-party transports have written."""
        found = {name: path.read_bytes() for name in ("camp.db", "camp.db-wal", "camp.db-journal") if (path := self._folder / name).exists()}
        outbox = self._folder / "outbox"
        for path in sorted(outbox.iterdir()) if outbox.is_dir() else ():
            if path.suffix != ".eml":
                found[f"outbox/{path.name}"] = path.read_bytes()
                continue
            if path.name not in self._letters:
                self._letters[path.name] = path.read_bytes()
            found[f"outbox/{path.name}"] = self._letters[path.name]
        return found


def campaign(every: int = 1, seed: int = 1, say: Callable[[str], None] = lambda text: None) -> Report:
    """A kill at each `every`-th moment of a run."""
    logging.getLogger("camp").setLevel(logging.CRITICAL)
    root, steps = memory(), script(seed)
    try:
        world.write_templates(root / "oracle")
        world.write_templates(root / "run")
        store = play(root / "oracle", steps, 0, lambda what, whom: None, False)
        judge = Judge(steps, look(store), root / "image", False)
        store.close()
        _shoot(root / "run", steps, judge, every, say)
        return judge.report
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _shoot(folder: Path, steps: list[Any], judge: Judge, every: int, say: Callable[[str], None]) -> None:
    """The run. The judge's own store must not be watched, so the pictures are judged afterwards."""
    camera, film, count = Camera(folder), [], [0]

    def hook(what: str) -> None:
        count[0] += 1
        if count[0] % every == 0:
            film.append((f"moment {count[0]}, {what.split(' (')[0][:60]}", camera.image()))

    with watching(hook):
        play(folder, steps, 0, lambda what, whom: film.append((what, whom)), False).close()
    for label, content in film:
        if isinstance(content, dict):
            judge.report.points += 1
            judge.judge(label, content)
            say(f"{judge.report.points} moments of {len(film)}, {judge.report.continued} ways to go on, {len(judge.report.lost)} broken")
        else:
            judge.remember(label, content)


def die_at(moment: int, folder: Path, steps: list[Any]) -> bool:
    """A real process that kills itself at a moment; whether it died (else the run was over before)."""
    count = [0]

    def hook(what: str) -> None:
        count[0] += 1
        if count[0] == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def live(faults: object) -> None:
        with watching(hook):
            play(folder, steps, 0, lambda what, whom: None, False).close()

    status = ended(fork(live), None)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the run ended with an error"
    return os.WIFSIGNALED(status)
