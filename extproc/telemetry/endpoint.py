"""The supervisor's HTTP: metrics and status of all workers, profiles for who knows the secret.

What is not for scrapers is for no page that a browser shows: a request must name this server as its
host.
"""

import hashlib
import hmac
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from extproc.telemetry.profile import ProfileError, Profiler
from extproc.telemetry.status import CalloutStatus
from sluice.config.values import split_host_port
from sluice.http.hosts import for_hosts

MIN_SECRET = 16
"""Bytes: what is shorter could be guessed."""

MAX_REQUESTS = 20
"""Requests answered at a time."""

NAMES = "telemetry.metrics.allowed_hosts (--metrics-allowed-host)"


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """Where to listen, and by what names (lower case) beside that in the address, it is asked.

    Without a secret's file there are no profiles.
    """

    address: str
    secret_file: Path | None = None
    allowed_hosts: tuple[str, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """All names by which it is asked."""
        return frozenset((split_host_port(self.address)[0].lower(), *self.allowed_hosts))


def application(
    metrics: Collector,
    read_status: Callable[[], CalloutStatus],
    profiler: Profiler,
    secret_file: Path | None,
    names: Collection[str] = (),
) -> Starlette:
    """The ASGI application; `names` (lower case) are its host's."""
    registry = CollectorRegistry()
    registry.register(metrics)

    async def exposition(request: Request) -> Response:
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": media_type})

    async def status(_: Request) -> Response:
        return JSONResponse(asdict(read_status()))

    async def profile(request: Request) -> Response:
        if not _authorized(request, secret_file):
            challenge = {"www-authenticate": 'Bearer realm="sluice"'}
            return PlainTextResponse("not authorized\n", 401, challenge)
        query = request.query_params
        try:
            worker, seconds = _number(query.get("worker", "0")), _number(query.get("seconds", "10"))
            found = await profiler.record(worker, seconds, query.get("format", "svg"))
        except ProfileError as error:
            return PlainTextResponse(f"{error}\n", error.status)
        return Response(found.content, media_type=found.media_type)

    routes = [
        Route("/metrics", exposition),
        Route("/v1/status", for_hosts(names, status, NAMES)),
    ]
    if secret_file is not None:
        routes.append(Route("/debug/profile", for_hosts(names, profile, NAMES)))
    return Starlette(routes=routes)


def _authorized(request: Request, secret_file: Path | None) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    try:
        secret = secret_file.read_bytes().strip() if secret_file is not None else b""
    except OSError:
        return False
    if len(secret) < MIN_SECRET or scheme.lower() != "bearer":
        return False
    # Digests are of one length, so that comparing them says nothing of the secret's.
    return hmac.compare_digest(
        hashlib.sha256(given.strip().encode()).digest(), hashlib.sha256(secret).digest()
    )


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 4:
        raise ProfileError(400, "worker and seconds are whole numbers")
    return int(text)
