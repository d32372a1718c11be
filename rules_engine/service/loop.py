"""The service around the pump and the dispatcher: once, or until a signal. Nothing is lost by ending it anywhere; a drain is only
tidier.

`schedule` is the bell: it says when to look, never what is due. What is due is in the store, so a bell that rings late, twice or
not at all changes nothing but the delay. Its two traps are closed here: an exception in one job (each is guarded), and a clock
set back (the bell is hung up anew when it would be silent for longer than its longest pause).
"""

from __future__ import annotations

import contextlib
import logging
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import schedule

from rules_engine.clock import Clock
from rules_engine.host import Host
from rules_engine.service import faults as points
from rules_engine.service import throttle
from rules_engine.service.dispatch import Attributes, Dispatcher
from rules_engine.service.leased import LeasedRunner
from rules_engine.service.logs import about
from rules_engine.service.notify import alive, notify
from rules_engine.service.pump import Engine, Pump, Turn
from rules_engine.service.runner import Runner, ThreadRunner
from rules_engine.service.sent import SentJournal
from rules_engine.service.spool import Spool
from rules_engine.service.throttle import Throttles
from rules_engine.store.port import Store, StoreError

log = logging.getLogger("camp.service")

POLL = 250  # ms: how long new rows of the log may wait for a sleeping service
LEFT = 25  # ms: how soon a sleeping service looks again at what is due and could not be done
HEARTBEAT_SECONDS = 1  # the bell rings at least so often; the loop itself looks every POLL
MAINTENANCE_SECONDS = 600
DRAIN = 30_000  # ms: how long the end waits for hand-overs that are under way; what is not back by then is `unknown` at the next start
LONGEST_PAUSE = 30_000  # ms between tries while the store is locked or the disk full


class Progress(NamedTuple):
    """How far a run is: events and wake-ups so far, hand-overs so far, the log time reached (ms)."""

    events: int
    wakes: int
    handed_over: int
    at: int


@dataclass(slots=True)
class RunSummary:
    """What a run did. `decisions`: (campaign or rule, kind, action, outcome) -> count. `effects`: outbox state reached -> count.
    `planned`: effects that the engine asked for. `unknown`: effects found in doubt at the start. `at`: the log time reached
    (ms). `failing`: plugin that is left alone at the end because it keeps failing -> until when (ms)."""

    events: int = 0
    wakes: int = 0
    set_aside: int = 0
    planned: int = 0
    decisions: Counter = field(default_factory=Counter)
    effects: Counter = field(default_factory=Counter)
    unknown: int = 0
    at: int = 0
    stopped: bool = False
    failing: dict[str, int] = field(default_factory=dict)

    def add(self, turn: Turn) -> None:
        """Counts a block."""
        self.events += turn.events
        self.wakes += turn.wakes
        self.set_aside += turn.set_aside
        self.planned += turn.effects
        self.decisions.update(turn.decisions)
        self.at = max(self.at, turn.at)


class Stop:
    """A wish to end; asked after each block and each hand-over."""

    def __init__(self) -> None:
        self.wanted = False

    def __call__(self, *_: object) -> None:
        self.wanted = True


