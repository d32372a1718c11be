"""Kills a real process at random moments and at each named point, starts it again until it is done, and looks at what is left.

A life is a forked process that imports files, or plays the shop of `world` through pump and dispatcher on a SQLite file. Killing a process
proves nothing about power cuts: what the system has taken from it survives (`cuts` is about those). After each scenario the `invariants`
must hold, the journal and the states equal those of a run that nobody killed, and nothing may be unknown that was not being handed over
when a life ended.
"""

from __future__ import annotations

import gc
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
from functools import partial
from pathlib import Path

from rules_engine.clock import SystemClock, VirtualClock
from rules_engine.service import faults as points
from rules_engine.service.loop import Stop, run_forever, run_once
from rules_engine.store.sqlite import SqliteStore
from tests.crash import world
from tests.crash.invariants import Handed, Picture, Truth, broken, look
from tests.crash.world import END, HOUR, START, append, chance, lines

EVENTS, CONTACTS = 120, 10
GRID = 4 * HOUR  # how far the clock of a service that sleeps moves
SIZES = {"live_block": 15, "replay_block": 15, "cache_bytes": 20_000}


class GridClock:
    """Stands still while there is work, and moves to the next point of a grid when the service sleeps; a later life goes on where it
    stood. At the end it asks the service to stop."""

    def __init__(self, file: Path, stop: Stop, end: int) -> None:
        self._file, self._stop, self._end = file, stop, end
        self._now = max(map(int, lines(file)), default=START)

    def now(self) -> int:
        return self._now

    def sleep(self, milliseconds: int) -> None:
        if self._now >= self._end:
            self._stop()
            return
        self._now += GRID
        append(self._file, str(self._now))


def importing(folder: Path, faults: points.Faults, clock: object) -> None:
    """Imports the files; each acknowledgement is noted after it was given."""
    store = SqliteStore(folder / "camp.db", clock, faults=faults)
    world.importing(store, folder, partial(append, folder / "acknowledged"), faults)


def running(folder: Path, faults: points.Faults, clock: object, until: int | None) -> None:
    """Does all that is to be done."""
    store = SqliteStore(folder / "camp.db", clock, faults=faults)
    host = world.host(lambda call: append(folder / "provider", call.key))
    run_once(store, world.program(), host, clock, until, faults=faults, **SIZES, **world.options(folder))


def serving(folder: Path, faults: points.Faults, end: int, threads: bool) -> None:
    """The service itself, until its clock says `end`."""
    stop = Stop()
    clock = GridClock(folder / "clock", stop, end)
    store = SqliteStore(folder / "camp.db", clock, faults=faults)
    host = world.host(lambda call: append(folder / "provider", call.key))
    options = {**world.options(folder), **({"runner": None} if threads else {})}
    run_forever(store, world.program(), host, clock, faults=faults, stop=stop, **SIZES, **options)


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
    """replay: import, then play history. live: an import and a run at the same time, on the wall's time, then the service for forty days.
    steps: days of the service and imports in turn. threads: plugins are called beside each other, as in production."""

    name: str
    steps: int = 0
    live: bool = True
    threads: bool = False


KINDS = (Kind("replay", live=False), Kind("live", 1), Kind("steps", 5), Kind("threads", 5, threads=True))
WORKERS = 16  # hand-overs of a service with threads that one death may leave in doubt
STEP = 3 * world.DAY


