"""What only the PostgreSQL store has: opening, leases and the fence, lost connections, several producers."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rules_engine.facts import Event, Wake
from rules_engine.store import is_url, open_store
from rules_engine.store.port import CLAIM, SOURCE_OUTCOMES, Arrival, BadData, Block, ContactRow, Settlement, StoreError, Verdict
from tests import pgserver
from tests.store.test_contract import claim_all, decision, effect, event, row

ROOT = Path(__file__).parents[2]

if pgserver.skip_reason():
    pytest.skip(pgserver.skip_reason(), allow_module_level=True)

from rules_engine.store.postgres import PostgresStore  # noqa: E402
from rules_engine.store.postgres_database import JOURNAL_LOCK, shown  # noqa: E402
from rules_engine.store.postgres_schema import MIGRATIONS  # noqa: E402


def made(url, **more):
    return PostgresStore(url, unsafe=True, **more)


@pytest.fixture
def url(postgres_url):
    return postgres_url


@pytest.fixture
def two(url):
    """Two stores on one database, as two workers have them."""
    stores = [made(url), made(url)]
    for store in stores:
        store.lease_ms = 600
    yield stores
    for store in stores:
        store.close()


def tend(*stores):
    """A look at once, whatever the time of the last one."""
    changed = []
    for store in stores:
        if store._lease is not None:
            store._lease.tended = -(10**12)
        changed.append(store.tend())
    return changed


def contact_of(store, shards, tag="c"):
    """A contact of one of these shards."""
    return next(f"{tag}{n}" for n in range(100_000) if store.shard_of(f"{tag}{n}") in shards)


# ---------------------------------------------------------------- opening


def test_what_is_foreign_newer_older_or_missing_is_refused_in_words(url):
    server = pgserver.server()
    with pytest.raises(StoreError, match="there is no Camp in") as refused:
        made(url, create=False)
    assert refused.value.kind == "missing"
    server.execute("CREATE SCHEMA camp; CREATE TABLE camp.meta (x int)", "contract")
    with pytest.raises(StoreError, match="not of this program") as refused:
        made(url)
    assert refused.value.kind == "foreign"
    server.execute("DROP SCHEMA camp CASCADE", "contract")
    made(url).close()
    server.execute("UPDATE camp.meta SET value = '99' WHERE key = 'version'", "contract")
    with pytest.raises(StoreError, match="schema 99, and this Camp knows only") as refused:
        made(url)
    assert refused.value.kind == "newer"
    with pytest.raises(StoreError, match="is not there") as refused:
        made(url.replace("contract", "nowhere"))
    assert refused.value.kind == "missing"
    with pytest.raises(StoreError, match="does not answer") as refused:
        made("postgresql://camp@127.0.0.1:1/camp")
    assert refused.value.kind == "lost" and refused.value.passing


def test_a_server_that_may_forget_is_refused(url):
    with pytest.raises(StoreError, match="fsync and full_page_writes off: a power cut would lose"):
        PostgresStore(url)


def test_commits_are_synced_whatever_the_servers_setting(url):
    pgserver.server().execute("ALTER DATABASE contract SET synchronous_commit = off")
    try:
        store = made(url)
        assert store._db.one("SHOW synchronous_commit") == "on"
        store.close()
    finally:
        pgserver.server().execute("ALTER DATABASE contract RESET synchronous_commit")


def test_a_migration_is_all_or_nothing_and_waits_for_workers_of_an_older_camp(url):
    older = made(url)
    older.record_events([event("a")])
    with older.run_lock(), pytest.raises(StoreError, match="workers of an older Camp use it"):
        made(url, migrations=(*MIGRATIONS, "CREATE TABLE more (x int)"))
    with pytest.raises(StoreError):
        made(url, migrations=(*MIGRATIONS, "CREATE TABLE more (x int); CREATE TABLE more (x int)"))
    assert older._db.one("SELECT to_regclass('camp.more')") is None
    with pytest.raises(StoreError, match="older schema"):
        made(url, migrations=(*MIGRATIONS, "CREATE TABLE more (x int)"), readonly=True)
    newer = made(url, migrations=(*MIGRATIONS, "CREATE TABLE more (x int)"))
    assert [row.cause.id for row in newer.read_log(0, 9)] == ["a"]
    newer.close()
    older.close()


def test_several_processes_may_make_the_schema_at_once(url):
    stores, threads = [], [threading.Thread(target=lambda: stores.append(made(url))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores) == 6 and {store._meta("version") for store in stores} == {str(len(MIGRATIONS))}
    for store in stores:
        store.close()


def test_a_store_for_reading_writes_nothing(url):
    made(url).close()
    store = made(url, readonly=True)
    for write in (lambda: store.record_events([event("a")]), lambda: store.purge(5), lambda: store.pause("x", "", 1)):
        with pytest.raises(StoreError) as refused:
            write()
        assert refused.value.kind == "readonly"
    assert store.counts().contacts == 0 and store.check() == []
    store.close()


def test_a_missing_driver_is_told_with_the_way_out():
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from rules_engine.store import StoreError, open_store\n"
        "try:\n    open_store('postgresql://x/y')\nexcept StoreError as error:\n    print(error.message, error.help)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "needs the package psycopg" in done.stdout and "pip install 'camp-rules-engine[postgres]'" in done.stdout, done


def test_an_address_is_told_from_a_file_and_shown_without_its_password():
    assert is_url("postgresql://x/y") and is_url("postgres://x/y") and not is_url("camp.db") and not is_url(Path("postgresql:/x"))
    assert shown("postgresql://me:secret@db:5432/camp") == "postgresql://me@db:5432/camp"
    with pytest.raises(StoreError) as refused:
        open_store("postgresql://me:secret@127.0.0.1:1/camp")
    assert "secret" not in refused.value.message + refused.value.help


# ---------------------------------------------------------------- several producers (law 8)


def test_what_is_read_is_never_overtaken_by_a_lower_number(url):
    """Four producers at once, one reader that follows by its cursor: with a serial id alone it would skip what commits late."""
    reader, cursor, seen = made(url), 0, []
    errors = []

    def produce(name):
        store = made(url)
        try:
            for n in range(60):
                store.record_events([event(f"{name}-{n}", f"{name}{n % 7}"), event(f"{name}-{n}b", "shared")])
        except Exception as error:
            errors.append(error)
        store.close()

    threads = [threading.Thread(target=produce, args=(f"p{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) or reader.read_log(cursor, 1):
        for item in reader.read_log(cursor, 50):
            assert item.seq > cursor
            cursor = item.seq
            seen.append(item)
    assert not errors and len(seen) == 480
    assert [item.received for item in seen] == sorted(item.received for item in seen), "received never falls in the order of the log"
    reader.close()


def test_nobody_is_appending_when_it_is_quiet(url):
    """A wake-up may fire up to the time that `quiet_now` says only if no event of an earlier time can still turn up."""
    store, other = made(url), made(url)
    answers = []
    raw = other._db.raw
    raw.execute("BEGIN")
    other._append(raw.cursor(), [event("late")])
    thread = threading.Thread(target=lambda: answers.append(store.quiet_now(0)))
    thread.start()
    time.sleep(0.2)
    assert answers == [], "it waits for whoever is appending"
    raw.execute("COMMIT")
    thread.join()
    assert answers == [None], "and then sees it"
    store.close()
    other.close()


@pytest.mark.parametrize("who", ["ana", "once ana"])
def test_an_unsubscribe_that_is_being_recorded_stops_the_claim(url, who):
    """Promise P9: the claim waits for it, and leaves the message for later; also where the contact had another name."""
    store, other = made(url), made(url)
    store.commit(Block("p1", [row("ana")], effects=[effect("f1")]))
    raw = other._db.raw
    raw.execute("BEGIN")
    other._append(raw.cursor(), [event("unsubscribe", who)])
    claimed = []
    judge = lambda candidate: CLAIM._replace(contacts=("once ana",))  # noqa: E731
    thread = threading.Thread(target=lambda: claimed.append(store.claim_effects(200, 200, 9, judge)))
    thread.start()
    time.sleep(0.2)
    raw.execute("COMMIT")
    thread.join()
    assert claimed == [[]] and store.effect("f1").state == "ready"
    store.close()
    other.close()


# ---------------------------------------------------------------- leases


def test_workers_share_the_shards_fairly_and_give_them_back(two, url):
    one, other = two
    with one.run_lock(alone=False, program="p"):
        assert len(one.mine) == 64 and one.running()
        with other.run_lock(alone=False, program="p"):
            assert other.mine == [] and tend(other) == [False], "the first one gives them away itself"
            assert tend(one, other) == [True, True] and tend(one, other) == [False, False]
            assert len(one.mine) == len(other.mine) == 32 and not set(one.mine) & set(other.mine)
            third = made(url)
            with third.run_lock(alone=False, program="p"):
                tend(one, other, third)
                tend(third)
                assert [len(store.mine) for store in (one, other, third)] == [22, 22, 20]
            third.close()
            tend(one, other)
            assert len(one.mine) + len(other.mine) == 64
        assert tend(one) == [True] and len(one.mine) == 64
    assert not one.running() and one.workers() == [] and one.check() == []


def test_each_works_on_its_own_shards_only(two):
    one, other = two
    with one.run_lock(alone=False, program="p"), other.run_lock(alone=False, program="p"):
        tend(one, other)
        mine, theirs = contact_of(one, one.mine), contact_of(one, other.mine)
        one.record_events([event("a", mine), event("b", theirs)])
        assert [row.cause.id for row in one.read_log(0, 9)] == ["a"] and [row.cause.id for row in other.read_log(0, 9)] == ["b"]
        assert [row.cause.id for row in one.read_history(10**15, 9)] == ["a"]
        one.commit(Block("p", [row(mine, 10)], [1], effects=[effect("f1", mine), effect("f2", mine)], cursor=2, clock=5))
        other.commit(Block("p", [row(theirs, 20)], [2], effects=[effect("f3", theirs)], cursor=2, clock=6))
        assert one.due(99, 9) == [(10, mine)] and other.due(99, 9) == [(20, theirs)] and other.next_wake() == 20
        assert [item.effect.id for item in other.claim_effects(500, 500, 9, claim_all)] == ["f3"]
        assert one.quiet_now(2) is not None and one.position() == (2, 5) and other.position() == (2, 6)
        assert {item.id: item.state for item in one.effects()} == {"f1": "ready", "f2": "ready", "f3": "claimed"}, "looking sees all"
        assert one.unknown_after_restart(600, lambda effect: False) == [], "the other's claim is not mine to judge"
        emitted = Arrival(Event("x", "e", theirs, 1), "engine")
        one.commit(Block("p", emits=[emitted]))
        assert [row.cause.id for row in other.read_log(2, 9)] == ["x"], "an event for a contact of another worker"


def test_a_position_goes_along_with_its_shards(two):
    """A worker that takes shards over goes back to the older of both positions: no wake-up overtakes an event that waits."""
    one, other = two
    with one.run_lock(alone=False, program="p"):
        one.record_events([event(f"e{n}", f"c{n}") for n in range(50)])
        one.commit(Block("p", done=list(range(1, 31)), cursor=30, clock=1_000))
        with other.run_lock(alone=False, program="p"):
            tend(one, other)
            assert other.position() == (30, 1_000)
            one.commit(Block("p", done=[row.seq for row in one.read_log(30, 99)], cursor=50, clock=2_000))
            assert one.position() == (50, 2_000) and other.position() == (30, 1_000)
        tend(one)
        assert one.position() == (30, 1_000) and len(one.read_log(30, 99)) > 0
        one.commit(Block("p", done=[row.seq for row in one.read_log(30, 99)], cursor=50, clock=3_000))
    with other.run_lock():
        assert other.position() == (50, 3_000)


def test_a_worker_that_was_silent_for_too_long_is_fenced_in_every_verb(two):
    one, other = two
    one.record_events([event("a", "ana")])
    one.commit(Block("p", [row("ana")], effects=[effect("f1"), effect("f2"), effect("f3")]))
    with one.run_lock(alone=False, program="p"), other.run_lock(alone=False, program="p"):
        claimed = one.claim_effects(500, 500, 2, claim_all)
        time.sleep(0.7)
        assert tend(other) == [True] and len(other.mine) == 64, "the silent one is taken for dead"
        lost = other.unknown_after_restart(900, lambda effect: effect.id == "f2")
        assert [item.id for item in lost] == ["f1"]
        for verb in (
            lambda: one.commit(Block("p", [row("ana", 7)], [1], cursor=1)),
            lambda: one.claim_effects(500, 500, 9, claim_all),
            lambda: one.settle([Settlement("f2", 1, "failed", 1_000)]),
        ):
            one._lease.shards = list(range(64))  # it does not know yet
            with pytest.raises(StoreError) as refused:
                verb()
            assert refused.value.kind == "fenced" and refused.value.passing and one.mine == []
        assert not one.hold(100), "and begins no call"
        assert other.contacts(["ana"])["ana"].wake_at is None and [row.cause.id for row in other.read_log(0, 9)] == ["a"]
        assert {item.id: item.state for item in other.effects()} == {"f1": "unknown", "f2": "ready", "f3": "ready"}
        assert len(claimed) == 2 and tend(one) == [True] and one.mine == [], "it begins anew as another worker"
        assert tend(other, one) == [True, True] and len(one.mine) == 32


def test_what_a_fenced_worker_knows_of_its_calls_is_kept(two):
    """The call was made, the lease ended meanwhile: what others show as unknown since then is settled by evidence."""
    one, other = two
    one.commit(Block("p", [row("ana")], effects=[effect("f1"), effect("f2"), effect("f3")]))
    with one.run_lock(alone=False, program="p"), other.run_lock(alone=False, program="p"):
        one.claim_effects(500, 500, 3, claim_all)
        time.sleep(0.7)
        tend(other)
        other.unknown_after_restart(900, lambda effect: False)
        other.resolve("f3", "failed", "a person said so", 950)
        with pytest.raises(StoreError):
            one.settle([Settlement(id, 1, "accepted", 1_000, "taken", "id1") for id in ("f1", "f3")])
        assert other.effect("f1").state == "unknown", "not by a worker that is no more"
        tend(one)
        assert one.settle([Settlement(id, 1, "accepted", 1_000, "taken", "id1") for id in ("f1", "f3")]) == 1
        assert {item.id: item.state for item in other.effects()} == {"f1": "accepted", "f2": "unknown", "f3": "failed"}
        assert [attempt.state for attempt in other.attempts_of("f1")] == ["unknown", "accepted"]


def test_a_worker_in_the_middle_of_a_transaction_is_not_buried(two):
    one, other = two
    with one.run_lock(alone=False, program="p"), other.run_lock(alone=False, program="p"):
        raw = one._db.raw
        raw.execute("BEGIN")
        one._fence(raw, None, 0, None)
        time.sleep(0.7)
        assert tend(other) == [False] and other.mine == []
        raw.execute("COMMIT")
        one.commit(Block("p", [row("ana")]))
        assert len(other.workers()) == 2 and tend(other) == [False]


def test_a_lease_is_made_long_enough_for_a_call(two):
    one, other = two
    with one.run_lock(alone=False, program="p"), other.run_lock(alone=False, program="p"):
        assert one.hold(100)
        until = one.workers()[0].until
        assert one.hold(5_000) and one.workers()[0].until > 5_000 > until
        time.sleep(0.7)
        assert tend(other) == [False], "nobody takes it for dead during the call"
        assert one.hold(3_000)


def test_other_campaigns_wait_until_the_last_worker_of_the_old_ones_has_ended(two, url, caplog):
    one, other = two
    with one.run_lock(alone=False, program="old"):
        with other.run_lock(alone=False, program="new"):
            assert other.mine == [] and "runs other campaigns (program old, here new)" in caplog.text
            assert tend(one, other) == [False, False] and len(one.mine) == 64
            assert "restart one worker after the other" in caplog.text
            one._leave()
            assert tend(other) == [True] and len(other.mine) == 64
            assert tend(one) == [True] and one.mine == [], "and the old one would wait now"


def test_a_run_of_its_own_needs_the_database_for_itself(two):
    one, other = two
    with one.run_lock(alone=False, program="p"), pytest.raises(StoreError, match="another `camp run`") as refused, other.run_lock():
        pass
    assert refused.value.kind == "running" and "its lease ends in" in refused.value.help
    with other.run_lock(), one.run_lock(alone=False, program="p"):
        assert one.mine == [] and len(other.mine) == 64
        time.sleep(0.7)
        other.commit(Block("p", [row("ana")]))  # it lives as long as it works
        assert tend(one) == [False] and one.mine == []
        with pytest.raises(StoreError, match="another `camp run`"):
            made_unleased = PostgresStore(other._db.url, unsafe=True)
            made_unleased.commit(Block("p", [row("ben")]))


def test_throttles_count_over_all_workers(two):
    """Two claims at the same time: the second asks what is used up when the first has committed."""
    one, other = two
    one.commit(Block("p", [row(f"c{n}") for n in range(40)], effects=[effect(f"f{n}", f"c{n}") for n in range(40)]))
    with one.run_lock(alone=False, program="p"), other.run_lock(alone=False, program="p"):
        tend(one, other)

        def judge(candidate):
            left = 5 - candidate.used("mail", 0)[0]
            return CLAIM._replace(spent=(("mail", 0, 0),)) if left > 0 else None

        claimed = []
        threads = [threading.Thread(target=lambda s=store: claimed.append(s.claim_effects(500, 500, 40, judge))) for store in two]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(map(len, claimed)) == 5


def test_a_cursor_does_not_stay_behind_what_belongs_to_others(two, monkeypatch):
    from rules_engine.store import postgres

    monkeypatch.setattr(postgres, "FAR", 10)
    one, other = two
    with one.run_lock(alone=False, program="p"), other.run_lock(alone=False, program="p"):
        tend(one, other)
        theirs = contact_of(one, other.mine)
        one.record_events([event(f"e{n}", theirs) for n in range(30)])
        assert one.quiet_now(0) is not None and one.position().cursor == 30 and other.position().cursor == 0
        one.commit(Block("p", set_aside=[], cursor=30, cursor_was=30))
        other.commit(Block("p", set_aside=[(5, "a loop")], done=[n for n in range(1, 31) if n != 5], cursor=30))
        assert one.release([5]) == 1 and other.position().cursor == 4 and [row.seq for row in other.read_log(4, 9)] == [5]


def test_a_living_worker_settles_what_it_claimed_although_its_shard_has_moved_on(two):
    one, other = two
    with one.run_lock(alone=False, program="p"):
        names = [contact_of(one, [shard]) for shard in (0, 63)]
        one.commit(Block("p", [row(name) for name in names], effects=[effect(name, name) for name in names]))
        assert len(one.claim_effects(500, 500, 9, claim_all)) == 2
        with other.run_lock(alone=False, program="p"):
            tend(one, other)
            assert 63 in other.mine and other.unknown_after_restart(600, lambda effect: False) == []
            assert one.unknown_after_restart(600, lambda effect: False, but=names) == [], "what is under way here"
            assert one.settle([Settlement(names[1], 1, "accepted", 700)]) == 1
            time.sleep(0.7)
            one._lease.worker = 0  # it dies
            assert tend(other) == [True] and [item.id for item in other.unknown_after_restart(800, lambda effect: False)] == names[:1]
            assert tend(other) == [False]


def test_claims_left_by_the_dead_are_found_by_whoever_has_the_shard(two, url):
    """The shard had moved on from the worker that claimed; nothing else of the finder's changes when that one dies."""
    one, other = two
    with one.run_lock(alone=False, program="p"), other.run_lock(alone=False, program="p"):
        name = contact_of(one, [63])
        one.commit(Block("p", [row(name)], effects=[effect("f", name)]))
        one.claim_effects(500, 500, 9, claim_all)
        tend(one, other)
        assert 63 in other.mine and tend(other) == [False]
        one._leave()
        other._lease.shards = other._all
        assert other._left_behind() and [item.id for item in other.unknown_after_restart(800, lambda effect: False)] == ["f"]
        assert not other._left_behind()


