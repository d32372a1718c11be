"""Text messages by Twilio's REST API (2010-04-01, Messages.json): hand-over, and what became of one that nobody answered.

    201                                      accepted, under its SID
    429, 503 with Retry-After                retry
    400 with 20429, 21611, 14107             retry: too many for this account or number; it was not taken
    401, 403                                 retry: the credentials or the account, not this message
    other 4xx                                failed, with Twilio's code: 21610 opted out, 21211 no valid number …
    5xx, time-out, line dropped              unknown: Twilio takes no key; the look-up may find it after two minutes

The look-up lists the latest messages to the number and compares number, text and sender as Twilio writes them: a number by its
digits, a text by its words. It does not filter by DateSent, which queued messages do not have yet. A message that is there was
accepted; one that is not there proves nothing, because number, sender, account and text are those of now and may have been others
when it was handed over. Then it stays unknown, and in the end a person decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from rules_engine.plugin import Call, Outcome
from rules_engine_plugins import _http

BASE = "https://api.twilio.com"
PAGE = 20  # messages looked at; a page must fit into the cap of an answer

_LATER = (20429, 21611, 14107)
_MEANING = {
    21211: "it is no valid phone number",
    21214: "the number can't be reached",
    21217: "it is no valid phone number",
    21408: "this account may not write to that country",
    21606: "the sender can't send text messages",
    21610: "the person has opted out",
    21612: "this sender can't reach that number",
    21614: "it is no mobile number",
    21617: "the text is too long",
    30003: "the phone can't be reached",
    30004: "the message was blocked",
    30005: "the number is unknown",
    30006: "it is a landline",
    30007: "the carrier's filter stopped it",
}
"""Twilio's own codes in words; others go with Twilio's."""


def send(call: Call, to: str, text: str) -> Outcome:
    """Hands over one text message."""
    wrong = problem(call.settings)
    if wrong:
        return Outcome("retry", wrong)
    headers, body = _http.form({"To": to, "Body": text, **_sender(call.settings), **_callback(call.settings)})
    answer = _http.ask(call, "POST", _url(call.settings), {**_auth(call.settings), **headers}, body)
    return outcome_of(answer)


def outcome_of(answer: _http.Answer) -> Outcome:
    """The table of the module's docstring."""
    fields = _http.fields_of(answer)
    code = fields.get("code") if isinstance(fields.get("code"), int) else None
    if 200 <= answer.status < 300:
        return _state(fields) or Outcome("accepted", f"Twilio answered {answer.status}")
    said = f"Twilio answered {answer.status} {code or ''} {_MEANING.get(code or 0) or _http.words(fields.get('message'))}"
    said = " ".join(said.split())
    if answer.status in (401, 403) or (400 <= answer.status < 500 and code in _LATER):
        return Outcome("retry", said, retry_after=answer.retry_after)
    outcome = _http.outcome_of(answer)
    return outcome._replace(detail=said) if answer.status else outcome


def look_up(call: Call, to: str, text: str) -> Outcome:
    """What became of a hand-over that was not answered: what Twilio says of the message, or `unknown`; never `retry`."""
    wrong = problem(call.settings)
    if wrong:
        return Outcome("unknown", wrong)
    url = f"{_url(call.settings)}?To={quote(to, safe='')}&PageSize={PAGE}"
    answer = _http.ask(call, "GET", url, _auth(call.settings), None)
    listed = _http.fields_of(answer).get("messages") if answer.status == 200 else None
    if not isinstance(listed, list):
        return Outcome("unknown", f"Twilio can't be asked: {answer.status or answer.reason}")
    for message in listed:
        if isinstance(message, dict) and _since(message, call.at) and _same(message, call.settings, to, text):
            return _state(message) or Outcome("accepted", "Twilio has it", _http.words(message.get("sid"), 64))
    return Outcome("unknown", "Twilio's latest messages to the number of now show none like it, which proves nothing")


def _state(message: Mapping[str, Any]) -> Outcome | None:
    """A message's own word on itself."""
    sid, code = _http.words(message.get("sid"), 64), message.get("error_code")
    if message.get("status") in ("failed", "undelivered", "canceled"):
        words = _MEANING.get(code if isinstance(code, int) else 0) or _http.words(message.get("error_message"))
        return Outcome("failed", " ".join(f"Twilio could not deliver it: {code or ''} {words}".split()), sid)
    return Outcome("accepted", f"Twilio has it: {_http.words(message.get('status'), 20)}", sid) if sid else None


def _same(message: Mapping[str, Any], settings: Mapping[str, Any], to: str, text: str) -> bool:
    ((kind, ours),) = _sender(settings).items()
    sender = message.get("messaging_service_sid" if kind == "MessagingServiceSid" else "from")
    return (
        _number(message.get("to")) == _number(to)
        and _number(sender) == _number(ours)
        and str(message.get("body")).split() == text.split()
        and str(message.get("direction", "outbound")).startswith("outbound")
    )


def _number(value: Any) -> str:
    """A phone number by its digits, which Twilio writes without blanks and brackets; a name, a SID or a short code as it is."""
    text = str(value)
    return text if any(char.isalpha() for char in text) else "".join(filter(str.isdigit, text))


def _since(message: Mapping[str, Any], at: datetime) -> bool:
    """Whether it was made after the effect was decided; the clocks may be a minute apart."""
    from email.utils import parsedate_to_datetime

    try:
        made = parsedate_to_datetime(str(message.get("date_created")))
    except (TypeError, ValueError):
        return True
    return (made if made.tzinfo else made.replace(tzinfo=UTC)) >= at - timedelta(minutes=1)


# ---------------------------------------------------------------- settings


def problem(settings: Mapping[str, Any]) -> str:
    """Which setting is missing, in a sentence, or "" if none is."""
    missing = [name for name in ("account_sid", "auth_token") if not settings.get(name)]
    if not settings.get("from") and not settings.get("messaging_service_sid"):
        missing.append("from (or messaging_service_sid)")
    return f"the setting {missing[0]} is missing" if missing else ""


def _url(settings: Mapping[str, Any]) -> str:
    base = str(settings.get("base_url") or BASE).rstrip("/")
    return f"{base}/2010-04-01/Accounts/{quote(str(settings['account_sid']), safe='')}/Messages.json"


def _auth(settings: Mapping[str, Any]) -> dict[str, str]:
    return _http.basic(str(settings.get("api_key") or settings["account_sid"]), str(settings["auth_token"]))


def _sender(settings: Mapping[str, Any]) -> dict[str, str]:
    service = settings.get("messaging_service_sid")
    return {"MessagingServiceSid": str(service)} if service else {"From": str(settings.get("from"))}


def _callback(settings: Mapping[str, Any]) -> dict[str, str]:
    """Where Twilio tells what became of it: the setting `status_callback`, else the webhook `twilio` of our own service."""
    own, links = settings.get("status_callback"), settings.get("links")
    if own is not None:
        return {"StatusCallback": own} if isinstance(own, str) and own else {}
    url = links.get("url") if isinstance(links, Mapping) else None
    return {"StatusCallback": f"{url.rstrip('/')}/v1/webhooks/twilio"} if isinstance(url, str) and url else {}
