"""What an Envoy admits by itself (local_ratelimit): for the listener, each model, each model type.

All buckets hang on the virtual host, not on routes and not on the listener: the models of a type
share one bucket, and new numbers reach open connections at once. A change of routes fills the
buckets anew.
"""

from collections.abc import Iterator

from envoy_data_plane.envoy.config.core.v3 import RuntimeFractionalPercent
from envoy_data_plane.envoy.extensions.common.ratelimit.v3 import (
    LocalRateLimitDescriptor,
    RateLimitDescriptorEntry,
)
from envoy_data_plane.envoy.extensions.filters.http.local_ratelimit.v3 import LocalRateLimit
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.type.v3 import FractionalPercent
from envoy_data_plane.envoy.type.v3 import TokenBucket as EnvoyBucket
from envoy_data_plane.google.protobuf import Any as PackedMessage

from sluice.config import GatewayConfig, Model
from sluice.config.limits import TokenBucket
from xds.resources.messages import header, pack, seconds

FILTER_NAME = "envoy.filters.http.local_ratelimit"
STAT_PREFIX = "listener"

UNLIMITED = TokenBucket(rate=10_000_000, burst=10_000_000)
"""Envoy demands a bucket for what no descriptor matches; this one is never empty."""


def http_filter() -> HttpFilter:
    """The filter, which without a bucket of its own only does what the virtual host says."""
    return HttpFilter(name=FILTER_NAME, typed_config=pack(LocalRateLimit(stat_prefix=STAT_PREFIX)))


def per_route(config: GatewayConfig) -> dict[str, PackedMessage]:
    """The virtual host's typed_per_filter_config."""
    limits = config.limits
    buckets = [
        *((("model", name), bucket) for name, bucket in limits.models.items()),
        *((("model_type", name), bucket) for name, bucket in limits.model_types.items()),
    ]
    if limits.listener is None and not buckets:
        return {}
    limit = LocalRateLimit(
        stat_prefix=STAT_PREFIX,
        token_bucket=_bucket(limits.listener or UNLIMITED),
        descriptors=[
            LocalRateLimitDescriptor(
                entries=[RateLimitDescriptorEntry(key=key, value=value)],
                token_bucket=_bucket(bucket),
            )
            for (key, value), bucket in buckets
        ],
        filter_enabled=_always(),
        filter_enforced=_always(),
        # A request of a model counts against the listener's bucket as well.
        always_consume_default_token_bucket=True,
        response_headers_to_add=[header("retry-after", "1")],
        rate_limited_as_resource_exhausted=True,
    )
    return {FILTER_NAME: pack(limit)}


def descriptors(name: str, model: Model, config: GatewayConfig) -> Iterator[tuple[str, str]]:
    """The (key, value) pairs that a model's requests carry, for buckets that exist."""
    if name in config.limits.models:
        yield "model", name
    if model.type is not None and model.type in config.limits.model_types:
        yield "model_type", model.type


def _bucket(bucket: TokenBucket) -> EnvoyBucket:
    return EnvoyBucket(
        max_tokens=bucket.burst, tokens_per_fill=bucket.rate, fill_interval=seconds(1)
    )


def _always() -> RuntimeFractionalPercent:
    return RuntimeFractionalPercent(default_value=FractionalPercent(numerator=100))
