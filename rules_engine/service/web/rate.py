"""How often one address may come: a bucket that refills, in memory, of a bounded number of addresses."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

from rules_engine.clock import Clock
from rules_engine.limits import MAX_ADDRESSES


class Rate:
    """per_minute: what refills; as much may come at once, at least 5."""

    def __init__(self, per_minute: int, clock: Clock, addresses: int = MAX_ADDRESSES) -> None:
        self._per_ms, self._size, self._clock, self._addresses = per_minute / 60_000, max(5.0, float(per_minute)), clock, addresses
        self._left: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def wait(self, address: str) -> int:
        """0 if one more may come now, else the seconds until then."""
        now, address = self._clock.now(), network(address)
        left, at = self._left.pop(address, (self._size, now))
        left = min(self._size, left + (now - at) * self._per_ms)
        taken = left >= 1
        self._left[address] = (left - 1 if taken else left, now)
        if len(self._left) > self._addresses:
            self._left.popitem(last=False)
        return 0 if taken else max(1, int((1 - left) / self._per_ms / 1000) + 1)


def network(address: str) -> str:
    """Who is meant by an address: of IPv6 one customer has a /64 at least, so that is one; a mapped IPv4 address is that one."""
    if ":" not in address:
        return address
    try:
        ip = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ip.ipv4_mapped or ipaddress.IPv6Network((ip, 64), strict=False))
