"""One worker of the supervisor: starts its process, and schedules a restart after an exit."""

import logging
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess

from extproc.process import worker
from extproc.process.restart import RestartBackoff
from extproc.process.telemetry import TelemetrySettings
from extproc.process.worker import WorkerSettings
from extproc.protection import ProtectionSettings
from extproc.telemetry import catalog
from extproc.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SharedSettings:
    """Settings that all workers of a supervisor have in common."""

    telemetry: TelemetrySettings
    protection: ProtectionSettings


class WorkerSlot:
    """Runs one process at a time for one worker. Times are in monotonic seconds.

    `pid` is None while no process runs. `deadline` is the time of the slot's next scheduled action;
    None if nothing is scheduled.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        shared: SharedSettings,
        context: ForkServerContext,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._shared = shared
        self._context = context
        self._starts = metrics.counter(catalog.WORKER_STARTS, str(settings.index))
        self._up = metrics.gauge(catalog.WORKER_UP, str(settings.index))
        self._backoff = RestartBackoff()
        self._process: ForkServerProcess | None = None
        self._lifeline: Connection | None = None
        self._started_at = 0.0
        self.pid: int | None = None
        self.deadline: float | None = None

    @property
    def drain_timeout(self) -> float:
        """Seconds that the worker may take to drain."""
        return self._settings.drain_timeout

    @property
    def sentinel(self) -> int | None:
        """Handle that becomes ready when the process ends; None while no process runs."""
        return None if self._process is None else self._process.sentinel

    def start(self, now: float) -> None:
        """Start the process. It stops when this end of its lifeline is closed."""
        worker_end, self._lifeline = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=worker.main,
            args=(self._settings, self._shared.telemetry, self._shared.protection, worker_end),
            name=f"callout-{self._settings.index}",
        )
        process.start()
        worker_end.close()
        self._process, self.pid = process, process.pid
        self._started_at, self.deadline = now, None
        self._starts.add()
        self._up.set(1)

    def on_exit(self, now: float) -> None:
        """Handle the end of the process: schedule its restart."""
        process, lifeline = self._process, self._lifeline
        assert process is not None
        assert lifeline is not None
        self._process = self._lifeline = self.pid = None
        process.join()
        self._up.set(0)
        delay = self._backoff.delay_after(now - self._started_at)
        self.deadline = now + delay
        log.error(
            "worker %d ended with status %s: restarting in %.2f s",
            self._settings.index, process.exitcode, delay,
        )  # fmt: skip
        process.close()
        lifeline.close()

    def on_deadline(self, now: float) -> None:
        """Take the scheduled action. The only one is the restart after the process has ended."""
        self.start(now)

    def terminate(self) -> None:
        """Ask the process to drain and end."""
        if self._process is not None:
            self._process.terminate()

    def join(self, timeout: float) -> None:
        """Wait for the process to end. Kill it after `timeout` seconds."""
        if self._process is None:
            return
        self._process.join(timeout)
        if self._process.is_alive():
            log.warning("worker %d did not drain in time: killed", self._settings.index)
            self._process.kill()
            self._process.join()
