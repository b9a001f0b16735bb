"""Runs and times conversions: small ones on the event loop, others on threads, fairly by caller.

Image decoders and decompression release the interpreter lock, so several run in parallel. Other
conversions hold the lock. On more threads they would not end sooner, but they would delay the event
loop more. So these have one thread of their own, and one more for short ones, which would otherwise
wait for a long one.
"""

import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from extproc.convert.caller_usage import HALF_LIFE, CallerUsage
from extproc.convert.conversion_job import Outcome
from extproc.convert.conversion_memory import ConversionMemory
from extproc.convert.converted_message import ConvertedMessage, ShortWork, Steps, completed
from extproc.convert.converter import Converter
from extproc.convert.errors import ConversionError, response_too_large
from extproc.convert.inference import Headers, ResponseOptions
from extproc.convert.json_document import may_contain_base64
from extproc.convert.lane import Lane
from extproc.memory_budget import DEFAULT_LIMIT, MemoryBudget
from sluice.contract.reasons import Reason

_MIN_THREAD_RESPONSE_SIZE = 64 << 10
"""Size in bytes from which a response is converted on a thread."""

_MAX_SHORT_SIZE = 256 << 10
"""Size in bytes up to which a body is short. Longer ones can take a hundred times as long."""


_MAX_SHORT_JPEG = 64 << 10
"""Size in bytes of a JPEG up to which its conversion can be short."""

_MAX_SHORT_MARKERS = 1000
"""Bytes 0xff in a JPEG up to which its segments are read in a short time: each may be one."""

_JPEG_START = b"\xff\xd8\xff"

_MAX_EVENT_LOOP_SECONDS = 0.5 * HALF_LIFE / math.log(2)
"""Usage of a caller above which its images are converted on threads: those of a caller whose
conversions take half of a core all the time."""

Conversion = ConvertedMessage | None | Awaitable[ConvertedMessage | None]
"""The result of a conversion on the event loop, or that of one on a thread."""

Observe = Callable[[str, float, float | None], None]
"""Called after each conversion with the converter's name, the seconds of work, and the seconds of
waiting for a thread (None if the conversion ran on the event loop)."""


@dataclass(slots=True)
class ConversionCounts:
    """Counters of one converter since the start. Sizes are in bytes."""

    count: int = 0
    failed: int = 0
    """Conversions that raised ConversionError."""
    bytes_in: int = 0
    bytes_out: int = 0


class Group(Enum):
    """Where a conversion runs."""

    EVENT_LOOP = auto()
    EVENT_LOOP_IF_SHORT = auto()
    """The event loop, as far as the steps are short, and then a thread of `PARALLEL`."""
    PARALLEL = auto()
    """Threads for work that releases the interpreter lock."""
    SHORT = auto()
    """A thread for work on small bodies that holds the lock."""
    LONG = auto()
    """A thread for work on large bodies that holds the lock."""


class ConversionPool:
    """Runs small conversions on the event loop, and others on threads.

    `threads` threads run work that releases the interpreter lock, one more thread other work on
    short bodies, and one work on long bodies. At most `queue` conversions wait for each of these
    groups. They take their memory from `memory`. All methods must be called on one event loop.
    """

    def __init__(
        self,
        threads: int = 2,
        queue: int = 64,
        memory: MemoryBudget | None = None,
        clock: Callable[[], float] = time.perf_counter,
        observe: Observe = lambda _name, _work, _wait: None,
    ) -> None:
        self._memory = memory or MemoryBudget(DEFAULT_LIMIT)
        shared, usage = ConversionMemory(self._memory), CallerUsage()
        self._usage = usage
        self._lanes = {
            group: Lane(f"convert-{group.name.lower()}", count, queue, shared, usage, clock)
            for group, count in ((Group.PARALLEL, threads), (Group.SHORT, 1), (Group.LONG, 1))
        }
        self._clock = clock
        self._observe = observe
        self._counts: dict[str, ConversionCounts] = {}

    @property
    def counts(self) -> Mapping[str, ConversionCounts]:
        """Counters by name of the converter. Responses have names such as `image-grpc-response`."""
        return self._counts

    @property
    def pending(self) -> int:
        """Number of conversions that run on a thread or wait for one."""
        return sum(lane.pending for lane in self._lanes.values())

    @property
    def refused(self) -> int:
        """Conversions that were refused because others waited or took the memory."""
        return sum(lane.refused for lane in self._lanes.values())

    @property
    def waits_for_memory(self) -> bool:
        """Whether a thread is free, but not the memory for the conversions that wait."""
        return any(lane.waits_for_memory for lane in self._lanes.values())

    def set_timeout(self, seconds: float = math.inf) -> None:
        """Refuse conversions that take longer, or half as long before they start."""
        for lane in self._lanes.values():
            lane.timeout = seconds

    def for_caller(self, caller: str) -> "CallerPool":
        """The pool, as the work of one caller uses it.

        Callers share threads, queue and memory fairly. Names of callers are compared only.
        """
        return CallerPool(self, caller)

    def close(self) -> None:
        """Cancel waiting conversions. Running conversions end on their own."""
        for lane in self._lanes.values():
            lane.close()

    def run(self, name: str, caller: str, size: int, steps: Steps, group: Group) -> Conversion:
        """Run the steps, and record them under `name`. Raises ConversionError.

        Returns the result at once if the steps ran on the event loop.
        """
        if group is Group.EVENT_LOOP:
            return self._record(name, size, self._on_event_loop(steps))
        if group is not Group.EVENT_LOOP_IF_SHORT:
            return self._on_thread(name, caller, size, steps, group)
        if self._usage.seconds(caller, self._clock()) > _MAX_EVENT_LOOP_SECONDS:
            return self._on_thread(name, caller, size, steps, Group.PARALLEL)
        outcome = self._short_on_event_loop(caller, steps)
        if isinstance(outcome, Outcome):
            return self._record(name, size, outcome)
        return self._on_thread(name, caller, size, steps, Group.PARALLEL, outcome)

    async def _on_thread(
        self, name: str, caller: str, size: int, steps: Steps, group: Group, needed: int = 0
    ) -> ConvertedMessage | None:
        outcome = await self._lanes[group].run(caller, size, steps, needed)
        return self._record(name, size, outcome)

    def _on_event_loop(self, steps: Steps) -> Outcome:
        started = self._clock()
        try:
            result, error = completed(steps), None
        except ConversionError as raised:
            result, error = None, raised
        return Outcome(result, error, self._clock() - started, None)

    def _short_on_event_loop(self, caller: str, steps: Steps) -> Outcome | int:
        """Run the steps until one is not short, or has no memory. Returns the bytes it needs."""
        started = self._clock()
        result, error = None, None
        try:
            next(steps)  # reading the structure comes next, which is short for such a body
            needed = next(steps)
            if not isinstance(needed, ShortWork) or needed > self._memory.free:
                return needed
            result = completed(steps)
        except ConversionError as raised:
            error = raised
        ended = self._clock()
        self._usage.add(caller, ended - started, ended)
        return Outcome(result, error, ended - started, None)

    def _record(self, name: str, size: int, outcome: Outcome) -> ConvertedMessage | None:
        """Count a conversion. Returns its result. Raises its error, a ConversionError."""
        counts = self._counts.setdefault(name, ConversionCounts())
        counts.count += 1
        counts.failed += outcome.error is not None
        counts.bytes_in += size
        counts.bytes_out += len(outcome.result.content) if outcome.result is not None else 0
        self._observe(name, outcome.seconds, outcome.waited)
        if outcome.error is not None:
            raise outcome.error
        return outcome.result


