"""`camp simulate`: the real engine, a virtual clock, contacts and events from files. Nothing leaves, nothing is kept."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from rules_engine.cli import errors, output
from rules_engine.cli.settings import Settings

SHOWN_PROBLEMS = 20  # bad lines that are told one by one


@click.command("simulate")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--contacts", "contacts_file", type=click.Path(path_type=Path), help="Contacts, JSON Lines or CSV.")
@click.option("--events", "events_file", type=click.Path(path_type=Path), help="Events, JSON Lines or CSV, in any order.")
@click.option("--from", "start", metavar="TIME", help="Tell what happens from here on. Default: the first contact or event.")
@click.option(
    "--until", required=True, metavar="TIME", help="Up to and including this moment, such as 2026-06-30 or 2026-06-30T12:00:00Z."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each thing that happens.")
@click.option("--summary", is_flag=True, help="Totals by campaign, step and day.")
def simulate_command(
    paths: tuple[Path, ...],
    contacts_file: Path | None,
    events_file: Path | None,
    start: str | None,
    until: str,
    as_json: bool,
    summary: bool,
) -> int:
    """Play contacts and events through the campaigns of PATHS (default: this project).

    The engine is the real one, the clock is virtual, and nothing leaves: messages count as sent at once. The same input gives
    the same output, byte for byte. A moment without a zone is meant in the workspace's zone.
    """
    from rules_engine.cli.loading import load_project, moment, workspace_zone

    if contacts_file is None and events_file is None:
        raise errors.usage("there is nothing to play", "name --contacts FILE, --events FILE, or both")
    loaded = load_project(paths, Settings(start=paths[0] if paths else None))
    zone = workspace_zone(loaded)
    play = _Play(loaded.program, zone, moment(start, zone, "--from"), moment(until, zone, "--until"))
    play.read(contacts_file, events_file)
    if as_json and not summary:
        from rules_engine.engine.report import line

        output.json_lines(line(decision) for decision in play.decisions())
    elif summary:
        _show_summary(_totals(play.decisions(), zone), as_json, zone)
    else:
        _show_lines(play.decisions(), zone)
    return play.report()


class _Play:
    """One simulation with the faults of its input."""

    def __init__(self, program: Any, zone: str, start: int | None, until: int | None) -> None:
        assert until is not None
        self.program, self.zone, self.start, self.until = program, zone, start, until
        self.contacts: list[Any] = []
        self.events: list[Any] = []
        self.problems: list[str] = []
        self.without_id = self.repeats = 0
        self._ids: set[str] = set()

    def read(self, contacts_file: Path | None, events_file: Path | None) -> None:
        """Reads both files; bad lines are kept apart. Contacts without `created_at` are there from the start of time on."""
        later: list[tuple[str, dict[str, Any]]] = []
        if events_file is not None:
            self._each(events_file, "events", lambda place, record: self._event(record, place))
        if contacts_file is not None:
            self._each(contacts_file, "contacts", lambda place, record: self._contact(record, later, place))
        firsts = [fact.at for fact in (*self.contacts, *self.events)]
        start = min([moment for moment in (self.start, *firsts) if moment is not None], default=self.until)
        for place, record in later:
            try:
                self.contacts.append(self._read_contact(record, start))
            except ValueError as error:
                self.problems.append(f"{place}: {error}")

    def _each(self, path: Path, kind: str, take: Any) -> None:
        from rules_engine.cli.records import read_records

        for line in read_records(path, kind):
            place = f"{path}, line {line.number}"
            if line.record is None:
                self.problems.append(f"{place}: {line.reason}")
                continue
            try:
                take(place, line.record)
            except ValueError as error:
                self.problems.append(f"{place}: {error}")

    def _event(self, record: dict[str, Any], place: str) -> None:
        from rules_engine.engine.values import read_event

        if not record.get("id"):
            self.without_id += 1
            record = {**record, "id": place}
        event = read_event(self.program.model, record, self.zone)
        self.repeats += event.id in self._ids
        self._ids.add(event.id)
        self.events.append(event)

    def _contact(self, record: dict[str, Any], later: list[tuple[str, dict[str, Any]]], place: str) -> None:
        from rules_engine.runtime.calendar import parse_datetime

        created = record.get("created_at")
        if created in (None, ""):
            later.append((place, record))
        else:
            self.contacts.append(self._read_contact(record, parse_datetime(str(created), self.zone)))

    def _read_contact(self, record: dict[str, Any], at: int) -> Any:
        from rules_engine.engine.values import read_contact

        return read_contact(self.program.model, record, at)

    def decisions(self) -> Iterator[Any]:
        """What happens, in order; a person who waits is told how far it is."""
        from rules_engine.testing.simulator import simulate

        decisions = simulate(self.program, self.contacts, self.events, self.start, self.until, self._set_aside)
        if sys.stdout.isatty():  # the lines themselves tell
            return decisions
        return _told(decisions)

    def _set_aside(self, cause: Any, reason: str) -> None:
        self.problems.append(f"{getattr(cause, 'id', None) or 'a timer'} of {cause.contact} was set aside: {reason}")

    def report(self) -> int:
        """Tells what was wrong with the input; the exit code."""
        for problem in self.problems[:SHOWN_PROBLEMS]:
            output.warn(output.clean(problem))
        if len(self.problems) > SHOWN_PROBLEMS:
            output.warn(f"and {output.count(len(self.problems) - SHOWN_PROBLEMS, 'more line')} that could not be used")
        if self.repeats:
            output.say(f"{output.count(self.repeats, 'event')} came again with the same id and acted once")
        if self.without_id:
            output.say(f"{output.count(self.without_id, 'event')} without an id: repeats of them can't be recognised")
        return errors.PARTIAL if self.problems else errors.OK


def _told(decisions: Iterable[Any]) -> Iterator[Any]:
    """Passes decisions on, and shows on stderr which day it is."""
    from rules_engine.runtime.calendar import DAY, format_utc

    day = None
    with output.Ticker() as ticker:
        for decision in decisions:
            if decision.at // DAY != day:
                day = decision.at // DAY
                ticker.show(f"simulating {format_utc(decision.at)[:10]}")
            yield decision


def _show_lines(decisions: Iterable[Any], zone: str) -> None:
    """A line for each thing, times in the workspace's zone."""
    from rules_engine.runtime.calendar import format_local
    from rules_engine.testing.runner import timeline_line

    nothing = True
    for decision in decisions:
        nothing = False
        words = timeline_line(decision, zone)
        moment = format_local(decision.at, zone)
        output.data(output.clean(f"{moment}  {decision.contact}{words[len(moment) :]}"))
    if nothing:
        output.say("nothing happened")


