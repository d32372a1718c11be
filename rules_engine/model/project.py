"""A project on disk: the nearest camp.toml, its settings, its `.camp` files. Reads files; everything else of the model is
pure."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rules_engine.diagnostics import Diagnostic, Span
from rules_engine.limits import MAX_PROJECT_FILES
from rules_engine.model.suggest import Speller

CONFIG = "camp.toml"
SUFFIX = ".camp"
SKIPPED = frozenset({"node_modules", "__pycache__"})
"""Folders that hold other people's files; hidden ones (.venv, .git) are skipped as well."""

SETTINGS: dict[str, type] = {
    **dict.fromkeys(("name", "database", "templates", "format"), str),
    **dict.fromkeys(("plugins", "web", "mailbox", "spool", "log", "metrics", "retention", "backup"), dict),
}
"""Settings of Camp itself with their types; every other table of camp.toml belongs to the plugin of its name."""


class Project(NamedTuple):
    """Where the files of one namespace are. has_config: there is a camp.toml (at `root`); templates: the folder of message
    templates; file: the lone file that is a project of its own; problems: what is wrong with camp.toml."""

    root: Path
    has_config: bool = False
    settings: Mapping[str, Any] = {}
    templates: Path = Path("templates")
    file: Path | None = None
    problems: tuple[Diagnostic, ...] = ()


def find_project(path: Path | str) -> Project:
    """The project that a file or folder belongs to: that of the nearest camp.toml in or above it. A file outside any project is
    a project of its own, a folder outside any holds one. Never raises for what is in camp.toml: see `problems`."""
    start = Path(path)
    here = Path(os.path.abspath(start))
    folder = here if here.is_dir() else here.parent
    for place in (folder, *folder.parents):
        if (place / CONFIG).is_file():
            settings, problems = read_settings(place / CONFIG)
            return Project(place, True, settings, _templates(place, settings), None, tuple(problems))
    return Project(folder, False, {}, folder / "templates", None if here.is_dir() else start)


def _templates(root: Path, settings: Mapping[str, Any]) -> Path:
    named = settings.get("templates")
    return root / named if isinstance(named, str) and named else root / "templates"


def project_files(where: Project | Iterable[Path | str]) -> list[Path]:
    """The `.camp` files of a project, or those named and below the folders named, sorted, each once. Folders that are hidden,
    hold other people's files, or are a project of their own are skipped. At most MAX_PROJECT_FILES: ValueError beyond."""
    if isinstance(where, Project):
        paths: Iterable[Path] = (where.file or where.root,)
    else:
        paths = (Path(one) for one in where)
    found: dict[Path, None] = {}
    for path in paths:
        for file in _below(path) if path.is_dir() else (path,):
            found[file] = None
            if len(found) > MAX_PROJECT_FILES:
                raise ValueError(f"there are more than {MAX_PROJECT_FILES:,} {SUFFIX} files here")
    return sorted(found)


def _below(folder: Path) -> Iterable[Path]:
    for place, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not (name.startswith(".") or name in SKIPPED or _is_project(Path(place) / name)))
        for name in sorted(files):
            if name.endswith(SUFFIX) and not name.startswith("."):
                yield Path(place) / name


def _is_project(folder: Path) -> bool:
    try:
        return (folder / CONFIG).is_file()
    except PermissionError:  # the walk into the folder names it; here it would be a file that may not even be there
        return False


def _raise(error: OSError) -> None:
    raise error


# ── camp.toml ──


def read_settings(path: Path) -> tuple[dict[str, Any], list[Diagnostic]]:
    """The content of a camp.toml and what is wrong with it; places count in characters of its text."""
    import tomllib

    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        return {}, [
            _bad(
                path,
                0,
                0,
                f"camp.toml can't be read: {(error.strerror or 'no reason given').lower()}",
                "check the file's permissions",
            )
        ]
    except UnicodeDecodeError:
        return {}, [_bad(path, 0, 0, "camp.toml is not in UTF-8", "save it as UTF-8")]
    try:
        return tomllib.loads(text), []
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        start, end = _toml_place(text, message)
        reason = re.sub(r"\s*\(at .*\)$", "", message)
        return {}, [
            _bad(
                path,
                start,
                end,
                f"camp.toml can't be read: {reason[:1].lower()}{reason[1:]}",
                'settings are written as name = "value"',
            )
        ]
    except RecursionError:
        return {}, [_bad(path, 0, 0, "camp.toml is nested too deeply", "")]


def _toml_place(text: str, message: str) -> tuple[int, int]:
    """The place that tomllib names in its message."""
    match = re.search(r"at line (\d+), column (\d+)", message)
    if match is None:
        return len(text.rstrip()), len(text.rstrip())
    lines = text.split("\n")
    number = min(int(match[1]), len(lines))
    start = sum(len(line) + 1 for line in lines[: number - 1]) + int(match[2]) - 1
    return min(start, len(text)), min(start + 1, len(text))


def _bad(path: Path, start: int, end: int, message: str, help: str) -> Diagnostic:
    return Diagnostic("bad-settings", Span(str(path), start, end), message, help)


def check_settings(project: Project, plugins: Iterable[str]) -> list[Diagnostic]:
    """Warnings about keys of camp.toml that nothing reads, errors about values of the wrong type."""
    path = project.root / CONFIG
    known = {*SETTINGS, *plugins}
    found = []
    for key, value in project.settings.items():
        span = _key_place(path, key)
        if key not in known:
            near = Speller().nearest(key, sorted(known))
            found.append(
                Diagnostic(
                    "unknown-setting",
                    span,
                    f"there is no setting `{key}`, and no plugin of that name",
                    f"did you mean `{near}`?" if near else f"the settings are {', '.join(SETTINGS)}",
                    "warning",
                    near,
                )
            )
        elif key in SETTINGS and not isinstance(value, SETTINGS[key]):
            found.append(
                Diagnostic(
                    "bad-settings",
                    span,
                    f"the setting `{key}` must be {'a table' if SETTINGS[key] is dict else 'a text'}",
                    f"[{key}]" if SETTINGS[key] is dict else f'{key} = "…"',
                )
            )
    return found


def _key_place(path: Path, key: str) -> Span:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return Span(str(path), 0, 0)
    match = re.search(rf"^[ \t]*\[{{0,2}}[ \t\"']*({re.escape(key)})\b", text, re.MULTILINE)
    return Span(str(path), match.start(1), match.end(1)) if match else Span(str(path), 0, 0)
