"""Reads the messages of a gRPC request body, which arrives in pieces, in steps of limited work.

A step may be run on any thread. A client chooses the number of messages in a piece, and the size of
what it inflates to, so the work on a piece has no other limit.
"""

import zlib
from enum import Enum, auto
from typing import Final

from extproc.decision import Reason, Refusal
from extproc.decision.refusals import body_too_large
from extproc.framing import PREFIX, PREFIX_SIZE
from extproc.services.ext_proc.model_request import ModelRequestCheck

STEP_MESSAGES: Final = 1000
"""Messages in one step, so that a step takes a few milliseconds."""

SMALL_MESSAGE: Final = 64 << 10
"""Size up to which a message that is complete is parsed as a whole, which is faster."""

STEP_BYTES: Final = 4 << 20
"""Inflated bytes in one step."""

INFLATER_SIZE: Final = 48 << 10
"""Memory of zlib for an incomplete message: 32 KiB of window, and its state."""

_INPUT: Final = 16 << 10
"""Compressed bytes that are passed to zlib at once. zlib copies those that it has not read yet."""

_OUTPUT: Final = 64 << 10
"""Inflated bytes that exist at once."""

_WINDOW_BITS: Final = {b"gzip": zlib.MAX_WBITS | 16, b"deflate": zlib.MAX_WBITS}
"""zlib's `wbits` of the encodings of `grpc-encoding` (grpc/doc/compression.md)."""


class Progress(Enum):
    """The result of a step without a refusal."""

    READ = auto()
    """The piece is read."""
    MORE = auto()
    """There is more to read."""
    COMPRESSED = auto()
    """The next step inflates, so it should run on a thread."""


class _Inflater:
    """Inflates one gzip or zlib member. Raises zlib.error if the content is not exactly one.

    Some servers read all members of a gzip stream, others only the first.
    """

    __slots__ = ("_decoder", "_input", "has_output", "size")

    def __init__(self, window_bits: int) -> None:
        self._decoder = zlib.decompressobj(window_bits)
        self._input = b""
        self.has_output = False
        """Whether `output` must be called again before the next `add`."""
        self.size = 0
        """Bytes inflated so far."""

    def add(self, content: bytes) -> None:
        self._input = content
        self.has_output = True

    def output(self) -> bytes:
        """The next inflated bytes."""
        decoder = self._decoder
        inflated = decoder.decompress(self._input, _OUTPUT)
        if decoder.unused_data:
            raise zlib.error("more data follow")
        self._input = decoder.unconsumed_tail
        self.has_output = bool(self._input) or (len(inflated) == _OUTPUT and not decoder.eof)
        self.size += len(inflated)
        return inflated

    def finish(self) -> None:
        if not self._decoder.eof:
            raise zlib.error("the data are truncated")


