"""The outbox's verbs on SQLite. A part of `sqlite.SqliteStore`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from rules_engine.decisions import Cancel, Effect
from rules_engine.links import handle
from rules_engine.store.codec import dump, load, plain
from rules_engine.store.database import Database
from rules_engine.store.port import (
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
from rules_engine.store.tables import TABLES
from rules_engine.store.tables import Attempt as AttemptTable
from rules_engine.store.tables import Effect as EffectTable

COLUMNS = (
    "id contact action payload ruleset step key channel message_class at expires state instance exempt seq attempts next_at "
    "provider_id detail claimed_at first_claimed_at settled_at handle"
).split()
_SEQ, _NEXT_AT = COLUMNS.index("seq"), COLUMNS.index("next_at")
_EFFECT = ", ".join("effect." + name for name in COLUMNS)

_CANDIDATES = (
    f"SELECT {_EFFECT}, contact.state, EXISTS (SELECT 1 FROM event WHERE event.contact = effect.contact AND event.status = 0 "
    "AND event.seq > ?) FROM effect INDEXED BY effect_due LEFT JOIN contact ON contact.id = effect.contact "
    "WHERE effect.state = '{state}' AND effect.action = ? AND effect.next_at <= ? ORDER BY effect.next_at, effect.seq LIMIT ?"
)
_SEEK = "SELECT min(action) FROM effect INDEXED BY effect_due WHERE state = '{state}' AND next_at IS NOT NULL"
_DUE_ACTIONS = (  # one seek in the index for each action, however many effects wait
    f"WITH RECURSIVE found (action) AS ({_SEEK} UNION ALL SELECT ({_SEEK} AND action > found.action) FROM found "
    "WHERE found.action IS NOT NULL) SELECT action FROM found WHERE action IS NOT NULL"
)
_CLAIMABLE = ("ready", "retry_wait")
_WAITING = "SELECT count(*) FROM effect INDEXED BY effect_due WHERE state IN ('ready', 'retry_wait') AND next_at IS NOT NULL AND detail = ?"
_CLAIM = (
    "UPDATE effect SET state = 'claimed', attempts = attempts + 1, claimed_at = ?1, "
    "first_claimed_at = coalesce(first_claimed_at, ?1) "
    "WHERE seq = ?2"
)
_END = "UPDATE effect SET state = ?, detail = ?, settled_at = ?, next_at = ? WHERE seq = ?"
_LATER = "UPDATE effect SET next_at = ?, detail = ? WHERE seq = ?"
_HOLD = "UPDATE effect SET state = 'held', detail = ?, next_at = NULL WHERE seq = ?"
_SETTLE = (
    "UPDATE effect SET state = ?, detail = ?, provider_id = coalesce(nullif(?, ''), provider_id), next_at = ?, settled_at = ? "
    "WHERE id = ? AND state = ? AND attempts = ? RETURNING claimed_at"
)
_SETTLE_REPORTED = (  # evidence from outside was faster than the record of the hand-over: the evidence stands
    "UPDATE effect SET provider_id = coalesce(nullif(?, ''), provider_id) WHERE id = ? AND attempts = ? "
    "AND state IN ('accepted', 'delivered', 'bounced', 'complained', 'failed') "
    "AND NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.effect = effect.id AND number = attempts) RETURNING claimed_at"
)
_ADD_ATTEMPT = "INSERT INTO attempt (effect, number, claimed_at, settled_at, state, detail) VALUES (?,?,?,?,?,?)"
_ADD_AUDIT = "INSERT INTO audit (at, who, what, detail) VALUES (?,?,?,?)"
_SPEND = (
    "INSERT INTO throttle (name, slot, used) VALUES (?,?,1) ON CONFLICT (name, slot) DO UPDATE SET used = used + 1"
)
_CANCEL = (
    f"UPDATE effect SET state = 'cancelled', detail = ?, settled_at = ?, next_at = NULL WHERE contact = ? AND ruleset = ? "
    f"AND instance = ? AND state IN ({', '.join(repr(state) for state in UNSENT_STATES)}) AND (? IS NULL OR next_at IS NULL OR next_at > ?)"
)


def effect_values(effect: Effect) -> tuple:
    """The columns of a new effect."""
    return (
        effect.id,
        effect.contact,
        effect.action,
        dump([effect.primary, effect.params]),
        effect.ruleset,
        effect.step,
        effect.key,
        effect.channel,
        effect.message_class,
        effect.at,
        effect.expires,
        effect.state,
        effect.at,
        effect.instance,
        effect.exempt,
        handle(effect.id),
    )


def effect_row(values: Sequence[Any]) -> EffectRow:
    """An EffectRow from COLUMNS."""
    primary, params = load(bytes(values[3]))
    return EffectRow(*values[:3], primary, params, *values[4:])


class Outbox:
    """Needs `_db` and what `sqlite.SqliteStore` brings."""

    _db: Database
    _cursor: Callable[[], int]
    _append: Callable[[Any, Sequence[Arrival]], Any]

    def claim_effects(
        self, due: int, now: int, limit: int, judge: Callable[[Candidate], Verdict | None], full: Collection[str] = ()
    ) -> list[Candidate]:
        """See Store."""
        if self.next_effect(due) is None:  # most turns: nothing to do, no lock taken
            return []
        claimed = []
        with self._db.tx("claim") as raw:
            for candidate in self._candidates(raw, due, limit, full):
                verdict = judge(candidate)
                if verdict is None:
                    continue
                if verdict is ENOUGH:
                    break
                if verdict.state == "claimed":
                    raw.execute(_CLAIM, (now, candidate.effect.seq))
                    claimed.append(candidate._replace(effect=claimed_effect(candidate.effect, now)))
                    for name, slot, oldest in verdict.spent:
                        raw.execute(_SPEND, (name, slot))
                        raw.execute("DELETE FROM throttle WHERE name = ? AND slot < ?", (name, oldest))
                else:
                    self._put_off(raw, candidate.effect.seq, verdict, now)
        return claimed

    def _put_off(self, raw: Any, seq: int, verdict: Verdict, now: int) -> None:
        """What is not claimed: later, held, or ended."""
        detail = plain(verdict.detail)
        if verdict.state == "later":
            raw.execute(_LATER, (verdict.next_at, detail, seq))
        elif verdict.state == "held":
            raw.execute(_HOLD, (detail, seq))
        else:
            raw.execute(_END, (verdict.state, detail, now, verdict.next_at, seq))
        if verdict.news:
            self._append(raw, verdict.news)

    def _candidates(self, raw: Any, due: int, limit: int, full: Collection[str]) -> Iterator[Candidate]:
        """Read at once, because the claim changes the table; decoded one by one, because the judge may soon have enough."""
        cursor = self._cursor()
        paused = {name for (name,) in raw.execute("SELECT campaign FROM pause")}

        def used(name: str, slot: int) -> tuple[int, int | None]:
            sql = "SELECT coalesce(sum(used), 0), min(slot) FROM throttle WHERE name = ? AND slot >= ?"
            return raw.execute(sql, (name, slot)).fetchone()

        def unread(contact: str) -> bool:
            sql = "SELECT 1 FROM event WHERE contact = ? AND status = 0 AND seq > ? LIMIT 1"
            return raw.execute(sql, (contact, cursor)).fetchone() is not None

        def waiting(detail: str) -> int:
            return raw.execute(_WAITING, (plain(detail),)).fetchone()[0]

        found: list[tuple] = []
        for state in _CLAIMABLE:
            for (action,) in raw.execute(_DUE_ACTIONS.format(state=state)).fetchall():
                if action not in full:
                    found += raw.execute(_CANDIDATES.format(state=state), (cursor, action, due, limit)).fetchall()
        found.sort(key=lambda row: (row[_NEXT_AT], row[_SEQ]))
        for row in found:
            effect = effect_row(row[:-2])
            stops = EVERYTHING in paused or effect.ruleset in paused
            yield Candidate(effect, row[-2], bool(row[-1]), stops, used, unread, waiting)

    def _cancel(self, raw: Any, cancels: Sequence[Cancel]) -> None:
        """Messages of instances that have ended."""
        raw.executemany(
            _CANCEL,
            [
                (plain(item.reason), item.at, item.contact, item.ruleset, item.instance, item.after, item.after)
                for item in cancels
            ],
        )

    def settle(self, settlements: Sequence[Settlement], news: Sequence[Arrival] = ()) -> int:
        """See Store."""
        counted = 0
        with self._db.tx("settle") as raw:
            for item in settlements:
                detail, provider_id = plain(item.detail), plain(item.provider_id)
                found = raw.execute(
                    _SETTLE, (item.state, detail, provider_id, item.next_at, item.at, item.effect, item.was, item.attempt)
                ).fetchall()
                if not found and item.was == "claimed":
                    found = raw.execute(_SETTLE_REPORTED, (provider_id, item.effect, item.attempt)).fetchall()
                if found:
                    counted += 1
                    raw.execute(_ADD_ATTEMPT, (item.effect, item.attempt, found[0][0], item.at, item.state, detail))
            # Who has no effect any more was erased during the hand-over; nothing may come back by its news.
            news = [item for item in news if self._db.one("SELECT 1 FROM effect WHERE contact = ? LIMIT 1", (item.cause.contact,))]
            if news:
                self._append(raw, news)
        return counted

    def unknown_after_restart(
        self,
        now: int,
        repeatable: Callable[[EffectRow], bool],
        lookup_at: Callable[[EffectRow], int | None] = lambda effect: None,
        but: Collection[str] = (),
    ) -> list[EffectRow]:
        """See Store."""
        if self._db.one("SELECT 1 FROM effect WHERE state = 'claimed' LIMIT 1") is None:
            return []
        lost = []
        with self._db.tx("restart") as raw:
            for values in raw.execute(f"SELECT {_EFFECT} FROM effect WHERE state = 'claimed' ORDER BY seq").fetchall():
                effect = effect_row(values)
                if effect.id in but:
                    continue
                again = repeatable(effect)
                state, detail = ("ready", RESTARTED) if again else ("unknown", DIED)
                next_at = effect.next_at if again else lookup_at(effect)
                raw.execute(
                    "UPDATE effect SET state = ?, detail = ?, settled_at = ?, next_at = ? WHERE seq = ?",
                    (state, detail, now, next_at, effect.seq),
                )
                raw.execute(_ADD_ATTEMPT, (effect.id, effect.attempts, effect.claimed_at, now, "unknown", DIED))
                if not again:
                    lost.append(effect._replace(state=state, detail=detail, settled_at=now, next_at=next_at))
        return lost

    def lookups(self, now: int, limit: int, actions: Collection[str] | None = None) -> list[Candidate]:
        """See Store."""
        only = "" if actions is None else f"AND effect.action IN ({', '.join('?' for _ in actions)}) "
        rows = self._db.rows(
            f"SELECT {_EFFECT}, contact.state FROM effect LEFT JOIN contact ON contact.id = effect.contact "
            f"WHERE effect.state = 'unknown' AND effect.next_at <= ? {only}ORDER BY effect.next_at, effect.seq LIMIT ?",
            (now, *(actions or ()), limit),
        )
        return [Candidate(effect_row(row[:-1]), row[-1], False) for row in rows]

    def report(self, effect: str, state: str, detail: str, now: int) -> bool:
        """See Store."""
        allowed = [old for old, ways in REPORTS.items() if state in ways]
        with self._db.tx("report") as raw:
            marks = ", ".join("?" for _ in allowed)
            return (
                raw.execute(
                    f"UPDATE effect SET state = ?, detail = ?, next_at = NULL, settled_at = ? WHERE id = ? AND state IN ({marks})",
                    (state, plain(detail), now, effect, *allowed),
                ).rowcount
                == 1
            )

    def resolve(self, effect: str, state: str, detail: str, now: int, who: str = "", news: Sequence[Arrival] = ()) -> bool:
        """See Store."""
        allowed = [old for old, ways in RESOLUTIONS.items() if state in ways]
        again = state == "ready"
        with self._db.tx("resolve") as raw, self._db.models(TABLES):
            released = {EffectTable.exempt: EffectTable.exempt.concat(" late"), EffectTable.first_claimed_at: None} if again else {}
            changed = (
                EffectTable.update(
                    {
                        EffectTable.state: state,
                        EffectTable.detail: plain(detail),
                        EffectTable.next_at: EffectTable.at if again else None,
                        EffectTable.settled_at: now,
                        **released,
                    }
                )
                .where(EffectTable.id == effect, EffectTable.state.in_(allowed))
                .execute()
            )
            if changed:
                raw.execute(_ADD_AUDIT, (now, plain(who), f"outbox {state}", plain(f"{effect}: {detail}")))
                if news:
                    self._append(raw, news)
        return changed == 1

    def postpone(self, actions: Sequence[str], until: int) -> int:
        """See Store."""
        marks = ", ".join("?" for _ in actions)
        with self._db.tx("postpone") as raw:
            return raw.execute(
                f"UPDATE effect SET next_at = ? WHERE state IN ('ready', 'retry_wait') AND next_at < ? AND action IN ({marks})",
                (until, until, *actions),
            ).rowcount

    def pause(self, campaign: str, reason: str, now: int, who: str = "") -> bool:
        """See Store."""
        with self._db.tx("pause") as raw:
            added = raw.execute(
                "INSERT INTO pause (campaign, at, reason) VALUES (?,?,?) ON CONFLICT (campaign) DO NOTHING",
                (campaign, now, plain(reason)),
            ).rowcount
            raw.execute(_ADD_AUDIT, (now, plain(who), "pause", plain(f"{campaign}: {reason}" if reason else campaign)))
        return added == 1

    def resume(self, campaign: str, now: int, who: str = "") -> bool:
        """See Store. What the pause had parked is due again at its own time, but for what another pause still holds: that is parked
        anew by the next claim."""
        with self._db.tx("resume") as raw:
            lifted = raw.execute("DELETE FROM pause WHERE campaign = ?", (campaign,)).rowcount
            if lifted:
                raw.execute(
                    "UPDATE effect SET next_at = at WHERE state IN ('ready', 'retry_wait') AND next_at IS NULL "
                    "AND (? = ? OR ruleset = ?)",
                    (campaign, EVERYTHING, campaign),
                )
                raw.execute(_ADD_AUDIT, (now, plain(who), "resume", plain(campaign)))
        return lifted == 1

    def pauses(self) -> list[Pause]:
        """See Store."""
        return [Pause(*row) for row in self._db.rows("SELECT campaign, at, reason FROM pause ORDER BY at, campaign")]

    def audit(self, who: str, what: str, detail: str, now: int) -> None:
        """See Store."""
        with self._db.tx("audit") as raw:
            raw.execute(_ADD_AUDIT, (now, plain(who), what, plain(detail)))

    def audits(self, limit: int = 100) -> list[Audit]:
        """See Store."""
        return [Audit(*row) for row in self._db.rows("SELECT at, who, what, detail FROM audit ORDER BY seq DESC LIMIT ?", (limit,))]

    def effect(self, id: str) -> EffectRow | None:
        """See Store."""
        rows = self._db.rows(f"SELECT {_EFFECT} FROM effect WHERE id = ?", (id,))
        return effect_row(rows[0]) if rows else None

    def find_effect(self, name: str) -> EffectRow | None:
        """See Store."""
        if not name:
            return None
        for column in ("handle", "provider_id"):
            rows = self._db.rows(f"SELECT {_EFFECT} FROM effect WHERE {column} = ? AND {column} != '' ORDER BY seq DESC LIMIT 1", (name,))
            if rows:
                return effect_row(rows[0])
        return None

    def effects(self, state: str | None = None, contact: str | None = None, limit: int = 100) -> list[EffectRow]:
        """See Store."""
        with self._db.models(TABLES):
            query = (
                EffectTable.select(*(getattr(EffectTable, name) for name in COLUMNS))
                .order_by(EffectTable.seq.desc())
                .limit(limit)
            )
            if state is not None:
                query = query.where(EffectTable.state == state)
            if contact is not None:
                query = query.where(EffectTable.contact == contact)
            return [effect_row(values) for values in self._db.read(lambda: list(query.tuples()))]

    def attempts_of(self, effect: str) -> list[Attempt]:
        """See Store."""
        with self._db.models(TABLES):
            table = AttemptTable
            query = table.select(table.effect, table.number, table.claimed_at, table.settled_at, table.state, table.detail)
            query = query.where(table.effect == effect).order_by(table.seq).tuples()
            return [Attempt(*row) for row in self._db.read(lambda: list(query))]

    def next_effect(self, until: int | None = None) -> int | None:
        """See Store. With `until`, only what can be claimed by then."""
        states = ("ready", "retry_wait", "unknown") if until is None else ("ready", "retry_wait")
        found = [self._db.one("SELECT min(next_at) FROM effect WHERE state = ?", (state,)) for state in states]
        times = [at for at in found if at is not None and (until is None or at <= until)]
        return min(times) if times else None


def claimed_effect(effect: EffectRow, now: int) -> EffectRow:
    """An effect as its claim leaves it."""
    first = now if effect.first_claimed_at is None else effect.first_claimed_at
    return effect._replace(state="claimed", attempts=effect.attempts + 1, claimed_at=now, first_claimed_at=first)
