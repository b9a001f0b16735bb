"""The service passes reports to its recorders, and those of staged Envoys also to others."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio
import pytest

from extproc.counter_table import CounterTable, create
from extproc.services.access_log import AccessLogService
from extproc.telemetry import catalog
from extproc.telemetry.entry import AccessLogEntry
from extproc.telemetry.metrics import Metrics
from extproc.transport import serve
from protos.otlp_logs_pb2 import ExportLogsServiceRequest
from sluice.contract.paths import REPORTS
from tests.extproc.telemetry.test_reports import report

pytestmark = pytest.mark.anyio


@dataclass
class Paths:
    """Records the paths of requests."""

    found: list[str] = field(default_factory=list)

    def record(self, entries: Sequence[AccessLogEntry]) -> None:
        self.found += (each.path for each in entries)


@dataclass
class Server:
    service: AccessLogService
    every: Paths
    others: Paths
    staged: Paths
    send: Callable[[ExportLogsServiceRequest], Awaitable[bytes]]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    create(tmp_path / "counters", 1, 1000)
    invalid = Metrics(CounterTable(tmp_path / "counters", 0)).counter(catalog.REPORTS_INVALID)
    every, others, staged = Paths(), Paths(), Paths()
    service = AccessLogService([every.record], invalid)
    service.add_recorder(others.record, staged.record)
    serving = serve("asyncio", service.services(), "127.0.0.1:0")
    async with grpc.aio.insecure_channel(await serving.start()) as channel:
        call = channel.unary_unary(REPORTS, ExportLogsServiceRequest.SerializeToString, bytes)
        yield Server(service, every, others, staged, call)
    await serving.close()


def batch(*requests: tuple[str, str]) -> ExportLogsServiceRequest:
    """A batch with requests: the id of the Envoy, and the path."""
    message = ExportLogsServiceRequest()
    for node, path in requests:
        logs = message.resource_logs.add()
        for key, value in (("log_name", "envoy-1"), ("node_name", node)):
            logs.resource.attributes.add(key=key).value.string_value = value.encode()
        logs.scope_logs.add().log_records.append(report(path=path))
    return message


async def test_requests_of_staged_envoys_are_recorded_by_themselves(server: Server) -> None:
    server.service.set_staged({"envoy-1", "envoy-3"})
    await server.send(batch(("envoy-1", "/a")))
    await server.send(batch(("envoy-2", "/b")))
    await server.send(batch(("envoy-2", "/c"), ("envoy-3", "/d")))
    assert server.every.found == ["/a", "/b", "/c", "/d"]
    assert (server.others.found, server.staged.found) == (["/b", "/c"], ["/a", "/d"])


async def test_without_a_stage_no_request_is_one_of_staged_envoys(server: Server) -> None:
    server.service.set_staged({"envoy-1"})
    server.service.set_staged(())
    await server.send(batch(("envoy-1", "/a")))
    assert (server.others.found, server.staged.found) == (["/a"], [])


async def test_an_envoy_that_does_not_name_itself_is_not_staged(server: Server) -> None:
    server.service.set_staged({"envoy-1", ""})
    message = batch(("envoy-1", "/a"))
    message.resource_logs[0].ClearField("resource")
    await server.send(message)
    assert (server.others.found, server.staged.found) == (["/a"], [])
