"""The nouns that plugins declare: actions, their parameters, events, and what an action answers. Pure records.

`rules_engine.plugin` is the public door to these names; nothing else of Camp is promised to plugin authors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

API_VERSION = 1

SECRETS = ("password", "secret", "token", "key", "credential", "authorization", "cookie")
"""Words in a setting's name by which it is known to be a secret: never shown, logged or told in an outcome."""

TYPES = ("text", "number", "boolean", "date", "time", "datetime", "duration", "list", "map", "birthday", "any")
"""Value types of the language. `birthday` is a date whose year may be left out (`--05-10`)."""

KINDS = TYPES + ("template", "segment", "campaign", "event", "attribute", "tag", "choice", "secret", "url", "email", "name")
"""What a parameter takes: a value type, or a name that the checker looks up (`segment.add vip`: vip is written bare)."""


class PluginFailed(Exception):
    """A plugin's function has no answer. The text is one lower-case sentence that names the plugin."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of an action. `kind` is one of KINDS; `choices` only for kind `choice`."""

    name: str
    kind: str = "text"
    required: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()
    help: str = ""


class Change(NamedTuple):
    """One change of a contact's facts, made by the engine inside the transaction that records the firing (promise P4).

    op: set | add | segment_add | segment_remove | tag_add | tag_remove | emit | campaign_enter | campaign_leave | log
    name: the attribute (`points`, `consent.email`), segment, tag, event or campaign; value: what to set, the number to add,
    for `emit` a mapping {"subject": …, "data": {…}}, for `log` the text.
    """

    op: str
    name: str
    value: Any = None


class Call(NamedTuple):
    """All that an external action is told about one hand-over.

    key: the effect's idempotency key, the same for every attempt. settings: the plugin's own table of camp.toml with its own
    secrets filled in. contact: the contact's attributes at hand-over. at: the moment the effect was decided, aware UTC. message_class:
    marketing | transactional | internal, as the author chose it (`class:`), or "".
    """

    key: str
    action: str
    primary: Any
    params: Mapping[str, Any]
    contact: Mapping[str, Any]
    campaign: str | None
    settings: Mapping[str, Any]
    project: Path
    at: datetime
    attempt: int = 1
    message_class: str = ""


class Outcome(NamedTuple):
    """What is known after a hand-over.

    state: accepted (the provider has it) | failed (proof that it does not and will not) | retry (proof that it does not, later may
    work) | unknown (it can't be told). detail: one sentence. provider_id: the provider's name for it. retry_after: seconds.
    """

    state: str
    detail: str = ""
    provider_id: str = ""
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Action:
    """One verb of the language, `namespace.verb`, and everything checking, running and documenting it needs.

    Exactly one of `changes` and `perform` is given. `changes(primary, params)` is pure and returns Change records: an internal
    action, exactly once. `perform(call)` talks to the world and returns an Outcome: an external action, through the outbox.

    extra: what further `key: value` arguments mean: "" (none allowed), "template" (values for the template's placeholders),
    "attribute" (each key names a contact attribute), "event" (each key names a field of the event named by the primary), "any".
    writes: facts that `changes` may touch, for the matcher: "contact.points", "contact.{key}", "segment.{primary}", "tag", "campaign",
    "event.{primary}".
    message_class: marketing | transactional | internal. Caps, quiet hours, consent and holdouts apply to marketing messages only;
    suppression applies to marketing and transactional. A message action with a parameter `class` lets the author choose.
    idempotency: none | key | lookup; window: seconds for which the provider recognises a repeated key.
    lookup: for idempotency `lookup`: asks the provider what became of a hand-over whose outcome is unknown: accepted | failed |
    retry (it never arrived: hand it over again) | unknown (can't be told yet). Its Call has the key of then, but the contact and the
    settings of now. settle: seconds after which the provider's answer counts.
    """

    name: str
    summary: str
    primary: Parameter | None = None
    parameters: tuple[Parameter, ...] = ()
    extra: str = ""
    channel: str | None = None
    message_class: str = "internal"
    address: str | None = None
    changes: Callable[[Any, Mapping[str, Any]], tuple[Change, ...]] | None = None
    perform: Callable[[Call], Outcome] | None = None
    writes: tuple[str, ...] = ()
    idempotency: str = "none"
    window: float = 0.0
    timeout: float = 30.0
    example: str = ""
    lookup: Callable[[Call], Outcome] | None = None
    settle: float = 60.0


def covers(writes: tuple[str, ...], change: Change, primary: Any, params: Mapping[str, Any]) -> bool:
    """Whether `writes` of an action names the fact that a change touches; a name covers what lies below it."""
    facts = {
        "set": f"contact.{change.name}",
        "add": f"contact.{change.name}",
        "segment_add": f"segment.{change.name}",
        "segment_remove": f"segment.{change.name}",
        "tag_add": "tag",
        "tag_remove": "tag",
        "emit": f"event.{change.name}",
        "campaign_enter": "campaign",
        "campaign_leave": "campaign",
    }
    fact = facts.get(change.op)
    if fact is None:
        return change.op == "log"
    named = {name.replace("{primary}", str(primary)).replace("{key}", key) for name in writes for key in (params or {"": None})}
    return any(fact == name or fact.startswith(name + ".") for name in named)


def prefixed(change: Change) -> str:
    """A hint for a change whose name has the prefix that a fact has in `writes` only, or ""."""
    prefix, _, name = str(change.name).partition(".")
    usual = {"set": "contact", "add": "contact", "segment_add": "segment", "segment_remove": "segment", "emit": "event"}
    return f"; a Change names it without `{prefix}.`: {name[:100]!r}" if name and usual.get(str(change.op)) == prefix else ""


MESSAGE_PARAMETERS = (
    Parameter("class", "choice", choices=("marketing", "transactional", "internal"), help="transactional: exempt from caps and quiet hours."),
    Parameter("ignore_quiet", "boolean", help="yes: this message may leave in quiet hours."),
    Parameter("ignore_limit", "boolean", help="yes: this message may leave though a LIMIT is reached."),
    Parameter("expires_after", "duration", help="Not sent when it is later than this."),
    Parameter("priority", "number", help="Goes before messages of the same moment with a lower one."),
)
"""What every message action (one with a channel) takes besides its own parameters: how it is sent, not what it says. The engine reads
them; the plugin never sees them."""

MESSAGE_OUTCOMES = ("sent", "capped", "quiet", "window", "suppressed", "no_address", "held_out", "expired", "late", "blocked", "held", "failed",
                    "unknown")
"""What becomes of a message. Each is an event `CHANNEL.OUTCOME` that conditions can ask about (`DID email.capped "offer"`)."""


@dataclass(frozen=True, slots=True)
class EventType:
    """One kind of event that a plugin brings. `fields` maps field names to value types. `subject` says in words what the text
    after the event's name is (`page.viewed "/pricing"`), empty if it has none. `changes` maps an event to changes of facts that
    always go with it (`email.unsubscribed` sets `consent.email` to no)."""

    name: str
    summary: str
    fields: Mapping[str, str] = field(default_factory=dict)
    subject: str = ""
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of contacts that a plugin or Camp itself brings: `name` without `contact.`, value type, default or None."""

    name: str
    type: str
    summary: str = ""
    default: Any = None
