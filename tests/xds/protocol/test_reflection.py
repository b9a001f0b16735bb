"""Server reflection describes every service of the xDS port."""

import asyncio
import time
from pathlib import Path

import grpc.aio
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from sluice.contract.paths import CSDS_SERVICE, LOAD_SERVICE, OBSERVATION_SERVICE
from xds.envoys.load_reports import LoadReportReader
from xds.envoys.observations import Observations
from xds.envoys.reports import ReportService
from xds.envoys.worker_reports import WorkerReportReader
from xds.protocol.client_status import ClientStatusService
from xds.protocol.nodes import Nodes
from xds.protocol.server import XdsServer
from xds.protocol.services import SERVICES

EXPECTED = {
    **{each.name: {*each.methods} for each in SERVICES},
    CSDS_SERVICE: {"StreamClientStatus", "FetchClientStatus"},
    LOAD_SERVICE: {"StreamLoadStats"},
    OBSERVATION_SERVICE: {"StreamReports"},
}


def test_reflection_and_health_checks_know_every_service(tmp_path: Path) -> None:
    async def main() -> None:
        nodes, observations = Nodes(time.time), Observations()
        readers = LoadReportReader(), WorkerReportReader()
        services = [ReportService(observations, each) for each in readers]
        address = f"unix:{tmp_path}/xds"
        server = XdsServer(nodes, address, [*services, ClientStatusService(nodes)])
        await server.start()
        await server.report_serving()
        try:
            async with grpc.aio.insecure_channel(address) as channel:
                await check(channel)
        finally:
            await server.stop()

    asyncio.run(main())


async def check(channel: grpc.aio.Channel) -> None:
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        *(reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in EXPECTED),
    ]
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    listing, *described = [each async for each in stub.ServerReflectionInfo(iter(requests))]
    listed = {each.name for each in listing.list_services_response.service}
    assert listed == {
        *EXPECTED,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    for name, response in zip(EXPECTED, described, strict=True):
        files = response.file_descriptor_response.file_descriptor_proto
        parsed = [FileDescriptorProto.FromString(each) for each in files]
        methods = {m.name: m for file in parsed for s in file.service for m in s.method}
        assert set(methods) == EXPECTED[name]
        unary = {each for each, method in methods.items() if not method.client_streaming}
        assert unary == EXPECTED[name] & {"FetchClientStatus"}
        health = health_pb2_grpc.HealthStub(channel)
        state = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert state.status == health_pb2.HealthCheckResponse.SERVING
