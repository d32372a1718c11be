"""Files of contacts and events, JSON Lines or CSV (CLI.md, Formats): one record at a time, a bad line never stops the others."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rules_engine.cli.errors import Trouble
from rules_engine.limits import MAX_EVENT_BYTES

EVENT_COLUMNS = ("id", "event", "contact", "at", "subject")
NEEDED = {"contacts": ("id",), "events": ("event", "contact", "at")}


class Line(NamedTuple):
    """One record with its place: `problem` says why there is none."""

    number: int
    record: dict[str, Any] | None
    problem: str = ""


def read_records(path: Path, kind: str) -> Iterator[Line]:
    """The records of a file. kind: contacts | events. Trouble where the file as a whole can't be used: it is missing, is no text, is
    empty, or lacks a column."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise Trouble(f"{path}: there is no such file", _nearby(path)) from error
    except IsADirectoryError as error:
        raise Trouble(f"{path}: this is a folder, and a file of {kind} is needed", f"name a file: {path}/{kind}.jsonl") from error
    except PermissionError as error:
        raise Trouble(f"{path}: you may not read this file") from error
    except UnicodeDecodeError as error:
        raise Trouble(f"{path}: the file is not in UTF-8", "save it as UTF-8; spreadsheets call it \"CSV UTF-8\"") from error
    if not text.strip():
        raise Trouble(f"{path}: the file is empty", f"it needs one of the {kind} on each line, as JSON or CSV")
    is_csv = path.suffix.lower() in (".csv", ".tsv") or not text.lstrip().startswith(("{", "["))
    return _csv(path, text, kind) if is_csv else _json_lines(text)


def _nearby(path: Path) -> str:
    from difflib import get_close_matches

    folder = path.parent if path.parent.is_dir() else Path(".")
    near = get_close_matches(path.name, [item.name for item in folder.iterdir() if item.is_file()], n=1)
    return f"did you mean {folder / near[0]}?" if near else "look at the name, and at the folder you are in"


def _json_lines(text: str) -> Iterator[Line]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        if len(line) > MAX_EVENT_BYTES:
            yield Line(number, None, f"the line is longer than {MAX_EVENT_BYTES:,} characters")
            continue
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            what = error.msg[:1].lower() + error.msg[1:] if isinstance(error, json.JSONDecodeError) else "nested too deeply"
            yield Line(number, None, f"this is no JSON: {what}")
            continue
        if isinstance(record, dict):
            yield Line(number, record)
        else:
            yield Line(number, None, "the line holds no JSON object: write {\"id\": …} on one line")


def _csv(path: Path, text: str, kind: str) -> Iterator[Line]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(text.splitlines()[0])
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    columns = [name.strip() for name in next(reader)]
    _check_columns(path, columns, kind)
    return _rows(reader, columns, kind)


def _delimiter(header: str) -> str:
    """Spreadsheets of half of Europe write semicolons."""
    return ";" if header.count(";") > header.count(",") else ","


def _check_columns(path: Path, columns: list[str], kind: str) -> None:
    from difflib import get_close_matches

    for name in NEEDED[kind]:
        if name not in columns:
            near = get_close_matches(name, columns, n=1, cutoff=0.5)
            hint = f"is `{near[0]}` meant? the name must be `{name}`" if near else f"the first line names the columns: {', '.join(_usual(kind))}"
            raise Trouble(f"{path}, line 1: there is no column `{name}`", hint)
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise Trouble(f"{path}, line 1: the column `{twice[0]}` is there twice", "rename or remove one of them")


def _usual(kind: str) -> tuple[str, ...]:
    return EVENT_COLUMNS if kind == "events" else ("id", "email", "timezone", "created_at")


def _rows(reader: Any, columns: list[str], kind: str) -> Iterator[Line]:
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Line(reader.line_num, None, f"this is no CSV: {error}")
            continue
        if not any(cell.strip() for cell in row):
            continue
        if len(row) > len(columns):
            yield Line(reader.line_num, None, f"the line has {len(row)} cells, and the first line names {len(columns)} columns")
            continue
        cells = {name: cell.strip() for name, cell in zip(columns, row, strict=False) if name and cell.strip()}
        yield Line(reader.line_num, _event(cells) if kind == "events" else dict(cells))


def _event(cells: dict[str, str]) -> dict[str, Any]:
    """A row as an event: whatever is no column of every event is a field of its data."""
    record: dict[str, Any] = {name: cells[name] for name in EVENT_COLUMNS if name in cells}
    record["data"] = {name: value for name, value in cells.items() if name not in EVENT_COLUMNS}
    return record
