"""Checks certificates and keys: those of `listener.tls`, of `identity` and of `tls` of versions.

Envoy reads those of `listener.tls`. The control plane sends it those of versions (`secrets`).
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Final, Self

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
from sluice.config.finding import Finding, Severity, WarningKind
from sluice.config.gateway import GatewayConfig
from sluice.config.listener_tls import ListenerTls

MAX_PEM = 1 << 20
"""Bytes of a file with certificates or a key. A bundle of all public CAs is smaller."""

MIN_RSA_BITS = 2048
"""Envoy refuses certificates with shorter RSA keys."""

CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""Curves of ECDSA certificates that Envoy accepts."""

_PEM_CERTIFICATE: Final = "write a file that begins with -----BEGIN CERTIFICATE-----"
_PEM_KEY: Final = "write a file that begins with -----BEGIN PRIVATE KEY-----"

_PUBLIC_HALVES: Final[dict[bytes, bytes]] = {}
"""Public halves by the SHA-256 of the private key's file. Every change of a config is checked with
all keys, and the check of a large RSA key takes longer than that of the config."""

_MAX_PUBLIC_HALVES: Final = 256

EXPIRES_SOON = timedelta(days=14)
"""Remaining time of a certificate from which on there is a warning."""

NOT_YET_VALID: Final = WarningKind(
    "certificate_not_yet_valid",
    "A certificate of `listener.tls`, of `identity` or of `tls` of a version is not valid yet.",
    "check the clock, or install another certificate",
)
EXPIRED: Final = WarningKind(
    "certificate_expired",
    "A certificate of `listener.tls`, of `identity` or of `tls` of a version has expired, so that "
    "the other side refuses the connection. `sluice validate` fails, and so does a change that "
    "names the file.",
    "install a new certificate",
)
OLD: Final = WarningKind(
    "old_certificate",
    "A file has an expired certificate beside others that are valid.",
    "remove it from the file",
)
EXPIRING: Final = WarningKind(
    "certificate_expiring",
    "A certificate of `listener.tls`, of `identity` or of `tls` of a version expires within 14 "
    "days.",
    "install a new certificate",
)

WARNINGS: Final = (NOT_YET_VALID, EXPIRED, OLD, EXPIRING)
"""The kinds of warnings about certificates."""


def tls_files(config: GatewayConfig, directory: Path) -> list[Path]:
    """The files of TLS that a config names."""
    return [
        directory / name
        for _, tls in listeners(config)
        for name in (tls.certificate, tls.private_key, tls.client_ca)
        if name is not None
    ]


def listeners(config: GatewayConfig) -> Iterator[tuple[KeyPath, ListenerTls]]:
    """The sections with TLS of a listener, with their key paths."""
    if config.listener.tls is not None:
        yield ("listener", "tls"), config.listener.tls
    for name, group in config.node_groups.items():
        if group.listener.tls is not None:
            yield ("node_groups", name, "listener", "tls"), group.listener.tls


@dataclass(frozen=True, slots=True)
class TlsSection:
    """The files that a section names. `ca_key` is the key of the CA certificates in it."""

    path: KeyPath
    certificate: str | None
    private_key: str | None
    ca: str | None
    ca_key: str

    @classmethod
    def of_listener(cls, path: KeyPath, tls: ListenerTls) -> Self:
        """The section `tls` of a listener."""
        return cls(path, tls.certificate, tls.private_key, tls.client_ca, "client_ca")


Read = Callable[[Path], bytes]


def read_pem(file: Path) -> bytes:
    """The content of a file with certificates or a key. Raises UnusableFileError."""
    return read_named_file(file, MAX_PEM)


