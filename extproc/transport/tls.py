"""TLS for a server: which files, and what is demanded of clients."""

import ssl
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files. With `client_ca`, every client must show a certificate that it signed (mTLS)."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def context(self) -> ssl.SSLContext:
        """A server context that offers HTTP/2 only (RFC 9113 sections 3.2 and 9.2: TLS 1.2 on).

        Raises OSError or ssl.SSLError for files that cannot be read or do not belong together.
        """
        for path in filter(None, (self.certificate, self.key, self.client_ca)):
            path.open("rb").close()  # ssl's own errors do not name the file
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # RFC 9113 section 9.2.1: no compression, no renegotiation; section 9.2.2: of TLS 1.2, only
        # ephemeral key exchange with AEAD ciphers.
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
        context.set_alpn_protocols(["h2"])
        context.load_cert_chain(self.certificate, self.key)
        if self.client_ca is not None:
            context.load_verify_locations(self.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context
