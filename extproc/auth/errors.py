"""Errors of credentials. Clients see the messages, which never contain input of the client."""


class CredentialsError(Exception):
    """The request has credentials that are not valid."""


class UnknownKeyError(CredentialsError):
    """The issuer's key set does not have the token's key. A new fetch of the set may add it."""

    def __init__(self, issuer: str) -> None:
        super().__init__("the token's key is not in its issuer's key set")
        self.issuer = issuer


class ExpiredKeysError(UnknownKeyError):
    """The issuer's key set has not been fetched for too long. A new fetch may succeed."""

    def __init__(self, issuer: str) -> None:
        super().__init__(issuer)
        self.args = ("the key set of the token's issuer has expired",)
