"""From a folder of `.camp` files to a program, in one call: read, check, compile. What the command line, the service and the tests share."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rules_engine.diagnostics import Diagnostic, sort_key
from rules_engine.model import meaning
from rules_engine.model.project import CONFIG, SKIPPED, Project, find_project, project_files
from rules_engine.syntax import nodes
from rules_engine.syntax.read import read_file, without_echoes

if TYPE_CHECKING:
    from rules_engine.plan.program import Program


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of a project's text. program is None where a diagnostic is an error; sources holds each file's text by the path that
    diagnostics name it by; digest names the texts (and the plugins' words are no part of it)."""

    program: Program | None
    model: meaning.Model
    files: tuple[nodes.File, ...]
    sources: dict[str, str]
    diagnostics: tuple[Diagnostic, ...]
    project: Project
    host: Any
    digest: str

    @property
    def texts(self) -> dict[str, str]:
        """The texts that the diagnostics point into, by their paths: the sources, and camp.toml where one does."""
        config = self.project.root / CONFIG
        if all(item.span.path != str(config) for item in self.diagnostics):
            return self.sources
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return {**self.sources, str(config): config.read_bytes().decode("utf-8-sig")}
        return self.sources

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        return tuple(item for item in self.diagnostics if item.severity == "error")


def load_program(paths: Iterable[Path], host: Any = None, build: bool = True) -> Loaded:
    """Reads, checks and, with `build`, compiles the project that `paths` are in: folders and files, the working folder if none.

    A file that stands in a project is checked with the whole project, since all its files share one namespace. Raises OSError for a path
    that can't be read.
    """
    from rules_engine.model.checks import check

    places = [Path(path) for path in paths] or [Path()]
    project = find_project(places[0])
    if host is None:
        from rules_engine import host as hosts

        host = hosts.load(project.settings)
    files, sources, found = [], {}, []
    for path in _files(project, places):
        file, diagnostics, text = read_file(path, _shown(path))
        files.append(file)
        sources[file.path] = text
        found += diagnostics
    diagnostics = sorted({*found, *without_echoes(found, check(files, host, project), sources)}, key=sort_key)
    model = meaning.build(files, host.actions, host.events)
    named = sorted((_inside(project, name), text) for name, text in sources.items())
    digest = hashlib.sha256("\0".join(f"{name}\0{text}" for name, text in named).encode()).hexdigest()
    program = None
    if build and not any(item.severity == "error" for item in diagnostics):
        from rules_engine.plan import compile_model

        program = compile_model(model, host.actions, digest)
    return Loaded(program, model, tuple(files), sources, tuple(diagnostics), project, host, digest)


def by_project(paths: Iterable[Path]) -> list[list[Path]]:
    """Paths grouped by the project they are in, in the order given. A folder outside any project stands for the projects below it, and for
    its own files if it has any: `camp check campaigns/*` and `camp check .` check each project by itself."""
    groups: dict[Path | None, list[Path]] = {}
    for path in paths:
        project = find_project(path)
        inner = [] if project.has_config or not path.is_dir() else _projects_below(path)
        if project.has_config or not path.is_dir() or not inner or project_files([path]):
            groups.setdefault(project.root if project.has_config else None, []).append(path)
        for folder in inner:
            groups.setdefault(folder.resolve(), []).append(folder)
    return list(groups.values())


def _projects_below(folder: Path) -> list[Path]:
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not (name.startswith(".") or name in SKIPPED))
        if CONFIG in files:
            found.append(Path(place))
            folders[:] = []
    return found


def _files(project: Project, places: list[Path]) -> list[Path]:
    if project.has_config:
        return project_files([project.root])
    return project_files(places)


def _inside(project: Project, name: str) -> str:
    """A file's name inside its project: the same from wherever it is called."""
    try:
        return str(Path(name).resolve().relative_to(project.root.resolve()))
    except ValueError:
        return name


def _shown(path: Path) -> str:
    """How a file is named to people: relative to where they stand, if it is below."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
