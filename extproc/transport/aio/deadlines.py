"""Deadlines of the open calls (grpc-timeout), with one timer for all of them."""

import asyncio
from typing import Final, Protocol

RESOLUTION: Final = 0.005
"""Seconds between two checks. Clients enforce their deadlines themselves; the server only has to
free its handlers."""


class Expirable(Protocol):
    def expire(self) -> None: ...


class Deadlines:
    """Open calls by deadline.

    Most calls end long before their deadline, so adding and removing a call must be cheap: one
    dictionary entry, instead of one timer for each call or a heap full of ended calls.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: dict[Expirable, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: Expirable, deadline: float) -> None:
        self._calls[call] = deadline
        if self._timer is None or deadline < self._timer.when():
            self._start_timer(deadline)

    def remove(self, call: Expirable) -> None:
        self._calls.pop(call, None)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_timer(self, when: float) -> None:
        self.close()
        self._timer = self._loop.call_at(max(when, self._loop.time() + RESOLUTION), self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = self._loop.time()
        for call in [call for call, deadline in self._calls.items() if deadline <= now]:
            self._calls.pop(call, None)
            call.expire()
        if self._calls:
            self._start_timer(min(self._calls.values()))
