"""The NetworkPolicies of `deploy/kubernetes` allow what the programs need, and nothing else."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import yaml

from sluice.cli import parser
from sluice.config import identity as identity_names
from tests.deploy.manifests import (
    CONTROL_PLANE,
    GATEWAY,
    REDIS,
    ROOT,
    VIDEO,
    Manifests,
    arguments,
    config_of,
    each_overlay,
    matches,
    overlay,
    port_numbers,
    render,
    with_component,
    with_components,
)
from tests.deploy.network import Peer, allows, pod_of
from xds.sources.store.open import check_store

CLIENT = Peer("a client", address="203.0.113.9")
METADATA = Peer("the metadata server", address="169.254.169.254")
PRIVATE = Peer("a private address", address="10.1.2.3")
MONITORING = Peer("Prometheus", "monitoring", {}, {"kubernetes.io/metadata.name": "monitoring"})
STRANGER = Peer("a stranger", "default", {}, {"kubernetes.io/metadata.name": "default"})
DNS = Peer("DNS", "kube-system", {}, {"kubernetes.io/metadata.name": "kube-system"})
MODEL = Peer("a model", "models", {}, {"sluice-gateway/models": "true"})
OUTSIDE = (CLIENT, METADATA, PRIVATE, MONITORING, STRANGER, DNS, MODEL)
PORTS = (53, 443, 6379, 6443, 8000, 8080, 8081, 9101, 9901, 9902, 9903, 18000)

COMMON = {
    # Everybody is a client.
    *((peer.name, GATEWAY, 8080) for peer in OUTSIDE),
    (GATEWAY, CONTROL_PLANE, 18000),
    (GATEWAY, REDIS, 6379),
    (CONTROL_PLANE, REDIS, 6379),
    *((GATEWAY, MODEL.name, port) for port in PORTS),
    # The API server, and issuers.
    *((CONTROL_PLANE, peer.name, port) for peer in (CLIENT, PRIVATE) for port in (443, 6443)),
    *((pod, DNS.name, 53) for pod in (GATEWAY, CONTROL_PLANE, REDIS)),
}
ALLOWED = {
    "production": COMMON | {(GATEWAY, CLIENT.name, 443)},
    "laptop": COMMON | {(GATEWAY, "example-models", port) for port in PORTS},
}


def allowed(manifests: Manifests) -> Iterator[tuple[str, str, int]]:
    pods = [pod_of(manifests, each["metadata"]["name"]) for each in manifests.workloads]
    policies = manifests.of_kind("NetworkPolicy")
    for source in (*pods, *OUTSIDE):
        for target in (*pods, *OUTSIDE):
            if source in pods or target in pods:
                for port in PORTS:
                    if source != target and allows(policies, source, target, port):
                        yield source.name, target.name, port


@each_overlay
def test_network_policies_allow_what_the_config_needs_and_nothing_else(name: str) -> None:
    manifests = overlay(name)
    assert set(allowed(manifests)) == ALLOWED[name]
    names = [pod_of(manifests, each) for each in (GATEWAY, CONTROL_PLANE)]
    policies = manifests.of_kind("NetworkPolicy")
    assert all(allows(policies, each, DNS, 53, "UDP") for each in names)


def test_prometheus_scrapes_every_metrics_port_and_reaches_nothing_else(tmp_path: Path) -> None:
    manifests = render(with_components(tmp_path, "production", "monitoring", "video"))
    config = config_of(manifests)
    identity = config.identity
    assert identity is not None
    assert identity.control_plane is not None
    names = {
        "sluice-callout": identity.callout.name,
        CONTROL_PLANE: identity.control_plane.name,
        VIDEO: identity_names.VIDEO,
    }
    scraped: dict[str, tuple[str, int]] = {}
    for monitor in manifests.of_kind("PodMonitor"):
        selector = monitor["spec"]["selector"]
        (workload,) = (
            each["metadata"]["name"]
            for each in manifests.workloads
            if matches(selector, each["spec"]["template"]["metadata"]["labels"])
        )
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            (relabeling,) = endpoint["relabelings"]
            job = relabeling["replacement"]
            port = port_numbers(manifests.pod(workload))[endpoint["port"]]
            scraped[job] = workload, port
            if job in names:
                assert endpoint["tlsConfig"]["serverName"] == names[job]
                assert endpoint["authorization"]["credentials"]["name"] == "sluice-tokens"
    jobs = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert set(scraped) == {each["job_name"] for each in jobs}
    prometheus = replace(MONITORING, labels={"app.kubernetes.io/name": "prometheus"})
    policies = manifests.of_kind("NetworkPolicy")
    for workload in (GATEWAY, CONTROL_PLANE, REDIS, VIDEO):
        pod = pod_of(manifests, workload)
        reached = {port for port in PORTS if allows(policies, prometheus, pod, port)}
        clients = {8080} if workload == GATEWAY else set[int]()
        assert reached == {port for name, port in scraped.values() if name == workload} | clients
    (token,) = config.control_plane.access.tokens
    assert (token.role, Path(str(token.secret_file)).name) == ("reader", "prometheus")


def test_an_external_redis_replaces_the_store_and_is_the_only_one_reached(tmp_path: Path) -> None:
    manifests = render(with_component(tmp_path, "external-redis"))
    options = parser().parse_args(arguments(manifests.container(CONTROL_PLANE, "control-plane")))
    check_store(options.store)
    assert options.store.startswith("rediss://")
    policy = manifests.get("NetworkPolicy", "to-external-redis")
    for workload in (GATEWAY, CONTROL_PLANE):
        pod = pod_of(manifests, workload)
        reached = {port for port in PORTS if allows([policy], pod, PRIVATE, port)}
        assert reached == {6379}
        assert not any(allows([policy], pod, METADATA, port) for port in PORTS)
