"""The objects of `sluice export gateway-api`: Kubernetes accepts them, and Envoy Gateway makes of
them a config with which a real Envoy asks our callout."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import grpc
import pytest
import yaml

from protos.inference_pb2 import ModelInferRequest, ModelInferResponse
from sluice.cli import main
from sluice.config import GatewayConfig
from sluice.config.load import load
from sluice.config.secrets import Secrets, VersionSecrets
from tests import plain_http
from tests.integration.gateway import INFER, base_config, bearer, eventually, free_ports
from tests.mesh.callout_gateway import CalloutGateway
from tests.mesh.envoy_gateway import EnvoyGatewayEnvoy, refusals, translate
from tests.mesh.kube_api import KubeApi
from tests.mesh.report import MeshReport
from tests.mesh.tools import MeshTools
from tests.xds.gateway_api.configs import RICH
from xds.gateway_api import Target, export_gateway_api

ROOT = Path(__file__).parents[2]
DEPLOY, IMAGE = ROOT / "deploy" / "gateway-api", ROOT / "examples" / "digit-7.png"
DIGITS = "/v2/models/digits/infer"


@pytest.fixture(scope="module")
def gateway(callout_gateway: Callable[..., CalloutGateway]) -> CalloutGateway:
    """A callout whose policy has a claim rule, a canary and a model that converts pictures."""
    config = base_config("callout")
    echo = config["models"]["echo"]
    echo["claim_rules"] = [{"claim": "group", "value": "vip", "version": "v2"}]
    echo["canaries"] = [{"version": "v2", "percent": 0}]
    (digits,) = free_ports(1)
    image = {"width": 32, "height": 32, "color": "GRAY"}
    config["models"]["digits"] = {
        "versions": {"v1": {"protocol": "grpc", "endpoints": [{"address": f"127.0.0.1:{digits}"}]}},
        "inputs": [
            {"name": "image", "datatype": "UINT8", "shape": [-1, 32, 32, 1], "image": image}
        ],
    }
    return callout_gateway(config)


@pytest.fixture(scope="module")
def exported(gateway: CalloutGateway, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the command prints for this gateway."""
    file = tmp_path_factory.mktemp("export") / "objects.yaml"
    address, *_ = gateway.callout_addresses()
    arguments = ["--listener", "http", "--conversion", "--callout", address]
    with file.open("w") as output, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", output)
        assert main(["export", "gateway-api", str(gateway.file), *arguments]) == 0
    return file.read_text()


def gateway_objects(port: int) -> str:
    """The Gateway of the guide, with another port."""
    text = (DEPLOY / "gateway.yaml").read_text()
    assert "port: 80 " in text
    return text.replace("port: 80 ", f"port: {port} ")


