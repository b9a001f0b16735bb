"""The memory of conversions: the bodies that wait, the jobs that run, and each caller's part."""

from collections import Counter
from typing import Protocol

from extproc.memory_budget import MemoryBudget

_WAITING_DIVISOR = 4
"""Bodies that wait take at most a quarter of the budget, so that running jobs have the rest."""

_RUNNING_DIVISOR = 2
"""A caller's running jobs take at most a half of the budget, unless it is a single job."""

_SMALL_DIVISOR = 16
"""Jobs that need at most a sixteenth of the budget are small."""

_SPARE_DIVISOR = 4
"""Other jobs, and bodies that wait, leave a quarter of the budget for small jobs and for the bodies
that still arrive. Without memory, the transport refuses every request."""


class WaitingJobs(Protocol):
    """The jobs that wait for one kind of thread."""

    def waiting_sizes(self) -> Counter[str]:
        """Bytes of the waiting bodies by caller."""

    def refuse_newest(self, caller: str) -> None:
        """Refuse the newest waiting job of a caller, and release its memory."""


class ConversionMemory:
    """Reserves the memory of jobs from the budget of the worker. Sizes are in bytes."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._lanes: list[WaitingJobs] = []
        self._running: Counter[str] = Counter()

    @property
    def limit(self) -> int:
        """Bytes of the whole budget."""
        return self._budget.limit

    @property
    def in_use(self) -> bool:
        """Whether a job runs, which will release memory."""
        return bool(self._running)

    def fits(self, size: int, needed: int) -> bool:
        """Whether a job can get the bytes that it needs when no other job runs.

        `size` is the size of its body, which the transport holds too.
        """
        return size + needed + self._spare(needed) <= self.limit

    def add(self, lane: WaitingJobs) -> None:
        """Let the jobs of a lane make room for others."""
        self._lanes.append(lane)

    def make_room(self, caller: str, size: int) -> bool:
        """Make room for a body that waits. Returns False if there is none.

        The caller with the most waiting bytes loses its newest job, if it has more bytes than
        `caller` would have.
        """
        while True:
            sizes = self._waiting_sizes()
            waiting = sizes.total()
            if size + self._spare(size) <= self._budget.free and (
                not waiting or waiting + size <= self.limit // _WAITING_DIVISOR
            ):
                return True
            largest = max(sizes, key=lambda each: sizes[each], default=caller)
            if sizes[largest] <= sizes[caller] + size:
                self._budget.refused += 1
                return False
            lane = max(self._lanes, key=lambda lane: lane.waiting_sizes()[largest])
            lane.refuse_newest(largest)

    def may_run(self, caller: str, reserved: int, needed: int) -> bool:
        """Whether a waiting job that has reserved some bytes can get the bytes that it needs."""
        running = self._running[caller]
        if running and running + needed > self.limit // _RUNNING_DIVISOR:
            return False
        return needed - reserved + self._spare(needed) <= self._budget.free

    def reserve(self, size: int) -> None:
        """Reserve bytes that are free."""
        reserved = self._budget.reserve(size)
        assert reserved

    def release(self, size: int) -> None:
        """Release bytes that were reserved."""
        self._budget.release(size)

    def run(self, caller: str, size: int) -> None:
        """Count bytes that a caller's job holds while it runs."""
        self._running[caller] += size

    def stop(self, caller: str, size: int) -> None:
        """Count the bytes no longer."""
        self._running[caller] -= size
        if not self._running[caller]:
            del self._running[caller]

    def _spare(self, size: int) -> int:
        """Bytes that must stay free when a job takes `size` bytes."""
        if size <= self.limit // _SMALL_DIVISOR:
            return 0
        return min(self.limit // _SPARE_DIVISOR, (self.limit - size) // 2)

    def _waiting_sizes(self) -> Counter[str]:
        sizes: Counter[str] = Counter()
        for lane in self._lanes:
            sizes.update(lane.waiting_sizes())
        return sizes
