"""The resources of a staged rollout: the further policy of the workers, and the marked routes."""

from pathlib import Path

import pytest
from envoy_data_plane.envoy.config.core.v3 import HeaderValue
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import ExternalProcessor

from protos.http_filters_pb2 import ExecuteFilterAction, ExtensionWithMatcherPerRoute
from protos.policy_pb2 import Policy
from protos.route_pb2 import RouteConfiguration
from sluice.config import GatewayConfig, policy_document
from sluice.config.gateway import Callout
from xds.protocol import resource_types
from xds.protocol.snapshot import Resources, Snapshot
from xds.resources import build
from xds.resources.envoy_versions import CALLOUT_ONLY, group_variant
from xds.resources.filters import external_processor
from xds.resources.omitted_callout import EXT_PROC
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


def marked(snapshot: Snapshot, version: str) -> Resources:
    types = (resource_types.ROUTE, resource_types.LISTENER)
    tables, listeners = (snapshot.types[each].resources for each in types)
    return marked_routes(tables, listeners, version)


@pytest.mark.parametrize("variant", [None, CALLOUT_ONLY, group_variant("edge")])
def test_marked_routes_differ_only_by_the_mark(variant: str | None) -> None:
    groups = {"edge": {"match": {"ids": ["e"]}, "models": ["m"]}}
    snapshot = compiled(node_groups=groups).of_variant(variant)
    tables = snapshot.types[resource_types.ROUTE].resources
    (table,) = marked(snapshot, "0123abcd").values()
    assert table.version != tables["gateway"].version
    found = RouteConfiguration.FromString(table.body)
    (host,) = found.virtual_hosts
    assert host.metadata.filter_metadata["sluice"]["stage"] == "0123abcd"
    host.ClearField("metadata")
    del host.typed_per_filter_config[EXT_PROC]
    assert found == RouteConfiguration.FromString(tables["gateway"].body)


def test_calls_of_marked_routes_have_the_mark_and_the_settings_of_the_config() -> None:
    callout = {"message_timeout": "7s"}
    (table,) = marked(compiled(callout=callout), "0123abcd").values()
    (host,) = RouteConfiguration.FromString(table.body).virtual_hosts
    found = ExtensionWithMatcherPerRoute.FromString(
        host.typed_per_filter_config[EXT_PROC].value
    ).xds_matcher.on_no_match.action.typed_config
    created = ExecuteFilterAction.FromString(found.value).typed_config
    expected = external_processor(Callout.model_validate(callout))
    expected.grpc_service.initial_metadata.append(
        HeaderValue(key="x-sluice-stage", value="0123abcd")
    )
    assert created.name == EXT_PROC
    assert ExternalProcessor.parse(created.typed_config.value) == expected


def test_the_mark_of_another_version_is_another_route_table() -> None:
    snapshot = compiled()
    assert marked(snapshot, "a") != marked(snapshot, "b")
    assert marked(snapshot, "a") == marked(snapshot, "a")
