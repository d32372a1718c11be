"""What can be counted, for Prometheus: at /metrics of `camp run --web`, or in a file for node_exporter's textfile collector.

One registry for one service, nothing global. Counters count what this process did; gauges are read from the store every few seconds by
the service's own thread, so that a scrape never touches the database. Labels are bounded: actions and events' sources that are known,
states, kinds; never a contact, a campaign's step or a text.
"""

from __future__ import annotations

import os
import time
from collections import Counter as Sums
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from rules_engine.service.pump import Turn
from rules_engine.store.port import EffectRow, Recorded, Settlement, Store

LABELS = 200  # values of one label; what comes later counts as "other"
LATENCY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)  # seconds
DURATION = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
STATES = ("unknown", "held", "claimed", "ready", "retry_wait", "planned", "failed")


class Meter:
    """All metrics of one service. Everything but `scrape` is called by the service's own thread."""

    def __init__(self, actions: list[str] | None = None) -> None:
        self.registry = CollectorRegistry()
        self._values: dict[str, set[str]] = {"action": set(actions or ())}
        self._begun: dict[str, float] = {}

        def made(kind: Any, name: str, text: str, *labels: str, **options: Any) -> Any:
            return kind(name, text, labels, registry=self.registry, **options)

        self._recorded = made(Counter, "camp_events_recorded", "Facts that came in through this process.", "source", "result")
        self._acted = made(Counter, "camp_events_acted", "Events of the log that have acted.", "source")
        self._aside = made(Counter, "camp_events_set_aside", "Events and wake-ups that could not be processed.")
        self._wakes = made(Counter, "camp_wakeups", "Wake-ups of contacts that were due.")
        self._decisions = made(Counter, "camp_decisions", "Decisions of the engine.", "kind", "outcome")
        self._settled = made(Counter, "camp_effects_settled", "Hand-overs, by what is known afterwards.", "action", "state")
        self._latency = made(
            Histogram, "camp_handover_seconds", "From the decision to the first hand-over.", "action", buckets=LATENCY
        )
        self._commit = made(
            Histogram, "camp_commit_seconds", "How long a transaction took to commit.", "transaction", buckets=DURATION
        )
        self._call = made(Histogram, "camp_call_seconds", "How long the calls of one claim took.", buckets=LATENCY)
        self._effects = made(Gauge, "camp_effects", "Effects in states that are not final, and dead letters.", "state")
        self._backlog = made(Gauge, "camp_backlog_events", "Events of the log that have not acted yet.")
        self._age = made(Gauge, "camp_backlog_age_seconds", "How long the oldest of them waits.")
        self._late = made(Gauge, "camp_outbox_age_seconds", "For how long the oldest effect should have left.")
        self._overdue = made(Gauge, "camp_wakeups_overdue", "Contacts whose wake-up is past.")
        self._set_aside = made(Gauge, "camp_set_aside_events", "Events that wait for a person.")
        self._pauses = made(Gauge, "camp_pauses", "Campaigns that are paused; `camp pause --all` counts as one.")
        self._breaker = made(
            Gauge, "camp_breaker_open", "1 while nothing is handed to this provider because it fails.", "provider"
        )
        self._bytes = made(Gauge, "camp_database_bytes", "Size on the disk.", "file")
        self._free = made(Gauge, "camp_disk_free_bytes", "Free on the database's disk.")
        self._backup = made(Gauge, "camp_backup_timestamp_seconds", "When the last backup was made (0: never).")
        self._beat = made(Gauge, "camp_last_beat_timestamp_seconds", "When the service last looked at what is to be done.")
        self._up = made(Gauge, "camp_up", "1 while the service runs.")

    # ------------------------------------------------------------ what happens

    def recorded(self, source: str, done: Recorded) -> None:
        """A batch came in."""
        source = self._bounded("source", source)
        for result, number in (("new", done.accepted), ("known", len(done.duplicates)), ("conflict", len(done.conflicts))):
            self._recorded.labels(source, result).inc(number)

    def turn(self, turn: Turn) -> None:
        """One block of the pump."""
        for source, number in turn.sources.items():
            self._acted.labels(self._bounded("source", source)).inc(number)
        self._aside.inc(turn.set_aside)
        self._wakes.inc(turn.wakes)
        kinds: Sums[tuple[str, str]] = Sums()
        for (_, kind, _, outcome), number in turn.decisions.items():
            kinds[kind, outcome or ""] += number
        for (kind, outcome), number in kinds.items():
            self._decisions.labels(kind, self._bounded("outcome", outcome)).inc(number)

    def handed_over(self, effect: EffectRow, settlement: Settlement) -> None:
        """One hand-over and what is known of it."""
        action = self._bounded("action", effect.action)
        self._settled.labels(action, settlement.state).inc()
        if effect.attempts == 1:
            self._latency.labels(action).observe(max(0, settlement.at - effect.at) / 1000)

    def breaker(self, provider: str, is_open: bool) -> None:
        """A provider's breaker opened or closed."""
        self._breaker.labels(self._bounded("provider", provider)).set(int(is_open))

    def point(self, name: str) -> None:
        """The named points of `faults` as a stopwatch: commits, and calls of plugins."""
        if name.endswith(".before_commit"):
            self._begun[name[:-14]] = time.perf_counter()
        elif name.endswith(".after_commit"):
            begun = self._begun.pop(name[:-13], None)
            if begun is not None:
                self._commit.labels(self._bounded("transaction", name[:-13])).observe(time.perf_counter() - begun)
        elif name == "dispatch.before_call":
            self._begun["call"] = time.perf_counter()
        elif name == "dispatch.after_call" and "call" in self._begun:
            self._call.observe(time.perf_counter() - self._begun.pop("call"))

    def _bounded(self, label: str, value: str) -> str:
        known = self._values.setdefault(label, set())
        if value not in known and len(known) >= LABELS:
            return "other"
        known.add(value)
        return value

    # ------------------------------------------------------------ how things stand

    def refresh(self, store: Store, now: int, database: Path | None = None) -> None:
        """Reads the gauges. Raises StoreError."""
        waits = store.backlog(now)
        self._backlog.set(waits.new)
        self._age.set(0 if waits.received is None else max(0, now - waits.received) / 1000)
        self._late.set(0 if waits.leaves is None else max(0, now - waits.leaves) / 1000)
        self._overdue.set(waits.overdue)
        self._set_aside.set(waits.set_aside)
        for state in STATES:
            self._effects.labels(state).set(waits.effects.get(state, 0))
        if hasattr(store, "pauses"):
            self._pauses.set(len(store.pauses()))
        noted = (store.noted("backup") or "0").split()[0]
        self._backup.set(int(noted) / 1000)
        self._beat.set(now / 1000)
        self._up.set(1)
        if database is not None:
            for ending, label in (("", "database"), ("-wal", "wal"), (".sent", "sent")):
                path = database.with_name(database.name + ending)
                self._bytes.labels(label).set(path.stat().st_size if path.exists() else 0)
            disk = os.statvfs(database.parent)
            self._free.set(disk.f_bavail * disk.f_frsize)

    def down(self) -> None:
        """The service ends."""
        self._up.set(0)

    def scrape(self) -> bytes:
        """Everything in the text format. May be called by any thread."""
        return generate_latest(self.registry)

    def write(self, path: Path) -> None:
        """Everything into a file, whole or not at all, for node_exporter's textfile collector (the name must end in .prom).
        Raises OSError."""
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            draft.write_bytes(self.scrape())
            os.chmod(draft, 0o644)
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)


def route(meter: Meter, path: str = "/metrics") -> Any:
    """A Starlette route that answers with the metrics."""
    from starlette.responses import Response
    from starlette.routing import Route

    def metrics(request: Any) -> Response:
        return Response(meter.scrape(), media_type=CONTENT_TYPE_LATEST)

    return Route(path, metrics, methods=["GET"])