def test_other_threads_get_a_longer_lease_by_the_next_look(two):
    one, _ = two
    with one.run_lock(alone=False, program="p"):
        answers = []
        thread = threading.Thread(target=lambda: answers.append(one.hold(5_000)))
        thread.start()
        time.sleep(0.1)
        assert answers == [] and one.tend() is False
        thread.join()
        assert answers == [True] and one.workers()[0].until > 4_500
        thread = threading.Thread(target=lambda: answers.append(one.hold(50_000)))
        thread.start()
        thread.join()
        assert answers == [True, False], "nobody looks: not for longer than a lease"


# ---------------------------------------------------------------- a lost connection


def lose(store):
    """The server ends the session, as it does when it is restarted."""
    pid = store._db.raw.info.backend_pid
    pgserver.server().execute(f"SELECT pg_terminate_backend({pid}, 5000)")


def test_a_lost_connection_is_made_anew_and_what_can_be_repeated_is(url):
    store = made(url)
    for work in (
        lambda: store.record_events([event("a")]),
        lambda: store.commit(Block("p1", [row("ana", 5)], [1], effects=[effect("f1")], cursor=1)),
        lambda: store.due(10, 10),
        lambda: store.programs(),
        lambda: store.effects(),
        lambda: store.journal(),
        lambda: store.quiet_now(1),
        lambda: store.counts(),
    ):
        lose(store)
        work()
    assert store.counts().events == {"new": 0, "done": 1, "set_aside": 0} and store.contacts(["ana"])["ana"].wake_at == 5
    store.close()


