"""Writes serialized protobuf messages whose fields hold messages that are already serialized.

In the protobuf encoding, a message is the concatenation of its fields. A message is written as a
sequence of parts, which are joined once at the end: a route table may have many megabytes.
"""

from collections.abc import Sequence

from sluice.protobuf_fields import field_head

Parts = Sequence[bytes]
"""A serialized message, in parts."""


def field(number: int, *message: bytes) -> list[bytes]:
    """The field with a message: head and content. Also for text and bytes."""
    return [field_head(number, sum(map(len, message))), *message]
