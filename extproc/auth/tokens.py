"""Verifies JWTs (RFC 7519) of the configured issuers. The caller passes the time."""

import base64
import json
import math
import re
from collections.abc import Mapping

import jwt
from jwt.exceptions import (
    InvalidAudienceError,
    InvalidJTIError,
    InvalidTokenError,
    MissingRequiredClaimError,
)
from jwt.types import Options

from extproc.auth.errors import (
    CredentialsError,
    KeySetUnavailableError,
    UnknownKeyError,
    quoted,
    shown,
)
from extproc.auth.identity import Identity
from sluice.config import JwtIssuer
from sluice.config.claim_values import claim_values, find_claim, is_text
from sluice.contract.causes import CredentialCause
from sluice.contract.headers import MAX_HEADERS_KIB
from sluice.keys.key_set import MAX_CANDIDATES, Key, KeySet

MAX_TOKEN = MAX_HEADERS_KIB << 10
"""Maximum bytes of a token: the bound of all headers, because Envoy has none of its own for tokens.
Decoding is fast up to this length."""

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
"""JWS compact serialization (RFC 7515 sections 2 and 7.1): base64url without padding or blanks. A
lenient decoder would accept many spellings of one token, and each spelling would take an entry of
the token cache."""

# PyJWT checks signature, audience and issuer. This module checks the times, because PyJWT would
# read the clock, and the subject, because another claim than `sub` may contain it.
_OPTIONS: Options = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_sub": False,
}


class TokenVerifier:
    """Verifies tokens. `keys` contains the key set of each issuer. Key sets may be replaced.

    `fetched` contains the monotonic seconds of the last fetch by issuer, for fetched key sets. A
    fetched key set that is not in `keys` has expired. `failures` contains the cause by issuer, if
    the latest fetch has failed.
    """

    def __init__(self, issuers: tuple[JwtIssuer, ...], keys: Mapping[str, KeySet]) -> None:
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        self.keys = dict(keys)
        self.fetched: dict[str, float] = {}
        self.failures: dict[str, str] = {}

    def verify(self, token: str, now: float) -> Identity:
        """Verify a token and return the caller's identity. Raises CredentialsError."""
        if len(token) > MAX_TOKEN:
            raise _malformed(f"the token is longer than {MAX_TOKEN} bytes")
        header, issuer = self._parse(token)
        claims = self._verify_signature(token, header, issuer)
        return _identity(claims, issuer, _check_times(claims, issuer.leeway, now))

    def _parse(self, token: str) -> tuple[Mapping[str, object], JwtIssuer]:
        """The header, and the issuer that the token names. The signature is not verified yet."""
        if _COMPACT.fullmatch(token) is None:
            raise _malformed("the token is malformed: not three base64url parts with dots between")
        encoded_header, encoded_payload, _ = token.split(".")
        header, payload = _json_object(encoded_header), _json_object(encoded_payload)
        if "crit" in header:
            raise _malformed("the token has crit extensions, which are not supported")
        issuer = self._issuer(payload.get("iss"))
        algorithm = header.get("alg")
        if algorithm not in issuer.algorithms:
            named = f" {quoted(algorithm)}" if isinstance(algorithm, str) else ""
            message = f"the token's algorithm{named} is not allowed for its issuer"
            raise CredentialsError(message, CredentialCause.WRONG_ALGORITHM)
        return header, issuer

    def _issuer(self, name: object) -> JwtIssuer:
        if not isinstance(name, str):
            message = "the token has no iss that is text"
            raise CredentialsError(message, CredentialCause.UNKNOWN_ISSUER)
        issuer = self._issuers.get(name)
        if issuer is None:
            message = f"the token's issuer {quoted(name)} is not trusted"
            raise CredentialsError(message, CredentialCause.UNKNOWN_ISSUER)
        return issuer

    def _verify_signature(
        self, token: str, header: Mapping[str, object], issuer: JwtIssuer
    ) -> Mapping[str, object]:
        """The claims of a token whose signature, audience and issuer are valid."""
        algorithm, key_id = str(header["alg"]), _key_id(header)
        keys = self._candidates(issuer.issuer, algorithm, key_id)
        for key in keys:
            try:
                return _decode(token, key, algorithm, issuer)
            except jwt.InvalidSignatureError:
                continue
        message = "the token's signature is not valid"
        if key_id is not None and keys[0].id == key_id:
            raise CredentialsError(message, CredentialCause.BAD_SIGNATURE)
        # No `kid` says that the key set has the token's key: the issuer may have a new key.
        if key_id is None:
            message += ": the token has no kid, and no key of its issuer verifies it"
            raise UnknownKeyError(issuer.issuer, message, CredentialCause.BAD_SIGNATURE)
        raise self._unknown_key(issuer.issuer, algorithm, key_id)

    def _candidates(self, issuer: str, algorithm: str, key_id: str | None) -> tuple[Key, ...]:
        """The keys that may verify the token: at least one and at most `MAX_CANDIDATES`."""
        key_set = self.keys.get(issuer)
        if key_set is None:
            raise KeySetUnavailableError(issuer, expired=issuer in self.fetched)
        keys = key_set.candidates(key_id, algorithm)
        if not keys:
            raise self._unknown_key(issuer, algorithm, key_id)
        if len(keys) > MAX_CANDIDATES:
            raise CredentialsError(
                f"{len(keys)} keys of {shown(issuer)} fit the token, and at most "
                f"{MAX_CANDIDATES} are tried: set kid in the token and in the key set",
                CredentialCause.NO_KEY_ID,
            )
        return keys

    def _unknown_key(self, issuer: str, algorithm: str, key_id: str | None) -> UnknownKeyError:
        named = "" if key_id is None else f" with the token's kid {quoted(key_id)}"
        message = f"the key set of {shown(issuer)} has no {algorithm} key{named}"
        if issuer not in self.failures:
            return UnknownKeyError(issuer, message, CredentialCause.UNKNOWN_KEY)
        message += "; the latest fetch of the key set has failed"
        return UnknownKeyError(issuer, message, CredentialCause.KEY_SET_OUTDATED)


