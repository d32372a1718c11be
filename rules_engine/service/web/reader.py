"""One thread that asks the store, so that the event loop never waits for a disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rules_engine.store.port import Store, StoreError


class Reader:
    """open_store: opens the store for reading, in the reader's thread."""

    def __init__(self, open_store: Callable[[], Store]) -> None:
        self._open, self._store, self._closed = open_store, None, False
        self._pool = ThreadPoolExecutor(1, "camp-web-reader")

    async def ask(self, question: Callable[[Store], Any], seconds: float = 5.0) -> Any:
        """What `question(store)` returns. Raises StoreError, also where it takes too long."""
        answer = asyncio.get_running_loop().run_in_executor(self._pool, self._answer, question)
        try:
            return await asyncio.wait_for(answer, seconds)
        except TimeoutError:
            raise StoreError("the database does not answer in time", "try again", "locked") from None

    def _answer(self, question: Callable[[Store], Any]) -> Any:
        if self._store is None:
            self._store = self._open()
        return question(self._store)

    def close(self) -> None:
        """Ends the use of the store; a second time does nothing."""
        if self._closed:
            return
        self._closed = True
        self._pool.submit(self._end)
        self._pool.shutdown(wait=True, cancel_futures=False)

    def _end(self) -> None:
        if self._store is not None:
            self._store.close()
