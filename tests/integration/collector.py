"""An OpenTelemetry collector for tests: an OTLP/gRPC server that stores spans and log records."""

import asyncio
from collections.abc import Callable

import grpc
import grpc.aio
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

HANG = 20.0
"""Seconds after which a wait fails the test."""


class Collector:
    """Listens on a free port of 127.0.0.1 and appends what it receives to `spans` and `records`."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.records: list[LogRecord] = []
        self._received = asyncio.Condition()
        self._server = grpc.aio.server()
        services = (
            ("trace", "TraceService", traces.ExportTraceServiceRequest, self._traces),
            ("logs", "LogsService", logs.ExportLogsServiceRequest, self._logs),
        )
        for kind, service, request, handler in services:
            name = f"opentelemetry.proto.collector.{kind}.v1.{service}"
            method = grpc.unary_unary_rpc_method_handler(
                handler,
                request_deserializer=request.FromString,
                response_serializer=lambda response: response.SerializeToString(),
            )
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(name, {"Export": method}),)
            )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    async def __aenter__(self) -> "Collector":
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(0)

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until received spans or records make a condition true."""
        async with asyncio.timeout(HANG), self._received:
            await self._received.wait_for(condition)

    async def _notify(self) -> None:
        async with self._received:
            self._received.notify_all()

    async def _traces(
        self, request: traces.ExportTraceServiceRequest, _: grpc.aio.ServicerContext
    ) -> traces.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        await self._notify()
        return traces.ExportTraceServiceResponse()

    async def _logs(
        self, request: logs.ExportLogsServiceRequest, _: grpc.aio.ServicerContext
    ) -> logs.ExportLogsServiceResponse:
        for resource in request.resource_logs:
            for scope in resource.scope_logs:
                self.records.extend(scope.log_records)
        await self._notify()
        return logs.ExportLogsServiceResponse()


def attributes(item: Span | LogRecord) -> dict[str, str]:
    """The attributes of a span or log record, as text."""
    return {attribute.key: _text(attribute) for attribute in item.attributes}


def _text(attribute: KeyValue) -> str:
    value: AnyValue = attribute.value
    return str(getattr(value, value.WhichOneof("value") or "string_value"))
