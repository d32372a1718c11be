"""`camp fmt`: the canonical form of a text. Works on the tokens as the parser took them, so that every comment, bracket and
number stays as it was written; what changes is case, spaces, line breaks, indentation, quotes and the wording of durations."""

from __future__ import annotations

import re
from typing import NamedTuple

from rules_engine.diagnostics import Diagnostic
from rules_engine.syntax import words
from rules_engine.syntax.lexer import Raw
from rules_engine.syntax.parser import Parser, parser
from rules_engine.syntax.read import read

WIDTH = 100  # a longer line is broken
_DECLARED = 80  # SEGMENT and FACT break before IS above this
_STEP = 2  # spaces for each level
_HANGING = 4  # spaces before a line that goes on with a statement
_BLOCKS = frozenset({"IF", "WAIT", "SPLIT", "REPEAT"})
_ITEMS = frozenset({"RULE", "CAMPAIGN", "TEST", "WORKSPACE"})
_UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week"}
_OPERANDS = frozenset(
    {
        "NAME",
        "NUMBER",
        "PERCENT",
        "STRING",
        "DATE",
        "DATETIME",
        "TIME",
        "UNIT",
        "DURATION",
        "YES",
        "NO",
        "RPAR",
        "RSQB",
        "RBRACE",
        "WEEKDAY",
    }
)


class Piece(NamedTuple):
    """A token as it will be written. `comment`: what follows it on its line; `above`: comments on lines of their own before
    it."""

    kind: str
    text: str
    comment: str = ""
    above: tuple[str, ...] = ()


class Statement(NamedTuple):
    """Pieces of one statement; `blank`: whether an empty line stood before it (or before its comments)."""

    pieces: list[Piece]
    blank: bool


def format_text(text: str, path: str) -> tuple[str, list[Diagnostic]]:
    """The text in canonical form. A text with syntax errors comes back as it was, with what is wrong with it."""
    _file, found = read(text, path)
    if found:
        return text, found
    statements, ending = _statements(parser(), text)
    lines = _Layout().lines(statements, ending)
    return "\n".join(lines) + "\n" if lines else "", []


# ── pieces
# ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _statements(reader: Parser, text: str) -> tuple[list[Statement], Statement]:
    """The statements of a valid text with their comments, and the comments after the last."""
    taken: list[tuple[str, Raw]] = []
    reader.follow([reader.start], reader.lexer.lex(text), taken)
    found: list[Statement] = []
    pieces: list[Piece] = []
    blank = False
    last = 0
    for kind, token in taken:
        if kind == "_NL":
            found.append(Statement(pieces, blank))
            pieces = []
            continue
        gap = text[last : token[2]]
        trailing, above, empty = _comments(gap, last == 0)
        if trailing:
            _comment(pieces or found[-1].pieces, trailing)
        if not pieces:
            blank = empty
        before = pieces[-1] if pieces else Piece("", "")
        pieces.append(Piece(kind, _spelled(kind, token[1], before), "", tuple(above)))
        last = token[3]
    trailing, above, empty = _comments(text[last:], last == 0)
    if trailing and found:
        _comment(found[-1].pieces, trailing)
    return found, Statement([Piece("", "", "", tuple(above))], empty)


def _comment(pieces: list[Piece], comment: str) -> None:
    pieces[-1] = pieces[-1]._replace(comment=comment)


def _comments(gap: str, first: bool) -> tuple[str, list[str], bool]:
    """What stands between two tokens: (comment on the first one's line, comments and empty lines after it, whether an empty line
    comes first). An empty line between comments is an empty text; a run of them is one."""
    if "\n" not in gap and "#" not in gap:
        return "", [], False
    lines = [_stripped(line) for line in gap.split("\n")]
    trailing = "" if first else lines.pop(0)
    if lines and not lines[-1]:
        lines.pop()  # the indentation of what follows
    blank = bool(lines) and not lines[0]
    above: list[str] = []
    for line in lines:
        if line or above and above[-1]:
            above.append(line)
    return trailing, above, blank


def _stripped(line: str) -> str:
    return line.strip(" \t\f\r\ufeff\u00a0\u2007\u2009\u202f\u200b")


