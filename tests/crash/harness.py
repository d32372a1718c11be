"""Kills a real process at random moments and at each named point, starts it again until it is done, and looks at what is left.

A life is a forked process that imports a file, plays it through pump and dispatcher on a SQLite file, and hands effects over to a
provider that writes each key into a file. Killing a process proves nothing about power cuts: what the system has taken from it
survives. That each commit is synced is another test's.

Invariants, after each scenario:
  * each acknowledged line is in the log once; none is new any more
  * journal and states equal those of a run that nobody killed
  * each effect is there once and at an end; a provider without keys got each at most once, and each that it got is accepted or
  unknown;
    what is accepted it did get; nothing is unknown that was not being handed over when a life ended
  * with a provider that recognises keys, nothing is unknown and everything arrived once
  * the integrity check finds nothing
"""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from rules_engine.actions import Action, Call, Outcome
from rules_engine.clock import SystemClock, VirtualClock
from rules_engine.facts import Event
from rules_engine.host import Host
from rules_engine.service import faults as points
from rules_engine.service.ingest import import_events
from rules_engine.service.loop import run_once
from rules_engine.service.runner import DirectRunner
from rules_engine.store.sqlite import SqliteStore
from tests.service.fake import DAY, ENGINE, HOUR, Program, attributes

EVENTS, CONTACTS, UNTIL = 400, 30, 40 * DAY
START = 1_000_000
NAMES = ("tick", "tick", "later", "send", "echo", "refer", "boom")


def chance(*what: object) -> float:
    """A number in [0, 1) that depends on `what` only."""
    return int.from_bytes(hashlib.blake2b(repr(what).encode(), digest_size=6).digest(), "big") / 2**48


# ---------------------------------------------------------------- the workload


def write_history(path: Path, names: tuple[str, ...]) -> None:
    """Made-up events as a file."""
    with path.open("wb") as stream:
        for n in range(EVENTS):
            data = {"total": n % 7, "ms": (1 + n % 5) * DAY, "to": f"c{int(chance('to', n) * CONTACTS):03}"}
            record = {
                "id": f"e{n}",
                "event": names[int(chance("name", n) * len(names))],
                "contact": f"c{int(chance('contact', n) * CONTACTS):03}",
                "at": int(chance("at", n) * 20 * 24) * HOUR,
                "data": data,
            }
            stream.write(orjson.dumps(record) + b"\n")


def read_event(record: dict) -> Event:
    return Event(record["id"], record["event"], record["contact"], record["at"], None, record["data"])


def host_of(folder: Path, keyed: bool) -> Host:
    """A provider that notes each key it gets; if `keyed`, a second time does nothing."""

    def perform(call: Call) -> Outcome:
        note = folder / "provider"
        if keyed and note.exists() and call.key in note.read_text().splitlines():
            return Outcome("accepted", "again")
        append(note, call.key)
        return Outcome("accepted")

    action = Action(
        "fake.send",
        "Send.",
        perform=perform,
        channel="email",
        message_class="marketing",
        idempotency="key" if keyed else "none",
        window=3600,
    )
    return Host({"fake.send": action}, {}, {"fake.send": "fake"})


def append(path: Path, text: str) -> None:
    """One write: a killed process leaves the whole line or none."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, text.encode() + b"\n")
    os.close(descriptor)


def importing(folder: Path, faults: points.Faults, clock: object) -> None:
    """Imports the file; each acknowledgement is noted after it was given."""
    store = SqliteStore(folder / "camp.db", clock, faults=faults)
    import_events(
        store,
        folder / "events.jsonl",
        read_event,
        batch=20,
        faults=faults,
        progress=lambda lines, size: append(folder / "acknowledged", str(lines)),
    )


def running(folder: Path, faults: points.Faults, clock: object, keyed: bool, until: int | None) -> None:
    """Does all that is to be done."""
    store = SqliteStore(folder / "camp.db", clock, faults=faults)
    run_once(
        store,
        Program(),
        host_of(folder, keyed),
        clock,
        until,
        engine=ENGINE,
        attributes=attributes,
        runner=DirectRunner(),
        faults=faults,
        live_block=15,
        replay_block=15,
        cache_bytes=20_000,
    )


# ---------------------------------------------------------------- lives


@dataclass
class Tally:
    """What was done so far."""

    kills: int = 0
    scenarios: int = 0
    unknown: int = 0
    points: Counter = field(default_factory=Counter)


def fork(work: Callable[[points.Faults], None], faults: points.Faults = points.none) -> int:
    """A process of its own for `work`; its number. Exit code 0 if the work was done."""
    gc.collect()
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work(faults)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(child: int, patience: float | None) -> int | None:
    """Waits up to so many seconds for a child; its status, None if it still lives."""
    end = None if patience is None else time.monotonic() + patience
    while True:
        done, status = os.waitpid(child, 0 if end is None else os.WNOHANG)
        if done:
            return status
        if time.monotonic() >= end:
            return None
        time.sleep(0.0005)


def dies_at(point: str, visit: int) -> points.Faults:
    """Kills its own process at the n-th visit of a point."""
    left = [visit]

    def faults(here: str) -> None:
        if here == point:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return faults


def live_until_done(work: Callable[[points.Faults], None], plan: Iterator[tuple[str, float]], tally: Tally) -> None:
    """Lives of `work` until one ends by itself. The plan says how each is killed: ("", seconds) or (point, visit)."""
    while True:
        point, number = next(plan)
        child = fork(work, dies_at(point, int(number)) if point else points.none)
        status = ended(child, None if point else number)
        if status is None:
            os.kill(child, signal.SIGKILL)
            status = ended(child, None)
        if os.WIFSIGNALED(status):
            tally.kills += 1
            tally.points[point or "random moment"] += 1
        elif os.WEXITSTATUS(status) == 0:
            return
        else:
            raise AssertionError("a life ended with an error")


def at_random(seed: int, longest: float) -> Iterator[tuple[str, float]]:
    n = 0
    while True:
        n += 1
        yield "", chance(seed, n) * longest


def at_points(seed: int, longest: float) -> Iterator[tuple[str, float]]:
    """Each point in turn, at the 1st, 2nd, 4th … visit; then at random, so that a scenario ends."""
    for number in range(3):
        for index in range(len(points.POINTS)):
            yield points.POINTS[(index + seed) % len(points.POINTS)], 1 + int(chance(seed, index, number) * 4**number)
    yield from at_random(seed, longest * 4)


# ---------------------------------------------------------------- scenarios


@dataclass(frozen=True)
class Kind:
    """replay: import, then play history. live: an import and a run at the same time, on the wall's time; `keyed`: the
    provider's."""

    name: str
    live: bool
    keyed: bool


