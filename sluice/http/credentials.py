"""The credentials of a client of a gateway's HTTP servers: a bearer token and TLS files.

Files are read for each request, so that new content is used at once. No error shows a token.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sluice.config.addresses import is_local
from sluice.config.files import UnusableFileError, read_named_file

MAX_TOKEN = 1024
"""Bytes of a token."""


class CredentialsError(Exception):
    """Credentials cannot be used."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """How a client authenticates, and how it verifies servers.

    `ca` verifies servers instead of the certificates of the system. `certificate` and `key` are
    the client's own. `same_machine`: the server runs on this machine, at any address. Then a
    token needs no TLS, and the certificate of the server may have any name that `ca` has signed.
    """

    token_file: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    same_machine: bool = False

    def headers(self, url: str) -> dict[str, str]:
        """The header with the token. Raises CredentialsError.

        A token that is sent in plain text over a network is lost.
        """
        if self.token_file is None:
            return {}
        parts = urlsplit(url)
        local = self.same_machine or is_local(parts.hostname or "")
        if parts.scheme != "https" and not local:
            raise CredentialsError(
                f"the token is not sent to {parts.scheme}://{parts.netloc}, because it would cross "
                "the network in plain text: use a URL that begins with https"
            )
        return {"authorization": f"Bearer {_token(self.token_file)}"}

    def tls(self, url: str) -> ssl.SSLContext | None:
        """The TLS settings; None for those of the system. Raises CredentialsError."""
        if urlsplit(url).scheme != "https" or (self.ca is None and self.certificate is None):
            return None
        file = self.ca
        try:
            context = ssl.create_default_context(cafile=self.ca)
            context.check_hostname = not self.same_machine
            if self.certificate is not None:
                file = self.certificate
                # With a password, OpenSSL does not ask for one at the terminal.
                context.load_cert_chain(self.certificate, self.key, password="")
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise CredentialsError(f"{file}: the certificate cannot be used: {reason}") from None
        return context


NO_CREDENTIALS: Final = Credentials()


def _token(file: Path) -> str:
    try:
        token = read_named_file(file, MAX_TOKEN).decode(errors="replace").strip()
    except UnusableFileError as error:
        raise CredentialsError(f"token file {file}: {error}") from None
    if not (token and token.isascii() and token.isprintable() and " " not in token):
        raise CredentialsError(f"token file {file}: write one line of printable ASCII")
    return token
