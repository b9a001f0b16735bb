"""The requests that a client is sending: those that wait, and those that have no response yet."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tests.integration.equality.request import Request, Response

MAX_ATTEMPTS = 3
"""Attempts of a request on a connection that another request may have ended."""

OnResponse = Callable[[Request, Response], None]


@dataclass(slots=True, eq=False)
class Attempt:
    request: Request
    count: int = 0


class Work:
    """The requests that are still to be sent, and those that have no response yet."""

    def __init__(self, requests: Iterable[Request], on_response: OnResponse) -> None:
        self._source: Iterator[Request] = iter(requests)
        self._exhausted = False
        self._waiting: dict[bool, deque[Attempt]] = {False: deque(), True: deque()}
        self._on_response = on_response
        self._open: set[Attempt] = set()
        self.failure: Exception | None = None
        self.done = asyncio.Event()

    def next(self, *, http2: bool) -> Attempt | None:
        """The next request of an HTTP version; None if there is none."""
        waiting = self._waiting[http2]
        while not waiting and not self._exhausted:
            request = next(self._source, None)
            if request is None:
                self._exhausted = True
                self._end()
            else:
                self._waiting[request.http2].append(Attempt(request))
        if not waiting:
            return None
        attempt = waiting.popleft()
        self._open.add(attempt)
        return attempt

    @property
    def unanswered(self) -> list[Request]:
        return [attempt.request for attempt in self._open]

    def answer(self, attempt: Attempt, response: Response) -> None:
        self._open.discard(attempt)
        try:
            self._on_response(attempt.request, response)
        except Exception as error:
            self.failure = error
            self.done.set()
        self._end()

    def repeat(self, attempt: Attempt) -> None:
        """Send a request again: its connection has ended, perhaps because of another request."""
        attempt.count += 1
        if attempt.count >= MAX_ATTEMPTS:
            self.answer(attempt, Response(0))
            return
        self._open.discard(attempt)
        self._waiting[attempt.request.http2].append(attempt)

    def _end(self) -> None:
        if self._exhausted and not self._open and not any(self._waiting.values()):
            self.done.set()