def begin(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def play(folder: Path, kind: Kind, plan: Iterator[tuple[str, float]], tally: Tally) -> None:
    """One scenario from an empty folder to its end."""
    begin(folder)
    contacts = world.contact_records(CONTACTS)
    if not kind.live:
        world.write_files(folder, world.event_records(EVENTS, CONTACTS), contacts)
        live_until_done(lambda faults: importing(folder, faults, SystemClock()), plan, tally)
        live_until_done(lambda faults: running(folder, faults, SystemClock(), END), plan, tally)
        return
    if kind.steps == 1:
        world.write_files(folder, world.event_records(EVENTS, CONTACTS, begin=START - world.SPAN), contacts)
        beside(folder, plan, tally)
    records = sorted(world.event_records(EVENTS, CONTACTS), key=lambda record: record["at"])
    for step in range(kind.steps if kind.steps > 1 else 0):
        now = START + (step + 1) * STEP
        world.write_files(folder, [record for record in records if record["at"] <= world.moment(now)], contacts)
        live_until_done(lambda faults, now=now: importing(folder, faults, VirtualClock(now)), plan, tally)
        append(folder / "clock", str(now))
        live_until_done(lambda faults, now=now: serving(folder, faults, now + STEP, kind.threads), plan, tally)
    live_until_done(lambda faults: serving(folder, faults, END, kind.threads), plan, tally)


def beside(folder: Path, plan: Iterator[tuple[str, float]], tally: Tally) -> None:
    """An import that is killed again and again beside a run that is: one lives while the other dies."""
    for round in range(1_000):
        point = ("record.before_commit", "record.after_commit", points.BATCH_READ)[round % 3]
        faults = dies_at(point, 1 + int(chance(tally.scenarios, round) * 8)) if round < 6 else points.none
        importer = fork(lambda faults: importing(folder, faults, VirtualClock(START)), faults)
        live_until_done(lambda faults: running(folder, faults, VirtualClock(START), None), plan, tally)
        status = ended(importer, None)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, "an import ended with an error"
            break
        tally.kills += 1
        tally.points["import beside a run"] += 1
    live_until_done(lambda faults: running(folder, faults, VirtualClock(START), None), plan, tally)


def judge(folder: Path, kind: Kind, oracle: Picture | None, tally: Tally, deaths: int) -> Picture:
    """Raises AssertionError if an invariant does not hold."""
    store = SqliteStore(folder / "camp.db")
    picture = look(store)
    handed = [Handed(key) for key in lines(folder / "provider")]
    handed += world.in_folder(folder, [(row.id, row.contact) for row in picture.effects.values()])
    kept = world.acknowledged(folder)
    truth = Truth(kept, handed, oracle=oracle, live=kind.live, now=END, deaths=deaths, workers=WORKERS if kind.threads else 1)
    said = broken(store, truth)
    store.close()
    assert len(kept) == len(lines(folder / "events.jsonl")), "not everything was imported"
    assert not said, "; ".join(said[:5])
    tally.unknown += sum(row.state == "unknown" for row in picture.effects.values())
    return picture


def campaign(root: Path, kills: int, seed: int, say: Callable[[str], None] = lambda text: None, kinds: tuple[Kind, ...] = KINDS,
             enough: Callable[[], bool] = lambda: False) -> Tally:
    """Scenarios until so many processes were killed, or it is enough. A failure names its seed and keeps its folder."""
    logging.getLogger("camp").setLevel(logging.CRITICAL)
    world.program().warm()
    gc.collect()
    gc.freeze()  # forked lives share it
    tally = Tally()
    oracles: dict[Kind, Picture] = {}
    longest: dict[Kind, float] = {}
    for kind in kinds:
        begun = time.monotonic()
        play(root / "oracle", kind, iter(lambda: ("nowhere", 1.0), None), Tally())
        longest[kind] = (time.monotonic() - begun) * 0.6 / max(kind.steps, 1)
        oracles[kind] = judge(root / "oracle", kind, None, Tally(), 0)
    while tally.kills < kills and not enough():
        kind, before = kinds[tally.scenarios % len(kinds)], tally.kills
        plan = (at_points if tally.scenarios // len(kinds) % 2 == 0 else at_random)(seed, longest[kind])
        folder = root / "scenario"
        try:
            play(folder, kind, plan, tally)
            judge(folder, kind, oracles[kind], tally, tally.kills - before)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, {kind.name}, {folder}: {error}") from error
        tally.scenarios += 1
        seed += 1
        say(f"{tally.kills} kills, {tally.scenarios} scenarios, {tally.unknown} unknown")
    return tally
