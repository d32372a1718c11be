"""Record what a store writes to SQLite, and write the same again with nothing but `executemany`.

SQLite's own trace gives each statement with its values filled in.  The values are taken out again, neighbours with the same
text become one `executemany`, and BEGIN and COMMIT keep their places: the floor under a durable engine.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rules_engine.store.database import sqlite3  # the same SQLite as Camp's: a copy can't be made across two

Rows = list[tuple]
Transaction = list[tuple[str, Rows]]

_LITERAL = re.compile(
    r"""(?P<name>"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\])|(?P<blob>[xX]'[0-9a-fA-F]*')|(?P<text>'(?:[^']|'')*')"""
    r"""|(?P<null>\bNULL\b)|(?P<number>(?<![\w.])\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"""
)
_WRITES = ("INSERT", "UPDATE", "DELETE", "REPLACE")


class Recorder:
    """Listens to a connection. Statements outside a transaction are transactions of one."""

    def __init__(self, connection: sqlite3.Connection):
        self.transactions: list[Transaction] = []
        self._open: Transaction | None = None
        self._connection = connection
        connection.set_trace_callback(self._hear)

    def stop(self) -> list[Transaction]:
        """Stop listening; the transactions that wrote something."""
        self._connection.set_trace_callback(None)
        return [transaction for transaction in self.transactions if transaction]

    def _hear(self, statement: str) -> None:
        words = statement.lstrip().split(None, 1)
        word = words[0].upper().rstrip(";") if words else ""
        if word == "BEGIN":
            self._open = []
        elif word in ("COMMIT", "END"):
            self.transactions.append(self._open or [])
            self._open = None
        elif word == "ROLLBACK" and " TO " not in statement.upper():
            self._open = None
        elif word in _WRITES:
            text, row = take_values(statement)
            if self._open is None:
                self.transactions.append([(text, [row])])
            elif self._open and self._open[-1][0] == text:
                self._open[-1][1].append(row)
            else:
                self._open.append((text, [row]))


def take_values(statement: str) -> tuple[str, tuple]:
    """A statement with its values as parameters, and the values. RETURNING is dropped: `executemany` can't have it."""
    values: list = []

    def parameter(found: re.Match) -> str:
        kind, text = found.lastgroup, found.group()
        if kind == "name":
            return text
        values.append(_value(kind, text))
        return "?"

    text = _LITERAL.sub(parameter, statement)
    return re.sub(r"\s+RETURNING\s+[^?]*$", "", text, flags=re.IGNORECASE), tuple(values)


def _value(kind: str | None, text: str):
    if kind == "null":
        return None
    if kind == "blob":
        return bytes.fromhex(text[2:-1])
    if kind == "text":
        return text[1:-1].replace("''", "'")
    return float(text) if any(mark in text for mark in ".eE") else int(text)


def open_durable(path: Path) -> sqlite3.Connection:
    """A connection with the promises of the store: write-ahead log, every commit on the disk."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def write_floor(connection: sqlite3.Connection, transactions: Sequence[Transaction]) -> None:
    """Write transactions, each a list of (sql, rows), with `executemany` and nothing else."""
    for transaction in transactions:
        connection.execute("BEGIN IMMEDIATE")
        for sql, rows in transaction:
            connection.executemany(sql, rows)
        connection.execute("COMMIT")


def row_count(transactions: Sequence[Transaction]) -> int:
    """How many rows these transactions write."""
    return sum(len(rows) for transaction in transactions for _, rows in transaction)
