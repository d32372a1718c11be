"""What the engine answers: decisions with their reasons, effects for the outbox, events for the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

MERGE = "contact.merge"
"""In whose name (`rule`) the decisions about a merge of two contacts are. No rule can be called so."""

KINDS = ("enter", "action", "skip", "wait", "exit", "goal", "complete")


class Decision(NamedTuple):
    """One thing that happened to one contact, in the terms of `camp simulate --json` (CLI.md).

    at: ms. campaign: name, None for a rule; rule: name, None for a campaign. step: the step's identity. reason: one sentence.
    because: the facts that were read, as (name, value) pairs. cause: the id of the event, or "timer". place: (path, offset) of the
    step or rule in its file.
    """

    at: int
    contact: str
    campaign: str | None
    rule: str | None
    key: str | None
    step: str | None
    kind: str
    action: str | None
    primary: Any
    params: Mapping[str, Any]
    outcome: str | None
    reason: str
    because: tuple[tuple[str, Any], ...]
    cause: str
    place: tuple[str, int]


class Effect(NamedTuple):
    """One thing to hand over outside, for the outbox. id: the semantic key (ruleset, step, contact, instance, round): the same on every
    replay, so the outbox's unique key makes it act once (promise P3). state: ready, or held (late: a person decides). instance: the id of
    the campaign's instance, or "" for a rule. exempt: the checks at the hand-over that the author waived, of "quiet" and "limit"."""

    id: str
    contact: str
    action: str
    primary: Any
    params: Mapping[str, Any]
    ruleset: str
    step: str
    key: str | None
    channel: str | None
    message_class: str
    at: int
    expires: int | None
    state: str = "ready"
    instance: str = ""
    exempt: str = ""


class Cancel(NamedTuple):
    """An instance has ended before its end: its messages in the outbox that have not left are called off. after: only those due later
    than this (a replay, in which what was due before the exit had left by then); None: all."""

    contact: str
    ruleset: str
    instance: str
    reason: str
    at: int
    after: int | None = None
