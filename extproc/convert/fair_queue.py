"""A bounded queue of jobs by caller, in which callers that used less go first."""

from collections import Counter, deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """A job that waits."""

    @property
    def caller(self) -> str:
        """The caller whose job it is."""

    @property
    def size(self) -> int:
        """Bytes that the job holds while it waits."""


Job = TypeVar("Job", bound=Waiting)


class FairQueue(Generic[Job]):
    """Jobs by caller, and the jobs of one caller in order of arrival.

    `usage` returns what a caller has used so far. At most `max_jobs` jobs wait, and at most
    `max_caller_jobs` of one caller.
    """

    def __init__(self, max_jobs: int, max_caller_jobs: int, usage: Callable[[str], float]) -> None:
        self._max_jobs = max_jobs
        self._max_caller_jobs = max_caller_jobs
        self._usage = usage
        self._jobs: dict[str, deque[Job]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, job: Job) -> bool:
        return job in self._jobs.get(job.caller, ())

    def put(self, job: Job) -> None:
        """Add a job. Then call `drop_excess`, unless the job can start at once."""
        self._jobs.setdefault(job.caller, deque()).append(job)
        self._count += 1

    def drop_excess(self, job: Job) -> Job | None:
        """Remove and return the job that has no place since `job` was put; None if there is room.

        If the queue is full, this is the newest job of the caller with the most jobs; among equals,
        of the caller that used the most. So a caller cannot keep out another with fewer jobs.
        """
        if len(self._jobs[job.caller]) > self._max_caller_jobs:
            return self.pop_newest(job.caller)
        if self._count <= self._max_jobs:
            return None
        # `job.caller` is first: of callers that are equal in all, the new job is dropped.
        callers = [job.caller, *self._jobs]
        return self.pop_newest(
            max(callers, key=lambda caller: (len(self._jobs[caller]), self._usage(caller)))
        )

    def put_back(self, job: Job) -> None:
        """Add a job that was taken before its caller's other jobs, even if the queue is full."""
        self._jobs.setdefault(job.caller, deque()).appendleft(job)
        self._count += 1

    def take(self, can_start: Callable[[Job], bool]) -> Job | None:
        """Remove and return the oldest job of the caller that used the least.

        A caller is passed over if its oldest job cannot start. None if no job can start.
        """
        for caller in sorted(self._jobs, key=self._usage):
            job = self._jobs[caller][0]
            if can_start(job):
                self.remove(job)
                return job
        return None

    def sizes(self) -> Counter[str]:
        """Bytes of each caller's jobs."""
        return Counter({c: sum(job.size for job in jobs) for c, jobs in self._jobs.items()})

    def pop_newest(self, caller: str) -> Job:
        """Remove and return the newest job of a caller that has one."""
        job = self._jobs[caller].pop()
        self._removed(caller)
        return job

    def remove(self, job: Job) -> None:
        """Remove a job that waits."""
        jobs = self._jobs[job.caller]
        jobs.remove(job)
        self._removed(job.caller)

    def _removed(self, caller: str) -> None:
        self._count -= 1
        if not self._jobs[caller]:
            del self._jobs[caller]
