"""Twilio's and HubSpot's API shapes against local servers that work, refuse, hang, hang up, answer late and talk nonsense."""

import base64
import random
import sys
from collections import Counter
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path

import orjson
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from http_kit import WAYS, api

from rules_engine import host, links
from rules_engine.clock import VirtualClock
from rules_engine.decisions import Effect
from rules_engine.service.dispatch import Dispatcher
from rules_engine.service.runner import ThreadRunner
from rules_engine.store.memory import MemoryStore
from rules_engine.store.port import Block, ContactRow
from rules_engine.testing.plugins import AT, CONTACT, make_call
from rules_engine_plugins import crm, push, sms

# ---------------------------------------------------------------- Twilio


class Twilio:
    """Keeps what it took. `code`: refuse with Twilio's error; `status`: of the answer."""

    def __init__(self, code=None, status=400):
        self.code, self.status, self.messages = code, status, []

    def __call__(self, request):
        if request.headers.get("Authorization") != "Basic " + base64.b64encode(b"AC1:t0ken").decode():
            return 401, {"code": 20003, "message": "Authenticate"}
        if request.method == "GET":
            return 200, {"messages": [message for message in reversed(self.messages) if message["to"] == request.query["To"]][: int(request.query["PageSize"])]}
        if self.code:
            return self.status, {"code": self.code, "message": "Twilio's own\nwords", "status": self.status}
        message = {"sid": f"SM{len(self.messages)}", "to": request.body["To"], "from": request.body.get("From"), "body": request.body["Body"], "status": "queued",
                   "messaging_service_sid": request.body.get("MessagingServiceSid"), "direction": "outbound-api", "date_created": format_datetime(AT + timedelta(seconds=5)),
                   "error_code": None}  # fmt: skip
        self.messages.append(message)
        return 201, message


def table(server, **more):
    return {"transport": "twilio", "account_sid": "AC1", "auth_token": "t0ken", "from": "+420111", "base_url": server.base, "allow_private": server.private,
            "timeout": 0.3, **more}  # fmt: skip


def text(server, primary="Hi", **changed):
    return make_call("sms.send", Path("/nowhere"), primary, settings=table(server, **changed.pop("settings", {})), **changed)


def test_twilios_request_and_answer():
    with api(Twilio()) as server:
        outcome = sms.send(text(server, "Hi € & ümlaut", settings={"links": {"url": "https://n.example/", "key": "k"}}))
    (request,) = server.requests
    assert request.method == "POST" and request.path == "/2010-04-01/Accounts/AC1/Messages.json"
    assert request.body == {"To": "+420601234567", "Body": "Hi € & ümlaut", "From": "+420111", "StatusCallback": "https://n.example/v1/webhooks/twilio"}
    assert outcome.state == "accepted" and outcome.provider_id == "SM0" and "1 segment" in outcome.detail


def test_a_messaging_service_an_api_key_and_no_callback():
    with api(lambda request: (201, {"sid": "SM9"})) as server:
        outcome = sms.send(text(server, settings={"messaging_service_sid": "MG1", "api_key": "SK1", "status_callback": False, "links": {"url": "https://n", "key": "k"}}))
    assert server.requests[0].body == {"To": "+420601234567", "Body": "Hi", "MessagingServiceSid": "MG1"} and outcome.provider_id == "SM9"
    assert server.requests[0].headers["Authorization"] == "Basic " + base64.b64encode(b"SK1:t0ken").decode()


@pytest.mark.parametrize(
    "code, status, state, words",
    [
        (21610, 400, "failed", "opted out"),
        (21211, 400, "failed", "no valid phone number"),
        (21614, 400, "failed", "no mobile number"),
        (99999, 400, "failed", "Twilio's own words"),
        (20429, 429, "retry", "20429"),
        (21611, 400, "retry", "21611"),
        (20003, 401, "retry", "20003"),
        (20005, 403, "retry", "20005"),
        (20500, 500, "unknown", "20500"),
    ],
)
def test_twilios_codes(code, status, state, words):
    with api(Twilio(code, status)) as server:
        outcome = sms.send(text(server))
    assert outcome.state == state and words in outcome.detail and "\n" not in outcome.detail and "t0ken" not in outcome.detail


