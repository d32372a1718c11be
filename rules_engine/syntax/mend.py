"""Finds a syntax error by repairing it: small edits at and just before the place where the parser stopped are tried, cheapest first, and
the first with which the block can be read to its end says what was wrong. Bounded: every error has a list of candidates, and every
file a budget of tokens to try them on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple

from rules_engine.diagnostics import Diagnostic, Related, Span
from rules_engine.syntax import ends
from rules_engine.syntax.candidates import Candidate, Site, propose
from rules_engine.syntax.foreign import foreign
from rules_engine.syntax.lexer import Raw
from rules_engine.syntax.parser import Parser
from rules_engine.syntax.patched import Patched
from rules_engine.syntax.words import in_words, kind_in_words

_HORIZON = 400         # tokens that a repaired text must be readable for; beyond that another error is another matter
_WHOLE = 20_000        # the same for END, whose mistakes show at the end of the block only
_CANDIDATES = 400      # tried for one error
_ERRORS = 25           # reported for one block
_EARLIER = 12          # statements before the error whose first word may be the misspelt one
_SITES = 6             # words before the error that are looked at
BUDGET = 400_000       # tokens parsed in trials, for one file


class Checkpoint(NamedTuple):
    """Where a statement begins, and the parser's states there."""

    position: int
    stack: tuple[int, ...]


class Failure(NamedTuple):
    """The token that can't follow, the states before it, and the number of its statement's checkpoint."""

    token: Raw
    stack: tuple[int, ...]
    statement: int


class Mended(NamedTuple):
    """What was wrong with a block, and its text as it can be read; None: it can't be."""

    diagnostics: list[Diagnostic]
    text: Patched | None


