"""Edits that may repair a syntax error, each with its cost and the message that it would mean."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from rules_engine.limits import MAX_NAME_LENGTH
from rules_engine.syntax import words
from rules_engine.syntax.lexer import Lexer, Raw
from rules_engine.syntax.newlines import CLOSING, JOINING, OPENING
from rules_engine.syntax.parser import Parser

_PLACEHOLDERS = {
    "NAME": "x_",
    "NUMBER": "1",
    "STRING": '"x"',
    "UNIT": "days",
    "TIME": "09:00",
    "KEY": "x_:",
    "WEEKDAY": "monday",
    "DATE": "2026-01-01",
    "DATETIME": "2026-01-01 09:00",
    "PERCENT": "1%",
    "DURATION": "1d",
    "COMPARE": ">",
    "EQ": "=",
    "TIMES": "TIMES",
    "_COMMA": ",",
    "_COLON": ":",
    "LPAR": "(",
    "RPAR": ")",
    "LSQB": "[",
    "RSQB": "]",
    "LBRACE": "{",
    "RBRACE": "}",
    "PLUS": "+",
    "MINUS": "-",
    "STAR": "*",
    "SLASH": "/",
    "_NL": "\n",
    "AT_LEAST": "AT LEAST",
    "AT_MOST": "AT MOST",
}
_UNITS = frozenset({"seconds", "minutes", "hours", "weeks", "months", "years"})
_LEAST = ("NAME",)
_NO_WORDS = frozenset({"KEY", "FOREIGN", "JUNK", "UNCLOSED", "DURATION", "_NL", "$END"})
_UNSURE = JOINING | {"NAME", "AT"}  # AT and LEAST are another terminal together
_VALUES = frozenset({"NAME", "NUMBER", "STRING", "UNIT", "TIME", "KEY", "WEEKDAY", "DATE", "DATETIME", "PERCENT", "DURATION"})
_SIGNS = frozenset({"_COMMA", "_COLON", "LPAR", "RPAR", "LSQB", "RSQB", "LBRACE", "RBRACE", "EQ"})
_CLOSER = {"LPAR": ")", "LSQB": "]", "LBRACE": "}"}
_LIKELY = ("THEN", "END", "IF", "DID", "WITH", "OF", "TO", "AND", "WHEN", "IS")
_MAX_BOUNDARIES = 40  # places in one line where a missing quote is tried
_MAX_LINE = 1_000  # characters; in a longer line no quote is looked for

_NAME = re.compile(r"[^\W\d]\w*(?:\.\w+)*")
_NEXT = re.compile(r",\s*\w+\s*:|\s+[A-Z]{2,}\b|[)\]},]")  # what may come after a text


class Site(NamedTuple):
    """A token near the error, the states before it (none: unknown), whether it is in the failing statement, and what the lexer
    needs to go on from it: open brackets and the token before."""

    token: Raw
    stack: tuple[int, ...]
    here: bool
    depth: int = 0
    last: str = "_NL"


class Candidate(NamedTuple):
    """Put `new` at start:end; if that is it, say `message` at span_start:span_end."""

    cost: float
    start: int
    end: int
    new: str
    name: str
    span_start: int
    span_end: int
    message: str
    help: str
    suggestion: str | None
    related: str = ""
    related_at: int = 0


def propose(
    parser: Parser, text: str, sites: list[Site], following: list[Site], tokens: list[Raw], far: float = 0
) -> Iterator[Candidate]:
    """Candidates at `sites` (the failing token first, then backwards) and `following`. `tokens`: all from the start of the
    statement before. `far`: only misspelt keywords, at that extra cost."""
    lexer = parser.lexer
    for steps, site in enumerate(sites):
        away = steps / 10 + (0 if site.here else 0.1) + far
        before = sites[steps + 1].token if steps + 1 < len(sites) else None
        yield from _misspelt(parser, site, away, before)
        if far:
            continue
        yield from _glued(lexer, site.token, away)
        yield from _habits(parser, site, before, sites[steps - 1].token if steps else None, away)
        yield from _colon(site.token, away)
        yield from _quoted(parser, site, away)
        yield from _in_tests(parser, site, away)
        if before is not None:
            yield from _parted(lexer, before, site.token, away)
        if steps < 3:
            yield from _inserted(parser, site, before, steps)
            yield from _deleted(text, site.token, before, steps)
    for site in following:
        away = 0.15 if sites[0].token[0][0] in ("_NL", "AT") else 0.6
        yield from _misspelt(parser, site, away, sites[0].token)
        if sites[0].token[0][0] == "_NL":
            yield from _glued(lexer, site.token, away)
        yield from _parted(lexer, sites[0].token, site.token, 0)
    if sites and not far:
        yield from _replaced(parser, sites[0], following[0].token if following else None)
        yield from _quotes(lexer, text, sites)
        yield from _brackets(text, tokens)


def _fits(parser: Parser, site: Site, kinds: tuple[str, ...], after: Raw | None) -> bool:
    """Whether `kinds` and then the token after can follow at a site: sorts most candidates out before they are tried."""
    if not site.stack:
        return True
    tokens = ((kinds, "", 0, 0),) if after is None else ((kinds, "", 0, 0), after)
    return parser.follow(list(site.stack), tokens) is None


def _misspelt(parser: Parser, site: Site, away: float, before: Raw | None) -> Iterator[Candidate]:
    """Another keyword of nearly the same letters. After a number, `days` comes before `day`."""
    kinds, word, start, end = token = site.token
    lexer = parser.lexer
    if not _is_word(token) or "." in word:
        return
    keyword = kinds[0] != "NAME"
    for order, (steps, other) in enumerate(_near(lexer, word.lower())):
        meant = tuple(kind for kind in lexer.kinds(other) if kind != "NAME") or _LEAST
        # A joining word undoes the end of the line before it; then the states are others.
        if kinds[0] not in JOINING and meant[0] not in _UNSURE and not _fits(parser, site, meant, None):
            continue
        right = _write(lexer, other)
        cost = steps * 0.9 + 0.1 + away + (0.6 if keyword else 0) + order / 1000
        if before is not None and before[0][0] == "NUMBER" and other.endswith("s") == (before[1] == "1"):
            cost += 0.05
        yield Candidate(
            cost,
            start,
            end,
            right,
            "unknown-keyword",
            start,
            end,
            f"`{word}` can't stand here" if keyword else f"`{word}` is not a keyword",
            f"did you mean `{right}`?",
            right,
        )


@lru_cache(4096)
def _near(lexer: Lexer, word: str) -> list[tuple[int, str]]:
    return words.near(word, (*lexer.words, "least", "most"))


def _write(lexer: Lexer, word: str) -> str:
    kinds = lexer.kinds(word)
    return words.written("UNIT" if "UNIT" in kinds else kinds[0], word)


def _is_word(token: Raw) -> bool:
    return token[0][0] not in _NO_WORDS and token[1][:1].isalpha()


def _glued(lexer: Lexer, token: Raw, away: float) -> Iterator[Candidate]:
    """`THENemail.send`: a keyword without its space."""
    kinds, word, start, end = token
    if kinds[0] in ("NAME", "JUNK", "KEY"):
        for cost, right in _splits(lexer, word, kinds[0] == "NAME"):
            yield Candidate(
                cost + away,
                start,
                end,
                right,
                "unknown-keyword",
                start,
                end,
                f"a space is missing in `{word}`",
                f"did you mean `{right}`?",
                right,
            )


@lru_cache(4096)
def _splits(lexer: Lexer, word: str, name: bool) -> list[tuple[float, str]]:
    """(cost, text) of a word cut after a keyword that it begins with, or before one in capitals that it ends with."""
    found = []
    lower = word.lower()
    for keyword in lexer.words:
        size = len(keyword)
        if not 2 <= size < len(lower) or lexer.kinds(keyword)[0] == "FOREIGN":
            continue
        if lower.startswith(keyword):
            rest = word[size:].lstrip("._")
            capitals = word[:size].isupper() and not rest[:1].isupper()
            if rest and not rest.startswith(":"):
                found.append(((1.05 if capitals else 1.8) - size / 1000, f"{_write(lexer, keyword)} {rest}"))
        if name and lower.endswith(keyword) and word[-size:].isupper():
            found.append((1.5 - size / 1000, f"{word[:-size]} {_write(lexer, keyword)}"))
    return found


def _parted(lexer: Lexer, first: Raw, second: Raw, away: float) -> Iterator[Candidate]:
    """`OTHER WISE`: a keyword with a space inside."""
    if _is_word(first) and _is_word(second) and second[2] - first[3] <= 2:
        word = (first[1] + second[1]).lower()
        if word in lexer.words and lexer.kinds(word)[0] != "FOREIGN":
            right = _write(lexer, word)
            yield Candidate(
                1.1 + away,
                first[2],
                second[3],
                right,
                "unknown-keyword",
                first[2],
                second[3],
                f"`{first[1]} {second[1]}` is one word",
                f"did you mean `{right}`?",
                right,
            )


def _habits(parser: Parser, site: Site, before: Raw | None, after: Raw | None, away: float) -> Iterator[Candidate]:
    """Words from other languages, IS for `=`, and keywords taken for names."""
    kinds, word, start, end = token = site.token
    if not _is_word(token):
        return
    other = words.SYNONYMS.get(word.lower())
    if other in _UNITS and (before is None or before[0][0] != "NUMBER"):
        other = None  # `min` is a unit after a number only
    if other is not None and other != word.upper():
        yield Candidate(
            (1.7 if kinds[0] != "NAME" else 0.8 if other else 1.4) + away,
            start,
            end,
            other,
            "foreign-spelling",
            start,
            end,
            f"`{word}` is not a Camp word",
            f"write `{other}`" if other else "leave it out",
            other,
        )
    if kinds[0] == "IS":
        yield Candidate(
            1.3 + away,
            start,
            end,
            "=",
            "foreign-spelling",
            start,
            end,
            "IS only tests whether something is SET",
            "write `=` to compare",
            "=",
        )
        if after is not None and after[0][0] == "NOT":
            yield Candidate(
                1.2 + away,
                start,
                after[3],
                "!=",
                "foreign-spelling",
                start,
                after[3],
                "IS NOT only tests whether something is SET",
                "write `!=` to compare",
                "!=",
            )
    if kinds[0] != "NAME":
        only_name = {"NAME"} == {kind for kind in parser.states[site.stack[-1]] if kind.isupper()}
        yield Candidate(
            (0.6 if only_name else 2.0) + away,
            start,
            end,
            f"{word}_",
            "keyword-as-name",
            start,
            end,
            f"`{word}` is a keyword, so it can't be a name here",
            f"take another name, such as `my_{word.lower()}`",
            None,
        )


def _colon(token: Raw, away: float) -> Iterator[Candidate]:
    """A colon too many (`IF x:`) or too few (`subject "Hi"`)."""
    kinds, word, start, end = token
    if kinds[0] == "KEY":
        name = word[:-1].rstrip()
        yield Candidate(
            1.2 + away,
            start,
            end,
            name,
            "syntax-error",
            start,
            end,
            f"no colon stands after `{name}` here",
            f"write `{name}`",
            name,
        )
    elif _is_word(token) and "." not in word:
        yield Candidate(
            (1.6 if kinds[-1] == "NAME" else 2.3) + away,
            end,
            end,
            ":",
            "syntax-error",
            start,
            end,
            f"a colon is missing after `{word}`",
            f"write `{word}:`",
            f"{word}:",
        )


def _quoted(parser: Parser, site: Site, away: float) -> Iterator[Candidate]:
    """`FOR "ana"`: a name in quotes."""
    kinds, value, start, end = site.token
    if kinds[0] != "STRING" or not _NAME.fullmatch(value[1:-1]):
        return
    row = parser.states[site.stack[-1]]
    if "NAME" in row and "STRING" not in row:
        name = value[1:-1]
        message = "a name stands here, without quotes"
        yield Candidate(0.9 + away, start, end, name, "syntax-error", start, end, message, f"write `{name}`", name)


def _in_tests(parser: Parser, site: Site, away: float) -> Iterator[Candidate]:
    """What happens in a TEST before any moment was named, and ON for AT."""
    kinds, value, start, end = site.token
    row = parser.states[site.stack[-1]]
    if "AT" not in row or "EXPECT" not in row and "GIVEN" not in row:
        return
    if kinds[0] in ("EVENT", "EXPECT", "SET"):
        message, help = f"nothing says when this {kinds[0]} is", "write the moment on a line before it, such as AT 2026-03-02 10:00"
        yield Candidate(0.9 + away, start, start, "AT 2026-01-01 09:00\n", "syntax-error", start, end, message, help, None)
    elif kinds[0] == "ON":
        message = "a moment of a TEST begins with AT"
        yield Candidate(0.9 + away, start, end, "AT", "foreign-spelling", start, end, message, "write `AT`", "AT")


def _inserted(parser: Parser, site: Site, before: Raw | None, steps: int) -> Iterator[Candidate]:
    """A word or sign that was left out before a token."""
    kinds, value, start, end = site.token
    at_end = kinds[0] in ("_NL", "$END")
    if at_end and before is not None:
        start = end = before[3]
    found = "the end of the line" if at_end else f"`{value}`"
    for kind in parser.states[site.stack[-1]]:
        if not kind.isupper() or kind == "$END" or kind in _VALUES and steps:
            continue
        plain = parser.lexer.kinds(kind.lower())
        new = _PLACEHOLDERS.get(kind) or (words.written(kind, kind) if kind in plain else "")
        if not new or kind != "_NL" and not _fits(parser, site, (kind,), site.token):
            continue
        cost = 2.4 if kind in _VALUES else 1.5 if kind in _SIGNS else 2.0
        order = _LIKELY.index(kind) if kind in _LIKELY else len(_LIKELY)
        what = words.kind_in_words(kind)
        message = f"{what} is missing before {found}"
        if kind == "_NL":
            cost, message = 1.9, f"{found} begins a new line"
        text = f" {new}" if at_end else f"{new} "
        span_start, span_end = (before[2], before[3]) if at_end and before else (start, end)
        suggestion = None if kind in _VALUES or at_end else text + value if kind != "_NL" else None
        yield Candidate(
            cost + steps * 0.3 + order / 100,
            start,
            start,
            text,
            "syntax-error",
            span_start,
            span_end,
            message,
            f"write {what if kind in _VALUES else f'`{new}`'} there" if kind != "_NL" else "write it on a line of its own",
            suggestion,
        )


def _deleted(text: str, token: Raw, before: Raw | None, steps: int) -> Iterator[Candidate]:
    """A word or sign too many."""
    kinds, value, start, end = token
    if kinds[0] in ("_NL", "$END"):
        return
    if kinds[0] == "JUNK":
        run = re.compile(r"\S+").match(text, start)
        end = run.end() if run else end
        message = _junk(value)
        yield Candidate(2.1 + steps * 0.2, start, end, "", "syntax-error", start, end, message, "leave it out", "")
        return
    if kinds[0] == "END":
        yield Candidate(
            1.4,
            start,
            end,
            "",
            "extra-end",
            start,
            end,
            "this END closes nothing",
            "leave it out, or write the line that begins its block",
            "",
        )
    twice = before is not None and before[1].lower() == value.lower()
    message = f"`{value}` is written twice" if twice else f"`{value}` can't stand here"
    yield Candidate(
        (0.5 if twice else 2.2) + steps * 0.2, start, end, "", "syntax-error", start, end, message, "leave it out", ""
    )
    line_end = text.find("\n", start)
    line_end = len(text) if line_end < 0 else line_end
    if not steps and line_end > end:
        yield Candidate(3.6, start, line_end, "", "syntax-error", start, end, f"`{value}` can't stand here", "", None)


def _junk(value: str) -> str:
    """Why a piece of text is no token."""
    if len(value) > 1:
        return (
            f"this number is longer than anyone needs ({len(value)} digits)"
            if value[0].isdigit()
            else f"this name is longer than {MAX_NAME_LENGTH} characters"
        )
    return (
        f"`{value}` means nothing here" if value.isprintable() else f"the file has a control character here (code {ord(value)})"
    )


def _replaced(parser: Parser, site: Site, after: Raw | None) -> Iterator[Candidate]:
    """Something else in the place of the failing token: the message says what may stand there."""
    kinds, value, start, end = site.token
    if kinds[0] in ("_NL", "$END"):
        return
    expected = parser.expected(list(site.stack))
    message = f"expected {words.in_words(expected)} here, found `{value.splitlines()[0][:40] if value.strip() else value}`"
    for kind in expected:
        new = _PLACEHOLDERS.get(kind) or (words.written(kind, kind) if kind in parser.lexer.kinds(kind.lower()) else "")
        if new and kind not in ("_NL", "$END") and _fits(parser, site, (kind,), after):
            only = new if len(expected) == 1 and kind not in _VALUES else None
            yield Candidate((2.6 if kind in _VALUES else 3.0), start, end, new, "syntax-error", start, end, message, "", only)


def _quotes(lexer: Lexer, text: str, sites: list[Site]) -> Iterator[Candidate]:
    """A missing quote: closed or opened at each word's edge in its line."""
    for place in {site.token[2] for site in sites[:3]}:
        line_start = text.rfind("\n", 0, place) + 1
        line_end = text.find("\n", place)
        line_end = len(text) if line_end < 0 else line_end
        tokens = list(lexer.lex(text[:line_end], line_start)) if line_end - line_start < _MAX_LINE else []
        unclosed = [token for token in tokens if token[0][0] == "UNCLOSED"]
        if unclosed:
            yield from _closed_quotes(lexer, text, unclosed[0], line_end)
            for token in tokens:
                if token[0][0] == "STRING":
                    yield from _run_on(text, token)
            yield from _opened_quotes(text, line_start, tokens, unclosed[0])


