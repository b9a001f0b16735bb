"""Checks the files by which the parts of a gateway identify themselves, and the tokens for them.

A part reads only its own files and `ca`. The control plane also reads all files with tokens.
"""

import ssl
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtensionOID, NameOID

from sluice.config.access import Access, read_token
from sluice.config.errors import KeyPath
from sluice.config.files import UnusableFileError
from sluice.config.finding import Finding, Severity, WarningKind
from sluice.config.identity import ControlPlaneIdentity, Identity
from sluice.config.tls_files import TlsSection, certificates, read_pem, tls_findings

NO_IDENTITY_FILE: Final = WarningKind(
    "no_identity_file",
    "`sluice validate` cannot read a file of `identity`. The part of the gateway that needs the "
    "file does not start without it.",
    "make it readable where that part runs",
)
WARNINGS: Final = (NO_IDENTITY_FILE,)

MAX_SHOWN: Final = 100
"""Characters of the names in a certificate that an error shows."""

_AT: Final = ("identity",)


def identity_files(identity: Identity | None, access: Access, directory: Path) -> list[Path]:
    """The files that the control plane reads."""
    names = [each.secret_file for each in access.tokens]
    if identity is not None:
        own = identity.control_plane
        names += [identity.ca, *(each.token_file for each in identity.clients.values())]
        names += [] if own is None else [own.certificate, own.private_key]
    return [directory / name for name in names if name is not None]


def identity_findings(
    identity: Identity | None, access: Access, directory: Path, now: datetime
) -> Iterator[Finding]:
    """Everything that is wrong with the files of all parts at `now`.

    A file of `identity` that cannot be read is `NO_SECRET` if the control plane needs it, else
    `ABSENT`: the parts may be on several machines.
    """
    yield from _unreadable_as(Severity.ERROR, _tokens(access, directory))
    if identity is None:
        return
    for part in identity.clients:
        found = _of_part(identity, part, directory, now)
        yield from _unreadable_as(Severity.ABSENT, found)
        yield from _unreadable_as(Severity.NO_SECRET, _node_token(identity, part, directory))
    own = _of_part(identity, "control_plane", directory, now)
    yield from _unreadable_as(Severity.NO_SECRET, own)
    yield from _unreadable_as(Severity.NO_SECRET, _authorities(identity, directory, now))


def callout_findings(
    identity: Identity | None, access: Access, directory: Path, now: datetime
) -> Iterator[Finding]:
    """Everything that is wrong at `now` with the files that the callout reads."""
    yield from _tokens(access, directory)
    if identity is not None:
        yield from _of_part(identity, "callout", directory, now)
        yield from _node_token(identity, "callout", directory)
        yield from _authorities(identity, directory, now)


def video_findings(identity: Identity | None, directory: Path, now: datetime) -> Iterator[Finding]:
    """Everything that is wrong at `now` with the files that the video service reads."""
    if identity is not None and identity.video is not None:
        yield from _of_part(identity, "video", directory, now)
        yield from _node_token(identity, "video", directory)
        yield from _authorities(identity, directory, now)


def envoy_findings(identity: Identity, directory: Path, now: datetime) -> Iterator[Finding]:
    """Everything that is wrong at `now` with the files that Envoy reads.

    A file that cannot be read is `ABSENT`: Envoy may run on another machine.
    """
    for found in (
        _of_part(identity, "envoy", directory, now),
        _node_token(identity, "envoy", directory),
        _authorities(identity, directory, now),
    ):
        yield from _unreadable_as(Severity.ABSENT, found)


def _unreadable_as(severity: Severity, found: Iterable[Finding]) -> Iterator[Finding]:
    for each in found:
        if each.severity is Severity.UNREADABLE:
            code = "" if severity is Severity.ERROR else NO_IDENTITY_FILE.code
            yield replace(each, severity=severity, code=code)
        else:
            yield each


def _tokens(access: Access, directory: Path) -> Iterator[Finding]:
    for index, each in enumerate(access.tokens):
        at: KeyPath = ("control_plane", "access", "tokens", index, "secret_file")
        yield from _of_token(each.secret_file, at, directory)


