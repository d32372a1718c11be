"""Where the mails are: an IMAP mailbox or a Maildir folder. Both give items and take marks; neither knows what a mail says.

IMAP (RFC 3501). What was read gets the keyword CampRead, so that people who use the mailbox too find everything in its place; with the
setting `done` the machines' mails (bounces, complaints, automatic answers) are moved to that folder. What can't be read gets the
keyword CampAside, or is moved to the folder of the setting `aside`. Nothing is ever deleted without a copy elsewhere.

Maildir. What was read is moved to the subfolder .CampRead, what can't be read to .CampAside.
"""

from __future__ import annotations

import imaplib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from rules_engine.service.inbound import MAX_BYTES

READ, ASIDE = "CampRead", "CampAside"
MACHINES = ("bounce", "complaint", "auto_reply", "delivered", "delayed", "known")


class Trouble(Exception):
    """The mailbox can't be used; one lower-case sentence."""


class Item(NamedTuple):
    """One mail. `name`: its UID or file name. `data`: its first MAX_BYTES."""

    name: str
    data: bytes


class Mark(NamedTuple):
    """What was found out about a mail: the kind of `inbound`, `known` or `aside`."""

    item: Item
    kind: str


class Box(Protocol):
    """A mailbox that is open."""

    def fetch(self, limit: int) -> list[Item]:
        """Mails that have no mark, oldest first."""

    def finish(self, marks: Sequence[Mark]) -> None:
        """Marks what was committed."""


@contextmanager
def open_box(settings: Mapping[str, Any]) -> Iterator[Box]:
    """The mailbox of the table [mailbox]: `folder` (a Maildir), or `host`, `user`, `password`. Raises Trouble, also for what happens inside."""
    try:
        if settings.get("folder"):
            yield Maildir(Path(str(settings["folder"])))
            return
        if not settings.get("host"):
            raise Trouble("the table [mailbox] needs `folder` (a Maildir) or `host`")
        connection = _connect(settings)
        try:
            yield Imap(connection, settings)
        finally:
            _leave(connection)
    except imaplib.IMAP4.error as error:
        raise Trouble(f"the IMAP server refused: {_words(error)}") from error
    except OSError as error:
        raise Trouble(f"it can't be reached or read: {_words(error)}") from error


# ---------------------------------------------------------------- IMAP


def _connect(settings: Mapping[str, Any]) -> imaplib.IMAP4:
    mode, host = str(settings.get("tls", "tls")), str(settings["host"])
    if mode not in ("tls", "starttls", "none"):
        raise Trouble(f"the setting tls = {mode!r} is unknown; known are tls, starttls and none")
    try:
        port = int(settings.get("port") or (993 if mode == "tls" else 143))
        timeout = min(float(settings.get("timeout") or 30.0), 300.0)
    except (TypeError, ValueError):
        raise Trouble("port and timeout must be numbers") from None
    import ssl

    context = ssl.create_default_context(cafile=str(settings["ca_file"]) if settings.get("ca_file") else None) if mode != "none" else None
    if mode == "tls":
        connection: imaplib.IMAP4 = imaplib.IMAP4_SSL(host, port, ssl_context=context, timeout=timeout)
    else:
        connection = imaplib.IMAP4(host, port, timeout=timeout)
    try:
        if mode == "starttls":
            connection.starttls(context)  # raises if it is not on offer: nothing is told in the clear
        connection.login(str(settings.get("user") or ""), str(settings.get("password") or ""))
    except BaseException:
        connection.shutdown()
        raise
    return connection


def _leave(connection: imaplib.IMAP4) -> None:
    try:
        connection.logout()
    except (imaplib.IMAP4.error, OSError):
        connection.shutdown()


