"""The bodies of all requests together take a bounded amount of memory."""

import asyncio

import pytest
from starlette.requests import Request
from starlette.types import Message

from xds.admin.api.body_room import FREE, BodyRoom
from xds.admin.api.problems import ProblemError, Reason

ROOM = 1 << 20


def request(size: int) -> Request:
    async def receive() -> Message:
        return {"type": "http.request", "body": b"x" * size, "more_body": False}

    return Request({"type": "http", "headers": []}, receive)


def read(room: BodyRoom, size: int, *, reader: bool) -> int:
    async def test() -> int:
        with room.share(reader=reader) as share:
            return len(await share.read(request(size)))

    return asyncio.run(test())


def test_large_bodies_of_readers_leave_room_for_those_of_operators() -> None:
    room = BodyRoom(ROOM)
    with room.share(reader=True) as share:
        asyncio.run(share.read(request(ROOM // 2 + FREE)))
        with pytest.raises(ProblemError) as refused:
            read(room, 2 * FREE, reader=True)
        assert refused.value.reason is Reason.TOO_MANY_REQUESTS
        assert read(room, ROOM // 2, reader=False)
        with pytest.raises(ProblemError):
            read(room, ROOM, reader=False)
        assert read(room, FREE, reader=True), "small bodies are always read"
    assert read(room, ROOM // 2, reader=True), "the room is free again"
