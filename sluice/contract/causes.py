"""Causes: why credentials are not accepted, for the log and metrics.

The reason of such a refusal is `invalid_credentials` or `key_set_unavailable`.
"""

from collections.abc import Mapping
from enum import StrEnum


class CredentialCause(StrEnum):
    """Machine-readable causes of refused credentials."""

    TWO_CREDENTIALS = "two_credentials"
    WRONG_SCHEME = "wrong_scheme"
    UNKNOWN_API_KEY = "unknown_api_key"
    MALFORMED = "malformed"
    UNKNOWN_ISSUER = "unknown_issuer"
    WRONG_ALGORITHM = "wrong_algorithm"
    KEY_SET_UNAVAILABLE = "key_set_unavailable"
    KEY_SET_OUTDATED = "key_set_outdated"
    UNKNOWN_KEY = "unknown_key"
    NO_KEY_ID = "no_key_id"
    BAD_SIGNATURE = "bad_signature"
    WRONG_AUDIENCE = "wrong_audience"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    INVALID_CLAIM = "invalid_claim"
    NO_SUBJECT = "no_subject"


CREDENTIAL_CAUSES: Mapping[CredentialCause, str] = {
    CredentialCause.TWO_CREDENTIALS: "the request has a token and an API key",
    CredentialCause.WRONG_SCHEME: "the scheme of `authorization` is not `Bearer`",
    CredentialCause.UNKNOWN_API_KEY: "no configured API key has this hash",
    CredentialCause.MALFORMED: "the token is no JWS in compact form, is too long, or uses `crit`",
    CredentialCause.UNKNOWN_ISSUER: "`iss` is not a configured issuer",
    CredentialCause.WRONG_ALGORITHM: "`alg` is not one of the issuer's `algorithms`",
    CredentialCause.KEY_SET_UNAVAILABLE: "the issuer's key set could not be fetched yet, or has "
    "expired (`jwks_max_stale`)",
    CredentialCause.KEY_SET_OUTDATED: "as `unknown_key`, and the latest fetch of the issuer's key "
    "set has failed",
    CredentialCause.UNKNOWN_KEY: "no key of the issuer has the token's `kid` and algorithm",
    CredentialCause.NO_KEY_ID: "too many keys of the issuer fit the token, because the token or "
    "the keys have no `kid`",
    CredentialCause.BAD_SIGNATURE: "the signature is not valid",
    CredentialCause.WRONG_AUDIENCE: "`aud` contains none of the issuer's `audiences`",
    CredentialCause.EXPIRED: "`exp` has passed",
    CredentialCause.NOT_YET_VALID: "`nbf` is in the future",
    CredentialCause.INVALID_CLAIM: "`exp` is missing, or a registered claim has the wrong type",
    CredentialCause.NO_SUBJECT: "`subject_claim` is missing, or is not text",
}
"""When each cause applies, for the docs."""