class Imap:
    """One mailbox of an IMAP server, selected."""

    def __init__(self, connection: imaplib.IMAP4, settings: Mapping[str, Any]) -> None:
        self._connection = connection
        self._done, self._aside = (str(settings.get(name) or "") for name in ("done", "aside"))
        self._ask("SELECT", connection.select(_quoted(str(settings.get("inbox") or "INBOX"))))
        flags = b" ".join(answer or b"" for answer in connection.response("PERMANENTFLAGS")[1] or ())
        self._keywords = rb"\*" in flags
        if not self._keywords and not (self._done and self._aside):
            raise Trouble("this IMAP server keeps no keywords: name the folders `done` and `aside`, to which mails are moved then")

    def fetch(self, limit: int) -> list[Item]:
        """See Box."""
        wanted = ("UNDELETED", "UNKEYWORD", READ, "UNKEYWORD", ASIDE) if self._keywords else ("UNDELETED",)
        found = self._ask("SEARCH", self._connection.uid("SEARCH", *wanted))
        uids = [uid.decode() for uid in (found[0] or b"").split() if uid.isdigit()]
        return [item for uid in uids[:limit] if (item := self._one(uid)) is not None]

    def _one(self, uid: str) -> Item | None:
        """The first bytes of one mail; PEEK leaves it unread for people. None: it is gone meanwhile."""
        answer = self._ask("FETCH", self._connection.uid("FETCH", uid, f"(BODY.PEEK[]<0.{MAX_BYTES}>)"))
        data = next((bytes(part[1]) for part in answer if isinstance(part, tuple) and len(part) > 1), None)
        return None if data is None else Item(uid, data[:MAX_BYTES])

    def finish(self, marks: Sequence[Mark]) -> None:
        """See Box."""
        for mark in marks:
            aside = mark.kind == "aside"
            folder = self._aside if aside else self._done if mark.kind in MACHINES or not self._keywords else ""
            if folder:
                self._move(mark.item.name, folder)
            else:
                self._ask("STORE", self._connection.uid("STORE", mark.item.name, "+FLAGS.SILENT", f"({ASIDE if aside else READ})"))

    def _move(self, uid: str, folder: str) -> None:
        """RFC 6851 where there is it; else a copy, and the original marked as deleted once the copy is there."""
        self._connection.create(_quoted(folder))  # refused if it exists; whether it does shows in the next line
        if "MOVE" in self._connection.capabilities:
            self._ask("MOVE", self._connection.uid("MOVE", uid, _quoted(folder)))
            return
        self._ask("COPY", self._connection.uid("COPY", uid, _quoted(folder)))
        self._ask("STORE", self._connection.uid("STORE", uid, "+FLAGS.SILENT", r"(\Deleted)"))
        if "UIDPLUS" in self._connection.capabilities:  # a plain EXPUNGE would also take what somebody else has marked
            self._ask("EXPUNGE", self._connection.uid("EXPUNGE", uid))

    def _ask(self, command: str, answer: tuple[str, list[Any]]) -> list[Any]:
        state, data = answer
        if state != "OK":
            raise Trouble(f"the IMAP server answered {command} with {state} {_words(data[0] if data else '')}".rstrip())
        return data


def _quoted(name: str) -> str:
    """A mailbox name as a quoted string (RFC 3501 5.1); imaplib sends names as they are, so that a blank or a line break would do harm."""
    if not name or not re.fullmatch(r"[\x20-\x7e]+", name):
        raise Trouble(f"the name of the mailbox folder {name[:40]!r} must be plain ASCII")
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _words(text: Any) -> str:
    said = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return " ".join(re.sub(r"[^\x20-\x7e\xa0-\uffff]+", " ", said).split())[:200]


# ---------------------------------------------------------------- Maildir


class Maildir:
    """A Maildir: files in new/ and cur/, each delivered whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if not (folder / "new").is_dir() or not (folder / "cur").is_dir():
            raise Trouble(f"{folder} is no Maildir: it has no new/ and cur/")

    def fetch(self, limit: int) -> list[Item]:
        """See Box."""
        names = [f"{place}/{name}" for place in ("new", "cur") for name in os.listdir(self._folder / place) if not name.startswith(".")]
        found = []
        for name in sorted(names, key=lambda name: name.partition("/")[2])[:limit]:
            try:
                with open(os.open(self._folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as stream:
                    found.append(Item(name, stream.read(MAX_BYTES)))
            except FileNotFoundError:  # somebody else has moved it
                continue
            except OSError:
                found.append(Item(name, b""))  # a link or a folder: put aside as unreadable
        return found

    def finish(self, marks: Sequence[Mark]) -> None:
        """See Box."""
        for mark in marks:
            target = self._folder / f".{ASIDE if mark.kind == 'aside' else READ}"
            for part in ("cur", "new", "tmp"):
                (target / part).mkdir(parents=True, exist_ok=True)
            try:
                os.replace(self._folder / mark.item.name, target / "cur" / mark.item.name.partition("/")[2])
            except FileNotFoundError:
                continue
