"""Events and contacts over HTTP: what is answered, what is kept, what is refused and how."""

from __future__ import annotations

import gzip
import json
import time

import pytest

from rules_engine import limits
from rules_engine.facts import ContactChange
from rules_engine.store.database import sqlite3  # the same library: two in one process don't see each other's locks
from tests.web.conftest import NOW, TOKEN

ORDER = {"id": "e1", "event": "order.placed", "contact": "ana", "at": "2026-03-02T08:00:00Z", "data": {"order_id": "A", "total": 40.0}}


def problem(answer, status, name):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["type"]) == (status, f"urn:camp:problem:{name}") and body["title"] and body["detail"]
    return body["detail"]


def test_one_event_is_in_the_log_when_it_is_answered(site):
    answer = site.post("/v1/events", json=ORDER)
    assert (answer.status_code, answer.json()) == (202, {"status": "accepted", "id": "e1"})
    (event,) = site.events()
    assert (event.id, event.name, event.contact, event.at) == ("e1", "order.placed", "ana", NOW - 3_600_000)
    assert event.data == {"order_id": "A", "total": 40.0}


def test_a_repeat_is_a_duplicate_and_another_body_a_conflict(site):
    site.post("/v1/events", json=ORDER)
    again = site.post("/v1/events", json=dict(reversed(ORDER.items())))
    assert (again.status_code, again.json()) == (200, {"status": "duplicate", "id": "e1"})
    assert "the first stands" in problem(site.post("/v1/events", json={**ORDER, "contact": "ben"}), 409, "id-conflict")
    assert len(site.events()) == 1


def test_a_repeat_without_a_time_is_a_duplicate_whenever_it_comes(site):
    undated = {"id": "n", "event": "order.placed", "contact": "ana"}
    assert site.post("/v1/events", json=undated).status_code == 202
    site.clock.move_to(NOW + 60_000)
    assert site.post("/v1/events", json=undated).json()["status"] == "duplicate"
    assert [event.at for event in site.events()] == [NOW]


def test_a_file_and_http_share_their_ids(site, tmp_path):
    from rules_engine.service import ingest

    (tmp_path / "more.jsonl").write_text(json.dumps(ORDER) + "\n")
    ingest.import_events(site.store, tmp_path / "more.jsonl", site.web.read_event)
    assert site.post("/v1/events", json=ORDER).json()["status"] == "duplicate"


def test_without_an_id_the_answer_says_what_that_means(site):
    nameless = {key: value for key, value in ORDER.items() if key != "id"}
    first, second = site.post("/v1/events", json=nameless), site.post("/v1/events", json=nameless)
    assert first.status_code == second.status_code == 202 and "can't be recognised" in first.json()["warning"]
    assert len(site.events()) == 2
    keyed = [site.post("/v1/events", json=nameless, headers={"idempotency-key": "k1"}).json() for _ in range(2)]
    assert [answer["status"] for answer in keyed] == ["accepted", "duplicate"] and "warning" not in keyed[0]
    problem(site.post("/v1/events", json={**nameless, "contact": "ben"}, headers={"idempotency-key": "k1"}), 409, "id-conflict")


def test_what_no_condition_can_read_is_kept_and_told(site):
    near, beside = "order.placed declares no field `totall`; did you mean `total`?", "`order_id` beside `event` is not kept: what the event tells belongs into `data`"
    odd = {**ORDER, "order_id": "A", "data": {"totall": 40, "shop": 7}}
    answer = site.post("/v1/events", json=odd)
    assert answer.status_code == 202 and answer.json()["warnings"] == [beside, near]
    assert site.events()[0].data == {"totall": 40, "shop": 7}
    told = site.post("/v1/events", json=[odd, {**ORDER, "id": "e2"}]).json()
    assert told["items"][0]["warnings"] == [beside, near] and "warnings" not in told["items"][1]


@pytest.mark.parametrize("lines", [False, True])
def test_a_bad_item_never_stops_the_others(site, lines):
    items = [ORDER, {"event": "order.placed"}, {**ORDER, "contact": "ben"}, 7, {**ORDER, "id": "e2"}, ORDER, {**ORDER, "id": "e3", "event": "order.place"}]
    if lines:
        body = b"\n".join(json.dumps(item).encode() for item in items) + b"\n\n{torn\n"
        answer = site.post("/v1/events", content=body, headers={"content-type": "application/x-ndjson"})
    else:
        answer = site.post("/v1/events", json=items)
    told = answer.json()
    assert answer.status_code == 207
    statuses = ["accepted", "rejected", "conflict", "rejected", "accepted", "duplicate", "rejected", *["rejected"] * lines]
    assert [item["status"] for item in told["items"]] == statuses and [item["index"] for item in told["items"]] == list(range(len(statuses)))
    assert (told["accepted"], told["duplicates"], told["conflicts"], told["rejected"]) == (2, 1, 1, 3 + lines)
    assert '"contact" is missing' in told["items"][1]["reason"] and "did you mean order.placed" in told["items"][6]["reason"]
    if lines:
        assert told["items"][7]["line"] == 9 and "no JSON" in told["items"][7]["reason"]
    assert [event.id for event in site.events()] == ["e1", "e2"]


