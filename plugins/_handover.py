"""What the first-party transports share: files written once for each effect, payloads as JSON, ids derived from the effect's
key.

Only imported when something is handed over. Imports nothing of Camp but the public seam.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from rules_engine.plugin import Call, Outcome, handle
from rules_engine_plugins._settings import unknown_transport, wrong_delivery

# ---------------------------------------------------------------- names


def effect_id(call: Call) -> str:
    """The effect's name for the world: the same for every attempt, and safe in any header or file name."""
    return handle(call.key)


def digest(*parts: Any) -> str:
    """128 bits, in 32 hexadecimal digits, of the parts; `("a", "bc")` and `("ab", "c")` differ."""
    joined = json.dumps([str(part) for part in parts]).encode("utf-8", "surrogatepass")
    return hashlib.sha256(joined).hexdigest()[:32]


def folder_of(call: Call) -> Path:
    """The folder for what is handed over without a provider; relative settings count from the project."""
    return call.project / str(call.settings.get("folder") or "outbox")


# ---------------------------------------------------------------- JSON


def to_json(value: Any) -> str:
    """One line of JSON. Dates are ISO 8601, durations seconds, what JSON does not know is text; never raises, never NaN."""
    return json.dumps(_plain(value), ensure_ascii=False, separators=(", ", ": "), allow_nan=False)