def test_a_message_that_failed_at_once_is_failed():
    with api(lambda request: (201, {"sid": "SM1", "status": "failed", "error_code": 30006})) as server:
        outcome = sms.send(text(server))
    assert outcome.state == "failed" and "landline" in outcome.detail


@pytest.mark.parametrize("missing", ["account_sid", "auth_token", "from"])
def test_settings_that_are_missing_send_nothing(missing):
    with api(Twilio()) as server:
        assert sms.send(text(server, settings={missing: ""})).state == "retry" and server.requests == []


EXPECTED = {"refuse": "failed", "hang": "unknown", "drop": "unknown", "late": "accepted", "500": "unknown", "503": "unknown", "503 later": "retry", "429": "retry",
            "garbage": "unknown", "redirect": "failed", "see other": "unknown", "endless": "unknown"}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_twilio_misbehaving_and_what_the_look_up_finds(way):
    twilio = Twilio()
    turn = iter([way])
    with api(twilio, lambda request: next(turn, "")) as server:
        outcome = sms.send(text(server))
        assert outcome.state == EXPECTED[way], outcome
        if outcome.state == "unknown":
            found = sms.look_up(text(server))
            assert (found.state, found.provider_id) == ("accepted", "SM0") and len(twilio.messages) == 1


def test_what_the_look_up_may_not_take_for_ours():
    twilio = Twilio()
    with api(twilio) as server:
        assert sms.look_up(text(server)).state == "unknown"
        sms.send(text(server, "other"))
        sms.send(text(server, settings={"from": "+420222"}))
        sms.send(text(server, contact={**CONTACT, "phone": "+420999999"}))
        assert sms.look_up(text(server)).state == "unknown"
        sms.send(text(server))
        twilio.messages[-1]["date_created"] = format_datetime(AT - timedelta(days=1))  # the same reminder, a day earlier
        assert sms.look_up(text(server)).state == "unknown"
        twilio.messages[-1] |= {"date_created": format_datetime(AT), "status": "undelivered", "error_code": 30005}
        found = sms.look_up(text(server))
        assert found.state == "failed" and "unknown" in found.detail


@pytest.mark.parametrize(
    "now",
    [
        {"contact": {**CONTACT, "phone": "+420999999"}},  # a new number, or a merge into somebody with another
        {"settings": {"from": "+420222"}},
        {"settings": {"messaging_service_sid": "MG1"}},
        {"primary": "Hi there"},
    ],
)
def test_what_changed_since_the_hand_over_proves_nothing(now):
    """The look-up knows the contact and the settings as they are now; the message went out as they were then."""
    with api(Twilio()) as server:
        sms.send(text(server))
        assert sms.look_up(text(server, **now)).state == "unknown"


def test_the_look_up_knows_a_message_in_twilios_own_spelling():
    twilio = Twilio()
    with api(twilio) as server:
        sms.send(text(server, "Hi  there\n", settings={"from": "+1 (555) 000-1234"}))
        twilio.messages[-1] |= {"from": "+15550001234", "body": "Hi there"}
        assert sms.look_up(text(server, "Hi  there\n", settings={"from": "+1 (555) 000-1234"})).state == "accepted"
        twilio.messages[-1] |= {"from": "Shop"}
        assert sms.look_up(text(server, "Hi there", settings={"from": "Shop"})).state == "accepted"
        assert sms.look_up(text(server, "Hi there", settings={"from": "Shop 2"})).state == "unknown"


