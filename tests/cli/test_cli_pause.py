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
