"""Probes of liveness and readiness, for orchestrators. They need no credentials."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

LIVENESS, READINESS = "/healthz", "/readyz"


def probe_routes(is_ready: Callable[[], bool]) -> list[Route]:
    """The routes of a server that is live when it answers. `is_ready`: whether it can be used."""

    async def live(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(_: Request) -> Response:
        return PlainTextResponse("ready\n") if is_ready() else PlainTextResponse("not ready\n", 503)

    return [Route(LIVENESS, live), Route(READINESS, ready)]