@pytest.fixture(scope="module")
def url(
    exported: str, mesh_tools: MeshTools, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of the Envoy that Envoy Gateway configures."""
    (port,) = free_ports(1)
    folder = tmp_path_factory.mktemp("envoy-gateway")
    translated = translate(mesh_tools, f"{gateway_objects(port)}---\n{exported}", folder)
    assert refusals(translated) == []
    envoy = EnvoyGatewayEnvoy(translated, folder)
    try:
        envoy.await_ready()
        yield f"http://127.0.0.1:{port}"
    finally:
        envoy.stop()


@pytest.mark.usefixtures("crds")
def test_kubernetes_accepts_every_object(kube_api: KubeApi, exported: str) -> None:
    kube_api.create_namespace("sluice")
    assert kube_api.apply_yaml(f"{gateway_objects(80)}---\n{exported}", dry_run=True)


@pytest.mark.usefixtures("crds")
def test_kubernetes_accepts_the_objects_of_everything_that_can_be_exported(
    kube_api: KubeApi,
) -> None:
    for namespace in ("models", "edge", "ml", "gateways"):
        kube_api.create_namespace(namespace)
    target = Target(
        "models", "public", "edge", "sluice-callout.gateways:18100",
        listeners=("http", "https"), hostnames=("models.example.com",), converts=True,
    )  # fmt: skip
    secrets = Secrets({("remote", "v1"): VersionSecrets(ca=b"certificates")})
    export = export_gateway_api(GatewayConfig.model_validate(RICH), target, secrets)
    assert len(kube_api.apply(*export.objects, dry_run=True)) == len(export.objects)


def test_requests_are_decided_by_the_callout(url: str, mesh_report: MeshReport) -> None:
    def ask(title: str, **headers: str) -> tuple[int, str]:
        answer = plain_http.post(f"{url}{INFER}", json={"inputs": []}, headers=headers)
        body = answer.json()
        version = body.get("version") or body.get("reason", "")
        mesh_report.answer(f"Envoy Gateway: {title}", answer, version)
        return answer.status_code, version

    user, vip = bearer(), bearer(group="vip")
    assert ask("no token") == (401, "unauthenticated")
    assert ask("stable version", **user) == (200, "v1")
    assert ask("version of a claim", **vip) == (200, "v2")
    assert ask("version by header", **user, **{"x-model-version": "v2"}) == (200, "v2")
    assert ask("canary by header", **user, **{"x-canary": "true"}) == (200, "v2")
    spoofed = {"x-model-service": "echo/v2", "x-sluice-subject": "root"}
    assert ask("spoofed decision, no token", **spoofed) == (401, "unauthenticated")
    assert ask("spoofed decision", **user, **spoofed) == (200, "v1")


def test_headers_of_the_gateway_are_those_of_the_decision(url: str) -> None:
    spoofed = {"x-sluice-subject": "root", "x-sluice-canary": "true"}
    answer = plain_http.post(
        f"{url}{INFER}", json={"inputs": []}, headers={**bearer("1234"), **spoofed}
    )
    headers = dict(answer.json()["headers"])
    assert headers["x-sluice-subject"] == "1234"
    assert "x-sluice-canary" not in headers
    assert "authorization" not in headers
    assert not any(name.startswith("x-sluice-") for name in answer.headers)


def test_a_picture_is_converted(url: str, mesh_report: MeshReport) -> None:
    headers = {**bearer(), "content-type": "image/png"}
    answer = plain_http.post(f"{url}{DIGITS}", content=IMAGE.read_bytes(), headers=headers)
    outputs = {each["name"]: each["data"] for each in answer.json()["outputs"]}
    mesh_report.answer("Envoy Gateway: picture", answer, f"label {outputs['label']}")
    assert outputs["label"] == [7]
    assert answer.headers["content-length"] == str(len(answer.content))


def test_a_grpc_call_is_decided_by_the_callout(url: str) -> None:
    request = ModelInferRequest(model_name="digits")
    tensor = request.inputs.add(name="image", datatype="UINT8", shape=[1, 32, 32, 1])
    tensor.contents.uint_contents.extend([0] * 32 * 32)
    name = [("x-model-name", "digits")]
    with grpc.insecure_channel(url.removeprefix("http://")) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=ModelInferRequest.SerializeToString,
            response_deserializer=ModelInferResponse.FromString,
        )
        answer = infer(request, metadata=[*name, *bearer().items()], timeout=20)
        with pytest.raises(grpc.RpcError) as refused:
            infer(request, metadata=name, timeout=20)
    assert (answer.model_name, answer.model_version) == ("digits", "v1")
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_the_callout_gets_reports_of_requests(url: str, gateway: CalloutGateway) -> None:
    headers = {**bearer(), "x-request-id": "reported"}
    metrics = f"http://{gateway.config['telemetry']['metrics']['address']}/metrics"
    series = 'sluice_requests_total{model="echo",reason="stable",rule="",status="2xx",version="v1"}'

    def reported() -> float:
        lines = plain_http.get(metrics).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(series))

    before = reported()
    plain_http.post(f"{url}{INFER}", json={"inputs": []}, headers=headers)
    eventually(lambda: reported() > before)


def test_without_the_callout_no_request_reaches_a_model(
    exported: str,
    gateway: CalloutGateway,
    mesh_tools: MeshTools,
    mesh_report: MeshReport,
    tmp_path: Path,
) -> None:
    port, nobody = free_ports(2)
    ports = {int(each.rpartition(":")[2]) for each in gateway.callout_addresses()}
    objects = list(yaml.safe_load_all(exported))
    (callout,) = (each for each in objects if each["metadata"]["name"] == "sluice-callout")
    for endpoint in callout["spec"]["endpoints"]:
        assert endpoint["ip"]["port"] in ports
        endpoint["ip"]["port"] = nobody
    documents = f"{gateway_objects(port)}---\n{yaml.safe_dump_all(objects)}"
    envoy = EnvoyGatewayEnvoy(translate(mesh_tools, documents, tmp_path), tmp_path)
    try:
        envoy.await_ready()
        for headers in ({}, bearer(), {"x-model-service": "echo/v1"}):
            answer = plain_http.post(
                f"http://127.0.0.1:{port}{INFER}", json={"inputs": []}, headers=headers
            )
            assert answer.status_code == 503
        mesh_report.answer("Envoy Gateway: without the callout", answer, "fail closed")
    finally:
        envoy.stop()


def test_a_spoofed_decision_is_replaced_also_if_another_client_policy_is_in_force(
    exported: str, mesh_tools: MeshTools, tmp_path: Path
) -> None:
    """And without the patches, requests that need no conversion are answered."""
    (port,) = free_ports(1)
    left_out = ("ClientTrafficPolicy", "EnvoyPatchPolicy")
    objects = [each for each in yaml.safe_load_all(exported) if each["kind"] not in left_out]
    documents = f"{gateway_objects(port)}---\n{yaml.safe_dump_all(objects)}"
    envoy = EnvoyGatewayEnvoy(translate(mesh_tools, documents, tmp_path), tmp_path)
    spoofed = {"x-model-service": "echo/v2", "x-sluice-subject": "root"}
    try:
        envoy.await_ready()
        ask = partial(plain_http.post, f"http://127.0.0.1:{port}{INFER}", json={"inputs": []})
        assert ask(headers=spoofed).status_code == 401
        answer = ask(headers={**spoofed, **bearer("1234")}).json()
    finally:
        envoy.stop()
    assert answer["version"] == "v1"
    assert dict(answer["headers"])["x-sluice-subject"] == "1234"


def test_every_route_calls_the_callout(
    exported: str, mesh_tools: MeshTools, gateway: CalloutGateway, tmp_path: Path
) -> None:
    """Also after the decision, so that a header that a client sets cannot skip it."""
    translated = translate(mesh_tools, f"{gateway_objects(1234)}---\n{exported}", tmp_path)
    (dump,) = translated["xds"].values()
    routes = [
        route
        for section in dump["configs"]
        for each in section.get("dynamicRouteConfigs", ())
        for host in each["routeConfig"]["virtualHosts"]
        for route in host["routes"]
    ]
    versions = [len(model.versions) for model in load(gateway.file).models.values()]
    assert len(routes) == sum(versions) + 1
    assert all("ext_proc" in json.dumps(route["typedPerFilterConfig"]) for route in routes)