@pytest.mark.parametrize("depth", [300, 1_005])
def test_what_is_nested_too_deeply_is_refused_and_costs_only_itself(site, depth):
    deep = json.dumps({**ORDER, "id": "deep", "data": {"extra": "HERE"}}).replace('"HERE"', "[" * depth + "]" * depth)
    json_body = {"content-type": "application/json"}
    assert "more than 100 levels" in problem(site.post("/v1/events", content=deep, headers=json_body), 422, "bad-item")
    batch = f"[{deep},{json.dumps({**ORDER, 'data': {'x': 'y' * 100_001}})},{json.dumps(ORDER)}]"
    for body, kind in ((batch, "application/json"), (f"{deep}\n\n{json.dumps(ORDER)}", "application/x-ndjson")):
        answer = site.post("/v1/events", content=body, headers={"content-type": kind})
        assert "more than 100 levels" in answer.json()["items"][0]["reason"] and answer.json()["items"][-1]["status"] in ("accepted", "duplicate")
    assert site.post("/v1/contacts", content=deep, headers=json_body).status_code == 422
    problem(site.post("/v1/identify", content=deep, headers=json_body), 422, "too-deep")
    assert [event.id for event in site.events()] == ["e1"]


def test_a_whole_batch_is_200_and_may_be_packed(site):
    body = gzip.compress(b"".join(json.dumps({**ORDER, "id": f"e{n}"}).encode() + b"\n" for n in range(1_000)))
    headers = {"content-type": "application/x-ndjson", "content-encoding": "gzip"}
    answer = site.post("/v1/events", content=body, headers=headers)
    assert answer.status_code == 200 and answer.json()["accepted"] == 1_000
    assert site.post("/v1/events", content=body, headers=headers).json()["duplicates"] == 1_000
    assert site.post("/v1/events", json=[]).json()["items"] == []


def test_contacts_are_changes(site):
    record = {"id": "ana", "email": "ana@example.com", "consent": {"email": True}, "plan": "paid", "timezone": "Europe/Berlin"}
    answer = site.post("/v1/contacts", json=record, headers={"idempotency-key": "k"})
    assert answer.status_code == 202
    assert site.post("/v1/contacts", json=record, headers={"idempotency-key": "k"}).json()["status"] == "duplicate"
    answer = site.post("/v1/contacts", json=[{"id": "ben", "at": "2026-01-02T08:00:00Z", "plan": "free"}, {"id": "x", "plan": "gold"}, {"id": "y", "nope": 1}])
    assert answer.status_code == 207 and [item["status"] for item in answer.json()["items"]] == ["accepted", "rejected", "rejected"]
    ana, ben = site.events()
    assert isinstance(ana, ContactChange) and ana.attributes["consent.email"] is True and ana.at == NOW
    assert (ben.contact, ben.at) == ("ben", 1_767_340_800_000)
    assert site.store.contact_at("email", "Ana@example.com") == "ana"


@pytest.mark.parametrize("email", ["ana2", "ana@example.com\r\nBcc: x@example.com", "a@b c", "@", 7])
def test_what_is_no_address_is_refused_at_once(site, email):
    answer = site.post("/v1/contacts", json={"id": "ana", "email": email})
    assert answer.status_code in (400, 422) and "is no e-mail address" in answer.text and not site.events()


def test_limits_have_an_answer_each(site, monkeypatch):
    post = site.post
    problem(post("/v1/events", content=b"{}", headers={"content-type": "text/plain"}), 415, "unknown-format")
    problem(post("/v1/events", content=b"{}", headers={"content-type": "application/json", "content-encoding": "br"}), 415, "unknown-encoding")
    problem(post("/v1/events", content=b"{", headers={"content-type": "application/json"}), 400, "no-json")
    problem(post("/v1/events", content=b"\xff", headers={"content-type": "application/json"}), 400, "no-json")
    problem(post("/v1/events", json=7), 422, "no-items")
    problem(post("/v1/events", json={"event": "order.placed"}), 422, "bad-item")
    problem(post("/v1/events", json={**ORDER, "at": "yesterday"}), 422, "bad-item")
    torn = gzip.compress(json.dumps([ORDER] * 50).encode())[:-20]
    problem(post("/v1/events", content=torn, headers={"content-type": "application/json", "content-encoding": "gzip"}), 400, "torn-body")
    problem(post("/v1/events", json={**ORDER, "data": {"x": "y" * limits.MAX_EVENT_BYTES}}), 422, "bad-item")
    answer = post("/v1/events", json=[ORDER, {**ORDER, "id": "long", "data": {"x": "y" * limits.MAX_EVENT_BYTES}}])
    assert [item["status"] for item in answer.json()["items"]] == ["accepted", "rejected"]
    problem(post("/v1/events", json=[1] * (limits.MAX_ITEMS + 1)), 413, "too-many-items")
    problem(post("/v1/events", content=b"1\n" * (limits.MAX_ITEMS + 1), headers={"content-type": "application/x-ndjson"}), 413, "too-many-items")
    problem(post("/nowhere"), 404, "not-found")
    wrong = site.http.get("/v1/events")
    problem(wrong, 405, "method-not-allowed")
    assert "POST" in wrong.headers["allow"]
    problem(post("/v1/events", json=ORDER, headers={"idempotency-key": "k" * 201}), 400, "bad-key")


