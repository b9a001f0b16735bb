"""Filters whose config travels by itself (ECDS), and the place of such a filter in the listener.

Envoy reads the config of such a filter for each request, so a change takes effect on open
connections too. After a change of the listener, open connections keep their old filters until they
are drained.
"""

from typing import Final

import betterproto2
from envoy_data_plane.envoy.config.core.v3 import ExtensionConfigSource, TypedExtensionConfig
from envoy_data_plane.envoy.extensions.filters.http.jwt_authn.v3 import JwtAuthentication
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter

from sluice.contract.names import JWT_FILTER
from xds.resources.messages import from_ads, pack

NO_TOKENS: Final = JwtAuthentication()
"""Verifies no token and refuses no request, so that the callout decides every request."""


def jwt_filter() -> HttpFilter:
    """The place of the filter that verifies tokens for native routes.

    The listener does not wait for the filter's config, and without one no token is verified: before
    the first config, and after the TTL of the last one.
    """
    default = pack(NO_TOKENS)
    return HttpFilter(
        name=JWT_FILTER,
        config_discovery=ExtensionConfigSource(
            config_source=from_ads(),
            default_config=default,
            apply_default_config_without_warming=True,
            type_urls=[default.type_url],
        ),
    )


def extension(name: str, config: betterproto2.Message) -> TypedExtensionConfig:
    """The resource with the config of a filter."""
    return TypedExtensionConfig(name=name, typed_config=pack(config))
