"""Erasure leaves no byte but keyed hashes, also beside a running service, and suppression survives it."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from datetime import UTC, datetime

from rules_engine.facts import ContactChange, Event
from rules_engine.service.dispatch import lookup
from rules_engine.store import codec, open_store
from rules_engine.store.port import Arrival

ANA = "änä-müller-Ж"
SECRETS = (
    ANA, "Zsófia Ünlü", "zsofia.unlu@example.org", "+49 170 5554321", "gift for grandmother Ж", "order-zsofia-77", "subject-zsofia",
    "Lindwurmstraße 12", "old-zsofia@example.org", "event-id-zsofia-1",
)
CAMPAIGN = """ATTRIBUTE first_name: text
ATTRIBUTE street: text
EVENT order.placed WITH total: number, note: text, order_id: text

RULE thanks
  WHEN order.placed
  THEN pigeon.send "thanks", note: event.note, name: contact.first_name
END

RULE texts
  WHEN order.placed
  THEN sms.send "Thanks {contact.first_name}: {event.note}"
END

RULE letters
  WHEN order.placed
  THEN email.send "thanks", class: transactional
END
"""


def prepare(project):
    (project.folder / "campaigns" / "thanks.camp").write_text(CAMPAIGN)
    (project.folder / "templates").mkdir()
    (project.folder / "templates" / "thanks.txt").write_text("Subject: For {{ contact.first_name }}\n\nTo {{ contact.street }}\n")
    with (project.folder / "camp.toml").open("a") as stream:
        stream.write('\n[email]\ntransport = "folder"\nfrom = "Shop <shop@example.com>"\n')
    people = [
        {"id": ANA, "first_name": "Zsófia Ünlü", "email": "zsofia.unlu@example.org", "phone": "+49 170 5554321", "street": "Lindwurmstraße 12"},
        {"id": "bob", "first_name": "Bob", "email": "bob@example.org", "phone": "+49 170 1", "street": "Main Street 1"},
    ]
    write(project, "old.jsonl", [{**people[0], "email": "old-zsofia@example.org"}])
    write(project, "contacts.jsonl", people)
    for name in ("old.jsonl", "contacts.jsonl"):
        assert project.process("contact", "import", name).code == 0
    return people


def write(project, name, records):
    (project.folder / name).write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def order(id, contact, secret=True):
    data = {"total": 5, "note": "gift for grandmother Ж", "order_id": "order-zsofia-77"} if secret else {"total": 5, "note": "plain", "order_id": "7"}
    subject = "subject-zsofia" if secret else None
    return {"id": id, "event": "order.placed", "contact": contact, "at": datetime.now(UTC).isoformat(), "subject": subject, "data": data}


def residue(project, also=()):
    """file -> the personal texts that are in its bytes, in any way JSON or a mail would write them."""
    forms = {form: text for text in (*SECRETS, *also) for form in (text.encode(), json.dumps(text)[1:-1].encode(), text.encode("utf-16-le"))}
    kept = ("old.jsonl", "contacts.jsonl", "orders.jsonl")
    found = {}
    for path in project.folder.rglob("*"):
        if path.is_file() and path.name not in kept:
            data = path.read_bytes()
            hits = sorted({text for form, text in forms.items() if form in data})
            if hits:
                found[path.name] = hits
    return found


def test_no_byte_is_left_and_the_address_stays_suppressed(pigeons):
    prepare(pigeons)
    write(pigeons, "orders.jsonl", [order("event-id-zsofia-1", ANA), order("e2", "bob", False)])
    assert pigeons.process("event", "import", "orders.jsonl").code == 0
    assert pigeons.process("run", "--once").code == 0
    store = open_store(pigeons.database)
    store.record_events([Arrival(Event("odd", "nobody.knows", ANA, 5, None, {"note": "gift for grandmother Ж"}))])  # will be set aside
    store.close()
    pigeons.process("run", "--once")
    assert len(residue(pigeons)["camp.db"]) >= 9, "the test looks for what is there"
    letters = list((pigeons.folder / "outbox").glob("*.eml"))
    assert len(letters) == 2

    listed = pigeons.process("contact", "forget", ANA, "--dry-run", "--json")
    assert listed.code == 0 and json.loads(listed.out)["effects"] == 3 and residue(pigeons)
    assert pigeons.process("contact", "forget", ANA).code == 4, "it asks"
    assert pigeons.process("contact", "forget", "nobody", "--yes").code == 5
    done = pigeons.process("contact", "forget", ANA, "--yes")
    assert done.code == 0, done
    assert "orders.jsonl" in done.err and ANA not in done.out
    assert residue(pigeons) == {}
    assert list((pigeons.folder / "outbox").glob("*.eml")) and "bob" in (pigeons.folder / "outbox" / "sms.jsonl").read_text()
    assert pigeons.process("db", "check").code == 0

    # The same file again: its events are known. A new import of the same address: taken, and suppressed.
    assert "1 event accepted" not in pigeons.process("event", "import", "orders.jsonl").out
    write(pigeons, "again.jsonl", [{"id": "new-person", "email": "Zsofia.Unlu@Example.org", "phone": "+49-170-5554321", "consent.email": True}])
    assert pigeons.process("contact", "import", "again.jsonl").code == 0
    pigeons.process("run", "--once")
    shown = json.loads(pigeons.process("contact", "show", "new-person", "--json").out)
    assert shown["suppressed.email"] == "erased" and shown["suppressed.sms"] == "erased"
    assert "suppressed.email" not in json.loads(pigeons.process("contact", "show", "bob", "--json").out)


def test_beside_a_running_service_with_events_of_the_contact_under_way(pigeons):
    """Events of the contact come all the time, its state is in the service's memory, messages are being handed over."""
    prepare(pigeons)
    child = pigeons.start(CAMP_PIGEON_SECONDS="0.2")
    store, stop, sent = open_store(pigeons.database), threading.Event(), []

    def feed():
        own = open_store(pigeons.database)
        while not stop.is_set():
            n = len(sent)
            data = {"total": 5, "note": "gift for grandmother Ж", "order_id": "order-zsofia-77"}
            sent.append(n)
            own.record_events([Arrival(Event(f"event-id-zsofia-{n}", "order.placed", ANA, int(time.time() * 1000), "subject-zsofia", data)),
                               Arrival(Event(f"bob-{n}", "order.placed", "bob", int(time.time() * 1000), None, data | {"note": "x", "order_id": "y"}))])
            time.sleep(0.005)
        own.close()

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        pigeons.wait(lambda: store.effects("accepted", contact=ANA) and store.contacts([ANA]))
    finally:
        stop.set()
        thread.join()
    backlog = Counter(row.status for row in store.events_of(ANA, 10_000))
    done = pigeons.process("contact", "forget", ANA, "--yes")
    assert done.code == 0, done
    assert store.contacts([ANA]) == {} and store.events_of(ANA) == [] and store.effects(contact=ANA) == []
    # The service works on, and nothing of the contact comes back.
    store.record_events([Arrival(Event("bob-last", "order.placed", "bob", int(time.time() * 1000), None, {"total": 1}))])
    pigeons.wait(lambda: all(row.status == "done" for row in store.events_of("bob", 10_000)))
    time.sleep(0.5)
    assert store.contacts([ANA]) == {} and store.effects(contact=ANA) == [] and store.journal_of(ANA) == []
    store.close()
    answer = pigeons.stop(child)
    assert answer.code == 0, answer
    assert residue(pigeons) == {}, backlog


