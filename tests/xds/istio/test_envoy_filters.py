"""EnvoyFilters: where they apply, that they fail closed, and that they are those of our Envoy."""

import pytest

from sluice.config.gateway import GatewayConfig
from tests.xds.istio.configs import Json, config, version
from xds.istio.authorization import extension_providers, policies
from xds.istio.envoy_filters import envoy_filters

CLUSTER = "outbound|18100||sluice-callout.sluice.svc.cluster.local"
PLAIN: Json = {"m": {"versions": {"v1": version("10.0.0.1:80")}}}
CONVERTS: Json = {"m": {"versions": {"v1": version("10.0.0.1:80", protocol="grpc")}}}


def patches(of: GatewayConfig, number: int = 0) -> list[Json]:
    assert of.istio is not None
    found: list[Json] = envoy_filters(of, of.istio)[number]["spec"]["configPatches"]
    return found


def values(of: GatewayConfig, kind: str) -> list[Json]:
    """The values of the patches of a kind."""
    return [each["patch"]["value"] for each in patches(of) if each["applyTo"] == kind]


def http_filters(of: GatewayConfig) -> dict[str, Json]:
    return {each["name"]: each for each in values(of, "HTTP_FILTER")}


def test_a_filter_is_for_the_pods_of_each_workload() -> None:
    workloads = [
        {},
        {"kind": "sidecar", "namespace": "apps", "labels": {"app": "web"}},
        {"kind": "sidecar", "namespace": "apps", "labels": {"app": "batch"}},
    ]
    of = config(PLAIN, {"mesh": "callout", "workloads": workloads})
    assert of.istio is not None
    found = envoy_filters(of, of.istio)
    assert [
        (
            each["metadata"]["namespace"],
            each["metadata"]["name"],
            each["spec"]["workloadSelector"]["labels"],
            {patch["match"]["context"] for patch in each["spec"]["configPatches"]},
        )
        for each in found
    ] == [
        ("istio-system", "sluice-callout", {"istio": "ingressgateway"}, {"GATEWAY"}),
        ("apps", "sluice-callout", {"app": "web"}, {"SIDECAR_OUTBOUND"}),
        ("apps", "sluice-callout-2", {"app": "batch"}, {"SIDECAR_OUTBOUND"}),
    ]


def test_the_filters_are_for_the_hosts_of_models_only() -> None:
    of = config(PLAIN, {"hosts": ["a.example", "b.example"]})
    filters = http_filters(of)
    assert all(each["disabled"] for each in filters.values())
    hosts = [each for each in patches(of) if each["applyTo"] == "VIRTUAL_HOST"]
    assert [each["match"]["routeConfiguration"]["vhost"]["domainName"] for each in hosts] == [
        "a.example", "b.example",
    ]  # fmt: skip
    for each in hosts:
        assert set(each["patch"]["value"]["typed_per_filter_config"]) == set(filters)


def test_a_request_without_an_answer_of_the_callout_is_refused() -> None:
    of = config(PLAIN)
    callout = http_filters(of)["sluice.callout"]["typed_config"]
    assert callout["grpc_service"] == {"envoy_grpc": {"cluster_name": CLUSTER}}
    assert not callout.get("failure_mode_allow", False)
    assert callout["status_on_error"] == {"code": "ServiceUnavailable"}
    assert callout["route_cache_action"] == "CLEAR"
    (route,) = values(of, "HTTP_ROUTE")
    assert route["route"] == {"cluster": "sluice-undecided"}


def test_the_filters_come_in_the_order_of_our_own_envoy() -> None:
    domain = {"descriptors": [{"key": "model", "rate_limit": {"requests_per_unit": 1}}]}
    of = config(PLAIN, {"rate_limit_domain": "mesh"}, limits={"domains": {"mesh": domain}})
    assert list(http_filters(of)) == [
        "sluice.body_length", "sluice.callout", "sluice.rate_limit", "sluice.grpc_http1_bridge",
        "sluice.model_server",
    ]  # fmt: skip
    assert list(http_filters(config(PLAIN))) == [
        "sluice.body_length", "sluice.callout", "sluice.grpc_http1_bridge", "sluice.model_server",
    ]  # fmt: skip


