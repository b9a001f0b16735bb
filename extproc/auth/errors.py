"""Why credentials are refused. Messages are shown to clients and never hold what they sent."""


class CredentialsError(Exception):
    """Credentials were presented, and they are not good."""


class UnknownKeyError(CredentialsError):
    """A token names a key that its issuer's key set lacks; fetching the set again may help."""

    def __init__(self, issuer: str) -> None:
        super().__init__("the token's key is not one of its issuer's")
        self.issuer = issuer
