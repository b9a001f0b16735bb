"""Headers with secrets for the endpoints of a version, which upstream filters add.

The filters belong to the cluster of the version, so no other version gets the headers. They see a
request after all other filters, so nothing that reads a client's headers sees the secrets.
"""

from functools import cache
from typing import Final

from envoy_data_plane.envoy.extensions.filters.http.upstream_codec.v3 import UpstreamCodec
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpFilter as EnvoyFilter,
)

from protos.cluster_pb2 import HttpFilter
from protos.tls_pb2 import CredentialInjector, GenericCredential
from sluice.config import Version
from xds.resources import header_mutations
from xds.resources.data_plane_messages import pack as pack_data_plane
from xds.resources.proto_messages import extension, pack
from xds.resources.secrets import header_name, secret_from_ads

GENERIC: Final = "envoy.http.injected_credentials.generic"


def upstream_codec() -> EnvoyFilter:
    """The last upstream filter, which sends the request."""
    return EnvoyFilter(
        name="envoy.filters.http.upstream_codec", typed_config=pack_data_plane(UpstreamCodec())
    )


def upstream_filters(cluster: str, version: Version) -> list[HttpFilter]:
    """The upstream filters of a version with secret headers; none for other versions.

    A cluster with filters does not use those of the router.
    """
    injected = [_injector(cluster, name) for name in version.headers_from_secret]
    if not injected:
        return []
    mutations, codec = _common_filters()
    return [mutations, *injected, codec]


@cache
def _common_filters() -> tuple[HttpFilter, HttpFilter]:
    """The upstream filters that every version has."""
    mutations, codec = (
        HttpFilter.FromString(bytes(each))
        for each in (header_mutations.at_model_server(), upstream_codec())
    )
    return mutations, codec


def _injector(cluster: str, header: str) -> HttpFilter:
    """Sets the header, or refuses the request if the secret is missing."""
    credential = GenericCredential(
        credential=secret_from_ads(header_name(cluster, header)), header=header
    )
    injector = CredentialInjector(overwrite=True, credential=extension(GENERIC, credential))
    return HttpFilter(
        name=f"envoy.filters.http.credential_injector.{header}", typed_config=pack(injector)
    )