def _spelled(kind: str, value: str, before: Piece) -> str:
    """A token in canonical spelling."""
    if kind in ("NAME", "NUMBER", "PERCENT", "DATE"):
        return value
    if kind == "KEY":
        return value[:-1].rstrip() + ":"
    if kind == "STRING":
        return _quoted(value)
    if kind == "TIME":
        return value.zfill(len(value) + (value[1] == ":"))
    if kind == "DATETIME":
        day, clock = re.split(r"[ \tT]+", value)
        return f"{day} {clock.zfill(len(clock) + (clock[1] == ':'))}"
    if kind == "DURATION":
        return " ".join(
            f"{count} {_UNITS[unit]}{'' if int(count) == 1 else 's'}" for count, unit in re.findall(r"(\d+)([smhdw])", value)
        )
    if kind in ("UNIT", "TIMES"):
        return _counted(kind, value, before)
    if kind in ("AT_LEAST", "AT_MOST"):
        return kind.replace("_", " ")
    if kind == "BUSINESS" and before.kind == "NUMBER" or kind in words.LOWER:
        return value.lower()
    return value.upper() if value.isalpha() else value


def _counted(kind: str, value: str, before: Piece) -> str:
    """`1 day`, `3 days`, `PER day`, `1 TIME`."""
    word = value.lower().removesuffix("s")
    one = before.text == "1" if before.kind in ("NUMBER", "BUSINESS") else kind == "UNIT"
    if before.kind == "BUSINESS":
        one = False
    word += "" if one else "s"
    return word.upper() if kind == "TIMES" else word


def _quoted(value: str) -> str:
    """Curly quotes become straight ones."""
    if value[0] == '"':
        return value
    inner = value[1:-1]
    slashes = len(inner) - len(inner.rstrip("\\"))
    return f'"{inner}{chr(92) if slashes % 2 else ""}"'


# ── layout
# ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Layout:
    """Lines with their indentation. `blocks` holds what is open: (kind, level of its lines)."""

    def __init__(self) -> None:
        self._blocks: list[tuple[str, int]] = []
        self._lines: list[str] = []

    def lines(self, statements: list[Statement], ending: Statement) -> list[str]:
        """All lines of the text."""
        before: Statement | None = None
        was_tall = False
        for statement in statements:
            at_top = not self._blocks
            level, comment_level = self._level(statement)
            lines = self._statement(statement, level, comment_level)
            tall = at_top and (len(lines) - len(statement.pieces[0].above) > 1 or statement.pieces[0].kind in _ITEMS)
            separate = at_top and before is not None and (tall or was_tall)
            if before is not None and (statement.blank or separate):
                self._lines.append("")
            was_tall = tall if at_top else was_tall
            self._lines += lines
            before = statement
        above = list(ending.pieces[0].above)
        while above and not above[-1]:
            above.pop()
        if above and before is not None and ending.blank:
            self._lines.append("")
        self._lines += above
        return self._lines

    def _level(self, statement: Statement) -> tuple[int, int]:
        """The levels of a statement and of the comments above it; opens and closes blocks."""
        kind = statement.pieces[0].kind
        blocks = self._blocks
        inner = blocks[-1][1] if blocks else 0
        if kind == "END":
            while blocks and blocks[-1][0] in ("WHEN", "EXIT", "PERCENT", "AT"):
                blocks.pop()
            level = blocks.pop()[1] - 1 if blocks else 0
            return level, inner
        if not blocks:
            if kind in _ITEMS:
                blocks.append((kind, 1))
            return 0, 0
        if kind in ("ELSE", "OTHERWISE") and blocks[-1][0] in _BLOCKS:
            return inner - 1, inner
        if blocks[-1][0] == "EXIT" and kind != "THEN":
            blocks.pop()
        if blocks[-1][0] == "PERCENT" and kind == "PERCENT" or blocks[-1][0] == "AT" and kind == "AT":
            blocks.pop()
        level = blocks[-1][1]
        if (
            kind in ("WHEN", "EXIT", "PERCENT")
            or kind == "AT"
            and blocks[-1][0] == "TEST"
            or kind in _BLOCKS
            and not (kind == "IF" and any(piece.kind in ("THEN", "STOP") for piece in statement.pieces))
        ):
            blocks.append((kind, level + 1))
        return level, level

    def _statement(self, statement: Statement, level: int, comment_level: int) -> list[str]:
        """The lines of one statement with the comments above it."""
        indent = " " * (_STEP * level)
        above = " " * (_STEP * comment_level)
        lines = [above + comment if comment else "" for comment in statement.pieces[0].above]
        hanging = indent + " " * _HANGING
        runs = _runs(statement.pieces)
        for number, run in enumerate(runs):
            if number:
                lines += [hanging + comment for comment in run[0].above if comment]
            body = _broken(run, indent if not number else hanging, number == 0)
            if run[-1].comment:
                body[-1] += f"  {run[-1].comment}"
            lines += body
        return lines


