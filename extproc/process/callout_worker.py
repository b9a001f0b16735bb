"""A worker of the callout, as its supervisor sees it: a process, and a row of the shared table."""

from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext

from extproc.counter_table import CounterTable
from extproc.process import worker
from extproc.process.heartbeat import HeartbeatReader
from extproc.process.serving import ServingReader
from extproc.process.telemetry import TelemetrySettings
from extproc.process.worker import WorkerSettings
from extproc.protection import ProtectionSettings
from extproc.telemetry import catalog
from extproc.telemetry.metrics import Metrics
from sluice.supervision.stack_dump import stack_file
from sluice.supervision.worker_slot import SlotSettings, WorkerSlot

WorkerMain = Callable[[WorkerSettings, TelemetrySettings, ProtectionSettings, Connection], None]


@dataclass(frozen=True, slots=True)
class SharedSettings:
    """Settings that all workers of a supervisor have in common.

    A worker that is silent for `hang_timeout` seconds is replaced. `main` runs in each process.
    """

    telemetry: TelemetrySettings
    protection: ProtectionSettings
    hang_timeout: float
    main: WorkerMain = worker.main


def worker_slot(
    settings: WorkerSettings,
    shared: SharedSettings,
    context: ForkServerContext,
    table: CounterTable,
) -> WorkerSlot:
    """The slot of a worker. `table`: the supervisor's own row."""
    slot = SlotSettings(
        settings.index,
        "callout",
        shared.main,
        (settings, shared.telemetry, shared.protection),
        stack_file(shared.telemetry.table.parent, settings.index),
        settings.drain_timeout,
        shared.hang_timeout,
    )
    return WorkerSlot(slot, context, _TableRecord(table, settings.index))


class _TableRecord:
    """Reads the worker's row, and sets the metrics of the worker in the supervisor's row."""

    def __init__(self, table: CounterTable, index: int) -> None:
        metrics, label = Metrics(table), str(index)
        self._index = index
        self._starts = metrics.counter(catalog.WORKER_STARTS, label)
        self._hangs = metrics.counter(catalog.WORKER_HANGS, label)
        self._up = metrics.gauge(catalog.WORKER_UP, label)
        self._silence = metrics.gauge(catalog.WORKER_SILENCE, label)
        self._heartbeats = HeartbeatReader(table)
        self._serving = ServingReader(table)

    def heartbeats(self) -> int:
        return self._heartbeats.count(self._index)

    def is_serving(self, pid: int) -> bool:
        return self._serving.is_serving(self._index, pid)

    def started(self) -> None:
        self._starts.add()
        self._up.set(1)

    def hung(self) -> None:
        self._hangs.add()
        self._up.set(0)

    def ended(self) -> None:
        self._up.set(0)
        self._silence.clear()

    def silent(self, seconds: float) -> None:
        self._silence.set(seconds)
