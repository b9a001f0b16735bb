"""The result of a conversion: a body, and changes of the headers that describe it."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace

from extproc.convert.inference import Headers, ResponseOptions
from extproc.segments import Content
from sluice.media_types import HEADER_LENGTH

REMOVED_FROM_REQUEST = ("content-length", "content-encoding", HEADER_LENGTH)
"""Headers that describe the original body."""

_REMOVED_FROM_RESPONSE = (
    "content-length", "content-encoding", "content-md5", "content-digest", "digest", "repr-digest",
    "etag", "accept-ranges", "grpc-status", "grpc-message", "grpc-encoding", "grpc-accept-encoding",
)  # fmt: skip
"""Headers that describe the original body (RFC 9110 section 8, RFC 9530), and the status of a gRPC
call."""


@dataclass(slots=True)
class ConvertedMessage:
    """The new body of a request or response, and the changes to its headers."""

    content: Content
    """The new body."""
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers to set, including `content-type` and pseudo-headers that change."""
    remove: tuple[str, ...] = ()
    status: int = 200
    """Status of a response."""
    reason: str = ""
    """Reason of a response that is a problem document."""
    response_options: ResponseOptions = field(default_factory=ResponseOptions)
    """Of a converted request: the options for `Converter.convert_response`."""

    @property
    def body(self) -> bytes:
        """The new body in one piece."""
        return bytes(self.content)


class ShortWork(int):
    """The bytes of a step that takes so little time that it may run on the event loop."""

    __slots__ = ()

    def __add__(self, other: int) -> "ShortWork":
        return ShortWork(int(self) + other)


Steps = Generator[int, None, "ConvertedMessage | None"]
"""Work in steps. Before a step that takes memory, the steps yield the bytes that the work will hold
at most, with the body. They may raise ConversionError."""


def completed(steps: Steps) -> "ConvertedMessage | None":
    """The result of the steps, executed one after another."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: ConvertedMessage | None = end.value
            return result


def converted_response(
    body: bytes, content_type: str, status: int = 200, headers: Headers | None = None
) -> ConvertedMessage:
    """A response for the client, without the headers that describe the original body."""
    return ConvertedMessage(
        body,
        content_type,
        {":status": str(status), "content-type": content_type, **(headers or {})},
        _REMOVED_FROM_RESPONSE,
        status,
    )


def uncoded_response(body: bytes, content_type: str, original: Headers) -> ConvertedMessage:
    """A response of a REST server. Its body has no content coding, and Vary does not name one."""
    response = converted_response(body, content_type)
    names = [name.strip() for name in original.get("vary", "").split(",")]
    others = [name for name in names if name and name.lower() != "accept-encoding"]
    if len(others) == len(names):
        return response
    if others:
        return replace(response, headers={**response.headers, "vary": ", ".join(others)})
    return replace(response, remove=(*response.remove, "vary"))
