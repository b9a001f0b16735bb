"""Stage 2: who is calling?"""

from extproc.auth import CredentialsError, UnknownKeyError
from extproc.decision.context import DecisionContext
from extproc.decision.reads import Reads
from extproc.decision.request import Request
from extproc.decision.results import Refusal
from extproc.policy.compiled import Policy
from sluice.contract.reasons import Reason

CHALLENGE = 'Bearer realm="sluice"'
_INVALID = (("www-authenticate", f'{CHALLENGE}, error="invalid_token"'),)
"""RFC 6750 section 3.1."""


def reads(policy: Policy) -> Reads:
    """The parts of a request that this stage reads."""
    return Reads(
        headers=frozenset(("authorization", policy.api_key_header)), time_until_expiry=True
    )


def run(policy: Policy, request: Request, context: DecisionContext) -> Refusal | None:
    """Verify what credentials there are. A caller without any is anonymous, for the next stage."""
    try:
        context.identity = policy.authenticator.identify(request.headers, request.now)
    except UnknownKeyError as error:
        return Refusal(
            Reason.INVALID_CREDENTIALS, str(error), _INVALID, unknown_key_issuer=error.issuer
        )
    except CredentialsError as error:
        return Refusal(Reason.INVALID_CREDENTIALS, str(error), _INVALID)
    return None


def explain(context: DecisionContext) -> str:
    """Explain what the stage found."""
    identity = context.identity
    if identity.anonymous:
        return "anonymous: no credentials"
    groups = f", groups {', '.join(sorted(identity.groups))}" if identity.groups else ""
    return f"subject {identity.subject}, vouched for by {identity.source}{groups}"
