"""The manifests of `deploy/kubernetes` agree with what the programs do, and with each other."""

import re
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import pytest
import yaml

from sluice import bootstrap
from sluice.cli import parser
from sluice.config.addresses import split_host_port
from tests.deploy import cluster_files
from tests.deploy.manifests import (
    COMPONENTS,
    CONTROL_PLANE,
    GATEWAY,
    PARTS,
    REDIS,
    ROOT,
    Manifests,
    Object,
    arguments,
    config_of,
    containers,
    each_overlay,
    matches,
    memory,
    overlay,
    port_numbers,
    probes,
    render,
    with_component,
    with_components,
)
from tests.deploy.mounts import Contents

IMAGES = "ghcr.io/sluice-gateway"


@pytest.mark.parametrize("component", COMPONENTS)
def test_each_component_can_be_added_to_an_overlay(component: str, tmp_path: Path) -> None:
    objects = render(with_component(tmp_path, component)).objects
    # Without a namespace, kubectl uses the namespace of its current context.
    without = [each for each in objects if "namespace" not in each["metadata"]]
    assert {each["kind"] for each in without} <= {"Namespace", "ClusterRole", "ClusterRoleBinding"}


@each_overlay
def test_the_config_is_valid_with_the_files_that_the_containers_have(
    name: str, cluster: Contents, tmp_path: Path
) -> None:
    """No file is missing, and there is no unexpected warning."""
    manifests = overlay(name)
    loaded = cluster_files.checked_config(manifests, PARTS, cluster, tmp_path)
    # Clients of the laptop come through `kubectl port-forward`.
    expected = {"plain_text_credentials"} if name == "laptop" else set[str]()
    assert {each.code for each in loaded.warnings} == expected
    assert loaded.policy is not None


def container_config(manifests: Manifests, workload: str, name: str) -> str:
    options = parser().parse_args(arguments(manifests.container(workload, name)))
    return str(options.config or options.watch)


@each_overlay
def test_the_programs_accept_their_arguments(name: str) -> None:
    manifests = overlay(name)
    for workload, container in PARTS:
        options = parser().parse_args(arguments(manifests.container(workload, container)))
        assert container_config(manifests, workload, container) == "/etc/sluice/config/gateway.yaml"
    options = parser().parse_args(arguments(manifests.container(CONTROL_PLANE, "control-plane")))
    host, _, port = options.store.removeprefix("redis://").partition("/")[0].partition(":")
    service = manifests.get("Service", host)
    assert int(port) in {each["port"] for each in service["spec"]["ports"]}


@each_overlay
def test_the_ports_are_those_of_the_config(name: str) -> None:
    manifests, config = overlay(name), config_of(overlay(name))

    def port(address: str) -> int:
        host, number = split_host_port(address)
        assert host == "0.0.0.0"
        return int(number)

    assert port_numbers(manifests.pod(GATEWAY)) == {
        "http": port(config.listener.address),
        "envoy-admin": port(config.envoy.admin),
        "callout-metrics": port(config.telemetry.metrics.address),
    }
    assert port_numbers(manifests.pod(CONTROL_PLANE)) == {
        "xds": port(config.control_plane.xds),
        "http": port(config.control_plane.http),
    }
    # Each control plane must be asked by itself, and none can reach the admin port of all Envoys.
    service = manifests.get("Service", CONTROL_PLANE)["spec"]
    assert service["clusterIP"] == "None"
    ports = {each["name"]: each["port"] for each in service["ports"]}
    assert config.control_plane.replicas == (f"{CONTROL_PLANE}:{ports['xds']}",)
    assert config.control_plane.envoys == ()


@each_overlay
def test_the_addresses_of_services_are_those_of_the_config(name: str) -> None:
    manifests, config = overlay(name), config_of(overlay(name))
    for url in config.limits.backend.urls:
        host, _, port = url.removeprefix("redis://").partition("/")[0].partition(":")
        assert int(port) in {
            each["port"] for each in manifests.get("Service", host)["spec"]["ports"]
        }
    services = {
        (each["metadata"]["namespace"], each["metadata"]["name"]): {
            port["name"] for port in each["spec"]["ports"]
        }
        for each in manifests.of_kind("Service")
    }
    roles = {each["metadata"]["namespace"]: each["rules"] for each in manifests.of_kind("Role")}
    for model in config.models.values():
        for served in model.versions.values():
            assert served.endpoints_from is not None
            found = served.endpoints_from.kubernetes
            assert found is not None
            assert roles[found.namespace] == [
                {
                    "apiGroups": ["discovery.k8s.io"],
                    "resources": ["endpointslices"],
                    "verbs": ["list", "watch"],
                }
            ]
            if (found.namespace, found.service) in services:
                assert found.port in services[found.namespace, found.service]