def test_a_commit_that_took_place_is_not_repeated_when_its_answer_is_lost(url, monkeypatch):
    """The connection breaks after the server has committed: the worker's turn, changed in the same transaction, tells it."""
    store, done = made(url), []
    store.commit(Block("p1", [row("ana")], effects=[effect("f1"), effect("f2")]))
    with store.run_lock():
        attempt = store._db._attempt

        def lost_answer(name, work, way):
            answer = attempt(name, work, way)
            if name == "claim" and not done:
                done.append(name)
                store._db.raw.close()
                return ConnectionError("the line is dead"), answer[1]
            return answer

        monkeypatch.setattr(store._db, "_attempt", lost_answer)
        claimed = store.claim_effects(500, 500, 9, claim_all)
        assert done and [item.effect.id for item in claimed] == ["f1", "f2"] and store.effect("f1").attempts == 1
        store.commit(Block("p1", [row("ana", 9)]))
    store.close()


def test_a_commit_that_did_not_take_place_is_repeated(url, monkeypatch):
    store, done = made(url), []
    with store.run_lock():
        attempt = store._db._attempt

        def lost_commit(name, work, way):
            if name == "pump" and not done:
                done.append(name)
                with pytest.raises(ZeroDivisionError):
                    attempt(name, lambda cursor: (work(cursor), 1 / 0), way)
                store._db.raw.close()
                return ConnectionError("the line is dead"), None
            return attempt(name, work, way)

        monkeypatch.setattr(store._db, "_attempt", lost_commit)
        store.record_events([event("a")])
        store.commit(Block("p1", [row("ana", 9)], [1], cursor=1, effects=[effect("f1")]))
        assert done and store.contacts(["ana"])["ana"].wake_at == 9 and store.counts().effects == {"ready": 1}
    store.close()


