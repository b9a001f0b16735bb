"""The gRPC service VideoAnalysis: the same as over HTTP, for clients that speak gRPC."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable
from typing import Final, NoReturn, Protocol

import grpc
import grpc.aio

from protos.video_pb2 import AnalysisResult, AnalyzeRequest, WatchRequest
from sluice.contract.grpc import StatusCode, grpc_status
from sluice.contract.headers import MODEL
from sluice.contract.paths import VIDEO_ANALYZE, VIDEO_SERVICE, VIDEO_WATCH
from sluice.contract.video import VideoReason
from sluice.grpc_credentials import grpc_peer_names
from video.inference.caller_headers import forwarded_headers
from video.service.buffers import UploadBuffer, WatchBuffer
from video.service.options import OptionError, read_options
from video.service.refusal import RefusedError, check_first
from video.service.uploads import Upload, UploadRequest, Uploads
from video.service.watchers import Watchers

MAX_MESSAGE: Final = 4 << 20
"""Bytes of a message: a part of a video."""

_SPAN_BYTES: Final = 8


class Context(Protocol):
    """The part of grpc.aio.ServicerContext that is used; grpcio has no type hints."""

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]: ...

    def auth_context(self) -> dict[str, list[bytes]]: ...

    async def read(self) -> AnalyzeRequest: ...

    async def write(self, message: AnalysisResult) -> None: ...

    async def abort(
        self, code: grpc.StatusCode, details: str, trailing_metadata: tuple[tuple[str, str], ...]
    ) -> NoReturn: ...


class VideoAnalysis:
    """The methods. `clients`: names in the certificates of those who may call; None without TLS."""

    def __init__(
        self, uploads: Uploads, watchers: Watchers, clients: frozenset[str] | None = None
    ) -> None:
        self._uploads = uploads
        self._watchers = watchers
        self._clients = clients

    @property
    def handler(self) -> grpc.GenericRpcHandler:
        """The methods of the service, for a gRPC server."""
        analyze = grpc.stream_stream_rpc_method_handler(
            self._analyze,
            request_deserializer=AnalyzeRequest.FromString,
            response_serializer=AnalysisResult.SerializeToString,
        )
        watch = grpc.unary_stream_rpc_method_handler(
            self._watch,
            request_deserializer=WatchRequest.FromString,
            response_serializer=AnalysisResult.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(
            VIDEO_SERVICE, {VIDEO_ANALYZE: analyze, VIDEO_WATCH: watch}
        )

    async def _analyze(self, requests: AsyncIterator[AnalyzeRequest], context: Context) -> None:
        await self._refusing(context, self._upload(requests, context))

    async def _watch(self, request: WatchRequest, context: Context) -> None:
        await self._refusing(context, self._send_watched(request.stream, context))

    async def _refusing(self, context: Context, answer: Awaitable[None]) -> None:
        """Answer a call, or end it with a status and the reason."""
        try:
            await answer
        except RefusedError as error:
            self._uploads.refused[error.reason] += 1
            text = f"{error.field}: {error.detail}" if error.field else error.detail
            trailers = (("x-sluice-reason", str(error.reason)),)
            await context.abort(_CODES[grpc_status(error.status)], text, trailers)

    async def _upload(self, requests: AsyncIterator[AnalyzeRequest], context: Context) -> None:
        model = self._model(context)
        first = await self._first(model, requests)
        try:
            options = read_options(first.options.items())
        except OptionError as error:
            raise RefusedError(400, VideoReason.INVALID_OPTION, str(error), error.name) from None
        request = UploadRequest(
            model=model,
            version=None,
            caller=forwarded_headers(_headers(context), secrets.token_hex(_SPAN_BYTES)),
            content_type=first.content_type,
            options=options,
        )
        async with self._uploads.accept(request) as upload:
            await _analyze_upload(upload, first, requests, context)

    async def _first(self, model: str, requests: AsyncIterator[AnalyzeRequest]) -> AnalyzeRequest:
        """The first message. gRPC keeps the parts of it that have come, so it needs a place."""
        with self._uploads.awaiting(model) as seconds:
            try:
                async with asyncio.timeout(seconds):
                    return await anext(requests, AnalyzeRequest())
            except TimeoutError:
                detail = f"no message arrived for {seconds:g} s"
                raise RefusedError(408, VideoReason.IDLE, detail) from None

    async def _send_watched(self, stream: str, context: Context) -> None:
        model = self._model(context)
        buffer = WatchBuffer()
        async with self._watchers.watch(model, stream, buffer):
            while events := await buffer.next_events():
                for event in events:
                    await context.write(event)

    def _model(self, context: Context) -> str:
        """The model that the gateway has named. Raises RefusedError."""
        model = dict(_headers(context)).get(MODEL)
        if model is None or (
            self._clients is not None and not grpc_peer_names(context) & self._clients
        ):
            detail = "calls come through the gateway: send them to its listener"
            raise RefusedError(403, VideoReason.NOT_THROUGH_GATEWAY, detail)
        return model


async def _analyze_upload(
    upload: Upload,
    first: AnalyzeRequest,
    requests: AsyncIterator[AnalyzeRequest],
    context: Context,
) -> None:
    """Send the events while the video still comes. Raises RefusedError before the first one."""
    buffer = UploadBuffer()
    body = asyncio.create_task(_receive(first, requests, upload))
    running = asyncio.create_task(upload.run([buffer]))
    try:
        events = await buffer.next_events()
        if events:
            check_first(events[0])
        while events:
            for event in events:
                await context.write(event)
            events = await buffer.next_events()
    finally:
        # grpc.aio cancels the call when the client leaves.
        body.cancel()
        upload.client_left()
        await running


async def _receive(
    first: AnalyzeRequest, requests: AsyncIterator[AnalyzeRequest], upload: Upload
) -> None:
    """Pass the parts of the video to the upload."""
    reads = await upload.bytes.put(first.data)
    async for request in requests:
        if reads:
            reads = await upload.bytes.put(request.data)
    upload.bytes.end()


def _headers(context: Context) -> list[tuple[str, str]]:
    """The metadata of a call, without binary values."""
    return [(key, value) for key, value in context.invocation_metadata() if isinstance(value, str)]


_CODES: Final = {StatusCode(code.value[0]): code for code in grpc.StatusCode}
