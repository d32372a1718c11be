"""Every project in campaigns/: checked without a word, every TEST passed, every step reached, every template rendered as it is sent."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import pytest

from rules_engine.engine.values import read_contact
from rules_engine.project import Loaded, load_program
from rules_engine.testing.runner import TestResult, coverage, run_tests
from rules_engine.testing.simulator import World

CAMPAIGNS = Path(__file__).parents[2] / "campaigns"
PROJECTS = sorted(path.parent.name for path in CAMPAIGNS.glob("*/camp.toml"))


@cache
def load(name: str) -> Loaded:
    return load_program([CAMPAIGNS / name])


@cache
def results(name: str) -> tuple[TestResult, ...]:
    loaded = load(name)
    assert loaded.program is not None
    return tuple(run_tests(loaded.program, loaded.model.tests))


@pytest.mark.parametrize("name", PROJECTS)
def test_check_says_nothing(name: str) -> None:
    assert [(item.name, item.span, item.message) for item in load(name).diagnostics] == []


@pytest.mark.parametrize("name", PROJECTS)
def test_it_is_written_as_camp_fmt_writes(name: str) -> None:
    from rules_engine.syntax.printer import format_text

    for path in sorted((CAMPAIGNS / name).glob("*.camp")):
        text = path.read_text(encoding="utf-8")
        assert format_text(text, str(path))[0] == text, path


@pytest.mark.parametrize("name", PROJECTS)
def test_its_tests_pass(name: str) -> None:
    failed = [(result.name, [failure.message for failure in result.failures]) for result in results(name) if not result.passed]
    assert results(name)
    assert failed == []


@pytest.mark.parametrize("name", PROJECTS)
def test_its_tests_reach_every_message(name: str) -> None:
    """Splits and the ends of loops make no decision of their own; everything that is sent or done is reached by some TEST."""
    missed = [(item.name, step) for item in coverage(load(name).program, results(name)) for step in item.missed
              if not step.startswith("SPLIT") and not step.endswith(" again")]
    assert missed == []


MUSTS = {
    "welcome_series": 3,
    "abandoned_cart": 3,
    "lead_scoring": 3,
    "birthday": 3,
}


@pytest.mark.parametrize("name", MUSTS)
def test_each_must_of_its_recipe_is_a_test(name: str) -> None:
    musts = [result.name for result in results(name) if result.name.startswith("must: ")]
    assert len(musts) >= MUSTS[name]


def test_a_birthday_in_1970_is_refused_by_name() -> None:
    """R8's must: what breaks a contract never becomes a fact, and the contact keeps what it had."""
    loaded = load("birthday")
    refused: list[str] = []
    world = World(loaded.program, lambda cause, reason: refused.append(reason))
    start = 1_780_000_000_000
    world.act(read_contact(loaded.model, {"id": "ana", "birthday": "--05-10"}, start), start)
    world.act(read_contact(loaded.model, {"id": "ana", "birthday": "1970-01-01"}, start + 1), start + 1)
    world.act(read_contact(loaded.model, {"id": "ben", "birthday": "1970-01-01"}, start), start)
    assert world.states["ana"]["a"]["birthday"] == "--05-10"
    assert "birthday" not in world.states["ben"]["a"]
    assert len(refused) == 2 and all("contact.birthday breaks its declaration" in reason for reason in refused)


def test_every_template_renders_with_what_it_is_sent_with(tmp_path: Path) -> None:
    """All mails that the TESTs send, through the real plugin: no placeholder is left empty that the reader would see."""
    from datetime import UTC, datetime

    from rules_engine.plugin import Call

    sent = 0
    for name in PROJECTS:
        loaded = load(name)
        action = loaded.host.actions["email.send"]
        settings = {**loaded.project.settings["email"], "folder": str(tmp_path / name), "fsync": False}
        mails = {(decision.primary, json.dumps(decision.params, sort_keys=True)) for result in results(name) for decision in result.decisions
                 if decision.action == "email.send" and decision.kind == "action"}
        for number, (template, params) in enumerate(sorted(mails)):
            contact = {"id": "ana", "email": "ana@example.com"}
            outcome = action.perform(Call(f"{name}/{number}", "email.send", template, json.loads(params), contact, name, settings,
                                          CAMPAIGNS / name, datetime(2026, 3, 2, 9, tzinfo=UTC)))
            assert outcome.state == "accepted", (name, template, outcome.detail)
            sent += 1
    assert sent > 40
    for path in tmp_path.rglob("*.eml"):
        assert "{{" not in path.read_text() and not re.search(r"\bNone\b", path.read_text()), path


def test_mail_2_says_as_we_wrote_only_if_we_wrote(tmp_path: Path) -> None:
    from datetime import UTC, datetime
    from email import message_from_bytes, policy

    from rules_engine.plugin import Call

    loaded = load("abandoned_cart")
    settings = {**loaded.project.settings["email"], "folder": str(tmp_path), "fsync": False}
    texts = {}
    for wrote in (True, False):
        params = {"as_we_wrote": wrote}
        loaded.host.actions["email.send"].perform(Call(f"cart/{wrote}", "email.send", "cart_2", params, {"id": "ana", "email": "ana@example.com"},
                                                       "abandoned_cart", settings, CAMPAIGNS / "abandoned_cart", datetime(2026, 3, 2, 9, tzinfo=UTC)))
        new = next(path for path in tmp_path.rglob("*.eml") if path not in texts)
        texts[new] = wrote
    for path, wrote in texts.items():
        body = message_from_bytes(path.read_bytes(), policy=policy.default).get_body(("plain",)).get_content()
        assert ("as we wrote" in body) is wrote
