"""Drives lark's LALR(1) table. Nodes are built while parsing, so depth is no matter.

Why not lark's own loop: this one starts in a tenth of the time (lark needn't be imported), parses three times as fast, and can
try a piece of text from any state without building anything, which is how errors are repaired (read.py). The table, its
strictness and the meaning of the grammar are lark's; a test compares the nodes of both.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import Any

import rules_engine_grammar
from rules_engine.limits import MAX_NESTING
from rules_engine.syntax import nodes
from rules_engine.syntax.builder import Builder
from rules_engine.syntax.lexer import Lexer, Raw, Token

DEEP = 6 * MAX_NESTING  # states on the stack between two statements; a block takes four or five
_NOTHING = 1_000_000  # no state and no rule has this number
Row = dict[str, int]
Stack = list[int]


class Unexpected(Exception):
    """A token that can't follow: `index` among the text's tokens, the token, and the states before it."""

    def __init__(self, index: int, token: Raw, stack: Stack) -> None:
        super().__init__(f"unexpected {token[1]!r} at {token[2]}")
        self.index, self.token, self.stack = index, token, stack


@contextmanager
def no_collector() -> Iterator[None]:
    """The cyclic collector would scan the growing tree over and over (2.2x on bulk parsing, measured); nodes have no cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _States(dict[int, Row]):
    """The rows of the table, each made when the parser first comes to it."""

    def __init__(self, symbols: list[str], keys: list[list[int]], states: list[list[Any]]) -> None:
        super().__init__()
        self._symbols, self._keys, self._rows = symbols, keys, states

    def __missing__(self, state: int) -> Row:
        key, actions = self._rows[state]
        names = [self._symbols[number] for number in self._keys[key]]
        row = dict.fromkeys(names, actions) if isinstance(actions, int) else dict(zip(names, actions, strict=True))
        self[state] = row
        return row


class Parser:
    """Reads one text at a time; not for several threads at once."""

    def __init__(self) -> None:
        table = rules_engine_grammar.load()
        symbols = table["symbols"]
        self.lexer = Lexer(table["words"], table["shapes"])
        self.states = _States(symbols, table["keys"], table["states"])
        self.start: int = table["start"]
        self.end: int = table["end"]
        self.rules = [(symbols[origin], size, method, children) for origin, size, method, children in table["rules"]]
        self._builder = Builder()
        self.may_be_deep = False  # after a parse: whether a statement was long, or a block deep, enough to nest beyond the limit
        self._jumps: dict[tuple[int, int, str], int] = {}
        self._reductions = [_reduction(self._builder, *rule) for rule in self.rules]

    def parse(self, text: str, path: str, offset: int = 0, places: Callable[[int], int] | None = None) -> nodes.File:
        """Nodes of a text. `offset` is added to every place (for a block cut out of a file), or `places` maps it.

        Raises Unexpected on the first syntax error, or where blocks nest far too deep; `rules_engine.syntax.read` turns that into
        diagnostics.
        """
        tokens = self.lexer.lex(text)
        if places is not None:
            tokens = ((kinds, value, places(start), places(end)) for kinds, value, start, end in tokens)
        elif offset:
            tokens = ((kinds, value, start + offset, end + offset) for kinds, value, start, end in tokens)
        self._builder.path = path
        self.may_be_deep = False
        with no_collector():
            return self._run(tokens)

    def _run(self, tokens: Iterator[Raw]) -> Any:
        """Shift and reduce, with values."""
        states, reductions, jumps = self.states, self._reductions, self._jumps
        stack = [self.start]
        values: list[Any] = []
        new = tuple.__new__
        index = line = 0
        for index, token in enumerate(_ended(tokens)):
            kinds, text, start, end = token
            row = states[stack[-1]]
            for kind in kinds:
                if kind in row:
                    break
            else:
                raise Unexpected(index, token, stack)
            action = row[kind]
            while action < 0:
                origin, size, build = reductions[~action]
                if size == 1:
                    if build is None:
                        # `additive: term: factor: …`: the whole chain of rules that pass their one value on, in one step.
                        place = (stack[-2], stack[-1], kind)
                        below = jumps.get(place)
                        if below is None:
                            below = jumps[place] = self._jump(*place)
                    else:
                        values[-1] = build(values[-1:])
                        below = states[stack[-2]][origin]
                    stack[-1] = below
                else:
                    if size:
                        values[-size:] = (build(values[-size:]),)
                        del stack[-size:]
                    else:
                        values.append(build([]))
                    below = states[stack[-1]][origin]
                    stack.append(below)
                if kind == "$END" and below == self.end:
                    return values[-1]
                action = states[below].get(kind, _NOTHING)
                if action == _NOTHING:
                    raise Unexpected(index, token, stack)
            stack.append(action)
            values.append(new(Token, (kind, text, start, end)))
            if kind == "_NL":
                if index - line > MAX_NESTING or len(stack) > MAX_NESTING:
                    self.may_be_deep = True
                    if len(stack) > DEEP:
                        raise Unexpected(index, token, stack)
                line = index
        raise AssertionError("the end of a text is always taken or refused")

    def _jump(self, below: int, state: int, kind: str) -> int:
        """The state after all rules that only pass one value on, before the terminal `kind`."""
        while True:
            action = self.states[state].get(kind, 0)
            if action >= 0:
                return state
            origin, size, build = self._reductions[~action]
            if size != 1 or build is not None:
                return state
            state = self.states[below][origin]

    def follow(self, stack: Stack, tokens: Iterable[Raw], taken: list[Any] | None = None) -> tuple[int, Raw] | None:
        """Shift and reduce without values, from and on `stack`. None when all tokens are taken, otherwise (how many were, the
        token that can't follow). `taken` receives (terminal, token) of each."""
        states, reductions, jumps = self.states, self._reductions, self._jumps
        index = 0
        for index, token in enumerate(tokens):
            row = states[stack[-1]]
            for kind in token[0]:
                if kind in row:
                    break
            else:
                return index, token
            action = row[kind]
            while action < 0:
                origin, size, build = reductions[~action]
                if size == 1 and build is None:
                    place = (stack[-2], stack[-1], kind)
                    below = jumps.get(place)
                    if below is None:
                        below = jumps[place] = self._jump(*place)
                    stack[-1] = below
                else:
                    if size:
                        del stack[-size:]
                    below = states[stack[-1]][origin]
                    stack.append(below)
                if kind == "$END" and below == self.end:
                    return None
                action = states[below].get(kind, _NOTHING)
                if action == _NOTHING:
                    return index, token
            stack.append(action)
            if taken is not None:
                taken.append((kind, token))
        return None

    def accepts(self, stack: Stack, kind: str) -> bool:
        """Whether a terminal can really follow (a state's row lists some that fail after reductions)."""
        return self.follow(list(stack), (((kind,), "", 0, 0),)) is None

    def expected(self, stack: Stack) -> list[str]:
        """The terminals that can follow, sorted."""
        return sorted(kind for kind in self.states[stack[-1]] if (kind.isupper() or kind == "$END") and self.accepts(stack, kind))


