"""Checks the files and variables that a config names, except key sets (see `policy`).

Other processes read them later: Envoy the files of TLS, the callout the rest. So this module finds
what they would refuse, and reads each file with a bound and without waiting for a pipe.
"""

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sluice.config import identity_files, secrets, tls_files
from sluice.config.errors import ConfigError, KeyPath, Place, Problem, unplaced
from sluice.config.files import UnusableFileError, read_named_file
from sluice.config.finding import Finding, Severity, WarningKind
from sluice.config.gateway import GatewayConfig
from sluice.config.limit_backend import LimitBackend, read_password
from sluice.config.policy import jwks_files
from sluice.config.telemetry import MAX_PROFILE_SECRET, MIN_PROFILE_SECRET
from sluice.config.tls_files import TlsSection

NO_VARIABLE: Final = WarningKind(
    "no_variable",
    "The variable of `password_env` is not set in the process of `sluice validate`.",
    "set the variable for the callout",
)
NO_BACKEND_FILE: Final = WarningKind(
    "no_backend_file",
    "`sluice validate` cannot read a file of `limits.backend`. Workers refuse the policy without "
    "it.",
    "make it readable where the callout runs",
)
NO_LOG_FILE: Final = WarningKind(
    "no_log_file",
    "The folder of the access log does not exist on the machine of `sluice validate`, or the path "
    "is that of a folder.",
    "create the folder on the machine of the callout, or correct the path",
)
WARNINGS: Final = (
    NO_VARIABLE,
    NO_BACKEND_FILE,
    NO_LOG_FILE,
    *identity_files.WARNINGS,
    *tls_files.WARNINGS,
    *secrets.WARNINGS,
)
"""The kinds of warnings about files and variables."""


@dataclass(frozen=True, slots=True)
class Strictness:
    """Which findings are errors, and which are warnings. Others are ignored."""

    refused: Collection[Severity]
    warned: Collection[Severity]


RUNS_HERE: Final = Strictness(
    (Severity.ERROR, Severity.UNREADABLE, Severity.ABSENT, Severity.NO_SECRET),
    (Severity.EXPIRED, Severity.WARNING),
)
"""For a gateway whose processes this process starts."""

RUNS_ON_THIS_MACHINE: Final = Strictness(
    (Severity.ERROR, Severity.UNREADABLE, Severity.EXPIRED),
    (Severity.ABSENT, Severity.NO_SECRET, Severity.WARNING),
)
"""For `sluice validate`: the gateway is started with other variables, and by other users."""

MAY_RUN_ELSEWHERE: Final = Strictness(
    (Severity.ERROR, Severity.NO_SECRET), (Severity.EXPIRED, Severity.WARNING)
)
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
    return judge(findings(config, directory, now or datetime.now(UTC)), strictness, place)


def judge(found: Iterable[Finding], strictness: Strictness, place: Place) -> list[Problem]:
    """The warnings among these findings. Raises ConfigError with all errors."""
    found = list(found)
    errors, warnings = (
        [each for each in found if each.severity in severities]
        for severities in (strictness.refused, strictness.warned)
    )
    if errors:
        raise ConfigError([place(each.path, each.message) for each in errors])
    return [each.warning(place) for each in warnings]


def watched_files(config: GatewayConfig, directory: Path) -> list[Path]:
    """The files whose change the control plane must follow, besides the config itself."""
    return [
        *jwks_files(config, directory),
        *tls_files.tls_files(config, directory),
        *identity_files.identity_files(config.identity, config.control_plane.access, directory),
        *secrets.secret_files(config, directory, os.environ),
    ]


def findings(config: GatewayConfig, directory: Path, now: datetime) -> Iterator[Finding]:
    """Everything that is wrong with the files and variables that a config names."""
    profile = config.telemetry.profile
    for path, tls in tls_files.listeners(config):
        yield from tls_files.tls_findings(TlsSection.of_listener(path, tls), directory, now)
    if profile is not None:
        yield from _profile_secret(directory / profile.secret_file)
    access = config.control_plane.access
    yield from identity_files.identity_findings(config.identity, access, directory, now)
    yield from _access_log(config.telemetry.access_log.output)
    for each in _backend_files(config.limits.backend, directory, now):
        if each.severity is Severity.UNREADABLE:
            yield replace(each, severity=Severity.ABSENT, code=NO_BACKEND_FILE.code)
        else:
            yield each
    variable = config.limits.backend.password_env
    if variable is not None and variable not in os.environ:
        # The name is not shown: it may be the password itself, in the wrong place.
        at: KeyPath = ("limits", "backend", "password_env")
        message = "the variable is not set in this process"
        yield Finding.of(NO_VARIABLE, at, message, Severity.ABSENT)


def _profile_secret(file: Path) -> Iterator[Finding]:
    path: KeyPath = ("telemetry", "profile", "secret_file")
    try:
        secret = read_named_file(file, MAX_PROFILE_SECRET).strip()
    except UnusableFileError as error:
        yield error.finding(path)
        return
    text = secret.decode(errors="replace")
    if len(secret) < MIN_PROFILE_SECRET or not (text.isascii() and text.isprintable()):
        yield Finding(
            path,
            f"the secret must be one line of {MIN_PROFILE_SECRET} to {MAX_PROFILE_SECRET} bytes "
            "of printable ASCII",
        )


def _backend_files(backend: LimitBackend, directory: Path, now: datetime) -> Iterator[Finding]:
    at: KeyPath = ("limits", "backend")
    if backend.tls is not None:
        tls = backend.tls
        section = TlsSection((*at, "tls"), tls.certificate, tls.private_key, tls.ca, "ca")
        yield from tls_files.tls_findings(section, directory, now)
    if backend.password_file is not None:
        try:
            read_password(directory / backend.password_file)
        except UnusableFileError as error:
            yield error.finding((*at, "password_file"))


def _access_log(output: str) -> Iterator[Finding]:
    path: KeyPath = ("telemetry", "access_log", "output")
    if not output.startswith("/"):
        return
    file = Path(output)
    if not file.parent.is_dir():
        message = "the folder of the log file does not exist on this machine"
        yield Finding.of(NO_LOG_FILE, path, message, Severity.ABSENT)
    elif file.is_dir():
        message = "the path is that of a folder"
        yield Finding.of(NO_LOG_FILE, path, message, Severity.ABSENT)
