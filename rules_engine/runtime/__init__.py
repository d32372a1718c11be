"""What compiled programs stand on: `calendar` (all of Camp's time arithmetic), `history` (answers to questions about the past), `functions`
(what generated expressions call). Pure; no clock.

May import: limits. The model, the plan and the engine build on it.
"""
