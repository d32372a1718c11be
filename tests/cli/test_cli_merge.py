"""Merged contacts at the command line: they are said where somebody looks, and left out where people are counted."""

from __future__ import annotations

import json

import pytest

CAMPAIGN = """
SEGMENT keen IS DID page.viewed
CAMPAIGN tour
  WHEN page.viewed
    AFTER 1 day
    THEN log.write "a day later"
END
"""


@pytest.fixture
def merged(empty):
    """visitor:1 looked at two pages, Ana is known; then the visitor is Ana."""
    (empty.folder / "camp.toml").write_text('name = "site"\n')
    (empty.folder / "site.camp").write_text(CAMPAIGN)
    for arguments in (
        ("contact", "set", "ana", "email=ana@example.com", "--at", "2026-03-02 09:00"),
        ("contact", "set", "ben", "email=ben@example.com", "--at", "2026-03-02 09:00"),
        ("event", "send", "page.viewed", "--contact", "visitor:1", "--at", "2026-03-02 10:00"),
        ("event", "send", "contact.identified", "--contact", "visitor:1", "contact=ana", "--at", "2026-03-02 11:00"),
    ):
        assert empty(*arguments).code == 0
    assert empty("run", "--until", "2026-03-05 10:00").code == 0
    return empty


def test_a_merged_contact_says_where_it_went(merged):
    assert "merged into:          ana at 2026-03-02T11:00:00Z" in merged("contact", "show", "visitor:1").out
    record = json.loads(merged("contact", "show", "visitor:1", "--json").out)
    assert (record["merged_into"], record["merged_at"]) == ("ana", "2026-03-02T11:00:00Z")
    for command in ("why", "timeline"):
        out = merged(command, "visitor:1").out
        assert "left" in out and "merged into ana" in out and "visitor:1 was merged into ana at Mon 2026-03-02 11:00" in out, out


def test_the_other_says_who_it_was_too(merged):
    assert "was also:             visitor:1, merged in at 2026-03-02T11:00:00Z" in merged("contact", "show", "ana").out
    assert json.loads(merged("contact", "show", "ana", "--json").out)["merged"] == [{"contact": "visitor:1", "at": "2026-03-02T11:00:00Z"}]
    assert "visitor:1 was merged in at Mon 2026-03-02 11:00" in merged("why", "ana").out
    assert "contact.merge  merged (visitor:1 was merged in)" in merged("timeline", "ana").out


def test_lists_leave_it_out_and_say_so(merged):
    answer = merged("contact", "list")
    assert "visitor:1" not in answer.out and "1 contact left out: merged into another" in answer.err
    assert [json.loads(line)["id"] for line in merged("contact", "list", "--json").out.splitlines()] == ["ana", "ben"]
    assert [json.loads(line) for line in merged("contact", "list", "--merged", "--json").out.splitlines()] == [
        {"id": "visitor:1", "merged_into": "ana", "merged_at": "2026-03-02T11:00:00Z"}
    ]
    assert "visitor:1  ana" in merged("contact", "list", "--merged").out
    assert [line.split()[0] for line in merged("segment", "members", "keen").out.splitlines()[1:]] == ["ana"]
    answer = merged("segment", "list")
    assert "1 contact not counted: merged into another" in answer.err


def test_what_comes_later_goes_on(merged):
    merged("contact", "set", "visitor:1", "city=Brno", "--at", "2026-03-06 09:00")
    assert merged("run", "--until", "2026-03-06 10:00").code == 0
    assert json.loads(merged("contact", "show", "ana", "--json").out)["city"] == "Brno"


def test_two_known_people_are_merged_by_a_person(merged):
    answer = merged("contact", "merge", "ben", "ana", "--dry-run")
    assert answer.code == 0 and "ben would be merged into ana" in answer.err
    assert merged("contact", "merge", "ben", "ana").code == 4, "nobody was asked"
    assert merged("contact", "merge", "ben", "ana", "--yes").code == 0
    assert merged("run", "--once").code == 0
    assert "merged into:          ana" in merged("contact", "show", "ben").out
    answer = merged("contact", "merge", "ana", "ben", "--yes")
    assert answer.code == 2 and "`ben` was merged into `ana` before" in answer.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [(("ana", "ana"), 2, "`ana` is one contact already"), (("anaa", "ben"), 5, "did you mean `ana`?"), (("ben", "anna"), 5, "did you mean `ana`?")],
)
def test_a_merge_that_cannot_be(merged, arguments, code, said):
    answer = merged("contact", "merge", *arguments, "--yes")
    assert answer.code == code and said in answer.err
