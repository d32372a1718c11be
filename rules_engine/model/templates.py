"""What a message template needs: `read_template` tells the checker which values its placeholders ask for, and what is wrong.

The files are those of the e-mail plugin: `templates/NAME.txt` and `templates/NAME.html`, Jinja2, with an optional header block
(`Subject: …`, `Preheader: …`, then an empty line). The plugin renders them and may not import this module, so the little that
both must agree on (header block, names, limits) stands in both; tests/plugins/test_templates_agree.py compares them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rules_engine.limits import MAX_SOURCE_BYTES

if TYPE_CHECKING:
    from jinja2 import Environment, nodes

ENDINGS = (".txt", ".html")
BUILTIN_NAMES = frozenset({"contact", "event", "campaign", "subject", "preheader", "unsubscribe_url", "preferences_url", "view_url"})
"""Placeholders that Camp fills in; every other free name is an argument of the action."""

LOCALE = re.compile(r"[a-z]{2,3}(?:-[A-Z][a-z]{3})?(?:-(?:[A-Z]{2}|[0-9]{3}))?")
"""How a translation's file is named after the template: `welcome.de.txt`, `welcome.zh-Hant-TW.html` (BCP 47, in its usual case)."""

_NAME = re.compile(r"(?=.{1,200}$)[A-Za-z0-9_][\w-]*(?:\.[\w-]+)*(?:/[A-Za-z0-9_][\w-]*(?:\.[\w-]+)*)*", re.ASCII)
_HEADER = re.compile(r"(Subject|Preheader)[ \t]*:(.*)", re.IGNORECASE)


class TemplateInfo(NamedTuple):
    """What is known of one template.

    names: free placeholders that arguments of the action must fill. contact_fields, event_fields: attributes of the contact
    and fields of the event, nested ones with dots (`consent.email`). optional: those of all three (`code`,
    `contact.first_name`, `event.total`) that are guarded by `default` or `is defined` and may be missing. has_subject: a
    header block gives one. files: every file read, relative to the folder. problems: (file, line from 1, one lower-case
    sentence).
    """

    exists: bool
    names: frozenset[str] = frozenset()
    contact_fields: frozenset[str] = frozenset()
    event_fields: frozenset[str] = frozenset()
    files: tuple[str, ...] = ()
    problems: tuple[tuple[str, int, str], ...] = ()
    optional: frozenset[str] = frozenset()
    has_subject: bool = False


class Parts(NamedTuple):
    """One template file, cut up. headers: key -> (line, text). body_line: the line on which the body begins, from 1."""

    headers: dict[str, tuple[int, str]]
    body: str
    body_line: int
    problems: tuple[tuple[int, str], ...]


def split_header(text: str) -> Parts:
    """Takes the header block off a template's text. A file whose first line is no known header has no block."""
    lines = text.split("\n")
    headers: dict[str, tuple[int, str]] = {}
    problems: list[tuple[int, str]] = []
    count = 0
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            break
        count += 1
        key = match[1].lower()
        if key in headers:
            problems.append((count, f"the header {match[1]} is given twice"))
        headers.setdefault(key, (count, match[2].strip()))
    if not count:
        return Parts({}, text, 1, ())
    if count < len(lines) and lines[count].strip():
        problems.append((count + 1, "the header block ends with an empty line; its headers are Subject and Preheader"))
        return Parts(headers, "\n".join(lines[count:]), count + 1, tuple(problems))
    return Parts(headers, "\n".join(lines[count + 1 :]), count + 2, tuple(problems))


