"""Reasons of admissions, refusals and local replies, for responses, the log and metrics.

The reason of a refusal determines the HTTP status. The callout refuses a request by a decision, or
because its body cannot be converted. Envoy sends a local reply if it cannot forward a request or
gets no valid response; `response_code_details` determine the reason of a local reply. The reasons
of a model server's gRPC errors (`model_...`) are not in this table: `extproc.convert.grpc_status`
builds them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Machine-readable reasons in responses, the log and metrics."""

    # Admissions: how the version was chosen.
    VERSION_HEADER = "version_header"
    VERSION_PATH = "version_path"
    CLAIM = "claim"
    STABLE = "stable"
    CANARY_HEADER = "canary_header"
    CANARY_BUCKET = "canary_bucket"
    CANARY_MODEL_TYPE = "canary_model_type"

    # Refusals by a decision.
    MALFORMED_REQUEST = "malformed_request"
    UNAUTHENTICATED = "unauthenticated"
    INVALID_CREDENTIALS = "invalid_credentials"
    KEY_SET_UNAVAILABLE = "key_set_unavailable"
    FORBIDDEN = "forbidden"
    MODEL_MISMATCH = "model_mismatch"
    UNKNOWN_MODEL = "unknown_model"
    UNKNOWN_VERSION = "unknown_version"
    UNKNOWN_OPERATION = "unknown_operation"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    CONVERSION_QUEUE_FULL = "conversion_queue_full"
    CONVERSION_TIMEOUT = "conversion_timeout"
    MEMORY_EXHAUSTED = "memory_exhausted"
    BREAKER_OPEN = "breaker_open"
    RATE_LIMITED = "rate_limited"
    LIMITS_UNAVAILABLE = "limits_unavailable"
    INTERNAL_ERROR = "internal_error"
    NO_POLICY = "no_policy"

    # Refusals of a body that cannot be converted.
    BAD_BASE64 = "bad_base64"
    BAD_BOUNDARY = "bad_boundary"
    BAD_DATA_SIZE = "bad_data_size"
    BAD_HEADER_LENGTH = "bad_header_length"
    BAD_PART = "bad_part"
    BROKEN_CODING = "broken_coding"
    BROKEN_IMAGE = "broken_image"
    BYTES_TRUNCATED = "bytes_truncated"
    CONTENT_LENGTH_MISMATCH = "content_length_mismatch"
    DATA_TWICE = "data_twice"
    EMPTY_BODY = "empty_body"
    NO_BOUNDARY = "no_boundary"
    NO_DATA = "no_data"
    NO_INPUTS = "no_inputs"
    NO_PARTS = "no_parts"
    NOT_AN_OBJECT = "not_an_object"
    NOT_JSON = "not_json"
    NOT_PROTOBUF = "not_protobuf"
    RAGGED = "ragged"
    TOO_DEEP = "too_deep"
    TRAILING_BYTES = "trailing_bytes"
    TRUNCATED = "truncated"
    WRONG_ENTRY_COUNT = "wrong_entry_count"
    WRONG_TYPE = "wrong_type"

    JSON_TOO_LARGE = "json_too_large"
    TENSORS_TOO_LARGE = "tensors_too_large"
    TOO_MANY_ELEMENTS = "too_many_elements"
    TOO_MANY_ENTRIES = "too_many_entries"
    TOO_MANY_FIELDS = "too_many_fields"
    TOO_MANY_PARTS = "too_many_parts"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_MANY_SCANS = "too_many_scans"
    TOO_MANY_SEGMENTS = "too_many_segments"

    CONTENT_TYPE_MISMATCH = "content_type_mismatch"
    MULTIPART_REQUIRED = "multipart_required"
    NO_CONTENT_TYPE = "no_content_type"
    NO_TYPED_CONTENTS = "no_typed_contents"
    NOT_AN_IMAGE = "not_an_image"
    TOO_MANY_CODINGS = "too_many_codings"
    UNKNOWN_CODING = "unknown_coding"
    UNKNOWN_MESSAGE = "unknown_message"

    DATATYPE_MISSING = "datatype_missing"
    INPUT_NOT_NAMED = "input_not_named"
    INPUT_TWICE = "input_twice"
    MISSING_INPUT = "missing_input"
    NO_DECLARED_INPUTS = "no_declared_inputs"
    NOT_FINITE = "not_finite"
    NOT_TEXT = "not_text"
    OUT_OF_RANGE = "out_of_range"
    SHAPE_MISSING = "shape_missing"
    SHAPE_OPEN = "shape_open"
    UNEVEN_ROWS = "uneven_rows"
    UNKNOWN_DATATYPE = "unknown_datatype"
    UNKNOWN_INPUT = "unknown_input"
    UNKNOWN_MEMBER = "unknown_member"
    WRONG_COUNT = "wrong_count"
    WRONG_DATATYPE = "wrong_datatype"
    WRONG_ELEMENT = "wrong_element"
    WRONG_PARAMETER = "wrong_parameter"
    WRONG_SHAPE = "wrong_shape"

    BAD_MODEL_RESPONSE = "bad_model_response"
    RESPONSE_TOO_LARGE = "response_too_large"
    UNKNOWN_RESPONSE_CODING = "unknown_response_coding"

    # Local replies of Envoy.
    GATEWAY_STATUS = "gateway_status"
    NOT_READY = "not_ready"
    DECISION_UNAVAILABLE = "decision_unavailable"
    NO_HEALTHY_ENDPOINT = "no_healthy_endpoint"
    UNKNOWN_SERVICE = "unknown_service"
    OVERLOADED = "overloaded"
    GATEWAY_OVERLOADED = "gateway_overloaded"
    MODEL_TIMEOUT = "model_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    MODEL_UNREACHABLE = "model_unreachable"
    MODEL_TLS_FAILED = "model_tls_failed"
    MODEL_CREDENTIAL_MISSING = "model_credential_missing"
    CLIENT_LEFT = "client_left"
    CORS_PREFLIGHT = "cors_preflight"
    ORIGIN_NOT_ALLOWED = "origin_not_allowed"
    BAD_REQUEST = "bad_request"
    NOT_FOUND = "not_found"
    REQUEST_TIMEOUT = "request_timeout"
    UPGRADE_REQUIRED = "upgrade_required"
    HEADERS_TOO_LARGE = "headers_too_large"
    GATEWAY_ERROR = "gateway_error"
    NOT_IMPLEMENTED = "not_implemented"
    BAD_GATEWAY = "bad_gateway"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"


