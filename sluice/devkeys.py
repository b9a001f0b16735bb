"""The signing key for development. It is created on first use and never shipped.

Each user has one key, so `sluice token` finds the key in every folder. The demo config trusts its
public key (`jwks_file`).
"""

import json
import os
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sluice.keys.signing import generate, parse_private_key, private_pem, public_jwk
from sluice.output import create_private, replace_file

ISSUER = "https://dev.sluice.localhost"
AUDIENCE = "sluice"
ALGORITHM = "RS256"
_REMEDY = "set XDG_STATE_HOME to a folder that you can write"


class DevKeyError(OSError):
    """The development key cannot be written or read. The message has the path and a remedy."""


def state_folder() -> Path:
    """The folder for files that Sluice keeps for this user: `$XDG_STATE_HOME/sluice`.

    As the XDG specification says, a relative path is ignored; the default is `~/.local/state`.
    Raises DevKeyError.
    """
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    if base.is_absolute():
        return base / "sluice"
    try:
        return Path.home() / ".local" / "state" / "sluice"
    except RuntimeError:
        raise DevKeyError(f"this user has no home folder: {_REMEDY}") from None


@dataclass(frozen=True, slots=True)
class DevKeys:
    """Files of the private key (PEM, mode 0600) and of the public key set (JSON)."""

    private_key: Path
    jwks: Path

    @classmethod
    def default(cls) -> "DevKeys":
        """The files in the folder for the state of this user. Raises DevKeyError."""
        folder = state_folder()
        return cls(folder / "dev-key.pem", folder / "dev-jwks.json")

    def ensure(self) -> None:
        """Create the files that are missing. Raises DevKeyError."""
        try:
            if not self.private_key.exists():
                # Another process may create the file at the same time.
                with suppress(FileExistsError):
                    create_private(self.private_key, private_pem(generate(ALGORITHM)))
            _check_own(self.private_key)
            replace_file(self.jwks, self.key_set())
        except DevKeyError:
            raise
        except OSError as error:
            reason = f"cannot write the development key: {error.filename}: {error.strerror}"
            raise DevKeyError(f"{reason}; {_REMEDY}") from error

    def key_set(self) -> bytes:
        """The public key set. Raises OSError, or SigningKeyError if the file holds no key."""
        jwk = public_jwk(parse_private_key(self.private_key.read_bytes()))
        return json.dumps({"keys": [jwk]}).encode()


def _check_own(file: Path) -> None:
    """Raises DevKeyError if another user has put the key there, who could then sign tokens.

    `XDG_STATE_HOME` may be a folder that others can write, such as /tmp.
    """
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        raise DevKeyError(f"the development key {file} is not a regular file; {_REMEDY}")
    if status.st_uid not in (0, os.geteuid()):
        raise DevKeyError(f"the development key {file} belongs to another user; {_REMEDY}")


def standard_claims(lifetime: float) -> dict[str, object]:
    """The claims of a development token that is valid for `lifetime` seconds from now."""
    now = int(time.time())
    return {"iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + int(lifetime)}
