"""The buckets of the local limits. tests/integration/test_xds.py tests that Envoy enforces them."""

from datetime import timedelta
from typing import Any

import pytest
from envoy_data_plane.envoy.extensions.common.ratelimit.v3 import LocalRateLimitDescriptor
from envoy_data_plane.envoy.extensions.filters.http.local_ratelimit.v3 import LocalRateLimit

from sluice.config import GatewayConfig
from xds.resources import local_rate_limit

VERSIONS = {"v1": {"endpoints": [{"address": "127.0.0.1:9"}]}}
MODELS = {name: {"versions": VERSIONS, "type": "nlp"} for name in ("a", "b")}


def compiled(**limits: Any) -> LocalRateLimit | None:
    config = GatewayConfig.model_validate({"limits": limits, "models": MODELS})
    packed = local_rate_limit.virtual_host_config(config)
    return LocalRateLimit.parse(next(iter(packed.values())).value) if packed else None


def shares(limit: LocalRateLimit) -> list[LocalRateLimitDescriptor]:
    """The descriptors that have a bucket for each client address."""
    return [found for found in limit.descriptors if found.entries[-1].value == ""]


def test_without_limits_there_are_no_buckets() -> None:
    assert compiled(listener=None) is None


def test_the_bucket_of_an_address_is_smaller_and_slower_than_the_limit() -> None:
    limit = compiled(listener={"rate": 1, "burst": 2}, address_share=0.25)
    assert limit is not None
    (share,) = shares(limit)
    assert share.token_bucket is not None
    assert limit.token_bucket is not None
    assert (limit.token_bucket.max_tokens, limit.token_bucket.tokens_per_fill) == (2, 1)
    assert limit.token_bucket.fill_interval == timedelta(seconds=1)
    assert (share.token_bucket.max_tokens, share.token_bucket.tokens_per_fill) == (1, 1)
    assert share.token_bucket.fill_interval == timedelta(seconds=4)


def test_a_share_of_one_adds_no_buckets_of_addresses() -> None:
    bucket = {"rate": 10, "burst": 20}
    limit = compiled(listener=bucket, models={"a": bucket}, address_share=1)
    assert limit is not None
    assert shares(limit) == []
    assert [[action.masked_remote_address for action in each.actions] for each in
            limit.rate_limits] == [[None]]  # fmt: skip


def test_models_with_equal_limits_have_one_descriptor_for_addresses() -> None:
    equal, different = {"rate": 10, "burst": 20}, {"rate": 10, "burst": 21}
    limit = compiled(listener=None, models={"a": equal, "b": equal})
    assert limit is not None
    assert len(shares(limit)) == 1
    limit = compiled(listener=None, models={"a": equal, "b": different})
    assert limit is not None
    assert len(shares(limit)) == 2


@pytest.mark.parametrize("kinds", [1, 2, 3])
def test_the_number_of_buckets_of_addresses_is_bounded(kinds: int) -> None:
    bucket = {"rate": 10, "burst": 20}
    all_limits = {"listener": bucket, "models": {"a": bucket}, "model_types": {"nlp": bucket}}
    limit = compiled(**{"listener": None, **dict(list(all_limits.items())[:kinds])})
    assert limit is not None
    assert limit.max_dynamic_descriptors is not None
    total = limit.max_dynamic_descriptors * len(shares(limit))
    assert (
        0.9 * local_rate_limit.MAX_ADDRESS_BUCKETS < total <= local_rate_limit.MAX_ADDRESS_BUCKETS
    )
