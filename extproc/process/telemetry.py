"""A worker's part in telemetry: its row of the shared table, its log, and what it counts."""

import asyncio
import ctypes
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from extproc.auth import Authenticator
from extproc.counter_table import CounterTable
from extproc.policy.current import CurrentPolicy
from extproc.services.access_log import AccessLogService
from extproc.telemetry import catalog
from extproc.telemetry.decisions import ObservedDecisions
from extproc.telemetry.metrics import Gauge, Metrics
from extproc.telemetry.outputs import open_output
from extproc.telemetry.requests import RequestMetrics
from extproc.telemetry.totals import Total, Totals, by_label
from extproc.telemetry.writer import LogWriter
from extproc.transport import Counters
from sluice.config import PolicyDocument
from sluice.config.telemetry import AccessLog as AccessLogConfig

PUBLISH_INTERVAL = 0.5
"""Seconds between the carrying over of totals."""

_PR_SET_PTRACER = 0x59616D61


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """The shared table, and the process whose children may profile this worker."""

    table: Path
    profiler: int | None = None


class WorkerTelemetry:
    """Everything together. `table` and `metrics` are for other parts to count with.

    Raises RowTakenError where the worker's predecessor still runs.
    """

    def __init__(self, settings: TelemetrySettings, worker: int) -> None:
        self.table = CounterTable(settings.table, worker)
        self.metrics = Metrics(self.table)
        self.metrics.clear(f for f in catalog.FAMILIES if isinstance(f, Gauge))
        self.totals = Totals(self.metrics)
        self.decisions = ObservedDecisions(self.metrics)
        self._requests = RequestMetrics(self.metrics)
        self.access_log = AccessLogService(
            [self._requests.record], self.metrics.count(catalog.REPORTS_INVALID)
        )
        self._worker = worker
        self._config: AccessLogConfig | None = None
        self._writer: LogWriter | None = None
        self._authenticator: Authenticator | None = None
        if settings.profiler is not None:
            _allow_tracing(settings.profiler)

    def apply(self, document: PolicyDocument, current_policy: CurrentPolicy) -> None:
        """Follow a policy that has come into force."""
        self._requests.follow(
            {name: frozenset(model.versions) for name, model in document.models.items()}
        )
        if document.access_log != self._config:
            self._config = document.access_log
            self._reopen(document.access_log)
        current = current_policy.current
        if current is not None and current.authenticator is not self._authenticator:
            self._authenticator = current.authenticator
            self.totals.follow("tokens", partial(_tokens, current.authenticator))

    async def publish(self) -> None:
        """Carry totals over, until cancelled."""
        while True:
            await asyncio.sleep(PUBLISH_INTERVAL)
            self.totals.publish()

    def close(self) -> None:
        """Write what is left."""
        self.totals.publish()
        if self._writer is not None:
            self._writer.close()

    def _reopen(self, config: AccessLogConfig) -> None:
        before = self._writer
        self._writer = None
        if config.output != "none":
            opening = partial(open_output, config.output, self._worker, config.rotation, time.time)
            self._writer = LogWriter(opening, config.queue, self.metrics)
        self.access_log.write_to(self._writer, config.format)
        if before is not None:
            before.close(0)


def transport_totals(counters: Counters) -> Iterable[Total]:
    """What a server has counted."""
    return [
        (catalog.CONNECTIONS, ("opened",), counters.connections_opened),
        (catalog.CONNECTIONS, ("closed",), counters.connections_closed),
        (catalog.CALLS, ("started",), counters.streams_opened),
        (catalog.CALLS, ("ended",), counters.streams_closed),
        (catalog.CALLS, ("refused",), counters.streams_refused),
        (catalog.CALLS, ("reset_by_peer",), counters.streams_reset_by_peer),
        (catalog.CALLS, ("deadline_exceeded",), counters.deadlines_exceeded),
        (catalog.MESSAGES, ("received",), counters.messages_received),
        (catalog.MESSAGES, ("sent",), counters.messages_sent),
        *by_label(catalog.PROTOCOL_ERRORS, counters.protocol_errors),
        *by_label(catalog.ABUSE, counters.abuse_closures),
    ]


def _tokens(authenticator: Authenticator) -> Iterable[Total]:
    return [
        (catalog.TOKENS, ("hit",), authenticator.hits),
        (catalog.TOKENS, ("miss",), authenticator.misses),
    ]


def _allow_tracing(pid: int) -> None:
    """Let a process and its children read this one (Yama; without it this does nothing)."""
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(pid), 0, 0, 0)
