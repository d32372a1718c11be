"""One runner a database: a lock of the operating system on a file beside it, which a killed process loses at once."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rules_engine.clock import SystemClock
from rules_engine.store.port import StoreError

TRIES, PAUSE = 5, 20  # times and ms: `is_running` holds the lock for an instant


@contextmanager
def run_lock(database: Path) -> Iterator[None]:
    """Holds DATABASE.lock. Raises StoreError if another process (or another store of this one) holds it.

    The lock belongs to the open file: a forked child that outlives its parent would keep it, so children must not inherit
    descriptors (Python's subprocess does not). The file stays: removing it would let two processes lock two files of one name.
    """
    path = database.with_name(database.name + ".lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(
            f"the lock file {path} can't be opened: {error.strerror}", "check the owner and the mode of the file and of its folder", "readonly"
        ) from error
    try:
        _take(descriptor, database)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, database: Path) -> None:
    for _ in range(TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            SystemClock().sleep(PAUSE)
    holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
    who = f" (process {holder})" if holder.isdigit() else ""
    raise StoreError(
        f"another `camp run`{who} is using {database}",
        "wait for it to end, or stop it; importing events and looking at things works meanwhile",
        "running",
    )


def is_running(database: Path) -> bool:
    """Whether some process holds the lock now."""
    try:
        descriptor = os.open(database.with_name(database.name + ".lock"), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
