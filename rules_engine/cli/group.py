"""A command with sub-commands that says which one was meant."""

from __future__ import annotations

import click

from rules_engine.cli.main import unknown


class Group(click.Group):
    """Sub-commands in the order in which they are written, with suggestions for misspelt ones."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise click.UsageError(unknown(ctx.command_path, args[0], list(self.commands)), ctx)
        return super().resolve_command(ctx, args)
