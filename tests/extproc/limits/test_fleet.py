"""Real worker processes together admit what one limit allows, whichever backend they share."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from extproc.limits import steady_clock
from extproc.limits.ledger import Ledger
from extproc.process.broker import serve_budgets
from extproc.services.budgets import BudgetService
from sluice.config.limit_backend import LimitBackend
from tests.extproc.limits.conftest import RedisServer

WORKER = Path(__file__).with_name("worker.py")
RATE, BURST, SECONDS, PER_SECOND = 400, 300, 2.0, 1000


@asynccontextmanager
async def worker(backend: LimitBackend, broker: str) -> AsyncIterator[asyncio.subprocess.Process]:
    numbers = (RATE, BURST, SECONDS, PER_SECOND)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(WORKER),
        backend.model_dump_json(),
        broker,
        *map(str, numbers),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    yield process
    assert await process.wait() == 0


async def run(backend: LimitBackend, broker: str) -> tuple[int, float]:
    """Flood from two workers at once: how much they admitted, in how many seconds."""
    async with worker(backend, broker) as first, worker(backend, broker) as second:
        started = time.monotonic()
        outputs = await asyncio.gather(
            *(process.communicate(b"go\n") for process in (first, second))
        )
        elapsed = time.monotonic() - started
    results = [tuple(map(int, output.split())) for output, _ in outputs]
    assert all(asked >= SECONDS * PER_SECOND * 0.9 for asked, _ in results)
    return sum(admitted for _, admitted in results), elapsed


def assert_the_limit_was_used_and_kept(admitted: int, elapsed: float) -> None:
    assert admitted <= RATE * elapsed + BURST
    assert admitted >= 0.95 * (RATE * SECONDS + BURST)


def test_workers_share_a_limit_through_redis(redis_server: RedisServer) -> None:
    backend = LimitBackend(kind="redis", urls=(redis_server.url,), timeout=1.0)
    assert_the_limit_was_used_and_kept(*asyncio.run(run(backend, "")))


def test_workers_share_a_limit_through_their_supervisor(tmp_path: Path) -> None:
    async def supervise() -> tuple[int, float]:
        path = tmp_path / "limits.sock"
        async with serve_budgets(path, BudgetService(Ledger(1000), steady_clock())):
            return await run(LimitBackend(timeout=1.0), str(path))

    assert_the_limit_was_used_and_kept(*asyncio.run(supervise()))
