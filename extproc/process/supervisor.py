"""Keeps N worker processes running: starts them, restarts those that end, stops them in order.

It also holds what outlives a worker: the table of counters, the endpoint that shows it, and the
budgets that workers share.
"""

import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from extproc import counter_table
from extproc.process import worker
from extproc.process.broker import brokering
from extproc.process.telemetry import TelemetrySettings
from extproc.process.worker import WorkerSettings
from extproc.protection import ProtectionSettings
from extproc.telemetry import catalog
from extproc.telemetry.endpoint import MAX_REQUESTS, EndpointSettings, application
from extproc.telemetry.exposition import TableCollector
from extproc.telemetry.metrics import CounterSeries, GaugeSeries, Metrics
from extproc.telemetry.profile import Profiler
from extproc.telemetry.status import read_status
from sluice.http.server import serve_in_thread

log = logging.getLogger(__name__)

MIN_RESTART_DELAY, MAX_RESTART_DELAY = 0.05, 5.0
STABLE_AFTER = 5.0
"""Seconds: a worker that ran so long is restarted at once, whatever happened to its forerunners."""
KILL_GRACE = 1.0
"""Seconds beyond the drain deadline after which a worker is killed."""


COLUMNS = 1 << 19
"""Of the shared table: a thousand models with two versions, of which each takes 126 for its breaker
and some 40 for what is counted of it. The file is sparse: what is not in use takes no memory."""

_MEMORY = Path("/dev/shm")  # noqa: S108 (a private directory is made in it)


def run(workers: Sequence[WorkerSettings], endpoint: EndpointSettings) -> int:
    """Run the workers until SIGTERM or SIGINT; returns the exit status.

    Raises OSError where the endpoint's address is taken.
    """
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s supervisor: %(message)s",
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    # A server process has imported everything once; a worker is forked from it in milliseconds.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([worker.__name__])
    with _table(len(workers) + 1) as path:
        # The last row is the supervisor's own.
        table = counter_table.CounterTable(path, len(workers))
        metrics = Metrics(table)
        tracer = os.getpid() if endpoint.secret_file is not None else None
        broker = path.with_name("limits") if len(workers) > 1 else None
        shares = (TelemetrySettings(path, tracer), ProtectionSettings(broker))
        slots = [_Slot.of(settings, context, shares, metrics) for settings in workers]
        profiler = Profiler(lambda index: slots[index].pid if index < len(slots) else None)
        collector = TableCollector(table, catalog.FAMILIES)
        app = application(endpoint, collector, partial(read_status, table), profiler)
        evictions = metrics.counter(catalog.LIMIT_EVICTIONS)
        with (
            brokering(broker, evictions.add) if broker is not None else nullcontext(),
            serve_in_thread(app, endpoint.address, max_requests=MAX_REQUESTS),
            _stop_signals() as stop,
        ):
            for slot in slots:
                slot.start()
            _supervise(slots, stop)
            _stop(slots)
    return 0


@contextmanager
def _table(rows: int) -> Iterator[Path]:
    """The file of the shared table, in memory where there is such a place."""
    within = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="sluice-callout-", dir=within) as directory:
        path = Path(directory) / "counters"
        counter_table.create(path, rows, COLUMNS)
        yield path


@dataclass(slots=True)
class _Slot:
    """The place of one worker, whichever process fills it."""

    settings: WorkerSettings
    context: ForkServerContext
    shares: tuple[TelemetrySettings, ProtectionSettings]
    starts: CounterSeries
    up: GaugeSeries
    process: ForkServerProcess | None = None
    lifeline: Connection | None = None
    started: float = 0.0
    restart_at: float | None = None
    delay: float = field(default=MIN_RESTART_DELAY)

    @classmethod
    def of(
        cls,
        settings: WorkerSettings,
        context: ForkServerContext,
        shares: tuple[TelemetrySettings, ProtectionSettings],
        metrics: Metrics,
    ) -> "_Slot":
        """An empty place, counted from now on."""
        name = str(settings.index)
        return cls(
            settings,
            context,
            shares,
            metrics.counter(catalog.WORKER_STARTS, name),
            metrics.gauge(catalog.WORKER_UP, name),
        )

    @property
    def pid(self) -> int | None:
        """The process in this place now."""
        process = self.process
        return None if process is None else process.pid

    def start(self) -> None:
        """Start a process; it ends by itself when the lifeline's end here closes."""
        theirs, self.lifeline = self.context.Pipe(duplex=False)
        name = f"callout-{self.settings.index}"
        self.process = self.context.Process(
            target=worker.main, args=(self.settings, *self.shares, theirs), name=name
        )
        self.process.start()
        theirs.close()
        self.started, self.restart_at = time.monotonic(), None
        self.starts.add()
        self.up.set(1)

    def ended(self) -> None:
        """The process is gone: have it started again, later the sooner it ended."""
        assert self.process is not None
        assert self.lifeline is not None
        self.process.join()
        self.up.set(0)
        now = time.monotonic()
        if now - self.started > STABLE_AFTER:
            self.delay = MIN_RESTART_DELAY
        log.error(
            "worker %d ended with status %s: restarting", self.settings.index, self.process.exitcode
        )
        self.process.close()
        self.lifeline.close()
        self.process = None
        self.restart_at = now + self.delay
        self.delay = min(self.delay * 2, MAX_RESTART_DELAY)


def _supervise(slots: Sequence[_Slot], stop: socket.socket) -> None:
    """Restart what ends, until a stop signal."""
    while True:
        running = {slot.process.sentinel: slot for slot in slots if slot.process is not None}
        due = [slot.restart_at for slot in slots if slot.restart_at is not None]
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        for ready in wait([stop, *running], timeout):
            if ready is stop:
                return
            assert isinstance(ready, int)
            running[ready].ended()
        now = time.monotonic()
        for slot in slots:
            if slot.restart_at is not None and slot.restart_at <= now:
                slot.start()


def _stop(slots: Sequence[_Slot]) -> None:
    """Let every worker drain, all at the same time; kill those that overstay."""
    processes = [slot.process for slot in slots if slot.process is not None]
    for process in processes:
        process.terminate()
    drain = max((slot.settings.drain_timeout for slot in slots), default=0.0)
    deadline = time.monotonic() + drain + KILL_GRACE
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            log.warning("%s did not drain in time: killed", process.name)
            process.kill()
            process.join()


@contextmanager
def _stop_signals() -> Iterator[socket.socket]:
    """A socket that becomes readable at SIGTERM or SIGINT."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    previous = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    handlers = {n: signal.signal(n, lambda *_: None) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(previous)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        reader.close()
        writer.close()
