"""Stage 4: which version answers? The one asked for, else the claim's, else stable."""

from extproc.decision.reasons import Reason
from extproc.decision.request import Request
from extproc.decision.results import Draft, Refusal
from extproc.policy.compiled import Policy, Route, Target


def route(_: Policy, request: Request, draft: Draft) -> Refusal | None:
    """Choose the version."""
    model = draft.route
    assert model is not None
    by_header = request.headers.get("x-model-version")
    if by_header is not None:
        if draft.asked_version is not None and draft.asked_version != by_header:
            return Refusal(
                Reason.MALFORMED_REQUEST, "x-model-version and the path ask for different versions"
            )
        draft.asked_version, draft.asked_by = by_header, Reason.VERSION_HEADER
    if draft.asked_version is not None:
        draft.target = model.targets.get(draft.asked_version)
        draft.reason = draft.asked_by
        if draft.target is None:
            return Refusal(Reason.UNKNOWN_VERSION, f"model {model.name} has no such version")
        return None
    draft.target = _by_claim(model, draft)
    if draft.target is not None:
        draft.reason = Reason.CLAIM
    else:
        draft.target, draft.reason = model.stable, Reason.STABLE
    return None


def tell(_: Request, draft: Draft) -> str:
    """What this stage found, in words."""
    assert draft.target is not None
    because = {
        Reason.VERSION_HEADER: "x-model-version asks for it",
        Reason.VERSION_PATH: "the path asks for it",
        Reason.CLAIM: "a claim rule matches the caller",
    }.get(draft.reason, "it is the stable one")
    return f"version {draft.target.version}: {because}"


def _by_claim(model: Route, draft: Draft) -> Target | None:
    for rule, target in model.claim_rules:
        values = draft.identity.claim_values(rule.claim)
        if rule.claim == "group":
            values = (*values, *draft.identity.groups)
        if rule.match == "exact":
            if rule.value in values:
                return target
        elif any(value.startswith(rule.value) for value in values):
            return target
    return None
