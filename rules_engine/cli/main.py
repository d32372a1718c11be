"""The entry point: finds the command that was named, loads only that one, and turns whatever ends it into an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, NoReturn

import click

from rules_engine.cli import errors

SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Write": {
        "init": ("start", "Make a project that works at once."),
        "check": ("check", "Find every problem in the campaigns."),
        "fmt": ("check", "Write campaigns in the canonical form."),
        "rule": ("check", "Explain a problem that check reports."),
        "test": ("tests", "Run the TEST blocks in virtual time."),
        "simulate": ("simulate", "Play events through the campaigns; nothing leaves."),
    },
    "Run": {
        "contact": ("contacts", "Import, list, show, change and merge contacts."),
        "event": ("events", "Bring in what happened."),
        "run": ("service", "Run the campaigns: the service, or once."),
        "mailbox": ("mailbox", "Bounces, complaints and answers from the monitored mailbox."),
        "outbox": ("outbox", "What is to leave, what left, what is unknown."),
        "pause": ("pause", "Emergency stop: of one campaign, or of everything."),
        "resume": ("pause", "Let a paused campaign, or everything, go on."),
    },
    "Look": {
        "status": ("look", "What is going on, at a glance."),
        "why": ("look", "Why something happened to a contact, or did not."),
        "timeline": ("look", "What happened to a contact, and what is next."),
        "audit": ("audit", "What people did: pauses, resolved messages, erasures."),
        "segment": ("segments", "Segments and who is in them."),
        "plugin": ("plugins", "Actions and events that plugins bring."),
    },
    "Keep": {
        "doctor": ("doctor", "What is wrong, and what to do about it."),
        "db": ("database", "Look after the database."),
        "config": ("config", "Settings, and where each comes from."),
        "completion": ("config", "Completion for your shell."),
    },
}
"""Section → command → (module of rules_engine.cli, what help says). Help is written from this table; no module is loaded for
it."""

COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class Commands(click.Group):
    """The root command: loads sub-commands when they are named, and owns how every command ends."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        from importlib import import_module

        command: click.Command = getattr(import_module(f"rules_engine.cli.{COMMANDS[name][0]}"), f"{name}_command")
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise click.UsageError(unknown("camp", args[0], list(COMMANDS)), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, (_, text) in commands.items()], col_max=12)

    def main(self, args: Any = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        """Runs and exits. Every ending of every command passes here."""
        extra.pop("standalone_mode", None)
        sys.exit(_run(super().main, args, extra))


def unknown(path: str, name: str, known: list[str]) -> str:
    """ "there is no command `camp chek`; did you mean `check`?" """
    from difflib import get_close_matches

    near = get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(known)}"
    return f"there is no command `{path} {name}`; {hint}"


def _run(call: Any, args: Any, extra: dict[str, Any]) -> int:
    """Calls click, and gives the exit code for whatever comes back or is raised."""
    try:
        code = call(args=args, prog_name="camp", standalone_mode=False, **extra)
        sys.stdout.flush()  # a pipe that broke shows here and not at the interpreter's end, where it would print a warning
        return code if isinstance(code, int) else errors.OK
    except errors.Trouble as trouble:
        return _say(trouble.message, trouble.help, trouble.code)
    except click.UsageError as error:
        return _usage(error)
    except click.ClickException as error:
        return _say(error.format_message(), "", errors.ENVIRONMENT)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return errors.INTERRUPTED
    except BrokenPipeError:
        return _broken_pipe()
    except Exception as error:
        return _failure(error)


def _usage(error: click.UsageError) -> int:
    """What was written wrongly, in click's words, and the way to the help of that very command."""
    command = error.ctx.command_path if error.ctx is not None else "camp"
    message = error.format_message().rstrip(".")
    return _say(message[:1].lower() + message[1:], f"`{command} --help` shows how it is written", errors.USAGE)


def _say(message: str, help: str, code: int) -> int:
    """Reports on stderr; `error:` in red where a person reads."""
    color = False if os.environ.get("NO_COLOR") else None
    click.echo(click.style("error: ", fg="red", bold=True) + message, err=True, color=color)
    if help:
        click.echo(click.style("  help: ", fg="cyan") + help, err=True, color=color)
    return code


def _broken_pipe() -> int:
    """`camp … | head`: the reader has enough. Nothing to report; what is still buffered goes nowhere."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return errors.OK


def _failure(error: Exception) -> int:
    """An error that no one foresaw: short for people, whole with CAMP_DEBUG=1. Known families of faults get their own words."""
    from rules_engine.cli import faults

    known = faults.translate(error)
    if os.environ.get("CAMP_DEBUG"):
        import traceback

        traceback.print_exception(error)
    if known is not None:
        return _say(known.message, known.help, known.code)
    text = " ".join(str(error).split())[:300]
    place = faults.where(error)
    return _say(
        f"Camp failed: {type(error).__name__}{': ' + text if text else ''} ({place})",
        "this is a defect of Camp, not of your project; CAMP_DEBUG=1 shows the whole report, which we would like to see",
        errors.INTERNAL,
    )


@click.command(
    cls=Commands,
    invoke_without_command=True,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`camp COMMAND --help` tells more about one command.",
)
@click.option("--version", is_flag=True, help="Show the version.")
@click.pass_context
def cli(ctx: click.Context, version: bool) -> None:
    """Camp runs marketing campaigns that are written as text."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False
    if version:
        from rules_engine.cli.faults import version as number

        click.echo(f"camp {number()}")
    elif ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> NoReturn:
    """What the console script calls."""
    cli.main()
