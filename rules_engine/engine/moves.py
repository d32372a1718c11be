"""A new program meets people in the middle of a campaign: at which of its steps do they stand now?

A step is known by what it says. Where its words were edited in place, what stands between the same neighbours is taken for the same step,
if it is of the same kind: who waits at `AFTER 3 days`, which became `AFTER 2 days`, goes on waiting there, until the moment that was set.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from rules_engine.plan import steps as op
from rules_engine.plan.program import Program, Ruleset


class Moves(NamedTuple):
    """to: campaign → {step of the older program: step of the newer}, of those that are called otherwise now. lost: (campaign, step) where
    people can stand and which nothing has taken the place of: they leave. loops: (campaign, name of a loop) → its name now."""

    to: Mapping[str, Mapping[str, str]]
    lost: tuple[tuple[str, str], ...]
    loops: Mapping[tuple[str, str], str]


def moves(older: Program, newer: Program) -> Moves:
    """Where the steps of an older program are in a newer one."""
    to: dict[str, dict[str, str]] = {}
    lost: list[tuple[str, str]] = []
    loops: dict[tuple[str, str], str] = {}
    for name, old in older.by_name.items():
        new = newer.by_name.get(name)
        if not old.is_campaign or new is None:
            continue
        steps = _steps(old)
        pairs = _pairs(steps, _steps(new))
        for step, item in steps.items():
            now = pairs.get(step, step)
            if now not in new.index:
                if item.code in (op.DELAY, op.WAIT, op.LOOP) or item.code == op.ACT and item.call.channel is not None:
                    lost.append((name, step))
                continue
            if now != step:
                to.setdefault(name, {})[step] = now
            other = new.ops[new.index[now]]
            if item.code == op.LOOP == other.code and item.name != other.name:
                loops[name, item.name] = other.name
    return Moves(to, tuple(lost), loops)


def move(state: dict[str, Any], found: Moves) -> None:
    """Puts a contact's instances on the steps where they stand now, in place. One that waits looks anew at what it waits for."""
    for iid, instance in state["i"].items():
        campaign = instance["c"]
        for old, new in [(old, new) for (name, old), new in found.loops.items() if name == campaign]:
            rounds = instance.get("n", {})
            if old in rounds:
                rounds[new] = rounds.pop(old)
        step = found.to.get(campaign, {}).get(instance["s"])
        if step is None:
            continue
        instance["s"] = step
        if "w" in instance:
            state["t"][f"i:{iid}"] = state["k"]


def _steps(ruleset: Ruleset) -> dict[str, Any]:
    """Its steps in their order, each with its operation."""
    return {step: ruleset.ops[position] for step, position in ruleset.index.items()}


def _pairs(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
    """Old step → new step: first what reads the same in the same order, then what was edited between such."""
    left, right = list(old), list(new)
    matcher = SequenceMatcher(None, [old[step].site.text for step in left], [new[step].site.text for step in right], autojunk=False)
    blocks = matcher.get_opcodes()
    pairs = {one: other for tag, a, b, c, d in blocks if tag == "equal" for one, other in zip(left[a:b], right[c:d], strict=True)}
    taken = set(pairs.values())
    for tag, a, b, c, d in blocks:
        if tag != "replace":
            continue
        gone = [step for step in left[a:b] if step not in new or step in taken]
        come = [step for step in right[c:d] if step not in taken and (step not in old or step in pairs)]
        for code in {old[step].code for step in gone}:
            ours, theirs = [[step for step in side if steps[step].code == code] for side, steps in ((gone, old), (come, new))]
            if len(ours) == len(theirs):  # else nobody can say which is which
                pairs.update(zip(ours, theirs, strict=True))
    return pairs
