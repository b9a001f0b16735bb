"""Stage: verifies the caller's credentials."""

from extproc.auth import CredentialsError, KeySetUnavailableError, UnknownKeyError
from extproc.decision.context import DecisionContext
from extproc.decision.reads import Reads
from extproc.decision.request import Request
from extproc.decision.results import Refusal
from extproc.policy.compiled import Policy
from sluice.contract.causes import CredentialCause
from sluice.contract.reasons import Reason
from sluice.keys.remote_key_sets import RETRY_INTERVAL

CHALLENGE = 'Bearer realm="sluice"'
"""Value of `www-authenticate` if credentials are missing."""

_Headers = tuple[tuple[str, str], ...]

_INVALID_TOKEN: _Headers = (("www-authenticate", f'{CHALLENGE}, error="invalid_token"'),)
"""Headers of a refusal of invalid credentials (RFC 6750 section 3.1)."""

_EXPIRED_DESCRIPTION = ', error_description="the token has expired"'
_EXPIRED_TOKEN: _Headers = (("www-authenticate", f"{_INVALID_TOKEN[0][1]}{_EXPIRED_DESCRIPTION}"),)
"""As `_INVALID_TOKEN`. Clients recognize an expired token by the description, and get a new one."""

_RETRY_LATER: _Headers = (("retry-after", str(int(RETRY_INTERVAL))),)
"""Headers of a refusal because a key set has not been fetched."""


def reads(policy: Policy) -> Reads:
    """The parts of a request that this stage reads."""
    return Reads(
        headers=frozenset(("authorization", policy.api_key_header)), time_until_expiry=True
    )


def run(policy: Policy, request: Request, context: DecisionContext) -> Refusal | None:
    """Refuse credentials that are not valid. A caller without credentials is anonymous."""
    try:
        context.identity = policy.authenticator.identify(request.headers, request.now)
    except CredentialsError as error:
        return _refusal(error)
    return None


def explain(context: DecisionContext) -> str:
    """Explain who the caller is."""
    identity = context.identity
    if identity.anonymous:
        return "the caller is anonymous: no credentials"
    groups = f", groups {', '.join(sorted(identity.groups))}" if identity.groups else ""
    return f"subject {identity.subject}, verified by {identity.source}{groups}"


def _refusal(error: CredentialsError) -> Refusal:
    issuer = error.issuer if isinstance(error, UnknownKeyError) else None
    reason, headers = Reason.INVALID_CREDENTIALS, _INVALID_TOKEN
    if isinstance(error, KeySetUnavailableError):
        # The token may be valid, so the client must not discard it.
        reason, headers = Reason.KEY_SET_UNAVAILABLE, _RETRY_LATER
    elif error.cause is CredentialCause.EXPIRED:
        headers = _EXPIRED_TOKEN
    return Refusal(reason, str(error), headers, unknown_key_issuer=issuer, cause=error.cause)
