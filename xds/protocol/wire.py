"""Writes serialized protobuf messages whose fields hold messages that are already serialized.

In the protobuf encoding, a message is the concatenation of its fields. A message is written as a
sequence of parts, which are joined once at the end: a route table may have many megabytes.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Self

from sluice.protobuf_fields import field_head

Parts = Sequence[bytes]
"""A serialized message, in parts."""


class Piece(bytes):
    """A part whose hash is computed once: a large part that many messages contain.

    `digest` is the SHA-256 of the part.
    """

    digest: bytes

    @classmethod
    def of(cls, parts: Parts) -> Self:
        """The parts as one."""
        piece = cls(b"".join(parts))
        piece.digest = hashlib.sha256(piece).digest()
        return piece


def hashed(parts: Iterable[bytes]) -> bytes:
    """A hash of a message: of its parts, with the digests of pieces in place of their content.

    It depends on the content and on how the content is cut into pieces.
    """
    found = [part.digest if isinstance(part, Piece) else part for part in parts]
    return hashlib.sha256(b"".join(found)).digest()


def field(number: int, *message: bytes) -> list[bytes]:
    """The field with a message: head and content. Also for text and bytes."""
    return [field_head(number, sum(map(len, message))), *message]


def entry(key: str, value: Parts) -> list[bytes]:
    """The field 1 with an entry of a map whose values are messages.

    All heads are one part. A route table has thousands of entries, and each part costs time.
    """
    name, size = key.encode(), sum(map(len, value))
    heads = field_head(1, len(name)) + name + field_head(2, size)
    return [field_head(1, len(heads) + size) + heads, *value]
