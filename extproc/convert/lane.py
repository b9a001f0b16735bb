"""Threads for one kind of conversion, and the fair queue of the jobs that wait for them.

The lane decides which job runs: a caller leaves one of several threads to others, and gets a thread
only if the memory for its job is free. A job has deadlines for its wait and for its end.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from extproc.convert.caller_usage import CallerUsage
from extproc.convert.conversion_job import Job, Outcome, Step, advance
from extproc.convert.conversion_memory import ConversionMemory
from extproc.convert.converted_message import Steps
from extproc.convert.errors import ConversionError
from extproc.convert.fair_queue import FairQueue
from extproc.memory_budget import RETRY_AFTER
from sluice.contract.reasons import Reason

_MAX_RETRY_AFTER = 30
"""Maximum value of `Retry-After`, in seconds."""

_MAX_WAIT_SHARE = 0.5
"""Share of a job's time in which it may wait. The rest is for its work."""

_INITIAL_SECONDS = 0.005
"""Expected duration of a job before the first measurement."""

_SMOOTHING = 0.1
"""Weight of the latest job in the moving average of durations."""

_FIRST_STEP_DIVISOR = 64
"""A job that starts reserves its body and this part of the memory budget. Most jobs need no more,
so they run to the end without another turn of the event loop."""

_MEMORY_POLL = 0.02
"""Seconds between looks at the memory budget while only memory is missing. Others release memory
too, and do not tell the lane."""


_MAX_STALLED_LOOKS = 25
"""Looks at the memory budget while no job runs, after which the lane refuses a job. Without the
memory of its body, another job may start. Otherwise all would wait until their time is over."""


