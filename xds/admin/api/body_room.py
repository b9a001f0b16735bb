"""Reads the bodies of requests, with bounds on their size, their time and their memory."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from starlette.requests import Request

from sluice.config.values import format_size
from xds.admin.api.problems import ProblemError, Reason

MAX_BODY: Final = 16 << 20
"""Bytes of a body: as many as a config file may have (`sluice.config.load.MAX_FILE`)."""

BODY_TIMEOUT: Final = 30.0
"""Seconds for the body to arrive, so that a slow client does not hold its memory for long."""

MAX_BODIES: Final = 64 << 20
"""Bytes of all bodies that the server holds at a time. Readers may take half of them."""

FREE: Final = 64 << 10
"""Bytes of a body that need no room: small changes are always possible."""


class BodyRoom:
    """The memory for the bodies of all requests."""

    def __init__(self, size: int = MAX_BODIES) -> None:
        self._size = size
        self._taken = 0

    @contextmanager
    def share(self, *, reader: bool) -> Iterator["Share"]:
        """The share of one request, which ends with the block."""
        share = Share(self, self._size // 2 if reader else self._size)
        try:
            yield share
        finally:
            self._taken -= share.taken

    def take(self, size: int, limit: int) -> None:
        """Take bytes, up to this limit of all. Raises ProblemError."""
        if self._taken + size > limit:
            detail = "too many large bodies are in progress; try again later"
            headers = {"retry-after": "1", "connection": "close"}
            raise ProblemError(Reason.TOO_MANY_REQUESTS, detail, headers=headers)
        self._taken += size


class Share:
    """What one request takes of the room."""

    def __init__(self, room: BodyRoom, limit: int) -> None:
        self._room, self._limit = room, limit
        self.taken = 0

    async def read(self, request: Request, maximum: int = MAX_BODY) -> bytes:
        """The body. Raises ProblemError."""
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared[:20]) > maximum:
            raise _too_large(maximum)
        parts, size = [], 0
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                async for part in request.stream():
                    size += len(part)
                    if size > maximum:
                        raise _too_large(maximum)
                    self._take(size)
                    parts.append(part)
        except TimeoutError:
            detail = f"the body did not arrive within {BODY_TIMEOUT:g} s"
            headers = {"connection": "close"}
            raise ProblemError(Reason.REQUEST_TIMEOUT, detail, headers=headers) from None
        return b"".join(parts)

    def _take(self, size: int) -> None:
        needed = size - FREE - self.taken
        if needed > 0:
            self._room.take(needed, self._limit)
            self.taken += needed


def _too_large(maximum: int) -> ProblemError:
    detail = f"the body is larger than {format_size(maximum)}"
    return ProblemError(Reason.BODY_TOO_LARGE, detail, headers={"connection": "close"})
