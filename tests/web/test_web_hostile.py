"""What strangers try: silent connections, endless headers, many addresses, one signature for two bodies; and what a broken store must not
make of it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import socket
import time

import pytest

from rules_engine import project
from rules_engine.clock import VirtualClock
from rules_engine.facts import Event
from rules_engine.service.web import server, signatures, start
from rules_engine.service.web.rate import Rate, network
from rules_engine.service.web.settings import read_settings
from rules_engine.service.web.writer import Writer
from rules_engine.store.port import Arrival
from rules_engine.store.sqlite import SqliteStore
from tests.web.failing import FailingStore

NOW = 1_772_442_000_000


def arrival(id):
    return Arrival(Event(id, "tick", "ana", 1, None, {}))


# ---------------------------------------------------------------- connections


@pytest.fixture
def listening(tmp_path, monkeypatch):
    """A real server whose patience is short."""
    monkeypatch.setattr(server, "MAX_HEAD_SECONDS", 0.4)
    monkeypatch.setattr(server, "MAX_HEAD_BYTES", 5_000)
    (tmp_path / "all.camp").write_text("RULE r\n  WHEN page.viewed\n    THEN points.add 1\nEND\n")
    program = project.load_program([tmp_path]).program
    SqliteStore(tmp_path / "camp.db").close()
    web = start.assemble(
        read_settings({"sites": ["https://shop.example"]}), program.model, "UTC", tmp_path,
        lambda readonly: SqliteStore(tmp_path / "camp.db", create=False, readonly=readonly),
    )  # fmt: skip
    bound = server.bind("127.0.0.1", 0)
    with server.WebServer(web, bound):
        port = bound.getsockname()[1]
        for _ in range(200):  # the address is bound; the thread listens a moment later
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.02)
        yield port


def closed_within(connection, seconds):
    connection.settimeout(seconds)
    try:
        while connection.recv(65_536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


def test_a_connection_that_says_nothing_is_closed(listening):
    with socket.create_connection(("127.0.0.1", listening)) as silent:
        assert closed_within(silent, 5)


def test_headers_that_come_letter_by_letter_end_with_the_connection(listening):
    with socket.create_connection(("127.0.0.1", listening)) as slow:
        slow.sendall(b"GET /camp.js HTTP/1.1\r\nHost: x\r\n")
        began = time.monotonic()
        with pytest.raises(ConnectionError):
            while time.monotonic() - began < 8:
                slow.sendall(b"A: b\r\n")
                time.sleep(0.05)
    assert time.monotonic() - began < 8


def test_headers_without_end_are_not_collected(listening, monkeypatch):
    monkeypatch.setattr(server, "MAX_HEAD_SECONDS", 60)
    with socket.create_connection(("127.0.0.1", listening)) as flood:
        flood.sendall(b"GET /camp.js HTTP/1.1\r\nHost: x\r\n")
        with pytest.raises(ConnectionError):
            for _ in range(200):
                flood.sendall(b"A: " + b"b" * 900 + b"\r\n")
                time.sleep(0.01)


def test_a_line_that_is_kept_alive_serves_several_requests(listening):
    with socket.create_connection(("127.0.0.1", listening)) as kept:
        kept.settimeout(5)
        for _ in range(3):
            kept.sendall(b"GET /camp.js HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while b"camp.page" not in answer and b"page();" not in answer:
                answer += kept.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200")
            time.sleep(0.5)  # longer than headers may take: between requests that is no fault


# ---------------------------------------------------------------- addresses and signatures


def test_all_addresses_of_one_ipv6_customer_are_one():
    rate = Rate(5, VirtualClock(NOW))
    waits = [rate.wait(f"2001:db8:1:2::{n:x}") for n in range(20)]
    assert waits[:5] == [0] * 5 and all(waits[5:])
    assert rate.wait("2001:db8:1:3::1") == 0
    assert network("::ffff:192.0.2.1") == "192.0.2.1" and network("192.0.2.1") == "192.0.2.1" and network("no:address") == "no:address"


def test_a_mailgun_signature_speaks_for_one_body_only(make):
    key, stamp = "mailgun-key-long", str(NOW // 1000)
    site = make(webhooks={"mg": {"kind": "mailgun", "secret": key}})
    site.contact("ana", email="ana@example.com")
    site.effect()
    signature = {"timestamp": stamp, "token": "t1", "signature": hmac.new(key.encode(), f"{stamp}t1".encode(), hashlib.sha256).hexdigest()}

    def send(recipient):
        data = {"event": "complained", "timestamp": NOW / 1000, "id": "1", "recipient": recipient}
        return site.http.post("/v1/webhooks/mg", json={"signature": signature, "event-data": data}).status_code

    assert send("nobody@example.com") == 200
    assert send("nobody@example.com") == 200, "a repeat is the provider's right"
    assert send("ana@example.com") == 401, "another body under the same signature is somebody else's"
    assert not [event for event in site.events() if event.name == "email.complained"]


def test_what_is_remembered_of_signatures_is_bounded():
    clock = VirtualClock(NOW)
    once = signatures.Once(clock, 600_000)
    for number in range(1_000):
        assert once.fits(str(number), b"a")
        clock.sleep(1_000)
    assert len(once._seen) <= 602 and not once.fits("999", b"b")


# ---------------------------------------------------------------- the writer


def test_a_wish_outlives_any_number_of_visits(tmp_path, monkeypatch):
    monkeypatch.setattr("rules_engine.service.web.writer.MAX_KEPT_VISITS", 5)
    state = {"fail": True}

    made = Writer(lambda: FailingStore(tmp_path / "camp.db", state), VirtualClock(1_000))
    made.start()

    async def run():
        futures = [made.submit([arrival("unsubscribe")], wish=True), *(made.submit([arrival(str(n))], keep=True) for n in range(20))]
        await asyncio.gather(*futures, return_exceptions=True)

    asyncio.run(run())
    state["fail"] = False
    made.close()
    store = SqliteStore(tmp_path / "camp.db")
    assert [row.cause.id for row in store.read_log(0, 50)] == ["unsubscribe", "15", "16", "17", "18", "19"]


@pytest.mark.parametrize("verb", ["record_events", "quiet_now", "open"])
def test_an_error_that_nobody_foresaw_does_not_end_the_writer(tmp_path, verb):
    state = {"fail": True}

    def fails(self, *rest):
        if state["fail"]:
            raise RuntimeError("odd")
        return getattr(SqliteStore, verb)(self, *rest)

    Failing = type("Failing", (SqliteStore,), {verb: fails} if verb != "open" else {})

    def open_store():
        if verb == "open" and state["fail"]:
            raise RuntimeError("odd")
        return Failing(tmp_path / "camp.db")

    made = Writer(open_store, VirtualClock(1_000))
    made.start()

    async def run():
        first = made.submit([arrival("kept")], keep=True)
        await asyncio.gather(first, return_exceptions=True)
        await asyncio.sleep(0.4)  # a second try, which fails too
        state["fail"] = False
        return await asyncio.wait_for(made.submit([arrival("later")]), 10)

    assert [fate.status for fate in asyncio.run(run())] == ["accepted"]
    made.close()
    assert {row.cause.id for row in SqliteStore(tmp_path / "camp.db").read_log(0, 9)} == {"kept", "later"}
