"""Stage: finds the model and checks the request's method, declared length and media type."""

from extproc.decision import oip_grpc, video
from extproc.decision.context import DecisionContext
from extproc.decision.reads import Reads
from extproc.decision.refusals import (
    MISSING_MESSAGE,
    NO_WEBSOCKET,
    check_length,
    method_not_allowed,
    unsupported_media_type,
)
from extproc.decision.request import Request
from extproc.decision.results import Refusal
from extproc.policy.compiled import ModelPolicy, Policy
from sluice.contract import headers
from sluice.contract.reasons import Reason
from sluice.media_types import is_grpc, media_type_name

_READ_METHODS = (b"GET", b"HEAD")

_DEFAULT_MEDIA_TYPE = b"application/octet-stream"
"""Media type of a body without `content-type` (RFC 9110 section 8.3)."""

_NOT_ASCII = Refusal(
    Reason.MALFORMED_REQUEST,
    "the path and the query must be ASCII: percent-encode other characters",
)
"""Other bytes are not allowed in a URI (RFC 3986). They make the gRPC server of grpcio exit."""

_UPGRADE_OPTIONS = frozenset((b"upgrade", b"keep-alive", b""))
"""Options in `connection` of a WebSocket handshake (RFC 6455 section 4.1). A list may have empty
elements (RFC 9110 section 5.6.1)."""

_NAMES_HEADERS = Refusal(
    Reason.MALFORMED_REQUEST, "connection may contain only upgrade and keep-alive"
)
"""Envoy forwards `connection` with an upgrade. A proxy in front of the model server would remove
the headers that it names (RFC 9110 section 7.6.1), for example `x-sluice-subject`."""

_UNKNOWN_PATH = Refusal(Reason.UNKNOWN_MODEL, "no model has this path")
_UNKNOWN_NAME = Refusal(
    Reason.UNKNOWN_MODEL, f"no model has the name in the header {headers.MODEL_NAME}"
)
_NO_NAME = Refusal(
    Reason.UNKNOWN_MODEL, f"write the name of the model into the header {headers.MODEL_NAME}"
)


def reads(_: Policy) -> Reads:
    """The parts of a request that this stage reads."""
    return Reads(
        headers=frozenset(
            (":method", ":path", "connection", "content-type", "upgrade", headers.MODEL_NAME)
        ),
        bounded_by_max_body=frozenset((headers.CONTENT_LENGTH,)),
        has_body=True,
    )


def run(policy: Policy, request: Request, context: DecisionContext) -> Refusal | None:
    """Find the model, then check method, length and media type."""
    target = request.target
    if not target.isascii():
        return _NOT_ASCII
    path = target.partition(b"?")[0]
    if oip_grpc.is_method_path(path):
        return _find_called_model(policy, path, request, context) or _check(request, context)
    if video.is_method_path(path):
        return _check_video_call(policy, path, request, context)
    model, rest, is_oip_rest = _find_model(policy, path)
    if model is None:
        return _UNKNOWN_PATH
    context.model = model
    if not is_oip_rest:
        return _check(request, context)
    rest, version = _split_version(rest)
    if version is not None:
        context.requested_version, context.requested_by = version, Reason.VERSION_PATH
    if model.max_video is not None and video.is_operation(rest, version):
        return video.check_request(model, rest, request, context)
    if model.operations is not None and rest not in model.operations:
        return _UNKNOWN_PATH
    context.operation = rest
    return _check(request, context)


def _check(request: Request, context: DecisionContext) -> Refusal | None:
    """Check a request for a model."""
    model = context.model
    assert model is not None
    # The operations for metadata and readiness of a model.
    read_only = context.operation in (b"", b"ready")
    return (
        _check_method(model, request, read_only=read_only)
        or check_length(model.max_body, request)
        or _check_media_type(model, request)
    )


def _find_called_model(
    policy: Policy, path: bytes, request: Request, context: DecisionContext
) -> Refusal | None:
    """Find the model of a gRPC call of the Open Inference Protocol."""
    context.model = policy.models.get(request.headers.get(headers.MODEL_NAME, b""))
    if not _is_client_method(oip_grpc.method_name(path), context.model):
        return _unknown_grpc_method(request)
    if not request.has_body:
        return MISSING_MESSAGE
    if context.model is None:
        return _unknown_name(request)
    return None


