"""Redis answers as the arithmetic does, and is reached as the config says."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from redis import Redis

from extproc.limits.arithmetic import SLOTS, Algorithm, LeaseGrant, LeaseRequest, Limit, new_budget
from extproc.limits.redis import SCRIPT, redis_store
from extproc.limits.store import StoreError
from sluice.config.limit_backend import LimitBackend
from tests.extproc.limits.conftest import RedisServer
from tests.extproc.limits.histories import SECOND, START, History, Step, limits, steps

LIMIT = Limit(Algorithm.TOKEN_BUCKET, 10, SECOND, 10)


def scripted(client: Redis, key: str) -> Callable[[int, LeaseRequest], LeaseGrant]:
    """The script as an exchange at a time of the caller's choice."""
    script = client.register_script(SCRIPT)

    def exchange(now: int, request: LeaseRequest) -> LeaseGrant:
        limit = request.limit
        answer = script(
            [key],
            [limit.algorithm.value, limit.rate, limit.unit, limit.capacity,
             request.holder, request.sequence, request.held, request.returned,
             request.want, request.lifetime, SLOTS, now],
        )  # fmt: skip
        return LeaseGrant(*cast("list[int]", answer))

    return exchange


def ask(key: str, want: int, sequence: int = 1) -> LeaseRequest:
    return LeaseRequest(key, LIMIT, "worker", sequence, 0, 0, want, SECOND)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limits, steps)
def test_the_script_and_the_arithmetic_grant_alike(
    shared_redis: RedisServer, limit: Limit, history_steps: list[Step]
) -> None:
    with Redis(port=shared_redis.port) as client:
        in_redis = History(limit, scripted(client, uuid4().hex))
        in_memory = History(limit, new_budget(limit, START).exchange)
        for step in history_steps:
            in_redis.play(step)
            in_memory.play(step)
        assert in_redis.grants == in_memory.grants


def test_a_budget_that_is_whole_again_leaves_redis(shared_redis: RedisServer) -> None:
    with Redis(port=shared_redis.port) as client:
        scripted(client, "expiring")(START, ask("expiring", 5))
        lives = client.pttl("expiring")
        assert 500 <= cast("int", lives) <= 4_000


def test_a_script_forgotten_by_redis_is_loaded_again(redis_server: RedisServer) -> None:
    async def run() -> list[int]:
        store = redis_store(LimitBackend(kind="redis", urls=(redis_server.url,), timeout=5.0))
        with Redis(port=redis_server.port) as client:
            first = await store.exchange([ask("a", 3), ask("b", 20)])
            client.script_flush()
            second = await store.exchange([ask("a", 20, sequence=2)])
        await store.close()
        return [grant.tokens for grant in (*first, *second)]

    assert asyncio.run(run()) == [3, 10, 7]


def test_a_refused_password_is_a_store_error_that_does_not_repeat_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = RedisServer(tmp_path, "--requirepass", "right")
    server.start()
    monkeypatch.setenv("LIMITS_PASSWORD", "wrong-secret")

    async def run(password: str) -> list[LeaseGrant]:
        monkeypatch.setenv("LIMITS_PASSWORD", password)
        backend = LimitBackend(
            kind="redis", urls=(server.url,), password_env="LIMITS_PASSWORD", timeout=5.0
        )
        store = redis_store(backend)
        try:
            return await store.exchange([ask("a", 1)])
        finally:
            await store.close()

    try:
        with pytest.raises(StoreError) as refused:
            asyncio.run(run("wrong-secret"))
        assert "wrong-secret" not in str(refused.value)
        assert asyncio.run(run("right"))[0].tokens == 1
    finally:
        server.kill()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path, "--cluster-enabled", "yes")
    server.start()
    with Redis(port=server.port) as client:
        client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        while "cluster_state:ok" not in str(client.execute_command("CLUSTER", "INFO")):
            pass
    yield server
    server.kill()


def test_a_cluster_shares_limits(cluster: RedisServer) -> None:
    backend = LimitBackend(kind="redis", mode="cluster", urls=(cluster.url,), timeout=5.0)
    assert grants(backend) == [7, 3, 0]


def test_sentinels_lead_to_the_master(redis_server: RedisServer, tmp_path: Path) -> None:
    config = tmp_path / "sentinel.conf"
    config.write_text(f"sentinel monitor limits 127.0.0.1 {redis_server.port} 1\n")
    sentinel = RedisServer(tmp_path, str(config), "--sentinel")
    sentinel.start()
    try:
        backend = LimitBackend(
            kind="redis",
            mode="sentinel",
            urls=(sentinel.url,),
            sentinel_service="limits",
            timeout=5.0,
        )
        assert grants(backend) == [7, 3, 0]
    finally:
        sentinel.kill()


def grants(backend: LimitBackend) -> list[int]:
    async def run() -> list[int]:
        store = redis_store(backend)
        try:
            spread = await store.exchange([ask(f"k{n}", 1) for n in range(20)])
            assert [grant.tokens for grant in spread] == [1] * 20
            got = [await store.exchange([ask("key", 7, sequence)]) for sequence in (1, 2, 3)]
            return [each[0].tokens for each in got]
        finally:
            await store.close()

    # The holder held none at its second asking, so the first seven are spent.
    return asyncio.run(run())
