"""Copies have bounds: in number, in memory, in size and in time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from extproc.memory_budget import MemoryBudget
from extproc.mirror import Copies, ObservedRequest, mirror_of
from extproc.mirror.answer import Answer
from extproc.policy.current import CurrentPolicy
from sluice.config import GatewayConfig, policy_document

Respond = Callable[[bytes], bytes | None]
"""The response to a request; None to respond nothing."""


def applied(directory: Path, **mirror: object) -> CurrentPolicy:
    versions = {v: {"endpoints": [{"address": "127.0.0.1:9"}]} for v in ("v1", "v2")}
    settings = {"version": "v2", "max_concurrent": 2, "max_body": 1000, **mirror}
    config = {
        "callout": {"copies": f"unix:{directory}/copies"},
        "models": {"m": {"stable": "v1", "versions": versions, "mirror": settings}},
    }
    current = CurrentPolicy()
    current.apply(policy_document(GatewayConfig.model_validate(config), directory))
    return current


class Sender:
    """The copies of a worker, and an Envoy that answers them."""

    def __init__(self, directory: Path, memory: int = 1 << 20, **mirror: object) -> None:
        self.policy = applied(directory, **mirror).current
        self.copies = Copies(MemoryBudget(memory))
        self.socket = directory / "copies"
        self.arrived = asyncio.Event()

    @asynccontextmanager
    async def envoy(self, respond: Respond) -> AsyncIterator[None]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            self.arrived.set()
            response = respond(head)
            if response is not None:
                writer.write(response)
                writer.close()
            else:
                await reader.read()

        server = await asyncio.start_unix_server(serve, self.socket)
        try:
            yield
        finally:
            server.close()

    def send(self, answer: bytes = b"ok") -> None:
        found = mirror_of(self.policy, "m", "m/v1")
        assert found is not None
        assert self.copies.memory.reserve(len(answer))
        headers = {":method": b"POST", ":path": b"/v2/models/m/infer", ":authority": b"a"}
        self.copies.send(
            ObservedRequest(*found, headers, b"", Answer(200, {}, answer), len(answer)),
            self.policy,
        )

    async def counted(self, count: int) -> dict[str, Any]:
        """The counts of so many requests, when all of them have ended."""
        taken = dict[str, int]()
        async with asyncio.timeout(60):
            while sum(taken.get(n, 0) for n in ("compared", "failed", "dropped")) < count:
                await asyncio.sleep(0)
                for each in self.copies.counts.take():
                    for field, value in each.ListFields():
                        if field.name != "cluster":
                            taken[field.name] = taken.get(field.name, 0) + value
        return taken


def run(test: Callable[[], Any]) -> None:
    asyncio.run(test())


def ok(body: bytes = b"ok") -> Respond:
    return lambda _: b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def test_a_copy_is_compared_and_its_memory_released(tmp_path: Path) -> None:
    async def test() -> None:
        sender = Sender(tmp_path)
        async with sender.envoy(ok()):
            sender.send()
            assert await sender.counted(1) == {"compared": 1, "agreed": 1}
            sender.send(b"other")
            assert await sender.counted(1) == {"compared": 1}
        await asyncio.sleep(0)
        assert sender.copies.memory.used == 0

    run(test)


def test_no_more_copies_are_sent_than_may_be_open(tmp_path: Path) -> None:
    async def test() -> None:
        sender = Sender(tmp_path, timeout="100ms")
        async with sender.envoy(lambda _: None):
            for _ in range(5):
                sender.send()
            assert await sender.counted(5) == {"failed": 2, "dropped": 3}
        assert sender.copies.counts.totals["m/v2"].dropped == {"busy": 3}
        await asyncio.sleep(0)
        assert sender.copies.memory.used == 0

    run(test)


@pytest.mark.parametrize(
    ("respond", "expected"),
    [
        (ok(b"x" * 1001), {"dropped": 1}),
        (lambda _: b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", {"failed": 1}),
        (lambda _: b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", {"failed": 1}),
        (lambda _: b"nonsense\r\n\r\n", {"failed": 1}),
        (lambda _: b"", {"failed": 1}),
    ],
)
def test_answers_that_cannot_be_compared(
    tmp_path: Path, respond: Respond, expected: dict[str, int]
) -> None:
    async def test() -> None:
        sender = Sender(tmp_path)
        async with sender.envoy(respond):
            sender.send()
            assert await sender.counted(1) == expected

    run(test)


def test_without_memory_or_without_envoy_a_copy_is_dropped(tmp_path: Path) -> None:
    async def test() -> None:
        poor = Sender(tmp_path, memory=100)
        async with poor.envoy(ok(b"x" * 100)):
            poor.send()
            assert await poor.counted(1) == {"dropped": 1}
        alone = Sender(tmp_path / "none")
        alone.send()
        assert await alone.counted(1) == {"dropped": 1}
        assert alone.copies.counts.totals["m/v2"].dropped == {"unreachable": 1}

    run(test)


def test_only_requests_to_the_stable_version_are_copied(tmp_path: Path) -> None:
    policy = applied(tmp_path).current
    assert mirror_of(policy, "m", "m/v1") is not None
    assert mirror_of(policy, "m", "m/v2") is None
    assert mirror_of(policy, "other", "m/v1") is None