def tls_findings(
    section: TlsSection, directory: Path, now: datetime, read: Read = read_pem
) -> Iterator[Finding]:
    """Everything that Envoy would refuse, and certificates that are not valid at `now`.

    `read` reads a file, as `read_pem` does.
    """
    # No path is shown: it may be the content of the file, in the wrong place.
    chain: tuple[x509.Certificate, ...] = ()
    key: bytes | None = None
    if section.certificate is not None:
        path = (*section.path, "certificate")
        try:
            chain = certificates(read(directory / section.certificate))
            _check_public_key(chain[0])
            yield from _validity(chain, path, now, essential=chain[:1])
        except UnusableFileError as error:
            yield error.finding(path)
    if section.private_key is not None:
        path = (*section.path, "private_key")
        try:
            key = _public_half(read(directory / section.private_key))
        except UnusableFileError as error:
            yield error.finding(path)
        if chain and key is not None and key != _public_key(chain[0]):
            message = (
                "the private key does not belong to the first certificate of `certificate`; write "
                "both files of one certificate, with that of the server or client first"
            )
            yield Finding(path, message)
    if section.ca is not None:
        path = (*section.path, section.ca_key)
        try:
            authorities = certificates(read(directory / section.ca))
            yield from _validity(authorities, path, now, essential=authorities)
        except UnusableFileError as error:
            yield error.finding(path)


def _validity(
    chain: Sequence[x509.Certificate],
    path: KeyPath,
    now: datetime,
    essential: Sequence[x509.Certificate],
) -> Iterator[Finding]:
    """A finding if a certificate is not valid now, or not for long.

    Without one of the `essential` certificates, no connection is possible. Others may have expired:
    bundles of authorities keep old ones.
    """
    start = max(each.not_valid_before_utc for each in chain)
    end = min(each.not_valid_after_utc for each in chain)
    severity = Severity.WARNING
    if start > now:
        kind, what = NOT_YET_VALID, f"is not valid before {start:%Y-%m-%d %H:%M} UTC"
    elif end < now:
        kind, what = OLD, f"has expired on {end:%Y-%m-%d %H:%M} UTC"
        if all(each.not_valid_after_utc < now for each in essential):
            kind, severity = EXPIRED, Severity.EXPIRED
    elif end - now < EXPIRES_SOON:
        kind, what = EXPIRING, f"expires on {end:%Y-%m-%d %H:%M} UTC"
    else:
        return
    yield Finding.of(kind, path, f"a certificate in the file {what}", severity)


@lru_cache(256)
def certificates(content: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates in a PEM file with this content. Raises UnusableFileError.

    Many versions may name the same file.
    """
    try:
        return tuple(x509.load_pem_x509_certificates(content))
    except ValueError:
        hint = "; it has a private key" if b"PRIVATE KEY-----" in content else ""
        raise UnusableFileError(
            f"the file has no valid certificate in PEM{hint}; {_PEM_CERTIFICATE}"
        ) from None


def _check_public_key(certificate: x509.Certificate) -> None:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableFileError(
            "the certificate's public key is of an unknown type; make one with an ECDSA or RSA key"
        ) from None
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        raise UnusableFileError(f"the certificate's RSA key must have {MIN_RSA_BITS} bits or more")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name not in CURVES:
        raise UnusableFileError("the certificate's ECDSA key must be on P-256, P-384 or P-521")


def _public_key(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _public_half(content: bytes) -> bytes:
    """The public half of the private key in a PEM file. Raises UnusableFileError."""
    digest = hashlib.sha256(content).digest()
    found = _PUBLIC_HALVES.get(digest)
    if found is None:
        found = _read_public_half(content)
        if len(_PUBLIC_HALVES) >= _MAX_PUBLIC_HALVES:
            _PUBLIC_HALVES.clear()
        _PUBLIC_HALVES[digest] = found
    return found


def _read_public_half(content: bytes) -> bytes:
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError:
        raise UnusableFileError(
            "the key has a password; write a file with the key without one"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        hint = "; it has a certificate" if b"BEGIN CERTIFICATE-----" in content else ""
        raise UnusableFileError(
            f"the file has no valid private key in PEM{hint}; {_PEM_KEY}"
        ) from None
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
