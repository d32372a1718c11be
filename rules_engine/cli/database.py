"""`camp db`: looks after the database."""

from __future__ import annotations

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

    with open_store(db) as store:
        problems = store.check()
    for problem in problems:
        output.data(output.clean(problem))
    output.say("the database is whole" if not problems else f"{output.count(len(problems), 'problem')} found")
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
