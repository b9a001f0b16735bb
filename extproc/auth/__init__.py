"""Authentication: verifies JWTs and API keys, and gives the caller's `Identity`."""

from extproc.auth.authenticator import Authenticator
from extproc.auth.errors import CredentialsError, KeySetUnavailableError, UnknownKeyError
from extproc.auth.identity import ANONYMOUS, Identity

__all__ = [
    "ANONYMOUS",
    "Authenticator",
    "CredentialsError",
    "Identity",
    "KeySetUnavailableError",
    "UnknownKeyError",
]
