"""The REST service of a model version: the paths of the V2 protocol, and `/control` for faults."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from .echo import echo_routes
from .faults import InjectedFaultError
from .json_codec import parse_request, write_response
from .served_model import MAX_BODY, PLATFORM, SERVER_NAME, SERVER_VERSION, ServedModel
from .tensors import InvalidInputError, NotFoundError, TensorSpec

Handler = Callable[[Request, Exception], Awaitable[Response]]


class RestService:
    """The request handlers. An error response has the body `{"error": text}`."""

    def __init__(self, model: ServedModel) -> None:
        self._served = model

    def app(self) -> Starlette:
        """The ASGI application."""
        routes: list[BaseRoute] = [
            Route("/v2", self.server_metadata),
            Route("/v2/health/live", self.health),
            Route("/v2/health/ready", self.health),
        ]
        if self._served.faults is not None:
            routes.append(Route("/control", self.control, methods=["GET", "POST"]))
        for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            routes.append(Route(path, self.model_metadata))
            routes.append(Route(f"{path}/ready", self.model_ready))
        if self._served.model is None:
            routes += echo_routes(self._served)
        else:
            for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
                routes.append(Route(f"{path}/infer", self.infer, methods=["POST"]))
        return Starlette(
            routes=routes,
            exception_handlers={
                InvalidInputError: _error_handler(400),
                NotFoundError: _error_handler(404),
                InjectedFaultError: _error_handler(503),
                HTTPException: _handle_http_error,
            },
        )

    async def server_metadata(self, _: Request) -> Response:
        """GET /v2."""
        return JSONResponse({"name": SERVER_NAME, "version": SERVER_VERSION, "extensions": []})

    async def health(self, _: Request) -> Response:
        """GET /v2/health/live and /v2/health/ready. The server listens when its model is loaded."""
        return Response()

    async def model_metadata(self, request: Request) -> Response:
        """GET /v2/models/MODEL."""
        self._check(request)
        model = self._served.model
        return JSONResponse(
            {
                "name": self._served.name,
                "versions": [self._served.version],
                "platform": PLATFORM,
                "inputs": _spec_documents(model.inputs if model else ()),
                "outputs": _spec_documents(model.outputs if model else ()),
            }
        )

    async def model_ready(self, request: Request) -> Response:
        """GET /v2/models/MODEL/ready."""
        self._check(request)
        return JSONResponse({"name": self._served.name, "ready": True})

    async def infer(self, request: Request) -> Response:
        """POST /v2/models/MODEL/infer with JSON tensors."""
        self._check(request)
        if "inference-header-content-length" in request.headers:
            raise InvalidInputError("the binary tensor data extension is not supported, send JSON")
        model = self._served.model
        assert model is not None
        parsed = parse_request(await _bounded_body(request))
        outputs = await self._served.infer(model, parsed.inputs, parsed.outputs, request.headers)
        body = write_response(self._served.name, self._served.version, parsed.id, outputs)
        return Response(body, media_type="application/json")

    async def control(self, request: Request) -> Response:
        """GET or POST /control: the faults as `{"fail_rate": …, "delay_ms": …}`."""
        faults = self._served.faults
        assert faults is not None
        if request.method == "POST":
            faults.set_json(await _bounded_body(request))
        return JSONResponse({"fail_rate": faults.fail_rate, "delay_ms": faults.delay_ms})

    def _check(self, request: Request) -> None:
        model, version = request.path_params["model"], request.path_params.get("version", "")
        self._served.check_name(model, version)


async def _bounded_body(request: Request) -> bytes:
    """The whole body; refuses with 413 as soon as it exceeds MAX_BODY."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"the body is larger than {MAX_BODY} bytes")
    return bytes(body)


def _spec_documents(specs: Sequence[TensorSpec]) -> list[Mapping[str, object]]:
    return [
        {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs
    ]


def _error_handler(status: int) -> Handler:
    async def handle(_: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, status)

    return handle


async def _handle_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
