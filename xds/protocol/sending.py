"""Bounds the memory of responses that clients have not taken yet.

gRPC holds a response until the client has taken all of it: HTTP/2 flow control lets a client take
as little as it wants.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

MAX_UNSENT: Final = 128 << 20
"""Bytes of all large responses that are being sent. gRPC copies each of them."""

SHARES: Final = 4
"""How many client addresses can fill all of the room."""

SMALL: Final = 16 << 10
"""Bytes up to which a response waits for no other one: a stream sends one at a time, and there are
4,096 streams. Most changes of a config are smaller, so no client can delay their rollout."""

SEND_TIMEOUT: Final = 30.0
"""Seconds for a client to take a response. Envoy reads while it loads a large route table."""


@dataclass(slots=True, eq=False)
class _Response:
    address: str
    size: int
    turn: asyncio.Future[None]


class Sending:
    """Room for the responses of all clients. `maximum`: bytes of all large responses together.

    The clients of one address get a quarter of the room, so that those of one machine that take
    nothing do not make all others wait. The turn is that of the one who has waited longest. A
    response that is larger than the share of an address counts as much as the share.
    """

    def __init__(self, maximum: int = MAX_UNSENT, small: int = SMALL) -> None:
        self._maximum, self._small = maximum, small
        self._share = maximum // SHARES
        self._unsent: Counter[str] = Counter()
        self._waiting: deque[_Response] = deque()

    @property
    def unsent(self) -> int:
        """Bytes of the large responses that are being sent."""
        return self._unsent.total()

    @property
    def waiting(self) -> int:
        """How many responses wait for room."""
        return len(self._waiting)

    @asynccontextmanager
    async def room(self, address: str, size: int) -> AsyncIterator[None]:
        """Wait for room for a response of this size, in bytes, to a client of this address."""
        if size <= self._small:
            yield
            return
        turn = asyncio.get_running_loop().create_future()
        response = _Response(address, min(size, self._share), turn)
        self._waiting.append(response)
        self._admit()
        try:
            await turn
            yield
        finally:
            self._remove(response)
            self._admit()

    def _remove(self, response: _Response) -> None:
        if response in self._waiting:
            self._waiting.remove(response)
            return
        self._unsent[response.address] -= response.size
        if not self._unsent[response.address]:
            del self._unsent[response.address]

    def _admit(self) -> None:
        """Give the room to those who have waited longest."""
        left, full = self._maximum - self.unsent, set[str]()
        later: deque[_Response] = deque()
        while self._waiting:
            response = self._waiting.popleft()
            if response.size > left:
                later.append(response)
                break
            address = response.address
            if address in full or self._unsent[address] + response.size > self._share:
                full.add(address)
                later.append(response)
                continue
            self._unsent[address] += response.size
            left -= response.size
            response.turn.set_result(None)
        later.extend(self._waiting)
        self._waiting = later
