"""Keeps the worker processes running: starts them, restarts those that end, and drains them."""

import socket
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait

from extproc.process.worker_slot import WorkerSlot

KILL_GRACE = 1.0
"""Seconds after the drain timeout at which a worker is killed."""


class Supervisor:
    """Runs one event loop over all slots: process exits, deadlines and the stop signal."""

    def __init__(
        self, slots: Sequence[WorkerSlot], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._slots = slots
        self._clock = clock

    def run(self, stop: socket.socket) -> None:
        """Start all workers, keep them running until `stop` is readable, then drain them."""
        for slot in self._slots:
            slot.start(self._clock())
        while self._wait_for_exits(stop):
            self._run_deadlines()
        self._drain()

    def _wait_for_exits(self, stop: socket.socket) -> bool:
        """Wait for ended processes until the next deadline; return False if `stop` is readable."""
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
        """Drain all workers at the same time. Kill those that do not end in time."""
        for slot in self._slots:
            slot.terminate()
        drain_timeout = max((slot.drain_timeout for slot in self._slots), default=0.0)
        deadline = self._clock() + drain_timeout + KILL_GRACE
        for slot in self._slots:
            slot.join(max(0.0, deadline - self._clock()))
