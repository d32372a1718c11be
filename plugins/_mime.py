"""Builds one e-mail as bytes, by hand, and checks it with the standard parser before it may leave.

By hand, because every header is then encoded here and nothing reads what contact data put into it: Python's EmailMessage
decodes `=?utf-8?q?x=0D=0ABcc:…?=` in a name and writes the line break out (3.11.7). And because the same effect gives the
same bytes. Lines end with CRLF, all is 7-bit.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from datetime import UTC, datetime
from typing import Any, NamedTuple

MAX_HEADER = 2_000  # characters of one header's text; more is data in the wrong place

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*", re.ASCII)
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)


class MailFault(Exception):
    """This message can't be built safely; the text says why in one sentence."""


class Attachment(NamedTuple):
    name: str
    type: str
    data: bytes


class Message(NamedTuple):
    """What is to be said. Addresses are checked here; subject and names are free text and are encoded."""

    to: str
    sender: str  # "Name <a@b>" or "a@b"
    subject: str
    text: str
    html: str | None
    at: datetime
    id: str  # left side of the Message-ID, [0-9a-z_.]
    reply_to: str | None = None
    unsubscribe: str | None = None
    attachments: tuple[Attachment, ...] = ()
    agent: str | None = None  # "Name <a@b>" for the header Sender
    domain: str | None = None  # right side of the Message-ID; default: the sender's
    cc: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()  # further ones, checked here


class Built(NamedTuple):
    data: bytes
    sender: str  # bare address, for the envelope
    to: str
    message_id: str


# ---------------------------------------------------------------- text


def clean(text: str) -> str:
    """One line for a header: control characters, line and paragraph separators and lone surrogates become blanks, runs of
    blanks one.

    `=?`, the beginning of an encoded word, is parted: it would be harmless here, where it is encoded once more, but not in
    the hands of a program that decodes this header and writes it again.
    """
    if not (text.isascii() and text.isprintable()):
        text = "".join(" " if unicodedata.category(char) in ("Cc", "Zl", "Zp", "Cs") else char for char in text)
    return " ".join(text.split()).replace("=?", "= ?")


