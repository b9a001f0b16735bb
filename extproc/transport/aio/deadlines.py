"""Deadlines of the open calls (grpc-timeout), with one timer for all of them."""

import asyncio
from typing import Final, Protocol

RESOLUTION: Final = 0.005
"""Seconds between two looks: clients enforce their deadlines themselves, ours only frees
handlers."""


class Expiring(Protocol):
    def expire(self) -> None: ...


class Deadlines:
    """A call is added and removed at the price of a dictionary entry: with thousands of calls a
    second that end long before their deadlines, neither a timer each nor a heap of dead entries is
    paid."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: dict[Expiring, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: Expiring, deadline: float) -> None:
        self._calls[call] = deadline
        if self._timer is None or deadline < self._timer.when():
            self._arm(deadline)

    def remove(self, call: Expiring) -> None:
        self._calls.pop(call, None)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, when: float) -> None:
        self.close()
        self._timer = self._loop.call_at(max(when, self._loop.time() + RESOLUTION), self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        for call in [call for call, deadline in self._calls.items() if deadline <= now]:
            self._calls.pop(call, None)
            call.expire()
        if self._calls:
            self._arm(min(self._calls.values()))
