"""HTTP application of the supervisor: metrics and status of all workers, and profiles.

Requests for status and profiles must have the server's host name in the Host header. Requests for
profiles also need a shared secret. Probes need nothing.
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from extproc.telemetry.profile import ProfileError, Profiler
from extproc.telemetry.status import CalloutStatus
from sluice.config.access import Access
from sluice.config.addresses import is_local, split_host_port
from sluice.config.files import read_file
from sluice.config.telemetry import MAX_PROFILE_SECRET, MIN_PROFILE_SECRET
from sluice.http.access import AccessGuard, Role
from sluice.http.hosts import HostGuard
from sluice.http.metrics import metrics_endpoint
from sluice.http.probes import probe_routes
from sluice.tls import TlsFiles

MAX_REQUESTS = 20
"""Maximum concurrent requests."""

ALLOWED_HOSTS_KEY = "telemetry.metrics.allowed_hosts (--metrics-allowed-host)"


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """Address of the server and further host names (lower case) of its status and profiles.

    Without `secret_file` there are no profiles. `tls`: the certificate; None for a server without
    TLS. `access` returns who may read now, with absolute file names. `own_name`: name in a
    certificate that may also read.
    """

    address: str
    secret_file: Path | None = None
    allowed_hosts: tuple[str, ...] = ()
    tls: TlsFiles | None = None
    access: Callable[[], Access] = Access
    own_name: str | None = None


def application(
    settings: EndpointSettings,
    metrics: Collector,
    read_status: Callable[[], CalloutStatus],
    profiler: Profiler,
    is_ready: Callable[[], bool],
) -> Starlette:
    """Create the ASGI application. `is_ready`: whether a worker serves."""
    secret_file = settings.secret_file

    async def status(_: Request) -> Response:
        return JSONResponse(asdict(read_status()))

    async def profile(request: Request) -> Response:
        if not _authorized(request, secret_file):
            challenge = {"www-authenticate": 'Bearer realm="sluice"'}
            return PlainTextResponse("not authorized\n", 401, challenge)
        query = request.query_params
        try:
            worker, seconds = _number(query.get("worker", "0")), _number(query.get("seconds", "10"))
            recorded = await profiler.record(worker, seconds, query.get("format", "svg"))
        except ProfileError as error:
            return PlainTextResponse(f"{error}\n", error.status)
        return Response(recorded.content, media_type=recorded.media_type)

    hosts = HostGuard(settings.address, settings.allowed_hosts, ALLOWED_HOSTS_KEY)
    guard = AccessGuard(
        settings.access,
        Path(),
        hosts,
        trusted=is_local(split_host_port(settings.address)[0]),
        own_name=settings.own_name,
    )
    routes = [
        *probe_routes(is_ready),
        Route("/metrics", guard.authorize(metrics_endpoint(metrics), Role.READER)),
        Route("/v1/status", guard.protect(status, Role.READER)),
    ]
    if secret_file is not None:
        routes.append(Route("/debug/profile", hosts.protect(profile)))
    return Starlette(routes=routes)


def _authorized(request: Request, secret_file: Path | None) -> bool:
    """Return whether the request has the secret. The file may change, so it is read each time."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    try:
        secret = b"" if secret_file is None else read_file(secret_file, MAX_PROFILE_SECRET).strip()
    except OSError:
        return False
    if len(secret) < MIN_PROFILE_SECRET or scheme.lower() != "bearer":
        return False
    # Digests have a fixed length, so the comparison time does not reveal the secret's length.
    return hmac.compare_digest(
        hashlib.sha256(given.strip().encode()).digest(), hashlib.sha256(secret).digest()
    )


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 4:
        raise ProfileError(400, "worker and seconds must be whole numbers of at most 4 digits")
    return int(text)
