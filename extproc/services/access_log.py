"""Receives Envoy's reports of finished requests.

A report is a log record of OpenTelemetry (opentelemetry.proto.collector.logs.v1.LogsService). Envoy
sends a batch with one call, and repeats the call on another worker if this one ends before its
response. The service parses a batch, passes the entries to the recorders and queues the log lines.
"""

from collections.abc import Callable, Collection, Iterator, Sequence

from google.protobuf.message import DecodeError

from extproc.rpc import RpcError, Services, StatusCode, unary
from extproc.telemetry.entry import AccessLogEntry
from extproc.telemetry.formats import FORMATS
from extproc.telemetry.metrics import CounterSeries
from extproc.telemetry.reports import ReportParser
from extproc.telemetry.writer import LogWriter
from protos.otlp_logs_pb2 import ExportLogsServiceRequest, ResourceLogs
from sluice.contract.paths import REPORTS
from sluice.contract.report import NODE_ATTRIBUTE

Recorder = Callable[[Sequence[AccessLogEntry]], None]
"""Receives the entries of finished requests. It runs on the event loop and must not block."""

_RECEIVED = b""
"""The response: an ExportLogsServiceResponse without a field."""


class AccessLogService:
    """The gRPC service. `invalid` counts reports and batches that cannot be parsed."""

    def __init__(self, recorders: Sequence[Recorder], invalid: CounterSeries) -> None:
        self._recorders = [(each, each) for each in recorders]
        self._staged: Collection[str] = ()
        self._invalid = invalid
        self._write: Callable[[Sequence[AccessLogEntry]], None] | None = None
        self._parse = ReportParser().parse

    def services(self) -> Services:
        """The handler factory by method path, for a transport."""
        return {REPORTS: unary(self._process)}

    def add_recorder(self, recorder: Recorder, of_staged: Recorder | None = None) -> None:
        """Pass the entries of all later batches to this recorder as well.

        `of_staged`: it gets the entries of staged Envoys instead.
        """
        self._recorders.append((recorder, of_staged or recorder))

    def set_staged(self, nodes: Collection[str]) -> None:
        """Set the ids of the staged Envoys."""
        self._staged = nodes

    def set_writer(self, writer: LogWriter | None, format_name: str) -> None:
        """Write log lines to this writer, in a format of `FORMATS`. None: write no log."""
        if writer is None:
            self._write = None
            return
        format_line = FORMATS[format_name]

        def write(entries: Sequence[AccessLogEntry]) -> None:
            writer.put("".join(map(format_line, entries)).encode(), len(entries))

        self._write = write

    def _process(self, message: bytes) -> bytes:
        try:
            batch = ExportLogsServiceRequest.FromString(message)
        except DecodeError:
            self._invalid.add()
            raise RpcError(StatusCode.INVALID_ARGUMENT, "invalid batch of reports") from None
        entries, staged = self._entries(batch)
        for record, record_staged in self._recorders:
            record(entries)
            if staged:
                record_staged(staged)
        entries += staged
        if entries and self._write is not None:
            self._write(entries)
        return _RECEIVED

    def _entries(
        self, batch: ExportLogsServiceRequest
    ) -> tuple[list[AccessLogEntry], list[AccessLogEntry]]:
        """The entries of a batch, and those of staged Envoys."""
        entries: list[AccessLogEntry] = []
        staged: list[AccessLogEntry] = []
        for logs in batch.resource_logs:
            is_staged = bool(self._staged) and _node(logs) in self._staged
            (staged if is_staged else entries).extend(self._parsed(logs))
        return entries, staged

    def _parsed(self, logs: ResourceLogs) -> Iterator[AccessLogEntry]:
        for scope in logs.scope_logs:
            for record in scope.log_records:
                try:
                    yield self._parse(record)
                except ValueError:
                    self._invalid.add()


def _node(logs: ResourceLogs) -> str | None:
    """The id of the Envoy that sends the records; None if it does not say it."""
    for attribute in logs.resource.attributes:
        if attribute.key == NODE_ATTRIBUTE:
            return attribute.value.string_value.decode(errors="replace")
    return None
