"""`camp outbox`: what is to leave, what has left, and what only a person can settle."""

from __future__ import annotations

from typing import Any

import click

from rules_engine.cli import errors, output
from rules_engine.cli.errors import Trouble, refused
from rules_engine.cli.group import Group
from rules_engine.cli.options import database_option
from rules_engine.cli.pause import who
from rules_engine.cli.settings import Settings

ORDER = (
    "unknown",
    "held",
    "failed",
    "bounced",
    "complained",
    "retry_wait",
    "claimed",
    "ready",
    "planned",
    "suppressed",
    "capped",
    "expired",
    "cancelled",
    "accepted",
    "delivered",
)
"""`unknown` first: it is what a person must look at (promise P6)."""

MEANING = {
    "unknown": "it can't be known whether it left: a person decides",
    "held": "waits for a person's yes",
    "failed": "did not leave and will not",
    "retry_wait": "did not leave; is tried again",
    "claimed": "is being handed over",
    "ready": "leaves with the next run",
    "planned": "is planned",
    "bounced": "left, and came back",
    "complained": "arrived, and was reported as spam",
    "suppressed": "was stopped when it was to leave: the contact must not get it",
    "capped": "was stopped when it was to leave: a LIMIT was reached",
    "delivered": "has arrived, says the provider",
    "expired": "was too late to be of use",
    "cancelled": "was called off",
    "accepted": "has left",
}


@click.group("outbox", cls=Group)
def outbox_command() -> None:
    """What is to leave, what has left, what is unknown."""


