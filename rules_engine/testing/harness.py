"""A whole Camp in memory for a plugin's tests: campaigns as text, events by hand, a clock that stands still until it is moved, and what
was handed over. The engine, the pump and the dispatcher are the real ones; only the database is memory.

    >>> from rules_engine.testing.harness import Harness
    >>> campaign = '''
    ... EVENT order.placed WITH total: number
    ...
    ... CAMPAIGN thanks
    ...   WHEN order.placed
    ...     AFTER 2 days
    ...       THEN sms.send "Thank you for {event.total}", class: transactional
    ... END
    ... '''
    >>> with Harness(campaign, settings={"sms": {"fsync": False}}) as camp:
    ...     camp.contact("ana", phone="+420601234567")
    ...     camp.event("order.placed", "ana", total=40)
    ...     early = len(camp.outbox)
    ...     camp.advance("2 days")
    ...     (sent,) = camp.outbox
    >>> early, sent.action, sent.primary, sent.state
    (0, 'sms.send', 'Thank you for 40', 'accepted')
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from rules_engine import host as hosts
from rules_engine.clock import VirtualClock
from rules_engine.decisions import Decision
from rules_engine.diagnostics import Diagnostic, Source
from rules_engine.engine.values import read_contact, read_event
from rules_engine.project import load_program
from rules_engine.runtime import calendar
from rules_engine.service.dispatch import real_attributes
from rules_engine.service.loop import Service
from rules_engine.service.runner import Runner, ThreadRunner
from rules_engine.store import codec
from rules_engine.store.memory import MemoryStore
from rules_engine.store.port import Arrival
from rules_engine.testing.plugins import AT

MINUTE = 60_000  # how long a due effect that could not be claimed (a throttle, quiet hours) is left alone
MAX_ROWS = 100_000


class Sent(NamedTuple):
    """One effect of the outbox and what is known of it. state: ready, accepted, retry_wait, failed, unknown and the others of `camp outbox`;
    attempts: hand-overs begun; at: when it was decided; key: `Call.key` of every attempt."""

    key: str
    action: str
    contact: str
    primary: Any
    params: Mapping[str, Any]
    state: str
    detail: str
    provider_id: str
    attempts: int
    at: datetime


class Harness:
    """Campaigns, contacts and events around the plugins under test.

    campaign: the text of a `.camp` file. plugins: modules (or objects with hooks), or {name: module}; without a name it is that of the
    first action or event, `pager` for `pager.page`. Camp's own plugins are always there. settings: {plugin: its table}. at: the moment
    at which it begins, aware. files: {path below the project: text}, such as templates. isolated: run the plugins in child processes,
    as `camp run` does (they must be importable by name). runner: what calls plugins; by default a thread with the action's time-out.

    Raises ValueError with all diagnostics if the campaign has errors or a plugin can't be loaded.
    """

    def __init__(
        self,
        campaign: str,
        plugins: Iterable[Any] | Mapping[str, Any] = (),
        *,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        at: datetime = AT,
        files: Mapping[str, str] | None = None,
        isolated: bool = False,
        runner: Runner | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="camp-harness-")
        self.project = Path(self._folder.name)
        self.clock = VirtualClock(int(at.timestamp() * 1000))
        self.host = _load(plugins, isolated)
        try:
            self._write({"camp.toml": "", "campaign.camp": campaign, **(files or {})})
            loaded = load_program([self.project], self.host)
            problems = [*self.host.problems, *loaded.errors]
            if problems or loaded.program is None:
                raise ValueError("\n".join(_told(problem, loaded.sources) for problem in problems))
        except BaseException:
            self.close()
            raise
        self.program = loaded.program
        self.store = MemoryStore(self.clock)
        tables = {name: {"templates": str(self.project / "templates"), **dict((settings or {}).get(name, {}))} for name in self.host.plugins}
        self._count = 0
        self._service = Service(
            self.store, self.program, self.host, self.clock, settings=tables, project=self.project, runner=runner or ThreadRunner(1)
        )

    def __enter__(self) -> Harness:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the plugins' processes, if any, and removes the project's folder."""
        self.host.close()
        self._folder.cleanup()

    # ------------------------------------------------------------ what happens

    def contact(self, id: str, /, **attributes: Any) -> None:
        """Makes a contact, or changes it. Names with a dot are written with two underscores: `consent__email=True`. ValueError for an
        attribute that nobody declares or a value of another type."""
        record = {"id": id, **{name.replace("__", "."): value for name, value in attributes.items()}}
        change = read_contact(self.program.model, record, self.clock.now(), self._next())
        self._record(change)

    def event(self, name: str, contact: str, subject: str | None = None, /, **data: Any) -> None:
        """Something happens to a contact, now; all that follows from it now is done. ValueError for an event that nobody declares or a
        value of another type."""
        record = {
            "id": self._next(),
            "event": name,
            "contact": contact,
            "at": calendar.format_utc(self.clock.now()),
            "subject": subject,
            "data": data,
        }
        self._record(read_event(self.program.model, record))

    def advance(self, duration: str) -> None:
        """Lets time pass ("3 days", "90 minutes"), in the workspace's zone. All that comes due happens at its own moment."""
        zone, hours = self.program.zone, self.program.business_hours
        until = calendar.add(self.clock.now(), calendar.parse_duration(duration), zone, hours)
        while self.clock.now() < until:
            now = self.clock.now()
            due = [moment for moment in (self.store.next_wake(), self.store.next_effect()) if moment is not None]
            step = min(due, default=until)
            self.clock.move_to(min(until, step if step > now else now + MINUTE))
            self._service.work()

    # ------------------------------------------------------------ what became of it

    @property
    def now(self) -> datetime:
        """The clock, UTC."""
        return datetime.fromtimestamp(self.clock.now() / 1000, UTC)

    @property
    def outbox(self) -> list[Sent]:
        """All effects, in the order in which they were decided."""
        rows = sorted(self.store.effects(limit=MAX_ROWS), key=lambda row: row.seq)
        return [
            Sent(row.id, row.action, row.contact, row.primary, row.params, row.state, row.detail, row.provider_id, row.attempts,
                 datetime.fromtimestamp(row.at / 1000, UTC))
            for row in rows
        ]  # fmt: skip

    @property
    def set_aside(self) -> list[str]:
        """Why events were set aside, oldest first."""
        return [str(row.reason) for row in reversed(self.store.set_aside(MAX_ROWS))]

    @property
    def decisions(self) -> list[Decision]:
        """All that the engine decided, in order, with its reasons."""
        return [row.decision for row in self.store.journal(limit=MAX_ROWS)]

    def facts(self, contact: str) -> dict[str, Any]:
        """A contact's attributes as they are now. KeyError for one that nobody knows."""
        return dict(real_attributes()(codec.load(self.store.contacts([contact])[contact].state)))

    # ------------------------------------------------------------ inside

    def _next(self) -> str:
        self._count += 1
        return f"test-{self._count}"

    def _record(self, cause: Any) -> None:
        self.store.record_events([Arrival(cause, "test")])
        self._service.work()

    def _write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = self.project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


