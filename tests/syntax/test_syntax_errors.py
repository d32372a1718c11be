"""One mistake is one message, at its place, with what to write instead; the rest of the file is read all the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rules_engine.diagnostics import Diagnostic, Source, Span
from rules_engine.limits import MAX_NESTING, MAX_SOURCE_BYTES
from rules_engine.syntax.read import read, read_file, without_echoes

GOLDEN = Path(__file__).parent.parent / "golden" / "syntax"
STEPS = "CAMPAIGN a\n  WHEN b.c\n    {}\nEND\n"
CASES = sorted(path for path in GOLDEN.glob("*.camp") if path.stem != "sample")


def rendered(text: str, found: list[Diagnostic]) -> str:
    """Messages as a person sees them: place, name, sentence, the line with a caret, help."""
    source = Source("x", text)
    lines = []
    for item in found:
        line, column = source.place(item.span.start)
        shown = source.line(line)
        width = max(1, min(item.span.end - item.span.start, len(shown) - column + 1))
        lines += [f"{line}:{column} {item.name}: {item.message}", f"  {shown}", f"  {' ' * (column - 1)}{'^' * width}"]
        lines += [f"  help: {item.help}"] if item.help else []
        lines += [f"  instead: {item.suggestion!r}"] if item.suggestion is not None else []
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_messages_are_as_expected(path: Path) -> None:
    """CAMP_GOLDEN=1 writes the expected files anew: read the difference before you commit it."""
    text = path.read_text(encoding="utf-8")
    shown = rendered(text, read(text, "x")[1])
    expected = path.with_suffix(".expected")
    if os.environ.get("CAMP_GOLDEN"):
        expected.write_text(shown, encoding="utf-8")
    assert shown == expected.read_text(encoding="utf-8")


FOREIGN = [
    ("IF contact.x == 1 THEN a.b", "`==` is not a Camp sign", "="),
    ("IF contact.x <> 1 THEN a.b", "`<>` is not a Camp sign", "!="),
    ("IF contact.x => 1 THEN a.b", "`=>` is not a Camp sign", ">="),
    ("IF contact.x = 1 && contact.y = 2 THEN a.b", "`&&` is not a Camp sign", "AND"),
    ("IF contact.x = 1 || contact.y = 2 THEN a.b", "`||` is not a Camp sign", "OR"),
    ("IF !contact.x THEN a.b", "`!` is not a Camp sign", "NOT"),
    ("IF contact.x = true THEN a.b", "`true` is not a Camp word", "yes"),
    ("IF contact.x = False THEN a.b", "`False` is not a Camp word", "no"),
    ("IF contact.x = null THEN a.b", "`null` is not a Camp word: a value is set, or it isn't", "IS NOT SET"),
    ("IF contact.x != null THEN a.b", "`null` is not a Camp word: a value is set, or it isn't", "IS SET"),
    ("IF contact.x IS NOT null THEN a.b", "`null` is not a Camp word: a value is set, or it isn't", "IS SET"),
    ("IF contact.x = 'de' THEN a.b", "a text stands in double quotes", '"de"'),
    ("IF contact.x = \u2018de\u2019 THEN a.b", "a text stands in double quotes", '"de"'),
    ('IF contact.x IS "de" THEN a.b', "IS only tests whether something is SET", "="),
    ('IF contact.x IS NOT "de" THEN a.b', "IS NOT only tests whether something is SET", "!="),
    ("UNLESS contact.x = 1 THEN a.b", "`UNLESS` is not a Camp word", "IF NOT"),
    ("THEN a.b;", "a line has no `;` in Camp", ""),
    ("THEN a.b // why", "a comment begins with `#`, not with `//`", "# why"),
    ("THEN a.b /* why */", "a comment begins with `#` and ends with its line", "# why"),
    ("AFTER 3 days AT 10am", "a time of day is written with 24 hours", "10:00"),
    ("AFTER 3 days AT 12 a.m.", "a time of day is written with 24 hours", "00:00"),
    ("AFTER 3 days AT 9:30pm", "a time of day is written with 24 hours", "21:30"),
    ("AFTER 3 days ON mon\u2013fri", "this dash is not a minus sign", "-"),
    ("AFTER 5 mins", "`mins` is not a Camp word", "minutes"),
    ("REPEAT EVERY month UP TO 3rd TIMES\n    END", "`3rd` is not a number", "3"),
    ("THEN IF contact.x = 1\n      THEN a.b\n    END", "IF needs no THEN before it: THEN marks actions only", ""),
    ("WAIT 5 days", "WAIT is for something to happen; to let time pass there is AFTER", "AFTER"),
    ("WAIT 36h", "WAIT is for something to happen; to let time pass there is AFTER", "AFTER"),
    ("IF (contact.x = 1) {\n      THEN a.b\n    }", "a block has no braces here", ""),
    ("IF (contact.x = 1) {\n      THEN a.b\n    } else {\n      THEN c.d\n    }", "a block has no braces here", ""),
    (
        "IF contact.x = 1\n      THEN a.b\n    ELSEIF contact.x = 2\n      THEN a.b\n    END",
        "`ELSEIF` is not a Camp word",
        "ELSE IF",
    ),
    ("IF contact.x = 1\n      THEN a.b\n    elif contact.x = 2\n      THEN a.b\n    END", "`elif` is not a Camp word", "ELSE IF"),
    ("IF contact.x = 1\n      THEN a.b\n    ENDIF", "`ENDIF` is not a Camp word", "END"),
]


@pytest.mark.parametrize(("line", "message", "suggestion"), FOREIGN)
def test_foreign_spellings_have_their_own_message(line: str, message: str, suggestion: str) -> None:
    file, found = read(STEPS.format(line), "x")
    assert [(item.name, item.message, item.suggestion) for item in found] == [("foreign-spelling", message, suggestion)]
    assert len(file.items) == 1, "the block is read all the same"


FINE = [
    "IF contact.x = 1 and contact.y = 2 or contact.z = 3 then a.b",
    "AFTER 3days",
    "\tAFTER 1d12h",
    "THEN a.b \u201ccurly \u201d",
    "AFTER\u00a03\u00a0days",
    "then A.B",
    "IF (contact.x = 1)\n    END",
    "THEN a.b end: 1, to: contact.end",
    "IF contact.x = 1\nTHEN a.b\nEND",
    "THEN a.b [1,\n  2],\n  c: {d: 1}",
]


@pytest.mark.parametrize("line", FINE)
def test_what_is_tolerated(line: str) -> None:
    for ending in ("\n", "\r\n"):
        for mark in ("", "\ufeff"):
            assert read(mark + STEPS.format(line).replace("\n", ending), "x")[1] == []


SLIPS = [
    ("THENa.b 1", "unknown-keyword", "THEN a.b"),
    ("TEHN a.b", "unknown-keyword", "THEN"),
    ("THEN THEN a.b", "syntax-error", ""),
    ("a.b 1", "syntax-error", "THEN a.b"),
    ("IF contact.x = 1 THNE a.b", "unknown-keyword", "THEN"),
    ('THEN a.b "x" c: 1', "syntax-error", ", c:"),
    ('THEN a.b "x", c 1', "syntax-error", "c:"),
    ('THEN a.b "x', "unclosed-text", '"x"'),
    ('THEN a.b x"', "unclosed-text", '"x"'),
    ("THEN a.b [1, 2", "unclosed-bracket", None),
    ("THEN a.b [1, 2)", "unclosed-bracket", "]"),
    ("THEN a.b 1)", "unclosed-bracket", ""),
    ("THEN a.b THEN c.d", "syntax-error", None),
    ("IF contact.x = 1:\n      THEN a.b\n    END", "syntax-error", ""),
    ("AFTER 3 dyas", "unknown-keyword", "days"),
    ("AF TER 3 days", "unknown-keyword", "AFTER"),
    ("WAIT UNTIL a.b UPTO 3 days\n    END", "unknown-keyword", "UP TO"),
    ("IF DID a.b AT LEST 2 TIMES THEN a.b", "unknown-keyword", "LEAST"),
    ("IF contact.x = 1\n      THEN a.b\n", "missing-end", None),
    ("THEN a.b\n    END\n    THEN c.d", "extra-end", ""),
    ("THEN a.b $", "syntax-error", ""),
]


@pytest.mark.parametrize(("line", "name", "suggestion"), SLIPS)
def test_slips_are_one_message(line: str, name: str, suggestion: str | None) -> None:
    file, found = read(STEPS.format(line), "x")
    assert [(item.name, item.suggestion) for item in found] == [(name, suggestion)], found
    assert len(file.items) == 1


@pytest.mark.parametrize(
    "text",
    [
        "CONST min = 3\nCONST b = min + 1\n",
        "SEGMENT day IS contact.x = 1\n",
        "CAMPAIGN end\n  WHEN a.b\nEND\n",
        "SEGMENT s IS contact IN sum\n",
    ],
)
def test_keywords_as_names_have_a_message(text: str) -> None:
    assert [item.name for item in read(text, "x")[1]] == ["keyword-as-name"]


def test_errors_far_apart_are_all_found() -> None:
    text = "CONST a == 1\n\nRULE r\n  WHNE b.c\n    THEN d.e\n    TEHN f.g\nEND\n\nSEGMNT s IS contact.x = 1\n"
    file, found = read(text, "x")
    assert [(Source("x", text).place(item.span.start)[0], item.suggestion) for item in found] == [
        (1, "="),
        (4, "WHEN"),
        (6, "THEN"),
        (9, "SEGMENT"),
    ]
    assert [item.name for item in file.items] == ["a", "r", "s"]


def test_places_after_a_repair_are_those_of_the_text() -> None:
    text = "RULE r\n  WHNE b.c\n    THENd.e\nEND\n"
    file, _found = read(text, "x")
    step = file.items[0].steps[0]
    assert text[step.action.name_span.start : step.action.name_span.end].endswith("d.e")


@pytest.mark.parametrize("removed", ["    END\n\n    AFTER 4 days", "    END\nEND\n\nTEST"])
def test_a_missing_end_is_blamed_on_the_block_that_lacks_it(removed: str) -> None:
    sample = (GOLDEN / "sample.camp").read_text(encoding="utf-8")
    assert removed in sample
    text = sample.replace(removed, removed.replace("    END\n", "", 1), 1)
    file, found = read(text, "x")
    assert [item.name for item in found] == ["missing-end"]
    assert text[found[0].span.start : found[0].span.end] in ("IF", "WAIT")
    assert len(file.items) == 15


def test_too_large() -> None:
    file, found = read("#" * (MAX_SOURCE_BYTES + 1), "x")
    assert ([item.name for item in found], file.items) == (["file-too-large"], ())
    assert [item.name for item in read("# é" * (MAX_SOURCE_BYTES // 4 + 1), "x")[1]] == ["file-too-large"]


@pytest.mark.parametrize(
    "text",
    [
        "SEGMENT a IS " + "(" * 5_000 + "x = 1" + ")" * 5_000,
        "SEGMENT a IS " + "NOT " * 5_000 + "x = 1",
        "CONST a = " + "-" * 5_000 + "1",
        "CONST a = 1" + " + 1" * 5_000,
        "CAMPAIGN a\nWHEN b\n" + "IF x = 1\n" * 5_000 + "END\n" * 5_001,
        "CAMPAIGN a\nWHEN b\n" + "IF x = 1\n" * (MAX_NESTING + 1) + "END\n" * (MAX_NESTING + 2),
        "CONST a = " + "[" * 5_000,
    ],
    ids=["brackets", "not", "minus", "plus", "blocks", "one-too-many", "unclosed"],
)
def test_nested_too_deep(text: str) -> None:
    file, found = read(text + "\n\nCONST b = 1\n", "x")
    assert [item.name for item in found] == ["nested-too-deep"]
    assert [item.name for item in file.items] == ["b"]


def test_as_deep_as_allowed() -> None:
    deep = "CAMPAIGN a\nWHEN b\n" + "IF contact.x\n" * MAX_NESTING + "END\n" * (MAX_NESTING + 1)
    assert read(deep, "x")[1] == []
    assert read("CONST a = " + "(" * MAX_NESTING + "1" + ")" * MAX_NESTING + "\n", "x")[1] == []


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.camp"
    path.write_bytes(b'CONST a = 1\nCONST b = "\xff"\n')
    file, found, text = read_file(path, "a.camp")
    assert [(item.name, item.message) for item in found] == [("not-utf-8", "line 2 is not UTF-8: it has the byte 0xff")]
    assert Source("a.camp", text).place(found[0].span.start)[0] == 2
    path.write_bytes(b"CONST a = 1\n\0\n")
    _file, found, _text = read_file(path)
    assert [item.message for item in found] == ["the file has a control character here (code 0)"]
    path.write_bytes("\ufeffCONST a = 1\r\n".encode())
    assert read_file(path)[1] == []
    assert file.items == ()


def test_echoes_of_a_syntax_error_are_left_out() -> None:
    text = "CONST a = 1\nCONST b = 2\n"
    error = Diagnostic("syntax-error", Span("x", 0, 1), "a")
    same_line, other_line = Diagnostic("unknown-name", Span("x", 6, 7), "b"), Diagnostic("unknown-name", Span("x", 18, 19), "b")
    assert without_echoes([error], [same_line, other_line], {"x": text}) == [other_line]


def test_a_name_that_a_repair_made_up_is_never_shown() -> None:
    error = Diagnostic("syntax-error", Span("x", 0, 1), "a name is missing")
    echo = Diagnostic("unknown-contact", Span("x", 9, 10), "this TEST has no contact `ana`", "its contacts are x_")
    own = Diagnostic("unknown-contact", Span("x", 9, 10), "this TEST has no contact `ana`", "its contacts are my_")
    assert without_echoes([error], [echo, own], {"x": "GIVEN\n# my_\nana"}) == [own]
