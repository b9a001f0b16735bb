"""The resources of a staged rollout: the further policy of the workers, and the marked routes."""

from pathlib import Path

import pytest

from protos.policy_pb2 import Policy
from protos.route_pb2 import RouteConfiguration
from sluice.config import GatewayConfig, policy_document
from xds.protocol import resource_types
from xds.protocol.snapshot import Snapshot
from xds.resources import build
from xds.resources.envoy_versions import CALLOUT_ONLY, group_variant
from xds.resources.stage import marked_routes, staged_policies

HERE = Path()


def compiled(**settings: object) -> Snapshot:
    versions = {each: {"endpoints": [{"address": "127.0.0.1:9"}]} for each in ("v1", "v2")}
    models = {name: {"versions": versions, "stable": "v1"} for name in ("m", "n")}
    config = GatewayConfig.model_validate({"models": models, **settings})
    return build(config, policy_document(config, HERE), HERE)


def test_staged_policies_have_a_prefix_and_the_nodes() -> None:
    policy = compiled().types[resource_types.POLICY].resources
    staged = staged_policies(policy, {"envoy-2", "envoy-1"})
    assert staged.keys() == {"staged/policy", "staged/model/m", "staged/model/n"}
    settings = Policy.FromString(staged["staged/policy"].body)
    original = Policy.FromString(policy["policy"].body)
    assert list(settings.nodes) == ["envoy-1", "envoy-2"]
    assert (settings.version, settings.config) == (original.version, original.config)
    assert staged["staged/policy"].version != policy["policy"].version
    assert staged["staged/model/m"] == policy["model/m"]


def test_other_nodes_are_another_version_of_the_staged_settings() -> None:
    policy = compiled().types[resource_types.POLICY].resources
    one, same, two = (staged_policies(policy, each) for each in (["a", "b"], ["b", "a"], ["a"]))
    assert one == same
    assert one["staged/policy"] != two["staged/policy"]


@pytest.mark.parametrize("variant", [None, CALLOUT_ONLY, group_variant("edge")])
def test_marked_routes_differ_only_by_the_mark(variant: str | None) -> None:
    groups = {"edge": {"match": {"ids": ["e"]}, "models": ["m"]}}
    snapshot = compiled(node_groups=groups).of_variant(variant)
    tables = snapshot.types[resource_types.ROUTE].resources
    marked = marked_routes(tables, "0123abcd")
    assert marked.keys() == tables.keys() == {"gateway"}
    assert marked["gateway"].version != tables["gateway"].version
    found = RouteConfiguration.FromString(marked["gateway"].body)
    (host,) = found.virtual_hosts
    assert host.metadata.filter_metadata["sluice"]["stage"] == "0123abcd"
    host.ClearField("metadata")
    assert found == RouteConfiguration.FromString(tables["gateway"].body)


def test_the_mark_of_another_version_is_another_route_table() -> None:
    tables = compiled().types[resource_types.ROUTE].resources
    assert marked_routes(tables, "a") != marked_routes(tables, "b")
    assert marked_routes(tables, "a") == marked_routes(tables, "a")
