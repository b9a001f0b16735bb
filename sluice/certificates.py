"""Makes a certificate authority and certificates for the parts of a gateway, for development.

The key of the authority stays in the folder, so everyone who can read it can make certificates. In
production, certificates come from an authority that guards its key, such as cert-manager or Vault.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sluice.output import replace_file

LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")
"""Names of this machine in the certificates of servers."""

AUTHORITY_DAYS: Final = 5 * 365
CLOCK_DIFFERENCE: Final = timedelta(hours=1)
"""Certificates are valid from an hour ago on, for machines whose clocks differ."""

MIN_REST: Final = timedelta(days=30)
"""An authority that expires sooner is replaced."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part that gets a certificate: its name in it, the name of its files, and its use."""

    name: str
    file: str
    is_server: bool


@dataclass(frozen=True, slots=True)
class Written:
    """A certificate that was written: its file, and the end of its validity."""

    file: Path
    end: datetime


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class UnusableAuthorityError(Exception):
    """The files of the authority exist, but cannot be used."""


def make_certificates(
    folder: Path,
    parts: Iterable[Part],
    hosts: Sequence[str],
    days: int,
    now: datetime,
    *,
    new_authority: bool = False,
) -> Iterator[Written]:
    """Write `ca.crt`, and a new certificate with its key for each part, valid for `days`.

    The authority in the folder is used again; then a server or client that trusts it accepts the
    new certificates. With `new_authority`, or if it expires soon, it is replaced. `ca.crt` keeps
    the last one, so that certificates of both are accepted meanwhile.

    `hosts`: further host names and IP addresses of servers. Raises UnusableAuthorityError, OSError.
    """
    authority = _authority(folder, now, replace=new_authority)
    yield Written(folder / "ca.crt", authority.certificate.not_valid_after_utc)
    end = min(now + timedelta(days=days), authority.certificate.not_valid_after_utc)
    for part in parts:
        key = ec.generate_private_key(ec.SECP256R1())
        names = (part.name, *LOCAL_NAMES, *hosts) if part.is_server else (part.name,)
        certificate = _sign(part.name, key, authority, names, now, end)
        file = folder / f"{part.file}.crt"
        replace_file(folder / f"{part.file}.key", _pem_of_key(key), private=True)
        replace_file(file, certificate.public_bytes(Encoding.PEM))
        yield Written(file, end)


def _authority(folder: Path, now: datetime, *, replace: bool) -> _Authority:
    file, key_file = folder / "ca.crt", folder / "ca.key"
    known = _read_authority(file, key_file) if file.exists() or key_file.exists() else None
    kept = [] if known is None else [known.certificate]
    if known is not None and not replace and _lasts(known, now):
        return known
    key = ec.generate_private_key(ec.SECP256R1())
    made = _Authority(_self_signed(key, now), key)
    # The last authority comes second: certificates are signed by the first.
    bundle = [made.certificate, *(each for each in kept if each.not_valid_after_utc > now)]
    replace_file(key_file, _pem_of_key(key), private=True)
    replace_file(file, b"".join(each.public_bytes(Encoding.PEM) for each in bundle))
    return made


def _lasts(authority: _Authority, now: datetime) -> bool:
    return authority.certificate.not_valid_after_utc - now > MIN_REST


def _read_authority(file: Path, key_file: Path) -> _Authority:
    """The authority in a folder. Raises UnusableAuthorityError."""
    try:
        certificate = x509.load_pem_x509_certificates(file.read_bytes())[0]
        key = load_pem_private_key(key_file.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or "they are no certificate and key in PEM"
        raise UnusableAuthorityError(f"{file} and {key_file.name}: {reason}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or (
        key.public_key() != certificate.public_key()
    ):
        raise UnusableAuthorityError(f"{file} and {key_file.name} do not belong together")
    return _Authority(certificate, key)


def _self_signed(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    name = _common_name("Sluice development authority")
    end = now + timedelta(days=AUTHORITY_DAYS)
    return (
        _builder(name, name, key, now, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _sign(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    authority: _Authority,
    names: Iterable[str],
    now: datetime,
    end: datetime,
) -> x509.Certificate:
    issuer = authority.certificate
    names = list(dict.fromkeys(names))
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if len(names) > 1:
        uses.append(ExtendedKeyUsageOID.SERVER_AUTH)
    return (
        _builder(_common_name(name), issuer.subject, key, now, end)
        .add_extension(x509.SubjectAlternativeName([_general(each) for each in names]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), False
        )
        .sign(authority.key, hashes.SHA256())
    )


def _builder(
    name: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder(issuer, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - CLOCK_DIFFERENCE)
        .not_valid_after(end)
        .add_extension(identifier, critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
