"""The engine: `advance` takes one contact from one moment to the next. Pure: no clock, no database, no plugin call, no randomness.

May import: plan, model, runtime and the base records. `values` reads and writes the JSON formats of CLI.md; `report` renders decisions in them;
`refill` answers a new program's questions from the log; `merge` makes two contacts one.
"""

from rules_engine.engine.advance import Advanced, advance, advance_block, evaluate, members, new_state, pack, unpack
from rules_engine.engine.keys import key_fields
from rules_engine.engine.merge import merged_in, merged_into
from rules_engine.engine.tick import SetAside

__all__ = ["Advanced", "SetAside", "advance", "advance_block", "evaluate", "key_fields", "members", "merged_in", "merged_into", "new_state",
           "pack", "unpack"]
