"""What can be said about a source text: a place, a name, one sentence, and a way out. Pure data; only the CLI renders it."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import NamedTuple


class Span(NamedTuple):
    """A stretch of one source: offsets in characters, `end` excluded. `path` is as the user named it."""

    path: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Related:
    """A second place that a diagnostic speaks of, such as the declaration of a name."""

    span: Span
    message: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One problem. `name` is the readable rule (`unknown-event`), `message` one lower-case sentence in the user's words,
    `help` the way out (may be empty), `suggestion` the replacement text for `span` where one is likely."""

    name: str
    span: Span
    message: str
    help: str = ""
    severity: str = "error"  # error | warning
    suggestion: str | None = None
    related: tuple[Related, ...] = ()


def sort_key(diagnostic: Diagnostic) -> tuple:
    """Order of reporting: by file, then place, then name."""
    span = diagnostic.span
    return (span.path, span.start, span.end, diagnostic.name, diagnostic.message)


@dataclass(slots=True)
class Source:
    """One source text with line arithmetic. Lines and columns count from 1, columns in characters."""

    path: str
    text: str
    _starts: list[int] = field(default_factory=list, repr=False)

    def _line_starts(self) -> list[int]:
        if not self._starts:
            self._starts = [0]
            position = self.text.find("\n")
            while position >= 0:
                self._starts.append(position + 1)
                position = self.text.find("\n", position + 1)
        return self._starts

    def place(self, offset: int) -> tuple[int, int]:
        """(line, column) of a character offset."""
        starts = self._line_starts()
        line = bisect_right(starts, offset)
        return line, offset - starts[line - 1] + 1

    def line(self, number: int) -> str:
        """The text of line `number`, without its line break; empty beyond the end."""
        starts = self._line_starts()
        if not 1 <= number <= len(starts):
            return ""
        end = starts[number] - 1 if number < len(starts) else len(self.text)
        return self.text[starts[number - 1]:end].rstrip("\r")