def test_a_large_body_is_refused_before_it_is_read(site):
    seen = []

    def stream():
        for n in range(1_000):
            seen.append(n)
            yield b" " * 100_000

    problem(site.post("/v1/events", content=stream(), headers={"content-type": "application/json", "content-length": "100000000"}), 413, "body-too-large")


def test_a_packed_bomb_is_refused(site):
    bomb = gzip.compress(b" " * 50_000_000)
    problem(site.post("/v1/events", content=bomb, headers={"content-type": "application/json", "content-encoding": "gzip"}), 413, "body-too-large")


def test_tokens_by_name_and_none(make):
    site = make(token_shop="the-shops-own-token")
    for value in (None, "Basic x", "Bearer", "Bearer wrong", f"Bearer {TOKEN}x", f"Token {TOKEN}"):
        answer = site.http.post("/v1/events", json=ORDER, headers={"authorization": value} if value else {})
        problem(answer, 401, "no-token")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    for value in (f"Bearer {TOKEN}", "bearer the-shops-own-token"):
        assert site.http.post("/v1/events", json=ORDER, headers={"authorization": value}).status_code in (200, 202)


def test_without_a_token_only_this_machine_itself_may_write(make):
    site = make(token=None)
    assert site.http.post("/v1/events", json=ORDER).status_code == 202
    for headers in ({"origin": "https://evil.example"}, {"x-forwarded-for": "1.2.3.4"}, {"forwarded": "for=1.2.3.4"}, {"host": "rebound.example"}):
        problem(site.http.post("/v1/events", json=ORDER, headers=headers), 403, "no-token-set")
    site.http._transport.client = ("192.0.2.7", 5000)
    problem(site.http.post("/v1/events", json=ORDER), 403, "no-token-set")


def test_push_back_before_the_body(site):
    site.web.writer.backlog = site.web.settings.max_backlog + 1
    answer = site.post("/v1/events", content=b"not even json", headers={"content-type": "application/json"})
    assert "facts to read first" in problem(answer, 503, "busy") and int(answer.headers["retry-after"]) > 0
    ready = site.http.get("/readyz")
    assert ready.status_code == 503 and ready.headers["retry-after"] and site.http.get("/healthz").status_code == 200
    site.web.writer.backlog = 0
    assert site.http.get("/readyz").json() == {"status": "ok", "backlog": 0, "waiting": 0}


def test_a_store_that_is_locked_answers_503_and_then_goes_on(site, monkeypatch):
    monkeypatch.setattr("rules_engine.store.database.BUSY_SECONDS", 0.05)
    other = sqlite3.connect(site.folder / "camp.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    answer = site.post("/v1/events", json=ORDER)
    assert "locked" in problem(answer, 503, "store-unavailable") and answer.headers["retry-after"]
    problem(site.http.get("/readyz"), 503, "not-ready")
    other.execute("ROLLBACK")
    other.close()
    assert site.post("/v1/events", json=ORDER).status_code == 202
    assert site.http.get("/readyz").status_code == 200


def test_the_backlog_is_measured(make):
    site = make(max_backlog=2)
    site.post("/v1/events", json=[{**ORDER, "id": f"e{n}"} for n in range(5)])
    site.clock.move_to(NOW + 2_000)
    site.post("/v1/events", json=[])  # wakes nobody: the writer looks by itself within a second
    for _ in range(300):
        if site.http.get("/readyz").status_code == 503:
            break
        time.sleep(0.01)
    problem(site.post("/v1/events", json=ORDER), 503, "busy")


def test_identify(site):
    from tests.web.conftest import VISITOR

    answer = site.post("/v1/identify", json={"visitor": VISITOR, "contact": "ana"})
    assert answer.status_code == 202
    (event,) = site.events()
    assert (event.name, event.contact, dict(event.data)) == ("contact.identified", VISITOR, {"contact": "ana"})
    problem(site.post("/v1/identify", json={"visitor": "visitor:1", "contact": "ana"}), 422, "no-visitor")
    problem(site.post("/v1/identify", json={"visitor": VISITOR, "contact": VISITOR}), 422, "no-contact")
    problem(site.http.post("/v1/identify", json={}), 401, "no-token")
