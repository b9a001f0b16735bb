"""`python -m bench.traffic_sources [CLUSTERS]`: what it costs to learn what Envoy sees.

One Envoy with many clusters gets one request to each in every interval. For each way in which Envoy
can report what it sees, prints the CPU time that Envoy takes for it, beyond that without reports,
what it sends, and the CPU time of the control plane to read load reports and those of a worker that
has seen the same.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from bench.processes import cpu_seconds, envoy, free_port, local_address
from protos.observations_pb2 import Report
from sluice.contract.paths import LOAD_METHOD, LOAD_SERVICE
from sluice.contract.traffic import REPORT_INTERVAL
from xds.envoys.load_reports import LoadReportReader
from xds.envoys.observations import Observations
from xds.envoys.worker_reports import WorkerReportReader

METRICS = "envoy.service.metrics.v3.MetricsService"
OTLP = "opentelemetry.proto.collector.metrics.v1.MetricsService"
FLUSH = "5s"


def grpc_service() -> dict[str, object]:
    return {"envoy_grpc": {"cluster_name": "sink"}}


def load_reports() -> dict[str, object]:
    service = {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [grpc_service()]}
    return {"cluster_manager": {"load_stats_config": service}}


def metrics_service() -> dict[str, object]:
    config = {
        "@type": "type.googleapis.com/envoy.config.metrics.v3.MetricsServiceConfig",
        "transport_api_version": "V3",
        "grpc_service": grpc_service(),
        "report_counters_as_deltas": True,
        "histogram_emit_mode": "HISTOGRAM",
    }
    return sink("envoy.stat_sinks.metrics_service", config)


def filtered_otlp() -> dict[str, object]:
    """The OTLP sink, which can leave out statistics: all but the durations of requests."""
    keep = {"suffix": ".upstream_rq_time"}
    name = {
        "name": "name",
        "typed_config": {
            "@type": "type.googleapis.com/"
            "envoy.extensions.matching.common_inputs.stats.v3.StatFullNameMatchInput"
        },
    }
    drop = {
        "name": "drop",
        "typed_config": {
            "@type": "type.googleapis.com/"
            "envoy.extensions.stat_sinks.open_telemetry.v3.SinkConfig.DropAction"
        },
    }
    other = {"not_matcher": {"single_predicate": {"input": name, "value_match": keep}}}
    matcher = {"matcher_list": {"matchers": [{"predicate": other, "on_match": {"action": drop}}]}}
    config = {
        "@type": "type.googleapis.com/envoy.extensions.stat_sinks.open_telemetry.v3.SinkConfig",
        "grpc_service": grpc_service(),
        "report_histograms_as_deltas": True,
        "custom_metric_conversions": matcher,
    }
    return sink("envoy.stat_sinks.open_telemetry", config)


def sink(name: str, config: dict[str, object]) -> dict[str, object]:
    return {"stats_flush_interval": FLUSH, "stats_sinks": [{"name": name, "typed_config": config}]}


VARIANTS: dict[str, Callable[[], dict[str, object]]] = {
    "no reports": dict,
    "load reports": load_reports,
    "metrics service": metrics_service,
    "OTLP, durations only": filtered_otlp,
}


def static_cluster(name: str, port: int, *, http2: bool = False) -> dict[str, object]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    endpoint = {"endpoint": {"address": address}}
    http: dict[str, object] = {"http2_protocol_options" if http2 else "http_protocol_options": {}}
    options = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": http,
    }
    return {
        "name": name,
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        },
    }


def listener(name: str, port: int, route: dict[str, object]) -> dict[str, object]:
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    hosts = [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **route}]}]
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network"
        ".http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [{"name": "router", "typed_config": router}],
    }
    return {
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


class Received:
    """What the services of the control plane have received."""

    def __init__(self, clusters: int) -> None:
        self.observations = Observations()
        self.observations.configure({f"model-{n}/v1" for n in range(clusters)})
        self.bytes = self.messages = 0
        self.read_seconds = 0.0

    async def load(self, messages: AsyncIterator[bytes], context: Any) -> None:
        """Receives load reports."""
        reader = LoadReportReader()
        reporter = self.observations.join("envoy", "envoy", time.monotonic())
        first = True
        async for message in messages:
            self._count(message)
            start = time.thread_time()
            reader.read(reporter, message, time.monotonic())
            self.read_seconds += time.thread_time() - start
            if first:
                await context.write(reader.greeting)
            first = False

    async def metrics(self, messages: AsyncIterator[bytes], _: Any) -> bytes:
        """Receives metrics, without reading them."""
        async for message in messages:
            self._count(message)
        return b""

    async def otlp(self, message: bytes, _: Any) -> bytes:
        """Receives metrics, without reading them."""
        self._count(message)
        return b""

    def _count(self, message: bytes) -> None:
        self.messages += 1
        self.bytes += len(message)

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """The services, for a gRPC server."""
        method = grpc.method_handlers_generic_handler
        return (
            method(LOAD_SERVICE, {LOAD_METHOD: grpc.stream_stream_rpc_method_handler(self.load)}),
            method(METRICS, {"StreamMetrics": grpc.stream_unary_rpc_method_handler(self.metrics)}),
            method(OTLP, {"Export": grpc.unary_unary_rpc_method_handler(self.otlp)}),
        )


async def send(port: int, clusters: int) -> None:
    """One request to each cluster, on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in range(clusters):
        writer.write(f"GET / HTTP/1.1\r\nhost: a\r\nx-cluster: model-{number}/v1\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
    writer.close()


async def measure(name: str, clusters: int, seconds: float, directory: Path) -> list[float]:
    """Envoy's CPU seconds, and bytes, messages and CPU seconds of the receiver, each a second."""
    front, back, sink_port = free_port(), free_port(), free_port()
    received = Received(clusters)
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers(received.handlers())
    server.add_insecure_port(local_address(sink_port))
    await server.start()
    config = {
        "node": {"id": "envoy", "cluster": "sluice"},
        "deferred_stat_options": {"enable_deferred_creation_stats": True},
        **VARIANTS[name](),
        "static_resources": {
            "listeners": [
                listener("front", front, {"route": {"cluster_header": "x-cluster"}}),
                listener("back", back, {"direct_response": {"status": 200}}),
            ],
            "clusters": [
                static_cluster("sink", sink_port, http2=True),
                *(static_cluster(f"model-{number}/v1", back) for number in range(clusters)),
            ],
        },
    }
    with ExitStack() as stack:
        starting = envoy(config, directory / "envoy.json", [front])
        running = await asyncio.to_thread(stack.enter_context, starting)
        await send(front, clusters)
        await asyncio.sleep(6)
        started, cpu = time.monotonic(), cpu_seconds(running.pid)
        received.bytes = received.messages = 0
        received.read_seconds = 0.0
        while time.monotonic() < started + seconds:
            round_ends = time.monotonic() + 5
            await send(front, clusters)
            await asyncio.sleep(max(0, round_ends - time.monotonic()))
        took = time.monotonic() - started
        found = [
            cpu_seconds(running.pid) - cpu, received.bytes, received.messages,
            received.read_seconds,
        ]  # fmt: skip
    await server.stop(0)
    return [each / took for each in found]


def worker_report(clusters: int) -> None:
    """Prints the size of a worker's report of the same, and the time to read it."""
    report = Report(process=1, number=1, seconds=REPORT_INTERVAL)
    report.node.id = "callout-0"
    for number in range(clusters):
        report.versions.add(
            cluster=f"model-{number}/v1", requests=40, errors=1,
            bins=range(60, 84), counts=[1] * 24,
        )  # fmt: skip
    observations = Observations()
    observations.configure({f"model-{n}/v1" for n in range(clusters)})
    reporter, reader = observations.join("worker", "callout-0", 0.0), WorkerReportReader()
    messages = []
    for _ in range(10):
        report.number += 1
        messages.append(report.SerializeToString())
    start = time.thread_time()
    for number, message in enumerate(messages):
        reader.read(reporter, message, number * REPORT_INTERVAL)
    took = (time.thread_time() - start) / len(messages) / REPORT_INTERVAL
    size = len(messages[0]) / REPORT_INTERVAL / 1000
    print(f"{'worker, 24 latencies each':<24}{'':>12}{size:>12.0f}{'':>12}{took * 1000:>12.1f}")


def main() -> None:
    """Measure every variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clusters", type=int, nargs="?", default=3000)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    print(f"{'':<24}{'Envoy ms/s':>12}{'kB/s':>12}{'messages/s':>12}{'reader ms/s':>12}")
    without: float | None = None
    for name in VARIANTS:
        with tempfile.TemporaryDirectory() as directory:
            cpu, size, messages, read = asyncio.run(
                measure(name, options.clusters, options.seconds, Path(directory))
            )
        without = cpu if without is None else without
        extra = (cpu - without) * 1000
        print(
            f"{name:<24}{extra:>12.1f}{size / 1000:>12.0f}{messages:>12.1f}{read * 1000:>12.1f}",
            flush=True,
        )
    worker_report(options.clusters)


if __name__ == "__main__":
    main()
