"""`camp fmt` keeps what a text says, all of its comments, and its own form."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules_engine.syntax.printer import WIDTH, format_text
from rules_engine.syntax.read import read
from tests import derive
from tests.mutations import ROOT, sources

SAMPLE = ROOT / "tests" / "golden" / "syntax" / "sample.camp"


def formatted(text: str) -> str:
    shown, found = format_text(text, "x")
    assert found == []
    return shown


def comments(text: str) -> list[str]:
    return re.findall(r"# (?:a comment|on its own|one|two|why|own)", text)


def unindented(text: str) -> str:
    return "\n".join(line.strip() for line in text.split("\n"))


def keeps_its_promises(text: str) -> None:
    shown = formatted(text)
    assert read(shown, "x")[0] == read(text, "x")[0], "the meaning"
    assert formatted(shown) == shown, "idempotent"
    assert comments(shown) == comments(text), "comments"
    if '"""' not in text:
        assert formatted(unindented(shown)) == shown, "indentation from none"


def test_the_sample_is_in_canonical_form() -> None:
    text = SAMPLE.read_text(encoding="utf-8")
    assert formatted(text) == text


@pytest.mark.parametrize("path", sources(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_campaigns_keep_their_meaning(path) -> None:
    keeps_its_promises(path.read_text(encoding="utf-8"))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 10**9), st.integers(6, 14))
def test_derived_texts_keep_their_meaning(seed: int, depth: int) -> None:
    keeps_its_promises(derive.text(seed, depth))


def test_a_text_with_errors_is_left_alone() -> None:
    shown, found = format_text("rule  a\n  WHNE b\n end", "x")
    assert (shown, [item.name for item in found]) == ("rule  a\n  WHNE b\n end", ["unknown-keyword"])


TABLE = [
    ("const a=36h", "CONST a = 36 hours"),
    ("const a=1d12h", "CONST a = 1 day 12 hours"),
    ("const a = 1 Days", "CONST a = 1 day"),
    ("const a = 3 day", "CONST a = 3 days"),
    ("CONST a = 1_000", "CONST a = 1_000"),
    ("CONST a = -5 - -3*(2+1)", "CONST a = -5 - -3 * (2 + 1)"),
    ('CONST a = {b :1,"c" : [1,2]}', 'CONST a = {b: 1, "c": [1, 2]}'),
    ("CONST a = \u201cx\u201d", 'CONST a = "x"'),
    ("CONST a = YES", "CONST a = yes"),
    ("CONST a = 2026-03-02T9:05", "CONST a = 2026-03-02 09:05"),
    ("CONST a = 9:30 # tea", "CONST a = 09:30  # tea"),
    ("CONST a = 2 BUSINESS days", "CONST a = 2 business days"),
    ("# top\n\n\n\nCONST a = 1\n\n\n\nCONST b = 2", "# top\n\nCONST a = 1\n\nCONST b = 2"),
    (
        "CONST a = 1\nRULE r\nWHEN b.c\nTHEN d.e\n\n\nEND\nCONST b = 2",
        "CONST a = 1\n\nRULE r\n  WHEN b.c\n    THEN d.e\n\nEND\n\nCONST b = 2",
    ),
    (
        "campaign c\ndeliver between 9:00 and 20:00 on Mon - Fri\nexit when b.c\nthen d.e\nwhen f.g\n"
        + "split s\n50% a\nthen d.e\n50% b\nstop\nend\nend",
        "CAMPAIGN c\n  DELIVER BETWEEN 09:00 AND 20:00 ON mon-fri\n  EXIT WHEN b.c\n    THEN d.e\n  WHEN f.g\n"
        + "    SPLIT s\n      50% a\n        THEN d.e\n      50% b\n        STOP\n    END\nEND",
    ),
    ("RULE r\nAT  most 1 times per Day\nWHEN a.b\nEND", "RULE r\n  AT MOST 1 TIME PER day\n  WHEN a.b\nEND"),
    (
        'TEST "t"\nAT 2026-03-02 10:00\nEXPECT nothing else\nAT + 1 days\nEXPECT NOTHING\nEND',
        'TEST "t"\n  AT 2026-03-02 10:00\n    EXPECT NOTHING ELSE\n  AT +1 day\n    EXPECT NOTHING\nEND',
    ),
    ("", None),
]


@pytest.mark.parametrize(("text", "expected"), TABLE)
def test_canonical_form(text: str, expected: str | None) -> None:
    assert formatted(text) == ("" if expected is None else expected + "\n")


def test_long_lines_are_broken_where_they_may_be() -> None:
    names = [f"contact.a_rather_long_name_{number} = 1" for number in range(5)]
    shown = formatted(f'RULE r\nWHEN a.b\nIF {" AND ".join(names)}\nTHEN c.d "{"x" * 60}", k: {"y" * 40}\nEND\nEND\n')
    assert all(len(line) <= WIDTH for line in shown.split("\n"))
    assert f"    IF {names[0]}\n       AND {names[1]}\n" in shown
    assert f'      THEN c.d "{"x" * 60}",\n          k: {"y" * 40}\n' in shown