def _json_object(encoded: str) -> Mapping[str, object]:
    """A part of a token. PyJWT checks the whole token later, and takes longer to do so."""
    try:
        # The decoder ignores superfluous padding.
        decoded = json.loads(base64.urlsafe_b64decode(f"{encoded}=="))
    except (ValueError, RecursionError) as error:
        raise _malformed("the token is malformed: not a JSON Web Token") from error
    if not isinstance(decoded, dict):
        raise _malformed("the token is malformed: not a JSON Web Token")
    return decoded


def _key_id(header: Mapping[str, object]) -> str | None:
    key_id = header.get("kid")
    if key_id is None or isinstance(key_id, str):
        # An empty `kid` names no key, as in Envoy.
        return key_id or None
    raise _malformed("the token's kid is not text")


def _decode(token: str, key: Key, algorithm: str, issuer: JwtIssuer) -> Mapping[str, object]:
    """The claims, after PyJWT has checked them. Raises InvalidSignatureError."""
    try:
        claims: Mapping[str, object] = jwt.decode(
            token,
            key.jwk.key,
            algorithms=[algorithm],
            audience=issuer.audiences,
            issuer=issuer.issuer,
            options=_OPTIONS,
        )
    except jwt.InvalidSignatureError:
        raise
    except MissingRequiredClaimError as error:
        raise CredentialsError("the token has no aud", CredentialCause.WRONG_AUDIENCE) from error
    except InvalidAudienceError as error:
        raise _wrong_audience(token) from error
    except InvalidJTIError as error:
        message = "the token's jti is not text"
        raise CredentialsError(message, CredentialCause.INVALID_CLAIM) from error
    except (InvalidTokenError, ValueError, TypeError) as error:
        raise _malformed("the token is not valid") from error
    return claims


def _wrong_audience(token: str) -> CredentialsError:
    """The error for a token whose signature is valid."""
    audience = jwt.decode(token, options={"verify_signature": False}).get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    named = ", ".join(each for each in audiences if isinstance(each, str))
    message = f"the token is for another audience: its aud is {quoted(named)}"
    return CredentialsError(message, CredentialCause.WRONG_AUDIENCE)


def _malformed(message: str) -> CredentialsError:
    return CredentialsError(message, CredentialCause.MALFORMED)


def _check_times(claims: Mapping[str, object], leeway: float, now: float) -> float:
    """Check `exp` and `nbf`. Returns the expiry with leeway, in seconds since the epoch.

    `iat` must be a time, which may be in the future: RFC 7519 does not forbid that, and Envoy does
    not look at it.
    """
    expires = _time(claims, "exp")
    if expires is None:
        raise CredentialsError("the token has no exp", CredentialCause.INVALID_CLAIM)
    if now >= expires + leeway:
        raise CredentialsError("the token has expired", CredentialCause.EXPIRED)
    not_before = _time(claims, "nbf")
    if not_before is not None and now < not_before - leeway:
        message = "the token is not valid yet: its nbf is in the future"
        raise CredentialsError(message, CredentialCause.NOT_YET_VALID)
    _time(claims, "iat")
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
    raise CredentialsError(f"the token's {name} is not a time", CredentialCause.INVALID_CLAIM)


def _identity(claims: Mapping[str, object], issuer: JwtIssuer, expires: float) -> Identity:
    return Identity(
        _subject(claims, issuer.subject_claim),
        issuer.issuer,
        claim_values(claims, issuer.group_claim),
        claims,
        expires=expires,
    )


def _subject(claims: Mapping[str, object], name: str) -> str:
    subject = find_claim(claims, name)
    if isinstance(subject, str) and subject and is_text(subject):
        return subject
    problem = "is missing" if subject is None else "is empty" if subject == "" else "is not text"
    message = f"the token's claim '{shown(name)}' {problem}, and must contain the subject"
    raise CredentialsError(message, CredentialCause.NO_SUBJECT)
