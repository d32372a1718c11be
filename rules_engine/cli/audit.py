"""`camp audit`: what people did to the service."""

from __future__ import annotations

import click

from rules_engine.cli import output
from rules_engine.cli.options import database_option


@click.command("audit")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="At most so many, the latest.")
@database_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each.")
def audit_command(limit: int, db: str | None, as_json: bool) -> None:
    """Show what people did: pauses, resolved and cancelled messages, erasures, adoptions. Latest first.

    Who it was is CAMP_USER, or the name that the machine knows.
    """
    from rules_engine.cli.loading import open_store
    from rules_engine.runtime.calendar import format_utc

    with open_store(db) as store:
        found = store.audits(limit)
    if as_json:
        output.json_lines({"at": format_utc(item.at), "who": item.who, "what": item.what, "detail": item.detail} for item in found)
    elif found:
        output.table(("at", "who", "what", "detail"), [(format_utc(item.at), item.who, item.what, item.detail) for item in found])
    else:
        output.say("nobody did anything by hand yet")
