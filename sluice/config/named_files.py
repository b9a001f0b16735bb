"""Checks the files and variables that a config names, except key sets (see `policy`).

Other processes read them later: Envoy the files of TLS, the callout the rest. So this module finds
what they would refuse, and reads each file with a bound and without waiting for a pipe.
"""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
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

from sluice.config.analysis.rule import WarningKind
from sluice.config.errors import ConfigError, KeyPath, Place, Problem, unplaced
from sluice.config.files import TooLargeError, read_file
from sluice.config.gateway import GatewayConfig, ListenerTls
from sluice.config.telemetry import MAX_PROFILE_SECRET, MIN_PROFILE_SECRET

MAX_PEM = 1 << 20
"""Bytes of a file with certificates or a key. A bundle of all public CAs is smaller."""

MIN_RSA_BITS = 2048
"""Envoy refuses certificates with shorter RSA keys."""

CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""Curves of ECDSA certificates that Envoy accepts."""

EXPIRES_SOON = timedelta(days=14)
"""Remaining time of a certificate from which on there is a warning."""

NO_VARIABLE: Final = WarningKind(
    "no_variable",
    "The variable of `password_env` is not set in the process of `sluice validate`.",
    "set the variable for the callout",
)
NO_LOG_FILE: Final = WarningKind(
    "no_log_file",
    "The folder of the access log does not exist on the machine of `sluice validate`, or the path "
    "is that of a folder.",
    "create the folder on the machine of the callout, or correct the path",
)
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

WARNINGS: Final = (NO_VARIABLE, NO_LOG_FILE, NOT_YET_VALID, EXPIRED, EXPIRING)
"""The kinds of warnings about files and variables."""


class Severity(Enum):
    """How sure it is that the gateway cannot use a file or a variable.

    `ERROR`: the content is wrong on every machine. `UNREADABLE`: the file cannot be read on this
    machine. `ABSENT`: a variable or folder is missing in this process or on this machine.
    `WARNING`: the gateway can use it, but probably not as intended.
    """

    ERROR = auto()
    UNREADABLE = auto()
    ABSENT = auto()
    WARNING = auto()


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with the file or the variable that a key names. Has no secret.

    `code` is the kind of a warning; empty if the finding is always an error.
    """

    path: KeyPath
    message: str
    severity: Severity = Severity.ERROR
    code: str = ""


@dataclass(frozen=True, slots=True)
class Strictness:
    """Which findings are errors, and which are warnings. Others are ignored."""

    refused: Collection[Severity]
    warned: Collection[Severity]


RUNS_HERE: Final = Strictness(
    (Severity.ERROR, Severity.UNREADABLE, Severity.ABSENT), (Severity.WARNING,)
)
"""For a gateway whose processes this process starts."""

RUNS_ON_THIS_MACHINE: Final = Strictness(
    (Severity.ERROR, Severity.UNREADABLE), (Severity.ABSENT, Severity.WARNING)
)
"""For a gateway that is started with other variables."""

MAY_RUN_ELSEWHERE: Final = Strictness((Severity.ERROR,), (Severity.WARNING,))
"""For a control plane: Envoy and the callout may run on other machines, and have other files."""


def check_named_files(
    config: GatewayConfig,
    directory: Path,
    strictness: Strictness,
    place: Place = unplaced,
    now: datetime | None = None,
) -> list[Problem]:
    """Check the files and variables, at the time `now`. Returns the warnings.

    Paths in the config are relative to `directory`. Raises ConfigError with all errors.
    """
    found = list(findings(config, directory, now or datetime.now(UTC)))
    errors, warnings = (
        [each for each in found if each.severity in severities]
        for severities in (strictness.refused, strictness.warned)
    )
    if errors:
        raise ConfigError([place(each.path, each.message) for each in errors])
    return [replace(place(each.path, each.message), code=each.code) for each in warnings]


def findings(config: GatewayConfig, directory: Path, now: datetime) -> Iterator[Finding]:
    """Everything that is wrong with the files and variables that a config names."""
    tls, profile = config.listener.tls, config.telemetry.profile
    if tls is not None:
        yield from _tls(tls, directory, now)
    if profile is not None:
        yield from _profile_secret(directory / profile.secret_file)
    yield from _access_log(config.telemetry.access_log.output)
    variable = config.limits.backend.password_env
    if variable is not None and variable not in os.environ:
        # The name is not shown: it may be the password itself, in the wrong place.
        yield Finding(
            ("limits", "backend", "password_env"),
            "the variable is not set in this process; the callout needs it",
            Severity.ABSENT,
            NO_VARIABLE.code,
        )


