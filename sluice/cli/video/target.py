"""The gateway and the model of `sluice video`, and the credentials for the gateway and the camera.

Credentials come from files and from the environment: other users can see the arguments of commands.
"""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sluice.cli.api import Api
from sluice.cli.commands import CommandError, UsageError
from sluice.cli.exit_status import ExitStatus
from sluice.cli.gateway import address_near
from sluice.config.addresses import connectable, is_local, split_host_port
from sluice.config.auth import Auth
from sluice.config.files import UnusableFileError, read_named_file
from sluice.config.gateway import Listener
from sluice.config.models import Model
from sluice.config.video import GatewayTls
from sluice.contract.headers import AUTHORIZATION
from sluice.devkeys import DevKeys, standard_claims
from sluice.keys.signing import parse_private_key, sign

TOKEN_VARIABLE = "SLUICE_TOKEN"  # noqa: S105  # a name
API_KEY_VARIABLE = "SLUICE_API_KEY"
PASSWORD_VARIABLE = "SLUICE_CAMERA_PASSWORD"  # noqa: S105  # a name

MAX_SECRET = 16 << 10
"""Bytes of a token, a key or a password."""

DEMO_GROUP = "vision"
DEMO_LIFETIME = 24 * 3600
"""Seconds of the token of the demo."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the frames go: the listener, the declared model, and headers with credentials."""

    address: str
    tls: GatewayTls | None
    name: str
    model: Model
    headers: tuple[tuple[str, str], ...]


def find_target(options: argparse.Namespace) -> Target:
    """The target that the options name. Raises CommandError."""
    api = Api.of(options)
    config = api.get("config", defaults=False)
    with api.reading():
        listener, models = config.get("listener") or {}, config.get("models") or {}
        listens = str(listener.get("address", Listener().address))
        encrypted = listener.get("tls") is not None
        key_header = str((config.get("auth") or {}).get("api_key_header", Auth().api_key_header))
        model = _model(options.model, models)
    address = options.gateway or address_near(api.address.url, listens)
    tls = None
    if encrypted:
        tls = GatewayTls(ca=None if options.gateway_ca is None else str(options.gateway_ca))
    headers = _demo_headers() if options.demo else _headers(options, key_header)
    if headers and tls is None and not is_local(connectable(split_host_port(address)[0])):
        raise CommandError(
            f"the credentials are not sent to {address}, because they would cross the network in "
            "plain text",
            status=ExitStatus.NOT_ALLOWED,
            hint="set listener.tls, or run the command on the machine of the gateway",
        )
    return Target(address, tls, options.model, model, headers)


def _model(name: str, models: dict[str, Any]) -> Model:
    if name not in models:
        raise UsageError(f"no model {name}", hint="`sluice get models` lists the models")
    try:
        model = Model.model_validate(models[name])
    except ValidationError as error:
        raise CommandError(
            f"the model {name} of the gateway cannot be read",
            hint="check that the gateway has the version of this command",
        ) from error
    if model.video is None:
        raise UsageError(f"model {name} gets no video", hint=f"add `video: {{}}` to models.{name}")
    return model


def _headers(options: argparse.Namespace, api_key_header: str) -> tuple[tuple[str, str], ...]:
    token = _secret(options.bearer_file, TOKEN_VARIABLE)
    key = _secret(options.api_key_file, API_KEY_VARIABLE)
    if token is not None and key is not None:
        raise UsageError("give a token or an API key, not both")
    if token is not None:
        return ((AUTHORIZATION, f"Bearer {token}"),)
    return () if key is None else ((api_key_header, key),)


def _demo_headers() -> tuple[tuple[str, str], ...]:
    """A token of the development key, which the demo config trusts."""
    keys = DevKeys.default()
    keys.ensure()
    claims = {**standard_claims(DEMO_LIFETIME), "sub": "video-demo", "group": DEMO_GROUP}
    token = sign(parse_private_key(keys.private_key.read_bytes()), claims)
    return ((AUTHORIZATION, f"Bearer {token}"),)


def camera_password(file: Path | None) -> str:
    """The password of the camera. Raises UsageError if there is none."""
    password = _secret(file, PASSWORD_VARIABLE)
    if password is None:
        raise UsageError(
            f"--camera-user needs a password: set {PASSWORD_VARIABLE}, or give "
            "--camera-password-file FILE"
        )
    return password


def _secret(file: Path | None, variable: str) -> str | None:
    """The secret in the file, else in the environment. Raises UsageError."""
    if file is None:
        return os.environ.get(variable) or None
    try:
        secret = read_named_file(file, MAX_SECRET).decode().strip()
    except UnusableFileError as error:
        raise UsageError(f"{file}: {error}") from None
    except UnicodeDecodeError:
        secret = ""
    if not (secret and secret.isprintable()):
        raise UsageError(f"{file}: write one line of printable text")
    return secret
