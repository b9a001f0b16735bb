"""Finds text in a token without decoding it: the spellings of the text in base64url."""

from base64 import urlsafe_b64encode

_PLACES = 3
"""Base64 encodes three bytes at a time, so a text can begin at three places."""


def spellings(text: str) -> tuple[str, ...]:
    """Base64url (RFC 4648 section 5) of a text at each of the three places.

    The characters that also depend on the bytes around the text are left out. So one of these
    occurs in every token with the text, and by chance in few others, the fewer the longer it is.
    """
    content = text.encode()
    return tuple(_spelling(content, place) for place in range(_PLACES))


def _spelling(content: bytes, place: int) -> str:
    encoded = urlsafe_b64encode(bytes(place) + content).decode()
    first, end = -(-8 * place // 6), 8 * (place + len(content)) // 6
    return encoded[first:end]