class Mender:
    """Repairs the blocks of one file."""

    def __init__(self, parser: Parser, path: str, source: str) -> None:
        self._parser, self._path, self._source = parser, path, source
        self._lexer = parser.lexer
        self._budget = BUDGET
        self._patched = Patched("", 0)
        self._checkpoints: list[Checkpoint] = []

    def mend(self, text: str, offset: int) -> Mended:
        """Repairs a block that can't be parsed."""
        self._patched = Patched(text, offset)
        found = self._foreign()
        self._checkpoints = [Checkpoint(0, (self._parser.start,))]
        panicked = False
        for _round in range(_ERRORS):
            failure = self._scan()
            if failure is None:
                return Mended(found, self._patched)
            chosen = self._choose(failure)
            if chosen is not None:
                if not (panicked and chosen.name in ("missing-end", "extra-end", "syntax-error")):
                    found.append(self._diagnostic(chosen))
                self._apply(chosen.start, chosen.end, chosen.new)
                continue
            if not panicked:
                found.append(self._unexpected(failure))
            if failure.statement == 0 or not self._drop(failure):
                break
            panicked = True
        return Mended(found, None)

    # ── where the parser stops ──

    def _scan(self) -> Failure | None:
        """The first error, read from the last checkpoint that still holds."""
        position, states = self._checkpoints[-1]
        stack = list(states)
        statement: list[Raw] = []
        for token in _closed(self._lexer.lex(self._patched.text, position), len(self._patched.text)):
            statement.append(token)
            if token[0][0] not in ("_NL", "$END"):
                continue
            before = tuple(stack)
            failed = self._parser.follow(stack, statement)
            self._budget -= len(statement)
            if failed is not None:
                return self._failure(list(before), statement, failed[0])
            if token[0][0] == "_NL":
                self._checkpoints.append(Checkpoint(token[3], tuple(stack)))
            statement = []
        return None

    def _failure(self, stack: list[int], statement: list[Raw], index: int) -> Failure:
        """The states just before the failing token, without the reductions it set off."""
        self._parser.follow(stack, statement[:index])
        return Failure(statement[index], tuple(stack), len(self._checkpoints) - 1)

    def _sites(self, failure: Failure) -> list[Site]:
        """The tokens around the error with the states before each, the failing one first, then backwards."""
        first = max(0, failure.statement - 1)
        position, states = self._checkpoints[first]
        stack = list(states)
        sites: list[Site] = []
        stop = failure.token
        for token in _closed(self._lexer.lex(self._patched.text, position), len(self._patched.text)):
            sites.append(Site(token, tuple(stack), token[2] >= self._checkpoints[failure.statement].position))
            if token == stop or self._parser.follow(stack, (token,)) is not None:
                break
        return sites[::-1]

    # ── choosing a repair ──

    def _choose(self, failure: Failure) -> Candidate | None:
        """The cheapest candidate that lets the block be read to its end; failing that, the one that leads furthest past the error."""
        best: tuple[int, float, Candidate] | None = None
        reach = failure.token[2]
        candidates = sorted(self._candidates(failure), key=lambda item: item.cost)
        for candidate in islice(candidates, _CANDIDATES):
            if self._budget <= 0:
                break
            progress = self._try(candidate)
            if progress is None:
                return candidate
            if progress > reach and progress >= failure.token[3] and (best is None or (-progress, candidate.cost) < best[:2]):
                best = (-progress, candidate.cost, candidate)
        return best[2] if best else None

    def _candidates(self, failure: Failure) -> Iterable[Candidate]:
        sites = self._sites(failure)
        text = self._patched.text
        yield from propose(self._parser, text, sites[:_SITES], self._next(failure), sites)
        yield from self._earlier(failure)
        if failure.token[0][0] == "$END":
            yield from self._missing_ends()
        if self._closed_early(failure):
            yield from self._extra_ends()

    def _next(self, failure: Failure) -> list[Site]:
        """The token after the error: where the parser stops at a line's end, the next line may begin with a misspelt joining word."""
        following = next(iter(self._lexer.lex(self._patched.text, failure.token[3])), None)
        return [] if following is None else [Site(following, (), True)]

    def _earlier(self, failure: Failure) -> Iterator[Candidate]:
        """First words of the statements before: a wrong keyword there can show lines later."""
        last = failure.statement - 1
        for steps, number in enumerate(range(last, max(-1, last - _EARLIER), -1)):
            token = next(iter(self._lexer.lex(self._patched.text, self._checkpoints[number].position)), None)
            if token is not None:
                site = Site(token, self._checkpoints[number].stack, True)
                yield from propose(self._parser, self._patched.text, [site], [], [], far=1.5 + steps / 100)

    def _closed_early(self, failure: Failure) -> bool:
        """Whether the block was over before the error: a token that only belongs inside a block stands at the top level."""
        row = self._parser.states[failure.stack[-1]]
        return "CAMPAIGN" in row and failure.statement > 0

    def _missing_ends(self) -> Iterator[Candidate]:
        text = self._patched.text
        for order, (opener, position) in enumerate(ends.missing(text, self._lexer)):
            line = self._line(opener.start)
            new = f"{' ' * opener.indent}END\n" if position == 0 or text[position - 1:position] == "\n" else f"\n{' ' * opener.indent}END"
            where = "at the end of the block" if position >= len(text.rstrip()) else f"before line {self._line(position)}"
            yield Candidate(1.0 + order / 100, position, position, new, "missing-end", opener.start, opener.word_end,
                            f"this {opener.word.upper()} is never closed: its END is missing", f"write END {where}", None,
                            f"the block that begins on line {line} reaches to here", position)

    def _extra_ends(self) -> Iterator[Candidate]:
        for order, line in enumerate(ends.extra(self._patched.text, self._lexer)):
            yield Candidate(1.0 + order / 100, line.line_start, line.end, "", "extra-end", line.start, line.word_end,
                            "this END closes nothing", "leave it out, or write the line that begins its block", "")

    def _try(self, candidate: Candidate) -> int | None:
        """How far the text can be read with a candidate: a place in the text as it is now, or None for to the end."""
        text = self._patched.text
        edited = text[:candidate.start] + candidate.new + text[candidate.end:]
        position, stack = self._checkpoints[self._checkpoint(candidate.start)]
        limit = _WHOLE if candidate.name in ("missing-end", "extra-end") else _HORIZON
        tokens = islice(_closed(self._lexer.lex(edited, position), len(edited)), limit)
        failed = self._parser.follow(list(stack), tokens)
        if failed is None:
            self._budget -= min(limit, len(edited) - position)
            return None
        self._budget -= failed[0] + 1
        return failed[1][2] - len(edited) + len(text)

    def _checkpoint(self, position: int) -> int:
        """The checkpoint to read from after an edit: a statement earlier than its own, since a joining word goes on with that."""
        number = len(self._checkpoints) - 1
        while number > 0 and self._checkpoints[number].position > position:
            number -= 1
        return max(0, number - 1)

    # ── applying and reporting ──

    def _apply(self, start: int, end: int, new: str) -> None:
        del self._checkpoints[self._checkpoint(start) + 1:]
        self._patched.replace(start, end, new)

    def _drop(self, failure: Failure) -> bool:
        """Takes the statement out that can't be read, up to its line's end. False: nothing is left to take."""
        start = self._checkpoints[failure.statement].position
        text = self._patched.text
        end = text.find("\n", max(failure.token[2], start))
        end = len(text) if end < 0 else end + 1
        if not text[start:end].strip():
            return False
        self._apply(start, end, "\n")
        return True

    def _foreign(self) -> list[Diagnostic]:
        found = []
        fixes = foreign(self._patched.text, self._lexer)
        for fix in fixes:
            if fix.message:
                span = Span(self._path, self._patched.place(fix.start), self._patched.place(fix.end))
                found.append(Diagnostic("foreign-spelling", span, fix.message, fix.help, suggestion=fix.suggestion))
        for fix in reversed(fixes):
            self._patched.replace(fix.start, fix.end, fix.new)
        return found

    def _diagnostic(self, chosen: Candidate) -> Diagnostic:
        span = Span(self._path, self._patched.place(chosen.span_start), self._patched.place(chosen.span_end))
        related: tuple[Related, ...] = ()
        if chosen.related:
            place = self._patched.place(chosen.related_at)
            related = (Related(Span(self._path, place, place), chosen.related),)
        return Diagnostic(chosen.name, span, chosen.message, chosen.help, suggestion=chosen.suggestion, related=related)

    def _unexpected(self, failure: Failure) -> Diagnostic:
        """The parser's state in words."""
        kinds, value, start, end = failure.token
        expected = in_words(self._parser.expected(list(failure.stack)))
        found = kind_in_words(kinds[0]) if kinds[0] in ("_NL", "$END") else f"`{_short(value)}`"
        if kinds[0] in ("_NL", "$END"):
            start, end = _last(self._patched.text, start)
        span = Span(self._path, self._patched.place(start), max(self._patched.place(end), self._patched.place(start) + 1))
        return Diagnostic("syntax-error", span, f"expected {expected} here, found {found}")

    def _line(self, position: int) -> int:
        return self._source.count("\n", 0, self._patched.place(position)) + 1


def _closed(tokens: Iterator[Raw], end: int) -> Iterator[Raw]:
    return chain(tokens, ((("$END",), "", end, end),))


def _last(text: str, position: int) -> tuple[int, int]:
    """The last character before a position that isn't blank."""
    end = max(len(text[:position].rstrip()), 1)
    return end - 1, end


def _short(value: str) -> str:
    line = value.split("\n")[0]
    return line if len(line) <= 30 else line[:29] + "…"
