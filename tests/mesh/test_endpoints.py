"""Pods reach Envoy through EndpointSlices of Kubernetes' own controller and the control plane."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sluice.data import data_path
from tests.integration.gateway import (
    INFER,
    Gateway,
    base_config,
    bearer,
    eventually,
    free_ports,
    running,
)
from tests.integration.load import Load
from tests.mesh.kube_api import KubeApi
from tests.mesh.pods import Pods, machine_address
from tests.mesh.processes import Process
from tests.mesh.report import MeshReport

NAMESPACE, SERVICE = "endpoints", "models"


@pytest.fixture(scope="module")
def pods(kube_api: KubeApi) -> Pods:
    """The pods of a Service, whose port `http` is the port of that name of each pod."""
    kube_api.create_namespace(NAMESPACE)
    metadata = {"name": SERVICE, "namespace": NAMESPACE}
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    spec = {"selector": {"app": SERVICE}, "ports": ports, "clusterIP": "None"}
    kube_api.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    pods = Pods(kube_api, NAMESPACE)
    pods.create_node()
    return pods


def control_plane_account(kube_api: KubeApi) -> Path:
    """A kubeconfig of an account with the role that `docs/configure.md` names, and no more."""
    metadata = {"name": "control-plane", "namespace": NAMESPACE}
    group = "rbac.authorization.k8s.io"
    rule = {
        "apiGroups": ["discovery.k8s.io"],
        "resources": ["endpointslices"],
        "verbs": ["list", "watch"],
    }
    kube_api.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": [rule]},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "control-plane"},
            "subjects": [{"kind": "ServiceAccount", **metadata}],
        },
    )
    return kube_api.service_account_kubeconfig(NAMESPACE, "control-plane")


@pytest.fixture(scope="module")
def gateway(kube_api: KubeApi, pods: Pods) -> Iterator[Gateway]:
    """A gateway with its own Envoy. The endpoints of its model are the pods of the Service."""
    config = base_config()
    service = {"service": SERVICE, "namespace": NAMESPACE, "port": "http"}
    config["models"]["echo"]["versions"] = {"v1": {"endpoints_from": {"kubernetes": service}}}
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KUBECONFIG", str(control_plane_account(kube_api)))
        with running(config) as started:
            yield started


@dataclass(frozen=True)
class Model:
    """An example model server of a version, as the process of a pod."""

    pods: Pods
    version: str
    server: Process
    port: int

    def become_ready(self) -> None:
        self.pods.run(self.version, SERVICE, machine_address(), self.port)

    def end(self) -> None:
        """Begin the termination period of the pod. The server still runs."""
        self.pods.end(self.version)

    def stop(self) -> None:
        """End the server, and then the pod."""
        self.server.stop()
        if self.pods.exists(self.version):
            self.pods.remove(self.version)


@pytest.fixture
def start_model(pods: Pods, mesh_folder: Path) -> Iterator[Callable[[str], Model]]:
    """Starts the model server of a version. Its pod does not exist yet."""
    started: list[Model] = []

    def start(version: str) -> Model:
        (port,) = free_ports(1)
        argv = [sys.executable, "-P", "-m", "examples.model_server", "--serve"]
        addresses = [f"echo:{version}", f"{machine_address()}:{port}", "127.0.0.1:0"]
        path = {"PYTHONPATH": str(data_path("examples").parent)}
        server = Process(f"model-{version}", [*argv, *addresses], mesh_folder / "models", path)
        started.append(Model(pods, version, server, port))
        eventually(lambda: "rest=" in server.log.read_text())
        return started[-1]

    yield start
    for model in started:
        model.stop()


def answering(gateway: Gateway) -> str:
    """The status of an answer, and the version of the model server that gave it, or the reason."""
    with gateway.client(headers=bearer()) as client:
        answer = client.post(INFER, json={"inputs": []})
    document = answer.json()
    return f"{answer.status_code} {document.get('version') or document['reason']}"


def test_a_rolling_update_of_pods_fails_no_request(
    gateway: Gateway, start_model: Callable[[str], Model], mesh_report: MeshReport
) -> None:
    """A pod gets requests when it is ready, and none after it has begun to end."""
    old, new = start_model("old"), start_model("new")
    old.become_ready()
    eventually(lambda: answering(gateway) == "200 old")
    with Load(gateway.config["listener"]["address"], INFER, bearer()) as load:
        load.wait_for(50)
        new.become_ready()
        eventually(lambda: answering(gateway) == "200 new")
        old.end()
        eventually(lambda: {answering(gateway) for _ in range(10)} == {"200 new"})
        old.stop()
        load.wait_for(50)
    assert load.failures == []
    mesh_report.notes.append(f"rolling update of model pods: {load.responses} requests, 0 failed")


def test_a_service_without_ready_pods_is_refused(
    gateway: Gateway, pods: Pods, start_model: Callable[[str], Model]
) -> None:
    model = start_model("only")
    model.become_ready()
    eventually(lambda: answering(gateway) == "200 only")
    pods.set_ready("only", machine_address(), ready=False)
    eventually(lambda: answering(gateway) == "503 no_healthy_endpoint")
    pods.set_ready("only", machine_address())
    eventually(lambda: answering(gateway) == "200 only")