def clean_body(text: str) -> str:
    """Text of a part: lines end with LF; other control characters but the tab become U+FFFD."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = re.sub("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", "\ufffd", text)
    return text if text.endswith("\n") else text + "\n"


def address(text: str) -> str:
    """A bare address, checked; a domain beyond ASCII becomes its IDNA form. Raises MailFault."""
    text = text.strip() if isinstance(text, str) else ""
    local, _, domain = text.rpartition("@")
    if not domain.isascii():
        try:
            domain = domain.encode("idna").decode("ascii")
        except UnicodeError:
            raise MailFault(_bad(text)) from None
    labels = domain.split(".")
    well_formed = _LOCAL.fullmatch(local) and all(map(_LABEL.fullmatch, labels)) and len(local) <= 64 and len(domain) <= 253
    if not well_formed or "=?" in local:
        raise MailFault(_bad(text))
    return f"{local}@{domain}"


def _bad(text: str) -> str:
    return "an address is missing" if not text else f"{text[:80]!r} is no e-mail address that can be used"


def mailbox(text: str) -> tuple[str, str]:
    """("Name" or "", address) of "Name <a@b>" or "a@b". Raises MailFault."""
    match = re.fullmatch(r"([^<>]*)<([^<>]*)>\s*", text) if isinstance(text, str) else None
    if match is None:
        return "", address(text)
    return clean(match[1]).strip('" '), address(match[2])


def encode(text: str) -> str:
    """Unstructured text for a header: plain where it is short, harmless ASCII, else encoded words, folded."""
    if len(text) > MAX_HEADER:
        raise MailFault(f"a header would have more than {MAX_HEADER:,} characters")
    if len(text) <= 60 and "=?" not in text and re.fullmatch(r"[\x20-\x7e]*", text):
        return text
    chunks, current = [], b""
    for char in text:
        octets = char.encode("utf-8", "replace")
        if len(current) + len(octets) > 42:
            chunks.append(current)
            current = b""
        current += octets
    chunks.append(current)
    return "\r\n ".join("=?utf-8?b?" + base64.b64encode(chunk).decode() + "?=" for chunk in chunks)


def _phrase(name: str, bare: str) -> str:
    """A mailbox with its display name."""
    if not name:
        return bare
    if re.fullmatch(r"[A-Za-z0-9 ]{1,60}", name):
        return f"{name} <{bare}>"
    return f"{_always_encode(name)} <{bare}>"


def _always_encode(text: str) -> str:
    encoded = encode(text)
    return encoded if encoded.startswith("=?") else "=?utf-8?b?" + base64.b64encode(text.encode()).decode() + "?="


def date(moment: datetime) -> str:
    """A moment as the Date header wants it, in UTC and whatever the locale."""
    at = moment.astimezone(UTC)
    return f"{_DAYS[at.weekday()]}, {at.day:02} {_MONTHS[at.month - 1]} {at.year:04} {at:%H:%M:%S} +0000"


# ---------------------------------------------------------------- building


def build(message: Message) -> Built:
    """The message as bytes, parsed again and compared. Raises MailFault."""
    name, sender = mailbox(message.sender)
    to, subject = address(message.to), clean(message.subject)
    if not subject:
        raise MailFault("the message has no subject")
    message_id = f"<{message.id}@{message.domain or sender.rpartition('@')[2]}>"
    headers = [("Date", date(message.at)), ("From", _phrase(name, sender))]
    if message.agent:
        headers.append(("Sender", _phrase(*mailbox(message.agent))))
    headers.append(("To", to))
    if message.cc:
        headers.append(("Cc", ",\r\n ".join(map(address, message.cc))))
    headers += [("Subject", encode(subject)), ("Message-ID", message_id)]
    if message.reply_to:
        headers.append(("Reply-To", address(message.reply_to)))
    if message.unsubscribe:
        headers += unsubscribe_headers(message.unsubscribe)
    headers += _further(message.headers)
    headers.append(("MIME-Version", "1.0"))
    text, html = clean_body(message.text), clean_body(message.html) if message.html is not None else None
    content, body = _body(text, html, message)
    lines = [f"{key}: {value}" for key, value in headers + content]
    data = ("\r\n".join(lines) + "\r\n\r\n" + body).encode("ascii")
    _compare(data, headers + content, (name, sender, to, subject), (text, html), message)
    return Built(data, sender, to, message_id)


def unsubscribe_headers(url: str) -> list[tuple[str, str]]:
    """List-Unsubscribe, and List-Unsubscribe-Post where one click is possible. Raises MailFault."""
    if not re.fullmatch(r"(?:https?://|mailto:)[\x21-\x7e]{1,900}", url) or re.search(r"[<>,]", url):
        raise MailFault("the unsubscribe address has characters that no header may have")
    headers = [("List-Unsubscribe", f"<{url}>")]
    if url.startswith("https://"):  # RFC 8058: one click only by https
        headers.append(("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"))
    return headers


FURTHER = frozenset(
    """auto-submitted comments feedback-id importance in-reply-to keywords list-archive list-help list-id list-owner list-post
    organization precedence priority references""".split()
)
"""Headers that an author may set besides X-…: none of them says who sends, who receives, or what a part is."""


def _further(headers: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    """Author's headers. A text with line breaks becomes one line; one beyond ASCII is encoded, which only free text may be."""
    if len(headers) > 30:
        raise MailFault("there are more than 30 further headers")
    found = []
    for name, value in headers:
        free = re.fullmatch(r"[Xx]-[A-Za-z0-9-]{1,60}", name) is not None
        if not free and name.lower() not in FURTHER:
            raise MailFault(f"the header {name[:40]!r} can't be set: known are X-… and {', '.join(sorted(FURTHER))}")
        line = clean(value)
        if not line:
            continue
        if not line.isascii() or len(line) + len(name) > 900:
            if not free and name.lower() not in ("comments", "keywords", "organization"):
                raise MailFault(f"the header {name} has characters beyond ASCII, or is too long")
            line = encode(line)
        found.append((name, line))
    return found


def _body(text: str, html: str | None, message: Message) -> tuple[list[tuple[str, str]], str]:
    """(content headers, encoded body) of the whole message."""
    content, body = _part("text/plain", text)
    if html is not None:
        content, body = _multipart("alternative", [(content, body), _part("text/html", html)])
    if message.attachments:
        content, body = _multipart("mixed", [(content, body), *map(_file, message.attachments)])
    return content, body


