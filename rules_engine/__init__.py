"""Camp: a rules engine for automated campaigns.

Text is parsed (`syntax`), resolved and checked (`model`), compiled (`plan`), and run one contact at a time by the pure function
`engine.advance`. `store` keeps what happened, `service` drives it, `cli` is its face. ARCHITECTURE.md beside this file is the map.
"""
__version__ = "0.1.0"
