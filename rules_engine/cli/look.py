"""`camp status`, `camp why`, `camp timeline`: what goes on, and why or why not. Read from the store; nothing is changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from rules_engine.cli import output
from rules_engine.cli.errors import ENVIRONMENT, OK, PROBLEMS, Trouble, usage
from rules_engine.cli.options import database_option
from rules_engine.cli.settings import Settings
from rules_engine.cli.unstarted import tell_idle, tell_start
from rules_engine.decisions import MERGE

AHEAD_DAYS = 400  # how far a timeline looks ahead


@click.command("status")
@click.option("--running", "only_running", is_flag=True, help="Only whether the service runs, by the exit code (0 or 1).")
@database_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status_command(only_running: bool, db: str | None, as_json: bool) -> int:
    """Show what is going on, at a glance: people, events, what is to leave, and what needs a person."""
    from rules_engine.cli.loading import open_store
    from rules_engine.clock import SystemClock
    from rules_engine.runtime.calendar import format_utc
    from rules_engine.store.port import EVERYTHING

    settings = Settings({"database": db})
    now = SystemClock().now()
    with open_store(db, settings=settings) as store:
        running = store.running()
        if only_running:
            return OK if running else PROBLEMS
        counts, leaves, aside, waits = store.counts(), store.next_effect(), store.set_aside(5), store.backlog(now)
        versions = store.programs()
        pauses = list(store.pauses())
    wake = waits.wake
    record = {
        "running": running,
        "contacts": counts.contacts,
        "waiting": counts.waiting,
        "events": dict(counts.events),
        "effects": dict(counts.effects),
        "decisions": counts.decisions,
        "next_wake": None if wake is None else format_utc(wake),
        "next_effect": None if leaves is None else format_utc(leaves),
        "backlog_seconds": 0 if waits.received is None else max(0, now - waits.received) // 1000,
        "overdue": waits.overdue,
        "pauses": [{"campaign": pause.campaign, "at": format_utc(pause.at), "reason": pause.reason} for pause in pauses],
        "program": versions[-1].digest if versions else None,
    }
    spool = _spool(settings)
    if spool is not None:
        record["spool"] = spool._asdict()
    if as_json:
        output.json_document(record)
        return OK
    new = counts.events.get("new", 0)
    waited = f", the oldest for {record['backlog_seconds']:,} s" if new else ""
    output.data(f"service   {'runs' if record['running'] else 'does not run: start it with `camp run`'}")
    output.data(f"contacts  {counts.contacts:,}, of whom {counts.waiting:,} wait for something")
    output.data(f"events    {sum(counts.events.values()):,}" + (f", of which {new:,} are not processed yet{waited}" if new else ""))
    output.data(f"next      {_next(wake, 'somebody is due', 'nobody is waiting for a moment')}")
    output.data(f"outbox    {', '.join(f'{number:,} {state}' for state, number in _by_state(counts.effects)) or 'empty'}")
    if spool is not None:
        output.data(f"spool     {spool.waiting:,} waiting, {spool.failed:,} failed")
    for pause in pauses:
        why = f": {pause.reason}" if pause.reason else ""
        said = f"{'everything' if pause.campaign == EVERYTHING else pause.campaign} since {format_utc(pause.at)}{why}"
        output.data(click.style("paused    ", fg="yellow", bold=True) + output.clean(said))
    _attention(counts, aside)
    return OK


def _spool(settings: Settings) -> Any:
    """The spool in numbers; None where there is none."""
    name = settings.get("spool.folder").value
    if not name:
        return None
    from rules_engine.service.spool import look

    return look(settings.folder / str(name))


def _next(moment: int | None, words: str, otherwise: str) -> str:
    from rules_engine.runtime.calendar import format_utc

    return otherwise if moment is None else f"{words} at {format_utc(moment)}"


def _by_state(effects: Mapping[str, int]) -> list[tuple[str, int]]:
    from rules_engine.cli.outbox import ORDER

    return [(state, effects[state]) for state in ORDER if effects.get(state)]


def _attention(counts: Any, aside: list[Any]) -> None:
    """What a person should look at."""
    for state, words in (
        ("unknown", "it can't be known whether they left"),
        ("held", "they wait for a person"),
        ("failed", "they did not leave"),
    ):
        number = counts.effects.get(state, 0)
        if number:
            output.data(
                click.style("look at   ", fg="yellow", bold=True)
                + f"{output.count(number, 'effect')} {state}: {words} (camp outbox list --state {state})"
            )
    number = counts.events.get("set_aside", 0)
    if number:
        output.data(click.style("look at   ", fg="yellow", bold=True) + f"{output.count(number, 'event')} set aside, the latest:")
        for row in aside:
            output.data(f"          {output.clean(_cause(row.cause))}: {output.clean(row.reason or '')}")


def _cause(cause: Any) -> str:
    name = getattr(cause, "name", None) or ("a change" if hasattr(cause, "attributes") else "a wake-up")
    return f"{name} of {cause.contact}"


# ── why ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@click.command("why")
@click.argument("contact")
@click.option("--campaign", metavar="NAME", help="Only this campaign or rule.")
@click.option("--not", "missing", metavar="STEP", help="Why this step, action or message did NOT happen, or why this campaign or rule did not start.")
@click.option("--as-of", metavar="TIME", help="As things stood at this moment.")
@click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(1), help="At most so many decisions, the latest ones."
)
@database_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each decision.")
def why_command(
    contact: str, campaign: str | None, missing: str | None, as_of: str | None, limit: int, db: str | None, as_json: bool
) -> None:
    """Explain what was done to CONTACT, and why: each decision with the rule, its place in the file and the facts it read.

    With --not STEP: why something has not happened. STEP is a step, an action such as email.send, a message such as welcome_1, or a
    campaign or rule. Times are in the contact's zone, else the workspace's.
    """
    story = _Story(contact, Settings({"database": db}), as_of)
    if campaign is not None:
        story.only(campaign)
    whole = missing is not None and story.is_ruleset(missing)
    if whole:
        story.only(missing)
    elif missing is not None:
        story.keep_about(missing)
    rows = story.decisions[-limit:]
    if as_json:
        output.json_lines(story.record(decision) for decision in rows)
        return
    if len(rows) < len(story.decisions):
        output.say(f"the latest {limit:,} of {len(story.decisions):,} decisions; --limit shows more")
    for decision in rows:
        story.tell(decision)
    story.tell_identity()
    if whole:
        story.tell_unstarted(missing)
    elif missing is not None:
        story.tell_missing(missing)
    elif not rows:
        story.tell_nothing(campaign)
    if missing is None and campaign is None:
        tell_idle(story)


class _Story:
    """A contact's decisions with all that is needed to tell them."""

    def __init__(self, contact: str, settings: Settings, as_of: str | None = None) -> None:
        from rules_engine.cli.loading import moment, open_store

        self.contact, self.settings = contact, settings
        with open_store(None, settings=settings) as store:
            rows = store.contacts([contact])
            self.row = rows.get(contact)
            self.decisions = self.everything = [row.decision for row in store.journal_of(contact, 100_000)]
            versions = store.programs()
            log = store.events_of(contact, 100_000)
            effects = store.effects(contact=contact, limit=100_000)
            if self.row is None and not self.decisions and not log:
                raise Trouble(f"there is no contact `{contact}`", near_contact(contact, store), code=ENVIRONMENT)
        self.log = log
        self.pending = [row for row in log if row.status != "done"]
        self.effects = {(row.ruleset, row.step, row.key, row.at): row for row in effects}
        self.causes = {getattr(row.cause, "id", None): row.cause for row in log}
        self.applied = versions[-1].digest if versions else None
        self.sources = dict(versions[-1].sources) if versions else {}
        self.state = _state(self.row)
        self.until = moment(as_of, self.zone, "--as-of") if as_of is not None else None
        if self.until is not None:
            self.decisions = self.everything = [decision for decision in self.decisions if decision.at <= self.until]

    def only(self, name: str) -> None:
        """Keeps the decisions of one campaign or rule. Trouble if no such name is known."""
        known = sorted({item for decision in self.decisions for item in (decision.campaign, decision.rule) if item})
        kept = [decision for decision in self.decisions if name in (decision.campaign, decision.rule)]
        if not kept and name not in self._rulesets():
            from difflib import get_close_matches

            near = get_close_matches(name, {*known, *self._rulesets()}, n=1)
            raise usage(
                f"there is no campaign or rule `{name}`",
                f"did you mean `{near[0]}`?" if near else f"{self.contact} met {', '.join(known) or 'none'}",
            )
        self.decisions = kept

    def keep_about(self, step: str) -> None:
        """Keeps what speaks about a step: the step itself, its action or its message."""
        self.decisions = [decision for decision in self.decisions if _is_about(decision, step)]

    def is_ruleset(self, name: str) -> bool:
        """Whether a campaign or rule is called so, and no step, action or message."""
        rulesets = self._rulesets()
        return (
            name in rulesets
            and not any(_step_is(op, name) for ruleset in rulesets.values() for op in ruleset.ops)
            and not any(_is_about(decision, name) for decision in self.decisions)
        )

    @property
    def is_of_now(self) -> bool:
        """Whether the contact's values are those that the project's conditions ask for: now, by the texts that ran last."""
        return self.row is not None and self.until is None and self.program is not None and self.applied == self.program.digest

    def events(self) -> Iterable[tuple[Any, bool]]:
        """Events that were processed, in order of arrival, and whether somebody told of them: not Camp itself. Those whose contents or
        decisions [retention] may have removed say nothing any more, and are left out."""
        from rules_engine.cli.upkeep import kept
        from rules_engine.clock import SystemClock
        from rules_engine.facts import IDENTIFIED, MERGED
        from rules_engine.store.port import SOURCE_ENGINE, SOURCE_OUTCOMES

        events, journal, _ = kept(self.settings).before(SystemClock().now())
        since = max(events or 0, journal or 0)
        for row in self.log:
            if since and min(row.cause.at, row.received) < since:
                continue
            name = getattr(row.cause, "name", None)
            if row.status == "done" and name is not None and (self.until is None or row.cause.at <= self.until):
                yield row.cause, row.source not in (SOURCE_ENGINE, SOURCE_OUTCOMES) and name not in (IDENTIFIED, MERGED)

    def _rulesets(self) -> dict[str, Any]:
        program = self.program
        return {ruleset.name: ruleset for ruleset in program.rulesets} if program is not None else {}

    @property
    def program(self) -> Any:
        """The project's program, or None where there is none (an explanation from the journal needs none)."""
        if not hasattr(self, "_program"):
            from rules_engine import project

            self._program = project.load_program([self.settings.folder]).program if self.settings.file is not None else None
            if self._program is None and self.settings.file is not None:
                output.warn("the campaigns have errors, so only what is in the journal can be told", "`camp check` tells them")
        return self._program

    @property
    def zone(self) -> str:
        """The contact's own zone, else the workspace's: the same in which the engine words its reasons."""
        from rules_engine.cli.people import attributes
        from rules_engine.runtime.calendar import is_zone

        zone = attributes(self.state).get("timezone")
        if isinstance(zone, str) and is_zone(zone):
            return zone
        return str(self.program.zone) if self.program is not None else "UTC"

    # ── telling ──

    def tell(self, decision: Any) -> None:
        """One decision: when, what, why, from what, where."""
        from rules_engine.runtime.calendar import format_local
        from rules_engine.testing.runner import what_happened

        kind = "campaign " if decision.campaign else "" if decision.rule == MERGE else "rule "
        key = f" [{decision.key}]" if decision.key else ""
        head = (
            f"{format_local(decision.at, self.zone)}  {kind}{decision.campaign or decision.rule}{key}: {what_happened(decision)}"
        )
        output.data(click.style(output.clean(head), bold=True))
        if decision.reason:
            output.data(f"    because {output.clean(decision.reason)}")
        if decision.because:
            output.data(
                "    read " + output.clean(", ".join(f"{name} = {output.cell(value)}" for name, value in decision.because))
            )
        effect = self.effect(decision)
        if effect is not None:
            output.data(
                f"    outbox: {effect.state}"
                + (f", {output.clean(effect.detail)}" if effect.detail else "")
                + f" (camp outbox show {effect.seq})"
            )
        cause = self.cause(decision.cause)
        place = self.place(decision)
        where = f"{place[0]}, line {place[1]}" if place else decision.place[0] if decision.place else ""
        output.data(
            "    "
            + output.clean(
                "; ".join(
                    part for part in (f"set off by {cause}" if cause else "", f"written in {where}" if where else "") if part
                )
            )
        )

    def tell_identity(self) -> None:
        """Where a contact that was merged away went, and who was merged into this one."""
        from rules_engine.cli.people import merged_in, merged_into
        from rules_engine.runtime.calendar import format_local

        into = merged_into(self.state)
        if into is not None:
            other = output.clean(into[0])
            output.data(
                f"{self.contact} was merged into {other} at {format_local(into[1], self.zone)}; what came later is there: camp timeline {other}"
            )
        for other, at in sorted(merged_in(self.state).items(), key=lambda item: item[1]):
            output.data(f"{output.clean(other)} was merged in at {format_local(at, self.zone)}")

    def effect(self, decision: Any) -> Any:
        """What became of the message that a decision sent off, or None."""
        if decision.kind != "action":
            return None
        return self.effects.get((decision.campaign or decision.rule, decision.step, decision.key, decision.at))

    def cause(self, id: str) -> str:
        """What set a decision off, in words."""
        if id == "timer":
            return "time"
        known: Any = self.causes.get(id)
        if hasattr(known, "attributes"):
            names = sorted({*known.attributes, *(f"segment {name}" for name in known.segments)} - {"created_at"})
            return "new values of the contact" + (f" ({', '.join(names[:4])}{', …' if len(names) > 4 else ''})" if names else "")
        return f"{known.name} (event {id})" if known is not None else f"event {id}" if id else ""

    def place(self, decision: Any) -> tuple[str, int] | None:
        """(path, line) of the step, by the sources that were applied last."""
        from rules_engine.diagnostics import Source

        path, offset = decision.place if decision.place else ("", 0)
        text = self.sources.get(path)
        return (path, Source(path, text).place(offset)[0]) if text is not None else None

    def record(self, decision: Any) -> dict[str, Any]:
        """A decision as JSON: the simulation's line, and why."""
        from rules_engine.engine.report import line

        place = self.place(decision)
        effect = self.effect(decision)
        return {
            **line(decision),
            "because": dict(decision.because),
            "cause": decision.cause,
            "file": place[0] if place else None,
            "line": place[1] if place else None,
            "effect": {"id": effect.id, "state": effect.state, "detail": effect.detail} if effect is not None else None,
        }

    def tell_nothing(self, campaign: str | None) -> None:
        what = f"nothing of {campaign} has happened to {self.contact}" if campaign else f"nothing has happened to {self.contact}"
        output.data(what + (" up to that moment" if self.until is not None else ""))
        self._tell_pending()
        if campaign and campaign in self._rulesets():
            tell_start(self, self._rulesets()[campaign])

    def tell_unstarted(self, name: str) -> None:
        """Why a campaign or rule did not start, where it did not."""
        if any(decision.kind in ("enter", "action") for decision in self.decisions):
            output.data(f"so `{name}` did start")
        elif self.decisions:
            output.data(f"so `{name}` was skipped each time it was to start")
        else:
            self._tell_pending()
            tell_start(self, self._rulesets()[name])

    def tell_missing(self, step: str) -> None:
        """Why a step did not happen: skips were told by the journal; else it is still to come, or what would have to happen
        first."""
        happened = [decision for decision in self.decisions if decision.kind == "action"]
        skipped = [decision for decision in self.decisions if decision.kind == "skip"]
        if happened:
            output.data(
                f"so `{step}` did happen" + (f", and was skipped {output.count(len(skipped), 'time')}" if skipped else "")
            )
            return
        if skipped:
            output.data(f"so `{step}` was skipped each time it was due")
        owners = [ruleset for ruleset in self._rulesets().values() if any(_step_is(op, step) for op in ruleset.ops)]
        if not owners and not skipped:
            from difflib import get_close_matches

            near = get_close_matches(step, sorted(self._names()), n=1, cutoff=0.75)
            output.data(
                f"no campaign or rule of this project is called `{step}` or has a step, action or message of that name"
                + (f"; did you mean `{near[0]}`?" if near else "")
            )
            return
        self._tell_pending()
        if not skipped:
            for ruleset in owners:
                self._tell_owner(ruleset, step)
        # What is next is known of now only: with --as-of the past is asked about.
        coming = [decision for decision in self.ahead() if _is_about(decision, step)] if self.until is None else []
        for decision in coming[:3]:
            from rules_engine.runtime.calendar import format_local

            output.data(
                f"next it is {'due' if decision.kind == 'action' else 'to be skipped'} at {format_local(decision.at, self.zone)}, "
                "if nothing else happens" + (f": {output.clean(decision.reason)}" if decision.reason else "")
            )

    def _tell_owner(self, ruleset: Any, step: str) -> None:
        """Where the contact stands in a ruleset that has the step: the conditions before it that were false, or the last
        thing."""
        mine = [decision for decision in self.everything if ruleset.name in (decision.campaign, decision.rule)]
        if not mine:
            tell_start(self, ruleset)
            return
        before = _guards(ruleset, step)
        stopped = [decision for decision in mine if decision.kind == "skip" and decision.step in before]
        for decision in stopped:
            self.tell(decision)
        if stopped:
            output.data(f"so `{step}`, which stands behind it, did not happen")
            return
        output.data(f"{ruleset.name} did not get to `{step}`; the last thing that happened in it:")
        self.tell(mine[-1])

    def _names(self) -> set[str]:
        """All that --not can ask about."""
        found = set(self._rulesets())
        for ruleset in self._rulesets().values():
            calls = [call for op in ruleset.ops if (call := getattr(op, "call", None)) is not None]
            found.update(ruleset.steps, (call.name for call in calls), (call.primary for call in calls if isinstance(call.primary, str)))
        return found

    def _tell_pending(self) -> None:
        for row in self.pending:
            if row.status == "set_aside":
                output.data(f"{output.clean(_cause(row.cause))} was set aside: {output.clean(row.reason or '')}")
        waiting = sum(row.status == "new" for row in self.pending)
        if waiting:
            output.data(
                f"{output.count(waiting, 'event')} of {self.contact} {'is' if waiting == 1 else 'are'} not processed yet: "
                "`camp run --once` does"
            )

    def ahead(self) -> list[Any]:
        """What is next if nothing else happens: the real engine on a copy of the contact, with time alone."""
        if self.row is None or self.program is None or self.row.wake_at is None:
            return []
        from rules_engine.runtime.calendar import DAY
        from rules_engine.testing.simulator import World

        world = World(self.program)
        world.adopt(self.contact, self.state, self.row.wake_at)
        return list(world.run(self.row.wake_at + AHEAD_DAYS * DAY))


