"""Rendering of message templates: Jinja2 in a sandbox, from files below `templates/` only. `email.py` describes the files.

Contact data is hostile and only ever a value; nothing of it is read as a template. Author's templates are bounded in what
they print and in the numbers they give to repetition and padding.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import (
    BaseLoader,
    StrictUndefined,
    Template,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
    UndefinedError,
    select_autoescape,
)
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_FILE_BYTES = 1_000_000
MAX_RENDERED = 1_000_000  # characters of one part; rules_engine.limits.MAX_RENDERED_BYTES, which a plugin can't import
MAX_WIDTH = 10_000  # padding, indentation, repetition

_NAME = re.compile(r"(?=.{1,200}$)[A-Za-z0-9_][\w-]*(?:\.[\w-]+)*(?:/[A-Za-z0-9_][\w-]*(?:\.[\w-]+)*)*", re.ASCII)
_HEADER = re.compile(r"(Subject|Preheader)[ \t]*:(.*)", re.IGNORECASE)
_PADDING = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs", "format", "format_map"})


class TemplateFault(Exception):
    """The template can't be rendered; the text is one sentence that says why."""


class Rendered(NamedTuple):
    """What a template gave; None for a part or header that it does not have."""

    text: str | None
    html: str | None
    subject: str | None
    preheader: str | None


def render(folder: Path, name: str, values: Mapping[str, Any], locale: Any = None) -> Rendered:
    """Renders NAME.txt and NAME.html, or their translation for `locale`, with `values`. Raises TemplateFault."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise TemplateFault(f"{str(name)[:80]!r} is no name of a template")
    environment = _environment(os.path.abspath(folder))
    name = translated(name, locale, lambda file: environment.files.exists(file))
    try:
        return _render(environment, name, {key: _facts(value) for key, value in values.items() if value is not None})
    except TemplateFault:
        raise
    except TemplateSyntaxError as error:
        raise TemplateFault(f"{_place(environment, error)}: {error.message}") from error
    except UndefinedError as error:
        raise TemplateFault(f"template {name!r}: {_missing(str(error))}") from error
    except (TemplateError, RecursionError, MemoryError) as error:
        raise TemplateFault(f"template {name!r}: {str(error)[:200] or type(error).__name__}") from error
    except Exception as error:  # the template's arithmetic on hostile data: 1 / 0, "a" + 1
        raise TemplateFault(f"template {name!r}: {type(error).__name__}: {str(error)[:200]}") from error


def translated(name: str, locale: Any, exists: Callable[[str], bool]) -> str:
    """The template's name for a locale: for de-AT the first of NAME.de-AT, NAME.de and NAME that has a file (RFC 4647 3.4: the tag is
    shortened from its end). Both parts come from the same one, so that a message is in one language."""
    for tag in tags(locale):
        if exists(f"{name}.{tag}.txt") or exists(f"{name}.{tag}.html"):
            return f"{name}.{tag}"
    return name


def tags(locale: Any) -> list[str]:
    """BCP 47 tags from the exact one to the language alone, written as files are named: de-AT, zh-Hant-TW. Also takes de_AT.UTF-8."""
    text = re.split(r"[.@]", locale.strip(), maxsplit=1)[0].replace("_", "-") if isinstance(locale, str) else ""
    if not re.fullmatch(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{1,8}){0,6}", text):
        return []
    parts = text.lower().split("-")
    for number, part in enumerate(parts[1:], 1):
        if len(parts[number - 1]) == 1:  # what follows a singleton is written small (RFC 5646 2.1.1)
            break
        parts[number] = part.title() if len(part) == 4 and part.isalpha() else part.upper() if len(part) == 2 else part
    found = []
    while parts:
        found.append("-".join(parts))
        parts = parts[:-2] if len(parts) > 2 and len(parts[-2]) == 1 else parts[:-1]
    return found


def _render(environment: _Environment, name: str, values: dict[str, Any]) -> Rendered:
    headers: dict[str, str] = {}
    files = [name + ending for ending in (".txt", ".html") if environment.files.exists(name + ending)]
    if not files:
        raise TemplateFault(f"there is no templates/{name}.txt and no templates/{name}.html")
    for file in files:
        for key, value in environment.files.read(file).headers.items():
            headers.setdefault(key, value)
    subject, preheader = (
        _print(environment.header(headers[key]), values) if headers.get(key) else None for key in ("subject", "preheader")
    )
    values = {"subject": subject, "preheader": preheader} | values
    parts = {file: _print(environment.get_template(file), values) for file in files}
    return Rendered(parts.get(name + ".txt"), parts.get(name + ".html"), subject, preheader)


def _print(template: Template, values: dict[str, Any]) -> str:
    """The template's output, given up as soon as it is too long."""
    pieces, room = [], MAX_RENDERED
    for piece in template.generate(values):
        room -= len(piece)
        if room < 0:
            raise TemplateFault(f"template {template.name!r} prints more than {MAX_RENDERED:,} characters")
        pieces.append(piece)
    return "".join(pieces)