def tls_files(config: GatewayConfig, directory: Path) -> list[Path]:
    """The files of TLS that a config names."""
    tls = config.listener.tls
    if tls is None:
        return []
    names = (tls.certificate, tls.private_key, tls.client_ca)
    return [directory / name for name in names if name is not None]


class _UnusableError(Exception):
    """A file cannot be used."""

    def __init__(self, message: str, severity: Severity = Severity.ERROR) -> None:
        super().__init__(message)
        self.severity = severity


def _tls(tls: ListenerTls, directory: Path, now: datetime) -> Iterator[Finding]:
    # No path is shown: it may be the content of the file, in the wrong place.
    chain: list[x509.Certificate] = []
    key: bytes | None = None
    section: KeyPath = ("listener", "tls")
    try:
        chain = _certificates(directory / tls.certificate)
        _check_public_key(chain[0])
        yield from _validity(chain, (*section, "certificate"), now)
    except _UnusableError as error:
        yield Finding((*section, "certificate"), str(error), error.severity)
    try:
        key = _public_half(directory / tls.private_key)
    except _UnusableError as error:
        yield Finding((*section, "private_key"), str(error), error.severity)
    if chain and key is not None and key != _public_key(chain[0]):
        message = "the private key does not belong to the first certificate of `certificate`"
        yield Finding((*section, "private_key"), message)
    if tls.client_ca is not None:
        try:
            authorities = _certificates(directory / tls.client_ca)
            yield from _validity(authorities, (*section, "client_ca"), now)
        except _UnusableError as error:
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
    message = f"a certificate in the file {what}; {kind.remedy}"
    yield Finding(path, message, Severity.WARNING, kind.code)


def _certificates(file: Path) -> list[x509.Certificate]:
    """The certificates in a PEM file. Raises _UnusableError."""
    content = _content(file, MAX_PEM)
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        hint = "; it has a private key" if b"PRIVATE KEY-----" in content else ""
        raise _UnusableError(f"the file has no valid certificate in PEM{hint}") from None


def _check_public_key(certificate: x509.Certificate) -> None:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise _UnusableError("the public key of the certificate is of an unknown type") from None
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        raise _UnusableError(f"the certificate's RSA key must have {MIN_RSA_BITS} bits or more")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name not in CURVES:
        raise _UnusableError("the certificate's ECDSA key must be on P-256, P-384 or P-521")


def _public_key(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _public_half(file: Path) -> bytes:
    """The public half of the private key in a PEM file. Raises _UnusableError."""
    content = _content(file, MAX_PEM)
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError:
        raise _UnusableError("the key has a password; Envoy needs a key without one") from None
    except (ValueError, UnsupportedAlgorithm):
        hint = "; it has a certificate" if b"BEGIN CERTIFICATE-----" in content else ""
        raise _UnusableError(f"the file has no valid private key in PEM{hint}") from None
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _profile_secret(file: Path) -> Iterator[Finding]:
    path: KeyPath = ("telemetry", "profile", "secret_file")
    try:
        secret = _content(file, MAX_PROFILE_SECRET).strip()
    except _UnusableError as error:
        yield Finding(path, str(error), error.severity)
        return
    text = secret.decode(errors="replace")
    if len(secret) < MIN_PROFILE_SECRET or not (text.isascii() and text.isprintable()):
        yield Finding(
            path,
            f"the secret must be one line of {MIN_PROFILE_SECRET} to {MAX_PROFILE_SECRET} bytes "
            "of printable ASCII",
        )


def _access_log(output: str) -> Iterator[Finding]:
    path: KeyPath = ("telemetry", "access_log", "output")
    if not output.startswith("/"):
        return
    file = Path(output)
    if not file.parent.is_dir():
        message = "the folder of the log file does not exist on this machine"
        yield Finding(path, message, Severity.ABSENT, NO_LOG_FILE.code)
    elif file.is_dir():
        message = "write the path of a file, not of a folder"
        yield Finding(path, message, Severity.ABSENT, NO_LOG_FILE.code)


def _content(file: Path, maximum: int) -> bytes:
    """The content of a file. Raises _UnusableError."""
    try:
        return read_file(file, maximum)
    except TooLargeError as error:
        raise _UnusableError(f"the file has more than {maximum} bytes") from error
    except OSError as error:
        message = f"the file cannot be read: {error.strerror}"
        raise _UnusableError(message, Severity.UNREADABLE) from error
