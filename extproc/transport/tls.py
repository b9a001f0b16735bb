"""TLS of a server: the certificate files, and whether clients need certificates."""

import ssl
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files. With `client_ca`, every client needs a certificate signed by it (mTLS)."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def context(self) -> ssl.SSLContext:
        """A server context that offers only HTTP/2 (RFC 9113 sections 3.2 and 9.2), from TLS 1.2.

        Raises OSError or ssl.SSLError for files that cannot be read or do not match.
        """
        for path in filter(None, (self.certificate, self.key, self.client_ca)):
            path.open("rb").close()  # raises an error that names the file; ssl's errors do not
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # RFC 9113 section 9.2.1: no compression, no renegotiation. Section 9.2.2: with TLS 1.2,
        # only ephemeral key exchange with AEAD ciphers.
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
        context.set_alpn_protocols(["h2"])
        context.load_cert_chain(self.certificate, self.key)
        if self.client_ca is not None:
            context.load_verify_locations(self.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context
