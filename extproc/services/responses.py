"""What a decision does to a request, in terms that ext_proc and ext_authz share."""

import logging
import traceback
from collections.abc import Mapping

from extproc.decision import Admission, Reason, Refusal
from extproc.policy.compiled import Policy
from extproc.problem import problem
from sluice.contract import headers as names
from sluice.contract.local_replies import callout_details
from sluice.contract.problem import MEDIA_TYPE

NO_POLICY = Refusal(Reason.NO_POLICY, "the gateway has no policy yet")
INTERNAL_ERROR = Refusal(Reason.INTERNAL_ERROR, "the gateway failed to decide on this request")

log = logging.getLogger(__name__)

Headers = list[tuple[str, str]]
"""Names and values, each to replace whatever of its name there is."""


def failed(error: Exception) -> Refusal:
    """The refusal of a request that could not be decided on; the log says where it went wrong.

    It says no more than that: an exception's own text may hold what the client sent.
    """
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("a decision failed: %s\n%s", type(error).__name__, where)
    return INTERNAL_ERROR


def upstream_headers(admission: Admission) -> Headers:
    """Headers that tell the model server, and Envoy's router, what was decided."""
    target = admission.target
    headers: Headers = [
        (names.MODEL_SERVICE, target.cluster),
        (names.MODEL_VERSION, target.version),
        (names.MODEL, target.model),
        (names.REASON, admission.reason),
    ]
    if admission.subject:
        headers.append((names.SUBJECT, header_safe(admission.subject)))
    if admission.canary:
        headers.append((names.CANARY, "true"))
    if target.protocol == "grpc":
        # A gRPC server may reset a call without it, which reads as a failure of the server's.
        headers.append(("te", "trailers"))
    # The route copies them to the response: ratelimit, ratelimit-policy.
    headers += [(names.INTERNAL_PREFIX + name, value) for name, value in admission.limit_headers]
    return headers


def removed_headers(policy: Policy, headers: Mapping[str, bytes]) -> list[str]:
    """Client-sent headers that only the gateway may set, and credentials that stay here."""
    removed = [name for name in headers if name.startswith(names.INTERNAL_PREFIX)]
    if not policy.forward_credentials:
        removed += [name for name in (*names.CREDENTIALS, policy.api_key_header) if name in headers]
    return removed


def refusal_headers(policy: Policy | None, refusal: Refusal) -> Headers:
    """Headers of the response to a refused request."""
    headers: Headers = [("content-type", MEDIA_TYPE), *refusal.headers]
    if policy is not None and policy.expose_reason:
        headers.append((names.REASON, refusal.reason))
    return headers


def refusal_body(refusal: Refusal, headers: Mapping[str, bytes]) -> bytes:
    """The problem document for the request that these headers are of."""
    request_id = headers.get(names.REQUEST_ID, b"").decode("latin-1")
    return problem(refusal.status, refusal.reason, refusal.detail, request_id=request_id)


def refusal_details(refusal: Refusal) -> str:
    """Envoy's response code details of a refusal, which the access log reads: reason and subject.

    What `xds` puts in the place of Envoy's own answers leaves alone what begins with `sluice`.
    """
    return callout_details(refusal.reason, header_safe(refusal.subject))


def header_safe(text: str) -> str:
    """Text as a header's value (RFC 9110 section 5.5): anything but visible ASCII as %XX of UTF-8.

    The percent sign is escaped too, so that two subjects never read alike.
    """
    if text.isascii() and text.isprintable() and "%" not in text and text == text.strip():
        return text
    return "".join(
        chr(byte) if 0x21 <= byte <= 0x7E and byte != 0x25 else f"%{byte:02X}"
        for byte in text.encode()
    )
