"""`camp pause` and `camp resume`: the emergency stop as an operator meets it."""

from __future__ import annotations

import json


def ready(shop):
    assert shop("contact", "import", "samples/contacts.jsonl").code == 0
    assert shop("event", "import", "samples/events.jsonl").code == 0


def test_nothing_of_a_paused_campaign_leaves_and_it_goes_on_where_it_was(shop):
    ready(shop)
    answer = shop("pause", "welcome", "--reason", "wrong price")
    assert answer.code == 0 and "`welcome` is paused: 0 effects waiting" in answer.err
    assert shop("run", "--until", "2026-04-01").code == 0
    assert not list((shop.folder / "outbox").glob("*.eml"))
    shown = [json.loads(line) for line in shop("pause", "--json").out.splitlines()]
    assert [(item["campaign"], item["reason"]) for item in shown] == [("welcome", "wrong price")]
    assert "would be looked at again" in shop("resume", "welcome", "--dry-run").err
    assert shop("resume", "welcome").code == 4, "it asks, and nobody answers"
    answer = shop("resume", "welcome", "--yes")
    assert answer.code == 0 and "`welcome` goes on" in answer.err
    assert shop("run", "--until", "2026-04-01").code == 0
    assert list((shop.folder / "outbox").glob("*.eml"))


def test_everything_can_be_paused(shop):
    ready(shop)
    assert shop("pause", "--all").code == 0
    assert "everything was paused already" in shop("pause", "--all").err
    assert shop("run", "--until", "2026-04-01").code == 0
    assert not list((shop.folder / "outbox").glob("*.eml"))
    assert shop("pause").out.splitlines()[1].startswith("everything")
    answer = shop("resume", "welcome", "--yes")
    assert answer.code == 4 and "paused: --all" in answer.err
    assert shop("resume", "--all", "--yes").code == 0
    assert shop("pause").out == "nothing is paused\n"


def test_slips_are_told(shop):
    ready(shop)
    answer = shop("pause", "welcom")
    assert answer.code == 2 and "did you mean `welcome`?" in answer.err
    assert shop("pause", "welcome", "--all").code == 2
    assert shop("resume").code == 2


def test_it_works_although_the_campaigns_of_the_day_are_broken(shop):
    ready(shop)
    (shop.folder / "campaigns" / "broken.camp").write_text("CAMPAIGN\n")
    assert shop("pause", "welcome").code == 0
    assert "welcome" in shop("pause").out


def test_what_was_done_by_hand_can_be_read(shop, monkeypatch):
    ready(shop)
    assert "nobody did anything" in shop("audit").err
    monkeypatch.setenv("CAMP_USER", "mara")
    shop("pause", "--all", "--reason", "wrong price")
    status = shop("status")
    assert "paused    everything since 20" in status.out and status.out.count("wrong price") == 1
    (paused,) = json.loads(shop("status", "--json").out)["pauses"]
    assert (paused["campaign"], paused["reason"]) == ("*", "wrong price") and paused["at"].endswith("Z")
    assert shop("run", "--until", "2026-04-01").code == 0
    number = shop("outbox", "list").out.splitlines()[1].split()[0]
    assert shop("outbox", "cancel", number, "--yes").code == 0
    shop("resume", "--all", "--yes")
    found = [json.loads(line) for line in shop("audit", "--json").out.splitlines()]
    assert {item["who"] for item in found} == {"mara"}
    assert [item["what"] for item in found][::2] == ["resume", "pause"] and "wrong price" in found[-1]["detail"], found
    assert "mara" in shop("audit", "--limit", "1").out and len(shop("audit", "--limit", "1").out.splitlines()) == 2


def test_a_message_that_has_not_left_is_marked_in_the_timeline(shop):
    ready(shop)
    shop("pause", "--all")
    assert shop("run", "--until", "2026-04-01").code == 0
    assert "(outbox: ready)" in shop("timeline", "ana").out
    shop("resume", "--all", "--yes")
    assert shop("run", "--until", "2026-04-01").code == 0
    assert "(outbox: ready)" not in shop("timeline", "ana").out and "sent email.send" in shop("timeline", "ana").out


def test_every_state_of_an_effect_has_its_place_and_its_meaning():
    from rules_engine.cli.outbox import MEANING, ORDER
    from rules_engine.store.port import EFFECT_STATES

    assert sorted(ORDER) == sorted(MEANING) == sorted(EFFECT_STATES)


def test_a_rate_that_is_none_is_one_sentence(shop):
    text = (shop.folder / "camp.toml").read_text()
    (shop.folder / "camp.toml").write_text(text.replace("[email]", '[email]\nthrottle = "soon"', 1))
    answer = shop("run", "--once")
    assert answer.code == 5 and "email.throttle = 'soon' is no rate" in answer.err and "500 per minute" in answer.err
    (shop.folder / "camp.toml").write_text(text.replace("[email]", '[email]\nthrottle = "14 per second"', 1))
    assert shop("run", "--once").code == 0
    assert "throttle" not in shop("doctor").out
