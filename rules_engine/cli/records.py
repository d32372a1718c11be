"""Files of contacts and events: whether a file can be used at all, and its records one by one (CLI.md, Formats)."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rules_engine.cli.errors import Trouble

NEEDED = {"contacts": ("id",), "events": ("event", "contact")}
USUAL = {"contacts": "id,email,timezone,created_at", "events": "id,event,contact,at,subject"}
BEGINNING = 65_536  # bytes that are looked at before the work begins


def check_file(path: Path, kind: str) -> None:
    """Trouble where a file as a whole can't be used: it is missing, a folder, empty, no text, or lacks a column. kind:
    contacts | events."""
    beginning = _beginning(path, kind)
    if not beginning.strip():
        raise Trouble(f"{path}: the file is empty", f"it needs one of the {kind} on each line, as JSON or CSV")
    try:
        text = beginning.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(beginning) < BEGINNING or error.start < BEGINNING - 4:  # not merely cut in the middle of a letter
            raise Trouble(f"{path}: the file is not in UTF-8", 'save it as UTF-8; spreadsheets call it "CSV UTF-8"') from error
        text = beginning[: error.start].decode("utf-8-sig")
    if path.name.lower().removesuffix(".gz").endswith(".csv"):
        _check_columns(path, next(csv.reader([text.lstrip().splitlines()[0]])), kind)
    elif not text.lstrip().startswith("{"):
        raise Trouble(
            f"{path}, line 1: this is no JSON",
            f'a file of {kind} has one JSON object on each line, {{"id": …}}; a CSV file\'s name must end in .csv',
        )


def _beginning(path: Path, kind: str) -> bytes:
    try:
        with path.open("rb") as raw:
            if path.name.lower().endswith(".gz"):
                return gzip.GzipFile(fileobj=raw).read(BEGINNING)
            return raw.read(BEGINNING)
    except FileNotFoundError as error:
        raise Trouble(f"{path}: there is no such file", _nearby(path)) from error
    except IsADirectoryError as error:
        raise Trouble(
            f"{path}: this is a folder, and a file of {kind} is needed", f"name a file, such as {path / (kind + '.jsonl')}"
        ) from error
    except PermissionError as error:
        raise Trouble(f"{path}: you may not read this file", "change its permissions") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise Trouble(f"{path}: this is no gzip file", "its name ends in .gz") from error


def _nearby(path: Path) -> str:
    from difflib import get_close_matches

    if path.parent.is_dir():
        near = get_close_matches(path.name, [item.name for item in path.parent.iterdir() if item.is_file()], n=1)
        if near:
            return f"did you mean {path.parent / near[0]}?"
    return "look at the name, and at the folder you are in"


def _check_columns(path: Path, cells: list[str], kind: str) -> None:
    from difflib import get_close_matches

    columns = [name.strip() for name in cells]
    if len(columns) == 1 and ";" in columns[0]:
        raise Trouble(f"{path}, line 1: the columns are separated by semicolons", "save it with commas between the columns")
    for name in NEEDED[kind]:
        if name not in columns:
            near = get_close_matches(name, columns, n=1, cutoff=0.5)
            hint = (
                f"is `{near[0]}` meant? the column must be called `{name}`"
                if near
                else f"the first line names the columns: {USUAL[kind]}"
            )
            raise Trouble(f"{path}, line 1: there is no column `{name}`", hint)
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise Trouble(f"{path}, line 1: the column `{twice[0]}` is there twice", "rename or remove one of them")


def read_records(path: Path, kind: str) -> Iterator[Any]:
    """The file's lines as rules_engine.service.ingest reads them: number, record or None, reason. Trouble as `check_file`."""
    from rules_engine.service import ingest

    check_file(path, kind)
    with path.open("rb") as raw:
        yield from ingest._lines(path, raw)
