"""Effects out: commit the claim, call the plugin, commit the outcome. What can't be known is `unknown`, never guessed (promises
P5, P6).

A crash leaves `claimed` what was being handed over, and nothing else: what can't be repeated is claimed one at a time (or as many
as there are workers); what the provider recognises by its key is claimed in batches, because handing it over again is harmless.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import math
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rules_engine.actions import MESSAGE_OUTCOMES, Action, Call, Outcome, PluginFailed
from rules_engine.clock import Clock
from rules_engine.facts import Event
from rules_engine.host import IDEMPOTENCIES, Host
from rules_engine.limits import MAX_ATTEMPTS
from rules_engine.service import faults as points
from rules_engine.service.breaker import Breaker
from rules_engine.service.lanes import Job, Lanes
from rules_engine.service.logs import about
from rules_engine.service.runner import Runner, ThreadRunner
from rules_engine.service.sent import SentJournal
from rules_engine.service.throttle import Throttles
from rules_engine.store import codec
from rules_engine.store.port import CLAIM, ENOUGH, SOURCE_OUTCOMES, Arrival, Candidate, EffectRow, Settlement, Store, StoreError, Verdict

log = logging.getLogger("camp.dispatch")

LOOK = 100  # effects looked at in one claim
BATCH = 50  # repeatable effects claimed at once
FIRST_RETRY = 30_000  # ms; doubles with each attempt
LONGEST_RETRY = 6 * 3_600_000
LONGEST_RETRY_AFTER = 7 * 86_400_000  # a provider that asks for more is mistaken
LOOK_UPS = 20  # unknown effects asked about in one turn
LAST_LOOK_UP = 7 * 86_400_000  # ms after the hand-over; what the provider does not know by then, a person decides
AGAIN = "handed over again under the same key"
STATES = {"accepted": "accepted", "failed": "failed", "retry": "retry_wait", "unknown": "unknown"}

ENDED = {
    "suppressed": "suppressed",
    "no_address": "suppressed",
    "held_out": "suppressed",
    "blocked": "suppressed",
    "capped": "capped",
    "expired": "expired",
    "late": "expired",
}
"""What the claim's check found -> the state in which an effect ends; anything else is `cancelled`."""

Attributes = Callable[[dict], Mapping[str, Any]]
Recheck = Callable[[dict, EffectRow, int], Any]
KeyFields = Callable[[EffectRow], Mapping[str, Any]]


