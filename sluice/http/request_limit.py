"""Bounds the requests of known callers that a server handles at a time.

Requests that are refused, and those that need no role, do not count: a stranger takes no place.
"""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

_KEY: Final = "sluice.place"

READERS: Final = 0.8
"""The share of the places that readers may take, so that operators can always call."""


class RequestLimit:
    """The places of a server."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._taken = 0

    def limited(self, app: ASGIApp) -> ASGIApp:
        """The application, whose requests give their place back when they end."""

        async def run(scope: Scope, receive: Receive, send: Send) -> None:
            place = _Place(self)
            try:
                await app({**scope, _KEY: place}, receive, send)
            finally:
                place.give_back()

        return run

    def take(self, share: float) -> bool:
        """Take a place, if there is one in this share of all places."""
        if self._taken >= int(self._places * share):
            return False
        self._taken += 1
        return True

    def give_back(self) -> None:
        """Give a place back."""
        self._taken -= 1


class _Place:
    """What one request may take: one place, until it ends."""

    def __init__(self, limit: RequestLimit) -> None:
        self._limit = limit
        self._is_taken = False

    def take(self, share: float) -> bool:
        self._is_taken = self._is_taken or self._limit.take(share)
        return self._is_taken

    def give_back(self) -> None:
        if self._is_taken:
            self._limit.give_back()


def take_place(scope: Scope, *, reader: bool) -> bool:
    """Take a place for a request until it ends. False if the server has none for this caller."""
    place: _Place | None = scope.get(_KEY)
    return place is None or place.take(READERS if reader else 1.0)
