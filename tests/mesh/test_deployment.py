"""Controllers of Kubernetes act on `deploy/kubernetes` as its numbers promise.

The production overlay is applied, in a namespace of its own. A `Kubelet` says that pods are ready.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.integration.gateway import eventually
from tests.mesh.kube_api import KubeApi, Object
from tests.mesh.kubelet import Kubelet
from tests.mesh.pods import Pods, machine_address
from tests.mesh.report import MeshReport

NAMESPACE, APP = "deployment", "sluice-gateway"
OVERLAY = Path(__file__).parents[2] / "deploy/kubernetes/overlays/production"


def in_own_namespace(text: str) -> list[Object]:
    """The objects of a YAML text, all in the namespace of this test."""
    objects = [document for document in yaml.safe_load_all(text) if document]
    for each in objects:
        key = "name" if each["kind"] == "Namespace" else "namespace"
        if key in each["metadata"]:
            each["metadata"][key] = NAMESPACE
    return objects


@pytest.fixture(scope="module")
def kubelet(kube_api: KubeApi, crds: None) -> Iterator[Kubelet]:
    """The overlay is in force. There are no metrics, so the autoscaler keeps what others set."""
    objects = in_own_namespace(kube_api.kubectl("kustomize", str(OVERLAY)))
    namespaces = [each for each in objects if each["kind"] == "Namespace"]
    Pods(kube_api, NAMESPACE).create_node()
    kube_api.apply(*namespaces)
    kube_api.apply(*(each for each in objects if each["kind"] != "Namespace"))
    with Kubelet(kube_api, NAMESPACE, APP, machine_address()) as kubelet:
        yield kubelet


def deployment(kube_api: KubeApi, name: str = APP) -> dict[str, int]:
    status: dict[str, int] = kube_api.get(f"deployment/{name}", "--namespace", NAMESPACE)["status"]
    return status


def test_the_autoscaler_gets_its_minimum_of_admitted_pods(
    kube_api: KubeApi, kubelet: Kubelet
) -> None:
    """A Deployment with pods that may not exist is accepted, and never gets ready."""
    eventually(lambda: kubelet.ready() >= 3)
    eventually(lambda: deployment(kube_api, "sluice-control-plane").get("readyReplicas") == 2)


def scale(kube_api: KubeApi, kubelet: Kubelet, replicas: int) -> None:
    count = f"--replicas={replicas}"
    kube_api.kubectl("scale", f"deployment/{APP}", count, "--namespace", NAMESPACE)
    eventually(lambda: kubelet.ready() == replicas)


def test_a_rolling_update_keeps_five_pods_and_has_eight_at_most(
    kube_api: KubeApi, kubelet: Kubelet, mesh_report: MeshReport
) -> None:
    scale(kube_api, kubelet, 6)
    before, begun = set(kubelet.names()), len(kubelet.seen)
    kube_api.kubectl("rollout", "restart", f"deployment/{APP}", "--namespace", NAMESPACE)
    options = ["--namespace", NAMESPACE, "--timeout=60s"]
    kube_api.kubectl("rollout", "status", f"deployment/{APP}", *options)
    assert not before & set(kubelet.names())
    seen = kubelet.seen[begun:]
    ready, remaining = min(each["ready"] for each in seen), max(each["remain"] for each in seen)
    assert ready >= 5
    assert remaining <= 8
    mesh_report.notes.append(
        f"rolling update of 6 pods of {APP}: never fewer than {ready} ready, {remaining} at most"
    )


def test_a_drained_node_takes_one_pod_at_a_time(kube_api: KubeApi, kubelet: Kubelet) -> None:
    scale(kube_api, kubelet, 6)
    budget = "poddisruptionbudget/sluice-gateway"

    def allowed() -> int:
        found: int = kube_api.get(budget, "--namespace", NAMESPACE)["status"]["disruptionsAllowed"]
        return found

    eventually(lambda: allowed() == 1)
    kubelet.starts_pods = False
    first, second, *_ = kubelet.names()
    assert kubelet.evict(first) == 201
    assert kubelet.evict(second) == 429
    kubelet.starts_pods = True
    eventually(lambda: kubelet.ready() == 6)
    eventually(lambda: kubelet.evict(second) == 201)
