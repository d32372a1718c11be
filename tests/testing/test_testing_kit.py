"""What plugin authors get: the harness, the server that misbehaves, and a contract that catches those who break it."""

from __future__ import annotations

import doctest
import socket
import sys
import types
import urllib.request

import pytest

from rules_engine.actions import Action, Change, EventType, Outcome, Parameter
from rules_engine.hookspecs import hookimpl
from rules_engine.testing import harness, servers
from rules_engine.testing.harness import Harness
from rules_engine.testing.plugins import ActionContract, HttpActionContract
from rules_engine.testing.servers import Answer, BadServer
from tests.plugins import torture

CAMPAIGN = """
EVENT go WITH text: text

CAMPAIGN c
  WHEN go
    THEN pager.page event.text
    AFTER 2 days
      THEN pager.mark "paid"
END
ATTRIBUTE plan: text
"""


@pytest.mark.parametrize("module", [harness, servers])
def test_the_examples_in_the_docstrings_run(module):
    done = doctest.testmod(module)
    assert done.attempted >= 3 and done.failed == 0


class Pager:
    """A plugin as an object, that answers as its script says."""

    def __init__(self, *script):
        self.script, self.calls = list(script), []

    def page(self, call):
        self.calls.append(call)
        return self.script.pop(0) if self.script else Outcome("accepted", "paged", "id-1")

    @hookimpl
    def register_actions(self):
        yield Action("pager.page", "Page.", Parameter("text"), perform=self.page, example='pager.page "x"')
        mark = lambda primary, params: (Change("set", "plan", primary),)  # noqa: E731
        yield Action("pager.mark", "Mark.", Parameter("text"), changes=mark, writes=("contact.plan",))

    @hookimpl
    def register_events(self):
        yield EventType("pager.answered", "Answered.", {"text": "text"})


# ---------------------------------------------------------------- the harness


def test_a_story_through_the_real_engine():
    pager = Pager(Outcome("retry", "busy"), Outcome("unknown", "who knows"))
    with Harness(CAMPAIGN, [pager], settings={"pager": {"token": "t"}}) as camp:
        camp.contact("ana", consent__email=True, email="ana@example.com")
        camp.event("go", "ana", text="one")
        assert [(sent.state, sent.detail, sent.attempts) for sent in camp.outbox] == [("retry_wait", "busy", 1)]
        camp.advance("1 hour")
        assert [(sent.state, sent.attempts) for sent in camp.outbox] == [("unknown", 2)]
        camp.event("go", "ben", text="two")
        assert [(sent.contact, sent.primary, sent.state) for sent in camp.outbox] == [("ana", "one", "unknown"), ("ben", "two", "accepted")]
        assert "plan" not in camp.facts("ana")
        camp.advance("2 days")
        assert camp.facts("ana")["plan"] == "paid" and camp.facts("ana")["consent.email"] is True
        assert {call.settings["token"] for call in pager.calls} == {"t"} and pager.calls[0].key == pager.calls[1].key
        assert camp.now.isoformat() == "2026-03-04T10:00:00+00:00" and camp.set_aside == []
        assert [decision.kind for decision in camp.decisions][:2] == ["enter", "action"]
        project = camp.project
    assert not project.exists()


def test_the_same_story_twice_is_the_same():
    def story():
        with Harness(CAMPAIGN, [Pager(Outcome("retry"), Outcome("retry"))]) as camp:
            camp.event("go", "ana", text="one")
            camp.advance("5 days")
            return camp.outbox, [decision._replace(place=None) for decision in camp.decisions]  # the folder has another name

    assert story() == story()


