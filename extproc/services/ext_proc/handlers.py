"""Chooses the body handler of an admitted request."""

from collections.abc import Mapping

from extproc.decision import Admission
from extproc.decision.oip_grpc import is_method_path
from extproc.services.ext_proc.body_handler import BodyHandler, CountBody
from extproc.services.ext_proc.caller import caller_of
from extproc.services.ext_proc.conversion import ConvertBody
from extproc.services.ext_proc.grpc_body_check import BodyChecks, GrpcBodyCheck
from extproc.services.ext_proc.model_query import ConvertQuery
from sluice.media_types import is_grpc


def choose_handler(
    admission: Admission,
    headers: Mapping[str, bytes],
    checks: BodyChecks,
    *,
    has_body: bool,
    expose_reason: bool,
) -> BodyHandler | None:
    """The body handler of an admitted request; None if the callout does not need the body."""
    if admission.converter is not None:
        conversions = checks.pool.for_caller(caller_of(admission, headers))
        if not admission.converter.takes_body:
            return ConvertQuery(admission, headers, conversions, expose_reason=expose_reason)
        return ConvertBody(admission, headers, conversions, expose_reason=expose_reason)
    if not has_body or admission.video_cluster is not None:
        return None
    if is_method_path(headers[":path"]):
        caller = caller_of(admission, headers)
        return GrpcBodyCheck(admission.target, admission.max_body, headers, checks, caller)
    if "content-length" not in headers and not _is_stream(headers, admission):
        return CountBody(admission.max_body)
    return None


def _is_stream(headers: Mapping[str, bytes], admission: Admission) -> bool:
    """Whether the body is a stream without a size limit: WebSocket, or gRPC to a gRPC server."""
    if "upgrade" in headers:
        return headers["upgrade"].lower() == b"websocket"
    return admission.target.protocol == "grpc" and is_grpc(headers.get("content-type", b""))