def _totals(decisions: Iterable[Any], zone: str) -> dict[str, Any]:
    """Counts by campaign or rule and kind, by step, and by day in the workspace's zone."""
    from rules_engine.runtime.calendar import local_date

    totals: dict[str, Counter[Any]] = {"campaigns": Counter(), "steps": Counter(), "days": Counter()}
    contacts: set[str] = set()
    for decision in decisions:
        ruleset = ("campaign" if decision.campaign else "rule", decision.campaign or decision.rule)
        contacts.add(decision.contact)
        totals["campaigns"][(*ruleset, decision.kind)] += 1
        totals["days"][(local_date(decision.at, zone).isoformat(), *ruleset, decision.kind)] += 1
        if decision.kind in ("action", "skip"):
            totals["steps"][
                (*ruleset, decision.step, decision.action, _text(decision.primary), decision.kind, decision.outcome)
            ] += 1
    return {**totals, "contacts": len(contacts)}


def _text(value: Any) -> str | None:
    return None if value is None else value if isinstance(value, str) else output.json_line(value)


COLUMNS = {
    "campaigns": ("type", "name", "kind"),
    "steps": ("type", "name", "step", "action", "primary", "kind", "outcome"),
    "days": ("day", "type", "name", "kind"),
}


def _show_summary(totals: dict[str, Any], as_json: bool, zone: str) -> None:
    """JSON: all counts. For people: days first, so that what matters most is what stays in sight."""
    if as_json:
        parts = {
            part: [{**dict(zip(columns, key, strict=True)), "count": number} for key, number in _sorted(totals[part])]
            for part, columns in COLUMNS.items()
        }
        output.json_document({**parts, "contacts": totals["contacts"]})
        return
    if not totals["campaigns"]:
        output.data("nothing happened")
        return
    _pivot(totals["days"], f"By day ({zone})", lambda key: (key[0],))
    steps = [(f"{key[1]}", key[2], key[3], key[4], key[6] or key[5], number) for key, number in _sorted(totals["steps"])]
    if steps:
        output.data()
        output.table(("By step", "step", "action", "what", "outcome", "count"), steps, right=[5])
    output.data()
    _pivot(totals["campaigns"], "By campaign and rule", lambda key: (f"{key[0]} {key[1]}",))
    output.data(f"\n{output.count(totals['contacts'], 'contact')} had something happen to them")


def _pivot(counts: Counter[Any], title: str, row_of: Callable[[Any], tuple[str, ...]]) -> None:
    """One row for each row_of(key), one column for each kind of thing that happened."""
    from rules_engine.decisions import KINDS

    rows: dict[tuple[str, ...], Counter[str]] = {}
    for key, number in _sorted(counts):
        rows.setdefault(row_of(key), Counter())[key[-1]] += number
    kinds = [kind for kind in KINDS if any(kind in row for row in rows.values())]
    cells = [(*name, *(row[kind] or None for kind in kinds)) for name, row in rows.items()]
    output.table((title, *kinds), cells, right=range(1, len(kinds) + 1))


def _sorted(counts: Counter[Any]) -> list[tuple[tuple[Any, ...], int]]:
    """In the order of the keys, missing values first."""
    return sorted(counts.items(), key=lambda item: tuple("" if part is None else part for part in item[0]))
