"""`camp run`: the service, or all that is to be done now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

from rules_engine.cli import errors, output
from rules_engine.cli.options import database_option
from rules_engine.cli.settings import Settings


@click.command("run")
@click.option("--once", is_flag=True, help="Do all that is to be done now, and end.")
@click.option(
    "--until", metavar="TIME", help="Play what was imported up to and including this moment, each thing at its own time, and end."
)
@click.option("--no-dispatch", is_flag=True, help="Decide everything, hand over nothing: messages wait in the outbox.")
@click.option(
    "--dry-run", is_flag=True, help="Tell what would be done now (or until TIME), on a copy; nothing is kept, nothing leaves."
)
@click.option("--web", metavar="ADDR", help="Take in facts over HTTP, too: 127.0.0.1:8080, :8080 (this machine), 0.0.0.0:8080.")
@click.option("--log-format", type=click.Choice(("text", "json")), help="How the service reports. Default: `format` under [log], or text.")
@database_option
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON object.")
def run_command(
    once: bool,
    until: str | None,
    no_dispatch: bool,
    dry_run: bool,
    web: str | None,
    log_format: str | None,
    db: str | None,
    as_json: bool,
) -> int:
    """Run this project's campaigns: take in events, do what is due, hand over messages.

    Without options it runs until it is told to end (Ctrl-C or SIGTERM), and finishes what it is doing. It may be killed at
    any moment: it goes on where it was. Only one `camp run` can work on a database file; on a PostgreSQL server several
    share the work.
    """
    from rules_engine.cli import operating
    from rules_engine.cli.loading import load_project, moment, open_store

    if web is not None and (once or until is not None or dry_run):
        raise errors.usage("--web listens until it is told to end", "leave out --once, --until and --dry-run")
    settings = Settings({"database": db, "log.format": log_format})
    loaded = load_project((), settings)
    end = moment(until, loaded.program.zone, "--until")
    operating.log(settings)
    if dry_run:
        return _try(loaded, settings, end, as_json)
    meter = operating.meter(settings, loaded.host, web is not None)
    mails = _mails(settings)
    before = _written(mails)
    with open_store(None, write=True, create=True, settings=settings, faults=meter.point if meter else None) as store:
        options = operating.options(store, settings, loaded, meter)
        summary = _run(store, loaded, settings, end, once or until is not None, not no_dispatch, web, **options)
        if meter is not None:
            operating.ended(meter, settings)
        later = store.counts().events.get("new", 0) if end is not None and not summary.stopped else 0
        effects = store.backlog(0).effects
        waiting = sum(effects.get(state, 0) for state in ("ready", "retry_wait"))
        why = _why_waiting(store, summary, no_dispatch) if waiting else ""
        left = _left(summary, store)
    _show(summary, left, as_json, waiting)
    if not as_json:
        if waiting:
            output.data(f"{output.count(waiting, 'message or call still waits', 'messages and calls still wait')}: {why} (camp outbox list)")
        if _written(mails) != before:
            output.data(f"messages are in {mails}")
    if later:
        output.say(
            f"{output.count(later, 'fact')} {'is' if later == 1 else 'are'} later than {until} and {'waits' if later == 1 else 'wait'} "
            "for that time; contacts imported without `created_at` count from the moment of their import on"
        )
    if summary.stopped and (once or until is not None):
        return errors.INTERRUPTED
    return errors.PARTIAL if summary.set_aside or any(left.values()) else errors.OK


def _left(summary: Any, store: Any) -> dict[str, int]:
    """State -> how many effects of this run are in it still: a person, a look-up or a repeat may have settled them meanwhile."""
    now = store.backlog(0).effects
    met = {"unknown": summary.unknown + summary.effects["unknown"], "failed": summary.effects["failed"]}
    return {state: min(number, now.get(state, 0)) for state, number in met.items()}


def _run(
    store: Any,
    loaded: Any,
    settings: Settings,
    until: int | None,
    ends: bool,
    dispatch: bool,
    web: str | None = None,
    **more: Any,
) -> Any:
    from rules_engine.cli import mailbox, sending
    from rules_engine.cli.web import beside
    from rules_engine.clock import SystemClock
    from rules_engine.service import loop

    clock = store.clock if store.leases else SystemClock()  # on a server all workers go by its clock
    # A plugin sees its own table and nothing else, but for the folder of the texts, which is the project's.
    tables = sending.tables_of(loaded.host, settings)
    sending.check(loaded, settings, tables, dispatch)
    options: dict[str, Any] = {
        "sources": loaded.sources,
        "settings": {name: {"templates": str(loaded.project.templates), **table} for name, table in tables.items()},
        "project": loaded.project.root,
        "dispatch": dispatch,
        **more,
    }
    if ends:
        with output.Ticker() as ticker:
            return loop.run_once(
                store, loaded.program, loaded.host, clock, until, lambda done: ticker.show(_progress(done)), **options
            )
    parts = [mailbox.watch(settings, loaded.program)]
    if web is not None:
        parts.append(beside(web, loaded, settings, options["settings"], more.get("meter")))
    options["beside"] = _all([part for part in parts if part is not None])
    output.say(
        f"running {output.count(len(loaded.program.rulesets), 'campaign and rule', 'campaigns and rules')} "
        f"on {settings.database}; Ctrl-C ends"
    )
    return loop.run_forever(store, loaded.program, loaded.host, clock, **options)


def _all(parts: Iterable[Callable[[Any], AbstractContextManager[Any]]]) -> Callable[[Any], AbstractContextManager[Any]]:
    """Several things that run beside the service, as one."""

    @contextmanager
    def run(stop: Any) -> Iterator[None]:
        with ExitStack() as stack:
            for part in parts:
                stack.enter_context(part(stop))
            yield

    return run


def _try(loaded: Any, settings: Settings, until: int | None, as_json: bool) -> int:
    """Runs on a copy of the database, without handing over, and tells what it would have done."""
    import tempfile
    from pathlib import Path

    from rules_engine.cli.loading import open_store
    from rules_engine.cli.settings import Address

    if isinstance(settings.database, Address):
        raise errors.Trouble(
            "--dry-run plays on a copy of a database file, and this database is on a server",
            "restore a dump into a database of its own and run with --db on that one, with --no-dispatch",
        )

    with tempfile.TemporaryDirectory(prefix="camp-dry-run-") as folder:
        copy = Settings({"database": str(Path(folder) / "copy.db")})
        if settings.database.exists():
            with open_store(None, settings=settings) as store:
                store.backup(copy.database)
        with open_store(None, write=True, create=True, settings=copy) as store:
            summary = _run(store, loaded, settings, until, True, False)
            left = _left(summary, store)
            ready = store.counts().effects.get("ready", 0)
    _show(summary, left, as_json, ready)
    output.say(
        f"a dry run: nothing was kept; {output.count(ready, 'message or call', 'messages and calls')} would be handed over"
    )
    return errors.OK


def _progress(done: Any) -> str:
    from rules_engine.runtime.calendar import format_utc

    return f"{done.events:,} events, {done.handed_over:,} handed over, at {format_utc(done.at)[:10]}"


def _mails(settings: Settings) -> Path:
    """Where mail is written, if it is written to a folder."""
    return Path(settings.folder) / (settings.get("email.folder").value or "outbox")


def _written(folder: Path) -> int | None:
    """Changes whenever a file comes into the folder; None where there is no such folder."""
    return folder.stat().st_mtime_ns if folder.is_dir() else None


def _why_waiting(store: Any, summary: Any, no_dispatch: bool) -> str:
    """Why messages that are decided have not left, in words."""
    from rules_engine.runtime.calendar import format_utc
    from rules_engine.store.port import EVERYTHING

    reasons = ["--no-dispatch was given"] if no_dispatch else []
    reasons += [f"{plugin} keeps failing and is left alone until {format_utc(until)}" for plugin, until in sorted(summary.failing.items())]
    reasons += [f"{'everything' if pause.campaign == EVERYTHING else pause.campaign} is paused" for pause in store.pauses()]
    due = store.next_effect()
    if not reasons and due is not None:
        reasons = [f"the next is due at {format_utc(due)}"]
    return "; ".join(reasons)


def _show(summary: Any, left: dict[str, int], as_json: bool, waiting: int) -> None:
    """What was done: by campaign and rule, then what left."""
    from rules_engine.runtime.calendar import format_utc

    decisions = sorted(summary.decisions.items(), key=lambda item: tuple("" if part is None else str(part) for part in item[0]))
    if as_json:
        output.json_document(
            {
                "at": format_utc(summary.at) if summary.at else None,
                "events": summary.events,
                "wakes": summary.wakes,
                "set_aside": summary.set_aside,
                "stopped": summary.stopped,
                "effects": dict(summary.effects),
                "waiting": waiting,
                "decisions": [
                    {"name": name, "kind": kind, "action": action, "outcome": outcome, "count": number}
                    for (name, kind, action, outcome), number in decisions
                ],
            }
        )
        return
    if decisions:
        _table(decisions)
        output.data()
    handed = ", ".join(f"{number:,} {state}" for state, number in sorted(summary.effects.items()) if number)
    output.data(
        f"{output.count(summary.events, 'event')} and {output.count(summary.wakes, 'due moment')} done"
        + (f", up to {format_utc(summary.at)}" if summary.at else "")
        + (f"; handed over: {handed}" if handed else "")
    )
    if summary.set_aside:
        output.warn(f"{output.count(summary.set_aside, 'event')} set aside; `camp status` tells which and why")
    for state, number in left.items():
        if number:
            output.warn(f"{output.count(number, 'effect')} {state}; `camp outbox list --state {state}` shows them")


def _table(decisions: list[tuple[tuple[Any, ...], int]]) -> None:
    """One row for each campaign and rule, one column for each kind of decision, then one for each outcome of its actions."""
    from rules_engine.decisions import KINDS

    rows: dict[str, Counter[str]] = {}
    columns: dict[str, None] = {}
    for (name, kind, _, outcome), number in decisions:
        column = outcome if kind in ("action", "skip") and outcome else kind
        column = "to send" if column == "sent" else column  # what was decided: whether it has left, the outbox says
        rows.setdefault(name, Counter())[column] += number
        columns[column] = None
    order = [kind for kind in KINDS if kind in columns] + sorted(column for column in columns if column not in KINDS)
    output.table(
        ("campaign or rule", *order),
        [(name, *(row[column] or None for column in order)) for name, row in rows.items()],
        right=range(1, len(order) + 1),
    )
