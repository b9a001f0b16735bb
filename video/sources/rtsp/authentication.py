"""Credentials for a camera: Basic and Digest (RFC 7617, RFC 7616, and the older RFC 2069). Pure."""

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Credentials:
    """User and password of a camera."""

    username: str
    password: str = field(repr=False)


_HASHES: Final[dict[str, Callable[[bytes], "hashlib._Hash"]]] = {
    "MD5": hashlib.md5,
    "SHA-256": hashlib.sha256,
}
_PARAMETER: Final = re.compile(r'([A-Za-z]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))')


@dataclass(slots=True)
class _Digest:
    realm: str
    nonce: str
    opaque: str | None
    algorithm: str
    qop: bool
    count: int = 0


class Authorizer:
    """Makes the header Authorization of each request, from the challenge of the camera."""

    def __init__(self, credentials: Credentials, new_nonce: Callable[[], str]) -> None:
        self._credentials = credentials
        self._new_nonce = new_nonce
        self._digest: _Digest | None = None
        self._basic = False

    def accept(self, challenges: Sequence[str]) -> bool:
        """Read the values of WWW-Authenticate. False if no scheme of them is supported."""
        for challenge in challenges:
            scheme, _, rest = challenge.strip().partition(" ")
            if scheme.lower() == "digest":
                values = {key.lower(): _value(quoted, plain) for key, quoted, plain in _found(rest)}
                algorithm = values.get("algorithm", "MD5").upper()
                if algorithm in _HASHES and "nonce" in values:
                    qop = "auth" in re.split(r"[\s,]+", values.get("qop", ""))
                    self._digest = _Digest(
                        values.get("realm", ""),
                        values["nonce"],
                        values.get("opaque"),
                        algorithm,
                        qop,
                    )
                    return True
        self._basic = any(each.strip().lower().startswith("basic") for each in challenges)
        return self._basic

    def header(self, method: str, url: str) -> str | None:
        """The value for a request, once a challenge was accepted."""
        if self._digest is not None:
            return self._digest_header(self._digest, method, url)
        if self._basic:
            user = f"{self._credentials.username}:{self._credentials.password}"
            return "Basic " + base64.b64encode(user.encode()).decode()
        return None

    def _digest_header(self, digest: _Digest, method: str, url: str) -> str:
        def hashed(*parts: str) -> str:
            return _HASHES[digest.algorithm](":".join(parts).encode()).hexdigest()

        user = self._credentials.username
        secret = hashed(user, digest.realm, self._credentials.password)
        fields = [
            f'username="{_quoted(user)}"',
            f'realm="{_quoted(digest.realm)}"',
            f'nonce="{_quoted(digest.nonce)}"',
            f'uri="{url}"',
        ]
        if digest.qop:
            digest.count += 1
            count, nonce = f"{digest.count:08x}", self._new_nonce()
            proof = hashed(secret, digest.nonce, count, nonce, "auth", hashed(method, url))
            fields += [f'qop=auth, nc={count}, cnonce="{nonce}"']
        else:
            proof = hashed(secret, digest.nonce, hashed(method, url))
        fields.append(f'response="{proof}"')
        if digest.algorithm != "MD5":
            fields.append(f"algorithm={digest.algorithm}")
        if digest.opaque is not None:
            fields.append(f'opaque="{_quoted(digest.opaque)}"')
        return "Digest " + ", ".join(fields)


def _found(text: str) -> list[tuple[str, str, str]]:
    return _PARAMETER.findall(text)


def _value(quoted: str, plain: str) -> str:
    return plain or re.sub(r"\\(.)", r"\1", quoted)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
