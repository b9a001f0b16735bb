"""The config files of envoyproxy/ratelimit, from the domains of a config."""

from collections.abc import Mapping

from sluice.config.rate_limit_service import Descriptor, RateLimitDomain, RateLimitPolicy

ServiceConfig = dict[str, object]


def service_configs(domains: Mapping[str, RateLimitDomain]) -> dict[str, ServiceConfig]:
    """The config file of each domain, as plain data."""
    return {
        name: {"domain": name, "descriptors": [_descriptor(each) for each in domain.descriptors]}
        for name, domain in domains.items()
    }


def _descriptor(descriptor: Descriptor) -> ServiceConfig:
    limit = descriptor.rate_limit
    return _without_defaults({
        "key": descriptor.key,
        "value": descriptor.value,
        "rate_limit": None if limit is None else _policy(limit),
        "shadow_mode": descriptor.shadow_mode,
        "quota_mode": descriptor.quota_mode,
        "detailed_metric": descriptor.detailed_metric,
        "descriptors": [_descriptor(each) for each in descriptor.descriptors],
    })  # fmt: skip


def _policy(policy: RateLimitPolicy) -> ServiceConfig:
    named = _without_defaults(
        {"name": policy.name, "replaces": [{"name": name} for name in policy.replaces]}
    )
    # The service rejects a policy that has both a unit and `unlimited`. A limit of 0 is a limit.
    if policy.unlimited:
        return {"unlimited": True, **named}
    return {"unit": policy.unit, "requests_per_unit": policy.requests_per_unit, **named}


def _without_defaults(members: ServiceConfig) -> ServiceConfig:
    return {name: value for name, value in members.items() if value}