def explain(context: DecisionContext) -> str:
    """Explain which model was found."""
    model = context.model
    assert model is not None
    if context.video_cluster is not None:
        return f"video of model {model.name}, up to {model.max_video} bytes"
    return f"model {model.name}, bodies up to {model.max_body} bytes"


def _check_video_call(
    policy: Policy, path: bytes, request: Request, context: DecisionContext
) -> Refusal | None:
    """Find the model of a gRPC call of the video service, and check the call."""
    if not video.is_method(path):
        return _unknown_grpc_method(request)
    model = policy.models.get(request.headers.get(headers.MODEL_NAME, b""))
    if model is None or model.max_video is None:
        return _unknown_name(request)
    context.model = model
    return video.check_call(model, request, context)


def _find_model(policy: Policy, path: bytes) -> tuple[ModelPolicy | None, bytes, bool]:
    """Find the longest prefix of the path that belongs to a model.

    Returns the model, the rest of the path, and whether the prefix is the model's path in the Open
    Inference Protocol. Prefixes end at segment boundaries. The search starts at the length of the
    policy's longest prefix, so a path with many segments does not take more time.
    """
    longest = policy.longest_prefix
    end = len(path) if len(path) <= longest else path.rfind(b"/", 0, longest + 1)
    while end > 0:
        found = policy.prefixes.get(path[:end])
        if found is not None:
            return found[0], path[end + 1 :], found[1]
        end = path.rfind(b"/", 0, end)
    return None, b"", False


def _is_client_method(method: bytes, model: ModelPolicy | None) -> bool:
    return method in oip_grpc.CLIENT_METHODS or (
        model is not None and method in model.extra_grpc_methods
    )


def _unknown_grpc_method(request: Request) -> Refusal:
    """The refusal of a method that does not exist for clients.

    A gRPC client gets UNIMPLEMENTED. Other clients get 404, because 405 must list methods that are
    allowed (RFC 9110 section 15.5.6).
    """
    detail = "clients may not call this gRPC method"
    if is_grpc(request.headers.get("content-type", b"")):
        return Refusal(Reason.METHOD_NOT_ALLOWED, detail)
    return Refusal(Reason.UNKNOWN_OPERATION, detail)


def _unknown_name(request: Request) -> Refusal:
    return _NO_NAME if headers.MODEL_NAME not in request.headers else _UNKNOWN_NAME


def _split_version(rest: bytes) -> tuple[bytes, bytes | None]:
    """Split `versions/V/infer` into `infer` and V."""
    if not rest.startswith(b"versions/"):
        return rest, None
    version, _, operation = rest[len(b"versions/") :].partition(b"/")
    return operation, version


def _check_method(model: ModelPolicy, request: Request, *, read_only: bool) -> Refusal | None:
    method = request.method
    if read_only:
        return None if method in _READ_METHODS else method_not_allowed("GET, HEAD")
    if request.is_websocket and model.websocket:
        return _check_connection(request) if method == b"GET" else method_not_allowed("GET")
    if method not in model.methods:
        return method_not_allowed(model.allow_header)
    return NO_WEBSOCKET if request.is_websocket else None


def _check_connection(request: Request) -> Refusal | None:
    options = request.headers.get("connection", b"").lower().split(b",")
    return None if _UPGRADE_OPTIONS.issuperset(map(bytes.strip, options)) else _NAMES_HEADERS


def _check_media_type(model: ModelPolicy, request: Request) -> Refusal | None:
    if not request.has_body or request.is_websocket:
        return None
    content_type = request.headers.get("content-type", _DEFAULT_MEDIA_TYPE)
    if content_type in model.media_types:
        return None
    media_type = media_type_name(content_type.decode("latin-1")).encode("latin-1")
    if media_type in model.media_types or media_type.startswith(model.media_type_prefixes):
        return None
    types = sorted(model.media_types) + [prefix + b"*" for prefix in model.media_type_prefixes]
    accepted = b", ".join(types).decode()
    return unsupported_media_type("the model", request.headers.get("content-type"), accepted)
