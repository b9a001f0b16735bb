"""Budgets in Redis, for any number of workers and hosts: `exchange.lua`, run by the server.

The time is Redis's own, so the workers' clocks need not agree. A budget is one hash with a time to
live, so a database set to evict keys would forget in the client's favour: use `noeviction`.
"""

import asyncio
import os
from collections.abc import Awaitable, Sequence
from hashlib import sha1
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from extproc.limits.arithmetic import SLOTS, LeaseGrant, LeaseRequest
from extproc.limits.store import StoreError
from sluice.config.limit_backend import LimitBackend

SCRIPT = Path(__file__).with_name("exchange.lua").read_text()
SHA = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

MAX_CONNECTIONS = 32
"""Of one worker: batches under way at once; more only come up while Redis stalls."""


class RedisStore:
    """Exchanges by script, a batch a round trip (in a cluster: an ask a round trip, at once)."""

    def __init__(self, client: "Redis | RedisCluster", prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    async def exchange(self, requests: Sequence[LeaseRequest]) -> list[LeaseGrant]:
        """Run the requests. Raises StoreError; what was executed then is not known."""
        try:
            answers = await self._run(requests)
            # Only these did not run: to run the others twice would throw away what they granted.
            missing = [n for n, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
            if missing:
                await self._load()
                again = await self._run([requests[n] for n in missing])
                for n, answer in zip(missing, again, strict=True):
                    answers[n] = answer
            return [_grant(answer) for answer in answers]
        except (RedisError, OSError, ValueError, TypeError) as error:
            raise StoreError(f"Redis failed: {type(error).__name__}: {error}") from error

    async def close(self) -> None:
        await self._client.aclose()

    async def _run(self, requests: Sequence[LeaseRequest]) -> list[object]:
        """What Redis answered to each ask, an exception where it refused."""
        if isinstance(self._client, RedisCluster):
            calls = [self._client.evalsha(SHA, 1, *self._arguments(ask)) for ask in requests]
            awaited = (cast("Awaitable[object]", call) for call in calls)
            return list(await asyncio.gather(*awaited, return_exceptions=True))
        async with self._client.pipeline(transaction=False) as pipeline:
            for ask in requests:
                pipeline.evalsha(SHA, 1, *self._arguments(ask))
            return list(await pipeline.execute(raise_on_error=False))

    async def _load(self) -> None:
        loaded: Awaitable[object] = self._client.script_load(SCRIPT)
        await loaded

    def _arguments(self, ask: LeaseRequest) -> list[str]:
        limit = ask.limit
        numbers = (ask.sequence, ask.held, ask.returned, ask.want, ask.lifetime, SLOTS)
        return [
            f"{self._prefix}:{ask.key}",
            limit.algorithm.value,
            *map(str, (limit.rate, limit.unit, limit.capacity)),
            ask.holder,
            *map(str, numbers),
            "",
        ]


def redis_store(backend: LimitBackend) -> RedisStore:
    """A store of the configured kind. Raises ValueError, with a message for operators."""
    password = _password(backend)
    try:
        client = _client(backend, password)
    except (RedisError, ValueError) as error:
        raise ValueError(f"limits.backend: {error}") from error
    return RedisStore(client, backend.prefix)


def _password(backend: LimitBackend) -> str | None:
    name = backend.password_env
    if name is None:
        return None
    if name not in os.environ:
        raise ValueError(
            f"limits.backend.password_env names {name}, which is not set in this process"
        )
    return os.environ[name]


def _client(backend: LimitBackend, password: str | None) -> "Redis | RedisCluster":
    # The limiter has its own timeout and its own idea of when to try again.
    retry = Retry(NoBackoff(), 0)
    if backend.mode == "cluster":
        return RedisCluster(
            startup_nodes=[ClusterNode(*_address(url)) for url in backend.urls],
            username=backend.username,
            password=password,
            ssl=backend.urls[0].startswith("rediss:"),
            socket_timeout=backend.timeout,
            socket_connect_timeout=backend.timeout,
            max_connections=MAX_CONNECTIONS,
        )
    if backend.mode == "sentinel":
        assert backend.sentinel_service is not None
        sentinel = Sentinel(  # type: ignore[no-untyped-call]
            [_address(url) for url in backend.urls],
            sentinel_kwargs={"socket_timeout": backend.timeout, "retry": retry},
        )
        master: Redis = sentinel.master_for(
            backend.sentinel_service,
            username=backend.username,
            password=password,
            ssl=backend.urls[0].startswith("rediss:"),
            db=int(urlsplit(backend.urls[0]).path.strip("/") or 0),
            socket_timeout=backend.timeout,
            retry=retry,
            max_connections=MAX_CONNECTIONS,
        )
        return master
    return Redis.from_url(
        backend.urls[0],
        username=backend.username,
        password=password,
        socket_timeout=backend.timeout,
        socket_connect_timeout=backend.timeout,
        retry=retry,
        max_connections=MAX_CONNECTIONS,
    )


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 6379


def _grant(answer: object) -> LeaseGrant:
    if isinstance(answer, Exception):
        raise answer
    if not isinstance(answer, list) or len(answer) != 5:
        raise ValueError("not a grant")
    return LeaseGrant(*(int(number) for number in answer))
