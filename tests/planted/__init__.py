"""Bugs planted one by one; the tests must catch each: `python -m tests.planted`."""
