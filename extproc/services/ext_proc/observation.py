"""One ext_proc stream in observability mode: collects a request and its response for mirroring.

Envoy sends all parts and waits for no response, so nothing here delays the client. The stream ends
as soon as it is clear that the request will not be copied.
"""

from collections.abc import Mapping
from typing import Final

from extproc.mirror import Copies, ObservedRequest, mirror_of
from extproc.mirror.answer import Answer
from extproc.mirror.request import GRPC_INFER
from extproc.policy.compiled import CompiledMirror, ModelPolicy
from extproc.policy.current import CurrentPolicy
from extproc.rpc import Call
from extproc.services.ext_proc.messages import pairs
from protos.base_pb2 import HeaderMap
from protos.ext_proc_pb2 import HttpBody, HttpHeaders, HttpTrailers, ProcessingRequest
from sluice.contract.headers import CONTENT_LENGTH
from sluice.contract.names import CLUSTER_ATTRIBUTE, ROUTE_ATTRIBUTE, split_route_name
from sluice.media_types import is_grpc

_EVENT_STREAM: Final = b"text/event-stream"


class Observation:
    """The stream of one request."""

    __slots__ = (
        "_answer_body", "_answer_headers", "_body", "_call", "_complete", "_copies",
        "_current_policy", "_ended", "_headers", "_memory", "_mirror", "_model", "_size", "_status",
    )  # fmt: skip

    def __init__(self, call: Call, copies: Copies, current_policy: CurrentPolicy) -> None:
        self._call = call
        self._copies = copies
        self._current_policy = current_policy
        self._ended = False
        self._complete = False
        """Whether the whole body of the request has arrived."""
        self._model: ModelPolicy | None = None
        self._mirror: CompiledMirror | None = None
        self._headers: Mapping[str, bytes] = {}
        self._body: list[bytes] = []
        self._status = 0
        self._answer_headers: dict[str, str] = {}
        self._answer_body: list[bytes] = []
        self._size = 0
        """Bytes of the present body."""
        self._memory = 0
        """Bytes that are reserved in `Copies.memory`."""

    def on_message(self, request: ProcessingRequest) -> None:
        """A part of the request or of the response."""
        part = request.WhichOneof("request")
        if self._ended or part is None:
            return
        if part == "request_headers":
            self._begin(request)
        elif self._mirror is None:
            self.end()
        elif part == "request_body":
            self._add(self._body, request.request_body)
            self._complete = request.request_body.end_of_stream
        elif part == "response_headers":
            self._on_response(request.response_headers)
        elif part == "response_body":
            self._add(self._answer_body, request.response_body)
            if request.response_body.end_of_stream:
                self._send()
        elif part == "response_trailers":
            self._on_trailers(request.response_trailers)

    def on_exhausted(self) -> None:
        """There is no memory for a message."""
        self._drop("memory")

    def end(self) -> None:
        """The request will not be copied: it cannot be, or it has ended early."""
        if not self._ended:
            self._ended = True
            self._copies.memory.release(self._memory)
            self._body, self._answer_body = [], []
            self._call.finish()

    def _begin(self, request: ProcessingRequest) -> None:
        attributes = {
            name: value for each in request.attributes.values() for name, value in each.items()
        }
        model, _ = split_route_name(str(attributes.get(ROUTE_ATTRIBUTE, "")))
        cluster = str(attributes.get(CLUSTER_ATTRIBUTE, ""))
        found = mirror_of(self._current_policy.current, model, cluster)
        headers = dict(pairs(request.request_headers.headers))
        if found is None or not _can_be_copied(headers):
            self.end()
            return
        self._model, self._mirror = found
        self._headers = headers
        self._complete = request.request_headers.end_of_stream
        length = headers.get(CONTENT_LENGTH, b"")
        if length.isdigit() and int(length) > self._mirror.settings.max_body:
            self._drop("too_large")
        elif not self._copies.has_room(self._mirror):
            self._drop("busy")

    def _on_response(self, response: HttpHeaders) -> None:
        headers = dict(pairs(response.headers))
        self._status = int(headers.pop(":status", b"0"))
        self._add_fields(response.headers)
        # A stream may never end, and an early answer says nothing about a request like this one.
        streams = headers.get("content-type", b"").startswith(_EVENT_STREAM)
        if self._status >= 500 or streams or not self._complete:
            self.end()
            return
        self._size = 0
        if response.end_of_stream:
            self._send()

    def _on_trailers(self, trailers: HttpTrailers) -> None:
        self._add_fields(trailers.trailers)
        self._send()

    def _add_fields(self, fields: HeaderMap) -> None:
        for each in fields.headers:
            value = each.raw_value or each.value.encode()
            self._answer_headers[each.key] = value.decode("latin-1")

    def _add(self, parts: list[bytes], message: HttpBody) -> None:
        size = len(message.body)
        assert self._mirror is not None
        self._size += size
        if self._size > self._mirror.settings.max_body:
            self._drop("too_large")
        elif not self._copies.memory.reserve(size):
            self._drop("memory")
        else:
            self._memory += size
            parts.append(message.body)

    def _drop(self, cause: str) -> None:
        if self._mirror is not None and not self._ended:
            self._copies.counts.dropped(self._mirror.target.cluster, cause)
        self.end()

    def _send(self) -> None:
        """The response has ended."""
        if self._ended:
            return
        assert self._model is not None
        assert self._mirror is not None
        answer = Answer(self._status, self._answer_headers, b"".join(self._answer_body))
        if answer.failed:
            self.end()
            return
        body, memory = b"".join(self._body), self._memory
        self._memory = 0
        self.end()
        self._copies.send(
            ObservedRequest(self._model, self._mirror, self._headers, body, answer, memory),
            self._current_policy.current,
        )


def _can_be_copied(headers: Mapping[str, bytes]) -> bool:
    """Whether the request is neither a handshake nor a stream."""
    path = headers.get(":path", b"").partition(b"?")[0]
    if is_grpc(headers.get("content-type", b"")):
        return path == GRPC_INFER.encode()
    return "upgrade" not in headers and not path.endswith(b"/generate_stream")
