"""Chooses the converter for a request, and converts requests and responses, without I/O.

Modules that need numpy or Pillow are imported when they are first used, so a worker that converts
nothing does not load them.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from extproc.convert.content_coding import (
    decompress,
    decompress_response,
    decompression_memory,
    request_codings,
    response_codings,
)
from extproc.convert.errors import ConversionError, quoted, response_too_large
from extproc.convert.grpc_status import grpc_code, grpc_problem
from extproc.convert.inference import (
    Headers,
    InferenceRequest,
    Query,
    Reading,
    RequestReader,
    ResponseOptions,
)
from extproc.convert.json_document import without_bom
from extproc.convert.limits import DEFAULT, ConversionLimits
from extproc.convert.media_types import (
    GRPC,
    HEADER_LENGTH,
    IMAGES,
    JSON,
    MULTIPART,
    OCTET_STREAM,
    PROTOBUF,
    is_json,
    media_type_name,
    parse_accept,
)
from extproc.convert.memory_needed import request_memory, response_memory
from extproc.convert.signature import Signature, check_request
from sluice.contract.paths import OIP_GRPC_PREFIX
from sluice.contract.problem import MEDIA_TYPE
from sluice.contract.reasons import Reason

if TYPE_CHECKING:
    from extproc.convert.request_readers import RequestReaders

ServerProtocol = Literal["http", "grpc"]
_QUERY_METHODS: Mapping[Query, str] = {"ready": "ModelReady", "metadata": "ModelMetadata"}
GRPC_PATH = f"{OIP_GRPC_PREFIX}ModelInfer"

_MIN_THREAD_SIZE = 16 << 10
"""Size in bytes from which a body without images is converted on a thread. For a smaller body,
passing it to a thread takes longer than converting it."""

_REMOVED_FROM_REQUEST = ("content-length", "content-encoding", HEADER_LENGTH)
"""Headers that describe the original body."""

_REMOVED_FROM_RESPONSE = (
    "content-length", "content-encoding", "content-md5", "content-digest", "digest", "repr-digest",
    "etag", "accept-ranges", "grpc-status", "grpc-message", "grpc-encoding", "grpc-accept-encoding",
)  # fmt: skip
"""Headers that describe the original body (RFC 9110 section 8, RFC 9530), and the status of a gRPC
call."""


@dataclass(frozen=True, slots=True)
class ConvertedMessage:
    """The new body of a request or response, and the changes to its headers."""

    body: bytes
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


@dataclass(frozen=True, slots=True)
class Converter:
    """Converts one media type for one model version. Safe to share between threads."""

    name: str
    """Kind of body and protocol, such as `image-grpc`, for metrics."""
    protocol: ServerProtocol
    signature: Signature
    limits: ConversionLimits
    min_thread_size: int
    """Size in bytes from which a body should be converted on a thread, off the event loop. It does
    not matter if `releases_lock`."""
    _read: RequestReader
    releases_lock: bool = False
    """Whether most of the work releases the interpreter lock, as the decoders of images do. Then a
    body of any size is converted on a thread."""

    @property
    def takes_body(self) -> bool:
        """Whether a request has a body to convert."""
        return True

    def convert_request(self, body: bytes, headers: Headers) -> ConvertedMessage:
        """Convert a request for the model server. Raises ConversionError (400, 413, 415, 422)."""
        converted = completed(self.request_steps(body, headers))
        assert converted is not None
        return converted

    def request_steps(self, body: bytes, headers: Headers) -> Steps:
        """Do the same in steps. Before a step, yields the bytes that it takes at most."""
        _check_length(body, headers)
        codings = request_codings(headers.get("content-encoding", ""), self.limits)
        if codings:
            yield decompression_memory(len(body), codings, self.limits.max_body)
            body = decompress(body, codings, self.limits.max_body)
        memory = self._memory(body, headers)
        yield memory
        request = yield from _after(memory, self._read(body, headers))
        check_request(request, self.signature, self.limits)
        if self.protocol == "grpc":
            return self._to_grpc(request, headers)
        return self._to_rest(request, body, headers)

    def _memory(self, body: bytes, headers: Headers) -> int:
        """The bytes that reading and writing a body take at most, without its images."""
        from extproc.convert import binary

        kind = self.name.partition("-")[0]
        length = headers.get(HEADER_LENGTH) if kind in ("json", "untyped", "octets") else None
        head = None if length is None else binary.json_length(length, len(body))
        return request_memory(kind, self.protocol, body, head, self.limits)

    def reads_response(self, options: ResponseOptions, status: int, headers: Headers) -> bool:
        """Whether the response to a request with these options is read, by status and headers.

        If not, the response is forwarded unchanged. `options` are the `response_options` of the
        converted request.
        """
        if self.protocol == "grpc":
            # A local reply of Envoy has no gRPC status, and needs no conversion.
            return "grpc-status" in headers or _media_type(headers) == GRPC
        return status == 200 and _media_type(headers) == JSON and self._changes_response(options)

    def _changes_response(self, options: ResponseOptions) -> bool:
        """Whether a valid response of a REST server differs from that for the client."""
        return options.form == "v1" or self.signature.has_labels

    def convert_response(
        self, options: ResponseOptions, status: int, headers: Headers, body: bytes
    ) -> ConvertedMessage | None:
        """Convert a response for the client; None if the response is forwarded unchanged.

        Raises ConversionError (502).
        """
        return completed(self.response_steps(options, status, headers, body))

    def check_response_headers(self, headers: Headers) -> None:
        """Raises ConversionError (502) if the headers show that the response cannot be read."""
        length = headers.get("content-length", "")
        if length.isdecimal():
            self.check_response_length(int(length))
        response_codings(headers.get("content-encoding", ""), self.limits)

    def response_steps(
        self, options: ResponseOptions, status: int, headers: Headers, body: bytes
    ) -> Steps:
        """Convert a response in steps."""
        if not self.reads_response(options, status, headers):
            return None
        self.check_response_length(len(body))
        codings = response_codings(headers.get("content-encoding", ""), self.limits)
        if codings:
            yield decompression_memory(len(body), codings, self.limits.max_response)
            body = decompress_response(body, codings, self.limits.max_response)
        yield response_memory(len(body))
        if self.protocol == "grpc":
            return self._from_grpc(options, headers, body)
        converted = self._from_rest(options, headers, body)
        if converted is None and codings:
            # The client may not accept the coding of a server that ignores `identity`.
            return _with_vary(_response(body, headers["content-type"]), headers.get("vary", ""))
        return converted

    def check_response_length(self, length: int) -> None:
        """Raises ConversionError (502) for a response of too many bytes."""
        if length > self.limits.max_response:
            raise response_too_large(f"must be at most {self.limits.max_response} bytes")

    def _to_grpc(self, request: InferenceRequest, headers: Headers) -> ConvertedMessage:
        from extproc.convert import binary, protobuf

        request = binary.take_binary_options(request)
        return ConvertedMessage(
            protobuf.write_request(request, self.signature),
            PROTOBUF[0],
            {":path": GRPC_PATH, "content-type": PROTOBUF[0], "te": "trailers"},
            (*_REMOVED_FROM_REQUEST, "accept-encoding"),
            response_options=replace(
                _with_accepted_encoding(request.response_options, headers.get("accept", "")),
                request_id=headers.get("x-request-id", ""),
            ),
        )

    def _to_rest(
        self, request: InferenceRequest, body: bytes, headers: Headers
    ) -> ConvertedMessage:
        from extproc.convert import v2_json

        changed = {}
        if self._changes_response(request.response_options):
            # The response is read, so the client's preference is not the server's concern.
            changed["accept-encoding"] = "identity"
        if request.verbatim:
            name = media_type_name(headers.get("content-type", JSON))
            content_type = JSON if is_json(name) else name
            removed = tuple(name for name in _REMOVED_FROM_REQUEST if name != HEADER_LENGTH)
            return ConvertedMessage(
                # Some JSON parsers of servers refuse a byte order mark.
                body if HEADER_LENGTH in headers else without_bom(body),
                content_type,
                {"content-type": content_type, **changed},
                removed,
                response_options=request.response_options,
            )
        path = f"/v2/models/{self.signature.model}"
        if self.signature.version:
            path += f"/versions/{self.signature.version}"
        return ConvertedMessage(
            v2_json.write_request(request),
            JSON,
            {":path": f"{path}/infer", "content-type": JSON, **changed},
            _REMOVED_FROM_REQUEST,
            response_options=request.response_options,
        )

    def _from_grpc(
        self, options: ResponseOptions, headers: Headers, body: bytes
    ) -> ConvertedMessage | None:
        code = grpc_code(headers)
        if code is None:
            return None
        if code != 0:
            status, reason, document = grpc_problem(code, headers, options.request_id)
            return replace(_response(document, MEDIA_TYPE, status), reason=reason)
        return self._from_message(options, body)

    def _from_message(self, options: ResponseOptions, body: bytes) -> ConvertedMessage:
        """The message of a gRPC response as the client requested it."""
        from extproc.convert import protobuf
        from extproc.convert.grpc_response import read_response
        from extproc.convert.response import write_binary, write_json

        response = read_response(body)
        if options.encoding == "protobuf":
            return _response(protobuf.write_response(response), PROTOBUF[0])
        if options.encoding == "binary" or options.binary:
            written, length = write_binary(response, self.signature, options)
            return _response(written, OCTET_STREAM, headers={HEADER_LENGTH: str(length)})
        return _response(write_json(response, self.signature, options), JSON)

    def _from_rest(
        self, options: ResponseOptions, headers: Headers, body: bytes
    ) -> ConvertedMessage | None:
        from extproc.convert.rest_response import predictions, with_labels

        if options.form == "v1":
            written = predictions(body, self.limits)
        else:
            labeled = with_labels(body, self.signature, self.limits)
            if labeled is None:
                return None
            written = labeled
        return _with_vary(_response(written, JSON), headers.get("vary", ""))


@dataclass(frozen=True, slots=True)
class QueryConverter(Converter):
    """Converts a request without a body to a gRPC call, and the response to JSON."""

    query: Query = "ready"

    @property
    def takes_body(self) -> bool:
        """A query has no body."""
        return False

    def request_steps(self, body: bytes, headers: Headers) -> Steps:
        """The gRPC call, which names the model. The server chooses the version."""
        from extproc.convert.model_query import write_query

        yield len(body)
        return ConvertedMessage(
            write_query(self.query, self.signature),
            PROTOBUF[0],
            {
                ":method": "POST",
                ":path": f"{OIP_GRPC_PREFIX}{_QUERY_METHODS[self.query]}",
                "content-type": PROTOBUF[0],
                "te": "trailers",
            },
            (*_REMOVED_FROM_REQUEST, "accept-encoding"),
            response_options=ResponseOptions(request_id=headers.get("x-request-id", "")),
        )

    def _from_message(self, options: ResponseOptions, body: bytes) -> ConvertedMessage:
        from extproc.convert.model_query import read_answer

        status, document = read_answer(self.query, self.signature, body)
        return _response(document, JSON, status)


def _no_tensors(body: bytes, headers: Headers) -> Reading:
    yield len(body)
    return InferenceRequest([])


def _after(memory: int, reading: Reading) -> Generator[int, None, InferenceRequest]:
    """The steps of the reading, which yield its memory in addition to `memory`."""
    while True:
        try:
            needed = next(reading)
        except StopIteration as end:
            request: InferenceRequest = end.value
            return request
        yield memory + needed


class Converters:
    """The converters of one model version. A converter is built on first use."""

    def __init__(
        self, signature: Signature, protocol: ServerProtocol, limits: ConversionLimits = DEFAULT
    ) -> None:
        self._signature = signature
        self._protocol: ServerProtocol = protocol
        self._limits = limits
        self._built: dict[str, Converter] = {}
        self._queries: dict[Query, Converter] = {}
        self._readers: RequestReaders | None = None

    def choose(self, content_type: str | None) -> Converter | None:
        """The converter for a Content-Type; None if the body is forwarded unchanged.

        Raises ConversionError (415) for a type that cannot be converted for a gRPC model server.
        """
        media_type = media_type_name(content_type or "")
        if is_json(media_type):
            media_type = JSON
        converter = self._built.get(media_type)
        if converter is not None:
            return converter
        kind = self._kind(media_type)
        if kind is None:
            return None
        converter = self._build(media_type, kind)
        # `_built` is bounded: only the media types of `_KINDS` have a converter.
        self._built[media_type] = converter
        return converter

    def query(self, query: Query) -> Converter:
        """The converter of a request for the readiness or the metadata of the model."""
        converter = self._queries.get(query)
        if converter is None:
            converter = self._queries[query] = QueryConverter(
                f"{query}-grpc", "grpc", self._signature, self._limits, 0, _no_tensors, query=query
            )
        return converter

    def _kind(self, media_type: str) -> str | None:
        """The kind of body, which begins the converter's name; None if it is not converted."""
        if media_type == GRPC:
            return None
        if self._protocol == "http" and not self._signature.inputs:
            return None
        kind = _KINDS.get(media_type)
        if kind in ("image", "multipart") and not self._signature.image_inputs:
            kind = None
        if kind is None and self._protocol == "grpc":
            raise ConversionError(
                Reason.UNSUPPORTED_MEDIA_TYPE,
                "content-type",
                f"{quoted(media_type)} is not accepted by this model",
            )
        return kind

    def _build(self, media_type: str, kind: str) -> Converter:
        if self._readers is None:
            from extproc.convert.request_readers import RequestReaders

            self._readers = RequestReaders(self._signature, self._limits)
        return Converter(
            f"{kind}-{self._protocol}",
            self._protocol,
            self._signature,
            self._limits,
            _MIN_THREAD_SIZE,
            self._readers.reader(kind, media_type),
            releases_lock=kind in ("image", "multipart"),
        )