def _part(kind: str, text: str) -> tuple[list[tuple[str, str]], str]:
    readable = text.isascii() and "=_" not in text and all(len(line) <= 900 for line in text.split("\n"))
    text = text.replace("\n", "\r\n")
    headers = [
        ("Content-Type", f"{kind}; charset=utf-8"),
        ("Content-Transfer-Encoding", "7bit" if readable else "quoted-printable"),
    ]
    if not readable:  # quoted-printable writes = as =3D, so that no body can hold a boundary, which begins with =_
        text = binascii.b2a_qp(text.encode("utf-8", "replace"), istext=True).decode("ascii")
    return headers, text


def _file(attachment: Attachment) -> tuple[list[tuple[str, str]], str]:
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", attachment.name)
    quoted = "".join(
        char
        if char.isascii() and (char.isalnum() or char in "._-")
        else "".join(f"%{octet:02X}" for octet in char.encode("utf-8", "replace"))
        for char in clean(attachment.name)
    )
    disposition = f'attachment; filename="{plain}"' if plain == quoted else f"attachment; filename*=utf-8''{quoted}"
    headers = [("Content-Type", attachment.type), ("Content-Transfer-Encoding", "base64"), ("Content-Disposition", disposition)]
    return headers, base64.encodebytes(attachment.data).decode("ascii").replace("\n", "\r\n")


def _multipart(kind: str, parts: list[tuple[list[tuple[str, str]], str]]) -> tuple[list[tuple[str, str]], str]:
    boundary = f"=_camp_{kind}"  # no encoded body has =_ in it (see _part), so it need not be random
    pieces = []
    for headers, body in parts:
        pieces.append(f"--{boundary}\r\n" + "".join(f"{key}: {value}\r\n" for key, value in headers) + "\r\n" + body + "\r\n")
    return [("Content-Type", f'multipart/{kind};\r\n boundary="{boundary}"')], "".join(pieces) + f"--{boundary}--\r\n"


# ---------------------------------------------------------------- comparing


def _compare(
    data: bytes, headers: list[tuple[str, str]], said: tuple[str, str, str, str], parts: tuple[str, str | None], message: Message
) -> None:
    """Parses the bytes as a receiver would. Anything but what was meant is a fault of ours or an attack: the message stays
    here."""
    from email import message_from_bytes
    from email.utils import getaddresses

    name, sender, to, subject = said
    parsed = message_from_bytes(data)
    good = (
        [(key, value.replace("\r\n", "").replace("\n", "")) for key, value in parsed.items()]
        == [(key, value.replace("\r\n", "")) for key, value in headers]
        and _decoded(parsed["Subject"]) == subject
        and [address for _, address in getaddresses([parsed["To"]])] == [to]
        and [(_decoded(found), address) for found, address in getaddresses([parsed["From"]])] == [(name, sender)]
        and [address for _, address in getaddresses(parsed.get_all("Cc", []))] == list(message.cc)
        and max(map(len, data.split(b"\r\n"))) <= 998
        and b"\n" not in data.replace(b"\r\n", b"")
        and b"\r" not in data.replace(b"\r\n", b"")
        and b"\0" not in data
    )
    if not good or _leaves(parsed) != _meant(parts, message):
        raise MailFault("the message is not what it was meant to be when it is read again; it is not sent")


def _decoded(value: str) -> str:
    from email.header import decode_header

    return "".join(
        chunk.decode(charset or "ascii") if isinstance(chunk, bytes) else chunk
        for chunk, charset in decode_header(re.sub(r"\r?\n", "", value))
    )


def _leaves(parsed: Any) -> list[tuple[str, bytes]]:
    leaves = []
    for part in parsed.walk():
        if part.defects:
            return []
        if not part.is_multipart():
            octets = part.get_payload(decode=True) or b""
            leaves.append(
                (
                    part.get_content_type(),
                    octets.replace(b"\r\n", b"\n")
                    if part.get_content_maintype() == "text" and not part.get("Content-Disposition")
                    else octets,
                )
            )
    return leaves


def _meant(parts: tuple[str, str | None], message: Message) -> list[tuple[str, bytes]]:
    """What `_leaves` must find; a line break before a boundary belongs to the boundary."""
    text, html = parts
    leaves = [("text/plain", text.encode("utf-8", "replace"))]
    if html is not None:
        leaves.append(("text/html", html.encode("utf-8", "replace")))
    return leaves + [(attachment.type, attachment.data) for attachment in message.attachments]
