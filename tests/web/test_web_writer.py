"""Group commit: what is acknowledged is durable, what fails is told, what is kept is written when it can be."""

from __future__ import annotations

import asyncio
import threading

from rules_engine.clock import VirtualClock
from rules_engine.facts import Event
from rules_engine.service.web.writer import Writer
from rules_engine.store.port import Arrival, StoreError
from rules_engine.store.sqlite import SqliteStore
from tests.web.failing import FailingStore


def arrival(id, **data):
    return Arrival(Event(id, "tick", "ana", 1, None, data))


class Gate:
    """A store whose writing waits until the gate is open, or fails."""

    def __init__(self, path):
        self._store, self.open, self.batches, self.error = SqliteStore(path), threading.Event(), [], None

    def record_events(self, arrivals):
        self.open.wait(5)
        self.batches.append(len(arrivals))
        if self.error is not None:
            raise self.error
        return self._store.record_events(arrivals)

    def __getattr__(self, name):
        return getattr(self._store, name)


def test_all_who_wait_share_a_commit_and_each_learns_its_own_fate(tmp_path):
    # The store is opened in the writer's thread, as SQLite demands.
    gates = []
    made = Writer(lambda: gates.append(Gate(tmp_path / "camp.db")) or gates[0].open.set() or gates[0], VirtualClock(1_000))
    hold = threading.Event()
    write, made._write = made._write, lambda jobs: (hold.wait(5), write(jobs))

    async def run():
        first = made.submit([arrival("0")])
        made.start()
        await asyncio.sleep(0.1)
        others = [made.submit([arrival(str(n)), arrival("same", n=n % 2)]) for n in range(1, 11)]
        assert not first.done() and made.waiting == 20
        hold.set()
        return await first, await asyncio.gather(*others)

    first, others = asyncio.run(run())
    assert [fate.status for fate in first] == ["accepted"] and gates[0].batches == [1, 20]
    assert [fates[0].status for fates in others] == ["accepted"] * 10
    assert [fates[1].status for fates in others] == ["accepted", "conflict"] + ["duplicate", "conflict"] * 4
    made.close()


def test_a_bad_value_costs_only_its_own_item(tmp_path):
    made = Writer(lambda: SqliteStore(tmp_path / "camp.db"), VirtualClock(1_000))
    made.start()

    async def run():
        bad = Arrival(Event("bad", "tick", "ana", 1 << 70))
        return await asyncio.gather(made.submit([arrival("1"), bad]), made.submit([arrival("2")]))

    one, two = asyncio.run(run())
    assert [fate.status for fate in (*one, *two)] == ["accepted", "rejected", "accepted"] and "stored" in one[1].reason
    made.close()


def test_what_fails_is_told_and_what_is_kept_comes_later(tmp_path):
    state = {"fail": True}

    made = Writer(lambda: FailingStore(tmp_path / "camp.db", state), VirtualClock(1_000))
    made.start()

    async def run():
        results = await asyncio.gather(made.submit([arrival("lost")]), made.submit([arrival("kept")], keep=True), return_exceptions=True)
        assert all(isinstance(result, StoreError) for result in results) and made.trouble is not None
        await asyncio.sleep(0.3)
        state["fail"] = False
        for _ in range(100):
            if made.trouble is None:
                return
            await asyncio.sleep(0.05)

    asyncio.run(run())
    made.close()
    assert [row.cause.id for row in SqliteStore(tmp_path / "camp.db").read_log(0, 9)] == ["kept"]


def test_after_a_write_that_failed_only_a_write_makes_it_ready_again(tmp_path):
    state = {"fail": False}
    made = Writer(lambda: FailingStore(tmp_path / "camp.db", state), VirtualClock(1_000))

    async def run():
        made.submit([arrival("1")])
        return made._gather()

    jobs = asyncio.run(run())
    state["fail"] = True
    made._write([job._replace(future=None) for job in jobs])
    made._look()
    assert made.trouble is not None, "a full disk can be locked and read"
    state["fail"] = False
    made._look()
    assert made.trouble is None


def test_an_end_drains_the_queue(tmp_path):
    made = Writer(lambda: SqliteStore(tmp_path / "camp.db"), VirtualClock(1_000))

    async def run():
        for n in range(1_200):
            made.submit([arrival(str(n))])

    asyncio.run(run())
    made.start()
    made.close()
    assert len(SqliteStore(tmp_path / "camp.db").read_log(0, 5_000)) == 1_200 and not made._thread.is_alive()


def test_the_queue_is_bounded(tmp_path):
    made = Writer(lambda: SqliteStore(tmp_path / "camp.db"), VirtualClock(1_000), max_queue=10)

    async def run():
        made.submit([arrival(str(n)) for n in range(10)])

    asyncio.run(run())
    assert "waiting" in made.full()
    made.start()
    made.close()
    assert made.full() == ""


def test_visits_have_the_first_half_of_the_queue(tmp_path):
    made = Writer(lambda: SqliteStore(tmp_path / "camp.db"), VirtualClock(1_000), max_queue=10)

    async def run():
        made.submit([arrival(str(n)) for n in range(4)])
        assert made.takes_visits()
        made.submit([arrival("4")])
        assert not made.takes_visits() and made.full() == ""

    asyncio.run(run())
    made.start()
    made.close()
    assert made.takes_visits()


def test_what_is_kept_is_bounded_and_the_newest_stay(tmp_path, monkeypatch):
    monkeypatch.setattr("rules_engine.service.web.writer.MAX_KEPT_VISITS", 5)
    made = Writer(lambda: SqliteStore(tmp_path / "camp.db"), VirtualClock(1_000))

    async def run():
        jobs = []
        for n in range(8):
            made.submit([arrival(str(n))], keep=True)
            jobs.append(made._jobs.get())
        made._keep(jobs)

    asyncio.run(run())
    assert made.dropped == 3 and [job.arrivals[0].cause.id for job in made._kept] == ["3", "4", "5", "6", "7"]
