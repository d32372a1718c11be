"""`camp mailbox`: bounces, complaints and answers from the monitored mailbox."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import click

from rules_engine.cli import errors, output
from rules_engine.cli.group import Group
from rules_engine.cli.options import database_option
from rules_engine.cli.settings import Settings


@click.group("mailbox", cls=Group)
def mailbox_command() -> None:
    """Bounces, complaints and answers from the monitored mailbox."""


@mailbox_command.command("poll")
@click.option("--dry-run", is_flag=True, help="Read and tell; record nothing, mark nothing.")
@database_option
@click.option("--json", "as_json", is_flag=True, help="The counts as one JSON object.")
def mailbox_poll(dry_run: bool, db: str | None, as_json: bool) -> int:
    """Read what has come into the mailbox of the table [mailbox] since the last look.

    `camp run` looks by itself; this is for trying the settings out, and for a mailbox that is read by a timer of the system. Safe to
    repeat: a mail acts once.
    """
    from rules_engine.cli.loading import open_store
    from rules_engine.clock import SystemClock
    from rules_engine.service import mailbox

    settings = Settings({"database": db})
    with open_store(None, write=not dry_run, settings=settings) as store:
        try:
            polled = mailbox.poll(table(settings), store, SystemClock(), dry_run=dry_run)
        except mailbox.Trouble as trouble:
            raise _unusable(trouble) from trouble
    counts = dict(sorted(polled.counts.items()))
    if as_json:
        output.json_document({**counts, "reasons": list(polled.aside)})
    else:
        said = ", ".join(f"{number} {kind.replace('_', ' ')}" for kind, number in counts.items())
        output.data(f"{output.count(sum(counts.values()), 'mail')}{': ' + said if said else ''}{' (nothing recorded)' if dry_run else ''}")
        for reason in polled.aside:
            output.warn(f"put aside: {reason}")
    return errors.PARTIAL if polled.aside else errors.OK


def _unusable(trouble: Exception) -> errors.Trouble:
    help = "see [mailbox] in camp.toml; the password is CAMP_MAILBOX_PASSWORD"
    return errors.Trouble(f"the mailbox can't be used: {trouble}", help, errors.ENVIRONMENT)


def watch(settings: Settings, program: Any) -> Callable[[Any], AbstractContextManager[Any]] | None:
    """What `camp run` runs beside itself where there is a table [mailbox]."""
    found = table(settings)
    if not found:
        return None
    from rules_engine import store
    from rules_engine.clock import SystemClock
    from rules_engine.service import keys, mailbox

    try:
        mailbox.seconds_between(found)
    except mailbox.Trouble as trouble:
        raise _unusable(trouble) from trouble
    path, fields = getattr(settings.database, "url", settings.database), keys.key_fields(keys.keys_of(program))
    return lambda stop: mailbox.watching(found, lambda: store.open_store(path), SystemClock(), fields)


def table(settings: Settings) -> dict[str, Any]:
    """The table [mailbox] with its secrets from the environment; a relative folder counts from the project. `keys`: those of signed links,
    where messages carry them."""
    from rules_engine.cli.web import web_settings

    found = without_keys(settings)
    if found and settings.tables(["web"])["web"]:
        web = web_settings(settings)
        found["keys"] = web.keys if web.links else ()
    return found


def without_keys(settings: Settings) -> dict[str, Any]:
    """As `table`, but without the keys, so that it can be read where [web] can't."""
    found = settings.tables(["mailbox"])["mailbox"]
    if found.get("folder"):
        found["folder"] = str(settings.folder / str(found["folder"]))
    return found
