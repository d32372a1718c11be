"""Which block an END is missing from, or which END is one too many: the grammar only knows that they don't balance; indentation
says where."""

from __future__ import annotations

from typing import NamedTuple

from rules_engine.syntax.lexer import Lexer

OPENERS = frozenset({"RULE", "CAMPAIGN", "TEST", "WORKSPACE", "IF", "WAIT", "SPLIT", "REPEAT"})
_GOES_ON = frozenset({"END", "ELSE", "OTHERWISE"})
_TAB = 8


class Line(NamedTuple):
    """A statement: its kind (first keyword), that word's place, its line's start and indentation, the end of the statement."""

    kind: str
    start: int
    word_end: int
    line_start: int
    indent: int
    end: int
    word: str


class Missing(NamedTuple):
    """`opener` has no END; it belongs before `position`."""

    opener: Line
    position: int


def statements(text: str, lexer: Lexer) -> list[Line]:
    """The statements of a text. An IF that acts on its own line counts as `THEN`, since no END belongs to it."""
    found: list[Line] = []
    kind = word = ""
    start = word_end = 0
    fresh = True
    for kinds, value, begin, end in lexer.lex(text):
        if kinds[0] == "_NL":
            if not fresh:
                line_start = text.rfind("\n", 0, start) + 1
                indent = len(text[line_start:start].expandtabs(_TAB))
                found.append(Line(kind, start, word_end, line_start, indent, begin, word))
            fresh = True
        elif fresh:
            kind, start, word_end, word, fresh = kinds[0], begin, end, value, False
        elif kind == "IF" and kinds[0] in ("THEN", "STOP"):
            kind = "THEN"
    return found


def missing(text: str, lexer: Lexer) -> list[Missing]:
    """Places where an END may be missing, likeliest first."""
    lines = statements(text, lexer)
    found: list[Missing] = []
    opened: list[Line] = []
    flat = all(line.indent == lines[0].indent for line in lines) if lines else True
    for line in lines:
        while not flat and opened and _outside(line, opened[-1]):
            found.append(Missing(opened.pop(), line.line_start))
        if line.kind == "END":
            if opened:
                opened.pop()
        elif line.kind in OPENERS:
            opened.append(line)
    last = len(text.rstrip()) if not lines else lines[-1].end
    found += [Missing(line, last) for line in reversed(opened)]
    return found


def _outside(line: Line, opener: Line) -> bool:
    """Whether a line stands outside the block that `opener` begins, by indentation."""
    return line.indent < opener.indent or line.indent == opener.indent and line.kind not in _GOES_ON


def extra(text: str, lexer: Lexer) -> list[Line]:
    """ENDs that may be one too many, likeliest first: those that don't stand under what they would close, then the others from
    the last."""
    unlike: list[Line] = []
    others: list[Line] = []
    opened: list[Line] = []
    for line in statements(text, lexer):
        if line.kind == "END":
            fits = opened and opened[-1].indent == line.indent
            (others if fits else unlike).append(line)
            if opened and (fits or all(opener.indent != line.indent for opener in opened[:-1])):
                opened.pop()
        elif line.kind in OPENERS:
            opened.append(line)
    return unlike + others[::-1]
