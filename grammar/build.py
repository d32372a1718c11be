"""Writes the prebuilt parse table: `python -m rules_engine_grammar.build`. A test says when it is out of date."""

from __future__ import annotations

import json

import lark

import rules_engine_grammar
from rules_engine.syntax.newlines import Newlines


def render() -> str:
    """The text of table.json. `strict` makes lark refuse any conflict or collision of terminals."""
    text = rules_engine_grammar.GRAMMAR.read_text(encoding="utf-8")
    parser = lark.Lark(text, postlex=Newlines(), strict=True, **rules_engine_grammar.OPTIONS)
    data, memo = parser.memo_serialize([lark.lexer.TerminalDef, lark.grammar.Rule])
    data["options"].update(postlex=None, strict=False)
    content = {"digest": rules_engine_grammar.digest(), "data": data, "memo": memo}
    return json.dumps(content, separators=(",", ":")) + "\n"


if __name__ == "__main__":
    rules_engine_grammar.TABLE.write_text(render(), encoding="utf-8")
