"""Meaning to program: conditions become generated Python functions, steps a flat list, triggers an index.

May import: model, runtime. The engine runs what this builds.
"""

from __future__ import annotations

from rules_engine.plan.compiler import compile_model
from rules_engine.plan.program import Program

__all__ = ["Program", "compile_model"]
