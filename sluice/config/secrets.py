"""Reads the secrets that a config names: for model servers, cameras and sinks of events.

The control plane reads them and sends them to Envoy (SDS), or to the video service. They are in no
policy, and no part of the version of a config: a secret changes without the config.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from sluice.config.errors import KeyPath
from sluice.config.files import UnusableFileError, read_named_file
from sluice.config.finding import Finding, Severity, WarningKind
from sluice.config.gateway import GatewayConfig
from sluice.config.models import Version
from sluice.config.tls_files import MAX_PEM, TlsSection, tls_findings
from sluice.config.upstream import SecretValue
from sluice.config.video import VideoStream

MAX_VALUE: Final = 8 << 10
"""Bytes of the value of a header. Servers accept few headers that are larger."""

SYSTEM_ROOTS: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL 9 and older
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # Alpine, FreeBSD, macOS
)
"""Where systems have the certificates of the CAs that they trust. The first file is used."""

ROOTS_VARIABLE: Final = "SSL_CERT_FILE"
"""Variable with the path of such a file, as OpenSSL reads it. It replaces `SYSTEM_ROOTS`."""

NO_SECRET_VARIABLE: Final = WarningKind(
    "no_secret_variable",
    "The variable of `env` of a secret is not set in the process of `sluice validate`.",
    "set the variable for the control plane",
)
WARNINGS: Final = (NO_SECRET_VARIABLE,)


@dataclass(frozen=True, slots=True)
class VersionSecrets:
    """The secrets of one version of a model. `headers`: the values by name, with their prefixes."""

    ca: bytes | None = field(default=None, repr=False)
    certificate: bytes | None = field(default=None, repr=False)
    private_key: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secrets of all versions that have any, by model and version.

    `system_roots`: the CA certificates of the system, if a version uses them. `videos`: the values
    by the names of streams and by their key paths below the stream, such as `credentials.password`.
    """

    versions: Mapping[tuple[str, str], VersionSecrets] = field(default_factory=dict, repr=False)
    system_roots: bytes | None = field(default=None, repr=False)
    videos: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict, repr=False)


NO_SECRETS: Final = Secrets()


def secret_files(
    config: GatewayConfig, directory: Path, environment: Mapping[str, str]
) -> list[Path]:
    """The files with secrets that a config names."""
    found: dict[Path, None] = {}
    for _, version in _versions(config):
        names = [value.file for value in version.headers_from_secret.values()]
        if version.tls is not None:
            names += [version.tls.ca, version.tls.certificate, version.tls.private_key]
        found |= dict.fromkeys(directory / name for name in names if name is not None)
        if _uses_system_roots(version) and (roots := system_roots_file(environment)) is not None:
            found[roots] = None
    for stream in config.videos.values():
        named = (value.file for _, value in stream.secret_values())
        found |= dict.fromkeys(directory / name for name in named if name is not None)
    return list(found)


def system_roots_file(environment: Mapping[str, str]) -> Path | None:
    """The file with the CA certificates that this system trusts; None if it has none."""
    named = environment.get(ROOTS_VARIABLE)
    if named:
        return Path(named)
    return next((file for file in map(Path, SYSTEM_ROOTS) if file.is_file()), None)


def read_secrets(
    config: GatewayConfig, directory: Path, environment: Mapping[str, str], now: datetime
) -> tuple[Secrets, list[Finding]]:
    """The secrets of a config, and everything that is wrong with them at the time `now`."""
    reader = _Reader(directory, environment, now)
    versions = {
        (path[1], path[3]): reader.version(path, version) for path, version in _versions(config)
    }
    videos = {
        name: values
        for name, stream in config.videos.items()
        if (values := reader.stream(("videos", name), stream))
    }
    return Secrets(versions, reader.roots, videos), reader.findings


def _versions(config: GatewayConfig) -> Iterator[tuple[tuple[str, str, str, str], Version]]:
    """The versions with secrets, with their key paths."""
    for path, version in config.referring_versions():
        if version.tls is not None or version.headers_from_secret:
            yield path, version


