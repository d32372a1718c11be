"""What providers report, in their own shapes, as records of one shape. Pure.

Shapes: Postmark's webhooks (one JSON object with RecordType), Mailgun's (`event-data`), Twilio's (a form: a status of a message, or an
answer to it), and Camp's own (`delivery`), for everybody else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from rules_engine.service import ingest
from rules_engine.service.web.core import clean, short

KINDS = ("delivered", "bounced", "complained", "opened", "clicked", "unsubscribed", "failed", "replied")
STATES = {"delivered": "delivered", "bounced": "bounced", "complained": "complained", "failed": "failed"}
STOP = ("STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT")
"""Words that end text messages, as carriers in North America demand; Twilio's default list."""

_HANDLE = re.compile(r"msg_[0-9a-f]{32}")


class Report(NamedTuple):
    """One thing that a provider tells. names: handles or provider's ids of the message, the surest first; kind: one of KINDS; state: what the
    effect becomes by it, or ""; id: the same for the same report; at: ms, or None: now; address: of the recipient; ends: the provider
    itself takes the answer for an unsubscribe."""

    channel: str
    kind: str
    names: tuple[str, ...]
    id: str
    at: int | None
    address: str
    data: Mapping[str, Any]
    state: str = ""
    reason: str = ""
    ends: bool = False


def _report(channel: str, kind: str, names: list[Any], stamp: Any, at: int | None, address: Any, /, **data: Any) -> Report:
    """A bounce is hard or soft: only the hard one ends the message; a soft one may still be followed by a delivery."""
    texts = tuple(dict.fromkeys(name for item in names for name in _names(item)))
    state = "" if kind == "bounced" and data.get("kind") != "hard" else STATES.get(kind, "")
    kept = {key: clean(value) for key, value in data.items() if value not in (None, "")}
    reason = str(kept.get("reason", "")) or f"the provider reports: {kind}"
    return Report(channel, kind, texts, f"{kind}:{short(texts, stamp)}", at, address if isinstance(address, str) else "", kept, state, reason)


def meant(report: Report, channel: str) -> list[Report]:
    """The report as one of the channel of its message: an answer by text message that is a word to end them is an unsubscribe, too."""
    found = [report._replace(channel=channel)]
    if channel == "sms" and report.kind == "replied" and (report.ends or str(report.data.get("text", "")).strip().upper() in STOP):
        found.append(found[0]._replace(kind="unsubscribed", id="unsubscribed" + report.id.removeprefix("replied")))
    return found


def _names(item: Any) -> list[str]:
    """A message's name, without the brackets and the host of a Message-ID where it is our handle."""
    if not isinstance(item, str) or not 0 < len(item) <= 1_000:
        return []
    handle = _HANDLE.search(item)
    return ([handle[0]] if handle else []) + [item.strip("<> ")]


def _moment(value: Any) -> int | None:
    """ISO 8601, or seconds since the epoch; None where it can't be read or isn't of this age."""
    if isinstance(value, bool) or value in (None, ""):
        return None
    if isinstance(value, int | float):
        return int(value * 1000) if math.isfinite(value) and 0 < value < 1e11 else None
    try:
        text = re.sub(r"(\.\d{6})\d+", r"\1", str(value))  # Postmark has seven digits
        datetime.fromisoformat(text)
        return ingest.moment(text, "at")
    except (TypeError, ValueError):
        return None


# ---------------------------------------------------------------- shapes


def delivery(value: Mapping[str, Any], webhook_id: str) -> list[Report]:
    """Camp's own: {"event": one of KINDS, "message": handle or provider's id, "channel": "email" (without it) | "sms" | another plugin's,
    "address", "at", and kind, reason, url, text as the event has them}. A bounce without kind is hard. Raises ValueError(sentence)."""
    kind, channel = value.get("event"), value.get("channel") or "email"
    if kind not in KINDS:
        raise ValueError(f"`event` must be one of {', '.join(KINDS)}")
    if not isinstance(channel, str):
        raise ValueError("`channel` must be a text such as email or sms")
    data = {name: value.get(name) for name in ("kind", "reason", "url", "text") if isinstance(value.get(name), str)}
    if kind == "bounced":
        data["kind"] = value.get("kind") or "hard"
        if data["kind"] not in ("hard", "soft"):
            raise ValueError("`kind` of a bounce must be hard or soft")
    return [_report(channel, kind, [value.get("message")], webhook_id, _moment(value.get("at")), value.get("address"), **data)]