def _runs(pieces: list[Piece]) -> list[list[Piece]]:
    """A statement cut where comments force its lines to break."""
    runs: list[list[Piece]] = [[]]
    for piece in pieces:
        if runs[-1] and (runs[-1][-1].comment or any(piece.above)):
            runs.append([])
        runs[-1].append(piece)
    return runs


def _broken(pieces: list[Piece], indent: str, first: bool) -> list[str]:
    """The lines of a piece of a statement: one if it fits, otherwise broken before IS (of a declaration), AND, OR, or after
    commas."""
    line = indent + _joined(pieces)
    kind = pieces[0].kind
    if first and kind in ("SEGMENT", "FACT") and (len(line) > _DECLARED or "\n" in line):
        position = next((number for number, piece in enumerate(pieces) if piece.kind == "IS"), 0)
        if position:
            return [indent + _joined(pieces[:position]), *_broken(pieces[position:], indent + " " * _STEP, False)]
    if len(line.split("\n")[0]) <= WIDTH:
        return [line]
    hanging = indent + " " * (len(pieces[0].text) + 1 if kind in ("IS", "IF") else _HANGING)
    parts = _parts(pieces, ("AND", "OR"))
    if len(parts) == 1:
        parts = _parts(pieces, ("_COMMA",))
    if len(parts) == 1:
        return [line]
    lines = [indent + _joined(parts[0])]
    for part, before in zip(parts[1:], parts, strict=False):
        text = _joined(part, before[-1])
        if parts[0][-1].kind == "_COMMA" and len(lines[-1]) + 1 + len(text) <= WIDTH:
            lines[-1] += " " + text.lstrip()
        else:
            lines.append(hanging + text.lstrip())
    return lines


def _parts(pieces: list[Piece], kinds: tuple[str, ...]) -> list[list[Piece]]:
    """Pieces cut before AND and OR, or after commas, outside brackets; the AND of BETWEEN stays where it is."""
    parts: list[list[Piece]] = [[]]
    depth = between = 0
    for piece in pieces:
        if piece.kind in ("LPAR", "LSQB", "LBRACE"):
            depth += 1
        elif piece.kind in ("RPAR", "RSQB", "RBRACE"):
            depth -= 1
        elif piece.kind == "BETWEEN" and not depth:
            between += 1
        cuts = not depth and piece.kind in kinds
        if cuts and piece.kind == "AND" and between:
            between -= 1
            cuts = False
        if cuts and piece.kind != "_COMMA" and parts[-1]:
            parts.append([])
        parts[-1].append(piece)
        if cuts and piece.kind == "_COMMA":
            parts.append([])
    return [part for part in parts if part]


def _joined(pieces: list[Piece], before: Piece | None = None) -> str:
    """Pieces on one line with the spaces between them."""
    text = ""
    earlier = Piece("", "")
    last = before or earlier
    for piece in pieces:
        text += _space(earlier, last, piece) + piece.text
        earlier, last = last, piece
    return text.strip() if before is None else text


def _space(earlier: Piece, last: Piece, piece: Piece) -> str:
    """What stands between two pieces."""
    inside = piece.kind in ("_COMMA", "_COLON", "RPAR", "RSQB", "RBRACE") or last.kind in ("LPAR", "LSQB", "LBRACE", "")
    after_sign = last.kind in ("MINUS", "PLUS") and earlier.kind not in _OPERANDS
    weekdays = piece.kind == "MINUS" and last.kind == "WEEKDAY" or last.kind == "MINUS" and earlier.kind == "WEEKDAY"
    return "" if inside or after_sign or weekdays else " "
