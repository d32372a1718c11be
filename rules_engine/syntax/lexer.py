"""Text to tokens. Every token has the terminals that it could be (a word may be a keyword or a name): the parser's state decides.

Which line ends end a statement is decided here: not those inside brackets, after a comma or an operator, or before a joining
word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from rules_engine.limits import MAX_NAME_LENGTH, MAX_NESTING
from rules_engine.syntax.newlines import (
    CLOSING,
    JOINING,
    JOINING_SIGNS,
    OPENING,
    UNFINISHED,
)

Raw = tuple[tuple[str, ...], str, int, int]
"""(the terminals it may be, text, start, end)"""

# What people write from habit in other languages, and no Camp token begins with. Always an error; `foreign.py` says what to
# write.
FOREIGN = (
    r"/\*(?:[\s\S]*?\*/|[\s\S]*)|//[^\n]*|===|!==|==|=<|=>|<>|&&|\|\||!(?!=)|;|[\u2013\u2014\u2212]"
    r"|[\u2018\u2019\u201a][^\u2018\u2019\u201a\n]*[\u2018\u2019]"
    r"|'[^'\n]*'|\d{1,2}(?::\d{2})?[ ]?[aApP]\.?[mM]\b\.?|\d+(?:st|nd|rd|th)\b"
)
FOREIGN_WORDS = frozenset({"true", "false", "null", "nil", "undefined", "elseif", "elif", "elsif", "endif"})
_ORDER = ("AT_LEAST", "AT_MOST", "NAME", "_NL", "STRING", "DATETIME", "DATE", "TIME", "PERCENT", "DURATION", "NUMBER")
_BLANK = r" \t\f\ufeff\u00a0\u2007\u2009\u202f\u200b"
_BLANKS = f"[{_BLANK}]*+"
_WORD = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"  # a keyword, a name, or a key before its colon
_NAME = ("NAME",)
_LONG_NUMBER = 30  # characters; longer is no amount, and Python refuses to read it at all from 4,300 digits on
_NUMBERS = frozenset({"NUMBER", "PERCENT", "DURATION"})


class Token(NamedTuple):
    """A terminal that the parser took."""

    type: str
    text: str
    start: int
    end: int


class Lexer:
    """Cuts text into raw tokens with one regular expression, made from the grammar's terminals."""

    def __init__(self, words: dict[str, list[str]], shapes: dict[str, str]) -> None:
        signs = [name for name in shapes if name not in _ORDER and name not in ("JOINED", "BLANK", "COMMENT", "MARK", "KEY")]
        signs.sort(key=lambda name: -len(shapes[name]))
        # Blank lines and comments after a line end belong to it: one token.
        pattern = "|".join(
            [
                f"(?P<AT_LEAST>{shapes['AT_LEAST']})",
                f"(?P<AT_MOST>{shapes['AT_MOST']})",
                f"(?P<NAME>{_WORD})(?P<KEY>[ \t]*:)?",
                rf"(?P<_NL>(?:#[^\n]*)?\r?\n(?:{_BLANKS}(?:#[^\n]*)?\r?\n)*)",
                f"(?P<FOREIGN>{FOREIGN})",
                *(f"(?P<{name}>{shapes[name]})" for name in _ORDER[4:]),
                *(f"(?P<{name}>{shapes[name]})" for name in signs),
                r"(?P<COMMENT>#[^\n]*)",
                r'(?P<UNCLOSED>["\u201c\u201d\u201e][^\n]*)',
                rf"(?P<JUNK>[^{_BLANK}])",
                r"(?P<_END>\Z)",
            ]
        )
        self.pattern = re.compile(f"{_BLANKS}(?:{pattern})")
        self.words = {word: tuple(kinds) for word, kinds in words.items()}
        self.words.update((word, ("FOREIGN",)) for word in FOREIGN_WORDS)
        self._signs = {name: (name,) for name in (*_ORDER, *signs, "FOREIGN", "UNCLOSED", "JUNK", "KEY")}

    def kinds(self, word: str) -> tuple[str, ...]:
        """The terminals that a word (without its colon) may be."""
        return self.words.get(word.lower(), _NAME)

    def lex(self, text: str, start: int = 0, depth: int = 0, last: str = "_NL") -> Iterator[Raw]:
        """The tokens of a text from `start`: of a statement, or within one after `last` with `depth` open brackets. Line ends
        that end no statement are left out; the last statement gets one where the text has none. Never fails: what nothing matches
        is JUNK, UNCLOSED (a text without its second quote) or FOREIGN."""
        words, signs = self.words, self._signs
        line_end: Any = None
        for match in self.pattern.finditer(text, start):
            group: str = match.lastgroup  # type: ignore[assignment]
            begin, end = match.span(group)
            if group == "NAME":
                value = match[group]
                kinds = words.get(value) or words.get(value.lower(), _NAME)
                if end - begin > MAX_NAME_LENGTH:
                    kinds = signs["JUNK"]
                kind = kinds[0]
            elif group == "_NL":
                if not depth and last != "_NL" and last not in UNFINISHED and line_end is None:
                    line_end = (begin, end)
                continue
            elif group == "COMMENT" or group == "_END":
                continue
            elif group == "KEY":
                begin = match.start("NAME")
                value = text[begin:end]
                kind = group
                kinds = signs[group]
            else:
                value = match[group]
                kind = group
                kinds = signs[group]
                if kind in OPENING:
                    depth += 1
                    if depth > MAX_NESTING:
                        kinds = signs["JUNK"]
                elif kind in CLOSING and depth:
                    depth -= 1
                elif end - begin > _LONG_NUMBER and kind in _NUMBERS:
                    kinds = signs["JUNK"]
            if line_end is not None:
                if kind not in JOINING_SIGNS and not (kind in JOINING and self._joins(text, kind, end)):
                    yield ("_NL",), "\n", line_end[0], line_end[1]
                line_end = None
            last = kind
            yield kinds, value, begin, end
        if line_end is not None:
            yield ("_NL",), "\n", line_end[0], line_end[1]
        elif last != "_NL":
            yield ("_NL",), "", len(text), len(text)

    @staticmethod
    def _joins(text: str, kind: str, end: int) -> bool:
        """Whether a joining word at the start of a line goes on with the statement before: STARTS and ENDS only before WITH."""
        return kind not in ("STARTS", "ENDS") or _WITH.match(text, end) is not None


_WITH = re.compile(r"[ \t]+(?i:with)(?![\w.])")