def _is_about(decision: Any, step: str) -> bool:
    return (
        step in (decision.step, decision.action, decision.primary)
        or bool(decision.action)
        and step == f"{decision.action} {decision.primary}"
    )


def _step_is(op: Any, step: str) -> bool:
    """Whether a compiled step is the one named: by identity, by its action, or by what the action is about."""
    call = getattr(op, "call", None)
    return (
        step == op.site.step or call is not None and (step in (call.name, call.primary) or step == f"{call.name} {call.primary}")
    )


def _guards(ruleset: Any, step: str) -> set[str]:
    """The conditions behind which a step stands: those that jump over it when they are false."""
    found: set[str] = set()
    for target, item in enumerate(ruleset.ops):
        if _step_is(item, step):
            found.update(
                op.site.step
                for position, op in enumerate(ruleset.ops)
                if position < target < (getattr(op, "otherwise", -1) or -1)
            )
    return found


def near_contact(contact: str, store: Any) -> str:
    from difflib import get_close_matches

    near = get_close_matches(contact, store.contact_ids(limit=20_000), n=1, cutoff=0.7)
    return f"did you mean `{near[0]}`?" if near else "`camp contact list` shows who is there"


def _state(row: Any) -> dict[str, Any]:
    import orjson

    return orjson.loads(row.state) if row is not None else {}