def test_a_person_is_told_to_look_when_nobody_knows_what_became_of_it(url, monkeypatch):
    store = made(url)
    attempt = store._db._attempt

    def lost_answer(name, work, way):
        answer = attempt(name, work, way)
        store._db.raw.close()
        return ConnectionError("the line is dead"), answer[1]

    monkeypatch.setattr(store._db, "_attempt", lost_answer)
    with pytest.raises(StoreError, match="was lost while it saved this") as refused:
        store.pause("thanks", "why", 5, "me")
    assert "look before you repeat" in refused.value.help and [pause.campaign for pause in store.pauses()] == ["thanks"]
    store.close()


def test_deadlocks_are_repeated(url):
    store, other = made(url), made(url)
    store.commit(Block("p1", [row("ana"), row("ben")]))
    met = threading.Barrier(2, timeout=10)
    ran = []

    def work(database, first, second):
        def update(cursor):
            ran.append(first)
            cursor.execute("UPDATE contact SET updated = updated + 1 WHERE id = %s", (first,))
            if len(ran) <= 2:
                met.wait()
            cursor.execute("UPDATE contact SET updated = updated + 1 WHERE id = %s", (second,))

        database.run("test", update)

    thread = threading.Thread(target=work, args=(other._db, "ben", "ana"))
    thread.start()
    work(store._db, "ana", "ben")
    thread.join()
    assert len(ran) >= 3 and {row.updated for row in store.contacts(["ana", "ben"]).values()} == {7}
    store.close()
    other.close()


