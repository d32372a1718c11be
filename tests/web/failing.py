"""A store of the web's writer that fails while it is told to."""

from __future__ import annotations

from rules_engine.store.port import StoreError
from rules_engine.store.sqlite import SqliteStore


class FailingStore(SqliteStore):
    """Its disk is full while state["fail"]."""

    def __init__(self, path, state):
        super().__init__(path)
        self._state = state

    def record_events(self, arrivals):
        self._fail()
        return super().record_events(arrivals)

    def note(self, key, value):
        self._fail()
        super().note(key, value)

    def _fail(self):
        if self._state["fail"]:
            raise StoreError("the disk is full", kind="full")