def test_the_rate_limit_service_gets_the_caller_and_the_model() -> None:
    domain = {"descriptors": [{"key": "model", "rate_limit": {"requests_per_unit": 1}}]}
    of = config(PLAIN, {"rate_limit_domain": "mesh"}, limits={"domains": {"mesh": domain}})
    limit = http_filters(of)["sluice.rate_limit"]["typed_config"]
    assert (limit["domain"], limit["failure_mode_deny"]) == ("mesh", True)
    (host,) = values(of, "VIRTUAL_HOST")
    assert {each["stage"] for each in host["rate_limits"]} == {limit["stage"]}
    keys = [
        [action.get("request_headers", {}).get("descriptor_key") for action in each["actions"]]
        for each in host["rate_limits"]
    ]
    assert keys == [["subject"], ["model"], ["subject", "model"], [None]]


def test_bodies_are_buffered_up_to_the_largest_limit_of_a_model_that_converts() -> None:
    (host,) = values(config(CONVERTS, requests={"max_body": "12MiB"}), "VIRTUAL_HOST")
    assert int(host["request_body_buffer_limit"]) == 12 << 20
    (host,) = values(config(PLAIN), "VIRTUAL_HOST")
    assert "request_body_buffer_limit" not in host


def test_headers_of_clients_are_removed_before_any_route_reads_them() -> None:
    (manager,) = values(config(PLAIN), "NETWORK_FILTER")
    (removal,) = manager["typed_config"]["early_header_mutation_extensions"]
    mutations = removal["typed_config"]["mutations"]
    assert {"remove": "x-model-service"} in mutations
    assert {"remove_on_match": {"key_matcher": {"prefix": "x-sluice-"}}} in mutations
    assert any("x_sluice" in str(each) for each in mutations)


@pytest.mark.parametrize("enabled", [True, False])
def test_reports_go_to_the_callout(enabled: bool) -> None:
    models = {"m": {**PLAIN["m"], "breaker": {"enabled": False}}}
    of = config(models, telemetry={"reports": {"enabled": enabled}})
    (manager,) = values(of, "NETWORK_FILTER")
    logs = manager["typed_config"].get("access_log", [])
    assert [each["typed_config"]["common_config"]["grpc_service"] for each in logs] == (
        [{"envoy_grpc": {"cluster_name": CLUSTER}}] if enabled else []
    )
    assert of.istio is not None
    providers = [each["name"] for each in extension_providers(of, of.istio)]
    assert ("sluice-reports" in providers) == enabled
    kinds = [each["kind"] for each in policies(of, of.istio)]
    assert ("Telemetry" in kinds) == enabled


def test_the_provider_fails_closed() -> None:
    of = config(PLAIN, {"callout": "callout.ai.svc.cluster.local:9000"})
    assert of.istio is not None
    provider = extension_providers(of, of.istio)[0]
    assert provider == {
        "name": "sluice-ext-authz",
        "envoyExtAuthzGrpc": {
            "service": "callout.ai.svc.cluster.local",
            "port": 9000,
            "timeout": "2s",
            "failOpen": False,
            "statusOnError": "503",
            "clearRouteCache": True,
        },
    }


@pytest.mark.parametrize(
    ("hosts", "selected"),
    [
        (["a.example"], ["a.example", "a.example:*"]),
        (["*"], ["*"]),
        (["*.example", "b.test"], ["*"]),
    ],
)
def test_the_policy_selects_every_request_for_the_hosts(
    hosts: list[str], selected: list[str]
) -> None:
    of = config(PLAIN, {"hosts": hosts})
    assert of.istio is not None
    policy, *_, patched = policies(of, of.istio)
    assert policy["spec"]["action"] == "CUSTOM"
    assert policy["spec"]["provider"] == {"name": "sluice-ext-authz"}
    assert policy["spec"]["rules"] == [{"to": [{"operation": {"hosts": selected}}]}]
    _, again, callout = (each["patch"]["value"] for each in patched["spec"]["configPatches"])
    assert callout == values(of, "CLUSTER")[0]
    assert again["typed_config"]["clear_route_cache"] is True
