"""Keeps the worker processes running: starts them, restarts those that end, and drains them.

The supervisor also owns what must survive a worker: the counter table, the HTTP endpoint that
serves its metrics, and the broker of the budgets that workers share.
"""

import logging
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path

from extproc.counter_table import CounterTable
from extproc.process import worker
from extproc.process.broker import brokering
from extproc.process.shared_table import shared_table
from extproc.process.stop_signals import stop_signals
from extproc.process.telemetry import TelemetrySettings
from extproc.process.worker import WorkerSettings
from extproc.process.worker_slot import SharedSettings, WorkerSlot
from extproc.protection import ProtectionSettings
from extproc.telemetry import catalog
from extproc.telemetry.endpoint import MAX_REQUESTS, EndpointSettings, application
from extproc.telemetry.exposition import TableCollector
from extproc.telemetry.metrics import Metrics
from extproc.telemetry.profile import Profiler
from extproc.telemetry.status import read_status
from sluice.http.server import serve_in_thread

KILL_GRACE = 1.0
"""Seconds after the drain timeout at which a worker is killed."""


def run(workers: Sequence[WorkerSettings], endpoint: EndpointSettings) -> int:
    """Run the workers until SIGTERM or SIGINT; return the exit status.

    Raises OSError if the endpoint's address is in use.
    """
    _configure_logging()
    with shared_table(len(workers) + 1) as path:
        # Each worker has a row. The last row is the supervisor's own.
        table = CounterTable(path, len(workers))
        metrics = Metrics(table)
        broker = path.with_name("limits") if len(workers) > 1 else None
        slots = _create_slots(workers, _shared_settings(path, broker, endpoint), metrics)
        app = application(
            endpoint,
            TableCollector(table, catalog.FAMILIES),
            partial(read_status, table),
            Profiler(lambda index: slots[index].pid if index < len(slots) else None),
        )
        evictions = metrics.counter(catalog.LIMIT_EVICTIONS)
        with (
            brokering(broker, evictions.add) if broker is not None else nullcontext(),
            serve_in_thread(app, endpoint.address, max_requests=MAX_REQUESTS),
            stop_signals() as stop,
        ):
            Supervisor(slots).run(stop)
    return 0


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


def _configure_logging() -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s supervisor: %(message)s",
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def _shared_settings(
    table: Path, broker: Path | None, endpoint: EndpointSettings
) -> SharedSettings:
    profiler = os.getpid() if endpoint.secret_file is not None else None
    return SharedSettings(TelemetrySettings(table, profiler), ProtectionSettings(broker))


def _create_slots(
    workers: Sequence[WorkerSettings], shared: SharedSettings, metrics: Metrics
) -> list[WorkerSlot]:
    # The fork server imports everything once, so starting a worker takes only a fork.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([worker.__name__])
    return [WorkerSlot(settings, shared, context, metrics) for settings in workers]
