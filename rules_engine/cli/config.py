"""`camp config show` and `camp completion`."""

from __future__ import annotations

from typing import Any

import click

from rules_engine.cli import output
from rules_engine.cli.group import Group
from rules_engine.cli.options import database_option
from rules_engine.cli.settings import Settings, shown

SHELLS = {
    "bash": 'eval "$(_CAMP_COMPLETE=bash_source camp)"',
    "zsh": 'eval "$(_CAMP_COMPLETE=zsh_source camp)"',
    "fish": "_CAMP_COMPLETE=fish_source camp | source",
}
RC_FILES = {"bash": "~/.bashrc", "zsh": "~/.zshrc", "fish": "~/.config/fish/config.fish"}


@click.group("config", cls=Group)
def config_command() -> None:
    """Settings, and where each comes from."""


@config_command.command("show")
@database_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each setting.")
def config_show(db: str | None, as_json: bool) -> None:
    """Show every setting in force and where it comes from. Secrets are not shown.

    A flag wins over CAMP_* in the environment, that over camp.toml (found here or above), that over your own
    ~/.config/camp/config.toml, and that over the default.
    """
    settings = Settings({"database": db})
    found = settings.all()
    if as_json:
        output.json_lines({"name": item.name, "value": shown(item), "source": item.source} for item in found)
        return
    output.table(("setting", "value", "comes from"), [(item.name, _text(shown(item)), item.source) for item in found])
    if settings.file is None:
        output.say(f"there is no camp.toml in {settings.folder} or above it; `camp init` makes a project")


def _text(value: Any) -> Any:
    """Numbers as they are written in the file: 2525, not 2,525."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


@click.command("completion")
@click.argument("shell", type=click.Choice(tuple(SHELLS)))
def completion_command(shell: str) -> None:
    """Print the line that switches completion on in your SHELL."""
    output.data(SHELLS[shell])
    output.say(f"put this line into {RC_FILES[shell]}, and open a new terminal")
