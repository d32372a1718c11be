"""Meaning to program: conditions become generated Python functions, steps a flat list, triggers an index.

May import: model, engine's records and helpers (calendar, history, runtime). The engine runs what this builds.
"""

from __future__ import annotations

from typing import Any

from rules_engine.plan.compiler import compile_model
from rules_engine.plan.program import Program

__all__ = ["Program", "compile_model", "evaluate"]


def evaluate(program: Program, node: Any, state: dict[str, Any], now: int) -> Any:
    """The value of an expression about one contact at a moment (ms), as a TEST's EXPECT … WHERE asks for it."""
    from rules_engine.engine.advance import Tick

    tick = Tick(program)
    tick.begin(state, now)
    tick.now = now
    tick.use_arrival(({}, None, now, "", ""))
    return program.compile_value(node)(tick) if program.compile_value is not None else None
