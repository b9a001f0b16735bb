"""HTTP application of the supervisor: probes, metrics, and the status of the streams.

Requests for the status must have the server's host name in the Host header. Probes need nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from protos.video_pb2 import Counts, StreamStatus, WorkerSnapshot
from sluice.config.access import Access
from sluice.config.addresses import is_local, split_host_port
from sluice.http.access import AccessGuard, Role
from sluice.http.hosts import HostGuard
from sluice.http.metrics import metrics_endpoint
from sluice.http.probes import probe_routes
from sluice.supervision.worker_status import WorkerStatus
from sluice.tls import TlsFiles

MAX_REQUESTS: Final = 20
"""Maximum concurrent requests."""

ALLOWED_HOSTS_KEY: Final = "telemetry.metrics.allowed_hosts"


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """Address of the server and further host names (lower case) of its status.

    `tls`: the certificate; None for a server without TLS. `access` returns who may read now, with
    absolute file names. `own_name`: name in a certificate that may also read.
    """

    address: str
    allowed_hosts: tuple[str, ...] = ()
    tls: TlsFiles | None = None
    access: Callable[[], Access] = Access
    own_name: str | None = None


def application(
    settings: EndpointSettings,
    metrics: Collector,
    snapshots: Callable[[], Iterable[WorkerSnapshot]],
    workers: Callable[[], Iterable[WorkerStatus]],
) -> Starlette:
    """Create the ASGI application."""

    async def videos(_: Request) -> Response:
        streams = [
            stream_status(stream, worker)
            for worker, snapshot in enumerate(snapshots())
            for stream in snapshot.streams
        ]
        found = [asdict(worker) for worker in workers()]
        return JSONResponse({"workers": found, "streams": streams})

    hosts = HostGuard(settings.address, settings.allowed_hosts, ALLOWED_HOSTS_KEY)
    guard = AccessGuard(
        settings.access,
        Path(),
        hosts,
        trusted=is_local(split_host_port(settings.address)[0]),
        own_name=settings.own_name,
    )
    routes = [
        *probe_routes(lambda: any(worker.serving for worker in workers())),
        Route("/metrics", guard.authorize(metrics_endpoint(metrics), Role.READER)),
        Route("/v1/videos", guard.protect(videos, Role.READER)),
    ]
    return Starlette(routes=routes)


def stream_status(stream: StreamStatus, worker: int) -> Mapping[str, object]:
    """The status of a stream as JSON. Numbers stay numbers, which protobuf's own JSON does not."""
    return {
        "name": stream.name,
        "model": stream.model,
        "worker": worker,
        "upload": stream.upload,
        "state": stream.state,
        "seconds": stream.seconds,
        "error": stream.error,
        "frames_per_second": stream.frames_per_second,
        "results_per_second": stream.results_per_second,
        "p50": stream.p50,
        "p99": stream.p99,
        "counts": _counts(stream.counts),
        "sinks": [
            {
                "name": sink.name,
                "delivered": sink.delivered,
                "waiting": sink.waiting,
                "error": sink.error,
            }
            for sink in stream.sinks
        ],
    }


def _counts(counts: Counts) -> Mapping[str, object]:
    return {
        "received": counts.received,
        "skipped": counts.skipped,
        "undecodable": counts.undecodable,
        "frames": counts.frames,
        "results": counts.results,
        "drops": dict(counts.drops),
        "errors": dict(counts.errors),
        "bytes": counts.bytes,
        "reconnects": counts.reconnects,
    }