def _ended(tokens: Iterator[Raw]) -> Iterator[Raw]:
    end = 0
    for token in tokens:
        yield token
        end = token[3]
    yield ("$END",), "", end, end


def _reduction(builder: Builder, origin: str, size: int, method: str | None, children: list[Any]) -> tuple[str, int, Any]:
    """(symbol, length, function from the values of the right-hand side to the rule's value); no function: the one value stays."""
    if method is None:
        return origin, size, None if size == 1 else itemgetter(children[0])
    if any(isinstance(child, list) for child in children):
        pick: Any = _splice(children)
    elif children == list(range(size)):
        pick = None
    elif len(children) == 1:
        pick = _single(children[0])
    elif None in children:
        pick = _gapped(tuple(-1 if child is None else child for child in children))
    else:
        pick = itemgetter(*children) if children else tuple
    if not method:
        return (
            origin,
            size,
            _same if pick is None else pick if any(isinstance(child, list) for child in children) else _then(pick, list),
        )
    build = getattr(builder, method)
    return origin, size, build if pick is None else _then(pick, build)


def _same(values: list[Any]) -> list[Any]:
    return values


def _single(position: int | None) -> Callable[[list[Any]], Any]:
    return lambda values: (None,) if position is None else (values[position],)


def _gapped(positions: tuple[int, ...]) -> Callable[[list[Any]], Any]:
    """Picks by position, -1 for None."""
    pick = itemgetter(*positions)

    def gapped(values: list[Any]) -> Any:
        values.append(None)
        return pick(values)

    return gapped


def _splice(children: list[Any]) -> Callable[[list[Any]], list[Any]]:
    """Puts the lists of helper rules in place. A list that stands first is grown, not copied: nobody else holds it."""

    def splice(values: list[Any]) -> list[Any]:
        found: list[Any] = []
        for child in children:
            if isinstance(child, list):
                if found:
                    found += values[child[0]]
                else:
                    found = values[child[0]]
            else:
                found.append(None if child is None else values[child])
        return found

    return splice


def _then(pick: Callable[[list[Any]], Any], build: Callable[[Any], Any]) -> Callable[[list[Any]], Any]:
    return lambda values: build(pick(values))


_parser: list[Parser] = []


def parser() -> Parser:
    """The process's parser, made at the first call (its tables are read once)."""
    if not _parser:
        _parser.append(Parser())
    return _parser[0]
