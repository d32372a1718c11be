"""Faults from below in the user's words. Loaded only when something failed (or for --version)."""

from __future__ import annotations

import traceback
from collections.abc import Callable

from rules_engine.cli.errors import ENVIRONMENT, REFUSED, Trouble


def version() -> str:
    """The installed version."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("camp-rules-engine")
    except PackageNotFoundError:  # run from a folder that was never installed
        return "(not installed)"


def translate(error: BaseException) -> Trouble | None:
    """The fault as a sentence with a way out, or None where it is ours."""
    if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("rules_engine"):
        return None
    for kind in type(error).__mro__:
        known = _KNOWN.get(kind.__name__)
        if known is not None:
            return known(error)
    return None


def where(error: BaseException) -> str:
    """file.py:line of the last call inside Camp, for the short report."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "rules_engine" in frame.filename] or frames
    if not ours:
        return "no place is known"
    name = ours[-1].filename.rsplit("rules_engine", 1)[-1].lstrip("/")
    return f"{name}:{ours[-1].lineno}"


def _store(error: BaseException) -> Trouble:
    """The store's own errors have their sentence and way out."""
    code = REFUSED if getattr(error, "kind", "") in ("running", "adopt", "busy", "exists") else ENVIRONMENT
    return Trouble(getattr(error, "message", str(error)), getattr(error, "help", ""), code)


def _os_error(error: BaseException) -> Trouble:
    assert isinstance(error, OSError)
    name = f"{error.filename}: " if error.filename else ""
    reason = (error.strerror or str(error)).lower()
    if isinstance(error, FileNotFoundError):
        return Trouble(f"{name}there is no such file or folder", "look at the name, and at the folder you are in")
    if isinstance(error, PermissionError):
        return Trouble(f"{name}you may not read or write this", "change its permissions, or work as the user who owns it")
    if isinstance(error, IsADirectoryError):
        return Trouble(f"{name}this is a folder, and a file is needed here")
    return Trouble(f"{name}{reason}")


def _sqlite(error: BaseException) -> Trouble:
    text = str(error).lower()
    if "not a database" in text:
        return Trouble("the database file is not a Camp database", "look at --db, CAMP_DATABASE and `database` in camp.toml")
    if "locked" in text:
        return Trouble("the database is busy: another process holds it", "wait for the other `camp` to end, or stop it")
    if "full" in text:
        return Trouble("the disk is full", "free some space; nothing that was acknowledged is lost")
    way = "; `camp db restore FILE` puts a backup in its place" if "malformed" in text else ""
    return Trouble(f"the database can't be used: {text}", f"`camp db check` looks closer{way}")


_KNOWN: dict[str, Callable[[BaseException], Trouble]] = {
    "StoreError": _store,
    "OSError": _os_error,
    "UnicodeDecodeError": lambda error: Trouble("the file is not in UTF-8", "save it as UTF-8 and try again"),
    "ModuleNotFoundError": lambda error: Trouble(
        f"this command needs {error.name}, which is not installed",  # type: ignore[attr-defined]
        "reinstall Camp: pip install camp-rules-engine",
    ),
    "OperationalError": _sqlite,
    "DatabaseError": _sqlite,
    "MemoryError": lambda error: Trouble("there is not enough memory", "give it a smaller file"),
}
