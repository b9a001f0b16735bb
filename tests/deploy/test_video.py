"""The component `video` agrees with the video service, and with the config of its page."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from sluice.cli import parser
from tests.deploy import cluster_files
from tests.deploy.manifests import (
    CONTROL_PLANE,
    GATEWAY,
    PARTS,
    REDIS,
    ROOT,
    VIDEO,
    arguments,
    config_of,
    containers,
    each_overlay,
    matches,
    port_numbers,
    probes,
    render,
    with_components,
)
from tests.deploy.mounts import Contents
from tests.deploy.network import Peer, allows, pod_of
from tests.deploy.video_component import with_video

CAMERA = Peer("a camera", address="10.1.2.3")
METADATA = Peer("the metadata server", address="169.254.169.254")
MONITORING = Peer(
    "Prometheus",
    "monitoring",
    {"app.kubernetes.io/name": "prometheus"},
    {"kubernetes.io/metadata.name": "monitoring"},
)
STRANGER = Peer("a stranger", "default", {}, {"kubernetes.io/metadata.name": "default"})
PORTS = (443, 554, 6379, 8080, 8081, 8554, 9901, 9902, 9903, 18000, 18200, 18240)


def test_the_documented_config_is_valid_with_the_files_of_the_containers(
    cluster: Contents, tmp_path: Path
) -> None:
    manifests = with_video(tmp_path)
    seen = (*PARTS, (VIDEO, "video"))
    loaded = cluster_files.checked_config(manifests, seen, cluster, tmp_path)
    assert {each.code for each in loaded.warnings} == {"plain_text_credentials"}


def test_a_pod_has_the_key_of_its_part_only(cluster: Contents, tmp_path: Path) -> None:
    manifests = with_video(tmp_path)
    identity = config_of(manifests).identity
    assert identity is not None
    files = cluster_files.files_of(manifests, VIDEO, "video", cluster)
    keys = {path for path in files if path.endswith(".key")}
    assert identity.video is not None
    assert keys == {identity.video.private_key}
    assert {identity.ca, identity.video.certificate} <= set(files)
    tokens = {each.secret_file for each in config_of(manifests).control_plane.access.tokens}
    assert tokens <= set(files)
    assert not any("redis" in path for path in files)


def test_the_ports_of_the_pods_and_of_the_service_are_those_of_the_config(tmp_path: Path) -> None:
    manifests = with_video(tmp_path)
    video = config_of(manifests).video
    assert video is not None
    options = parser().parse_args(arguments(manifests.container(VIDEO, "video")))
    assert str(options.config) == "/etc/sluice/config/gateway.yaml"
    listens = {"http": options.http, "grpc": options.grpc, "metrics": video.metrics}
    ports = port_numbers(manifests.pod(VIDEO))
    assert listens == {name: f"0.0.0.0:{port}" for name, port in ports.items()}
    service = manifests.get("Service", VIDEO)["spec"]
    # Envoy gets the address of each pod.
    assert service["clusterIP"] == "None"
    assert {each["name"]: f"{VIDEO}:{each['port']}" for each in service["ports"]} == {
        "http": video.http,
        "grpc": video.grpc,
    }
    gateway = manifests.get("Service", GATEWAY)["spec"]["ports"][0]
    assert video.gateway.address == f"{GATEWAY}:{gateway['port']}"
    # All ports of a pod are declared.
    assert video.workers == 1


def test_the_pods_share_the_streams(tmp_path: Path) -> None:
    manifests = render(with_components(tmp_path, "laptop", "video"))
    workload = manifests.get("StatefulSet", VIDEO)["spec"]
    (shard,) = (each for each in arguments(manifests.container(VIDEO, "video")) if "shard" in each)
    assert shard == f"--shard=$(POD_INDEX)/{workload['replicas']}"
    (index,) = manifests.container(VIDEO, "video")["env"]
    assert index["name"] == "POD_INDEX"
    assert "apps.kubernetes.io/pod-index" in index["valueFrom"]["fieldRef"]["fieldPath"]
    for number in range(workload["replicas"]):
        text = shard.replace("$(POD_INDEX)", str(number))
        assert parser().parse_args(["video-service", text]).shard


@each_overlay
def test_pods_are_restricted_and_bounded(name: str, tmp_path: Path) -> None:
    manifests = render(with_components(tmp_path, name, "video"))
    (other, *_) = containers(manifests.pod(CONTROL_PLANE))
    (container,) = containers(manifests.pod(VIDEO))
    assert container["securityContext"] == other["securityContext"]
    assert set(container["resources"]) == {"requests", "limits"}
    spec, other_spec = manifests.pod(VIDEO)["spec"], manifests.pod(CONTROL_PLANE)["spec"]
    assert spec["securityContext"] == other_spec["securityContext"]
    assert spec["automountServiceAccountToken"] is spec["enableServiceLinks"] is False
    assert container["image"] == f"ghcr.io/sluice-gateway/{VIDEO}:{version('sluice-gateway')}"
    dockerfile = (ROOT / "deploy/images/Dockerfile").read_text()
    assert re.search(rf"^FROM sluice AS {VIDEO}$", dockerfile, re.MULTILINE)
    asked = {kind: probe["httpGet"] for kind, probe in probes(container)}
    assert {each["port"] for each in asked.values()} == {"metrics"}
    assert {each["scheme"] for each in asked.values()} == {"HTTPS"}
    assert {kind: each["path"] for kind, each in asked.items()} == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    for budget in manifests.of_kind("PodDisruptionBudget"):
        if budget["metadata"]["name"] == VIDEO:
            labels = manifests.pod(VIDEO)["metadata"]["labels"]
            assert matches(budget["spec"]["selector"], labels)


def test_a_pod_that_ends_has_the_time_to_drain(tmp_path: Path) -> None:
    manifests = with_video(tmp_path)
    video = config_of(manifests).video
    assert video is not None
    grace = manifests.pod(VIDEO)["spec"]["terminationGracePeriodSeconds"]
    assert video.drain_timeout + 10 <= grace


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (GATEWAY, VIDEO, {18200, 18240}),
        (VIDEO, GATEWAY, {8080}),
        (VIDEO, CONTROL_PLANE, {18000}),
        (CONTROL_PLANE, VIDEO, set()),
        (VIDEO, REDIS, set()),
        (VIDEO, CAMERA, {554, 8554}),
        (CAMERA, VIDEO, set()),
        (VIDEO, METADATA, set()),
        (STRANGER, VIDEO, set()),
        (MONITORING, VIDEO, {9903}),
    ],
    ids=str,
)
def test_network_policies_allow_what_the_service_needs_and_nothing_else(
    source: str | Peer, target: str | Peer, expected: set[int], tmp_path: Path
) -> None:
    manifests = render(with_components(tmp_path, "production", "monitoring", "video"))
    policies = manifests.of_kind("NetworkPolicy")
    ends = [
        each if isinstance(each, Peer) else pod_of(manifests, each) for each in (source, target)
    ]
    assert {port for port in PORTS if allows(policies, *ends, port)} == expected


def test_the_page_names_each_network_policy(tmp_path: Path) -> None:
    page = (ROOT / "docs/kubernetes.md").read_text()
    policies = render(with_components(tmp_path, "laptop", "video")).of_kind("NetworkPolicy")
    names = {each["metadata"]["name"] for each in policies} - {"default-deny", "example-models"}
    assert [name for name in names if f"`{name}`" not in page] == []