def _closed_quotes(lexer: Lexer, text: str, token: Raw, line_end: int) -> Iterator[Candidate]:
    _kinds, value, start, _end = token
    message, advice = "this text has no second quote", 'close it with `"`'
    quote = '"""' if value.startswith('"""') else '"'
    edges = [(1.0, line_end - (len(text[start:line_end]) - len(text[start:line_end].rstrip())))]
    for match in list(lexer.pattern.finditer(text, start + len(quote), line_end))[:_MAX_BOUNDARIES]:
        group = match.lastgroup or ""
        begin = match.start(group)
        blank = match.start()
        if group in ("_COMMA", "RPAR", "RSQB", "RBRACE"):
            edges.append((0.8, begin))
        elif group == "NAME" and match[group].isupper() and lexer.kinds(match[group])[0] != "NAME":
            edges.append((0.9, blank))
        else:
            edges.append((1.3, blank))
    if quote == '"""':
        edges = [(0.5, len(text))]
    for cost, edge in edges:
        if edge > start:
            yield Candidate(cost, edge, edge, quote, "unclosed-text", start, edge, message, advice, text[start:edge] + quote)


def _run_on(text: str, token: Raw) -> Iterator[Candidate]:
    """A text that ends where the next one was to begin: `"y, to: "b"`."""
    for match in itertools.islice(_NEXT.finditer(token[1]), _MAX_BOUNDARIES):
        edge = token[2] + match.start()
        yield Candidate(
            0.85,
            edge,
            edge,
            '"',
            "unclosed-text",
            token[2],
            edge,
            "this text has no second quote",
            'close it with `"`',
            text[token[2] : edge] + '"',
        )


