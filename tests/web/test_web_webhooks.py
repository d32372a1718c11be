"""Signed webhooks, and what providers report."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest

from rules_engine.facts import ContactChange
from rules_engine.service.web import signatures
from rules_engine.store.port import CLAIM, Settlement
from tests.web.conftest import NOW

SECRET = "whsec_" + base64.b64encode(b"a secret of twenty-four b").decode()
SHOP = {"secret": SECRET, "event": "type", "contact": "data.customer.id", "at": "timestamp", "events": {"order.paid": "order.placed", "customer.changed": "contact"},
        "data": {"order_id": "data.id", "total": "data.lines.0.price"}}  # fmt: skip
PAID = {"type": "order.paid", "timestamp": "2026-03-02T08:59:00Z", "data": {"id": "A", "customer": {"id": "ana"}, "lines": [{"price": 12.5}]}}


def send(site, value, id="m1", secret=SECRET, stamp=NOW // 1000, name="shop", **headers):
    body = json.dumps(value).encode() if not isinstance(value, bytes) else value
    signed = {"webhook-id": id, "webhook-timestamp": str(stamp), "webhook-signature": signatures.sign_standard(secret, id, stamp, body)}
    return site.http.post(f"/v1/webhooks/{name}", content=body, headers={"content-type": "application/json", **signed, **headers})


def test_a_signed_webhook_becomes_an_event(make):
    site = make(webhooks={"shop": SHOP})
    assert (send(site, PAID).status_code, send(site, PAID).json()["status"]) == (202, "duplicate")
    (row,) = site.rows()
    assert (row.source, row.cause.id, row.cause.name, row.cause.contact, row.cause.at) == ("webhook:shop", "m1", "order.placed", "ana", NOW - 60_000)
    assert row.cause.data == {"order_id": "A", "total": 12.5}
    assert send(site, {**PAID, "data": {**PAID["data"], "id": "B"}}).status_code == 409
    assert send(site, {"type": "order.other"}, "m2").json()["status"] == "ignored"
    assert send(site, {"type": "order.paid", "data": 7}, "m3").status_code == 422
    assert send(site, [], "m4").status_code == 422 and send(site, b"{", "m5").status_code == 400


def test_a_webhook_may_change_a_contact(make):
    site = make(webhooks={"shop": {**SHOP, "data": {"plan": "data.plan"}}})
    assert send(site, {"type": "customer.changed", "data": {"customer": {"id": "ana"}, "plan": "paid"}}).status_code == 202
    (change,) = site.events()
    assert isinstance(change, ContactChange) and change.contact == "ana" and change.attributes == {"plan": "paid"}


def test_a_webhook_that_is_nested_too_deeply_is_refused(make):
    site = make(webhooks={"shop": SHOP, "gate": {"kind": "delivery", "secret": SECRET}})
    body = json.dumps({**PAID, "more": "HERE"}).replace('"HERE"', "[" * 1_005 + "]" * 1_005).encode()
    for name in ("shop", "gate"):
        answer = send(site, body, name=name)
        assert answer.status_code == 422 and "more than 100 levels" in answer.json()["detail"]


def test_security_only_a_fresh_webhook_with_a_fitting_signature_counts(make):
    site = make(webhooks={"shop": SHOP})
    for answer in (
        send(site, PAID, secret="whsec_" + base64.b64encode(b"another").decode()), send(site, PAID, stamp=NOW // 1000 - 301),
        send(site, PAID, stamp=NOW // 1000 + 301), send(site, PAID, **{"webhook-id": "m2"}), send(site, PAID, **{"webhook-timestamp": "soon"}),
        send(site, PAID, **{"webhook-signature": "v1,"}), send(site, PAID, **{"webhook-signature": "v1a,x"}), send(site, PAID, **{"webhook-signature": ""}),
    ):  # fmt: skip
        assert answer.status_code == 401 and answer.json()["type"].endswith("bad-signature"), answer.text
    assert send(site, PAID, stamp=NOW // 1000 - 299).status_code == 202 and len(site.events()) == 1
    assert site.http.post("/v1/webhooks/none", json={}).status_code == 404


def test_an_example_of_the_standard_itself():
    """github.com/standard-webhooks, the test vector of its libraries."""
    secret, id, stamp, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    assert signatures.sign_standard(secret, id, stamp, body) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    headers = {"webhook-id": id, "webhook-timestamp": str(stamp), "webhook-signature": "v1,AAAA v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}
    assert signatures.standard((secret,), headers, body, stamp * 1000) == "" != signatures.standard((secret,), headers, body + b" ", stamp * 1000)


def test_two_secrets_hold_during_a_rotation(make, monkeypatch):
    site = make(webhooks={"shop": {**SHOP, "secret": ["a-new-secret", SECRET]}})
    assert [send(site, PAID, id, secret).status_code for id, secret in (("1", SECRET), ("2", "a-new-secret"), ("3", "third"))] == [202, 202, 401]


# ---------------------------------------------------------------- providers


def handed_over(site, provider_id="pm-1", channel="email"):
    effect = site.effect(channel=channel, key="A1")
    site.store.claim_effects(NOW, NOW, 10, lambda candidate: CLAIM)
    site.store.settle([Settlement(effect, 1, "accepted", NOW - 1_000, "", provider_id)])
    return effect


def postmark(site, body, password="a-long-password"):
    credentials = base64.b64encode(f"camp:{password}".encode()).decode()
    return site.http.post("/v1/webhooks/post", json=body, headers={"authorization": f"Basic {credentials}"})


POST = {"post": {"kind": "postmark", "user": "camp", "password": "a-long-password"}}


@pytest.mark.parametrize(("body", "name", "data", "state"), [
    ({"RecordType": "Delivery", "DeliveredAt": "2026-03-02T08:00:00.1234567Z"}, "email.delivered", {}, "delivered"),
    ({"RecordType": "Bounce", "ID": 42, "Type": "HardBounce", "Description": "no such user"}, "email.bounced", {"kind": "hard", "reason": "no such user"}, "bounced"),
    ({"RecordType": "Bounce", "ID": 43, "Type": "SoftBounce", "Description": "full"}, "email.bounced", {"kind": "soft", "reason": "full"}, "accepted"),
    ({"RecordType": "SpamComplaint", "ID": 44}, "email.complained", {}, "complained"),
    ({"RecordType": "Open", "UserAgent": "curl/8"}, "email.opened", {"machine": True}, "accepted"),
    ({"RecordType": "Click", "OriginalLink": "https://a.example", "UserAgent": "Mozilla/5.0 (X11) Gecko"}, "email.clicked", {"machine": False, "url": "https://a.example"}, "accepted"),
    ({"RecordType": "SubscriptionChange", "SuppressSending": True, "SuppressionReason": "ManualSuppression"}, "email.unsubscribed", {"reason": "ManualSuppression"}, "accepted"),
])  # fmt: skip
def test_postmark(make, body, name, data, state):
    site = make(webhooks=POST)
    effect = handed_over(site)
    body |= {"MessageID": "pm-1", "Recipient": "ana@example.com"}
    assert postmark(site, body).json()["reports"] == [{"status": "accepted", "event": name, "contact": "ana"}]
    assert postmark(site, body).json()["duplicates"] == 1
    (event,) = site.events()
    assert (event.name, event.contact, event.subject) == (name, "ana", "thanks")
    assert event.data == {"campaign": "orders", "order_id": "A1", **data}
    assert site.store.effect(effect).state == state
    assert postmark(site, body, "wrong").status_code == 401


def test_a_report_finds_the_message_by_our_handle_or_the_contact_by_address(make):
    site = make(webhooks=POST)
    effect = handed_over(site, "")
    handle = site.store.effect(effect).handle
    assert postmark(site, {"RecordType": "Delivery", "MessageID": "x", "Metadata": {"camp": handle}}).json()["reports"][0]["contact"] == "ana"
    site.contact("ben", email="ben@example.com")
    assert postmark(site, {"RecordType": "Bounce", "MessageID": "y", "Type": "HardBounce", "Email": "Ben@example.com"}).json()["reports"][0]["contact"] == "ben"
    assert postmark(site, {"RecordType": "Delivery", "MessageID": "z", "Recipient": "nobody@example.com"}).json()["reports"][0]["status"] == "ignored"
    assert postmark(site, {"RecordType": "Other"}).json()["reports"] == []


MAILGUN_KEY = "key-0123456789"


def mailgun(site, data, key=MAILGUN_KEY, stamp=NOW // 1000):
    token = f"t-{data['event']}"  # Mailgun makes one for each webhook
    signature = hmac.new(key.encode(), f"{stamp}{token}".encode(), hashlib.sha256).hexdigest()
    return site.http.post("/v1/webhooks/mg", json={"signature": {"timestamp": str(stamp), "token": token, "signature": signature}, "event-data": data})


def test_mailgun(make):
    site = make(webhooks={"mg": {"kind": "mailgun", "secret": MAILGUN_KEY}})
    effect = handed_over(site, "")
    message = {"headers": {"message-id": f"{site.store.effect(effect).handle}@shop.example"}}
    base = {"id": "x1", "timestamp": NOW / 1000 - 5, "recipient": "ana@example.com", "message": message}
    assert mailgun(site, {**base, "event": "delivered"}).status_code == 200
    assert site.store.effect(effect).state == "delivered"
    mailgun(site, {**base, "event": "failed", "severity": "temporary", "delivery-status": {"message": "later"}})
    mailgun(site, {**base, "event": "clicked", "url": "https://a.example", "client-info": {"bot": "gmail"}})
    mailgun(site, {**base, "event": "complained"})
    assert [(event.name, event.at, event.data.get("kind"), event.data.get("machine")) for event in site.events()] == [
        ("email.delivered", NOW - 5_000, None, None), ("email.bounced", NOW - 5_000, "soft", None),
        ("email.clicked", NOW - 5_000, None, True), ("email.complained", NOW - 5_000, None, None)]  # fmt: skip
    assert site.store.effect(effect).state == "complained"
    assert mailgun(site, {**base, "event": "delivered"}, key="wrong").status_code == 401
    assert mailgun(site, {**base, "event": "delivered"}, stamp=NOW // 1000 - 400).status_code == 401
    assert site.http.post("/v1/webhooks/mg", json={"signature": None}).status_code == 401


def twilio(site, fields, token="twilio-token", path="/v1/webhooks/tw"):
    signed = f"https://news.example{path}" + "".join(name + fields[name] for name in sorted(fields))
    signature = base64.b64encode(hmac.new(token.encode(), signed.encode(), hashlib.sha1).digest()).decode()
    return site.http.post(path, data=fields, headers={"x-twilio-signature": signature})


def test_twilio(make):
    site = make(webhooks={"tw": {"kind": "twilio", "secret": "twilio-token"}})
    effect = handed_over(site, "SM1", "sms")
    site.contact("ana", phone="+49 170 12345")
    assert twilio(site, {"MessageSid": "SM1", "MessageStatus": "sent", "To": "+4917012345"}).json()["reports"] == []
    assert twilio(site, {"MessageSid": "SM1", "MessageStatus": "delivered", "To": "+4917012345"}).status_code == 200
    assert site.store.effect(effect).state == "delivered"
    answer = {"MessageSid": "SM9", "From": "+4917012345", "Body": " Stop ", "SmsStatus": "received"}
    assert twilio(site, answer).json()["duplicates"] == 0 and twilio(site, answer).json()["duplicates"] == 2
    assert [(event.name, event.contact, event.data.get("text")) for event in site.events()] == [
        ("sms.delivered", "ana", None), ("sms.replied", "ana", "Stop"), ("sms.unsubscribed", "ana", "Stop")]  # fmt: skip
    assert twilio(site, answer, token="wrong").status_code == 401
    assert twilio(site, {**answer, "From": "+490000"}).json()["reports"][0]["status"] == "ignored"


def test_a_stop_reaches_who_has_the_number_now_whatever_is_repeated(make):
    site = make(webhooks={"tw": {"kind": "twilio", "secret": "twilio-token"}})
    first = {"json": {"id": "old", "phone": "+4917012345"}, "headers": {"idempotency-key": "k1"}}
    site.post("/v1/contacts", **first)
    site.contact("old", phone="+49222")
    site.contact("new", phone="+4917012345")
    assert site.post("/v1/contacts", **first).json()["status"] == "duplicate"
    twilio(site, {"MessageSid": "SM9", "From": "+4917012345", "Body": "STOP", "SmsStatus": "received"})
    assert ("sms.unsubscribed", "new") in [(event.name, event.contact) for event in site.events() if hasattr(event, "name")]


def test_twilio_failures_are_evidence(make):
    site = make(webhooks={"tw": {"kind": "twilio", "secret": "twilio-token"}})
    effect = handed_over(site, "SM1", "sms")
    twilio(site, {"MessageSid": "SM1", "MessageStatus": "undelivered", "ErrorCode": "30003", "To": "+4917012345"})
    assert site.store.effect(effect).state == "failed"
    assert [(event.name, event.data["reason"]) for event in site.events()] == [("sms.failed", "Twilio's error 30003")]


def test_the_own_shape_for_everybody_else(make):
    site = make(webhooks={"gate": {"kind": "delivery", "secret": SECRET}})
    effect = handed_over(site, "g-1")
    told = send(site, {"event": "bounced", "message": "g-1", "kind": "hard", "reason": "gone", "at": "2026-03-02T08:59:00Z"}, name="gate")
    assert told.json()["reports"][0]["event"] == "email.bounced" and site.store.effect(effect).state == "bounced"
    for n, (bad, words) in enumerate([({"event": "nonsense"}, "`event` must be one of delivered, "), ({"event": "bounced", "kind": "other"}, "hard or soft"),
                                      ({"event": "bounced", "channel": 7}, "`channel` must")]):  # fmt: skip
        (told,) = send(site, {"message": "g-1", **bad}, f"bad{n}", name="gate").json()["reports"]
        assert told["status"] == "ignored" and words in told["reason"]
    (event,) = site.events()
    assert (event.at, event.data["kind"], event.data["campaign"]) == (NOW - 60_000, "hard", "orders")


def test_stop_by_any_gateway_ends_text_messages(make):
    site = make(webhooks={"gate": {"kind": "delivery", "secret": SECRET}})
    handed_over(site, "g-1", "sms")
    site.contact("ben", phone="+420601999888")
    answer = {"event": "replied", "address": "+420 601 999 888", "text": " Stop ", "channel": "sms"}
    assert [report["event"] for report in send(site, answer, name="gate").json()["reports"]] == ["sms.replied", "sms.unsubscribed"]
    assert send(site, answer, name="gate").json()["duplicates"] == 2
    send(site, {"event": "replied", "message": "g-1", "text": "STOP"}, "m2", name="gate")  # of a known text message, without its channel
    send(site, {**answer, "text": "stop it"}, "m3", name="gate")
    assert [(event.name, event.contact) for event in site.events()] == [
        ("sms.replied", "ben"), ("sms.unsubscribed", "ben"), ("sms.replied", "ana"), ("sms.unsubscribed", "ana"), ("sms.replied", "ben")]  # fmt: skip


def test_the_channel_of_the_message_counts(make):
    site = make(webhooks={"gate": {"kind": "delivery", "secret": SECRET}})
    effect = handed_over(site, "g-1", "sms")
    told = send(site, {"event": "bounced", "message": "g-1", "kind": "hard"}, name="gate").json()["reports"]
    assert told == [{"status": "accepted", "reason": "no event is called sms.bounced", "contact": "ana"}]
    assert site.store.effect(effect).state == "bounced" and site.events() == []
    send(site, {"event": "clicked", "message": "g-1", "channel": "email", "url": "https://a.example"}, "m2", name="gate")
    assert [event.name for event in site.events()] == ["sms.clicked"]


def test_an_unsubscribe_in_a_plugins_own_channel_is_kept(make):
    site = make(webhooks={"gate": {"kind": "delivery", "secret": SECRET}})
    site.contact("ben", phone="+420601999888")
    body = {"event": "unsubscribed", "channel": "whatsapp", "address": "+420601999888"}
    assert send(site, body, name="gate").json()["reports"][0]["status"] == "accepted" and send(site, body, name="gate").json()["duplicates"] == 1
    assert send(site, {**body, "event": "opened"}, "m2", name="gate").json()["reports"][0]["status"] == "ignored"
    assert [(change.contact, change.attributes) for change in site.events()] == [("ben", {"consent.whatsapp": False})]


def test_a_report_and_the_effect_hold_when_the_answer_was_lost(make):
    """Killed between event and effect, the provider tells again: the event is a duplicate, the effect moves on."""
    site = make(webhooks=POST)
    effect = handed_over(site)
    body = {"RecordType": "Delivery", "MessageID": "pm-1"}
    report, site.web.writer._then = site.web.writer._then, lambda job: None
    postmark(site, body)
    assert site.store.effect(effect).state == "accepted"
    site.web.writer._then = report
    assert postmark(site, body).json()["duplicates"] == 1
    assert site.store.effect(effect).state == "delivered"