@pytest.mark.parametrize(
    ("campaign", "plugins", "words"),
    [
        ("CAMPAIGN c\n  WHEN go\n    THEN pager.page 5\nEND\n", [Pager()], "line 2, column 8: there is no event `go`"),
        ("", {"pager": types.ModuleType("nothing")}, "plugin pager: it registers nothing"),
        ("", {"a": Pager(), "b": Pager()}, "already provided by the plugin 'a'"),
    ],
)
def test_what_can_not_work_is_said_at_once(campaign, plugins, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        Harness(campaign, plugins)


def test_wrong_facts_are_said():
    with Harness(CAMPAIGN, [Pager()]) as camp:
        with pytest.raises(ValueError, match="no event is called"):
            camp.event("gone", "ana")
        with pytest.raises(ValueError, match="no attribute"):
            camp.contact("ana", shoe_size=5)
        with pytest.raises(ValueError):
            camp.advance("soon")


def test_isolated_is_as_camp_run_does_it(tmp_path, monkeypatch):
    torture.install(tmp_path, "good", torture.GOOD)
    monkeypatch.syspath_prepend(str(tmp_path))
    import camp_good

    text = CAMPAIGN.replace("pager.page", "good.send").replace("pager.mark", "good.mark")
    try:
        with Harness(text, [camp_good], isolated=True) as camp:
            camp.event("go", "ana", text="x")
            camp.advance("3 days")
            assert camp.facts("ana")["plan"] == "paid"
            (sent,) = camp.outbox
            (pid,) = camp.host.pools["good"].pids()
            assert sent.state == "accepted" and int(sent.provider_id) == pid
    finally:
        sys.modules.pop("camp_good")


# ---------------------------------------------------------------- the server


@pytest.mark.parametrize("step", servers.MISBEHAVIOUR)
def test_the_server_misbehaves(step):
    with BadServer(step) as server, pytest.raises(Exception):  # noqa: B017
        with urllib.request.urlopen(server.url, b"x", timeout=0.3) as answer:
            assert len(answer.read(1_000_000)) < 1_000_000, "it floods"
            raise AssertionError("it answered")


def test_the_server_plays_its_script_and_then_is_well():
    with BadServer(Answer(201, b"[1]", {"X": "y"}), lambda request: len(request.body)) as server:
        first = urllib.request.urlopen(server.url, timeout=2)
        assert (first.status, first.read(), first.headers["X"]) == (201, b"[1]", "y")
        with pytest.raises(urllib.request.HTTPError):
            urllib.request.urlopen(server.url, b"x" * 404, timeout=2)
        assert urllib.request.urlopen(server.url, timeout=2).status == 200
        assert [request.method for request in server.requests] == ["GET", "POST", "GET"]
    with pytest.raises(OSError):
        urllib.request.urlopen(server.url, timeout=2)
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert servers.closed_port() != other.getsockname()[1]


# ---------------------------------------------------------------- the contract catches


def accepted(call):
    return Outcome("accepted")


def broken(name, **fields):
    """A contract with one action that breaks one of its rules."""
    record = Action(**{"name": "a.b", "summary": "x", "example": "a.b", "perform": accepted, **fields})
    kind = type("Broken", (ActionContract,), {"action": record, "settings": {"api_token": "hunter2"}, "hand_overs": lambda self, project: 0})
    return getattr(kind(), f"test_{name}")


def tells(call):
    print(call.settings["api_token"])
    return Outcome("accepted")


def slow(call):
    import time

    time.sleep(0.05)
    return Outcome("accepted")


def names_email(call):
    return Outcome("accepted", call.contact["email"])


count = iter(range(1_000_000))

BROKEN = [
    ("the_record_is_valid", {"example": "c.d"}),
    ("the_example_is_accepted", {"perform": lambda call: Outcome("unknown")}),
    ("the_example_is_accepted", {"perform": lambda call: None}),
    ("a_repeated_key_is_handed_over_once", {"idempotency": "key", "window": 60}),
    ("hostile_contacts_never_make_it_raise", {"perform": names_email}),
    ("hostile_arguments_never_make_it_raise", {"perform": lambda call: Outcome("accepted", str(len(call.primary)))}),
    ("the_example_is_answered_in_time", {"perform": slow, "timeout": 0.01}),
    ("no_secret_is_told", {"perform": tells}),
    ("no_secret_is_told", {"perform": lambda call: Outcome("accepted", call.settings["api_token"])}),
    ("it_passes_through_a_childs_line", {"perform": lambda call: Outcome("accepted", "x", object())}),
    ("it_passes_through_a_childs_line", {"perform": None, "changes": lambda p, q: (Change("set", "plan", {1, 2}),)}),
    ("a_look_up_tells_the_truth", {"lookup": accepted}),
    ("a_look_up_tells_the_truth", {"lookup": lambda call: Outcome("retry")}),
    ("changes_are_pure_and_declared", {"perform": None, "changes": lambda p, q: (Change("set", "plan", 1),)}),
    ("changes_are_pure_and_declared", {"perform": None, "writes": ("contact.plan",), "changes": lambda p, q: (Change("set", "plan", next(count)),)}),
]


@pytest.mark.parametrize(("name", "fields"), BROKEN, ids=[f"{number}-{name}" for number, (name, _) in enumerate(BROKEN)])
def test_the_contract_catches(tmp_path, name, fields):
    with pytest.raises((AssertionError, TypeError, KeyError)):
        broken(name, **fields)(tmp_path)


def http(answers):
    """A contract with an action that says of an HTTP call what `answers(status or error)` says."""

    def perform(call):
        request = urllib.request.Request(call.settings["url"], b"x", headers={"Idempotency-Key": call.params.get("key", "")})
        try:
            with urllib.request.urlopen(request, timeout=0.2) as answer:
                return answers(answer.status)
        except urllib.request.HTTPError as error:
            return answers(error.code)
        except Exception as error:
            return answers(error)

    class Broken(HttpActionContract):
        action = Action("a.b", "x", perform=perform, example="a.b", timeout=2.0)

        def settings_for(self, url):
            return {"url": url}

    return Broken


def guesses(answer):
    return Outcome("accepted" if answer == 200 else "retry")


def gives_up(answer):
    return Outcome("accepted" if answer == 200 else "unknown")


@pytest.mark.parametrize(
    ("answers", "name"),
    [
        (gives_up, "where_nobody_listens_nothing_was_handed_over"),
        (guesses, "what_can_not_be_known_is_not_guessed"),
        (guesses, "an_error_of_the_provider_is_not_accepted"),
        (lambda answer: Outcome("accepted"), "an_error_of_the_provider_is_not_accepted"),
        (gives_up, "a_provider_that_asks_for_patience_gets_it"),
    ],
)
def test_the_http_contract_catches(tmp_path, answers, name):
    contract = http(answers)()
    contract.setup_method()
    try:
        contract.test_the_example_is_accepted(tmp_path)
        with pytest.raises(AssertionError):
            getattr(contract, f"test_{name}")(tmp_path)
    finally:
        contract.teardown_method()


def test_the_http_contract_asks_for_keys(tmp_path):
    import dataclasses

    contract = http(gives_up)()
    contract.action = dataclasses.replace(contract.action, idempotency="key", window=60)
    contract.setup_method()
    try:
        with pytest.raises(AssertionError, match="tell two effects apart"):
            contract.test_the_key_arrives(tmp_path)
    finally:
        contract.teardown_method()
