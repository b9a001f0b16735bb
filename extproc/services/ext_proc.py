"""envoy.service.ext_proc.v3.ExternalProcessor: a decision for each request that Envoy streams.

A request without a body, or with a declared length, costs one message each way. Where the length is
not declared, Envoy is asked to stream the body past, so that it can be counted.
"""

import time
from collections.abc import Awaitable, Callable

from extproc.decision import Admission, Decision, Refusal, Request, decide
from extproc.decision.request import join_headers
from extproc.decision.validate import too_large
from extproc.policies import Policies
from extproc.policy import Policy
from extproc.problem import grpc_status, problem_body
from extproc.rpc import Call, Handler, RpcError, StatusCode
from extproc.services.outcome import (
    NO_POLICY,
    Headers,
    failed,
    refusal_headers,
    removed_headers,
    upstream_headers,
)
from protos.base_pb2 import HeaderValue, HeaderValueOption
from protos.ext_proc_pb2 import (
    BodyResponse,
    CommonResponse,
    HeaderMutation,
    HeadersResponse,
    HttpHeaders,
    ImmediateResponse,
    ProcessingMode,
    ProcessingRequest,
    ProcessingResponse,
)

PROCESS = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"

ANSWERS = 4096
"""Serialised answers kept for admissions that recur: 1.3 us to look one up, 9 us to make one."""

_COUNT_BODY = ProcessingMode(
    response_header_mode=ProcessingMode.SKIP, request_body_mode=ProcessingMode.STREAMED
)
_PASS_BODY = ProcessingResponse(request_body=BodyResponse()).SerializeToString()
_PASS = {
    "response_headers": ProcessingResponse(response_headers=HeadersResponse()).SerializeToString(),
    "response_body": ProcessingResponse(response_body=BodyResponse()).SerializeToString(),
    "request_trailers": ProcessingResponse(request_trailers={}).SerializeToString(),
    "response_trailers": ProcessingResponse(response_trailers={}).SerializeToString(),
}


class ExternalProcessor:
    """The service: opens a handler for each stream, that is for each request."""

    def __init__(self, policies: Policies, clock: Callable[[], float] = time.time) -> None:
        self.policies = policies
        self.clock = clock
        self._answers: dict[object, bytes] = {}
        self._answers_of: Policy | None = None

    def open(self, call: Call) -> Handler:
        """Start on one request."""
        return _Stream(self, call)

    def admitted(
        self, admission: Admission, headers: dict[str, bytes], *, count_body: bool
    ) -> bytes:
        """The serialised answer to a request that goes on; equal ones are made once."""
        policy = self.policies.current
        assert policy is not None
        removed = removed_headers(policy, headers)
        key = (
            admission.target.cluster, admission.reason, admission.subject, tuple(removed),
            count_body,
        )  # fmt: skip
        if self._answers_of is not policy:
            self._answers.clear()
            self._answers_of = policy
        answer = self._answers.get(key)
        if answer is None:
            answer = _admitted(admission, removed, count_body=count_body)
            if len(self._answers) >= ANSWERS:
                del self._answers[next(iter(self._answers))]
            self._answers[key] = answer
        return answer


