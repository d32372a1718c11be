"""The web's only randomness: names for what comes without one."""

from __future__ import annotations

import os
from collections.abc import Callable

Chance = Callable[[], str]
"""Gives 128 random bits as 32 hexadecimal digits."""


def system_chance() -> str:
    """From the system; tests bring their own."""
    return os.urandom(16).hex()