def _plain(value: Any, depth: int = 0) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= 1_000 else None  # Python refuses to write numbers of 4,300 digits
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode() if not value.isascii() else value
    if depth > 60:  # a structure that contains itself
        return None
    if isinstance(value, Mapping):
        return {str(_plain(str(name))): _plain(item, depth + 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, (set, frozenset)):
        return [_plain(item, depth + 1) for item in sorted(value, key=str)]
    return _moment(value) if isinstance(value, (date, time, timedelta)) else _plain(str(value), depth + 1)


def _moment(value: date | time | timedelta) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return instant(value) if isinstance(value, datetime) and value.tzinfo else value.isoformat()


def instant(moment: datetime) -> str:
    """An aware moment as UTC text."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


# ---------------------------------------------------------------- files


def write_once(folder: Path, name: str, data: bytes, sync: bool = True) -> bool:
    """Writes one file so that it is there whole or not at all, power cut included. False: it was there. Raises OSError."""
    final = folder / name
    if final.exists():
        return False
    _make_folder(folder, sync)
    draft = folder / f".{name}.{os.getpid()}.tmp"
    try:
        _write(draft, data, sync)
        os.replace(draft, final)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    if sync:
        _sync_folder(folder)
    return True


def _write(path: Path, data: bytes, sync: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        if sync:
            os.fsync(descriptor)


def _make_folder(folder: Path, sync: bool) -> None:
    if folder.is_dir():
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if sync:
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Makes the new name itself durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_seen: dict[str, tuple[int, int, set[bytes]]] = {}
"""A cache, never the truth: file -> (inode, bytes read so far, keys in them). Used and changed under the file's lock only."""


def append_once(file: Path, key: str, record: Mapping[str, Any], sync: bool = True) -> bool:
    """Appends {"key": key, **record} as one line, unless a line with that key is there (False). Raises OSError.

    The file's lock keeps processes and threads apart. A line that a crash tore is no hand-over: it is cut off. A line is only
    read once.
    """
    _make_folder(file.parent, sync)
    line = to_json({"key": key, **record}).encode() + b"\n"
    with _locked(file) as descriptor:
        keys, end = _keys(str(file), descriptor)
        mark = hashlib.sha256(key.encode("utf-8", "replace")).digest()[:16]
        if mark in keys:
            return False
        try:
            _write_all(descriptor, line, end)
            if sync:
                os.fsync(descriptor)
            if sync and end == 0:
                _sync_folder(file.parent)
        except BaseException:
            os.ftruncate(descriptor, end)  # a full disk: leave no half line
            raise
        keys.add(mark)
        _seen[str(file)] = (os.fstat(descriptor).st_ino, end + len(line), keys)
    return True


@contextmanager
def _locked(file: Path) -> Iterator[int]:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _keys(name: str, descriptor: int) -> tuple[set[bytes], int]:
    """(marks of all keys in the file, where its last whole line ends)."""
    status = os.fstat(descriptor)
    inode, offset, keys = _seen.get(name, (0, 0, set()))
    if inode != status.st_ino or offset > status.st_size:  # another file, or a shorter one: begin again
        offset, keys = 0, set()
    tail = os.pread(descriptor, status.st_size - offset, offset) if status.st_size > offset else b""
    if tail and not tail.endswith(b"\n"):
        tail = _mend(descriptor, offset, tail)
    for line in tail.splitlines():
        key = _key(line)
        if key is not None:
            keys.add(hashlib.sha256(key.encode("utf-8", "replace")).digest()[:16])
    _seen[name] = (status.st_ino, offset + len(tail), keys)
    return keys, offset + len(tail)


def _mend(descriptor: int, offset: int, tail: bytes) -> bytes:
    """Ends a last line that is whole, and cuts one that is not."""
    last = tail[tail.rfind(b"\n") + 1 :]
    if _key(last) is not None:
        os.pwrite(descriptor, b"\n", offset + len(tail))
        return tail + b"\n"
    os.ftruncate(descriptor, offset + len(tail) - len(last))
    return tail[: len(tail) - len(last)]


def _key(line: bytes) -> str | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    key = record.get("key") if isinstance(record, dict) else None
    return str(key) if key is not None else None


def to_file(call: Call, channel: str, record: Mapping[str, Any]) -> Outcome:
    """The `folder` transport: one line in CHANNEL.jsonl. Idempotent by key, for ever."""
    file = folder_of(call) / f"{channel}.jsonl"
    try:
        fresh = append_once(
            file, call.key, {"at": instant(call.at), "action": call.action, **record}, bool(call.settings.get("fsync", True))
        )
    except OSError as error:
        return Outcome("retry", f"{file.name} can't be written: {error.strerror or error}")
    return Outcome("accepted", f"written to {file.name}" if fresh else f"was already in {file.name}", effect_id(call))


# ---------------------------------------------------------------- hand-over


def deliver(call: Call, channel: str, record: Mapping[str, Any]) -> Outcome:
    """Hands one record to the transport of the settings: "folder" or "webhook"."""
    transport = call.settings.get("transport", "folder")
    if transport == "folder":
        return to_file(call, channel, record)
    wrong = next(wrong_delivery(call.settings, ("folder", "webhook")), "")
    if wrong:
        return Outcome("failed" if transport != "webhook" else "retry", wrong)
    from rules_engine_plugins import _http

    url = str(call.settings["url"])
    headers = {}
    if call.settings.get("token"):
        headers["Authorization"] = f"Bearer {call.settings['token']}"
    body = {"type": call.action, "id": effect_id(call), "timestamp": instant(call.at), "data": record}
    return _http.hand_over(call, "POST", url, headers, to_json(body).encode())


def request(call: Call) -> Outcome:
    """`webhook.post`: one request as the campaign's author wrote it."""
    from rules_engine_plugins import _http

    method = str(call.params.get("method") or "POST").upper()
    url, headers, body = call.primary, call.params.get("headers") or {}, call.params.get("body")
    if method in ("POST", "PUT", "PATCH") and body is None:
        body = {}
    problem = _http.problem_of(method, url, headers)
    if problem:
        return Outcome("failed", problem)
    transport = call.settings.get("transport", "folder")
    if transport == "folder":
        return to_file(
            call,
            "webhook",
            {
                "method": method,
                "url": url,
                "headers": headers,
                "body": body,
                "campaign": call.campaign,
                "contact": call.contact.get("id"),
            },
        )
    unknown = unknown_transport(call.settings, ("folder", "http"))
    if unknown:
        return Outcome("failed", unknown)
    data = None if body is None else to_json(body).encode()
    return _http.hand_over(
        call, method, url, {name: str(value) for name, value in headers.items()}, data, seconds(call.params.get("timeout"))
    )


def seconds(value: Any) -> float | None:
    """A duration argument in seconds, or None if there is none."""
    value = value.total_seconds() if hasattr(value, "total_seconds") else value
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0
    return float(value) if usable else None


def idempotency(settings: Mapping[str, Any]) -> str:
    """Says "key" where a repeated key is harmless: into files, or to receivers that all are said to recognise it; else "none"."""
    recognises = settings.get("transport", "folder") == "folder" or settings.get("deduplicates") is True
    return "key" if recognises else "none"
