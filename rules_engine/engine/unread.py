"""What an event's record has and no condition can read: mostly slips of the pen. It is taken in all the same; who sent it is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rules_engine.model.meaning import Model
from rules_engine.model.suggest import Speller

KEYS = frozenset({"id", "event", "contact", "at", "subject", "data"})  # of a record (CLI.md)
MOST = 5  # odd names of one record that are told
LONGEST = 60  # characters of a name that are told
KNOWN = 10_000  # answers that are remembered


class Unread:
    """Answers for one model. A record that fits costs two comparisons of names."""

    def __init__(self, model: Model) -> None:
        self._events = model.events
        self._near: dict[tuple[str, str], str | None] = {}  # (event, odd field) -> the declared field that was meant

    def __call__(self, record: Mapping[str, Any], every: bool = False) -> list[str]:
        """Sentences about a record that `read_event` has taken: keys beside `event`, which are not kept, and fields that look like a
        declared one that is missing; with `every` all fields that are not declared."""
        info = self._events[record["event"]]
        data = record.get("data") or {}
        if record.keys() <= KEYS and data.keys() <= info.fields.keys():
            return []
        beside = [name for name in record if name not in KEYS][:MOST]
        said = [f"`{name[:LONGEST]}` beside `event` is not kept: what the event tells belongs into `data`" for name in beside]
        for name in [name for name in data if name not in info.fields][:MOST]:
            near = self._meant(info.name, name, info.fields)
            if near is not None and near not in data:
                said.append(f"{info.name} declares no field `{name[:LONGEST]}`; did you mean `{near}`?")
            elif every:
                known = f"its fields are {', '.join(info.fields)}" if info.fields else "it has none"
                said.append(f"{info.name} declares no field `{name[:LONGEST]}`: it is kept, and no condition can read it; {known}")
        return said

    def _meant(self, event: str, name: str, fields: Mapping[str, str]) -> str | None:
        if (event, name) not in self._near:
            if len(self._near) >= KNOWN:
                self._near.clear()
            self._near[event, name] = Speller().nearest(name, fields)
        return self._near[event, name]
