"""Filters that verify tokens, in snapshots."""

from envoy_data_plane.envoy.config.core.v3 import DataSource, TypedExtensionConfig
from envoy_data_plane.envoy.extensions.filters.http.jwt_authn.v3 import (
    JwtAuthentication,
    JwtProvider,
)

from sluice.contract.names import JWT_FILTER
from xds.protocol import resource_types
from xds.protocol.snapshot import Resource, Snapshot
from xds.resources.extensions import extension, verifying


def provider(issuer: str, keys: str) -> JwtProvider:
    return JwtProvider(issuer=issuer, local_jwks=DataSource(inline_string=keys))


def with_filter(
    routes: str, *providers: JwtProvider, version: str = "v1", ttl: float | None = None
) -> Snapshot:
    """A snapshot with these routes and a filter with these providers, by issuer."""
    config = verifying({each.issuer: each for each in providers})
    body = bytes(extension(JWT_FILTER, config))
    resources = {
        resource_types.EXTENSION: {JWT_FILTER: Resource.of(body, ttl=ttl)},
        resource_types.ROUTE: {"routes": Resource.of(routes.encode())},
    }
    return Snapshot.of(resources, version)


def providers_of(snapshot: Snapshot) -> dict[str, JwtProvider]:
    """The providers of the filter of a snapshot, by issuer."""
    body = snapshot.types[resource_types.EXTENSION].resources[JWT_FILTER].body
    packed = TypedExtensionConfig.parse(body).typed_config
    assert packed is not None
    return JwtAuthentication.parse(packed.value).providers
