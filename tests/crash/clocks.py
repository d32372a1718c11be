"""Clocks that jump: forwards by hours and days, backwards, or standing still, between and within turns, and over restarts of the service.

The machine's time is a script; `SystemClock` reads it. Facts arrive at its will through a connection with a clock of its own, as from another
process. What the store was told is written down block by block, and a plain reference plays it again: each contact's facts in order of
arrival at the log's time, each timer at its own moment. Whatever the clock did, the journal and the states must be the reference's: no timer
is early, lost, or fires twice; and no block's time may be later than the latest moment that any clock has shown.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rules_engine import clock as clocks
from rules_engine.clock import SystemClock
from rules_engine.engine import advance, new_state
from rules_engine.facts import Wake
from rules_engine.service.loop import Stop, run_forever
from rules_engine.store import codec
from rules_engine.store.port import Block, LogRow
from rules_engine.store.sqlite import SqliteStore
from tests.crash import world
from tests.crash.cuts import memory
from tests.crash.invariants import Handed, Picture, Truth, broken, look
from tests.crash.world import DAY, HOUR, START, chance

MINUTE = 60_000
NAP = 3 * HOUR  # how far the machine's time goes on while the service sleeps once
STEPS = (HOUR, 6 * HOUR, 3 * DAY, 12 * DAY, -HOUR, -HOUR, -6 * HOUR, -3 * DAY)  # an hour: also what a naive local clock does twice a year
FACTS, CONTACTS, NAPS = 60, 4, 130


class Machine:
    """Stands in for the module `time` in `rules_engine.clock`. jumps: number of the reading -> by how much the time is changed before it."""

    def __init__(self, jumps: dict[int, int]) -> None:
        self._now, self._jumps, self.readings, self.latest = START, jumps, 0, START
        self.still = 0  # naps during which the time stands still
        self.on_nap: Callable[[], None] = lambda: None

    def time_ns(self) -> int:
        self.readings += 1
        self._now += self._jumps.pop(self.readings, 0)
        self.latest = max(self.latest, self._now)
        return self._now * 1_000_000

    def sleep(self, seconds: float) -> None:
        if self.still:
            self.still -= 1
        else:
            self._now += NAP
        self.on_nap()

    def move_to(self, now: int) -> None:
        self._now = max(self._now, now)


class Recorder(SqliteStore):
    """Writes down what each block did, and looks whether it is ahead of every clock."""

    scene: Scene

    def commit(self, block: Block) -> None:
        super().commit(block)
        self.scene.blocks.append(block)
        if (block.clock or 0) > self.scene.machine.latest:
            self.scene.early.append(f"a block of {block.clock}, and no clock has shown more than {self.scene.machine.latest}")


@dataclass
class Scene:
    """One script."""

    seed: int
    machine: Machine
    blocks: list[Block] = field(default_factory=list)
    handed: list[Handed] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    restarts: int = 0


def play(folder: Path, seed: int) -> list[str]:
    """One script to its end; what is broken."""
    shutil.rmtree(folder, ignore_errors=True)
    world.write_templates(folder)
    jumps = {int(chance(seed, "when", n) * 660): STEPS[int(chance(seed, "step", n) * len(STEPS))] for n in range(int(chance(seed) * 8))}
    scene = Scene(seed, Machine(jumps))
    usual, clocks.time = clocks.time, scene.machine
    try:
        facts = _live(folder, scene)
        return _judge(folder, scene, facts)
    finally:
        clocks.time = usual


def _live(folder: Path, scene: Scene) -> list[Any]:
    """The service, restarted now and then, while facts arrive; then time enough for all that is left."""
    machine, seed = scene.machine, scene.seed
    facts = world.facts(FACTS, CONTACTS, seed)
    waiting = list(facts)
    client = SqliteStore(folder / "camp.db", SystemClock())
    naps = [0]
    while naps[0] <= NAPS:
        stop = Stop()

        def nap(stop: Stop = stop) -> None:
            naps[0] += 1
            if waiting and naps[0] < NAPS and chance(seed, "arrive", naps[0]) < 0.5:
                now = world.arrivals(waiting[:3])
                del waiting[:3]
                client.record_events(now)
            if chance(seed, "still", naps[0]) < 0.03:
                machine.still = 10
            if chance(seed, "restart", naps[0]) < 0.04 or naps[0] > NAPS:
                stop()
            if naps[0] == NAPS:
                client.record_events(world.arrivals(waiting))
                machine.move_to(machine.latest + 40 * DAY)
            if naps[0] > 20 * NAPS:
                raise AssertionError("the service does not come to an end")

        machine.on_nap = nap
        _serve(folder, scene, stop)
        scene.restarts += 1
    stop = Stop()
    machine.on_nap = stop
    _serve(folder, scene, stop)
    client.close()
    return facts


def _serve(folder: Path, scene: Scene, stop: Stop) -> None:
    clock = SystemClock()
    store = Recorder(folder / "camp.db", clock)
    store.scene = scene

    def took(call: Any) -> None:
        scene.handed.append(Handed(call.key, clock.now()))
        channel = call.action.partition(".")[0]
        told = [row.seq for row in store.events_of(call.contact["id"]) if getattr(row.cause, "name", "") == f"{channel}.unsubscribed"]
        if told:  # facts arrive while the service sleeps: the claim saw what we see
            scene.early.append(f"{call.key} was handed over though row {told[0]} of the log says unsubscribed")

    run_forever(store, world.program(), world.host(took, remote=True), clock, stop=stop, **{**world.options(folder), "live_block": 7})
    store.close()


def _judge(folder: Path, scene: Scene, facts: list[Any]) -> list[str]:
    store = SqliteStore(folder / "camp.db", SystemClock())
    now = store.position().clock
    oracle = reference(store, scene.blocks)
    picture = look(store)
    oracle.effects, oracle.log = picture.effects, picture.log
    said = scene.early + broken(store, Truth(facts, scene.handed, oracle=oracle, live=True, steady=False, now=now, deaths=0))
    store.close()
    return said


def reference(store: SqliteStore, blocks: list[Block]) -> Picture:
    """What the facts lead to, one contact after the other and one timer after the other, at the log's time as the blocks had it."""
    rows = _rows(store)
    states: dict[str, Any] = {}
    wakes: dict[str, int | None] = {}
    found = Picture()

    def call(contact: str, cause: Any, now: int) -> None:
        state = states.get(contact) or codec.dump(new_state(contact, now))
        answer = advance(world.program(), codec.load(state), cause, now)
        states[contact], wakes[contact] = codec.dump(answer.state), answer.wake_at
        found.journals.setdefault(contact, []).extend(answer.decisions)

    def catch_up(contact: str, now: int) -> None:
        while (at := wakes.get(contact)) is not None and at <= now:
            call(contact, Wake(contact, at), at)

    at = 0
    for block in blocks:
        for seq in block.done:
            row = rows[seq]
            at = max(at, row.received)
            catch_up(row.cause.contact, at)
            call(row.cause.contact, row.cause, at)
        at = max(at, block.clock or 0)
    for contact in list(states):
        catch_up(contact, at)
    for contact, rest in store.contacts(list(states)).items():
        found.states[contact] = (_without_clock(rest.state, states[contact]), wakes[contact])
    return found


def _without_clock(stored: bytes, mine: bytes) -> bytes:
    """A spurious wake-up moves a state's clock and nothing else (law 2)."""
    theirs, own = codec.load(stored), codec.load(mine)
    return stored if {**theirs, "k": 0} == {**own, "k": 0} else mine


def _rows(store: SqliteStore) -> dict[int, LogRow]:
    return {row.seq: row for contact in store.contact_ids(limit=100_000) for row in store.events_of(contact, 100_000)}


def campaign(count: int, seed: int = 1, say: Callable[[str], None] = lambda text: None,
             enough: Callable[[], bool] = lambda: False) -> tuple[int, list[str]]:
    """So many scripts, or until it is enough; how many, and what is broken, each with its seed."""
    logging.getLogger("camp").setLevel(logging.CRITICAL)
    root, lost, done = memory(), [], 0
    try:
        for number in range(seed, seed + count):
            if enough():
                break
            done += 1
            lost += [f"seed {number}: {text}" for text in play(root / "run", number)]
            say(f"{number - seed + 1} scripts, {len(lost)} broken")
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return done, lost
