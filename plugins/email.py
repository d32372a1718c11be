"""`email.send` and `email.notify`: messages from the project's `templates/` folder, to a folder of `.eml` files or to an SMTP server.

`email.send` writes to the contact: one recipient. `email.notify` writes to a person of the house, the contact's owner or an address: it is
internal, so no consent, cap, quiet hour, tracking or unsubscribe is about it. Its cc and bcc go in the same transaction: the message
counts as accepted when the first recipient is, and the detail names those that were refused.

Templates. `email.send "welcome_1"` needs `templates/welcome_1.txt`, `templates/welcome_1.html`, or both (then the message has
both parts; from HTML alone the plain text is derived). They are Jinja2, sandboxed, HTML is escaped, a placeholder without a
value is an error, and include/extends reach only files below `templates/`. A file may begin with a header block, which ends
at the first empty line; its keys are Subject and Preheader, and its values are templates too:

    Subject: Welcome, {{ contact.first_name | default("friend") }}
    Preheader: Three things to try first

    Hello …

The arguments `subject:` and `preheader:` of the action win over the block; the block of the .txt wins over that of the .html.
Placeholders: `contact.NAME`, each further argument of the action by its name (`cart: event.cart_id` is `{{ cart }}`),
`campaign`, `subject`, `preheader`, `unsubscribe_url`, `preferences_url`, `view_url`, and `event.NAME` where the engine passes the
event's fields as the argument `event`.

Translations. For a contact with the locale de-AT the first of NAME.de-AT, NAME.de and NAME that has a file is taken (.txt, .html or
both), with its own header block; the rest of the message does not mix with it.

Links. Where the service has a public address (`[web] url` and the secret CAMP_WEB_SECRET), a marketing message's web links in the
HTML part become signed click links with UTM parameters, a pixel is added, and `unsubscribe_url`, `preferences_url`, `view_url` and
List-Unsubscribe are signed links. A link with data-camp-track="no" stays as it is.

Settings (`[email]` of camp.toml): transport = "folder" (default) | "smtp"; from = "Name <a@b>"; sender = "owner" (the contact's owner
writes; owner_domains = ["b"]); reply_to; headers (a table: X-… and a few more); unsubscribe_url, preferences_url (may contain
`{contact}` and `{template}`; instead of the signed links); track_opens, track_clicks = true; track_text, track_transactional = false;
utm = {source = "…", …} | false; folder = "outbox"; fsync = true; and for smtp: host, port, tls = "starttls" (default) | "tls" | "none",
ca_file, user, password (a secret), timeout (seconds for a whole hand-over, 30), max_messages = 100 and idle = 20 (seconds) of a
connection, helo, envelope_from (in it `{handle}` is the effect's name).

Repeats. The folder transport names the file after the effect's key, so a repeated key is recognised for ever. SMTP knows no
key: what can't be told is `unknown`. `idempotency(settings)` says which holds; the record declares the weaker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rules_engine.plugin import Action, Call, Change, EventType, Outcome, Parameter, hookimpl
from rules_engine_plugins._settings import message_class, unknown_transport, wrong_smtp

SETTINGS = (
    "transport",
    "from",
    "sender",
    "owner_domains",
    "reply_to",
    "headers",
    "unsubscribe_url",
    "preferences_url",
    "track_opens",
    "track_clicks",
    "track_text",
    "track_transactional",
    "utm",
    "folder",
    "fsync",
    "templates",
    "host",
    "port",
    "tls",
    "ca_file",
    "user",
    "password",
    "timeout",
    "max_messages",
    "idle",
    "helo",
    "envelope_from",
)
"""What [email] of camp.toml may hold: `camp doctor` names what is misspelt."""

PARAMETERS = (
    Parameter("subject", "text", help="Instead of the template's subject."),
    Parameter("to", "email", help="Instead of the contact's own address."),
    Parameter("from", "text", help='The sender, "Name <name@domain>" or "owner"; default: the setting `from`.'),
    Parameter("reply_to", "email", help="Where answers go."),
    message_class("mail is"),
    Parameter("preheader", "text", help="The line that mail programs show after the subject."),
    Parameter("attachments", "list", help="Names of files below the project's attachments/ folder."),
    Parameter("headers", "map", help="Further headers: X-… and a few harmless ones."),
)

NOTICE = (
    Parameter("to", "text", help='An address, or "owner" (default): the contact\'s owner.'),
    Parameter("cc", "list", help="Addresses that get it too, for all to see."),
    Parameter("bcc", "list", help="Addresses that get it too, unseen."),
    *(parameter for parameter in PARAMETERS if parameter.name not in ("to", "class", "preheader")),
)


def send(call: Call) -> Outcome:
    """Renders, builds and hands over one message. Contact data can't make it raise; a broken template is `failed`."""
    from rules_engine_plugins import _mail  # jinja2, email and smtplib cost 80 ms: only a hand-over pays them

    return _mail.send(call)


def notify(call: Call) -> Outcome:
    """Renders, builds and hands over one internal message."""
    from rules_engine_plugins import _mail

    return _mail.notify(call)


def view(call: Call) -> tuple[str, str]:
    """("html" | "text", content) of the message for a page that shows it: no pixel, no click links. Raises ValueError with the reason."""
    from rules_engine_plugins import _mail, _mime, _templates

    try:
        return _mail.view(call)
    except (_mime.MailFault, _templates.TemplateFault) as fault:
        raise ValueError(str(fault)) from fault


def idempotency(settings: Mapping[str, Any]) -> str:
    """Says "key" where these settings make a repeated key harmless, else "none"."""
    return "key" if settings.get("transport", "folder") == "folder" else "none"


TRANSPORTS = ("folder", "smtp")


def wrong_settings(settings: Mapping[str, Any], given: frozenset[str] = frozenset()) -> Iterator[str]:
    """What can't be, in sentences. given: the arguments that each action of the campaigns gives itself."""
    from rules_engine_plugins import _mail

    unknown = unknown_transport(settings, TRANSPORTS)
    if unknown:
        yield unknown
    yield from _mail.wrong_headers(settings, "from" in given)
    if settings.get("transport") == "smtp":
        yield from wrong_smtp(settings)


def try_out(settings: Mapping[str, Any]) -> str:
    """For `camp doctor --connect`: connects, encrypts and logs in as a hand-over would, and sends nothing. Says who answered; raises
    whatever the network or the server raises."""
    from rules_engine_plugins import _smtp

    return _smtp.greet(settings)


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
    yield Action(
        "email.notify",
        "Send an internal e-mail about the contact to its owner or to somebody else of the house.",
        Parameter("template", "template", required=True, help="A file in templates/, without its ending."),
        NOTICE,
        extra="template",
        perform=notify,
        timeout=60.0,
        example='email.notify "hot_lead", to: "sales@shop.example", subject: "Call {contact.first_name}"',
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
