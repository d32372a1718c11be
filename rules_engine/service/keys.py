"""The fields of a campaign's FOR EACH in what is told about its messages, so that a keyed journey knows that it is meant. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rules_engine.store.port import EffectRow


def keys_of(program: Any) -> dict[str, tuple[str, ...]]:
    """The FOR EACH fields of a program's campaigns."""
    return {name: ruleset.keys for name, ruleset in program.by_name.items() if ruleset.keys}


def key_fields(keys: Mapping[str, tuple[str, ...]]) -> Callable[[EffectRow], dict[str, str]]:
    """Effect -> {field: value} of its key."""

    def fields(effect: EffectRow) -> dict[str, str]:
        return {} if effect.key is None else dict(zip(keys.get(effect.ruleset, ()), split_key(effect.key), strict=False))

    return fields


def split_key(key: str) -> list[str]:
    """The values of a FOR EACH key as the engine writes it: `|` between several, `\\` before one that belongs to a value."""
    if "|" not in key:
        return [key]
    parts, letters = [""], iter(key)
    for letter in letters:
        if letter == "\\":
            parts[-1] += next(letters, "")
        elif letter == "|":
            parts.append("")
        else:
            parts[-1] += letter
    return parts
