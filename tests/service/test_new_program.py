"""A new version of the campaigns meets contacts that an older one has known for long."""

from __future__ import annotations

from datetime import UTC, datetime
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


# ---------------------------------------------------------------- people in the middle of a campaign

STEPS = """EVENT signup
EVENT order.placed
CAMPAIGN welcome
  WHEN signup
{}
END
"""
FIRST = """    THEN log.write "one"
    AFTER 3 days AT 10:00
    THEN log.write "two"
    WAIT UNTIL order.placed UP TO 5 days
      THEN log.write "bought"
    OTHERWISE
      THEN log.write "no order"
    END
    AFTER 1 day
    THEN log.write "three"
    AFTER 1 day
    THEN log.write "four\""""


def edited(*changes: tuple[str, str]) -> str:
    text = FIRST
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return STEPS.format(text)


def journey(store, release: str, *changes: tuple[str, str], orders: str = "") -> list[tuple[str, str]]:
    """What ana gets, who signs up on the first of January: (day, text). The new version comes at `release`."""
    old, new = STEPS.format(FIRST), edited(*changes)
    store.record_events([Arrival(Event("e1", "signup", "ana", parse_datetime("2026-01-01 08:00")))])
    drain(store, program(old, "old"), {"t.camp": old}, release)
    if orders:
        store.record_events([Arrival(Event("e2", "order.placed", "ana", parse_datetime(orders), None, {}))])
    drain(store, program(new, "new"), {"t.camp": new}, "2026-02-28")
    found = [row.decision for row in store.journal_of("ana") if row.decision.action == "log.write" or row.decision.kind == "exit"]
    return [(datetime.fromtimestamp(item.at / 1000, UTC).strftime("%d"), item.primary or item.reason) for item in found]


UNCHANGED = [("01", "one"), ("04", "two"), ("09", "no order"), ("10", "three"), ("11", "four")]


@pytest.mark.parametrize("changes", [
    [],
    [("AFTER 3 days AT 10:00", "AFTER 2 days AT 10:00")],
    [("AFTER 3 days AT 10:00", "AFTER 3 days AT 11:00")],
    [("AFTER 3 days AT 10:00", 'THEN tag.add "new"\n    AFTER 9 days')],
    [('"two"', '"two"\n    THEN tag.add "new"'), ("AFTER 3 days AT 10:00", "AFTER 4 days")],
])
def test_who_waits_at_a_step_that_was_edited_waits_on_until_the_moment_that_was_set(store, changes) -> None:
    assert journey(store, "2026-01-02", *changes) == UNCHANGED


def test_steps_of_the_same_words_are_told_apart_by_what_stands_around_them(store) -> None:
    """The first of two `AFTER 1 day` becomes another: who waits there is not taken for one who waits at the second."""
    got = journey(store, "2026-01-09 12:00", ('AFTER 1 day\n    THEN log.write "three"', 'AFTER 7 days\n    THEN log.write "three"'))
    assert got == UNCHANGED


def test_a_wait_that_was_edited_hears_what_is_waited_for_now(store) -> None:
    got = journey(store, "2026-01-06", ("order.placed UP TO 5 days", "order.placed UP TO 9 days"), orders="2026-01-07 12:00")
    assert got == [("01", "one"), ("04", "two"), ("07", "bought"), ("08", "three"), ("09", "four")]
    assert [row.decision.reason for row in store.journal_of("ana") if row.decision.kind == "exit"] == []


def test_who_stands_at_a_step_that_nothing_replaces_leaves_and_the_log_says_so(store, caplog) -> None:
    got = journey(store, "2026-01-02", ('    AFTER 3 days AT 10:00\n    THEN log.write "two"\n', ""))
    assert got[0] == ("01", "one") and "no longer in the campaign" in got[1][1] and len(got) == 2
    assert [record.getMessage() for record in caplog.records] == [
        "welcome no longer has the step 'AFTER 3 days AT 10:00', and nothing has taken its place: whoever stands there leaves"
    ]


def test_the_rounds_of_a_loop_that_was_edited_go_on(store) -> None:
    loop = "    REPEAT EVERY 2 days UP TO 3 TIMES\n      THEN log.write \"again\"\n    END"
    old, new = STEPS.format(loop), STEPS.format(loop.replace("2 days", "4 days"))
    store.record_events([Arrival(Event("e1", "signup", "ana", parse_datetime("2026-01-01 08:00")))])
    drain(store, program(old, "old"), {"t.camp": old}, "2026-01-04")
    drain(store, program(new, "new"), {"t.camp": new}, "2026-02-28")
    said = [row.decision for row in store.journal_of("ana") if row.decision.action == "log.write"]
    assert [datetime.fromtimestamp(item.at / 1000, UTC).strftime("%d") for item in said] == ["01", "03", "09"]
