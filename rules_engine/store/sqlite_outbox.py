"""The outbox's verbs on SQLite. A part of `sqlite.SqliteStore`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rules_engine.decisions import Effect
from rules_engine.links import handle
from rules_engine.store.codec import dump, load, plain
from rules_engine.store.database import Database
from rules_engine.store.port import (
    DIED,
    ENOUGH,
    RESOLUTIONS,
    RESTARTED,
    Arrival,
    Attempt,
    Candidate,
    EffectRow,
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
    "AND event.seq > ?) FROM effect LEFT JOIN contact ON contact.id = effect.contact "
    "WHERE effect.state = ? AND effect.next_at <= ? ORDER BY effect.next_at, effect.seq LIMIT ?"
)
_CLAIM = (
    "UPDATE effect SET state = 'claimed', attempts = attempts + 1, claimed_at = ?1, "
    "first_claimed_at = coalesce(first_claimed_at, ?1) "
    "WHERE seq = ?2"
)
_END = "UPDATE effect SET state = ?, detail = ?, settled_at = ?, next_at = NULL WHERE seq = ?"
_SETTLE = (
    "UPDATE effect SET state = ?, detail = ?, provider_id = ?, next_at = ?, settled_at = ? "
    "WHERE id = ? AND state = 'claimed' AND attempts = ? RETURNING claimed_at"
)
_ADD_ATTEMPT = "INSERT INTO attempt (effect, number, claimed_at, settled_at, state, detail) VALUES (?,?,?,?,?,?)"


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

    def claim_effects(self, due: int, now: int, limit: int, judge: Callable[[Candidate], Verdict | None]) -> list[Candidate]:
        """See Store."""
        if self.next_effect(due) is None:  # most turns: nothing to do, no lock taken
            return []
        claimed = []
        with self._db.tx("claim") as raw:
            for candidate in self._candidates(raw, due, limit):
                verdict = judge(candidate)
                if verdict is None:
                    continue
                if verdict is ENOUGH:
                    break
                if verdict.state == "claimed":
                    raw.execute(_CLAIM, (now, candidate.effect.seq))
                    claimed.append(candidate._replace(effect=_claimed(candidate.effect, now)))
                else:
                    raw.execute(_END, (verdict.state, plain(verdict.detail), now, candidate.effect.seq))
        return claimed

    def _candidates(self, raw: Any, due: int, limit: int) -> Iterator[Candidate]:
        """Read at once, because the claim changes the table; decoded one by one, because the judge may soon have enough."""
        cursor = self._cursor()
        found: list[tuple] = []
        for state in ("ready", "retry_wait"):
            found += raw.execute(_CANDIDATES, (cursor, state, due, limit)).fetchall()
        found.sort(key=lambda row: (row[_NEXT_AT], row[_SEQ]))
        for row in found[:limit]:
            yield Candidate(effect_row(row[:-2]), row[-2], bool(row[-1]))

    def settle(self, settlements: Sequence[Settlement], news: Sequence[Arrival] = ()) -> int:
        """See Store."""
        counted = 0
        with self._db.tx("settle") as raw:
            for item in settlements:
                found = raw.execute(
                    _SETTLE,
                    (item.state, plain(item.detail), plain(item.provider_id), item.next_at, item.at, item.effect, item.attempt),
                ).fetchall()
                if found:
                    counted += 1
                    raw.execute(_ADD_ATTEMPT, (item.effect, item.attempt, found[0][0], item.at, item.state, plain(item.detail)))
            # Who has no effect any more was erased during the hand-over; nothing may come back by its news.
            news = [item for item in news if self._db.one("SELECT 1 FROM effect WHERE contact = ? LIMIT 1", (item.cause.contact,))]
            if news:
                self._append(raw, news)
        return counted

    def unknown_after_restart(self, now: int, repeatable: Callable[[EffectRow], bool]) -> list[EffectRow]:
        """See Store."""
        if self._db.one("SELECT 1 FROM effect WHERE state = 'claimed' LIMIT 1") is None:
            return []
        lost = []
        with self._db.tx("restart") as raw:
            for values in raw.execute(f"SELECT {_EFFECT} FROM effect WHERE state = 'claimed' ORDER BY seq").fetchall():
                effect = effect_row(values)
                again = repeatable(effect)
                state, detail = ("ready", RESTARTED) if again else ("unknown", DIED)
                raw.execute(
                    "UPDATE effect SET state = ?, detail = ?, settled_at = ?, next_at = ? WHERE seq = ?",
                    (state, detail, now, effect.next_at if again else None, effect.seq),
                )
                raw.execute(_ADD_ATTEMPT, (effect.id, effect.attempts, effect.claimed_at, now, "unknown", DIED))
                if not again:
                    lost.append(effect._replace(state=state, detail=detail, settled_at=now, next_at=None))
        return lost

    def resolve(self, effect: str, state: str, detail: str, now: int) -> bool:
        """See Store."""
        allowed = [old for old, news in RESOLUTIONS.items() if state in news]
        next_at = EffectTable.at if state == "ready" else None
        with self._db.tx("resolve"), self._db.peewee.bind_ctx(TABLES, bind_refs=False, bind_backrefs=False):
            changed = (
                EffectTable.update(state=state, detail=plain(detail), next_at=next_at, settled_at=now)
                .where(EffectTable.id == effect, EffectTable.state.in_(allowed))
                .execute()
            )
        return changed == 1

    def effect(self, id: str) -> EffectRow | None:
        """See Store."""
        rows = self._db.rows(f"SELECT {_EFFECT} FROM effect WHERE id = ?", (id,))
        return effect_row(rows[0]) if rows else None

    def effects(self, state: str | None = None, contact: str | None = None, limit: int = 100) -> list[EffectRow]:
        """See Store."""
        with self._db.peewee.bind_ctx(TABLES, bind_refs=False, bind_backrefs=False):
            query = (
                EffectTable.select(*(getattr(EffectTable, name) for name in COLUMNS))
                .order_by(EffectTable.seq.desc())
                .limit(limit)
            )
            if state is not None:
                query = query.where(EffectTable.state == state)
            if contact is not None:
                query = query.where(EffectTable.contact == contact)
            return [effect_row(values) for values in query.tuples()]

    def attempts_of(self, effect: str) -> list[Attempt]:
        """See Store."""
        with self._db.peewee.bind_ctx(TABLES, bind_refs=False, bind_backrefs=False):
            table = AttemptTable
            query = table.select(table.effect, table.number, table.claimed_at, table.settled_at, table.state, table.detail)
            return [Attempt(*row) for row in query.where(table.effect == effect).order_by(table.seq).tuples()]

    def next_effect(self, until: int | None = None) -> int | None:
        """See Store. With `until`, only if it is due by then."""
        found = [self._db.one("SELECT min(next_at) FROM effect WHERE state = ?", (state,)) for state in ("ready", "retry_wait")]
        times = [at for at in found if at is not None and (until is None or at <= until)]
        return min(times) if times else None


def _claimed(effect: EffectRow, now: int) -> EffectRow:
    first = now if effect.first_claimed_at is None else effect.first_claimed_at
    return effect._replace(state="claimed", attempts=effect.attempts + 1, claimed_at=now, first_claimed_at=first)
