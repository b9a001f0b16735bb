"""Annotated frames for one watcher: the newest one, drawn when the watcher can take it."""

import asyncio
import logging
from concurrent.futures import Executor

from protos.video_pb2 import AnalysisResult, Watched
from video.annotation.annotator import Annotator
from video.conversion import FrameError
from video.frame import Frame
from video.results.encoding import BOUNDARY

log = logging.getLogger(__name__)


class MjpegOutput:
    """Keeps the newest frame of a stream, and never holds up the stream.

    A picture is drawn on a thread of `executor`, and only while `next_image` waits for it. So a
    slow watcher gets fewer pictures, and one that has left takes no time.
    """

    wants_frames = True

    def __init__(self, annotator: Annotator, executor: Executor) -> None:
        self._annotator, self._executor = annotator, executor
        self._newest: tuple[AnalysisResult, Frame] | bytes | None = None
        self._changed = asyncio.Event()
        self._closed = False

    def ready(self) -> bool:
        """Always."""
        return True

    async def wait_ready(self) -> None:
        """Return at once."""

    def put(self, event: AnalysisResult, frame: Frame | None) -> None:
        """Keep an event with its frame in place of the last one."""
        if frame is not None:
            self._newest = (event, frame)
            self._changed.set()

    def take(self, watched: Watched) -> None:
        """Keep the newest picture that another worker has drawn."""
        if watched.images:
            self._newest = watched.images[-1]
            self._changed.set()

    def close(self) -> None:
        """End `next_image`."""
        self._closed = True
        self._changed.set()

    async def next_image(self) -> bytes:
        """The newest picture as JPEG, each only once. Empty after `close`."""
        while not self._closed:
            newest, self._newest = self._newest, None
            if isinstance(newest, bytes):
                return newest
            if newest is not None and (image := await self._drawn(*newest)):
                return image
            if self._newest is None:
                self._changed.clear()
                await self._changed.wait()
        return b""

    async def _drawn(self, event: AnalysisResult, frame: Frame) -> bytes:
        """The picture; empty if the frame is broken."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, self._annotator.jpeg, event, frame)
        except FrameError as error:
            log.debug("a frame is not drawn: %s", error)
            return b""


def mjpeg_part(jpeg: bytes) -> bytes:
    """A picture as a part of a body `multipart/x-mixed-replace`.

    Browsers show a picture when its end boundary has come, so each part ends with it.
    """
    head = b"content-type: image/jpeg\r\ncontent-length: %d\r\n\r\n" % len(jpeg)
    return b"%b%b\r\n--%b\r\n" % (head, jpeg, BOUNDARY.encode())


MJPEG_START = b"--%b\r\n" % BOUNDARY.encode()
"""The begin of the body, before the first part."""
