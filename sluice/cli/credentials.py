"""`sluice token`, `sluice key` and `sluice admin-token`: create tokens and API keys."""

import argparse
import hashlib
import json
import secrets
import sys
from pathlib import Path
from typing import get_args

from pydantic import TypeAdapter, ValidationError

from sluice.cli.commands import CommandError, Subcommands, command, read_argument
from sluice.cli.numbers import seconds
from sluice.config.access import OperatorRole
from sluice.config.values import Name
from sluice.devkeys import DevKeys, standard_claims
from sluice.keys.key_set import MAX_DOCUMENT
from sluice.keys.signing import ALGORITHMS, PrivateKey, parse_private_key, sign


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    token = command(
        commands, "token", _token,
        "create a token: for the demo config, or with a key of your own for your issuer",
    )  # fmt: skip
    token.add_argument("--sub", required=True, help="subject")
    token.add_argument("--group", action="append", default=[], help="group; may be repeated")
    token.add_argument(
        "--claim", action="append", default=[], type=_claim, metavar="NAME=VALUE",
        help="a further claim; may replace iss, aud, iat or exp; VALUE is JSON or text; "
        "may be repeated",
    )  # fmt: skip
    token.add_argument("--ttl", type=seconds(1.0), default="1h", help="lifetime, such as 30s or 1h")
    token.add_argument(
        "--key-file", type=Path, metavar="FILE",
        help="private key in PEM, as `sluice jwks --new` creates; default: the development key",
    )  # fmt: skip
    token.add_argument(
        "--kid", help="key ID in the header; empty: none; default: the one that `sluice jwks` gives"
    )
    token.add_argument(
        "--algorithm", choices=ALGORITHMS, metavar="ALGORITHM",
        help="algorithm of the signature; default: RS256 for RSA, else the algorithm of the key",
    )  # fmt: skip
    key = command(commands, "key", _key, "create an API key and print its config entry")
    key.add_argument(
        "name", metavar="NAME", type=valid_name, help="subject of requests with the key"
    )
    admin = command(
        commands, "admin-token", _admin_token,
        "create a token for the admin HTTP server and print its config entry",
    )  # fmt: skip
    admin.add_argument("name", metavar="NAME", type=valid_name, help="name of the owner")
    admin.add_argument(
        "--role", choices=get_args(OperatorRole), default="reader",
        help="reader: may see the config and the state; operator: may also change them; "
        "default: %(default)s",
    )  # fmt: skip


def valid_name(text: str) -> str:
    """The name of a key, a token or a certificate, as the type of an argument."""
    try:
        return TypeAdapter(Name).validate_python(text)
    except ValidationError:
        raise argparse.ArgumentTypeError(
            "write 1 to 63 letters, digits, dots, underscores or hyphens; the first one must be a "
            "letter or a digit"
        ) from None


def _claim(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError("write NAME=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _token(options: argparse.Namespace) -> int:
    claims: dict[str, object] = {"sub": options.sub}
    if options.group:
        claims["group"] = options.group[0] if len(options.group) == 1 else options.group
    claims = {**standard_claims(options.ttl), **claims, **dict(options.claim)}
    key = _private_key(options.key_file)
    try:
        print(sign(key, claims, key_id=options.kid, algorithm=options.algorithm))
    except ValueError as error:
        raise CommandError(error) from error
    return 0


def _private_key(file: Path | None) -> PrivateKey:
    """The private key of the file; None: the development key, created if missing."""
    if file is None:
        keys = DevKeys.default()
        keys.ensure()
        file = keys.private_key
    document = read_argument(file, MAX_DOCUMENT)
    try:
        return parse_private_key(document)
    except ValueError as error:
        raise CommandError(f"{file}: {error}") from error


def _key(options: argparse.Namespace) -> int:
    digest = _print_secret("API key", "slc")
    _print_entry("auth.api_keys", name=options.name, sha256=digest)
    return 0


def _admin_token(options: argparse.Namespace) -> int:
    digest = _print_secret("Token", "sla")
    _print_entry("control_plane.access.tokens", name=options.name, role=options.role, sha256=digest)
    return 0


def _print_secret(kind: str, prefix: str) -> str:
    """Print a new secret. Returns its SHA-256."""
    secret = f"{prefix}_{secrets.token_urlsafe(32)}"
    print(f"{kind} (it is not stored and cannot be shown again):", file=sys.stderr)
    print(secret, flush=True)
    return hashlib.sha256(secret.encode()).hexdigest()


def _print_entry(key: str, **members: str) -> None:
    """Print the entry of a list in the config."""
    lines = "\n    ".join(f"{name}: {value}" for name, value in members.items())
    print(f"Entry for {key}:\n  - {lines}", file=sys.stderr)
