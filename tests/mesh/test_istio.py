"""An Envoy that istiod configures lets our callout decide: by EnvoyFilters, and by a policy.

The gateway `filters` and the sidecar `client` have an EnvoyFilter (ext_proc). The gateway `policy`
has an AuthorizationPolicy (ext_authz) and a smaller EnvoyFilter. Two more gateways lack a part:
`no-removal` does not remove internal headers, and `no-filter` has only the policy.
"""

import io
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from PIL import Image

from sluice.config.gateway import GatewayConfig
from sluice.config.istio import Istio
from sluice.config.load import load
from tests.integration.gateway import (
    Config,
    base_config,
    bearer,
    eventually,
    free_ports,
    reported_requests,
)
from tests.integration.raw_server import Exchange, RawServer, raw_server
from tests.integration.test_conversion import IMAGE, SIDE
from tests.integration.test_internal_headers import FORGED, HANDSHAKE
from tests.mesh.callout_gateway import CalloutGateway
from tests.mesh.istio_envoy import IstioEnvoy
from tests.mesh.istio_objects import callout_service, networking
from tests.mesh.istiod import Istiod
from tests.mesh.kube_api import KubeApi, Object
from tests.mesh.report import MeshReport
from tests.mesh.tools import MeshTools
from xds.istio.authorization import extension_providers, policies
from xds.istio.documents import document
from xds.istio.envoy_filters import envoy_filters
from xds.istio.resources import compile_istio

DEPLOY = Path(__file__).parents[2] / "deploy" / "istio"
NAMESPACE = "istio-tests"
HOST = "models.example.com"
INFER, DIGITS = "/v2/models/echo/infer", "/v2/models/digits/infer"
JSON: dict[str, object] = {"inputs": []}
LIMITED = "limited"
"""A subject to which the rate limit service grants one request."""

MODES = ("filters", "policy", "client")
ENVOYS = (*MODES, "no-removal", "no-filter")
GATEWAYS = tuple(name for name in ENVOYS if name != "client")
CALLOUT = "sluice-callout.sluice.svc.cluster.local"


def config(raw: str) -> Config:
    """A config with the section `istio`, and a model whose pictures are converted.

    `raw`: the address of the server of a third model.
    """
    settings = base_config("callout")
    image = {
        "name": "image",
        "datatype": "UINT8",
        "shape": [-1, SIDE, SIDE, 1],
        "image": {"width": SIDE, "height": SIDE, "color": "GRAY"},
    }
    (digits,) = free_ports(1)
    grpc = {"protocol": "grpc", "endpoints": [{"address": f"127.0.0.1:{digits}"}]}
    settings["models"]["digits"] = {
        "access": {"public": True},
        "versions": {"v1": grpc},
        "inputs": [image],
        "outputs": [{"name": "probabilities", "labels": [f"digit {n}" for n in range(10)]}],
    }
    settings["models"]["raw"] = {
        "access": {"public": True},
        "versions": {"v1": {"endpoints": [{"address": raw}]}},
        "methods": ["GET", "POST"],
        "extra_paths": ["*"],
        "cors": {"origins": ["https://*.example.com"]},
    }
    once = {"unit": "week", "requests_per_unit": 1}
    limited = {"key": "subject", "value": LIMITED, "rate_limit": once}
    settings["limits"]["domains"] = {"mesh": {"descriptors": [limited]}}
    settings["models"]["echo"]["canaries"] = [{"version": "v2", "percent": 0}]
    settings["istio"] = {
        "hosts": [HOST],
        "gateways": list(GATEWAYS),
        "mesh": "callout",
        "rate_limit_domain": "mesh",
        "namespace": NAMESPACE,
        "workloads": [
            {"namespace": NAMESPACE, "labels": {"app": "filters"}},
            {"kind": "sidecar", "namespace": NAMESPACE, "labels": {"app": "client"}},
        ],
    }
    return settings


def only_for(name: str, istio: Istio) -> Istio:
    """The section for one gateway."""
    workload = istio.workloads[0].model_copy(update={"labels": {"app": name}})
    return istio.model_copy(update={"workloads": (workload,)})