# ── timeline ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@click.command("timeline")
@click.argument("contact")
@click.option(
    "--limit", default=100, show_default=True, type=click.IntRange(1), help="At most so many past decisions, the latest ones."
)
@database_option
@click.option("--json", "as_json", is_flag=True, help='One JSON object for each decision; those to come have "scheduled": true.')
def timeline_command(contact: str, limit: int, db: str | None, as_json: bool) -> None:
    """Show what happened to CONTACT, and what is next if nothing else happens. Times are in the contact's zone, else the workspace's."""
    from rules_engine.testing.runner import timeline_line

    story = _Story(contact, Settings({"database": db}))
    past, coming = story.decisions[-limit:], story.ahead()
    if as_json:
        output.json_lines(_scheduled(story, past, coming))
        return
    for decision in past:
        effect = story.effect(decision)
        # "sent" is what the campaign decided; whether it has left is the outbox's to say.
        state = f" (outbox: {effect.state})" if effect is not None and effect.state not in ("accepted", "delivered") else ""
        output.data(output.clean(timeline_line(decision, story.zone) + state))
    if not past:
        output.data("nothing has happened yet")
    tell_idle(story)
    if coming:
        output.data(click.style("next, if nothing else happens:", bold=True))
        for decision in coming[:20]:
            output.data(output.clean(timeline_line(decision, story.zone)))
    elif story.state.get("into"):
        story.tell_identity()
    elif story.row is not None and story.row.wake_at is None:
        output.data(click.style("nothing is scheduled", bold=True))


def _scheduled(story: _Story, past: Iterable[Any], coming: Iterable[Any]) -> Iterable[dict[str, Any]]:
    for decision in past:
        yield {**story.record(decision), "scheduled": False}
    for decision in coming:
        yield {**story.record(decision), "scheduled": True}
