"""The API server judges objects as in a cluster, and istiod configures a stock Envoy from them."""

import subprocess
from collections.abc import Callable

import pytest

from sluice.config.addresses import split_host_port
from tests import plain_http
from tests.integration.gateway import INFER, free_ports
from tests.mesh.callout_gateway import CalloutGateway
from tests.mesh.istio_envoy import IstioEnvoy
from tests.mesh.istiod import Istiod
from tests.mesh.kube_api import KubeApi, KubectlError, Object
from tests.mesh.report import MeshReport
from tests.mesh.tools import MeshTools

NAMESPACE = "harness"
LABELS = {"app": "harness-gateway"}


@pytest.fixture(scope="module", autouse=True)
def namespace(kube_api: KubeApi) -> None:
    kube_api.create_namespace(NAMESPACE)


def in_namespace(api: str, kind: str, name: str, **fields: object) -> Object:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **fields}


def deployment(**spec: object) -> Object:
    labels = {"app": "web"}
    container = {"name": "web", "image": "web:1"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    fields = {"selector": {"matchLabels": labels}, "template": template, **spec}
    return in_namespace("apps/v1", "Deployment", "web", spec=fields)


def test_the_server_accepts_a_valid_object_and_stores_nothing_in_a_dry_run(
    kube_api: KubeApi,
) -> None:
    assert kube_api.apply(deployment(), dry_run=True) == ["deployment.apps/web"]
    assert not kube_api.exists("deployment/web", "--namespace", NAMESPACE)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"replicas": -1}, "spec.replicas"),
        ({"replicaz": 1}, "replicaz"),
        ({"selector": {"matchLabels": {"app": "other"}}}, "selector"),
    ],
)
def test_the_server_says_why_it_refuses_an_object(
    kube_api: KubeApi, spec: dict[str, object], reason: str
) -> None:
    with pytest.raises(KubectlError, match=reason):
        kube_api.apply(deployment(**spec), dry_run=True)


@pytest.mark.usefixtures("crds")
def test_the_server_validates_custom_resources(kube_api: KubeApi) -> None:
    """Istio has rules in CEL beside its schema."""
    kind = "networking.istio.io/v1", "ServiceEntry", "web"
    ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    with pytest.raises(KubectlError, match="hosts"):
        kube_api.apply(in_namespace(*kind, spec={"ports": ports}), dry_run=True)
    kube_api.apply(in_namespace(*kind, spec={"hosts": ["web.local"], "ports": ports}), dry_run=True)


def test_a_service_account_may_do_what_its_role_says(
    kube_api: KubeApi, mesh_tools: MeshTools
) -> None:
    rbac = "rbac.authorization.k8s.io"
    rules = [{"apiGroups": [""], "resources": ["services"], "verbs": ["list"]}]
    subject = {"kind": "ServiceAccount", "name": "reader", "namespace": NAMESPACE}
    kube_api.apply(
        in_namespace("v1", "ServiceAccount", "reader"),
        in_namespace(f"{rbac}/v1", "Role", "reader", rules=rules),
        in_namespace(
            f"{rbac}/v1",
            "RoleBinding",
            "reader",
            roleRef={"apiGroup": rbac, "kind": "Role", "name": "reader"},
            subjects=[subject],
        ),
    )
    kubeconfig = kube_api.service_account_kubeconfig(NAMESPACE, "reader")

    def status(resource: str) -> int:
        argv = [mesh_tools.program("kubectl"), "--kubeconfig", str(kubeconfig), "get", resource]
        return subprocess.run([*argv, "--namespace", NAMESPACE], check=False).returncode

    assert status("services") == 0
    assert status("secrets") == 1
    assert kube_api.may(NAMESPACE, "reader", "list", "services")
    assert not kube_api.may(NAMESPACE, "reader", "list", "secrets")


def test_istiod_configures_an_envoy(
    kube_api: KubeApi,
    istiod: Callable[..., Istiod],
    istio_envoy: Callable[..., IstioEnvoy],
    callout_gateway: Callable[..., CalloutGateway],
    mesh_report: MeshReport,
) -> None:
    """Its route leads to an example model server of a gateway without an Envoy of its own."""
    gateway = callout_gateway()
    models = gateway.config["models"]["echo"]["versions"]["v1"]["endpoints"][0]["address"]
    host, port = split_host_port(models)
    (listener,) = free_ports(1)
    http = {"name": "http", "protocol": "HTTP"}
    route = {"destination": {"host": "models.local", "port": {"number": 80}}}
    networking = "networking.istio.io/v1"
    kube_api.apply(
        in_namespace(
            networking,
            "ServiceEntry",
            "models",
            spec={
                "hosts": ["models.local"],
                "ports": [{**http, "number": 80}],
                "resolution": "STATIC",
                "endpoints": [{"address": host, "ports": {"http": int(port)}}],
            },
        ),
        in_namespace(
            networking,
            "Gateway",
            "gateway",
            spec={
                "selector": LABELS,
                "servers": [
                    {"bind": "127.0.0.1", "port": {**http, "number": listener}, "hosts": ["*"]}
                ],
            },
        ),
        in_namespace(
            networking,
            "VirtualService",
            "models",
            spec={"hosts": ["*"], "gateways": ["gateway"], "http": [{"route": [route]}]},
        ),
    )
    envoy = istio_envoy(istiod(), "router", labels=LABELS, namespace=NAMESPACE)
    envoy.await_listener(listener)
    envoy.await_config("models.local")
    answer = plain_http.post(f"http://127.0.0.1:{listener}{INFER}", json={"inputs": []})
    assert answer.status_code == 200
    mesh_report.answer("istiod's route to a model server", answer)
    assert envoy.rejected() == {}