@pytest.mark.parametrize("ahead", [False, True])
def test_who_stands_still_inside_a_transaction_loses_it(url, monkeypatch, ahead):
    """A stopped process must not keep the lock of appends, whether it has waited for its statements' answers or not."""
    from rules_engine.store import postgres_database

    monkeypatch.setattr(postgres_database, "IDLE_MS", 300)
    store, stopped = made(url), made(url)
    if ahead and stopped._db._pipeline.__class__.__name__ == "Plain":
        pytest.skip("libpq has no pipeline")
    sql = stopped._db._pipeline.__enter__() if ahead else stopped._db._plain
    sql.execute("BEGIN")
    stopped._append(sql, [event("never")])
    if ahead:
        assert sql._waiting, "nothing was waited for"
        time.sleep(0.05)  # the lock is taken
    begun = time.monotonic()
    store.record_events([event("a")])
    assert 0.2 < time.monotonic() - begun < 3
    if ahead:
        sql.__exit__(None, None, None)
    stopped.record_events([event("b")])  # with a new connection
    assert [row.cause.id for row in store.read_log(0, 9)] == ["a", "b"]
    store.close()
    stopped.close()


# ---------------------------------------------------------------- values


def test_texts_that_postgresql_does_not_take_cost_only_themselves(url):
    store = made(url)
    for bad in (event("a\0b"), event("x", "an\0a"), event("y", name="z\ud800"), event("z", at=2**70)):
        with pytest.raises(ValueError):
            store.record_events([bad])
    store.record_events([event("fine", note="a\0b \ud800")])
    store.commit(Block("p1", stuck=[(Wake("ana", 10), "a\0loop")], set_aside=[(store.read_log(0, 1)[0].seq, "\0")]))
    assert sorted(row.reason for row in store.set_aside()) == ["\\x00", "a\\x00loop"]
    assert store.contacts(["a\0"]) == {}
    assert store.effect("a\0") is None and store.events_of("a\ud800") == []
    store.settle([], [Arrival(Event("o", "email.failed", "ana", 1), SOURCE_OUTCOMES)])
    store.commit(Block("p1", [ContactRow("ana", b'{"a":"\\u0000"}', None, "p1", 1)]))
    assert store.contacts(["ana"])["ana"].state == b'{"a":"\\u0000"}'
    store.close()


