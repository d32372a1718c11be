"""Every format of `camp check`, to the character where people or programs rely on it."""

from __future__ import annotations

import json

import pytest

from rules_engine.cli.render import clean, render
from rules_engine.diagnostics import Diagnostic, Related, Span

TEXT = 'SEGMENT a\nRULE r\n\tWHEN 中文 "é" x\nEND\n'
PLACE = TEXT.index("x\nEND")
ITEM = Diagnostic(
    "unknown-event",
    Span("dir/a b.camp", PLACE, PLACE + 1),
    "there is no event `x`",
    "did you mean `y`?",
    suggestion="y",
    related=(Related(Span("dir/a b.camp", 8, 9), "declared here"),),
)
SOURCES = {"dir/a b.camp": TEXT}


def test_human() -> None:
    assert render([ITEM], SOURCES) == (
        "error unknown-event: there is no event `x`\n"
        " --> dir/a b.camp:3:14\n"
        "  |\n"
        '3 |     WHEN 中文 "é" x\n'
        "  |                   ^\n"
        "  = help: did you mean `y`?\n"
        "  = dir/a b.camp:1:9: declared here\n"
    )


def test_the_suggestion_is_shown_where_the_help_does_not() -> None:
    text = render([Diagnostic("a-b", Span("x", 0, 2), "m", suggestion="yes")], {"x": "ab\n"})
    assert "= write: yes" in text


def test_colour_only_when_asked() -> None:
    assert "\x1b" not in render([ITEM], SOURCES)
    coloured = render([ITEM], SOURCES, colour=True)
    assert "\x1b[1;31merror\x1b[0m" in coloured
    assert render([ITEM], SOURCES) == __import__("re").sub(r"\x1b\[[\d;]*m", "", coloured)


@pytest.mark.parametrize(
    ("line", "start", "end", "shown", "carets"),
    [
        ("abc", 0, 3, "abc", "^^^"),
        ("abc", 1, 1, "abc", " ^"),
        ("abc", 3, 3, "abc", "   ^"),
        ("a\tb", 2, 3, "a    b", "     ^"),
        ("日本x", 0, 2, "日本x", "^^^^"),
        ("日本x", 2, 3, "日本x", "    ^"),
        ("e\u0301x", 2, 3, "e\u0301x", " ^"),
        ("\x1b[31mx", 5, 6, "�[31mx", "     ^"),
        ("\u202ex", 1, 2, "�x", " ^"),
        ("🎉x", 1, 2, "🎉x", "  ^"),
    ],
)
def test_carets_stay_under_the_text(line: str, start: int, end: int, shown: str, carets: str) -> None:
    lines = render([Diagnostic("a-b", Span("x", start, end), "m")], {"x": line + "\n"}).splitlines()
    assert lines[3] == f"1 | {shown}".rstrip()
    assert lines[4] == f"  | {carets}"


def test_a_span_of_several_lines_is_shown_by_its_first() -> None:
    lines = render([Diagnostic("a-b", Span("x", 2, 9), "m")], {"x": "a bcd  \nefgh\n"}).splitlines()
    assert lines[3:5] == ["1 | a bcd", "  |   ^^^"]


def test_a_long_line_is_cut_around_the_place() -> None:
    text = "x" * 500 + "here" + "y" * 500
    lines = render([Diagnostic("a-b", Span("x", 500, 504), "m")], {"x": text}).splitlines()
    assert len(lines[3]) < 125 and lines[3].startswith("1 | …x") and lines[3].endswith("y…")
    assert lines[3][lines[4].index("^") :].startswith("here") and lines[4].count("^") == 4


@pytest.mark.parametrize("span", [Span("x", 0, 0), Span("x", 99, 120), Span("x", -5, -1), Span("x", 3, 1), Span("other", 5, 9)])
@pytest.mark.parametrize("form", ["human", "short", "json", "github", "sarif"])
@pytest.mark.parametrize("text", ["", "abc", "abc\n"])
def test_no_place_breaks_it(span: Span, form: str, text: str) -> None:
    assert render([Diagnostic("a-b", span, "m", related=(Related(span, "r"),))], {"x": text}, form)


@pytest.mark.parametrize("form", ["human", "short", "json", "github"])
def test_nothing_is_nothing(form: str) -> None:
    assert render([], {}, form) == ""


def test_another_format_is_refused() -> None:
    with pytest.raises(KeyError):
        render([], {}, "xml")


def test_short() -> None:
    assert render([ITEM], SOURCES, "short") == "dir/a b.camp:3:14: error unknown-event: there is no event `x`\n"


def test_json_is_a_contract() -> None:
    (line,) = render([ITEM], SOURCES, "json").splitlines()
    assert json.loads(line) == {
        "name": "unknown-event",
        "severity": "error",
        "message": "there is no event `x`",
        "help": "did you mean `y`?",
        "suggestion": "y",
        "path": "dir/a b.camp",
        "line": 3,
        "column": 14,
        "end_line": 3,
        "end_column": 15,
        "related": [
            {"message": "declared here", "path": "dir/a b.camp", "line": 1, "column": 9, "end_line": 1, "end_column": 10}
        ],
    }


def test_github_escapes_what_would_break_a_command() -> None:
    item = Diagnostic("a-b", Span("a,b:c%.camp", 0, 3), "100%\r\nof it", "help", severity="warning")
    assert render([item], {"a,b:c%.camp": "abcdef"}, "github") == (
        "::warning file=a%2Cb%3Ac%25.camp,line=1,endLine=1,col=1,endColumn=4,title=a-b::100%25%0D%0Aof it%0Ahelp\n"
    )


def test_sarif() -> None:
    warning = Diagnostic("unused-constant", Span("/abs/ü.camp", 0, 5), "m", severity="warning")
    log = json.loads(render([ITEM, warning, warning], {**SOURCES, "/abs/ü.camp": "CONST x = 1\n"}, "sarif"))
    assert log["version"] == "2.1.0" and log["$schema"].endswith("sarif-2.1.0.json")
    (run,) = log["runs"]
    assert run["columnKind"] == "unicodeCodePoints"
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["unknown-event", "unused-constant"]
    assert [rule["defaultConfiguration"]["level"] for rule in rules] == ["error", "warning"]
    assert all(rule["help"]["text"].startswith("# ") and rule["shortDescription"]["text"].endswith(".") for rule in rules)
    assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in run["results"])
    first = run["results"][0]
    place = first["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "dir/a%20b.camp"
    assert place["region"] == {"startLine": 3, "startColumn": 14, "endLine": 3, "endColumn": 15}
    assert first["relatedLocations"][0]["id"] == 1
    replacement = first["fixes"][0]["artifactChanges"][0]["replacements"][0]
    assert replacement["insertedContent"] == {"text": "y"} and replacement["deletedRegion"] == place["region"]
    assert run["results"][1]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].startswith("file:///abs/%C3%BC")


def test_sarif_of_nothing_is_a_whole_log() -> None:
    log = json.loads(render([], {}, "sarif"))
    assert log["runs"][0]["results"] == [] and log["runs"][0]["tool"]["driver"]["rules"] == []


def test_clean() -> None:
    assert clean("a\nb\x1b[0m\u202e") == "a b�[0m�"
