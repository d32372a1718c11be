"""What several commands begin with: the project's program, its store, a moment that somebody typed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rules_engine.cli import errors, output
from rules_engine.cli.errors import Trouble, usage
from rules_engine.cli.settings import Address, Settings

SLOW = 3.0  # seconds of loading a plugin from which a person is told what the command waits for


def load_project(paths: Iterable[Path], settings: Settings) -> Any:
    """The project's Loaded, compiled. Its problems go to stderr; Trouble if one of them is an error."""
    from rules_engine import project

    loaded = project.load_program(_named(paths, settings))
    warn_of_slow_plugins(loaded.host)
    if loaded.program is None:
        from rules_engine.cli import render

        found = [item for item in loaded.diagnostics if item.severity == "error"]
        output.say(render.render(found, loaded.texts, "human", colour=True).rstrip("\n"))
        raise Trouble(
            f"the campaigns have {output.count(len(found), 'error')}, so nothing was run",
            "`camp check` tells more",
            errors.PROBLEMS,
        )
    return loaded


def warn_of_slow_plugins(host: Any) -> None:
    """Says for which plugin this command had to wait, as every one will."""
    for message, help in slow_plugins(host):
        output.warn(message, help)


def slow_plugins(host: Any) -> Iterator[tuple[str, str]]:
    """(what is slow, the way out) for each plugin that was waited for."""
    for plugin in host.plugins.values():
        if plugin.seconds >= SLOW:
            way = f'upgrade or uninstall it, or switch it off: disabled = ["{plugin.name}"] under [plugins] in camp.toml'
            yield f"plugin {plugin.name}: loading it took {plugin.seconds:.0f} s, for which every command waits", way


def workspace_zone(loaded: Any) -> str:
    """The zone in which a moment without one is meant."""
    return loaded.program.zone if loaded.program is not None else "UTC"


def moment(text: str | None, zone: str, option: str) -> int | None:
    """A moment from the command line in ms: ISO 8601 with an offset or Z, else local in the workspace's zone. Trouble for
    anything else."""
    if text is None:
        return None
    from rules_engine.runtime.calendar import parse_datetime

    try:
        return parse_datetime(text, zone)
    except ValueError as error:
        raise usage(f"{option}: {error}") from error


@contextmanager
def open_store(
    db: str | None, write: bool = False, create: bool = False, settings: Settings | None = None, faults: Any = None
) -> Iterator[Any]:
    """The project's store, closed at the end. Trouble where there is no database and none is to be made."""
    from rules_engine import store

    settings = settings or Settings({"database": db})
    path = settings.database
    if isinstance(path, Address):
        opened = store.open_store(path.url, create=create, readonly=not write)
        try:
            yield opened
        finally:
            opened.close()
        return
    if not path.exists() and not create:
        where = "" if settings.file or db else f"; there is no camp.toml in {settings.folder} or above it"
        raise Trouble(
            f"there is no database {path} yet{where}",
            "`camp contact import`, `camp event import` and `camp run` make it; --db names another",
        )
    if create and settings.file is None and settings.get("database").source == "default" and not path.exists():
        raise _no_project(settings, "--db names a database outside any")
    if create and not path.parent.is_dir():
        raise Trouble(f"the folder of the database {path} does not exist", "make it, or name another file with --db")
    opened = store.open_store(path, create=create, readonly=not write, faults=faults)
    try:
        yield opened
    finally:
        opened.close()


def check_projects(paths: Iterable[Path], settings: Settings) -> list[Any]:
    """A Loaded for each project that the paths are in, with everything that is wrong with it. Trouble where a path does not exist."""
    from rules_engine import project

    found = [project.load_program(group, build=False) for group in project.by_project(_named(paths, settings))]
    for loaded in found:
        warn_of_slow_plugins(loaded.host)
    return found


def load_projects(paths: Iterable[Path], settings: Settings) -> list[tuple[list[Path], Any]]:
    """The Loaded of each project that the paths are in, compiled, with its paths. Trouble as `load_project`."""
    from rules_engine import project

    return [(group, load_project(group, settings)) for group in project.by_project(_named(paths, settings))]


def camp_files(paths: Iterable[Path]) -> list[Path]:
    """The .camp files that are named, or below the folders that are named (default: the project's folder). Trouble if there
    is none."""
    from rules_engine.model.project import project_files

    settings = Settings()
    found = project_files(_named(paths, settings))
    if not found:
        raise Trouble(
            f"there is no .camp file in {', '.join(map(str, paths)) or settings.folder}",
            "`camp init` makes a project with a first one",
            errors.USAGE,
        )
    return found


def shown(path: Path) -> str:
    """A path as people name it: from where they stand, if it is below."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def has_campaigns(settings: Settings) -> bool:
    """Whether a command without paths has something to read: a project, or a .camp file in this very folder. What lies below a folder
    that is no project may be anything."""
    return settings.file is not None or any(settings.folder.glob("*.camp"))


def _no_project(settings: Settings, otherwise: str) -> Trouble:
    return Trouble(
        f"there is no project here: {settings.folder} has no camp.toml, and no folder above it has one",
        f"go to the project's folder (cd), or make one with `camp init`; {otherwise}",
    )


def _named(paths: Iterable[Path], settings: Settings) -> list[Path]:
    named = [Path(path) for path in paths]
    if not named:
        if not has_campaigns(settings):
            raise _no_project(settings, "or name a .camp file or a folder of them")
        named = [settings.folder]
    for path in named:
        if not path.exists():
            raise Trouble(f"{path}: there is no such file or folder", "name a .camp file or a folder of them", errors.USAGE)
    return named
