"""Media types that conversion accepts, and parsers for Content-Type and Accept."""

from collections.abc import Mapping
from dataclasses import dataclass, field

JSON = "application/json"
OCTET_STREAM = "application/octet-stream"
MULTIPART = "multipart/form-data"
PROTOBUF = ("application/x-protobuf", "application/protobuf", "application/vnd.google.protobuf")
GRPC = "application/grpc"
IMAGES = ("image/jpeg", "image/png", "image/webp")
HEADER_LENGTH = "inference-header-content-length"
"""Header with the length of the JSON that precedes the data (V2 binary tensor data extension)."""

_ALIASES = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "text/json": JSON}

_MAX_RANGES = 64
"""Maximum media ranges that are read from an Accept header. Clients send a few."""


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type and its parameters (RFC 9110 section 8.3.1), names in lower case."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_media_type(value: str) -> MediaType:
    """Parse a Content-Type value. Malformed parameters are ignored."""
    name, *pieces = _split_quoted(value, ";")
    parameters: dict[str, str] = {}
    for piece in pieces:
        key, separator, text = piece.partition("=")
        if separator:
            parameters.setdefault(key.strip().lower(), _unquoted(text.strip()))
    name = name.strip().lower()
    return MediaType(_ALIASES.get(name, name), parameters)


def parse_accept(value: str) -> dict[str, float]:
    """Weight of each media range in an Accept header (RFC 9110 section 12.5.1)."""
    ranges: dict[str, float] = {}
    for piece in _split_quoted(value, ",")[:_MAX_RANGES]:
        media = parse_media_type(piece)
        try:
            weight = float(media.parameters.get("q", "1"))
        except ValueError:
            weight = 0.0
        if media.name and 0 <= weight <= 1:
            ranges[media.name] = max(weight, ranges.get(media.name, 0.0))
    return ranges


def _split_quoted(value: str, separator: str) -> list[str]:
    """Split at separators outside quoted strings (RFC 9110 section 5.6.4)."""
    if '"' not in value:
        return value.split(separator)
    pieces, start, quoted, escaped = [], 0, False, False
    for position, character in enumerate(value):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            pieces.append(value[start:position])
            start = position + 1
    pieces.append(value[start:])
    return pieces


def _unquoted(text: str) -> str:
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    plain, escaped = [], False
    for character in text[1:-1]:
        if character == "\\" and not escaped:
            escaped = True
            continue
        plain.append(character)
        escaped = False
    return "".join(plain)
