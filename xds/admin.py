"""The control plane's HTTP: probes, the status, and the config in force. Read only."""

from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sluice.config.values import split_host_port
from xds.status import State, redacted


def application(state: State) -> Starlette:
    """The ASGI application."""

    async def alive(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(_: Request) -> Response:
        # It is built only after a first valid config: whoever asks can be served.
        return PlainTextResponse("ready\n")

    async def status(_: Request) -> Response:
        return Response(state.status().model_dump_json(), media_type="application/json")

    async def config(_: Request) -> Response:
        return JSONResponse(redacted(state.config))

    return Starlette(
        routes=[
            Route("/healthz", alive),
            Route("/readyz", ready),
            Route("/v1/status", status),
            Route("/v1/config", config),
        ]
    )


class AdminServer(uvicorn.Server):
    """uvicorn on the loop that is already running, which keeps its own signal handlers."""

    def __init__(self, app: Starlette, address: str) -> None:
        host, port = split_host_port(address)
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=int(port),
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=1,
                limit_concurrency=100,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the control plane's business."""
        yield
