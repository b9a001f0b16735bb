"""The control plane as a config source of a real istiod: its resources reach a stock Envoy."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from protos.istio_networking_pb2 import (
    Destination,
    HTTPRoute,
    HTTPRouteDestination,
    ServiceEntry,
    ServicePort,
    VirtualService,
)
from sluice.certificates import make_certificates
from sluice.cli.certs import PARTS
from sluice.config.load import load
from sluice.config.mcp import Mcp
from sluice.grpc_credentials import server_credentials
from sluice.tls import TlsFiles
from tests import plain_http
from tests.integration.gateway import (
    INFER,
    PATIENCE,
    Config,
    base_config,
    bearer,
    eventually,
    free_ports,
)
from tests.mesh.callout_gateway import CalloutGateway
from tests.mesh.istio_envoy import IstioEnvoy
from tests.mesh.istio_objects import callout_service, networking
from tests.mesh.istiod import Istiod
from tests.mesh.kube_api import KubeApi, Object
from tests.mesh.report import MeshReport
from xds.istio.envoy_filters import envoy_filters
from xds.istio.mcp import istiod_server
from xds.istio.resources import IstioKind, IstioResource
from xds.istio.served import istio_sets
from xds.protocol.nodes import Nodes
from xds.protocol.resource_types import VIRTUAL_SERVICE
from xds.protocol.snapshot import EMPTY, Snapshot

NAMESPACE = "mcp"
LABELS = {"app": "mcp-gateway"}
DECIDED = {"app": "mcp-decided"}
"""Labels of an ingress gateway whose Envoy asks the callout."""

CALLOUT = f"sluice-callout.{NAMESPACE}.svc.cluster.local"
HOST = "models.test"


@dataclass
class Mesh:
    """A control plane, an istiod that has it as its config source, and Envoys of istiod.

    `ports`: those of the ingress gateways. `sidecar` is that of a caller inside the mesh, and
    `decided` that of a gateway that asks the callout.
    """

    gateway: CalloutGateway
    istiod: Istiod
    router: IstioEnvoy
    decided: IstioEnvoy
    sidecar: IstioEnvoy
    ports: dict[str, int]

    def answer(self, version: str) -> Any:
        """Ask through the ingress gateway for a version, as the callout does."""
        headers = {"host": HOST, "x-model-service": f"echo/{version}"}
        url = f"http://127.0.0.1:{self.ports['gateway']}{INFER}"
        return plain_http.post(url, json={"inputs": []}, headers=headers)

    def weights(self) -> dict[str, int]:
        """The weights of the versions for callers inside the mesh, in Envoy's routes."""
        found: dict[str, int] = {}
        for clusters in weighted(json.loads(self.sidecar.config_dump() or "{}")):
            found = {each["name"].split("|")[3].split(".")[0]: each["weight"] for each in clusters}
        return found

    def routes(self) -> str:
        """The routes of the ingress gateway, as its Envoy has them."""
        return self.router.config_dump()

    def cli(self, *arguments: str) -> None:
        """Run a command of `sluice` against the control plane, and wait until it is in force."""
        url = f"http://{self.gateway.config['control_plane']['http']}"
        argv = [sys.executable, "-m", "sluice.cli", *arguments, "--control-plane", url, "--wait"]
        subprocess.run(argv, check=True, timeout=60)

    def change_versions(self, change: Callable[[Config], None]) -> None:
        """Apply the config with other versions of the model."""
        change(self.gateway.config["models"]["echo"]["versions"])
        self.gateway.write()
        self.cli("apply", "--yes", "--file", str(self.gateway.file))


def weighted(value: object) -> Iterator[list[dict[str, Any]]]:
    """All weighted clusters below a JSON value."""
    if isinstance(value, dict):
        if "weighted_clusters" in value:
            yield value["weighted_clusters"]["clusters"]
        for each in value.values():
            yield from weighted(each)
    elif isinstance(value, list):
        for each in value:
            yield from weighted(each)


def config(mcp: str) -> Config:
    found = base_config("callout")
    found["istio"] = {
        "hosts": [HOST],
        "gateways": ["gateway", "decided"],
        "callout": f"{CALLOUT}:18100",
        "workloads": [{"namespace": NAMESPACE, "labels": DECIDED}],
        "namespace": NAMESPACE,
        "mesh": "weights",
        "mcp": {"address": mcp},
    }
    found["models"]["echo"]["canaries"] = [{"version": "v2", "percent": 10}]
    return found


