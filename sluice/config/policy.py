"""The policy: the part of the config that decisions need, and the version of the config."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from pydantic import Field

from sluice.config.auth import Auth, JwtIssuer
from sluice.config.errors import ConfigError, KeyPath, Place, unplaced
from sluice.config.files import UnusableFileError, read_named_file
from sluice.config.gateway import Callout, GatewayConfig, Listener, Requests, UnderscoresAction
from sluice.config.limits import Limits
from sluice.config.models import Models
from sluice.config.telemetry import AccessLog
from sluice.config.values import Placement, PositiveDuration, Strict, UnixSocket
from sluice.keys.key_set import MAX_DOCUMENT, KeySet, KeySetError

VERSION_LENGTH = 16
"""Hex digits of a version: 64 bits, so that two configs do not have the same version by chance."""

MAX_POLICY = 60 << 20
"""Bytes of a policy as JSON: workers receive no larger message. Key sets and defaults can make the
policy much larger than the config file."""


class PolicySettings(Strict):
    """The part of a policy that all models share (`Policy.config` in policy.proto).

    It contains the key sets that the config names, so a worker reads no file. `version` is the
    version of the config.
    """

    version: str
    requests: Requests
    auth: Auth
    access_log: AccessLog = AccessLog()
    limits: Limits = Limits()
    message_timeout: PositiveDuration = Callout().message_timeout
    """`callout.message_timeout`: how long Envoy waits for a response of the worker."""
    conversion_timeout: PositiveDuration = Callout().conversion_timeout
    """`callout.conversion_timeout`: time for the conversion of one body."""
    copies: UnixSocket | None = None
    """`callout.copies`: where workers send the copies of mirrored requests."""
    headers_with_underscores: UnderscoresAction = Listener().headers_with_underscores
    """`listener.headers_with_underscores`, for `sluice explain`."""
    placement: Placement = "auto"
    """For `sluice explain`."""


class PolicyDocument(PolicySettings):
    """The policy that the control plane sends to workers: the settings, and every model."""

    models: Models = Field(max_length=10_000)

    def serialized_settings(self) -> bytes:
        """The policy without its models, as JSON."""
        return self.model_dump_json(exclude={"models"}).encode()

    @property
    def size(self) -> int:
        """The bytes of the settings and of the models, as JSON."""
        models = self.models.values()
        return len(self.serialized_settings()) + sum(len(model.serialized) for model in models)


def policy_document(
    config: GatewayConfig, directory: Path, place: Place = unplaced
) -> PolicyDocument:
    """The policy of a config. Paths of key set files in the config are relative to `directory`.

    Raises ConfigError with every key set that cannot be read or is not valid, or if the policy is
    too large.
    """
    issuers, problems = [], []
    for index, issuer in enumerate(config.auth.issuers):
        try:
            issuers.append(_with_keys(issuer, index, directory, place))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    # The parts are valid. Pydantic would validate each model again.
    policy = PolicyDocument.model_construct(
        version=_version(config, (issuer.jwks or "" for issuer in issuers)),
        requests=config.requests,
        auth=config.auth.model_copy(update={"issuers": tuple(issuers)}),
        access_log=config.telemetry.access_log,
        limits=config.limits,
        message_timeout=config.callout.message_timeout,
        conversion_timeout=config.callout.conversion_timeout,
        copies=config.callout.copies,
        headers_with_underscores=config.listener.headers_with_underscores,
        placement=config.placement,
        models=config.models,
    )
    if policy.size > MAX_POLICY:
        message = (
            f"the policy for the workers is larger than {MAX_POLICY >> 20} MiB; "
            "use smaller key sets, or fewer models and labels"
        )
        raise ConfigError([place((), message)])
    return policy


def jwks_files(config: GatewayConfig, directory: Path) -> list[Path]:
    """The key set files that a config names."""
    return [directory / i.jwks_file for i in config.auth.issuers if i.jwks_file is not None]


def _version(config: GatewayConfig, key_sets: Iterable[str]) -> str:
    """A hash of the config, with its defaults, and of the content of its key set files.

    `sluice validate`, `status` and `explain`, the logs and every node show this version.
    """
    digest = hashlib.sha256()
    texts = (config.model_dump_json(exclude={"models"}), *config.models, *key_sets)
    models = (model.digest for model in config.models.values())
    for content in (*(text.encode() for text in texts), *models):
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()[:VERSION_LENGTH]


def _with_keys(issuer: JwtIssuer, index: int, directory: Path, place: Place) -> JwtIssuer:
    """The issuer with the content of its key set file. The key set is valid."""
    at: KeyPath = ("auth", "issuers", index)
    try:
        if issuer.jwks_file is not None:
            at += ("jwks_file",)
            text = _key_set_text(directory / issuer.jwks_file)
            _check_keys(issuer, text)
            return issuer.model_copy(update={"jwks": text, "jwks_file": None})
        if issuer.jwks is not None:
            at += ("jwks",)
            _check_keys(issuer, issuer.jwks)
    except KeySetError as error:
        file = "" if issuer.jwks_file is None else f" in {directory / issuer.jwks_file}"
        message = f"the key set of {issuer.issuer[:100]!r}{file}: {error}"
        raise ConfigError([place(at, message)]) from None
    return issuer


def _key_set_text(file: Path) -> str:
    """The content of a key set file. Raises KeySetError if the file cannot be read."""
    try:
        return read_named_file(file, MAX_DOCUMENT).decode()
    except UnusableFileError as error:
        raise KeySetError(str(error)) from error
    except UnicodeDecodeError:
        raise KeySetError("the file is not UTF-8 text") from None


def _check_keys(issuer: JwtIssuer, text: str) -> None:
    """Raises KeySetError if no token of the issuer could be verified with a set that has keys."""
    keys = KeySet.parse(text).keys
    if keys and not any(key.algorithms.intersection(issuer.algorithms) for key in keys):
        accepted = ", ".join(issuer.algorithms)
        raise KeySetError(f"no key is for an accepted algorithm of the issuer ({accepted})")
