"""The public seam for action plugins. A plugin imports this module and nothing else of Camp.

    from rules_engine.plugin import Action, Call, Outcome, Parameter, hookimpl

    def send(call: Call) -> Outcome:
        ...
        return Outcome("accepted", provider_id="42")

    @hookimpl
    def register_actions():
        yield Action("pager.send", "Page somebody.", primary=Parameter("text", "text", required=True), perform=send)

and names its module under the entry-point group `camp.plugins`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rules_engine.actions import API_VERSION, Action, Attribute, Call, Change, EventType, Outcome, Parameter
from rules_engine.hookspecs import hookimpl

__all__ = [
    "API_VERSION",
    "Action",
    "Attribute",
    "Call",
    "Change",
    "EventType",
    "Outcome",
    "Parameter",
    "handle",
    "hookimpl",
    "proven_handle",
    "signed_link",
]


def handle(key: str) -> str:
    """An effect's name for the world, made from `Call.key`: the same for every attempt; safe in headers, file names and URLs."""
    from rules_engine import links  # hashlib and json: only a hand-over pays for them

    return links.handle(key)


def proven_handle(key: str, effect: str) -> str:
    """`handle(effect)` with a proof that we made it, by the key of signed links: the left side of a Message-ID whose bounces can be
    trusted. Raises ValueError for an empty key."""
    from rules_engine import links

    return links.proven(key, effect)


def signed_link(base: str, key: str, purpose: str, values: Mapping[str, Any]) -> str:
    """A link below the public address `base` that only Camp can have made. purpose: open | click | unsubscribe | preferences |
    view | asset. values: c, the contact's id; e, `Call.key`; s, the template; m, the campaign; ch, the channel (e-mail without it,
    where the outbox does not have the message any more); u, the target of a click; f, the file of an asset. Raises ValueError for
    another purpose or an empty key."""
    from rules_engine import links

    return links.url(base, key, purpose, values)
