"""Takes a multipart/form-data body apart (RFC 7578, RFC 2046 section 5.1)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from extproc.convert.errors import ConversionError
from extproc.convert.limits import ConversionLimits
from extproc.convert.media_types import MediaType, parse_media_type
from sluice.contract.reasons import Reason


@dataclass(frozen=True, slots=True)
class Part:
    """One part; `field` names it in errors."""

    name: str
    media_type: str
    data: bytes
    field: str


def parts(body: bytes, media: MediaType, limits: ConversionLimits) -> list[Part]:
    """The parts of a body in order. Raises ConversionError (400, 413)."""
    if not body:
        raise ConversionError(Reason.EMPTY_BODY, "body", "is empty")
    boundary = media.parameters.get("boundary", "")
    # RFC 2046 allows 70 characters.
    if not 1 <= len(boundary) <= 70 or not boundary.isascii():
        raise ConversionError(
            Reason.BAD_BOUNDARY, "content-type", "needs a boundary of 1 to 70 characters"
        )
    found: list[Part] = []
    for start, end in _spans(body, b"--" + boundary.encode(), limits):
        found.append(_part(body, start, end, len(found), limits))
    if not found:
        raise ConversionError(Reason.NO_PARTS, "body", "has no parts")
    return found


def _spans(body: bytes, delimiter: bytes, limits: ConversionLimits) -> Iterator[tuple[int, int]]:
    """Where each part starts and ends, headers included."""
    if body.startswith(delimiter):
        position = len(delimiter)
    else:
        # What stands in front of the first delimiter is a preamble, to be ignored.
        first = body.find(b"\r\n" + delimiter)
        if first < 0:
            raise ConversionError(Reason.NO_BOUNDARY, "body", "does not hold the boundary")
        position = first + 2 + len(delimiter)
    for number in range(limits.max_parts + 1):
        if body.startswith(b"--", position):
            return
        start = body.find(b"\r\n", position)
        # Only white space may follow a boundary on its line.
        if start < 0 or body[position:start].strip(b" \t"):
            raise ConversionError(
                Reason.BAD_BOUNDARY, f"parts[{number}]", "a boundary line is damaged"
            )
        end = body.find(b"\r\n" + delimiter, start)
        if end < 0:
            raise ConversionError(
                Reason.TRUNCATED, f"parts[{number}]", "does not end with the boundary"
            )
        if number == limits.max_parts:
            break
        yield start + 2, end
        position = end + 2 + len(delimiter)
    raise ConversionError(Reason.TOO_MANY_PARTS, "body", f"has over {limits.max_parts} parts")


def _part(body: bytes, start: int, end: int, number: int, limits: ConversionLimits) -> Part:
    field = f"parts[{number}]"
    window = body[start : min(end, start + limits.max_part_headers)]
    head_end = 0 if window.startswith(b"\r\n") else window.find(b"\r\n\r\n")
    if head_end < 0:
        raise ConversionError(Reason.BAD_PART, field, "its headers do not end")
    headers = _headers(window[:head_end], field)
    data_start = start + head_end + (2 if head_end == 0 else 4)
    disposition = parse_media_type(headers.get("content-disposition", ""))
    name = disposition.parameters.get("name", "")
    kind = parse_media_type(headers.get("content-type", "")).name
    if headers.get("content-transfer-encoding", "binary").strip().lower() not in ("binary", "8bit"):
        raise ConversionError(
            Reason.BAD_PART, field, "has a transfer encoding, which forms do not use"
        )
    return Part(name, kind, body[data_start:end], f"{field} ({name[:40]})" if name else field)


def _headers(block: bytes, field: str) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    for line in block.decode("utf-8", errors="replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if not line:
            continue
        if not colon:
            raise ConversionError(Reason.BAD_PART, field, "has a header without a colon")
        headers[name.strip().lower()] = value.strip()
    return headers
