"""One e-mail from call to outcome: values, template, message, transport. `email.py` is its documentation and its only
caller."""

from __future__ import annotations

import html as markup
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rules_engine.plugin import Call, Outcome
from rules_engine_plugins import _mime, _templates
from rules_engine_plugins._handover import digest, effect_id, folder_of, write_once

MAX_ATTACHED_BYTES = 10_000_000  # all attachments of one message; mail servers commonly stop at twice that

_OWN = frozenset({"subject", "to", "from", "reply_to", "class", "preheader", "attachments"})


def send(call: Call) -> Outcome:
    """See `rules_engine_plugins.email.send`."""
    transport = call.settings.get("transport", "folder")
    if transport not in ("folder", "smtp"):
        return Outcome("failed", f"the setting transport = {transport!r} is unknown; known are folder and smtp")
    if transport == "folder" and (folder_of(call) / _file_name(call)).exists():
        return Outcome("accepted", f"was already in {_file_name(call)}", effect_id(call))
    try:
        built = compose(call)
    except (_templates.TemplateFault, _mime.MailFault) as fault:
        return Outcome("failed", str(fault))
    if transport == "folder":
        return _to_folder(call, built)
    from rules_engine_plugins import _smtp

    outcome = _smtp.hand_over(call.settings, built.sender, built.to, built.data)
    return outcome if outcome.provider_id or outcome.state != "accepted" else outcome._replace(provider_id=built.message_id)


def compose(call: Call) -> _mime.Built:
    """The message as bytes. Raises TemplateFault or MailFault."""
    to = call.params.get("to") or call.contact.get("email")
    if not to:
        raise _mime.MailFault("the contact has no e-mail address")
    sender = call.params.get("from") or call.settings.get("from")
    if not sender:
        raise _mime.MailFault("there is no sender: give `from` under [email] in camp.toml, or with the action")
    unsubscribe = _unsubscribe(call)
    rendered = _templates.render(call.project / call.settings.get("templates", "templates"), call.primary, _values(call, unsubscribe))
    subject = _text(call.params.get("subject")) or rendered.subject
    if not subject:
        raise _mime.MailFault(f"template {call.primary!r} has no subject: begin it with `Subject: …`, or give `subject:`")
    html, text = rendered.html, rendered.text
    if text is None:
        text = _convert(html or "")
    if html is not None:
        html = _with_preheader(html, _text(call.params.get("preheader")) or rendered.preheader)
    return _mime.build(
        _mime.Message(
            _text(to),
            _text(sender),
            subject,
            text,
            html,
            call.at,
            effect_id(call),
            reply_to=_text(call.params.get("reply_to") or call.settings.get("reply_to")) or None,
            unsubscribe=unsubscribe if call.params.get("class", "marketing") == "marketing" else None,
            attachments=_attachments(call),
        )
    )


def _values(call: Call, unsubscribe: str | None) -> dict[str, Any]:
    """What a template may use. Camp's own names win over arguments of the same name, but for `event`, which the engine
    passes."""
    values = {name: value for name, value in call.params.items() if name not in _OWN or name in ("subject", "preheader")}
    return values | {"contact": call.contact, "campaign": call.campaign, "unsubscribe_url": unsubscribe}


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _convert(html: str) -> str:
    from rules_engine_plugins._text import convert

    return convert(html)


def _unsubscribe(call: Call) -> str | None:
    """The address of the setting with its two placeholders filled; whatever the contact's id holds is percent-encoded."""
    pattern = call.settings.get("unsubscribe_url")
    if not isinstance(pattern, str) or not pattern:
        return None
    return _filled(pattern, {"{contact}": call.contact.get("id"), "{template}": call.primary})


def _filled(pattern: str, values: Mapping[str, Any]) -> str:
    return re.sub(
        r"\{(?:contact|template)\}", lambda match: quote(_text(values[match[0]]).encode("utf-8", "replace"), safe=""), pattern
    )


def _with_preheader(html: str, preheader: str | None) -> str:
    """Puts the preheader first in the body, hidden: mail programs show it after the subject."""
    if not preheader:
        return html
    line = f'<div style="display:none;max-height:0;overflow:hidden">{markup.escape(_mime.clean(preheader))}</div>'
    body = re.search(r"<body\b[^>]*>", html, re.IGNORECASE)
    return html[: body.end()] + line + html[body.end() :] if body else line + html


def _attachments(call: Call) -> tuple[_mime.Attachment, ...]:
    """Files below the project's attachments/ folder; a name may come from data, so it can't lead out of it."""
    names = call.params.get("attachments") or ()
    if isinstance(names, str):
        names = (names,)
    if not isinstance(names, (list, tuple)):
        raise _mime.MailFault("attachments must be a list of file names")
    root, room, found = (call.project / "attachments").resolve(), MAX_ATTACHED_BYTES, []
    for name in names:
        data = _read(root, name, room)
        room -= len(data)
        found.append(_mime.Attachment(Path(name).name, _type_of(name), data))
    return tuple(found)


def _read(root: Path, name: Any, room: int) -> bytes:
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            raise _mime.MailFault(f"there is no file {str(name)[:80]!r} below attachments/")
        with path.open("rb") as stream:
            data: bytes = stream.read(room + 1)
    except (OSError, TypeError, ValueError) as error:
        raise _mime.MailFault(f"the attachment {str(name)[:80]!r} can't be read: {type(error).__name__}") from error
    if len(data) > room:
        raise _mime.MailFault(f"the attachments have more than {MAX_ATTACHED_BYTES:,} bytes")
    return data


def _type_of(name: str) -> str:
    """By the ending, from Python's own table: the machine's may differ, and the same effect gives the same bytes. Text and
    messages go as bytes, because only then nobody rewrites their lines."""
    import mimetypes

    kind = mimetypes.MimeTypes(filenames=()).guess_type(name)[0] or "application/octet-stream"
    return (
        kind
        if not kind.startswith(("text/", "message/", "multipart/")) or kind == "text/calendar"
        else "application/octet-stream"
    )


# ---------------------------------------------------------------- the folder transport


def _file_name(call: Call) -> str:
    return digest(call.key, call.contact.get("id", "")) + ".eml"


def _to_folder(call: Call, built: _mime.Built) -> Outcome:
    name = _file_name(call)
    try:
        fresh = write_once(folder_of(call), name, built.data, bool(call.settings.get("fsync", True)))
    except OSError as error:
        return Outcome("retry", f"{name} can't be written: {error.strerror or error}")
    return Outcome("accepted", f"written to {name}" if fresh else f"was already in {name}", effect_id(call))
