"""Models as resources of Istio: endpoints, pools, TLS, and the routes of versions."""

from tests.xds.istio.configs import Json, config, routes, service, specs, version
from xds.istio.names import label, subset_name
from xds.istio.resources import IstioKind, compile_istio

RESNET: Json = {"versions": {"v1": version("10.0.0.1:8000")}}


def test_a_config_without_the_section_has_no_resources() -> None:
    without = config({"m": RESNET}).model_copy(update={"istio": None})
    assert compile_istio(without) == ()


def test_resources_have_the_kinds_and_the_namespace_that_istiod_asks_for() -> None:
    found = compile_istio(config({"resnet": RESNET}, {"namespace": "ai"}))
    assert [(each.kind.type_url, each.namespace, each.name) for each in found] == [
        ("networking.istio.io/v1/ServiceEntry", "ai", "resnet.v1"),
        ("networking.istio.io/v1/DestinationRule", "ai", "resnet.v1"),
        ("networking.istio.io/v1/VirtualService", "ai", "sluice"),
    ]
    assert IstioKind.VIRTUAL_SERVICE.message_url == (
        "type.googleapis.com/istio.networking.v1alpha3.VirtualService"
    )


def test_listed_addresses_are_the_endpoints_of_a_host_of_the_version() -> None:
    versions = {
        "v1": {
            "endpoints": [
                {"address": "10.0.0.1:8000", "weight": 3},
                {"address": "[fd00::1]:8001"},
                {"address": "10.0.0.3:8000", "drain": True},
            ]
        }
    }
    assert specs(config({"resnet": {"versions": versions}}), "ServiceEntry")["resnet.v1"] == {
        "hosts": ["v1.resnet.sluice.internal"],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "resolution": "STATIC",
        "endpoints": [
            {"address": "10.0.0.1", "ports": {"http": 8000}, "weight": 3},
            {"address": "fd00::1", "ports": {"http": 8001}, "weight": 1},
        ],
    }


def test_envoy_resolves_names_of_endpoints() -> None:
    versions = {
        "listed": version("10.0.0.1:80", "m.example.com:8000", protocol="grpc"),
        "strict": {"endpoints_from": {"dns": {"name": "m.example.com", "port": 9000}}},
        "logical": {
            "endpoints_from": {"dns": {"name": "m.example.com", "port": 9000, "kind": "logical"}}
        },
    }
    entries = specs(config({"m": {"versions": versions, "stable": "listed"}}), "ServiceEntry")
    assert {name: each["resolution"] for name, each in entries.items()} == {
        "m.listed": "DNS",
        "m.strict": "DNS",
        "m.logical": "DNS_ROUND_ROBIN",
    }
    assert entries["m.listed"]["ports"] == [{"number": 80, "name": "grpc", "protocol": "GRPC"}]
    assert entries["m.strict"]["endpoints"] == [
        {"address": "m.example.com", "ports": {"http": 9000}, "weight": 1}
    ]


def test_versions_of_a_kubernetes_service_share_its_rule_and_keep_their_pools() -> None:
    models = {
        "a": {"versions": {"v1": service("triton")}, "pool": {"max_connections": 7}},
        "b": {"versions": {"v1": service("triton")}},
        "c": {"versions": {"v1": service("other", "http")}},
    }
    found = config(models, {"service_ports": {"models/triton": 80}})
    assert specs(found, "ServiceEntry") == {}
    rules = list(specs(found, "DestinationRule").values())
    assert [each["host"] for each in rules] == [
        "triton.models.svc.cluster.local",
        "other.models.svc.cluster.local",
    ]
    pools = {
        each["name"]: each["trafficPolicy"]["connectionPool"]["tcp"]["maxConnections"]
        for each in rules[0]["subsets"]
    }
    assert pools == {"a--v1": 7, "b--v1": 1024}
    destinations = [each["route"][0]["destination"] for each in routes(found) if "route" in each]
    assert destinations[::2] == [
        {"host": rules[0]["host"], "port": {"number": 80}, "subset": "a--v1"},
        {"host": rules[0]["host"], "port": {"number": 80}, "subset": "b--v1"},
        {"host": rules[1]["host"], "subset": "c--v1"},
    ]


