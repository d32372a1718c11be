"""What a mail that came in says about a message of ours: it bounced, was complained about, or answered. Pure.

Reads delivery reports (RFC 3464), complaints (RFC 5965), answers and automatic answers (RFC 3834), and by a few words the bounces of
servers that know no reports. All that is in a mail is a stranger's word: it is cut to size and only ever becomes text, and whom it is
about is decided by whoever finds the effect, not by the addresses in it.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Iterator
from email import message_from_bytes, message_from_string
from email.header import decode_header
from email.message import Message
from email.policy import Compat32
from typing import Any, NamedTuple

MAX_BYTES = 500_000  # of a mail that are looked at; a report stands at its beginning
MAX_PARTS = 100
MAX_NAMES = 20  # messages that one mail may be about
MAX_TEXT = 2_000  # characters of an answer that are kept
MAX_REASON = 300
MAX_CONTENT_FIELD = 2_000  # characters of Content-Type and its like; the standard parser's time for them grows with the square

_HANDLE = re.compile(r"msg_[0-9a-f]{32}(?:\.[0-9a-f]{12}\b)?")  # with its proof, see `rules_engine.links`
_MESSAGE_ID = re.compile(r"<([^<>@\s]{16,200})@[^<>@\s]{1,200}>")
_STATUS = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?![\d.])")
_DAEMON = re.compile(r"mailer-daemon|postmaster|mail delivery (sub)?system", re.IGNORECASE)
_BOUNCED = re.compile(
    r"undeliver|delivery (status|failure|has failed)|returned mail|mail delivery failed|failure notice|delivery.{0,20}failed|unzustellbar",
    re.IGNORECASE,
)
_HARD = re.compile(
    r"user unknown|unknown user|no such (user|mailbox|recipient)|(user|mailbox|address|recipient)[^.\n]{0,40}(not exist|n't exist|not found|unknown)|"
    r"address rejected|invalid (recipient|mailbox)|unrouteable address|\b550\b",
    re.IGNORECASE,
)
_SOFT = re.compile(r"quota|mailbox (is )?full|over limit|temporar|try again|greylist|spam|block|policy|too large", re.IGNORECASE)
_AWAY = re.compile(r"^\s*(automatic reply|auto(matic)? ?response|auto-?reply|out of (the )?office|abwesenheit|réponse automatique)", re.IGNORECASE)

_HIDDEN = re.compile(r"<(script|style|blockquote)\b", re.IGNORECASE | re.ASCII)
_END_TAGS = {name: re.compile(rf"</{name}\s*>", re.IGNORECASE | re.ASCII) for name in ("script", "style", "blockquote")}

NOT_THE_ADDRESS = re.compile(r"5\.(2\.[23]|3\.\d+|4\.\d+|7\.\d+)$")
"""Permanent, but about a full mailbox, the message, the network or a policy (RFC 3463): no reason to write to an address never again."""


class Unreadable(Exception):
    """This mail can't be read; the text says why."""


class Finding(NamedTuple):
    """kind: bounce | delayed | delivered | complaint | reply | auto_reply | other. id: the mail's own name, the same for each copy of it.
    names: handles and provider ids of the messages it may be about, the best first. hard: the address is no good for ever."""

    kind: str
    id: str
    names: tuple[str, ...] = ()
    hard: bool = False
    reason: str = ""
    text: str = ""


class _Policy(Compat32):
    """The parser's usual one, without long descriptions of a part, wherever in the mail it stands."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        """The name and the value of a field. Raises Unreadable."""
        if sourcelines[0][:8].lower() == "content-" and sum(map(len, sourcelines)) > MAX_CONTENT_FIELD:
            raise Unreadable(f"its field {sourcelines[0].partition(':')[0]} has more than {MAX_CONTENT_FIELD:,} characters")
        return super().header_source_parse(sourcelines)


_POLICY = _Policy()


def read(data: bytes) -> Finding:
    """What the mail says. Raises Unreadable, and nothing else whatever the bytes are."""
    if not data.strip():
        raise Unreadable("it is empty")
    try:
        return _read(message_from_bytes(data[:MAX_BYTES], policy=_POLICY), data)
    except Unreadable:
        raise
    except RecursionError:
        raise Unreadable("its parts are nested too deeply") from None
    except Exception as error:  # the standard parser on hostile input
        raise Unreadable(f"{type(error).__name__}: {line(str(error))}"[:MAX_REASON]) from error


def _read(mail: Message, data: bytes) -> Finding:
    if not mail.keys():
        raise Unreadable("it has no headers")
    own = _own_id(mail, data)
    parts = list(_parts(mail))
    for part in parts:
        if part.get_content_type() == "message/delivery-status":
            return _report(mail, parts, part, own)
        if part.get_content_type() == "message/feedback-report":
            return _feedback(mail, parts, part, own)
    answered = _names(_header(mail, "In-Reply-To"), *reversed(_header(mail, "References").split()))
    if _is_bounce(mail):
        return _by_words(mail, parts, own, answered)
    if not answered:
        return Finding("other", own)
    return Finding("auto_reply" if automatic(mail) else "reply", own, answered, text=_answer(parts))


def _own_id(mail: Message, data: bytes) -> str:
    """By its Message-ID, so that a second copy is the same mail; else by its bytes."""
    name = line(_header(mail, "Message-ID"))
    return hashlib.sha256(name.encode("utf-8", "replace") if name else data).hexdigest()[:32]


def _parts(mail: Message) -> Iterator[Message]:
    """The mail's parts, outer before inner; not those of a message that is attached, and not the blocks of a report."""
    stack, count = [mail], 0
    while stack and count < MAX_PARTS:
        part = stack.pop(0)
        count += 1
        yield part
        if part.get_content_maintype() == "multipart" and isinstance(part.get_payload(), list):
            stack = list(part.get_payload())[:MAX_PARTS] + stack  # type: ignore[arg-type]


