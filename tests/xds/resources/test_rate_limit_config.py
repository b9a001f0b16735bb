"""Descriptors in the config become RateLimitConfig resources."""

from protos.ratelimit_config_pb2 import MINUTE, UNKNOWN, RateLimitConfig
from sluice.config.load import loads
from xds.protocol.resource_types import RATE_LIMIT
from xds.resources.rate_limit_config import rate_limit_configs

CONFIG = """
limits:
  domains:
    models:
      descriptors:
        - key: subject
          descriptors:
            - key: model
              value: heavy
              shadow_mode: true
              detailed_metric: true
              quota_mode: true
              rate_limit: {unit: minute, requests_per_unit: 2, name: heavy, replaces: [light]}
        - key: trusted
          rate_limit: {unlimited: true}
    other:
      descriptors:
        - key: path
          rate_limit: {unit: week, requests_per_unit: 5}
"""


def test_each_domain_is_one_resource() -> None:
    found = rate_limit_configs(loads(CONFIG).limits.domains)
    assert list(found) == ["models", "other"]
    config = RateLimitConfig.FromString(found["models"])
    assert (config.name, config.domain) == ("models", "models")
    subject, trusted = config.descriptors
    (heavy,) = subject.descriptors
    assert not subject.HasField("rate_limit")
    assert (heavy.key, heavy.value) == ("model", "heavy")
    assert heavy.shadow_mode
    assert heavy.detailed_metric
    assert heavy.quota_mode
    assert (heavy.rate_limit.unit, heavy.rate_limit.requests_per_unit) == (MINUTE, 2)
    assert heavy.rate_limit.name == "heavy"
    assert [each.name for each in heavy.rate_limit.replaces] == ["light"]
    assert trusted.rate_limit.unlimited
    assert trusted.rate_limit.unit == UNKNOWN


def test_the_type_url_names_the_message() -> None:
    assert RATE_LIMIT.url.endswith("/" + RateLimitConfig.DESCRIPTOR.full_name)
