"""Events in a real Redis."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.redis_server import RedisServer
from tests.redis_tls import make_files, tls_in_front_of
from tests.video.sinks.events import event, failing, running, until
from video.sinks import redis_stream


@pytest.fixture
def client(shared_redis: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(shared_redis.url) as client:
        client.flushdb()
        yield client


def config(server: RedisServer, **more: Any) -> dict[str, Any]:
    return {"redis": {"url": server.url, **more}}


def ids(client: Redis, key: str = "sluice:video:door") -> list[str]:
    entries: Any = client.xrange(key)
    return [fields[b"id"].decode() for _, fields in entries]


def test_events_are_appended_in_order(client: Redis, shared_redis: RedisServer) -> None:
    async def run() -> None:
        async with running(config(shared_redis)) as sink:
            for number in range(450):
                sink.put(event(number), None)

    asyncio.run(run())
    assert ids(client) == [event(number).id for number in range(450)]
    entries: Any = client.xrange("sluice:video:door", count=1)
    assert json.loads(entries[0][1][b"event"])["stream"] == "door"


def test_the_stream_keeps_about_its_maximum(
    client: Redis,
    shared_redis: RedisServer,
) -> None:
    async def run() -> None:
        async with running(config(shared_redis, key="k:{stream}", max_length=100)) as sink:
            for number in range(1000):
                sink.put(event(number), None)

    asyncio.run(run())
    assert 100 <= client.xlen("k:door") <= 300


def test_events_wait_for_a_server_that_is_down(redis_server: RedisServer) -> None:
    redis_server.kill()

    async def run() -> None:
        async with running(config(redis_server)) as sink:
            sink.put(event(0), None)
            assert (await failing(sink)).startswith("Redis: ")
            sink.put(event(1), None)
            await asyncio.to_thread(redis_server.start)

    asyncio.run(run())
    with Redis.from_url(redis_server.url) as client:
        assert ids(client) == [event(0).id, event(1).id]


def test_a_server_that_does_not_answer_is_an_error(
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redis_stream, "_TIMEOUT", 0.1)
    redis_server.suspend()

    async def run() -> None:
        async with running(config(redis_server)) as sink:
            sink.put(event(0), None)
            await failing(sink)
            redis_server.resume()

    asyncio.run(run())
    with Redis.from_url(redis_server.url) as client:
        # The first attempt may arrive as well: a repeated event has the same id.
        assert set(ids(client)) == {event(0).id}


def test_an_error_of_a_command_does_not_quote_the_event(
    client: Redis,
    shared_redis: RedisServer,
) -> None:
    client.set("sluice:video:door", "another type")

    async def run() -> str:
        async with running(config(shared_redis)) as sink:
            sink.put(event(0), None)
            error = await failing(sink)
            client.delete("sluice:video:door")
            return error

    error = asyncio.run(run())
    assert "WRONGTYPE" in error or "wrong kind of value" in error
    assert event(0).id not in error
    assert ids(client) == [event(0).id]


def test_a_password_is_sent_and_never_shown(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--requirepass", "hunter2-long")
    server.start()
    try:

        async def run(password: bytes) -> str:
            secrets = {"sinks.0.redis.password": password}
            options = config(server, password={"env": "UNUSED"})
            async with running(options, secrets, seconds=0) as sink:
                sink.put(event(0), None)
                await until(lambda: sink.status().error or sink.status().delivered)
                return sink.status().error

        assert asyncio.run(run(b"hunter2-long")) == ""
        error = asyncio.run(run(b"wrong-password"))
        assert error
        assert "wrong-password" not in error
    finally:
        server.kill()


def test_the_certificate_of_the_server_is_checked(
    client: Redis, shared_redis: RedisServer, tmp_path: Path
) -> None:
    make_files(tmp_path)

    async def run(port: int, **more: str) -> str:
        options = {"redis": {"url": f"rediss://localhost:{port}", **more}}
        async with running(options, seconds=0) as sink:
            sink.put(event(0), None)
            await until(lambda: sink.status().error or sink.status().delivered)
            return sink.status().error

    with tls_in_front_of(shared_redis.port, tmp_path, optional=True) as port:
        assert asyncio.run(run(port, ca=str(tmp_path / "ca.crt"))) == ""
        assert "certificate" in asyncio.run(run(port)).lower()
    assert ids(client) == [event(0).id]
