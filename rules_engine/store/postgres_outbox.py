"""The outbox's verbs on PostgreSQL. A part of `postgres.PostgresStore`.

A claim judges first and locks appends last, for the moment in which it looks once more whether news of a contact have arrived and commits: an
unsubscribe is either seen or recorded after the claim (promise P9), and nobody waits for the judge. Rows come before the lock everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from rules_engine.decisions import Cancel, Effect
from rules_engine.store.codec import plain
from rules_engine.store.port import (
    CLAIM,
    DIED,
    ENOUGH,
    EVERYTHING,
    REPORTS,
    RESOLUTIONS,
    RESTARTED,
    UNSENT_STATES,
    Arrival,
    Attempt,
    Audit,
    Candidate,
    EffectRow,
    Pause,
    Settlement,
    Verdict,
)
from rules_engine.store.postgres_database import APPEND_LOCK, THROTTLE_LOCK, PostgresDatabase
from rules_engine.store.postgres_pipeline import Bigints, Bytes, Smallints, Texts, columns
from rules_engine.store.sqlite_outbox import COLUMNS, claimed_effect, effect_row, effect_values
from rules_engine.store.tables import TABLES
from rules_engine.store.tables import Effect as EffectTable

_EFFECT = ", ".join("effect." + name for name in COLUMNS)
_UNSENT = list(UNSENT_STATES)

_ADD_EFFECTS = (
    "INSERT INTO effect (shard, id, contact, action, payload, ruleset, step, key, channel, message_class, at, expires, state, next_at, "
    "instance, exempt, handle) SELECT shard, id, contact, action, payload, ruleset, step, key, channel, message_class, at, expires, state, "
    "next_at, instance, exempt, handle FROM unnest(%s::smallint[], %s::text[], %s::text[], %s::text[], %s::bytea[], %s::text[], %s::text[], "
    "%s::text[], %s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::text[], %s::bigint[], %s::text[], %s::text[], %s::text[]) "
    "WITH ORDINALITY AS row (shard, id, contact, action, payload, ruleset, step, key, channel, message_class, at, expires, state, next_at, "
    "instance, exempt, handle, n) ORDER BY n ON CONFLICT (id) DO NOTHING"
)
_EFFECT_COLUMNS = (
    Smallints, Texts, Texts, Texts, Bytes, Texts, Texts, Texts, Texts, Texts, Bigints, Bigints, Texts, Bigints, Texts, Texts, Texts
)  # fmt: skip
_DUE = "FROM effect WHERE state IN ('ready', 'retry_wait') AND next_at IS NOT NULL"
_ACTIONS = (  # one seek in the index for each action, however many effects wait
    f"WITH RECURSIVE found (action) AS ((SELECT action {_DUE} ORDER BY action LIMIT 1) UNION ALL "
    f"SELECT (SELECT action {_DUE} AND action > found.action ORDER BY action LIMIT 1) FROM found WHERE found.action IS NOT NULL) "
)
_CANDIDATES = (
    f"{_ACTIONS} SELECT {_EFFECT}, contact.state, EXISTS (SELECT 1 FROM pending WHERE pending.contact = effect.contact) "
    f"FROM found CROSS JOIN LATERAL (SELECT * {_DUE} AND effect.action = found.action AND next_at <= %s AND shard = ANY(%s) "
    "ORDER BY next_at, seq LIMIT %s FOR UPDATE SKIP LOCKED) AS effect LEFT JOIN contact ON contact.id = effect.contact "
    "WHERE found.action <> ALL(%s) ORDER BY effect.next_at, effect.seq"
)
_NEXT = (
    f"{_ACTIONS} SELECT min(next_at) FROM found CROSS JOIN LATERAL "
    f"(SELECT next_at {_DUE} AND effect.action = found.action AND shard = ANY(%s) ORDER BY next_at, seq LIMIT 1) AS first"
)
_CLAIM = (
    "UPDATE effect SET state = 'claimed', attempts = attempts + 1, claimed_at = %s, first_claimed_at = coalesce(first_claimed_at, %s), "
    "claimer = %s WHERE seq = ANY(%s)"
)
_END = "UPDATE effect SET state = %s, detail = %s, settled_at = %s, next_at = %s WHERE seq = %s"
_LATER = "UPDATE effect SET next_at = %s, detail = %s WHERE seq = %s"
_HOLD = "UPDATE effect SET state = 'held', detail = %s, next_at = NULL WHERE seq = %s"
_SETTLE = (
    "UPDATE effect SET state = %s, detail = %s, provider_id = coalesce(nullif(%s, ''), provider_id), next_at = %s, settled_at = %s "
    "WHERE id = %s AND state = %s AND attempts = %s RETURNING claimed_at"
)
_SETTLE_REPORTED = (  # evidence from outside was faster than the record of the hand-over: the evidence stands
    "UPDATE effect SET provider_id = coalesce(nullif(%s, ''), provider_id) WHERE id = %s AND attempts = %s "
    "AND state IN ('accepted', 'delivered', 'bounced', 'complained', 'failed') "
    "AND NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.effect = effect.id AND number = attempts) RETURNING claimed_at"
)
_SETTLE_LATE = _SETTLE.replace("AND attempts = %s", "AND attempts = %s AND detail = %s")
_LEFT = (
    "FROM effect WHERE state = 'claimed' AND shard = ANY(%s) AND NOT EXISTS (SELECT 1 FROM worker "
    "WHERE worker.id = effect.claimer AND worker.id IS DISTINCT FROM %s) AND id <> ALL(%s)"
)
_ADD_ATTEMPT = "INSERT INTO attempt (effect, number, claimed_at, settled_at, state, detail) VALUES (%s, %s, %s, %s, %s, %s)"
_ADD_ATTEMPTS = (
    "INSERT INTO attempt (effect, number, claimed_at, settled_at, state, detail) SELECT effect, number, claimed_at, settled_at, state, detail "
    "FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::text[]) WITH ORDINALITY "
    "AS row (effect, number, claimed_at, settled_at, state, detail, n) ORDER BY n"
)
_ADD_AUDIT = "INSERT INTO audit (at, who, what, detail) VALUES (%s, %s, %s, %s)"
_SPEND = "INSERT INTO throttle (name, slot, used) VALUES (%s, %s, 1) ON CONFLICT (name, slot) DO UPDATE SET used = throttle.used + 1"
_CANCEL = (
    "UPDATE effect SET state = 'cancelled', detail = %s, settled_at = %s, next_at = NULL WHERE contact = %s AND ruleset = %s "
    "AND instance = %s AND state = ANY(%s) AND (%s::bigint IS NULL OR next_at IS NULL OR next_at > %s)"
)


class PostgresOutbox:
    """Needs what `postgres.PostgresStore` brings."""

    _db: PostgresDatabase
    mine: list[int]
    worker: int | None
    _append: Callable[[Any, Sequence[Arrival]], Any]
    _write: Callable[..., Any]
    shard_of: Callable[[str], int]

    def _add_effects(self, cursor: Any, effects: Iterable[Effect]) -> Any:
        """The answer has a row if some of them may have left before a restore: then `_doubt_new` is to be called."""
        rows = [(self.shard_of(effect.contact), *effect_values(effect)) for effect in effects]
        cursor.execute(_ADD_EFFECTS, columns(_EFFECT_COLUMNS, rows))
        return cursor.execute("SELECT 1 FROM sent LIMIT 1")

    # ------------------------------------------------------------ the claim

    def claim_effects(
        self, due: int, now: int, limit: int, judge: Callable[[Candidate], Verdict | None], full: Collection[str] = ()
    ) -> list[Candidate]:
        """See Store. `judge` is asked once only: a claim that meets a deadlock or loses its connection is not repeated here."""
        if self.next_effect(due) is None:  # most turns: nothing to do, no lock taken
            return []

        def claim(cursor: Any) -> list[Candidate]:
            return self._claim(cursor, self._candidates(cursor, due, limit, full), now, judge)

        return self._write("claim", claim, again=False, first=True)

    def _claim(
        self, cursor: Any, candidates: Iterable[Candidate], now: int, judge: Callable[[Candidate], Verdict | None]
    ) -> list[Candidate]:
        chosen: list[tuple[Candidate, Verdict]] = []
        news: list[Arrival] = []
        for candidate in candidates:
            verdict = judge(candidate)
            if verdict is None:
                continue
            if verdict is ENOUGH:
                break
            if verdict.state == CLAIM.state:
                chosen.append((candidate, verdict))
                for name, slot, oldest in verdict.spent:
                    cursor.execute(_SPEND, (name, slot))
                    cursor.execute("DELETE FROM throttle WHERE name = %s AND slot < %s", (name, oldest))
            else:
                self._put_off(cursor, candidate.effect.seq, verdict, now)
                news += verdict.news
        return self._take_claimed(cursor, chosen, news, now)

    def _take_claimed(self, cursor: Any, chosen: list[tuple[Candidate, Verdict]], news: list[Arrival], now: int) -> list[Candidate]:
        """Under the lock of appends: whose news have arrived meanwhile is left for later. (What a throttle counted for it stays spent.)"""
        if news:
            self._append(cursor, news)
        if not chosen:
            return []
        if not news:
            cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", (APPEND_LOCK,))
        fresh = [name for candidate, verdict in chosen if not candidate.pending for name in (candidate.effect.contact, *verdict.contacts)]
        found = cursor.execute("SELECT DISTINCT contact FROM pending WHERE contact = ANY(%s)", (Texts(fresh),)).fetchall()
        late = {contact for (contact,) in found}
        taken = [item for item, verdict in chosen if item.pending or late.isdisjoint((item.effect.contact, *verdict.contacts))]
        cursor.execute(_CLAIM, (now, now, self.worker, Bigints(candidate.effect.seq for candidate in taken)))
        return [candidate._replace(effect=claimed_effect(candidate.effect, now)) for candidate in taken]

    def _put_off(self, cursor: Any, seq: int, verdict: Verdict, now: int) -> None:
        """What is not claimed: later, held, or ended."""
        detail = plain(verdict.detail)
        if verdict.state == "later":
            cursor.execute(_LATER, (verdict.next_at, detail, seq))
        elif verdict.state == "held":
            cursor.execute(_HOLD, (detail, seq))
        else:
            cursor.execute(_END, (verdict.state, detail, now, verdict.next_at, seq))

    def _candidates(self, cursor: Any, due: int, limit: int, full: Collection[str]) -> Iterable[Candidate]:
        """A throttle counts over all workers: who asks what is used up has the throttles for itself until the claim is committed."""
        pauses = cursor.execute("SELECT campaign FROM pause")
        due_rows = cursor.execute(_CANDIDATES, (due, Bigints(self.mine), limit, list(full))).fetchall()
        paused = {name for (name,) in pauses.fetchall()}
        locked: list[bool] = []

        def used(name: str, slot: int) -> tuple[int, int | None]:
            if not locked:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", (THROTTLE_LOCK,))
                locked.append(True)
            sql = "SELECT coalesce(sum(used), 0)::bigint, min(slot) FROM throttle WHERE name = %s AND slot >= %s"
            return cursor.execute(sql, (name, slot)).fetchone()

        def unread(contact: str) -> bool:
            return cursor.execute("SELECT 1 FROM pending WHERE contact = %s LIMIT 1", (contact,)).fetchone() is not None

        def waiting(detail: str) -> int:
            sql = "SELECT count(*) FROM effect WHERE state IN ('ready', 'retry_wait') AND next_at IS NOT NULL AND detail = %s"
            return cursor.execute(sql, (plain(detail),)).fetchone()[0]

        for row in due_rows:
            effect = effect_row(row[:-2])
            stops = EVERYTHING in paused or effect.ruleset in paused
            yield Candidate(effect, row[-2], bool(row[-1]), stops, used, unread, waiting)

    def _cancel(self, cursor: Any, cancels: Sequence[Cancel]) -> None:
        """Messages of instances that have ended."""
        cursor.executemany(
            _CANCEL,
            [
                (plain(item.reason), item.at, item.contact, item.ruleset, item.instance, _UNSENT, item.after, item.after)
                for item in cancels
            ],
        )

    # ------------------------------------------------------------ outcomes

    def settle(self, settlements: Sequence[Settlement], news: Sequence[Arrival] = ()) -> int:
        """See Store. A worker that was taken for dead meanwhile still knows what became of its calls: what is shown as unknown only
        since then learns it, when the worker has begun anew and settles again."""
        return self._write("settle", lambda cursor: self._settle(cursor, settlements, news))

    def _settle(self, cursor: Any, settlements: Sequence[Settlement], news: Sequence[Arrival]) -> int:
        asked = [(item, self._settled(cursor, item)) for item in settlements]
        # Who has no effect any more was erased during the hand-over; nothing may come back by its news.
        people = cursor.execute("SELECT DISTINCT contact FROM effect WHERE contact = ANY(%s)", (Texts(item.cause.contact for item in news),))
        attempts = []
        for item, reply in asked:
            found = reply.fetchone() or self._settled_otherwise(cursor, item)
            if found:
                attempts.append((item.effect, item.attempt, found[0], item.at, item.state, plain(item.detail)))
        if attempts:
            cursor.execute(_ADD_ATTEMPTS, columns((Texts, Bigints, Bigints, Bigints, Texts, Texts), attempts))
        known = {contact for (contact,) in people.fetchall()}
        news = [item for item in news if item.cause.contact in known]
        if news:
            self._append(cursor, news)
        return len(attempts)

    @staticmethod
    def _settled(cursor: Any, item: Settlement) -> Any:
        values = (item.state, plain(item.detail), plain(item.provider_id), item.next_at, item.at, item.effect, item.was, item.attempt)
        return cursor.execute(_SETTLE, values)

    @staticmethod
    def _settled_otherwise(cursor: Any, item: Settlement) -> tuple | None:
        """What was settled or given up by others in between."""
        if item.was != "claimed":
            return None
        detail, provider_id = plain(item.detail), plain(item.provider_id)
        found = cursor.execute(_SETTLE_REPORTED, (provider_id, item.effect, item.attempt)).fetchone()
        if not found and item.state != "unknown":
            values = (item.state, detail, provider_id, item.next_at, item.at, item.effect, "unknown", item.attempt, DIED)
            found = cursor.execute(_SETTLE_LATE, values).fetchone()
        return found

    def unknown_after_restart(
        self,
        now: int,
        repeatable: Callable[[EffectRow], bool],
        lookup_at: Callable[[EffectRow], int | None] = lambda effect: None,
        but: Collection[str] = (),
    ) -> list[EffectRow]:
        """See Store. Of this store's shards: what was claimed by a worker that is no more, or by this one and forgotten. A living worker
        settles what it claimed although the shard has moved on."""
        claimed, values = _LEFT, (self.mine, self.worker, list(but))
        if self._db.one(f"SELECT 1 {claimed} LIMIT 1", values) is None:
            return []

        def recover(cursor: Any) -> list[EffectRow]:
            lost = []
            for found in cursor.execute(f"SELECT {_EFFECT} {claimed} ORDER BY seq FOR UPDATE", values).fetchall():
                effect = effect_row(found)
                again = repeatable(effect)
                state, detail = ("ready", RESTARTED) if again else ("unknown", DIED)
                next_at = effect.next_at if again else lookup_at(effect)
                cursor.execute(
                    "UPDATE effect SET state = %s, detail = %s, settled_at = %s, next_at = %s WHERE seq = %s",
                    (state, detail, now, next_at, effect.seq),
                )
                cursor.execute(_ADD_ATTEMPT, (effect.id, effect.attempts, effect.claimed_at, now, "unknown", DIED))
                if not again:
                    lost.append(effect._replace(state=state, detail=detail, settled_at=now, next_at=next_at))
            return lost

        return self._write("restart", recover)

    def _left_behind(self) -> bool:
        """Whether a worker that is no more has left claims in this store's shards."""
        return bool(self._db.one(f"SELECT 1 {_LEFT} AND claimer IS DISTINCT FROM %s LIMIT 1", (self.mine, self.worker, [], self.worker)))

    def lookups(self, now: int, limit: int, actions: Collection[str] | None = None) -> list[Candidate]:
        """See Store."""
        rows = self._db.rows(
            f"SELECT {_EFFECT}, contact.state FROM effect LEFT JOIN contact ON contact.id = effect.contact "
            "WHERE effect.state = 'unknown' AND effect.next_at <= %s AND effect.shard = ANY(%s) "
            "AND (%s::text[] IS NULL OR effect.action = ANY(%s)) ORDER BY effect.next_at, effect.seq LIMIT %s",
            (now, self.mine, *2 * [None if actions is None else list(actions)], limit),
        )
        return [Candidate(effect_row(row[:-1]), row[-1], False) for row in rows]

    def report(self, effect: str, state: str, detail: str, now: int) -> bool:
        """See Store."""
        allowed = [old for old, ways in REPORTS.items() if state in ways]
        values = (state, plain(detail), now, effect, allowed)
        sql = "UPDATE effect SET state = %s, detail = %s, next_at = NULL, settled_at = %s WHERE id = %s AND state = ANY(%s)"
        return self._db.run("report", lambda cursor: cursor.execute(sql, values).rowcount == 1, again=False)

    def resolve(self, effect: str, state: str, detail: str, now: int, who: str = "", news: Sequence[Arrival] = ()) -> bool:
        """See Store."""
        allowed, again = [old for old, ways in RESOLUTIONS.items() if state in ways], state == "ready"

        def resolve(cursor: Any) -> bool:
            changed = cursor.execute(
                "UPDATE effect SET state = %s, detail = %s, next_at = CASE WHEN %s THEN at END, settled_at = %s, "
                "exempt = CASE WHEN %s THEN exempt || ' late' ELSE exempt END, "
                "first_claimed_at = CASE WHEN %s THEN NULL ELSE first_claimed_at END WHERE id = %s AND state = ANY(%s)",
                (state, plain(detail), again, now, again, again, effect, allowed),
            ).rowcount
            if changed:
                cursor.execute(_ADD_AUDIT, (now, plain(who), f"outbox {state}", plain(f"{effect}: {detail}")))
                if news:
                    self._append(cursor, news)
            return changed == 1

        return self._db.run("resolve", resolve, again=False)

    def postpone(self, actions: Sequence[str], until: int) -> int:
        """See Store."""
        sql = (
            "UPDATE effect SET next_at = %s WHERE state IN ('ready', 'retry_wait') AND next_at < %s AND action = ANY(%s) AND shard = ANY(%s)"
        )
        return self._db.run("postpone", lambda cursor: cursor.execute(sql, (until, until, list(actions), self.mine)).rowcount)

    # ------------------------------------------------------------ what people do

    def pause(self, campaign: str, reason: str, now: int, who: str = "") -> bool:
        """See Store."""

        def pause(cursor: Any) -> bool:
            added = cursor.execute(
                "INSERT INTO pause (campaign, at, reason) VALUES (%s, %s, %s) ON CONFLICT (campaign) DO NOTHING", (campaign, now, plain(reason))
            ).rowcount
            cursor.execute(_ADD_AUDIT, (now, plain(who), "pause", plain(f"{campaign}: {reason}" if reason else campaign)))
            return added == 1

        return self._db.run("pause", pause, again=False)

    def resume(self, campaign: str, now: int, who: str = "") -> bool:
        """See Store."""

        def resume(cursor: Any) -> bool:
            lifted = cursor.execute("DELETE FROM pause WHERE campaign = %s", (campaign,)).rowcount
            if lifted:
                cursor.execute(
                    "UPDATE effect SET next_at = at WHERE state IN ('ready', 'retry_wait') AND next_at IS NULL AND (%s = %s OR ruleset = %s)",
                    (campaign, EVERYTHING, campaign),
                )
                cursor.execute(_ADD_AUDIT, (now, plain(who), "resume", plain(campaign)))
            return lifted == 1

        return self._db.run("resume", resume, again=False)

    def pauses(self) -> list[Pause]:
        """See Store."""
        return [Pause(*row) for row in self._db.rows("SELECT campaign, at, reason FROM pause ORDER BY at, campaign")]

    def audit(self, who: str, what: str, detail: str, now: int) -> None:
        """See Store."""
        self._db.run("audit", lambda cursor: cursor.execute(_ADD_AUDIT, (now, plain(who), what, plain(detail))), again=False)

    def audits(self, limit: int = 100) -> list[Audit]:
        """See Store."""
        return [Audit(*row) for row in self._db.rows("SELECT at, who, what, detail FROM audit ORDER BY seq DESC LIMIT %s", (limit,))]

    # ------------------------------------------------------------ looking

    def effect(self, id: str) -> EffectRow | None:
        """See Store."""
        rows = self._db.rows(f"SELECT {_EFFECT} FROM effect WHERE id = %s", (id,))
        return effect_row(rows[0]) if rows else None

    def find_effect(self, name: str) -> EffectRow | None:
        """See Store."""
        if not name:
            return None
        for column in ("handle", "provider_id"):
            rows = self._db.rows(f"SELECT {_EFFECT} FROM effect WHERE {column} = %s AND {column} <> '' ORDER BY seq DESC LIMIT 1", (name,))
            if rows:
                return effect_row(rows[0])
        return None

    def effects(self, state: str | None = None, contact: str | None = None, limit: int = 100) -> list[EffectRow]:
        """See Store."""
        with self._db.models(TABLES):
            query = EffectTable.select(*(getattr(EffectTable, name) for name in COLUMNS)).order_by(EffectTable.seq.desc()).limit(limit)
            if state is not None:
                query = query.where(EffectTable.state == state)
            if contact is not None:
                query = query.where(EffectTable.contact == contact)
            return [effect_row(values) for values in self._db.read(lambda: list(query.tuples()))]

    def attempts_of(self, effect: str) -> list[Attempt]:
        """See Store. A claim's judge asks for them too, so in words that go through a transaction's own pipeline."""
        sql = "SELECT effect, number, claimed_at, settled_at, state, detail FROM attempt WHERE effect = %s ORDER BY seq"
        return [Attempt(*row) for row in self._db.rows(sql, (effect,))]

    def next_effect(self, until: int | None = None) -> int | None:
        """See Store. With `until`, only what can be claimed by then."""
        times = [self._db.one(_NEXT, (Bigints(self.mine),))]
        if until is None:
            times.append(self._db.one("SELECT min(next_at) FROM effect WHERE state = 'unknown' AND shard = ANY(%s)", (self.mine,)))
        known = [at for at in times if at is not None and (until is None or at <= until)]
        return min(known) if known else None