class Lane:
    """`threads` threads with a queue of `queue` jobs. All methods belong to one event loop.

    `usage` may be shared by lanes. `timeout` is the time of a job in seconds, with its wait.
    """

    def __init__(
        self,
        name: str,
        threads: int,
        queue: int,
        memory: ConversionMemory,
        usage: CallerUsage,
        clock: Callable[[], float],
    ) -> None:
        self.timeout = math.inf
        self.refused = 0
        """Jobs that were refused because others waited or took the memory."""
        self._threads = threads
        self._max_running = max(1, threads - 1)
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._memory = memory
        memory.add(self)
        self._usage = usage
        self._clock = clock
        self._waiting: FairQueue[Job] = FairQueue(queue, max(1, queue // 2), self._used)
        self._running: Counter[str] = Counter()
        self._average_seconds = _INITIAL_SECONDS
        self._poll: asyncio.TimerHandle | None = None
        self.waits_for_memory = False
        """Whether a thread was free for a job in the latest look, but not the memory."""
        self._stalled_looks = 0
        self._closed = False

    @property
    def pending(self) -> int:
        """Number of jobs that run or wait."""
        return len(self._waiting) + self._running.total()

    async def run(self, caller: str, size: int, steps: Steps, needed: int = 0) -> Outcome:
        """Run the steps on a thread. `size` is the size of the body in bytes.

        `needed`: the bytes that steps have yielded which began before.
        If this coroutine is cancelled, a job that waits is dropped. A job that runs keeps its place
        until the step ends, because it still takes a thread and memory. The same applies to a job
        that runs out of time. Raises ConversionError if the job is refused before it ends.
        """
        loop = asyncio.get_running_loop()
        first = min(size + self._memory.limit // _FIRST_STEP_DIVISOR, self._memory.limit)
        job = Job(caller, size, steps, loop.create_future(), self._clock(), max(first, needed))
        if self.timeout < math.inf:
            work = (1 - _MAX_WAIT_SHARE) * self.timeout
            job.timer = loop.call_later(self.timeout - work, self._end_wait, job, work)
        self._enqueue(job, max(size, needed))
        try:
            return await job.done
        finally:
            if job.timer is not None:
                job.timer.cancel()
            if job.done.cancelled() and job in self._waiting:
                self._waiting.remove(job)
                self._drop(job)

    def close(self) -> None:
        """Cancel the jobs that wait, and start no more. Running steps end on their own."""
        self._closed = True
        while (job := self._waiting.take(lambda _: True)) is not None:
            self._drop(job)
            job.done.cancel()
        self._executor.shutdown(wait=False)

    def _enqueue(self, job: Job, needed: int) -> None:
        """Start a job or let it wait, with the memory for its body; or refuse a job.

        `needed`: the bytes that it is known to need.
        """
        if not self._memory.fits(job.size, needed):
            self._refuse(job, self._never_fits(needed))
            return
        if not self._memory.make_room(job.caller, job.size):
            self._refuse(job, self._memory_exhausted())
            return
        self._reserve(job, job.size)
        self._waiting.put(job)
        self._dispatch()
        excess = self._waiting.drop_excess(job) if job in self._waiting else None
        if excess is not None:
            self._refuse(excess, self._queue_full())

    def waiting_sizes(self) -> Counter[str]:
        """Bytes of the waiting bodies by caller."""
        return self._waiting.sizes()

    def refuse_newest(self, caller: str) -> None:
        """Refuse the newest waiting job of a caller, because others need its memory."""
        self._refuse(self._waiting.pop_newest(caller), self._memory_exhausted())

    def _dispatch(self) -> None:
        """Start jobs while there are threads, and memory for them."""
        self.waits_for_memory = False
        while not self._closed and self._running.total() < self._threads:
            job = self._waiting.take(self._can_start)
            if job is None:
                break
            self._reserve(job, max(job.reserved, job.needed))
            self._running[job.caller] += 1
            self._memory.run(job.caller, job.reserved)
            self._submit(job)
        if self.waits_for_memory and self._poll is None:
            loop = asyncio.get_running_loop()
            self._poll = loop.call_later(_MEMORY_POLL, self._look_again)

    def _look_again(self) -> None:
        self._poll = None
        self._dispatch()
        stalled = self.waits_for_memory and not self._memory.in_use
        self._stalled_looks = self._stalled_looks + 1 if stalled else 0
        if self._stalled_looks >= _MAX_STALLED_LOOKS and len(self._waiting) > 1:
            sizes = self._waiting.sizes()
            self.refuse_newest(max(sizes, key=lambda caller: sizes[caller]))

    def _can_start(self, job: Job) -> bool:
        if not self._may_take_thread(job):
            return False
        if self._memory.may_run(job.caller, job.reserved, job.needed):
            return True
        self.waits_for_memory = True
        return False

    def _may_take_thread(self, job: Job) -> bool:
        """Whether a thread is free, and another one is left for other callers."""
        running = self._running
        return running.total() < self._threads and running[job.caller] < self._max_running

    def _submit(self, job: Job) -> None:
        loop = asyncio.get_running_loop()
        step = self._executor.submit(advance, job, self._clock)
        step.add_done_callback(partial(_call_soon, loop, partial(self._on_step, job)))

    def _on_step(self, job: Job, done: "Future[Step]") -> None:
        """Go on with a job, or end it, after its turn on a thread."""
        step = done.result()
        if job.waited is None:
            job.waited = step.started - job.queued
        seconds = step.ended - step.started
        job.seconds += seconds
        self._usage.add(job.caller, seconds, step.ended)
        self._memory.stop(job.caller, job.reserved)
        self._running[job.caller] -= 1
        if not self._running[job.caller]:
            del self._running[job.caller]
        if step.ended_job or job.done.done():
            self._finish(job, step)
        elif self._closed:
            self._drop(job)
            job.done.cancel()
        elif not self._memory.fits(job.size, step.needed):
            self._refuse(job, self._never_fits(step.needed))
        else:
            job.needed = step.needed
            self._waiting.put_back(job)
        self._dispatch()
        if job.expired:
            self._expire(job)

    def _finish(self, job: Job, step: "Step") -> None:
        self._average_seconds += _SMOOTHING * (job.seconds - self._average_seconds)
        self._drop(job)
        if job.done.done():
            return
        if step.failure is not None:
            job.done.set_exception(step.failure)
        else:
            job.done.set_result(Outcome(step.result, step.error, job.seconds, job.waited))

    def _end_wait(self, job: Job, work: float) -> None:
        """Refuse a job that still waits. A job that runs has `work` seconds to end."""
        job.timer = asyncio.get_running_loop().call_later(work, self._abandon, job)
        self._expire(job)

    def _abandon(self, job: Job) -> None:
        """Refuse a job that runs. It keeps its thread, because no step can be interrupted."""
        if not job.done.done():
            self.refused += 1
            job.done.set_exception(_timed_out())

    def _expire(self, job: Job) -> None:
        """The job may wait no more, neither for a thread nor for memory."""
        job.expired = True
        if job in self._waiting:
            lacks_memory = self._may_take_thread(job)
            self._waiting.remove(job)
            self._refuse(job, self._memory_exhausted() if lacks_memory else self._queue_full())
            self._dispatch()

    def _refuse(self, job: Job, error: ConversionError) -> None:
        """End a job that neither waits nor runs."""
        self.refused += error.retry_after is not None
        self._drop(job)
        if not job.done.done():
            job.done.set_exception(error)

    def _drop(self, job: Job) -> None:
        """Release what a job holds."""
        job.steps.close()
        self._memory.release(job.reserved)
        job.reserved = 0

    def _reserve(self, job: Job, size: int) -> None:
        self._memory.reserve(size - job.reserved)
        job.reserved = size

    def _used(self, caller: str) -> float:
        """The caller's thread seconds, with those that its running jobs probably take."""
        running = self._running[caller] * self._average_seconds
        return self._usage.seconds(caller, self._clock()) + running

    def _queue_full(self) -> ConversionError:
        wait = math.ceil(self._average_seconds * self.pending / self._threads)
        return ConversionError(
            Reason.CONVERSION_QUEUE_FULL,
            "body",
            "too many bodies wait for conversion",
            retry_after=min(max(wait, 1), _MAX_RETRY_AFTER),
        )

    def _memory_exhausted(self) -> ConversionError:
        detail = "other requests take the memory for its conversion"
        return ConversionError(Reason.MEMORY_EXHAUSTED, "body", detail, retry_after=RETRY_AFTER)

    def _never_fits(self, size: int) -> ConversionError:
        return ConversionError(
            Reason.BODY_TOO_LARGE,
            "body",
            f"its conversion may take {size} bytes of memory, too many for a worker with"
            f" {self._memory.limit}",
        )


def _timed_out() -> ConversionError:
    detail = "its conversion takes too long"
    return ConversionError(Reason.CONVERSION_TIMEOUT, "body", detail, retry_after=RETRY_AFTER)


def _call_soon(
    loop: asyncio.AbstractEventLoop,
    on_step: Callable[["Future[Step]"], None],
    done: "Future[Step]",
) -> None:
    # A closed loop accepts no calls, and its lane is no longer used. A closed lane cancels steps.
    if not loop.is_closed() and not done.cancelled():
        loop.call_soon_threadsafe(on_step, done)