@pytest.mark.parametrize("way", ["refuse", "hang", "500", "garbage", "429"])
def test_a_look_up_that_fails_tells_nothing(way):
    with api(Twilio(), lambda request: way) as server:
        assert sms.look_up(text(server)).state == "unknown"
    assert sms.look_up(make_call("sms.send", Path("/nowhere"), "Hi", settings={"transport": "webhook"})).state == "unknown"


def test_the_books_balance_with_twilio_misbehaving_at_random():
    """Through the real dispatcher, look-ups included: nobody gets it twice, and in the end nothing is unknown."""
    dice, twilio, clock = random.Random(3), Twilio(), VirtualClock(int(AT.timestamp() * 1000))
    store, count = MemoryStore(clock), 60
    people = [ContactRow(f"c{n}", orjson.dumps({"a": {"phone": f"+4206000{n:05}"}}), None, "p", 0) for n in range(count)]
    effects = [Effect(f"w/s/c{n}/1", f"c{n}", "sms.send", "Hi", {}, "w", "s", None, "sms", "marketing", clock.now(), None) for n in range(count)]
    store.commit(Block("p", people, effects=effects))
    ways = [way for way in WAYS if way not in ("refuse", "redirect")]
    with api(twilio, lambda request: dice.choice(ways) if request.method == "POST" and dice.random() < 0.3 else "") as server:
        dispatcher = Dispatcher(store, host.load(), clock, settings={"sms": table(server)}, attributes=lambda state: state["a"], runner=ThreadRunner(4))
        for _ in range(400):
            if dispatcher.turn() is None and dispatcher.look_up() is None:
                clock.sleep(60_000)
            states = Counter(store.effect(effect.id).state for effect in effects)
            if not states.keys() - {"accepted", "failed"}:
                break
    taken = Counter(message["to"] for message in twilio.messages)
    assert max(taken.values()) == 1 and states == {"accepted": len(taken)} and len(taken) == count, (states, len(taken))


@pytest.mark.parametrize(
    "body, expected",
    [
        ("a" * 160, ("GSM-7", 1)), ("a" * 161, ("GSM-7", 2)), ("a" * 306, ("GSM-7", 2)), ("a" * 307, ("GSM-7", 3)), ("€" * 80, ("GSM-7", 1)), ("€" * 81, ("GSM-7", 2)),
        ("ć" * 70, ("UCS-2", 1)), ("ć" + "a" * 70, ("UCS-2", 2)), ("😀" * 35, ("UCS-2", 1)), ("😀" * 36, ("UCS-2", 2)), ("Ünï", ("UCS-2", 1)), ("Grüße", ("GSM-7", 1)),
    ],
)  # fmt: skip
def test_segments(body, expected):
    assert sms.segments(body) == expected


def test_the_limit_of_segments_and_tracked_links(tmp_path):
    def send(primary, **more):
        return sms.send(make_call("sms.send", tmp_path, primary, key=primary, settings={"fsync": False, "links": {"url": "https://n.example", "key": "k"}, **more}))

    assert "segments of UCS-2" in send("ć" * 700).detail and send("ć" * 700, max_segments=20).state == "accepted"
    send("Look: https://shop.example/x.", track_links=True)
    send("Look: https://shop.example/y.")
    _, tracked, plain = (orjson.loads(line)["text"] for line in (tmp_path / "outbox/sms.jsonl").read_text().splitlines())
    token = tracked.removeprefix("Look: https://n.example/c/").rstrip(".")
    assert links.verify("k", "click", token)["u"].startswith("https://shop.example/x?utm_source=camp&utm_medium=sms") and tracked.endswith(".")
    assert "shop.example/y" in plain


@pytest.mark.parametrize("base", ["http://10.0.0.1", "http://169.254.169.254", "http://127.0.0.1:1", "file:///etc/passwd", "https://user:pw@api.example"])
def test_a_providers_address_is_judged_like_any_other(base):
    """The setting may be wrong, or the DNS lie: nothing private is called unless allow_private names it."""
    settings = {"transport": "twilio", "account_sid": "AC1", "auth_token": "t", "from": "x", "base_url": base}
    assert sms.send(make_call("sms.send", Path("/nowhere"), "Hi", settings=settings)).state == "failed"
    settings = {"transport": "hubspot", "token": "t", "base_url": base}
    assert crm.push(make_call("crm.push", Path("/nowhere"), "lead", settings=settings)).state == "failed"


