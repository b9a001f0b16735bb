"""Receives streams of reports over gRPC. What a report says, a `ReportReader` knows.

A client must not harm the control plane: the size, the number and the rate of its reports have
bounds, and a report that is not valid changes nothing and ends its stream.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Final, Generic, Protocol, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from protos.base_pb2 import Node
from sluice.contract.traffic import REPORT_INTERVAL
from sluice.printable import printable
from xds.envoys.observations import MAX_REPORTERS
from xds.envoys.reporters import SourceName
from xds.protocol.nodes import MAX_NODE_TEXT
from xds.protocol.reflection import Method, ServiceDescription
from xds.protocol.shared_names import OverLimitError
from xds.protocol.stopping import until_stopping

log = logging.getLogger(__name__)

MAX_COUNT: Final = 1 << 32
"""Requests of one version in one report: more are a lie, or an error of the client."""

MAX_REPORT: Final = 8 << 20
"""Bytes of a report: 100,000 versions with a load, or a worker's 3,000 with all their latencies."""

MAX_SHARE: Final = 0.1
"""Maximum share of the time that the reports of one client take. The next one waits."""

BURST: Final = 20
"""Reports that a client may send at once, for example after the control plane was busy. Else, a
client may send two in each interval."""


MAX_STREAMS: Final = MAX_REPORTERS
"""Streams of one protocol, also those without a report."""

LOG_INTERVAL: Final = 10.0
"""Seconds between two lines about clients that are refused, so that they do not fill the log."""


class InvalidReportError(Exception):
    """A report that no Envoy and no worker sends."""


class Leaving(Protocol):
    """A stream of reports, as far as its protocol does not matter."""

    def leave(self, now: float) -> None:
        """The stream has ended."""


Joined = TypeVar("Joined", bound=Leaving)
"""What stands for one stream of reports."""

Joins = TypeVar("Joins", bound=Leaving, covariant=True)
Joining = TypeVar("Joining", bound=Leaving, contravariant=True)


class Reporters(Protocol[Joins]):
    """Keeps what the reports of a protocol say. `refused` counts streams, by source."""

    refused: Counter[str]

    def join(self, source: SourceName, node: str, now: float, /) -> Joins:
        """A new stream of a node. Raises OverLimitError if there are too many."""


class ReportReader(Protocol[Joining]):
    """Reads the reports of one protocol."""

    source: SourceName
    service: str
    method: str
    messages: Method
    greeting: bytes | None
    """The response to the first message of a stream."""

    def node(self, message: bytes) -> Node:
        """The node in the first message of a stream.

        Raises DecodeError; InvalidReportError if there is none.
        """

    def read(self, reporter: Joining, message: bytes, now: float) -> bytes | None:
        """Pass a message of the stream to the reporter. Returns the response, if there is one.

        Raises DecodeError, InvalidReportError or OverLimitError, and has then changed nothing.
        """


class _Context(Protocol):
    async def abort(self, code: grpc.StatusCode, details: str) -> None: ...

    async def write(self, message: bytes) -> None: ...


class ReportService(Generic[Joined]):
    """The gRPC service of one protocol. `clock` returns monotonic seconds."""

    def __init__(
        self,
        observations: Reporters[Joined],
        reader: ReportReader[Joined],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._observations = observations
        self._reader = reader
        self._clock = clock
        self._stopping = asyncio.Event()
        self._logged_at = -LOG_INTERVAL
        self._streams = 0

    @property
    def description(self) -> ServiceDescription:
        """What reflection says of the service."""
        reader = self._reader
        return ServiceDescription(reader.service, {reader.method: reader.messages})

    @property
    def handler(self) -> grpc.GenericRpcHandler:
        """The method of the service, for a gRPC server."""
        method = grpc.stream_stream_rpc_method_handler(self._stream)
        return grpc.method_handlers_generic_handler(
            self._reader.service, {self._reader.method: method}
        )

    def stop(self) -> None:
        """End every stream with OK, so that clients connect again without a warning."""
        self._stopping.set()

    async def _stream(self, messages: AsyncIterator[bytes], context: _Context) -> None:
        if self._streams >= MAX_STREAMS:
            code = grpc.StatusCode.RESOURCE_EXHAUSTED
            await self._refuse(context, code, f"more than {MAX_STREAMS} streams")
        self._streams += 1
        try:
            refusal = await until_stopping(self._stopping, self._read_all(messages, context))
            if refusal is not None:
                await self._refuse(context, *refusal)
        finally:
            self._streams -= 1

    async def _read_all(
        self, messages: AsyncIterator[bytes], context: _Context
    ) -> tuple[grpc.StatusCode, str] | None:
        """Read the reports of a stream. Returns why it is refused; None if the client has ended it.

        No exception leaves this method: its frames would keep the report.
        """
        try:
            await self._read(messages, context)
        except OverLimitError as error:
            return grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)
        except InvalidReportError as error:
            return grpc.StatusCode.INVALID_ARGUMENT, str(error)
        except DecodeError:
            return grpc.StatusCode.INVALID_ARGUMENT, "not a valid report"
        return None

    async def _refuse(self, context: _Context, code: grpc.StatusCode, details: str) -> None:
        self._observations.refused[self._reader.source] += 1
        now = self._clock()
        if now - self._logged_at >= LOG_INTERVAL:
            self._logged_at = now
            log.warning("%s: a stream of reports is ended: %s", self._reader.source, details)
        await context.abort(code, details)

    async def _read(self, messages: AsyncIterator[bytes], context: _Context) -> None:
        reporter: Joined | None = None
        allowance = _Allowance(self._clock())
        try:
            async for message in messages:
                now, started = self._clock(), time.thread_time()
                allowance.take(now)
                if len(message) > MAX_REPORT:
                    raise OverLimitError(f"a report of more than {MAX_REPORT} bytes")
                if reporter is None:
                    # A node sends its identity in its first message, and does not change it.
                    name = printable(self._reader.node(message).id, MAX_NODE_TEXT) or "unknown"
                    reporter = self._observations.join(self._reader.source, name, now)
                    if self._reader.greeting is not None:
                        await context.write(self._reader.greeting)
                response = self._reader.read(reporter, message, now)
                del message  # The client may send none for long.
                took = time.thread_time() - started
                if response is not None:
                    await context.write(response)
                await asyncio.sleep(took / MAX_SHARE)
        finally:
            if reporter is not None:
                reporter.leave(self._clock())


class _Allowance:
    """How many reports a client may send now."""

    def __init__(self, now: float) -> None:
        self._tokens, self._filled = float(BURST), now

    def take(self, now: float) -> None:
        """Take one. Raises OverLimitError if there is none."""
        self._tokens = min(BURST, self._tokens + (now - self._filled) * 2 / REPORT_INTERVAL)
        self._filled = now
        if self._tokens < 1:
            raise OverLimitError("too many reports")
        self._tokens -= 1
