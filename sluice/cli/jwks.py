"""`sluice jwks`: makes signing keys, and shows the key set that verifies their tokens."""

import argparse
import json
from pathlib import Path

from sluice.cli.commands import CommandError, Subcommands, UsageError, command, read_argument
from sluice.keys.key_set import MAX_DOCUMENT
from sluice.keys.signing import (
    ALGORITHMS,
    Jwk,
    generate,
    parse_public_keys,
    private_pem,
    public_jwk,
)
from sluice.output import create_private, replace_file


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    parser = command(
        commands, "jwks", _jwks, "print the public key set (JWKS) of key files, or make a key"
    )
    parser.add_argument(
        "files", metavar="FILE", type=Path, nargs="+",
        help="private or public key in PEM, or a key set in JSON; the set has the keys of all "
        "files, and no private part",
    )  # fmt: skip
    parser.add_argument(
        "--new", action="store_true",
        help="first create a private key in the last FILE, which must not exist (mode 0600)",
    )  # fmt: skip
    parser.add_argument(
        "--algorithm", choices=ALGORITHMS, metavar="ALGORITHM",
        help="algorithm of the key in the last FILE, such as ES256; default: RS256 for RSA and "
        "for a new key",
    )  # fmt: skip
    parser.add_argument(
        "--kid",
        type=_key_id,
        help="key ID of the key in the last FILE; default: its thumbprint (RFC 7638)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE",
        help="write the key set to this file, in one step, as a running gateway needs it",
    )  # fmt: skip


def _key_id(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def _jwks(options: argparse.Namespace) -> int:
    last = options.files[-1]
    if options.new:
        _create(last, options.algorithm or "RS256")
    keys: list[Jwk] = []
    for path in options.files:
        named = path is last
        keys += _public_keys(
            path, options.kid if named else None, options.algorithm if named else None
        )
    _check_key_ids(keys)
    text = json.dumps({"keys": keys}, indent=2) + "\n"
    if options.output is None:
        print(text, end="")
    else:
        replace_file(options.output, text.encode())
    return 0


def _create(path: Path, algorithm: str) -> None:
    try:
        create_private(path, private_pem(generate(algorithm)))
    except FileExistsError:
        raise UsageError(f"{path} exists: --new replaces no key") from None


def _public_keys(path: Path, key_id: str | None, algorithm: str | None) -> list[Jwk]:
    """The JSON Web Keys of a file. Raises CommandError, which names the file."""
    document = read_argument(path, MAX_DOCUMENT)
    try:
        parsed = parse_public_keys(document)
        if isinstance(parsed, list):
            if key_id is not None or algorithm is not None:
                raise ValueError("--kid and --algorithm are for a key in PEM, not for a key set")
            return parsed
        return [public_jwk(parsed, key_id=key_id, algorithm=algorithm)]
    except ValueError as error:
        raise CommandError(f"{path}: {error}") from error


def _check_key_ids(keys: list[Jwk]) -> None:
    seen = set()
    for jwk in keys:
        key_id = jwk.get("kid")
        if key_id is not None and key_id in seen:
            raise UsageError(f"two keys have the key ID {key_id}: give each key its own --kid")
        seen.add(key_id)
