"""Converts requests and responses of one media type, without I/O.

Modules that need numpy or Pillow are imported when they are first used, so a worker that converts
nothing does not load them.
"""

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Literal

from extproc.convert.content_coding import (
    decompress,
    decompress_response,
    decompression_memory,
    request_codings,
    response_codings,
)
from extproc.convert.converted_message import (
    REMOVED_FROM_REQUEST,
    ConvertedMessage,
    Steps,
    completed,
    converted_response,
    uncoded_response,
)
from extproc.convert.errors import ConversionError, response_too_large
from extproc.convert.grpc_status import grpc_code, grpc_problem
from extproc.convert.inference import (
    Encoding,
    Headers,
    InferenceRequest,
    Reading,
    RequestReader,
    ResponseOptions,
)
from extproc.convert.json_document import without_bom
from extproc.convert.limits import ConversionLimits
from extproc.convert.memory_needed import counted_fields, request_memory, response_memory
from extproc.convert.protobuf_wire import RESPONSE, Nested
from extproc.convert.signature import Signature, check_request
from sluice.contract.paths import OIP_GRPC_PREFIX
from sluice.contract.problem import MEDIA_TYPE
from sluice.contract.reasons import Reason
from sluice.media_types import (
    GRPC,
    HEADER_LENGTH,
    JSON,
    OCTET_STREAM,
    PROTOBUF,
    is_json,
    media_type_name,
    parse_accept,
)

ServerProtocol = Literal["http", "grpc"]
GRPC_PATH = f"{OIP_GRPC_PREFIX}ModelInfer"
_GRPC_HEADERS = {":path": GRPC_PATH, "content-type": PROTOBUF[0], "te": "trailers"}
_REMOVED_FOR_GRPC = (*REMOVED_FROM_REQUEST, "accept-encoding")


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
        kind = self.name.partition("-")[0]
        length = headers.get(HEADER_LENGTH) if kind in ("json", "untyped", "octets") else None
        head = None
        if length is not None:
            from extproc.convert.binary import json_length

            head = json_length(length, len(body))
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
        nested = self._response_fields
        fields = 0 if nested is None else counted_fields(body, nested, self.limits)
        yield response_memory(len(body), fields)
        if self.protocol == "grpc":
            return self._from_grpc(options, headers, body)
        converted = self._from_rest(options, headers, body)
        if converted is None and codings:
            # The client may not accept the coding of a server that ignores `identity`.
            return uncoded_response(body, headers["content-type"], headers)
        return converted

    @property
    def _response_fields(self) -> Nested | None:
        """The fields of a response message that take memory; None for JSON."""
        return RESPONSE if self.protocol == "grpc" else None

    def check_response_length(self, length: int) -> None:
        """Raises ConversionError (502) for a response of too many bytes."""
        if length > self.limits.max_response:
            raise response_too_large(f"must be at most {self.limits.max_response} bytes")

    def _to_grpc(self, request: InferenceRequest, headers: Headers) -> ConvertedMessage:
        from extproc.convert.binary import take_binary_options
        from extproc.convert.protobuf import write_request

        request = take_binary_options(request)
        return ConvertedMessage(
            write_request(request, self.signature),
            PROTOBUF[0],
            _GRPC_HEADERS,
            _REMOVED_FOR_GRPC,
            response_options=_options_of_call(request.response_options, headers),
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
            removed = tuple(name for name in REMOVED_FROM_REQUEST if name != HEADER_LENGTH)
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
            REMOVED_FROM_REQUEST,
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
            return replace(converted_response(document, MEDIA_TYPE, status), reason=reason)
        return self._from_message(options, body)

    def _from_message(self, options: ResponseOptions, body: bytes) -> ConvertedMessage:
        """The message of a gRPC response as the client requested it."""
        from extproc.convert.grpc_response import read_response

        response = read_response(body, self.limits)
        if options.encoding == "protobuf":
            from extproc.convert.protobuf import write_response

            return converted_response(write_response(response), PROTOBUF[0])
        if options.encoding == "binary" or options.binary:
            from extproc.convert.response import write_binary

            written, length = write_binary(response, self.signature, options)
            return converted_response(written, OCTET_STREAM, headers={HEADER_LENGTH: str(length)})
        from extproc.convert.response import write_json

        return converted_response(write_json(response, self.signature, options), JSON)

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
        return uncoded_response(written, JSON, headers)


def _after(memory: int, reading: Reading) -> Generator[int, None, InferenceRequest]:
    """The steps of the reading, which yield its memory in addition to `memory`."""
    while True:
        try:
            needed = next(reading)
        except StopIteration as end:
            request: InferenceRequest = end.value
            return request
        yield needed + memory


def _check_length(body: bytes, headers: Headers) -> None:
    length = headers.get("content-length")
    if length is not None and length.strip() != str(len(body)):
        raise ConversionError(
            Reason.CONTENT_LENGTH_MISMATCH,
            "content-length",
            f"is {length[:20]}, but the body has {len(body)} bytes",
        )


def _options_of_call(options: ResponseOptions, headers: Headers) -> ResponseOptions:
    """The options with the encoding that the client accepts, and the id of the request."""
    return ResponseOptions(
        _accepted_encoding(options, headers.get("accept", "")),
        options.form,
        options.binary,
        options.text,
        headers.get("x-request-id", ""),
    )


def _accepted_encoding(options: ResponseOptions, accept: str) -> Encoding:
    """The encoding that has the highest weight in Accept. JSON wins a tie."""
    if not accept:
        return options.encoding
    weights = parse_accept(accept)
    wildcard = weights.get("application/*", weights.get("*/*", 0.0))
    json = weights.get(JSON, wildcard)
    protobuf = max(weights.get(name, wildcard) for name in PROTOBUF)
    binary = weights.get(OCTET_STREAM, wildcard)
    if protobuf > max(json, binary):
        return "protobuf"
    return "binary" if binary > json else options.encoding


def _media_type(headers: Headers) -> str:
    return media_type_name(headers.get("content-type", ""))
