"""Text to nodes. One parser for the process, from the prebuilt table where it fits, from the grammar otherwise."""

from __future__ import annotations

import gc
from typing import Any

import rules_engine_grammar
from lark import Lark
from rules_engine.syntax import nodes
from rules_engine.syntax.builder import Builder
from rules_engine.syntax.newlines import Newlines


class Parser:
    """Reads one text at a time; not for several threads at once."""

    def __init__(self) -> None:
        self._builder = Builder()
        self.lark: Lark = rules_engine_grammar.load(self._builder, Newlines())

    def parse(self, text: str, path: str, offset: int = 0) -> nodes.File:
        """Nodes of a text. `offset` is added to every place (for a block cut out of a file).

        Raises lark.exceptions.UnexpectedInput on the first syntax error; `rules_engine.syntax.read` turns that into diagnostics.
        """
        self._builder.path, self._builder.offset = path, offset
        # The cyclic collector would scan the growing tree over and over (2.2x on bulk parsing, measured); nodes have no cycles.
        enabled = gc.isenabled()
        gc.disable()
        try:
            tree: Any = self.lark.parse(text)
            return tree
        finally:
            if enabled:
                gc.enable()


_parser: list[Parser] = []


def parser() -> Parser:
    """The process's parser, made at the first call (its tables are read once)."""
    if not _parser:
        _parser.append(Parser())
    return _parser[0]
