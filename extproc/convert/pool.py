"""Runs conversions off the event loop, on a few threads with a bounded queue, and times them.

Threads suffice for pictures: libjpeg-turbo, Pillow and zlib let go of the interpreter lock while
they work. JSON does not, so a thread only keeps its queue in order.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from extproc.convert.converter import ConvertedMessage, Converter, Headers
from extproc.convert.errors import ConversionError
from extproc.convert.tensor import ResponseOptions
from sluice.contract.reasons import Reason

_LONGEST_RETRY = 30


Observe = Callable[[str, float, float | None], None]
"""Told of each conversion: the converter's name, its seconds at work, and those that it waited for
a thread, None where it needed none."""


@dataclass(slots=True)
class ConversionCounts:
    """What one converter has done since the start; sizes in bytes."""

    count: int = 0
    failed: int = 0
    """ConversionError payloads among them."""
    bytes_in: int = 0
    bytes_out: int = 0


@dataclass(frozen=True, slots=True)
class _Outcome:
    result: ConvertedMessage | None
    error: ConversionError | None
    started: float
    ended: float


class ConversionPool:
    """At most `threads` conversions at work, `queue` waiting, and `max_bytes` held by them all.

    All methods belong to one event loop.
    """

    def __init__(
        self,
        threads: int = 2,
        queue: int = 64,
        max_bytes: int = 64 << 20,
        clock: Callable[[], float] = time.perf_counter,
        observe: Observe = lambda _name, _work, _wait: None,
    ) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="convert")
        self._threads = threads
        self._places = threads + queue
        self._max_bytes = max_bytes
        self._clock = clock
        self._observe = observe
        self._jobs = 0
        self._bytes = 0
        self._typical = 0.005
        self._counts: dict[str, ConversionCounts] = {}
        self.refused = 0
        """Conversions turned away because the queue was full."""

    @property
    def counts(self) -> Mapping[str, ConversionCounts]:
        """By converter name, requests and responses apart (`image-grpc`, `image-grpc-response`)."""
        return self._counts

    @property
    def pending(self) -> int:
        """Conversions at work on threads or waiting for one."""
        return self._jobs

    async def request(
        self, converter: Converter, body: bytes, headers: Headers
    ) -> ConvertedMessage:
        """`converter.request`, here if it is light, on a thread if it is heavy.

        Raises ConversionError, also with 503 and `retry_after` when the queue is full.
        """
        heavy = len(body) >= converter.thread_from or "content-encoding" in headers
        converted = await self._timed(
            converter.name, lambda: converter.request(body, headers), len(body), heavy
        )
        assert converted is not None
        return converted

    async def response(
        self,
        converter: Converter,
        reply: ResponseOptions,
        status: int,
        headers: Headers,
        body: bytes,
    ) -> ConvertedMessage | None:
        """`converter.response`, likewise."""
        return await self._timed(
            f"{converter.name}-response",
            lambda: converter.response(reply, status, headers, body),
            len(body),
            len(body) >= _HEAVY_RESPONSE,
        )

    async def run(self, name: str, work: Callable[[], bytes], size: int) -> bytes:
        """Other work of this kind, on a thread, timed by this name; `size` is what it holds.

        Raises ConversionError, likewise.
        """
        done = await self._timed(name, lambda: ConvertedMessage(work(), ""), size, heavy=True)
        assert done is not None
        return done.body

    def close(self) -> None:
        """Let running conversions end, drop those that wait."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _timed(
        self, name: str, convert: Callable[[], ConvertedMessage | None], size: int, heavy: bool
    ) -> ConvertedMessage | None:
        asked = self._clock()
        outcome = await self._threaded(convert, size) if heavy else self._run(convert)
        self._record(name, asked if heavy else None, size, outcome)
        if outcome.error is not None:
            raise outcome.error
        return outcome.result

    def _run(self, convert: Callable[[], ConvertedMessage | None]) -> _Outcome:
        started = self._clock()
        try:
            return _Outcome(convert(), None, started, self._clock())
        except ConversionError as error:
            return _Outcome(None, error, started, self._clock())

    async def _threaded(
        self, convert: Callable[[], ConvertedMessage | None], size: int
    ) -> _Outcome:
        # One job may always run, or a body above the bound could never be converted at all.
        if self._jobs and (self._jobs >= self._places or self._bytes + size > self._max_bytes):
            self.refused += 1
            raise self._full()
        loop = asyncio.get_running_loop()
        job = self._executor.submit(self._run, convert)
        self._jobs += 1
        self._bytes += size
        # The job itself frees its place, not the caller: a caller that is cancelled leaves its job
        # at work, and the memory taken, until the thread has done with it.
        job.add_done_callback(lambda _: _call_soon(loop, self._freed, size))
        return await asyncio.wrap_future(job)

    def _freed(self, size: int) -> None:
        self._jobs -= 1
        self._bytes -= size

    def _full(self) -> ConversionError:
        wait = math.ceil(self._typical * self._jobs / self._threads)
        return ConversionError(
            Reason.CONVERSION_QUEUE_FULL,
            "body",
            "too many payloads wait to be converted",
            retry_after=min(max(wait, 1), _LONGEST_RETRY),
        )

    def _record(self, name: str, asked: float | None, size: int, outcome: _Outcome) -> None:
        counts = self._counts.setdefault(name, ConversionCounts())
        spent = outcome.ended - outcome.started
        counts.count += 1
        counts.failed += outcome.error is not None
        counts.bytes_in += size
        counts.bytes_out += len(outcome.result.body) if outcome.result is not None else 0
        self._observe(name, spent, None if asked is None else outcome.started - asked)
        self._typical += 0.1 * (spent - self._typical)


_HEAVY_RESPONSE = 64 << 10
"""Bytes of an answer from which it is converted on a thread."""


def _call_soon(loop: asyncio.AbstractEventLoop, free: Callable[[int], None], size: int) -> None:
    # A loop that has closed takes no calls, and needs none.
    if not loop.is_closed():
        loop.call_soon_threadsafe(free, size)
