"""For the tests of plugins: a call to hand to `perform`, contacts as hostile as the world's, and a contract to inherit.

    from rules_engine.testing.plugins import ActionContract

    class TestPager(ActionContract):
        action = my_plugin.pager_send       # the Action record
        primary = "server down"
        settings = {"url": "…"}

        def hand_overs(self, project):      # how many arrived at the (faked) provider
            return len(fake_provider.received)

pytest collects the contract's tests with the class. An action that calls a provider over HTTP inherits HttpActionContract instead, which
puts a server that misbehaves in the provider's place. Nothing here reads the wall clock or is random.
"""

from __future__ import annotations

import copy
import io
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rules_engine import host, wire
from rules_engine.actions import SECRETS, Action, Call, Change, Outcome, covers, prefixed
from rules_engine.testing.servers import Answer, BadServer, Request, closed_port

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
"""The moment of every made-up call: a Monday, 10:00 in Prague."""

CONTACT: Mapping[str, Any] = {
    "id": "ana",
    "email": "ana@example.com",
    "phone": "+420 601 234 567",
    "first_name": "Ana",
    "consent.email": True,
    "points": 40.0,
}

OUTCOMES = host.OUTCOMES
HOSTILE_TEXTS = (
    "",
    " ",
    "\0",
    "Ana\r\nBcc: all@example.org",
    "Ana\n\n<script>",
    "=?utf-8?q?x=0D=0ABcc:_all@example.org?=",
    "{{ 7 * 7 }}",
    "{% raw %}",
    "{contact.email}",
    "a" * 100_000,
    "\ud800",
    "\u2028\u202e\ufeff",
    "%s%n%(x)s",
    "../../etc/passwd",
    "=cmd|' /C calc'!A0",
    "'; DROP TABLE contacts; --",
    '"><img src=x onerror=alert(1)>',
    "ana@example.com, all@example.org",
    "<ana@example.com>\r\nDATA",
    "ana@exa mple.com",
    "@",
    "a@",
    "ä@example.com",
    "ana@bücher.example",
    "\x85\x0b\x0c\x1c",
)

HOSTILE_VALUES: tuple[Any, ...] = (
    *HOSTILE_TEXTS,
    None,
    True,
    0,
    -1,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    [],
    ["x"] * 3,
    {},
    {"a": {"b": None}},
    b"bytes",
    object(),
)


def hostile_contacts() -> list[dict[str, Any]]:
    """Contacts in which each attribute of CONTACT in turn holds each hostile value, or is missing; and an empty one."""
    contacts: list[dict[str, Any]] = [{}]
    for name in CONTACT:
        contacts.append({key: value for key, value in CONTACT.items() if key != name})
        contacts += [{**CONTACT, name: value} for value in HOSTILE_VALUES]
    return contacts


def make_call(
    action: Action | str,
    project: Path,
    primary: Any = None,
    params: Mapping[str, Any] | None = None,
    *,
    key: str = "effect-1",
    contact: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    campaign: str | None = "welcome",
    at: datetime = AT,
    attempt: int = 1,
) -> Call:
    """A Call as the engine would make it; give only what the test is about."""
    name = action if isinstance(action, str) else action.name
    return Call(
        key,
        name,
        primary,
        dict(params or {}),
        dict(CONTACT if contact is None else contact),
        campaign,
        dict(settings or {}),
        project,
        at,
        attempt,
    )


def check_outcome(outcome: Any) -> None:
    """Asserts that an answer of `perform` is one that the engine can act on."""
    problem = host.check_outcome(outcome)
    assert not problem, problem


@contextmanager
def overheard() -> Iterator[list[str]]:
    """Collects all that is printed and logged meanwhile, as one text in the list it gives."""
    told, text = io.StringIO(), [""]
    handler = logging.StreamHandler(told)
    logging.getLogger().addHandler(handler)
    try:
        with redirect_stdout(told), redirect_stderr(told):
            yield text
    finally:
        logging.getLogger().removeHandler(handler)
        text[0] = told.getvalue()


