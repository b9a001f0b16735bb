"""The form of a config's text in a store: compressed UTF-8."""

import zlib
from typing import Final

from sluice.config.load import MAX_FILE

MAX_TEXT: Final = MAX_FILE
"""Bytes of a text: those of the largest config. A few bytes in a store could claim any size."""


def compressed(text: str) -> bytes:
    """The text as a store keeps it."""
    return zlib.compress(text.encode())


def decompressed(data: bytes) -> str:
    """The text of what a store has. Raises zlib.error if it is damaged or too large."""
    stream = zlib.decompressobj()
    content = stream.decompress(data, MAX_TEXT + 1)
    if len(content) > MAX_TEXT:
        raise zlib.error(f"the text of a revision has more than {MAX_TEXT >> 20} MiB")
    if not stream.eof:
        raise zlib.error("the text of a revision is incomplete")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise zlib.error("the text of a revision is not UTF-8") from None
