"""Processes killed, power cut, disks full, clocks turned: `python -m tests.crash --help`."""
