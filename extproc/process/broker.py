"""Runs a broker on a thread of its own, for a supervisor that has no event loop."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from extproc.limits import steady_clock
from extproc.limits.broker import Broker
from extproc.limits.ledger import Ledger
from sluice.config.limit_backend import LimitBackend

START_TIMEOUT = 5.0
STOP_TIMEOUT = 2.0


@contextmanager
def brokering(path: Path, evicted: Callable[[int], None]) -> Iterator[None]:
    """Serve budgets at a Unix socket for the length of a block. Raises OSError.

    `evicted` is called on the thread, with how many budgets were forgotten to make room.
    """
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    ledger = Ledger(LimitBackend().max_keys)

    async def serve() -> None:
        try:
            async with Broker(path, ledger, steady_clock(), evicted):
                stop = asyncio.Event()
                ready.set_result((asyncio.get_running_loop(), stop))
                await stop.wait()
        except OSError as error:
            ready.set_exception(error)

    thread = threading.Thread(target=asyncio.run, args=[serve()], name="broker", daemon=True)
    thread.start()
    loop, stop = ready.result(START_TIMEOUT)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(STOP_TIMEOUT)
