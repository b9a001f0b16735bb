"""Rate limits that each Envoy enforces alone (local_ratelimit): listener, models, model types.

Each limit has a bucket for all clients, and a smaller bucket for each client address. Each kind of
bucket has a filter of its own, so that a refusal can name the limit. The filters of addresses come
first, and a refusal takes no tokens from the buckets of the filters after it. So an address that
exceeds its share takes no tokens from the bucket of all clients.

The buckets belong to the config of the filter, which travels by itself (ECDS). A change of it fills
the buckets of one kind, also those whose limits are the same. Buckets of routes or of the virtual
host would be filled by every change of the route configuration, such as that of a percentage. All
threads of an Envoy share the buckets, and new limits apply to open connections at once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from envoy_data_plane.envoy.config.core.v3 import ConfigSource, ExtensionConfigSource
from envoy_data_plane.envoy.extensions.filters.http.local_ratelimit.v3 import (
    LocalRateLimit as LocalRateLimitFilter,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from google.protobuf.any_pb2 import Any as PackedMessage

from protos.core_pb2 import (
    FractionalPercent,
    Metadata,
    RuntimeFractionalPercent,
    TokenBucket,
    TypedExtensionConfig,
)
from protos.http_filters_pb2 import LocalRateLimit, LocalRateLimitDescriptor, RateLimit
from protos.matcher_pb2 import MetadataKey
from sluice.config import Model
from sluice.config.limits import Limits, LocalLimit
from sluice.contract import headers, names
from xds.resources.data_plane_messages import of_protos, pack
from xds.resources.proto_messages import enabled, extension, from_ads, header, seconds, uint32

FILTER_NAME = "envoy.filters.http.local_ratelimit"
METADATA = "sluice"
MODEL = "model"
MODEL_LIMIT = "model_limit"
MODEL_TYPE = "model_type"
MODEL_TYPE_LIMIT = "model_type_limit"
ADDRESS = "masked_remote_address"
"""The key that Envoy gives to the descriptor entry of a client address."""

IPV6_NETWORK = 64
"""Prefix length of the IPv6 addresses that count as one: one client can use a whole /64."""

MAX_LISTENER_ADDRESSES = 16_384
MAX_MODEL_ADDRESSES = 8_192
MAX_MODEL_TYPE_ADDRESSES = 8_192
"""Maximum numbers of buckets of addresses, which bound Envoy's memory.

If there are more, Envoy removes the bucket that was unused for the longest time. The address of a
removed bucket starts with a full bucket. Each kind of limit has a maximum of its own, so that an
edit of one kind does not fill the buckets of another.
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


def http_filters() -> list[HttpFilter]:
    """The places of the filters. The listener waits for their configs.

    The virtual host enables the filters that have buckets, and Envoy omits the others from a
    request. The listener has all filters, because a change of the listener would close all
    connections.
    """
    source = ExtensionConfigSource(
        config_source=of_protos(ConfigSource, from_ads()),
        type_urls=[pack(LocalRateLimitFilter()).type_url],
    )
    return [HttpFilter(name=each.name, config_discovery=source, disabled=True) for each in _FILTERS]


def filter_configs(limits: Limits) -> dict[str, TypedExtensionConfig]:
    """The configs of all filters by their names, with the buckets."""
    return {each.name: extension(each.name, _local_rate_limit(each, limits)) for each in _FILTERS}


def virtual_host_config(limits: Limits) -> dict[str, PackedMessage]:
    """The virtual host's typed_per_filter_config: enables the filters that have buckets."""
    return {each.name: enabled() for each in _FILTERS if each.buckets(limits) is not None}


@dataclass(frozen=True, slots=True)
class _Buckets:
    """The buckets of one filter. `default` is for all requests, in addition to `descriptors`."""

    default: LocalLimit
    descriptors: list[LocalRateLimitDescriptor]
    actions: list[RateLimit.Action]
    """Builds the descriptor of a request. Envoy omits a descriptor with an absent entry."""


@dataclass(frozen=True, slots=True)
class _Filter:
    """A filter of one kind of bucket. `limit` is the name of the limit, as an Envoy format."""

    kind: str
    limit: str
    buckets: Callable[[Limits], _Buckets | None]
    max_addresses: int = 0
    """Maximum number of buckets of addresses."""

    @property
    def name(self) -> str:
        return f"{FILTER_NAME}.{self.kind}"


