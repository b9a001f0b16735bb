"""The version that a request gets which names none, as the stages route and canary choose it."""

from collections.abc import Mapping

from sluice.config.assertions.callers import Caller
from sluice.config.buckets import bucket_of
from sluice.config.caller_rules import claim_rule_matches
from sluice.config.models import Canary, Model
from sluice.contract.headers import MODEL_TYPE
from sluice.contract.reasons import Reason


def chosen_version(model: Model, caller: Caller, headers: Mapping[str, str]) -> tuple[str, Reason]:
    """The version of a request with these headers, and why it is chosen."""
    for rule in model.claim_rules:
        if claim_rule_matches(rule, caller):
            return rule.version, Reason.CLAIM
    for canary in model.canaries:
        if any(headers.get(match.name) == match.value for match in canary.headers):
            return canary.version, Reason.CANARY_HEADER
    header = model.bucket.header
    by_percent = canary_of(model, caller.subject if header is None else headers.get(header, ""))
    if by_percent is not None:
        return by_percent.version, Reason.CANARY_BUCKET
    for canary in model.canaries:
        if headers.get(MODEL_TYPE) in canary.model_types:
            return canary.version, Reason.CANARY_MODEL_TYPE
    return model.stable_version, Reason.STABLE


def canary_of(model: Model, identifier: str) -> Canary | None:
    """The canary that a user gets by `percent`; None for `stable`, or if the user has no bucket."""
    bucket = bucket_of(identifier.encode(), model.bucket.hash) if identifier else None
    if bucket is None:
        return None
    end = 0
    for canary in model.canaries:
        end += canary.buckets(model.bucket.hash)
        if bucket < end:
            return canary
    return None
