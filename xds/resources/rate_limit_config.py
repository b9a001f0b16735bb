"""Configs of the rate limit service, for envoyproxy/ratelimit servers that read them over ADS.

One `ratelimit.config.ratelimit.v3.RateLimitConfig` for each domain.
"""

from collections.abc import Mapping

from protos import ratelimit_config_pb2 as pb
from sluice.config.rate_limit_service import Descriptor, RateLimitDomain, RateLimitPolicy


def rate_limit_configs(domains: Mapping[str, RateLimitDomain]) -> dict[str, bytes]:
    """The serialized config of each domain, by the domain's name."""
    return {
        name: pb.RateLimitConfig(
            name=name,
            domain=name,
            descriptors=[_descriptor(each) for each in domain.descriptors],
        ).SerializeToString(deterministic=True)
        for name, domain in domains.items()
    }


def _descriptor(config: Descriptor) -> pb.RateLimitDescriptor:
    return pb.RateLimitDescriptor(
        key=config.key,
        value=config.value,
        rate_limit=None if config.rate_limit is None else _policy(config.rate_limit),
        descriptors=[_descriptor(each) for each in config.descriptors],
        shadow_mode=config.shadow_mode,
        detailed_metric=config.detailed_metric,
        quota_mode=config.quota_mode,
    )


def _policy(config: RateLimitPolicy) -> pb.RateLimitPolicy:
    return pb.RateLimitPolicy(
        # The service rejects a policy that has both a unit and `unlimited`.
        unit="UNKNOWN" if config.unlimited else config.unit.upper(),
        requests_per_unit=config.requests_per_unit,
        unlimited=config.unlimited,
        name=config.name,
        replaces=[pb.RateLimitReplace(name=name) for name in config.replaces],
    )