def _uses_system_roots(version: Version) -> bool:
    tls = version.tls
    return tls is not None and tls.ca is None and not tls.allow_any_server


class _Reader:
    """Reads each file once, and collects what is wrong."""

    def __init__(self, directory: Path, environment: Mapping[str, str], now: datetime) -> None:
        self._directory = directory
        self._environment = environment
        self._now = now
        self._contents: dict[Path, bytes | UnusableFileError] = {}
        self.findings: list[Finding] = []
        self.roots: bytes | None = None

    def version(self, path: KeyPath, version: Version) -> VersionSecrets:
        """The secrets of a version. A secret with an error is missing."""
        headers = {
            name: read
            for name, value in version.headers_from_secret.items()
            if (read := self._value((*path, "headers_from_secret", name), value)) is not None
        }
        tls = version.tls
        if tls is None:
            return VersionSecrets(headers=headers)
        at = (*path, "tls")
        section = TlsSection(at, tls.certificate, tls.private_key, tls.ca, "ca")
        self.findings += tls_findings(section, self._directory, self._now, self._read)
        if _uses_system_roots(version):
            self._read_roots((*at, "ca"))
        return VersionSecrets(
            ca=self._content(tls.ca),
            certificate=self._content(tls.certificate),
            private_key=self._content(tls.private_key),
            headers=headers,
        )

    def stream(self, path: KeyPath, stream: VideoStream) -> dict[str, bytes]:
        """The secrets of a stream, by their key paths. A secret with an error is missing."""
        return {
            ".".join(map(str, at)): read
            for at, value in stream.secret_values()
            if (read := self._value((*path, *at), value)) is not None
        }

    def _read(self, file: Path) -> bytes:
        """The content of a file. Raises UnusableFileError; no other process could read it."""
        if file not in self._contents:
            try:
                self._contents[file] = read_named_file(file, MAX_PEM)
            except UnusableFileError as error:
                self._contents[file] = UnusableFileError(error.finding(()).message)
        content = self._contents[file]
        if isinstance(content, UnusableFileError):
            raise content
        return content

    def _content(self, name: str | None) -> bytes | None:
        content = None if name is None else self._contents[self._directory / name]
        return None if isinstance(content, UnusableFileError) else content

    def _read_roots(self, path: KeyPath) -> None:
        if self.roots is not None:
            return
        file = system_roots_file(self._environment)
        if file is None:
            message = "this system has no file with CA certificates; write one"
            self.findings.append(Finding(path, message))
            return
        try:
            self.roots = self._read(file)
        except UnusableFileError as error:
            message = f"the CA certificates of this system: {error}; write a file"
            self.findings.append(Finding(path, message))

    def _value(self, path: KeyPath, value: SecretValue) -> bytes | None:
        """The value, with its prefix; None if it has an error."""
        if value.env is not None:
            found = self._environment.get(value.env)
            if found is None:
                # The name is not shown: it may be the secret itself, in the wrong place.
                message = "the variable is not set in this process"
                at = (*path, "env")
                self.findings.append(
                    Finding.of(NO_SECRET_VARIABLE, at, message, Severity.NO_SECRET)
                )
                return None
            return self._checked((*path, "env"), value.prefix, found.encode(errors="replace"))
        assert value.file is not None
        try:
            content = self._read(self._directory / value.file)
        except UnusableFileError as error:
            self.findings.append(error.finding((*path, "file")))
            return None
        return self._checked((*path, "file"), value.prefix, content)

    def _checked(self, path: KeyPath, prefix: str, content: bytes) -> bytes | None:
        value = content.strip()
        if not value or len(value) > MAX_VALUE or not all(32 <= byte < 127 for byte in value):
            message = f"the value must be one line of 1 to {MAX_VALUE} bytes of printable ASCII"
            self.findings.append(Finding(path, message))
            return None
        return prefix.encode() + value
