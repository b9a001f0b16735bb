"""Requests are received without keeping them."""

import asyncio
from weakref import ref

import grpc.aio

from xds.protocol.receiving import received


class Request:
    """A large request."""


class Reads:
    """Has two requests. `kept`: how many earlier ones exist when the next one is read."""

    def __init__(self) -> None:
        self._requests: list[ref[Request]] = []
        self.kept: list[int] = []

    async def read(self) -> object:
        self.kept.append(sum(each() is not None for each in self._requests))
        if len(self._requests) == 2:
            return grpc.aio.EOF
        request = Request()
        self._requests.append(ref(request))
        return request


def test_no_request_exists_while_the_next_one_is_awaited() -> None:
    async def test() -> None:
        reads = Reads()
        async for request in received(reads):
            assert isinstance(request, Request)
            del request
        assert reads.kept == [0, 0, 0]

    asyncio.run(test())