@pytest.fixture(scope="module")
def mesh(
    kube_api: KubeApi,
    istiod: Callable[..., Istiod],
    istio_envoy: Callable[..., IstioEnvoy],
    callout_gateway: Callable[..., CalloutGateway],
) -> Mesh:
    mcp, proxy, *ports = free_ports(4)
    kube_api.create_namespace(NAMESPACE)
    gateway = callout_gateway(config(f"127.0.0.1:{mcp}"), "--store", "sqlite:history.db")
    named = dict(zip(("gateway", "decided"), ports, strict=True))
    kube_api.apply(*surroundings(gateway, named))
    sources = [{"address": "k8s://"}, {"address": f"xds://127.0.0.1:{mcp}"}]
    started = istiod({"configSources": sources, "proxyHttpPort": proxy})
    router, decided = (
        istio_envoy(started, "router", labels=labels, namespace=NAMESPACE)
        for labels in (LABELS, DECIDED)
    )
    sidecar = istio_envoy(started, "sidecar", labels={"app": "caller"}, namespace=NAMESPACE)
    return Mesh(gateway, started, router, decided, sidecar, named)


def surroundings(gateway: CalloutGateway, ports: dict[str, int]) -> Iterator[Object]:
    """What comes from Kubernetes: gateways, the service of the callout, and the filters."""
    for (name, port), labels in zip(ports.items(), (LABELS, DECIDED), strict=True):
        http = {"name": "http", "protocol": "HTTP", "number": port}
        servers = [{"bind": "127.0.0.1", "port": http, "hosts": [HOST]}]
        yield networking(NAMESPACE, "Gateway", name, {"selector": labels, "servers": servers})
    yield callout_service(NAMESPACE, CALLOUT, 18100, gateway.callout_addresses())
    settings = load(gateway.file)
    assert settings.istio is not None
    yield from envoy_filters(settings, settings.istio)


def test_istiod_takes_the_resources_and_configures_its_envoys(
    mesh: Mesh, mesh_report: MeshReport
) -> None:
    mesh.router.await_listener(mesh.ports["gateway"])
    mesh.router.await_config("echo/v2")
    for version in ("v1", "v2"):
        answer = mesh.answer(version)
        assert answer.status_code == 200
        mesh_report.answer(f"route of the control plane to {version}", answer)
    assert mesh.answer("v3").status_code == 503
    eventually(lambda: mesh.weights() == {"v2": 1000, "v1": 9000})
    (node,) = (each for each in mesh.gateway.status()["nodes"] if each["kind"] == "istiod")
    assert node["types"]["virtual_services"]["in_sync"]


def test_a_step_of_a_canary_reaches_the_mesh_without_kubectl(mesh: Mesh) -> None:
    mesh.cli("canary", "set", "echo/v2", "30")
    eventually(lambda: mesh.weights() == {"v2": 3000, "v1": 7000})


def test_the_mesh_has_a_version_as_long_as_the_callout_may_choose_it(mesh: Mesh) -> None:
    """It has a new version before the callout, and an old one until the callout has it no more."""
    mesh.change_versions(lambda versions: versions.update(v3=versions["v2"]))
    assert mesh.answer("v3").status_code == 200
    mesh.change_versions(lambda versions: versions.pop("v3"))
    # istiod gets the removal when the change is in force.
    eventually(lambda: "echo/v3" not in mesh.routes())
    assert mesh.answer("v3").status_code == 503
    assert mesh.router.rejected() == {}
    assert mesh.sidecar.rejected() == {}


def test_an_object_of_kubernetes_replaces_the_resource_with_its_name(
    mesh: Mesh, kube_api: KubeApi
) -> None:
    refused = {"name": "refused", "directResponse": {"status": 418}}
    spec = {"hosts": [HOST], "gateways": ["gateway"], "http": [refused]}
    replaced = networking(NAMESPACE, "VirtualService", "sluice", spec)
    kube_api.apply(replaced)
    eventually(lambda: mesh.answer("v1").status_code == 418)
    kube_api.delete(replaced)
    eventually(lambda: mesh.answer("v1").status_code == 200)


class Caller:
    """Sends requests one after the other through the gateway that asks the callout."""

    def __init__(self, port: int) -> None:
        self.statuses: Counter[int] = Counter()
        self.versions: Counter[str] = Counter()
        self._url = f"http://127.0.0.1:{port}{INFER}"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Caller":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def call(self, client: httpx.Client) -> int:
        answer = client.post(self._url, json={"inputs": []})
        self.statuses[answer.status_code] += 1
        if answer.status_code == 200:
            # The example model server answers with the headers of the request.
            self.versions[dict(answer.json()["headers"])["x-model-version"]] += 1
        return answer.status_code

    def client(self) -> httpx.Client:
        return plain_http.client(headers={"host": HOST, **bearer()})

    def _run(self) -> None:
        with self.client() as client:
            while not self._ended.wait(0.005):
                self.call(client)