def exported(settings: GatewayConfig) -> list[Config]:
    """What `sluice export istio` prints for the Envoys that have everything."""
    assert settings.istio is not None
    return [
        *map(document, compile_istio(settings)),
        *envoy_filters(settings, settings.istio),
        *policies(settings, only_for("policy", settings.istio)),
    ]


def incomplete(settings: GatewayConfig) -> Iterator[Config]:
    """What the Envoys have that lack a part."""
    assert settings.istio is not None
    (patched,) = envoy_filters(settings, only_for("no-removal", settings.istio))
    removal, *patched["spec"]["configPatches"] = patched["spec"]["configPatches"]
    assert "early_header_mutation_extensions" in removal["patch"]["value"]["typed_config"]
    authorizing = policies(settings, only_for("no-filter", settings.istio))
    kept = (each for each in authorizing if each["kind"] == "AuthorizationPolicy")
    for each in (patched, *kept):
        yield {**each, "metadata": {"name": "incomplete", "namespace": NAMESPACE}}


def surroundings(callout: list[str], ports: dict[str, int], socket: Path) -> Iterator[Object]:
    """What the operator of the mesh has: the service of the callout, gateways and a sidecar."""
    yield callout_service(NAMESPACE, CALLOUT, 18100, callout)
    for name in GATEWAYS:
        http = {"number": ports[name], "name": "http", "protocol": "HTTP"}
        servers = [{"bind": "127.0.0.1", "port": http, "hosts": ["*"]}]
        yield networking(
            NAMESPACE, "Gateway", name, {"selector": {"app": name}, "servers": servers}
        )
    http = {"number": ports["client"], "name": "http", "protocol": "HTTP"}
    egress = {"port": http, "bind": "127.0.0.1", "captureMode": "NONE", "hosts": ["*/*"]}
    # Callers inside the mesh need a host that the mesh knows.
    yield networking(NAMESPACE, "ServiceEntry", "models", {
        "hosts": [HOST], "ports": [http], "resolution": "STATIC", "location": "MESH_INTERNAL",
    })  # fmt: skip
    labels = {"labels": {"app": "client"}}
    # A listener with a port knows only hosts with this port. The other one knows all hosts.
    others = {**egress, "bind": f"unix://{socket}", "port": {**http, "number": 0, "name": "all"}}
    spec = {"workloadSelector": labels, "egress": [egress, others]}
    yield networking(NAMESPACE, "Sidecar", "client", spec)


@dataclass
class Mesh:
    """The Envoys of istiod, and the gateway whose callout they ask."""

    gateway: CalloutGateway
    server: RawServer
    envoys: dict[str, IstioEnvoy]
    ports: dict[str, int]

    def client(self, mode: str, **options: Any) -> httpx.Client:
        """A client of an Envoy."""
        url = f"http://127.0.0.1:{self.ports[mode]}"
        return httpx.Client(base_url=url, headers={"host": HOST}, timeout=30, **options)


@pytest.fixture(scope="module")
def server() -> Iterator[RawServer]:
    with raw_server() as started:
        yield started


@pytest.fixture(scope="module")
def mesh(
    kube_api: KubeApi,
    istiod: Callable[..., Istiod],
    istio_envoy: Callable[..., IstioEnvoy],
    callout_gateway: Callable[..., CalloutGateway],
    server: RawServer,
) -> Mesh:
    kube_api.create_namespace(NAMESPACE)
    ports = dict(zip(ENVOYS, free_ports(len(ENVOYS)), strict=True))
    gateway = callout_gateway(config(server.address))
    settings = load(gateway.file)
    assert settings.istio is not None
    callout = gateway.callout_addresses()
    control = istiod({"extensionProviders": extension_providers(settings, settings.istio)})
    socket = gateway.directory / "others.sock"
    kube_api.apply(*surroundings(callout, ports, socket), *exported(settings))
    kube_api.apply(*incomplete(settings))
    envoys = {
        name: istio_envoy(
            control,
            "router" if name in GATEWAYS else "sidecar",
            labels={"app": name},
            namespace=NAMESPACE,
        )
        for name in ENVOYS
    }
    found = Mesh(gateway, server, envoys, ports)
    for mode, envoy in envoys.items():
        envoy.await_listener(ports[mode])
        with found.client(mode) as client:
            eventually(lambda: client.post(INFER, json=JSON).status_code == 401)
    return found


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """Each way to ask the callout."""
    name: str = request.param
    return name


