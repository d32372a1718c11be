"""`camp db`: looks after the database."""

from __future__ import annotations

from pathlib import Path

import click

from rules_engine.cli import errors, output
from rules_engine.cli.group import Group
from rules_engine.cli.options import database_option
from rules_engine.cli.settings import Address, Settings


@click.group("db", cls=Group)
def db_command() -> None:
    """Look after the database."""


@db_command.command("status")
@database_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def db_status(db: str | None, as_json: bool) -> None:
    """Show the database, its schema, size and content."""
    from rules_engine.cli.loading import open_store

    settings = Settings({"database": db})
    with open_store(db, settings=settings) as store:
        counts = store.counts()
        versions = store.programs()
        size, running = store.size(), store.running()
        workers = store.workers() if store.leases else None
    path = settings.database
    record = {
        "database": str(path),
        "source": settings.get("database").source,
        "bytes": size,
        "running": running,
        "contacts": counts.contacts,
        "decisions": counts.decisions,
        "events": dict(counts.events),
        "effects": dict(counts.effects),
        "programs": len(versions),
    }
    if workers is not None:
        record["workers"] = [worker._asdict() for worker in workers]
    if as_json:
        output.json_document(record)
        return
    output.data(f"database   {path} ({output.cell(size)} bytes, from {record['source']})")
    output.data(f"running    {'yes' if record['running'] else 'no'}")
    for worker in workers or ():
        state = f"lease for {worker.until / 1000:.0f} s" if worker.until > 0 else f"silent for {-worker.until / 1000:.0f} s beyond its lease"
        output.data(f"worker     {worker.name}: {worker.shards} shards, program {worker.program[:12]}, {state}")
    output.data(f"contacts   {counts.contacts:,}")
    output.data(f"events     {_counted(record['events'])}")
    output.data(f"decisions  {counts.decisions:,}")
    output.data(f"effects    {_counted(record['effects'])}")


def _counted(counts: object) -> str:
    assert isinstance(counts, dict)
    return ", ".join(f"{number:,} {name}" for name, number in counts.items() if number) or "none"


@db_command.command("check")
@database_option
def db_check(db: str | None) -> int:
    """Check that the database is whole."""
    from rules_engine.cli.loading import open_store

    settings = Settings({"database": db})
    with open_store(db, settings=settings) as store:
        problems = store.check()
    for problem in problems:
        output.data(output.clean(problem))
    output.say("the database is whole" if not problems else f"{output.count(len(problems), 'problem')} found")
    if problems and not isinstance(settings.database, Address):
        output.say("stop `camp run`, then `camp db restore FILE` with the latest backup: it puts this file aside by itself")
    return errors.ENVIRONMENT if problems else errors.OK


@db_command.command("migrate")
@database_option
def db_migrate(db: str | None) -> None:
    """Bring the database to the schema of this Camp. Safe to repeat."""
    from rules_engine.cli.loading import open_store

    settings = Settings({"database": db})
    on_server = isinstance(settings.database, Address)  # where the operator has made an empty database
    with open_store(db, write=True, create=on_server, settings=settings) as store:  # opening for writing migrates
        problems = store.check()
    if problems:
        raise errors.Trouble(f"after migrating, the database is not whole: {problems[0]}", "`camp db check` shows all")
    output.say("the database has the schema of this Camp")


@db_command.command("backup")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--keep", type=click.IntRange(1), help="Remove older backups of the folder `backups`, but for the latest so many.")
@database_option
@click.option("--json", "as_json", is_flag=True, help="The answer as one JSON object.")
def db_backup(file: Path | None, keep: int | None, db: str | None, as_json: bool) -> None:
    """Copy the database to FILE (default: backups/NAME-TIME.db), also while `camp run` is active, and check the copy.

    FILE is never overwritten. Its owner alone may read it: it holds all contacts.
    """
    from rules_engine.cli import upkeep

    upkeep.backup(Settings({"database": db}), file, keep, as_json)


@db_command.command("restore")
@click.argument("file", type=click.Path(path_type=Path))
@database_option
@click.option("--yes", is_flag=True, help="Do it without a question.")
@click.option("--dry-run", is_flag=True, help="Check the backup and tell what would be lost; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="The answer as one JSON object.")
def db_restore(file: Path, db: str | None, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Put the backup FILE in the database's place. The database that was there, whole or damaged, is kept beside it.

    Refused while `camp run` is active (--dry-run is not). Nothing is sent twice afterwards: the send journal beside the database knows
    what was handed over after the backup, and that becomes unknown. Don't touch the journal (NAME.sent). Who refused, was suppressed or
    was erased after the backup stays so, and what is paused stays paused, as far as the database that was there can be read.
    """
    from rules_engine.cli import upkeep

    upkeep.restore(Settings({"database": db}), file, yes, dry_run, as_json)


@db_command.command("adopt")
@database_option
@click.option("--keep-open", is_flag=True, help="Nothing was sent since this copy was made: open effects stay as they are.")
@click.option("--yes", is_flag=True, help="Do it without a question.")
@click.option("--dry-run", is_flag=True, help="Tell what is wrong; change nothing.")
def db_adopt(db: str | None, keep_open: bool, yes: bool, dry_run: bool) -> None:
    """Make this copy of a database the one that sends, after the other one was switched off for good.

    Needed after a move to another machine, if the send journal was lost, or if a backup is older than the journal reaches. Without
    the journal nobody can tell what was sent, so open effects become unknown, unless --keep-open.
    """
    from rules_engine.cli import upkeep

    upkeep.adopt(Settings({"database": db}), keep_open, yes, dry_run)


@db_command.command("trim")
@database_option
@click.option("--yes", is_flag=True, help="Do it without a question.")
@click.option("--dry-run", is_flag=True, help="Count what would go; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="The answer as one JSON object.")
def db_trim(db: str | None, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Remove what is older than [retention] in camp.toml says, now. `camp run` does the same by itself, a little at a time.

    Contents of events go, their ids stay known; decisions and effects that ended go. What is open or unknown stays.
    """
    from rules_engine.cli import upkeep

    upkeep.trim(Settings({"database": db}), yes, dry_run, as_json)


@db_command.command("vacuum")
@database_option
def db_vacuum(db: str | None) -> None:
    """Write the database anew without its free space: the file shrinks, and nothing that was deleted can be read in it.

    Needs as much free disk as the database has. `camp run` waits meanwhile and goes on by itself.
    """
    from rules_engine.cli import upkeep

    upkeep.vacuum(Settings({"database": db}))


@db_command.command("copy")
@click.option("--to", "url", required=True, metavar="URL", help="An empty PostgreSQL database: postgresql://user@host/name.")
@database_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def db_copy(url: str, db: str | None, as_json: bool) -> None:
    """Copy the database file to a PostgreSQL server, all of it. Refused while `camp run` works on it.

    The file stays as it is. Name the server in camp.toml afterwards, and never run on both: each would send.
    """
    from rules_engine.store import is_url
    from rules_engine.store.copying import copy_to

    if not is_url(url):
        raise errors.usage(f"--to: {url} is no address of a PostgreSQL database", "write it as postgresql://user@host:5432/name")
    rows = copy_to(Settings({"database": db}).database_file, url, lambda table, count: output.say(f"{table}: {count:,}"))
    shown = Address(url)
    if as_json:
        output.json_document({"to": str(shown), "rows": rows})
        return
    output.data(f"copied {sum(rows.values()):,} rows to {shown}")
    output.say(f'now say database = "{shown}" in camp.toml, and put the file away: two databases that run would each send')