@outbox_command.command("list")
@database_option
@click.option("--state", type=click.Choice(ORDER), help="Only effects in this state.")
@click.option("--contact", help="Only effects for this contact.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1_000_000), help="At most so many of each state.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each effect.")
def list_effects(db: str | None, state: str | None, contact: str | None, limit: int, as_json: bool) -> None:
    """List effects, unknown ones first."""
    from rules_engine.cli.loading import open_store

    with open_store(db) as store:
        rows = [row for name in ((state,) if state else ORDER) for row in store.effects(name, contact, limit)]
        counts = store.counts().effects
    if as_json:
        output.json_lines(_record(row) for row in rows)
        return
    if not rows:
        output.data("nothing is in the outbox" if not (state or contact) else "no effect fits")
        return
    output.table(
        ("number", "state", "due", "contact", "action", "from", "attempts"),
        [
            (
                str(row.seq),
                row.state,
                _utc(row.next_at if row.state in ("ready", "retry_wait") and row.next_at else row.at),
                row.contact,
                _action(row),
                row.ruleset,
                row.attempts,
            )
            for row in rows
        ],
        right=[0, 6],
    )
    hidden = sum(counts.values()) - len(rows)
    if hidden > 0 and not (state or contact):
        output.say(f"{hidden:,} more; --limit shows more, --state one kind")
    if any(row.state == "unknown" for row in rows):
        output.say("for each unknown one, look at the provider's log, then: camp outbox resolve NUMBER accepted|failed|ready")


@outbox_command.command("show")
@click.argument("effect")
@database_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def show_effect(effect: str, db: str | None, as_json: bool) -> None:
    """Show one effect with its attempts. EFFECT is its number in `camp outbox list`, or its id (msg_…)."""
    from rules_engine.cli.loading import open_store

    with open_store(db) as store:
        row = find_effect(store, effect)
        attempts = store.attempts_of(row.id)
    if as_json:
        output.json_document(
            {
                **_record(row),
                "attempts": [
                    {
                        "number": item.number,
                        "claimed_at": _utc(item.claimed_at),
                        "settled_at": _utc(item.settled_at),
                        "state": item.state,
                        "detail": item.detail,
                    }
                    for item in attempts
                ],
            }
        )
        return
    output.data(click.style(f"{row.action} {output.cell(row.primary)}", bold=True) + f" for {output.clean(row.contact)}")
    facts = (
        ("number", str(row.seq)),
        ("id", row.handle or None),  # what providers, Message-IDs and the log's lines call it
        ("effect", row.id),
        ("state", f"{row.state}: {MEANING.get(row.state, '')}"),
        ("from", f"{row.ruleset}, step {row.step}"),
        ("key", row.key),
        ("decided", _utc(row.at)),
        ("expires", _utc(row.expires)),
        ("parameters", row.params or None),
        ("provider's id", row.provider_id or None),
        ("said", row.detail or None),
    )
    for name, value in facts:
        if value is not None:
            output.data(f"  {name + ':':15}{output.cell(value)}")
    for item in attempts:
        output.data(
            f"  attempt {item.number} at {_utc(item.claimed_at)}: {item.state}"
            + (f": {output.clean(item.detail)}" if item.detail else "")
        )


@outbox_command.command("retry")
@click.argument("effect")
@database_option
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.option("--dry-run", is_flag=True, help="Tell what would happen; change nothing.")
def retry_effect(effect: str, db: str | None, yes: bool, dry_run: bool) -> None:
    """Hand a failed, cancelled, expired or held effect over again with the next run."""
    _resolve(effect, "ready", "a person asked for a retry", db, yes, dry_run, "be handed over again")


@outbox_command.command("cancel")
@click.argument("effect")
@database_option
@click.option("--reason", default="cancelled by a person", show_default=True, help="Kept with the effect.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.option("--dry-run", is_flag=True, help="Tell what would happen; change nothing.")
def cancel_effect(effect: str, reason: str, db: str | None, yes: bool, dry_run: bool) -> None:
    """Call off an effect that has not left."""
    _resolve(effect, "cancelled", reason, db, yes, dry_run, "never leave")


@outbox_command.command("resolve")
@click.argument("effect")
@click.argument("outcome", type=click.Choice(("accepted", "failed", "ready", "cancelled")))
@database_option
@click.option("--reason", default="decided by a person", show_default=True, help="Kept with the effect.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.option("--dry-run", is_flag=True, help="Tell what would happen; change nothing.")
def resolve_effect(effect: str, outcome: str, reason: str, db: str | None, yes: bool, dry_run: bool) -> None:
    """Say what became of an unknown or held effect: it was accepted, it failed, or it is ready to be handed over (again)."""
    words = {
        "accepted": "count as having left",
        "failed": "count as not having left",
        "ready": "be handed over again",
        "cancelled": "never leave",
    }
    _resolve(effect, outcome, reason, db, yes, dry_run, words[outcome])


def _resolve(effect: str, outcome: str, reason: str, db: str | None, yes: bool, dry_run: bool, consequence: str) -> None:
    from rules_engine.cli.loading import open_store
    from rules_engine.clock import SystemClock
    from rules_engine.store.port import RESOLUTIONS

    with open_store(db, write=True) as store:
        row = find_effect(store, effect)
        allowed = RESOLUTIONS.get(row.state, ())
        if outcome not in allowed:
            ways = (
                f"from {row.state} it can become {', '.join(allowed)}"
                if allowed
                else f"nothing can be done any more: {MEANING.get(row.state, row.state)}"
            )
            raise refused(f"effect {row.seq} is {row.state} and can't become {outcome}", ways)
        risk = (
            "; if it did leave the first time, the contact gets it twice" if row.state == "unknown" and outcome == "ready" else ""
        )
        what = f"{row.action} {output.cell(row.primary)} for {output.clean(row.contact)} ({row.state})"
        if dry_run:
            output.say(f"{what} would {consequence}{risk}")
            return
        output.confirm(f"{what} will {consequence}{risk}. Go on?", yes)
        now = SystemClock().now()
        if not store.resolve(row.id, outcome, reason, now, who(), _news(row, outcome, reason, now)):
            raise refused(f"effect {row.seq} has just changed its state", "look again: camp outbox show " + str(row.seq))
    output.say(f"effect {row.seq} is now {outcome}")


def _news(row: Any, outcome: str, reason: str, now: int) -> list[Any]:
    """What conditions may ask about later: that a message failed after all."""
    if outcome != "failed":
        return []
    from rules_engine import host
    from rules_engine.service.dispatch import news_of

    return news_of(row, outcome, reason, now, host.load(Settings().project).events)


def find_effect(store: Any, name: str) -> Any:
    """The effect of that number, id, handle or provider's id. Trouble where there is none."""
    row = store.effect(name) or store.find_effect(name)
    if row is None and name.isascii() and name.isdigit():
        row = next((item for item in store.effects(limit=10_000_000) if item.seq == int(name)), None)
    if row is None:
        raise Trouble(f"there is no effect `{name}`", "`camp outbox list` shows their numbers", errors.ENVIRONMENT)
    return row


def _action(row: Any) -> str:
    return (
        row.action
        if row.primary is None
        else f"{row.action} {row.primary if isinstance(row.primary, str) else output.json_line(row.primary)}"
    )


def _utc(ms: int | None) -> str | None:
    from rules_engine.runtime.calendar import format_utc

    return None if ms is None else format_utc(ms)


def _record(row: Any) -> dict[str, Any]:
    """An effect as JSON: the row, moments as ISO 8601."""
    record: dict[str, Any] = row._asdict()
    for name in ("at", "expires", "next_at", "claimed_at", "first_claimed_at", "settled_at"):
        record[name] = _utc(record[name])
    return record
