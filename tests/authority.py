"""A certificate authority for tests of TLS between real processes."""

import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.certificates import private_key

VALID = timedelta(days=365)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass(frozen=True)
class Issued:
    """A certificate and its private key, in PEM."""

    certificate: bytes
    private_key: bytes

    def write(self, directory: Path, name: str) -> tuple[Path, Path]:
        """Writes the files NAME.pem and NAME.key."""
        files = directory / f"{name}.pem", directory / f"{name}.key"
        for file, content in zip(files, (self.certificate, self.private_key), strict=True):
            file.write_bytes(content)
        return files


@dataclass(frozen=True)
class Authority:
    """An authority with a key of its own. `end`: when its certificates expire."""

    name: str
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    @property
    def certificate(self) -> bytes:
        """The authority's own certificate, in PEM."""
        constraint = x509.BasicConstraints(ca=True, path_length=None)
        return self._sign(self.key, self.name, datetime.now(UTC) + VALID, constraint)

    def issue(self, *hosts: str, end: datetime | None = None) -> Issued:
        """A certificate for these names and IP addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        signed = self._sign(key, hosts[0], end or datetime.now(UTC) + VALID, names)
        return Issued(signed, private_key(key))

    def _sign(
        self,
        key: ec.EllipticCurvePrivateKey,
        subject: str,
        end: datetime,
        extension: x509.ExtensionType,
    ) -> bytes:
        builder = (
            x509.CertificateBuilder(_name(self.name), _name(subject), key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - 2 * VALID)
            .not_valid_after(end)
            .add_extension(extension, critical=True)
        )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def server_context(
    issued: Issued, directory: Path, client_ca: Path | None = None
) -> ssl.SSLContext:
    """TLS of a server, which demands a client certificate if there is a `client_ca`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # A client that resumes a session does not see the certificate again.
    context.num_tickets, context.options = 0, context.options | ssl.OP_NO_TICKET
    context.load_cert_chain(*issued.write(directory, f"server-{id(issued)}"))
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
