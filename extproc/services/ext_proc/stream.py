"""envoy.service.ext_proc.v3.ExternalProcessor: a decision for each request that Envoy streams.

A request without a body, or with a declared length that nobody must read, costs one message each
way. Where the length is not declared, Envoy is asked to stream the body past, so that it can be
counted; where the body must be converted, to hold it. Calls of the Open Inference Protocol by gRPC
are streamed past too, to be read along: their messages must be whole, and name the model.
"""

from collections.abc import Awaitable

from extproc.convert import ConversionPool
from extproc.decision import Admission, Decision, Reason, Refusal
from extproc.decision.request import join_headers
from extproc.decision.validate import MISSING_MESSAGE, body_too_large, is_oip_grpc
from extproc.rpc import Call, Handler, RpcError, StatusCode
from extproc.services.decider import Decider
from extproc.services.ext_proc import messages
from extproc.services.ext_proc.admission_cache import AdmissionCache, CachedAdmission, MessageParts
from extproc.services.ext_proc.conversion import Conversion
from extproc.services.ext_proc.grpc_body_check import GrpcBodyCheck
from extproc.services.response_cache import ResponseCache
from extproc.services.responses import (
    failed,
    refusal_body,
    refusal_details,
    refusal_headers,
    removed_headers,
    upstream_headers,
)
from protos.ext_proc_pb2 import HttpBody, HttpHeaders, ProcessingMode, ProcessingRequest
from sluice.contract.grpc import grpc_status


class ExternalProcessor:
    """The service: opens a handler for each stream, that is for each request."""

    def __init__(self, decider: Decider, pool: ConversionPool | None = None) -> None:
        self.decider = decider
        self.current_policy = decider.current_policy
        self.pool = pool or ConversionPool()
        self.admissions = AdmissionCache()
        self._answers = ResponseCache()

    def open(self, call: Call) -> Handler:
        """Start on one request."""
        return _Stream(self, call)

    def admitted(
        self, admission: Admission, headers: dict[str, bytes], mode: ProcessingMode | None
    ) -> bytes:
        """The serialised answer to a request that goes on."""
        policy = self.current_policy.current
        assert policy is not None
        removed = tuple(removed_headers(policy, headers))
        return self._answers.get(
            policy,
            admission,
            (removed, id(mode)),
            lambda: messages.request_headers(upstream_headers(admission), removed, mode),
        )

    def split(self, message: bytes) -> MessageParts | None:
        """A request's first message in parts; None where it has to be read in any case."""
        policy = self.current_policy.current
        if policy is None or not self.decider.repeatable:
            return None
        return self.admissions.split(policy, message)


