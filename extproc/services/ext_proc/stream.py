"""One ext_proc stream: makes the decision on the request headers, then handles the other parts."""

from collections.abc import Awaitable, Mapping
from typing import Protocol

from extproc.decision import Admission, Decision, Refusal
from extproc.decision.refusals import MEMORY_EXHAUSTED, MESSAGE_TOO_LARGE, RESPONSE_TOO_LARGE
from extproc.decision.request import JoinedHeaders
from extproc.policy.current import CurrentPolicy
from extproc.rpc import Call, RpcError, StatusCode
from extproc.segments import Segments
from extproc.services.decider import Decider
from extproc.services.ext_proc import messages
from extproc.services.ext_proc.admission_cache import AdmissionCache, CachedAdmission, MessageKey
from extproc.services.ext_proc.body_handler import BodyHandler, CountBody, Result
from extproc.services.ext_proc.grpc_body_check import BodyChecks
from extproc.services.ext_proc.handlers import choose_handler
from extproc.services.ext_proc.model_query import ConvertQuery
from extproc.services.ext_proc.more_time import MoreTime
from extproc.services.ext_proc.observation import Observation
from extproc.services.responses import (
    answered_in_grpc,
    log_failure,
    refusal_body,
    refusal_details,
    refusal_headers,
)
from protos.ext_proc_pb2 import HttpHeaders, ProcessingMode, ProcessingRequest
from sluice.contract.grpc import grpc_status


class Processor(Protocol):
    """The interface of the service, as its streams use it."""

    decider: Decider
    current_policy: CurrentPolicy
    checks: BodyChecks
    admissions: AdmissionCache

    def admission_response(
        self, admission: Admission, headers: Mapping[str, bytes], mode: ProcessingMode | None
    ) -> bytes:
        """The serialized response to the headers of an admitted request."""

    def call_response(
        self, admission: Admission, headers: Mapping[str, bytes], query: ConvertQuery
    ) -> bytes:
        """The serialized response to the headers of a request that becomes a gRPC call."""

    def key(self, message: bytes) -> MessageKey | None:
        """The key of the first message of a stream; None if the admission cache cannot be used."""

    def observe(self, call: Call) -> Observation:
        """Begin to collect a request for mirroring."""


