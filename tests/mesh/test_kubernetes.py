"""A Kubernetes API server accepts the manifests, and their account follows EndpointSlices."""

import copy
from pathlib import Path

import pytest

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
from tests.mesh.kube_api import KubeApi

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
