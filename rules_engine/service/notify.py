"""Tells systemd that the service is ready, alive and stopping (sd_notify(3)); nothing where no systemd asks for it."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> bool:
    """Sends one state, such as "READY=1". False where nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address or address[0] not in "@/":
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
            line.connect("\0" + address[1:] if address[0] == "@" else address)
            line.sendall(state.encode())
        return True
    except OSError:
        return False


def alive() -> None:
    """The chore that keeps the watchdog quiet."""
    notify("WATCHDOG=1")
