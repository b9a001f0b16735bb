"""Writes a value to the store in the background, as soon as the store takes it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from xds.sources.store.store import RETRY_INTERVAL

T = TypeVar("T")


class LatestWrite(Generic[T]):
    """Only the latest value is written: a newer one replaces the one that waits.

    `write` returns False if the store cannot be written now. It is then called again.
    """

    def __init__(self, write: Callable[[T], Awaitable[bool]]) -> None:
        self._write = write
        self._value: T | None = None
        self._is_due = asyncio.Event()

    def set(self, value: T) -> None:
        """Write this value."""
        self._value = value
        self._is_due.set()

    async def run(self) -> None:
        """Write until the task is cancelled."""
        while True:
            await self._is_due.wait()
            self._is_due.clear()
            assert self._value is not None
            if not await self._write(self._value):
                await asyncio.sleep(RETRY_INTERVAL)
                self._is_due.set()
