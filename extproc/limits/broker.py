"""Budgets for the workers of one supervisor, where there is no Redis: a ledger behind a socket.

The supervisor serves a Unix socket; each worker leases tokens over it as it would from
Redis. Each message is one JSON line: `[number, max_keys, [request, ...]]`, answered by
`[number, [grant, ...]]`.
The supervisor has no policy, so each line tells how many budgets the policy has it keep.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import astuple
from pathlib import Path

from extproc.limits.arithmetic import Algorithm, LeaseGrant, LeaseRequest, Limit
from extproc.limits.ledger import Ledger
from extproc.limits.store import StoreError

MAX_LINE = 1 << 18
"""Bytes: a batch of 128 requests takes less than 64 KiB."""


class Broker:
    """Serves a ledger to this user's processes. `clock` gives seconds since the epoch.

    `evicted` is told how many budgets each exchange had the ledger forget.
    """

    def __init__(
        self,
        path: Path,
        ledger: Ledger,
        clock: Callable[[], float],
        evicted: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._path = path
        self._ledger = ledger
        self._clock = clock
        self._evicted = evicted
        self._server: asyncio.Server | None = None
        self._serving: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    async def __aenter__(self) -> "Broker":
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)  # whoever can write here can take every token
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=MAX_LINE)
        finally:
            os.umask(before)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        serving = {task for task in self._serving.values() if task is not None}
        for writer in self._serving:
            writer.close()
        if serving:
            await asyncio.wait(serving)
        await self._server.wait_closed()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving[writer] = asyncio.current_task()
        try:
            while line := await reader.readline():
                writer.write(self._answer(line))
                await writer.drain()
        except (ValueError, TypeError, ConnectionError):
            pass  # a peer that speaks something else, or left: hang up
        finally:
            del self._serving[writer]
            writer.close()

    def _answer(self, line: bytes) -> bytes:
        number, max_keys, requests = json.loads(line)
        self._ledger.max_keys = max(1, int(max_keys))
        now = int(self._clock() * 1_000_000)
        before = self._ledger.evictions
        grants = self._ledger.exchange(now, [_request(*fields) for fields in requests])
        self._evicted(self._ledger.evictions - before)
        return _line([int(number), [astuple(grant) for grant in grants]])


class BrokerStore:
    """A worker's side of the broker, connected when first used and again after a failure."""

    def __init__(self, path: Path, max_keys: int) -> None:
        self._path = path
        self._max_keys = max_keys
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()

    async def exchange(self, requests: Sequence[LeaseRequest]) -> list[LeaseGrant]:
        """Ask the broker. Raises StoreError where it cannot be reached or hangs up."""
        try:
            async with self._connecting:
                if self._connection is None or self._connection.lost:
                    self._connection = await _Connection.open(self._path)
            return await self._connection.exchange(requests, self._max_keys)
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(f"the broker at {self._path} failed: {error}") from error

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lost = False
        self._reader = reader
        self._writer = writer
        self._number = 0
        self._waiting: dict[int, asyncio.Future[list[LeaseGrant]]] = {}
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, path: Path) -> "_Connection":
        return cls(*await asyncio.open_unix_connection(path, limit=MAX_LINE))

    async def exchange(self, requests: Sequence[LeaseRequest], max_keys: int) -> list[LeaseGrant]:
        self._number += 1
        number = self._number
        self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._writer.write(
                _line([number, max_keys, [_fields(request) for request in requests]])
            )
            await self._writer.drain()
            return await self._waiting[number]
        finally:
            del self._waiting[number]

    async def close(self) -> None:
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading

    async def _read(self) -> None:
        failure: Exception = ConnectionError("the broker hung up")
        try:
            while line := await self._reader.readline():
                number, grants = json.loads(line)
                waiting = self._waiting.get(number)
                if waiting is not None and not waiting.done():
                    waiting.set_result([LeaseGrant(*map(int, grant)) for grant in grants])
        except (OSError, ValueError, TypeError) as error:
            failure = error
        finally:
            self.lost = True
            self._writer.close()
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(failure)


def _line(message: object) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def _fields(request: LeaseRequest) -> list[str | int]:
    limit = request.limit
    return [
        request.key, limit.algorithm, limit.rate, limit.unit, limit.capacity,
        request.holder, request.sequence, request.held, request.returned,
        request.want, request.lifetime,
    ]  # fmt: skip


def _request(
    key: str, algorithm: str, rate: int, unit: int, capacity: int, holder: str, *numbers: int
) -> LeaseRequest:
    limit = Limit(Algorithm(algorithm), int(rate), int(unit), int(capacity))
    return LeaseRequest(str(key), limit, str(holder), *map(int, numbers))