@pytest.fixture
def client(mesh: Mesh, mode: str) -> Iterator[httpx.Client]:
    with mesh.client(mode) as opened:
        yield opened


def received(response: httpx.Response) -> dict[str, str]:
    """The headers that the model server got."""
    assert response.status_code == 200, response.text
    return dict(response.json()["headers"])


def test_istioctl_finds_no_error_in_the_exported_objects(
    mesh: Mesh, mesh_tools: MeshTools, tmp_path: Path
) -> None:
    file = tmp_path / "objects.yaml"
    file.write_text(yaml.safe_dump_all(exported(load(mesh.gateway.file))))
    argv = [mesh_tools.program("istioctl"), "validate", "-f", str(file)]
    checked = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    warnings = [line for line in checked.stderr.splitlines() if line.startswith("\t*")]
    assert all("exposes internal implementation details" in each for each in warnings)


@pytest.mark.usefixtures("crds")
def test_a_cluster_accepts_the_files_of_deploy(kube_api: KubeApi) -> None:
    for name in ("sluice", "models"):
        kube_api.create_namespace(name)
    kube_api.apply_kustomization(DEPLOY, dry_run=True)
    for part in ("ingress", "routes", "filters", "policies"):
        kube_api.apply_yaml((DEPLOY / "mesh" / f"{part}.yaml").read_text(), dry_run=True)


def test_envoy_accepts_all_that_istiod_makes_of_them(mesh: Mesh) -> None:
    rejected = {name: each.rejected() for name, each in mesh.envoys.items()}
    assert rejected == {name: {} for name in ENVOYS}


def test_the_callout_chooses_the_version(
    client: httpx.Client, mode: str, mesh_report: MeshReport
) -> None:
    def ask(what: str, **headers: str) -> httpx.Response:
        answer = client.post(INFER, json=JSON, headers={**bearer(), **headers})
        return mesh_report.answer(f"{mode}: {what}", answer)

    refused = mesh_report.answer(f"{mode}: no token", client.post(INFER, json=JSON))
    assert (refused.status_code, refused.json()["reason"]) == (401, "unauthenticated")
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert ask("token").json()["version"] == "v1"
    assert ask("version header", **{"x-model-version": "v2"}).json()["version"] == "v2"
    canary = ask("canary header", **{"x-canary": "true"})
    assert canary.json()["version"] == "v2"
    assert canary.headers["x-sluice-reason"] == "canary_header"
    assert received(canary)["x-sluice-subject"] == "1234"
    unknown = client.post("/v2/models/nope/infer", json=JSON, headers=bearer())
    assert (unknown.status_code, unknown.json()["reason"]) == (404, "unknown_model")


def test_headers_of_clients_are_no_decision(client: httpx.Client) -> None:
    forged = {
        "x-model-service": "echo/v2",
        "x-sluice-subject": "root",
        "x-sluice-canary": "true",
        "x-sluice-other": "1",
        "x_sluice_subject": "root",
        "x-sluice_subject": "root",
    }
    assert client.post(INFER, json=JSON, headers=forged).status_code == 401
    answer = client.post(INFER, json=JSON, headers={**forged, **bearer()})
    assert answer.json()["version"] == "v1"
    internal = {
        name: value
        for name, value in received(answer).items()
        if name.replace("_", "-").startswith(("x-sluice-", "x-model-service"))
    }
    assert internal == {
        "x-model-service": "echo/v1",
        "x-sluice-model": "echo",
        "x-sluice-reason": "stable",
        "x-sluice-subject": "1234",
    }