def postmark(value: Mapping[str, Any]) -> list[Report]:
    """postmarkapp.com/developer/webhooks: Delivery, Bounce, SpamComplaint, Open, Click, SubscriptionChange."""
    kind = value.get("RecordType")
    meta = value.get("Metadata")
    names = [meta.get("camp") if isinstance(meta, Mapping) else None, value.get("MessageID")]
    address = value.get("Recipient") or value.get("Email")
    at = _moment(next((value[key] for key in ("DeliveredAt", "BouncedAt", "ReceivedAt", "ChangedAt") if value.get(key)), None))
    stamp = [kind, value.get("ID"), at]

    def one(event: str, **data: Any) -> list[Report]:
        return [_report("email", event, names, stamp, at, address, **data)]

    if kind == "Delivery":
        return one("delivered")
    if kind == "Bounce":
        hard = value.get("Type") in ("HardBounce", "BadEmailAddress", "ManuallyDeactivated") or value.get("Inactive") is True
        return one("bounced", kind="hard" if hard else "soft", reason=value.get("Description") or value.get("Type"))
    if kind == "SpamComplaint":
        return one("complained")
    if kind == "Open":
        return one("opened", machine=_is_machine(value))
    if kind == "Click":
        return one("clicked", url=value.get("OriginalLink"), machine=_is_machine(value))
    if kind == "SubscriptionChange" and value.get("SuppressSending") is True:
        return one("unsubscribed", reason=value.get("SuppressionReason"))
    return []


def _is_machine(value: Mapping[str, Any]) -> bool:
    from rules_engine.service.web import machines

    agent = value.get("UserAgent")
    return bool(machines.machine("GET", {"user-agent": agent})) if isinstance(agent, str) and agent else False


def mailgun(value: Mapping[str, Any]) -> list[Report]:
    """documentation.mailgun.com, events: delivered, failed (permanent or temporary), complained, opened, clicked, unsubscribed."""
    data = value.get("event-data")
    if not isinstance(data, Mapping):
        return []
    kind, own = data.get("event"), _part(data, "user-variables")
    names = [own.get("camp"), _part(_part(data, "message"), "headers").get("message-id")]
    at = _moment(data.get("timestamp"))
    stamp = [kind, data.get("id"), at]

    def one(event: str, **more: Any) -> list[Report]:
        return [_report("email", event, names, stamp, at, data.get("recipient"), **more)]

    if kind == "failed":
        status = _part(data, "delivery-status")
        reason = status.get("message") or status.get("description") or data.get("reason")
        return one("bounced", kind="hard" if data.get("severity") == "permanent" else "soft", reason=reason if isinstance(reason, str) else None)
    if kind in ("opened", "clicked"):
        bot = _part(data, "client-info").get("bot")
        link = {"url": data.get("url")} if kind == "clicked" else {}
        return one(kind, machine=isinstance(bot, str) and bot != "", **link)
    return one(kind) if kind in ("delivered", "complained", "unsubscribed") else []


def _part(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, Mapping) else {}


def twilio(fields: Mapping[str, str]) -> list[Report]:
    """twilio.com/docs/messaging: a status callback (MessageStatus), or an incoming message (Body)."""
    sid = fields.get("MessageSid") or fields.get("SmsSid")
    status = fields.get("MessageStatus") or fields.get("SmsStatus")
    if "Body" in fields and status in (None, "", "received"):
        text, sender = fields["Body"], fields.get("From")
        return [_report("sms", "replied", [], [sid], None, sender, text=text)._replace(ends=fields.get("OptOutType", "").upper() == "STOP")]
    if status == "delivered":
        return [_report("sms", "delivered", [sid], [status], None, fields.get("To"))]
    if status in ("undelivered", "failed"):
        code = fields.get("ErrorCode")
        reason = fields.get("ErrorMessage") or (f"Twilio's error {code}" if code else status)
        return [_report("sms", "failed", [sid], [status], None, fields.get("To"), reason=reason)]
    return []
