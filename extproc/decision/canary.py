"""Stage 5: does a caller who asked for no version reach a version on trial?"""

import xxhash

from extproc.decision.reasons import Reason
from extproc.decision.request import Request
from extproc.decision.results import Draft, Refusal
from extproc.policy.compiled import BUCKETS, Policy, Route, Trial


def canary(_: Policy, request: Request, draft: Draft) -> Refusal | None:
    """Try header matches, then the user's bucket, then model types; an explicit choice stands."""
    model = draft.route
    assert model is not None
    if draft.reason is not Reason.STABLE or not model.trials:
        return None
    chosen = (
        _by_header(model.trials, request)
        or _by_bucket(model, request, draft)
        or _by_model_type(model.trials, request)
    )
    if chosen is not None:
        trial, draft.reason = chosen
        draft.target, draft.canary = trial.target, True
    return None


def tell(_: Request, draft: Draft) -> str:
    """What this stage found, in words."""
    assert draft.route is not None
    assert draft.target is not None
    share = sum(trial.weight for trial in draft.route.trials)
    where = f"bucket {draft.bucket}, canaries have those below {share}"
    if draft.canary:
        because = {
            Reason.CANARY_HEADER: "a header asks for it",
            Reason.CANARY_BUCKET: where,
            Reason.CANARY_MODEL_TYPE: "x-model-type is one that it takes",
        }[draft.reason]
        return f"version {draft.target.version}: {because}"
    if draft.reason is not Reason.STABLE:
        return "not tried: the version was chosen explicitly"
    if not draft.route.trials:
        return "the model has no canary"
    return f"no canary: {where if draft.bucket is not None else 'the caller has no bucket'}"


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


def _by_header(trials: tuple[Trial, ...], request: Request) -> tuple[Trial, Reason] | None:
    for trial in trials:
        for name, value in trial.headers:
            if request.headers.get(name) == value:
                return trial, Reason.CANARY_HEADER
    return None


def _by_bucket(model: Route, request: Request, draft: Draft) -> tuple[Trial, Reason] | None:
    header = model.bucket.header
    identifier = draft.identity.subject.encode() if header is None else request.headers.get(header)
    if not identifier:
        return None
    draft.bucket = bucket_of(identifier, model.bucket.hash)
    if draft.bucket is None:
        return None
    end = 0
    for trial in model.trials:
        end += trial.weight
        if draft.bucket < end:
            return trial, Reason.CANARY_BUCKET
    return None


def _by_model_type(trials: tuple[Trial, ...], request: Request) -> tuple[Trial, Reason] | None:
    asked = request.headers.get("x-model-type")
    if asked is not None:
        for trial in trials:
            if asked in trial.model_types:
                return trial, Reason.CANARY_MODEL_TYPE
    return None
