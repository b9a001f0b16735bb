"""The `echo` upstream: it tells what reached it, for tests of whatever stands in front.

Bodies are read, and with `?echo=body` sent back, chunk by chunk as they arrive; none is kept.
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

from .endpoint import Endpoint
from .tensors import InvalidInputError

MAX_EVENTS = 10_000
MAX_INTERVAL_MS = 10_000
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def echo_routes(endpoint: Endpoint) -> list[BaseRoute]:
    """Everything below /v2/models/echo that the V2 routes do not take first."""
    echo = _Echo(endpoint)
    routes: list[BaseRoute] = []
    for root in ("/v2/models/echo/versions/{version}", "/v2/models/echo"):
        routes += [
            WebSocketRoute(f"{root}/ws", echo.frames),
            Route(f"{root}/generate_stream", echo.generate, methods=["GET", "POST"]),
            Route(f"{root}/{{rest:path}}", echo.describe, methods=_METHODS),
        ]
    return routes


class _BodyBack(Response):
    """The request's body as the response's.

    StreamingResponse cannot do this: while it sends, it receives as well, to notice a disconnect,
    and so takes the chunks that the body is made of.
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
    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def describe(self, request: Request) -> Response:
        await self._admit(request)
        if request.query_params.get("echo") == "body":
            return _BodyBack(media_type="application/octet-stream")
        length = 0
        async for chunk in request.stream():
            length += len(chunk)
        return JSONResponse(
            {
                "version": self._endpoint.version,
                "method": request.method,
                "path": request.url.path,
                "query": request.url.query,
                # Pairs and not an object: a header may come more than once.
                "headers": [[name, value] for name, value in request.headers.items()],
                "body_length": length,
            }
        )

    async def generate(self, request: Request) -> Response:
        await self._admit(request)
        count = _bounded(request, "events", 5, MAX_EVENTS)
        interval = _bounded(request, "interval_ms", 0, MAX_INTERVAL_MS)
        events = _events(self._endpoint.version, count, interval / 1000)
        return StreamingResponse(events, media_type="text/event-stream")

    async def frames(self, socket: WebSocket) -> None:
        if socket.path_params.get("version", self._endpoint.version) != self._endpoint.version:
            await socket.close()
            return
        await socket.accept(subprotocol=next(iter(socket.scope["subprotocols"]), None))
        with contextlib.suppress(WebSocketDisconnect):
            while (frame := await socket.receive())["type"] != "websocket.disconnect":
                if frame.get("text") is not None:
                    await socket.send_text(frame["text"])
                else:
                    await socket.send_bytes(frame["bytes"])

    async def _admit(self, request: Request) -> None:
        self._endpoint.check("echo", request.path_params.get("version", ""))
        await self._endpoint.faults.strike(_asked(request))


async def _events(version: str, count: int, interval: float) -> AsyncIterator[bytes]:
    for index in range(count):
        if index and interval:
            await asyncio.sleep(interval)
        yield f"data: {json.dumps({'index': index, 'model_version': version})}\n\n".encode()


def _asked(request: Request) -> dict[str, str]:
    """The headers, and the query's `fail_rate` and `delay_ms` under the headers' names."""
    asked = dict(request.headers)
    for name in ("fail_rate", "delay_ms"):
        if name in request.query_params:
            asked[f"x-echo-{name.replace('_', '-')}"] = request.query_params[name]
    return asked


def _bounded(request: Request, name: str, default: int, most: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (
        text.isascii() and text.isdigit() and len(text) <= len(str(most)) and int(text) <= most
    ):
        raise InvalidInputError(f"{name} must be a whole number from 0 to {most}")
    return int(text)
