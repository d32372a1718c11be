"""`email.send`: a message from the project's `templates/` folder, to a folder of `.eml` files or to an SMTP server.

Templates. `email.send "welcome_1"` needs `templates/welcome_1.txt`, `templates/welcome_1.html`, or both (then the message has
both parts; from HTML alone the plain text is derived). They are Jinja2, sandboxed, HTML is escaped, a placeholder without a
value is an error, and include/extends reach only files below `templates/`. A file may begin with a header block, which ends
at the first empty line; its keys are Subject and Preheader, and its values are templates too:

    Subject: Welcome, {{ contact.first_name | default("friend") }}
    Preheader: Three things to try first

    Hello …

The arguments `subject:` and `preheader:` of the action win over the block; the block of the .txt wins over that of the .html.
Placeholders: `contact.NAME`, each further argument of the action by its name (`cart: event.cart_id` is `{{ cart }}`),
`campaign`, `subject`, `preheader`, `unsubscribe_url`, and `event.NAME` where the engine passes the event's fields as the
argument `event`.

Settings (`[email]` of camp.toml): transport = "folder" (default) | "smtp"; from = "Name <a@b>"; reply_to; unsubscribe_url (may
contain `{contact}` and `{template}`); folder = "outbox"; fsync = true; and for smtp: host, port, tls = "starttls" (default) |
"tls" | "none", user, password (a secret), timeout (seconds), helo, envelope_from.

Repeats. The folder transport names the file after the effect's key, so a repeated key is recognised for ever. SMTP knows no
key: what can't be told is `unknown`. `idempotency(settings)` says which holds; the record declares the weaker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rules_engine.plugin import Action, Call, Change, EventType, Outcome, Parameter, hookimpl

SETTINGS = (
    "transport",
    "from",
    "reply_to",
    "unsubscribe_url",
    "folder",
    "fsync",
    "templates",
    "host",
    "port",
    "tls",
    "user",
    "password",
    "timeout",
    "helo",
    "envelope_from",
)
"""What [email] of camp.toml may hold: `camp doctor` names what is misspelt."""

PARAMETERS = (
    Parameter("subject", "text", help="Instead of the template's subject."),
    Parameter("to", "email", help="Instead of the contact's own address."),
    Parameter("from", "text", help='The sender, "Name <name@domain>"; default: the setting `from`.'),
    Parameter("reply_to", "email", help="Where answers go."),
    Parameter(
        "class",
        "choice",
        default="marketing",
        choices=("marketing", "transactional"),
        help="Transactional mail is exempt from caps and quiet hours.",
    ),
    Parameter("preheader", "text", help="The line that mail programs show after the subject."),
    Parameter("attachments", "list", help="Names of files below the project's attachments/ folder."),
)


def send(call: Call) -> Outcome:
    """Renders, builds and hands over one message. Contact data can't make it raise; a broken template is `failed`."""
    from rules_engine_plugins import _mail  # jinja2, email and smtplib cost 80 ms: only a hand-over pays them

    return _mail.send(call)


def idempotency(settings: Mapping[str, Any]) -> str:
    """Says "key" where these settings make a repeated key harmless, else "none"."""
    return "key" if settings.get("transport", "folder") == "folder" else "none"


@hookimpl
def register_actions() -> Iterator[Action]:
    yield Action(
        "email.send",
        "Send an e-mail made from a template.",
        Parameter("template", "template", required=True, help="A file in templates/, without its ending."),
        PARAMETERS,
        extra="template",
        channel="email",
        message_class="marketing",
        address="email",
        perform=send,
        timeout=60.0,
        example='email.send "welcome_1", subject: "Hello {contact.first_name}"',
    )


@hookimpl
def register_events() -> Iterator[EventType]:
    subject = "the template's name"
    # Mail proxies and link scanners open and click by machine: sources that can tell set `machine`.
    opened = {"machine": "boolean", "campaign": "text"}
    yield EventType("email.sent", "A message was handed over.", {"campaign": "text"}, subject)
    yield EventType("email.delivered", "The recipient's server took the message.", {"campaign": "text"}, subject)
    yield EventType("email.opened", "The message was opened.", opened, subject)
    yield EventType("email.clicked", "A link in the message was clicked.", {"url": "text", **opened}, subject)
    yield EventType(
        "email.bounced",
        "The message came back; kind is hard (never again) or soft.",
        {"kind": "text", "reason": "text", "campaign": "text"},
        subject,
        (Change("set_if", "suppressed.email", {"field": "kind", "equals": "hard", "value": "bounce"}),),
    )
    yield EventType(
        "email.complained",
        "The contact reported the message as spam.",
        {"campaign": "text"},
        subject,
        (Change("set", "suppressed.email", "complaint"),),
    )
    yield EventType(
        "email.unsubscribed",
        "The contact wants no more e-mail.",
        {"reason": "text", "campaign": "text"},
        subject,
        (Change("set", "consent.email", False),),
    )
    yield EventType("email.replied", "The contact answered the message.", {"text": "text", "campaign": "text"}, subject)
    yield EventType("email.failed", "The message could not be handed over.", {"reason": "text", "campaign": "text"}, subject)