def test_the_rule_has_the_pool_of_the_model() -> None:
    pool = {
        "connect_timeout": "250ms", "max_connections": 2**32 - 1, "max_pending_requests": 5,
        "max_requests": 6, "max_retries": 7, "max_requests_per_connection": 8,
        "idle_timeout": "9s", "tcp_keepalive": "12s",
    }  # fmt: skip
    models = {"m": {"versions": {"v1": version("10.0.0.1:80")}, "pool": pool}}
    policy = specs(config(models), "DestinationRule")["m.v1"]["trafficPolicy"]
    assert policy["loadBalancer"] == {"simple": "LEAST_REQUEST"}
    assert policy["connectionPool"] == {
        "tcp": {
            "maxConnections": 2**31 - 1,
            "connectTimeout": "0.250s",
            "tcpKeepalive": {"probes": 3, "time": "12s", "interval": "2s"},
        },
        "http": {
            "http1MaxPendingRequests": 5,
            "http2MaxRequests": 6,
            "maxRetries": 7,
            "maxRequestsPerConnection": 8,
            "idleTimeout": "9s",
            "h2UpgradePolicy": "DO_NOT_UPGRADE",
        },
    }


def test_tls_of_a_version_names_a_secret_only_if_the_operator_must_provide_one() -> None:
    endpoint = "m.example.com:443"
    files = {"ca": "ca.pem", "certificate": "c.pem", "private_key": "k.pem"}
    versions = {
        "plain": version(endpoint),
        "system": version(endpoint, tls={}),
        "ca": version(endpoint, tls={"ca": "ca.pem", "server_name": "other.example.com"}),
        "mutual": version(endpoint, tls=files),
        "any": version(endpoint, tls={"allow_any_server": True}),
        "address": version("10.0.0.1:443", tls={}),
    }
    found = config({"m": {"versions": versions, "stable": "plain"}})
    rules = specs(found, "DestinationRule")
    tls = {name: each["trafficPolicy"].get("tls") for name, each in rules.items()}
    named = {"sni": "m.example.com", "subjectAltNames": ["m.example.com"]}
    assert tls == {
        "m.plain": None,
        "m.system": {"mode": "SIMPLE", **named},
        "m.ca": {
            "mode": "SIMPLE",
            "sni": "other.example.com",
            "subjectAltNames": ["other.example.com"],
            "credentialName": f"sluice-{label('m/ca')}",
        },
        "m.mutual": {
            "mode": "MUTUAL", **named, "credentialName": f"sluice-{label('m/mutual')}",
        },
        "m.any": {"mode": "SIMPLE", "insecureSkipVerify": True},
        "m.address": {"mode": "SIMPLE", "subjectAltNames": ["10.0.0.1"]},
    }  # fmt: skip


def test_a_route_matches_only_what_the_callout_has_chosen() -> None:
    retries = {"attempts": 2, "retry_on": ["5xx"], "per_try_timeout": "2s"}
    models = {
        "m": {
            "versions": {"v1": version("10.0.0.1:80")},
            "timeout": "5s",
            "retries": retries,
            "paths": ["/a", "/b"],
        }
    }
    reads, others, refused = routes(config(models))
    chosen = {"headers": {"x-model-service": {"exact": "m/v1"}}}
    assert others == {
        "name": "m",
        "match": [chosen],
        "route": [{"destination": {"host": "v1.m.sluice.internal", "port": {"number": 80}}}],
        "timeout": "5s",
        "retries": {"attempts": 2, "perTryTimeout": "2s", "retryOn": "5xx"},
        "headers": others["headers"],
    }
    assert reads["match"] == [{**chosen, "method": {"regex": "GET|HEAD"}}]
    assert reads["retries"]["retryOn"] == "5xx,reset"
    assert (refused["name"], refused["directResponse"]["status"]) == ("sluice-undecided", 503)
    assert "match" not in refused


