"""All runs of one seed: without faults, with those that must not matter, with all of them, and the last one twice."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.simulation.invariants import broken, differences
from tests.simulation.world import World

PEOPLE = 8
MEMORY = Path("/dev/shm")  # where the file is made, if there is such a place: no power is cut here


def one_seed(seed: int, days: int, people: int, tally: Counter) -> list[str]:
    """Everything that is broken, in sentences. Odd seeds: the compared run on SQLite, the wild one in memory; even: the other way round."""
    with _silence():
        try:
            return _all_runs(seed, days, people, tally)
        except Exception as error:  # a seed that breaks the harness or the engine is named like any other
            return [f"{type(error).__name__}: {error}"]


def _all_runs(seed: int, days: int, people: int, tally: Counter) -> list[str]:
    found = []
    with _world(seed, days, people, "faultless", False, tally) as faultless:
        found += [f"faultless: {sentence}" for sentence in broken(faultless)]
        with _world(seed, days, people, "same", seed % 2 == 1, tally) as same:
            found += [f"same: {sentence}" for sentence in broken(same) + differences(faultless, same)]
    digests = []
    for _ in range(2):
        with _world(seed, days, people, "wild", seed % 2 == 0, tally) as wild:
            digests.append(wild.digest())
            if len(digests) == 1:
                found += [f"wild: {sentence}" for sentence in broken(wild)]
    if len(set(digests)) != 1:
        found.append(f"wild: the same seed twice gives two dumps, {digests}")
    return found


@contextlib.contextmanager
def _world(seed: int, days: int, people: int, kind: str, sqlite: bool, tally: Counter) -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="camp-simulation-", dir=MEMORY if MEMORY.is_dir() else None)) if sqlite else None
    world = World(seed, days, people, kind, folder)
    try:
        yield world.run()
        counts = world.store.counts()
        tally.update(world.tally)
        tally["runs"] += 1
        tally["runs on " + ("SQLite" if sqlite else "the store in memory")] += 1
        tally["decisions"] += counts.decisions
        tally["hand-overs begun"] += len(world.provider.calls)
        for state, count in counts.effects.items():
            tally[f"effects {state}"] += count
    finally:
        world.close()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The service says what goes wrong in its log; here that is everything."""
    logger = logging.getLogger("camp")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