class ActionContract:
    """What every action keeps. Inherit, set `action` and an example, and name the class Test….

    Set `idempotent` where the settings of the test make a transport idempotent that in general is not (None: as the record
    says). Settings whose name speaks of a secret (`token`, `api_key` …) must not show up in an outcome, a print or a log.
    """

    action: Action
    primary: Any = None
    params: Mapping[str, Any] = {}
    settings: Mapping[str, Any] = {}
    idempotent: bool | None = None

    def prepare(self, project: Path) -> None:
        """Puts into the project folder what the action needs, such as templates."""

    def hand_overs(self, project: Path) -> int:
        """How many hand-overs have arrived at the provider. Needed for idempotent actions."""
        raise NotImplementedError("say how many hand-overs arrived")

    def call(self, project: Path, **changed: Any) -> Call:
        """The example as a Call."""
        return make_call(
            self.action, project, **{"primary": self.primary, "params": self.params, "settings": self.settings, **changed}
        )

    def test_the_record_is_valid(self) -> None:
        assert host.check_action(self.action) == ""
        assert self.action.example.startswith(self.action.name), "the example must be a line of the language that uses the action"

    def test_the_example_is_accepted(self, tmp_path: Path) -> None:
        if self.action.perform is None:
            return
        self.prepare(tmp_path)
        outcome = self.action.perform(self.call(tmp_path))
        check_outcome(outcome)
        assert outcome.state == "accepted", outcome

    def test_a_repeated_key_is_handed_over_once(self, tmp_path: Path) -> None:
        idempotent = self.action.idempotency != "none" if self.idempotent is None else self.idempotent
        if self.action.perform is None or not idempotent:
            return
        self.prepare(tmp_path)
        before = self.hand_overs(tmp_path)
        for attempt in (1, 2, 3):
            assert self.action.perform(self.call(tmp_path, attempt=attempt)).state == "accepted"
        assert self.hand_overs(tmp_path) == before + 1, "a repeated key was handed over again"
        assert self.action.perform(self.call(tmp_path, key="effect-2")).state == "accepted"
        assert self.hand_overs(tmp_path) == before + 2, "another key was taken for a repeat"

    def test_hostile_contacts_never_make_it_raise(self, tmp_path: Path) -> None:
        if self.action.perform is None:
            return
        self.prepare(tmp_path)
        for number, contact in enumerate(hostile_contacts()):
            check_outcome(self.action.perform(self.call(tmp_path, key=f"hostile-{number}", contact=contact)))

    def test_hostile_arguments_never_make_it_raise(self, tmp_path: Path) -> None:
        self.prepare(tmp_path)
        for number, value in enumerate(HOSTILE_VALUES):
            for name in (None, *(parameter.name for parameter in self.action.parameters)):
                primary = value if name is None else self.primary
                params = dict(self.params) if name is None else {**self.params, name: value}
                if self.action.perform is not None:
                    check_outcome(
                        self.action.perform(self.call(tmp_path, key=f"args-{number}-{name}", primary=primary, params=params))
                    )
                elif self.action.changes is not None:
                    assert all(isinstance(change, Change) for change in self.action.changes(primary, params))

    def test_the_example_is_answered_in_time(self, tmp_path: Path) -> None:
        if self.action.perform is None:
            return
        self.prepare(tmp_path)
        start = time.monotonic()
        self.action.perform(self.call(tmp_path))
        assert time.monotonic() - start < self.action.timeout, "the example takes longer than the action's time-out"

    def test_no_secret_is_told(self, tmp_path: Path) -> None:
        secrets = [str(value) for name, value in self.settings.items() if any(word in name for word in SECRETS) and len(str(value)) > 3]
        if self.action.perform is None or not secrets:
            return
        self.prepare(tmp_path)
        with overheard() as told:
            outcomes = [self.action.perform(self.call(tmp_path)), self.action.perform(self.call(tmp_path, key="empty", contact={}))]
        for secret in secrets:
            assert all(secret not in f"{outcome}" for outcome in outcomes), "an outcome tells a secret"
            assert secret not in told[0], "a secret is printed or logged"

    def test_it_passes_through_a_childs_line(self, tmp_path: Path) -> None:
        """The record, the call and the answer are the same at the other end of the line to a child process."""
        functions = {name: getattr(self.action, name) for name in wire.FUNCTIONS}
        assert wire.action_of(wire.load(wire.dump(wire.action_data(self.action))), functions) == self.action
        self.prepare(tmp_path)
        call = self.call(tmp_path)
        assert wire.call_of(wire.load(wire.dump(wire.call_data(call)))) == call, "settings or params are no values of the language"
        if self.action.perform is not None:
            outcome = self.action.perform(call)
            assert Outcome(*wire.load(wire.dump(list(outcome)))) == outcome, "the outcome holds more than texts and a number"
        if self.action.changes is not None:
            changes = self.action.changes(self.primary, dict(self.params))
            assert tuple(Change(*change) for change in wire.load(wire.dump([list(change) for change in changes]))) == changes

    def test_a_look_up_tells_the_truth(self, tmp_path: Path) -> None:
        lookup, perform = self.action.lookup, self.action.perform
        if lookup is None or perform is None:
            return
        self.prepare(tmp_path)
        before = lookup(self.call(tmp_path, key="never-sent"))
        check_outcome(before)
        assert before.state != "accepted", "what was never handed over can't have been accepted"
        assert perform(self.call(tmp_path)).state == "accepted"
        after = lookup(self.call(tmp_path))
        check_outcome(after)
        assert after.state in ("accepted", "unknown"), "what was accepted must not be handed over again"
        for number, contact in enumerate(hostile_contacts()):
            check_outcome(lookup(self.call(tmp_path, key=f"hostile-{number}", contact=contact)))

    def test_changes_are_pure_and_declared(self) -> None:
        if self.action.changes is None:
            return
        params = copy.deepcopy(dict(self.params))
        changes = self.action.changes(self.primary, params)
        assert isinstance(changes, tuple) and all(isinstance(change, Change) for change in changes)
        assert params == dict(self.params), "changes must leave its arguments alone"
        assert self.action.changes(self.primary, params) == changes, "the same arguments must give the same changes"
        for change in changes:
            assert covers(self.action.writes, change, self.primary, params), f"writes does not name what {change} touches{prefixed(change)}"


