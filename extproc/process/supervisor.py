"""Starts the worker processes, restarts a worker that ends, and drains all workers at the end."""

import socket
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait

from extproc.process.worker_slot import WorkerSlot

KILL_GRACE = 1.0
"""Seconds between the drain timeout and the kill of a worker that still runs."""


class Supervisor:
    """Waits in one loop for the exits of workers, the deadlines of their slots, and a stop."""

    def __init__(
        self, slots: Sequence[WorkerSlot], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._slots = slots
        self._clock = clock

    def run(self, stop: socket.socket) -> None:
        """Start all workers and keep them running. Drain them when `stop` becomes readable."""
        for slot in self._slots:
            slot.start(self._clock())
        while self._wait_for_exits(stop):
            self._run_deadlines()
        self._drain()

    def _wait_for_exits(self, stop: socket.socket) -> bool:
        """Wait for an exit, the next deadline or `stop`. Handle exits; return False on `stop`."""
        running = {slot.sentinel: slot for slot in self._slots if slot.sentinel is not None}
        ready = wait([stop, *running], self._time_to_deadline())
        if stop in ready:
            return False
        for sentinel in ready:
            assert isinstance(sentinel, int)
            running[sentinel].on_exit(self._clock())
        return True

    def _time_to_deadline(self) -> float | None:
        deadlines = [slot.deadline for slot in self._slots if slot.deadline is not None]
        return max(0.0, min(deadlines) - self._clock()) if deadlines else None

    def _run_deadlines(self) -> None:
        now = self._clock()
        for slot in self._slots:
            if slot.deadline is not None and slot.deadline <= now:
                slot.on_deadline(now)

    def _drain(self) -> None:
        """Drain all workers at the same time. Kill each worker that does not end in time."""
        for slot in self._slots:
            slot.terminate()
        drain_timeout = max((slot.drain_timeout for slot in self._slots), default=0.0)
        deadline = self._clock() + drain_timeout + KILL_GRACE
        for slot in self._slots:
            slot.join(max(0.0, deadline - self._clock()))
