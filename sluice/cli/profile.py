"""`sluice profile`: a CPU profile of a running worker, as a flame graph."""

import argparse
from dataclasses import replace
from pathlib import Path

from sluice.cli.commands import CommandError, Subcommands, command
from sluice.cli.gateway import (
    callout,
    callout_option,
    config_argument,
    no_answer,
    read_section,
    require_config,
)
from sluice.cli.numbers import whole_number
from sluice.config.files import read_file
from sluice.config.gateway import MAX_WORKERS
from sluice.config.telemetry import MAX_PROFILE_SECRET, Telemetry
from sluice.http.client import NoAnswerError, fetch
from sluice.http.credentials import CredentialsError

MAX_SECONDS = 60
MARGIN = 30.0
"""Seconds in addition to `--seconds`, for py-spy to start and to write the profile."""

MAX_PROFILE = 256 << 20
"""Bytes."""


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    parser = command(commands, "profile", _profile, "profile a worker of a running gateway")
    config_argument(parser, "config of the gateway")
    callout_option(parser, "telemetry.metrics.address of the config")
    parser.add_argument(
        "--seconds", type=whole_number(1, MAX_SECONDS), default=10,
        help=f"duration, at most {MAX_SECONDS}",
    )  # fmt: skip
    parser.add_argument(
        "--worker", type=whole_number(0, MAX_WORKERS - 1), default=0,
        help="index of the worker, from 0",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, default=Path("profile.svg"),
        help="output file: a flame graph if it ends in .svg, else a profile for speedscope.app",
    )  # fmt: skip


def _profile(options: argparse.Namespace) -> int:
    config = require_config(options)
    address = callout(options)
    url, headers = _request(options, config, address.url)
    try:
        # The token of a profile is a header of its own.
        credentials = replace(address.credentials, token_file=None)
        profile = fetch(
            url, options.seconds + MARGIN, MAX_PROFILE, headers=headers, credentials=credentials,
            proxy=True,
        )  # fmt: skip
    except CredentialsError as error:
        raise CommandError(error) from error
    except NoAnswerError as error:
        raise CommandError(no_answer("the callout", address, error)) from error
    options.output.write_bytes(profile)  # `main` reports an OSError, with the path
    print(options.output)
    return 0


def _request(options: argparse.Namespace, config: Path, base: str) -> tuple[str, dict[str, str]]:
    """URL and headers. Raises CommandError if the secret cannot be read or the config has none."""
    profile = read_section(config, "telemetry", Telemetry).profile
    if profile is None:
        raise CommandError(f"{config} does not set telemetry.profile.secret_file")
    try:
        secret = _secret(config.parent / profile.secret_file)
    except ValueError as error:
        raise CommandError(error) from None
    profile_format = "svg" if options.output.suffix == ".svg" else "speedscope"
    url = (
        f"{base.rstrip('/')}/debug/profile"
        f"?worker={options.worker}&seconds={options.seconds}&format={profile_format}"
    )
    return url, {"authorization": f"Bearer {secret}"}


def _secret(file: Path) -> str:
    """The bearer token. No error shows the token, nor the path, which may be the token itself."""
    try:
        content = read_file(file, MAX_PROFILE_SECRET)
    except OSError as error:
        reason = f"telemetry.profile.secret_file cannot be read: {error.strerror}"
        raise ValueError(reason) from None
    secret = content.decode(errors="replace").strip()
    if not (secret.isascii() and secret.isprintable()):
        raise ValueError("telemetry.profile.secret_file must be one line of printable ASCII")
    return secret
