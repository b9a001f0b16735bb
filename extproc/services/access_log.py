"""envoy.service.accesslog.v3.AccessLogService: hears from Envoy what became of requests.

Reports come in batches, off the requests' path, on streams that stay open. A batch is read, counted
and handed to the log at once; whoever else wants to know of an outcome is a recorder.
"""

from collections.abc import Callable, Sequence

from google.protobuf.message import DecodeError

from extproc.rpc import Call, RpcError, Services, StatusCode
from extproc.telemetry.entry import AccessLogEntry, Reader
from extproc.telemetry.lines import FORMATS
from extproc.telemetry.metrics import CounterSeries
from extproc.telemetry.writer import LogWriter
from protos.accesslog_pb2 import StreamAccessLogsMessage
from sluice.contract.paths import ACCESS_LOG

Recorder = Callable[[Sequence[AccessLogEntry]], None]
"""Takes note of finished requests. Called on the event loop: it must be quick."""


class AccessLogService:
    """The service. `invalid` counts batches that cannot be read."""

    def __init__(self, recorders: Sequence[Recorder], invalid: CounterSeries) -> None:
        self._recorders = list(recorders)
        self._invalid = invalid
        self._write: Callable[[Sequence[AccessLogEntry]], None] | None = None
        self._calls: set[Call] = set()
        self._entry = Reader().entry

    def services(self) -> Services:
        """The method, for a transport."""
        return {ACCESS_LOG: self._open}

    def tell(self, recorder: Recorder) -> None:
        """Have another recorder hear of every request."""
        self._recorders.append(recorder)

    def write_to(self, writer: LogWriter | None, form: str) -> None:
        """From now on, log to this writer (None: nowhere) in a format of `FORMATS`."""
        if writer is None:
            self._write = None
            return
        line = FORMATS[form]

        def write(entries: Sequence[AccessLogEntry]) -> None:
            writer.put(b"".join(map(line, entries)), len(entries))

        self._write = write

    def close(self) -> None:
        """End every stream, so that Envoy takes its reports to another worker."""
        for call in tuple(self._calls):
            call.finish()
        self._calls.clear()

    def _open(self, call: Call) -> "_Stream":
        self._calls.add(call)
        return _Stream(self, call)

    def _take(self, message: bytes) -> None:
        try:
            batch = StreamAccessLogsMessage.FromString(message)
        except DecodeError:
            self._invalid.add()
            raise RpcError(StatusCode.INVALID_ARGUMENT, "not a StreamAccessLogsMessage") from None
        entries = list(map(self._entry, batch.http_logs.log_entry))
        for record in self._recorders:
            record(entries)
        if entries and self._write is not None:
            self._write(entries)


class _Stream:
    """One stream of one of Envoy's threads."""

    __slots__ = ("_call", "_service")

    def __init__(self, service: AccessLogService, call: Call) -> None:
        self._service = service
        self._call = call

    def on_message(self, message: bytes) -> None:
        try:
            self._service._take(message)
        except BaseException:
            self._service._calls.discard(self._call)
            raise

    def on_half_close(self) -> None:
        self._service._calls.discard(self._call)
        self._call.send(b"")
        self._call.finish()

    def on_cancel(self) -> None:
        self._service._calls.discard(self._call)
