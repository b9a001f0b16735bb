"""Tests for the export of a config as objects of Gateway API and Envoy Gateway."""

from collections.abc import Mapping
from typing import Any

import pytest

from sluice.config import GatewayConfig
from sluice.config.secrets import NO_SECRETS, Secrets, VersionSecrets
from tests.xds.gateway_api.configs import RICH
from xds.gateway_api import Object, Target, UnexportableError, export_gateway_api
from xds.gateway_api.objects import duration, object_name

TARGET = Target("models", "public", "edge", "sluice-callout.gateways:18100")
HTTP = {"endpoints": [{"address": "10.0.0.1:80"}]}


def config(versions: Mapping[str, object] | None = None, **sections: object) -> GatewayConfig:
    content = {
        "m": {"versions": versions or {"v1": HTTP}, "stable": next(iter(versions or ["v1"]))}
    }
    return GatewayConfig.model_validate({"models": content, **sections})


def exported(config: GatewayConfig, target: Target = TARGET, secrets: Secrets = NO_SECRETS) -> Any:
    """The objects by kind and name."""
    found: dict[tuple[object, object], Object] = {}
    for each in export_gateway_api(config, target, secrets).objects:
        metadata = each["metadata"]
        assert isinstance(metadata, dict)
        key = each["kind"], metadata["name"]
        assert key not in found
        found[key] = each
    return found


def spec(objects: Any, kind: str, name: str = "sluice") -> Any:
    return objects[kind, name]["spec"]


def test_a_rule_matches_the_decision_and_no_path() -> None:
    route = spec(exported(config()), "HTTPRoute", "sluice.m")
    assert route["rules"][0]["matches"] == [
        {
            "path": {"type": "PathPrefix", "value": "/"},
            "headers": [{"type": "Exact", "name": "x-model-service", "value": "m/v1"}],
        }
    ]


def test_a_request_without_a_decision_gets_503() -> None:
    objects = exported(config())
    (rule,) = spec(objects, "HTTPRoute", "sluice-undecided")["rules"]
    assert rule["filters"][0]["extensionRef"]["name"] == "sluice-undecided"
    assert "backendRefs" not in rule
    response = spec(objects, "HTTPRouteFilter", "sluice-undecided")["directResponse"]
    assert response["statusCode"] == 503


def test_every_route_calls_the_callout_and_fails_closed() -> None:
    objects = exported(config())
    policy = spec(objects, "EnvoyExtensionPolicy")
    routes = {name for kind, name in objects if kind == "HTTPRoute"}
    assert routes == {"sluice.m", "sluice-undecided"}
    assert {each["name"] for each in policy["targetRefs"]} == routes
    (callout,) = policy["extProc"]
    assert callout["failOpen"] is False
    assert callout["processingMode"] == {"request": {}, "allowModeOverride": True}


def test_headers_of_the_gateway_are_removed_before_any_route() -> None:
    objects = exported(config())
    assert objects["ClientTrafficPolicy", "sluice"]["metadata"]["namespace"] == "edge"
    early = spec(objects, "ClientTrafficPolicy")["headers"]["earlyRequestHeaders"]
    assert early["removeOnMatch"] == [
        {"type": "Exact", "value": "x-model-service"},
        {"type": "Prefix", "value": "x-sluice-"},
    ]


def test_spellings_with_underscores_are_removed_if_they_are_allowed() -> None:
    allowed = config(listener={"headers_with_underscores": "allow"})
    headers = spec(exported(allowed), "ClientTrafficPolicy")["headers"]
    assert headers["withUnderscoresAction"] == "Allow"
    removed = headers["earlyRequestHeaders"]["removeOnMatch"]
    assert any("x_sluice" in each["value"] for each in removed)


def test_each_worker_is_a_port_of_the_service_of_the_callout() -> None:
    objects = exported(config(callout={"workers": 3}))
    (callout,) = spec(objects, "EnvoyExtensionPolicy")["extProc"]
    assert [(each["namespace"], each["port"]) for each in callout["backendRefs"]] == [
        ("gateways", 18100),
        ("gateways", 18101),
        ("gateways", 18102),
    ]
    grant = objects["ReferenceGrant", "sluice-callout"]
    assert grant["metadata"]["namespace"] == "gateways"
    assert {(each["kind"], each["namespace"]) for each in grant["spec"]["from"]} == {
        ("EnvoyExtensionPolicy", "models"),
        ("EnvoyProxy", "edge"),
    }


@pytest.mark.parametrize(
    ("callout", "service"),
    [
        ("callout:1", ("callout", "models")),
        ("callout.other:1", ("callout", "other")),
        ("callout.other.svc.cluster.local:1", ("callout", "other")),
        ("callout.example.com:1", None),
        ("10.0.0.1:1", None),
        ("[::1]:1", None),
    ],
)
def test_the_address_of_the_callout_may_name_a_service(
    callout: str, service: tuple[str, str] | None
) -> None:
    assert Target("models", "g", "models", callout).service == service