def test_a_text_that_is_too_long_for_an_index_is_its_makers_fault(url):
    store, noise = made(url), "".join(chr(number) for number in range(0x20000, 0x21000))
    for bad in (event(noise), event("x", noise)):
        with pytest.raises(BadData):
            store.record_events([event("fine"), bad])
    with pytest.raises(BadData):
        store.commit(Block("p1", effects=[effect(noise)]))
    assert store.record_events([event("fine")]).accepted == 1
    store.close()


# ---------------------------------------------------------------- moving


def test_a_file_is_copied_with_all_that_is_in_it_and_goes_on_where_it_was(url, tmp_path):
    from rules_engine.facts import ContactChange
    from rules_engine.store.copying import copy_to
    from rules_engine.store.sqlite import SqliteStore
    from tests.store.test_contract import decision

    source = SqliteStore(tmp_path / "camp.db")
    source.record_program("p1", {"a.camp": "RULE x"})
    source.record_events([event(f"e{n}", f"c{n % 9}", subject="s" if n == 3 else None, x=n) for n in range(50)])
    source._db.raw.execute("UPDATE event SET subject = 's' || char(0) WHERE subject = 's'")  # older versions took it
    source.record_events([Arrival(ContactChange("k", "ana", 5, {"email": "ana@example.com"}), "contacts")])
    source.commit(
        Block("p1", [row(f"c{n}", 50 + n) for n in range(9)], list(range(1, 40)), [(41, "odd")], decisions=[decision("c1"), decision("c2")],
              effects=[effect("f1", "c1"), effect("f2", "c2"), effect("f3", "c3")], cursor=39, clock=777)
    )  # fmt: skip
    source.claim_effects(500, 500, 2, claim_all)
    source.settle([Settlement("f1", 1, "accepted", 600, "ok", "prov-1")])
    source.pause("thanks", "why", 5, "me")
    with source.run_lock(), pytest.raises(StoreError, match="another `camp run`"):
        copy_to(tmp_path / "camp.db", url, unsafe=True)
    said = []
    rows = copy_to(tmp_path / "camp.db", url, lambda table, count: said.append(table), unsafe=True)
    assert rows["event"] == 51 and rows["effect"] == 3 and said[0] == "program"
    target = made(url)
    assert target.counts() == source.counts() and target.position() == source.position() == (39, 777) and target.check() == []
    for read in (
        lambda store: store.contacts([f"c{n}" for n in range(9)]),
        lambda store: store.journal(),
        lambda store: store.effects(),
        lambda store: [store.attempts_of(f"f{n}") for n in (1, 2, 3)],
        lambda store: (store.pauses(), store.audits(), store.programs(), store.set_aside(), store.due(10**6, 99)),
        lambda store: (store.contact_at("email", "ana@example.com"), store.find_effect("prov-1")),
        lambda store: store.read_log(store.position().cursor, 99),
    ):
        assert read(target) == read(source)
    assert target.record_events([event("e1", "c1", x=1)]).duplicates == (0,)
    assert target.record_events([event("new", "c1")]).accepted == 1 and target.events_of("c1")[-1].seq > 51
    assert [item.id for item in target.unknown_after_restart(900, lambda effect: False)] == ["f2"]
    with pytest.raises(StoreError, match="is not empty"):
        copy_to(tmp_path / "camp.db", url, unsafe=True)
    source.close()
    target.close()


