"""Credentials in headers to an identity, remembering verified tokens until they expire."""

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Mapping

from extproc.auth.errors import CredentialsError
from extproc.auth.identity import ANONYMOUS, Identity
from extproc.auth.tokens import TokenVerifier
from sluice.config import ApiKey, Auth, JwtIssuer
from sluice.keys.key_set import KeySet

MAX_API_KEY = 512


class Authenticator:
    """Made of the policy's `auth` section. Raises KeySetError where a key set cannot be read.

    Keys that `previous` has fetched stay where their issuer is configured as it was, so that a
    change elsewhere refuses nobody until they are fetched again.
    """

    def __init__(self, auth: Auth, previous: "Authenticator | None" = None) -> None:
        self.auth = auth
        self._api_key_header = auth.api_key_header
        self._api_keys = {key.sha256: key for key in auth.api_keys}
        keys = {} if previous is None else previous._fetched(auth.issuers)
        keys |= {i.issuer: KeySet.parse(i.jwks) for i in auth.issuers if i.jwks is not None}
        self._tokens = TokenVerifier(auth.issuers, keys)
        self._verified: OrderedDict[bytes, Identity] = OrderedDict()
        self._room = auth.token_cache_entries
        self.hits = 0
        """Tokens that were known from before."""
        self.misses = 0
        """Tokens that had to be verified."""
        self.epoch = 0
        """Counts changes of keys: what was verified in an earlier one is worth nothing."""

    def identify(self, headers: Mapping[str, bytes], now: float) -> Identity:
        """The caller; ANONYMOUS without credentials. `now`: seconds since the epoch.

        Raises CredentialsError for credentials that are not good, or two kinds at once.
        """
        authorization = headers.get("authorization")
        api_key = headers.get(self._api_key_header)
        if authorization is None:
            return ANONYMOUS if api_key is None else self._by_api_key(api_key)
        if api_key is not None:
            raise CredentialsError("send a token or an API key, not both")
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            raise CredentialsError("the authorization scheme is not Bearer")
        return self._by_token(token.strip(), now)

    def replace_keys(self, issuer: str, keys: KeySet) -> None:
        """Trust these keys of an issuer from now on, and none that it no longer has."""
        self._tokens.keys[issuer] = keys
        self._verified.clear()
        self.epoch += 1

    def _fetched(self, issuers: tuple[JwtIssuer, ...]) -> dict[str, KeySet]:
        """Key sets that came from where these issuers have theirs, too."""
        sources = {issuer.issuer: issuer.jwks_uri for issuer in self.auth.issuers}
        return {
            issuer.issuer: self._tokens.keys[issuer.issuer]
            for issuer in issuers
            if issuer.jwks_uri is not None
            and issuer.jwks_uri == sources.get(issuer.issuer)
            and issuer.issuer in self._tokens.keys
        }

    def _by_token(self, token: bytes, now: float) -> Identity:
        known = self._verified.get(token)
        if known is not None and now < known.expires:
            self.hits += 1
            return known
        self.misses += 1
        try:
            text = token.decode("ascii")
        except UnicodeDecodeError as error:
            raise CredentialsError("the token is malformed") from error
        identity = self._tokens.verify(text, now)
        if self._room:
            if len(self._verified) >= self._room:
                self._verified.popitem(last=False)
            self._verified[token] = identity
        return identity

    def _by_api_key(self, api_key: bytes) -> Identity:
        if len(api_key) > MAX_API_KEY:
            raise CredentialsError("the API key is not known")
        digest = hashlib.sha256(api_key).hexdigest()
        key: ApiKey | None = self._api_keys.get(digest)
        # Found by its hash, which a client cannot steer; compared in constant time all the same.
        if key is None or not hmac.compare_digest(digest, key.sha256):
            raise CredentialsError("the API key is not known")
        return Identity(key.name, "api_key", frozenset(key.groups), dict(key.claims))
