"""How commands speak: data on stdout, messages on stderr, colour and progress only where a person reads."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from rules_engine.cli.errors import refused

T = TypeVar("T")
PROGRESS_FROM = 2_000  # fewer steps are done before a bar could be read


def data(text: str = "") -> None:
    """A line of the answer."""
    click.echo(text)


def say(text: str) -> None:
    """A line about the work, on stderr."""
    click.echo(text, err=True)


def warn(text: str, help: str = "") -> None:
    """Something that does not stop the command but that a person should know."""
    say(click.style("warning: ", fg="yellow", bold=True) + text)
    if help:
        say(click.style("  help: ", fg="cyan") + help)


def json_line(record: Any) -> str:
    """One record as one line, keys in the order given."""
    return json.dumps(record, ensure_ascii=False, default=str)


def json_lines(records: Iterable[Any]) -> None:
    """A stream of records, written in large pieces (a line at a time is five times slower)."""
    stream = sys.stdout
    block: list[str] = []
    for record in records:
        block.append(json_line(record))
        if len(block) >= 500:
            stream.write("\n".join(block) + "\n")
            block.clear()
    if block:
        stream.write("\n".join(block) + "\n")
    stream.flush()


def json_document(record: Any) -> None:
    """One record for people and programs: indented."""
    data(json.dumps(record, ensure_ascii=False, indent=2, default=str))


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]], right: Sequence[int] = ()) -> None:
    """A plain table: columns as wide as needed, those in `right` set to the right (numbers)."""
    cells = [[cell(value) for value in row] for row in rows]
    widths = [max([len(header)] + [len(row[i]) for row in cells]) for i, header in enumerate(headers)]

    def line(values: Sequence[str]) -> str:
        parts = [
            value.rjust(width) if i in right else value.ljust(width)
            for i, (value, width) in enumerate(zip(values, widths, strict=True))
        ]
        return "  ".join(parts).rstrip()

    data(click.style(line(list(headers)), bold=True))
    for row in cells:
        data(line(row))


def cell(value: Any) -> str:
    """A value in a table or a sentence: as people write it, on one line, without control characters."""
    if value is None:
        return "-"
    if value is True or value is False:
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.2f}".rstrip("0").rstrip(".") if value == value and abs(value) < 1e15 else str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return clean(str(value))


def clean(text: str) -> str:
    """Contact data is hostile: no control characters reach a terminal."""
    return "".join(c if c.isprintable() else "?" if c not in "\n\t" else " " for c in text)


def count(number: int, noun: str, plural: str = "") -> str:
    """ "1 contact", "2,357 contacts" """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def reads_a_person() -> bool:
    """Whether stderr is a terminal, where bars and questions make sense."""
    return sys.stderr.isatty()


def progress(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """Passes items on; a bar on stderr where a person waits for many of them."""
    if total < PROGRESS_FROM or not reads_a_person():
        yield from items
        return
    with click.progressbar(items, length=total, label=label, file=sys.stderr, update_min_steps=max(1, total // 200)) as bar:
        yield from bar


class Ticker:
    """One line on stderr that tells how far long work is; nothing where no person reads it."""

    def __init__(self) -> None:
        self._shown = 0

    def __enter__(self) -> Ticker:
        return self

    def __exit__(self, *_: object) -> None:
        self.show("")

    def show(self, text: str) -> None:
        """Writes `text` over what was there."""
        if not reads_a_person() or not (text or self._shown):
            return
        click.echo("\r" + text.ljust(self._shown) + ("" if text else "\r"), err=True, nl=False)
        self._shown = len(text)


@contextmanager
def gauge(total: int, label: str) -> Iterator[Callable[[int], None]]:
    """Gives a function that moves a bar on stderr to a position of `total`; it does nothing where no person waits."""
    if not reads_a_person():
        yield lambda position: None
        return
    with click.progressbar(length=max(1, total), label=label, file=sys.stderr) as bar:
        yield lambda position: bar.update(max(0, min(position, total) - bar.pos))


def confirm(question: str, yes: bool) -> None:
    """Asks before what can't be undone. Without a terminal there is no one to ask: refused, unless --yes."""
    if yes:
        return
    if not sys.stdin.isatty():
        what = f"{question[:1].lower()}{question[1:]}".removesuffix(" Go on?").rstrip("?.")
        raise refused(f"not confirmed: {what}", "add --yes to do it without a question")
    if not click.confirm(question, err=True):
        raise refused("not confirmed; nothing was changed")
