"""From a key's text back to the fields it was made of: what an outcome's event needs to reach its own instance, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rules_engine.model.meaning import field_type
from rules_engine.plan.program import Program


def key_fields(program: Program, effect: Any) -> dict[str, Any]:
    """The FOR EACH fields of the instance that an effect belongs to, by name, in the types that the events of its campaign declare.

    effect: anything with `ruleset` and `key` (an EffectRow of the store). {} for a rule, for a campaign without FOR EACH, and where the
    campaign or its key is no longer the one that made the effect. Put them into the data of `email.opened` and its like.
    """
    ruleset = program.by_name.get(effect.ruleset)
    if ruleset is None or not ruleset.keys or effect.key is None:
        return {}
    parts = [effect.key] if len(ruleset.keys) == 1 else list(_parts(effect.key))
    if len(parts) != len(ruleset.keys):
        return {}
    events = tuple(trigger.event for trigger in ruleset.triggers if trigger.event is not None)
    return {name: _value(part, field_type(program.model, name, events)) for name, part in zip(ruleset.keys, parts, strict=True)}


def _parts(text: str) -> Iterator[str]:
    """The texts that `engine.journey` joined with `|`, each with its own `|` and backslashes behind a backslash."""
    part: list[str] = []
    letters = iter(text)
    for letter in letters:
        if letter == "\\":
            part.append(next(letters, ""))
        elif letter == "|":
            yield "".join(part)
            part = []
        else:
            part.append(letter)
    yield "".join(part)


def _value(text: str, type_: str | None) -> Any:
    """A value of a type from its text in a key; the text itself where the event was looser than its declaration."""
    if type_ == "boolean":
        return {"True": True, "False": False}.get(text, text)
    if type_ in ("number", "datetime", "time"):
        for read in (int, float):
            try:
                return read(text)
            except ValueError:
                continue
    return text
