"""`sluice token` and `sluice key`: create tokens and API keys."""

import argparse
import hashlib
import json
import secrets
import sys
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from sluice.cli.commands import CommandError, Subcommands, command, read_argument
from sluice.cli.numbers import seconds
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
    key.add_argument("name", metavar="NAME", type=_name, help="subject of requests with the key")


def _name(text: str) -> str:
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
    key = f"slc_{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(key.encode()).hexdigest()
    print("API key (it is not stored and cannot be shown again):", file=sys.stderr)
    print(key)
    print(
        f"Entry for auth.api_keys:\n  - name: {options.name}\n    sha256: {digest}",
        file=sys.stderr,
    )
    return 0