class Service:
    """One program over one store, by one process: owns pump and dispatcher, and keeps the sum of what they did."""

    def __init__(
        self,
        store: Store,
        program: Any,
        host: Host,
        clock: Clock,
        *,
        sources: Mapping[str, str] | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        project: Path | None = None,
        engine: Engine | None = None,
        attributes: Attributes | None = None,
        runner: Runner | None = None,
        dispatch: bool = True,
        progress: Callable[[Progress], None] | None = None,
        stop: Stop | None = None,
        faults: points.Faults = points.none,
        sent: SentJournal | None = None,
        meter: Any = None,
        chores: Sequence[tuple[int, Callable[[], Any]]] = (),
        spool: Spool | None = None,
        **pump: Any,
    ) -> None:
        """Call it under the store's run lock: it recovers what a dead process left. sent: the send journal, where effects leave.
        meter: a `metrics.Meter`. spool: a folder of files to be imported. chores: (seconds, job) of what is done beside the work, each
        for a few milliseconds. pump: sizes for `Pump`.
        """
        self.summary, self.stop = RunSummary(), stop or Stop()
        self._beside = runner is None  # a runner that is given is called in turn: tests and simulations know then what comes when
        self._meter, self._spool, self.chores = meter, spool, tuple(chores)
        self._store, self._clock, self._progress, self._faults = store, clock, progress, faults
        if hasattr(program, "warm"):  # a test's program may be anything with a digest
            program.warm()
        self._program, self._sources, self._sent = program, sources or {}, sent
        self._make_pump = lambda: Pump(store, program, engine, faults=faults, **pump)
        real = engine is None
        make_runner = None
        if store.leases:
            runner = LeasedRunner(runner or ThreadRunner(), store.hold)
            make_runner = lambda: LeasedRunner(ThreadRunner(1), store.hold)  # noqa: E731
        self.dispatcher = (
            Dispatcher(
                store,
                host,
                clock,
                settings=settings,
                project=project,
                attributes=attributes,
                recheck=_recheck(program) if real else None,
                key_fields=_key_fields(program) if real else None,
                throttles=Throttles(throttle.of_program(program), throttle.of_settings(settings or {})),
                runner=runner,
                make_runner=make_runner,
                faults=faults,
                sent=sent,
                meter=meter,
            )
            if dispatch
            else None
        )
        self.begin()

    def begin(self) -> None:
        """From what the store says, at the start and when `Store.tend` says that it touches something else now. A worker without a shard
        changes nothing."""
        store, program = self._store, self._program
        self.waits = store.leases and not store.mine
        lost = self._sent.reconcile(store, self._clock.now()) if self._sent is not None and self.dispatcher is not None else []
        if not self.waits:
            store.record_program(program.digest, self._sources)
            store.rouse(program.digest, store.position().clock)
        self.pump = self._make_pump()
        self.summary.at = max(self.summary.at, self.pump.at)
        if self.dispatcher is not None and not self.waits:
            self.summary.unknown += len(lost) + len(self.dispatcher.recover())

    def work(self, until: int | None = None) -> bool:
        """All that can be done now (or up to `until`, in a replay): log, wake-ups, hand-overs, and what they lead to. False if
        stopped."""
        if self._spool is not None:
            self._spool.drain()
        while self._pump_all(until) and self._dispatch_all(until):
            if self._idle(until):
                break
        self.summary.at, self.summary.stopped = self.pump.at, self.stop.wanted
        return not self.summary.stopped

    def beat(self) -> bool:
        """A little of everything, live: one block, one claim. Whether there was something to do."""
        if self.waits:
            return False
        turn = self.pump.live(self._clock)
        if turn is not None:
            self._count(turn)
        handed = not self.stop.wanted and self._hand_over(None)
        fed = False if self.stop.wanted or self._spool is None else self._spool.beat()
        self._report()
        return turn is not None or handed or fed

    def pause(self) -> int:
        """Milliseconds until something is due, at most POLL. What is due and was left by the beat before waits for something else: a lane
        (its end wakes us), a look-up under way, a plugin that is missing."""
        due = [at for at in (self._store.next_wake(), self._store.next_effect() if self.dispatcher else None) if at is not None]
        left = min(due) - self._clock.now() if due else POLL
        return min(POLL, left) if left > 0 else LEFT

    def _pump_all(self, until: int | None) -> bool:
        while not self.stop.wanted:
            turn = self.pump.live(self._clock) if until is None else self.pump.replay(until)
            if turn is None:
                return True
            self._count(turn)
            self._report()
        return False

    def _count(self, turn: Turn) -> None:
        self.summary.add(turn)
        if self._meter is not None:
            self._meter.turn(turn)

    def _dispatch_all(self, until: int | None) -> bool:
        while not self.stop.wanted:
            self._store.tend(leaving=True)
            if self._hand_over(until):
                self._report()
            elif self.dispatcher is not None and self.dispatcher.flying:
                self.dispatcher.wait(POLL)
            else:
                return True
        return False

    def finish(self, milliseconds: int) -> None:
        """Records the hand-overs that are under way, for so long at most; begins none."""
        end = self._clock.now() + milliseconds
        while self.dispatcher is not None and self.dispatcher.flying and self._clock.now() < end:
            ended = self.dispatcher.wait(POLL)
            try:
                self._store.tend(leaving=True)
                if not ended:
                    continue
                self.summary.effects.update(self.dispatcher.gather())
            except StoreError as error:
                if not error.passing:
                    raise
                self._clock.sleep(POLL)
        if self.dispatcher is not None:
            breakers = self.dispatcher.breakers().items()
            self.summary.failing = {plugin: breaker.open_until for plugin, breaker in breakers if breaker.open_until is not None}

    def rest(self, milliseconds: int) -> bool:
        """Sleeps, but wakes when a hand-over has ended; whether one has."""
        if self.dispatcher is not None and self.dispatcher.flying:
            return self.dispatcher.wait(milliseconds)
        self._clock.sleep(milliseconds)
        return False

    def _hand_over(self, until: int | None) -> bool:
        if self.dispatcher is None:
            return False
        if until is None and self._beside:
            done = self.dispatcher.beat()
        else:
            done = self.dispatcher.turn(until)
            if done is None and until is None:
                done = self.dispatcher.look_up()
        if done is None:
            return False
        self.summary.effects.update(done)
        return True

    def _idle(self, until: int | None) -> bool:
        """Whether hand-overs left no news in the log."""
        if until is not None:
            return not self._store.read_history(until, 1)
        return not self._store.read_log(self._store.position().cursor, 1)

    def _report(self) -> None:
        if self._progress is not None:
            done = self.summary
            self._progress(Progress(done.events, done.wakes, sum(done.effects.values()), done.at))


def _recheck(program: Any) -> Any:
    from rules_engine.engine.recheck import recheck

    return lambda state, effect, now: recheck(program, state, effect, now)


def _key_fields(program: Any) -> Any:
    from rules_engine.engine import key_fields

    return lambda effect: key_fields(program, effect)


