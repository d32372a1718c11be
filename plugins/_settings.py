"""What the first-party message plugins declare alike, and what their settings can't be. Imported with each of them, so it imports next to
nothing. The hand-over says the same sentences as `camp doctor` and `camp run`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rules_engine.plugin import Parameter

DELIVERY = ("transport", "folder", "fsync", "url", "secret", "token", "timeout", "allow_private", "deduplicates")
"""Settings of what goes to a folder or to a webhook (`_handover.deliver`)."""

PORTS = {"starttls": 587, "tls": 465, "none": 25}
"""Ways of encryption to an SMTP server, each with its port."""


def unknown_transport(settings: Mapping[str, Any], known: Sequence[str]) -> str:
    """Why the setting transport can't be, or "" if it can."""
    transport = settings.get("transport", "folder")
    return "" if transport in known else f"the setting transport = {transport!r} is unknown; known are {', '.join(known[:-1])} and {known[-1]}"


def wrong_delivery(settings: Mapping[str, Any], known: Sequence[str]) -> Iterator[str]:
    """What can't be in the settings of `_handover.deliver`, in sentences. known: the plugin's transports."""
    unknown = unknown_transport(settings, known)
    if unknown:
        yield unknown
    elif settings.get("transport") == "webhook":
        if not settings.get("url"):
            yield "the setting url is missing"
        else:
            from rules_engine_plugins import _http

            target = _http.target_of(settings["url"])
            if isinstance(target, str):
                yield f"the setting url = {settings['url']!r} can't be called: {target}"


def wrong_smtp(settings: Mapping[str, Any]) -> Iterator[str]:
    """What can't be in the settings of an SMTP server, in sentences."""
    if not settings.get("host"):
        yield "the setting host is missing: the SMTP server's name"
    if str(settings.get("tls", "starttls")) not in PORTS:
        yield f"the setting tls = {settings['tls']!r} is unknown; known are starttls, tls and none"
    port = settings.get("port")
    if port and not (str(port).isdigit() and 0 < int(port) < 65_536):
        yield f"the setting port = {port!r} must be a number from 1 to 65535"
    for name in ("timeout", "max_messages", "idle"):
        try:
            number_above_0(settings, name, 1)
        except ValueError as error:
            yield str(error)


def number_above_0(settings: Mapping[str, Any], name: str, default: float) -> float:
    """A setting as a number. Raises ValueError with a sentence."""
    value = settings.get(name)
    try:
        number = float(default if value is None or isinstance(value, bool) else value)
    except (TypeError, ValueError):
        number = 0.0
    if not 0 < number < 1e6:
        raise ValueError(f"the setting {name} = {value!r} is no number above 0")
    return number


def message_class(what: str) -> Parameter:
    """The parameter `class` of an action whose messages are marketing unless the campaign says otherwise. what: the messages."""
    return Parameter(
        "class",
        "choice",
        default="marketing",
        choices=("marketing", "transactional"),
        help=f"Transactional {what} exempt from caps and quiet hours.",
    )
