"""Stage: verifies the caller's credentials."""

from extproc.auth import CredentialsError, UnknownKeyError
from extproc.decision.context import DecisionContext
from extproc.decision.reads import Reads
from extproc.decision.request import Request
from extproc.decision.results import Refusal
from extproc.policy.compiled import Policy
from sluice.contract.reasons import Reason

CHALLENGE = 'Bearer realm="sluice"'
"""Value of `www-authenticate` if credentials are missing."""

_INVALID_TOKEN = (("www-authenticate", f'{CHALLENGE}, error="invalid_token"'),)
"""Headers of a refusal of invalid credentials (RFC 6750 section 3.1)."""


def reads(policy: Policy) -> Reads:
    """The parts of a request that this stage reads."""
    return Reads(
        headers=frozenset(("authorization", policy.api_key_header)), time_until_expiry=True
    )


def run(policy: Policy, request: Request, context: DecisionContext) -> Refusal | None:
    """Refuse credentials that are not valid. A caller without credentials is anonymous."""
    try:
        context.identity = policy.authenticator.identify(request.headers, request.now)
    except UnknownKeyError as error:
        return Refusal(
            Reason.INVALID_CREDENTIALS,
            str(error),
            _INVALID_TOKEN,
            unknown_key_issuer=error.issuer,
        )
    except CredentialsError as error:
        return Refusal(Reason.INVALID_CREDENTIALS, str(error), _INVALID_TOKEN)
    return None


def explain(context: DecisionContext) -> str:
    """Explain who the caller is."""
    identity = context.identity
    if identity.anonymous:
        return "the caller is anonymous: no credentials"
    groups = f", groups {', '.join(sorted(identity.groups))}" if identity.groups else ""
    return f"subject {identity.subject}, verified by {identity.source}{groups}"
