"""Decisions in the format of `camp simulate --json` (CLI.md): a public contract."""

from __future__ import annotations

from typing import Any

from rules_engine.decisions import Decision
from rules_engine.runtime.calendar import format_utc


def line(decision: Decision) -> dict[str, Any]:
    """One line of the stream. A rule's line has `"campaign": null` and the rule's name."""
    found: dict[str, Any] = {"at": format_utc(decision.at), "contact": decision.contact, "campaign": decision.campaign}
    if decision.rule is not None:
        found["rule"] = decision.rule
    found |= {
        "key": decision.key, "step": decision.step, "kind": decision.kind, "action": decision.action, "primary": decision.primary,
        "params": dict(decision.params), "outcome": decision.outcome, "reason": decision.reason,
    }
    return found
