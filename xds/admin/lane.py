"""Candidates that are checked one after the other, while a bounded number of others wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from xds.admin.api.problems import ProblemError, Reason

MAX_WAIT: Final = 30.0
"""Seconds that a candidate waits for others."""


class Lane:
    """One candidate at a time. `max_waiting` others wait, each with its body in memory."""

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._turn = asyncio.Lock()
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for other candidates. Raises ProblemError if there are too many."""
        busy = ProblemError(
            Reason.TOO_MANY_REQUESTS,
            "too many changes are waiting",
            headers={"retry-after": "1"},
        )
        if self._waiting >= self._max_waiting:
            raise busy
        self._waiting += 1
        try:
            try:
                await asyncio.wait_for(self._turn.acquire(), MAX_WAIT)
            except TimeoutError:
                raise busy from None
            try:
                yield
            finally:
                self._turn.release()
        finally:
            self._waiting -= 1
