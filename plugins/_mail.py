"""One e-mail from call to outcome: values, template, links, message, transport. `email.py` is its documentation and its only
caller."""

from __future__ import annotations

import html as markup
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from rules_engine.plugin import Call, Outcome, proven_handle
from rules_engine_plugins import _mime, _templates, _tracking
from rules_engine_plugins._handover import digest, effect_id, folder_of, write_once
from rules_engine_plugins._settings import unknown_transport

MAX_ATTACHED_BYTES = 10_000_000  # all attachments of one message; mail servers commonly stop at twice that
MAX_COPIES = 20  # cc and bcc of an internal message

NO_SENDER = "there is no sender: give `from` under [email] in camp.toml, or with the action"

_OWN = frozenset({"subject", "to", "from", "reply_to", "class", "preheader", "attachments", "headers", "cc", "bcc"})


def send(call: Call) -> Outcome:
    """See `rules_engine_plugins.email.send`."""
    return _deliver(call, lambda: Letter(compose(call)))


def notify(call: Call) -> Outcome:
    """See `rules_engine_plugins.email.notify`."""
    return _deliver(call, lambda: compose_notice(call))


class Letter(NamedTuple):
    """A message and who gets it besides its first recipient."""

    built: _mime.Built
    copies: tuple[str, ...] = ()


def _deliver(call: Call, make: Any) -> Outcome:
    transport = call.settings.get("transport", "folder")
    unknown = unknown_transport(call.settings, ("folder", "smtp"))
    if unknown:
        return Outcome("failed", unknown)
    if transport == "folder" and (folder_of(call) / _file_name(call)).exists():
        return Outcome("accepted", f"was already in {_file_name(call)}", effect_id(call))
    try:
        letter: Letter = make()
    except (_templates.TemplateFault, _mime.MailFault) as fault:
        return Outcome("failed", str(fault))
    if transport == "folder":
        return _to_folder(call, letter.built)
    from rules_engine_plugins import _smtp

    built = letter.built
    outcome = _smtp.hand_over(call.settings, _envelope(call, built.sender), built.to, built.data, letter.copies)
    return outcome if outcome.provider_id or outcome.state != "accepted" else outcome._replace(provider_id=built.message_id)


def compose(call: Call) -> _mime.Built:
    """The message to the contact as bytes. Raises TemplateFault or MailFault."""
    to = call.params.get("to") or call.contact.get("email")
    if not to:
        raise _mime.MailFault("the contact has no e-mail address")
    who = _sender(call)
    marketing = (call.message_class or call.params.get("class", "marketing")) == "marketing"
    links = _tracking.links_of(call)
    addresses = _addresses(call, links)
    text, html, subject = _content(call, addresses)
    text, html = _tracked(call, links, marketing, addresses, text, html)
    return _mime.build(_message(call, who, _text(to), subject, text, html, addresses["unsubscribe_url"] if marketing else None))


def compose_notice(call: Call) -> Letter:
    """An internal message: no tracking, no unsubscribe, and further recipients. Raises TemplateFault or MailFault."""
    to = call.params.get("to") or "owner"
    if to == "owner":
        own = _owner(call)
        if own is None:
            raise _mime.MailFault("the contact has no owner with an e-mail address: give `to:`, or set owner_email")
        to = own[1]
    cc, bcc = (_recipients(call.params.get(name), name) for name in ("cc", "bcc"))
    if len(cc) + len(bcc) > MAX_COPIES:
        raise _mime.MailFault(f"cc and bcc have more than {MAX_COPIES} addresses")
    who = _sender(call)
    text, html, subject = _content(call, {}, localized=False)
    message = _message(call, who, _text(to), subject, text, html, None)
    own_word = any(name.lower() == "auto-submitted" for name, _ in message.headers)
    said = () if own_word else (("Auto-Submitted", "auto-generated"),)  # RFC 3834 5.1: nobody is to answer it by machine
    message = message._replace(cc=cc, headers=(*said, *message.headers))
    built = _mime.build(message)
    return Letter(built, tuple(address for address in dict.fromkeys((*cc, *bcc)) if address != built.to))


def view(call: Call) -> tuple[str, str]:
    """("html" | "text", the message's content) for showing it on a page: no pixel, no click links. Raises TemplateFault or MailFault."""
    text, html, _ = _content(call, _addresses(call, _tracking.links_of(call)))
    return ("text", text) if html is None else ("html", html)