def test_a_database_that_was_restored_sends_nothing_before_a_person_has_looked(url):
    """A dump that is put back lands in another schema or database; its meta still names the old one."""
    server, store = pgserver.server(), made(url)
    with store.run_lock():
        store.commit(Block("p", [row("ana")], effects=[effect("f1")]))
    assert store.at_home()
    store.close()
    server.execute("UPDATE camp.meta SET value = value || '0' WHERE key = 'home'", "contract")  # as if this were the copy
    copy = made(url)
    assert not copy.at_home() and copy.counts().effects == {"ready": 1}, "looking is free"
    for alone in (True, False):
        with pytest.raises(StoreError, match="is not where it was") as refused, copy.run_lock(alone=alone, program="p"):
            pass
        assert refused.value.kind == "adopt" and "camp db adopt" in refused.value.help and not refused.value.passing
    copy.take_home()
    with copy.run_lock():
        copy.commit(Block("p", [row("ben")]))
        copy._db.home += "0"  # a standby takes over, and the connection comes back to it
        lose(copy)
        assert copy.counts().contacts == 2
        with pytest.raises(StoreError, match="is not where it was"):
            copy.commit(Block("p", [row("carl")]))
    copy.close()


def test_whoever_reads_the_journal_misses_nothing_that_commits_late(url):
    one, other, seen = made(url), made(url), []
    from tests.store.test_contract import decision

    raw = one._db.raw
    raw.execute("BEGIN")
    raw.execute("SELECT pg_advisory_xact_lock_shared(%s)", (JOURNAL_LOCK,))
    raw.execute("SELECT nextval(pg_get_serial_sequence('decision', 'seq'))")
    thread = threading.Thread(target=lambda: seen.append([item.seq for item in other.journal()]))
    thread.start()
    time.sleep(0.2)
    assert seen == [], "it waits for whoever is writing"
    raw.execute("COMMIT")
    thread.join()
    one.commit(Block("p", decisions=[decision()]))
    assert seen == [[]] and [item.seq for item in other.journal()] == [2]
    one.close()
    other.close()


# ---------------------------------------------------------------- the service on it