class GrpcMessages:
    """The messages of one call. The result of `step` refuses the call, or says how to go on."""

    __slots__ = (
        "_check", "_encoding", "_inflater", "_left", "_limit", "_piece", "_position", "_prefix",
        "_single", "_whole", "count",
    )  # fmt: skip

    def __init__(
        self, check: ModelRequestCheck, encoding: bytes, limit: int, *, single: bool
    ) -> None:
        """`encoding`: of compressed messages. `limit`: of one message. `single`: at most one."""
        self._check = check
        self._encoding = encoding
        self._limit = limit
        self._single = single
        self._piece = b""
        self._position = 0
        self._prefix = b""
        """An incomplete prefix."""
        self._left: int | None = None
        """Bytes of the current message that have not been read; None between two messages."""
        self._whole = True
        """Whether nothing of the current message has been read."""
        self._inflater: _Inflater | None = None
        """Inflates the current message; None if it is not compressed."""
        self.count = 0
        """Number of messages that have begun."""

    def __len__(self) -> int:
        """The number of held bytes, without the piece."""
        return len(self._check) + (INFLATER_SIZE if self._inflater is not None else 0)

    @property
    def unread(self) -> int:
        """Bytes of the piece that have not been read."""
        return len(self._piece) - self._position

    @property
    def incomplete(self) -> bool:
        """Whether the last piece ended inside a message."""
        return self._left is not None or bool(self._prefix)

    def add(self, piece: bytes) -> None:
        """Add a piece. The one before must have been read."""
        self._piece = self._prefix + piece if self._prefix else piece
        self._prefix = b""
        self._position = 0

    def step(self, *, inflate: bool = False) -> Refusal | Progress:
        """Read a part of the piece. Compressed content is read only if `inflate` is set."""
        room = STEP_BYTES
        for _ in range(STEP_MESSAGES):
            if self._left is None:
                refusal = self._begin()
                if refusal is not None:
                    return refusal
            if self._waits():
                self._piece = b""
                self._position = 0
                return Progress.READ
            if self._inflater is None:
                refusal = self._read_plain()
            elif inflate:
                refusal, room = self._read_compressed(self._inflater, room)
            else:
                return Progress.COMPRESSED
            if refusal is not None:
                return refusal
            if room <= 0:
                break
        return Progress.MORE

    def _waits(self) -> bool:
        """Whether the next piece is needed."""
        if not self._left:
            return self._left is None
        has_output = self._inflater is not None and self._inflater.has_output
        return self._position == len(self._piece) and not has_output

    def _begin(self) -> Refusal | None:
        """Read the prefix of the next message, if it is complete."""
        start = self._position
        if len(self._piece) - start < PREFIX_SIZE:
            self._prefix = self._piece[start:]
            return None
        flags, length = PREFIX.unpack_from(self._piece, start)
        if flags > 1:
            return Refusal(Reason.MALFORMED_REQUEST, "invalid gRPC message prefix")
        if length > self._limit:
            return body_too_large(self._limit)
        if self.count and self._single:
            return Refusal(Reason.MALFORMED_REQUEST, "this method takes one message")
        self.count += 1
        self._position += PREFIX_SIZE
        self._left, self._whole = length, True
        if flags == 1:
            window_bits = _WINDOW_BITS.get(self._encoding)
            if window_bits is None:
                return _UNKNOWN_ENCODING
            self._inflater = _Inflater(window_bits)
        return None

    def _take(self, most: int) -> bytes:
        """The next bytes of the current message in the piece."""
        assert self._left is not None
        start = self._position
        content = self._piece[start : start + min(self._left, most)]
        self._position += len(content)
        self._left -= len(content)
        return content

    def _read_plain(self) -> Refusal | None:
        content = self._take(len(self._piece))
        if self._left:
            self._whole = False
            return self._check.feed(content)
        self._left = None
        if self._whole and len(content) <= SMALL_MESSAGE:
            return self._check.check(content)
        return self._check.feed(content) or self._check.finish()

    def _read_compressed(self, inflater: _Inflater, room: int) -> tuple[Refusal | None, int]:
        """Inflate what the piece has of the current message, until there is no more `room`."""
        try:
            while room > 0:
                if not inflater.has_output:
                    content = self._take(_INPUT)
                    if not content:
                        break
                    inflater.add(content)
                inflated = inflater.output()
                room -= len(inflated)
                if inflater.size > self._limit:
                    return body_too_large(self._limit), room
                refusal = self._check.feed(inflated)
                if refusal is not None:
                    return refusal, room
            if self._left or inflater.has_output:
                return None, room
            inflater.finish()
        except zlib.error:
            return _BROKEN, room
        self._left = self._inflater = None
        return self._check.finish(), room


_UNKNOWN_ENCODING = Refusal(
    Reason.UNSUPPORTED_MEDIA_TYPE,
    "grpc-encoding: a compressed message needs grpc-encoding gzip or deflate",
)
_BROKEN = Refusal(Reason.MALFORMED_REQUEST, "body: cannot be decompressed")
