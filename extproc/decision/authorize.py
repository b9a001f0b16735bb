"""Stage: checks whether the caller may use the model."""

from extproc.decision.authenticate import CHALLENGE
from extproc.decision.context import DecisionContext
from extproc.decision.reads import Reads
from extproc.decision.request import Request
from extproc.decision.results import Refusal
from extproc.policy.compiled import Policy
from sluice.config.caller_rules import allow_rule_matches
from sluice.contract.reasons import Reason

_UNAUTHENTICATED = Refusal(
    Reason.UNAUTHENTICATED,
    "credentials are required: send a bearer token or an API key",
    (("www-authenticate", CHALLENGE),),
)


def reads(_: Policy) -> Reads:
    """This stage reads no part of the request, only the caller's identity."""
    return Reads()


def run(_: Policy, __: Request, context: DecisionContext) -> Refusal | None:
    """Apply the model's access rules."""
    model, identity = context.model, context.identity
    assert model is not None
    if model.public:
        return None
    if identity.anonymous:
        return _UNAUTHENTICATED
    if not model.allow_rules or any(
        allow_rule_matches(rule, identity) for rule in model.allow_rules
    ):
        return None
    return Refusal(Reason.FORBIDDEN, "the caller may not use this model", rule="access.allow")


def explain(context: DecisionContext) -> str:
    """Explain which rule admits the caller."""
    assert context.model is not None
    if context.model.public:
        return "the model is public"
    if not context.model.allow_rules:
        return "every authenticated caller may use the model"
    rules = enumerate(context.model.allow_rules)
    index = next(index for index, rule in rules if allow_rule_matches(rule, context.identity))
    return f"admitted by access.allow.{index}"
