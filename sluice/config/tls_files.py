"""Checks the certificates and the key of `listener.tls`, which Envoy reads later."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from sluice.config.errors import KeyPath
from sluice.config.files import UnusableFileError, read_named_file
from sluice.config.finding import Finding, WarningKind
from sluice.config.gateway import GatewayConfig, ListenerTls

MAX_PEM = 1 << 20
"""Bytes of a file with certificates or a key. A bundle of all public CAs is smaller."""

MIN_RSA_BITS = 2048
"""Envoy refuses certificates with shorter RSA keys."""

CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""Curves of ECDSA certificates that Envoy accepts."""

EXPIRES_SOON = timedelta(days=14)
"""Remaining time of a certificate from which on there is a warning."""

NOT_YET_VALID: Final = WarningKind(
    "certificate_not_yet_valid",
    "A certificate of `listener.tls` is not valid yet.",
    "check the clock, or install another certificate",
)
EXPIRED: Final = WarningKind(
    "certificate_expired",
    "A certificate of `listener.tls` has expired, so that clients refuse the connection.",
    "install a new certificate",
)
EXPIRING: Final = WarningKind(
    "certificate_expiring",
    "A certificate of `listener.tls` expires within 14 days.",
    "install a new certificate",
)

WARNINGS: Final = (NOT_YET_VALID, EXPIRED, EXPIRING)
"""The kinds of warnings about certificates."""


def tls_files(config: GatewayConfig, directory: Path) -> list[Path]:
    """The files of TLS that a config names."""
    tls = config.listener.tls
    if tls is None:
        return []
    names = (tls.certificate, tls.private_key, tls.client_ca)
    return [directory / name for name in names if name is not None]


def tls_findings(tls: ListenerTls, directory: Path, now: datetime) -> Iterator[Finding]:
    """Everything that Envoy would refuse, and certificates that are not valid at `now`."""
    # No path is shown: it may be the content of the file, in the wrong place.
    chain: list[x509.Certificate] = []
    key: bytes | None = None
    section: KeyPath = ("listener", "tls")
    try:
        chain = _certificates(directory / tls.certificate)
        _check_public_key(chain[0])
        yield from _validity(chain, (*section, "certificate"), now)
    except UnusableFileError as error:
        yield Finding((*section, "certificate"), str(error), error.severity)
    try:
        key = _public_half(directory / tls.private_key)
    except UnusableFileError as error:
        yield Finding((*section, "private_key"), str(error), error.severity)
    if chain and key is not None and key != _public_key(chain[0]):
        message = "the private key does not belong to the first certificate of `certificate`"
        yield Finding((*section, "private_key"), message)
    if tls.client_ca is not None:
        try:
            authorities = _certificates(directory / tls.client_ca)
            yield from _validity(authorities, (*section, "client_ca"), now)
        except UnusableFileError as error:
            yield Finding((*section, "client_ca"), str(error), error.severity)


def _validity(
    certificates: list[x509.Certificate], path: KeyPath, now: datetime
) -> Iterator[Finding]:
    """A warning if a certificate is not valid now, or not for long."""
    start = max(each.not_valid_before_utc for each in certificates)
    end = min(each.not_valid_after_utc for each in certificates)
    if start > now:
        kind, what = NOT_YET_VALID, f"is not valid before {start:%Y-%m-%d %H:%M} UTC"
    elif end < now:
        kind, what = EXPIRED, f"has expired on {end:%Y-%m-%d %H:%M} UTC"
    elif end - now < EXPIRES_SOON:
        kind, what = EXPIRING, f"expires on {end:%Y-%m-%d %H:%M} UTC"
    else:
        return
    yield Finding.of(kind, path, f"a certificate in the file {what}")


def _certificates(file: Path) -> list[x509.Certificate]:
    """The certificates in a PEM file. Raises UnusableFileError."""
    content = read_named_file(file, MAX_PEM)
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        hint = "; it has a private key" if b"PRIVATE KEY-----" in content else ""
        raise UnusableFileError(f"the file has no valid certificate in PEM{hint}") from None


def _check_public_key(certificate: x509.Certificate) -> None:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableFileError("the public key of the certificate is of an unknown type") from None
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        raise UnusableFileError(f"the certificate's RSA key must have {MIN_RSA_BITS} bits or more")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name not in CURVES:
        raise UnusableFileError("the certificate's ECDSA key must be on P-256, P-384 or P-521")


def _public_key(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _public_half(file: Path) -> bytes:
    """The public half of the private key in a PEM file. Raises UnusableFileError."""
    content = read_named_file(file, MAX_PEM)
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError:
        raise UnusableFileError("the key has a password; Envoy needs a key without one") from None
    except (ValueError, UnsupportedAlgorithm):
        hint = "; it has a certificate" if b"BEGIN CERTIFICATE-----" in content else ""
        raise UnusableFileError(f"the file has no valid private key in PEM{hint}") from None
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
