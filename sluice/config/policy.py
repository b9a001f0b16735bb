"""The part of the config that decisions need, as the control plane sends it to callout workers."""

import hashlib
from pathlib import Path

from pydantic import Field

from sluice.config.auth import Auth, JwtIssuer
from sluice.config.errors import ConfigError, Problem
from sluice.config.gateway import GatewayConfig, Requests
from sluice.config.limits import Limits
from sluice.config.models import Model
from sluice.config.telemetry import AccessLog
from sluice.config.values import Name, Strict

MAX_JWKS = 1 << 20
"""Bytes: a key set holds a few keys of about 1 KiB each."""


class PolicyDocument(Strict):
    """`Policy.config`: self-contained, so that a worker reads no file."""

    requests: Requests
    auth: Auth
    access_log: AccessLog = AccessLog()
    limits: Limits = Limits()
    models: dict[Name, Model] = Field(max_length=10_000)

    @property
    def version(self) -> str:
        """Short hash of the content: equal documents have equal versions."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


def policy_document(config: GatewayConfig, directory: Path) -> PolicyDocument:
    """Cut a config to its policy, reading in key sets named relative to `directory`.

    Raises ConfigError where a file cannot be read.
    """
    issuers = tuple(_with_keys(i, n, directory) for n, i in enumerate(config.auth.issuers))
    return PolicyDocument(
        requests=config.requests,
        auth=config.auth.model_copy(update={"issuers": issuers}),
        access_log=config.telemetry.access_log,
        limits=config.limits,
        models=config.models,
    )


def jwks_files(config: GatewayConfig, directory: Path) -> list[Path]:
    """The key-set files a config names, for watching."""
    return [directory / i.jwks_file for i in config.auth.issuers if i.jwks_file is not None]


def _with_keys(issuer: JwtIssuer, index: int, directory: Path) -> JwtIssuer:
    if issuer.jwks_file is None:
        return issuer
    path = directory / issuer.jwks_file
    key = f"auth.issuers.{index}.jwks_file"
    try:
        text = path.read_bytes()[: MAX_JWKS + 1].decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise ConfigError([Problem(str(path), 0, key, f"cannot be read: {reason}")]) from error
    if len(text) > MAX_JWKS:
        raise ConfigError([Problem(str(path), 0, key, "the key set is larger than 1 MiB")])
    return issuer.model_copy(update={"jwks": text, "jwks_file": None})
