"""The `echo` model: returns the request that arrived, to test the proxies in front of the server.

It streams bodies and stores none.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from .faults import DELAY_HEADER, FAIL_RATE_HEADER
from .served_model import ServedModel
from .tensors import InvalidInputError

MAX_EVENTS = 10_000
MAX_INTERVAL_MS = 10_000
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def echo_routes(model: ServedModel) -> list[BaseRoute]:
    """Routes for the paths below /v2/models/echo that the V2 protocol does not define."""
    echo = _Echo(model)
    routes: list[BaseRoute] = []
    for root in ("/v2/models/echo/versions/{version}", "/v2/models/echo"):
        routes += [
            WebSocketRoute(f"{root}/ws", echo.echo_frames),
            Route(f"{root}/generate_stream", echo.send_events, methods=["GET", "POST"]),
            Route(f"{root}/{{rest:path}}", echo.echo_request, methods=_METHODS),
        ]
    return routes


class _EchoedBody(Response):
    """A response that streams the request body back.

    StreamingResponse cannot do this: to notice a disconnect it receives messages while it sends, so
    it would consume chunks of the request body.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            more = message.get("more_body", False)
            chunk = message.get("body", b"")
            await send({"type": "http.response.body", "body": chunk, "more_body": more})


class _Echo:
    def __init__(self, model: ServedModel) -> None:
        self._model = model

    async def echo_request(self, request: Request) -> Response:
        await self._check(request)
        if request.query_params.get("echo") == "body":
            return _EchoedBody(media_type="application/octet-stream")
        length = 0
        async for chunk in request.stream():
            length += len(chunk)
        return JSONResponse(
            {
                "version": self._model.version,
                "method": request.method,
                "path": request.url.path,
                "query": request.url.query,
                # An object could not hold a header that occurs more than once.
                "headers": [[name, value] for name, value in request.headers.items()],
                "body_length": length,
            }
        )

    async def send_events(self, request: Request) -> Response:
        await self._check(request)
        count = _bounded(request, "events", 5, MAX_EVENTS)
        interval = _bounded(request, "interval_ms", 0, MAX_INTERVAL_MS)
        events = _events(self._model.version, count, interval / 1000)
        return StreamingResponse(events, media_type="text/event-stream")

    async def echo_frames(self, socket: WebSocket) -> None:
        if socket.path_params.get("version", self._model.version) != self._model.version:
            await socket.close()
            return
        await socket.accept(subprotocol=next(iter(socket.scope["subprotocols"]), None))
        with contextlib.suppress(WebSocketDisconnect):
            while (frame := await socket.receive())["type"] != "websocket.disconnect":
                if frame.get("text") is not None:
                    await socket.send_text(frame["text"])
                else:
                    await socket.send_bytes(frame["bytes"])

    async def _check(self, request: Request) -> None:
        self._model.check_name("echo", request.path_params.get("version", ""))
        await self._model.inject_faults(_fault_headers(request))


async def _events(version: str, count: int, interval: float) -> AsyncIterator[bytes]:
    for index in range(count):
        if index and interval:
            await asyncio.sleep(interval)
        yield f"data: {json.dumps({'index': index, 'model_version': version})}\n\n".encode()


def _fault_headers(request: Request) -> dict[str, str]:
    """The request headers, with `fail_rate` and `delay_ms` of the query as fault headers."""
    headers = dict(request.headers)
    for parameter, header in (("fail_rate", FAIL_RATE_HEADER), ("delay_ms", DELAY_HEADER)):
        if parameter in request.query_params:
            headers[header] = request.query_params[parameter]
    return headers


def _bounded(request: Request, name: str, default: int, maximum: int) -> int:
    text = request.query_params.get(name, str(default))
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(maximum))
    if not digits or int(text) > maximum:
        raise InvalidInputError(f"{name} must be an integer from 0 to {maximum}")
    return int(text)
