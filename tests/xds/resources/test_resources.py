"""The resources of a config. tests/integration/test_xds.py tests that Envoy accepts them."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster, ClusterDiscoveryType
from envoy_data_plane.envoy.config.core.v3 import HealthStatus
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment, LbEndpoint
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration
from envoy_data_plane.envoy.extensions.clusters.dns.v3 import DnsCluster
from envoy_data_plane.envoy.extensions.common.matching.v3 import ExtensionWithMatcher
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import ExternalProcessor
from envoy_data_plane.envoy.extensions.filters.http.health_check.v3 import HealthCheck
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import UpstreamTlsContext
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptions

from extproc.transport.http2 import frames
from protos.policy_pb2 import Policy
from sluice.config import GatewayConfig, PolicySettings, policy_document
from sluice.config.secrets import Secrets, VersionSecrets
from sluice.contract.names import CALLOUT_CLUSTER, JWT_FILTER
from xds.protocol import resource_types
from xds.protocol.snapshot import Snapshot
from xds.resources import build
from xds.resources.build import COMPILERS
from xds.resources.local_replies import ReplyMapping, reply_mappings

HERE = Path(__file__).parent


def compiled(**sections: Any) -> Snapshot:
    config = GatewayConfig.model_validate(sections)
    return build(config, policy_document(config, HERE), HERE)


def model(*addresses: str, **more: Any) -> dict[str, Any]:
    endpoints = [{"address": address} for address in addresses or ("127.0.0.1:9",)]
    return {"versions": {"v1": {"endpoints": endpoints}}, **more}


def cluster(snapshot: Snapshot, name: str) -> Cluster:
    return Cluster.parse(snapshot.types[resource_types.CLUSTER].resources[name].body)


def endpoints(snapshot: Snapshot, name: str) -> list[LbEndpoint]:
    body = snapshot.types[resource_types.ENDPOINT].resources[name].body
    return ClusterLoadAssignment.parse(body).endpoints[0].lb_endpoints


def table(snapshot: Snapshot) -> RouteConfiguration:
    return RouteConfiguration.parse(snapshot.types[resource_types.ROUTE].resources["gateway"].body)


def listener(snapshot: Snapshot) -> Listener:
    return Listener.parse(snapshot.types[resource_types.LISTENER].resources["gateway"].body)


def manager(snapshot: Snapshot) -> HttpConnectionManager:
    packed = listener(snapshot).filter_chains[0].filters[0].typed_config
    assert packed is not None
    return HttpConnectionManager.parse(packed.value)


def test_every_resource_type_has_a_compiler() -> None:
    assert tuple(COMPILERS) == resource_types.OWN


@pytest.mark.parametrize(("limit", "read"), [("1MiB", 1 << 16), ("16KiB", 1 << 14)])
def test_envoy_reads_little_at_once_from_one_connection(limit: str, read: int) -> None:
    """A read of 1 MiB can contain 170,000 chunks, during which all other clients wait."""
    snapshot = compiled(listener={"stream_buffer_limit": limit}, models={"m": model()})
    assert listener(snapshot).per_connection_buffer_limit_bytes == read


def test_envoy_serves_open_connections_before_it_accepts_another_one() -> None:
    snapshot = compiled(models={"m": model()})
    assert listener(snapshot).max_connections_to_accept_per_socket_event == 1


def test_the_callout_may_send_larger_frames_than_model_servers() -> None:
    version = {"endpoints": [{"address": "127.0.0.1:9"}], "protocol": "grpc"}
    snapshot = compiled(models={"m": {"versions": {"v1": version}}})
    sizes = []
    for name in (CALLOUT_CLUSTER, "m/v1"):
        (packed,) = cluster(snapshot, name).typed_extension_protocol_options.values()
        explicit = HttpProtocolOptions.parse(packed.value).explicit_http_config
        assert explicit is not None
        assert explicit.http2_protocol_options is not None
        settings = explicit.http2_protocol_options.custom_settings_parameters
        sizes.append({setting.identifier: setting.value for setting in settings})
    assert sizes == [{frames.MAX_FRAME_SIZE: 64 << 10}, {}]


def test_the_windows_of_http2_are_larger_than_a_read() -> None:
    options = manager(compiled(models={"m": model()})).http2_protocol_options
    assert options is not None
    assert options.initial_stream_window_size == 1 << 20


def test_eds_provides_ip_addresses_and_dns_resolves_host_names() -> None:
    snapshot = compiled(models={"ip": model("127.0.0.1:9", "[::1]:9"), "dns": model("host:9")})
    assert cluster(snapshot, "ip/v1").type is ClusterDiscoveryType.EDS
    resolving = cluster(snapshot, "dns/v1").cluster_type
    assert resolving is not None
    assert resolving.name == "envoy.clusters.dns"
    assert set(snapshot.types[resource_types.ENDPOINT].resources) == {"ip/v1"}


@pytest.mark.parametrize(("kind", "logical"), [("strict", False), ("logical", True)])
def test_envoy_resolves_a_name_to_endpoints_or_to_one_endpoint(kind: str, logical: bool) -> None:
    named = {"endpoints_from": {"dns": {"name": "Models.test", "port": 80, "kind": kind}}}
    snapshot = compiled(models={"m": {"versions": {"v1": named}}})
    made = cluster(snapshot, "m/v1")
    assert made.cluster_type is not None
    assert made.cluster_type.typed_config is not None
    settings = DnsCluster.parse(made.cluster_type.typed_config.value)
    assert settings.all_addresses_in_single_endpoint == logical
    assert made.load_assignment is not None
    (endpoint,) = made.load_assignment.endpoints[0].lb_endpoints
    assert endpoint.endpoint is not None
    assert endpoint.endpoint.address is not None
    assert endpoint.endpoint.address.socket_address is not None
    assert endpoint.endpoint.address.socket_address.address == "models.test"
    assert not snapshot.types[resource_types.ENDPOINT].resources


def test_a_draining_endpoint_changes_only_endpoints_and_the_policy() -> None:
    addresses = ("127.0.0.1:1", "127.0.0.1:2")
    before, after = compiled(models={"m": model(*addresses)}), model(*addresses)
    after["versions"]["v1"]["endpoints"][0]["drain"] = True
    drained = compiled(models={"m": after})
    changed = [each for each in before.types if before.types[each] != drained.types[each]]
    assert changed == [resource_types.ENDPOINT, resource_types.POLICY]
    assert [endpoint.health_status for endpoint in endpoints(drained, "m/v1")] == [
        HealthStatus.DRAINING,
        HealthStatus.UNKNOWN,
    ]


def test_no_version_uses_draining_endpoints_because_few_others_are_left() -> None:
    settings = cluster(compiled(models={"m": model()}), "m/v1").common_lb_config
    assert settings is not None
    assert settings.healthy_panic_threshold is not None
    assert settings.healthy_panic_threshold.value == 0


def test_every_worker_is_an_endpoint_and_unhealthy_workers_get_no_calls() -> None:
    callout = cluster(
        compiled(callout={"address": "unix:/run/callout", "workers": 3}), "sluice-callout"
    )
    assert callout.load_assignment is not None
    members = callout.load_assignment.endpoints[0].lb_endpoints
    paths = [m.endpoint.address.pipe.path for m in members if m.endpoint and m.endpoint.address]
    assert paths == ["/run/callout-0", "/run/callout-1", "/run/callout-2"]
    assert callout.common_lb_config is not None
    assert callout.common_lb_config.healthy_panic_threshold is not None
    assert callout.common_lb_config.healthy_panic_threshold.value == 0


@pytest.mark.parametrize("workers", range(1, 65))
def test_envoy_ejects_all_workers_but_one(workers: int) -> None:
    callout = cluster(
        compiled(callout={"address": "unix:/run/callout", "workers": workers}), "sluice-callout"
    )
    assert callout.outlier_detection is not None
    maximum = callout.outlier_detection.max_ejection_percent
    assert maximum is not None
    # Envoy ejects a host if the percentage of ejected hosts, with this host, is at most this.
    allowed = sum(100 * number / workers <= maximum for number in range(1, workers + 1))
    assert allowed == workers - 1


def test_the_filters_are_in_order_and_the_callout_fails_closed() -> None:
    filters = manager(compiled()).http_filters
    cors, readiness, *limits, origins, body_length = filters[:-6]
    tokens, ext_proc, bridge, awaiting, handshakes, router = filters[-6:]
    assert cors.name == "envoy.filters.http.cors"
    assert readiness.name == "envoy.filters.http.health_check"
    assert body_length.name == "sluice.body_length"
    assert tokens.name == JWT_FILTER
    assert all(".local_ratelimit." in limit.name for limit in limits)
    named = (origins, ext_proc, bridge, awaiting, router)
    assert [item.name.rpartition(".")[2] for item in named] == [
        "rbac",
        "ext_proc",
        "grpc_http1_bridge",
        "on_demand",
        "router",
    ]
    assert handshakes.name == "sluice.failed_handshake"
    # Routes and the virtual host enable these filters.
    assert all(item.disabled for item in (cors, *limits, origins, body_length, handshakes))
    assert ext_proc.typed_config is not None
    extension = ExtensionWithMatcher.parse(ext_proc.typed_config.value).extension_config
    assert extension is not None
    assert extension.typed_config is not None
    processor = ExternalProcessor.parse(extension.typed_config.value)
    assert processor.failure_mode_allow is False


def test_one_healthy_worker_makes_the_gateway_ready() -> None:
    readiness = manager(compiled()).http_filters[1]
    assert readiness.typed_config is not None
    check = HealthCheck.parse(readiness.typed_config.value)
    (percentage,) = check.cluster_min_healthy_percentages.values()
    # Envoy ignores the part of the percentage after the point, and compares 100 * healthy.
    assert 0 < int(percentage.value) * 64 <= 100


@pytest.mark.parametrize(
    ("protocol", "pool", "expected"),
    [("http", {}, 1.5), ("grpc", {}, 60), ("http", {"idle_timeout": "3s"}, 3)],
)
def test_idle_connections_to_http_servers_are_closed_before_the_server_does(
    protocol: str, pool: dict[str, Any], expected: float
) -> None:
    version = {"endpoints": [{"address": "127.0.0.1:9"}], "protocol": protocol}
    snapshot = compiled(models={"m": {"versions": {"v1": version}, "pool": pool}})
    (packed,) = cluster(snapshot, "m/v1").typed_extension_protocol_options.values()
    common = HttpProtocolOptions.parse(packed.value).common_http_protocol_options
    assert common is not None
    assert common.idle_timeout == timedelta(seconds=expected)


@pytest.mark.parametrize("exposed", [True, False])
def test_responses_have_the_reason_only_if_the_config_exposes_it(exposed: bool) -> None:
    routes = table(compiled(requests={"expose_reason": exposed}))
    assert bool(routes.response_headers_to_add) is exposed


def test_a_changed_endpoint_changes_only_endpoints_and_the_policy() -> None:
    before, after = compiled(models={"a": model()}), compiled(models={"a": model("127.0.0.1:8")})
    changed = {each for each in resource_types.ALL if before.types[each] != after.types[each]}
    assert changed == {resource_types.ENDPOINT, resource_types.POLICY}


def test_an_edit_compiles_only_the_changed_model() -> None:
    models = {"a": model(), "b": model("host:1")}
    before, after = compiled(models=models), compiled(models=models | {"a": model("127.0.0.1:8")})
    kept = [
        name
        for each in (resource_types.CLUSTER, resource_types.ENDPOINT, resource_types.LISTENER)
        for name, resource in after.types[each].resources.items()
        if resource is before.types[each].resources[name]
    ]
    assert {"b/v1", "gateway"} <= set(kept)
    assert before.types[resource_types.ENDPOINT].resources["a/v1"].body != (
        after.types[resource_types.ENDPOINT].resources["a/v1"].body
    )


@pytest.mark.parametrize(
    "change",
    [
        {"requests": {"max_body": 1}},
        {"listener": {"stream_buffer_limit": "2MiB"}},
        {"limits": {"models": {"a": {"rate": 1, "burst": 1}}}},
    ],
)
def test_a_change_for_all_models_compiles_all_models(change: dict[str, Any]) -> None:
    models = {"a": model("host:1", inputs=[{"name": "x", "datatype": "BYTES", "shape": [1]}])}
    compiled(models=models)
    assert compiled(models=models, **change) == _compiled_anew(models=models, **change)


def _compiled_anew(**sections: Any) -> Snapshot:
    """A snapshot that no earlier one can have influenced."""
    compiled(requests={"max_body": 12345})
    return compiled(**sections)


def test_a_model_with_the_path_of_the_readiness_changes_the_listener() -> None:
    without, with_path = (
        compiled(models={"a": model(paths=paths)}) for paths in ((), ("/v2/health",))
    )
    assert len(manager(without).http_filters) == len(manager(with_path).http_filters) + 1


def test_equal_configs_have_equal_versions() -> None:
    one = compiled(models={"a": model(), "b": model("host:1")})
    assert one.version == compiled(models={"a": model(), "b": model("host:1")}).version


def test_the_policy_has_the_version_of_the_config() -> None:
    snapshot = compiled(models={"a": model()})
    resources = snapshot.types[resource_types.POLICY].resources.values()
    policy = Policy.FromString(b"".join(each.body for each in resources))
    settings = PolicySettings.model_validate_json(policy.config)
    assert policy.version == settings.version == snapshot.version
    assert [each.name for each in policy.models] == ["a"]


@pytest.mark.parametrize("reply", list(reply_mappings()), ids=lambda reply: reply.reason)
def test_a_problem_document_has_the_members_of_rfc_9457_and_the_reason(reply: ReplyMapping) -> None:
    problem = json.loads(reply.problem())
    members = ["type", "title", "status", "detail", "error", "reason"]
    assert problem["error"] == problem["detail"]
    assert list(problem) == [*members, *(["instance"] if reply.identified else [])]
    assert problem["status"] == reply.status


def test_only_secrets_have_the_content_of_secrets() -> None:
    named = {
        "tls": {"certificate": "c", "private_key": "k"},
        "headers_from_secret": {"authorization": {"file": "f"}},
    }
    versions = {"versions": {"v1": {"endpoints": [{"address": "m.test:1"}], **named}}}
    config = GatewayConfig.model_validate({"models": {"m": versions}})
    read = VersionSecrets(b"Zq7", b"Zq7", b"Zq7", {"authorization": b"Zq7"})
    secrets = Secrets({("m", "v1"): read}, b"Zq7")
    snapshot = build(config, policy_document(config, HERE), HERE, {}, secrets)
    having = {
        each.name: {n for n, r in found.resources.items() if b"Zq7" in r.body}
        for each, found in snapshot.types.items()
    }
    own = {f"m/v1/{name}" for name in ("ca", "certificate", "header/authorization")}
    assert having.pop("secrets") == {*own, "system-roots"}
    assert not any(having.values())


@pytest.mark.parametrize(
    ("address", "sni", "kind"),
    [("Models.test:443", "models.test", "DNS"), ("10.0.0.1:443", "", "IP_ADDRESS")],
)
def test_envoy_asks_for_names_and_verifies_names_and_addresses(
    address: str, sni: str, kind: str
) -> None:
    versions = {"v1": {"endpoints": [{"address": address}], "tls": {}}}
    made = cluster(compiled(models={"m": {"versions": versions}}), "m/v1").transport_socket
    assert made is not None
    assert made.typed_config is not None
    context = UpstreamTlsContext.parse(made.typed_config.value)
    assert context.sni == sni
    assert context.common_tls_context is not None
    combined = context.common_tls_context.combined_validation_context
    assert combined is not None
    assert combined.default_validation_context is not None
    (verified,) = combined.default_validation_context.match_typed_subject_alt_names
    assert verified.san_type.name == kind