def test_the_callout_decides_also_if_headers_of_clients_are_not_removed(mesh: Mesh) -> None:
    forged = {"x-model-service": "echo/v2", "x-sluice-subject": "root"}
    with mesh.client("no-removal") as client:
        assert client.post(INFER, json=JSON, headers=forged).status_code == 401
        answer = client.post(INFER, json=JSON, headers={**forged, **bearer()})
    assert answer.json()["version"] == "v1"
    assert received(answer)["x-sluice-subject"] == "1234"


def test_a_policy_without_its_filter_refuses_everything(mesh: Mesh) -> None:
    """Envoy would route by the headers of the client."""
    forged = {"x-model-service": "echo/v2", **bearer()}
    with mesh.client("no-filter") as client:
        assert client.post(INFER, json=JSON).status_code == 401
        assert client.post(INFER, json=JSON, headers=bearer()).status_code == 503
        answer = client.post(INFER, json=JSON, headers=forged)
    assert (answer.status_code, answer.json()["reason"]) == (400, "malformed_request")


@pytest.mark.parametrize(
    "host", [HOST.upper(), f"{HOST}:8080", f"{HOST}.", "other.example.com", f"{HOST}:443"]
)
@pytest.mark.parametrize("path", [INFER, "/", "/healthz"])
def test_no_spelling_of_the_host_avoids_the_decision(
    client: httpx.Client, host: str, path: str
) -> None:
    forged = {"x-model-service": "echo/v1", "host": host}
    answer = client.post(path, json=JSON, headers=forged)
    assert answer.status_code in (401, 404, 503), answer.text


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize("mode", ["filters", "client"], indirect=True)
@pytest.mark.parametrize("size", [64, 1200])
def test_a_picture_reaches_a_grpc_server_as_a_tensor(
    mesh: Mesh, mode: str, http2: bool, size: int, mesh_report: MeshReport
) -> None:
    written = io.BytesIO()
    with Image.open(IMAGE) as image:
        image.convert("RGB").resize((size, size)).save(written, "PNG", compress_level=0)
    with mesh.client(mode, http1=not http2, http2=http2) as client:
        answer = client.post(
            DIGITS, content=written.getvalue(), headers={"content-type": "image/png"}
        )
    described = f"{mode}: picture of {size}x{size}, {answer.http_version}"
    mesh_report.answer(described, answer, "converted to a tensor, and back")
    assert answer.status_code == 200, answer.text
    outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
    assert outputs["label"] == [7]
    assert int(answer.headers["content-length"]) == len(answer.content)


