"""A new version of the campaigns meets contacts that an older one has known for long."""

from __future__ import annotations

from pathlib import Path

import pytest

from rules_engine import host
from rules_engine.clock import VirtualClock
from rules_engine.facts import Event
from rules_engine.model import meaning
from rules_engine.plan import compile_model
from rules_engine.runtime.calendar import parse_datetime
from rules_engine.service.pump import Pump
from rules_engine.store import open_store
from rules_engine.store.memory import MemoryStore
from rules_engine.store.port import Arrival
from rules_engine.syntax.read import read

OLD = "EVENT order.placed WITH total: number\nRULE r\n  WHEN order.placed\n    THEN points.add 1\nEND\n"
NEW = OLD + """
FACT contact.spend: number IS SUM event.total OF order.placed WITHIN 365 days
SEGMENT vip IS contact.spend >= 100
CAMPAIGN silent
  WHEN NOT order.placed FOR 90 days
    THEN log.write "silent {contact.spend}"
END
CAMPAIGN vip_mail
  WHEN contact ENTERS vip
    THEN log.write "vip"
END
"""


def program(text: str, digest: str):
    plugins = host.load()
    file, problems = read(text, "t.camp")
    assert not problems
    return compile_model(meaning.build([file], plugins.actions, plugins.events), plugins.actions, digest)


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path: Path):
    clock = VirtualClock(parse_datetime("2026-03-01"))
    opened = MemoryStore(clock) if request.param == "memory" else open_store(tmp_path / "t.db", clock)
    opened.test_clock = clock
    yield opened
    opened.close()


def drain(store, compiled, sources: dict[str, str], until: str) -> None:
    store.record_program(compiled.digest, sources)
    store.rouse(compiled.digest, store.position().clock)
    pump = Pump(store, compiled)
    while pump.replay(parse_datetime(until)) is not None:
        pass


def order(number: int, at: str, total: float) -> Arrival:
    return Arrival(Event(f"e{number}", "order.placed", "ana", parse_datetime(at), None, {"total": total}))


def test_new_questions_are_answered_from_the_log_and_new_timers_are_set(store) -> None:
    """No event comes after the release: the history is there all the same, membership is set without an edge, the silence is seen."""
    store.record_events([order(1, "2026-01-10", 60), order(2, "2026-02-01", 50)])
    drain(store, program(OLD, "old"), {"t.camp": OLD}, "2026-03-01")
    assert store.next_wake() is None
    drain(store, program(NEW, "new"), {"t.camp": NEW}, "2026-12-31")
    said = [(row.decision.primary, row.decision.at) for row in store.journal_of("ana") if row.decision.action == "log.write"]
    assert said == [("silent 110", parse_datetime("2026-05-02"))]


def test_a_release_that_asks_nothing_new_changes_nothing(store) -> None:
    store.record_events([order(1, "2026-01-10", 60)])
    drain(store, program(NEW, "one"), {"t.camp": NEW}, "2026-03-01")
    before = len(store.journal_of("ana"))
    drain(store, program(NEW, "two"), {"t.camp": NEW}, "2026-03-02")
    store.record_events([order(2, "2026-03-03", 50)])
    drain(store, program(NEW, "two"), {"t.camp": NEW}, "2026-03-04")
    said = [row.decision.primary for row in store.journal_of("ana")[before:] if row.decision.action == "log.write"]
    assert said == ["vip"], "the first order still counts, once"