def _node_token(identity: Identity, part: str, directory: Path) -> Iterator[Finding]:
    file = getattr(identity, part).token_file
    yield from _of_token(file, (*_AT, part, "token_file"), directory)


def _of_token(name: str | None, at: KeyPath, directory: Path) -> Iterator[Finding]:
    if name is None:
        return
    try:
        read_token(directory / name)
    except UnusableFileError as error:
        yield error.finding(at)


def _authorities(identity: Identity, directory: Path, now: datetime) -> Iterator[Finding]:
    yield from tls_findings(TlsSection(_AT, None, None, identity.ca, "ca"), directory, now)


def _of_part(identity: Identity, part: str, directory: Path, now: datetime) -> Iterator[Finding]:
    """What is wrong with the certificate of a part and with its key."""
    section: ControlPlaneIdentity | None = getattr(identity, part)
    if section is None or section.certificate is None:
        return
    at: KeyPath = (*_AT, part)
    files = TlsSection(at, section.certificate, section.private_key, None, "")
    found = list(tls_findings(files, directory, now))
    yield from found
    try:
        chain = certificates(read_pem(directory / section.certificate))
    except UnusableFileError:
        return
    if not any(each.severity in (Severity.ERROR, Severity.UNREADABLE) for each in found):
        yield from _of_openssl(section, directory, (*at, "certificate"))
    yield from _of_names(chain[0], section.name, (*at, "certificate"))
    yield from _of_issuer(chain, identity, directory, (*at, "certificate"))


def _of_openssl(section: ControlPlaneIdentity, directory: Path, at: KeyPath) -> Iterator[Finding]:
    """What OpenSSL refuses in files that are well-formed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(directory / section.certificate, directory / section.private_key)
    except OSError as error:
        reason = str(getattr(error, "reason", None) or error.strerror)
        message = f"TLS cannot use the certificate and its key ({reason.replace('_', ' ').lower()})"
        yield Finding(at, f"{message}; make a certificate with a larger key and SHA-256")


def _of_names(certificate: x509.Certificate, name: str, at: KeyPath) -> Iterator[Finding]:
    """The others know a part by its name in the certificate."""
    names = _names(certificate)
    if names is not None and name not in names:
        shown = ", ".join(names)[:MAX_SHOWN] or "no name"
        yield Finding(at, f"the certificate has {shown}, but not {name}; write `name` as in it")


def _names(certificate: x509.Certificate) -> list[str] | None:
    """The names that `sluice.tls.peer_names` finds; None if they cannot be read."""
    try:
        found = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
        alternatives = found.value
        assert isinstance(alternatives, x509.SubjectAlternativeName)
        names = [
            *alternatives.get_values_for_type(x509.DNSName),
            *alternatives.get_values_for_type(x509.UniformResourceIdentifier),
        ]
    except x509.ExtensionNotFound:
        names = []
    except ValueError:
        return None
    if names:
        return names
    subject = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return [str(each.value) for each in subject]


def _of_issuer(
    chain: Sequence[x509.Certificate], identity: Identity, directory: Path, at: KeyPath
) -> Iterator[Finding]:
    """The others accept only certificates that `ca` has signed."""
    if identity.ca is None:
        return
    try:
        authorities = certificates(read_pem(directory / identity.ca))
    except UnusableFileError:
        return
    if not _is_signed(chain, authorities):
        yield Finding(
            at,
            "no certificate of `identity.ca` has signed it; write a certificate of that authority, "
            "with the intermediate ones after it, or add its authority to the file of `ca`",
        )


def _is_signed(chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]) -> bool:
    """Whether the chain ends at an authority. True if a signature is of an unknown kind."""
    certificate, rest = chain[0], list(chain[1:])
    try:
        while certificate not in authorities:
            if any(_has_issued(each, certificate) for each in authorities):
                return True
            issuer = next((each for each in rest if _has_issued(each, certificate)), None)
            if issuer is None:
                return False
            rest.remove(issuer)
            certificate = issuer
    except UnsupportedAlgorithm:
        pass
    return True


def _has_issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
