"""Runs the callout: the supervisor and its workers.

The supervisor's process owns everything that must survive a worker: the counter table, the HTTP
endpoint for metrics, and the broker of the budgets that workers share.
"""

import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from extproc.counter_table import CounterTable
from extproc.process import worker
from extproc.process.allocator import keep_freed_memory
from extproc.process.breaker_log import BreakerLog
from extproc.process.broker import serve_budgets_in_thread
from extproc.process.callout_worker import SharedSettings, worker_slot
from extproc.process.shared_table import shared_table
from extproc.process.telemetry import TelemetrySettings
from extproc.process.worker import WorkerSettings
from extproc.protection import ProtectionSettings
from extproc.telemetry import catalog
from extproc.telemetry.endpoint import MAX_REQUESTS, EndpointSettings, application
from extproc.telemetry.exposition import TableCollector
from extproc.telemetry.metrics import Metrics
from extproc.telemetry.profile import Profiler
from extproc.telemetry.status import read_status
from sluice.http.server import serve_in_thread
from sluice.supervision.stop_signals import stop_signals
from sluice.supervision.supervisor import Supervisor
from sluice.supervision.worker_slot import WorkerSlot
from sluice.version import VERSION


def run(workers: Sequence[WorkerSettings], endpoint: EndpointSettings, hang_timeout: float) -> int:
    """Run the workers until SIGTERM or SIGINT; return the exit status.

    A worker that is silent for `hang_timeout` seconds is replaced.
    Raises OSError if the endpoint's address is in use.
    """
    _configure_logging()
    with shared_table(len(workers) + 1) as path:
        # Each worker has a row. The last row is the supervisor's own.
        table = CounterTable(path, len(workers))
        metrics = Metrics(table)
        metrics.gauge(catalog.BUILD_INFO, VERSION).set(1)
        broker = path.with_name("limits") if len(workers) > 1 else None
        protection = ProtectionSettings(broker, len(workers))
        shared = _shared_settings(path, protection, endpoint, hang_timeout)
        slots = _create_slots(workers, shared, table)
        app = application(
            endpoint,
            TableCollector(table, catalog.FAMILIES),
            lambda: read_status(table, [slot.status for slot in slots]),
            Profiler(lambda index: slots[index].pid if index < len(slots) else None),
            lambda: any(slot.is_serving for slot in slots),
        )
        evictions = metrics.counter(catalog.LIMIT_EVICTIONS)
        with (
            serve_budgets_in_thread(broker, evictions.add) if broker is not None else nullcontext(),
            serve_in_thread(app, endpoint.address, max_requests=MAX_REQUESTS, tls=endpoint.tls),
            stop_signals() as stop,
        ):
            breakers = BreakerLog(table, time.monotonic())
            Supervisor(slots, others=[breakers]).run(stop)
    return 0


def _configure_logging() -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s supervisor: %(message)s",
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def _shared_settings(
    table: Path, protection: ProtectionSettings, endpoint: EndpointSettings, hang_timeout: float
) -> SharedSettings:
    profiler = os.getpid() if endpoint.secret_file is not None else None
    return SharedSettings(TelemetrySettings(table, profiler), protection, hang_timeout)


def _create_slots(
    workers: Sequence[WorkerSettings], shared: SharedSettings, table: CounterTable
) -> list[WorkerSlot]:
    # The fork server imports everything once, so starting a worker takes only a fork.
    keep_freed_memory(os.environ)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([worker.__name__])
    return [worker_slot(settings, shared, context, table) for settings in workers]
