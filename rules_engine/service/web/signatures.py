"""How senders prove that a webhook is theirs. Pure: each function takes the secrets, of which any may fit (a rotation needs two)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Iterable, Mapping

from rules_engine.clock import Clock
from rules_engine.service.web.auth import same

TOLERANCE = 300  # seconds that a stamp may be off; an older one may be a replay
MOST = 50_000  # tokens that are remembered


def standard(secrets: Iterable[str], headers: Mapping[str, str], body: bytes, now: int) -> str:
    """Standard Webhooks (standardwebhooks.com): HMAC-SHA256 over `id.timestamp.body`. Why it does not hold, or "". now: ms."""
    id, stamp, signatures = (headers.get("webhook-" + name, "") for name in ("id", "timestamp", "signature"))
    if not (id and stamp and signatures):
        return "the headers webhook-id, webhook-timestamp and webhook-signature are needed"
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) < 15) or abs(now // 1000 - int(stamp)) > TOLERANCE:
        return f"webhook-timestamp is more than {TOLERANCE // 60} minutes away from now"
    if not id.isascii() or len(id) > 400:
        return "webhook-id is too long, or has odd characters"
    said = [text[3:] for text in signatures.split()[:20] if text.startswith("v1,")]
    signed = b".".join((id.encode(), stamp.encode(), body))
    good = [same(_mac(secret, signed), text) for secret in secrets for text in said]
    return "" if any(good) else "no signature of webhook-signature fits"


def sign_standard(secret: str, id: str, stamp: int, body: bytes) -> str:
    """The value of webhook-signature; stamp in seconds."""
    return "v1," + _mac(secret, b".".join((id.encode(), str(stamp).encode(), body)))


def _mac(secret: str, signed: bytes) -> str:
    key = secret.encode()
    if secret.startswith("whsec_"):
        try:
            key = base64.b64decode(secret[6:], validate=True)
        except (binascii.Error, ValueError):
            pass
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def mailgun(keys: Iterable[str], signature: Mapping[str, object], now: int) -> str:
    """Mailgun: hex of HMAC-SHA256 over timestamp and token, in the body's `signature`."""
    stamp, token, said = (str(signature.get(name, "")) for name in ("timestamp", "token", "signature"))
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) < 15) or abs(now // 1000 - int(stamp)) > TOLERANCE:
        return f"the signature's timestamp is more than {TOLERANCE // 60} minutes away from now"
    signed = (stamp + token).encode("utf-8", "surrogatepass")
    good = [same(hmac.new(key.encode(), signed, hashlib.sha256).hexdigest(), said) for key in keys]
    return "" if any(good) else "the signature does not fit"


class Once:
    """Which body came with a signed token. Mailgun signs a token and not the body, so whoever sees one request could send another under
    its signature; a repeat of the same one is welcome. Remembers for `milliseconds`, in this process only."""

    def __init__(self, clock: Clock, milliseconds: int) -> None:
        self._clock, self._for = clock, milliseconds
        self._seen: OrderedDict[str, tuple[int, bytes]] = OrderedDict()

    def fits(self, token: str, body: bytes) -> bool:
        """False: the token came with another body before."""
        now, content = self._clock.now(), hashlib.sha256(body).digest()
        while self._seen and (len(self._seen) >= MOST or next(iter(self._seen.values()))[0] < now - self._for):
            self._seen.popitem(last=False)
        return self._seen.setdefault(token, (now, content))[1] == content


def twilio(tokens: Iterable[str], url: str, fields: Mapping[str, str], said: str) -> str:
    """Twilio: base64 of HMAC-SHA1 over the webhook's URL and the sorted fields, in X-Twilio-Signature."""
    signed = (url + "".join(name + fields[name] for name in sorted(fields))).encode("utf-8", "surrogatepass")
    good = [same(base64.b64encode(hmac.new(token.encode(), signed, hashlib.sha1).digest()), said.encode("utf-8", "replace")) for token in tokens]
    return "" if any(good) else "X-Twilio-Signature does not fit: is [web] url the address that Twilio calls?"


def basic(user: str, passwords: Iterable[str], authorization: str) -> str:
    """Basic authentication (RFC 7617)."""
    scheme, _, packed = authorization.partition(" ")
    try:
        said = base64.b64decode(packed.strip(), validate=True) if scheme.lower() == "basic" else b""
    except (binascii.Error, ValueError):
        said = b""
    good = [same(f"{user}:{password}".encode(), said) for password in passwords]
    return "" if any(good) else "user and password do not fit"
