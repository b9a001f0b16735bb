"""Pods of the callout may be replaced under load, also if Envoy is the one of a mesh.

Istiod follows the pods, and an ingress gateway of the mesh asks their callouts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from sluice.config.load import load
from tests.integration.gateway import INFER, base_config, bearer, eventually, free_ports
from tests.integration.load import Load
from tests.mesh.callout_gateway import CalloutGateway
from tests.mesh.istio_envoy import IstioEnvoy
from tests.mesh.istio_objects import networking
from tests.mesh.istiod import Istiod
from tests.mesh.kube_api import KubeApi, Object
from tests.mesh.pods import Pods
from tests.mesh.report import MeshReport
from xds.istio.documents import document
from xds.istio.envoy_filters import envoy_filters
from xds.istio.resources import compile_istio

NAMESPACE, APP = "callout-service", "sluice-callout"
GATEWAY = "rolling"
HOST = "models.rolling.test"
PORT = 18100
SERVICE = f"{APP}.{NAMESPACE}.svc.cluster.local"
CLUSTER = f"outbound|{PORT}||{SERVICE}"


@dataclass(frozen=True)
class Mesh:
    """An ingress gateway, and the callout that it asks. `address`: that of the gateway."""

    gateway: CalloutGateway
    envoy: IstioEnvoy
    pods: Pods
    address: str

    def load(self) -> Load:
        """Requests that the callout must decide."""
        return Load(self.address, INFER, {"host": HOST, **bearer()})

    def callouts(self) -> set[str]:
        """The pods that the gateway has found healthy, so that it sends them calls."""
        lines = (line.split("::") for line in self.envoy.clusters().splitlines())
        healthy = [CLUSTER, "health_flags", "healthy"]
        return {line[1] for line in lines if [line[0], *line[2:]] == healthy}


def callout_address(number: int, port: int) -> str:
    """That of a pod. Istiod knows endpoints by their IP address alone, so each pod has its own."""
    return f"127.0.99.{number}:{port}"


def surroundings(listener: int, callout: int) -> list[Object]:
    """The service of the callout, and the ingress gateway.

    No Service of Kubernetes: EndpointSlices must not have the loopback addresses of these pods.
    """
    service = {
        "hosts": [SERVICE],
        "ports": [{"number": PORT, "name": "grpc", "protocol": "GRPC", "targetPort": callout}],
        "resolution": "STATIC",
        "location": "MESH_INTERNAL",
        "workloadSelector": {"labels": {"app": APP}},
    }
    http = {"number": listener, "name": "http", "protocol": "HTTP"}
    servers = [{"bind": "127.0.0.1", "port": http, "hosts": ["*"]}]
    gateway = {"selector": {"app": GATEWAY}, "servers": servers}
    return [
        networking(NAMESPACE, kind, APP, spec)
        for kind, spec in (("ServiceEntry", service), ("Gateway", gateway))
    ]


@pytest.fixture(scope="module")
def mesh(
    kube_api: KubeApi,
    istiod: Callable[..., Istiod],
    istio_envoy: Callable[..., IstioEnvoy],
    callout_gateway: Callable[..., CalloutGateway],
) -> Mesh:
    kube_api.create_namespace(NAMESPACE)
    config = base_config("callout")
    listener, port = free_ports(2)
    config["callout"] |= {"address": callout_address(1, port), "workers": 1}
    config["istio"] = {
        "hosts": [HOST],
        "gateways": [APP],
        "namespace": NAMESPACE,
        "callout": f"{SERVICE}:{PORT}",
        "workloads": [{"namespace": NAMESPACE, "labels": {"app": GATEWAY}}],
    }
    gateway = callout_gateway(config)
    settings = load(gateway.file)
    assert settings.istio is not None
    exported = [*map(document, compile_istio(settings)), *envoy_filters(settings, settings.istio)]
    kube_api.apply(*surroundings(listener, port), *exported)
    pods = Pods(kube_api, NAMESPACE)
    pods.create_node()
    envoy = istio_envoy(istiod(), "router", labels={"app": GATEWAY}, namespace=NAMESPACE)
    envoy.await_listener(listener)
    return Mesh(gateway, envoy, pods, f"127.0.0.1:{listener}")


def test_pods_of_the_callout_are_replaced_under_load(mesh: Mesh, mesh_report: MeshReport) -> None:
    """A pod ends as in a cluster: it gets SIGTERM when its end is published, not later.

    It ends after Envoy has found its replacement healthy, for which a Deployment needs a second pod
    or `minReadySeconds`: a pod is ready before istiod has told Envoy of it.
    """
    address = mesh.gateway.config["callout"]["address"]
    process = mesh.gateway.started[-1]
    host, port = address.split(":")
    mesh.pods.run("callout-1", APP, host, int(port))
    eventually(lambda: mesh.callouts() == {address})
    with mesh.load() as load:
        load.wait_for(50)
        for number in (2, 3):
            name, replaced = f"callout-{number}", f"callout-{number - 1}"
            address = callout_address(number, int(port))
            ending, process = process, mesh.gateway.add_callout(name, address)
            mesh.pods.run(name, APP, address.split(":")[0], int(port))
            eventually(lambda: len(mesh.callouts()) == 2)
            load.wait_for(50)
            mesh.pods.end(replaced)
            ending.stop()
            mesh.pods.remove(replaced)
            eventually(lambda: len(mesh.callouts()) == 1)
            load.wait_for(50)
    assert mesh.callouts() == {address}
    assert load.failures == []
    mesh_report.notes.append(
        f"pods of the callout replaced in a mesh: {load.responses} requests, 0 failed"
    )
