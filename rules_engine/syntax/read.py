"""A source file to nodes and diagnostics: every syntax error of a file at once, each at its place, and the nodes of all that
could be read, so that the checks go on. Never raises on any text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rules_engine.diagnostics import Diagnostic, Source, Span
from rules_engine.limits import MAX_DIAGNOSTICS_PER_FILE, MAX_NESTING, MAX_SOURCE_BYTES
from rules_engine.syntax import nodes
from rules_engine.syntax.parser import Parser, Unexpected, no_collector, parser

_MADE_UP = re.compile(r"\b\w+_(?!\w)")  # a name as a repair makes it
TOP = frozenset({"CONST", "ATTRIBUTE", "EVENT", "FACT", "SEGMENT", "WORKSPACE", "RULE", "CAMPAIGN", "TEST"})


def read(text: str, path: str) -> tuple[nodes.File, list[Diagnostic]]:
    """Nodes of a text and what is wrong with its syntax, in the order of the text. Never raises."""
    if len(text) > MAX_SOURCE_BYTES or not text.isascii() and len(text.encode("utf-8", "surrogatepass")) > MAX_SOURCE_BYTES:
        return _nothing(path, text), [
            Diagnostic(
                "file-too-large",
                Span(path, 0, 1),
                f"this file is larger than {MAX_SOURCE_BYTES:,} bytes",
                "split it into several files",
            )
        ]
    reader = parser()
    try:
        file = reader.parse(text, path)
        found = _keywords_as_names(reader, file)
        if reader.may_be_deep:
            file, deep = _shallow(file)
            found += deep
        return file, found
    except Unexpected:
        with no_collector():
            return _mended(reader, text, path)


def read_file(path: Path, shown: str | None = None) -> tuple[nodes.File, list[Diagnostic], str]:
    """The same from a file, with its text: reports what isn't UTF-8 with its line. `shown`: the path as the user named it.

    Raises OSError where the file can't be read."""
    name = shown if shown is not None else str(path)
    with path.open("rb") as stream:
        content = stream.read(MAX_SOURCE_BYTES + 1)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        if len(content) <= MAX_SOURCE_BYTES:
            return _undecodable(content, error, name)
        text = content.decode("utf-8", "replace")
    file, found = read(text, name)
    return file, found, text


def without_echoes(syntax: Sequence[Diagnostic], checked: Iterable[Diagnostic], sources: Mapping[str, str]) -> list[Diagnostic]:
    """What the checks say, without what only echoes a syntax error: they read a repaired line, and can but repeat that it is
    wrong; or they speak of a name that the repair made up (`x_`, `end_`). `sources`: the text of each file."""
    lines: dict[str, set[int]] = {}
    texts = {path: Source(path, text) for path, text in sources.items()}
    for item in syntax:
        if item.span.path in texts:
            lines.setdefault(item.span.path, set()).add(texts[item.span.path].place(item.span.start)[0])
    made_up = {word for item in checked for word in _MADE_UP.findall(f"{item.message} {item.help}")} if syntax else set()
    made_up = {word for word in made_up if not any(word in text for text in sources.values())}
    return [
        item
        for item in checked
        if (item.span.path not in lines or texts[item.span.path].place(item.span.start)[0] not in lines[item.span.path])
        and made_up.isdisjoint(_MADE_UP.findall(f"{item.message} {item.help}"))
    ]


def _undecodable(content: bytes, error: UnicodeDecodeError, path: str) -> tuple[nodes.File, list[Diagnostic], str]:
    """Reads on with a mark in the place of each bad byte, but says only that the file isn't UTF-8."""
    text = content.decode("utf-8", "replace")
    place = len(content[: error.start].decode("utf-8"))
    line = content.count(b"\n", 0, error.start) + 1
    found = Diagnostic(
        "not-utf-8",
        Span(path, place, place + 1),
        f"line {line} is not UTF-8: it has the byte 0x{content[error.start]:02x}",
        "save the file as UTF-8",
    )
    return _nothing(path, text), [found], text


def _nothing(path: str, text: str) -> nodes.File:
    return nodes.File(path, (), span=Span(path, 0, len(text)))


