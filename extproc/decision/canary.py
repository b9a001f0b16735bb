"""Stage: sends a part of the requests for the stable version to a canary."""

from extproc.decision.context import DecisionContext
from extproc.decision.reads import Reads
from extproc.decision.request import Request
from extproc.decision.results import Refusal
from extproc.policy.compiled import CompiledCanary, ModelPolicy, Policy
from sluice.config.buckets import bucket_of
from sluice.contract import headers
from sluice.contract.reasons import Reason


def reads(policy: Policy) -> Reads:
    """The parts of a request that this stage reads."""
    return Reads(headers=policy.canary_headers | {headers.MODEL_TYPE})


def run(_: Policy, request: Request, context: DecisionContext) -> Refusal | None:
    """Try header matches, then the user's bucket, then model types."""
    model = context.model
    assert model is not None
    if context.reason is not Reason.STABLE or not model.canaries:
        return None
    chosen = (
        _by_header(model.canaries, request)
        or _by_bucket(model, request, context)
        or _by_model_type(model.canaries, request)
    )
    if chosen is not None:
        canary, context.reason = chosen
        context.target, context.canary = canary.target, True
    return None


def explain(context: DecisionContext) -> str:
    """Explain why the request goes to a canary or not."""
    assert context.model is not None
    assert context.target is not None
    share = sum(canary.weight for canary in context.model.canaries)
    bucket = f"bucket {context.bucket}; canaries have the buckets below {share}"
    if context.canary:
        why = {
            Reason.CANARY_HEADER: "a header asks for it",
            Reason.CANARY_BUCKET: bucket,
            Reason.CANARY_MODEL_TYPE: "it lists the value of x-model-type",
        }[context.reason]
        return f"version {context.target.version}: {why}"
    if context.reason is not Reason.STABLE:
        return "not tried: the request or a claim rule chose the version"
    if not context.model.canaries:
        return "the model has no canary"
    return f"no canary: {bucket if context.bucket is not None else 'the caller has no bucket'}"


def _by_header(
    canaries: tuple[CompiledCanary, ...], request: Request
) -> tuple[CompiledCanary, Reason] | None:
    for canary in canaries:
        for name, value in canary.headers:
            if request.headers.get(name) == value:
                return canary, Reason.CANARY_HEADER
    return None


def _by_bucket(
    model: ModelPolicy, request: Request, context: DecisionContext
) -> tuple[CompiledCanary, Reason] | None:
    header = model.bucket.header
    identifier = (
        context.identity.subject.encode() if header is None else request.headers.get(header)
    )
    if not identifier:
        return None
    context.bucket = bucket_of(identifier, model.bucket.hash)
    if context.bucket is None:
        return None
    end = 0
    for canary in model.canaries:
        end += canary.weight
        if context.bucket < end:
            return canary, Reason.CANARY_BUCKET
    return None


def _by_model_type(
    canaries: tuple[CompiledCanary, ...], request: Request
) -> tuple[CompiledCanary, Reason] | None:
    model_type = request.headers.get(headers.MODEL_TYPE)
    if model_type is not None:
        for canary in canaries:
            if model_type in canary.model_types:
                return canary, Reason.CANARY_MODEL_TYPE
    return None