def _opened_quotes(text: str, line_start: int, tokens: list[Raw], last: Raw) -> Iterator[Candidate]:
    quote = text.find('"', line_start)
    for token in tokens[:_MAX_BOUNDARIES]:
        if token[2] < quote and _is_word(token):
            end = quote + 1
            yield Candidate(
                1.2 - token[2] / 1e6,
                token[2],
                token[2],
                '"',
                "unclosed-text",
                token[2],
                end,
                "this text has no first quote",
                'open it with `"`',
                '"' + text[token[2] : end],
            )
    yield Candidate(
        1.6, last[2], last[2] + 1, "", "unclosed-text", last[2], last[2] + 1, "this quote opens no text", "leave it out", ""
    )


def _brackets(text: str, tokens: list[Raw]) -> Iterator[Candidate]:
    """A bracket without its partner."""
    opened: list[Raw] = []
    for token in tokens[:-1]:
        kind = token[0][0]
        if kind == "_NL":
            opened.clear()
        elif kind in OPENING:
            opened.append(token)
        elif kind in CLOSING and opened:
            opened.pop()
    last = tokens[-1] if tokens else None
    if last is None:
        return
    if last[0][0] in CLOSING:
        if opened:
            right = _CLOSER[opened[-1][0][0]]
            yield Candidate(
                1.0,
                last[2],
                last[3],
                right,
                "unclosed-bracket",
                last[2],
                last[3],
                f"`{opened[-1][1]}` is closed with `{right}`",
                f"write `{right}`",
                right,
            )
        yield Candidate(
            1.5,
            last[2],
            last[3],
            "",
            "unclosed-bracket",
            last[2],
            last[3],
            f"this `{last[1]}` closes nothing",
            "leave it out",
            "",
        )
    if not opened:
        return
    opener = opened[-1]
    right = _CLOSER[opener[0][0]]
    for cost, edge in _edges(text, tokens, opener):
        yield Candidate(
            cost,
            edge,
            edge,
            right,
            "unclosed-bracket",
            opener[2],
            opener[3],
            f"this `{opener[1]}` is never closed",
            f"write `{right}` where it ends",
            None,
        )


def _edges(text: str, tokens: list[Raw], opener: Raw) -> Iterator[tuple[float, int]]:
    """Where a bracket may have been meant to end: at its line's end, before a keyword, before the failing token."""
    line_end = text.find("\n", opener[2])
    line_end = len(text) if line_end < 0 else line_end
    inside = [token for token in tokens if token[2] >= opener[3]]
    on_line = [token for token in inside if token[2] < line_end]
    if on_line:
        yield 0.9, on_line[-1][3]
    for before, token in itertools.pairwise(inside[:_MAX_BOUNDARIES]):
        if token[0][0] in ("THEN", "AND", "OR", "WHERE", "WITHIN", "FOR", "AS", "UP", "_COMMA", "KEY"):
            yield 1.05, before[3]
    if len(inside) > 1:
        yield 1.0, inside[-2][3]
