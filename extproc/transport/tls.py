"""TLS of a server: the certificate files, whether clients need certificates, and their names."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sluice.tls import H2, FollowedContext, TlsFiles, server_settings


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files. With `client_ca`, every client needs a certificate signed by it (mTLS).

    With `client_names`, the certificate must also have one of the names that it returns for a new
    connection.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None
    client_names: Callable[[], frozenset[str]] | None = None

    @property
    def files(self) -> TlsFiles:
        """The files."""
        return TlsFiles(self.certificate, self.key, self.client_ca)

    def context(self) -> ssl.SSLContext:
        """A server context that offers only HTTP/2 (RFC 9113 sections 3.2 and 9.2), from TLS 1.2.

        It follows its files. Raises OSError or ssl.SSLError for files that cannot be read or do not
        match.
        """
        return FollowedContext.of(self._settings, self.files)

    def _settings(self) -> ssl.SSLContext:
        context = server_settings(self.files, ssl.CERT_REQUIRED)
        # RFC 9113 section 9.2.1: no compression, no renegotiation. Section 9.2.2: with TLS 1.2,
        # only ephemeral key exchange with AEAD ciphers.
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
        context.set_alpn_protocols(list(H2))
        return context
