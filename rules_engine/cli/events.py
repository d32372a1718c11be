"""`camp event`: bring in what happened."""

from __future__ import annotations

from pathlib import Path

import click

from rules_engine.cli import output
from rules_engine.cli.group import Group
from rules_engine.cli.options import database_option


@click.group("event", cls=Group)
def event_command() -> None:
    """Bring in what happened."""


@event_command.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@database_option
@click.option("--dry-run", is_flag=True, help="Read and check the file; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="The answer as one JSON object.")
def event_import(file: Path, db: str | None, dry_run: bool, as_json: bool) -> int:
    """Bring in events from FILE, JSON Lines or CSV, in any order.

    Safe to repeat: an event whose id is known acts once. Lines that can't be read are kept aside with their reasons and never
    stop the others. What was imported acts with the next turn of `camp run`.
    """
    from rules_engine.cli.importing import bring_in

    return bring_in(file, "events", db, dry_run, as_json)


@event_command.command("send")
@click.argument("name")
@click.argument("values", nargs=-1, metavar="[FIELD=VALUE]…")
@click.option("--contact", required=True, help="Whom it happened to.")
@click.option("--subject", help='What `email.opened "welcome_1"` matches: a template, a page, a form.')
@click.option("--at", metavar="TIME", help="When it happened. Default: now.")
@click.option("--id", "id_", help="The event's id: a repeat with the same id acts once.")
@database_option
@click.option("--dry-run", is_flag=True, help="Check the event; change nothing.")
def event_send(
    name: str,
    values: tuple[str, ...],
    contact: str,
    subject: str | None,
    at: str | None,
    id_: str | None,
    db: str | None,
    dry_run: bool,
) -> None:
    """Tell of one event: camp event send order.placed --contact ana order_id=A1 total=40"""
    from rules_engine.cli.contacts import pairs
    from rules_engine.cli.importing import send_event

    new = send_event(name, contact, pairs(values), subject, at, id_, db, dry_run)
    if not new:
        output.say("an event with this id is known: nothing changes")
    else:
        output.say(
            f"{name} of {contact} {'would be recorded' if dry_run else 'is recorded; it acts with the next turn of `camp run`'}"
        )
