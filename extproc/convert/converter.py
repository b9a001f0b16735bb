"""Chooses how a request's payload is converted, and converts it: bytes to bytes, with no I/O.

The modules that need numpy and Pillow are imported when a converter is first built, so a worker
whose models convert nothing never pays for them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from extproc.convert.content_coding import decoded
from extproc.convert.errors import ConversionError
from extproc.convert.grpc_status import grpc_code, grpc_problem
from extproc.convert.limits import DEFAULT, ConversionLimits
from extproc.convert.media_types import (
    BINARY_HEADER,
    GRPC,
    IMAGES,
    JSON,
    MULTIPART,
    OCTETS,
    PROTOBUF,
    accepts,
    parse_media_type,
)
from extproc.convert.signature import Signature, check
from extproc.convert.tensor import InferenceRequest, ResponseOptions
from sluice.contract.paths import OIP_GRPC_PREFIX
from sluice.contract.problem import MEDIA_TYPE
from sluice.contract.reasons import Reason

if TYPE_CHECKING:
    from extproc.convert.request_readers import RequestReaders

Protocol = Literal["http", "grpc"]
Headers = Mapping[str, str]
"""Header names in lower case."""

RequestReader = Callable[[bytes, Headers], InferenceRequest]

GRPC_PATH = f"{OIP_GRPC_PREFIX}ModelInfer"

_HEAVY_JSON = 16 << 10
"""Bytes: below, a conversion takes less time than handing it to a thread and back."""

_REMOVED = ("content-length", "content-encoding", "accept-encoding", BINARY_HEADER)
"""Untrue of the new body; and the answer must come as something that can be read here."""


@dataclass(frozen=True, slots=True)
class ConvertedMessage:
    """A body, and what changes in the headers that go with it."""

    body: bytes
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)
    """To set, `content-type` among them; pseudo-headers where they change."""
    remove: tuple[str, ...] = ()
    status: int = 200
    """Of a response."""
    response_options: ResponseOptions = field(default_factory=ResponseOptions)
    """Of a request: hand it to `response`."""


@dataclass(frozen=True, slots=True)
class Converter:
    """Converts one media type for one model version. Safe to share between threads."""

    name: str
    """Such as `image-grpc`, for metrics."""
    protocol: Protocol
    signature: Signature
    limits: ConversionLimits
    thread_from: int
    """Bodies of this many bytes and more belong in a pool, off the event loop."""
    _source: RequestReader

    def request(self, body: bytes, headers: Headers) -> ConvertedMessage:
        """What the model server gets. Raises ConversionError: 400, 413, 415 or 422."""
        _check_length(body, headers)
        body = decoded(body, headers.get("content-encoding", ""), self.limits)
        inference = self._source(body, headers)
        check(inference, self.signature, self.limits)
        return (
            self._to_grpc(inference, headers)
            if self.protocol == "grpc"
            else self._to_rest(inference, body, headers)
        )

    def converts_response(self, reply: ResponseOptions) -> bool:
        """Whether `response` must see the body; otherwise it is forwarded as it is."""
        return self.protocol == "grpc" or reply.form == "v1" or self.signature.labelled

    def response(
        self, reply: ResponseOptions, status: int, headers: Headers, body: bytes
    ) -> ConvertedMessage | None:
        """What the client gets for the model server's answer; None: the answer as it is.

        `reply` is the request's. Raises ConversionError (502) for an answer that cannot be read.
        """
        if self.protocol == "grpc":
            return self._from_grpc(reply, headers, body)
        media = parse_media_type(headers.get("content-type", "")).name
        if status != 200 or media != JSON or not self.converts_response(reply):
            return None
        return self._from_rest(reply, body)

    def _to_grpc(self, inference: InferenceRequest, headers: Headers) -> ConvertedMessage:
        from extproc.convert import binary, protobuf

        inference = binary.with_binary_reply(inference)
        return ConvertedMessage(
            protobuf.write_request(inference, self.signature),
            PROTOBUF[0],
            {":path": GRPC_PATH, "content-type": PROTOBUF[0], "te": "trailers"},
            _REMOVED,
            response_options=replace(
                _negotiated(inference.response_options, headers.get("accept", "")),
                request_id=headers.get("x-request-id", ""),
            ),
        )

    def _to_rest(
        self, inference: InferenceRequest, body: bytes, headers: Headers
    ) -> ConvertedMessage:
        from extproc.convert import v2_json

        if inference.verbatim:
            kind = headers.get("content-type", JSON)
            removed = tuple(name for name in _REMOVED if name != BINARY_HEADER)
            return ConvertedMessage(
                body,
                kind,
                {"content-type": kind},
                removed,
                response_options=inference.response_options,
            )
        path = f"/v2/models/{self.signature.model}"
        if self.signature.version:
            path += f"/versions/{self.signature.version}"
        return ConvertedMessage(
            v2_json.write_request(inference),
            JSON,
            {":path": f"{path}/infer", "content-type": JSON},
            _REMOVED,
            response_options=inference.response_options,
        )

    def _from_grpc(
        self, reply: ResponseOptions, headers: Headers, body: bytes
    ) -> ConvertedMessage | None:
        code = grpc_code(headers)
        if code is None:
            # Not from the model server: a local reply of Envoy's, which has its own body.
            return None
        if code != 0:
            status, text = grpc_problem(code, headers, reply.request_id)
            return _response(text, MEDIA_TYPE, status)
        from extproc.convert import protobuf
        from extproc.convert.response import check_answer, write_binary, write_json

        answer = protobuf.read_response(body)
        check_answer(answer)
        if reply.encoding == "protobuf":
            return _response(protobuf.write_response(answer), PROTOBUF[0])
        if reply.encoding == "binary" or reply.binary:
            written, length = write_binary(answer, self.signature, reply)
            return _response(written, OCTETS, headers={BINARY_HEADER: str(length)})
        return _response(write_json(answer, self.signature, reply), JSON)

    def _from_rest(self, reply: ResponseOptions, body: bytes) -> ConvertedMessage:
        from extproc.convert.response import check_answer, read_json, write_json

        answer = read_json(body, self.limits)
        check_answer(answer)
        return _response(write_json(answer, self.signature, reply), JSON)


class Converters:
    """The converters of one model version, built as they are needed."""

    def __init__(
        self, signature: Signature, protocol: Protocol, limits: ConversionLimits = DEFAULT
    ) -> None:
        self._signature = signature
        self._protocol: Protocol = protocol
        self._limits = limits
        self._built: dict[str, Converter] = {}
        self._sources: RequestReaders | None = None

    def choose(self, content_type: str | None) -> Converter | None:
        """The converter for a request's Content-Type; None: its body goes to the model as it is.

        Raises ConversionError (415) for a type that a gRPC model server could not read.
        """
        media = parse_media_type(content_type or "").name
        converter = self._built.get(media)
        if converter is not None:
            return converter
        kind = self._kind(media)
        if kind is None:
            return None
        converter = self._build(media, kind)
        # Only media types that are listed here get this far, so the cache is bounded.
        self._built[media] = converter
        return converter

    def _kind(self, media: str) -> str | None:
        """What reads this type, by the name of its converter; None: nothing is to be read."""
        if media.startswith(GRPC):
            return None
        if self._protocol == "http" and not self._signature.inputs:
            return None
        kind = _KINDS.get(media)
        if kind in ("image", "multipart") and not self._signature.image_inputs:
            kind = None
        if kind is None and self._protocol == "grpc":
            raise ConversionError(
                Reason.UNSUPPORTED_MEDIA_TYPE,
                "content-type",
                f"{media[:80]!r} cannot be converted for this model",
            )
        return kind

    def _build(self, media: str, kind: str) -> Converter:
        if self._sources is None:
            from extproc.convert.request_readers import RequestReaders

            self._sources = RequestReaders(self._signature, self._limits)
        return Converter(
            f"{kind}-{self._protocol}",
            self._protocol,
            self._signature,
            self._limits,
            0 if kind in ("image", "multipart") else _HEAVY_JSON,
            self._sources.of(kind, media),
        )


_KINDS = {
    # tritonclient's HTTP client names no type.
    "": "untyped",
    JSON: "json",
    OCTETS: "octets",
    MULTIPART: "multipart",
    **dict.fromkeys(PROTOBUF, "protobuf"),
    **dict.fromkeys(IMAGES, "image"),
}


def _check_length(body: bytes, headers: Headers) -> None:
    length = headers.get("content-length")
    if length is not None and length.strip() != str(len(body)):
        raise ConversionError(
            Reason.CONTENT_LENGTH_MISMATCH,
            "content-length",
            f"is {length[:20]}, the body has {len(body)}",
        )


def _negotiated(reply: ResponseOptions, accept: str) -> ResponseOptions:
    """The encoding that the client prefers; JSON where it does not say, or takes none of them."""
    if not accept:
        return reply
    ranges = accepts(accept)
    anything = ranges.get("application/*", ranges.get("*/*", 0.0))
    json = ranges.get(JSON, anything)
    protobuf = max(ranges.get(name, anything) for name in PROTOBUF)
    octets = ranges.get(OCTETS, anything)
    if protobuf > max(json, octets):
        return replace(reply, encoding="protobuf")
    if octets > json:
        return replace(reply, encoding="binary")
    return reply


def _response(
    body: bytes, content_type: str, status: int = 200, headers: Mapping[str, str] | None = None
) -> ConvertedMessage:
    return ConvertedMessage(
        body,
        content_type,
        {":status": str(status), "content-type": content_type, **(headers or {})},
        ("content-length", "grpc-status", "grpc-message", "grpc-encoding", "grpc-accept-encoding"),
        status,
    )