def run_once(
    store: Store,
    program: Any,
    host: Host,
    clock: Clock,
    until: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> RunSummary:
    """Does all that is to be done now, and returns. until: play history up to and including that moment (ms) instead of living in
    the wall's time. A signal ends it early and tidily (`stopped`). options: see Service. Raises StoreError, also if another
    process runs."""
    with store.run_lock(), draining(options.pop("stop", None)) as stop:
        service = Service(store, program, host, clock, progress=progress, stop=stop, **options)
        service.work(until)
        service.finish(DRAIN)
        return service.summary


def run_forever(
    store: Store,
    program: Any,
    host: Host,
    clock: Clock,
    progress: Callable[[Progress], None] | None = None,
    beside: Callable[[Stop], contextlib.AbstractContextManager[Any]] | None = None,
    **options: Any,
) -> RunSummary:
    """Runs until SIGTERM or SIGINT, then finishes the current block and hand-over and returns. Trouble that passes (a locked
    database, a full disk, a server that restarts) is waited out. Where the store has leases, several processes share the work. beside:
    what runs in threads of its own meanwhile (the web), begun once the lock is held and drained at the end. options: see Service. Raises
    StoreError for what does not pass."""
    with store.run_lock(alone=False, program=program.digest), draining(options.pop("stop", None)) as stop:
        service = Service(store, program, host, clock, progress=progress, stop=stop, **options)
        with beside(stop) if beside is not None else contextlib.nullcontext():
            _Loop(service, store, clock, service.chores).run()
            service.finish(DRAIN)
        service.summary.stopped = True
        notify("STOPPING=1")
        log.info("the service ends", extra=about(what="service.stopped"))
        return service.summary


class _Loop:
    def __init__(
        self, service: Service, store: Store, clock: Clock, chores: Sequence[tuple[int, Callable[[], Any]]] = ()
    ) -> None:
        self._service, self._store, self._clock, self._chores = service, store, clock, chores
        self._scheduler = schedule.Scheduler()
        self._trouble = 0  # failed beats in a row
        self._shaken = False  # what is in memory may not be what the store has
        self._busy = False
        self._hang_bell()

    def run(self) -> None:
        """Until somebody wants it to stop."""
        notify("READY=1")
        log.info("the service runs", extra=about(what="service.started"))
        self._beat()
        while not self._service.stop.wanted:
            self._scheduler.run_pending()
            if not self._service.stop.wanted:
                self._beat()
            if not self._busy and not self._service.stop.wanted:
                self._sleep()
            if (self._scheduler.idle_seconds or 0) > MAINTENANCE_SECONDS + HEARTBEAT_SECONDS:
                self._hang_bell()  # the clock was set back

    def _hang_bell(self) -> None:
        self._scheduler.clear()
        self._scheduler.every(HEARTBEAT_SECONDS).seconds.do(self._guarded, self._heartbeat)
        self._scheduler.every(HEARTBEAT_SECONDS).seconds.do(self._guarded, alive)
        self._scheduler.every(MAINTENANCE_SECONDS).seconds.do(self._guarded, self._store.maintain)
        for seconds, chore in self._chores:
            self._scheduler.every(seconds).seconds.do(self._guarded, chore)

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except StoreError as error:
            log.error("%s; trying again. %s", error.message, error.help, extra=about(what="store.trouble"))
        except Exception:
            log.exception("a job of the service failed")

    def _heartbeat(self) -> None:
        log.debug("alive at %d: %s", self._service.summary.at, self._service.summary)

    def _beat(self) -> None:
        try:
            self._shaken = self._store.tend() or self._shaken
            if self._shaken:
                self._service.begin()
                self._shaken = False
            self._busy = self._service.beat()
            self._trouble = 0
        except StoreError as error:
            if not error.passing:
                raise
            self._shaken = self._store.leases  # a commit may have taken place although nobody could say so
            self._trouble += 1
            self._busy = False
            log.error("%s; trying again. %s", error.message, error.help, extra=about(what="store.trouble"))

    def _sleep(self) -> None:
        """In slices of POLL, so that a wish to stop is heard."""
        left = min(LONGEST_PAUSE, POLL * 2 ** min(self._trouble, 10)) if self._trouble else self._pause()
        while left > 0 and not self._service.stop.wanted:
            if self._trouble:
                self._clock.sleep(min(left, POLL))
            elif self._service.rest(min(left, POLL)):
                return
            left -= POLL

    def _pause(self) -> int:
        try:
            return self._service.pause()
        except StoreError:
            return POLL


@contextlib.contextmanager
def draining(stop: Stop | None = None) -> Iterator[Stop]:
    """While it runs, SIGTERM and SIGINT ask for an end; a second one interrupts at once. Elsewhere than in the main thread: as
    given."""
    stop = stop or Stop()

    def ask(number: int, frame: object) -> None:
        if stop.wanted:
            raise KeyboardInterrupt
        stop()

    before = {}
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, ask)
    except ValueError:  # not the main thread
        before = {}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
