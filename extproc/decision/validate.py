"""Stage 1: is this a request for a model, in a form that the model takes?"""

from extproc.decision.context import DecisionContext
from extproc.decision.reads import Reads
from extproc.decision.request import Request
from extproc.decision.results import Refusal
from extproc.policy.compiled import ModelPolicy, Policy
from sluice.contract import headers
from sluice.contract.paths import OIP_GRPC_PREFIX
from sluice.contract.reasons import Reason

GRPC_PREFIX = OIP_GRPC_PREFIX.encode()
"""Methods of the Open Inference Protocol by gRPC; their model is named by `x-model-name`."""

SERVER_METHODS = frozenset((b"ServerLive", b"ServerReady", b"ServerMetadata"))
"""Those whose messages name no model."""

_GRPC_METHODS = SERVER_METHODS | {
    b"ModelInfer", b"ModelReady", b"ModelMetadata", b"ModelStreamInfer", b"ModelConfig",
    b"ModelStatistics",
}  # fmt: skip
"""All that callers may use. The last three are Triton's; of its others, some load models or share
memory, and none begins with the model's name and version as these do.
"""

MISSING_MESSAGE = Refusal(Reason.MALFORMED_REQUEST, "a gRPC call has a message")
"""A server would wait for it until the call has run out of time, which reads as its failure."""

_READ_METHODS = (b"GET", b"HEAD")
_UNTYPED = b"application/octet-stream"
"""What content without a type is taken for (RFC 9110 section 8.3)."""


def reads(_: Policy) -> Reads:
    """The parts of a request that this stage reads."""
    return Reads(
        headers=frozenset((":method", ":path", "content-type", "upgrade", headers.MODEL_NAME)),
        bounded_by_max_body=frozenset((headers.CONTENT_LENGTH,)),
        has_body=True,
    )


def run(policy: Policy, request: Request, context: DecisionContext) -> Refusal | None:
    """Find the model, and check method, size and media type."""
    path = request.path
    if path.startswith(GRPC_PREFIX):
        if path.removeprefix(GRPC_PREFIX) not in _GRPC_METHODS:
            return Refusal(Reason.METHOD_NOT_ALLOWED, "this gRPC method is not for callers")
        if not request.has_body:
            return MISSING_MESSAGE
        context.model = policy.models.get(request.headers.get(headers.MODEL_NAME, b""))
        rest, of_protocol = b"", False
    else:
        context.model, rest, of_protocol = _find(policy, path)
    model = context.model
    if model is None:
        return Refusal(Reason.UNKNOWN_MODEL, "no model answers at this path")
    read_only = False
    if of_protocol:
        rest, version = _split_version(rest)
        if version is not None:
            context.requested_version, context.requested_by = version, Reason.VERSION_PATH
        read_only = rest in (b"", b"ready")
        context.operation = rest
    return (
        _check_method(model, request, read_only=read_only)
        or _check_size(model, request)
        or _check_media_type(model, request)
    )


def explain(context: DecisionContext) -> str:
    """Explain what the stage found."""
    assert context.model is not None
    return f"model {context.model.name}, bodies up to {context.model.max_body} bytes"


def is_oip_grpc(path: bytes) -> bool:
    """Whether this path is a method of the Open Inference Protocol by gRPC."""
    return path.startswith(GRPC_PREFIX)


def grpc_method(path: bytes) -> bytes:
    """The method of a call at this path, which may have a query."""
    return path.partition(b"?")[0].removeprefix(GRPC_PREFIX)


def _find(policy: Policy, path: bytes) -> tuple[ModelPolicy | None, bytes, bool]:
    """The model with the longest prefix of the path, the rest, and whether the prefix is the OIP's.

    Prefixes end where segments do. Nothing beyond the longest one is looked at, so that a path of a
    thousand segments costs no more than a usual one.
    """
    longest = policy.longest_prefix
    end = len(path) if len(path) <= longest else path.rfind(b"/", 0, longest + 1)
    while end > 0:
        found = policy.prefixes.get(path[:end])
        if found is not None:
            return found[0], path[end + 1 :], found[1]
        end = path.rfind(b"/", 0, end)
    return None, b"", False


def _split_version(rest: bytes) -> tuple[bytes, bytes | None]:
    """`versions/V/infer` to `infer` and V."""
    if not rest.startswith(b"versions/"):
        return rest, None
    version, _, operation = rest[len(b"versions/") :].partition(b"/")
    return operation, version


def _check_method(model: ModelPolicy, request: Request, *, read_only: bool) -> Refusal | None:
    method = request.method
    if read_only:
        # A model's metadata and readiness: reading is all there is to do.
        return None if method in _READ_METHODS else _method_refused("GET, HEAD")
    if is_websocket(request):
        if model.websocket and method == b"GET":
            return None
    elif method in model.methods:
        return None
    return _method_refused(model.allow)


def is_websocket(request: Request) -> bool:
    """Whether the client asks to go on as a WebSocket, which has neither length nor media type."""
    return request.headers.get("upgrade", b"").lower() == b"websocket"


def _method_refused(allow: str) -> Refusal:
    detail = f"the methods allowed here are {allow}"
    return Refusal(Reason.METHOD_NOT_ALLOWED, detail, (("allow", allow),))


def _check_size(model: ModelPolicy, request: Request) -> Refusal | None:
    length = request.headers.get(headers.CONTENT_LENGTH)
    if length is None:
        return None
    if not length.isdigit() or len(length) > 19:
        return Refusal(Reason.MALFORMED_REQUEST, "content-length is not a number of bytes")
    return body_too_large(model.max_body) if int(length) > model.max_body else None


def body_too_large(max_body: int) -> Refusal:
    """The refusal of a body over the model's limit, also of one that turns out so on the way."""
    return Refusal(Reason.BODY_TOO_LARGE, f"the body is larger than {max_body} bytes")


def _check_media_type(model: ModelPolicy, request: Request) -> Refusal | None:
    if not request.has_body or is_websocket(request):
        return None
    given = request.headers.get("content-type", _UNTYPED)
    if given in model.media_types:
        return None
    media_type = given.partition(b";")[0].strip().lower()
    if media_type.startswith(b"application/grpc+"):
        media_type = b"application/grpc"
    if media_type in model.media_types or media_type.startswith(model.media_ranges):
        return None
    return Refusal(
        Reason.UNSUPPORTED_MEDIA_TYPE, "the model does not take this content type", _accept(model)
    )


def _accept(model: ModelPolicy) -> tuple[tuple[str, str], ...]:
    """What the model does take (RFC 9110 section 15.5.16)."""
    types = sorted(model.media_types) + [prefix + b"*" for prefix in model.media_ranges]
    return (("accept", b", ".join(types).decode()),)
