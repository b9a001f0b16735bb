"""The files of `deploy/istio` agree with what the programs do, and with each other."""

from pathlib import Path

import pytest
import yaml

from sluice.cli import main
from sluice.config.addresses import split_host_port
from sluice.config.checked import load_checked
from sluice.config.load import loads
from sluice.config.named_files import RUNS_HERE
from tests.deploy import cluster_files
from tests.deploy.manifests import ROOT, Manifests, containers, port_numbers, probes, render
from tests.deploy.mounts import Contents, mounted_files
from tests.deploy.network import Peer, allows, pod_of

ISTIO = ROOT / "deploy" / "istio"
PARTS = ("routes", "filters", "policies", "mesh-config")

CALLOUT, CONTROL_PLANE, REDIS = "sluice-callout", "sluice-control-plane", "sluice-redis"
INGRESS = Peer(
    "the ingress gateway",
    "istio-system",
    {"istio": "ingressgateway"},
    {"kubernetes.io/metadata.name": "istio-system"},
)
STRANGER = Peer("a stranger", "default", {}, {"kubernetes.io/metadata.name": "default"})
CALLER = Peer("a caller", "apps", {}, {"sluice-gateway/callers": "true"})


@pytest.fixture(scope="module")
def manifests() -> Manifests:
    return render(ISTIO)


@pytest.mark.parametrize("part", PARTS)
def test_the_files_for_the_mesh_are_those_of_sluice_export(
    part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "istio", str(ISTIO / "gateway.yaml"), "--part", part]) == 0
    file = ISTIO / "mesh" / f"{part}.yaml"
    assert file.read_text() == capsys.readouterr().out, "run `make docs`"


def test_the_gateway_of_the_mesh_has_the_hosts_of_the_config(manifests: Manifests) -> None:
    config = loads(manifests.text("sluice-config", "gateway.yaml"), "gateway.yaml")
    assert config.istio is not None
    gateway = yaml.safe_load((ISTIO / "mesh" / "ingress.yaml").read_text())
    metadata = gateway["metadata"]
    assert (metadata["name"],) == config.istio.gateways
    assert metadata["namespace"] == config.istio.namespace
    assert gateway["spec"]["selector"] == dict(config.istio.workloads[0].labels)
    assert all(tuple(each["hosts"]) == config.istio.hosts for each in gateway["spec"]["servers"])


def test_no_envoy_of_our_own_runs(manifests: Manifests) -> None:
    assert {each["metadata"]["name"] for each in manifests.workloads} == {
        CALLOUT, CONTROL_PLANE, REDIS,
    }  # fmt: skip
    for kind in ("Service", "ServiceAccount", "PodDisruptionBudget"):
        names = {each["metadata"]["name"] for each in manifests.of_kind(kind)}
        assert "sluice-gateway" not in names
        assert CALLOUT in names


def test_the_service_of_the_callout_is_that_of_the_config(manifests: Manifests) -> None:
    config = loads(manifests.text("sluice-config", "gateway.yaml"), "gateway.yaml")
    assert config.istio is not None
    host, port = split_host_port(config.istio.callout)
    service = manifests.get("Service", CALLOUT)
    metadata = service["metadata"]
    assert host == f"{metadata['name']}.{metadata['namespace']}.svc.cluster.local"
    (found,) = service["spec"]["ports"]
    assert (found["port"], found["appProtocol"]) == (int(port), "grpc")
    (address,) = config.callout.addresses()
    listening = port_numbers(manifests.pod(CALLOUT))
    assert listening[found["targetPort"]] == int(split_host_port(address)[1])
    metrics = int(split_host_port(config.telemetry.metrics.address)[1])
    for container in containers(manifests.pod(CALLOUT)):
        for name, probe in probes(container):
            assert listening[probe["httpGet"]["port"]] == metrics, name


def test_the_config_is_valid_with_the_files_that_the_containers_have(
    manifests: Manifests, tmp_path: Path
) -> None:
    created = cluster_files.create_secrets(
        tmp_path / "created", cluster_files.certificates(tmp_path / "certs")
    )
    tokens = {"callout": b"c" * 40, "envoy": b"e" * 40}
    contents: Contents = {
        **created,
        **cluster_files.config_maps(manifests),
        ("secret", "sluice-xds-tokens"): tokens,
    }
    files = {
        name: mounted_files(manifests.pod(name), manifests.container(name, part), contents)
        for name, part in ((CALLOUT, "callout"), (CONTROL_PLANE, "control-plane"))
    }
    assert not any(path.endswith((".key", "/envoy")) for path in files[CALLOUT])
    for path, data in {**files[CALLOUT], **files[CONTROL_PLANE]}.items():
        file = tmp_path / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    config = tmp_path / "etc/sluice/config/gateway.yaml"
    config.write_text(config.read_text().replace("/etc/sluice/", f"{tmp_path}/etc/sluice/"))
    assert load_checked(config, RUNS_HERE).policy is not None


def test_only_envoys_of_the_mesh_reach_the_callout(manifests: Manifests) -> None:
    policies = manifests.of_kind("NetworkPolicy")
    callout, control, redis = (pod_of(manifests, n) for n in (CALLOUT, CONTROL_PLANE, REDIS))
    callers = [p for p in (INGRESS, CALLER, STRANGER) if allows(policies, p, callout, 18100)]
    assert callers == [INGRESS, CALLER]
    assert allows(policies, callout, control, 18000)
    assert allows(policies, callout, redis, 6379)
    assert not allows(policies, callout, control, 8081)
    assert not any(allows(policies, STRANGER, each, 18000) for each in (callout, control))
