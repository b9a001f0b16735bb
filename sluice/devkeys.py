"""The signing key for development. It is created on first use and never shipped.

`sluice token` signs with the private key. The demo config trusts the public key (`jwks_file`).
"""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from sluice.data import demo_config

ISSUER = "https://dev.sluice.localhost"
AUDIENCE = "sluice"
_KEY_ID = "dev"


@dataclass(frozen=True, slots=True)
class DevKeys:
    """Files of the private key (PEM, mode 0600) and of the public key set (JSON)."""

    private_key: Path
    jwks: Path

    @classmethod
    def default(cls) -> "DevKeys":
        """The files in `var/`, next to the folder `examples`. The demo config names the key set."""
        directory = demo_config().parent.parent / "var"
        return cls(directory / "dev-key.pem", directory / "dev-jwks.json")

    def ensure(self) -> None:
        """Create the files that are missing. Raises OSError if a file cannot be written."""
        if not self.private_key.exists():
            self.private_key.parent.mkdir(parents=True, exist_ok=True)
            _write_private(self.private_key, rsa.generate_private_key(65537, 2048))
        _write_if_changed(self.jwks, json.dumps({"keys": [self._public_jwk()]}))

    def token(self, claims: dict[str, object], lifetime: float) -> str:
        """An RS256 token with these claims, valid for `lifetime` seconds from now."""
        now = int(time.time())
        standard = {"iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + int(lifetime)}
        return jwt.encode(
            {**standard, **claims}, self._load(), algorithm="RS256", headers={"kid": _KEY_ID}
        )

    def _public_jwk(self) -> dict[str, object]:
        jwk = RSAAlgorithm.to_jwk(self._load().public_key(), as_dict=True)
        return {**jwk, "kid": _KEY_ID, "use": "sig", "alg": "RS256"}

    def _load(self) -> rsa.RSAPrivateKey:
        key = serialization.load_pem_private_key(self.private_key.read_bytes(), None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise ValueError(f"{self.private_key} is not an RSA key")
        return key


def _write_private(path: Path, key: rsa.RSAPrivateKey) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)


def _write_if_changed(path: Path, text: str) -> None:
    """Replace a file atomically if its text changes. The control plane watches the file."""
    if path.exists() and path.read_text() == text:
        return
    temporary = path.with_suffix(".new")
    temporary.write_text(text)
    temporary.replace(path)