def test_no_text_of_a_contact_becomes_a_field_of_its_own():
    with api(Twilio()) as server:
        sms.send(text(server, "Hi&To=%2B1900\r\nFrom=x", contact={**CONTACT, "phone": "+420601234567"}))
    assert server.requests[0].body["Body"] == "Hi&To=%2B1900 \nFrom=x" and server.requests[0].body["To"] == "+420601234567"


# ---------------------------------------------------------------- HubSpot


class HubSpot:
    """Contacts by e-mail address, other objects by their unique property. `race`: somebody makes the contact between PATCH and POST."""

    def __init__(self, race=False):
        self.contacts, self.objects, self.made, self.race = {}, {}, 0, race

    def __call__(self, request):
        if request.headers.get("Authorization") != "Bearer t0ken":
            return 401, {"category": "INVALID_AUTHENTICATION", "message": "no"}
        part = request.path.removeprefix("/crm/v3/objects/").split("/")
        if request.method == "PATCH":
            email = part[1]
            if email not in self.contacts:
                return 404, {"message": "resource not found", "category": "OBJECT_NOT_FOUND"}
            self.contacts[email] |= request.body["properties"]
            return 200, {"id": f"c-{email}"}
        if part == ["contacts"]:
            email = request.body["properties"]["email"]
            if self.race:
                self.contacts.setdefault(email, {"made_by": "somebody else"})
            if email in self.contacts:
                return 409, {"message": "Contact already exists. Existing ID: 7", "category": "CONFLICT"}
            self.made += 1
            self.contacts[email] = dict(request.body["properties"])
            return 201, {"id": f"c-{email}"}
        (wish,) = request.body["inputs"]
        self.objects.setdefault((part[0], wish["id"]), {}).update(wish["properties"])
        return 200, {"status": "COMPLETE", "results": [{"id": "d1", "new": True}]}


def pushed(server, primary="lead", params=None, **changed):
    settings = {"transport": "hubspot", "token": "t0ken", "base_url": server.base, "allow_private": server.private, "timeout": 0.3,
                "contact_fields": ["id", "email", "first_name", "points"], **changed.pop("settings", {})}  # fmt: skip
    return crm.push(make_call("crm.push", Path("/nowhere"), primary, params, settings=settings, **changed))


def test_a_new_contact_and_one_that_is_there():
    hubspot = HubSpot()
    with api(hubspot) as server:
        outcome = pushed(server, params={"lifecyclestage": "lead", "score": 85.0, "vip": True, "owner": "77"})
        assert outcome.state == "accepted" and outcome.provider_id == "c-ana@example.com"
        assert [request.method for request in server.requests] == ["PATCH", "POST"] and server.requests[0].query == {"idProperty": "email"}
        pushed(server, params={"score": 90})
    assert hubspot.contacts == {
        "ana@example.com": {"email": "ana@example.com", "firstname": "Ana", "points": "40", "lifecyclestage": "lead", "score": "90", "vip": "true", "hubspot_owner_id": "77"}
    }


def test_somebody_makes_the_contact_in_between():
    hubspot = HubSpot(race=True)
    with api(hubspot) as server:
        assert pushed(server).state == "accepted" and [request.method for request in server.requests] == ["PATCH", "POST", "PATCH"]
    assert hubspot.contacts["ana@example.com"]["made_by"] == "somebody else" and hubspot.contacts["ana@example.com"]["firstname"] == "Ana"


