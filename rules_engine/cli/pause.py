"""`camp pause` and `camp resume`: the emergency stop. It holds from the next claim on, whoever runs the service, and is audited."""

from __future__ import annotations

import getpass
import os
from typing import Any

import click

from rules_engine.cli import output
from rules_engine.cli.errors import refused, usage
from rules_engine.cli.options import database_option
from rules_engine.cli.settings import Settings


@click.command("pause")
@click.argument("campaign", required=False)
@click.option("--all", "everything", is_flag=True, help="Pause everything: nothing at all is handed over.")
@click.option("--reason", default="", help="Why; kept, and shown by `camp status`.")
@database_option
@click.option("--json", "as_json", is_flag=True, help="What is paused, one JSON object a line.")
def pause_command(campaign: str | None, everything: bool, reason: str, db: str | None, as_json: bool) -> None:
    """Stop what a CAMPAIGN (or rule) hands over, from the next hand-over on, or with --all everything.

    People go on entering and walking; their messages wait in the outbox. What has waited too long by then is not sent in a heap after
    `camp resume`: expiry, ON LATE, quiet hours and limits are asked again. Without CAMPAIGN and --all it shows what is paused.
    """
    from rules_engine.cli.loading import open_store
    from rules_engine.clock import SystemClock

    if campaign is None and not everything:
        with open_store(db) as store:
            _show(store, as_json)
        return
    with open_store(db, write=True) as store:
        name = _name(store, campaign, everything, db)
        fresh = store.pause(name, reason, SystemClock().now(), who())
        waiting = _waiting(store, name)
        if as_json:
            _show(store, True)
    what = "everything" if everything else f"`{name}`"
    output.say(
        f"{what} {'is paused' if fresh else 'was paused already'}: {output.count(waiting, 'effect')} waiting; what is being handed over "
        f"at this moment still ends; `camp resume {'--all' if everything else name}` lets go"
    )


@click.command("resume")
@click.argument("campaign", required=False)
@click.option("--all", "everything", is_flag=True, help="Lift the pause of everything (single pauses stay).")
@database_option
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.option("--dry-run", is_flag=True, help="Tell what would leave; change nothing.")
def resume_command(campaign: str | None, everything: bool, db: str | None, yes: bool, dry_run: bool) -> None:
    """Let a CAMPAIGN (or rule) go on, or with --all everything that `camp pause --all` stopped."""
    from rules_engine.cli.loading import open_store
    from rules_engine.clock import SystemClock

    if campaign is None and not everything:
        raise usage("say what may go on: a campaign, or --all", "`camp pause` shows what is paused")
    name = "*" if everything else str(campaign)
    what = "everything" if everything else f"`{name}`"
    with open_store(db, write=not dry_run) as store:
        if all(item.campaign != name for item in store.pauses()):
            known = ", ".join("--all" if item.campaign == "*" else item.campaign for item in store.pauses())
            raise refused(f"{what} is not paused", f"paused: {known}" if known else "nothing is paused")
        waiting = _waiting(store, name)
        if dry_run:
            output.say(f"{output.count(waiting, 'waiting effect')} would be looked at again, oldest first")
            return
        output.confirm(f"{output.count(waiting, 'waiting effect')} of {what} will be looked at again, oldest first. Go on?", yes)
        store.resume(name, SystemClock().now(), who())
    output.say(f"{what} goes on")


def who() -> str:
    """Whom the audit names: CAMP_USER, or the name that the machine knows."""
    try:
        return os.environ.get("CAMP_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container without a user database
        return f"uid {os.getuid()}"


def _name(store: Any, campaign: str | None, everything: bool, db: str | None) -> str:
    """The name under which the store knows the pause. A name that nothing has is a slip; but an emergency stop works even if the
    project's files are broken, and for a campaign that is no longer in them."""
    if everything:
        if campaign is not None:
            raise usage("name a campaign or say --all, not both", "--all pauses everything")
        return "*"
    from rules_engine import project

    name = str(campaign)
    program = project.load_program([Settings({"database": db}).folder]).program
    known = [] if program is None else [item.name for item in program.rulesets]
    if program is None or name in known or any(row.ruleset == name for row in store.effects(limit=1_000_000)):
        return name
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1)
    raise usage(
        f"there is no campaign or rule `{name}`",
        f"did you mean `{near[0]}`?" if near else f"there are {', '.join(sorted(known)[:20])}",
    )


def _waiting(store: Any, name: str) -> int:
    """Effects that a pause concerns."""
    if name == "*":
        counts = store.counts().effects
        return sum(counts.get(state, 0) for state in ("ready", "retry_wait"))
    return sum(row.ruleset == name for state in ("ready", "retry_wait") for row in store.effects(state, limit=1_000_000))


def _show(store: Any, as_json: bool) -> None:
    from rules_engine.runtime.calendar import format_utc

    pauses = store.pauses()
    if as_json:
        output.json_lines({"campaign": item.campaign, "at": format_utc(item.at), "reason": item.reason} for item in pauses)
    elif not pauses:
        output.data("nothing is paused")
    else:
        output.table(
            ("paused", "since", "why"),
            [("everything" if item.campaign == "*" else item.campaign, format_utc(item.at), item.reason) for item in pauses],
        )
