"""Errors of credentials. Clients see the messages.

A message quotes at most one value of the token (`iss`, `alg`, `aud` or `kid`), which is bounded and
printable.
"""

from sluice.contract.causes import CredentialCause
from sluice.printable import printable

MAX_QUOTED = 64
"""Characters of a value of the token in a message."""
MAX_NAME = 100
"""Characters of an issuer or of a claim's name in a message. Both are in the config."""


class CredentialsError(Exception):
    """The request has credentials that are not valid. `cause` is for the log and metrics."""

    def __init__(self, message: str, cause: CredentialCause) -> None:
        super().__init__(message)
        self.cause = cause


class UnknownKeyError(CredentialsError):
    """The issuer's key set does not have the token's key. A new fetch of the set may add it."""

    def __init__(self, issuer: str, message: str, cause: CredentialCause) -> None:
        super().__init__(message, cause)
        self.issuer = issuer


class KeySetUnavailableError(UnknownKeyError):
    """The issuer's key set has not been fetched yet or has expired, so no token can be verified."""

    def __init__(self, issuer: str, *, expired: bool) -> None:
        problem = "has expired and could not be fetched again" if expired else "is not available"
        message = f"the key set of the token's issuer {shown(issuer)} {problem}"
        super().__init__(issuer, message, CredentialCause.KEY_SET_UNAVAILABLE)


def shown(name: str) -> str:
    """An issuer or the name of a claim in the config, as part of a message."""
    return printable(name, MAX_NAME)


def quoted(value: str) -> str:
    """A value of the token as part of a message."""
    return f"'{printable(value, MAX_QUOTED)}'"
