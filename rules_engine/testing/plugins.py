"""For the tests of plugins: a call to hand to `perform`, contacts as hostile as the world's, and a contract to inherit.

    from rules_engine.testing.plugins import ActionContract

    class TestPager(ActionContract):
        action = my_plugin.pager_send       # the Action record
        primary = "server down"
        settings = {"url": "…"}

        def hand_overs(self, project):      # how many arrived at the (faked) provider
            return len(fake_provider.received)

pytest collects the contract's tests with the class. Nothing here reads a clock or is random.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rules_engine.actions import Action, Call, Change, Outcome, covers
from rules_engine.host import check_action

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

OUTCOMES = ("accepted", "failed", "retry", "unknown")

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
    assert isinstance(outcome, Outcome), f"perform answered {type(outcome).__name__}, not Outcome"
    assert outcome.state in OUTCOMES, f"the state {outcome.state!r} is none of {OUTCOMES}"
    assert isinstance(outcome.detail, str) and "\n" not in outcome.detail, "detail must be one line of text"
    assert len(outcome.detail) <= 1_000, "detail is longer than 1,000 characters"
    assert isinstance(outcome.provider_id, str), "provider_id must be a text"
    assert outcome.retry_after is None or outcome.retry_after >= 0, "retry_after must be seconds from 0"


class ActionContract:
    """What every action keeps. Inherit, set `action` and an example, and name the class Test….

    Set `idempotent` where the settings of the test make a transport idempotent that in general is not (None: as the record
    says).
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
        assert check_action(self.action) == ""
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

    def test_changes_are_pure_and_declared(self) -> None:
        if self.action.changes is None:
            return
        params = copy.deepcopy(dict(self.params))
        changes = self.action.changes(self.primary, params)
        assert isinstance(changes, tuple) and all(isinstance(change, Change) for change in changes)
        assert params == dict(self.params), "changes must leave its arguments alone"
        assert self.action.changes(self.primary, params) == changes, "the same arguments must give the same changes"
        for change in changes:
            assert covers(self.action.writes, change, self.primary, params), f"writes does not name what {change} touches"
