"""The buckets of the local limits. tests/integration/test_xds.py tests that Envoy enforces them."""

from datetime import timedelta
from typing import Any

import pytest
from envoy_data_plane.envoy.extensions.common.ratelimit.v3 import LocalRateLimitDescriptor
from envoy_data_plane.envoy.extensions.filters.http.local_ratelimit.v3 import LocalRateLimit

from sluice.config import GatewayConfig
from sluice.config.limits import Limits
from xds.resources import local_rate_limit

MAX_ADDRESSES = 32_768
"""What the documentation says."""

VERSIONS = {"v1": {"endpoints": [{"address": "127.0.0.1:9"}]}}
MODELS = {name: {"versions": VERSIONS, "type": "nlp"} for name in ("a", "b")}


def compiled(**limits: Any) -> dict[str, LocalRateLimit]:
    """The filters that have buckets, by the last part of their names."""
    config = GatewayConfig.model_validate({"limits": limits, "models": MODELS})
    configs = local_rate_limit.filter_configs(config.limits)
    return {
        name.rpartition(".")[2]: LocalRateLimit.parse(configs[name].typed_config.value)
        for name in local_rate_limit.virtual_host_config(config.limits)
    }


def shares(filters: dict[str, LocalRateLimit]) -> list[LocalRateLimitDescriptor]:
    """The descriptors that have a bucket for each client address."""
    found = (each for name, each in filters.items() if name.endswith("_address"))
    return [descriptor for each in found for descriptor in each.descriptors]


def test_without_limits_there_are_no_buckets() -> None:
    assert compiled(listener=None) == {}


def test_filters_without_buckets_are_no_part_of_a_request() -> None:
    assert all(each.disabled for each in local_rate_limit.http_filters())


def test_every_filter_of_the_listener_has_a_config() -> None:
    filters = local_rate_limit.http_filters()
    assert list(local_rate_limit.filter_configs(Limits(listener=None))) == [
        each.name for each in filters
    ]


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ({"listener": {"rate": 1, "burst": 80}}, {"listener", "listener_address"}),
        ({"models": {"a": {"rate": 1, "burst": 80}}}, {"model", "model_address"}),
        ({"model_types": {}}, {"model_type", "model_type_address"}),
    ],
)
def test_an_edit_of_a_limit_changes_only_the_filters_of_its_kind(
    change: dict[str, object], changed: set[str]
) -> None:
    bucket = {"rate": 1, "burst": 40}
    limits = {"listener": bucket, "models": {"a": bucket}, "model_types": {"nlp": bucket}}
    before, after = (
        local_rate_limit.filter_configs(Limits.model_validate(each))
        for each in (limits, {**limits, **change})
    )
    names = {name for name in before if before[name] != after[name]}
    assert {name.rpartition(".")[2] for name in names} == changed


def test_the_bucket_of_an_address_is_smaller_and_slower_than_the_limit() -> None:
    found = compiled(listener={"rate": 1, "burst": 2}, address_share=0.25)
    (share,) = shares(found)
    total = found["listener"].token_bucket
    assert share.token_bucket is not None
    assert total is not None
    assert (total.max_tokens, total.tokens_per_fill) == (2, 1)
    assert total.fill_interval == timedelta(seconds=1)
    assert (share.token_bucket.max_tokens, share.token_bucket.tokens_per_fill) == (1, 1)
    assert share.token_bucket.fill_interval == timedelta(seconds=4)


def test_a_share_of_one_adds_no_buckets_of_addresses() -> None:
    bucket = {"rate": 10, "burst": 20}
    limits = {"listener": bucket, "models": {"a": bucket}, "model_types": {"nlp": bucket}}
    assert set(compiled(**limits, address_share=1)) == {"listener", "model", "model_type"}


def test_models_with_equal_limits_have_one_descriptor_for_addresses() -> None:
    equal, different = {"rate": 10, "burst": 20}, {"rate": 10, "burst": 21}
    assert len(shares(compiled(listener=None, models={"a": equal, "b": equal}))) == 1
    assert len(shares(compiled(listener=None, models={"a": equal, "b": different}))) == 2


@pytest.mark.parametrize("kinds", [1, 2, 3])
def test_the_number_of_buckets_of_addresses_is_bounded(kinds: int) -> None:
    bucket = {"rate": 10, "burst": 20}
    all_limits = {"listener": bucket, "models": {"a": bucket}, "model_types": {"nlp": bucket}}
    found = compiled(**{"listener": None, **dict(list(all_limits.items())[:kinds])})
    total = sum(
        (each.max_dynamic_descriptors or 0) * len(each.descriptors)
        for name, each in found.items()
        if name.endswith("_address")
    )
    assert 0 < total <= MAX_ADDRESSES


def test_the_filters_of_addresses_come_before_those_of_all_clients() -> None:
    """A refusal takes no tokens from the buckets of the filters after it."""
    bucket = {"rate": 10, "burst": 20}
    limits = {"listener": bucket, "models": {"a": bucket}, "model_types": {"nlp": bucket}}
    order = [each.name.rpartition(".")[2] for each in local_rate_limit.http_filters()]
    assert set(order) == set(compiled(**limits))
    assert [name.endswith("_address") for name in order] == [True] * 3 + [False] * 3
