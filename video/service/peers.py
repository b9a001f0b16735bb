"""What a worker answers to the other workers of this service: the events of its streams."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import grpc
import grpc.aio

from protos.video_pb2 import Watched, WorkerWatch
from video.service.buffers import WatchBuffer
from video.service.refusal import RefusedError
from video.service.watchers import WORKER_METHOD, WORKER_SERVICE, Watchers

log = logging.getLogger(__name__)


class Context(Protocol):
    """The part of grpc.aio.ServicerContext that is used; grpcio has no type hints."""

    async def write(self, message: Watched) -> None: ...


@asynccontextmanager
async def serving_peers(watchers: Watchers, socket: Path) -> AsyncIterator[None]:
    """Answer other workers at a Unix socket while the block runs."""

    async def watch(request: WorkerWatch, context: Context) -> None:
        try:
            if request.frames:
                await _send_frames(watchers, request.stream, context)
            else:
                await _send_events(watchers, request.stream, context)
        except RefusedError as error:
            # The other worker asks again: it may have the next config before this one.
            log.debug("another worker: %s", error)

    handler = grpc.unary_stream_rpc_method_handler(
        watch,
        request_deserializer=WorkerWatch.FromString,
        response_serializer=Watched.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(WORKER_SERVICE, {WORKER_METHOD: handler}),)
    )
    # The socket of a process that was killed is still there.
    socket.unlink(missing_ok=True)  # noqa: ASYNC240  # in memory
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(0)


async def _send_events(watchers: Watchers, stream: str, context: Context) -> None:
    buffer = WatchBuffer()
    async with watchers.watch_local(stream, buffer):
        while events := await buffer.next_events():
            await context.write(Watched(events=events))


async def _send_frames(watchers: Watchers, stream: str, context: Context) -> None:
    frames = watchers.annotated_frames_here(stream)
    async with watchers.watch_local(stream, frames):
        while image := await frames.next_image():
            await context.write(Watched(images=[image]))
