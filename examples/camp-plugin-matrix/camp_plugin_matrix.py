"""`matrix.post`: says something in a Matrix room (Client-Server API v1, https://spec.matrix.org).

Settings (`[matrix]` of camp.toml):
    url      the home server, https://… (http:// only on this machine)
    token    the access token of the account that speaks; from the environment, CAMP_MATRIX_TOKEN
    room     where to post when the action does not say: "!id:server"
    timeout  seconds for each step on the line (default 10, at most 20)

A home server acts once on a transaction id that comes again with the same token: that is the idempotency key. Synapse forgets it after
half an hour; after that, `look_up` reads the room.
"""

import http.client
import json
import re
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from rules_engine.plugin import Action, Call, EventType, Outcome, Parameter, handle, hookimpl

MAX_CHARACTERS = 10_000
MAX_BYTES = 1_000_000  # of an answer
LOCAL = ("127.0.0.1", "localhost", "::1")


class Answer(NamedTuple):
    """What came back. status 0: nothing did, for this reason; sent: the request may have arrived."""

    status: int
    body: Any = None
    reason: str = ""
    sent: bool = True
    retry_after: float | None = None


def post(call: Call) -> Outcome:
    """Hands over one message."""
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", " ", str(call.primary if call.primary is not None else "")).strip()
    if not text or len(text) > MAX_CHARACTERS:
        return Outcome("failed", f"the text has {len(text)} characters; 1 to {MAX_CHARACTERS} are taken")
    room = _room(call)
    if room is None:
        return Outcome("failed", 'no room: give room: "!id:server", or the setting `room`')
    message = {"msgtype": "m.notice" if call.params.get("quiet") is True else "m.text", "body": text}
    answer = _ask(call, "PUT", f"/rooms/{quote(room, safe='')}/send/m.room.message/{handle(call.key)}", message)
    if answer.status == 200:
        name = answer.body.get("event_id") if isinstance(answer.body, dict) else None
        return Outcome("accepted", "the home server has it", str(name or "")[:200])
    return _not_accepted(answer)


def look_up(call: Call) -> Outcome:
    """What became of a message, by the room's latest 100: the server tells the sender the transaction id of what it sent."""
    room = _room(call)
    if room is None:
        return Outcome("unknown", "the room is not known any more")
    answer = _ask(call, "GET", f"/rooms/{quote(room, safe='')}/messages?dir=b&limit=100")
    events = answer.body.get("chunk") if answer.status == 200 and isinstance(answer.body, dict) else None
    if not isinstance(events, list):
        return Outcome("unknown", answer.reason or f"the home server answered {answer.status}")
    for event in events:
        unsigned = event.get("unsigned") if isinstance(event, dict) else None
        if isinstance(unsigned, dict) and unsigned.get("transaction_id") == handle(call.key):
            return Outcome("accepted", "found in the room", str(event.get("event_id", ""))[:200])
    if "end" not in answer.body:  # the spec's sign that there are no earlier ones
        return Outcome("retry", "the room does not have it")
    return Outcome("unknown", "the room has more messages since than can be looked through")


def _room(call: Call) -> str | None:
    room = call.params.get("room") or call.settings.get("room")
    return room if isinstance(room, str) and re.fullmatch(r"![\x21-\x7e]{1,250}", room) else None


def _not_accepted(answer: Answer) -> Outcome:
    """Only what is proved: `retry` and `failed` mean that the server does not have it."""
    if not answer.sent:
        return Outcome("retry", answer.reason)
    if answer.status == 429:
        return Outcome("retry", "the home server asks for patience", retry_after=answer.retry_after)
    if 400 <= answer.status < 500:
        code = answer.body.get("errcode", "") if isinstance(answer.body, dict) else ""
        return Outcome("failed", re.sub(r"[^ -~]", "?", f"the home server refused it: {answer.status} {code}"[:200]).strip())
    return Outcome("unknown", answer.reason or f"the home server answered {answer.status}")


def _ask(call: Call, method: str, path: str, body: Any = None) -> Answer:
    """One request without redirects. First the connection alone: as long as it fails, nothing can have arrived."""
    url, token = str(call.settings.get("url") or ""), str(call.settings.get("token") or "")
    line = _line(url, call.settings.get("timeout"))
    if isinstance(line, str):
        return Answer(0, reason=line, sent=False)
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        return Answer(0, reason="the access token is missing: set CAMP_MATRIX_TOKEN", sent=False)
    try:
        try:
            line.connect()
        except OSError as error:
            return Answer(0, reason=f"no connection to the home server: {error.strerror or type(error).__name__}", sent=False)
        line.request(
            method,
            urlsplit(url).path.rstrip("/") + "/_matrix/client/v3" + path,
            None if body is None else json.dumps(body),
            {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Accept": "application/json"},
        )
        answer = line.getresponse()
        return Answer(answer.status, _json(answer.read(MAX_BYTES)), retry_after=_seconds(answer.getheader("Retry-After")))
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, reason=f"no answer of the home server: {type(error).__name__}")
    finally:
        line.close()


def _line(url: str, timeout: Any) -> http.client.HTTPConnection | str:
    """A connection that is not open yet, or why there can't be one."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "the setting `url` is no URL"
    if not host or parts.scheme not in ("http", "https") or (parts.scheme == "http" and host not in LOCAL):
        return "the setting `url` must begin with https://"
    seconds = min(timeout, 20.0) if isinstance(timeout, int | float) and not isinstance(timeout, bool) and timeout > 0 else 10.0
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(host, port, timeout=seconds)


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _seconds(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"[0-9]{1,6}", text) else None


def wrong_settings(settings):
    """For `camp doctor` and `camp plugin check`: what is missing. Without it the first hand-over would tell."""
    if not settings.get("url"):
        yield "the setting url is missing: the home server's address"
    if not settings.get("token"):
        yield "the access token is missing: set CAMP_MATRIX_TOKEN"


@hookimpl
def register_actions():
    yield Action(
        "matrix.post",
        "Say something in a Matrix room.",
        Parameter("text", "text", required=True, help="What to say."),
        (
            Parameter("room", "text", help='Where: "!id:server". Default: the setting `room`.'),
            Parameter("quiet", "boolean", help="yes: as a notice, for which nobody's phone rings."),
        ),
        perform=post,
        lookup=look_up,
        settle=60.0,
        idempotency="key",
        window=1_800,
        timeout=45.0,
        example='matrix.post "Order over {event.total}", quiet: yes',
    )


@hookimpl
def register_events():
    yield EventType("matrix.replied", "Somebody replied to a post in Matrix.", {"text": "text", "room": "text"})
