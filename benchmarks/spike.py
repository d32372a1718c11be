"""A spike: 200,000 people are due at the same minute, and a THROTTLE says how many of their messages may leave in a minute.

First the wake-ups: all timers fire, each durable (state, decisions, effect). The floor writes the rows that Camp wrote, in the same
transactions, with `executemany`. Then the outbox: a provider that does nothing takes what the throttle lets through, on a clock that
jumps by a beat of an idle service; counted are CPU per hand-over, how often an effect is looked at, the most that left within any
minute, and how long it took against the time that the rate alone asks for.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__" and __spec__ is None:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.measure import child, figure, table, timed
from benchmarks.recorder import Recorder, open_durable, row_count, write_floor
from rules_engine import host
from rules_engine.actions import Outcome
from rules_engine.clock import VirtualClock
from rules_engine.facts import ContactChange
from rules_engine.model import meaning
from rules_engine.plan import compile_model
from rules_engine.runtime.calendar import parse_datetime
from rules_engine.service.loop import POLL, Service
from rules_engine.service.runner import DirectRunner
from rules_engine.store import open_store
from rules_engine.store.port import SOURCE_CONTACTS, Arrival
from rules_engine.syntax.read import read

PEOPLE = 200_000
RATE = 6_000  # a minute
CHUNK = 5_000
MINUTE = 60_000
TEXT = """
WORKSPACE
  TIMEZONE "Europe/Prague"
END
SEGMENT everyone IS contact.email IS SET
CAMPAIGN morning
  THROTTLE {rate} PER minute
  WHEN contact ENTERS everyone
    AFTER 1 day AT 09:00
    THEN email.send "morning"
END
"""


class Spike:
    """A store with everybody waiting for 09:00."""

    def __init__(self, folder: Path, people: int) -> None:
        self.people = people
        self.clock = VirtualClock(parse_datetime("2026-03-02 12:00", "Europe/Prague"))
        self.store = open_store(folder / "camp.db", self.clock)
        plugins = host.load()
        file, _ = read(TEXT.format(rate=RATE), "spike.camp")
        program = compile_model(meaning.build([file], plugins.actions, plugins.events), plugins.actions, "spike")
        action = dataclasses.replace(plugins.actions["email.send"], perform=lambda call: Outcome("accepted"))
        plugins = dataclasses.replace(plugins, actions={**plugins.actions, "email.send": action})
        self.service = Service(self.store, program, plugins, self.clock, runner=DirectRunner())
        for first in range(0, people, CHUNK):
            now = self.clock.now()
            self.store.record_events(
                [
                    Arrival(ContactChange(f"i{n}", f"c{n}", now, {"email": f"c{n}@example.com"}), SOURCE_CONTACTS)
                    for n in range(first, min(first + CHUNK, people))
                ]
            )
            self.wake()
        self.clock.move_to(parse_datetime("2026-03-04 09:00", "Europe/Prague"))

    def wake(self) -> None:
        """Everything that the log and the clock ask for."""
        while self.service.pump.live(self.clock) is not None:
            pass

    def drain(self) -> int:
        """Hands over everything, as the throttle allows; how many claims it took."""
        turns = 0
        dispatcher = self.service.dispatcher
        while True:
            turns += 1
            if dispatcher.turn() is not None:
                continue
            due = self.store.next_effect()
            if due is None:
                return turns
            self.clock.move_to(max(due, self.clock.now() + POLL))


def spike(folder: Path, people: int) -> dict:
    """Both halves, timed."""
    world = Spike(folder, people)
    _, waking = timed(world.wake)
    looked = [0]
    claim = world.store.claim_effects

    def counting(due, now, limit, judge, full=()):
        def judged(candidate):
            looked[0] += 1
            return judge(candidate)

        return claim(due, now, limit, judged, full)

    world.store.claim_effects = counting
    begun = world.clock.now()
    _, draining = timed(world.drain)
    took = (world.clock.now() - begun) / MINUTE
    times = [at for (at,) in world.store._db.rows("SELECT claimed_at FROM effect ORDER BY claimed_at")]
    states = world.store.counts().effects
    world.store.close()
    return {
        "wake_s": people / waking.wall,
        "wake_us": waking.cpu / people * 1e6,
        "wall": waking.wall,
        "out_s": people / draining.wall,
        "out_us": draining.cpu / people * 1e6,
        "looks": looked[0] / people,
        "most": most_in_a_minute(times),
        "minutes": took,
        "ideal": people / RATE,
        "states": states,
    }


def most_in_a_minute(times: list[int]) -> int:
    """The most of sorted moments (ms) within any span of a minute."""
    most = first = 0
    for index, at in enumerate(times):
        while times[first] <= at - MINUTE:
            first += 1
        most = max(most, index - first + 1)
    return most


def floor(folder: Path, people: int) -> dict:
    """The rows of the wake-ups again, with nothing but `executemany`."""
    world = Spike(folder, people)
    copy = open_durable(folder / "copy.db")
    world.store._db.raw.backup(copy)
    recorder = Recorder(world.store._db.raw)
    world.wake()
    transactions = recorder.stop()
    world.store.close()
    copy.execute("PRAGMA foreign_keys = OFF")
    _, timing = timed(lambda: write_floor(copy, transactions))
    return {"wake_s": people / timing.wall, "wake_us": timing.cpu / people * 1e6, "wall": timing.wall, "rows": row_count(transactions)}


SIDES = {"camp": spike, "floor": floor}


def measure_one(side: str, people: int) -> dict:
    """In the child, in a folder that is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="camp-bench-"))
    try:
        return SIDES[side](folder, people)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(people: int = PEOPLE) -> dict:
    """{side: figures}."""
    found = {}
    for side in SIDES:
        print(f"  spike, {side}", file=sys.stderr, flush=True)
        found[side] = child("benchmarks.spike", side, people)
    return found


def report(found: dict) -> str:
    """Two tables."""
    camp, least = found["camp"], found["floor"]
    if "missing" in camp or "missing" in least:
        return str(found)
    wakes = table(
        ["Wake-ups of one minute", "timers/s", "CPU µs per timer", "Camp takes"],
        [
            ["Floor: Camp's rows", f"{least['wake_s']:,.0f}", figure(least["wake_us"]), f"{figure(camp['wall'] / least['wall'])}×"],
            ["Camp", f"{camp['wake_s']:,.0f}", figure(camp["wake_us"]), "1.00×"],
        ],
    )
    out = table(
        [f"Drained at {RATE:,} a minute", "hand-overs/s of real time", "CPU µs each", "looks each", "most in a minute", "minutes ÷ ideal"],
        [
            [
                "Camp",
                f"{camp['out_s']:,.0f}",
                figure(camp["out_us"]),
                figure(camp["looks"]),
                f"{camp['most']:,}",
                f"{figure(camp['minutes'])} ÷ {figure(camp['ideal'])} = {figure(camp['minutes'] / camp['ideal'])}×",
            ]
        ],
    )
    return f"{wakes}\n\n{out}\n\nOutbox afterwards: {camp['states']}; rows written for the wake-ups: {least['rows']:,}."


def main() -> None:
    """Print the tables, or one measurement as JSON for the parent process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--people", type=int, default=PEOPLE)
    options = parser.parse_args()
    if options.child:
        side, people = options.child
        print(json.dumps(measure_one(side, int(people))))
    else:
        print(report(measure(options.people)))


if __name__ == "__main__":
    main()