class RequestStream:
    """The stream of one request."""

    __slots__ = (
        "_answered", "_call", "_handler", "_headers", "_headers_message", "_max_body",
        "_observation", "_processor", "_refused", "_started",
    )  # fmt: skip

    def __init__(self, processor: Processor, call: Call) -> None:
        self._processor = processor
        self._call = call
        self._started = False
        self._refused = False
        self._answered = False
        """Whether the model server has responded."""
        self._handler: BodyHandler | None = None
        self._observation: Observation | None = None
        """Set if Envoy only shows the request, and waits for no response."""
        self._headers: Mapping[str, bytes] | None = None
        self._headers_message = b""
        self._max_body = 0

    def on_message(self, message: bytes) -> Awaitable[None] | None:
        key = None
        if not self._started:
            self._started = True
            key = self._processor.key(message)
            if key is not None:
                cached = self._processor.admissions.get(key, self._processor.decider.clock)
                if cached is not None:
                    self._on_cached(cached, message)
                    return None
        request = _parse(message)
        if request.observability_mode:
            self._observe(request)
            return None
        part = request.WhichOneof("request")
        if part == "request_headers":
            return self._on_headers(request.request_headers, message, key)
        if part is None or self._refused:
            return None
        return self._on_part(part, request)

    def on_half_close(self) -> None:
        self.on_cancel()
        self._call.finish()

    def on_cancel(self) -> None:
        self._close_handler()
        if self._observation is not None:
            self._observation.end()

    def on_exhausted(self, *, too_large: bool) -> None:
        if self._observation is not None:
            self._observation.on_exhausted()
            return
        if self._refused:
            return
        if not too_large:
            self._refuse(MEMORY_EXHAUSTED)
        else:
            self._refuse(RESPONSE_TOO_LARGE if self._answered else MESSAGE_TOO_LARGE)

    def _observe(self, request: ProcessingRequest) -> None:
        if self._observation is None:
            self._observation = self._processor.observe(self._call)
        self._observation.on_message(request)

    def _on_cached(self, cached: CachedAdmission, message: bytes) -> None:
        """Use a cached admission.

        The message is parsed only if a body handler needs the headers, or if the request is refused
        later.
        """
        self._headers_message = message
        decision = self._processor.decider.readmit(cached.admission)
        if isinstance(decision, Refusal):
            self._refuse(decision)
            return
        self._max_body = decision.max_body
        if cached.has_handler:
            headers = self._request_headers()
            try:
                self._handler = self._choose_handler(headers, decision, has_body=cached.has_body)
            except Exception as error:
                self._refuse(log_failure(error))
                return
        self._call.send(cached.response)

    def _on_headers(
        self, request: HttpHeaders, message: bytes, key: MessageKey | None
    ) -> Awaitable[None] | None:
        """Decide on the request. `key`: None if the admission must not be cached."""
        headers = self._headers = header_dict(request)
        has_body = not request.end_of_stream
        decision = self._processor.decider.decide(headers, has_body=has_body)
        if not isinstance(decision, Admission | Refusal):
            return self._respond_later(headers, decision, has_body=has_body)
        response = self._respond(headers, decision, has_body=has_body)
        if response is not None and key is not None and isinstance(decision, Admission):
            cached = CachedAdmission(decision, response, self._handler is not None, has_body)
            self._processor.admissions.put(key, message, headers, cached)
        return None

    async def _respond_later(
        self, headers: dict[str, bytes], decision: Awaitable[Decision], *, has_body: bool
    ) -> None:
        with self._more_time():
            decided = await decision
        self._respond(headers, decided, has_body=has_body)

    def _respond(
        self, headers: dict[str, bytes], decision: Decision, *, has_body: bool
    ) -> bytes | None:
        """Send the response. Returns it if equal requests get the same response."""
        if isinstance(decision, Refusal):
            self._refuse(decision)
            return None
        self._max_body = decision.max_body
        try:
            handler = self._choose_handler(headers, decision, has_body=has_body)
            if isinstance(handler, ConvertQuery):
                response = self._processor.call_response(decision, headers, handler)
            else:
                mode = None if handler is None else handler.mode
                response = self._processor.admission_response(decision, headers, mode)
        except Exception as error:
            self._refuse(log_failure(error))
            return None
        self._handler = handler
        self._call.send(response)
        differs = isinstance(handler, ConvertQuery) or decision.video_cluster is not None
        return None if differs else response

    def _choose_handler(
        self, headers: Mapping[str, bytes], admission: Admission, *, has_body: bool
    ) -> BodyHandler | None:
        policy = self._processor.current_policy.current
        assert policy is not None
        return choose_handler(
            admission,
            headers,
            self._processor.checks,
            has_body=has_body,
            expose_reason=policy.expose_reason,
        )

    def _on_part(self, part: str, request: ProcessingRequest) -> Awaitable[None] | None:
        if self._handler is None:
            # Envoy sent a part that was not requested. Before the decision, `_max_body` is 0, so a
            # body is refused.
            self._handler = CountBody(self._max_body)
        self._answered = part.startswith("response_")
        try:
            result = getattr(self._handler, part)(getattr(request, part))
        except Exception:
            self._close_handler()
            raise
        if not isinstance(result, bytes | Segments | Refusal):
            return self._send_later(result)
        self._send(result)
        return None

    async def _send_later(self, result: Awaitable[Result]) -> None:
        try:
            with self._more_time():
                handled = await result
            self._send(handled)
        except Exception:
            self._close_handler()
            raise

    def _more_time(self) -> MoreTime:
        policy = self._processor.current_policy.current
        assert policy is not None
        return MoreTime(self._call, policy.message_timeout, policy.conversion_timeout)

    def _send(self, result: Result) -> None:
        if isinstance(result, Refusal):
            self._refuse(result)
        else:
            self._call.send(result)

    def _close_handler(self) -> None:
        """Release what the body handler holds. It gets no more parts."""
        if self._handler is not None:
            self._handler.close()
            self._handler = None

    def _refuse(self, refusal: Refusal) -> None:
        self._refused = True
        self._close_handler()
        headers = self._request_headers()
        self._call.send(
            messages.immediate(
                refusal.status,
                refusal_headers(self._processor.current_policy.current, refusal, headers),
                refusal_body(refusal, headers),
                refusal_details(refusal),
                grpc_status(refusal.status) if answered_in_grpc(headers) else None,
            )
        )

    def _request_headers(self) -> Mapping[str, bytes]:
        """The request headers. After a cache hit, the message is parsed here for the first time."""
        if self._headers is None:
            # If a body arrived before the headers, the message is empty and so are the headers.
            self._headers = header_dict(_parse(self._headers_message).request_headers)
        return self._headers


def header_dict(message: HttpHeaders) -> dict[str, bytes]:
    """The headers by name. The values of a repeated header are joined."""
    headers = {h.key: h.raw_value or h.value.encode() for h in message.headers.headers}
    if len(headers) < len(message.headers.headers):
        return JoinedHeaders(messages.pairs(message.headers))
    return headers


def _parse(message: bytes) -> ProcessingRequest:
    try:
        return ProcessingRequest.FromString(message)
    except Exception as error:
        raise RpcError(StatusCode.INVALID_ARGUMENT, "not a ProcessingRequest") from error