def read_template(folder: Path, name: str) -> TemplateInfo:
    """Reads the template `name` below `folder` with all that it includes. Never raises for what stands in the files."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return TemplateInfo(False, problems=((str(name), 1, "a template's name has letters, digits, _, - and / only"),))
    reader = _Reader(folder)
    top = [name + ending for ending in ENDINGS if (folder / (name + ending)).is_file()]
    for file in top:
        reader.read(file, 1, file)
    if top:
        reader.translations(name)
    return reader.info(bool(top))


def translations(folder: Path, name: str) -> dict[str, list[str]]:
    """Locale -> the files of the template's translation into it."""
    found: dict[str, list[str]] = {}
    try:
        files = sorted(path.name for path in (folder / name).parent.iterdir())
    except OSError:
        return {}
    for file in files:
        stem, dot, ending = file.rpartition(".")
        base, _, locale = stem.rpartition(".")
        if dot and "." + ending in ENDINGS and base == name.rpartition("/")[2] and LOCALE.fullmatch(locale):
            found.setdefault(locale, []).append(name.rpartition("/")[0] + "/" * ("/" in name) + file)
    return found


class _Reader:
    """Follows one template through its files and gathers what they use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = _environment()
        self.free: dict[str, set[str]] = {}  # file -> its undeclared names
        self.assigned: set[str] = set()  # names that some file sets; an included file may rely on them
        self.included: set[str] = set()
        self.used: set[str] = set()  # "code", "contact.first_name", "event.total", unguarded
        self.guarded: set[str] = set()
        self.defined: set[str] = set()  # asked for by `is defined`: guarded wherever it is used
        self.problems: list[tuple[str, int, str]] = []
        self.files: list[str] = []
        self.has_subject = False

    def info(self, exists: bool) -> TemplateInfo:
        free: set[str] = set()
        for file, names in self.free.items():
            free |= names - self.assigned if file in self.included else names
        free -= BUILTIN_NAMES
        paths = self.used | self.guarded | self.defined
        optional = {path for path in paths if path in self.defined or path not in self.used}
        known = free | {path for path in paths if path.startswith(("contact.", "event."))}
        return TemplateInfo(
            exists,
            frozenset(free),
            _below("contact.", paths),
            _below("event.", paths),
            tuple(self.files),
            tuple(sorted(set(self.problems))),
            frozenset(optional & known),
            self.has_subject,
        )

    def translations(self, name: str) -> None:
        """What the template's translations use counts as used by it; one without a subject, where the template has one, could not be
        sent."""
        has_subject = self.has_subject
        for files in translations(self.folder, name).values():
            self.has_subject = False
            for file in sorted(files, key=lambda file: not file.endswith(ENDINGS[0])):
                self.read(file, 1, file)
            if has_subject and not self.has_subject:
                self.problems.append((files[0], 1, f"the translation has no subject, and {name} has: begin it with `Subject: …`"))
        self.has_subject = has_subject

    def read(self, file: str, line: int, asked_by: str) -> None:
        """One file and all it names. `line` of `asked_by` is where a missing file is reported."""
        if file in self.files:
            return
        text, problem = _load(self.folder, file)
        if problem:
            self.problems.append((asked_by, line, problem))
            return
        self.files.append(file)
        parts = split_header(text)
        self.problems += [(file, number, message) for number, message in parts.problems]
        self.has_subject |= bool(parts.headers.get("subject", (0, ""))[1])
        for number, value in parts.headers.values():
            self._source(file, value, number)
        self._source(file, parts.body, parts.body_line)

    def _source(self, file: str, source: str, first_line: int) -> None:
        from jinja2 import TemplateSyntaxError, meta

        try:
            tree = self.environment.parse(source)
            self.free.setdefault(file, set()).update(meta.find_undeclared_variables(tree) - set(self.environment.globals))
        except TemplateSyntaxError as error:
            self.problems.append((file, error.lineno + first_line - 1, _sentence(error.message or "it can't be read")))
            return
        except RecursionError:
            self.problems.append((file, first_line, "it is nested too deeply"))
            return
        self._uses(tree)
        for target, line in _references(tree):
            if target is None:
                self.problems.append(
                    (file, line + first_line - 1, "the file to include must be named by a text, so that it can be checked")
                )
            else:
                self.included.add(target)
                self.read(target, line + first_line - 1, file)

    def _uses(self, tree: nodes.Template) -> None:
        from jinja2 import nodes

        for name in tree.find_all(nodes.Name):
            if name.ctx in ("store", "param"):
                self.assigned.add(name.name)
        for macro in tree.find_all(nodes.Macro):
            self.assigned.add(macro.name)
        for module in tree.find_all(nodes.Import):
            self.assigned.add(module.target)
        for imported in tree.find_all(nodes.FromImport):
            self.assigned.update(name if isinstance(name, str) else name[1] for name in imported.names)
        self._walk(tree, False)

    def _walk(self, node: Any, guarded: bool) -> None:
        """Adds the longest path of each variable: contact.consent.email once, not contact, contact.consent and it."""
        from jinja2 import nodes

        if isinstance(node, (nodes.Getattr, nodes.Getitem, nodes.Name)):
            path = _path(node)
            if path:
                (self.guarded if guarded else self.used).add(path)
                return
        if isinstance(node, nodes.Filter) and node.name in ("default", "d") and node.node is not None:
            self._walk(node.node, True)
            for child in (*node.args, *node.kwargs):
                self._walk(child, guarded)
            return
        if isinstance(node, nodes.Test) and node.name in ("defined", "undefined") and _path(node.node):
            self.defined.add(_path(node.node))
            return
        if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr):
            self._walk(node.node.node, guarded)  # contact.name.upper(): upper is a method, no field
            for child in (*node.args, *node.kwargs):
                self._walk(child, guarded)
            return
        for child in node.iter_child_nodes():
            self._walk(child, guarded)


def _path(node: Any) -> str:
    """The dotted path of a variable's use (`contact.consent.email`), or "" for anything else."""
    from jinja2 import nodes

    if isinstance(node, nodes.Name):
        return node.name if node.ctx == "load" else ""
    if isinstance(node, nodes.Getattr):
        base = _path(node.node)
        return f"{base}.{node.attr}" if base else ""
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
        base = _path(node.node)
        return f"{base}.{node.arg.value}" if base else ""
    return ""


