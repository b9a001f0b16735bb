"""envoy.service.accesslog.v3.AccessLogService: receives Envoy's reports of finished requests.

Reports arrive in batches on long-lived streams. The service parses a batch, passes the entries to
the recorders and queues the log lines.
"""

from collections.abc import Callable, Sequence

from google.protobuf.message import DecodeError

from extproc.rpc import Call, RpcError, Services, StatusCode
from extproc.telemetry.entry import AccessLogEntry
from extproc.telemetry.formats import FORMATS
from extproc.telemetry.metrics import CounterSeries
from extproc.telemetry.reports import ReportParser
from extproc.telemetry.writer import LogWriter
from protos.accesslog_pb2 import StreamAccessLogsMessage
from sluice.contract.paths import ACCESS_LOG

Recorder = Callable[[Sequence[AccessLogEntry]], None]
"""Receives the entries of finished requests. It runs on the event loop and must not block."""


class AccessLogService:
    """The gRPC service. `invalid` counts batches that cannot be parsed."""

    def __init__(self, recorders: Sequence[Recorder], invalid: CounterSeries) -> None:
        self._recorders = list(recorders)
        self._invalid = invalid
        self._write: Callable[[Sequence[AccessLogEntry]], None] | None = None
        self._calls: set[Call] = set()
        self._parse = ReportParser().parse

    def services(self) -> Services:
        """The handler factory by method path, for a transport."""
        return {ACCESS_LOG: self._open}

    def add_recorder(self, recorder: Recorder) -> None:
        """Pass the entries of all later batches to this recorder as well."""
        self._recorders.append(recorder)

    def set_writer(self, writer: LogWriter | None, format_name: str) -> None:
        """Write log lines to this writer, in a format of `FORMATS`. None: write no log."""
        if writer is None:
            self._write = None
            return
        format_line = FORMATS[format_name]

        def write(entries: Sequence[AccessLogEntry]) -> None:
            writer.put(b"".join(map(format_line, entries)), len(entries))

        self._write = write

    def close(self) -> None:
        """End all streams. Envoy then opens new streams to other workers."""
        for call in tuple(self._calls):
            call.finish()
        self._calls.clear()

    def _open(self, call: Call) -> "_Stream":
        self._calls.add(call)
        return _Stream(call, self._process, self._calls.discard)

    def _process(self, message: bytes) -> None:
        try:
            batch = StreamAccessLogsMessage.FromString(message)
        except DecodeError:
            self._invalid.add()
            raise RpcError(StatusCode.INVALID_ARGUMENT, "invalid StreamAccessLogsMessage") from None
        entries = list(map(self._parse, batch.http_logs.log_entry))
        for record in self._recorders:
            record(entries)
        if entries and self._write is not None:
            self._write(entries)


class _Stream:
    """One stream of reports. Each worker thread of Envoy opens one."""

    __slots__ = ("_call", "_on_end", "_process")

    def __init__(
        self, call: Call, process: Callable[[bytes], None], on_end: Callable[[Call], None]
    ) -> None:
        self._call = call
        self._process = process
        self._on_end = on_end

    def on_message(self, message: bytes) -> None:
        try:
            self._process(message)
        except BaseException:
            self._on_end(self._call)
            raise

    def on_half_close(self) -> None:
        self._on_end(self._call)
        self._call.send(b"")
        self._call.finish()

    def on_cancel(self) -> None:
        self._on_end(self._call)
