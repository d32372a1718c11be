"""The grammar of `.camp` files and its prebuilt parse table. `README.md` in this folder is the language reference."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import lark

GRAMMAR = Path(__file__).parent / "campaign.lark"
TABLE = Path(__file__).parent / "table.json"
OPTIONS = {"parser": "lalr", "lexer": "contextual", "maybe_placeholders": True}


def digest() -> str:
    """Names what a table was built from: the grammar's text and lark's version."""
    return hashlib.sha256(GRAMMAR.read_bytes() + lark.__version__.encode()).hexdigest()


def load(transformer: Any, postlex: Any) -> lark.Lark:
    """A parser that builds with `transformer`. Reads the table beside the grammar when it was built from this grammar by this lark
    (30 times faster than building); otherwise builds from the grammar, which gives the same parser. The table is JSON: nothing is
    unpickled, and a file that was tampered with can at worst parse wrongly."""
    table = json.loads(TABLE.read_bytes()) if TABLE.exists() else {}
    if table.get("digest") != digest():
        return lark.Lark(GRAMMAR.read_text(encoding="utf-8"), transformer=transformer, postlex=postlex, **OPTIONS)
    data, memo = table["data"], _numbered(table["memo"])
    rows = data["parser"]["parser"]
    rows["tokens"] = _numbered(rows["tokens"])
    rows["states"] = {int(state): _numbered(row) for state, row in rows["states"].items()}
    parser = lark.Lark.__new__(lark.Lark)
    return parser._load({"data": data, "memo": memo}, transformer=transformer, postlex=postlex)


def _numbered(row: dict[str, Any]) -> dict[int, Any]:
    """JSON has only text keys; lark's tables are keyed by number."""
    return {int(key): value for key, value in row.items()}
