"""A source in memory, whose frames the test delivers."""

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

from sluice.contract.video import VideoReason
from video.frame import EncodedImage, Frame
from video.source import SourceCounts, SourceError


def jpeg_frame(number: int) -> Frame:
    """A frame whose "JPEG" is its number."""
    return Frame(number, number / 30, time.time(), time.monotonic(), EncodedImage(b"%d" % number))


class MemorySource:
    """Delivers what the test puts into it. `end` may be an error."""

    def __init__(self, frames: Iterable[Frame] = ()) -> None:
        self.counts = SourceCounts()
        self.threads: list[threading.Thread] = []
        self.closed = threading.Event()
        self._items = queue.SimpleQueue[Frame | Exception | None]()
        for frame in frames:
            self._items.put(frame)

    def deliver(self, *numbers: int) -> None:
        """Deliver frames, as if they had just arrived."""
        for number in numbers:
            self._items.put(jpeg_frame(number))

    def deliver_image(self, jpeg: bytes) -> None:
        """Deliver a frame with this picture."""
        self._items.put(replace(jpeg_frame(0), image=EncodedImage(jpeg)))

    def end(self, error: Exception | None = None) -> None:
        """End the video."""
        self._items.put(error)

    def frames(self) -> Iterator[Frame]:
        self.threads.append(threading.current_thread())
        while (item := self._items.get()) is not None and not self.closed.is_set():
            if isinstance(item, Exception):
                raise item
            self.counts.received += 1
            yield item

    def close(self) -> None:
        self.closed.set()
        self._items.put(None)


def of_numbers(count: int) -> MemorySource:
    """A source of a video with so many frames."""
    source = MemorySource(jpeg_frame(number) for number in range(count))
    source.end()
    return source


def failing(reason: VideoReason, detail: str) -> MemorySource:
    """A source that delivers nothing."""
    source = MemorySource()
    source.end(SourceError(reason, detail))
    return source
