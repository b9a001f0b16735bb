"""Rate limits that each Envoy enforces alone (local_ratelimit): listener, models, model types.

All buckets belong to the virtual host. So the models of a type share one bucket, and new limits
apply to open connections at once. A change of the route configuration fills all buckets.
"""

from envoy_data_plane.envoy.config.core.v3 import Metadata, RuntimeFractionalPercent
from envoy_data_plane.envoy.config.route.v3 import (
    RateLimit,
    RateLimitAction,
    RateLimitActionMetaData,
    RateLimitActionMetaDataSource,
)
from envoy_data_plane.envoy.extensions.common.ratelimit.v3 import (
    LocalRateLimitDescriptor,
    RateLimitDescriptorEntry,
)
from envoy_data_plane.envoy.extensions.filters.http.local_ratelimit.v3 import LocalRateLimit
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.type.metadata.v3 import MetadataKey, MetadataKeyPathSegment
from envoy_data_plane.envoy.type.v3 import FractionalPercent
from envoy_data_plane.envoy.type.v3 import TokenBucket as EnvoyBucket
from envoy_data_plane.google.protobuf import Any as PackedMessage
from envoy_data_plane.google.protobuf import Struct, Value

from sluice.config import GatewayConfig, Model
from sluice.config.limits import LocalLimit
from xds.resources.messages import header, pack, seconds

FILTER_NAME = "envoy.filters.http.local_ratelimit"
STAT_PREFIX = "listener"
METADATA = "sluice"
MODEL = "model"
MODEL_TYPE = "model_type"

UNLIMITED = LocalLimit(rate=10_000_000, burst=10_000_000)
"""A limit that is never reached. Envoy requires a bucket for requests that match no descriptor."""


def http_filter(_: GatewayConfig) -> HttpFilter:
    """The filter, which has no bucket: the buckets belong to the virtual host."""
    return HttpFilter(name=FILTER_NAME, typed_config=pack(LocalRateLimit(stat_prefix=STAT_PREFIX)))


def virtual_host_config(config: GatewayConfig) -> dict[str, PackedMessage]:
    """The virtual host's typed_per_filter_config."""
    limits = config.limits
    buckets = [
        *(((MODEL, name), bucket) for name, bucket in limits.models.items()),
        *(((MODEL_TYPE, name), bucket) for name, bucket in limits.model_types.items()),
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
        rate_limits=[_descriptor(MODEL), _descriptor(MODEL_TYPE)] if buckets else [],
        filter_enabled=_always(),
        filter_enforced=_always(),
        # A request that matches a descriptor takes a token from the listener's bucket, too.
        always_consume_default_token_bucket=True,
        response_headers_to_add=[header("retry-after", "1")],
        rate_limited_as_resource_exhausted=True,
    )
    return {FILTER_NAME: pack(limit)}


def metadata(name: str, model: Model) -> Metadata:
    """The metadata of a route: the model and its type, from which Envoy builds descriptors."""
    entries = {MODEL: name} if model.type is None else {MODEL: name, MODEL_TYPE: model.type}
    values = {key: Value(string_value=value) for key, value in entries.items()}
    return Metadata(filter_metadata={METADATA: Struct(fields=values)})


def _descriptor(key: str) -> RateLimit:
    """A descriptor with the value of a key in the route's metadata; none if the key is missing."""
    return RateLimit(
        actions=[
            RateLimitAction(
                metadata=RateLimitActionMetaData(
                    descriptor_key=key,
                    metadata_key=MetadataKey(key=METADATA, path=[MetadataKeyPathSegment(key=key)]),
                    source=RateLimitActionMetaDataSource.ROUTE_ENTRY,
                    skip_if_absent=True,
                )
            )
        ]
    )


def _bucket(bucket: LocalLimit) -> EnvoyBucket:
    return EnvoyBucket(
        max_tokens=bucket.burst, tokens_per_fill=bucket.rate, fill_interval=seconds(1)
    )


def _always() -> RuntimeFractionalPercent:
    return RuntimeFractionalPercent(default_value=FractionalPercent(numerator=100))
