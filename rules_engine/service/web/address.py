"""`--web ADDR`: where to listen. Pure."""

from __future__ import annotations

import ipaddress

HELP = "write it like 127.0.0.1:8080, :8080 (this machine only), [::1]:8080 or 0.0.0.0:8080 (everybody)"


def parse(text: str) -> tuple[str, int]:
    """(host, port). Without a host it is the loopback address: to be reached by others must be asked for. Raises
    ValueError(sentence)."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise ValueError(f"`{text}` names no port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"`{text}`: an IPv6 address stands in brackets")
    return host or "127.0.0.1", int(port)


def is_loopback(host: str | None) -> bool:
    """Whether an address is this machine's own; a name counts only if it is `localhost`."""
    if not host or host == "127.0.0.1":
        return bool(host)
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host.lower() == "localhost"
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback


def shown(host: str, port: int) -> str:
    """The address as a URL."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
