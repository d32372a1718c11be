"""`camp outbox`: what is to leave, what has left, and what only a person can settle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from rules_engine.cli import errors, output
from rules_engine.cli.errors import Trouble, refused, usage
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

CONSEQUENCES = {
    "accepted": "count as having left",
    "failed": "count as not having left",
    "ready": "be handed over again",
    "cancelled": "never leave",
}
SHOWN = 10  # of those that can't be resolved, told one by one


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

    settings = Settings({"database": db})
    with open_store(db, settings=settings) as store:
        rows = [row for name in ((state,) if state else ORDER) for row in store.effects(name, contact, limit)]
        counts = store.counts().effects
        addresses = _addresses(store, settings, rows) if as_json else {}
    if as_json:
        output.json_lines(_record(row, addresses) for row in rows)
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

    settings = Settings({"database": db})
    with open_store(db, settings=settings) as store:
        row = find_effect(store, effect)
        attempts = store.attempts_of(row.id)
        addresses = _addresses(store, settings, [row])
    if as_json:
        output.json_document(
            {
                **_record(row, addresses),
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
        ("address", addresses.get(row.id)),
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
@click.argument("effects", nargs=-1, metavar="[EFFECT]…")
@click.argument("outcome", type=click.Choice(tuple(CONSEQUENCES)))
@database_option
@click.option("--state", type=click.Choice(("unknown", "held")), help="All effects in this state, but for what the next options leave out.")
@click.option("--campaign", help="With --state: only those of this campaign or rule.")
@click.option("--action", help="With --state: only those of this action.")
@click.option("--since", metavar="TIME", help="With --state: only those that were last handed over (or, if never, were due) then or later.")
@click.option("--until", metavar="TIME", help="With --state: only those that were last handed over (or were due) before.")
@click.option("--file", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="The effects that a file names, one a line: number, id, or msg_… as in the provider's log.")
@click.option("--reason", default="decided by a person", show_default=True, help="Kept with the effect.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.option("--dry-run", is_flag=True, help="Tell what would happen; change nothing.")
def resolve_effect(
    effects: tuple[str, ...],
    outcome: str,
    db: str | None,
    state: str | None,
    campaign: str | None,
    action: str | None,
    since: str | None,
    until: str | None,
    file: Path | None,
    reason: str,
    yes: bool,
    dry_run: bool,
) -> int:
    """Say what became of unknown or held effects: they were accepted, they failed, or they are ready to be handed over (again).

    EFFECT is a number in `camp outbox list`, an id or a msg_…; name one or several, or a --state, or a --file.
    """
    if (campaign or action or since or until) and state is None:
        raise usage("--campaign, --action, --since and --until choose among the effects of a state", "add --state unknown")
    if len(effects) == 1 and state is None and file is None:
        _resolve(effects[0], outcome, reason, db, yes, dry_run, CONSEQUENCES[outcome])
        return errors.OK
    if sum(map(bool, (effects, state, file))) != 1:
        raise usage("name effects, or a --state, or a --file", "camp outbox resolve --state unknown accepted")
    wanted = (state, campaign, action, since, until) if state else ()
    return _resolve_many(effects, wanted, file, outcome, reason, db, yes, dry_run)


def _resolve_many(
    effects: tuple[str, ...], wanted: tuple[Any, ...], file: Path | None, outcome: str, reason: str, db: str | None, yes: bool, dry_run: bool
) -> int:
    """One question and one answer for all of them; the exit code. What can't become `outcome` is left as it is, and told."""
    from rules_engine.cli.loading import open_store
    from rules_engine.clock import SystemClock
    from rules_engine.store.port import RESOLUTIONS

    with open_store(db, write=not dry_run) as store:
        names = effects if file is None else tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
        rows, missing = (_chosen(store, db, *wanted), []) if wanted else _named(store, names)
        fit = [row for row in rows if outcome in RESOLUTIONS.get(row.state, ())]
        done = sum(row.state == outcome for row in rows)
        for name in missing[:SHOWN]:
            output.warn(f"there is no effect `{output.clean(name)}`")
        for row in [row for row in rows if row not in fit and row.state != outcome][:SHOWN]:
            output.warn(f"effect {row.seq} is {row.state} and can't become {outcome}")
        left = len(rows) - len(fit) - done + len(missing)
        rest = (f"; {done:,} {'is' if done == 1 else 'are'} {outcome} already" if done else "") + (f"; {left:,} can't be" if left else "")
        if not fit:
            raise refused(f"no effect is to become {outcome}{rest}", "`camp outbox list` shows the effects and their states")
        states = Counter(row.state for row in fit)
        risk = f"; what did leave the first time comes twice ({states['unknown']:,} unknown)" if outcome == "ready" and states["unknown"] else ""
        what = f"{output.count(len(fit), 'effect')} ({', '.join(f'{number:,} {state}' for state, number in sorted(states.items()))})"
        if dry_run:
            output.say(f"{what} would {CONSEQUENCES[outcome]}{risk}{rest}")
            return errors.OK
        output.confirm(f"{what} will {CONSEQUENCES[outcome]}{risk}{rest}. Go on?", yes)
        now, events = SystemClock().now(), _events(outcome)
        changed = sum(
            store.resolve(row.id, outcome, reason, now, who(), _news(row, outcome, reason, now, events))
            for row in output.progress(fit, len(fit), "resolving")
        )
    left += len(fit) - changed  # those have just changed their state
    output.say(f"{output.count(changed, 'effect')} {'is' if changed == 1 else 'are'} now {outcome}{rest}")
    return errors.PARTIAL if left else errors.OK


