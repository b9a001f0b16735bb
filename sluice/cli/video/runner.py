"""Runs the stream of `sluice video`: a file once, or a camera until it is stopped."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from sluice.contract.video import VideoReason
from video.inference.caller_headers import Metadata
from video.source import FrameSource
from video.streams.pulled import PulledStream
from video.streams.status import StreamState
from video.streams.stream import Stream

LOOK: Final = 0.2
"""Seconds between two looks at the state of a camera."""

FINAL: Final = frozenset({
    VideoReason.WRONG_CREDENTIALS, VideoReason.CREDENTIALS_EXPIRED, VideoReason.FORBIDDEN,
    VideoReason.UNKNOWN_MODEL,
})  # fmt: skip
"""Why a camera that has delivered frames is not connected again."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a stream has ended early. An empty reason: at the end of the video, or by `stop`."""

    reason: str = ""
    detail: str = ""


class Runner(Protocol):
    """A stream that runs."""

    async def run(self) -> Ending:
        """Return at the end of the stream, or soon after `stop`."""

    def stop(self, grace: float) -> None:
        """End the stream. Requests in flight have `grace` seconds."""


class FileRunner:
    """Analyses a file once."""

    def __init__(self, stream: Stream, source: FrameSource, caller: Metadata) -> None:
        self._stream, self._source, self._caller = stream, source, caller
        self._stopped = False

    async def run(self) -> Ending:
        """Return at the end of the file."""
        ended = await self._stream.run(self._source, self._caller)
        end = ended.event.end
        return Ending() if self._stopped else Ending(end.reason, end.detail)

    def stop(self, grace: float) -> None:
        """End the stream."""
        self._stopped = True
        self._stream.end(VideoReason.STOPPED, "the command was ended", grace=grace)


class CameraRunner:
    """Connects to a camera again when it ends, but only if its first connection had frames."""

    def __init__(
        self, stream: Stream, open_source: Callable[[], FrameSource], caller: Metadata
    ) -> None:
        self._stream = stream
        self._pulled = PulledStream(stream, open_source, caller)

    async def run(self) -> Ending:
        """Return when the camera cannot be used, or after `stop`."""
        running = asyncio.create_task(self._pulled.run())
        try:
            while not running.done():
                await asyncio.wait((running,), timeout=LOOK)
                ending = self._hopeless()
                if ending is not None:
                    self._pulled.stop(0.0)
                    await running
                    return ending
            await running
        finally:
            running.cancel()
        return Ending()

    def stop(self, grace: float) -> None:
        """End the stream."""
        self._pulled.stop(grace)

    def _hopeless(self) -> Ending | None:
        """Why it makes no sense to connect again; None if it does."""
        status = self._stream.status()
        reason, _, detail = status.error.partition(": ")
        if status.state is not StreamState.WAITING:
            return None
        if reason in FINAL or not status.counts.received:
            return Ending(reason, detail)
        return None