def _content(call: Call, addresses: Mapping[str, Any], localized: bool = True) -> tuple[str, str | None, str]:
    """(text, html or None, subject) as the template gives them."""
    folder = call.project / call.settings.get("templates", "templates")
    locale = call.contact.get("locale") if localized else None
    rendered = _templates.render(folder, call.primary, _values(call, addresses), locale)
    subject = _text(call.params.get("subject")) or rendered.subject
    if not subject:
        raise _mime.MailFault(f"template {call.primary!r} has no subject: begin it with `Subject: …`, or give `subject:`")
    html, text = rendered.html, rendered.text
    if text is None:
        text = _convert(html or "")
    if html is not None:
        html = _with_preheader(html, _text(call.params.get("preheader")) or rendered.preheader)
    return text, html, subject


def _message(call: Call, who: _Sender, to: str, subject: str, text: str, html: str | None, unsubscribe: str | None) -> _mime.Message:
    return _mime.Message(
        to,
        who.author,
        subject,
        text,
        html,
        call.at,
        _own_name(call),
        reply_to=_text(call.params.get("reply_to") or call.settings.get("reply_to")) or None,
        unsubscribe=unsubscribe,
        attachments=_attachments(call),
        agent=who.agent,
        domain=who.domain,
        headers=_headers(call),
    )


def wrong_headers(settings: Mapping[str, Any], sender_given: bool) -> Iterator[str]:
    """Which settings no message could be built with, in the words of the hand-over. sender_given: each action names its own sender."""
    if not settings.get("from") and not sender_given:
        yield NO_SENDER
    envelope = _text(settings.get("envelope_from")).replace("{handle}", "msg_0")
    unsubscribe = _pattern(settings, "unsubscribe_url", "ana", "welcome")
    checks: tuple[tuple[str, Any, Callable[[str], Any]], ...] = (
        ("from", _text(settings.get("from")), _mime.mailbox),
        ("reply_to", _text(settings.get("reply_to")), _mime.address),
        ("envelope_from", envelope, _mime.address),
        ("unsubscribe_url", unsubscribe, _mime.unsubscribe_headers),
    )
    for name, value, parse in checks:
        try:
            if value:
                parse(value)
        except _mime.MailFault as fault:
            yield f"the setting {name} = {settings[name]!r} can't be used: {fault}"


def _own_name(call: Call) -> str:
    """The Message-ID's left side: the effect's name, with the proof that it is ours where there is a key for it."""
    links = _tracking.links_of(call)
    return proven_handle(links.key, call.key) if links is not None else effect_id(call)


# ---------------------------------------------------------------- from whom


class _Sender(NamedTuple):
    """author: From. agent: Sender, where another mailbox hands the message over (RFC 5322 3.6.2). domain: right side of the Message-ID,
    which must be the same in each attempt, whoever is the owner then."""

    author: str
    agent: str | None
    domain: str | None


def _sender(call: Call) -> _Sender:
    house = _text(call.settings.get("from"))
    asked = _text(call.params.get("from")) or ("owner" if call.settings.get("sender") == "owner" else "")
    domain = _mime.mailbox(house)[1].rpartition("@")[2] if house else None
    if asked == "owner" and house:  # without a house address there is nobody to answer for it
        own = _owner(call)
        if own is not None and own[1] != _mime.mailbox(house)[1] and _may_write_as(call, own[1], house):
            return _Sender(_named(*own), house, domain)
    author = asked if asked != "owner" else house
    author = author or house
    if not author:
        raise _mime.MailFault(NO_SENDER)
    return _Sender(author, None, domain)


def _owner(call: Call) -> tuple[str, str] | None:
    """(name, address) of the contact's owner: `owner_email` and `owner_name`, else `owner.email` and `owner.name`, else `owner` where that
    is an address or "Name <address>". For a sender it must be of a domain that we may write as: the setting `owner_domains`, default the
    domain of `from`; for a recipient any."""
    contact = call.contact
    inner = contact.get("owner") if isinstance(contact.get("owner"), Mapping) else {}
    given = contact.get("owner_email") or contact.get("owner.email") or inner.get("email") or contact.get("owner")
    name = contact.get("owner_name") or contact.get("owner.name") or inner.get("name") or ""
    if not isinstance(given, str) or "@" not in given:
        return None
    try:
        found, address = _mime.mailbox(given)
    except _mime.MailFault:
        return None
    return (_text(name) or found), address