@pytest.mark.parametrize("runner", [None, "direct"])
def test_a_run_of_its_own_hands_over_with_a_lease_that_is_made_longer(url, runner):
    """An action may take longer than a lease: who runs renews it while calls wait for that."""
    from rules_engine.clock import VirtualClock
    from rules_engine.service.loop import run_once
    from rules_engine.service.runner import DirectRunner
    from tests.service.fake import ENGINE, HOUR, Program, Provider, attributes

    clock = VirtualClock(1_000_000)
    store, provider = made(url, clock=clock), Provider(timeout=30)
    store.lease_ms = 2_000
    store.record_events([Arrival(Event(f"e{n}", "send", f"c{n}", HOUR, None, {})) for n in range(9)])
    store.record_events([Arrival(Event("r", "refer", "c1", HOUR, None, {"to": "c2"}))])
    done = run_once(
        store, Program(), provider.host, clock, engine=ENGINE, attributes=attributes, runner=DirectRunner() if runner else None
    )  # fmt: skip
    assert (done.events, done.effects, done.stopped) == (11, {"accepted": 9}, False) and len(provider.keys) == 9
    assert store.workers() == [] and store.check() == []
    store.close()


# ---------------------------------------------------------------- statements sent one behind the other


def test_a_block_is_two_round_trips(url, monkeypatch):
    """One for all that it changes, one for the commit: with effects, cancels and news too."""
    from rules_engine.store.postgres_pipeline import Pipeline

    store, waits = made(url), []
    if not isinstance(store._db._pipeline, Pipeline):
        pytest.skip("libpq has no pipeline")
    with store.run_lock():
        store.commit(Block("p1", [row("ana")]))  # the program's number
        arrivals = [event(f"e{n}", f"c{n}") for n in range(9)]
        collect = Pipeline._answers
        monkeypatch.setattr(Pipeline, "_answers", lambda self, waiting: (waits.append(len(waiting)), collect(self, waiting))[1])
        assert store.record_events(arrivals).accepted == 9 and len(waits) == 2, waits
        waits.clear()
        emitted = Arrival(Event("x", "e", "ben", 1), "engine")
        decided = [decision(contact="ana")]
        store.commit(Block("p1", [row("ana"), row("ben")], [1, 2], decisions=decided, effects=[effect("f1")], emits=[emitted], cursor=2, erasures=0))
        assert len(waits) == 2, waits
    store.close()


def test_the_first_error_counts_and_costs_the_whole_block(url):
    """An error in the middle of what was sent at once: nothing of it is saved, and what follows it does not hide it."""
    store = made(url)
    with store.run_lock():
        for bad in ("a\0b", "z\ud800"):
            with pytest.raises(BadData) as refused:
                store.commit(Block("p1", [row("ana"), row(bad)], decisions=[decision(contact="ana")], effects=[effect("f1")], cursor=5))
            assert "aborted" not in str(refused.value)
        with pytest.raises(BadData):
            store.commit(Block("p1", [row("ana", wake_at=2**70)]))
        with pytest.raises(BadData):
            store.commit(Block("p1", [row("ana", wake_at="soon")]))
        assert store.counts().contacts == 0 and store.counts().decisions == 0 and store.position().cursor == 0
        store.commit(Block("p1", [row("ana")], cursor=5))
        assert store.position().cursor == 5 and store.counts().contacts == 1, "the connection is as before"
    store.close()


def test_values_of_a_column_come_back_as_they_were(url):
    from rules_engine.store.postgres_pipeline import Bigints, Bytes, Smallints, Texts

    store = made(url)
    for kind, cast, values in (
        (Texts, "text", ["a", None, "", "NULL", 'a"b\\,{}', "é\U0001f600", "a"]),
        (Bytes, "bytea", [b"", b"\0\xff", None, b"{}"]),
        (Bigints, "bigint", [0, -1, None, 2**63 - 1, -(2**63)]),
        (Smallints, "smallint", [0, -1, None, 32767, -32768]),
    ):
        rows = store._db.rows(f"SELECT item FROM unnest(%s::{cast}[]) WITH ORDINALITY AS row (item, n) ORDER BY n", (kind(values),))
        assert [item for (item,) in rows] == values
        assert store._db.rows(f"SELECT count(*) FROM unnest(%s::{cast}[])", (kind([]),)) == [(0,)]
    store.close()


def test_an_error_that_somebody_swallows_still_fails_the_transaction(url):
    """A judge may ask the store for something and live without an answer; a commit of what has failed would be a rollback in silence."""
    store = made(url)
    store.commit(Block("p1", [row("ana"), row("ben")], effects=[effect("f1"), effect("f2", "ben")]))

    def judge(candidate):
        if candidate.effect.id == "f1":
            return Verdict("later", next_at=2**62, detail="x" * 5)._replace(state="no\ud800state")
        assert store.contact_at("email", "a@example.org") in (None, [])
        return CLAIM

    with store.run_lock():
        with pytest.raises(BadData):
            store.claim_effects(500, 500, 9, judge)
        assert {item.state for item in store.effects()} == {"ready"}

        def work(sql):
            sql.execute("SELECT 1 / %s::int", (0,))
            store._db.one("SELECT 1")  # its answer comes behind the error, which `read` takes for a name that can't be
            return 1

        with pytest.raises(BadData, match="division by zero"):
            store._write("test", work)
        assert store._db.one("SELECT 1") == 1
    store.close()
