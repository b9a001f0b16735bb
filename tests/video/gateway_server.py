"""A gRPC server in place of the gateway: answers by a function of the test."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc

from protos import inference_pb2 as v2

Answer = Callable[
    [v2.ModelInferRequest, grpc.aio.ServicerContext], Awaitable[v2.ModelInferResponse]
]


def echo(request: v2.ModelInferRequest) -> v2.ModelInferResponse:
    """An output `found` with the BYTES elements of the request, one row for each frame."""
    frames = request.inputs[0].shape[0]
    response = v2.ModelInferResponse(model_name=request.model_name, model_version="1")
    response.outputs.add(name="found", datatype="BYTES", shape=[frames, 1])
    response.raw_output_contents.append(request.raw_input_contents[0])
    return response


@dataclass(slots=True)
class GatewayServer:
    """The requests that came, and how they are answered."""

    address: str
    answer: Answer | None = None
    requests: list[v2.ModelInferRequest] = field(default_factory=list)
    metadata: list[dict[str, str | bytes]] = field(default_factory=list)
    running: int = 0
    most_running: int = 0

    async def infer(
        self, request: v2.ModelInferRequest, context: grpc.aio.ServicerContext
    ) -> v2.ModelInferResponse:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata() or ()))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if self.answer is None:
                return echo(request)
            return await self.answer(request, context)
        finally:
            self.running -= 1


@asynccontextmanager
async def gateway_server(
    answer: Answer | None = None,
    address: str = "127.0.0.1:0",
    credentials: grpc.ServerCredentials | None = None,
) -> AsyncIterator[GatewayServer]:
    """Run the server, on a free port by default."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 << 20)])
    if credentials is None:
        port = server.add_insecure_port(address)
    else:
        port = server.add_secure_port(address, credentials)
    found = GatewayServer(f"127.0.0.1:{port}", answer)
    handler = grpc.unary_unary_rpc_method_handler(
        found.infer,
        request_deserializer=v2.ModelInferRequest.FromString,
        response_serializer=v2.ModelInferResponse.SerializeToString,
    )
    service = grpc.method_handlers_generic_handler(
        "inference.GRPCInferenceService", {"ModelInfer": handler}
    )
    server.add_generic_rpc_handlers((service,))
    await server.start()
    try:
        yield found
    finally:
        await server.stop(0)


def after(delay: float) -> Answer:
    """Echo after a delay."""

    async def answer(
        request: v2.ModelInferRequest, _context: grpc.aio.ServicerContext
    ) -> v2.ModelInferResponse:
        await asyncio.sleep(delay)
        return echo(request)

    return answer


def refusing(
    code: grpc.StatusCode, details: str, *trailers: tuple[str, str], times: int | None = None
) -> Answer:
    """Refuse requests, or only the first `times`."""
    refused = 0

    async def answer(
        request: v2.ModelInferRequest, context: grpc.aio.ServicerContext
    ) -> v2.ModelInferResponse:
        nonlocal refused
        if times is not None and refused >= times:
            return echo(request)
        refused += 1
        await context.abort(code, details, trailers)
        raise AssertionError("abort raises an exception")

    return answer


class HeldAnswers:
    """Holds each request until the test releases it, by the text of its first frame."""

    def __init__(self) -> None:
        self._arrived = dict[bytes, asyncio.Event]()
        self._released = dict[bytes, asyncio.Event]()

    async def __call__(
        self, request: v2.ModelInferRequest, _context: grpc.aio.ServicerContext
    ) -> v2.ModelInferResponse:
        raw = request.raw_input_contents[0]
        text = raw[4 : 4 + int.from_bytes(raw[:4], "little")]
        self._event(self._arrived, text).set()
        await self._event(self._released, text).wait()
        return echo(request)

    async def arrived(self, *numbers: int) -> None:
        """Return when the requests of these frames are there."""
        for number in numbers:
            await self._event(self._arrived, b"%d" % number).wait()

    def release(self, *numbers: int) -> None:
        """Answer the requests of these frames."""
        for number in numbers:
            self._event(self._released, b"%d" % number).set()

    def _event(self, events: dict[bytes, asyncio.Event], text: bytes) -> asyncio.Event:
        return events.setdefault(text, asyncio.Event())
