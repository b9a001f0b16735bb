"""Every reason a decision can have, as clients and logs see it."""

from enum import StrEnum


class Reason(StrEnum):
    """Machine-readable reasons. Those of a refusal have a status in `STATUS`."""

    VERSION_HEADER = "version_header"
    VERSION_PATH = "version_path"
    CLAIM = "claim"
    STABLE = "stable"
    CANARY_HEADER = "canary_header"
    CANARY_BUCKET = "canary_bucket"
    CANARY_MODEL_TYPE = "canary_model_type"

    MALFORMED_REQUEST = "malformed_request"
    UNAUTHENTICATED = "unauthenticated"
    INVALID_CREDENTIALS = "invalid_credentials"
    FORBIDDEN = "forbidden"
    MODEL_MISMATCH = "model_mismatch"
    UNKNOWN_MODEL = "unknown_model"
    UNKNOWN_VERSION = "unknown_version"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    CONVERSION_QUEUE_FULL = "conversion_queue_full"
    BREAKER_OPEN = "breaker_open"
    RATE_LIMITED = "rate_limited"
    LIMITS_UNAVAILABLE = "limits_unavailable"
    INTERNAL_ERROR = "internal_error"
    NO_POLICY = "no_policy"


STATUS = {
    Reason.MALFORMED_REQUEST: 400,
    Reason.UNAUTHENTICATED: 401,
    Reason.INVALID_CREDENTIALS: 401,
    Reason.FORBIDDEN: 403,
    Reason.MODEL_MISMATCH: 403,
    Reason.UNKNOWN_MODEL: 404,
    Reason.UNKNOWN_VERSION: 404,
    Reason.METHOD_NOT_ALLOWED: 405,
    Reason.BODY_TOO_LARGE: 413,
    Reason.UNSUPPORTED_MEDIA_TYPE: 415,
    Reason.CONVERSION_QUEUE_FULL: 503,
    Reason.BREAKER_OPEN: 503,
    Reason.RATE_LIMITED: 429,
    Reason.LIMITS_UNAVAILABLE: 503,
    Reason.INTERNAL_ERROR: 500,
    Reason.NO_POLICY: 503,
}
"""HTTP status of each refusal (RFC 9110 section 15)."""