def _below(prefix: str, paths: set[str]) -> frozenset[str]:
    return frozenset(path[len(prefix) :] for path in paths if path.startswith(prefix))


def _references(tree: nodes.Template) -> Iterator[tuple[str | None, int]]:
    """(file or None if it is computed, line) for each include, extends and import."""
    from jinja2 import nodes

    for node in tree.find_all((nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport)):
        target: Any = getattr(node, "template", None)
        values: Any = target.value if isinstance(target, nodes.Const) else None
        if isinstance(target, (nodes.List, nodes.Tuple)):
            values = [item.value if isinstance(item, nodes.Const) else None for item in target.items]
        for value in values if isinstance(values, (list, tuple)) else [values]:
            yield (value if isinstance(value, str) else None), node.lineno


def _load(folder: Path, file: str) -> tuple[str, str]:
    """(text, "") or ("", problem) for one file below `folder`; a link that leads out of it is refused."""
    if not _NAME.fullmatch(file):
        return "", f"{file!r} is no file below templates/"
    root = folder.resolve()
    path = (folder / file).resolve()
    if not path.is_relative_to(root):
        return "", f"{file!r} leads out of the templates folder"
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_SOURCE_BYTES + 1)
    except OSError as error:
        return "", f"{file!r} can't be read: {(error.strerror or 'it is no file').lower()}"
    if len(data) > MAX_SOURCE_BYTES:
        return "", f"{file!r} has more than {MAX_SOURCE_BYTES:,} bytes"
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n"), ""
    except UnicodeDecodeError:
        return "", f"{file!r} is not in UTF-8"


def _environment() -> Environment:
    """Only to parse with: the same names of filters and globals as the plugin's, which renders."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment()
    environment.globals.pop("lipsum", None)  # both are random, and the same effect must render the same bytes
    environment.filters.pop("random", None)
    return environment


def _sentence(text: str) -> str:
    """Jinja's message as one lower-case sentence."""
    text = " ".join(text.split()).rstrip(".")
    return text[:1].lower() + text[1:]