class _Stream:
    """One request, from its headers on."""

    __slots__ = ("_call", "_limit", "_received", "_refused", "_service")

    def __init__(self, service: ExternalProcessor, call: Call) -> None:
        self._service = service
        self._call = call
        self._limit = 0
        self._received = 0
        self._refused = False

    def on_message(self, message: bytes) -> Awaitable[None] | None:
        try:
            request = ProcessingRequest.FromString(message)
        except Exception as error:
            raise RpcError(StatusCode.INVALID_ARGUMENT, "not a ProcessingRequest") from error
        kind = request.WhichOneof("request")
        if kind == "request_headers":
            return self._on_headers(request.request_headers)
        if kind == "request_body":
            self._on_body(len(request.request_body.body))
        elif kind is not None:
            self._call.send(_PASS[kind])
        return None

    def on_half_close(self) -> None:
        self._call.finish()

    def on_cancel(self) -> None:
        """Nothing is held for a request."""

    def _on_headers(self, message: HttpHeaders) -> Awaitable[None] | None:
        headers = header_dict(message)
        has_body = not message.end_of_stream
        decision = self._decide(headers, has_body=has_body)
        if type(decision) is Refusal and decision.refresh is not None:
            refreshed = self._service.policies.refresh_keys(decision.refresh)
            if refreshed is not None:
                return self._decide_again(refreshed, headers, has_body=has_body)
        self._answer(headers, decision, has_body=has_body)
        return None

    async def _decide_again(
        self, refreshed: Awaitable[None], headers: dict[str, bytes], *, has_body: bool
    ) -> None:
        """The token's key was unknown: decide with the keys that the issuer has now."""
        await refreshed
        self._answer(headers, self._decide(headers, has_body=has_body), has_body=has_body)

    def _decide(self, headers: dict[str, bytes], *, has_body: bool) -> Decision:
        """Decide by the policy in force; a failure to decide is a refusal."""
        policy = self._service.policies.current
        if policy is None:
            return NO_POLICY
        try:
            return decide(policy, Request(headers, has_body, self._service.clock()))
        except Exception as error:
            return failed(error)

    def _answer(self, headers: dict[str, bytes], decision: Decision, *, has_body: bool) -> None:
        if isinstance(decision, Refusal):
            self._refuse(headers, decision)
            return
        self._limit = decision.max_body
        undeclared = has_body and "content-length" not in headers
        count_body = undeclared and not _is_stream(headers, decision)
        try:
            answer = self._service.admitted(decision, headers, count_body=count_body)
        except Exception as error:
            self._refuse(headers, failed(error))
        else:
            self._call.send(answer)

    def _on_body(self, size: int) -> None:
        if self._refused:
            return
        self._received += size
        if self._received > self._limit:
            self._refuse({}, too_large(self._limit))
        else:
            self._call.send(_PASS_BODY)

    def _refuse(self, headers: dict[str, bytes], refusal: Refusal) -> None:
        self._refused = True
        policy = self._service.policies.current
        answer = ImmediateResponse(
            body=problem_body(refusal, headers.get("x-request-id")),
            details=f"sluice:{refusal.reason}",
        )
        answer.status.code = refusal.status
        answer.headers.set_headers.extend(_options(refusal_headers(policy, refusal)))
        if headers.get("content-type", b"").startswith(b"application/grpc"):
            answer.grpc_status.status = grpc_status(refusal)
        self._call.send(ProcessingResponse(immediate_response=answer).SerializeToString())


def header_dict(message: HttpHeaders) -> dict[str, bytes]:
    """The headers by name. Envoy fills raw_value, other clients of the protocol value."""
    listed = message.headers.headers
    headers = {header.key: header.raw_value or header.value.encode() for header in listed}
    if len(headers) < len(listed):
        return join_headers((h.key, h.raw_value or h.value.encode()) for h in listed)
    return headers


def _is_stream(headers: dict[str, bytes], admission: Admission) -> bool:
    """Whether the limit is not on the body as a whole: WebSockets, and gRPC to a gRPC server."""
    if "upgrade" in headers:
        return headers["upgrade"].lower() == b"websocket"
    content_type = headers.get("content-type", b"")
    return content_type.startswith(b"application/grpc") and admission.target.protocol == "grpc"


def _admitted(admission: Admission, removed: list[str], *, count_body: bool) -> bytes:
    added = _options(upstream_headers(admission))
    mutation = HeaderMutation(set_headers=added, remove_headers=removed)
    # The route names its cluster by a header that has just been set: it must be chosen again.
    common = CommonResponse(header_mutation=mutation, clear_route_cache=True)
    response = ProcessingResponse(request_headers=HeadersResponse(response=common))
    if count_body:
        response.mode_override.CopyFrom(_COUNT_BODY)
    return response.SerializeToString()


def _options(headers: Headers) -> list[HeaderValueOption]:
    """Headers for Envoy, which reads `raw_value` in this service."""
    return [
        HeaderValueOption(
            header=HeaderValue(key=name, raw_value=value.encode()),
            append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        for name, value in headers
    ]