class CallerPool:
    """A conversion pool, as the work of one caller uses it."""

    __slots__ = ("_caller", "_pool")

    def __init__(self, pool: ConversionPool, caller: str) -> None:
        self._pool = pool
        self._caller = caller

    def convert_request(self, converter: Converter, body: bytes, headers: Headers) -> Conversion:
        """Run `converter.convert_request`, on a thread if the body is large or compressed.

        Raises ConversionError, also if too many bodies wait, or if the conversion takes too long
        (503, with `retry_after`). So does the awaitable.
        """
        return self._pool.run(
            converter.name,
            self._caller,
            len(body),
            converter.request_steps(body, headers),
            _request_group(converter, body, headers),
        )

    def convert_response(
        self,
        converter: Converter,
        options: ResponseOptions,
        status: int,
        headers: Headers,
        body: bytes,
    ) -> Conversion:
        """Run `converter.convert_response`, on a thread if the body is large or compressed.

        Raises ConversionError, also if too many bodies wait. So does the awaitable.
        """
        try:
            converted = self._pool.run(
                f"{converter.name}-response",
                self._caller,
                len(body),
                converter.response_steps(options, status, headers, body),
                _response_group(body, headers),
            )
        except ConversionError as error:
            raise _error_of_response(error) from None
        if converted is None or isinstance(converted, ConvertedMessage):
            return converted
        return _converted_response(converted)

    async def run(self, name: str, work: Callable[[], bytes], size: int) -> bytes:
        """Run other work that releases the interpreter lock on a thread, counted under `name`.

        `size` is the size of the input in bytes. The work must not hold many more. Raises
        ConversionError, also if too many bodies wait.
        """

        def steps() -> Steps:
            yield size
            return ConvertedMessage(work(), "")

        running = self._pool.run(name, self._caller, size, steps(), Group.PARALLEL)
        assert isinstance(running, Awaitable)
        done = await running
        assert done is not None
        return done.body


async def _converted_response(
    converting: Awaitable[ConvertedMessage | None],
) -> ConvertedMessage | None:
    try:
        return await converting
    except ConversionError as error:
        raise _error_of_response(error) from None


def _error_of_response(error: ConversionError) -> ConversionError:
    if error.reason is Reason.BODY_TOO_LARGE:
        # The client has not sent this body.
        return response_too_large("is too large for the memory of a worker")
    return error


def _may_be_short(body: bytes) -> bool:
    """Whether it may be a small JPEG whose segments are read in a short time."""
    return (
        len(body) <= _MAX_SHORT_JPEG
        and body.startswith(_JPEG_START)
        and body.count(b"\xff") <= _MAX_SHORT_MARKERS
    )


def _request_group(converter: Converter, body: bytes, headers: Headers) -> Group:
    if converter.releases_lock:
        short = "content-encoding" not in headers and _may_be_short(body)
        return Group.EVENT_LOOP_IF_SHORT if short else Group.PARALLEL
    if converter.signature.image_inputs and may_contain_base64(body):
        # A picture in a small JSON document can take a second.
        return Group.PARALLEL
    if "content-encoding" in headers:
        return Group.LONG
    return Group.EVENT_LOOP if len(body) < converter.min_thread_size else _by_size(body)


def _response_group(body: bytes, headers: Headers) -> Group:
    if "content-encoding" in headers:
        return Group.LONG
    return Group.EVENT_LOOP if len(body) < _MIN_THREAD_RESPONSE_SIZE else _by_size(body)


def _by_size(body: bytes) -> Group:
    return Group.SHORT if len(body) <= _MAX_SHORT_SIZE else Group.LONG
