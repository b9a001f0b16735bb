"""Reads a config and the files that it names, and collects their errors and warnings."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sluice.config.analysis import analyze
from sluice.config.assertions import check_assertions
from sluice.config.auth import Auth
from sluice.config.errors import MAX_PROBLEMS, ConfigError, Place, Problem, unplaced
from sluice.config.finding import Finding, WarningKind
from sluice.config.gateway import GatewayConfig
from sluice.config.load import ConfigText, loads, read_text
from sluice.config.named_files import Strictness, check_named_files, judge
from sluice.config.policy import PolicyDocument, policy_document
from sluice.config.secrets import NO_SECRETS, Secrets, read_secrets
from sluice.keys.key_set import KeySet

EMPTY_KEY_SET: Final = WarningKind(
    "empty_key_set",
    "The key set of an issuer has no keys.",
    "add the public key of the issuer to the key set",
)


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A valid config and its policy. File names in the config are relative to `directory`.

    `place` finds the line of a key, for errors that are found later. `warnings` are about the
    config and the files that it names. `secrets` are not part of the version of the config. `text`
    is what was read. `revision` is its number in the history; None if it has none.
    """

    config: GatewayConfig
    policy: PolicyDocument
    directory: Path
    place: Place = field(default=unplaced, repr=False)
    warnings: tuple[Problem, ...] = ()
    secrets: Secrets = field(default=NO_SECRETS, repr=False)
    text: str = field(default="", repr=False)  # it may hold secrets
    revision: int | None = None


def load_checked(path: Path, strictness: Strictness) -> LoadedConfig:
    """Read and check a config file and the files that it names. Raises ConfigError."""
    text = ConfigText(read_text(path), str(path))
    return check_files(loads(text.text, text.file), path.parent, strictness, text.problem)


def check_files(
    config: GatewayConfig, directory: Path, strictness: Strictness, place: Place
) -> LoadedConfig:
    """Read and check the files that a config names, and check its assertions.

    Raises ConfigError with all errors.
    """
    problems: list[Problem] = []
    policy, warnings = None, []
    try:
        policy = policy_document(config, directory, place)
    except ConfigError as error:
        problems += error.problems
    try:
        check_assertions(config, place)
    except ConfigError as error:
        problems += error.problems
    try:
        warnings = check_named_files(config, directory, strictness, place)
    except ConfigError as error:
        problems += error.problems
    secrets, found = read_secrets(config, directory, os.environ, datetime.now(UTC))
    try:
        warnings += judge(found, strictness, place)
    except ConfigError as error:
        problems += error.problems
    if policy is None or problems:
        raise ConfigError(sorted(problems, key=lambda problem: problem.line))
    warned = [*_empty_key_sets(policy.auth), *analyze(config)]
    warnings += [each.warning(place) for each in warned[:MAX_PROBLEMS]]
    warnings.sort(key=lambda problem: problem.line)
    if len(warned) > MAX_PROBLEMS:
        warnings.append(Problem("", 0, "", f"and {len(warned) - MAX_PROBLEMS} more warnings"))
    return LoadedConfig(config, policy, directory, place, tuple(warnings), secrets)


def _empty_key_sets(auth: Auth) -> Iterator[Finding]:
    for index, issuer in enumerate(auth.issuers):
        if issuer.jwks is not None and not KeySet.parse(issuer.jwks).keys:
            message = f"the key set of {issuer.issuer[:100]!r} is empty: its tokens are refused"
            yield Finding.of(EMPTY_KEY_SET, ("auth", "issuers", index), message)
