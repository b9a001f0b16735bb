"""Identifies callers by their credentials, and caches verified tokens until they expire."""

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from extproc.auth.errors import CredentialsError
from extproc.auth.identity import ANONYMOUS, Identity
from extproc.auth.tokens import TokenVerifier
from sluice.config import ApiKey, Auth, JwtIssuer
from sluice.contract.causes import CredentialCause
from sluice.keys.key_set import KeySet

MAX_API_KEY = 512
"""Maximum bytes of an API key. Real keys are shorter, and hashing is fast up to this length."""

MAX_CACHED_TOKEN = 8192
"""Maximum bytes of a token in the cache, which bounds its memory. Tokens with many groups are
shorter."""


@dataclass(frozen=True, slots=True)
class FetchedKeySet:
    """The state of an issuer's key set from a `jwks_uri`.

    `usable`: it has been fetched and has not expired. `age`: seconds since the last successful
    fetch; None before the first. `failure`: the cause, if the latest fetch has failed.
    """

    issuer: str
    usable: bool
    age: float | None
    failure: str | None


class Authenticator:
    """Identifies callers by the policy's `auth` section.

    Raises KeySetError if a key set is not valid. The fetched key sets of `previous` stay in use for
    issuers with the same `jwks_uri`. Otherwise, all tokens of these issuers would be refused until
    the key sets are fetched again.
    """

    def __init__(self, auth: Auth, previous: "Authenticator | None" = None) -> None:
        self.auth = auth
        self._api_key_header = auth.api_key_header
        self._api_keys = {key.sha256: key for key in auth.api_keys}
        self._api_identities: dict[str, Identity] = {}
        """Identities of the API keys that have been used, by hash. They cache values of claims."""
        keys = {i.issuer: KeySet.parse(i.jwks) for i in auth.issuers if i.jwks is not None}
        self._verifier = TokenVerifier(auth.issuers, keys)
        if previous is not None:
            self._keep_fetched(previous)
        self._verified: OrderedDict[bytes, Identity] = OrderedDict()
        self._max_verified = auth.token_cache_entries
        self.hits = 0
        """Tokens that were in the cache."""
        self.misses = 0
        """Tokens that had to be verified."""
        self.key_generation = 0
        """Increases when keys change. Admissions of earlier generations are no longer valid."""

    def identify(self, headers: Mapping[str, bytes], now: float) -> Identity:
        """Identify the caller. `now`: seconds since the epoch.

        Returns ANONYMOUS for a request without credentials. Raises CredentialsError if credentials
        are not valid, or if the request has both a token and an API key.
        """
        authorization = headers.get("authorization")
        api_key = headers.get(self._api_key_header)
        if authorization is None:
            return ANONYMOUS if api_key is None else self._by_api_key(api_key)
        if api_key is not None:
            raise CredentialsError(
                "send a token or an API key, not both", CredentialCause.TWO_CREDENTIALS
            )
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            raise CredentialsError(
                "the authorization scheme is not Bearer", CredentialCause.WRONG_SCHEME
            )
        return self._by_token(token.strip(), now)

    def replace_keys(self, issuer: str, keys: KeySet, now: float) -> None:
        """Use this fetched key set for an issuer. Empties the cache of verified tokens.

        `now`: monotonic seconds at which the fetch was started.
        """
        self._verifier.keys[issuer] = keys
        self.confirm_keys(issuer, now)
        self._forget_verified()

    def confirm_keys(self, issuer: str, now: float) -> None:
        """Record that a fetch started at `now` has returned the key set that is in use."""
        self._verifier.fetched[issuer] = now
        self._verifier.failures.pop(issuer, None)

    def record_failure(self, issuer: str, cause: str) -> None:
        """Record that the latest fetch of an issuer's key set has failed."""
        self._verifier.failures[issuer] = cause

    def expire_keys(self, issuer: str) -> bool:
        """Use the fetched key set of an issuer no longer. Empties the cache of verified tokens.

        Returns whether the key set was in use.
        """
        if self._verifier.keys.pop(issuer, None) is None:
            return False
        self._forget_verified()
        return True

    def fetched_at(self, issuer: str) -> float | None:
        """When the last successful fetch of an issuer's key set was started, in monotonic seconds.

        None before the first one.
        """
        return self._verifier.fetched.get(issuer)

    @property
    def remote_issuers(self) -> list[JwtIssuer]:
        """The issuers with a `jwks_uri`."""
        return [each for each in self.auth.issuers if each.jwks_uri is not None]

    def fetched_key_sets(self, now: float) -> list[FetchedKeySet]:
        """The key sets of all issuers with a `jwks_uri`. `now`: monotonic seconds."""
        keys, fetched = self._verifier.keys, self._verifier.fetched
        return [
            FetchedKeySet(
                each.issuer,
                usable=each.issuer in keys,
                age=now - fetched[each.issuer] if each.issuer in fetched else None,
                failure=self._verifier.failures.get(each.issuer),
            )
            for each in self.remote_issuers
        ]

    def _forget_verified(self) -> None:
        self._verified.clear()
        self.key_generation += 1

    def _keep_fetched(self, previous: "Authenticator") -> None:
        """Continue with the fetched key sets of `previous`, for issuers with the same `jwks_uri`.

        Their ages continue too: a new policy must not renew them.
        """
        verifier, former = self._verifier, previous._verifier
        sources = {each.issuer: each.jwks_uri for each in previous.auth.issuers}
        for each in self.auth.issuers:
            name = each.issuer
            if each.jwks_uri is None or each.jwks_uri != sources.get(name):
                continue
            if name in former.keys:
                verifier.keys[name] = former.keys[name]
            if name in former.fetched:
                verifier.fetched[name] = former.fetched[name]
            if name in former.failures:
                verifier.failures[name] = former.failures[name]

    def _by_token(self, token: bytes, now: float) -> Identity:
        cached = self._verified.get(token)
        if cached is not None and now < cached.expires:
            self.hits += 1
            return cached
        self.misses += 1
        try:
            text = token.decode("ascii")
        except UnicodeDecodeError as error:
            raise CredentialsError(
                "the token is malformed: not ASCII", CredentialCause.MALFORMED
            ) from error
        identity = self._verifier.verify(text, now)
        if self._max_verified and len(token) <= MAX_CACHED_TOKEN:
            if len(self._verified) >= self._max_verified:
                self._verified.popitem(last=False)
            self._verified[token] = identity
        return identity

    def _by_api_key(self, api_key: bytes) -> Identity:
        if len(api_key) > MAX_API_KEY:
            raise _unknown_api_key()
        digest = hashlib.sha256(api_key).hexdigest()
        key: ApiKey | None = self._api_keys.get(digest)
        # A client cannot choose the hash of its key, so the duration of the lookup reveals nothing.
        # The comparison takes constant time as well.
        if key is None or not hmac.compare_digest(digest, key.sha256):
            raise _unknown_api_key()
        identity = self._api_identities.get(digest)
        if identity is None:
            identity = Identity(key.name, "api_key", frozenset(key.groups), dict(key.claims))
            self._api_identities[digest] = identity
        return identity


def _unknown_api_key() -> CredentialsError:
    return CredentialsError("the API key is not valid", CredentialCause.UNKNOWN_API_KEY)
