"""Parses multipart/form-data bodies (RFC 7578, RFC 2046 section 5.1)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from extproc.convert.errors import ConversionError
from extproc.convert.limits import ConversionLimits
from sluice.contract.reasons import Reason
from sluice.media_types import MediaType, media_type_name, parse_media_type

_MAX_BOUNDARY = 70
"""Characters of a boundary (RFC 2046 section 5.1.1)."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a form. `field` is its place in the body, for error messages."""

    name: str
    media_type: str
    data: bytes
    field: str


def parse_parts(body: bytes, media: MediaType, limits: ConversionLimits) -> list[Part]:
    """The parts of a body in order. Raises ConversionError (400, 413)."""
    if not body:
        raise ConversionError(Reason.EMPTY_BODY, "body", "must not be empty")
    boundary = media.parameters.get("boundary", "")
    if not 1 <= len(boundary) <= _MAX_BOUNDARY or not boundary.isascii():
        raise ConversionError(
            Reason.BAD_BOUNDARY,
            "content-type",
            f"must have a boundary of 1 to {_MAX_BOUNDARY} ASCII characters",
        )
    parts: list[Part] = []
    for start, end in _spans(body, b"--" + boundary.encode(), limits):
        parts.append(_part(body, start, end, len(parts), limits))
    if not parts:
        raise ConversionError(Reason.NO_PARTS, "body", "must have at least one part")
    return parts


def _spans(body: bytes, delimiter: bytes, limits: ConversionLimits) -> Iterator[tuple[int, int]]:
    """Start and end of each part, including its headers."""
    position = _first_delimiter(body, delimiter)
    for number in range(limits.max_parts + 1):
        if body.startswith(b"--", position):
            return
        start = body.find(b"\r\n", position)
        # Only white space may follow a boundary on its line.
        if start < 0 or body[position:start].strip(b" \t"):
            raise ConversionError(
                Reason.BAD_BOUNDARY, f"parts[{number}]", "the boundary line is not valid"
            )
        end = body.find(b"\r\n" + delimiter, start)
        if end < 0:
            raise ConversionError(
                Reason.TRUNCATED, f"parts[{number}]", "must end with the boundary"
            )
        if number == limits.max_parts:
            break
        yield start + 2, end
        position = end + 2 + len(delimiter)
    raise ConversionError(
        Reason.TOO_MANY_PARTS, "body", f"must have at most {limits.max_parts} parts"
    )


def _first_delimiter(body: bytes, delimiter: bytes) -> int:
    """Position after the first delimiter. Bytes before it are a preamble, which is ignored."""
    if body.startswith(delimiter):
        return len(delimiter)
    first = body.find(b"\r\n" + delimiter)
    if first < 0:
        raise ConversionError(Reason.NO_BOUNDARY, "body", "must contain the boundary")
    return first + 2 + len(delimiter)


def _part(body: bytes, start: int, end: int, number: int, limits: ConversionLimits) -> Part:
    field = f"parts[{number}]"
    window = body[start : min(end, start + limits.max_part_headers)]
    head_end = 0 if window.startswith(b"\r\n") else window.find(b"\r\n\r\n")
    if head_end < 0:
        raise ConversionError(Reason.BAD_PART, field, "an empty line must follow the headers")
    headers = _headers(window[:head_end], field)
    data_start = start + head_end + (2 if head_end == 0 else 4)
    disposition = parse_media_type(headers.get("content-disposition", ""))
    name = disposition.parameters.get("name", "")
    media_type = media_type_name(headers.get("content-type", ""))
    if headers.get("content-transfer-encoding", "binary").strip().lower() not in ("binary", "8bit"):
        raise ConversionError(
            Reason.BAD_PART, field, "content-transfer-encoding must be binary (RFC 7578)"
        )
    return Part(name, media_type, body[data_start:end], f"{field} ({name[:40]})" if name else field)


def _headers(block: bytes, field: str) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    for line in block.decode("utf-8", errors="replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if not line:
            continue
        if not colon:
            raise ConversionError(Reason.BAD_PART, field, "a header has no colon")
        headers[name.strip().lower()] = value.strip()
    return headers