@pytest.mark.parametrize("mode", ["policy"], indirect=True)
def test_a_policy_cannot_convert(client: httpx.Client) -> None:
    answer = client.post(DIGITS, content=b"x", headers={"content-type": "image/png"})
    assert (answer.status_code, answer.json()["reason"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("mode", ["filters", "client"], indirect=True)
def test_the_reason_of_a_refused_body_reaches_the_client(client: httpx.Client) -> None:
    answer = client.post(DIGITS, content=b"no picture", headers={"content-type": "image/png"})
    assert answer.status_code == 415
    assert answer.headers["x-sluice-reason"] == answer.json()["reason"] != "stable"


@pytest.mark.parametrize("mode", ["filters", "client"], indirect=True)
def test_a_model_server_cannot_set_headers_of_the_gateway(mesh: Mesh, client: httpx.Client) -> None:
    forged = "".join(f"{name}: {value}\r\n" for name, value in FORGED.items())
    head = f"HTTP/1.1 200 OK\r\nx-own: 1\r\n{forged}content-length: 0\r\n\r\n"

    def script(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(head.encode())

    mesh.server.serve(script)
    answer = client.post("/v2/models/raw/infer", json=JSON)
    assert answer.headers["x-own"] == "1"
    internal = [
        (name, value)
        for name, value in answer.headers.multi_items()
        if name.startswith(("x-sluice-", "ratelimit"))
    ]
    assert internal == [("x-sluice-reason", "stable")]


@pytest.mark.parametrize("mode", ["filters", "client"], indirect=True)
def test_web_pages_of_other_origins_may_call_a_model(mesh: Mesh, client: httpx.Client) -> None:
    mesh.server.respond("200 OK\r\naccess-control-allow-origin: *")
    asks = {"origin": "https://app.example.com", "access-control-request-method": "POST"}
    paths = {"/v2/models/raw/infer": 200, "/v2/models/raw-2/infer": 404}
    for path, status in paths.items():
        preflight = client.options(path, headers=asks)
        assert preflight.status_code == status
        origin = asks["origin"] if status == 200 else None
        assert preflight.headers.get("access-control-allow-origin") == origin
    answer = client.post("/v2/models/raw/infer", json=JSON, headers={"origin": asks["origin"]})
    assert answer.headers.get_list("access-control-allow-origin") == [asks["origin"]]
    refused = client.put("/v2/models/raw/infer", json=JSON, headers={"origin": asks["origin"]})
    assert refused.status_code == 405
    assert refused.headers["access-control-allow-origin"] == asks["origin"]


def test_a_model_without_websockets_gets_none(mesh: Mesh, client: httpx.Client) -> None:
    mesh.server.serve(lambda _: None)
    answer = client.get("/v2/models/raw/ws", headers=HANDSHAKE)
    assert (answer.status_code, answer.json()["reason"]) == (400, "malformed_request")
    assert mesh.server.requests.empty()


@pytest.mark.parametrize("mode", ["filters"], indirect=True)
def test_the_rate_limit_service_counts_after_the_decision(client: httpx.Client) -> None:
    statuses = [client.post(INFER, json=JSON, headers=bearer(LIMITED)).status_code for _ in "12"]
    assert statuses == [200, 429]


def test_reports_reach_the_callout(mesh: Mesh, client: httpx.Client) -> None:
    before = reported_requests(mesh.gateway, "echo")
    refused = reported_requests(mesh.gateway, "other")
    assert client.post(INFER, json=JSON, headers=bearer()).status_code == 200
    assert client.post(INFER, json=JSON).status_code == 401
    eventually(lambda: reported_requests(mesh.gateway, "echo") > before)
    eventually(lambda: reported_requests(mesh.gateway, "other") > refused)


def test_a_canary_step_needs_no_change_of_the_mesh(mesh: Mesh, mesh_report: MeshReport) -> None:
    objects = exported(load(mesh.gateway.file))

    def step(percent: int) -> None:
        mesh.gateway.edit(
            lambda edited: edited["models"]["echo"]["canaries"][0].update(percent=percent)
        )

    try:
        step(100)
        assert exported(load(mesh.gateway.file)) == objects
        for mode in MODES:
            with mesh.client(mode) as client:
                answer = client.post(INFER, json=JSON, headers=bearer())
                assert answer.json()["version"] == "v2"
                mesh_report.answer(f"{mode}: after a canary step to 100 %", answer)
    finally:
        step(0)


def test_no_request_fails_because_a_worker_ends(
    mesh: Mesh, client: httpx.Client, mode: str, mesh_report: MeshReport
) -> None:
    answers = []
    before = mesh.gateway.workers()
    for number in range(200):
        if number == 20:
            os.kill(before[0], signal.SIGKILL)
        answers.append(client.post(INFER, json=JSON, headers=bearer()))
    assert {each.status_code for each in answers} == {200}
    mesh_report.answer(f"{mode}: 200 requests while a worker ends", answers[-1], "no other answer")
    eventually(lambda: len(mesh.gateway.workers()) == 2 and mesh.gateway.in_sync())


def test_without_the_callout_every_request_is_refused(mesh: Mesh, mesh_report: MeshReport) -> None:
    """The last test: it ends the callout."""
    mesh.gateway.started[-1].stop()
    for mode in MODES:
        with mesh.client(mode) as client:
            for headers in ({}, bearer(), {"x-model-service": "echo/v1"}):
                answer = client.post(INFER, json=JSON, headers=headers)
                assert answer.status_code == 503, (mode, answer.text)
            mesh_report.answer(f"{mode}: the callout is down", answer)
