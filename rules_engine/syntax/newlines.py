"""Which line ends end a statement. Looks back only: the contextual lexer lexes by the parser's state, so it must never run ahead."""

from __future__ import annotations

from collections.abc import Iterator

from lark import Token

_OPENING = frozenset({"LPAR", "LSQB", "LBRACE"})
_CLOSING = frozenset({"RPAR", "RSQB", "RBRACE"})
_UNFINISHED = frozenset({"_COMMA", "EQ", "COMPARE", "PLUS", "MINUS", "STAR", "SLASH", "AND", "OR"})


class Newlines:
    """Lark post-lexer: drops line ends inside brackets and after a comma or an operator; joins runs; closes the last line."""

    always_accept = ("_NL",)

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        depth = 0
        last = "_NL"
        token = None
        for token in stream:
            kind = token.type
            if kind == "_NL":
                if depth or last == "_NL" or last in _UNFINISHED:
                    continue
            elif kind in _OPENING:
                depth += 1
            elif kind in _CLOSING:
                depth = max(0, depth - 1)
            last = kind
            yield token
        if last != "_NL" and token is not None:
            yield Token.new_borrow_pos("_NL", "", token)