# ---------------------------------------------------------------- reports


def _report(mail: Message, parts: list[Message], part: Message, own: str) -> Finding:
    """RFC 3464: one block about the message, then one for each recipient."""
    names = _names(*_original_ids(parts), _header(mail, "In-Reply-To"), _header(mail, "References")) or _named_anywhere(mail, parts)
    blocks = part.get_payload()
    told = [block for block in blocks if isinstance(block, Message) and block.get("Action")] if isinstance(blocks, list) else []
    actions = {line(_header(block, "Action")).lower().split(" ")[0]: block for block in reversed(told[:MAX_PARTS])}
    block = actions.get("failed")
    if block is None:
        kind = "delayed" if "delayed" in actions else "delivered" if actions.keys() & {"delivered", "relayed", "expanded"} else "other"
        return Finding(kind, own, names)
    status = _STATUS.search(_header(block, "Status")) or _STATUS.search(_header(block, "Diagnostic-Code"))
    code = status[0] if status else ""
    said = re.sub(r"^\s*[\w-]+\s*;\s*", "", _header(block, "Diagnostic-Code"))
    return Finding("bounce", own, names, _hard(code, said), line(f"{code} {said}")[:MAX_REASON] or "no reason given")


def _hard(code: str, words: str) -> bool:
    """By the status (RFC 3463): class 5 is for ever, 4 is not; where the report has none, by its words."""
    if code:
        return code.startswith("5.") and not NOT_THE_ADDRESS.match(code)
    return bool(_HARD.search(words)) and not _SOFT.search(words)


def _feedback(mail: Message, parts: list[Message], part: Message, own: str) -> Finding:
    """RFC 5965: somebody pressed "this is spam". Other feedback (not-spam, auth-failure) is no complaint."""
    content = part.get_payload()
    fields = content[0] if isinstance(content, list) and content else message_from_string(str(content or ""), policy=_POLICY)
    kind = line(_header(fields, "Feedback-Type")).lower() if isinstance(fields, Message) else ""
    names = _names(*_original_ids(parts)) or _named_anywhere(mail, parts)
    return Finding("complaint" if kind in ("abuse", "fraud", "virus", "opt-out") else "other", own, names, reason=kind[:MAX_REASON])


def _by_words(mail: Message, parts: list[Message], own: str, answered: tuple[str, ...]) -> Finding:
    """A bounce that is no report."""
    text = "\n".join(_text(part) for part in parts)[:20_000]
    names = _names(*_original_ids(parts)) or answered or _named_anywhere(mail, parts)
    lines = [found for found in text.splitlines() if _STATUS.search(found) or _HARD.search(found) or _SOFT.search(found)]
    reason = line(lines[0] if lines else _decoded(mail, "Subject"))[:MAX_REASON]
    status = _STATUS.search("\n".join(lines))
    return Finding("bounce", own, names, _hard(status[0] if status else "", "\n".join(lines)), reason)


def _is_bounce(mail: Message) -> bool:
    returned = line(_header(mail, "Return-Path")) == "<>"
    daemon = bool(_DAEMON.search(_header(mail, "From"))) or mail.get("X-Failed-Recipients") is not None
    return bool(mail.get("X-Failed-Recipients")) or ((daemon or returned) and bool(_BOUNCED.search(_decoded(mail, "Subject"))))


# ---------------------------------------------------------------- answers


