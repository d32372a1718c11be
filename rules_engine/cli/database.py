"""`camp db`: looks after the database."""

from __future__ import annotations

import click

from rules_engine.cli import errors, output
from rules_engine.cli.group import Group
from rules_engine.cli.options import database_option
from rules_engine.cli.settings import Settings


@click.group("db", cls=Group)
def db_command() -> None:
    """Look after the database."""


@db_command.command("status")
@database_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def db_status(db: str | None, as_json: bool) -> None:
    """Show the database, its schema, size and content."""
    from rules_engine.cli.loading import open_store
    from rules_engine.store.lock import is_running

    settings = Settings({"database": db})
    with open_store(db, settings=settings) as store:
        counts = store.counts()
        versions = store.programs()
    path = settings.database
    record = {
        "database": str(path),
        "source": settings.get("database").source,
        "bytes": path.stat().st_size,
        "running": is_running(path),
        "contacts": counts.contacts,
        "decisions": counts.decisions,
        "events": dict(counts.events),
        "effects": dict(counts.effects),
        "programs": len(versions),
    }
    if as_json:
        output.json_document(record)
        return
    output.data(f"database   {path} ({output.cell(path.stat().st_size)} bytes, from {record['source']})")
    output.data(f"running    {'yes' if record['running'] else 'no'}")
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

    with open_store(db, write=True) as store:  # opening for writing migrates
        problems = store.check()
    if problems:
        raise errors.Trouble(f"after migrating, the database is not whole: {problems[0]}", "`camp db check` shows all")
    output.say("the database has the schema of this Camp")
