"""A control plane for the video service: sends what the test says, and gets reports."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from protos.base_pb2 import Node
from protos.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from protos.video_pb2 import ReportReceived, VideoConfig, VideoReport
from sluice.config import Model
from sluice.config.video import VideoSettings, VideoStream
from sluice.contract.names import VIDEO_SETTINGS, VIDEO_TYPE_URL, video_model, video_stream
from sluice.contract.paths import (
    ADS_DELTA_METHOD,
    ADS_SERVICE,
    VIDEO_REPORT_METHOD,
    VIDEO_REPORT_SERVICE,
)

TIMEOUT = 60.0


def settings(gateway: str = "127.0.0.1:9", **changes: int) -> bytes:
    """The resource `settings`."""
    found = VideoSettings(
        gateway=gateway, gateway_tls=None, **{"max_uploads": 4, "max_watchers": 4, **changes}
    )
    return VideoConfig(config=found.model_dump_json().encode()).SerializeToString()


def resources(
    models: Mapping[str, Model],
    streams: Mapping[str, Mapping[str, Any]] | None = None,
    gateway: str = "127.0.0.1:9",
    secrets: Mapping[str, bytes] | None = None,
    **changes: int,
) -> dict[str, bytes]:
    """All resources of a config. Each stream has these secrets."""
    found = {VIDEO_SETTINGS: settings(gateway, **changes)}
    for name, model in models.items():
        found[video_model(name)] = VideoConfig(config=model.serialized).SerializeToString()
    for name, stream in (streams or {}).items():
        config = VideoStream.model_validate(stream).model_dump_json().encode()
        message = VideoConfig(config=config, secrets=secrets or {})
        found[video_stream(name)] = message.SerializeToString()
    return found


@dataclass(slots=True)
class AdsServer:
    """The streams of workers, and what they have sent."""

    address: str
    nodes: list[Node] = field(default_factory=list)
    known: list[dict[str, str]] = field(default_factory=list)
    """The versions that each stream began with."""
    acknowledged: list[str] = field(default_factory=list)
    """Nonces of the responses that were accepted."""
    rejected: dict[str, str] = field(default_factory=dict)
    """Reasons by the nonce of the response."""
    metadata: list[dict[str, str]] = field(default_factory=list)
    reports: list[VideoReport] = field(default_factory=list)
    _resources: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    _streams: list[asyncio.Queue[DeltaDiscoveryResponse]] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _version: int = 0

    def push(self, changed: Mapping[str, bytes], removed: Sequence[str] = ()) -> str:
        """Send a change to all workers, and to those that connect later. Returns the nonce."""
        self._version += 1
        for name, content in changed.items():
            self._resources[name] = (f"v{self._version}", content)
        for name in removed:
            self._resources.pop(name, None)
        for queue in self._streams:
            queue.put_nowait(self._response(changed, removed))
        return f"n{self._version}"

    async def until(self, condition: Any) -> None:
        """Wait until a condition is true. It is checked after each message of a worker."""
        async with asyncio.timeout(TIMEOUT), self._changed:
            await self._changed.wait_for(condition)

    async def accepted(self, nonce: str, count: int = 1) -> None:
        """Wait until so many workers have accepted a response."""
        await self.until(lambda: self.acknowledged.count(nonce) >= count)

    async def stream(self, requests: AsyncIterator[DeltaDiscoveryRequest], context: Any) -> None:
        """DeltaAggregatedResources."""
        self.metadata.append(dict(context.invocation_metadata()))
        queue = asyncio.Queue[DeltaDiscoveryResponse]()
        first = await anext(requests)
        assert first.type_url == VIDEO_TYPE_URL
        self.nodes.append(first.node)
        self.known.append(dict(first.initial_resource_versions))
        known = dict(first.initial_resource_versions)
        missing = [name for name in known if name not in self._resources]
        changed = [n for n, (version, _) in self._resources.items() if known.get(n) != version]
        if changed or missing:
            queue.put_nowait(self._response(changed, missing))
        self._streams.append(queue)
        reading = asyncio.create_task(self._read(requests))
        await self._notify()
        try:
            while True:
                await context.write(await queue.get())
        finally:
            self._streams.remove(queue)
            reading.cancel()

    async def report(self, reports: AsyncIterator[VideoReport], context: Any) -> None:
        """StreamReports."""
        async for report in reports:
            self.reports.append(report)
            await context.write(ReportReceived(number=report.number))
            await self._notify()

    async def _read(self, requests: AsyncIterator[DeltaDiscoveryRequest]) -> None:
        async for request in requests:
            if request.HasField("error_detail"):
                self.rejected[request.response_nonce] = request.error_detail.message
            else:
                self.acknowledged.append(request.response_nonce)
            await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _response(self, changed: Any, removed: Any) -> DeltaDiscoveryResponse:
        response = DeltaDiscoveryResponse(
            system_version_info=f"v{self._version}",
            type_url=VIDEO_TYPE_URL,
            nonce=f"n{self._version}",
            removed_resources=removed,
        )
        for name in changed:
            version, content = self._resources[name]
            added = response.resources.add(name=name, version=version)
            added.resource.type_url, added.resource.value = VIDEO_TYPE_URL, content
        return response


@asynccontextmanager
async def ads_server(address: str = "127.0.0.1:0", server: AdsServer | None = None) -> Any:
    """Run a control plane, or one that was stopped, while the block runs."""
    grpc_server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    port = grpc_server.add_insecure_port(address)
    found = server or AdsServer("")
    found.address = f"127.0.0.1:{port}"
    delta = grpc.stream_stream_rpc_method_handler(
        found.stream,
        request_deserializer=DeltaDiscoveryRequest.FromString,
        response_serializer=DeltaDiscoveryResponse.SerializeToString,
    )
    reports = grpc.stream_stream_rpc_method_handler(
        found.report,
        request_deserializer=VideoReport.FromString,
        response_serializer=ReportReceived.SerializeToString,
    )
    grpc_server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(ADS_SERVICE, {ADS_DELTA_METHOD: delta}),
            grpc.method_handlers_generic_handler(
                VIDEO_REPORT_SERVICE, {VIDEO_REPORT_METHOD: reports}
            ),
        )
    )
    await grpc_server.start()
    try:
        yield found
    finally:
        await grpc_server.stop(0)
