"""Redis does the same as the arithmetic, and workers connect to it as configured."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from redis import Redis

from extproc.limits import Limiter, LimitVerdict, RequestView, open_budgets, steady_clock
from extproc.limits.arithmetic import SLOTS, Algorithm, LeaseGrant, LeaseRequest, Limit, new_budget
from extproc.limits.leases import MAX_BATCH
from extproc.limits.redis import MAX_CONNECTIONS, SCRIPT, RedisStore, redis_store
from extproc.limits.store import StoreError
from sluice.config.limit_backend import LimitBackend
from sluice.config.limits import LimitRule
from tests.extproc.limits.histories import SECOND, START, History, Step, limits, steps
from tests.redis_server import RedisServer
from tests.redis_tls import make_files, tls_in_front_of

LIMIT = Limit(Algorithm.TOKEN_BUCKET, 10, SECOND, 10)


def scripted(client: Redis, key: str) -> Callable[[int, LeaseRequest], LeaseGrant]:
    """Return an exchange by the script, at the time of the caller."""
    script = client.register_script(SCRIPT)

    def exchange(now: int, request: LeaseRequest) -> LeaseGrant:
        limit = request.limit
        reply = script(
            [key],
            [limit.algorithm.value, limit.rate, limit.unit, limit.capacity,
             request.holder, request.sequence, request.held, request.returned,
             request.want, request.lifetime, SLOTS, now],
        )  # fmt: skip
        return LeaseGrant(*cast("list[int]", reply))

    return exchange


def lease_request(key: str, want: int, sequence: int = 1) -> LeaseRequest:
    return LeaseRequest(key, LIMIT, "worker", sequence, 0, 0, want, SECOND)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limits, steps)
def test_the_script_grants_the_same_as_the_arithmetic(
    shared_redis: RedisServer, limit: Limit, history_steps: list[Step]
) -> None:
    with Redis(port=shared_redis.port) as client:
        in_redis = History(limit, scripted(client, uuid4().hex))
        in_memory = History(limit, new_budget(limit, START).exchange)
        for step in history_steps:
            in_redis.play(step)
            in_memory.play(step)
        assert in_redis.grants == in_memory.grants


def test_a_budget_expires_in_redis_when_all_its_tokens_are_free(shared_redis: RedisServer) -> None:
    with Redis(port=shared_redis.port) as client:
        scripted(client, "expiring")(START, lease_request("expiring", 5))
        lifetime = client.pttl("expiring")
        assert 500 <= cast("int", lifetime) <= 4_000


def test_a_script_that_redis_has_lost_is_loaded_again(redis_server: RedisServer) -> None:
    async def run() -> list[int]:
        store = redis_store(LimitBackend(kind="redis", urls=(redis_server.url,), timeout=5.0))
        with Redis(port=redis_server.port) as client:
            first = await store.exchange([lease_request("a", 3), lease_request("b", 20)])
            client.script_flush()
            second = await store.exchange([lease_request("a", 20, sequence=2)])
        await store.close()
        return [grant.tokens for grant in (*first, *second)]

    assert asyncio.run(run()) == [3, 10, 7]


def test_a_password_that_is_not_set_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIMITS_PASSWORD", raising=False)
    backend = LimitBackend(
        kind="redis", urls=("redis://127.0.0.1/0",), password_env="LIMITS_PASSWORD"
    )
    with pytest.raises(ValueError, match="password_env names a variable that is not set"):
        redis_store(backend)


def test_a_url_without_a_valid_port_is_a_config_error() -> None:
    with pytest.raises(ValueError, match="write redis://HOST:PORT/DB"):
        redis_store(LimitBackend(kind="redis", urls=("redis://127.0.0.1:99999/0",)))


def test_a_wrong_password_is_an_error_without_the_password(
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
            return await store.exchange([lease_request("a", 1)])
        finally:
            await store.close()

    try:
        with pytest.raises(StoreError) as refused:
            asyncio.run(run("wrong-secret"))
        assert "wrong-secret" not in str(refused.value)
        assert asyncio.run(run("right"))[0].tokens == 1
    finally:
        server.kill()


def test_tls_follows_its_files(shared_redis: RedisServer, tmp_path: Path) -> None:
    make_files(tmp_path)
    names = {"ca": "ca.crt", "certificate": "client.crt", "private_key": "client.key"}
    tls = {key: str(tmp_path / name) for key, name in names.items()}

    async def exchange(store: RedisStore) -> int:
        return (await store.exchange([lease_request(uuid4().hex, 1)]))[0].tokens

    async def run(port: int) -> None:
        url = f"rediss://127.0.0.1:{port}/0"
        backend = {"kind": "redis", "urls": [url], "timeout": 5}
        stranger = redis_store(LimitBackend.model_validate({**backend, "tls": {"ca": tls["ca"]}}))
        with pytest.raises(StoreError):
            await exchange(stranger)
        await stranger.close()
        store = redis_store(LimitBackend.model_validate({**backend, "tls": tls}))
        assert await exchange(store) == 1
        make_files(tmp_path / "new")
        for file in (tmp_path / "new").iterdir():
            file.replace(tmp_path / file.name)
        with Redis(port=shared_redis.port) as client:
            client.client_kill_filter(_type="normal")
        assert await exchange(store) == 1
        await store.close()

    with tls_in_front_of(shared_redis.port, tmp_path) as port:
        asyncio.run(run(port))


def test_a_password_is_read_again_when_its_file_changes(tmp_path: Path) -> None:
    server, file = RedisServer(tmp_path, "--requirepass", "first"), tmp_path / "password"
    server.start()
    file.write_text("first\n")

    async def run() -> list[int]:
        backend = {"kind": "redis", "urls": [server.url], "timeout": 5, "password_file": str(file)}
        store = redis_store(LimitBackend.model_validate(backend))
        before = await store.exchange([lease_request("a", 1)])
        with Redis(port=server.port, password="first") as client:
            client.config_set("requirepass", "the second")
            client.client_kill_filter(_type="normal")
        file.write_text("the second\n")
        after = await store.exchange([lease_request("b", 1)])
        await store.close()
        return [grant.tokens for grant in (*before, *after)]

    try:
        assert asyncio.run(run()) == [1, 1]
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ({"password_file": "/absent"}, "limits.backend.password_file: the file cannot be read: "),
        ({"tls": {"ca": "/absent"}}, "limits.backend.tls: a file cannot be used: No such file"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_config_error(
    backend: dict[str, object], message: str
) -> None:
    settings = {"kind": "redis", "urls": ["rediss://127.0.0.1:1/0"], **backend}
    with pytest.raises(ValueError, match=message):
        redis_store(LimitBackend.model_validate(settings))


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


def test_a_cluster_keeps_budgets(cluster: RedisServer) -> None:
    backend = LimitBackend(kind="redis", mode="cluster", urls=(cluster.url,), timeout=5.0)
    assert grants(backend) == [7, 3, 0]


@pytest.mark.parametrize("mode", ["cluster", "single"])
def test_more_exchanges_than_connections_wait_for_a_connection(
    mode: str, request: pytest.FixtureRequest
) -> None:
    server: RedisServer = request.getfixturevalue(
        "cluster" if mode == "cluster" else "redis_server"
    )
    backend = LimitBackend.model_validate(
        {"kind": "redis", "mode": mode, "urls": [server.url], "timeout": 5}
    )

    async def run() -> list[list[LeaseGrant]]:
        store = redis_store(backend)
        try:
            largest = [lease_request(f"a{n}", 1) for n in range(MAX_BATCH)]
            small = ([lease_request(f"b{n}", 1)] for n in range(2 * MAX_CONNECTIONS))
            return await asyncio.gather(*map(store.exchange, (largest, *small)))
        finally:
            await store.close()

    assert {grant.tokens for grants in asyncio.run(run()) for grant in grants} == {1}


def test_sentinels_name_the_server_that_keeps_budgets(
    redis_server: RedisServer, tmp_path: Path
) -> None:
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
            spread = await store.exchange([lease_request(f"k{n}", 1) for n in range(20)])
            assert [grant.tokens for grant in spread] == [1] * 20
            got = [
                await store.exchange([lease_request("key", 7, sequence)]) for sequence in (1, 2, 3)
            ]
            return [each[0].tokens for each in got]
        finally:
            await store.close()

    # The second request holds none of the first seven tokens, so they are spent.
    return asyncio.run(run())


@pytest.mark.anyio
@pytest.mark.parametrize("outage", ["killed", "suspended"])
async def test_requests_are_admitted_during_an_outage_and_after_it(
    redis_server: RedisServer, outage: str
) -> None:
    backend = LimitBackend(kind="redis", urls=(redis_server.url,))
    clock = steady_clock()
    async with open_budgets(backend, clock) as budgets:
        limiter = Limiter([LimitRule(name="r", rate=10_000_000, burst=9_000_000)], budgets)

        async def load_until(available: bool) -> None:
            async with asyncio.timeout(60):
                while budgets.available is not available:
                    verdict = limiter.check(clock(), RequestView())
                    verdict = verdict if isinstance(verdict, LimitVerdict) else await verdict
                    assert verdict.admitted
                    await asyncio.sleep(0)

        redis_server.kill() if outage == "killed" else redis_server.suspend()
        await load_until(available=False)
        redis_server.start() if outage == "killed" else redis_server.resume()
        await load_until(available=True)
