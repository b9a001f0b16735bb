"""Writes events or annotated frames to the client of an HTTP request."""

import asyncio
from collections.abc import Iterable
from typing import Final, Protocol

from starlette.types import Send

from protos.video_pb2 import AnalysisResult
from video.annotation import MJPEG_START, mjpeg_part
from video.results.encoding import Encoding, encode, heartbeat

HEARTBEAT_INTERVAL: Final = 15.0
"""Seconds without an event after which a heartbeat is sent."""


class Events(Protocol):
    """A buffer with events."""

    async def next_events(self) -> list[AnalysisResult]:
        """The next events; none at the end."""


class Images(Protocol):
    """The newest annotated frame."""

    async def next_image(self) -> bytes:
        """The newest frame as JPEG; empty at the end."""


class EventResponse:
    """One response."""

    def __init__(self, send: Send, encoding: Encoding) -> None:
        self._send = send
        self._encoding = encoding

    async def start(self) -> None:
        """Send the head."""
        await self._send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", self._encoding.content_type.encode()),
                    (b"cache-control", b"no-store"),
                    # Proxies must not collect events (nginx).
                    (b"x-accel-buffering", b"no"),
                ],
            }
        )

    async def send(self, events: Iterable[AnalysisResult]) -> None:
        """Send events. Waits while the client does not read."""
        await self.send_bytes(b"".join(encode(self._encoding, event) for event in events))

    async def send_bytes(self, content: bytes) -> None:
        """Send a part of the body."""
        await self._send({"type": "http.response.body", "body": content, "more_body": True})

    async def send_all(self, buffer: Events) -> None:
        """Send what the buffer gets, until its end."""
        while events := await self._next(buffer):
            await self.send(events)

    async def send_images(self, frames: Images) -> None:
        """Send annotated frames, until their end. A client that reads slowly gets fewer."""
        await self.send_bytes(MJPEG_START)
        while image := await frames.next_image():
            await self.send_bytes(mjpeg_part(image))

    async def end(self) -> None:
        """Send the end."""
        await self._send({"type": "http.response.body", "body": b""})

    async def _next(self, buffer: Events) -> list[AnalysisResult]:
        """The next events. Sends heartbeats until then."""
        beat = heartbeat(self._encoding)
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_INTERVAL if beat else None):
                    return await buffer.next_events()
            except TimeoutError:
                await self.send_bytes(beat)