_KINDS = {
    # tritonclient's HTTP client sends no content type.
    "": "untyped",
    JSON: "json",
    OCTET_STREAM: "octets",
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
            f"is {length[:20]}, but the body has {len(body)} bytes",
        )


def _with_accepted_encoding(options: ResponseOptions, accept: str) -> ResponseOptions:
    """The options with the encoding that has the highest weight in Accept. JSON wins a tie."""
    if not accept:
        return options
    weights = parse_accept(accept)
    wildcard = weights.get("application/*", weights.get("*/*", 0.0))
    json = weights.get(JSON, wildcard)
    protobuf = max(weights.get(name, wildcard) for name in PROTOBUF)
    binary = weights.get(OCTET_STREAM, wildcard)
    if protobuf > max(json, binary):
        return replace(options, encoding="protobuf")
    if binary > json:
        return replace(options, encoding="binary")
    return options


def _response(
    body: bytes, content_type: str, status: int = 200, headers: Mapping[str, str] | None = None
) -> ConvertedMessage:
    return ConvertedMessage(
        body,
        content_type,
        {":status": str(status), "content-type": content_type, **(headers or {})},
        _REMOVED_FROM_RESPONSE,
        status,
    )


def _with_vary(response: ConvertedMessage, vary: str) -> ConvertedMessage:
    """The response without `accept-encoding` in Vary: its body has no content coding."""
    names = [name.strip() for name in vary.split(",")]
    others = [name for name in names if name and name.lower() != "accept-encoding"]
    if len(others) == len(names):
        return response
    if others:
        return replace(response, headers={**response.headers, "vary": ", ".join(others)})
    return replace(response, remove=(*response.remove, "vary"))


def _media_type(headers: Headers) -> str:
    return media_type_name(headers.get("content-type", ""))