ADMISSIONS: Mapping[Reason, str] = {
    Reason.VERSION_HEADER: "`x-model-version` names the version",
    Reason.VERSION_PATH: "the path names the version (`/versions/V`)",
    Reason.CLAIM: "a claim rule matches the caller",
    Reason.STABLE: "the stable version, because no other rule chose a version",
    Reason.CANARY_HEADER: "a request header matches the canary's `headers`",
    Reason.CANARY_BUCKET: "the user's bucket belongs to the canary",
    Reason.CANARY_MODEL_TYPE: "the canary lists the value of `x-model-type`",
}
"""How the version of an admitted request was chosen, for the docs."""


@dataclass(frozen=True, slots=True)
class RefusalReason:
    """HTTP status of a refusal (RFC 9110 section 15), and its condition for the docs."""

    status: int
    when: str


DECISION_REFUSALS: Mapping[Reason, RefusalReason] = {
    Reason.MALFORMED_REQUEST: RefusalReason(
        400,
        "`content-length` is not a number; header and path name different versions; a body that "
        "must be converted is empty or incomplete; a gRPC call is not valid",
    ),
    Reason.UNAUTHENTICATED: RefusalReason(401, "no credentials, and the model is not public"),
    Reason.INVALID_CREDENTIALS: RefusalReason(
        401, "the token or API key is not valid; `WWW-Authenticate` says `invalid_token` (RFC 6750)"
    ),
    Reason.KEY_SET_UNAVAILABLE: RefusalReason(
        503,
        "the key set of the token's issuer could not be fetched yet, or has expired; with "
        "`Retry-After`",
    ),
    Reason.FORBIDDEN: RefusalReason(403, "no `allow` rule matches"),
    Reason.MODEL_MISMATCH: RefusalReason(
        403, "a gRPC message names a model or version other than the admitted one"
    ),
    Reason.UNKNOWN_MODEL: RefusalReason(
        404,
        "no model has this path or this `x-model-name`; `sluice explain` suggests a similar name",
    ),
    Reason.UNKNOWN_VERSION: RefusalReason(404, "the model has no such version"),
    Reason.UNKNOWN_OPERATION: RefusalReason(
        404,
        "the version speaks gRPC and has no such operation, for example `generate`; or the gRPC "
        "method does not exist for clients",
    ),
    Reason.METHOD_NOT_ALLOWED: RefusalReason(
        405, "the method is not allowed; in HTTP, `Allow` lists the allowed methods"
    ),
    Reason.BODY_TOO_LARGE: RefusalReason(
        413, "the body, or a message of a gRPC call, exceeds `max_body`"
    ),
    Reason.UNSUPPORTED_MEDIA_TYPE: RefusalReason(
        415,
        "the model does not accept the media type, and `Accept` lists the accepted types; or the "
        "version does not accept it",
    ),
    Reason.HEADERS_TOO_LARGE: RefusalReason(
        431, "the headers of a request to a gRPC server exceed `requests.max_grpc_headers`"
    ),
    Reason.CONVERSION_QUEUE_FULL: RefusalReason(
        503,
        "too many bodies wait for a conversion thread, or the body waited for half of "
        "`callout.conversion_timeout`; with `Retry-After`",
    ),
    Reason.CONVERSION_TIMEOUT: RefusalReason(
        503, "the conversion takes longer than `callout.conversion_timeout`; with `Retry-After`"
    ),
    Reason.MEMORY_EXHAUSTED: RefusalReason(
        503, "the worker has no memory left for the body (`callout.max_memory`); with `Retry-After`"
    ),
    Reason.BREAKER_OPEN: RefusalReason(
        503, "the error rate of the version is too high; with `Retry-After`"
    ),
    Reason.RATE_LIMITED: RefusalReason(
        429,
        "a limit is exceeded; with `Retry-After`, and with `RateLimit` and `RateLimit-Policy` if "
        "`limits.headers` is set",
    ),
    Reason.LIMITS_UNAVAILABLE: RefusalReason(
        503, "the limit backend does not respond, and `fail: closed` is set; with `Retry-After`"
    ),
    Reason.INTERNAL_ERROR: RefusalReason(
        500, "the decision failed; the worker's log has a stack trace"
    ),
    Reason.NO_POLICY: RefusalReason(503, "the worker has no policy yet"),
}
"""Refusals by a decision, by the breaker or by a limit, and refusals of unconverted bodies."""


