"""A year of the real engine under a virtual clock, with faults: `python -m tests.simulation --seeds 1000 --days 365`."""