@each_overlay
def test_each_role_is_that_of_the_control_plane_whose_pods_alone_have_a_token(name: str) -> None:
    manifests = overlay(name)
    for binding in manifests.of_kind("RoleBinding", "ClusterRoleBinding"):
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": CONTROL_PLANE, "namespace": "sluice"}
        ]
    accounts = {each["metadata"]["name"]: each for each in manifests.of_kind("ServiceAccount")}
    for workload in manifests.workloads:
        spec, name = workload["spec"]["template"]["spec"], workload["metadata"]["name"]
        assert accounts[spec["serviceAccountName"]]["automountServiceAccountToken"] is False
        assert spec["automountServiceAccountToken"] is (name == CONTROL_PLANE)


@each_overlay
def test_pods_are_restricted_and_bounded(name: str) -> None:
    for workload in overlay(name).workloads:
        spec = workload["spec"]["template"]["spec"]
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["enableServiceLinks"] is False
        for container in containers(workload["spec"]["template"]):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            resources = container["resources"]
            assert set(resources) == {"requests", "limits"}
            assert set(resources["limits"]) == set(resources["requests"]) == {"cpu", "memory"}
            found = dict(probes(container))
            assert set(found) == {"startupProbe", "livenessProbe", "readinessProbe"}
        for volume in spec["volumes"]:
            if "emptyDir" in volume:
                assert "sizeLimit" in volume["emptyDir"]
            if "secret" in volume:
                assert volume["secret"]["defaultMode"] == 0o440


