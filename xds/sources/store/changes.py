"""Follows the head of a history: after each notification, and at intervals."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress

from xds.sources.store.store import Revision, RevisionInfo, StoreUnavailableError


class Notifications:
    """Wakes the iterators of `changes`."""

    def __init__(self) -> None:
        self._count = 0
        self._waiting: set[asyncio.Event] = set()

    @property
    def count(self) -> int:
        """The number of notifications so far."""
        return self._count

    def notify(self) -> None:
        """Wake all that wait."""
        self._count += 1
        for event in self._waiting:
            event.set()

    async def wait(self, count: int, seconds: float) -> None:
        """Wait until there were more than `count` notifications, at most for some seconds."""
        if self._count != count:
            return
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), seconds)
        finally:
            self._waiting.discard(event)


async def follow(
    read: Callable[[int], Awaitable[Revision | None]],
    head: Callable[[], Awaitable[RevisionInfo | None]],
    notifications: Notifications,
    after: int | None,
    interval: float,
) -> AsyncGenerator[Revision]:
    """The iterator of `Store.changes`. `read` returns the first revision from a number on.

    Reads after each notification, and after `interval` seconds without one.
    """
    number = after
    while True:
        count = notifications.count
        try:
            if number is None:
                last = await head()
                number = 0 if last is None else last.number
            found = await read(number + 1)
        except StoreUnavailableError:
            # The store logs it. The next attempt continues after the same revision.
            found = None
        if found is None:
            await notifications.wait(count, interval)
        else:
            number = found.number
            yield found
