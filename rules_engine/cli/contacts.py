"""`camp contact`: import, list, show and change contacts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rules_engine.cli import errors, output
from rules_engine.cli.errors import Trouble, usage
from rules_engine.cli.group import Group
from rules_engine.cli.options import database_option
from rules_engine.cli.settings import Settings


@click.group("contact", cls=Group)
def contact_command() -> None:
    """Import, list, show and change contacts."""


@contact_command.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@database_option
@click.option("--dry-run", is_flag=True, help="Read and check the file; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="The answer as one JSON object.")
def contact_import(file: Path, db: str | None, dry_run: bool, as_json: bool) -> int:
    """Bring in contacts from FILE, JSON Lines or CSV.

    A contact that is known gets the new values; what the file doesn't name stays. Safe to repeat. Lines that can't be read
    are kept aside with their reasons and never stop the others.
    """
    from rules_engine.cli.importing import bring_in

    return bring_in(file, "contacts", db, dry_run, as_json)


@contact_command.command("list")
@database_option
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1), help="At most so many.")
@click.option("--after", default="", metavar="ID", help="Begin behind this contact.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each contact, with all attributes.")
def contact_list(db: str | None, limit: int, after: str, as_json: bool) -> None:
    """List contacts by id."""
    import orjson

    from rules_engine.cli.loading import open_store
    from rules_engine.cli.people import attributes, segments

    with open_store(db) as store:
        ids = store.contact_ids(after, limit)
        rows = store.contacts(ids)
        total = store.counts().contacts
    model = _model(Settings({"database": db}))
    states = [(contact, orjson.loads(rows[contact].state)) for contact in ids if contact in rows]
    if as_json:
        output.json_lines(_record(contact, state, model) for contact, state in states)
        return
    if not states:
        output.data("there are no contacts")
        return
    columns = [
        (contact, attributes(state).get("email"), attributes(state).get("timezone"), ", ".join(sorted(segments(state))) or None)
        for contact, state in states
    ]
    output.table(("contact", "email", "time zone", "segments"), columns)
    if len(states) < total:
        output.say(f"{len(states):,} of {total:,} contacts; --limit and --after show more")


@contact_command.command("show")
@click.argument("contact")
@database_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def contact_show(contact: str, db: str | None, as_json: bool) -> None:
    """Show CONTACT: attributes, segments, and the next moment at which something is due."""
    import orjson

    from rules_engine.runtime.calendar import format_utc

    settings = Settings({"database": db})
    row = _row(contact, settings)
    state = orjson.loads(row.state)
    record = {**_record(contact, state, _model(settings)), "next_due": None if row.wake_at is None else format_utc(row.wake_at)}
    if as_json:
        output.json_document(record)
        return
    output.data(click.style(output.clean(contact), bold=True))
    for name, value in record.items():
        if name not in ("id", "segments", "next_due"):
            output.data(f"  {name + ':':22}{output.cell(value)}")
    output.data(f"  {'segments:':22}{', '.join(record['segments']) or 'none'}")
    output.data(f"  {'next due:':22}{record['next_due'] or 'nothing'}")


@contact_command.command("set")
@click.argument("contact")
@click.argument("values", nargs=-1, required=True, metavar="NAME=VALUE…")
@click.option("--at", metavar="TIME", help="When it changed. Default: now.")
@database_option
@click.option("--dry-run", is_flag=True, help="Check the values; change nothing.")
def contact_set(contact: str, values: tuple[str, ...], at: str | None, db: str | None, dry_run: bool) -> None:
    """Set attributes of CONTACT: camp contact set ana plan=paid consent.email=yes. An empty value removes one.

    A contact that is not known yet is made. The change acts with the next turn of `camp run`.
    """
    from rules_engine.cli.importing import send_contact

    send_contact(contact, pairs(values), at, db, dry_run)
    output.say(f"{contact} {'would be changed' if dry_run else 'is changed; it acts with the next turn of `camp run`'}")


@contact_command.command("export")
@click.argument("contacts", nargs=-1, metavar="[CONTACT]…")
@database_option
@click.option("--format", "form", type=click.Choice(("jsonl", "csv", "json")), default="jsonl", show_default=True,
              help="json: everything that is kept about the named contacts, with events, decisions and messages.")
@click.option("-o", "--output", "target", type=click.Path(path_type=Path), help="Into this new file. Default: to the terminal.")
def contact_export(contacts: tuple[str, ...], db: str | None, form: str, target: Path | None) -> None:
    """Export contacts (default: all), as an import file writes them. With --format json: all that is kept about them, which is what
    a person may ask for.

    In CSV a value that a spreadsheet would run as a formula gets an apostrophe before it.
    """
    from rules_engine.cli import persons

    persons.export(contacts, Settings({"database": db}), form, target)


@contact_command.command("forget")
@click.argument("contacts", nargs=-1, required=True, metavar="CONTACT…")
@database_option
@click.option("--later", is_flag=True, help="Leave rewriting the file to `camp db vacuum`: for many erasures in a row.")
@click.option("--yes", is_flag=True, help="Do it without a question.")
@click.option("--dry-run", is_flag=True, help="Tell what would be erased; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each contact.")
def contact_forget(contacts: tuple[str, ...], db: str | None, later: bool, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Erase CONTACT: state, events, decisions, messages and their files. Can't be undone.

    Keyed hashes stay: the same events are not taken again, and the addresses stay suppressed if they are imported anew. Works while
    `camp run` is active, which waits while the database is written anew. Backups made before still hold the contact.
    """
    from rules_engine.cli import persons

    persons.forget(contacts, Settings({"database": db}), later, yes, dry_run, as_json)


def pairs(values: tuple[str, ...]) -> dict[str, str]:
    """`name=value` arguments. Trouble for one without `=`."""
    found: dict[str, str] = {}
    for item in values:
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise usage(f"`{item}` is no NAME=VALUE", 'write it like plan=paid; quote values with blanks: "first_name=Ana Maria"')
        found[name.strip()] = value
    return found


def _row(contact: str, settings: Settings) -> Any:
    from rules_engine.cli.loading import open_store
    from rules_engine.cli.look import near_contact

    with open_store(None, settings=settings) as store:
        row = store.contacts([contact]).get(contact)
        if row is None:
            raise Trouble(f"there is no contact `{contact}`", near_contact(contact, store), errors.ENVIRONMENT)
        return row


def _model(settings: Settings) -> Any:
    """The project's meaning, for the types of attributes; None outside a project."""
    if settings.file is None:
        return None
    from rules_engine import project

    return project.load_program([settings.folder]).model


def _record(contact: str, state: dict[str, Any], model: Any) -> dict[str, Any]:
    """A contact as an import file writes it, with its segments."""
    from rules_engine.cli.people import attributes, segments, shown

    return {"id": contact, **shown(attributes(state), model), "segments": sorted(segments(state))}
