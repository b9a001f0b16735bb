"""`sluice profile`: a CPU profile of a running worker, as a flame graph."""

import argparse
import urllib.error
import urllib.request
from pathlib import Path

from sluice.cli.commands import CommandError, Subcommands, command, config_argument
from sluice.config import GatewayConfig
from sluice.config.files import read_file
from sluice.config.load import load
from sluice.config.telemetry import MAX_PROFILE_SECRET

MAX_SECONDS = 60
MARGIN = 30.0
"""Seconds in addition to `--seconds`, for py-spy to start and to write the profile."""

MAX_PROFILE = 256 << 20
"""Bytes."""


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    parser = command(commands, "profile", _profile, "profile a worker of a running gateway")
    config_argument(parser)
    parser.add_argument("--seconds", type=int, default=10, help=f"duration, at most {MAX_SECONDS}")
    parser.add_argument("--worker", type=int, default=0, help="index of the worker, from 0")
    parser.add_argument(
        "--output", type=Path, default=Path("profile.svg"),
        help="output file: a flame graph if it ends in .svg, else a profile for speedscope.app",
    )  # fmt: skip


def _profile(options: argparse.Namespace) -> int:
    config = load(options.config)
    try:
        request = _request(options, config)
        with urllib.request.urlopen(request, timeout=options.seconds + MARGIN) as response:  # noqa: S310 (an http URL)
            options.output.write_bytes(response.read(MAX_PROFILE))
    except urllib.error.HTTPError as error:
        reason = error.read(1000).decode(errors="replace").strip()
        raise CommandError(f"{error.code}: {reason}") from error
    except (OSError, ValueError) as error:
        raise CommandError(getattr(error, "reason", error)) from error
    print(options.output)
    return 0


def _request(options: argparse.Namespace, config: GatewayConfig) -> urllib.request.Request:
    """Raises ValueError when the secret cannot be read or the config has none."""
    profile = config.telemetry.profile
    if profile is None:
        raise ValueError(f"{options.config} does not set telemetry.profile.secret_file")
    secret = _secret(options.config.parent / profile.secret_file)
    profile_format = "svg" if options.output.suffix == ".svg" else "speedscope"
    url = (
        f"http://{config.telemetry.metrics.address}/debug/profile"
        f"?worker={options.worker}&seconds={options.seconds}&format={profile_format}"
    )
    return urllib.request.Request(url, headers={"authorization": f"Bearer {secret}"})


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
