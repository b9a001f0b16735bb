"""The REST side of an endpoint: the V2 paths and `/control`; `echo` adds its own."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from .echo import echo_routes
from .endpoint import MAX_BODY, PLATFORM, SERVER_NAME, SERVER_VERSION, Endpoint
from .faults import InjectedFaultError
from .json_codec import parse_request, render_response
from .tensors import InvalidInputError, NotFoundError, TensorSpec

Handler = Callable[[Request, Exception], Awaitable[Response]]


class RestEndpoint:
    """The handlers of one endpoint; errors are `{"error": text}` with the status they deserve."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def app(self) -> Starlette:
        """The ASGI application."""
        routes: list[BaseRoute] = [
            Route("/v2", self.server_metadata),
            Route("/v2/health/live", self.healthy),
            Route("/v2/health/ready", self.healthy),
            Route("/control", self.control, methods=["GET", "POST"]),
        ]
        for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            routes.append(Route(path, self.metadata))
            routes.append(Route(f"{path}/ready", self.ready))
        if self.endpoint.model is None:
            routes += echo_routes(self.endpoint)
        else:
            for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
                routes.append(Route(f"{path}/infer", self.infer, methods=["POST"]))
        return Starlette(
            routes=routes,
            exception_handlers={
                InvalidInputError: _refuse(400),
                NotFoundError: _refuse(404),
                InjectedFaultError: _refuse(503),
                HTTPException: _http_error,
            },
        )

    async def server_metadata(self, _: Request) -> Response:
        """GET /v2."""
        return JSONResponse({"name": SERVER_NAME, "version": SERVER_VERSION, "extensions": []})

    async def healthy(self, _: Request) -> Response:
        """GET /v2/health/live and /v2/health/ready: it listens only once its model is loaded."""
        return Response()

    async def metadata(self, request: Request) -> Response:
        """GET of a model."""
        self._check(request)
        model = self.endpoint.model
        return JSONResponse(
            {
                "name": self.endpoint.name,
                "versions": [self.endpoint.version],
                "platform": PLATFORM,
                "inputs": _described(model.inputs if model else ()),
                "outputs": _described(model.outputs if model else ()),
            }
        )

    async def ready(self, request: Request) -> Response:
        """GET .../ready of a model."""
        self._check(request)
        return JSONResponse({"name": self.endpoint.name, "ready": True})

    async def infer(self, request: Request) -> Response:
        """POST .../infer with JSON tensors."""
        self._check(request)
        if "inference-header-content-length" in request.headers:
            raise InvalidInputError("the binary tensor extension is not spoken here, send JSON")
        model = self.endpoint.model
        assert model is not None
        asked = parse_request(await bounded_body(request))
        outputs = await self.endpoint.infer(model, asked.inputs, asked.outputs, request.headers)
        body = render_response(self.endpoint.name, self.endpoint.version, asked.id, outputs)
        return Response(body, media_type="application/json")

    async def control(self, request: Request) -> Response:
        """GET or POST /control: the faults of this endpoint, `{"fail_rate": …, "delay_ms": …}`."""
        faults = self.endpoint.faults
        if request.method == "POST":
            faults.set_json(await bounded_body(request))
        return JSONResponse({"fail_rate": faults.fail_rate, "delay_ms": faults.delay_ms})

    def _check(self, request: Request) -> None:
        self.endpoint.check(request.path_params["model"], request.path_params.get("version", ""))


async def bounded_body(request: Request) -> bytes:
    """The whole body; HTTP 413 as soon as it exceeds MAX_BODY."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"the body exceeds {MAX_BODY} bytes")
    return bytes(body)


def _described(specs: Sequence[TensorSpec]) -> list[Mapping[str, object]]:
    return [
        {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs
    ]


def _refuse(status: int) -> Handler:
    async def handle(_: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, status)

    return handle


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
