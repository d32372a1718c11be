"""Diagnostics as text, in the formats of `camp check --format`: the only place that knows how a problem looks.

`render(diagnostics, sources, form)` returns all of it at once; `sources` maps the paths of the spans to their texts. Lines and
columns count from 1, columns in characters, ends excluded."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from rules_engine.diagnostics import Diagnostic, Related, Source, Span

PAGES = Path(__file__).parent.parent / "model" / "rules"
WIDTH = 110  # columns of a source line that are shown; more is cut around the place
_TAB = 4
_STYLES = {"error": "\x1b[1;31m", "warning": "\x1b[1;33m", "frame": "\x1b[34m", "help": "\x1b[36m", "bold": "\x1b[1m"}
_PLAIN = "\x1b[0m"


def render(diagnostics: Iterable[Diagnostic], sources: Mapping[str, str], form: str = "human", colour: bool = False) -> str:
    """All diagnostics in one format: human | short | json | github | sarif. Empty for none, but sarif is always a whole document.

    Raises KeyError for another format. A span whose source is not given, or that lies outside it, is rendered with what is known.
    """
    texts = {path: Source(path, text) for path, text in sources.items()}
    return _FORMATS[form](list(diagnostics), texts, colour)


class _Place(NamedTuple):
    """A span in lines and columns."""

    path: str
    line: int
    column: int
    end_line: int
    end_column: int


def _place(span: Span, sources: Mapping[str, Source]) -> _Place:
    source = sources.get(span.path)
    if source is None:
        return _Place(span.path, 1, 1, 1, 1)
    size = len(source.text)
    start = min(max(span.start, 0), size)
    line, column = source.place(start)
    end_line, end_column = source.place(min(max(span.end, start), size))
    return _Place(span.path, line, column, end_line, end_column)


# ── human ──


def _human(diagnostics: list[Diagnostic], sources: Mapping[str, Source], colour: bool) -> str:
    paint = _painter(colour)
    return "\n".join(_human_one(item, sources, paint) for item in diagnostics)


def _painter(colour: bool) -> Callable[[str, str], str]:
    def paint(style: str, text: str) -> str:
        return f"{_STYLES[style]}{text}{_PLAIN}" if colour and text else text

    return paint


def _human_one(item: Diagnostic, sources: Mapping[str, Source], paint: Callable[[str, str], str]) -> str:
    """One problem: severity, name and sentence; the place; the line with carets; the way out; other places."""
    place = _place(item.span, sources)
    gutter = " " * len(str(place.line))
    bar = paint("frame", "|")
    lines = [
        f"{paint(item.severity, item.severity)} {paint('bold', item.name)}: {clean(item.message)}",
        f"{gutter}{paint('frame', '-->')} {clean(place.path)}:{place.line}:{place.column}",
    ]
    source = sources.get(item.span.path)
    if source is not None:
        shown, carets = _excerpt(source.line(place.line), place)
        lines += [
            f"{gutter} {bar}",
            f"{paint('frame', str(place.line))} {bar} {shown}".rstrip(),
            f"{gutter} {bar} {paint(item.severity, carets)}",
        ]
    lead = f"{gutter} {paint('frame', '=')} "
    if item.help:
        lines.append(f"{lead}{paint('help', 'help:')} {clean(item.help)}")
    if item.suggestion is not None and item.suggestion not in item.help:
        lines.append(f"{lead}{paint('help', 'write:')} {clean(item.suggestion) or '(nothing)'}")
    lines += [f"{lead}{_related(one, sources)}" for one in item.related]
    return "\n".join(lines) + "\n"


def _related(related: Related, sources: Mapping[str, Source]) -> str:
    place = _place(related.span, sources)
    return f"{clean(place.path)}:{place.line}:{place.column}: {clean(related.message)}"


def _excerpt(line: str, place: _Place) -> tuple[str, str]:
    """The source line as it is printed, and the carets under the whole span (to the line's end where it goes on in the next)."""
    start = place.column - 1
    end = place.end_column - 1 if place.end_line == place.line else len(line.rstrip())
    end = max(end, start + 1)
    if len(line) > WIDTH:
        line, start, end = _cut(line, start, end)
    cells = [_cell(character) for character in line]
    before = sum(width for _, width in cells[:start])
    under = sum(width for _, width in cells[start:end]) + max(0, end - len(cells))
    return "".join(shown for shown, _ in cells), " " * before + "^" * max(under, 1)


def _cut(line: str, start: int, end: int) -> tuple[str, int, int]:
    """A piece of a long line around the place."""
    first = max(0, min(start - WIDTH // 4, len(line) - WIDTH))
    piece = line[first : first + WIDTH]
    lead, tail = "…" if first else "", "…" if first + WIDTH < len(line) else ""
    shift = len(lead) - first
    return lead + piece + tail, start + shift, min(end + shift, len(lead) + len(piece))


def _cell(character: str) -> tuple[str, int]:
    """How a character is printed, and how many columns of a terminal it takes."""
    if character == "\t":
        return " " * _TAB, _TAB
    if character < "\x7f" and character.isprintable():
        return character, 1
    category = unicodedata.category(character)
    if category in ("Mn", "Me"):
        return character, 0
    if category in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return "�", 1  # invisible or dangerous on a terminal
    return character, 2 if unicodedata.east_asian_width(character) in "WF" else 1


def clean(text: str) -> str:
    """A text on one line, without what could steer a terminal."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(" " if character in "\n\r\t" else character if character.isprintable() else "�" for character in text)


# ── for programs ──


def _short(diagnostics: list[Diagnostic], sources: Mapping[str, Source], colour: bool) -> str:
    lines = []
    for item in diagnostics:
        place = _place(item.span, sources)
        lines.append(f"{clean(place.path)}:{place.line}:{place.column}: {item.severity} {item.name}: {clean(item.message)}\n")
    return "".join(lines)


def _json(diagnostics: list[Diagnostic], sources: Mapping[str, Source], colour: bool) -> str:
    return "".join(json.dumps(record(item, sources), ensure_ascii=False) + "\n" for item in diagnostics)


def record(item: Diagnostic, sources: Mapping[str, Source]) -> dict[str, Any]:
    """One diagnostic with stable keys: a public contract."""
    return {
        "name": item.name,
        "severity": item.severity,
        "message": item.message,
        "help": item.help,
        "suggestion": item.suggestion,
        **_place(item.span, sources)._asdict(),
        "related": [{"message": one.message, **_place(one.span, sources)._asdict()} for one in item.related],
    }


def _github(diagnostics: list[Diagnostic], sources: Mapping[str, Source], colour: bool) -> str:
    """Workflow commands of GitHub Actions: annotations at the places."""
    lines = []
    for item in diagnostics:
        place = _place(item.span, sources)
        properties = {"file": place.path, "line": place.line, "endLine": place.end_line, "col": place.column}
        if place.end_line == place.line:
            properties["endColumn"] = place.end_column  # GitHub refuses columns for a span of several lines
        properties["title"] = item.name
        text = item.message + (f"\n{item.help}" if item.help else "")
        shown = ",".join(f"{key}={_property(str(value))}" for key, value in properties.items())
        lines.append(f"::{item.severity} {shown}::{_data(text)}\n")
    return "".join(lines)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


# ── SARIF 2.1.0 ──


def _sarif(diagnostics: list[Diagnostic], sources: Mapping[str, Source], colour: bool) -> str:
    names = sorted({item.name for item in diagnostics})
    index = {name: position for position, name in enumerate(names)}
    levels = {item.name: item.severity for item in sorted(diagnostics, key=lambda item: item.severity, reverse=True)}
    run = {
        "tool": {
            "driver": {
                "name": "camp",
                "semanticVersion": _version(),
                "rules": [_sarif_rule(name, levels[name]) for name in names],
            }
        },
        "columnKind": "unicodeCodePoints",
        "results": [_sarif_result(item, index[item.name], sources) for item in diagnostics],
    }
    document = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


@lru_cache(maxsize=1)
def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("camp-rules-engine")
    except PackageNotFoundError:
        return "0.0.0"


def _sarif_rule(name: str, level: str) -> dict[str, Any]:
    summary, page = rule_page(name)
    return {
        "id": name,
        "shortDescription": {"text": summary},
        "help": {"text": page, "markdown": page},
        "defaultConfiguration": {"level": level},
    }


def rule_page(name: str) -> tuple[str, str]:
    """(first sentence, whole page) of a diagnostic's page; its name where there is none."""
    try:
        page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    except OSError:
        return name, name
    summary = next((line.strip() for line in page.splitlines() if line.strip() and not line.startswith("#")), name)
    return summary, page


def _sarif_result(item: Diagnostic, position: int, sources: Mapping[str, Source]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": item.name,
        "ruleIndex": position,
        "level": item.severity,
        "message": {"text": item.message + (f"\n{item.help}" if item.help else "")},
        "locations": [{"physicalLocation": _sarif_location(_place(item.span, sources))}],
    }
    if item.related:
        result["relatedLocations"] = [
            {"id": number, "message": {"text": one.message}, "physicalLocation": _sarif_location(_place(one.span, sources))}
            for number, one in enumerate(item.related, 1)
        ]
    if item.suggestion is not None:
        place = _place(item.span, sources)
        result["fixes"] = [
            {
                "description": {"text": f"write {item.suggestion}"},
                "artifactChanges": [
                    {
                        "artifactLocation": {"uri": _uri(place.path)},
                        "replacements": [{"deletedRegion": _region(place), "insertedContent": {"text": item.suggestion}}],
                    }
                ],
            }
        ]
    return result


def _sarif_location(place: _Place) -> dict[str, Any]:
    return {"artifactLocation": {"uri": _uri(place.path)}, "region": _region(place)}


def _region(place: _Place) -> dict[str, int]:
    return {"startLine": place.line, "startColumn": place.column, "endLine": place.end_line, "endColumn": place.end_column}


def _uri(path: str) -> str:
    """A path as a URI: relative ones stay relative, so that they count from the repository."""
    from urllib.parse import quote

    file = Path(path)
    return file.as_uri() if file.is_absolute() else quote(file.as_posix())


_FORMATS: dict[str, Callable[[list[Diagnostic], Mapping[str, Source], bool], str]] = {
    "human": _human,
    "short": _short,
    "json": _json,
    "github": _github,
    "sarif": _sarif,
}
