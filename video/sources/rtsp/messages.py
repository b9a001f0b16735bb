"""Messages of RTSP 1.0, and the packets between them (RFC 2326, 4 to 7 and 10.12). Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

MAX_HEADER_BYTES: Final = 32 << 10
MAX_BODY_BYTES: Final = 64 << 10
_MAX_LENGTH_DIGITS: Final = 9
_DOLLAR: Final = 0x24
_PREFIX: Final = b"RTSP/"
_END: Final = b"\r\n\r\n"


class RtspError(ValueError):
    """The peer does not speak RTSP, or sends too much."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response. The names of its headers are in lower case, with all values of each."""

    status: int
    headers: Mapping[str, list[str]]
    body: bytes

    def header(self, name: str) -> str:
        """The first value of a header, or nothing."""
        return self.headers.get(name, [""])[0]


@dataclass(frozen=True, slots=True)
class Interleaved:
    """A packet on the connection of the messages (10.12)."""

    channel: int
    data: bytes


def encode_request(method: str, url: str, headers: Mapping[str, str]) -> bytes:
    """A request without a body."""
    lines = [f"{method} {url} RTSP/1.0", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def encode_interleaved(channel: int, data: bytes) -> bytes:
    """A packet for the connection of the messages."""
    return bytes((_DOLLAR, channel)) + len(data).to_bytes(2) + data


class RtspParser:
    """Takes the bytes of a connection, and gives its responses and packets.

    Requests of the server are ignored.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Response | Interleaved]:
        """Take bytes. Raises RtspError."""
        self._buffer += data
        at = 0
        try:
            while at < len(self._buffer):
                if self._buffer[at] == _DOLLAR:
                    end = at + 4 + int.from_bytes(self._buffer[at + 2 : at + 4])
                    if len(self._buffer) < at + 4 or len(self._buffer) < end:
                        return
                    packet = bytes(memoryview(self._buffer)[at + 4 : end])
                    channel, at = self._buffer[at + 1], end
                    yield Interleaved(channel, packet)
                    continue
                message, end = self._message(at)
                if end < 0:
                    return
                at = end
                if message is not None:
                    yield message
        finally:
            del self._buffer[:at]

    def _message(self, at: int) -> tuple[Response | None, int]:
        """The message at a position, and where it ends: -1 if it is not complete."""
        buffer = self._buffer
        end = buffer.find(_END, at)
        if end < 0:
            if len(buffer) - at > MAX_HEADER_BYTES:
                raise RtspError("a header is too large")
            return None, -1
        first, *lines = buffer[at:end].decode("latin-1").strip().split("\r\n")
        headers: dict[str, list[str]] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers.setdefault(name.strip().lower(), []).append(value.strip())
        length = headers.get("content-length", ["0"])[0]
        if not (length.isascii() and length.isdecimal() and len(length) <= _MAX_LENGTH_DIGITS):
            raise RtspError("the length of a body is not a number")
        if int(length) > MAX_BODY_BYTES:
            raise RtspError("a body is too large")
        begin = end + len(_END)
        end = begin + int(length)
        if len(buffer) < end:
            return None, -1
        version, _, rest = first.partition(" ")
        if not version.startswith(_PREFIX.decode()):
            if not first.endswith(" RTSP/1.0"):
                raise RtspError("the answer is not RTSP")
            return None, end
        status = rest[:3]
        if not (status.isascii() and status.isdecimal() and len(status) == 3):
            raise RtspError("an answer has no status")
        return Response(int(status), headers, bytes(buffer[begin:end])), end
