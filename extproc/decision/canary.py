"""Stage 5: does a caller who asked for no version reach a version on compiled?"""

from collections.abc import Iterator

import xxhash

from extproc.decision.context import DecisionContext
from extproc.decision.reads import Reads
from extproc.decision.request import Request
from extproc.decision.results import Refusal
from extproc.policy.compiled import BUCKETS, CompiledCanary, ModelPolicy, Policy
from sluice.contract import headers
from sluice.contract.reasons import Reason


def reads(policy: Policy) -> Reads:
    """The parts of a request that this stage reads."""
    return Reads(headers=frozenset(_headers_read(policy)))


def run(_: Policy, request: Request, context: DecisionContext) -> Refusal | None:
    """Try header matches, then the user's bucket, then model types; an explicit choice stands."""
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
        compiled, context.reason = chosen
        context.target, context.canary = compiled.target, True
    return None


def explain(context: DecisionContext) -> str:
    """Explain what the stage found."""
    assert context.model is not None
    assert context.target is not None
    share = sum(compiled.weight for compiled in context.model.canaries)
    where = f"bucket {context.bucket}, canaries have those below {share}"
    if context.canary:
        because = {
            Reason.CANARY_HEADER: "a header asks for it",
            Reason.CANARY_BUCKET: where,
            Reason.CANARY_MODEL_TYPE: "x-model-type is one that it takes",
        }[context.reason]
        return f"version {context.target.version}: {because}"
    if context.reason is not Reason.STABLE:
        return "not tried: the version was chosen explicitly"
    if not context.model.canaries:
        return "the model has no canary"
    return f"no canary: {where if context.bucket is not None else 'the caller has no bucket'}"


def bucket_of(identifier: bytes, kind: str) -> int | None:
    """The bucket of a user, or None for an id that has none.

    `xxh64` is what Envoy's WeightedCluster with use_hash_policy and a header hash_policy computes
    (source/common/router: xxHash64 with seed 0, modulo the total weight), so that Envoy can take
    this stage over without moving a user.
    """
    if kind == "xxh64":
        return xxhash.xxh64_intdigest(identifier) % BUCKETS[kind]
    # int() would take blanks, signs, underscores and other scripts' digits too.
    if not identifier.isdigit() or len(identifier) > 40:
        return None
    return int(identifier) % BUCKETS[kind]


def _headers_read(policy: Policy) -> Iterator[str]:
    yield headers.MODEL_TYPE
    for model in policy.models.values():
        for compiled in model.canaries:
            yield from (name for name, _ in compiled.headers)
        if model.canaries and model.bucket.header is not None:
            yield model.bucket.header


def _by_header(
    canaries: tuple[CompiledCanary, ...], request: Request
) -> tuple[CompiledCanary, Reason] | None:
    for compiled in canaries:
        for name, value in compiled.headers:
            if request.headers.get(name) == value:
                return compiled, Reason.CANARY_HEADER
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
    for compiled in model.canaries:
        end += compiled.weight
        if context.bucket < end:
            return compiled, Reason.CANARY_BUCKET
    return None


def _by_model_type(
    canaries: tuple[CompiledCanary, ...], request: Request
) -> tuple[CompiledCanary, Reason] | None:
    asked = request.headers.get(headers.MODEL_TYPE)
    if asked is not None:
        for compiled in canaries:
            if asked in compiled.model_types:
                return compiled, Reason.CANARY_MODEL_TYPE
    return None
