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


def entry(key: str, value: Parts) -> list[bytes]:
    """The field 1 with an entry of a map whose values are messages.

    All heads are one part. A route table has thousands of entries, and each part costs time.
    """
    name, size = key.encode(), sum(map(len, value))
    heads = field_head(1, len(name)) + name + field_head(2, size)
    return [field_head(1, len(heads) + size) + heads, *value]
