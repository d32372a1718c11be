"""What people write from habit in other languages: each gets a message of its own, and what to write in Camp."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from rules_engine.syntax.lexer import Lexer

_SIGNS = {"==": "=", "===": "=", "!==": "!=", "<>": "!=", "=<": "<=", "=>": ">=", "&&": "AND", "||": "OR", "!": "NOT"}
_WORDS = {"true": "yes", "false": "no", "elseif": "ELSE IF", "elif": "ELSE IF", "elsif": "ELSE IF", "endif": "END"}
_CLOCK = re.compile(r"(\d{1,2})(?::(\d{2}))?[ ]?([aApP])")
_BLOCK_WORDS = frozenset({"IF", "ELSE", "WAIT", "SPLIT", "REPEAT", "OTHERWISE", "WHEN", "RULE", "CAMPAIGN", "TEST", "WORKSPACE"})


class Fix(NamedTuple):
    """A stretch of a text and what stands for it when reading goes on; no message: a consequence of an earlier one."""

    start: int
    end: int
    new: str
    message: str
    help: str
    suggestion: str | None


def foreign(text: str, lexer: Lexer) -> list[Fix]:
    """Every foreign spelling of a text, in order."""
    fixes: list[Fix] = []
    braces = False
    first = ""  # the first word of the line
    before: tuple[str, int, int] = ("_NL", 0, 0)
    earlier = before
    for match, following in _pairs(lexer.pattern.finditer(text)):
        group = match.lastgroup or ""
        start, end = match.span(group)
        word = match[group]
        kind = lexer.kinds(word)[0] if group == "NAME" else group
        if kind == "COMMENT":
            continue
        if before[0] == "_NL":
            first = kind
        after = following.lastgroup if following else "_NL"
        if kind == "FOREIGN":
            fixes.append(_fix(word, start, end, before, earlier, text))
        elif (
            kind == "LBRACE"
            and after in ("_NL", "COMMENT", "_END")
            and first in _BLOCK_WORDS
            and before[0] not in ("KEY", "_COMMA", "LSQB")
        ):
            fixes.append(
                Fix(start, end, "", "" if braces else "a block has no braces here", "leave `{` out; a block ends with END", "")
            )
            braces = True
        elif kind == "RBRACE" and braces and before[0] == "_NL":
            goes_on = following is not None and after == "NAME" and lexer.kinds(following["NAME"])[0] in ("ELSE", "OTHERWISE")
            fixes.append(Fix(start, end, "" if goes_on else "END", "", "", None))
            continue
        elif (
            before[0] == "THEN" and kind in ("IF", "WAIT", "AFTER", "SPLIT", "REPEAT", "STOP", "ELSE", "END") and first == "THEN"
        ):
            fixes.append(
                Fix(
                    before[1],
                    start,
                    "",
                    f"{kind} needs no THEN before it: THEN marks actions only",
                    f"leave THEN out and write {kind} alone",
                    "",
                )
            )
        elif kind == "WAIT" and before[0] == "_NL" and after in ("NUMBER", "DURATION"):
            fixes.append(
                Fix(start, end, "AFTER", "WAIT is for something to happen; to let time pass there is AFTER", "write `AFTER`", "AFTER")
            )
        elif kind == "IF" and before[0] == "EXIT":
            fixes.append(Fix(start, end, "WHEN", "a journey is left WHEN something happens", "write `EXIT WHEN`", "WHEN"))
        earlier, before = before, (kind, start, end)
    return fixes


def _pairs(matches: Iterator[re.Match[str]]) -> Iterator[tuple[re.Match[str], re.Match[str] | None]]:
    """Each with the one after it."""
    match = next(matches, None)
    while match is not None:
        following = next(matches, None)
        yield match, following
        match = following


def _fix(word: str, start: int, end: int, before: tuple[str, int, int], earlier: tuple[str, int, int], text: str) -> Fix:
    lower = word.lower()
    if word in _SIGNS or lower in _WORDS:
        right = _SIGNS.get(word) or _WORDS[lower]
        space = " " if word == "!" else ""
        return Fix(
            start,
            end,
            f" {right} " if word in ("&&", "||") else right + space,
            f"`{word}` is not a Camp word" if word.isalpha() else f"`{word}` is not a Camp sign",
            f"write `{right}`",
            right,
        )
    if lower in ("null", "nil", "undefined"):
        return _null(word, start, end, before, earlier)
    if word == ";":
        ends = text[end:].lstrip(" \t\r").startswith(("\n", "#", "//", "/*")) or not text[end:].strip()
        return Fix(
            start,
            end,
            "" if ends else "\n",
            "a line has no `;` in Camp",
            "the end of the line ends it" if ends else "write the next one on a line of its own",
            "" if ends else "\n",
        )
    if word.startswith("//"):
        return Fix(start, end, "#" + word[2:], "a comment begins with `#`, not with `//`", "write `#`", "#" + word[2:])
    if word.startswith("/*"):
        body = word[2:].removesuffix("*/")
        lines = "\n".join("# " + line.strip(" *") for line in body.strip().split("\n"))
        return Fix(
            start,
            end,
            re.sub(r"[^\n]", " ", word),
            "a comment begins with `#` and ends with its line",
            "write `#` before each line",
            lines,
        )
    if word[0] in "\u2013\u2014\u2212":
        return Fix(start, end, "-", "this dash is not a minus sign", "write `-`", "-")
    if word[0] in "'\u2018\u2019\u201a":
        right = '"' + word[1:-1].replace('"', '\\"') + '"'
        return Fix(start, end, right, "a text stands in double quotes", f"write {right}", right)
    clock = _CLOCK.fullmatch(word[:-1].rstrip(".mM")) or _CLOCK.match(word)
    if clock and clock.end() < len(word) + 1 and word.rstrip(".")[-1] in "mM":
        hour = int(clock[1]) % 12 + (12 if clock[3] in "pP" else 0)
        right = f"{hour:02}:{clock[2] or '00'}"
        return Fix(start, end, right, "a time of day is written with 24 hours", f"write `{right}`", right)
    right = re.match(r"\d+", word)[0]  # type: ignore[index]
    return Fix(start, end, right, f"`{word}` is not a number", f"write `{right}`", right)


def _null(word: str, start: int, end: int, before: tuple[str, int, int], earlier: tuple[str, int, int]) -> Fix:
    """`= null` is IS NOT SET."""
    message = f"`{word}` is not a Camp word: a value is set, or it isn't"
    if before[0] in ("EQ", "IS"):
        return Fix(before[1], end, "IS NOT SET", message, "write `IS NOT SET`", "IS NOT SET")
    if before[0] == "COMPARE":
        return Fix(before[1], end, "IS SET", message, "write `IS SET`", "IS SET")
    if before[0] == "NOT" and earlier[0] == "IS":
        return Fix(earlier[1], end, "IS SET", message, "write `IS SET`", "IS SET")
    return Fix(start, end, '""', message, "test it with IS SET or IS NOT SET", None)
