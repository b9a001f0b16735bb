"""Appends events to a file, as NDJSON or as messages after their lengths."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from protos.video_pb2 import AnalysisResult
from video.results.encoding import encode_delimited, encode_ndjson
from video.sinks.rotated_file import RotatedFile
from video.sinks.transport import DeliveryError, StoredEvent

_BLOCK: Final = 1 << 16
_MAX_LENGTH: Final = 10
"""Bytes of a varint."""


class FileTransport:
    """Appends batches on a thread, because a disk may block for seconds.

    An event is confirmed when the system has it: it survives the end of the process, but perhaps
    not that of the machine.
    """

    max_events: Final = 1000
    max_bytes: Final = 1 << 20

    def __init__(
        self, path: Path, form: Literal["ndjson", "protobuf"], max_size: int, keep: int
    ) -> None:
        self._path = path
        self._encode = encode_ndjson if form == "ndjson" else encode_delimited
        whole_size = whole_lines if form == "ndjson" else whole_messages
        self._file = RotatedFile(path, max_size, keep, whole_size)

    def encode(self, event: AnalysisResult) -> bytes:
        """A line, or a message after its length."""
        return self._encode(event)

    async def send(self, batch: Sequence[StoredEvent]) -> None:
        """Append the events. Raises DeliveryError."""
        data = b"".join([event.data for event in batch])
        try:
            await asyncio.to_thread(self._file.append, data)
        except OSError as error:
            cause = error.strerror or type(error).__name__
            raise DeliveryError(f"{self._path}: {cause}") from None

    async def close(self) -> None:
        """Close the file."""
        await asyncio.to_thread(self._file.close)


def whole_lines(path: Path, size: int) -> int:
    """Bytes up to the last line feed of a file. Raises OSError."""
    with path.open("rb") as file:
        end = size
        while end > 0:
            start = max(0, end - _BLOCK)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def whole_messages(path: Path, size: int) -> int:
    """Bytes of the whole messages at the beginning of a file. Raises OSError."""
    position = 0
    with path.open("rb") as file:
        while position < size:
            length = _read_varint(file.read(_MAX_LENGTH))
            if length is None or position + sum(length) > size:
                return position
            position += sum(length)
            file.seek(position)
    return position


def _read_varint(data: bytes) -> tuple[int, int] | None:
    """The number, and the bytes that it takes; None if it is not whole."""
    value = 0
    for i, byte in enumerate(data):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, i + 1
    return None