def _place(environment: _Environment, error: TemplateSyntaxError) -> str:
    """File and line; Jinja counts from the body's first line, and a header's own template has no name."""
    if not error.name:
        return "the header block"
    return f"{error.name}, line {error.lineno + environment.files.read(error.name).skipped}"


def _missing(text: str) -> str:
    """Jinja's words for a missing value in ours."""
    match = re.search(r"Facts object' has no attribute '([^']*)'", text)
    return f"{match[1]!r} of the contact or event has no value" if match else text[:200]


# ---------------------------------------------------------------- values


class Facts(dict[str, Any]):
    """The contact or the event in a template: `contact.consent.email` finds the key `consent.email` or the nested one, and
    never a method of dict (`event.items` is a field)."""


def _facts(value: Any) -> Any:
    """A mapping with its dotted names unfolded and its missing values (None) left out, so that `default` works; others as
    they are."""
    if isinstance(value, (list, tuple)):
        return [_facts(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    facts = Facts()
    for name in sorted(map(str, value), key=lambda name: name.count(".")):
        item = value.get(name)
        if item is None:
            continue
        *above, last = name.split(".")
        place: Any = facts
        for part in above:
            place = place.setdefault(part, Facts())
            if not isinstance(place, Facts):  # `points` and `points.sales` both: the second by contact["points.sales"]
                place, last = facts, name
                break
        place.setdefault(last, _facts(item))
    return facts


def _show(value: Any) -> Any:
    """How a value is printed: 40.0 as 40, truth as in the language, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value


# ---------------------------------------------------------------- the sandbox


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def __init__(self, files: _Files) -> None:
        super().__init__(
            loader=files,
            undefined=StrictUndefined,
            finalize=_show,
            keep_trailing_newline=True,
            cache_size=200,
            autoescape=select_autoescape(("html",), default_for_string=False, default=False),
        )
        self.files = files
        self.header = lru_cache(maxsize=500)(self.from_string)  # a header's template, compiled once
        self.globals.pop("lipsum", None)  # both are random, and the same effect must render the same bytes
        self.filters.pop("random", None)
        for name in ("center", "indent", "wordwrap", "truncate", "batch", "slice"):
            self.filters[name] = _narrow(self.filters[name])
        self.filters["format"] = _no_wide_format(self.filters["format"])

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        if isinstance(obj, Facts):
            return self.undefined(obj=obj, name=attribute)
        if isinstance(obj, (str, bytes)) and attribute in _PADDING:
            return self.unsafe_undefined(obj, attribute)
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(argument, str) and isinstance(obj, (Facts, str, bytes)):
            return self.getattr(obj, argument)
        return super().getitem(obj, argument)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic, without what makes a small text or number huge."""
        if operator == "%" and isinstance(left, (str, bytes)):
            _no_wide(str(left))
        if operator == "**" and (not _small(left, 10**9) or not _small(right, 100)):
            raise SecurityError("the power is too large")
        if operator == "*":
            for one, other in ((left, right), (right, left)):
                if hasattr(one, "__len__") and isinstance(other, int) and len(one) * other > MAX_RENDERED:
                    raise SecurityError("the repetition is too long")
        if operator == "+" and hasattr(left, "__len__") and hasattr(right, "__len__") and len(left) + len(right) > MAX_RENDERED:
            raise SecurityError("the text is too long")
        return super().call_binop(context, operator, left, right)


def _small(value: Any, bound: float) -> bool:
    return not isinstance(value, (int, float)) or abs(value) <= bound


def _narrow(filter_: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, refusing numbers that ask for megabytes of blanks. Keeps Jinja's marks (pass_environment)."""

    def bounded(*args: Any, **kwargs: Any) -> Any:
        if any(isinstance(value, int) and value > MAX_WIDTH for value in (*args[1:], *kwargs.values())):
            raise SecurityError(f"a width is above {MAX_WIDTH:,}")
        return filter_(*args, **kwargs)

    bounded.__dict__.update(filter_.__dict__)
    return bounded


def _no_wide_format(filter_: Callable[..., Any]) -> Callable[..., Any]:
    def bounded(value: Any, *args: Any, **kwargs: Any) -> Any:
        _no_wide(str(value))
        return filter_(value, *args, **kwargs)

    bounded.__dict__.update(filter_.__dict__)
    return bounded


def _no_wide(pattern: str) -> None:
    if re.search(r"%[^%a-zA-Z]*(?:[0-9]{5,}|\*)", pattern):
        raise SecurityError("the format asks for too many characters")


# ---------------------------------------------------------------- files


class _File(NamedTuple):
    """One template file without its header block, which had `skipped` lines."""

    headers: dict[str, str]
    body: str
    skipped: int


class _Files(BaseLoader):
    """Files below one folder, without their header blocks. A changed file is read again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._base = f"{folder}{os.sep}"
        self._cache: dict[str, tuple[tuple[int, ...], _File]] = {}

    def exists(self, file: str) -> bool:
        return os.path.isfile(self._base + file)

    def read(self, file: str) -> _File:
        """Raises TemplateNotFound, TemplateFault."""
        mark = self._mark(file)
        known = self._cache.get(file)
        if known is None or known[0] != mark:
            known = self._cache[file] = (mark, split_header(self._load(file), file))
        return known[1]

    def get_source(self, environment: Any, template: str) -> tuple[str, str, Callable[[], bool]]:
        mark = self._mark(template)
        return self.read(template).body, template, lambda: self._mark(template) == mark

    def _mark(self, file: str) -> tuple[int, ...]:
        """Tells one state of a file from another; where the file really is is judged when it is loaded, once for each state."""
        if not isinstance(file, str) or not _NAME.fullmatch(file):
            return (0, -1)
        try:
            status = os.stat(self._base + file)
        except OSError:
            return (0, -1)
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _path(self, file: str) -> Path:
        if not isinstance(file, str) or not _NAME.fullmatch(file):
            raise TemplateNotFound(str(file)[:80], f"{str(file)[:80]!r} is no file below templates/")
        path = (self.folder / file).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            raise TemplateNotFound(file, f"{file!r} leads out of the templates folder")
        return path

    def _load(self, file: str) -> str:
        try:
            with self._path(file).open("rb") as stream:
                data = stream.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise TemplateNotFound(file, f"{file!r} can't be read: {error.strerror or error}") from error
        if len(data) > MAX_FILE_BYTES:
            raise TemplateFault(f"{file!r} has more than {MAX_FILE_BYTES:,} bytes")
        try:
            return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        except UnicodeDecodeError as error:
            raise TemplateFault(f"{file!r} is not in UTF-8") from error


def split_header(text: str, file: str = "") -> _File:
    """The headers by lower-case name, and the body, of one file. Raises TemplateFault for a block that does not end with an
    empty line."""
    headers: dict[str, str] = {}
    lines = text.split("\n")
    count = 0
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            break
        count += 1
        if match[1].lower() in headers:
            raise TemplateFault(f"{file}, line {count}: the header {match[1]} is given twice")
        headers[match[1].lower()] = match[2].strip()
    if not count:
        return _File({}, text, 0)
    if count < len(lines) and lines[count].strip():
        raise TemplateFault(
            f"{file}, line {count + 1}: the header block ends with an empty line; its headers are Subject and Preheader"
        )
    return _File(headers, "\n".join(lines[count + 1 :]), count + 1)


@lru_cache(maxsize=16)
def _environment(folder: str) -> _Environment:
    """Compiled templates are kept for each folder; a changed file is compiled again (_Files.get_source)."""
    return _Environment(_Files(Path(folder)))
