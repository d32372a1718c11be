"""`camp init`: a project that works at once, without an account anywhere."""

from __future__ import annotations

from pathlib import Path

import click

from rules_engine.cli import output
from rules_engine.cli.errors import refused, usage

TEMPLATES = Path(__file__).parent / "templates"
RENAMED = {"gitignore": ".gitignore"}  # a file of that name here would be taken for the repository's own
# (and where the folder has one, it is kept: people make projects inside repositories)

NEXT_STEPS = """\
Made the project {name} in {folder}

Next:{enter}
  camp check                                  finds mistakes
  camp test                                   runs the TESTs in campaigns/welcome.camp
  camp simulate --contacts samples/contacts.jsonl --events samples/events.jsonl --until 2026-04-01
                                              plays a month; nothing leaves
  camp contact import samples/contacts.jsonl
  camp run --once                             runs for real: messages become files in outbox/
  camp why ana                                what happened to a contact, and why"""


@click.command("init")
@click.argument("directory", default=".", type=click.Path(path_type=Path))
@click.option("--template", default="welcome", show_default=True, help="What to begin with.")
def init_command(directory: Path, template: str) -> None:
    """Make a project in DIRECTORY (default: here) that works at once.

    It has a first campaign with tests, the texts of its messages, and a few sample contacts and events. Messages go to a
    folder, so no account is needed. Files that are there already are never overwritten.
    """
    source = _template(template)
    files = sorted(path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    targets = {path: directory / _renamed(path.relative_to(source)) for path in files}
    targets = {path: target for path, target in targets.items() if path.name not in RENAMED or not target.exists()}
    taken = sorted(str(target) for target in targets.values() if target.exists())
    if directory.exists() and not directory.is_dir():
        raise refused(f"{directory} is a file, and a project is a folder", "name another folder: camp init my-campaigns")
    if taken:
        raise refused(
            f"{taken[0]} is there already" + (f", and {output.count(len(taken) - 1, 'more file')}" if len(taken) > 1 else ""),
            "nothing was written; name a new folder: camp init my-campaigns",
        )
    name = directory.resolve().name or "campaigns"
    for path, target in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text(encoding="utf-8").replace("@NAME@", _toml_text(name)), encoding="utf-8")
    enter = "" if directory.resolve() == Path.cwd().resolve() else f"\n  cd {directory}"
    output.data(NEXT_STEPS.format(name=name, folder=directory.resolve(), enter=enter))


def _template(name: str) -> Path:
    known = sorted(path.name for path in TEMPLATES.iterdir() if path.is_dir() and not path.name.startswith("_"))
    if name not in known:
        raise usage(f"there is no template `{name}`", f"there are {', '.join(known)}")
    return TEMPLATES / name


def _renamed(path: Path) -> Path:
    return path.with_name(RENAMED.get(path.name, path.name))


def _toml_text(name: str) -> str:
    """A folder's name as it may stand between quotes in TOML."""
    return "".join(c for c in name if c.isprintable()).replace("\\", "\\\\").replace('"', '\\"')
