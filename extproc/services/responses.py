"""Changes of headers for an admission, and responses for a refusal, for ext_proc and ext_authz."""

import logging
import traceback
from collections.abc import Mapping

from extproc.decision import Admission, Reason, Refusal
from extproc.policy.compiled import Policy
from extproc.problem import problem
from sluice.contract import headers as names
from sluice.contract.names import VIDEO_CLUSTER
from sluice.contract.problem import MEDIA_TYPE, title
from sluice.contract.request_end import RequestEnd

NO_POLICY = Refusal(Reason.NO_POLICY, "the gateway has no policy yet")
INTERNAL_ERROR = Refusal(Reason.INTERNAL_ERROR, "the gateway failed to decide on this request")

_MAX_TEXT = 200
"""Characters of the text for a gRPC client, which takes up to 12 bytes for each in a header."""

log = logging.getLogger(__name__)

Headers = list[tuple[str, str]]
"""Names and values of headers to set. A header replaces all headers of the same name."""


def log_failure(error: Exception) -> Refusal:
    """Log the traceback of a failed decision, and return the refusal of the request.

    The text of the exception is not logged, because it may contain client data.
    """
    trace = "".join(traceback.format_tb(error.__traceback__))
    log.error("a decision failed: %s\n%s", type(error).__name__, trace)
    return INTERNAL_ERROR


def upstream_headers(admission: Admission) -> Headers:
    """Request headers that carry the decision to Envoy's router and to the model server.

    The video service gets the version that the client requests, not the one of this decision: each
    frame is a request of its own.
    """
    target = admission.target
    headers: Headers = [
        (names.MODEL_SERVICE, admission.video_cluster or target.cluster),
        (names.MODEL, target.model),
        (names.REASON, admission.reason),
    ]
    if admission.subject:
        headers.append((names.SUBJECT, header_safe(admission.subject)))
    if admission.video_cluster is None:
        headers.append((names.MODEL_VERSION, target.version))
        if admission.canary:
            headers.append((names.CANARY, "true"))
    if target.protocol == "grpc" and admission.video_cluster != VIDEO_CLUSTER:
        # Without `te`, some gRPC servers reset the call, which would count as a server failure.
        headers.append(("te", "trailers"))
    # The route copies these to the response as ratelimit and ratelimit-policy.
    headers += [(names.INTERNAL_PREFIX + name, value) for name, value in admission.limit_headers]
    return headers


def video_credentials(
    policy: Policy, admission: Admission, headers: Mapping[str, bytes]
) -> Headers:
    """Headers with the client's credentials for the video service; none for other requests.

    The video service sends them with the requests for the frames. Values that the gateway cannot
    have accepted are left out.
    """
    if admission.video_cluster is None or policy.forward_credentials:
        return []
    sources = (names.AUTHORIZATION, policy.api_key_header)
    found = zip(names.VIDEO_CREDENTIALS, sources, strict=True)
    return [
        (name, headers[source].decode())
        for name, source in found
        if source in headers and headers[source].isascii()
    ]


def removed_headers(policy: Policy, headers: Mapping[str, bytes]) -> list[str]:
    """Names of the client's headers that must not reach the model server.

    These are headers that only the gateway may set, and credentials.
    """
    removed = [name for name in headers if name.startswith(names.INTERNAL_PREFIX)]
    if not policy.forward_credentials:
        removed += [name for name in (*names.CREDENTIALS, policy.api_key_header) if name in headers]
    return removed


def answered_in_grpc(headers: Mapping[str, bytes]) -> bool:
    """Whether Envoy answers a request with these headers as a gRPC call (source/common/grpc).

    It does not do so for gRPC-Web, or for a media type with parameters.
    """
    content_type = headers.get("content-type", b"")
    return content_type == b"application/grpc" or content_type.startswith(b"application/grpc+")


def refusal_headers(
    policy: Policy | None, refusal: Refusal, headers: Mapping[str, bytes]
) -> Headers:
    """Headers of the response to a refused request with these headers."""
    added = list(refusal.headers)
    if not answered_in_grpc(headers):
        added.append(("content-type", MEDIA_TYPE))
    if policy is not None and policy.expose_reason:
        added.append((names.REASON, refusal.reason))
    return added


def refusal_body(refusal: Refusal, headers: Mapping[str, bytes]) -> bytes:
    """The problem document for a refused request with these headers.

    For a gRPC client, it is the detail in plain text, because Envoy copies it to `grpc-message`.
    """
    if answered_in_grpc(headers):
        text = refusal.detail or title(refusal.status)
        return text[:_MAX_TEXT].encode(errors="replace")
    request_id = headers.get(names.REQUEST_ID, b"").decode("latin-1")
    return problem(refusal.status, refusal.reason, refusal.detail, request_id=request_id)


def refusal_details(refusal: Refusal) -> str:
    """`response_code_details` of a refusal, from which the access log reads its fields."""
    end = RequestEnd(
        refusal.reason,
        header_safe(refusal.subject),
        refusal.cause,
        refusal.rule,
        refusal.version,
        refusal.field or refusal.detail,
    )
    return end.callout_details()


def header_safe(text: str) -> str:
    """Encode text as a header value (RFC 9110 section 5.5).

    Visible ASCII stays. Other bytes of the UTF-8 encoding become %XX. The percent sign is escaped
    too, so that different subjects have different values.
    """
    if text.isascii() and text.isprintable() and "%" not in text and text == text.strip():
        return text
    return "".join(
        chr(byte) if 0x21 <= byte <= 0x7E and byte != 0x25 else f"%{byte:02X}"
        for byte in text.encode()
    )
