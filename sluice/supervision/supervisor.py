"""Starts the workers, replaces workers that end or hang, and drains all workers at the end."""

import socket
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from typing import Protocol

from sluice.supervision.worker_slot import WorkerSlot

KILL_GRACE = 1.0
"""Seconds between the drain timeout and the kill of a worker that still runs."""


class Scheduled(Protocol):
    """Something to do at a time. `deadline` is None if nothing is scheduled."""

    @property
    def deadline(self) -> float | None:
        """The time of the next action, in seconds of the supervisor's clock."""

    def on_deadline(self, now: float) -> None:
        """Take the action, and set the next deadline."""


class Supervisor:
    """Waits in one loop for the exits of workers, for deadlines, and for a stop.

    Deadlines are those of the workers' slots, and of `others`.
    """

    def __init__(
        self,
        slots: Sequence[WorkerSlot],
        clock: Callable[[], float] = time.monotonic,
        others: Sequence[Scheduled] = (),
    ) -> None:
        self._slots = slots
        self._scheduled: tuple[Scheduled, ...] = (*slots, *others)
        self._clock = clock

    def run(self, stop: socket.socket) -> None:
        """Start all workers and keep them running. Drain them when `stop` becomes readable."""
        for slot in self._slots:
            slot.start(self._clock())
        while self._wait(stop):
            self._run_deadlines()
        self._drain()

    def _wait(self, stop: socket.socket) -> bool:
        """Wait for an exit, the next deadline or `stop`. Handle exits; return False on `stop`."""
        return stop not in self._wait_for_exits([stop], self._time_to_deadline())

    def _wait_for_exits(
        self, others: Sequence[socket.socket], timeout: float | None
    ) -> list[object]:
        """Wait for an exit or one of the other objects. Handle exits; return what is ready."""
        running = {slot.sentinel: slot for slot in self._slots if slot.sentinel is not None}
        ready = list[object](wait([*others, *running], timeout))
        for sentinel in ready:
            if isinstance(sentinel, int):
                running[sentinel].on_exit(self._clock())
        return ready

    def _time_to_deadline(self) -> float | None:
        deadlines = [each.deadline for each in self._scheduled if each.deadline is not None]
        return max(0.0, min(deadlines) - self._clock()) if deadlines else None

    def _run_deadlines(self) -> None:
        now = self._clock()
        for each in self._scheduled:
            if each.deadline is not None and each.deadline <= now:
                each.on_deadline(now)

    def _drain(self) -> None:
        """Drain all workers at the same time. Kill each worker that does not end in time."""
        for slot in self._slots:
            slot.terminate()
        drain_timeout = max((slot.drain_timeout for slot in self._slots), default=0.0)
        end = self._clock() + drain_timeout + KILL_GRACE
        while self._is_any_running() and (left := end - self._clock()) > 0:
            next_deadline = self._time_to_deadline()
            self._wait_for_exits([], left if next_deadline is None else min(left, next_deadline))
            self._run_deadlines()
        for slot in self._slots:
            slot.kill()

    def _is_any_running(self) -> bool:
        return any(slot.sentinel is not None for slot in self._slots)