class HttpActionContract(ActionContract):
    """What every action keeps that calls a provider over HTTP: what it says of a hand-over is what the provider proved. Set
    `settings_for`, with a short time-out of its own; the rest as in ActionContract. `server` stands for the provider.

    A provider whose answer is more than a 200 is written as `answer`; one that puts the key elsewhere than into the header
    Idempotency-Key, as `key_of`.
    """

    server: BadServer

    def settings_for(self, url: str) -> Mapping[str, Any]:
        """The plugin's settings for a provider at this address."""
        raise NotImplementedError("say how the settings name the provider's address")

    def answer(self, request: Request) -> int | str | Answer:
        """What a provider that is well answers: 200 and an empty JSON object."""
        return 200

    def key_of(self, request: Request) -> str:
        """The idempotency key as it arrived."""
        return request.headers.get("idempotency-key", "")

    def setup_method(self) -> None:
        """Called by pytest before each test."""
        self.server = BadServer(*[self.answer] * 5_000)
        self.settings = self.settings_for(self.server.url)

    def teardown_method(self) -> None:
        """Called by pytest after each test."""
        self.server.close()

    def hand_overs(self, project: Path) -> int:
        """Distinct keys that arrived with a request that changes something: what a provider that knows keys acts upon."""
        return len({self.key_of(request) for request in self.server.requests if request.method not in ("GET", "HEAD")})

    def _against(self, project: Path, *script: Any) -> Outcome:
        """What the action says of a server with this script."""
        assert self.action.perform is not None
        self.prepare(project)
        with BadServer(*script) as server:
            start = time.monotonic()
            outcome = self.action.perform(self.call(project, settings=self.settings_for(server.url)))
            assert time.monotonic() - start < self.action.timeout, f"it did not come back within its time-out from {script[0]}"
        check_outcome(outcome)
        return outcome

    def _repeats(self) -> bool:
        return self.action.idempotency == "key" if self.idempotent is None else self.idempotent

    def test_where_nobody_listens_nothing_was_handed_over(self, tmp_path: Path) -> None:
        self.prepare(tmp_path)
        call = self.call(tmp_path, settings=self.settings_for(f"http://127.0.0.1:{closed_port()}"))
        outcome = self.action.perform(call)  # type: ignore[misc]
        assert outcome.state in ("retry", "failed"), outcome

    def test_what_can_not_be_known_is_not_guessed(self, tmp_path: Path) -> None:
        """The request has arrived, and no answer that can be read comes back."""
        allowed = ("unknown", "retry") if self._repeats() else ("unknown",)
        for step in ("drop", "hang", "garbage"):
            outcome = self._against(tmp_path, step)
            assert outcome.state in allowed, f"after {step}: {outcome}"

    def test_an_error_of_the_provider_is_not_accepted(self, tmp_path: Path) -> None:
        for status in (400, 401, 404, 500, 502, 503):
            outcome = self._against(tmp_path, *[status] * 3)
            assert outcome.state != "accepted", f"after {status}: {outcome}"
            assert status < 500 or self._repeats() or outcome.state != "retry", f"a {status} is no proof that nothing was done: {outcome}"

    def test_a_provider_that_asks_for_patience_gets_it(self, tmp_path: Path) -> None:
        outcome = self._against(tmp_path, *[Answer(429, b"{}", {"Retry-After": "7"})] * 3)
        assert outcome.state == "retry" and outcome.retry_after == 7, outcome

    def test_a_flood_ends(self, tmp_path: Path) -> None:
        self._against(tmp_path, "flood")

    def test_the_key_arrives(self, tmp_path: Path) -> None:
        if self.action.idempotency == "none":
            return
        self.prepare(tmp_path)
        self.action.perform(self.call(tmp_path, key="key-1"))  # type: ignore[misc]
        self.action.perform(self.call(tmp_path, key="key-2"))  # type: ignore[misc]
        keys = [self.key_of(request) for request in self.server.requests if request.method not in ("GET", "HEAD")]
        assert len(set(keys)) == 2 and all(keys), f"the provider can't tell two effects apart by {keys}"
