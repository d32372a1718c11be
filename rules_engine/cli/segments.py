"""`camp segment`: segments and who is in them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from rules_engine.cli import output
from rules_engine.cli.errors import usage
from rules_engine.cli.group import Group
from rules_engine.cli.options import database_option
from rules_engine.cli.settings import Settings


@click.group("segment", cls=Group)
def segment_command() -> None:
    """Segments and who is in them."""


@segment_command.command("list")
@database_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each segment.")
def segment_list(db: str | None, as_json: bool) -> None:
    """List the segments of this project, with how many contacts are in each."""
    from rules_engine.plan.wording import words

    settings = Settings({"database": db})
    declared = _declared(settings)
    counts: Counter[str] = Counter()
    known, merged = settings.database.exists(), 0
    if known:
        for _, inside in _everyone(settings):
            if inside is None:
                merged += 1
            else:
                counts.update(inside.keys())
    names = sorted({*declared, *counts})
    records = [
        {
            "segment": name,
            "label": getattr(declared.get(name), "label", None),
            "members": counts[name] if known else None,
            "condition": words(declared[name].condition) if name in declared and declared[name].condition is not None else None,
            "declared": name in declared,
        }
        for name in names
    ]
    if as_json:
        output.json_lines(records)
    elif not records:
        output.data("this project declares no segments")
    else:
        output.table(
            ("segment", "members", "who is in it"),
            [
                (
                    item["segment"],
                    item["members"],
                    item["condition"] or ("whom actions and imports put there" if item["declared"] else "no longer declared"),
                )
                for item in records
            ],
            right=[1],
        )
    if merged:
        output.say(f"{output.count(merged, 'contact')} not counted: merged into another (camp contact list --merged)")
    if not known:
        output.say("there is no database yet, so nobody is counted")


@segment_command.command("members")
@click.argument("segment")
@database_option
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each member.")
def segment_members(segment: str, db: str | None, limit: int | None, as_json: bool) -> None:
    """List the contacts in SEGMENT, and since when."""
    from rules_engine.runtime.calendar import format_utc

    settings = Settings({"database": db})
    found = []
    seen: set[str] = set()
    for contact, inside in _everyone(settings):
        if inside is None:
            continue
        seen.update(inside)
        if segment in inside:
            found.append((contact, format_utc(inside[segment])))
            if limit is not None and len(found) >= limit:
                break
    if not found and segment not in {*seen, *_declared(settings)}:
        from difflib import get_close_matches

        near = get_close_matches(segment, {*seen, *_declared(settings)}, n=1)
        raise usage(
            f"there is no segment `{segment}`", f"did you mean `{near[0]}`?" if near else "`camp segment list` shows them"
        )
    if as_json:
        output.json_lines({"contact": contact, "since": since} for contact, since in found)
    elif found:
        output.table(("contact", "since"), found)
    else:
        output.data(f"nobody is in {segment}")


def _declared(settings: Settings) -> dict[str, Any]:
    """The project's segment declarations; none outside a project."""
    if settings.file is None:
        return {}
    from rules_engine import project

    return dict(project.load_program([settings.folder]).model.segments)


def _everyone(settings: Settings) -> Any:
    """(id, segments) of all contacts; None for the segments of one that was merged into another."""
    from rules_engine.cli.loading import open_store
    from rules_engine.cli.people import everyone, merged_into, segments

    with open_store(None, settings=settings) as store:
        for contact, state in everyone(store):
            yield contact, segments(state) if merged_into(state) is None else None
