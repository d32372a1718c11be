"""`camp contact`: import, list, show, change and merge contacts."""

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
    """Import, list, show, change and merge contacts."""


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
@click.option("--merged", is_flag=True, help="Those that were merged into another, and into whom, instead.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each contact, with all attributes.")
def contact_list(db: str | None, limit: int, after: str, merged: bool, as_json: bool) -> None:
    """List contacts by id. Those that were merged into another are left out."""
    from rules_engine.cli.loading import open_store
    from rules_engine.cli.people import attributes, everyone, merged_into, project_model, record, segments

    states: list[tuple[str, dict[str, Any]]] = []
    others = total = 0
    with open_store(db) as store:
        for contact, state in everyone(store, after):
            if (merged_into(state) is not None) is not merged:
                others += 1
            elif len(states) == limit:
                total = store.counts().contacts
                break
            else:
                states.append((contact, state))
    model = project_model(Settings({"database": db}))
    if as_json:
        output.json_lines(_told(contact, state) if merged else record(contact, state, model) for contact, state in states)
        return
    if merged:
        _list_merged(states)
    elif not states:
        output.data("there are no contacts")
    else:
        columns = [
            (contact, attributes(state).get("email"), attributes(state).get("timezone"), ", ".join(sorted(segments(state))) or None)
            for contact, state in states
        ]
        output.table(("contact", "email", "time zone", "segments"), columns)
    if total:
        output.say(f"{len(states):,} of {total:,} contacts; --limit and --after show more")
    if others and not merged:
        output.say(f"{output.count(others, 'contact')} left out: merged into another (--merged lists them)")


def _list_merged(states: list[tuple[str, dict[str, Any]]]) -> None:
    if not states:
        output.data("nobody was merged into another contact")
        return
    told = [_told(contact, state) for contact, state in states]
    output.table(("contact", "merged into", "at"), [(item["id"], item["merged_into"], item["merged_at"]) for item in told])


@contact_command.command("show")
@click.argument("contact")
@database_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def contact_show(contact: str, db: str | None, as_json: bool) -> None:
    """Show CONTACT: attributes, segments, and the next moment at which something is due."""
    import orjson

    from rules_engine.cli.people import project_model, record
    from rules_engine.runtime.calendar import format_utc

    settings = Settings({"database": db})
    row = _row(contact, settings)
    state = orjson.loads(row.state)
    told = _told(contact, state)
    shown = {**record(contact, state, project_model(settings)), "next_due": None if row.wake_at is None else format_utc(row.wake_at)}
    if as_json:
        output.json_document({**shown, **told})
        return
    output.data(click.style(output.clean(contact), bold=True))
    if "merged_into" in told:
        into = output.clean(told["merged_into"])
        output.data(f"  {'merged into:':22}{into} at {told['merged_at']}; what it was, and all that comes for it, is there")
        return
    for name, value in shown.items():
        if name not in ("id", "segments", "next_due"):
            output.data(f"  {name + ':':22}{output.cell(value)}")
    for item in told.get("merged", ()):
        output.data(f"  {'was also:':22}{output.clean(item['contact'])}, merged in at {item['at']}")
    output.data(f"  {'segments:':22}{', '.join(shown['segments']) or 'none'}")
    output.data(f"  {'next due:':22}{shown['next_due'] or 'nothing'}")


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

    new = send_contact(contact, pairs(values), at, db, dry_run)
    said = ("would be new" if new else "would be changed") if dry_run else "is new" if new else "is changed"
    output.say(output.clean(f"{contact} {said}{'' if dry_run else '; it acts with the next turn of `camp run`'}"))


@contact_command.command("merge")
@click.argument("source", metavar="FROM")
@click.argument("into", metavar="INTO")
@database_option
@click.option("--dry-run", is_flag=True, help="Say what would happen; change nothing.")
@click.option("--yes", is_flag=True, help="Don't ask.")
def contact_merge(source: str, into: str, db: str | None, dry_run: bool, yes: bool) -> None:
    """Make the contacts FROM and INTO one: INTO. It can't be undone.

    The journeys of FROM end. INTO gets its past, its points and tags, its segments, and the attributes that INTO lacks; a `no`
    to a channel or a suppression of either stays. What comes for FROM later goes on to INTO.
    """
    from rules_engine.cli.importing import send_event
    from rules_engine.cli.people import attributes, merged_into

    settings = Settings({"database": db})
    if source == into:
        raise usage(f"`{source}` is one contact already", "name two: the one that goes, and the one that stays")
    states = {}
    for contact in (source, into):
        state = states[contact] = _state(contact, settings)
        gone = merged_into(state)
        if gone is not None:
            raise usage(f"`{contact}` was merged into `{gone[0]}` before", f"merge into `{gone[0]}`" if contact == into else "")
    for contact in (source, into):
        output.say(f"{contact}: {output.cell(attributes(states[contact]).get('email')) or 'no e-mail address'}")
    if dry_run:
        output.say(f"{source} would be merged into {into}")
        return
    output.confirm(f"{source} will be merged into {into} for good. Go on?", yes)
    send_event("contact.identified", source, {"contact": into, "known": "yes"}, None, None, None, db, False)
    output.say(f"{source} is to be merged into {into}; it acts with the next turn of `camp run`")


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


def _state(contact: str, settings: Settings) -> dict[str, Any]:
    import orjson

    state: dict[str, Any] = orjson.loads(_row(contact, settings).state)
    return state


def _told(contact: str, state: dict[str, Any]) -> dict[str, Any]:
    """Into whom a contact was merged, or who was merged into it."""
    from rules_engine.cli.people import merged_in, merged_into
    from rules_engine.runtime.calendar import format_utc

    into = merged_into(state)
    if into is not None:
        return {"id": contact, "merged_into": into[0], "merged_at": format_utc(into[1])}
    others = [{"contact": other, "at": format_utc(at)} for other, at in sorted(merged_in(state).items(), key=lambda item: item[1])]
    return {"id": contact, "merged": others} if others else {"id": contact}
