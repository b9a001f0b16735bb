"""The Kubernetes objects of `deploy/kubernetes`, as Kustomize renders them."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

from sluice.config import GatewayConfig
from sluice.config.load import loads

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
COMPONENTS = sorted(path.name for path in (KUBERNETES / "components").iterdir())

each_overlay = pytest.mark.parametrize("name", OVERLAYS)

GATEWAY, CONTROL_PLANE, REDIS = "sluice-gateway", "sluice-control-plane", "sluice-redis"
VIDEO = "sluice-video"
"""Names of workloads."""

PARTS = ((CONTROL_PLANE, "control-plane"), (GATEWAY, "callout"), (GATEWAY, "envoy"))
"""The workload and the container of each part of the gateway."""

Object: TypeAlias = Mapping[str, Any]

WORKLOADS = ("Deployment", "StatefulSet")


def kustomize() -> list[str]:
    """The command that renders a kustomization. Without one, the test fails in CI, else skips."""
    found = shutil.which("kubectl") or shutil.which("kustomize")
    if found is None:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing("needs kubectl or kustomize")
    return [found, "kustomize" if Path(found).name == "kubectl" else "build"]


@cache
def render(folder: Path) -> "Manifests":
    """The objects of a kustomization. Raises CalledProcessError if it cannot be rendered."""
    text = subprocess.run(
        [*kustomize(), str(folder)], check=True, text=True, stdout=subprocess.PIPE, timeout=60
    ).stdout
    return Manifests(tuple(yaml.safe_load_all(text)))


@cache
def overlay(name: str) -> "Manifests":
    """The objects of an overlay."""
    return render(KUBERNETES / "overlays" / name)


def with_components(folder: Path, name: str, *components: str) -> Path:
    """Write a kustomization into the folder: an overlay with further components."""

    def relative(path: Path) -> str:
        return os.path.relpath(path, folder.resolve())

    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [relative(KUBERNETES / "overlays" / name)],
        "components": [relative(KUBERNETES / "components" / each) for each in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return folder


def with_component(folder: Path, component: str) -> Path:
    """An overlay with this component: one of ours that has it, or one in `folder`."""
    for name in OVERLAYS:
        file = KUBERNETES / "overlays" / name / "kustomization.yaml"
        if f"../../components/{component}" in yaml.safe_load(file.read_text())["components"]:
            return file.parent
    # Components that change what another component has made need it before them.
    return with_components(folder, "production", component)


@dataclass(frozen=True)
class Manifests:
    """The objects of one kustomization."""

    objects: tuple[Object, ...]

    def of_kind(self, *kinds: str) -> list[Object]:
        """The objects of these kinds."""
        return [each for each in self.objects if each["kind"] in kinds]

    def get(self, kind: str, name: str) -> Object:
        """The only object with this kind and name."""
        (found,) = (each for each in self.of_kind(kind) if each["metadata"]["name"] == name)
        return found

    def text(self, config_map: str, key: str) -> str:
        """The text of a key of a ConfigMap."""
        text: str = self.get("ConfigMap", config_map)["data"][key]
        return text

    @property
    def workloads(self) -> list[Object]:
        """What has pods."""
        return self.of_kind(*WORKLOADS)

    def pod(self, name: str) -> Object:
        """The pod template of a workload."""
        (found,) = (each for each in self.workloads if each["metadata"]["name"] == name)
        template: Object = found["spec"]["template"]
        return template

    def container(self, workload: str, name: str) -> Object:
        """A container of a workload."""
        (found,) = (each for each in containers(self.pod(workload)) if each["name"] == name)
        return found


def config_of(manifests: Manifests) -> GatewayConfig:
    """The config of the gateway."""
    return loads(manifests.text("sluice-config", "gateway.yaml"), "gateway.yaml")


def containers(pod: Object) -> list[Object]:
    """All containers of a pod template, those with `restartPolicy: Always` too."""
    spec = pod["spec"]
    return [*spec.get("initContainers", ()), *spec["containers"]]


def port_numbers(pod: Object) -> Mapping[str, int]:
    """The named ports of a pod template."""
    return {
        port["name"]: port["containerPort"]
        for container in containers(pod)
        for port in container.get("ports", ())
    }


def matches(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects these labels."""
    exact = selector.get("matchLabels", {})
    if any(labels.get(key) != value for key, value in exact.items()):
        return False
    for each in selector.get("matchExpressions", ()):
        assert each["operator"] == "In"
        if labels.get(each["key"]) not in each["values"]:
            return False
    return True


def probes(container: Object) -> Iterator[tuple[str, Object]]:
    """The probes of a container, by their names."""
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        if name in container:
            yield name, container[name]


def memory(text: str) -> int:
    """The bytes of a quantity such as 512Mi."""
    units = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
    return int(text[:-2]) * units[text[-2:]]


def arguments(container: Object) -> Sequence[str]:
    """The arguments of the image's command."""
    found: Sequence[str] = container.get("args", ())
    return found
