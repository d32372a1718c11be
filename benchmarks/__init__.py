"""Reproducible measurements of Camp against its peers. See README.md beside this file."""
