"""Lark's own parser over the same grammar and the same builder: what our driver of its table must agree with."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import lark

import rules_engine_grammar
from rules_engine.syntax import nodes as n
from rules_engine.syntax.builder import Builder
from rules_engine.syntax.lexer import Token
from rules_engine.syntax.newlines import Newlines


class _Adapter(lark.Transformer):
    """Hands the builder lark's tokens as ours."""

    def __init__(self) -> None:
        super().__init__()
        self.builder = Builder()

    def __getattr__(self, rule: str) -> Any:
        build = getattr(self.builder, rule)
        return lambda children: build([_ours(child) for child in children])


def _ours(child: Any) -> Any:
    return Token(child.type, str(child), child.start_pos, child.end_pos) if isinstance(child, lark.Token) else child


@lru_cache(1)
def reference() -> tuple[lark.Lark, Builder]:
    adapter = _Adapter()
    text = rules_engine_grammar.GRAMMAR.read_text(encoding="utf-8")
    return lark.Lark(text, transformer=adapter, postlex=Newlines(), **rules_engine_grammar.OPTIONS), adapter.builder


def parse(text: str, path: str) -> n.File:
    """Raises lark.exceptions.UnexpectedInput."""
    parser, builder = reference()
    builder.path = path
    found: Any = parser.parse(text)
    return found


def places(file: n.File) -> list[tuple[Any, ...]]:
    """Every span of a tree: equality of nodes leaves them out."""
    return [
        (type(node).__name__, *(getattr(node, field) for field in node._fields if field.endswith(("span", "spans"))))
        for node in n.walk(file)
    ]
