"""The filter that verifies tokens for native routes (jwt_authn), and the headers that it sets.

It refuses nothing: a request without a valid token goes on without the headers with claims, so that
no native route for callers with a token admits it, and the callout decides.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import floor
from typing import Final, Self

from envoy_data_plane.envoy.config.core.v3 import DataSource
from envoy_data_plane.envoy.extensions.filters.http.jwt_authn.v3 import (
    JwtAuthentication,
    JwtCacheConfig,
    JwtClaimToHeader,
    JwtHeader,
    JwtProvider,
)

from protos.route_pb2 import Route
from sluice.config import GatewayConfig
from sluice.config.auth import Auth, JwtIssuer
from sluice.config.placement import issuer_obstacle
from sluice.contract import headers
from sluice.contract.names import JWT_FILTER
from sluice.keys.key_set import KeySet
from xds.resources import proto_messages, token_headers
from xds.resources.extensions import verifying
from xds.resources.key_sets import TOKEN_PATTERN, envoy_key_set
from xds.resources.native.conditions import BEARER, Callers, NativeIssuer

MAX_CACHED_TOKEN = 8192
"""Bytes of a token in the cache of the filter. A longer token is verified for each request."""


FETCHED_TTL = 30.0
"""Seconds for which Envoy uses fetched key sets without a word from the control plane. A control
plane that only restarts takes less."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """How callers identify themselves, as far as Envoy can verify it.

    `issuers` are those whose tokens Envoy could verify if it had their keys, `key_sets` the keys of
    those that have some.
    """

    auth: Auth
    issuers: tuple[JwtIssuer, ...]
    key_sets: dict[str, str]

    @classmethod
    def of(cls, auth: Auth, fetched: Mapping[str, KeySet]) -> Self:
        """The tokens of the issuers of a policy. `fetched`: the key sets of each `jwks_uri`."""
        issuers = tuple(each for each in auth.issuers if not issuer_obstacle(each))
        known = {each.issuer: KeySet.parse(each.jwks) for each in issuers if each.jwks is not None}
        known |= {each.issuer: fetched[each.issuer] for each in issuers if each.issuer in fetched}
        key_sets = {
            each.issuer: keys
            for each in issuers
            if each.issuer in known
            and (keys := envoy_key_set(known[each.issuer], each.algorithms)) is not None
        }
        return cls(auth, issuers, key_sets)

    @property
    def ttl(self) -> float | None:
        """Seconds for which Envoy may use the key sets by itself; None if there is no limit.

        Fetched key sets may have been revoked, and only the control plane learns that.
        """
        used = (each for each in self.issuers if each.issuer in self.key_sets)
        return FETCHED_TTL if any(each.jwks_uri is not None for each in used) else None

    @property
    def group_claims(self) -> tuple[str, ...]:
        """The claims that contain the groups of callers, each once."""
        return tuple(dict.fromkeys(issuer.group_claim for issuer in self.issuers))


def filter_config(tokens: Tokens, claims: Iterable[str]) -> JwtAuthentication:
    """The config of the filter. `claims`: those that native routes read."""
    return verifying(
        {issuer: provider for issuer, (provider, _) in _providers(tokens, claims).items()}
    )


def callers(tokens: Tokens, claims: Iterable[str]) -> Callers:
    """What the conditions of native routes depend on. `claims`: those that native routes read."""
    providers = _providers(tokens, claims)
    issuers = tuple(
        NativeIssuer(
            providers[each.issuer][1] if each.issuer in providers else _NO_AUDIENCE, each.audiences
        )
        for each in tokens.issuers
    )
    return Callers(tokens.auth.api_key_header, issuers, TOKEN_PATTERN)


_NO_AUDIENCE: Final = token_headers.audience(b"")
"""The header of issuers without keys. No request has it."""


def remote_issuers(config: GatewayConfig) -> tuple[JwtIssuer, ...]:
    """The issuers whose key sets must be fetched for native routes."""
    placements = {model.placement or config.placement for model in config.models.values()}
    if "auto" not in placements:
        return ()
    found = (each for each in config.auth.issuers if each.jwks_uri is not None)
    return tuple(each for each in found if not issuer_obstacle(each))


def omit(route: Route) -> None:
    """Envoy omits the filter from requests with this route, which need no token of it."""
    route.typed_per_filter_config[JWT_FILTER].CopyFrom(proto_messages.disabled())


def removed_credentials(auth: Auth) -> tuple[str, ...]:
    """The request headers of a client's credentials that must not reach a model server."""
    return () if auth.forward_credentials else (*headers.CREDENTIALS, auth.api_key_header)


def _providers(tokens: Tokens, claims: Iterable[str]) -> Mapping[str, tuple[JwtProvider, str]]:
    """The provider of each issuer that has keys, and the header with the audience of its tokens."""
    copied = list(claims)
    found = {}
    for issuer in tokens.issuers:
        if issuer.issuer in tokens.key_sets:
            provider = _provider(issuer, tokens.key_sets[issuer.issuer], tokens.auth, copied)
            header = token_headers.audience(bytes(provider))
            provider.claim_to_headers.append(JwtClaimToHeader(header_name=header, claim_name="aud"))
            found[issuer.issuer] = provider, header
    return found


def _provider(issuer: JwtIssuer, key_set: str, auth: Auth, claims: list[str]) -> JwtProvider:
    """The provider of one issuer, without the header for the audience, whose name depends on it.

    It compares no audience, because it ignores the scheme and the last slash of an audience: the
    conditions of native routes compare it.
    """
    copied = {
        token_headers.SUBJECT: issuer.subject_claim,
        token_headers.groups(issuer.group_claim): issuer.group_claim,
        **{token_headers.claim(claim): claim for claim in claims},
    }
    return JwtProvider(
        issuer=issuer.issuer,
        local_jwks=DataSource(inline_string=key_set),
        # Without these, the filter also takes tokens from the query.
        from_headers=[JwtHeader(name=headers.AUTHORIZATION, value_prefix=BEARER)],
        forward=True,
        require_expiration=True,
        # Envoy admits a token up to the end of the second in which it expires.
        clock_skew_seconds=floor(issuer.leeway) - 1,
        claim_to_headers=[
            JwtClaimToHeader(header_name=name, claim_name=claim) for name, claim in copied.items()
        ],
        clear_route_cache=True,
        jwt_cache_config=JwtCacheConfig(
            jwt_cache_size=auth.token_cache_entries, jwt_max_token_size=MAX_CACHED_TOKEN
        )
        if auth.token_cache_entries
        else None,
    )
