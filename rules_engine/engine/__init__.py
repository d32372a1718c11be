"""The engine: `advance` takes one contact from one moment to the next. Pure: no clock, no database, no plugin call, no randomness.

May import: limits, actions, facts, decisions, and the program's records (plan.program, plan.steps). `calendar` is all of Camp's time
arithmetic; `values` reads and writes the JSON formats of CLI.md; `report` renders decisions in them.
"""

from rules_engine.engine.advance import Advanced, advance, advance_block, members, new_state, pack, unpack
from rules_engine.engine.tick import SetAside

__all__ = ["Advanced", "SetAside", "advance", "advance_block", "members", "new_state", "pack", "unpack"]
