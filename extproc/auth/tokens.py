"""JWTs (RFC 7519) of the configured issuers to identities. Time is passed in."""

import math
import re
from collections.abc import Mapping

import jwt
from jwt.exceptions import InvalidAudienceError, InvalidTokenError
from jwt.types import Options

from extproc.auth.errors import CredentialsError, UnknownKeyError
from extproc.auth.identity import Identity
from sluice.config import JwtIssuer
from sluice.keys.key_set import Key, KeySet

MAX_TOKEN = 8192
"""Bytes: more than real tokens with many groups, little enough to decode at once."""

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
"""RFC 7515 sections 2 and 7.1: base64url without padding or blanks. A decoder that is kinder lets
one token be spelled in ever new ways, each of them a new one to the memory of verified tokens."""

# Signature, audience and issuer are PyJWT's; the clock is ours, since it must be passed in.
_OPTIONS: Options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}


class TokenVerifier:
    """Verifies tokens of several issuers; `keys` has each one's key set, and may change."""

    def __init__(self, issuers: tuple[JwtIssuer, ...], keys: Mapping[str, KeySet]) -> None:
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        self.keys = dict(keys)

    def verify(self, token: str, now: float) -> Identity:
        """The caller. Raises CredentialsError."""
        if len(token) > MAX_TOKEN:
            raise CredentialsError(f"the token is longer than {MAX_TOKEN} bytes")
        header, issuer = self._unverified(token)
        claims = self._verified(token, header, issuer)
        return _identity(claims, issuer, _valid_until(claims, issuer.leeway, now))

    def _unverified(self, token: str) -> tuple[Mapping[str, object], JwtIssuer]:
        """The header and the issuer that the token claims to be of: only to choose the key."""
        if _COMPACT.fullmatch(token) is None:
            raise CredentialsError("the token is malformed")
        try:
            parts = jwt.decode_complete(token, options={"verify_signature": False})
        except (InvalidTokenError, ValueError, RecursionError) as error:
            raise CredentialsError("the token is malformed") from error
        header: Mapping[str, object] = parts["header"]
        if "crit" in header:
            raise CredentialsError("the token has critical extensions that are not understood")
        named = parts["payload"].get("iss")
        issuer = self._issuers.get(named) if isinstance(named, str) else None
        if issuer is None:
            raise CredentialsError("the token's issuer is not trusted")
        if header.get("alg") not in issuer.algorithms:
            raise CredentialsError("the token's algorithm is not allowed for its issuer")
        return header, issuer

    def _verified(
        self, token: str, header: Mapping[str, object], issuer: JwtIssuer
    ) -> Mapping[str, object]:
        algorithm, key_id = str(header["alg"]), header.get("kid")
        known = self.keys.get(issuer.issuer)
        keys: tuple[Key, ...] = ()
        if known is not None and (key_id is None or isinstance(key_id, str)):
            keys = known.candidates(key_id, algorithm)
        if not keys:
            raise UnknownKeyError(issuer.issuer)
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
        raise CredentialsError("the token's signature is wrong")


def _valid_until(claims: Mapping[str, object], leeway: float, now: float) -> float:
    expires = _time(claims, "exp")
    if expires is None:
        raise CredentialsError("the token does not say when it expires")
    if now >= expires + leeway:
        raise CredentialsError("the token has expired")
    for name in ("nbf", "iat"):
        begins = _time(claims, name)
        if begins is not None and now < begins - leeway:
            raise CredentialsError("the token is not valid yet")
    return expires + leeway


def _time(claims: Mapping[str, object], name: str) -> float | None:
    """A NumericDate (RFC 7519 section 2); None where the claim is absent."""
    value = claims.get(name)
    if value is None:
        return None
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    except OverflowError:  # an integer beyond all floats
        pass
    raise CredentialsError(f"the token's {name} is not a time")


def _identity(claims: Mapping[str, object], issuer: JwtIssuer, expires: float) -> Identity:
    subject = claims.get(issuer.subject_claim)
    if not isinstance(subject, str) or not subject or not _is_text(subject):
        raise CredentialsError(f"the token has no {issuer.subject_claim}")
    listed = claims.get(issuer.group_claim)
    groups = [listed] if isinstance(listed, str) else listed if isinstance(listed, list) else []
    return Identity(
        subject,
        issuer.issuer,
        frozenset(g for g in groups if isinstance(g, str)),
        claims,
        expires=expires,
    )


def _is_text(value: str) -> bool:
    """Whether it can be written in UTF-8: JSON's escapes can also spell half a character."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
