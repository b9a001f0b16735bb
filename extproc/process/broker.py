"""The broker: serves the budgets of a supervisor to its workers, on a Unix socket."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from extproc.limits import steady_clock
from extproc.limits.broker import MAX_MESSAGE
from extproc.limits.ledger import Ledger
from extproc.services.budgets import BudgetService
from extproc.transport import TransportLimits, serve
from sluice.config.limit_backend import LimitBackend

START_TIMEOUT = 5.0
STOP_TIMEOUT = 2.0
"""Seconds for the thread to start and to stop."""


@asynccontextmanager
async def serve_budgets(path: Path, service: BudgetService) -> AsyncIterator[None]:
    """Serve budgets to processes of this user. Raises OSError."""
    limits = TransportLimits(max_message=MAX_MESSAGE)
    server = serve("asyncio", service.services(), f"unix:{path}", limits=limits)
    # Only this user may connect: a client of the socket can take all tokens.
    umask = os.umask(0o177)
    try:
        await server.start()
    finally:
        os.umask(umask)
    try:
        yield
    finally:
        await server.close()


@contextmanager
def serve_budgets_in_thread(path: Path, count_evictions: Callable[[int], None]) -> Iterator[None]:
    """Serve budgets on a thread with an event loop of its own. Raises OSError.

    `count_evictions` is called on the thread.
    """
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    service = BudgetService(Ledger(LimitBackend().max_keys), steady_clock(), count_evictions)

    async def run() -> None:
        try:
            async with serve_budgets(path, service):
                stop = asyncio.Event()
                started.set_result((asyncio.get_running_loop(), stop))
                await stop.wait()
        except OSError as error:
            started.set_exception(error)

    thread = threading.Thread(target=asyncio.run, args=[run()], name="broker", daemon=True)
    thread.start()
    loop, stop = started.result(START_TIMEOUT)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(STOP_TIMEOUT)
