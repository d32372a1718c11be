"""Which line ends end a statement: not those inside brackets, after a comma or an operator, or before a joining word or sign."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lark import Token

OPENING = frozenset({"LPAR", "LSQB", "LBRACE"})
CLOSING = frozenset({"RPAR", "RSQB", "RBRACE"})
UNFINISHED = frozenset({"_COMMA", "EQ", "COMPARE", "PLUS", "MINUS", "STAR", "SLASH", "AND", "OR"})
# The grammar's JOINED terminal says the same to lark; a test compares the two.
JOINING = frozenset(
    {
        "AND",
        "OR",
        "IS",
        "IN",
        "AS",
        "OF",
        "PER",
        "UP",
        "WHERE",
        "WHILE",
        "WITHIN",
        "WITH",
        "SINCE",
        "BETWEEN",
        "CONTAINS",
        "MATCHES",
        "STARTS",
        "ENDS",
    }
)
JOINING_SIGNS = frozenset({"MINUS", "PLUS", "STAR", "SLASH", "EQ", "COMPARE", "_COMMA"})


class Newlines:
    """Lark post-lexer with the same rule, for lark's own parser (building the table, and the reference that tests compare
    with)."""

    always_accept = ("_NL",)

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        depth = 0
        last = "_NL"
        token = None
        for token in stream:
            kind = token.type
            if kind == "_NL":
                if depth or last == "_NL" or last in UNFINISHED:
                    continue
            elif kind in OPENING:
                depth += 1
            elif kind in CLOSING:
                depth = max(0, depth - 1)
            last = kind
            yield token
        if last != "_NL" and token is not None:
            yield type(token).new_borrow_pos("_NL", "", token)