def _refusals(status: int, reasons: Mapping[Reason, str]) -> dict[Reason, RefusalReason]:
    return {reason: RefusalReason(status, when) for reason, when in reasons.items()}


CONVERSION_REFUSALS: Mapping[Reason, RefusalReason] = {
    **_refusals(
        400,
        {
            Reason.BAD_BASE64: "text is not base64",
            Reason.BAD_BOUNDARY: "the multipart boundary is missing or not valid",
            Reason.BAD_DATA_SIZE: "`binary_data_size` is not a number, or exceeds the body",
            Reason.BAD_HEADER_LENGTH: "the length of the JSON is not a number, or exceeds the body",
            Reason.BAD_PART: "the headers of a multipart part are not valid",
            Reason.BROKEN_CODING: "the body cannot be decompressed",
            Reason.BROKEN_IMAGE: "the image cannot be decoded",
            Reason.BYTES_TRUNCATED: "a BYTES element is longer than the data",
            Reason.CONTENT_LENGTH_MISMATCH: "`content-length` differs from the body's length",
            Reason.DATA_TWICE: "a tensor has its data in two places",
            Reason.EMPTY_BODY: "the body, or a part of a multipart form, is empty",
            Reason.NO_BOUNDARY: "the body does not contain the multipart boundary",
            Reason.NO_DATA: "a tensor has no `data`",
            Reason.NO_INPUTS: "`inputs` or `instances` is empty",
            Reason.NO_PARTS: "the form has no parts",
            Reason.NOT_AN_OBJECT: "the JSON document is not an object",
            Reason.NOT_JSON: "the body is not JSON",
            Reason.NOT_PROTOBUF: "the body is not an accepted protobuf message",
            Reason.RAGGED: "nested arrays differ in length or depth",
            Reason.TOO_DEEP: "arrays are nested too deeply",
            Reason.TRAILING_BYTES: "bytes follow the last tensor",
            Reason.TRUNCATED: "a multipart part does not end with the boundary",
            Reason.WRONG_ENTRY_COUNT: "`raw_input_contents` and `inputs` differ in length",
            Reason.WRONG_TYPE: "a JSON member is missing, or has the wrong type",
        },
    ),
    **_refusals(
        413,
        {
            Reason.JSON_TOO_LARGE: "the parsed JSON document would take too much memory",
            Reason.TENSORS_TOO_LARGE: "the tensors of the request are too large in total",
            Reason.TOO_MANY_ELEMENTS: "a request has too many BYTES elements",
            Reason.TOO_MANY_ENTRIES: "a request has too many inputs, outputs and parameters",
            Reason.TOO_MANY_FIELDS: "a protobuf message has too many fields or typed elements",
            Reason.TOO_MANY_PARTS: "a multipart form has too many parts",
            Reason.TOO_MANY_PIXELS: "the images of an input have more than `max_pixels` in total, "
            "or an image needs too much memory",
            Reason.TOO_MANY_SCANS: "JPEGs have too many scans for their size",
            Reason.TOO_MANY_SEGMENTS: "an image has too many segments or chunks",
        },
    ),
    **_refusals(
        415,
        {
            Reason.CONTENT_TYPE_MISMATCH: "an image is of another type than `content-type` says",
            Reason.MULTIPART_REQUIRED: "the model has several image inputs: send a multipart form",
            Reason.NO_CONTENT_TYPE: "the request has no `content-type`, and its body is not JSON",
            Reason.NO_TYPED_CONTENTS: "FP16 and BF16 tensors must be sent in `raw_input_contents`",
            Reason.NOT_AN_IMAGE: "the data are not a JPEG, PNG or WebP image",
            Reason.TOO_MANY_CODINGS: "`content-encoding` names too many codings",
            Reason.UNKNOWN_CODING: "the content coding is not supported",
            Reason.UNKNOWN_MESSAGE: "`content-type` names a protobuf message that is not accepted",
        },
    ),
    **_refusals(
        422,
        {
            Reason.DATATYPE_MISSING: "a tensor has no datatype, and no declared input has its name",
            Reason.INPUT_NOT_NAMED: "a tensor has no name, and the number of required inputs is "
            "not 1",
            Reason.INPUT_TWICE: "an input occurs twice",
            Reason.MISSING_INPUT: "a required input is missing",
            Reason.NO_DECLARED_INPUTS: "not a V2 request, and the model declares no inputs",
            Reason.NOT_FINITE: "NaN or infinity, and the model server accepts only JSON",
            Reason.NOT_TEXT: "a BYTES element is not UTF-8, and the model server accepts only JSON",
            Reason.OUT_OF_RANGE: "an element is out of the range of its datatype",
            Reason.SHAPE_MISSING: "a tensor has no shape, and no declared input has its name",
            Reason.SHAPE_OPEN: "a tensor has no shape, and several declared dimensions are -1",
            Reason.UNEVEN_ROWS: "rows have different members",
            Reason.UNKNOWN_DATATYPE: "the datatype is not one of the V2 protocol",
            Reason.UNKNOWN_INPUT: "the model declares no input of this name",
            Reason.UNKNOWN_MEMBER: "a JSON object has a member that its format does not define",
            Reason.WRONG_COUNT: "the number of elements or images does not fit the shape",
            Reason.WRONG_DATATYPE: "the datatype is not the declared one",
            Reason.WRONG_ELEMENT: "an element is not a value of the datatype",
            Reason.WRONG_PARAMETER: "a parameter is not a boolean, a number or a string",
            Reason.WRONG_SHAPE: "the shape is not valid, or not the shape of the input or the data",
        },
    ),
    **_refusals(
        502,
        {
            Reason.BAD_MODEL_RESPONSE: "the model server's response does not conform to its "
            "protocol",
            Reason.RESPONSE_TOO_LARGE: "the model server's response must be converted, and "
            "exceeds `max_response` or the memory of a worker",
            Reason.UNKNOWN_RESPONSE_CODING: "the model server's response must be converted, and "
            "its content coding is not supported",
        },
    ),
}
"""Refusals of a body that cannot be converted. `body_too_large`, `unsupported_media_type`,
`conversion_queue_full` and `conversion_timeout` also apply to conversion; they are in
`DECISION_REFUSALS`."""

STATUS: Mapping[Reason, int] = {
    reason: refusal.status
    for reason, refusal in (*DECISION_REFUSALS.items(), *CONVERSION_REFUSALS.items())
}
"""HTTP status of every refusal by the callout."""
