"""Named points where a test may kill, fail or look. In production each is a call of a function that does nothing.

The store adds `NAME.before_commit` and `NAME.after_commit` for each transaction: record, pump, quiet, claim, settle, restart,
program.
"""

from __future__ import annotations

from collections.abc import Callable

Faults = Callable[[str], None]

BEFORE_CALL = "dispatch.before_call"  # the claim is durable, the plugin not yet called
AFTER_CALL = "dispatch.after_call"  # the plugin has answered, the outcome is not yet durable
BLOCK_READ = "pump.block_read"  # a block and its states are in memory
BLOCK_ADVANCED = "pump.advanced"  # all of the block is decided, nothing is durable
BATCH_READ = "ingest.batch_read"  # lines are parsed, nothing is durable

POINTS = (
    BATCH_READ,
    "record.before_commit",
    "record.after_commit",
    BLOCK_READ,
    BLOCK_ADVANCED,
    "pump.before_commit",
    "pump.after_commit",
    "claim.before_commit",
    "claim.after_commit",
    BEFORE_CALL,
    AFTER_CALL,
    "settle.before_commit",
    "settle.after_commit",
    "restart.before_commit",
    "restart.after_commit",
)


def none(point: str) -> None:
    """Production: nothing happens."""