def test_a_model_without_retries_and_timeout_gets_none_of_istios_own() -> None:
    models = {
        "m": {
            "versions": {"v1": version("10.0.0.1:80")},
            "timeout": 0,
            "retries": {"attempts": 0},
        }
    }
    route, _ = routes(config(models))
    assert route["retries"] == {}
    assert "timeout" not in route


def test_responses_get_the_reason_and_the_limits_of_the_decision() -> None:
    limits = {"rules": [{"name": "all", "rate": 10}]}
    found = config({"m": RESNET}, requests={"expose_reason": True}, limits=limits)
    changed = routes(found)[0]["headers"]["response"]
    assert changed["add"] == {
        "x-sluice-reason": "%REQ(x-sluice-reason)%",
        "ratelimit": "%REQ(x-sluice-ratelimit)%",
        "ratelimit-policy": "%REQ(x-sluice-ratelimit-policy)%",
    }
    assert routes(config({"m": RESNET}))[0]["headers"] == {
        "response": {
            "remove": ["x-sluice-reason", "x-sluice-limit", "ratelimit", "ratelimit-policy"]
        }
    }


def test_web_pages_may_call_the_models_that_allow_their_origin() -> None:
    cors = {"origins": ["https://*.example.com"], "max_age": "5m", "credentials": True}
    models = {"a": RESNET, "b": {**RESNET, "cors": {"origins": ["*"]}, "paths": ["/b"]}}
    found = routes(config({**models, "c": {**RESNET, "cors": {"origins": []}}}))
    assert [each.get("corsPolicy", {}).get("allowOrigins") for each in found] == [
        *[None] * 2, *[[{"exact": "*"}]] * 2, *[None] * 2, [{"exact": "*"}], None,
    ]  # fmt: skip
    decided, refused = found[2], found[-2]
    assert "access-control-allow-origin" in decided["headers"]["response"]["remove"]
    assert decided["headers"]["response"]["add"] == {"vary": "origin"}
    assert (refused["name"], refused["directResponse"]["status"]) == ("sluice-undecided", 503)
    assert {"prefix": "/b/"} in [each["uri"] for each in refused["match"]]
    (policy,) = [
        each["corsPolicy"]
        for each in routes(config({"a": RESNET}, requests={"cors": cors}))
        if "match" in each and "method" not in each["match"][0] and "route" in each
    ]
    assert policy["allowOrigins"] == [{"regex": r"https://([a-z0-9_-]+\.)+example\.com"}]
    assert policy["allowMethods"] == ["GET", "HEAD", "POST"]
    assert (policy["maxAge"], policy["allowCredentials"]) == ("300s", True)


def test_names_that_kubernetes_does_not_accept_get_distinct_labels() -> None:
    assert label("resnet-50") == "resnet-50"
    labels = [label(each) for each in ("ResNet", "resnet", "Resnet", "res.net", "res_net", "a--b")]
    assert len(set(labels)) == len(labels)
    assert all(each == each.lower() and "." not in each and len(each) <= 63 for each in labels)
    assert len(label("x" * 63 + ".")) <= 63


def test_the_parts_of_a_subset_name_cannot_be_mistaken() -> None:
    models = {
        "a": {"versions": {"b-c": service("s")}},
        "a-b": {"versions": {"c": service("s")}},
    }
    (rule,) = specs(config(models), "DestinationRule").values()
    assert [each["name"] for each in rule["subsets"]] == ["a--b-c", "a-b--c"]


def test_no_subset_is_that_of_other_names_with_hashes() -> None:
    first = label("A").removeprefix("a--")
    second = label(first.upper()).removeprefix(f"{first}--")
    assert subset_name("A", second) != subset_name("a", first.upper())