def _local_rate_limit(each: _Filter, limits: Limits) -> LocalRateLimit:
    buckets = each.buckets(limits)
    if buckets is None:
        return LocalRateLimit(stat_prefix=each.kind)
    # The maximum applies to each descriptor.
    max_addresses = max(1, each.max_addresses // max(1, len(buckets.descriptors)))
    return LocalRateLimit(
        stat_prefix=each.kind,
        token_bucket=_bucket(buckets.default),
        descriptors=buckets.descriptors,
        rate_limits=[RateLimit(actions=buckets.actions)] if buckets.actions else [],
        max_dynamic_descriptors=uint32(max_addresses),
        filter_enabled=_always(),
        filter_enforced=_always(),
        response_headers_to_add=[header("retry-after", "1"), header(headers.LIMIT, each.limit)],
        rate_limited_as_resource_exhausted=True,
    )


def metadata(name: str, model: Model, limits: ModelLimits) -> Metadata:
    """The metadata of a model's routes, from which Envoy builds descriptors."""
    entries = {MODEL: name, MODEL_TYPE: model.type}
    if limits.model is not None:
        entries[MODEL_LIMIT] = _limit_text(limits.model)
    if limits.model_type is not None:
        entries[MODEL_TYPE_LIMIT] = _limit_text(limits.model_type)
    message = Metadata()
    fields = message.filter_metadata[METADATA].fields
    for key, value in entries.items():
        if value is not None:
            fields[key].string_value = value
    return message


_LIMIT_KEYS: Final = {MODEL: MODEL_LIMIT, MODEL_TYPE: MODEL_TYPE_LIMIT}
"""The metadata keys of the limits of models and model types."""


def _listener(limits: Limits) -> _Buckets | None:
    return None if limits.listener is None else _Buckets(limits.listener, [], [])


def _listener_share(limits: Limits) -> _Buckets | None:
    if limits.listener is None or limits.address_share == 1:
        return None
    share = _descriptor(limits.listener, (ADDRESS, ""), share=limits.address_share)
    return _Buckets(UNLIMITED, [share], [_client_address()])


def _totals(key: str, by_name: Mapping[str, LocalLimit]) -> _Buckets | None:
    """The buckets of models or model types for all clients."""
    descriptors = [_descriptor(limit, (key, name)) for name, limit in by_name.items()]
    return _Buckets(UNLIMITED, descriptors, [_route_metadata(key)]) if descriptors else None


def _shares(key: str, by_name: Mapping[str, LocalLimit], share: float) -> _Buckets | None:
    """The buckets of each client address. An entry without a value matches all values.

    Models with equal limits share a descriptor (but not buckets), because Envoy compares each
    request with all descriptors that have an entry without a value.
    """
    if not by_name or share == 1:
        return None
    limit_key = _LIMIT_KEYS[key]
    descriptors = [
        _descriptor(limit, (limit_key, _limit_text(limit)), (key, ""), (ADDRESS, ""), share=share)
        for limit in dict.fromkeys(by_name.values())
    ]
    actions = [_route_metadata(limit_key), _route_metadata(key), _client_address()]
    return _Buckets(UNLIMITED, descriptors, actions)


_MODEL_NAME: Final = names.model_limit(f"%METADATA(ROUTE:{METADATA}:{MODEL})%")
_MODEL_TYPE_NAME: Final = names.model_type_limit(f"%METADATA(ROUTE:{METADATA}:{MODEL_TYPE})%")

_FILTERS: Final = (
    _Filter(
        "listener_address",
        names.address_share(names.LISTENER_LIMIT),
        _listener_share,
        MAX_LISTENER_ADDRESSES,
    ),
    _Filter(
        "model_address",
        names.address_share(_MODEL_NAME),
        lambda limits: _shares(MODEL, limits.models, limits.address_share),
        MAX_MODEL_ADDRESSES,
    ),
    _Filter(
        "model_type_address",
        names.address_share(_MODEL_TYPE_NAME),
        lambda limits: _shares(MODEL_TYPE, limits.model_types, limits.address_share),
        MAX_MODEL_TYPE_ADDRESSES,
    ),
    _Filter("model", _MODEL_NAME, lambda limits: _totals(MODEL, limits.models)),
    _Filter("model_type", _MODEL_TYPE_NAME, lambda limits: _totals(MODEL_TYPE, limits.model_types)),
    _Filter("listener", names.LISTENER_LIMIT, _listener),
)
"""The filters in order. `kind` is also the prefix of the filter's statistics in Envoy."""


def _descriptor(
    limit: LocalLimit, *entries: tuple[str, str], share: float = 1.0
) -> LocalRateLimitDescriptor:
    return LocalRateLimitDescriptor(
        entries=[LocalRateLimitDescriptor.Entry(key=key, value=value) for key, value in entries],
        token_bucket=_bucket(limit, share),
    )


def _limit_text(limit: LocalLimit) -> str:
    return f"{limit.rate}/{limit.burst}"


def _client_address() -> RateLimit.Action:
    """The client's address: that of the connection, or of X-Forwarded-For with trusted hops."""
    return RateLimit.Action(
        masked_remote_address=RateLimit.Action.MaskedRemoteAddress(
            v6_prefix_mask_len=uint32(IPV6_NETWORK)
        )
    )


def _route_metadata(key: str) -> RateLimit.Action:
    """The value of a key in the route's metadata."""
    return RateLimit.Action(
        metadata=RateLimit.Action.MetaData(
            descriptor_key=key,
            metadata_key=MetadataKey(key=METADATA, path=[MetadataKey.PathSegment(key=key)]),
            source=RateLimit.Action.MetaData.ROUTE_ENTRY,
        )
    )


def _bucket(limit: LocalLimit, share: float = 1.0) -> TokenBucket:
    # The longer interval, and not fewer tokens, reduces the rate: so it has no rounding error.
    return TokenBucket(
        max_tokens=max(1, int(limit.burst * share)),
        tokens_per_fill=uint32(limit.rate),
        fill_interval=seconds(1 / share),
    )


def _always() -> RuntimeFractionalPercent:
    return RuntimeFractionalPercent(default_value=FractionalPercent(numerator=100))
