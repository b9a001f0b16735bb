"""Telemetry of one worker: its row of the shared table, its access log and its metrics."""

import asyncio
import ctypes
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from extproc.auth import Authenticator
from extproc.counter_table import CounterTable
from extproc.policy.policies import CompiledPolicies
from extproc.policy.received import ReceivedPolicy
from extproc.process.metrics import cpu_counters, resident_gauges, token_counters
from extproc.services.access_log import AccessLogService
from extproc.telemetry import catalog
from extproc.telemetry.decisions import DecisionMetrics
from extproc.telemetry.metrics import Gauge, Metrics
from extproc.telemetry.outputs import open_output
from extproc.telemetry.publisher import MetricsPublisher
from extproc.telemetry.requests import RequestMetrics
from extproc.telemetry.writer import LogWriter
from sluice.config import PolicySettings
from sluice.config.telemetry import AccessLog as AccessLogConfig

PUBLISH_INTERVAL = 0.5
"""Seconds between two publications of the metrics that components count as plain integers."""

_PR_SET_PTRACER = 0x59616D61
"""Option of prctl(2), from <linux/prctl.h>."""


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """Path of the shared table, and the process whose children may profile this worker."""

    table: Path
    profiler: int | None = None


@dataclass(frozen=True, slots=True)
class PreparedTelemetry:
    """Telemetry of a policy that is not in force yet. `writer` is None without an access log."""

    settings: PolicySettings
    writer: LogWriter | None


class WorkerTelemetry:
    """Owns the telemetry components of one worker.

    Raises RowTakenError while the previous process of this worker still runs.
    """

    def __init__(self, settings: TelemetrySettings, worker: int) -> None:
        self.table = CounterTable(settings.table, worker)
        self.metrics = Metrics(self.table)
        self.metrics.clear_gauges(f for f in catalog.FAMILIES if isinstance(f, Gauge))
        self.publisher = MetricsPublisher(self.metrics)
        self.publisher.add_counters("cpu", partial(cpu_counters, worker))
        self.publisher.add_gauges(partial(resident_gauges, worker))
        self.decisions = DecisionMetrics(self.metrics)
        self._requests = RequestMetrics(self.metrics)
        self.access_log = AccessLogService(
            [self._requests.record], self.metrics.counter(catalog.REPORTS_INVALID)
        )
        self._worker = worker
        self._config: AccessLogConfig | None = None
        self._writer: LogWriter | None = None
        self._authenticator: Authenticator | None = None
        if settings.profiler is not None:
            _allow_tracing(settings.profiler)

    def prepare(self, settings: PolicySettings) -> PreparedTelemetry:
        """Start the log writer of a policy that is not in force yet, and change nothing else."""
        if settings.access_log == self._config:
            return PreparedTelemetry(settings, self._writer)
        return PreparedTelemetry(settings, self._open(settings.access_log))

    def commit(
        self, prepared: PreparedTelemetry, policies: CompiledPolicies, stage: ReceivedPolicy | None
    ) -> None:
        """Use the names of both policies, and the log writer and authenticator of that in force."""
        settings = [prepared.settings, *([] if stage is None else [stage.settings])]
        limits = frozenset[str]().union(*(each.limits.names for each in settings))
        self._requests.set_names(policies.versions, limits)
        self.access_log.set_staged(frozenset() if stage is None else stage.nodes)
        self._config = prepared.settings.access_log
        self._use(prepared.writer, self._config)
        authenticator = policies.in_force.authenticator
        if authenticator is not self._authenticator:
            self._authenticator = authenticator
            self.publisher.add_counters("tokens", partial(token_counters, authenticator))

    async def publish(self) -> None:
        """Publish metrics periodically, until cancelled."""
        while True:
            await asyncio.sleep(PUBLISH_INTERVAL)
            self.publisher.publish()

    def close(self) -> None:
        """Publish the metrics once more and write the queued log lines."""
        self.publisher.publish()
        if self._writer is not None:
            self._writer.close()

    def _open(self, config: AccessLogConfig) -> LogWriter | None:
        if config.output == "none":
            return None
        opening = partial(open_output, config.output, self._worker, config.rotation, time.time)
        return LogWriter(opening, config.queue, self.metrics)

    def _use(self, writer: LogWriter | None, config: AccessLogConfig) -> None:
        previous, self._writer = self._writer, writer
        self.access_log.set_writer(writer, config.format)
        if previous is not None and previous is not writer:
            # The previous writer finishes on its thread. The event loop must not wait for it.
            previous.close(0)


def _allow_tracing(pid: int) -> None:
    """Let a process and its children trace this one. Has an effect only under Yama."""
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(pid), 0, 0, 0)
