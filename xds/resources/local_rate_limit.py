"""Rate limits that each Envoy enforces alone (local_ratelimit): listener, models, model types.

All buckets belong to the virtual host. So the models of a type share one bucket, and new limits
apply to open connections at once. A change of the route configuration fills all buckets.

Each limit has a bucket for all clients, and a smaller bucket for each client address. Envoy takes
tokens from the slowest bucket first, and a refusal takes no tokens from the buckets after it. So an
address that exceeds its share takes no tokens from the bucket of all clients.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from envoy_data_plane.envoy.config.core.v3 import Metadata, RuntimeFractionalPercent
from envoy_data_plane.envoy.config.route.v3 import (
    RateLimit,
    RateLimitAction,
    RateLimitActionMaskedRemoteAddress,
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
from sluice.config.limits import Limits, LocalLimit
from xds.resources.messages import header, pack, seconds

FILTER_NAME = "envoy.filters.http.local_ratelimit"
STAT_PREFIX = "listener"
METADATA = "sluice"
MODEL = "model"
MODEL_LIMIT = "model_limit"
MODEL_TYPE = "model_type"
MODEL_TYPE_LIMIT = "model_type_limit"
ADDRESS = "masked_remote_address"
"""The key that Envoy gives to the descriptor entry of a client address."""

IPV6_NETWORK = 64
"""Prefix length of the IPv6 addresses that count as one: one client can use a whole /64."""

MAX_ADDRESS_BUCKETS = 32_768
"""Maximum number of buckets of addresses, which bounds Envoy's memory.

If there are more, Envoy removes the bucket that was unused for the longest time. The address of a
removed bucket starts with a full bucket.
"""

UNLIMITED = LocalLimit(rate=10_000_000, burst=10_000_000)
"""A limit that is never reached. Envoy requires a bucket for requests that match no descriptor."""


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """The limits of a model and of its type."""

    model: LocalLimit | None = None
    model_type: LocalLimit | None = None


def model_limits(limits: Limits, name: str, model: Model) -> ModelLimits:
    """The limits that apply to the requests for a model."""
    return ModelLimits(
        limits.models.get(name), limits.model_types.get(model.type) if model.type else None
    )


def http_filter(_: GatewayConfig) -> HttpFilter:
    """The filter, which has no bucket: the buckets belong to the virtual host."""
    return HttpFilter(name=FILTER_NAME, typed_config=pack(LocalRateLimit(stat_prefix=STAT_PREFIX)))


def virtual_host_config(config: GatewayConfig) -> dict[str, PackedMessage]:
    """The virtual host's typed_per_filter_config."""
    limits = config.limits
    if not (limits.listener or limits.models or limits.model_types):
        return {}
    shares = list(_shares(limits))
    limit = LocalRateLimit(
        stat_prefix=STAT_PREFIX,
        token_bucket=_bucket(limits.listener or UNLIMITED),
        descriptors=[*shares, *_totals(limits)],
        rate_limits=list(_rate_limits(limits)),
        max_dynamic_descriptors=max(1, MAX_ADDRESS_BUCKETS // len(shares)) if shares else None,
        filter_enabled=_always(),
        filter_enforced=_always(),
        # A request that matches a descriptor takes a token from the listener's bucket, too.
        always_consume_default_token_bucket=True,
        response_headers_to_add=[header("retry-after", "1")],
        rate_limited_as_resource_exhausted=True,
    )
    return {FILTER_NAME: pack(limit)}


def metadata(name: str, model: Model, limits: ModelLimits) -> Metadata:
    """The metadata of a model's routes, from which Envoy builds descriptors."""
    entries = {MODEL: name, MODEL_TYPE: model.type}
    if limits.model is not None:
        entries[MODEL_LIMIT] = _limit_text(limits.model)
    if limits.model_type is not None:
        entries[MODEL_TYPE_LIMIT] = _limit_text(limits.model_type)
    values = {key: Value(string_value=value) for key, value in entries.items() if value is not None}
    return Metadata(filter_metadata={METADATA: Struct(fields=values)})


_LIMIT_KEYS: Final = {MODEL: MODEL_LIMIT, MODEL_TYPE: MODEL_TYPE_LIMIT}
"""The metadata keys of the limits of models and model types."""


def _limits_by_name(limits: Limits) -> dict[str, dict[str, LocalLimit]]:
    return {MODEL: limits.models, MODEL_TYPE: limits.model_types}


def _totals(limits: Limits) -> Iterator[LocalRateLimitDescriptor]:
    """The buckets of models and model types for all clients. The listener's is the default."""
    for key, by_name in _limits_by_name(limits).items():
        for name, limit in by_name.items():
            yield _descriptor(limit, (key, name))


def _shares(limits: Limits) -> Iterator[LocalRateLimitDescriptor]:
    """The buckets of each client address. An entry without a value matches all values.

    Models with equal limits share a descriptor (but not buckets), because Envoy compares each
    request with all descriptors that have an entry without a value.
    """
    if limits.address_share == 1:
        return
    if limits.listener is not None:
        yield _descriptor(limits.listener, (ADDRESS, ""), share=limits.address_share)
    for key, by_name in _limits_by_name(limits).items():
        for limit in dict.fromkeys(by_name.values()):
            entries = ((_LIMIT_KEYS[key], _limit_text(limit)), (key, ""), (ADDRESS, ""))
            yield _descriptor(limit, *entries, share=limits.address_share)


def _rate_limits(limits: Limits) -> Iterator[RateLimit]:
    """How Envoy builds the descriptors of a request. It omits those with an absent entry."""
    shared = limits.address_share < 1
    if shared and limits.listener is not None:
        yield RateLimit(actions=[_client_address()])
    for key, by_name in _limits_by_name(limits).items():
        if by_name and shared:
            entries = [_route_metadata(_LIMIT_KEYS[key]), _route_metadata(key)]
            yield RateLimit(actions=[*entries, _client_address()])
        if by_name:
            yield RateLimit(actions=[_route_metadata(key)])


def _descriptor(
    limit: LocalLimit, *entries: tuple[str, str], share: float = 1.0
) -> LocalRateLimitDescriptor:
    return LocalRateLimitDescriptor(
        entries=[RateLimitDescriptorEntry(key=key, value=value) for key, value in entries],
        token_bucket=_bucket(limit, share),
    )


def _limit_text(limit: LocalLimit) -> str:
    return f"{limit.rate}/{limit.burst}"


def _client_address() -> RateLimitAction:
    """The client's address: that of the connection, or of X-Forwarded-For with trusted hops."""
    return RateLimitAction(
        masked_remote_address=RateLimitActionMaskedRemoteAddress(v6_prefix_mask_len=IPV6_NETWORK)
    )


def _route_metadata(key: str) -> RateLimitAction:
    """The value of a key in the route's metadata."""
    return RateLimitAction(
        metadata=RateLimitActionMetaData(
            descriptor_key=key,
            metadata_key=MetadataKey(key=METADATA, path=[MetadataKeyPathSegment(key=key)]),
            source=RateLimitActionMetaDataSource.ROUTE_ENTRY,
        )
    )


def _bucket(limit: LocalLimit, share: float = 1.0) -> EnvoyBucket:
    # The longer interval, and not fewer tokens, reduces the rate: so it has no rounding error.
    return EnvoyBucket(
        max_tokens=max(1, int(limit.burst * share)),
        tokens_per_fill=limit.rate,
        fill_interval=seconds(1 / share),
    )


def _always() -> RuntimeFractionalPercent:
    return RuntimeFractionalPercent(default_value=FractionalPercent(numerator=100))
