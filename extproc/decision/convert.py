"""Stage 8: does the body have to become something else for the version, and can it?"""

from extproc.convert import ConversionError
from extproc.decision import grpc_metadata
from extproc.decision.context import DecisionContext
from extproc.decision.reads import Reads
from extproc.decision.request import Request
from extproc.decision.results import Refusal
from extproc.decision.validate import is_websocket
from extproc.policy.compiled import Policy, Target
from sluice.contract.reasons import Reason

_GRPC = b"application/grpc"
_INFER = (None, b"infer")
"""Operations with tensors: of the protocol's paths, and everything below a model's own."""


def reads(_: Policy) -> Reads:
    """The parts of a request that this stage reads."""
    return grpc_metadata.READS | Reads(
        headers=frozenset((":method", "content-type", "upgrade")), has_body=True
    )


def run(_: Policy, request: Request, context: DecisionContext) -> Refusal | None:
    """Choose the converter by content type and the version's protocol."""
    target = context.target
    assert target is not None
    if target.converters is None or is_websocket(request):
        return None
    content_type = request.headers.get("content-type")
    if content_type is not None and content_type.lower().startswith(_GRPC):
        return _check_call(target, request, context)
    if context.operation not in _INFER or request.method != b"POST":
        return _not_served(target)
    if not request.has_body:
        return Refusal(Reason.MALFORMED_REQUEST, "the body is empty")
    try:
        context.converter = target.converters.choose(
            None if content_type is None else content_type.decode("latin-1")
        )
    except ConversionError as error:
        return Refusal(Reason.UNSUPPORTED_MEDIA_TYPE, f"{error.field} {error.detail}")
    return None


def explain(context: DecisionContext) -> str:
    """Explain what the stage found."""
    if context.converter is None:
        return "the body goes on as it is"
    return f"the body is converted: {context.converter.name}"


def _check_call(target: Target, request: Request, context: DecisionContext) -> Refusal | None:
    """A gRPC call goes to a gRPC method of a gRPC server: elsewhere nobody would read its body."""
    if target.protocol != "grpc" or context.operation is not None:
        return Refusal(
            Reason.UNSUPPORTED_MEDIA_TYPE,
            "gRPC calls are for the methods of versions that speak gRPC",
        )
    if request.method != b"POST":
        return Refusal(Reason.METHOD_NOT_ALLOWED, "a gRPC call is a POST", (("allow", "POST"),))
    wrong = grpc_metadata.find_error(request.headers)
    return None if wrong is None else Refusal(Reason.MALFORMED_REQUEST, wrong)


def _not_served(target: Target) -> Refusal | None:
    """A gRPC server is asked nothing but to infer; what REST servers answer beside, they get."""
    if target.protocol != "grpc":
        return None
    return Refusal(
        Reason.METHOD_NOT_ALLOWED,
        "this version is served by gRPC: only inference is translated for it",
        (("allow", "POST"),),
    )
