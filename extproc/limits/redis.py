"""Budgets in Redis, for any number of workers and hosts. Redis runs `exchange.lua`.

The script reads the time of Redis, so the workers' clocks need not agree. A budget is one hash
that expires when it is no longer needed. Set `maxmemory-policy noeviction`: an evicted budget would
start again with all its tokens.
"""

import asyncio
import os
from collections.abc import Awaitable, Sequence
from functools import partial
from hashlib import sha1
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from extproc.limits.arithmetic import SLOTS, LeaseGrant, LeaseRequest
from extproc.limits.store import StoreError
from sluice.config.files import UnusableFileError
from sluice.config.limit_backend import BackendTls, LimitBackend
from sluice.redis_files import FollowedClient, RedisCredentials

SCRIPT = Path(__file__).with_name("exchange.lua").read_text()
SHA = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

MAX_CONNECTIONS = 32
"""Connections of one worker to one server. Each batch under way takes one; in a cluster, each
request of a batch takes one. If none is left, a batch or request waits: the client of Redis would
raise an error."""


class RedisStore:
    """Sends a batch as one pipeline, or to a cluster as single requests, on several connections."""

    def __init__(self, client: FollowedClient["Redis | RedisCluster"], prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._connections = asyncio.Semaphore(MAX_CONNECTIONS)

    async def exchange(self, requests: Sequence[LeaseRequest]) -> list[LeaseGrant]:
        """Run the requests. Raises StoreError, also if Redis has executed some of them."""
        try:
            replies = await self._run(requests)
            # Only these are repeated. A second run of the others would grant no tokens.
            not_run = [n for n, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if not_run:
                await self._load()
                again = await self._run([requests[n] for n in not_run])
                for n, reply in zip(not_run, again, strict=True):
                    replies[n] = reply
            return [_grant(reply) for reply in replies]
        except (RedisError, OSError, ValueError, TypeError) as error:
            raise StoreError(f"Redis failed: {type(error).__name__}: {error}") from error

    async def close(self) -> None:
        await self._client.aclose()

    async def _run(self, requests: Sequence[LeaseRequest]) -> list[object]:
        """Return the reply of Redis to each request, or an exception if the reply is an error."""
        client = self._client()
        if isinstance(client, RedisCluster):
            calls = (self._call(client, each) for each in requests)
            return list(await asyncio.gather(*calls, return_exceptions=True))
        async with self._connections, client.pipeline(transaction=False) as pipeline:
            for request in requests:
                pipeline.evalsha(SHA, 1, *self._arguments(request))
            return list(await pipeline.execute(raise_on_error=False))

    async def _call(self, client: RedisCluster, request: LeaseRequest) -> object:
        async with self._connections:
            return await cast(
                "Awaitable[object]", client.evalsha(SHA, 1, *self._arguments(request))
            )

    async def _load(self) -> None:
        loaded: Awaitable[object] = self._client().script_load(SCRIPT)
        async with self._connections:
            await loaded

    def _arguments(self, request: LeaseRequest) -> list[str]:
        """Return KEYS and ARGV. The last argument is empty, so the script reads the time."""
        limit = request.limit
        return [
            f"{self._prefix}:{request.key}",
            limit.algorithm.value,
            *map(str, (limit.rate, limit.unit, limit.capacity)),
            request.holder,
            *map(str, (request.sequence, request.held, request.returned)),
            *map(str, (request.want, request.lifetime, SLOTS)),
            "",
        ]


def redis_store(backend: LimitBackend) -> RedisStore:
    """Return a store of the configured mode. Raises ValueError, with a message for operators."""
    credentials = _credentials(backend)
    try:
        client = FollowedClient(credentials.files, partial(_client, backend, credentials))
    except UnusableFileError as error:
        raise ValueError(f"limits.backend.password_file: {error}") from None
    except OSError as error:
        raise ValueError(f"limits.backend.tls: a file cannot be used: {error.strerror}") from None
    except (RedisError, ValueError) as error:
        # The message may contain the address or the name of the user.
        reason = type(error).__name__
        raise ValueError(f"limits.backend: the client cannot be created: {reason}") from None
    return RedisStore(client, backend.prefix)


def _credentials(backend: LimitBackend) -> RedisCredentials:
    tls = backend.tls or BackendTls()
    files = (backend.password_file, tls.ca, tls.certificate, tls.private_key)
    paths = (None if name is None else Path(name) for name in files)
    return RedisCredentials(backend.username, _password(backend), *paths)


def _password(backend: LimitBackend) -> str | None:
    name = backend.password_env
    if name is None:
        return None
    if name not in os.environ:
        # The name is not shown: it may be the password itself, in the wrong place.
        raise ValueError(
            "limits.backend.password_env names a variable that is not set in this process"
        )
    return os.environ[name]


def _client(backend: LimitBackend, credentials: RedisCredentials) -> "Redis | RedisCluster":
    """Raises UnusableFileError, OSError, RedisError and ValueError."""
    # No retries: LeasedBudgets has its own timeout, and decides when to try again.
    retry = Retry(NoBackoff(), 0)
    login: dict[str, Any] = credentials.login()
    # Each option of TLS is an error without TLS.
    tls: dict[str, Any] = credentials.tls() if backend.uses_tls else {}
    if backend.mode == "cluster":
        return RedisCluster(
            startup_nodes=[ClusterNode(*_address(url)) for url in backend.urls],
            ssl=backend.uses_tls,
            socket_timeout=backend.timeout,
            socket_connect_timeout=backend.timeout,
            max_connections=MAX_CONNECTIONS,
            **login,
            **tls,
        )
    if backend.mode == "sentinel":
        assert backend.sentinel_service is not None
        sentinel = Sentinel(  # type: ignore[no-untyped-call]
            [_address(url) for url in backend.urls],
            sentinel_kwargs={
                "socket_timeout": backend.timeout,
                "retry": retry,
                "ssl": backend.uses_tls,
                **tls,
            },
        )
        master: Redis = sentinel.master_for(
            backend.sentinel_service,
            ssl=backend.uses_tls,
            db=int(urlsplit(backend.urls[0]).path.strip("/") or 0),
            socket_timeout=backend.timeout,
            retry=retry,
            max_connections=MAX_CONNECTIONS,
            **login,
            **tls,
        )
        return master
    return Redis.from_url(
        backend.urls[0],
        socket_timeout=backend.timeout,
        socket_connect_timeout=backend.timeout,
        retry=retry,
        max_connections=MAX_CONNECTIONS,
        **login,
        **tls,
    )


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 6379


def _grant(reply: object) -> LeaseGrant:
    if isinstance(reply, Exception):
        raise reply
    if not isinstance(reply, list) or len(reply) != 5:
        raise ValueError("the script's reply does not consist of five numbers")
    return LeaseGrant(*(int(number) for number in reply))
