"""`sluice token` and `sluice key`: create development tokens and API keys."""

import argparse
import hashlib
import json
import secrets
import sys
from pathlib import Path

from sluice.cli.commands import CommandError, Subcommands, command
from sluice.config.values import parse_duration
from sluice.devkeys import DevKeys


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    token = command(commands, "token", _token, "create a development token for the demo config")
    token.add_argument("--sub", required=True, help="subject")
    token.add_argument("--group", action="append", default=[], help="group; may be repeated")
    token.add_argument(
        "--claim", action="append", default=[], type=_claim, metavar="NAME=VALUE",
        help="a further claim; may replace iss, aud or exp; VALUE is JSON or text; may be repeated",
    )  # fmt: skip
    token.add_argument("--ttl", type=_duration, default="1h", help="lifetime, such as 30s or 1h")
    token.add_argument(
        "--key-file", type=Path, help="RSA private key in PEM; default: the development key"
    )
    key = command(commands, "key", _key, "create an API key and print its config entry")
    key.add_argument("name", metavar="NAME", help="subject of requests with the key")


def _claim(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError("write NAME=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _token(options: argparse.Namespace) -> int:
    claims: dict[str, object] = {"sub": options.sub}
    if options.group:
        claims["group"] = options.group[0] if len(options.group) == 1 else options.group
    try:
        keys = _keys(options.key_file)
        token = keys.token({**claims, **dict(options.claim)}, options.ttl)
    except (OSError, ValueError) as error:
        raise CommandError(error) from error
    print(token)
    return 0


def _keys(file: Path | None) -> DevKeys:
    """The keys with this private key file. None: the development keys, created if missing."""
    keys = DevKeys.default()
    if file is not None:
        return DevKeys(file, keys.jwks)
    keys.ensure()
    return keys


def _key(options: argparse.Namespace) -> int:
    key = f"slc_{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(key.encode()).hexdigest()
    print("API key (it is not stored and cannot be shown again):", file=sys.stderr)
    print(key)
    print(
        f"Entry for auth.api_keys:\n  - name: {options.name}\n    sha256: {digest}",
        file=sys.stderr,
    )
    return 0
