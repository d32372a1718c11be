"""The grammar of `.camp` files and its prebuilt parse table. `README.md` in this folder is the language reference."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

GRAMMAR = Path(__file__).parent / "campaign.lark"
TABLE = Path(__file__).parent / "table.json"
OPTIONS = {"parser": "lalr", "lexer": "contextual", "maybe_placeholders": True}
FORMAT = 3  # of table.json; counts up when `build.py` writes it differently


def digest() -> str:
    """Names what a table was built from: the grammar's text and the table's format."""
    return hashlib.sha256(GRAMMAR.read_bytes() + b"%d" % FORMAT).hexdigest()


def load() -> dict[str, Any]:
    """The parse table that lark made of the grammar (see build.py for its fields).

    Reads the table beside the grammar when it was built from this grammar; lark isn't even imported then, which makes a cold
    start ten times faster. Otherwise lark builds the same table from the grammar now. The table is JSON: nothing is unpickled,
    and a file that was tampered with can at worst parse wrongly.
    """
    table: dict[str, Any] = json.loads(TABLE.read_bytes()) if TABLE.exists() else {}
    if table.get("digest") != digest():
        from rules_engine_grammar.build import build

        table = build(strict=False)
    return table