def _may_write_as(call: Call, address: str, house: str) -> bool:
    """Whether receivers would believe that we write as this address: SPF and DKIM are those of our own domains."""
    domains = call.settings.get("owner_domains")
    known = domains if isinstance(domains, (list, tuple)) else [_mime.mailbox(house)[1].rpartition("@")[2]] if house else []
    return address.rpartition("@")[2].lower() in {str(domain).lower() for domain in known}


def _named(name: str, address: str) -> str:
    return f"{re.sub('[<>]', ' ', name)} <{address}>" if name.strip() else address


def _envelope(call: Call, sender: str) -> str:
    """Where bounces go: the setting `envelope_from` (in it `{handle}` is the effect's name), else the setting `from`, else the author."""
    pattern = _text(call.settings.get("envelope_from"))
    if pattern:
        return pattern.replace("{handle}", _own_name(call))
    house = call.settings.get("from") if not call.params.get("from") or call.params.get("from") == "owner" else None
    return _mime.mailbox(_text(house))[1] if house else sender


def _recipients(value: Any, name: str) -> tuple[str, ...]:
    values: Iterable[Any] = (value,) if isinstance(value, str) else value or ()
    if not isinstance(values, (list, tuple)):
        raise _mime.MailFault(f"{name} must be a list of addresses")
    return tuple(dict.fromkeys(_mime.address(_text(item)) for item in values))


def _headers(call: Call) -> tuple[tuple[str, str], ...]:
    """Further headers: those of the setting `headers`, over them those of the action."""
    found: dict[str, tuple[str, str]] = {}
    for table in (call.settings.get("headers"), call.params.get("headers")):
        if table is not None and not isinstance(table, Mapping):
            raise _mime.MailFault("headers must be a map of names and texts")
        for name, value in (table or {}).items():
            found[str(name).lower()] = (str(name), _text(value))
    return tuple(found.values())


# ---------------------------------------------------------------- what a template may use, and its links


def _values(call: Call, addresses: Mapping[str, Any]) -> dict[str, Any]:
    """What a template may use. Camp's own names win over arguments of the same name, but for `event`, which the engine
    passes."""
    values = {name: value for name, value in call.params.items() if name not in _OWN or name in ("subject", "preheader")}
    return values | {"contact": call.contact, "campaign": call.campaign, **addresses}


def _addresses(call: Call, links: _tracking.Links | None) -> dict[str, str | None]:
    """unsubscribe_url, preferences_url, view_url: the settings' own, else signed links, else None."""
    made = {name: links.of(name) if links is not None else None for name in ("unsubscribe", "preferences", "view")}
    whose = call.contact.get("id"), call.primary
    return {
        "unsubscribe_url": _pattern(call.settings, "unsubscribe_url", *whose) or made["unsubscribe"],
        "preferences_url": _pattern(call.settings, "preferences_url", *whose) or made["preferences"],
        "view_url": made["view"],
    }


def _tracked(
    call: Call, links: _tracking.Links | None, marketing: bool, addresses: Mapping[str, str | None], text: str, html: str | None
) -> tuple[str, str | None]:
    """The parts with click links, UTM parameters and the pixel, as the settings say."""
    wanted = links is not None and (marketing or _on(call, "track_transactional", False))
    clicks = wanted and _on(call, "track_clicks", True)
    parameters = _tracking.utm_of(call, bool(clicks)) if marketing or wanted else {}
    keep = frozenset(address for address in addresses.values() if address)
    change = _tracking.rewrite(links if clicks else None, parameters)
    if clicks or parameters:
        html = _tracking.in_html(html, change, keep) if html is not None else None
        if not clicks or _on(call, "track_text", False):
            text = _tracking.in_text(text, change, keep)
    if wanted and html is not None and _on(call, "track_opens", True):
        assert links is not None
        html = _tracking.with_pixel(html, links.of("open"))
    return text, html


def _on(call: Call, name: str, default: bool) -> bool:
    value = call.settings.get(name, default)
    return value if isinstance(value, bool) else str(value).strip().lower() in ("true", "yes", "on", "1")


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _convert(html: str) -> str:
    from rules_engine_plugins._text import convert

    return convert(html)


def _pattern(settings: Mapping[str, Any], name: str, contact: Any, template: Any) -> str | None:
    """The address of a setting with its two placeholders filled; whatever the contact's id holds is percent-encoded."""
    pattern = settings.get(name)
    if not isinstance(pattern, str) or not pattern:
        return None
    return _filled(pattern, {"{contact}": contact, "{template}": template})


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
