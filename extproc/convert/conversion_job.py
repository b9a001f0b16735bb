"""A conversion as a job: what it holds, and its steps on a thread."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from extproc.convert.converted_message import ConvertedMessage, Steps
from extproc.convert.errors import ConversionError


@dataclass(slots=True)
class Outcome:
    """The end of a job: a result or an error.

    `seconds` is the time of the work, `waited` the time before it (None if it did not wait).
    """

    result: ConvertedMessage | None
    error: ConversionError | None
    seconds: float
    waited: float | None


@dataclass(slots=True, eq=False)
class Job:
    """Work of one caller that waits for a thread, or runs."""

    caller: str
    size: int
    """Bytes of the body."""
    steps: Steps
    done: asyncio.Future[Outcome]
    queued: float
    needed: int
    """Bytes that it must hold before it goes on."""
    reserved: int = 0
    """Bytes of the memory budget that the job holds."""
    waited: float | None = None
    """Seconds before the first step."""
    seconds: float = 0.0
    expired: bool = False
    """Whether the time is over in which it may wait."""
    timer: asyncio.TimerHandle | None = None
    """Ends the wait, and then the work."""


@dataclass(slots=True)
class Step:
    """What one turn on a thread has led to: the end of the job, or a need for more memory."""

    started: float
    ended: float
    ended_job: bool = False
    needed: int = 0
    result: ConvertedMessage | None = None
    error: ConversionError | None = None
    failure: Exception | None = None


def advance(job: Job, clock: Callable[[], float]) -> Step:
    """Run steps on a thread, until the job ends or needs more memory than is reserved for it."""
    started = clock()
    try:
        while (needed := next(job.steps)) <= job.reserved:
            pass
    except StopIteration as end:
        return Step(started, clock(), result=end.value, ended_job=True)
    except ConversionError as error:
        return Step(started, clock(), error=error, ended_job=True)
    except Exception as failure:
        return Step(started, clock(), failure=failure, ended_job=True)
    return Step(started, clock(), needed=needed)