KINDS = (Kind("replay", False, False), Kind("replay, keys", False, True), Kind("live", True, False))


def begin(folder: Path, kind: Kind) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_history(folder / "events.jsonl", tuple(name for name in NAMES if not (kind.live and name == "refer")))


def play(folder: Path, kind: Kind, plan: Iterator[tuple[str, float]], tally: Tally) -> None:
    """One scenario from an empty folder to its end."""
    begin(folder, kind)
    if not kind.live:
        live_until_done(lambda faults: importing(folder, faults, SystemClock()), plan, tally)
        live_until_done(lambda faults: running(folder, faults, SystemClock(), kind.keyed, UNTIL), plan, tally)
        return
    # An import that is killed again and again beside a run that is: one lives while the other dies.
    for round in range(1_000):
        point = ("record.before_commit", "record.after_commit", points.BATCH_READ)[round % 3]
        faults = dies_at(point, 1 + int(chance(tally.scenarios, round) * 8)) if round < 6 else points.none
        importer = fork(lambda faults: importing(folder, faults, VirtualClock(START)), faults)
        live_until_done(lambda faults: running(folder, faults, VirtualClock(START), kind.keyed, None), plan, tally)
        status = ended(importer, None)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, "an import ended with an error"
            break
        tally.kills += 1
        tally.points["import beside a run"] += 1
    for days in (0, 4, 8):
        live_until_done(
            lambda faults, now=START + days * DAY: running(folder, faults, VirtualClock(now), kind.keyed, None), plan, tally
        )


@dataclass
class Picture:
    """What a scenario leaves."""

    states: dict
    journals: dict
    log: dict
    effects: dict


def look(folder: Path) -> Picture:
    store = SqliteStore(folder / "camp.db")
    assert store.check() == []
    ids = store.contact_ids(limit=10_000)
    picture = Picture(
        {id: (row.state, row.wake_at) for id, row in store.contacts(ids).items()},
        {id: [row.decision for row in store.journal_of(id)] for id in ids},
        {row.cause.id: row.status for id in ids for row in store.events_of(id, 100_000)},
        {effect.id: effect.state for effect in store.effects(limit=100_000)},
    )
    counts = store.counts()
    assert sum(counts.events.values()) == len(picture.log) and counts.decisions == sum(map(len, picture.journals.values()))
    store.close()
    return picture


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def judge(folder: Path, kind: Kind, expected: Picture, tally: Tally, kills: int) -> None:
    """Raises AssertionError if an invariant does not hold."""
    picture = look(folder)
    acknowledged = max(map(int, lines(folder / "acknowledged")))
    assert acknowledged == EVENTS and all(f"e{n}" in picture.log for n in range(acknowledged)), "an acknowledged event is lost"
    assert picture.log == expected.log and "new" not in picture.log.values(), "the log differs"
    assert picture.states == expected.states, "states differ"
    assert picture.journals == expected.journals, "journals differ"
    assert set(picture.effects) == set(expected.effects), "effects differ"
    got = Counter(lines(folder / "provider"))
    unknown = {id for id, state in picture.effects.items() if state == "unknown"}
    accepted = {id for id, state in picture.effects.items() if state == "accepted"}
    assert not got or max(got.values()) == 1, "handed over twice"
    assert accepted <= set(got) <= accepted | unknown and accepted | unknown == set(picture.effects), (
        "the provider and the outbox disagree"
    )
    assert len(unknown) <= (0 if kind.keyed else kills), "unknown without a kill"
    tally.unknown += len(unknown)


def campaign(root: Path, kills: int, seed: int, say: Callable[[str], None] = lambda text: None) -> Tally:
    """Scenarios until so many processes were killed. A failure names its seed and keeps its folder."""
    logging.getLogger("camp").setLevel(logging.CRITICAL)
    tally = Tally()
    expected, longest = {}, {}
    for kind in KINDS:
        begun = time.monotonic()
        play(root / "expected", kind, iter(lambda: ("nowhere", 1.0), None), Tally())
        longest[kind] = (time.monotonic() - begun) * 0.6
        expected[kind] = look(root / "expected")
    while tally.kills < kills:
        kind, before = KINDS[tally.scenarios % len(KINDS)], tally.kills
        plan = (at_points if tally.scenarios // len(KINDS) % 2 == 0 else at_random)(seed, longest[kind])
        folder = root / "scenario"
        try:
            play(folder, kind, plan, tally)
            judge(folder, kind, expected[kind], tally, tally.kills - before)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, {kind.name}, {folder}: {error}") from error
        tally.scenarios += 1
        seed += 1
        say(f"{tally.kills} kills, {tally.scenarios} scenarios, {tally.unknown} unknown")
    return tally