@each_overlay
def test_every_namespace_enforces_the_restricted_standard(name: str) -> None:
    for namespace in overlay(name).of_kind("Namespace"):
        labels = namespace["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@each_overlay
def test_probes_ask_what_the_programs_answer(name: str) -> None:
    manifests, config = overlay(name), config_of(overlay(name))
    admin = yaml.safe_load(bootstrap.render(config))["admin"]
    (readable, *_) = (each["safe_regex"]["regex"] for each in admin["allow_paths"])
    assert re.fullmatch(readable, "/server_info")
    https = {
        "http": config.listener.tls is not None,
        "envoy-admin": False,
        "callout-metrics": True,
        "control-plane": True,
    }
    paths = {
        "http": {"/v2/health/ready"},
        "envoy-admin": {"/server_info"},
        "callout-metrics": {"/healthz", "/readyz"},
        "control-plane": {"/healthz", "/readyz"},
    }
    for workload, container in PARTS:
        own = manifests.container(workload, container)
        for kind, probe in probes(own):
            get = probe["httpGet"]
            port = get["port"]
            assert port in {each["name"] for each in own["ports"]}
            server = "control-plane" if workload == CONTROL_PLANE else port
            assert get["path"] in paths[server]
            assert (get.get("scheme") == "HTTPS") is https[server]
            ready = kind == "readinessProbe"
            assert get["path"].endswith(("ready", "readyz")) is ready


@each_overlay
def test_the_memory_of_the_config_fits_the_limits(name: str) -> None:
    manifests, config = overlay(name), config_of(overlay(name))

    def limit(container: str) -> int:
        return memory(manifests.container(GATEWAY, container)["resources"]["limits"]["memory"])

    callout = config.callout
    worker = callout.max_memory + 200_000_000  # docs/security.md: code, policy, freed memory
    supervisor = 100_000_000
    assert callout.workers * worker + supervisor <= limit("callout")
    assert config.envoy.max_heap + (192 << 20) <= limit("envoy")
    # One response of the maximum size can be converted (`requests.max_response`).
    assert 27 * config.requests.max_response <= callout.max_memory


@each_overlay
def test_a_pod_that_ends_has_the_time_to_drain(name: str) -> None:
    manifests, config = overlay(name), config_of(overlay(name))
    grace = manifests.pod(GATEWAY)["spec"]["terminationGracePeriodSeconds"]
    assert config.envoy.drain.timeout + config.callout.drain_timeout + 10 <= grace
    # The callout is a sidecar: the kubelet ends it after Envoy.
    (callout,) = manifests.pod(GATEWAY)["spec"]["initContainers"]
    assert (callout["name"], callout["restartPolicy"]) == ("callout", "Always")


@each_overlay
def test_envoy_and_the_callout_share_the_folder_of_the_socket_and_the_user(name: str) -> None:
    manifests, config = overlay(name), config_of(overlay(name))
    socket = config.callout.address.removeprefix("unix:")
    for container in containers(manifests.pod(GATEWAY)):
        mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
        assert mounts[str(Path(socket).parent)] == "sockets"
        assert "runAsUser" not in container["securityContext"]


@each_overlay
def test_the_images_are_those_that_are_built(name: str) -> None:
    dockerfile = (ROOT / "deploy/images/Dockerfile").read_text()
    targets = set(re.findall(r"^FROM \S+ AS (sluice\S*)$", dockerfile, re.MULTILINE))
    (user,) = set(re.findall(r"^USER (\d+):\d+$", dockerfile, re.MULTILINE))
    for workload in overlay(name).workloads:
        for container in containers(workload["spec"]["template"]):
            repository, _, tag = container["image"].rpartition(":")
            if workload["metadata"]["name"] == REDIS:
                continue
            registry, _, target = repository.rpartition("/")
            assert (registry, tag) == (IMAGES, version("sluice-gateway"))
            assert target in targets
            context = workload["spec"]["template"]["spec"]["securityContext"]
            assert context["runAsUser"] == int(user)


@each_overlay
def test_every_selector_selects_the_pods_of_a_workload(name: str) -> None:
    manifests = overlay(name)
    pods = {
        (each["metadata"]["namespace"], each["metadata"]["name"]): each["spec"]["template"]
        for each in manifests.workloads
    }

    def selected(namespace: str, selector: Object) -> list[Object]:
        return [
            pod
            for (own, _), pod in pods.items()
            if own == namespace and matches(selector, pod["metadata"]["labels"])
        ]

    for workload in manifests.workloads:
        assert len(selected(workload["metadata"]["namespace"], workload["spec"]["selector"])) == 1
    for budget in manifests.of_kind("PodDisruptionBudget"):
        assert len(selected(budget["metadata"]["namespace"], budget["spec"]["selector"])) == 1
    for service in manifests.of_kind("Service"):
        selector = {"matchLabels": service["spec"]["selector"]}
        (pod,) = selected(service["metadata"]["namespace"], selector)
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in port_numbers(pod)
    for workload in manifests.workloads:
        for spread in workload["spec"]["template"]["spec"].get("topologySpreadConstraints", ()):
            namespace = workload["metadata"]["namespace"]
            assert len(selected(namespace, spread["labelSelector"])) == 1


def test_production_has_the_replicas_and_bounds_that_are_documented() -> None:
    production = overlay("production")
    gateway = production.get("Deployment", GATEWAY)["spec"]
    assert gateway["strategy"]["rollingUpdate"] == {"maxSurge": 2, "maxUnavailable": 1}
    # The autoscaler owns the number: every `kubectl apply` would set it back.
    assert "replicas" not in gateway
    assert production.get("Deployment", CONTROL_PLANE)["spec"]["replicas"] == 2
    (scaler,) = production.of_kind("HorizontalPodAutoscaler")
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (3, 30)
    scaled = [each["containerResource"] for each in scaler["spec"]["metrics"]]
    names = {each["name"] for each in containers(production.pod(GATEWAY))}
    assert {each["container"] for each in scaled} == names
    assert {each["target"]["averageUtilization"] for each in scaled} == {70}
    for each in containers(production.pod(GATEWAY)):
        assert each["resources"] == {
            "requests": {"cpu": "500m", "memory": "512Mi"},
            "limits": {"cpu": "2", "memory": "1Gi"},
        }
    base = render(ROOT / "deploy/kubernetes/base")
    assert base.get("Deployment", GATEWAY)["spec"]["replicas"] == 6


def test_requests_in_flight_are_a_further_metric_whose_series_envoy_exports(tmp_path: Path) -> None:
    manifests = render(with_components(tmp_path, "production", "requests-in-flight"))
    (scaler,) = manifests.of_kind("HorizontalPodAutoscaler")
    metrics = scaler["spec"]["metrics"]
    assert [each["type"] for each in metrics] == ["ContainerResource", "ContainerResource", "Pods"]
    file = ROOT / "deploy/kubernetes/components/requests-in-flight/prometheus-adapter.yaml"
    (rule,) = yaml.safe_load(file.read_text())["rules"]["custom"]
    assert rule["name"]["as"] == metrics[2]["pods"]["metric"]["name"]
    assert 'envoy_http_downstream_rq_active{envoy_http_conn_manager_prefix="gateway"' in str(rule)


def test_the_alerts_are_those_of_prometheus(tmp_path: Path) -> None:
    """`make docs` copies them."""
    (rule,) = render(with_component(tmp_path, "monitoring")).of_kind("PrometheusRule")
    alerts = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
    assert rule["spec"] == alerts


def test_the_dashboards_are_those_of_grafana(tmp_path: Path) -> None:
    found = {
        name: text
        for each in render(with_component(tmp_path, "monitoring")).of_kind("ConfigMap")
        if each["metadata"].get("labels", {}).get("grafana_dashboard") == "1"
        for name, text in each["data"].items()
    }
    files = (ROOT / "deploy/grafana/dashboards").glob("*.json")
    assert found == {file.name: file.read_text() for file in files}


def test_the_laptop_has_one_pod_of_each_part_and_no_autoscaler() -> None:
    laptop = overlay("laptop")
    assert not laptop.of_kind("HorizontalPodAutoscaler")
    assert {each["spec"]["replicas"] for each in laptop.workloads} == {1}


def test_the_page_names_each_network_policy_component_and_secret(
    cluster: Contents, tmp_path: Path
) -> None:
    page = (ROOT / "docs/kubernetes.md").read_text()
    manifests = render(with_component(tmp_path, "monitoring"))
    policies = {each["metadata"]["name"] for each in manifests.of_kind("NetworkPolicy")}
    names = (policies - {"default-deny"}, COMPONENTS, {name for _, name in cluster})
    assert [each for each in chain(*names) if f"`{each}`" not in page] == []