def test_no_request_is_refused_while_versions_come_and_go(
    mesh: Mesh, mesh_report: MeshReport
) -> None:
    """The callout decides for no version of which the mesh has no route."""
    mesh.decided.await_listener(mesh.ports["decided"])
    caller = Caller(mesh.ports["decided"])
    with caller.client() as client:
        eventually(lambda: caller.call(client) == 200)
    caller.statuses.clear()

    def replace(old: str, new: str) -> None:
        model = mesh.gateway.config["models"]["echo"]
        model["versions"][new] = model["versions"].pop(old)
        model.update(stable=new, canaries=[])
        mesh.gateway.write()
        mesh.cli("apply", "--yes", "--file", str(mesh.gateway.file))

    with caller:
        replace("v1", "v4")
        replace("v4", "v1")
    assert set(caller.statuses) == {200}
    assert set(caller.versions) >= {"v1", "v4"}
    mesh_report.answers.append(
        (f"{caller.statuses.total()} requests while versions are replaced", 200, "no other answer")
    )


def test_istiod_keeps_the_resources_while_the_control_plane_is_gone(mesh: Mesh) -> None:
    def while_stopped() -> None:
        assert len(mesh.istiod.configs("VirtualService", NAMESPACE)) == 1
        assert mesh.answer("v2").status_code == 200

    mesh.gateway.restart_control_plane(while_stopped)
    nodes = lambda: mesh.gateway.status()["nodes"]  # noqa: E731 (read again and again)
    eventually(lambda: any(each["kind"] == "istiod" for each in nodes()))
    mesh.cli("canary", "set", "echo/v2", "50")
    eventually(lambda: mesh.weights() == {"v2": 5000, "v1": 5000})


INVALID = "no host"


def resources(host: str, routed: str) -> Snapshot:
    """A ServiceEntry of a host, and a VirtualService of another one."""
    entry = IstioResource(IstioKind.SERVICE_ENTRY, NAMESPACE, "entry", service_entry(host))
    route = HTTPRoute(route=[HTTPRouteDestination(destination=Destination(host=host))])
    routes = VirtualService(hosts=[routed], http=[route])
    served = IstioResource(IstioKind.VIRTUAL_SERVICE, NAMESPACE, "routes", routes)
    return EMPTY.with_types(istio_sets([entry, served], host))


def service_entry(host: str) -> ServiceEntry:
    port = ServicePort(number=80, name="http", protocol="HTTP")
    return ServiceEntry(hosts=[host], ports=[port], resolution=ServiceEntry.DNS)


def test_istiod_keeps_a_resource_whose_new_version_is_invalid(
    istiod: Callable[..., Istiod], tmp_path: Path
) -> None:
    """It accepts every response (ACK), so the control plane does not know. Connects with TLS."""
    list(make_certificates(tmp_path, PARTS, [], 3, datetime.now(UTC)))
    (port,) = free_ports(1)
    mcp = Mcp(address=f"127.0.0.1:{port}", tls=True)
    certificate = TlsFiles(tmp_path / "control-plane.crt", tmp_path / "control-plane.key")
    source = {
        "address": f"xds://{mcp.address}",
        "tlsSettings": {
            "mode": "SIMPLE",
            "sni": "sluice-control-plane",
            "subjectAltNames": ["sluice-control-plane"],
            "caCertificates": (tmp_path / "ca.crt").read_text(),
        },
    }

    async def test(stopping: AsyncExitStack) -> None:
        nodes = Nodes(time.time)
        server = istiod_server(nodes, mcp, server_credentials(certificate))
        await server.start()
        stopping.push_async_callback(server.stop)
        nodes.publish(resources("one.test", "routed.test"))
        started = await asyncio.to_thread(istiod, {"configSources": [source]})

        def hosts(kind: str) -> list[str]:
            return [
                host for each in started.configs(kind, NAMESPACE) for host in each["spec"]["hosts"]
            ]

        async def until(entry: str, routed: list[str]) -> None:
            holds = lambda: (hosts("ServiceEntry"), hosts("VirtualService")) == ([entry], routed)  # noqa: E731
            await asyncio.to_thread(eventually, holds)

        await until("one.test", ["routed.test"])
        nodes.publish(resources("two.test", INVALID))
        await until("two.test", ["routed.test"])
        nodes.publish(resources("three.test", "other.test"))
        await until("three.test", ["other.test"])
        async with asyncio.timeout(PATIENCE):
            while nodes.acks[VIRTUAL_SERVICE] < 3:
                nodes.progress.clear()
                await nodes.progress.wait()
        assert not nodes.nacks
        await asyncio.to_thread(started.stop)

    async def with_server() -> None:
        async with AsyncExitStack() as stopping:
            await test(stopping)

    asyncio.run(with_server())
