"""What the service says: one line for each thing, for people or as JSON, without personal data, and seldom the same.

A record's ids are given as `extra=about(…)`; they become fields of the JSON line. What a provider or a plugin said may quote
addresses: they are taken out, and so is everything that could break a line or move a terminal's cursor. Contact ids are kept, because
without them nobody finds anything; one that is an address is replaced by a hash.
"""

from __future__ import annotations

import hashlib
import json
import logging
import logging.handlers
import re
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from rules_engine.clock import Clock

SAME = 3  # reports of one cause within HOUR
HOUR = 3_600_000
CAUSES = 2_000  # that are remembered; more and counting begins anew
LONGEST = 1_000  # characters of a message
FIELDS = ("contact", "campaign", "event", "effect", "action", "plugin", "file")
LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")

_ADDRESS = re.compile(r"(?<!postgresql://)(?<!postgres://)(?<![^\s<>()\[\]{},;:\"'/|=])[^\s<>()\[\]{},;:\"'/|=]+@[^\s<>()\[\]{},;:\"'/|=]+")
_PHONE = re.compile(r"(?<!\w)\+\d[\d ()./-]{5,}\d")


def about(**ids: Any) -> dict[str, Any]:
    """`extra` for a log call: contact, campaign, event, effect, action, plugin, file; `what`: the name of what happened, such as
    effect.unknown."""
    return {f"camp_{name}": value for name, value in ids.items() if value is not None}


def safe(text: str) -> str:
    """One printable line without addresses and telephone numbers."""
    line = "".join(c if c.isprintable() else " " if c in "\n\r\t" else "?" for c in text)
    line = _PHONE.sub("(number)", _without_addresses(line, lambda found: "(address)"))
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def named(value: Any) -> str:
    """An id as a field: an address is a hash of itself; the rest is one printable piece."""
    text = _without_addresses(str(value), lambda found: "id-" + hashlib.sha256(found.encode("utf-8", "replace")).hexdigest()[:12])
    return "".join(c if c.isprintable() else "?" for c in text)[:500]


def _without_addresses(text: str, instead: Callable[[str], str]) -> str:
    """The text with what `instead` makes of each address. In a firing's name (`0@http:8fde…`) a number stands before the @."""

    def judge(match: re.Match[str]) -> str:
        name, _, host = match[0].rpartition("@")
        numbered = name.isdigit() and not re.search(r"\.[^\W\d_]{2,}$", host)
        return match[0] if numbered else instead(match[0])

    return _ADDRESS.sub(judge, text)


class Seldom(logging.Filter):
    """One cause can fail for ten thousand contacts: it is told three times an hour, the outbox has all of them. Errors always pass."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock, self._since, self._told = clock, 0, Counter[tuple[str, ...]]()

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging.Filter."""
        reason = str(record.args[-1]) if isinstance(record.args, tuple) and record.args else ""
        if record.levelno >= logging.ERROR or not reason:
            return True
        now = self._clock.now()
        if now - self._since > HOUR or len(self._told) > CAUSES:
            self._since, self._told = now, Counter()
        cause = (record.name, str(record.msg), reason)
        self._told[cause] += 1
        if self._told[cause] == SAME + 1:
            record.msg, record.args = "and more of the same: %s", (reason,)
        return self._told[cause] <= SAME + 1


class Line(logging.Formatter):
    """`text`: LEVEL logger: message. `json`: one object."""

    def __init__(self, form: str, clock: Clock) -> None:
        super().__init__()
        self._form, self._clock = form, clock

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        message = safe(_text(record))
        failure = _failure(record)
        if self._form == "text":
            return f"{record.levelname} {record.name}: {message}" + (f" ({failure})" if failure else "")
        from rules_engine.runtime.calendar import format_utc

        line: dict[str, Any] = {
            "time": format_utc(self._clock.now()),
            "level": record.levelname.lower(),
            "what": getattr(record, "camp_what", record.name.removeprefix("camp.")),
            "message": message,
        }
        for name in FIELDS:
            value = getattr(record, f"camp_{name}", None)
            if value is not None:
                line[name] = named(value)
        if failure:
            line["failure"] = failure
        return json.dumps(line, ensure_ascii=False)


def _text(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # a plugin's own log call may be wrong; that is no reason to lose the line
        return str(record.msg)


def _failure(record: logging.LogRecord) -> str:
    """An exception in one line: what and where; its text may hold anything, so it is cleaned too."""
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    error = record.exc_info[1]
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    return safe(f"{type(error).__name__}: {str(error)[:300]} at {places}")


def set_up(
    clock: Clock, form: str = "text", level: str = "warning", file: Path | None = None, stream: TextIO | None = None
) -> logging.Handler:
    """Sends Camp's log to stderr, or appends it to a file, which may be renamed by logrotate at any time. Raises OSError."""
    handler: logging.Handler
    if file is not None:
        handler = logging.handlers.WatchedFileHandler(file, encoding="utf-8", errors="backslashreplace")
    else:
        handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Line(form, clock))
    handler.addFilter(Seldom(clock))
    logger = logging.getLogger("camp")
    for old in logger.handlers:  # as often as the command is called in one process
        if isinstance(old, logging.FileHandler):
            old.close()
    logger.handlers[:] = [handler]
    logger.setLevel(getattr(logging, level.upper()))
    logger.propagate = False
    return handler