def automatic(mail: Message) -> bool:
    """Whether a machine answered (RFC 3834, and what came before it)."""
    said = line(_header(mail, "Auto-Submitted")).lower()
    return (
        (bool(said) and said.partition(";")[0].strip() != "no")
        or line(_header(mail, "Precedence")).lower() in ("bulk", "junk", "list", "auto_reply")
        or any(mail.get(name) is not None for name in ("X-Autoreply", "X-Autorespond", "X-Auto-Reply"))
        or line(_header(mail, "Return-Path")) == "<>"
        or bool(_AWAY.search(_decoded(mail, "Subject")))
    )


def _answer(parts: list[Message]) -> str:
    """What the person wrote, without what was quoted."""
    for kind in ("text/plain", "text/html"):
        for part in parts:
            if part.get_content_type() == kind and part.get_content_disposition() != "attachment":
                return _unquoted(_text(part))
    return ""


def _unquoted(text: str) -> str:
    kept: list[str] = []
    for row in text[: MAX_TEXT * 10].splitlines():
        if re.match(r"\s*(-{2,}\s*(Original|Ursprüngliche|Forwarded)|_{10,}|(On|Am|Le|El) .{5,200}(wrote|schrieb|écrit|escribió).{0,40}:\s*$)", row):
            break
        if not row.lstrip().startswith(">"):
            kept.append(row.rstrip())
    return clean("\n".join(kept)).strip()[:MAX_TEXT]


def _text(part: Message) -> str:
    """A text part as text; whatever its charset claims to be, it can be read."""
    if part.get_content_maintype() != "text":
        return ""
    octets = part.get_payload(decode=True)
    if not isinstance(octets, bytes):
        return ""
    try:
        text = octets.decode(part.get_content_charset() or "utf-8", "replace")
    except (LookupError, ValueError):
        text = octets.decode("utf-8", "replace")
    if part.get_content_subtype() != "html":
        return text
    text = _shown(text[:100_000])
    text = re.sub(r"<[^<>]{0,2000}>", " ", re.sub(r"(?i)<(br|/p|/div)\b[^<>]{0,200}>", "\n", text))
    return re.sub(r"[^\S\n]+", " ", html.unescape(text))


def _shown(text: str) -> str:
    """HTML without scripts, styles and quotations; one that doesn't end takes all that follows. In one pass: a single pattern for the whole
    of it would look for the end from each beginning anew, for seconds, while all threads wait."""
    kept, at = [], 0
    while found := _HIDDEN.search(text, at):
        kept.append(text[at : found.start()])
        end = _END_TAGS[found[1].lower()].search(text, found.end())
        at = end.end() if end is not None else len(text)
    return " ".join([*kept, text[at:]])


# ---------------------------------------------------------------- which message


def _original_ids(parts: list[Message]) -> list[str]:
    """The Message-IDs of what is attached: the whole message, or its headers."""
    found = []
    for part in parts:
        content = part.get_payload()
        if part.get_content_type() in ("message/rfc822", "message/global") and isinstance(content, list) and content:
            found.append(_header(content[0], "Message-ID"))
        elif part.get_content_type() in ("text/rfc822-headers", "message/rfc822-headers"):
            found.append(_header(message_from_string(_text(part) or str(content)[:MAX_BYTES], policy=_POLICY), "Message-ID"))
    return found


def _names(*texts: str) -> tuple[str, ...]:
    """Handles in the texts, then left sides of other Message-IDs, which may be a provider's name for a message."""
    joined = " ".join(texts)[:20_000]
    return tuple(dict.fromkeys([*_HANDLE.findall(joined), *_MESSAGE_ID.findall(joined)]))[:MAX_NAMES]


def _named_anywhere(mail: Message, parts: list[Message]) -> tuple[str, ...]:
    """Handles in the recipient's address (a VERP return path) or in the text."""
    headers = " ".join(_header(mail, name) for name in ("To", "Delivered-To", "X-Original-To", "Envelope-To"))
    texts = " ".join(_text(part)[:100_000] for part in parts)
    return tuple(dict.fromkeys(_HANDLE.findall(f"{headers} {texts}")))[:MAX_NAMES]


# ---------------------------------------------------------------- text


def _header(mail: Any, name: str) -> str:
    value = mail.get(name) if isinstance(mail, Message) else None
    return str(value)[:20_000] if value is not None else ""


def _decoded(mail: Message, name: str) -> str:
    value = _header(mail, name)
    try:
        return "".join(
            piece.decode(charset or "ascii", "replace") if isinstance(piece, bytes) else piece for piece, charset in decode_header(value)
        )
    except (LookupError, ValueError):
        return value


def line(text: str) -> str:
    """One line, printable."""
    return " ".join(clean(text).split())


def clean(text: str) -> str:
    """Without control characters and lone surrogates, which no database and no terminal wants; lines and tabs stay."""
    return re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", " ", text.replace("\r\n", "\n").replace("\r", "\n"))