def test_a_callout_with_certificates_is_a_backend_with_tls() -> None:
    identity = {
        "ca": "ca.pem",
        "control_plane": {"certificate": "cp.pem", "private_key": "cp.key"},
        "callout": {"certificate": "c.pem", "private_key": "c.key", "name": "callout.sluice"},
        "envoy": {"certificate": "e.pem", "private_key": "e.key", "sds_folder": "sds"},
    }
    target = Target("sluice", "g", "sluice", "sluice-callout:18100")
    found = config(identity=identity, callout={"workers": 1})
    backend = spec(exported(found, target), "Backend", "sluice-callout")
    assert backend["endpoints"] == [
        {"fqdn": {"hostname": "sluice-callout.sluice.svc.cluster.local", "port": 18100}}
    ]
    assert backend["tls"] == {
        "alpnProtocols": ["h2"],
        "caCertificateRefs": [{"group": "", "kind": "Secret", "name": "sluice-callout"}],
        "clientCertificateRef": {"kind": "Secret", "name": "sluice-callout"},
        "sni": "callout.sluice",
    }
    notes = export_gateway_api(found, target).notes
    assert any("kubernetes.io/tls" in note for note in notes)


def test_endpoints_with_weights_are_backends_with_the_sum_of_their_weights() -> None:
    addresses = [("10.0.0.1:80", 1), ("10.0.0.2:80", 1), ("10.0.0.3:80", 5)]
    endpoints = [{"address": each, "weight": weight} for each, weight in addresses]
    objects = exported(config({"v1": {"endpoints": endpoints}}))
    (rule,) = spec(objects, "HTTPRoute", "sluice.m")["rules"]
    assert [(each["name"], each["weight"]) for each in rule["backendRefs"]] == [
        ("sluice.m.v1.0", 2),
        ("sluice.m.v1.1", 5),
    ]
    assert len(spec(objects, "Backend", "sluice.m.v1.0")["endpoints"]) == 2


def test_an_endpoint_that_drains_is_left_out() -> None:
    endpoints = [{"address": "10.0.0.1:80", "drain": True}, {"address": "10.0.0.2:80"}]
    objects = exported(config({"v1": {"endpoints": endpoints}}))
    assert spec(objects, "Backend", "sluice.m.v1")["endpoints"] == [
        {"ip": {"address": "10.0.0.2", "port": 80}}
    ]


def test_a_version_that_speaks_grpc_has_http2() -> None:
    version = {"endpoints_from": {"dns": {"name": "triton.svc", "port": 8001}}, "protocol": "grpc"}
    assert spec(exported(config({"v1": version})), "Backend", "sluice.m.v1") == {
        "endpoints": [{"fqdn": {"hostname": "triton.svc", "port": 8001}}],
        "appProtocols": ["gateway.envoyproxy.io/h2c"],
    }


def test_a_version_that_speaks_grpc_over_tls_names_its_protocol() -> None:
    """Health checks offer no other one."""
    version = {**HTTP, "protocol": "grpc", "tls": {"server_name": "m.example.com"}}
    backend = spec(exported(config({"v1": version})), "Backend", "sluice.m.v1")
    assert backend["tls"] == {"alpnProtocols": ["h2"]}


def test_a_kubernetes_service_is_the_backend_itself() -> None:
    source = {"kubernetes": {"service": "triton", "namespace": "ml", "port": 8001}}
    found = config({"v1": {"endpoints_from": source, "protocol": "grpc"}})
    objects = exported(found)
    (rule,) = spec(objects, "HTTPRoute", "sluice.m")["rules"]
    assert rule["backendRefs"] == [{"name": "triton", "port": 8001, "namespace": "ml"}]
    assert objects["ReferenceGrant", "sluice.triton"]["metadata"]["namespace"] == "ml"
    assert any("kubernetes.io/h2c" in note for note in export_gateway_api(found, TARGET).notes)


def test_the_certificates_of_servers_are_verified_by_a_policy() -> None:
    tls = {"ca": "ca.pem", "server_name": "m.example.com"}
    secrets = Secrets({("m", "v1"): VersionSecrets(ca=b"CERTIFICATE")})
    objects = exported(config({"v1": {**HTTP, "tls": tls}}), secrets=secrets)
    assert objects["ConfigMap", "sluice.m.v1"]["data"] == {"ca.crt": "CERTIFICATE"}
    policy = spec(objects, "BackendTLSPolicy", "sluice.m.v1")
    assert policy["validation"]["hostname"] == "m.example.com"
    assert [each["name"] for each in policy["targetRefs"]] == ["sluice.m.v1"]


def test_more_than_16_versions_have_several_routes() -> None:
    objects = exported(config({f"v{n}": HTTP for n in range(20)}))
    assert len(spec(objects, "HTTPRoute", "sluice.m")["rules"]) == 16
    assert len(spec(objects, "HTTPRoute", "sluice.m.part-1")["rules"]) == 4
    (target,) = spec(objects, "BackendTrafficPolicy", "sluice.m.v19")["targetRefs"]
    assert (target["name"], target["sectionName"]) == ("sluice.m.part-1", "v19")


