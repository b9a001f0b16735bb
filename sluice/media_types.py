"""Media types: their normal form, those that conversion accepts, and parsers for Content-Type and
Accept. All code that compares media types uses the normal form.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

JSON = "application/json"
OCTET_STREAM = "application/octet-stream"
MULTIPART = "multipart/form-data"
PROTOBUF = ("application/x-protobuf", "application/protobuf", "application/vnd.google.protobuf")
GRPC = "application/grpc"
_GRPC = GRPC.encode()
_GRPC_WITH_FORMAT = GRPC + "+"
IMAGES = ("image/jpeg", "image/png", "image/webp")
HEADER_LENGTH = "inference-header-content-length"
"""Header with the length of the JSON that precedes the data (V2 binary tensor data extension)."""

_ALIASES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "image/x-webp": "image/webp",
    "text/json": JSON,
    "text/x-json": JSON,
    "application/x-json": JSON,
}
"""Names that clients use for a registered media type."""

_GRPC_ENDS = (b"", b"+", b";", b" ", b"\t")
"""What may follow `application/grpc`. gRPC-Web is another protocol."""

_MAX_RANGES = 64
"""Maximum media ranges that are read from an Accept header. Clients send a few."""


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type and its parameters (RFC 9110 section 8.3.1), names in lower case."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def media_type_name(content_type: str) -> str:
    """The media type of a Content-Type value in its normal form: no parameters, alias or capitals.

    A gRPC type with a message format (`application/grpc+proto`) is the gRPC type.
    """
    name = content_type.partition(";")[0].strip().lower()
    if name.startswith(_GRPC_WITH_FORMAT):
        return GRPC
    return _ALIASES.get(name, name)


def is_grpc(content_type: bytes) -> bool:
    """Whether a Content-Type value is that of gRPC. Does not parse the value, so it is fast."""
    end = len(GRPC)
    return content_type[:end].lower() == _GRPC and content_type[end : end + 1] in _GRPC_ENDS


def is_json(name: str) -> bool:
    """Whether a media type in its normal form is JSON, perhaps by its suffix (RFC 6839)."""
    return name == JSON or name.endswith("+json")


def parse_media_type(value: str) -> MediaType:
    """Parse a Content-Type value. Malformed parameters are ignored."""
    name, *pieces = _split_quoted(value, ";")
    parameters: dict[str, str] = {}
    for piece in pieces:
        key, separator, text = piece.partition("=")
        if separator:
            parameters.setdefault(key.strip().lower(), _unquoted(text.strip()))
    return MediaType(media_type_name(name), parameters)


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
