"""Runs and times conversions: small ones on the event loop, others on threads with a bounded queue.

Image conversions run in parallel, because libjpeg-turbo, Pillow and zlib release the interpreter
lock. JSON conversions hold the lock.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from extproc.convert.converter import ConvertedMessage, Converter
from extproc.convert.errors import ConversionError
from extproc.convert.inference import Headers, ResponseOptions
from sluice.contract.reasons import Reason

_MIN_THREAD_RESPONSE_SIZE = 64 << 10
"""Size in bytes from which a response is converted on a thread."""

_MAX_RETRY_AFTER = 30
"""Maximum value of `Retry-After`, in seconds."""

_INITIAL_SECONDS = 0.005
"""Expected duration of a conversion before the first measurement."""

_SMOOTHING = 0.1
"""Weight of the latest conversion in the moving average of durations."""


Observe = Callable[[str, float, float | None], None]
"""Called after each conversion with the converter's name, the seconds of work, and the seconds of
waiting for a thread (None if the conversion ran on the event loop)."""

_Convert = Callable[[], ConvertedMessage | None]


@dataclass(slots=True)
class ConversionCounts:
    """Counters of one converter since the start. Sizes are in bytes."""

    count: int = 0
    failed: int = 0
    """Conversions that raised ConversionError."""
    bytes_in: int = 0
    bytes_out: int = 0


@dataclass(frozen=True, slots=True)
class _Outcome:
    result: ConvertedMessage | None
    error: ConversionError | None
    started: float
    ended: float


class ConversionPool:
    """Runs small conversions on the event loop, and others on `threads` threads.

    At most `queue` conversions wait for a thread. The bodies on threads and in the queue have at
    most `max_bytes` in total, or there is only one larger body. All methods must be called on one
    event loop.
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
        self._max_jobs = threads + queue
        self._max_bytes = max_bytes
        self._clock = clock
        self._observe = observe
        self._jobs = 0
        self._bytes = 0
        self._average_seconds = _INITIAL_SECONDS
        self._counts: dict[str, ConversionCounts] = {}
        self.refused = 0
        """Conversions that were refused because the queue was full."""

    @property
    def counts(self) -> Mapping[str, ConversionCounts]:
        """Counters by name of the converter. Responses have names such as `image-grpc-response`."""
        return self._counts

    @property
    def pending(self) -> int:
        """Number of conversions that run on a thread or wait for one."""
        return self._jobs

    async def convert_request(
        self, converter: Converter, body: bytes, headers: Headers
    ) -> ConvertedMessage:
        """Run `converter.convert_request`, on a thread if the body is large or compressed.

        Raises ConversionError, also if the queue is full (503, with `retry_after`).
        """
        threaded = len(body) >= converter.min_thread_size or "content-encoding" in headers
        converted = await self._timed(
            converter.name, lambda: converter.convert_request(body, headers), len(body), threaded
        )
        assert converted is not None
        return converted

    async def convert_response(
        self,
        converter: Converter,
        options: ResponseOptions,
        status: int,
        headers: Headers,
        body: bytes,
    ) -> ConvertedMessage | None:
        """Run `converter.convert_response`, on a thread if the body is large.

        Raises ConversionError, also if the queue is full.
        """
        return await self._timed(
            f"{converter.name}-response",
            lambda: converter.convert_response(options, status, headers, body),
            len(body),
            len(body) >= _MIN_THREAD_RESPONSE_SIZE,
        )

    async def run(self, name: str, work: Callable[[], bytes], size: int) -> bytes:
        """Run other work on a thread, timed and counted under `name`.

        `size` is the size of the input in bytes. Raises ConversionError, also if the queue is full.
        """
        done = await self._timed(name, lambda: ConvertedMessage(work(), ""), size, threaded=True)
        assert done is not None
        return done.body

    def close(self) -> None:
        """Cancel waiting conversions. Running conversions end on their own."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _timed(
        self, name: str, convert: _Convert, size: int, threaded: bool
    ) -> ConvertedMessage | None:
        queued = self._clock()
        outcome = await self._on_thread(convert, size) if threaded else self._run(convert)
        self._record(name, queued if threaded else None, size, outcome)
        if outcome.error is not None:
            raise outcome.error
        return outcome.result

    def _run(self, convert: _Convert) -> _Outcome:
        started = self._clock()
        try:
            return _Outcome(convert(), None, started, self._clock())
        except ConversionError as error:
            return _Outcome(None, error, started, self._clock())

    async def _on_thread(self, convert: _Convert, size: int) -> _Outcome:
        # An idle pool accepts any body: otherwise a body above `max_bytes` is never converted.
        if self._jobs and (self._jobs >= self._max_jobs or self._bytes + size > self._max_bytes):
            self.refused += 1
            raise self._queue_full()
        loop = asyncio.get_running_loop()
        job = self._executor.submit(self._run, convert)
        self._jobs += 1
        self._bytes += size
        # The end of the job frees its place in the queue. The cancellation of the caller does not:
        # the job still runs and takes memory.
        job.add_done_callback(lambda _: _call_soon(loop, self._free, size))
        return await asyncio.wrap_future(job)

    def _free(self, size: int) -> None:
        self._jobs -= 1
        self._bytes -= size

    def _queue_full(self) -> ConversionError:
        wait = math.ceil(self._average_seconds * self._jobs / self._threads)
        return ConversionError(
            Reason.CONVERSION_QUEUE_FULL,
            "body",
            "too many bodies wait for conversion",
            retry_after=min(max(wait, 1), _MAX_RETRY_AFTER),
        )

    def _record(self, name: str, queued: float | None, size: int, outcome: _Outcome) -> None:
        counts = self._counts.setdefault(name, ConversionCounts())
        seconds = outcome.ended - outcome.started
        counts.count += 1
        counts.failed += outcome.error is not None
        counts.bytes_in += size
        counts.bytes_out += len(outcome.result.body) if outcome.result is not None else 0
        self._observe(name, seconds, None if queued is None else outcome.started - queued)
        self._average_seconds += _SMOOTHING * (seconds - self._average_seconds)


def _call_soon(loop: asyncio.AbstractEventLoop, free: Callable[[int], None], size: int) -> None:
    # A closed loop accepts no calls. The pool of a closed loop is no longer used.
    if not loop.is_closed():
        loop.call_soon_threadsafe(free, size)
