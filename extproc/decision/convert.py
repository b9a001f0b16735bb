"""Stage: chooses the converter of the body, if the body must be converted for the version."""

from collections.abc import Mapping

from extproc.convert import ConversionError, Converters, Query
from extproc.decision import grpc_metadata
from extproc.decision.context import DecisionContext
from extproc.decision.reads import Reads
from extproc.decision.refusals import NO_WEBSOCKET
from extproc.decision.request import Request
from extproc.decision.results import Refusal
from extproc.policy.compiled import Policy, Target
from sluice.contract.headers import CREDENTIALS
from sluice.contract.paths import GRPC_OPERATIONS
from sluice.contract.reasons import Reason
from sluice.media_types import is_grpc

ADDED_HEADERS = 1024
"""Bytes of `requests.max_grpc_headers` that are reserved for the headers that the callout adds,
without the subject."""

SUBJECT_GROWTH = 3
"""The maximum number of bytes that a byte of the subject takes in its header (as %XX)."""

_NO_WEBSOCKET = Refusal(
    Reason.METHOD_NOT_ALLOWED,
    "this version speaks gRPC, so it has no WebSocket",
    (("allow", "POST"),),
)

_UNKNOWN_OPERATION = Refusal(
    Reason.UNKNOWN_OPERATION,
    "this version speaks gRPC: only inference, readiness and metadata can be converted",
)

_QUERIES: Mapping[bytes | None, Query] = {b"ready": "ready", b"": "metadata"}
"""Operations without a body that can be converted to gRPC."""

_INFER_OPERATIONS = (None, b"infer")
"""Operations with tensors in the body: `infer`, and None for requests to configured `paths`."""

_GRPC_OPERATIONS = frozenset((None, *(name.encode() for name in GRPC_OPERATIONS)))
"""Operations that a version that speaks gRPC has."""

_ONLY_POST = Refusal(
    Reason.METHOD_NOT_ALLOWED,
    "this version speaks gRPC: an inference request must use the method POST",
    (("allow", "POST"),),
)


def reads(_: Policy) -> Reads:
    """The parts of a request that this stage reads."""
    return grpc_metadata.READS | Reads(
        headers=frozenset((":method", "content-type", "upgrade")), has_body=True, header_bytes=True
    )


def run(policy: Policy, request: Request, context: DecisionContext) -> Refusal | None:
    """Choose the converter by the operation, the content type and the version's protocol."""
    target = context.target
    assert target is not None
    if target.converters is None or context.video_cluster is not None:
        return None
    speaks_grpc = target.protocol == "grpc"
    refusal = _check_for_grpc(policy, request, context) if speaks_grpc else None
    if refusal is not None or request.is_websocket:
        return refusal
    content_type = request.headers.get("content-type")
    if content_type is not None and is_grpc(content_type):
        return _check_grpc_call(target, request, context)
    if speaks_grpc and context.operation in _QUERIES:
        return _choose_query(target.converters, request, context)
    if context.operation not in _INFER_OPERATIONS or request.method != b"POST":
        return _ONLY_POST if speaks_grpc else None
    if not request.has_body:
        return Refusal(Reason.MALFORMED_REQUEST, "the body is empty")
    try:
        context.converter = target.converters.choose(
            None if content_type is None else content_type.decode("latin-1")
        )
    except ConversionError as error:
        return Refusal(
            Reason.UNSUPPORTED_MEDIA_TYPE, f"{error.field} {error.detail}", field=error.field
        )
    return None


def explain(context: DecisionContext) -> str:
    """Explain whether the body is converted."""
    if context.video_cluster is not None:
        return "the video service converts each frame"
    if context.converter is None:
        return "the body passes unchanged"
    what = "body" if context.converter.takes_body else "request"
    return f"the {what} is converted: {context.converter.name}"


def _check_for_grpc(policy: Policy, request: Request, context: DecisionContext) -> Refusal | None:
    """Refuse what no version that speaks gRPC can serve."""
    if context.operation not in _GRPC_OPERATIONS:
        return _UNKNOWN_OPERATION
    if request.is_websocket:
        return NO_WEBSOCKET if context.operation in _QUERIES else _NO_WEBSOCKET
    return _check_header_bytes(policy, request, context)


def _check_grpc_call(target: Target, request: Request, context: DecisionContext) -> Refusal | None:
    """Accept a gRPC call only for a version that speaks gRPC: gRPC bodies are not converted."""
    if target.protocol != "grpc" or context.operation is not None:
        return Refusal(
            Reason.UNSUPPORTED_MEDIA_TYPE,
            "gRPC calls are accepted only for gRPC methods of a version that speaks gRPC",
        )
    if request.method != b"POST":
        detail = "a gRPC call must use the method POST"
        return Refusal(Reason.METHOD_NOT_ALLOWED, detail, (("allow", "POST"),))
    error = grpc_metadata.find_error(request)
    return None if error is None else Refusal(Reason.MALFORMED_REQUEST, error)


def _check_header_bytes(
    policy: Policy, request: Request, context: DecisionContext
) -> Refusal | None:
    """Some gRPC servers do not end the call but close the connection, which all clients share."""
    ignored = () if policy.forward_credentials else (*CREDENTIALS, policy.api_key_header)
    subject = SUBJECT_GROWTH * len(context.identity.subject.encode())
    size, limit = request.header_bytes(ignored), policy.max_grpc_headers - ADDED_HEADERS - subject
    if size <= limit:
        return None
    detail = f"the headers are too large for a gRPC server: {size} bytes, and at most {limit} fit"
    return Refusal(Reason.HEADERS_TOO_LARGE, detail, rule="requests.max_grpc_headers")


def _choose_query(
    converters: Converters, request: Request, context: DecisionContext
) -> Refusal | None:
    """Choose the converter of a request for readiness or metadata to a version that speaks gRPC."""
    if request.has_body:
        return Refusal(Reason.MALFORMED_REQUEST, "this request must not have a body")
    context.converter = converters.query(_QUERIES[context.operation])
    return None