class _Point(NamedTuple):
    """A plugin under test as an entry point."""

    name: str
    value: str
    plugin: Any
    dist: str = ""

    def load(self) -> Any:
        return self.plugin


def _load(plugins: Iterable[Any] | Mapping[str, Any], isolated: bool) -> hosts.Host:
    named = dict(plugins) if isinstance(plugins, Mapping) else {_name_of(plugin): plugin for plugin in plugins}
    points = [_Point(name, getattr(plugin, "__name__", type(plugin).__name__), plugin) for name, plugin in named.items()]
    own = [point for point in hosts.installed() if hosts.is_own(point)]
    return hosts.load({}, [*own, *points], isolate=isolated)


def _name_of(plugin: Any) -> str:
    for hook in ("register_actions", "register_events"):
        for record in getattr(plugin, hook, tuple)():
            return str(getattr(record, "name", "")).partition(".")[0]
    return str(getattr(plugin, "__name__", type(plugin).__name__))


def _told(problem: hosts.PluginProblem | Diagnostic, sources: Mapping[str, str]) -> str:
    if isinstance(problem, hosts.PluginProblem):
        return f"plugin {problem.plugin}: {problem.reason}"
    line, column = Source(problem.span.path, sources.get(problem.span.path, "")).place(problem.span.start)
    help = f" ({problem.help})" if problem.help else ""
    return f"line {line}, column {column}: {problem.message}{help}"
