"""How events reach a client: the encodings, and their choice by `Accept`."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from protos import video_pb2 as pb
from sluice.media_types import PROTOBUF, parse_accept
from sluice.protobuf_fields import varint
from video.results.events import event_json

BOUNDARY: Final = "frame"
"""Between the parts of annotated frames. A client must read `content-length` of each part: a JPEG
can contain any bytes."""


class Encoding(StrEnum):
    """An encoding of events. The first ones are preferred if a client accepts several."""

    NDJSON = "ndjson"
    SSE = "sse"
    PROTOBUF = "protobuf"
    MJPEG = "mjpeg"
    """Not events, but the annotated frames, for people to watch."""

    @property
    def content_type(self) -> str:
        """The value of the header `content-type`."""
        return _TYPES[self][1]


EVENTS: Final = (Encoding.NDJSON, Encoding.SSE, Encoding.PROTOBUF)
"""The encodings of events."""

_TYPES: Final = {
    Encoding.NDJSON: (
        ("application/x-ndjson", "application/ndjson", "application/jsonl"),
        "application/x-ndjson",
    ),
    Encoding.SSE: (("text/event-stream",), "text/event-stream"),
    Encoding.PROTOBUF: (PROTOBUF, "application/x-protobuf"),
    Encoding.MJPEG: (
        ("multipart/x-mixed-replace",),
        f"multipart/x-mixed-replace; boundary={BOUNDARY}",
    ),
}
"""The media types that a client may write for each encoding, and the `content-type`."""


class NotAcceptableError(Exception):
    """The client accepts none of the encodings (406). The text names them."""


def choose_encoding(accept: str | None, offered: Sequence[Encoding] = EVENTS) -> Encoding:
    """The encoding that an `Accept` header prefers (RFC 9110 section 12.5.1).

    The first one that is offered if the client does not say or does not care. Raises
    NotAcceptableError.
    """
    ranges = parse_accept(accept or "")
    if not ranges:
        return offered[0]
    weights = [(*_weight(encoding, ranges), -i) for i, encoding in enumerate(offered)]
    weight, _, place = max(weights)
    if weight <= 0:
        names = ", ".join(_TYPES[encoding][0][0] for encoding in offered)
        raise NotAcceptableError(f"set accept to one of {names}")
    return offered[-place]


def _weight(encoding: Encoding, ranges: dict[str, float]) -> tuple[float, int]:
    """The weight of an encoding, and how exactly the client names it."""
    names = _TYPES[encoding][0]
    named = [ranges[name] for name in names if name in ranges]
    if named:
        return max(named), 2
    general = f"{names[0].partition('/')[0]}/*"
    if general in ranges:
        return ranges[general], 1
    return ranges.get("*/*", 0.0), 0


def encode(encoding: Encoding, event: pb.AnalysisResult) -> bytes:
    """The event in an encoding of events."""
    if encoding is Encoding.PROTOBUF:
        return encode_delimited(event)
    return encode_sse(event) if encoding is Encoding.SSE else encode_ndjson(event)


def heartbeat(encoding: Encoding) -> bytes:
    """What keeps an idle connection open; empty for an encoding that has nothing for it."""
    return b":\n\n" if encoding is Encoding.SSE else b""


def encode_ndjson(event: pb.AnalysisResult) -> bytes:
    """The event as JSON, with a line feed."""
    return event_json(event) + b"\n"


def encode_sse(event: pb.AnalysisResult) -> bytes:
    """A Server-Sent Event, whose name is `result`, `failure` or `end`."""
    outcome = event.WhichOneof("outcome")
    name = "result" if outcome == "inference" else outcome or "result"
    # A line break would end the field.
    identifier = f"id: {event.id}\n" if event.id.isprintable() else ""
    head = f"{identifier}event: {name}\ndata: ".encode()
    return b"%b%b\n\n" % (head, event_json(event))


def encode_delimited(event: pb.AnalysisResult) -> bytes:
    """The message after its length as a varint."""
    message = event.SerializeToString()
    return varint(len(message)) + message
