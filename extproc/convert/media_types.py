"""Media types: what a header says, what the client would take, and what the bytes look like."""

from collections.abc import Mapping
from dataclasses import dataclass, field

JSON = "application/json"
OCTETS = "application/octet-stream"
MULTIPART = "multipart/form-data"
PROTOBUF = ("application/x-protobuf", "application/protobuf", "application/vnd.google.protobuf")
GRPC = "application/grpc"
IMAGES = ("image/jpeg", "image/png", "image/webp")
BINARY_HEADER = "inference-header-content-length"
"""Length of the JSON in front of the tensors (V2 REST, binary tensor data extension)."""

_ALIASES = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "text/json": JSON}


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type and its parameters (RFC 9110 section 8.3.1), names in lower case."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_media_type(value: str) -> MediaType:
    """Read a Content-Type value; what is malformed is left out rather than refused."""
    name, *pieces = _split_quoted(value, ";")
    parameters: dict[str, str] = {}
    for piece in pieces:
        key, separator, text = piece.partition("=")
        if separator:
            parameters.setdefault(key.strip().lower(), _unquoted(text.strip()))
    name = name.strip().lower()
    return MediaType(_ALIASES.get(name, name), parameters)


def accepts(value: str) -> dict[str, float]:
    """Quality of each media range in an Accept header (RFC 9110 section 12.5.1)."""
    ranges: dict[str, float] = {}
    for piece in _split_quoted(value, ",")[:64]:
        media = parse_media_type(piece)
        try:
            quality = float(media.parameters.get("q", "1"))
        except ValueError:
            quality = 0.0
        if media.name and 0 <= quality <= 1:
            ranges[media.name] = max(quality, ranges.get(media.name, 0.0))
    return ranges


def sniff(body: bytes) -> str | None:
    """The picture type that the first bytes show (WHATWG MIME Sniffing section 6.1), or None."""
    if body.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if body.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if body[:4] == b"RIFF" and body[8:14] == b"WEBPVP":
        return "image/webp"
    return None


def _split_quoted(value: str, separator: str) -> list[str]:
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
