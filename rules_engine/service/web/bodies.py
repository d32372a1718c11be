"""A request's body: its size, its speed, its packing, its format. What is too much is refused before it is read."""

from __future__ import annotations

import asyncio
import io
import zlib
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request

from rules_engine.limits import MAX_BODY_BYTES, MAX_BODY_SECONDS, MAX_DATA_NESTING, MAX_EVENT_BYTES, MAX_FORM_BYTES, MAX_FORM_FIELDS, MAX_ITEMS
from rules_engine.service.ingest import Line, json_line, json_lines, json_reason, too_deep
from rules_engine.service.web.problems import Problem

JSON = "application/json"
LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


def media(request: Request) -> str:
    """The content type without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read(request: Request, limit: int = MAX_BODY_BYTES, seconds: float = MAX_BODY_SECONDS) -> bytes:
    """The body, unpacked. Raises Problem: 413 too large, 415 packed otherwise, 400 torn, 408 too slow."""
    said = request.headers.get("content-length", "")
    if said.isdigit() and int(said) > limit:
        raise _too_large(limit)
    packing = request.headers.get("content-encoding", "").strip().lower()
    if packing not in ("", "identity", "gzip"):
        raise Problem(415, "unknown-encoding", f"the body is packed as {packing[:40]!r}; gzip is understood", {"Accept-Encoding": "gzip"})
    pieces, size = [], 0
    unpack = zlib.decompressobj(31) if packing == "gzip" else None
    try:
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                if unpack is not None:
                    piece = unpack.decompress(piece, limit + 1 - size)
                size += len(piece)
                if size > limit or (unpack is not None and unpack.unconsumed_tail):
                    raise _too_large(limit)
                pieces.append(piece)
    except TimeoutError:
        raise Problem(408, "too-slow", f"the body did not come within {seconds:g} seconds", {"Connection": "close"}) from None
    except zlib.error as error:
        raise Problem(400, "torn-body", f"the body is no gzip: {error}") from None
    except ClientDisconnect:
        raise Problem(400, "torn-body", "the client went away") from None
    if unpack is not None and size and not unpack.eof:
        raise Problem(400, "torn-body", "the gzip body ends too early")
    return b"".join(pieces)


def _too_large(limit: int) -> Problem:
    return Problem(413, "body-too-large", f"the body is larger than {limit:,} bytes; send it in pieces", {"Connection": "close"})


async def items(request: Request) -> tuple[list[Line], bool]:
    """The records of a body, and whether it is a single one (a JSON object). Raises Problem."""
    kind = media(request)
    if kind == JSON:
        return _json(await read(request))
    if kind in LINES:
        lines = []
        for line in json_lines(io.BytesIO(await read(request))):
            lines.append(line)
            if len(lines) > MAX_ITEMS:
                raise _too_many()
        return lines, False
    raise Problem(415, "unknown-format", f"the content type is {kind[:60]!r}; send {JSON} (an object or a list) or {LINES[0]} (one object a line)")


def _too_many() -> Problem:
    return Problem(413, "too-many-items", f"there are more than {MAX_ITEMS:,} items in one request; send them in pieces")


def json_body(body: bytes) -> Any:
    """The value of a JSON body. Raises Problem: 400 no JSON, 422 nested too deeply."""
    value = _parsed(body)
    if too_deep(value):
        raise Problem(422, "too-deep", f"the body is nested more than {MAX_DATA_NESTING} levels deep")
    return value


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        raise Problem(400, "no-json", json_reason(body, error).replace("the line", "the body")) from None


def _json(body: bytes) -> tuple[list[Line], bool]:
    value = _parsed(body)
    if isinstance(value, dict):
        if len(body) > MAX_EVENT_BYTES:
            return [Line(1, "", None, f"it is longer than {MAX_EVENT_BYTES:,} bytes")], True
        return [json_line(1, "", value, "item")], True
    if not isinstance(value, list):
        raise Problem(422, "no-items", "the body is neither an object nor a list of objects")
    if len(value) > MAX_ITEMS:
        raise _too_many()
    careful = len(body) > MAX_EVENT_BYTES  # a smaller body has no item that is too long
    return [_item(number, item, careful) for number, item in enumerate(value, 1)], False


def _item(number: int, item: Any, careful: bool) -> Line:
    line = json_line(number, "", item, "item")
    if careful and line.record is not None and len(orjson.dumps(item)) > MAX_EVENT_BYTES:
        return Line(number, "", None, f"the item is longer than {MAX_EVENT_BYTES:,} bytes")
    return line


async def fields(request: Request) -> tuple[dict[str, str], bytes]:
    """The fields of a posted form (urlencoded, multipart without files, or JSON of texts), and the raw body. Of a field that comes twice
    the last counts. Raises Problem."""
    kind = media(request)
    if kind not in (*FORMS, JSON):
        raise Problem(415, "unknown-format", f"the content type is {kind[:60]!r}; a form is {FORMS[0]}, {FORMS[1]} or {JSON}")
    body = await read(request, MAX_FORM_BYTES)
    if kind == JSON:
        return _texts(json_body(body)), body
    try:
        form = await Request(request.scope, _again(body)).form(max_files=0, max_fields=MAX_FORM_FIELDS, max_part_size=MAX_FORM_BYTES)
    except (MultiPartException, HTTPException) as error:
        raise Problem(400, "torn-form", f"the form can't be read: {getattr(error, 'message', None) or getattr(error, 'detail', error)}") from None
    except (ValueError, KeyError, UnicodeError) as error:
        raise Problem(400, "torn-form", f"the form can't be read: {error}") from None
    if len(form) > MAX_FORM_FIELDS:
        raise Problem(413, "too-many-fields", f"the form has more than {MAX_FORM_FIELDS} fields")
    return {name: value for name, value in form.multi_items() if isinstance(value, str)}, body


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or len(value) > MAX_FORM_FIELDS:
        raise Problem(422, "no-fields", f"the body must be an object of at most {MAX_FORM_FIELDS} fields")
    found = {}
    for name, item in value.items():
        if isinstance(item, dict | list):
            raise Problem(422, "no-text", f"the field {name[:60]!r} is no text")
        if item is not None:
            found[name] = item if isinstance(item, str) else ("yes" if item else "no") if isinstance(item, bool) else str(item)
    return found


def _again(body: bytes) -> Any:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