def test_a_block_that_is_open_while_a_contact_is_erased_is_done_again_without_it(tmp_path):
    """At each of the pump's points, deterministic."""
    from rules_engine.clock import VirtualClock
    from rules_engine.service import faults as points
    from rules_engine.service.pump import Pump
    from rules_engine.store.sqlite import SqliteStore
    from tests.service.fake import ENGINE, Program

    for point in (points.BLOCK_READ, points.BLOCK_ADVANCED):
        path, clock = tmp_path / f"{point}.db", VirtualClock(1_000)
        store, other = SqliteStore(path, clock), SqliteStore(path, clock)
        store.record_events([Arrival(Event(f"e{n}", "send", "ana" if n % 2 else "bob", 10 + n)) for n in range(10)])
        erased = []

        def fault(here, point=point, other=other, erased=erased):
            if here == point and not erased:
                erased.append(other.erase("ana", (), 5))

        pump = Pump(store, Program(), ENGINE, faults=fault, live_block=4)
        pump.live(clock)
        while pump.live(clock):
            pass
        assert erased[0].events == 5
        assert store.contact_ids() == ["bob"] and store.events_of("ana") == [] and store.effects(contact="ana") == []
        assert codec.load(store.contacts(["bob"])["bob"].state)["n"] == 10 and store.counts().events["new"] == 0
        assert store.check() == []
        store.close()
        other.close()


def test_an_old_value_of_an_address_is_suppressed_too(pigeons):
    prepare(pigeons)
    pigeons.process("run", "--once")
    pigeons.process("contact", "forget", ANA, "--yes", "--later")
    store = open_store(pigeons.database)
    store.record_events([Arrival(ContactChange("x", "carl", 5, {"email": "old-zsofia@example.org"}), "contacts")])
    assert lookup(store.events_of("carl")[0].cause.attributes, "suppressed", "email") == "erased"
    store.close()
    assert pigeons.process("db", "vacuum").code == 0
    assert residue(pigeons) == {"camp.db": ["old-zsofia@example.org"]}, "carl has it"


def test_an_erasure_that_leaves_bytes_for_a_while_is_a_success_with_a_warning(pigeons, monkeypatch):
    """A script must be able to tell it from one that failed."""
    from rules_engine.store.sqlite import SqliteStore

    prepare(pigeons)
    assert pigeons.process("run", "--once").code == 0
    (pigeons.folder / "camp.db.before-20260101T000000Z").write_bytes(b"")
    monkeypatch.setattr(SqliteStore, "scrub", lambda self, vacuum=True: False)
    done = pigeons("contact", "forget", ANA, "--yes")
    assert done.code == 0 and done.out.startswith("erased ") and "warning:" in done.err and "camp db vacuum" in done.err, done
    assert "error:" not in done.err and "may hold it too" in done.err, "whether that older file holds the contact was not looked at"
