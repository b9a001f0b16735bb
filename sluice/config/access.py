"""Who may use the interfaces for operators: names, roles and credentials."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sluice.config.files import UnusableFileError, read_named_file
from sluice.config.identity import PeerName
from sluice.config.invalid import check_distinct
from sluice.config.pattern import Pattern
from sluice.config.values import Confidential, FilePath, Name, Shown, Strict

MIN_TOKEN, MAX_TOKEN = 16, 1024
"""Bytes of a token in a file: a shorter one could be guessed."""

OperatorRole = Literal["reader", "operator"]
"""`reader` may see the config and the state; `operator` may also change them."""


class AccessToken(Confidential):
    """A bearer token. Set exactly one of `sha256` and `secret_file`."""

    name: Annotated[Name, Shown()] = Field(
        description="Name of the owner, as the history shows it."
    )
    role: OperatorRole = Field(
        description="`reader` may see the config and the state; `operator` may also change them."
    )
    sha256: (
        Annotated[
            str, Pattern(r"[0-9a-f]{64}", "write the SHA-256 of the token in 64 lower-case digits")
        ]
        | None
    ) = Field(None, description="SHA-256 of the token, as `sluice admin-token` prints it.")
    secret_file: FilePath | None = Field(
        None,
        description=f"File with the token: one line of {MIN_TOKEN} to {MAX_TOKEN} bytes, relative "
        "to the config file. New content takes effect within a second.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.sha256 is None) == (self.secret_file is None):
            raise ValueError("set exactly one of sha256 and secret_file")
        return self


class AccessCertificate(Strict):
    """A client certificate that the `ca` of `identity` has signed."""

    name: PeerName = Field(
        description="Name in the certificate: a DNS name or URI of its alternative names, else its "
        "common name."
    )
    role: OperatorRole = Field(
        description="`reader` may see the config and the state; `operator` may also change them."
    )


class Access(Strict):
    """Who may use the admin HTTP server and the metrics endpoint, with which role.

    Without any entry, every local user is the operator `local` if the server listens on a loopback
    address. On other addresses, nobody is an operator then. Changes take effect at once.
    """

    tokens: tuple[AccessToken, ...] = Field((), max_length=1000)
    certificates: tuple[AccessCertificate, ...] = Field(
        (), max_length=1000, description="Names in client certificates. They need `identity`."
    )

    @property
    def configured(self) -> bool:
        """Whether anybody has credentials."""
        return bool(self.tokens or self.certificates)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for field in ("name", "sha256"):
            entries = ((n, getattr(each, field)) for n, each in enumerate(self.tokens))
            check_distinct(
                ((("tokens", n, field), value) for n, value in entries if value is not None),
                f"two tokens have the same {field}",
            )
        check_distinct(
            ((("certificates", n, "name"), each.name) for n, each in enumerate(self.certificates)),
            "two certificates have the same name",
        )
        return self


def read_token(file: Path) -> bytes:
    """The token in a file. Raises UnusableFileError, which does not show it."""
    token = read_named_file(file, MAX_TOKEN + 1).strip()
    text = token.decode(errors="replace")
    if not MIN_TOKEN <= len(token) <= MAX_TOKEN or not (text.isascii() and text.isprintable()):
        raise UnusableFileError(
            f"the token must be one line of {MIN_TOKEN} to {MAX_TOKEN} bytes of printable ASCII"
        )
    return token
