"""Checks one request message of the Open Inference Protocol, which arrives in pieces.

Most bytes of a large message are in `raw_input_contents`, which a server accepts with any content.
The check skips these fields when they arrive, so it holds only the rest of the message.
"""

from collections.abc import Callable
from typing import Final

from google.protobuf.message import DecodeError, Message

from extproc.decision import Reason, Refusal
from extproc.policy.compiled import Target
from protos.inference_pb2 import ServerLiveRequest
from protos.model_request_pb2 import ModelRequest

_RAW_CONTENTS_TAG: Final = 7 << 3 | 2

_MAX_FIELDS: Final = 1000
"""Fields of a message that are read one by one. The rest of the message is held: the protobuf
parser reads a field in far less time than this module, so more fields would cost too much time."""

_BATCH: Final = 256 << 10
"""Bytes of complete fields that are held before they are parsed and dropped."""

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_LONGEST_NUMBER: Final = {_VARINT: 10, _FIXED64: 0, _DELIMITED: 5, _FIXED32: 0}
"""Largest size of the number that follows a tag: a value, a length, or nothing."""
_SIZES: Final = {_VARINT: 0, _FIXED64: 8, _FIXED32: 4}
"""Size of what follows the tag and the number."""
_FIRST_TAG, _LAST_TAG = 1 << 3, 0x7F
"""Tags of one byte. The protocol has no others."""
_INCOMPLETE, _INVALID_NUMBER = -1, -2


class ModelRequestCheck:
    """Reads messages one after the other, and checks that each names the target.

    The parts of a protobuf message between two fields are messages too, so they can be parsed
    separately (protobuf.dev/programming-guides/encoding, "Last One Wins").
    """

    __slots__ = (
        "_fields", "_header", "_kept", "_model", "_parse", "_rest", "_skipped", "_target",
        "_version",
    )  # fmt: skip

    def __init__(self, target: Target | None) -> None:
        """`target` is None for messages that name no model."""
        self._target = target
        self._parse: Callable[[bytes], Message] = (
            ServerLiveRequest.FromString if target is None else ModelRequest.FromString
        )
        self._begin_message()

    def _begin_message(self) -> None:
        self._rest = bytearray()
        """Bytes of the message that are not parsed yet."""
        self._header = b""
        """The beginning of a field, if its length has not arrived completely."""
        self._kept = 0
        """Bytes of the current field that will be added to the rest."""
        self._skipped = 0
        """Bytes of the current field that will be dropped."""
        self._fields = 0
        self._model = self._version = ""

    def __len__(self) -> int:
        """The number of held bytes."""
        return len(self._rest)

    def check(self, message: bytes) -> Refusal | None:
        """Check a message that is complete."""
        return self._read(message) or self._judge()

    def feed(self, data: bytes) -> Refusal | None:
        """Read a piece of a message."""
        if self._header:
            data, self._header = self._header + data, b""
        position, size = 0, len(data)
        while position < size:
            if self._skipped:
                start, position = position, min(position + self._skipped, size)
                self._skipped -= position - start
            elif self._kept:
                start, position = position, min(position + self._kept, size)
                self._kept -= position - start
                self._rest += data[start:position]
            elif self._fields == _MAX_FIELDS:
                self._rest += data[position:]
                return None
            else:
                start, position = position, self._begin_field(data, position)
                if position < 0:
                    self._header = data[start:]
                    return None
            if len(self._rest) >= _BATCH and not self._kept:
                rest, self._rest = bytes(self._rest), bytearray()
                refusal = self._read(rest)
                if refusal is not None:
                    return refusal
        return None

    def finish(self) -> Refusal | None:
        """The message has ended. The next bytes belong to another one."""
        complete = not (self._skipped or self._kept or self._header)
        refusal = self.check(bytes(self._rest)) if complete else _INVALID
        self._begin_message()
        return refusal

    def _begin_field(self, data: bytes, position: int) -> int:
        """Read the tag and the length of a field. Returns where to read on; -1 to wait for more.

        What this method does not know, such as a group, it leaves to the parser, with the rest of
        the message.
        """
        tag = data[position]
        kind = tag & 7
        if tag < _FIRST_TAG or tag > _LAST_TAG or kind not in _LONGEST_NUMBER:
            self._fields = _MAX_FIELDS
            return position
        number, start = _varint(data, position + 1, _LONGEST_NUMBER[kind])
        if start == _INCOMPLETE:
            return -1
        if start == _INVALID_NUMBER:
            self._fields = _MAX_FIELDS
            return position
        self._fields += 1
        if tag == _RAW_CONTENTS_TAG:
            self._skipped = number
            return start
        self._kept = start - position + (number if kind == _DELIMITED else _SIZES[kind])
        return position

    def _read(self, fields: bytes) -> Refusal | None:
        try:
            message = self._parse(fields)
        except DecodeError:
            return _INVALID
        if isinstance(message, ModelRequest):
            self._model = message.name or self._model
            self._version = message.version or self._version
        return None

    def _judge(self) -> Refusal | None:
        target, model, version = self._target, self._model, self._version
        self._model = self._version = ""
        if target is None:
            return None
        if model != target.model:
            return _mismatch("model", model, target.model)
        if version not in ("", target.version):
            return _mismatch("version", version, target.version)
        return None


def _varint(data: bytes, position: int, longest: int) -> tuple[int, int]:
    """A number of up to `longest` bytes and the position after it, or why there is none."""
    number = 0
    for index in range(longest):
        if position + index == len(data):
            return 0, _INCOMPLETE
        byte = data[position + index]
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number, position + index + 1
    return 0, _INVALID_NUMBER if longest else position


_INVALID = Refusal(Reason.MALFORMED_REQUEST, "the message is not valid protobuf")


def _mismatch(what: str, named: str, admitted: str) -> Refusal:
    return Refusal(
        Reason.MODEL_MISMATCH,
        f"the message names {what} {named[:80]!r}, but the call was admitted to {admitted!r}",
    )
