"""The records of a spool: events, and confirmations that the sink has them.

A record is the length and the CRC-32 of its content, and the content. A process may be killed
while it writes, so the last record of a file may be torn.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from video.sinks.transport import StoredEvent

_HEAD: Final = struct.Struct("<II")
_CONFIRMATION: Final = struct.Struct("<cQ")
_EVENT: Final = struct.Struct("<cQH")
_MAX_CONTENT: Final = 64 << 20
"""Bytes of a record. A torn or foreign file could name any length."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record that ends at `end` in its file.

    Events have consecutive numbers. A record without an event confirms all events up to `number`.
    """

    number: int
    event: StoredEvent | None
    end: int


def event_record(number: int, event: StoredEvent) -> bytes:
    """The bytes of a record with an event."""
    identifier = event.id.encode()
    head = _EVENT.pack(b"E", number, len(identifier))
    return _record(b"".join((head, identifier, event.data)))


def confirmation_record(number: int) -> bytes:
    """The bytes of a record that confirms events."""
    return _record(_CONFIRMATION.pack(b"C", number))


def read_records(file: BinaryIO, position: int) -> Iterator[Record]:
    """The records from a position on, up to the end or to the first one that is not whole."""
    file.seek(position)
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        length, checksum = _HEAD.unpack(head)
        if length > _MAX_CONTENT:
            return
        content = file.read(length)
        if len(content) < length or zlib.crc32(content) != checksum:
            return
        position += _HEAD.size + length
        record = _read(content, position)
        if record is None:
            return
        yield record


def _record(content: bytes) -> bytes:
    return _HEAD.pack(len(content), zlib.crc32(content)) + content


def _read(content: bytes, end: int) -> Record | None:
    try:
        if content[:1] == b"C":
            return Record(_CONFIRMATION.unpack(content)[1], None, end)
        kind, number, length = _EVENT.unpack_from(content)
        start = _EVENT.size + length
        if kind != b"E" or start > len(content):
            return None
        identifier = content[_EVENT.size : start].decode()
    except (struct.error, UnicodeDecodeError):
        return None
    return Record(number, StoredEvent(identifier, content[start:]), end)
