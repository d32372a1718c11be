"""Processes killed at any moment: `python -m tests.crash --kills 2000`."""
