"""Verifies JWTs (RFC 7519) of the configured issuers. The caller passes the time."""

import math
import re
from collections.abc import Mapping

import jwt
from jwt.exceptions import InvalidAudienceError, InvalidTokenError
from jwt.types import Options

from extproc.auth.errors import CredentialsError, ExpiredKeysError, UnknownKeyError
from extproc.auth.identity import Identity
from sluice.config import JwtIssuer
from sluice.keys.key_set import Key, KeySet

MAX_TOKEN = 8192
"""Maximum bytes of a token. Tokens with many groups are shorter, and decoding is fast up to this
length."""

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
"""JWS compact serialization (RFC 7515 sections 2 and 7.1): base64url without padding or blanks. A
lenient decoder would accept many spellings of one token, and each spelling would take an entry of
the token cache."""

# PyJWT checks signature, audience and issuer. This module checks the times, because PyJWT would
# read the clock.
_OPTIONS: Options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}


class TokenVerifier:
    """Verifies tokens. `keys` contains the key set of each issuer. Key sets may be replaced.

    `fetched` contains the monotonic seconds of the last fetch by issuer, for fetched key sets. A
    fetched key set that is not in `keys` has expired.
    """

    def __init__(self, issuers: tuple[JwtIssuer, ...], keys: Mapping[str, KeySet]) -> None:
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        self.keys = dict(keys)
        self.fetched: dict[str, float] = {}

    def verify(self, token: str, now: float) -> Identity:
        """Verify a token and return the caller's identity. Raises CredentialsError."""
        if len(token) > MAX_TOKEN:
            raise CredentialsError(f"the token is longer than {MAX_TOKEN} bytes")
        header, issuer = self._parse(token)
        claims = self._verify_signature(token, header, issuer)
        return _identity(claims, issuer, _check_times(claims, issuer.leeway, now))

    def _parse(self, token: str) -> tuple[Mapping[str, object], JwtIssuer]:
        """The header, and the issuer that the token names. The signature is not verified yet."""
        if _COMPACT.fullmatch(token) is None:
            raise CredentialsError("the token is malformed")
        try:
            parts = jwt.decode_complete(token, options={"verify_signature": False})
        except (InvalidTokenError, ValueError, RecursionError) as error:
            raise CredentialsError("the token is malformed") from error
        header: Mapping[str, object] = parts["header"]
        if "crit" in header:
            raise CredentialsError("the token has crit extensions, which are not supported")
        name = parts["payload"].get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise CredentialsError("the token's issuer is not trusted")
        if header.get("alg") not in issuer.algorithms:
            raise CredentialsError("the token's algorithm is not allowed for its issuer")
        return header, issuer

    def _verify_signature(
        self, token: str, header: Mapping[str, object], issuer: JwtIssuer
    ) -> Mapping[str, object]:
        """The claims of a token whose signature, audience and issuer are valid."""
        algorithm, key_id = str(header["alg"]), header.get("kid")
        key_set = self.keys.get(issuer.issuer)
        keys: tuple[Key, ...] = ()
        if key_set is not None and (key_id is None or isinstance(key_id, str)):
            keys = key_set.candidates(key_id, algorithm)
        if not keys:
            expired = key_set is None and issuer.issuer in self.fetched
            raise (ExpiredKeysError if expired else UnknownKeyError)(issuer.issuer)
        for key in keys:
            try:
                claims: Mapping[str, object] = jwt.decode(
                    token,
                    key.jwk.key,
                    algorithms=[algorithm],
                    audience=issuer.audiences,
                    issuer=issuer.issuer,
                    options=_OPTIONS,
                )
            except InvalidAudienceError as error:
                raise CredentialsError("the token is for another audience") from error
            except jwt.InvalidSignatureError:
                continue
            except (InvalidTokenError, ValueError, TypeError) as error:
                raise CredentialsError("the token is not valid") from error
            return claims
        raise CredentialsError("the token's signature is not valid")


def _check_times(claims: Mapping[str, object], leeway: float, now: float) -> float:
    """Check `exp`, `nbf` and `iat`. Returns the expiry with leeway, in seconds since the epoch."""
    expires = _time(claims, "exp")
    if expires is None:
        raise CredentialsError("the token has no exp")
    if now >= expires + leeway:
        raise CredentialsError("the token has expired")
    for name in ("nbf", "iat"):
        not_before = _time(claims, name)
        if not_before is not None and now < not_before - leeway:
            raise CredentialsError("the token is not valid yet")
    return expires + leeway


def _time(claims: Mapping[str, object], name: str) -> float | None:
    """A claim with a NumericDate (RFC 7519 section 2); None if the claim is absent."""
    value = claims.get(name)
    if value is None:
        return None
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    except OverflowError:  # an integer that no float can hold
        pass
    raise CredentialsError(f"the token's {name} is not a time")


def _identity(claims: Mapping[str, object], issuer: JwtIssuer, expires: float) -> Identity:
    subject = claims.get(issuer.subject_claim)
    if not isinstance(subject, str) or not subject or not _is_text(subject):
        raise CredentialsError(f"the token has no {issuer.subject_claim}")
    value = claims.get(issuer.group_claim)
    groups = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return Identity(
        subject,
        issuer.issuer,
        frozenset(g for g in groups if isinstance(g, str)),
        claims,
        expires=expires,
    )


def _is_text(value: str) -> bool:
    """Whether UTF-8 can encode the value. JSON escapes can produce half of a surrogate pair."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