def _chosen(
    store: Any, db: str | None, state: str, campaign: str | None, action: str | None, since: str | None, until: str | None
) -> list[Any]:
    """The effects of a state that fit, oldest first. Trouble for a moment that is none."""
    from rules_engine.cli.importing import meaning
    from rules_engine.cli.loading import moment

    zone = meaning(Settings({"database": db}))[1] if since or until else "UTC"
    first, end = moment(since, zone, "--since"), moment(until, zone, "--until")
    found = []
    for row in reversed(store.effects(state, limit=10_000_000)):
        at = row.at if row.claimed_at is None else row.claimed_at
        if (
            (campaign is None or row.ruleset == campaign)
            and (action is None or row.action == action)
            and (first is None or at >= first)
            and (end is None or at < end)
        ):
            found.append(row)
    return found


def _named(store: Any, names: Iterable[str]) -> tuple[list[Any], list[str]]:
    """(effects of that number, id or handle, each once; names that none has). One pass over the outbox finds all numbers."""
    names = list(dict.fromkeys(names))
    numbers = {int(name) for name in names if name.isascii() and name.isdigit()}
    by_number = {row.seq: row for row in store.effects(limit=10_000_000) if row.seq in numbers} if numbers else {}
    found, missing = {}, []
    for name in names:
        number = int(name) if name.isascii() and name.isdigit() else 0
        row = store.effect(name) or store.find_effect(_without_host(name)) or by_number.get(number)
        if row is None:
            missing.append(name)
        else:
            found[row.id] = row
    return list(found.values()), missing


def _without_host(name: str) -> str:
    """`<msg_…@host>` as a mail server's log has it: msg_… alone, and without the proof that is behind a dot in links and headers."""
    bare = name.strip("<>")
    return bare.partition("@")[0].partition(".")[0] if bare.startswith("msg_") else name


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
        if not store.resolve(row.id, outcome, reason, now, who(), _news(row, outcome, reason, now, _events(outcome))):
            raise refused(f"effect {row.seq} has just changed its state", "look again: camp outbox show " + str(row.seq))
    output.say(f"effect {row.seq} is now {outcome}")


def _news(row: Any, outcome: str, reason: str, now: int, events: Any) -> list[Any]:
    """What conditions may ask about later: that a message failed after all. events: the installed types."""
    if outcome != "failed":
        return []
    from rules_engine.service.dispatch import news_of

    return news_of(row, outcome, reason, now, events)


def _events(outcome: str) -> Any:
    """The types that `_news` needs."""
    if outcome != "failed":
        return {}
    from rules_engine import host

    return host.load(Settings().project).events


def find_effect(store: Any, name: str) -> Any:
    """The effect of that number, id, handle or provider's id. Trouble where there is none."""
    row = store.effect(name) or store.find_effect(_without_host(name))
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


def _addresses(store: Any, settings: Settings, rows: Iterable[Any]) -> dict[str, str]:
    """Effect -> the address on its channel that its contact has now."""
    import orjson

    from rules_engine.cli.people import attributes
    from rules_engine.cli.persons import channels

    names = channels(settings)
    people = {id: attributes(orjson.loads(row.state)) for id, row in store.contacts({row.contact for row in rows}).items()}
    found = {row.id: people.get(row.contact, {}).get(names.get(row.channel, "")) for row in rows}
    return {id: address for id, address in found.items() if isinstance(address, str)}


def _record(row: Any, addresses: Mapping[str, str]) -> dict[str, Any]:
    """An effect as JSON: the row, moments as ISO 8601, and the address that its contact has."""
    record: dict[str, Any] = {**row._asdict(), "address": addresses.get(row.id)}
    for name in ("at", "expires", "next_at", "claimed_at", "first_claimed_at", "settled_at"):
        record[name] = _utc(record[name])
    return record
