"""Errors of credentials. Their messages are shown to clients and never contain client input."""


class CredentialsError(Exception):
    """The request has credentials that are not valid."""


class UnknownKeyError(CredentialsError):
    """A token names a key that its issuer's key set lacks. Fetching the set again may help."""

    def __init__(self, issuer: str) -> None:
        super().__init__("the token's key is not in its issuer's key set")
        self.issuer = issuer
