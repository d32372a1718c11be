"""`[web]` of camp.toml, checked once at the start. Pure: the table comes with its secrets filled in from the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from rules_engine.limits import MAX_BACKLOG

SHAPES = ("standard", "delivery", "postmark", "mailgun", "twilio")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,60}")
_KNOWN = frozenset(
    "url secret sites respect_dnt forms webhooks preferences trusted_proxies max_backlog visits_per_minute forms_per_minute "
    "tokens token listen".split()
)
_FORM = frozenset("fields email redirect origins honeypot consent attributes".split())
_WEBHOOK = frozenset("kind secret event events contact at subject data user password id".split())


@dataclass(frozen=True, slots=True)
class Form:
    """[web.forms.NAME]. fields: what is kept. email: the field that says who it is. redirect: where the browser goes afterwards ("":
    a page of ours). origins: sites that may post it (empty: `sites`). honeypot: a field that people don't see. consent: field ->
    attribute set to yes when it is ticked. attributes: field -> attribute of the contact."""

    name: str
    fields: tuple[str, ...]
    email: str = "email"
    redirect: str = ""
    origins: tuple[str, ...] = ()
    honeypot: str = ""
    consent: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Webhook:
    """[web.webhooks.NAME]. kind: one of SHAPES. event: the event's name, or the dotted path to it where `events` translates what is
    found there. contact, at, subject, id: dotted paths; data: field -> dotted path. user: of Basic authentication (postmark)."""

    name: str
    kind: str
    secrets: tuple[str, ...]
    event: str = ""
    events: Mapping[str, str] = field(default_factory=dict)
    contact: str = ""
    at: str = ""
    subject: str = ""
    id: str = ""
    data: Mapping[str, str] = field(default_factory=dict)
    user: str = ""


@dataclass(frozen=True, slots=True)
class WebSettings:
    """All of [web]. url: the public address, without a slash at the end, or "". keys: of signed links, the first signs. tokens: name
    -> bearer token. rates: requests a minute and address."""

    url: str = ""
    keys: tuple[str, ...] = ()
    tokens: Mapping[str, str] = field(default_factory=dict)
    sites: tuple[str, ...] = ()
    respect_dnt: bool = True
    forms: Mapping[str, Form] = field(default_factory=dict)
    webhooks: Mapping[str, Webhook] = field(default_factory=dict)
    preferences: Mapping[str, str] = field(default_factory=dict)
    trusted_proxies: tuple[str, ...] = ()
    max_backlog: int = MAX_BACKLOG
    visits_per_minute: int = 600
    forms_per_minute: int = 30

    @property
    def links(self) -> dict[str, str] | None:
        """What plugins need to sign links, if they can be signed."""
        return {"url": self.url, "key": self.keys[0]} if self.url and self.keys else None


def read_settings(table: Mapping[str, Any]) -> WebSettings:
    """The settings of [web]. Raises ValueError(sentence) that names the setting."""
    tokens = _tokens(table)
    own = {key: value for key, value in table.items() if not re.match(r"(token|webhooks)_", key)}
    _only("[web]", own, _KNOWN)
    sites = tuple(_origin("[web] sites", site) for site in _texts("[web] sites", table.get("sites", [])))
    return WebSettings(
        url=_origin("[web] url", table["url"], path=True) if table.get("url") else "",
        keys=_keys(table.get("secret")),
        tokens=tokens,
        sites=sites,
        respect_dnt=_flag("[web] respect_dnt", table.get("respect_dnt", True)),
        forms={name: _form(name, entry, sites) for name, entry in _tables("forms", table).items()},
        webhooks={name: _webhook(name, entry, table) for name, entry in _tables("webhooks", table).items()},
        preferences=_map("[web.preferences]", table.get("preferences", {})),
        trusted_proxies=_texts("[web] trusted_proxies", table.get("trusted_proxies", [])),
        max_backlog=_count("[web] max_backlog", table.get("max_backlog", MAX_BACKLOG)),
        visits_per_minute=_count("[web] visits_per_minute", table.get("visits_per_minute", 600)),
        forms_per_minute=_count("[web] forms_per_minute", table.get("forms_per_minute", 30)),
    )


# ---------------------------------------------------------------- secrets


def _tokens(table: Mapping[str, Any]) -> dict[str, str]:
    """CAMP_WEB_TOKEN is `default`, CAMP_WEB_TOKEN_SHOP is `shop`; [web.tokens] names others."""
    found = {"default": table.get("token"), **{key[6:]: value for key, value in table.items() if key.startswith("token_")}}
    found.update(_map("[web.tokens]", table.get("tokens", {})))
    tokens = {name: token for name, token in found.items() if token}
    for name, token in tokens.items():
        if not isinstance(token, str) or len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token:
            variable = "CAMP_WEB_TOKEN" if name == "default" else f"CAMP_WEB_TOKEN_{name.upper()} or [web.tokens]"
            raise ValueError(f"[web] the token `{name}` ({variable}) must be at least 16 letters and digits; `openssl rand -hex 24` makes one")
    return tokens


def _keys(secret: Any) -> tuple[str, ...]:
    keys = _secrets(secret)
    if any(len(key) < 16 for key in keys):
        raise ValueError("[web] secret (CAMP_WEB_SECRET) must be at least 16 characters; `openssl rand -hex 24` makes one")
    return keys


def _secrets(value: Any) -> tuple[str, ...]:
    """Several for a rotation: a list, or one text with blanks between."""
    if isinstance(value, str):
        return tuple(value.split())
    return _texts("secret", value) if value else ()


# ---------------------------------------------------------------- tables


def _tables(name: str, table: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    found = table.get(name, {})
    if not isinstance(found, Mapping) or not all(isinstance(entry, Mapping) for entry in found.values()):
        raise ValueError(f"[web.{name}] must hold tables: write [web.{name}.NAME]")
    for entry in found:
        if not _NAME.fullmatch(entry):
            raise ValueError(f"[web.{name}.{entry}]: a name has small letters, digits, - and _")
    return dict(found)


def _form(name: str, entry: Mapping[str, Any], sites: tuple[str, ...]) -> Form:
    where = f"[web.forms.{name}]"
    _only(where, entry, _FORM)
    redirect = entry.get("redirect", "")
    if redirect:
        _check_url(where + " redirect", redirect)
    email = _text(where + " email", entry.get("email", "email"))
    fields = _texts(where + " fields", entry.get("fields", []))
    return Form(
        name,
        tuple(dict.fromkeys((*fields, email))),
        email,
        redirect,
        tuple(_origin(where + " origins", site) for site in _texts(where + " origins", entry.get("origins", []))) or sites,
        _text(where + " honeypot", entry.get("honeypot", "")),
        _map(where + " consent", entry.get("consent", {})),
        _map(where + " attributes", entry.get("attributes", {})),
    )


def _webhook(name: str, entry: Mapping[str, Any], table: Mapping[str, Any]) -> Webhook:
    where = f"[web.webhooks.{name}]"
    _only(where, entry, _WEBHOOK)
    variable = "webhooks_" + name.replace("-", "_") + "_"
    kind = entry.get("kind", "standard")
    if kind not in SHAPES:
        raise ValueError(f"{where} kind must be one of {', '.join(SHAPES)}")
    secrets = _secrets(table.get(variable + "secret") or entry.get("secret"))
    user = table.get(variable + "user") or entry.get("user", "")
    if kind == "postmark":
        secrets = _secrets(table.get(variable + "password") or entry.get("password")) or secrets
        if not user:
            raise ValueError(f"{where} user is missing: Postmark signs nothing, it shows user and password of the webhook's URL")
    if not secrets:
        raise ValueError(f"{where} has no secret: set CAMP_WEB_{variable.upper()}{'PASSWORD' if kind == 'postmark' else 'SECRET'}")
    if kind == "standard" and not (entry.get("event") and entry.get("contact")):
        raise ValueError(f"{where} needs `event` (a name, or a path with [web.webhooks.{name}.events]) and `contact` (a path)")
    texts = {key: _text(f"{where} {key}", entry.get(key, "")) for key in ("event", "contact", "at", "subject", "id")}
    return Webhook(
        name, kind, secrets, **texts, events=_map(where + " events", entry.get("events", {})), data=_map(where + " data", entry.get("data", {})),
        user=_text(where + " user", user),
    )  # fmt: skip


# ---------------------------------------------------------------- values


def _only(where: str, table: Mapping[str, Any], known: frozenset[str]) -> None:
    for key in table:
        if key not in known:
            from difflib import get_close_matches

            near = get_close_matches(key, sorted(known), 1)
            raise ValueError(f"{where} has no setting `{key}`; " + (f"did you mean `{near[0]}`?" if near else f"it takes {', '.join(sorted(known))}"))


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where} must be a text")
    return value


def _texts(where: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = value.split()
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) and item for item in value):
        raise ValueError(f"{where} must be a list of texts")
    return tuple(value)


def _map(where: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(item, str) and item for item in value.values()):
        raise ValueError(f'{where} must be a table of texts: name = "…"')
    return dict(value)


def _flag(where: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{where} must be true or false")
    return value


def _count(where: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{where} must be a whole number above 0")
    return value


def _check_url(where: str, value: Any) -> str:
    text = _text(where, value)
    if not is_web_url(text):
        raise ValueError(f"{where} must be an address such as https://shop.example/thanks")
    return text


def _origin(where: str, value: Any, path: bool = False) -> str:
    text = _check_url(where, value).rstrip("/")
    parts = urlsplit(text)
    if not path and (parts.path or parts.query or parts.fragment):
        raise ValueError(f"{where} must be https://host without a path: {text}")
    return text if path else f"{parts.scheme}://{parts.netloc}".lower()


def is_web_url(text: Any) -> bool:
    """http or https with a host, and nothing that could break out of a header."""
    if not isinstance(text, str) or len(text) > 8_000 or not re.fullmatch(r"[\x21-\x5b\x5d-\x7e\x80-\U0010ffff]+", text):
        return False
    if any(letter in text for letter in "\u2028\u2029\x85") or any(0xD800 <= ord(letter) <= 0xDFFF for letter in text):
        return False
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc and (parts.port or 1) > 0
    except ValueError:
        return False