def test_timeouts_retries_and_pools_are_those_of_the_config() -> None:
    model = {
        "versions": {"v1": HTTP},
        "timeout": 20,
        "idle_timeout": 10,
        "retries": {"attempts": 2, "retry_on": ["5xx"], "per_try_timeout": 1.5},
        "pool": {"max_requests": 7, "connect_timeout": 0.5, "idle_timeout": 3, "tcp_keepalive": 60},
    }
    objects = exported(GatewayConfig.model_validate({"models": {"m": model}}))
    (rule,) = spec(objects, "HTTPRoute", "sluice.m")["rules"]
    assert rule["timeouts"] == {"request": "20s"}
    policy = spec(objects, "BackendTrafficPolicy", "sluice.m.v1")
    assert policy["timeout"] == {
        "tcp": {"connectTimeout": "500ms"},
        "http": {"connectionIdleTimeout": "3s", "streamIdleTimeout": "10s"},
    }
    assert policy["retry"] == {
        "numRetries": 2,
        "retryOn": {"triggers": ["5xx"]},
        "perRetry": {"timeout": "1s500ms"},
    }
    assert policy["circuitBreaker"]["maxParallelRequests"] == 7
    assert policy["tcpKeepalive"] == {"idleTime": "1m", "interval": "10s", "probes": 3}


def test_buffers_have_room_for_converted_bodies_only_with_the_patches() -> None:
    body = {**RICH, "requests": {"max_body": "4MiB", "max_response": "8MiB"}}
    found = GatewayConfig.model_validate(body)
    target = Target("models", "public", "edge", "c:1", listeners=("http",), converts=True)
    patched, plain = exported(found, target), exported(found)
    room = {"bufferLimit": (8 << 20) + 5}  # with the prefix of a gRPC message
    assert spec(patched, "ClientTrafficPolicy")["connection"] == room
    assert spec(patched, "BackendTrafficPolicy", "sluice.digits.v1")["connection"] == room
    assert "connection" not in spec(patched, "BackendTrafficPolicy", "sluice.remote.v1")
    assert "bufferLimit" not in str(plain)


@pytest.mark.parametrize(
    ("version", "key"),
    [
        ({"endpoints_from": {"file": "endpoints.yaml"}}, "file"),
        ({"endpoints_from": {"kubernetes": {"service": "s", "port": "http"}}}, "port"),
        ({**HTTP, "headers_from_secret": {"authorization": {"env": "KEY"}}}, "headers_from_secret"),
        ({"endpoints": [{"address": "10.0.0.1:80", "drain": True}]}, "endpoints"),
        ({**HTTP, "tls": {}}, "server_name"),
        (
            {
                "endpoints_from": {"kubernetes": {"service": "s", "port": 443}},
                "protocol": "grpc",
                "tls": {"server_name": "m.example.com"},
                "health_check": {},
            },
            "health_check",
        ),
    ],
)
def test_what_would_make_requests_fail_is_refused(version: dict[str, object], key: str) -> None:
    with pytest.raises(UnexportableError) as refused:
        export_gateway_api(config({"v1": version}), TARGET)
    assert refused.value.path[-1] == key
    assert refused.value.hint


def test_the_patches_for_conversion_name_each_listener() -> None:
    target = Target("models", "public", "edge", "c:1", listeners=("http", "https"), converts=True)
    patches = spec(exported(config(), target), "EnvoyPatchPolicy")["jsonPatches"]
    assert {each["name"] for each in patches} == {"edge/public/http", "edge/public/https"}
    rules = [each["operation"] for each in patches if "mutation_rules" in str(each)]
    assert [each["value"] for each in rules] == [{"allow_all_routing": True}] * 2


def test_only_what_the_export_leaves_out_is_noted() -> None:
    reports = {"reports": {"enabled": False}}
    plain = {"m": {"versions": {"v1": HTTP}, "breaker": {"enabled": False}}}
    quiet = GatewayConfig.model_validate(
        {"models": plain, "telemetry": reports, "limits": {"listener": None}}
    )
    assert export_gateway_api(quiet, TARGET).notes == []
    converting = export_gateway_api(GatewayConfig.model_validate(RICH), TARGET).notes
    assert any("--conversion" in note for note in converting)


def test_names_of_objects_are_valid_and_distinct() -> None:
    parts = [("m", "v1"), ("m-v1",), ("M", "v1"), ("m", "V1"), ("m.v1",), ("m_v1",), ("m", "1.0")]
    found = [object_name(*each) for each in parts]
    assert len(set(found)) == len(parts)
    assert found[0] == "sluice.m.v1"
    assert all(name == name.lower() and "_" not in name for name in found)


def test_no_name_is_that_of_another_object_with_a_hash() -> None:
    """Else the routes of one model replace those of the other."""
    hashed = object_name("M").removeprefix("sluice.")
    assert object_name(hashed) != object_name("M")
    assert object_name("m-0123") == "sluice.m-0123"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0001, "1ms"),
        (1.5, "1s500ms"),
        (30, "30s"),
        (5400, "1h30m"),
        (1e8, "27777h46m40s"),
    ],
)
def test_durations_are_those_of_gateway_api(seconds: float, text: str) -> None:
    assert duration(seconds) == text
