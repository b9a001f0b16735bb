"""Real worker processes admit together exactly what one limit allows, with every backend."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from extproc.limits import steady_clock
from extproc.limits.ledger import Ledger
from extproc.process.broker import serve_budgets
from extproc.services.budgets import BudgetService
from sluice.config.limit_backend import LimitBackend
from tests.redis_server import RedisServer

WORKER = Path(__file__).with_name("worker.py")
BURST = 20_000
HANG = 60.0

pytestmark = pytest.mark.anyio


class Worker:
    """A process of `worker.py`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def flood(self, wanted: int | None = None) -> int:
        """Send requests until one is refused, or until `wanted` are admitted."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"flood\n" if wanted is None else b"flood %d\n" % wanted)
        return int(await self.line())

    async def line(self) -> bytes:
        assert self._process.stdout is not None
        async with asyncio.timeout(HANG):
            return await self._process.stdout.readline()

    async def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert await self._process.wait() == 0


@asynccontextmanager
async def worker(backend: LimitBackend, broker: str = "") -> AsyncIterator[Worker]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(WORKER),
        backend.model_dump_json(),
        broker,
        str(BURST),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    try:
        started = Worker(process)
        assert await started.line() == b"ready\n"
        yield started
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def assert_workers_share_the_limit(backend: LimitBackend, broker: str = "") -> None:
    async with worker(backend, broker) as one, worker(backend, broker) as other:
        admitted = await asyncio.gather(one.flood(), other.flood())
        assert sum(admitted) <= BURST
        # A worker may still hold tokens when the other one is refused. It returns them at its end.
        await one.stop()
        rest = BURST - sum(admitted)
        assert await other.flood(rest) == rest


async def test_workers_share_a_limit_through_redis(redis_server: RedisServer) -> None:
    await assert_workers_share_the_limit(
        LimitBackend(kind="redis", urls=(redis_server.url,), timeout=5.0)
    )


async def test_workers_share_a_limit_through_their_supervisor(tmp_path: Path) -> None:
    path = tmp_path / "broker"
    async with serve_budgets(path, BudgetService(Ledger(1000), steady_clock())):
        await assert_workers_share_the_limit(LimitBackend(timeout=5.0), str(path))