class Dispatcher:
    """Hands over what is due. Call it under the store's run lock, from one thread.

    runner: calls plugins in `turn`, one after the other for the caller; make_runner: makes the runner of each lane of `beat`.
    settings: each plugin's table of camp.toml, secrets filled in, by the plugin's name. attributes: a contact's attributes from
    its state; default: the engine's. recheck(state, effect, now): the engine's own word on whether an effect may leave now (None: it
    may); without it only expiry, suppression and consent are looked at. throttles: None: nothing is throttled. key_fields: what an
    outcome's event says of the instance's FOR EACH key.
    """

    def __init__(
        self,
        store: Store,
        host: Host,
        clock: Clock,
        *,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        project: Path | None = None,
        attributes: Attributes | None = None,
        recheck: Recheck | None = None,
        throttles: Throttles | None = None,
        key_fields: KeyFields | None = None,
        runner: Runner | None = None,
        make_runner: Callable[[], Runner] | None = None,
        faults: points.Faults = points.none,
        sent: SentJournal | None = None,
        meter: Any = None,
    ) -> None:
        self._meter = meter
        self._sent, self._unsent, self._journal_fails = sent, list[Settlement](), False
        self._store, self._host, self._clock, self._faults = store, host, clock, faults
        self._settings, self._project = settings or {}, project or Path()
        self._attributes = attributes or real_attributes()
        self._recheck, self._key_fields = recheck, key_fields
        self._throttles = throttles or Throttles({}, {})
        self._runner = runner or ThreadRunner()
        self._lanes = Lanes(make_runner or (lambda: ThreadRunner(1)))
        self._breakers: dict[str, Breaker] = {}
        self._ended: list[tuple[Job, Outcome]] = []  # not yet recorded
        self._asking: set[str] = set()  # unknown effects whose provider is being asked
        self._mine: set[str] = set()  # effects claimed here whose outcome is not recorded yet
        self._look = LOOK

    # ------------------------------------------------------------ verbs

    def recover(self) -> list[EffectRow]:
        """After a start, or when others' work came here: what a dead process left behind, but for what is under way here. Returns the
        effects that are now unknown."""
        lost = self._store.unknown_after_restart(self._clock.now(), self._may_repeat, self._first_look_up, self._mine)
        for effect in lost:
            log.warning("effect %s of %s is unknown: %s", name_of(effect), effect.contact, effect.detail, extra=named("effect.unknown", effect))
        return lost

    def turn(self, until: int | None = None) -> Counter | None:
        """One claim with its hand-overs: new state -> count; None if nothing was due. Raises StoreError.

        until: a replay's time. There each effect leaves at its own time, at which the engine has just judged it: it is neither
        late nor judged again by what the contact became afterwards.
        """
        if self._ended:  # what could not be recorded the last time
            return self._record(until)
        now = self._clock.now()
        self._ready()
        bench = _Bench(self, now, replay=until is not None)
        claimed = self._claim(now if until is None else until, now, bench)
        if not claimed:
            return bench.ended if bench.moved else None
        jobs = self._begin(claimed, replay=until is not None)
        self._ended += zip(jobs, self._runner.run([(job.action, job.call) for job in jobs]), strict=True)
        return bench.ended + self._record(until)

    def beat(self) -> Counter | None:
        """As `turn`, without waiting for any plugin: records the hand-overs that have ended, and begins as many as there is room for
        (`Lanes`). None if there was nothing to do; what is under way is `flying`. Raises StoreError."""
        settled, now = self.gather(), self._clock.now()
        self._ready()
        full = [name for name in self._host.actions if not self._lanes.room(self.provider_of(name), self._repeats(name))]
        bench = _LaneBench(self, now)
        claimed = self._claimed(now, now, LOOK, bench, full)
        for job in self._begin(claimed):
            self._lanes.start(job)
        asked = self._ask(now)
        return settled + bench.ended if settled or claimed or bench.moved or asked else None

    def gather(self) -> Counter:
        """Records what has ended: new state -> count. Raises StoreError; what could not be recorded is kept for the next time."""
        self._ended += self._lanes.finished()
        return self._record(None)

    @property
    def flying(self) -> int:
        """Calls that `beat` has begun and not yet recorded."""
        return self._lanes.flying + len(self._ended)

    def wait(self, milliseconds: int) -> bool:
        """Waits until a call has ended, at most so long; whether one has."""
        return bool(self._ended) or self._lanes.wait(milliseconds)

    def _ask(self, now: int) -> int:
        """Begins look-ups, each in a lane of its provider; how many."""
        begun = 0
        able = [name for name in self._askable() if self._lanes.room(self.provider_of(name), False)]
        for candidate in self._store.lookups(now, LOOK_UPS + len(self._asking), able) if able else ():
            job = self._question(candidate)
            if candidate.effect.id in self._asking or not self._lanes.room(job.provider, False):
                continue
            self._asking.add(candidate.effect.id)
            self._lanes.start(job)
            begun += 1
        return begun

    def _begin(self, claimed: list[Candidate], replay: bool = False) -> list[Job]:
        """The calls of what was claimed. The claim is durable now, and no plugin has been called."""
        if not claimed:
            return []
        now = self._clock.now()
        self._note(claimed, now)
        jobs = [job for candidate in claimed if (job := self._job(candidate, now)) is not None]
        self._give_back()
        if not replay:
            for job in jobs:
                self.breaker(job.candidate.effect.action).begin(now)
        self._mine.update(job.candidate.effect.id for job in jobs)
        self._faults(points.BEFORE_CALL)
        return jobs

    def _job(self, candidate: Candidate, now: int) -> Job | None:
        """None for one whose call can't be made: nothing of it has left, so it goes back for a later try, and stops no other (P8)."""
        effect = candidate.effect
        try:
            return Job(self.provider_of(effect.action), candidate, self._host.actions.get(effect.action), self._call(candidate))
        except Exception as error:
            log.exception("the call of effect %s can't be made", name_of(effect), extra=named("effect.unmade", effect))
            reason = f"not called: its call could not be made: {type(error).__name__}: {error}"
            self._put_back(self._settlement(effect, Outcome("retry", reason), now))
            return None

    def _record(self, until: int | None) -> Counter:
        """Outcomes into the store, with what the log is told of them. An outcome is forgotten here only when it is durable."""
        if not self._ended:
            return Counter()
        settlements, news = [], []
        for job, outcome in self._ended:
            effect = job.candidate.effect
            at = self._clock.now() if until is None else effect.next_at or effect.at
            settlement = self._looked_up(effect, outcome) if job.asks else self._settlement(effect, outcome, at)
            settlements.append(settlement)
            if self._meter is not None and not job.asks:
                self._meter.handed_over(effect, settlement)
            if settlement.state == "failed" or not job.asks:
                news += self._news(effect, settlement.state, settlement.detail, at)
        self._faults(points.AFTER_CALL)
        self._store.settle(settlements, news)
        ended, self._ended = self._ended, []
        for job, _ in ended:  # all of them before anything else can fail
            (self._asking if job.asks else self._mine).discard(job.candidate.effect.id)
        if until is None:
            self._tell_breakers([(job.candidate.effect.action, outcome) for job, outcome in ended if not job.asks])
        return Counter(settlement.state for settlement in settlements)

    def look_up(self) -> Counter | None:
        """Asks providers about unknown effects whose time for that has come: new state -> count; None if there are none. Raises
        StoreError."""
        now = self._clock.now()
        able = self._askable()
        asked = self._store.lookups(now, LOOK_UPS, able) if able else []
        if not asked:
            return None
        jobs = [self._question(candidate) for candidate in asked]
        self._ended += zip(jobs, self._runner.run([(job.action, job.call) for job in jobs]), strict=True)
        return self._record(None)

    def _question(self, candidate: Candidate) -> Job:
        """What became of an unknown effect, as a job for its provider."""
        effect = candidate.effect
        return Job(self.provider_of(effect.action), candidate, self._lookup_of(effect), self._call(candidate), asks=True)

    def _claim(self, due: int, now: int, bench: _Bench) -> list[Candidate]:
        """Looks at a few where only a few can be taken, and further if none of those could be."""
        claimed = self._claimed(due, now, self._look, bench)
        if not claimed and not bench.moved and self._look < LOOK:
            claimed = self._claimed(due, now, LOOK, bench)
        self._look = LOOK if not claimed or bench.repeatable else 2 * self._runner.workers
        return claimed

    def _claimed(self, due: int, now: int, limit: int, bench: _Bench, full: Collection[str] = ()) -> list[Candidate]:
        """A commit that is answered by an error (a sync that failed) may have taken place all the same. No call was made, so what turns
        out to be claimed goes back. Where others claim too, the attempt may be theirs: there `recover` judges it by its claimer."""
        try:
            return self._store.claim_effects(due, now, limit, bench.judge, full)
        except StoreError as error:
            for effect in bench.claims if not self._store.leases else ():
                reason = f"not called: {error.message}"
                self._put_back(Settlement(effect.id, effect.attempts + 1, "retry_wait", now, reason, next_at=effect.next_at or now))
            raise

    # ------------------------------------------------------------ send journal

    def _note(self, claimed: list[Candidate], now: int) -> None:
        """Into the send journal, before anything leaves. What can't be noted is not handed over, and goes back."""
        if self._sent is None:
            return
        try:
            self._sent.note([candidate.effect for candidate in claimed], self._store, now)
        except StoreError as error:
            self._journal_fails = True
            for item in claimed:
                back = Settlement(item.effect.id, item.effect.attempts, "retry_wait", now, error.message, next_at=item.effect.next_at or now)
                self._put_back(back)
            self._give_back()
            raise

    def _put_back(self, settlement: Settlement) -> None:
        """A claim that is not followed by a hand-over. It is known here, so that no `recover` takes it for lost."""
        self._unsent.append(settlement)
        self._mine.add(settlement.effect)

    def _give_back(self) -> None:
        """Ends claims that were never followed by a hand-over. On a full disk that may fail too: then before the next claim."""
        if self._unsent:
            self._store.settle(self._unsent)
            self._mine.difference_update(item.effect for item in self._unsent)
            self._unsent = []

    def _ready(self) -> None:
        """Before a claim. Raises StoreError while the send journal still can't be written: each claim would cost an attempt."""
        self._give_back()
        if self._journal_fails and self._sent is not None:
            self._sent.probe()
            self._journal_fails = False

    # ------------------------------------------------------------ hand-over

    def living(self, contact: str, state: bytes | None) -> tuple[str, dict[str, Any] | None]:
        """Who a contact is today, with the state: one that was merged into another leaves its messages to that one. "" while two are
        merged into each other, which the engine's next block lifts."""
        values, passed = codec.load(state) if state else None, {contact}
        while values is not None and (gone := merged_into(values)) is not None:
            if gone in passed:
                return "", None
            contact = gone
            passed.add(contact)
            row = self._store.contacts([contact]).get(contact)
            values = codec.load(row.state) if row is not None else None
        return contact, values

    def _call(self, candidate: Candidate) -> Call:
        effect = candidate.effect
        name, state = self.living(effect.contact, candidate.state)
        contact = dict(self._attributes(state)) if state is not None else {}
        contact.setdefault("id", name or effect.contact)
        at = datetime.fromtimestamp(effect.at / 1000, UTC)
        return Call(
            effect.id,
            effect.action,
            effect.primary,
            effect.params,
            contact,
            effect.ruleset or None,
            self.settings_of(effect.action),
            self._project,
            at,
            effect.attempts,
            effect.message_class,
        )

    def provider_of(self, action: str) -> str:
        """The plugin that provides an action, or ""."""
        return self._host.providers.get(action, "")

    def settings_of(self, action: str) -> Mapping[str, Any]:
        """The settings of the plugin that provides an action."""
        return self._settings.get(self.provider_of(action), {})

    # ------------------------------------------------------------ outcomes

    def _settlement(self, effect: EffectRow, outcome: Outcome, at: int) -> Settlement:
        """`at`: the log's time of the hand-over, from which a retry's wait counts."""
        state, detail, next_at = STATES[outcome.state], outcome.detail, None
        if state == "unknown" and self._may_repeat(effect):
            state, detail = "retry_wait", f"{detail}; {AGAIN}"
        if state == "retry_wait" and effect.attempts >= MAX_ATTEMPTS:
            state = "unknown" if outcome.state == "unknown" else "failed"
            detail = f"given up after {effect.attempts} attempts: {detail}"
        if state == "retry_wait":
            next_at = at + delay(effect.id, effect.attempts, outcome.retry_after)
        elif state == "unknown":
            next_at = self._first_look_up(effect)
        if state in ("failed", "unknown"):
            ids = named(f"effect.{state}", effect)
            log.warning("effect %s (%s to %s) is %s: %s", name_of(effect), effect.action, effect.contact, state, detail, extra=ids)
        return Settlement(effect.id, effect.attempts, state, self._clock.now(), detail, outcome.provider_id, next_at)

    def _news(self, effect: EffectRow, outcome: str, reason: str, at: int) -> list[Arrival]:
        """What the log is told of an outcome after the decision."""
        try:
            key = self._key_fields(effect) if self._key_fields is not None else {}
        except Exception:  # the outcome is known; that its event says less must not keep it from being recorded
            log.exception("the key of effect %s can't be told", name_of(effect), extra=named("effect.no_key", effect))
            key = {}
        return news_of(effect, outcome, reason, at, self._host.events, key)

    # ------------------------------------------------------------ breakers

    def breaker(self, action: str) -> Breaker:
        """The breaker of the plugin that provides an action."""
        return self._breakers.setdefault(self.provider_of(action), Breaker())

    def breakers(self) -> Mapping[str, Breaker]:
        """All that were needed so far, by plugin."""
        return self._breakers

    def _tell_breakers(self, answers: list[tuple[str, Outcome]]) -> None:
        """What providers answered: (action, outcome). When that opens a breaker, all that is due through it waits: looking at each would
        take longer. Each breaker knows before the store is asked for anything."""
        now, opened = self._clock.now(), dict[str, tuple[str, int]]()
        for action, outcome in answers:
            plugin, breaker = self.provider_of(action), self.breaker(action)
            until = breaker.note(outcome.state in ("accepted", "failed"), now, outcome.retry_after)
            if self._meter is not None:
                self._meter.breaker(plugin, breaker.open_until is not None)
            if until is not None:
                opened[plugin] = (action, until)
        for plugin, (action, until) in opened.items():
            log.error("%s keeps failing: nothing is handed over to it for %d s", plugin or action, (until - now) // 1000)
            actions = [name for name, provider in self._host.providers.items() if provider == plugin and name in self._host.actions]
            self._store.postpone(actions or [action], until)

    # ------------------------------------------------------------ looking up

    def _askable(self) -> list[str]:
        """Actions whose provider can be asked. What no plugin here can ask about must not stand before the others for ever."""
        return [name for name, action in self._host.actions.items() if action.lookup is not None]

    def _lookup_of(self, effect: EffectRow) -> Action | None:
        """The action with its look-up in the place of its hand-over."""
        action = self._host.actions.get(effect.action)
        if action is None or action.lookup is None:
            return None
        return dataclasses.replace(action, perform=action.lookup)

    def _first_look_up(self, effect: EffectRow) -> int | None:
        """When a hand-over that has just become unknown is asked about; None: its provider can't be asked."""
        action = self._lookup_of(effect)
        return None if action is None else self._clock.now() + int(action.settle * 1000)

    def _looked_up(self, effect: EffectRow, outcome: Outcome) -> Settlement:
        """The provider's word on an unknown effect. As long as it can't tell, it is asked again after as long as has passed."""
        now = self._clock.now()
        state, next_at = STATES[outcome.state], None
        if state == "retry_wait":  # the provider's proof that it never arrived
            next_at = now + delay(effect.id, effect.attempts, outcome.retry_after)
        elif state == "unknown":
            passed = max(now - (effect.claimed_at or now), FIRST_RETRY)
            next_at = now + passed if passed < LAST_LOOK_UP else None
        detail = f"looked up: {outcome.detail}" if outcome.detail else "looked up"
        return Settlement(effect.id, effect.attempts, state, now, detail, outcome.provider_id, next_at, "unknown")

    # ------------------------------------------------------------ what may be repeated

    def repeatable(self, effect: EffectRow) -> bool:
        """Whether handing it over again under the same key is harmless, as the settings are now."""
        return self._repeats(effect.action)

    def _repeats(self, name: str) -> bool:
        action = self._host.actions.get(name)
        return action is not None and idempotency(action, self.settings_of(name)) == "key"

    def _may_repeat(self, effect: EffectRow) -> bool:
        """After a restart: repeatable, and the provider still remembers the key."""
        action = self._host.actions.get(effect.action)
        if action is None or not self.repeatable(effect):
            return False
        first = effect.first_claimed_at
        return not action.window or first is None or self._clock.now() - first < action.window * 1000

    def doubtful(self, effect: EffectRow) -> bool:
        """Whether it was perhaps accepted before, and its provider no longer recognises its key: a pause, an outage, a long Retry-After or
        other settings lay between. What was before a person released it does not count."""
        first = effect.first_claimed_at
        if first is None or self._may_repeat(effect):
            return False
        last = {attempt.number: attempt for attempt in self._store.attempts_of(effect.id) if attempt.claimed_at >= first}  # a look-up's word
        return any(attempt.state == "unknown" or attempt.detail.endswith(AGAIN) for attempt in last.values())


class _Bench:
    """Judges the candidates of one claim. `ended`: those that will never be handed over, by state. `moved`: some were put off or ended,
    so that others come into sight."""

    def __init__(self, dispatcher: Dispatcher, now: int, replay: bool) -> None:
        self._dispatcher, self._now, self._replay = dispatcher, now, replay
        self._left: int | None = None
        self.claims: list[EffectRow] = []  # as they were before
        self._trials: set[str] = set()  # providers that get their trial call by this claim
        self._who = ""  # the contact that the candidate at hand would reach; "": nobody can say yet
        self._others: tuple[str, ...] = ()  # the other names of that one: an old mail's unsubscribe link bears the name of then
        self.repeatable = False  # what is claimed this time
        self.moved = False
        self.ended: Counter = Counter()

    def judge(self, candidate: Candidate) -> Verdict | None:
        """Claim it, end it, put it off, or (None) leave it for later."""
        if self._left == 0:
            return ENOUGH
        if candidate.paused:
            self.moved = True
            return Verdict("later", "paused by an operator")
        if candidate.pending and not self._replay:  # an unsubscribe may be among the unread news (promise P9)
            return None
        if not self._fits(candidate.effect):  # asked first: it costs next to nothing
            return None
        self._who, self._others = candidate.effect.contact, ()
        verdict = None if self._replay else self._again(candidate) or self._slow(candidate)
        if verdict is not None:
            self.moved = True
            if verdict.state not in ("later", "held"):
                self.ended[verdict.state] += 1
            return verdict
        if not self._who or any(candidate.unread(name) for name in self._others):
            return None
        return self._claim(candidate)

    def _fits(self, effect: EffectRow) -> bool:
        """Whether one more of its kind may be claimed. One claim is all of what can be repeated or all of what can't."""
        kind = self._dispatcher.repeatable(effect)
        if self._left is None:
            self.repeatable, self._left = kind, BATCH if kind else self._dispatcher._runner.workers
        return kind == self.repeatable

    def _took(self, effect: EffectRow) -> None:
        assert self._left is not None
        self._left -= 1

    def _claim(self, candidate: Candidate) -> Verdict:
        """The last question, because asking it counts: whether the throttles let it through."""
        dispatcher, effect, now = self._dispatcher, candidate.effect, self._now
        throttles = [] if self._replay else dispatcher._throttles.of(effect.ruleset, dispatcher.provider_of(effect.action))
        for throttle in throttles:
            until = dispatcher._throttles.spend(throttle, candidate, now)
            if until is not None:
                self.moved = True
                return Verdict("later", throttle.reason, until)
        self._took(effect)
        self.claims.append(effect)
        if not self._replay and dispatcher.breaker(effect.action).open_until is not None:
            self._trials.add(dispatcher.provider_of(effect.action))  # it begins once the claim is durable: a claim may fail
        return CLAIM._replace(
            spent=tuple((item.name, item.slot_of(now), item.oldest(now)) for item in throttles),
            contacts=self._others,
        )

    def _slow(self, candidate: Candidate) -> Verdict | None:
        """Put off while its provider's breaker is open."""
        action = candidate.effect.action
        until = self._dispatcher.breaker(action).stops(self._now)
        if until is None and self._dispatcher.provider_of(action) in self._trials:
            until = self._now + 1_000
        return None if until is None else Verdict("later", "its provider keeps failing; it is tried again later", until)

    def _again(self, candidate: Candidate) -> Verdict | None:
        """What was asked when it was decided, asked again (promise P9)."""
        effect, dispatcher = candidate.effect, self._dispatcher
        over = expiry(effect, self._now)
        if over is not None:
            return over._replace(news=tuple(dispatcher._news(effect, "expired", over.detail, self._now)))
        if effect.attempts and dispatcher.doubtful(effect):
            return Verdict(
                "unknown",
                "it may have been accepted before, and its provider may not recognise the key any more",
                dispatcher._first_look_up(effect),
                tuple(dispatcher._news(effect, "unknown", "its provider may not recognise the key of a repeat any more", self._now)),
            )
        self._who, state = dispatcher.living(effect.contact, candidate.state)
        if state is None:
            return None
        self._others = tuple(name for name in (self._who, *merged_in(state)) if name != effect.contact)
        try:
            return self._judged(effect, state)
        except Exception as error:  # a fault of ours, or odd data: this one waits for a person, and stops no other (P8)
            log.exception("effect %s can't be judged", name_of(effect), extra=named("effect.unjudged", effect))
            return Verdict("held", f"it could not be judged: {type(error).__name__}: {error}")

    def _judged(self, effect: EffectRow, state: dict[str, Any]) -> Verdict | None:
        dispatcher = self._dispatcher
        if dispatcher._recheck is None:
            told = effect.channel is not None and effect.message_class != "internal"
            return consent(effect, dispatcher._attributes(state)) if told else None
        found = dispatcher._recheck(state, effect, self._now)
        if found is None:
            return None
        if found.do == "hold":
            return Verdict("later", found.reason, max(found.until, self._now + 1))
        if found.do == "wait_for_person":
            return Verdict("held", found.reason)
        news = dispatcher._news(effect, found.outcome, found.reason, self._now)
        return Verdict(ENDED.get(found.outcome, "cancelled"), found.reason, news=tuple(news))


class _LaneBench(_Bench):
    """Claims what the lanes of each provider have room for."""

    def __init__(self, dispatcher: Dispatcher, now: int) -> None:
        super().__init__(dispatcher, now, replay=False)
        self._taken: Counter[str] = Counter()

    def _fits(self, effect: EffectRow) -> bool:
        provider = self._dispatcher.provider_of(effect.action)
        return self._dispatcher._lanes.room(provider, self._dispatcher.repeatable(effect)) > self._taken[provider]

    def _took(self, effect: EffectRow) -> None:
        self._taken[self._dispatcher.provider_of(effect.action)] += 1


# ---------------------------------------------------------------- rules, pure


def name_of(effect: EffectRow) -> str:
    """What the log calls an effect: `camp outbox show` finds it by this, and an address in a contact's id can't tear it."""
    return effect.handle or effect.id


def named(what: str, effect: EffectRow) -> dict[str, Any]:
    """The ids of an effect for the log."""
    return about(what=what, effect=name_of(effect), contact=effect.contact, campaign=effect.ruleset, action=effect.action)


def expiry(effect: EffectRow, now: int) -> Verdict | None:
    """`expired` if the moment has passed up to which it makes sense."""
    if effect.expires is not None and now >= effect.expires:
        return Verdict("expired", "its time was over before it could be handed over")
    return None


def consent(effect: EffectRow, attributes: Mapping[str, Any]) -> Verdict | None:
    """`cancelled` if the contact, as it is now, must not get it: suppression stops marketing and transactional messages, a
    missing consent marketing only."""
    suppressed = lookup(attributes, "suppressed", effect.channel)
    if suppressed:
        return Verdict("cancelled", f"suppressed.{effect.channel} is {suppressed}")
    if effect.message_class == "marketing" and lookup(attributes, "consent", effect.channel) is False:
        return Verdict("cancelled", f"consent.{effect.channel} was withdrawn")
    return None


def news_of(
    effect: EffectRow, outcome: str, reason: str, at: int, events: Mapping[str, Any], key: Mapping[str, Any] | None = None
) -> list[Arrival]:
    """What became of an effect after it was decided, as an event that conditions can ask about: `email.failed` for an `email.send` that
    failed for good, where a plugin declares it, and for messages each of MESSAGE_OUTCOMES. events: those that plugins declare; key: the
    FOR EACH fields of the instance, so that the event reaches only its own."""
    name = f"{effect.action.partition('.')[0]}.{outcome}"
    if outcome == "failed" and name not in events:
        return []
    if outcome != "failed":
        if effect.channel is None or effect.message_class == "internal" or outcome not in MESSAGE_OUTCOMES:
            return []
        name = f"{effect.channel}.{outcome}"
    subject = codec.plain(effect.primary) if isinstance(effect.primary, str) else None
    data: dict[str, Any] = {"reason": reason, "campaign": effect.ruleset}
    if name in events:
        known = events[name].fields
        data = {key: data[key] for key in data if key in known}
    # A second attempt of a person's may fail again: each is news of its own.
    event = Event(codec.plain(f"{effect.id}:{outcome}:{effect.attempts}"), name, codec.plain(effect.contact), at, subject, {**(key or {}), **data})
    return [Arrival(event, SOURCE_OUTCOMES)]


def lookup(attributes: Mapping[str, Any], group: str, name: str | None) -> Any:
    """`consent.email`, kept flat or as a map."""
    if f"{group}.{name}" in attributes:
        return attributes[f"{group}.{name}"]
    inner = attributes.get(group)
    return inner.get(name) if isinstance(inner, Mapping) else None


def delay(effect: str, attempt: int, retry_after: float | None) -> int:
    """Milliseconds until the next attempt: exponential backoff with full jitter, and never sooner than the provider asked.

    The jitter comes from the effect and the attempt: a replay or a restart computes the same.
    """
    longest = min(LONGEST_RETRY, FIRST_RETRY * 2 ** (attempt - 1))
    chance = (
        int.from_bytes(hashlib.blake2b(f"{effect}:{attempt}".encode("utf-8", "replace"), digest_size=8).digest(), "big") / 2**64
    )
    wait = int(longest * chance)
    if retry_after is not None and math.isfinite(retry_after) and retry_after > 0:
        wait = max(wait, min(int(retry_after * 1000), LONGEST_RETRY_AFTER))
    return max(wait, 1)


def idempotency(action: Action, settings: Mapping[str, Any]) -> str:
    """none | key | lookup, under these settings. A plugin's module may say so by a function `idempotency(settings)`, because a
    transport to files recognises every key and one by SMTP none; the record's own word counts otherwise (`key` without a window:
    none)."""
    word, problem = idempotency_told(action, settings)
    if problem:
        _say_once(action.name.partition(".")[0], problem)
    return word


def idempotency_told(action: Action, settings: Mapping[str, Any]) -> tuple[str, str]:
    """(as `idempotency`, what is wrong with the plugin's answer or "")."""
    module = sys.modules.get(getattr(action.perform, "__module__", "") or "")
    ask = getattr(action.perform, "idempotency", None) or getattr(module, "idempotency", None)  # a child's module is not here
    if callable(ask):
        try:
            answer = ask(settings)
        except PluginFailed as failure:
            return "none", str(failure)
        except Exception as error:
            return "none", f"it raised {type(error).__name__}: {error}"
        return (answer, "") if answer in IDEMPOTENCIES else ("none", f"it answered {str(answer)[:100]!r}")
    return "none" if action.idempotency == "key" and not action.window else action.idempotency, ""


@functools.cache  # asked for each effect, said once in a process
def _say_once(namespace: str, problem: str) -> None:
    log.error("idempotency(settings) of the plugin of %s must answer %s, and is taken for none: %s", namespace, " | ".join(IDEMPOTENCIES), problem)


def merged_in(state: Mapping[str, Any]) -> Collection[str]:
    """The contacts that were merged into this one; asked by key first, because hardly any has some."""
    if "from" not in state:
        return ()
    from rules_engine import engine

    return engine.merged_in(state)


def merged_into(state: Mapping[str, Any]) -> str | None:
    """The engine's word on a contact that was merged away; asked by key first, because hardly any was."""
    if "into" not in state:
        return None
    from rules_engine import engine

    return engine.merged_into(state)


def real_attributes() -> Attributes:
    """The engine's own way from a state to attributes."""
    from rules_engine import engine

    return getattr(engine, "attributes", None) or (lambda state: state.get("a", {}))
