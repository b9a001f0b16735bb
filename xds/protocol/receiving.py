"""Receives the requests of a stream without keeping them."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import grpc
import grpc.aio


class Reader(Protocol):
    """The part of grpc.aio.ServicerContext that reads."""

    async def read(self) -> object:
        """The next request; EOF after the last one."""


async def received(context: Reader) -> AsyncIterator[object]:
    """The requests of a stream.

    The iterator of grpcio keeps each request until the next one comes. A client may send a large
    request and then wait, on each of its streams.
    """
    while (request := await context.read()) is not grpc.aio.EOF:
        # A suspended generator keeps its variables.
        yielded = [request]
        del request
        yield yielded.pop()


class Receiving(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpcio has no type hints
    """Gives every handler of streams the requests as `received` has them."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """Wrap the handler of a call."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.stream_stream is None:
            return handler
        inner: Callable[..., Any] = handler.stream_stream  # Any: a coroutine or a generator

        async def call(_: object, context: Reader) -> object:
            return await inner(received(context), context)

        async def generate(_: object, context: Reader) -> AsyncIterator[object]:
            async for response in inner(received(context), context):
                yield response

        behavior = generate if inspect.isasyncgenfunction(inner) else call
        return grpc.stream_stream_rpc_method_handler(
            behavior, handler.request_deserializer, handler.response_serializer
        )
