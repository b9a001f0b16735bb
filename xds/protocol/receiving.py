"""Receives the requests of a stream without keeping them."""

from collections.abc import AsyncIterator
from typing import Protocol

import grpc.aio


class Reader(Protocol):
    """The part of grpc.aio.ServicerContext that reads."""

    async def read(self) -> object:
        """The next request; EOF after the last one."""


async def received(context: Reader) -> AsyncIterator[object]:
    """The requests of a stream.

    The iterator of grpcio keeps each request until the next one comes. A client may send a large
    request and then wait, on each of its streams.
    """
    while (request := await context.read()) is not grpc.aio.EOF:
        # A suspended generator keeps its variables.
        yielded = [request]
        del request
        yield yielded.pop()
