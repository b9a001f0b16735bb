"""Stores videos whose index is at the end, until they can be read: in unlinked temporary files."""

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Final, Protocol

from sluice.contract.video import VideoReason
from video.source import SourceError

MAX_SPOOL_BYTES: Final = 512 << 20
MAX_ALL_BYTES: Final = 1 << 30
"""Bytes of one video, and of all videos of this process that are stored at a time."""

_CHUNK: Final = 64 << 10


class Content(Protocol):
    """What is stored."""

    def read(self, size: int, /) -> bytes:
        """The next bytes. No bytes at the end."""


class _Space:
    """The bytes that all videos of this process take."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._used = 0

    def take(self, size: int) -> bool:
        """Take space. False if there is not enough."""
        with self._lock:
            if self._used + size > MAX_ALL_BYTES:
                return False
            self._used += size
            return True

    def give_back(self, size: int) -> None:
        with self._lock:
            self._used -= size


_space: Final = _Space()


@contextmanager
def spooled(content: Content, max_bytes: int) -> Iterator[IO[bytes]]:
    """A file with all that is left of a content. Raises SourceError."""
    maximum, stored = min(max_bytes, MAX_SPOOL_BYTES), 0
    try:
        with tempfile.TemporaryFile(buffering=0) as file:
            while part := content.read(_CHUNK):
                if stored + len(part) > maximum:
                    raise _too_large(f"is after more than {maximum} bytes")
                if not _space.take(len(part)):
                    raise _too_large("is at the end, and other videos take all space to store it")
                stored += len(part)
                _write(file, part)
            file.seek(0)
            yield file
    finally:
        _space.give_back(stored)


def _write(file: IO[bytes], part: bytes) -> None:
    left = memoryview(part)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        detail = f"is at the end, and it cannot be stored ({error.strerror})"
        raise _too_large(detail) from None


def _too_large(detail: str) -> SourceError:
    message = f"the index of the MP4 {detail}: write it first (faststart)"
    return SourceError(VideoReason.TOO_MANY_BYTES, message)