def test_deals_and_tasks_are_made_once_under_the_effects_own_name():
    hubspot = HubSpot()
    with api(hubspot) as server:
        for attempt in (1, 2):
            for kind in ("deal", "task", "company"):
                assert pushed(server, kind, {"dealname": "X"}, attempt=attempt, settings={"unique_property": "camp_id"}).state == "accepted"
        assert set(hubspot.objects) == {(plural, links.handle("effect-1")) for plural in ("deals", "tasks", "companies")}
        assert hubspot.objects["deals", links.handle("effect-1")] == {"dealname": "X", "camp_id": links.handle("effect-1")}
        assert "unique_property" in pushed(server, "deal").detail and len(server.requests) == 6


@pytest.mark.parametrize(
    "changed, state",
    [
        ({"contact": {"id": "x"}}, "failed"), ({"primary": "../x"}, "failed"), ({"primary": None}, "failed"), ({"params": {"owner": "round-robin"}}, "failed"),
        ({"settings": {"token": ""}}, "retry"), ({"settings": {"token": "wrong"}}, "retry"), ({"contact": {**CONTACT, "email": "a@b/../../x?y#z"}}, "accepted"),
    ],
)  # fmt: skip
def test_what_can_not_be_pushed(changed, state):
    hubspot = HubSpot()
    with api(hubspot) as server:
        outcome = pushed(server, **changed)
        assert outcome.state == state and "t0ken" not in outcome.detail and all(request.path.startswith("/crm/v3/objects/contacts") for request in server.requests)


HUBSPOT = {"refuse": "failed", "redirect": "failed", "late": "accepted"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["PATCH", "POST"])
def test_hubspot_misbehaving_leaves_one_contact(way, method):
    hubspot = HubSpot()
    turn = iter([way])
    with api(hubspot, lambda request: next(turn, "") if request.method == method else "") as server:
        outcome = pushed(server)
        assert outcome.state == HUBSPOT.get(way, "retry"), outcome
        if outcome.state == "retry":
            assert pushed(server, attempt=2).state == "accepted"
    if way not in ("refuse", "redirect"):
        assert len(hubspot.contacts) == 1 and hubspot.made == 1


def test_a_207_is_a_refusal():
    with api(lambda request: (207, {"status": "COMPLETE", "results": [], "errors": [{"message": "Property nope does not exist"}]})) as server:
        outcome = pushed(server, "deal", settings={"unique_property": "camp_id"})
    assert outcome.state == "failed" and "nope" in outcome.detail


def test_idempotency_is_said_as_it_is_by_provider():
    assert sms.idempotency({"transport": "twilio"}) == "lookup" and crm.idempotency({"transport": "hubspot"}) == "key"
    assert sms.idempotency({"transport": "webhook"}) == crm.idempotency({"transport": "webhook"}) == "none"


# ---------------------------------------------------------------- push


def test_a_notification_by_webhook_in_the_documented_shape():
    with api(lambda request: (202, {"id": "n1"})) as server:
        settings = {"transport": "webhook", "url": f"{server.base}/push", "allow_private": server.private, "secret": "s3cret", "timeout": 1}
        call = make_call("push.mobile", Path("/nowhere"), "Three things wait.", {"title": "Cart", "url": "https://shop.example/c"}, settings=settings)
        outcome = push.send(call)
    (request,) = server.requests
    assert outcome.state == "accepted" and outcome.provider_id == "n1" and request.headers["webhook-signature"].startswith("v1,")
    assert request.body["type"] == "push.mobile" and request.body["data"] == {
        "contact": "ana", "title": "Cart", "text": "Three things wait.", "url": "https://shop.example/c", "image": None, "data": {}, "class": "marketing",
        "campaign": "welcome",
    }  # fmt: skip


@pytest.mark.parametrize("primary, params", [("", {}), ("x" * 1_001, {}), ("x", {"title": "t" * 201}), ("x", {"url": "javascript:alert(1)"})])
def test_notifications_that_are_none(tmp_path, primary, params):
    assert push.send(make_call("push.web", tmp_path, primary, params)).state == "failed"
