"""The HTTP application: uploads of videos, and watching the streams of cameras.

All requests come from Envoy, after the decision of the gateway, which sets `x-sluice-model`.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from sluice.contract.headers import MODEL
from sluice.contract.problem import MEDIA_TYPE
from sluice.contract.video import VideoReason
from sluice.http.access import PEER_NAMES
from video.inference.caller_headers import forwarded_headers
from video.results.encoding import Encoding, NotAcceptableError, choose_encoding
from video.service.buffers import UploadBuffer, WatchBuffer
from video.service.event_response import EventResponse
from video.service.options import OPTIONS, OptionError, read_options
from video.service.refusal import RefusedError, check_first
from video.service.target import UploadTarget, WatchTarget, read_target
from video.service.uploads import Upload, UploadRequest, Uploads
from video.service.watchers import Watchers, WatchOutput

_SPAN_BYTES: Final = 8


class VideoApplication:
    """The ASGI application of a worker.

    `clients`: the names in the certificates of those who may call; None without TLS.
    """

    def __init__(
        self, uploads: Uploads, watchers: Watchers, clients: frozenset[str] | None = None
    ) -> None:
        self._uploads = uploads
        self._watchers = watchers
        self._clients = clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        try:
            await self._answer(scope, receive, send)
        except RefusedError as error:
            self._uploads.refused[error.reason] += 1
            response = JSONResponse(
                error.members, error.status, error.headers, media_type=MEDIA_TYPE
            )
            await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        model = self._model(scope, headers)
        target = read_target(scope["method"], scope["path"])
        if isinstance(target, UploadTarget):
            request = self._upload_request(scope, headers, model, target)
            encoding = _encoding(headers)
            async with self._uploads.accept(request) as upload:
                await _respond_to_upload(upload, encoding, receive, send)
        elif isinstance(target, WatchTarget):
            await self._watch(model, target.stream, _encoding(headers), receive, send)
        else:
            detail = "send POST …/video with a video, or GET …/video/STREAM"
            raise RefusedError(404, VideoReason.UNKNOWN_PATH, detail)

    def _model(self, scope: Scope, headers: Headers) -> str:
        """The model that the gateway has named. Raises RefusedError."""
        names: frozenset[str] = scope.get(PEER_NAMES, frozenset())
        model = headers.get(MODEL)
        if model is None or (self._clients is not None and not names & self._clients):
            detail = "requests come through the gateway: send them to its listener"
            raise RefusedError(403, VideoReason.NOT_THROUGH_GATEWAY, detail)
        return model

    def _upload_request(
        self, scope: Scope, headers: Headers, model: str, target: UploadTarget
    ) -> UploadRequest:
        query = scope["query_string"].decode("latin-1")
        try:
            given = parse_qsl(query, keep_blank_values=True, max_num_fields=2 * len(OPTIONS))
            options = read_options(given)
        except OptionError as error:
            raise RefusedError(400, VideoReason.INVALID_OPTION, str(error), error.name) from None
        except ValueError:
            detail = f"send only these options: {', '.join(OPTIONS)}"
            raise RefusedError(400, VideoReason.INVALID_OPTION, detail) from None
        length = headers.get("content-length", "")
        return UploadRequest(
            model=model,
            version=target.version,
            caller=forwarded_headers(headers.items(), secrets.token_hex(_SPAN_BYTES)),
            content_type=headers.get("content-type", ""),
            options=options,
            size=int(length) if length.isascii() and length.isdigit() else None,
        )

    async def _watch(
        self, model: str, stream: str, encoding: Encoding, receive: Receive, send: Send
    ) -> None:
        response = EventResponse(send, encoding)
        if encoding is Encoding.MJPEG:
            frames = self._watchers.annotated_frames(model, stream)
            async with self._watched(model, stream, frames, receive):
                await response.start()
                await response.send_images(frames)
        else:
            buffer = WatchBuffer()
            async with self._watched(model, stream, buffer, receive):
                await response.start()
                await response.send_all(buffer)
        await response.end()

    @asynccontextmanager
    async def _watched(
        self, model: str, stream: str, output: WatchOutput, receive: Receive
    ) -> AsyncIterator[None]:
        """Give the output the stream while the block runs. It ends when the client leaves."""

        async def wait() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            output.close()

        async with self._watchers.watch(model, stream, output):
            waiting = asyncio.create_task(wait())
            try:
                yield
            finally:
                waiting.cancel()


def _encoding(headers: Headers) -> Encoding:
    try:
        return choose_encoding(headers.get("accept"), tuple(Encoding))
    except NotAcceptableError as error:
        raise RefusedError(406, VideoReason.NOT_ACCEPTABLE, str(error), "accept") from None


async def _respond_to_upload(
    upload: Upload, encoding: Encoding, receive: Receive, send: Send
) -> None:
    """Send the events of an upload while its video still comes.

    Raises RefusedError if it ends before the first result.
    """
    frames = upload.annotated_frames() if encoding is Encoding.MJPEG else None
    # Who watches the frames does not read the events.
    buffer = UploadBuffer() if frames is None else WatchBuffer(max_events=1)
    body = asyncio.create_task(_receive_body(receive, upload, buffer))
    running = asyncio.create_task(upload.run([buffer] if frames is None else [buffer, frames]))
    try:
        events = await buffer.next_events()
        if not events:
            return  # the client has left
        check_first(events[0])
        response = EventResponse(send, encoding)
        await response.start()
        if frames is None:
            await response.send(events)
            await response.send_all(buffer)
        else:
            running.add_done_callback(lambda _: frames.close())
            await response.send_images(frames)
        await response.end()
    finally:
        body.cancel()
        upload.client_left()
        await running


async def _receive_body(
    receive: Receive, upload: Upload, buffer: UploadBuffer | WatchBuffer
) -> None:
    """Pass the body to the upload. Ends the upload if the client leaves."""
    complete = False
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            upload.client_left()
            buffer.close()
            return
        if not complete:
            # False if nothing reads the video any more: the rest of the body is thrown away.
            complete = not await upload.bytes.put(message.get("body", b""))
        if not message.get("more_body", False):
            upload.bytes.end()
            complete = True