class _Stream:
    """One request, from its headers on."""

    __slots__ = (
        "_begun", "_call", "_conversion", "_headers", "_limit", "_native", "_received", "_refused",
        "_service",
    )  # fmt: skip

    def __init__(self, service: ExternalProcessor, call: Call) -> None:
        self._service = service
        self._call = call
        self._begun = False
        self._conversion: Conversion | None = None
        self._native: GrpcBodyCheck | None = None
        self._headers: dict[str, bytes] = {}
        self._limit = 0
        self._received = 0
        self._refused = False

    def on_message(self, message: bytes) -> Awaitable[None] | None:
        parts = None
        if not self._begun:
            self._begun = True
            parts = self._service.split(message)
            if parts is not None:
                known = self._service.admissions.get(parts, self._service.decider.clock)
                if known is not None:
                    self._on_known(known, message)
                    return None
        request = _parsed(message)
        kind = request.WhichOneof("request")
        if kind == "request_headers":
            return self._on_headers(request.request_headers, message, parts)
        if self._conversion is not None:
            return self._convert(self._conversion, kind, request)
        if kind == "request_body":
            if self._native is not None:
                return self._read_along(self._native, request.request_body)
            self._count(request.request_body)
        elif kind == "request_trailers" and self._native is not None:
            self._refuse(self._headers, _TRAILERS)
        elif kind is not None:
            self._call.send(messages.PASS[kind])
        return None

    def on_half_close(self) -> None:
        self._call.finish()

    def on_cancel(self) -> None:
        """Nothing is held for a request."""

    def _on_known(self, known: CachedAdmission, message: bytes) -> None:
        """A request like one before. Its headers are read only where it must be told why not."""
        decision = self._service.decider.admit_again(known.admission)
        if isinstance(decision, Refusal):
            self._refuse(header_dict(_parsed(message).request_headers), decision)
        else:
            self._limit = decision.max_body
            self._call.send(known.response)

    def _on_headers(
        self, told: HttpHeaders, message: bytes, parts: MessageParts | None
    ) -> Awaitable[None] | None:
        """Decide; `parts` are the message's, where its admission may be kept."""
        headers = header_dict(told)
        has_body = not told.end_of_stream
        decision = self._service.decider.decide(headers, has_body=has_body)
        if not isinstance(decision, Admission | Refusal):
            return self._answer_later(headers, decision, has_body=has_body)
        answer = self._answer(headers, decision, has_body=has_body)
        if answer is not None and parts is not None and isinstance(decision, Admission):
            self._service.admissions.put(parts, message, headers, decision, answer)
        return None

    async def _answer_later(
        self, headers: dict[str, bytes], decision: Awaitable[Decision], *, has_body: bool
    ) -> None:
        self._answer(headers, await decision, has_body=has_body)

    def _answer(
        self, headers: dict[str, bytes], decision: Decision, *, has_body: bool
    ) -> bytes | None:
        """Send what was decided; returns it where nothing more of the request is to come."""
        if isinstance(decision, Refusal):
            self._refuse(headers, decision)
            return None
        self._headers, self._limit = headers, decision.max_body
        try:
            mode = self._mode(headers, decision, has_body=has_body)
            answer = self._service.admitted(decision, headers, mode)
        except Exception as error:
            self._refuse(headers, failed(error))
            return None
        self._call.send(answer)
        return answer if mode is None else None

    def _mode(
        self, headers: dict[str, bytes], admission: Admission, *, has_body: bool
    ) -> ProcessingMode | None:
        """What Envoy is to do with the body; None: let it pass."""
        if admission.converter is not None:
            policy = self._service.current_policy.current
            assert policy is not None
            self._conversion = Conversion(
                admission.converter,
                self._service.pool,
                headers,
                expose_reason=policy.expose_reason,
            )
            if has_body and "content-length" not in headers:
                return messages.CONVERT_UNMEASURED_BODY
            return messages.CONVERT_BODY
        if has_body and is_oip_grpc(headers[":path"]):
            pool = self._service.pool
            self._native = GrpcBodyCheck(admission.target, admission.max_body, headers, pool)
            return messages.READ_BODY
        if has_body and "content-length" not in headers and not _is_stream(headers, admission):
            return messages.COUNT_BODY
        return None

    def _count(self, body: HttpBody) -> None:
        if self._refused:
            return
        self._received += len(body.body)
        if self._received > self._limit:
            self._refuse(self._headers, body_too_large(self._limit))
        else:
            self._call.send(messages.PASS["request_body"])

    def _read_along(self, native: GrpcBodyCheck, body: HttpBody) -> Awaitable[None] | None:
        if self._refused:
            return None
        self._received += len(body.body)
        if body.end_of_stream and not self._received:
            self._refuse(self._headers, MISSING_MESSAGE)
            return None
        found = native.check(body.body, last=body.end_of_stream)
        if found is not None and not isinstance(found, Refusal):
            return self._pass_later(found)
        self._pass_unless(found)
        return None

    async def _pass_later(self, refusal: Awaitable[Refusal | None]) -> None:
        self._pass_unless(await refusal)

    def _pass_unless(self, refusal: Refusal | None) -> None:
        if refusal is not None:
            self._refuse(self._headers, refusal)
        else:
            self._call.send(messages.PASS["request_body"])

    def _convert(
        self, conversion: Conversion, kind: str | None, request: ProcessingRequest
    ) -> Awaitable[None] | None:
        """Hand one part of a converted exchange on, and send what becomes of it."""
        answer: bytes | Awaitable[bytes]
        if kind == "request_body":
            body = request.request_body.body
            if len(body) > self._limit:
                self._refuse(self._headers, body_too_large(self._limit))
                return None
            if not request.request_body.end_of_stream and "content-length" not in self._headers:
                self._refuse(self._headers, _PART)
                return None
            answer = conversion.request_body(body)
        elif kind == "response_headers":
            answer = conversion.response_headers(request.response_headers)
        elif kind == "response_body":
            answer = conversion.response_body(request.response_body.body)
        elif kind == "response_trailers":
            answer = conversion.response_trailers(request.response_trailers)
        elif kind is not None:
            answer = messages.PASS[kind]
        else:
            return None
        if not isinstance(answer, bytes):
            return self._send(answer)
        self._call.send(answer)
        return None

    async def _send(self, answer: Awaitable[bytes]) -> None:
        self._call.send(await answer)

    def _refuse(self, headers: dict[str, bytes], refusal: Refusal) -> None:
        self._refused = True
        is_grpc = headers.get("content-type", b"").startswith(b"application/grpc")
        self._call.send(
            messages.immediate(
                refusal.status,
                refusal_headers(self._service.current_policy.current, refusal),
                refusal_body(refusal, headers),
                refusal_details(refusal),
                grpc_status(refusal.status) if is_grpc else None,
            )
        )


_TRAILERS = Refusal(Reason.MALFORMED_REQUEST, "a gRPC call ends with a message, not with trailers")
"""Requests have none (gRPC over HTTP/2): a server would go on waiting for what is not whole."""

_PART = Refusal(
    Reason.MALFORMED_REQUEST,
    "the body is not here as a whole: declare its length, or send it without trailers",
)
"""Of what Envoy holds by a lower limit, from before or after a change of it, only the beginning
comes to be converted; the rest would reach the model behind that, as it is. A body before trailers
looks the same.
"""


def _parsed(message: bytes) -> ProcessingRequest:
    try:
        return ProcessingRequest.FromString(message)
    except Exception as error:
        raise RpcError(StatusCode.INVALID_ARGUMENT, "not a ProcessingRequest") from error


def header_dict(message: HttpHeaders) -> dict[str, bytes]:
    """The headers by name; values of a name that came twice are joined."""
    headers = {h.key: h.raw_value or h.value.encode() for h in message.headers.headers}
    if len(headers) < len(message.headers.headers):
        return join_headers(messages.pairs(message.headers))
    return headers


def _is_stream(headers: dict[str, bytes], admission: Admission) -> bool:
    """Whether the limit is not on the body as a whole: WebSockets, and gRPC to a gRPC server."""
    if "upgrade" in headers:
        return headers["upgrade"].lower() == b"websocket"
    content_type = headers.get("content-type", b"")
    return content_type.startswith(b"application/grpc") and admission.target.protocol == "grpc"
