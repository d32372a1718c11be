"""The contract of Camp against a home server that misbehaves, and campaigns through the real engine."""

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import camp_plugin_matrix as plugin
import pytest

from rules_engine.testing.harness import Harness
from rules_engine.testing.plugins import HttpActionContract, make_call
from rules_engine.testing.servers import Answer, BadServer

(ACTION,) = plugin.register_actions()
CAMPAIGN = """
EVENT order.placed WITH total: number

RULE big_order
  WHEN order.placed WHERE event.total > 100
    THEN matrix.post "Order over {event.total}"
END
"""


def settings(url, **more):
    return {"url": url, "token": "syt_secret_token", "room": "!sales:example.org", "timeout": 0.3, **more}


class HomeServer:
    """What a Matrix home server does: a transaction id counts once, and messages can be read again."""

    def __init__(self):
        self.events = {}

    def __call__(self, request):
        assert request.headers["authorization"] == "Bearer syt_secret_token"
        if request.method == "GET":
            chunk = [
                {"event_id": f"${name}", "unsigned": {"transaction_id": name}, "content": event} for name, event in self.events.items()
            ]
            return Answer(200, json.dumps({"chunk": chunk[-100:], **({"end": "t1"} if len(chunk) > 100 else {})}).encode())
        name = request.path.rpartition("/")[2]
        self.events.setdefault(name, json.loads(request.body))
        return Answer(200, json.dumps({"event_id": f"${name}"}).encode())


class TestContract(HttpActionContract):
    action = ACTION
    primary = "Order over 250"
    params = {"quiet": True}

    def setup_method(self):
        self.answer = HomeServer()
        super().setup_method()

    def settings_for(self, url):
        return settings(url)

    def key_of(self, request):
        return request.path.rpartition("/")[2]


def test_what_arrives():
    home = HomeServer()
    with BadServer(home) as server:
        call = make_call(ACTION, Path("/nowhere"), "Größe \u2028 <b>\0", {"room": "!a/b?c:x.org"}, settings=settings(server.url + "/base/"))
        outcome = plugin.post(call)
        (request,) = server.requests
    assert outcome.state == "accepted" and outcome.provider_id.startswith("$msg_")
    assert request.method == "PUT" and unquote(request.path).startswith("/base/_matrix/client/v3/rooms/!a/b?c:x.org/send/m.room.message/msg_")
    assert request.path.count("/") == 9 and json.loads(request.body) == {"msgtype": "m.text", "body": "Größe \u2028 <b>"}


@pytest.mark.parametrize("changed", [{"url": "http://matrix.example.org"}, {"url": "ftp://x"}, {"url": None}, {"token": ""}, {"token": "a\r\nb"}])
def test_settings_that_can_not_work_send_nothing(changed, tmp_path):
    outcome = plugin.post(make_call(ACTION, tmp_path, "x", settings={**settings("http://127.0.0.1:9"), **changed}))
    assert outcome.state == "retry" and "token" not in outcome.detail.replace("access token", "").replace("CAMP_MATRIX_TOKEN", "")


def test_no_room_is_a_failure(tmp_path):
    assert plugin.post(make_call(ACTION, tmp_path, "x", settings=settings("http://127.0.0.1:9", room="sales"))).state == "failed"


def test_a_line_that_breaks_is_made_good_by_the_key():
    home = HomeServer()

    def takes_it_and_breaks(request):
        home(request)
        return "drop"

    with BadServer(takes_it_and_breaks, *[home] * 9) as server, Harness(CAMPAIGN, [plugin], settings={"matrix": settings(server.url)}) as camp:
        camp.event("order.placed", "ana", total=250)
        assert camp.outbox[0].state == "retry_wait"
        camp.advance("1 hour")
        (sent,) = camp.outbox
        assert sent.state == "accepted" and sent.attempts == 2 and len(home.events) == 1


def test_after_the_window_the_room_is_looked_through(tmp_path):
    home = HomeServer()
    with BadServer(*[home] * 9) as server:
        call = make_call(ACTION, tmp_path, "x", settings=settings(server.url))
        assert plugin.look_up(call).state == "retry", "the room is short, and does not have it"
        plugin.post(call)
        assert plugin.look_up(call).state == "accepted"
        home.events = {f"other-{n}": {} for n in range(200)}
        assert plugin.look_up(call).state == "unknown", "it may have been before those"
    assert plugin.look_up(call).state == "unknown", "nobody there to ask"


def test_in_a_process_of_its_own_with_its_own_secret_only(monkeypatch):
    monkeypatch.setenv("CAMP_EMAIL_PASSWORD", "another's")
    home = HomeServer()
    with BadServer(*[home] * 9) as server:
        with Harness(CAMPAIGN, [plugin], settings={"matrix": settings(server.url)}, isolated=True) as camp:
            camp.event("order.placed", "ana", total=250)
            assert [sent.state for sent in camp.outbox] == ["accepted"]
    assert [event["body"] for event in home.events.values()] == ["Order over 250"]


def test_the_sample_campaign():
    folder = Path(__file__).parents[1] / "campaigns"
    done = subprocess.run([sys.executable, "-m", "rules_engine", "test", str(folder)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
