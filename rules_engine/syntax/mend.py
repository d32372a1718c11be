"""Finds a syntax error by repairing it: small edits at and just before the place where the parser stopped are tried, cheapest
first, and the first with which the block can be read to its end says what was wrong. Bounded: every error has a list of
candidates, and every file a budget of tokens to try them on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple

from rules_engine.diagnostics import Diagnostic, Related, Source, Span
from rules_engine.limits import MAX_NESTING
from rules_engine.syntax import ends
from rules_engine.syntax.candidates import Candidate, Site, propose
from rules_engine.syntax.foreign import foreign
from rules_engine.syntax.lexer import Raw
from rules_engine.syntax.newlines import CLOSING, OPENING
from rules_engine.syntax.parser import DEEP, Parser
from rules_engine.syntax.patched import Patched
from rules_engine.syntax.phrases import phrases
from rules_engine.syntax.words import in_words, kind_in_words

_HORIZON = 400  # tokens that a repaired text must be readable for; beyond that another error is another matter
_WHOLE = 20_000  # the same for END, whose mistakes show at the end of the block only
_CANDIDATES = 400  # tried for one error
_GUESSES = 5  # repairs without a name; after as many, a block is no Camp text at all
_ERRORS = 25  # reported for one block
_DEAR = 3.5  # what costs more is no repair
_SURE = 0.7  # what costs no more, and mends its line, is the repair: others may lead further by swallowing the next line's error
_EARLIER = 12  # statements before the error whose first word may be the misspelt one
_ENDS = 60  # places where an END may be missing or too many
_CHARACTERS = 5  # of a text that is read once, count as one token of the budget
_COPIED = 200  # the same of a text that is only copied
_SITES = 6  # words before the error that are looked at
BUDGET = 400_000  # tokens parsed in trials, for one file


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
        self._parser, self._path, self._source = parser, path, Source(path, source)
        self._lexer = parser.lexer
        self._budget = BUDGET
        self._patched = Patched("", 0)
        self._checkpoints: list[Checkpoint] = []
        self._near: list[Site] = []  # the tokens around the error at hand, backwards

    def mend(self, text: str, offset: int) -> Mended:
        """Repairs a block that can't be parsed."""
        self._patched = Patched(text, offset)
        found = self._foreign()
        self._checkpoints = [Checkpoint(0, (self._parser.start,))]
        panicked = False
        guesses = 0
        for _round in range(_ERRORS):
            failure = self._scan()
            if failure is None:
                return Mended(found, self._patched)
            if self._too_deep(failure):
                found.append(self._nested(failure))
                break
            chosen = self._choose(failure)
            if chosen is not None:
                if not (panicked and chosen.name in ("missing-end", "extra-end", "syntax-error")):
                    found.append(self._diagnostic(chosen))
                self._apply(chosen.start, chosen.end, chosen.new)
                guesses += chosen.name == "syntax-error"
                if guesses > _GUESSES:
                    break
                continue
            if not panicked:
                found.append(self._unexpected(failure))
            if self._budget <= 0 or failure.statement == 0 or not self._drop(failure):
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
            if len(stack) > DEEP:
                return Failure(statement[0], tuple(stack), len(self._checkpoints) - 1)
            if token[0][0] == "_NL":
                self._checkpoints.append(Checkpoint(token[3], tuple(stack)))
            statement = []
        return None

    def _failure(self, stack: list[int], statement: list[Raw], index: int) -> Failure:
        """The states just before the failing token, without the reductions it set off."""
        self._parser.follow(stack, statement[:index])
        return Failure(statement[index], tuple(stack), len(self._checkpoints) - 1)

    def _sites(self, failure: Failure) -> tuple[list[Site], list[Raw]]:
        """The last tokens before the error with the states before each, the failing one first, then backwards; and all tokens
        from the start of the statement before."""
        position, states = self._checkpoints[max(0, failure.statement - 1)]
        start = self._checkpoints[failure.statement].position
        tokens: list[Raw] = []
        for token in _closed(self._lexer.lex(self._patched.text, position), len(self._patched.text)):
            tokens.append(token)
            if token == failure.token:
                break
        self._budget -= len(tokens)
        stack = list(states)
        self._parser.follow(stack, tokens[:-_SITES])
        depth = sum((token[0][0] in OPENING) - (token[0][0] in CLOSING) for token in tokens[:-_SITES])
        last = tokens[-_SITES - 1][0][0] if len(tokens) > _SITES else "_NL"
        sites: list[Site] = []
        for token in tokens[-_SITES:]:
            sites.append(Site(token, tuple(stack), token[2] >= start, max(depth, 0), last))
            self._parser.follow(stack, (token,))
            last = token[0][0]
            depth += (last in OPENING) - (last in CLOSING)
        return sites[::-1], tokens

    def _too_deep(self, failure: Failure) -> bool:
        """Whether the parser stopped because of nesting: the lexer gives a bracket beyond the limit as JUNK."""
        return len(failure.stack) > DEEP or failure.token[0][0] == "JUNK" and failure.token[1] in "([{"

    def _nested(self, failure: Failure) -> Diagnostic:
        start = failure.token[2]
        span = Span(self._path, self._patched.place(start), self._patched.place(failure.token[3]))
        return Diagnostic("nested-too-deep", span, f"this is more than {MAX_NESTING} levels deep", "take parts of it out")

    # ── choosing a repair ──

    def _choose(self, failure: Failure) -> Candidate | None:
        """The cheapest candidate that lets the block be read to its end; failing that, the one that leads furthest past the
        error."""
        best: tuple[bool, int, float, Candidate] | None = None
        reach = failure.token[2]
        line_end = (self._patched.text + "\n").find("\n", reach)
        candidates = sorted(self._candidates(failure), key=lambda item: item.cost)
        for candidate in islice(candidates, _CANDIDATES):
            if self._budget <= 0:
                break
            progress = self._try(candidate)
            if progress is None or candidate.cost <= _SURE and progress > line_end:
                return candidate
            # To throw text away leads far easily: that is for when nothing else helps.
            rank = (candidate.cost > _DEAR, -progress, candidate.cost)
            if progress > reach and progress >= failure.token[3] and (best is None or rank < best[:3]):
                best = (*rank, candidate)
        return best[3] if best else None

    def _candidates(self, failure: Failure) -> Iterable[Candidate]:
        sites, tokens = self._sites(failure)
        self._near = sites
        text = self._patched.text
        yield from propose(self._parser, text, sites, self._next(failure), tokens)
        yield from phrases(self._lexer, text, tokens)
        yield from self._earlier(failure)
        if failure.token[0][0] == "$END":
            yield from self._missing_ends()
        if self._closed_early(failure):
            yield from self._extra_ends()

    def _next(self, failure: Failure) -> list[Site]:
        """The token after the error: where the parser stops at a line's end, the next line may begin with a misspelt joining
        word."""
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
        self._budget -= len(text) // _CHARACTERS
        for order, (opener, position) in enumerate(ends.missing(text, self._lexer)[:_ENDS]):
            line = self._line(opener.start)
            new = (
                f"{' ' * opener.indent}END\n"
                if position == 0 or text[position - 1 : position] == "\n"
                else f"\n{' ' * opener.indent}END"
            )
            where = "at the end of the block" if position >= len(text.rstrip()) else f"before line {self._line(position)}"
            yield Candidate(
                1.0 + order / 100,
                position,
                position,
                new,
                "missing-end",
                opener.start,
                opener.word_end,
                f"this {opener.word.upper()} is never closed: its END is missing",
                f"write END {where}",
                None,
                f"the block that begins on line {line} reaches to here",
                position,
            )

    def _extra_ends(self) -> Iterator[Candidate]:
        self._budget -= len(self._patched.text) // _CHARACTERS
        for order, line in enumerate(ends.extra(self._patched.text, self._lexer)[:_ENDS]):
            yield Candidate(
                1.0 + order / 100,
                line.line_start,
                line.end,
                "",
                "extra-end",
                line.start,
                line.word_end,
                "this END closes nothing",
                "leave it out, or write the line that begins its block",
                "",
            )

    def _try(self, candidate: Candidate) -> int | None:
        """How far the text can be read with a candidate: a place in the text as it is now, or None for to the end."""
        text = self._patched.text
        edited = text[: candidate.start] + candidate.new + text[candidate.end :]
        position, stack, depth, last = self._resume(candidate.start)
        limit = _WHOLE if candidate.name in ("missing-end", "extra-end") else _HORIZON
        tokens = islice(_closed(self._lexer.lex(edited, position, depth, last), len(edited)), limit)
        failed = self._parser.follow(list(stack), tokens)
        self._budget -= len(text) // _COPIED
        if failed is None:
            self._budget -= min(limit, (len(edited) - position) // _CHARACTERS)
            return None
        self._budget -= failed[0] + 1
        return failed[1][2] - len(edited) + len(text)

    def _resume(self, position: int) -> tuple[int, tuple[int, ...], int, str]:
        """Where to read from to see the effect of an edit, with the states and the lexer's memory there: two tokens before it
        (the one before may be read differently, as AT before LEAST), or a statement before."""
        for later, site in zip(self._near, self._near[1:], strict=False):
            if later.token[2] < position:
                return site.token[2], site.stack, site.depth, site.last
        checkpoint = self._checkpoints[self._checkpoint(position)]
        return checkpoint.position, checkpoint.stack, 0, "_NL"

    def _checkpoint(self, position: int) -> int:
        """The checkpoint to read from after an edit: a statement earlier than its own, since a joining word goes on with that."""
        number = len(self._checkpoints) - 1
        while number > 0 and self._checkpoints[number].position > position:
            number -= 1
        return max(0, number - 1)

    # ── applying and reporting ──

    def _apply(self, start: int, end: int, new: str) -> None:
        del self._checkpoints[self._checkpoint(start) + 1 :]
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
        self._patched.replace_all([(fix.start, fix.end, fix.new) for fix in fixes])
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
        return self._source.place(self._patched.place(position))[0]


def _closed(tokens: Iterator[Raw], end: int) -> Iterator[Raw]:
    return chain(tokens, ((("$END",), "", end, end),))


def _last(text: str, position: int) -> tuple[int, int]:
    """The last character before a position that isn't blank."""
    end = max(len(text[:position].rstrip()), 1)
    return end - 1, end


def _short(value: str) -> str:
    line = value.split("\n")[0]
    return line if len(line) <= 30 else line[:29] + "…"
