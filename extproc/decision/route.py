"""Stage: chooses the version that the client or a claim rule selects, else the stable version."""

from extproc.decision.context import DecisionContext
from extproc.decision.reads import Reads
from extproc.decision.request import Request
from extproc.decision.results import Refusal
from extproc.policy.compiled import ModelPolicy, Policy, Target
from sluice.config.caller_rules import claim_rule_matches
from sluice.contract import headers
from sluice.contract.reasons import Reason
from sluice.printable import printable

_MAX_QUOTED = 64
"""Characters of versions that a detail quotes."""


def reads(_: Policy) -> Reads:
    """The parts of a request that this stage reads."""
    return Reads(headers=frozenset((headers.MODEL_VERSION,)))


def run(_: Policy, request: Request, context: DecisionContext) -> Refusal | None:
    """Choose the version."""
    model = context.model
    assert model is not None
    by_header = request.headers.get(headers.MODEL_VERSION)
    if by_header is not None:
        if context.requested_version is not None and context.requested_version != by_header:
            return Refusal(
                Reason.MALFORMED_REQUEST, "x-model-version and the path name different versions"
            )
        context.requested_version, context.requested_by = by_header, Reason.VERSION_HEADER
    if context.requested_version is not None:
        context.target = model.targets.get(context.requested_version)
        context.reason = context.requested_by
        if context.target is None:
            return _unknown_version(model, context.requested_version)
        return None
    context.target = _by_claim(model, context)
    if context.target is not None:
        context.reason = Reason.CLAIM
    else:
        context.target, context.reason = model.stable, Reason.STABLE
    return None


def _unknown_version(model: ModelPolicy, requested: bytes) -> Refusal:
    came = printable(requested.decode("latin-1"), _MAX_QUOTED)
    versions = printable(b", ".join(model.targets).decode(), _MAX_QUOTED)
    detail = f"model {model.name} has no version '{came}'; it has {versions}"
    return Refusal(Reason.UNKNOWN_VERSION, detail)


def explain(context: DecisionContext) -> str:
    """Explain what chose the version."""
    assert context.target is not None
    why = {
        Reason.VERSION_HEADER: "x-model-version names it",
        Reason.VERSION_PATH: "the path names it",
        Reason.CLAIM: "a claim rule matches the caller",
    }.get(context.reason, "it is the stable version")
    return f"version {context.target.version}: {why}"


def _by_claim(model: ModelPolicy, context: DecisionContext) -> Target | None:
    """The version of the first claim rule that matches the caller."""
    for rule, target in model.claim_rules:
        if claim_rule_matches(rule, context.identity):
            return target
    return None
