"""A Kubernetes API server accepts the manifests, and their account follows EndpointSlices."""

import copy
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy import cluster_files
from tests.deploy.local_pods import LocalPods, example_models, infer
from tests.deploy.manifests import (
    COMPONENTS,
    KUBERNETES,
    OVERLAYS,
    Manifests,
    Object,
    overlay,
    render,
    with_component,
)
from tests.integration.gateway import eventually
from tests.mesh.kube_api import KubeApi, KubectlError
from tests.mesh.processes import Process
from tests.mesh.report import MeshReport

ACCOUNT = "sluice-control-plane"
MODELS = "models"

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.fixture(scope="module", autouse=True)
def namespaces(kube_api: KubeApi) -> None:
    """Objects of a namespace need it, also in a dry run."""
    for name in ("sluice", "sluice-models", MODELS):
        kube_api.create_namespace(name, RESTRICTED)


def pods(manifests: Manifests) -> list[Object]:
    """One pod of each workload."""
    found = []
    for workload in manifests.workloads:
        template = copy.deepcopy(workload["spec"]["template"])
        metadata = {**workload["metadata"], "labels": template["metadata"]["labels"]}
        claims = workload["spec"].get("volumeClaimTemplates", ())
        template["spec"]["volumes"] += [
            {
                "name": claim["metadata"]["name"],
                "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]},
            }
            for claim in claims
        ]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        found.append(pod)
    return found


def accounts(manifests: Manifests) -> list[Object]:
    return manifests.of_kind("ServiceAccount")


@pytest.mark.parametrize("name", OVERLAYS)
def test_each_overlay_is_accepted_and_its_pods_are_restricted(kube_api: KubeApi, name: str) -> None:
    accepted = kube_api.apply_kustomization(KUBERNETES / "overlays" / name, dry_run=True)
    assert len(accepted) == len(overlay(name).objects)
    # A pod needs its account. The namespaces enforce the restricted standard.
    kube_api.apply(*accounts(overlay(name)))
    kube_api.apply(*pods(overlay(name)), dry_run=True)


@pytest.mark.usefixtures("crds")
@pytest.mark.parametrize("component", COMPONENTS)
def test_each_component_is_accepted(kube_api: KubeApi, component: str, tmp_path: Path) -> None:
    folder = with_component(tmp_path, component)
    accepted = kube_api.apply_kustomization(folder, dry_run=True)
    assert len(accepted) == len(render(folder).objects)


def test_a_pod_that_is_not_restricted_is_refused(kube_api: KubeApi) -> None:
    laptop = overlay("laptop")
    kube_api.apply(*accounts(laptop))
    (pod, *_) = pods(laptop)
    pod["spec"]["containers"][0]["securityContext"]["capabilities"] = {}
    with pytest.raises(KubectlError, match="violates PodSecurity"):
        kube_api.apply(pod, dry_run=True)


def may(kube_api: KubeApi, verb: str, resource: str) -> bool:
    """Whether the control plane may do this in the namespace of the models."""
    account = f"system:serviceaccount:sluice:{ACCOUNT}"
    options = ["--as", account, "--namespace", "sluice-models"]
    try:
        kube_api.kubectl("auth", "can-i", verb, resource, *options)
    except KubectlError:
        return False
    return True


ADDRESS = "192.0.2.1"
"""An address for which there is a route, but no connection is made (RFC 5737)."""


def own_address() -> str:
    """The address of this machine: an EndpointSlice cannot have a loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((ADDRESS, 9))
        address: str = probe.getsockname()[0]
        return address


def endpoint_slice(ports: dict[str, int], *, ready: bool = True) -> Object:
    """What Kubernetes makes of the Service of the example models and their pod."""
    conditions = {"ready": ready, "serving": ready, "terminating": False}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "example-models-1",
            "namespace": "sluice-models",
            "labels": {"kubernetes.io/service-name": "example-models"},
        },
        "addressType": "IPv4",
        "ports": [{"name": name, "port": port} for name, port in ports.items()],
        "endpoints": [{"addresses": [own_address()], "conditions": conditions}],
    }


@pytest.fixture
def models(tmp_path: Path) -> Iterator[dict[str, int]]:
    started: tuple[Process, dict[str, int]] = example_models(
        overlay("laptop"), own_address(), tmp_path / "models"
    )
    yield started[1]
    started[0].stop()


def test_endpoint_slices_reach_envoy_with_the_rights_of_the_account(
    kube_api: KubeApi,
    tmp_path: Path,
    models: dict[str, int],
    mesh_report: MeshReport,
    capsys: pytest.CaptureFixture[str],
) -> None:
    laptop = overlay("laptop")
    kube_api.apply(*accounts(laptop), *laptop.of_kind("Role"), endpoint_slice(models))
    kubeconfig = kube_api.service_account_kubeconfig("sluice", ACCOUNT)
    certificates = cluster_files.certificates(tmp_path / "certs")
    token = cluster_files.token(certificates, capsys)
    cluster = cluster_files.create_secrets(tmp_path / "created", certificates)
    environment = {"KUBECONFIG": str(kubeconfig)}
    gateway = LocalPods(laptop, tmp_path / "pods", cluster, {}, environment)
    try:
        gateway.start()
        # Nobody has given the role to the account yet.
        assert not may(kube_api, "watch", "endpointslices")
        assert infer(gateway, token).status_code == 503
        eventually(lambda: "403" in gateway.log("control-plane"))
        kube_api.apply(*laptop.of_kind("RoleBinding"))
        # The API server learns of a binding a moment later.
        eventually(lambda: may(kube_api, "watch", "endpointslices"))
        assert not may(kube_api, "list", "secrets")
        # Each thread of Envoy learns of the endpoints for itself.
        eventually(lambda: {infer(gateway, token).status_code for _ in range(10)} == {200})
        answer = infer(gateway, token)
        assert answer.json()["model_version"] == "v2"
        mesh_report.answer("sentiment, by EndpointSlices of the API server", answer)
        # A pod that is not ready gets no requests.
        kube_api.apply(endpoint_slice(models, ready=False))
        eventually(lambda: infer(gateway, token).status_code == 503)
    finally:
        gateway.stop()