def cut(text: str, reader: Parser) -> list[int]:
    """Where the top-level blocks begin: lines whose first word is a top-level keyword. The first block begins at 0."""
    starts: list[int] = []
    fresh = True
    test: int | None = None  # indentation of the TEST that a line may belong to
    for match in reader.lexer.pattern.finditer(text):
        group = match.lastgroup
        if fresh and group == "NAME":
            word = match["NAME"]
            start = match.start("NAME")
            kind = reader.lexer.kinds(word)[0]
            if kind in TOP:
                line_start = text.rfind("\n", 0, start) + 1
                indent = start - line_start
                line = text[start : text.find("\n", start) + 1 or len(text)]
                # In a TEST an event happens FOR a contact; a declared one doesn't, even where TEST itself is misspelt.
                if not (kind == "EVENT" and (" for " in line.lower() or test is not None and indent > test)):
                    starts.append(line_start)
                    test = indent if kind == "TEST" else None
        if group != "COMMENT":
            fresh = group == "_NL"
    return [0, *(start for start in starts if start > 0)]


def _mended(reader: Parser, text: str, path: str) -> tuple[nodes.File, list[Diagnostic]]:
    """Reads block by block; repairs those that can't be parsed."""
    from rules_engine.syntax.mend import (
        Mender,  # not needed, and not loaded, for a text without errors
    )

    found: list[Diagnostic] = []
    items: list[nodes.Declaration] = []
    mender = Mender(reader, path, text)
    starts = cut(text, reader)
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        block = text[start:end]
        try:
            if len(starts) == 1:
                raise Unexpected(0, ((), "", 0, 0), [])  # the whole text is this block, and it was refused just now
            items += reader.parse(block, path, start).items
        except Unexpected:
            if len(found) >= MAX_DIAGNOSTICS_PER_FILE:
                continue
            diagnostics, patched = mender.mend(block, start)
            found += diagnostics
            if patched is not None:
                items += reader.parse(patched.text, path, places=patched.place).items
    file, deep = _shallow(nodes.File(path, tuple(items), span=Span(path, 0, len(text))))
    declared = _keywords_as_names(reader, file)
    names = {text[item.span.start : item.span.end] for item in declared}
    # Where a keyword is declared as a name, that is the cause; that its uses can't be read is a consequence.
    found = [item for item in found if item.name != "keyword-as-name" or text[item.span.start : item.span.end] not in names]
    return file, sorted(found + declared + deep, key=lambda item: item.span)[:MAX_DIAGNOSTICS_PER_FILE]


def _keywords_as_names(reader: Parser, file: nodes.File) -> list[Diagnostic]:
    """Declarations whose name is a keyword: some could be read here, but not everywhere, or would mean something else (`PER
    day`)."""
    found = []
    for item in file.items:
        if isinstance(item, _NAMED) and item.name in reader.lexer.words:
            found.append(
                Diagnostic(
                    "keyword-as-name",
                    item.name_span,
                    f"`{item.name}` is a keyword, so it can't be the name of anything",
                    f"take another name, such as `my_{item.name}`",
                )
            )
    return found


_NAMED = (nodes.Const, nodes.SegmentDeclaration)  # a campaign may be called `anniversary`: its name stands where no keyword can


# ── nesting
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

_LEVELS = (
    nodes.If,
    nodes.Wait,
    nodes.SplitBranch,
    nodes.Repeat,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Compare,
    nodes.Between,
    nodes.Arithmetic,
    nodes.Negative,
    nodes.List,
    nodes.Map,
)


def _shallow(file: nodes.File) -> tuple[nodes.File, list[Diagnostic]]:
    """The file without the items that nest deeper than MAX_NESTING, which no later tree walk needs to be made for."""
    found = []
    items = []
    for item in file.items:
        place = _too_deep(item)
        if place is None:
            items.append(item)
        else:
            found.append(
                Diagnostic(
                    "nested-too-deep",
                    place,
                    f"this is more than {MAX_NESTING} levels deep",
                    "take parts of it out, or name them: CONST, SEGMENT and FACT are for that",
                )
            )
    return (nodes.File(file.path, tuple(items), span=file.span) if found else file), found


def _too_deep(item: nodes.Node) -> Span | None:
    """Place of the first node below MAX_NESTING levels of blocks and operators. Iterative."""
    pending = [(item, 0)]
    while pending:
        node, depth = pending.pop()
        depth += isinstance(node, _LEVELS)
        if depth > MAX_NESTING:
            return node.span
        pending.extend((child, depth) for child in nodes.children(node))
    return None
